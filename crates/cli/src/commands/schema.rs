//! `leadpulse schema`

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use serde_json::{Value, json};

use leadpulse_features::ignored_fields;
use leadpulse_schema::{Catalog, FolderRegistry};

use super::schema_pull::PullArguments;
use crate::output::JsonArgument;

/// Checks and listings of a schemas folder.
#[derive(clap::Subcommand)]
pub enum SchemaArguments {
    /// Validates a folder; names file, record and field of each fault.
    Check {
        /// The folder.
        dir: PathBuf,
        #[command(flatten)]
        json: JsonArgument,
    },
    /// Drafts a table's schema, and the source that feeds the table, from a registry's subject.
    Pull(PullArguments),
    /// Lists the ids that a folder's schemas have without a registry.
    Ids {
        /// The folder.
        dir: PathBuf,
        #[command(flatten)]
        json: JsonArgument,
    },
}

impl SchemaArguments {
    pub fn run(self) -> Result<()> {
        match self {
            Self::Check { dir, json } => check(&dir, json),
            Self::Pull(arguments) => arguments.run(),
            Self::Ids { dir, json } => ids(&dir, json),
        }
    }
}

/// Prints the tables of a folder and remarks, or its faults.
fn check(dir: &Path, json: JsonArgument) -> Result<()> {
    json.begin();
    let catalog = match Catalog::load(dir) {
        Ok(catalog) => catalog,
        Err(faults) => {
            for fault in &faults {
                eprintln!("{fault}");
            }
            let words: Vec<String> = faults.iter().map(ToString::to_string).collect();
            json.print(|| Ok(json!({ "dir": dir, "sound": false, "faults": words })))?;
            bail!(
                "{} has {} fault{}",
                dir.display(),
                faults.len(),
                if faults.len() == 1 { "" } else { "s" }
            )
        }
    };
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
    json.print(|| Ok(figures(dir, &catalog)))
}

/// The tables, hubs and remarks of a sound folder.
fn figures(dir: &Path, catalog: &Catalog) -> Value {
    let mut tables = Vec::new();
    for table in &catalog.tables {
        let (name, role) = (&table.name, table.role.name());
        tables.push(json!({ "table": name, "role": role, "fields": table.fields.len() }));
    }
    let hubs = catalog.hubs.iter().filter(|hub| hub.table.is_none());
    let hubs: Vec<&str> = hubs.map(|hub| hub.name.as_str()).collect();
    let mut remarks = Vec::new();
    for field in ignored_fields(catalog) {
        remarks.push(json!({ "field": field.path, "reason": field.reason }));
    }
    json!({
        "dir": dir,
        "sound": true,
        "fingerprint": catalog.fingerprint(),
        "tables": tables,
        "hubs_of_values": hubs,
        "remarks": remarks,
    })
}

/// Prints the id of each schema file, by file.
fn ids(dir: &Path, json: JsonArgument) -> Result<()> {
    json.begin();
    FolderRegistry::load(dir)?;
    let mut files: Vec<PathBuf> = ["", "versions", "outputs"]
        .iter()
        .filter_map(|sub| std::fs::read_dir(dir.join(sub)).ok())
        .flatten()
        .filter_map(|entry| entry.ok().map(|e| e.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "avsc"))
        .collect();
    files.sort();
    let mut found = Vec::new();
    for file in files {
        let id = FolderRegistry::id_of(&std::fs::read_to_string(&file)?)?;
        say!("{id:>10} {}", file.display());
        found.push(json!({ "id": id, "file": file }));
    }
    json.print(|| Ok(json!({ "ids": found })))
}
