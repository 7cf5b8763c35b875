//! The registry of models: a folder with bundles under their ids, releases under their digests, the
//! names `champion` and `challenger`, and a log of who promoted what.
//!
//! ```text
//! models/
//!   bundles/<bundle id>/     a bundle, whole: it is copied beside and moved into place
//!   releases/<digest>.json   a configuration with a bundle: see crate::release
//!   champion, challenger     the bundle that each name stands for; replaced at once
//!   in-force/<worker>.json   the releases that a running worker needs for a restart
//!   log.jsonl                a line for each promotion, oldest first; only appended to
//! ```
//!
//! Every file is written whole or not at all, so a crash leaves the registry as it was. Two people
//! who promote at the same moment both succeed, and the later one's champion stands.

mod error;
mod files;
mod in_force;
mod log;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use leadpulse_model::{Bundle, Grade, Manifest};

pub use error::ModelsError;
pub(crate) use in_force::InForce;
pub use log::{LogAction, LogEntry};

use files::{copy_bundle, remove_folder};
pub(crate) use files::{names_in, read_text, replace_file};

/// Fewest characters of an id that may stand for it.
const SHORTEST_PREFIX: usize = 4;

/// A name that stands for a bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alias {
    /// The bundle that decides.
    Champion,
    /// The bundle that may become champion.
    Challenger,
}

impl Alias {
    /// Both names.
    pub const ALL: [Self; 2] = [Self::Champion, Self::Challenger];

    /// The name as it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Champion => "champion",
            Self::Challenger => "challenger",
        }
    }
}

impl fmt::Display for Alias {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A bundle of the registry.
#[derive(Clone, Debug)]
pub struct ModelEntry {
    /// The contents of its manifest.
    pub manifest: Manifest,
    /// The names that stand for it.
    pub aliases: Vec<Alias>,
}

impl ModelEntry {
    /// The worst grade of its tasks; `None` if nobody graded it.
    pub fn grade(&self) -> Option<Grade> {
        let tasks = self.manifest.tasks.iter();
        tasks
            .filter_map(|task| task.quality.as_ref())
            .map(|quality| quality.grade)
            .min()
    }
}

/// The person or program that changes the registry, and when.
#[derive(Clone, Debug)]
pub struct Change {
    /// Name of the person or program.
    pub by: String,
    /// Moment of the change, milliseconds since 1970 UTC.
    pub at_ms: i64,
}

/// A registry of models in a folder.
#[derive(Clone, Debug)]
pub struct ModelRegistry {
    dir: PathBuf,
}

impl ModelRegistry {
    /// The registry in a folder, which need not exist before something is added.
    pub fn at(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
        }
    }

    /// Folder of the registry.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Folder of a bundle, by its id.
    pub fn bundle_dir(&self, id: &str) -> PathBuf {
        self.dir.join("bundles").join(id)
    }

    /// File of a release, by its digest.
    pub(crate) fn release_file(&self, digest: &str) -> PathBuf {
        self.dir.join("releases").join(format!("{digest}.json"))
    }

    /// Copies a bundle that was loaded from a folder. One that is there already stays.
    ///
    /// # Errors
    /// A file that cannot be read or written.
    pub fn add(&self, bundle: &Manifest, from: &Path) -> Result<ModelEntry, ModelsError> {
        let to = self.bundle_dir(&bundle.bundle_id);
        if !to.exists() {
            copy_bundle(bundle, from, &to)?;
        }
        self.entry(&bundle.bundle_id)
    }

    /// Every bundle, by id.
    ///
    /// # Errors
    /// A folder that cannot be read, or a manifest that was changed.
    pub fn list(&self) -> Result<Vec<ModelEntry>, ModelsError> {
        self.ids()?.iter().map(|id| self.entry(id)).collect()
    }

    /// A bundle by its id, the start of its id, or a name.
    ///
    /// # Errors
    /// Nothing or several bundles are called so; a manifest that was changed.
    pub fn find(&self, name: &str) -> Result<ModelEntry, ModelsError> {
        let alias = Alias::ALL.into_iter().find(|alias| alias.name() == name);
        if let Some(alias) = alias {
            let id = self.aliased(alias)?;
            return self.entry(&id.ok_or_else(|| self.no_alias(alias))?);
        }
        let ids = self.ids()?;
        let is_meant =
            |id: &&String| *id == name || (name.len() >= SHORTEST_PREFIX && id.starts_with(name));
        let meant: Vec<&String> = ids.iter().filter(is_meant).collect();
        match meant[..] {
            [id] => self.entry(id),
            [] => Err(ModelsError::NoSuchModel {
                name: name.to_owned(),
                dir: self.dir.clone(),
                known: ids.join(", "),
            }),
            _ => Err(ModelsError::Ambiguous {
                name: name.to_owned(),
                meant: meant
                    .iter()
                    .map(|id| id.as_str())
                    .collect::<Vec<_>>()
                    .join(", "),
            }),
        }
    }

    /// The champion.
    ///
    /// # Errors
    /// There is none, or its bundle cannot be read.
    pub fn champion(&self) -> Result<ModelEntry, ModelsError> {
        self.find(Alias::Champion.name())
    }

    /// Makes a bundle the champion, and notes it in the log. A challenger that becomes champion is no
    /// challenger any more.
    ///
    /// # Errors
    /// A bundle that the quality gate refuses, unless forced; a file that cannot be written.
    pub fn promote(&self, id: &str, force: bool, change: &Change) -> Result<LogEntry, ModelsError> {
        let entry = self.entry(id)?;
        let worst = |task: &&leadpulse_model::TaskManifest| {
            let quality = task.quality.as_ref();
            quality.is_some_and(|quality| quality.grade == Grade::WorseThanChance)
        };
        if let Some(task) = entry.manifest.tasks.iter().find(worst).filter(|_| !force) {
            return Err(ModelsError::WorseThanChance {
                bundle: id.to_owned(),
                task: task.name.clone(),
            });
        }
        self.install(LogAction::Promote, id, force, change)
    }

    /// Makes the champion before this one the champion again.
    ///
    /// # Errors
    /// There was none before, or its bundle is gone.
    pub fn roll_back(&self, change: &Change) -> Result<LogEntry, ModelsError> {
        let before = log::champion_before(&self.log()?);
        let Some(before) = before else {
            return Err(ModelsError::NoChampionBefore {
                dir: self.dir.clone(),
            });
        };
        self.entry(&before)?;
        self.install(LogAction::RollBack, &before, false, change)
    }

    /// Makes a bundle the challenger.
    ///
    /// # Errors
    /// No such bundle; a file that cannot be written.
    pub fn challenge(&self, id: &str) -> Result<(), ModelsError> {
        self.entry(id)?;
        replace_file(&self.alias_file(Alias::Challenger), id)
    }

    /// Removes a bundle, and the releases that contain it.
    ///
    /// # Errors
    /// The bundle has a name, or a worker needs it for a restart; a file that cannot be removed.
    pub fn remove(&self, id: &str) -> Result<(), ModelsError> {
        let entry = self.entry(id)?;
        if let Some(alias) = entry.aliases.first() {
            return Err(ModelsError::HasName {
                bundle: id.to_owned(),
                alias: *alias,
            });
        }
        if let Some((worker, release)) = self.need_of(id)? {
            return Err(ModelsError::InForce {
                bundle: id.to_owned(),
                worker,
                release,
            });
        }
        for release in self.releases()? {
            if release.bundle == id {
                let file = self.release_file(&release.digest());
                fs::remove_file(&file)
                    .map_err(|source| ModelsError::io("remove", &file, source))?;
            }
        }
        remove_folder(&self.bundle_dir(id))
    }

    /// The promotions, oldest first.
    ///
    /// # Errors
    /// A log that cannot be read.
    pub fn log(&self) -> Result<Vec<LogEntry>, ModelsError> {
        log::read(&self.dir.join(log::FILE))
    }

    fn install(
        &self,
        action: LogAction,
        id: &str,
        forced: bool,
        change: &Change,
    ) -> Result<LogEntry, ModelsError> {
        let before = self.aliased(Alias::Champion)?;
        let entry = LogEntry {
            at_ms: change.at_ms,
            by: change.by.clone(),
            action,
            bundle: id.to_owned(),
            before,
            forced,
        };
        // The name first: a log without a promotion misleads less than a promotion that was none.
        replace_file(&self.alias_file(Alias::Champion), id)?;
        if self.aliased(Alias::Challenger)?.as_deref() == Some(id) {
            let file = self.alias_file(Alias::Challenger);
            fs::remove_file(&file).map_err(|source| ModelsError::io("remove", &file, source))?;
        }
        log::append(&self.dir.join(log::FILE), &entry)?;
        Ok(entry)
    }

    fn alias_file(&self, alias: Alias) -> PathBuf {
        self.dir.join(alias.name())
    }

    /// The id that a name stands for.
    fn aliased(&self, alias: Alias) -> Result<Option<String>, ModelsError> {
        let text = read_text(&self.alias_file(alias))?;
        Ok(text.map(|text| text.trim().to_owned()))
    }

    fn no_alias(&self, alias: Alias) -> ModelsError {
        ModelsError::NoAlias {
            alias,
            dir: self.dir.clone(),
        }
    }

    /// Ids of all bundles, sorted.
    fn ids(&self) -> Result<Vec<String>, ModelsError> {
        names_in(&self.dir.join("bundles"))
    }

    fn entry(&self, id: &str) -> Result<ModelEntry, ModelsError> {
        let dir = self.bundle_dir(id);
        if !dir.exists() {
            return Err(ModelsError::NoSuchModel {
                name: id.to_owned(),
                dir: self.dir.clone(),
                known: self.ids()?.join(", "),
            });
        }
        let manifest = Bundle::manifest_of(&dir)?;
        let mut aliases = Vec::new();
        for alias in Alias::ALL {
            if self.aliased(alias)?.as_deref() == Some(id) {
                aliases.push(alias);
            }
        }
        Ok(ModelEntry { manifest, aliases })
    }
}

#[cfg(test)]
#[path = "models/tests.rs"]
mod tests;
