//! The shipped CRM within the program: its schemas and its configuration, as files to write.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Declares a file of the repository, by its path from the root.
macro_rules! shipped {
    ($($path:literal),* $(,)?) => {
        &[$(($path, include_str!(concat!("../../../", $path)))),*]
    };
}

/// Path from the project's folder → text.
pub const FILES: &[(&str, &str)] = shipped![
    "leadpulse.toml",
    "schemas/accounts.avsc",
    "schemas/activities.avsc",
    "schemas/contacts.avsc",
    "schemas/content_views.avsc",
    "schemas/erasures.avsc",
    "schemas/feedback.avsc",
    "schemas/leads.avsc",
    "schemas/opportunities.avsc",
    "schemas/opportunity_stage_changes.avsc",
    "schemas/outputs/alert.avsc",
    "schemas/outputs/epoch_record.avsc",
    "schemas/outputs/erasure_proof.avsc",
    "schemas/outputs/exposure.avsc",
    "schemas/outputs/partition_layout.avsc",
    "schemas/outputs/policy_state.avsc",
    "schemas/outputs/score.avsc",
    "schemas/outputs/worklist.avsc",
    "schemas/outputs/versions/epoch_record-1.avsc",
    "schemas/outputs/versions/alert-1.avsc",
    "schemas/outputs/versions/alert-2.avsc",
    "schemas/outputs/versions/epoch_record-2.avsc",
    "schemas/outputs/versions/epoch_record-3.avsc",
    "schemas/outputs/versions/policy_state-2.avsc",
    "schemas/outputs/versions/policy_state-3.avsc",
    "schemas/outputs/versions/score-1.avsc",
    "schemas/outputs/versions/score-2.avsc",
    "schemas/outputs/versions/score-3.avsc",
    "schemas/overrides.avsc",
    "schemas/product_usage.avsc",
    "schemas/users.avsc",
];

/// Writes files below a folder. Nothing is written if one of them exists.
///
/// # Errors
/// A file that exists, or a folder that cannot be written to.
pub fn write_new<'a>(folder: &Path, files: impl Iterator<Item = (&'a str, &'a str)>) -> Result<()> {
    let files: Vec<(PathBuf, &str)> = files
        .map(|(path, text)| (folder.join(path), text))
        .collect();
    if let Some((path, _)) = files.iter().find(|(path, _)| path.exists()) {
        bail!(
            "{} exists, and nothing was written; pass --out with another folder, or delete it",
            path.display()
        );
    }
    for (path, text) in &files {
        write(path, text)?;
    }
    Ok(())
}

/// Writes the shipped files below a folder, over those of an earlier program.
///
/// # Errors
/// A folder that cannot be written to.
pub fn refresh(folder: &Path) -> Result<()> {
    for (path, text) in FILES {
        write(&folder.join(path), text)?;
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<()> {
    let folder = path.parent().context("the file has no folder")?;
    std::fs::create_dir_all(folder)
        .with_context(|| format!("{} cannot be made", folder.display()))?;
    std::fs::write(path, text).with_context(|| format!("{} cannot be written", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_schema_of_the_repository_is_shipped() {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mut folders = vec![repository.join("schemas")];
        let mut found = 1;
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let name = path.strip_prefix(&repository).unwrap();
                let text = std::fs::read_to_string(&path).unwrap();
                let shipped = FILES.iter().find(|(path, _)| Path::new(path) == name);
                assert_eq!(
                    shipped.map(|(_, text)| *text),
                    Some(text.as_str()),
                    "{name:?}"
                );
                found += 1;
            }
        }
        assert_eq!(FILES.len(), found);
    }

    #[test]
    fn a_file_that_exists_is_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let write = || write_new(folder.path(), FILES.iter().copied());
        write().unwrap();
        std::fs::write(folder.path().join("leadpulse.toml"), "mine").unwrap();
        assert!(
            write()
                .unwrap_err()
                .to_string()
                .contains("leadpulse.toml exists")
        );
        let kept = std::fs::read_to_string(folder.path().join("leadpulse.toml")).unwrap();
        assert_eq!(kept, "mine");
    }
}
