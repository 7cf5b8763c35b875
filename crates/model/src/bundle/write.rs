//! Writing a bundle, whole or not at all.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use burn::module::Module;

use super::manifest::{Golden, pretty};
use super::{Bundle, BundleError, GOLDEN, MANIFEST, NORMALISER, sibling, trees_name, weights_name};
use crate::fit::Fitted;

impl Bundle {
    /// Writes the bundle to folder `dir`, whole or not at all. A bundle that is there is replaced:
    /// it is moved to `.NAME.previous` beside it for the moment of the exchange.
    ///
    /// # Errors
    /// When a file cannot be written; what was there then still is.
    pub fn save(&self, dir: &Path) -> Result<(), BundleError> {
        let fail = |path: &Path| {
            let path = path.to_owned();
            move |source| BundleError::Io {
                action: "write",
                path,
                source,
                hint: String::new(),
            }
        };
        let dir = if dir.is_absolute() {
            dir.to_owned()
        } else {
            std::env::current_dir().map_err(fail(dir))?.join(dir)
        };
        let parent = dir.parent().unwrap_or(&dir).to_owned();
        let partial = sibling(&dir, &format!("partial-{}", std::process::id()));
        let previous = sibling(&dir, "previous");
        fs::create_dir_all(&parent).map_err(fail(&parent))?;
        if partial.exists() {
            fs::remove_dir_all(&partial).map_err(fail(&partial))?;
        }
        let written = self.write_files(&partial);
        if written.is_err() {
            // Best effort: the error that matters is the one that is returned.
            let _ = fs::remove_dir_all(&partial);
        }
        written?;
        let replaces = dir.exists();
        if replaces {
            if previous.exists() {
                fs::remove_dir_all(&previous).map_err(fail(&previous))?;
            }
            fs::rename(&dir, &previous).map_err(fail(&dir))?;
        }
        if let Err(source) = fs::rename(&partial, &dir) {
            if replaces {
                fs::rename(&previous, &dir).map_err(fail(&dir))?;
            }
            return Err(fail(&dir)(source));
        }
        File::open(&parent)
            .and_then(|folder| folder.sync_all())
            .map_err(fail(&parent))?;
        if replaces {
            fs::remove_dir_all(&previous).map_err(fail(&previous))?;
        }
        Ok(())
    }

    fn write_files(&self, dir: &Path) -> Result<(), BundleError> {
        let mut files = files_of(&self.fitted)?;
        files.push((MANIFEST.into(), self.manifest.to_text().0.into_bytes()));
        let write = |path: &Path, bytes: &[u8]| {
            let mut file = File::create_new(path)?;
            file.write_all(bytes)?;
            file.sync_all()
        };
        let fail = |path: &Path, source| BundleError::Io {
            action: "write",
            path: path.into(),
            source,
            hint: String::new(),
        };
        fs::create_dir(dir).map_err(|source| fail(dir, source))?;
        for (name, bytes) in files {
            let path = dir.join(name);
            write(&path, &bytes).map_err(|source| fail(&path, source))?;
        }
        File::open(dir)
            .and_then(|folder| folder.sync_all())
            .map_err(|source| fail(dir, source))
    }
}

/// Every file but the manifest.
pub(super) fn files_of(fitted: &Fitted) -> Result<Vec<(String, Vec<u8>)>, BundleError> {
    let logits = (0..fitted.tasks.len())
        .map(|task| fitted.logits(&fitted.golden, task))
        .collect();
    let mut files = vec![
        (
            NORMALISER.to_owned(),
            pretty(&fitted.normaliser).into_bytes(),
        ),
        (
            GOLDEN.to_owned(),
            pretty(&Golden::new(&fitted.golden, logits)).into_bytes(),
        ),
    ];
    for (index, task) in fitted.tasks.iter().enumerate() {
        if let Some(trees) = &task.trees {
            let text = serde_json::to_string(&trees.forest)
                .expect("a checked forest of finite numbers prints as JSON");
            files.push((trees_name(index), text.into_bytes()));
        }
    }
    for (k, network) in fitted.networks.iter().enumerate() {
        let bytes = network.clone().into_record().into_bytes();
        let bytes = bytes.map_err(|e| BundleError::Mismatch {
            what: "network and record",
            reason: e.to_string(),
        })?;
        files.push((weights_name(k), bytes.to_vec()));
    }
    Ok(files)
}
