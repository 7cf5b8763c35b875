//! A configuration with its layers: the file, the environment, the command line.
//!
//! The layers are joined as tables. Then references (`{ env = "X" }`, `{ file = "…" }`) are
//! resolved, durations under older keys get their present form, texts that stand for numbers become
//! numbers, and the table becomes a [`Config`].

mod beside;
mod durations;
mod environment;
mod snapshots;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use leadpulse_project::Anchors;
use leadpulse_registry::{RegistryOptions, TokenOptions};

use self::durations::{RenamedKey, modernise, other_name};
use self::environment::{Override, nearest, overrides};
use self::table::{Reference, coerce, is_secret_path, leaves, resolve_references, set};
use crate::config::{Config, TaskConfig};
use crate::config_error::ConfigError;

/// A checked configuration, with the origin of each value.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The typed configuration.
    pub config: Config,
    /// The file; relative folders start beside it.
    pub path: PathBuf,
    /// Damaged places of input partitions to leave out, from the command line.
    pub skips: Vec<leadpulse_engine::Skip>,
    /// Dotted path of a value → file, environment variable or `command line`. Absent: the default.
    origins: BTreeMap<String, String>,
    /// Dotted path of a value that stands elsewhere → the reference to it.
    references: BTreeMap<String, Reference>,
    /// References of `[deliver]` and `[ingest]` that lead nowhere: faults of those processes only.
    missing_beside: Vec<beside::MissingReference>,
}

/// A table with every layer, ready to become a [`Config`].
struct Settled {
    table: toml::Table,
    references: BTreeMap<String, Reference>,
    renamed: Vec<RenamedKey>,
    faults: Vec<ConfigError>,
}

/// An override's text as TOML reads it; a bare word is text.
fn parse_value(text: &str) -> toml::Value {
    format!("v = {text}")
        .parse::<toml::Table>()
        .ok()
        .and_then(|mut table| table.remove("v"))
        .unwrap_or_else(|| toml::Value::String(text.to_owned()))
}

/// An override's value for a setting. What is text in `template` stays as it was written: a group
/// may be called 007, a password 1e5.
fn override_value(path: &str, text: &str, template: Option<&toml::Value>) -> toml::Value {
    let value = parse_value(text);
    let is_text = is_secret_path(path) || matches!(template, Some(toml::Value::String(_)));
    match value {
        toml::Value::Table(_) | toml::Value::Array(_) => value,
        // A password may have quotes around it.
        toml::Value::String(_) if !is_secret_path(path) => value,
        _ if is_text || path.starts_with("kafka.client.") => toml::Value::String(text.to_owned()),
        _ => value,
    }
}

fn typed(table: &toml::Table) -> Result<Config, toml::de::Error> {
    toml::Value::Table(table.clone()).try_into()
}

/// A configuration with a value of each setting that has a type of its own: it shows names and
/// types.
fn template() -> toml::Value {
    let mut config = Config::default();
    config.currency.base = Some(String::new());
    config.models.dir = Some(PathBuf::new());
    let security = &mut config.kafka.security;
    security.username = Some(String::new());
    security.oauth = Some(TokenOptions {
        scope: Some(String::new()),
        ..TokenOptions::default()
    });
    for file in [
        &mut security.ca,
        &mut security.certificate,
        &mut security.key,
    ] {
        *file = Some(PathBuf::new());
    }
    config.registry = Some(RegistryOptions {
        username: Some(String::new()),
        ca: Some(PathBuf::new()),
        certificate: Some(PathBuf::new()),
        key: Some(PathBuf::new()),
        ..RegistryOptions::default()
    });
    config.tasks = vec![TaskConfig {
        name: String::new(),
        query: String::new(),
        anchors: Anchors::default(),
        lateness: Some(leadpulse_schema::units::Span::ZERO),
        policy: Default::default(),
        fit: Default::default(),
    }];
    toml::Value::try_from(&config).expect("default settings can be written")
}

/// Paths of all settings that a variable can name, secrets included.
fn known_paths(template: &toml::Value) -> BTreeSet<String> {
    let mut found = BTreeMap::new();
    leaves("", template, &mut found);
    let single = found.into_keys().filter(|path| !path.contains('['));
    let secrets = [
        "kafka.security.protocol",
        "kafka.security.sasl",
        "kafka.security.password",
        "kafka.security.key_password",
        "kafka.security.token",
        "registry.password",
        "registry.token",
        "erasure.secret",
    ];
    single.chain(secrets.map(str::to_owned)).collect()
}

/// The value at a path of tables.
fn at<'a>(value: &'a toml::Value, path: &[String]) -> Option<&'a toml::Value> {
    let mut value = value;
    for key in path {
        value = value.get(key)?;
    }
    Some(value)
}

/// Brings a table with every layer into its present form.
fn settle(mut table: toml::Table, folder: &Path, template: &toml::Value) -> Settled {
    let mut faults = Vec::new();
    let references = resolve_references(&mut table, folder, &mut faults);
    let renamed = modernise(&mut table, &mut faults);
    let mut value = toml::Value::Table(table);
    coerce("", &mut value, Some(template));
    let toml::Value::Table(table) = value else {
        unreachable!("a table keeps its type");
    };
    Settled {
        table,
        references,
        renamed,
        faults,
    }
}

/// The layers while they are joined.
struct Layers {
    table: toml::Table,
    origins: BTreeMap<String, String>,
    /// The override that made a valid configuration invalid; the message must not blame the file.
    culprit: Option<String>,
}

impl Layers {
    fn read(path: &Path) -> Result<Self, ConfigError> {
        let table = read_table(path)?;
        let mut found = BTreeMap::new();
        leaves("", &toml::Value::Table(table.clone()), &mut found);
        let origin = path.display().to_string();
        let origins = found.into_keys().map(|key| (key, origin.clone()));
        Ok(Self {
            origins: origins.collect(),
            table,
            culprit: None,
        })
    }

    fn apply(
        &mut self,
        change: Override,
        folder: &Path,
        template: &toml::Value,
        known: &BTreeSet<String>,
    ) -> Result<(), ConfigError> {
        let was_valid = typed(&settle(self.table.clone(), folder, template).table).is_ok();
        let dotted = change.dotted();
        let value = override_value(&dotted, &change.value, at(template, &change.path));
        self.remove_other_name(&change.path);
        set(&mut self.table, &change.path, value).map_err(|source| ConfigError::NotApplied {
            origin: change.origin.clone(),
            source,
        })?;
        if typed(&settle(self.table.clone(), folder, template).table).is_ok() {
            self.culprit = None;
        } else if was_valid {
            let rest = dotted.to_uppercase().replace('.', "__");
            let meant = nearest(&rest, known)
                .filter(|meant| *meant != change.origin && change.origin != "command line")
                .map_or_else(String::new, |meant| format!("; did you mean {meant}?"));
            let origin = &change.origin;
            self.culprit = Some(format!("{origin} does not fit {dotted}{meant}"));
        }
        self.origins.insert(dotted, change.origin);
        Ok(())
    }
}

impl Layers {
    /// Removes a duration under its other name: a later layer rules, whichever name it uses.
    fn remove_other_name(&mut self, path: &[String]) {
        let Some((key, sections)) = path.split_last() else {
            return;
        };
        let Some(other) = other_name(key) else {
            return;
        };
        let mut table = &mut self.table;
        for section in sections {
            match table.get_mut(section).and_then(toml::Value::as_table_mut) {
                Some(inner) => table = inner,
                None => return,
            }
        }
        if table.remove(other).is_some() {
            let path = [sections, &[other.to_owned()]].concat().join(".");
            self.origins.remove(&path);
        }
    }
}

impl Loaded {
    /// Reads a file, then the environment, then `overrides` (dotted path, value) of the command
    /// line.
    ///
    /// # Errors
    /// The file cannot be read, a value does not fit, or values contradict each other.
    pub fn read(path: &Path, overrides: &[(&str, String)]) -> Result<Self, ConfigError> {
        let first = |mut faults: Vec<ConfigError>| faults.swap_remove(0);
        let loaded = Self::read_unchecked(path, overrides).map_err(first)?;
        let faults = loaded.faults();
        if faults.is_empty() {
            Ok(loaded)
        } else {
            Err(first(faults))
        }
    }

    /// Reads as [`Self::read`], without the checks of [`Self::faults`].
    ///
    /// # Errors
    /// All faults for which there is no configuration to check, at least one.
    pub fn read_unchecked(path: &Path, flags: &[(&str, String)]) -> Result<Self, Vec<ConfigError>> {
        let folder = path.parent().unwrap_or(Path::new(".")).to_owned();
        let (template, mut faults) = (template(), Vec::new());
        let known = known_paths(&template);
        let mut layers = Layers::read(path).map_err(|fault| vec![fault])?;
        let flags = flags.iter().map(|(path, value)| Override {
            path: path.split('.').map(str::to_owned).collect(),
            value: value.clone(),
            origin: "command line".to_owned(),
        });
        let variables = overrides(std::env::vars(), &known, &mut faults);
        for change in variables.into_iter().chain(flags) {
            if let Err(fault) = layers.apply(change, &folder, &template, &known) {
                faults.push(fault);
            }
        }
        let settled = settle(layers.table, &folder, &template);
        let (missing_beside, others) = beside::apart(settled.faults);
        faults.extend(others);
        let mut origins = layers.origins;
        let mut references = settled.references;
        for RenamedKey { old, new } in settled.renamed {
            tracing::warn!("{old} is now written {new}, with a unit; the old key is still read");
            if let Some(origin) = origins.remove(&old) {
                origins.insert(new.clone(), origin);
            }
            if let Some(reference) = references.remove(&old) {
                references.insert(new, reference);
            }
        }
        let file = path.display().to_string();
        for (setting, origin) in &origins {
            if is_secret_path(setting) && *origin == file && !references.contains_key(setting) {
                faults.push(ConfigError::LiteralSecret {
                    path: path.to_owned(),
                    setting: setting.clone(),
                });
            }
        }
        let config = typed(&settled.table);
        if !faults.is_empty() {
            return Err(faults);
        }
        let mut config = config.map_err(|source| {
            let culprit = layers
                .culprit
                .unwrap_or_else(|| format!("{file} is not a valid configuration"));
            vec![ConfigError::Invalid { culprit, source }]
        })?;
        config.kafka.security.resolve_paths(&folder);
        if let Some(registry) = &mut config.registry {
            registry.resolve_paths(&folder);
        }
        config.deliver.resolve_paths(&folder);
        Ok(Self {
            missing_beside,
            config,
            path: path.to_owned(),
            skips: Vec::new(),
            origins,
            references,
        })
    }

    /// Values out of their range, and values that contradict each other. Connects to nothing, and
    /// opens certificates only.
    pub fn faults(&self) -> Vec<ConfigError> {
        let config = &self.config;
        let mut faults: Vec<ConfigError> = Vec::new();
        faults.extend(config.graph.clone().validated().err().map(Into::into));
        faults.extend(config.currency.checked().err().map(Into::into));
        faults.extend(config.engine.clone().validated().err().map(Into::into));
        faults.extend(config.server.check().err().map(Into::into));
        faults.extend(config.standby.validated().err().map(Into::into));
        faults.extend(config.kafka.faults().into_iter().map(Into::into));
        if let Some(registry) = &config.registry {
            faults.extend(registry.validate().err().map(Into::into));
        }
        if let Err(source) = config.work_lists() {
            faults.push(ConfigError::WorkLists {
                path: self.path.clone(),
                source,
            });
        }
        let mut names = BTreeSet::new();
        for task in &config.tasks {
            if !names.insert(&task.name) {
                faults.push(ConfigError::TwoTasks {
                    path: self.path.clone(),
                    name: task.name.clone(),
                });
            }
            if let Err(source) = task.policy.validated() {
                faults.push(ConfigError::Policy {
                    path: self.path.clone(),
                    task: task.name.clone(),
                    source: Box::new(source),
                });
            }
        }
        faults
    }

    /// Every value in force with its origin, by key. A value that stands elsewhere is shown by its
    /// reference, a secret as `***`.
    ///
    /// # Errors
    /// A value that TOML cannot express.
    pub fn settings(&self) -> Result<Vec<Setting>, ConfigError> {
        let mut values = BTreeMap::new();
        leaves("", &toml::Value::try_from(&self.config)?, &mut values);
        let mut settings = Vec::new();
        for (key, value) in values {
            let value = match self.references.get(&key) {
                Some(reference) => reference.to_string(),
                None => value.to_string().replace('\n', " "),
            };
            let origin = self
                .origins
                .get(&key)
                .map_or(DEFAULT_ORIGIN, String::as_str);
            settings.push(Setting {
                value,
                origin: origin.to_owned(),
                key,
            });
        }
        Ok(settings)
    }
}

/// Origin of a setting that nothing sets.
pub const DEFAULT_ORIGIN: &str = "default";

/// A setting in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Dotted path.
    pub key: String,
    /// The value, as TOML on one line.
    pub value: String,
    /// The place that sets it: a file, a variable, an argument, or [`DEFAULT_ORIGIN`].
    pub origin: String,
}

/// Settings one a line in their order, with their origins as comments in a column.
pub fn in_lines(settings: &[Setting]) -> String {
    let width = settings
        .iter()
        .map(|one| one.key.len() + one.value.len() + 3)
        .filter(|width| *width < 80)
        .max()
        .unwrap_or(40);
    let mut text = String::new();
    for Setting { key, value, origin } in settings {
        let line = format!("{key} = {value}");
        text.push_str(&format!("{line:<width$}  # {origin}\n"));
    }
    text
}

fn read_table(path: &Path) -> Result<toml::Table, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable {
        path: path.to_owned(),
        source,
    })?;
    text.parse().map_err(|source| ConfigError::NotToml {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
#[path = "loaded/tests.rs"]
mod tests;
