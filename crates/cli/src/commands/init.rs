//! `leadpulse init`

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use leadpulse_schema::infer;

use crate::shipped;

/// Arguments of `init`.
#[derive(clap::Args)]
pub struct InitArguments {
    /// Data files, or folders of them: CSV, TSV or JSON Lines, also gzipped; Parquet. Without them, the
    /// shipped CRM is written.
    #[arg(long, num_args = 1.., value_name = "FILE")]
    from: Vec<PathBuf>,
    /// Folder to write schemas/ and leadpulse.toml to. Files that exist are not overwritten.
    #[arg(long, default_value = ".")]
    out: PathBuf,
    /// The table to score; by default the one that most others belong to.
    #[arg(long, value_name = "TABLE")]
    root: Option<String>,
}

impl InitArguments {
    pub fn run(self) -> Result<()> {
        if self.from.is_empty() {
            if self.root.is_some() {
                bail!("--root names a table of --from; pass --from FILE… too");
            }
            shipped::write_new(&self.out, shipped::FILES.iter().copied())?;
            say!("the shipped CRM is written to {}", self.out.display());
            return Ok(());
        }
        let inferred = infer(&data_files(&self.from)?, self.root.as_deref())?;
        let mut files = vec![("leadpulse.toml".to_owned(), inferred.configuration.clone())];
        for (name, text) in inferred.schemas {
            files.push((format!("schemas/{name}"), text));
        }
        let texts = files
            .iter()
            .map(|(path, text)| (path.as_str(), text.as_str()));
        shipped::write_new(&self.out, texts)?;
        for line in &inferred.summary {
            say!("{line}");
        }
        let lines = inferred.configuration.lines();
        let doubts = lines.filter(|line| line.starts_with("# doubt:")).count();
        let config = self.out.join("leadpulse.toml");
        say!(
            "\n{} tables written to {}",
            files.len() - 1,
            self.out.display()
        );
        say!(
            "{doubts} doubts stand in {}: read them first",
            config.display()
        );
        let data = if inferred.data.as_os_str().is_empty() {
            Path::new(".")
        } else {
            &inferred.data
        };
        if let Some(task) = &inferred.task {
            let (config, data) = (config.display(), data.display());
            say!("next: leadpulse query {task} --config {config} --data {data}");
            say!("then: leadpulse train --config {config} --data {data} --out bundle");
        }
        Ok(())
    }
}

/// The files named, and of each folder named the data files directly in it, in order of names.
fn data_files(from: &[PathBuf]) -> Result<Vec<PathBuf>> {
    const KINDS: [&str; 6] = [".csv", ".tsv", ".txt", ".jsonl", ".ndjson", ".parquet"];
    let mut files = Vec::new();
    for path in from {
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
