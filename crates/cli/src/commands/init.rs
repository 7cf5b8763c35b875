//! `leadpulse init`

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::json;

use leadpulse_schema::{Inferred, infer};

use crate::output::JsonArgument;
use crate::shipped;

/// Arguments of `init`.
#[derive(clap::Args)]
pub struct InitArguments {
    /// Local data files, or folders of them: CSV, TSV or JSON Lines, also gzipped; Parquet. Without
    /// them, the shipped CRM is written.
    #[arg(long, num_args = 1.., value_name = "FILE")]
    from: Vec<PathBuf>,
    /// Folder to write schemas/ and leadpulse.toml to. Files that exist are not overwritten.
    #[arg(long, default_value = ".")]
    out: PathBuf,
    /// The table to score; by default the one that most others belong to.
    #[arg(long, value_name = "TABLE")]
    root: Option<String>,
    #[command(flatten)]
    json: JsonArgument,
}

impl InitArguments {
    pub fn run(self) -> Result<()> {
        self.json.begin();
        if self.from.is_empty() {
            if self.root.is_some() {
                bail!("--root names a table of --from; pass --from FILE… too");
            }
            shipped::write_new(&self.out, shipped::FILES.iter().copied())?;
            say!("the shipped CRM is written to {}", self.out.display());
            let files: Vec<&str> = shipped::FILES.iter().map(|(path, _)| *path).collect();
            return self
                .json
                .print(|| Ok(json!({ "out": self.out, "files": files })));
        }
        let inferred = infer(&data_files(&self.from)?, self.root.as_deref())?;
        let mut files = vec![("leadpulse.toml".to_owned(), inferred.configuration.clone())];
        for (name, text) in &inferred.schemas {
            files.push((format!("schemas/{name}"), text.clone()));
        }
        let texts = files
            .iter()
            .map(|(path, text)| (path.as_str(), text.as_str()));
        shipped::write_new(&self.out, texts)?;
        let doubts = doubts(&inferred.configuration);
        let data = match inferred.data.as_os_str().is_empty() {
            true => Path::new("."),
            false => &inferred.data,
        };
        self.show(&inferred, doubts.len(), data);
        self.json.print(|| {
            let files: Vec<&String> = files.iter().map(|(path, _)| path).collect();
            Ok(json!({
                "out": self.out,
                "files": files,
                "data": data,
                "task": inferred.task,
                "doubts": doubts,
                "remarks": inferred.summary,
            }))
        })
    }

    /// Prints what was inferred, and the commands to go on with.
    fn show(&self, inferred: &Inferred, doubts: usize, data: &Path) {
        for line in &inferred.summary {
            say!("{line}");
        }
        let config = self.out.join("leadpulse.toml");
        say!(
            "\n{} tables written to {}",
            inferred.schemas.len(),
            self.out.display()
        );
        say!(
            "{doubts} doubts stand in {}: read them first",
            config.display()
        );
        if let Some(task) = &inferred.task {
            let (config, data) = (config.display(), data.display());
            say!("next: leadpulse query {task} --config {config} --data {data}");
            say!("then: leadpulse train --config {config} --data {data} --out bundle");
        }
    }
}

/// The doubts of an inferred configuration, without their mark.
fn doubts(configuration: &str) -> Vec<&str> {
    let lines = configuration.lines();
    lines
        .filter_map(|line| line.strip_prefix("# doubt:"))
        .map(str::trim)
        .collect()
}

/// The files named, and of each folder named the data files directly in it, in order of names.
fn data_files(from: &[PathBuf]) -> Result<Vec<PathBuf>> {
    const KINDS: [&str; 6] = [".csv", ".tsv", ".txt", ".jsonl", ".ndjson", ".parquet"];
    let mut files = Vec::new();
    for path in from {
        if path.to_string_lossy().contains("://") {
            bail!(
                "{}: init reads local files only; copy the files, or the first of each table, into a \
                 folder and name it. Then train and replay read the store: --data {0}",
                path.display()
            );
        }
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let read = || format!("{} cannot be read", path.display());
        let mut found = Vec::new();
        for entry in std::fs::read_dir(path).with_context(read)? {
            let file = entry.with_context(read)?.path();
            let name = file.to_string_lossy().to_lowercase();
            let kind = name.strip_suffix(".gz").unwrap_or(&name);
            if file.is_file() && KINDS.iter().any(|end| kind.ends_with(end)) {
                found.push(file);
            }
        }
        if found.is_empty() {
            bail!(
                "{} has no data files ({}, also .gz); name another folder",
                path.display(),
                KINDS.join(", ")
            );
        }
        found.sort();
        files.extend(found);
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_object_stores_are_refused_with_what_to_do() {
        for address in ["s3://bucket/crm", "gs://bucket/a.csv"] {
            let error = data_files(&[address.into()]).unwrap_err().to_string();
            assert!(error.contains(address), "{error}");
            assert!(error.contains("init reads local files only"), "{error}");
        }
    }
}
