//! `leadpulse schema`

use std::path::PathBuf;

use anyhow::{Result, bail};

use leadpulse_features::ignored_fields;
use leadpulse_schema::{Catalog, FolderRegistry};

use super::schema_pull::PullArguments;

/// Checks and listings of a schemas folder.
#[derive(clap::Subcommand)]
pub enum SchemaArguments {
    /// Validates a folder; names file, record and field of each fault.
    Check {
        /// The folder.
        dir: PathBuf,
    },
    /// Drafts a table's schema, and the source that feeds the table, from a registry's subject.
    Pull(PullArguments),
    /// Lists the ids that a folder's schemas have without a registry.
    Ids {
        /// The folder.
        dir: PathBuf,
    },
}

impl SchemaArguments {
    pub fn run(self) -> Result<()> {
        match self {
            Self::Check { dir } => match Catalog::load(&dir) {
                Ok(catalog) => {
                    for table in &catalog.tables {
                        let role = table.role.name();
                        say!("{role:<7} {:<28} {} fields", table.name, table.fields.len());
                    }
                    for hub in catalog.hubs.iter().filter(|h| h.table.is_none()) {
                        say!("hub     {:<28} from values", hub.name);
                    }
                    for field in ignored_fields(&catalog) {
                        say!("remark  {}: {}", field.path, field.reason);
                    }
                    say!(
                        "{} is sound; fingerprint {}",
                        dir.display(),
                        catalog.fingerprint()
                    );
                    Ok(())
                }
                Err(faults) => {
                    for fault in &faults {
                        eprintln!("{fault}");
                    }
                    bail!(
                        "{} has {} fault{}",
                        dir.display(),
                        faults.len(),
                        if faults.len() == 1 { "" } else { "s" }
                    )
                }
            },
            Self::Pull(arguments) => arguments.run(),
            Self::Ids { dir } => {
                FolderRegistry::load(&dir)?;
                let mut files: Vec<PathBuf> = ["", "versions", "outputs"]
                    .iter()
                    .filter_map(|sub| std::fs::read_dir(dir.join(sub)).ok())
                    .flatten()
                    .filter_map(|entry| entry.ok().map(|e| e.path()))
                    .filter(|path| path.extension().is_some_and(|e| e == "avsc"))
                    .collect();
                files.sort();
                for file in files {
                    say!(
                        "{:>10} {}",
                        FolderRegistry::id_of(&std::fs::read_to_string(&file)?)?,
                        file.display()
                    );
                }
                Ok(())
            }
        }
    }
}
