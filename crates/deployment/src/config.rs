//! `leadpulse.toml`: one struct per part, checked once, and where each value came from.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use leadpulse_engine::EngineOptions;
use leadpulse_graph::GraphOptions;
use leadpulse_kafka::{InputTopic, KafkaOptions};
use leadpulse_learn::{Anchors, FileSource, Project, TaskSource, parse_duration_ms};
use leadpulse_model::FitOptions;
use leadpulse_policy::PolicyOptions;
use leadpulse_registry::RegistryOptions;
use leadpulse_schema::{Catalog, FileOptions};
use leadpulse_server::ServerOptions;

/// Environment variables of this prefix override the file: `LEADPULSE_ENGINE__MAX_RECORDS=1000` sets `engine.max_records`.
const ENVIRONMENT_PREFIX: &str = "LEADPULSE_";

/// Where a table's rows come from.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SourceConfig {
    /// The table.
    pub table: String,
    /// The topic its records are in.
    pub topic: Option<String>,
    /// The files its rows are in: a name or a pattern with `*`, relative to the data folder.
    pub file: Option<String>,
    /// In files: the column that says when a row became known.
    pub known_time: Option<String>,
    /// In files: how long after its event time a row became known, e.g. `2h`.
    pub lag: Option<String>,
    /// In files: columns that mean a field of another name.
    pub columns: BTreeMap<String, String>,
}

/// Something to predict.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskConfig {
    /// Its name.
    pub name: String,
    /// What to predict, in PQL.
    pub query: String,
    /// When training examples are taken.
    #[serde(default)]
    pub anchors: Anchors,
    /// When scores are emitted and alerts fire.
    #[serde(default)]
    pub policy: PolicyOptions,
    /// How it is trained.
    #[serde(default)]
    pub fit: FitOptions,
}

/// The whole file.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The schemas folder, relative to this file.
    pub schemas: PathBuf,
    /// Input topics and files.
    pub sources: Vec<SourceConfig>,
    /// Named targets that queries may use: name → PQL expression.
    pub targets: BTreeMap<String, String>,
    /// What to predict.
    pub tasks: Vec<TaskConfig>,
    /// What the graph keeps.
    pub graph: GraphOptions,
    /// The epoch loop.
    pub engine: EngineOptions,
    /// Kafka.
    pub kafka: KafkaOptions,
    /// A schema registry; without it schemas come from the schemas folder.
    pub registry: Option<RegistryOptions>,
    /// HTTP.
    pub server: ServerOptions,
}

/// A configuration that was read, and from where.
#[derive(Debug)]
pub struct Loaded {
    /// The typed configuration.
    pub config: Config,
    /// The file.
    pub path: PathBuf,
    /// Damaged places to leave out, given with the command.
    pub skips: Vec<leadpulse_engine::Skip>,
    origins: BTreeMap<String, String>,
}

fn leaves(prefix: &str, value: &toml::Value, out: &mut BTreeMap<String, toml::Value>) {
    match value {
        toml::Value::Table(table) => {
            for (key, value) in table {
                let path = if prefix.is_empty() {
                    key.clone()
                } else {
                    format!("{prefix}.{key}")
                };
                leaves(&path, value, out);
            }
        }
        toml::Value::Array(items) if items.iter().any(toml::Value::is_table) => {
            for (index, value) in items.iter().enumerate() {
                leaves(&format!("{prefix}[{index}]"), value, out);
            }
        }
        _ => {
            out.insert(prefix.to_owned(), value.clone());
        }
    }
}

fn set(table: &mut toml::Table, path: &[String], value: toml::Value) -> Result<()> {
    let (first, rest) = path.split_first().context("an empty name")?;
    if rest.is_empty() {
        table.insert(first.clone(), value);
        return Ok(());
    }
    let inner = table
        .entry(first.clone())
        .or_insert_with(|| toml::Value::Table(toml::Table::new()));
    set(
        inner
            .as_table_mut()
            .with_context(|| format!("{first} is not a section"))?,
        rest,
        value,
    )
}

impl Loaded {
    /// Reads a file, then the environment, then `overrides` (dotted path, value) of the command line.
    pub fn read(path: &Path, overrides: &[(&str, String)]) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| {
            format!(
                "{} cannot be read; name the configuration with --config",
                path.display()
            )
        })?;
        let mut table: toml::Table = text
            .parse()
            .with_context(|| format!("{} is not TOML", path.display()))?;
        let mut origins = BTreeMap::new();
        let mut found = BTreeMap::new();
        leaves("", &toml::Value::Table(table.clone()), &mut found);
        origins.extend(
            found
                .into_keys()
                .map(|key| (key, path.display().to_string())),
        );
        let environment = std::env::vars().filter_map(|(name, value)| {
            let dotted = name.strip_prefix(ENVIRONMENT_PREFIX)?.to_lowercase();
            dotted
                .contains("__")
                .then(|| (dotted.replace("__", "."), value, name))
        });
        let flags = overrides
            .iter()
            .map(|(path, value)| ((*path).to_owned(), value.clone(), "command line".to_owned()));
        let mut config = Self::typed(&table);
        // What made the configuration invalid, if it was valid before.
        let mut culprit = None;
        for (dotted, value, origin) in environment.collect::<Vec<_>>().into_iter().chain(flags) {
            let parts: Vec<String> = dotted.split('.').map(str::to_owned).collect();
            // A bare word is text; everything else is what TOML says it is.
            let value = format!("v = {value}")
                .parse::<toml::Table>()
                .ok()
                .and_then(|mut t| t.remove("v"))
                .unwrap_or(toml::Value::String(value));
            set(&mut table, &parts, value)
                .with_context(|| format!("{origin} cannot be applied"))?;
            let was_valid = config.is_ok();
            config = Self::typed(&table);
            if config.is_ok() {
                culprit = None;
            } else if was_valid {
                culprit = Some(format!("{origin} does not fit {dotted}"));
            }
            origins.insert(dotted, origin);
        }
        let config = config.with_context(|| {
            culprit.unwrap_or_else(|| format!("{} is not a valid configuration", path.display()))
        })?;
        let loaded = Self {
            config,
            path: path.to_owned(),
            skips: Vec::new(),
            origins,
        };
        loaded.check()?;
        Ok(loaded)
    }

    fn typed(table: &toml::Table) -> Result<Config> {
        Ok(toml::Value::Table(table.clone()).try_into()?)
    }

    fn check(&self) -> Result<()> {
        let config = &self.config;
        config.graph.clone().validated()?;
        config.engine.clone().validated()?;
        config.kafka.validate()?;
        let mut names = std::collections::BTreeSet::new();
        for task in &config.tasks {
            if !names.insert(&task.name) {
                bail!(
                    "{}: two tasks are named {:?}",
                    self.path.display(),
                    task.name
                );
            }
            task.policy
                .validated()
                .with_context(|| format!("{}: task {:?}", self.path.display(), task.name))?;
        }
        Ok(())
    }

    /// Every value in force, with where it came from.
    pub fn effective(&self) -> Result<String> {
        let mut values = BTreeMap::new();
        leaves("", &toml::Value::try_from(&self.config)?, &mut values);
        let width = values
            .iter()
            .map(|(k, v)| k.len() + v.to_string().len() + 3)
            .filter(|w| *w < 80)
            .max()
            .unwrap_or(40);
        let mut text = String::new();
        for (key, value) in values {
            let origin = self.origins.get(&key).map_or("default", String::as_str);
            let line = format!("{key} = {}", value.to_string().replace('\n', " "));
            text.push_str(&format!("{line:<width$}  # {origin}\n"));
        }
        Ok(text)
    }

    /// The schemas folder.
    pub fn schemas_dir(&self) -> PathBuf {
        let base = self.path.parent().unwrap_or(Path::new("."));
        base.join(if self.config.schemas.as_os_str().is_empty() {
            Path::new("schemas")
        } else {
            &self.config.schemas
        })
    }

    /// The catalog.
    pub fn catalog(&self) -> Result<Arc<Catalog>> {
        let dir = self.schemas_dir();
        match Catalog::load(&dir) {
            Ok(catalog) => Ok(Arc::new(catalog)),
            Err(faults) => bail!(
                "{} has {} fault{}:\n{}",
                dir.display(),
                faults.len(),
                if faults.len() == 1 { "" } else { "s" },
                faults
                    .iter()
                    .map(|f| format!("  {f}"))
                    .collect::<Vec<_>>()
                    .join("\n")
            ),
        }
    }

    /// Catalog, graph options and tasks.
    pub fn project(&self) -> Result<Project> {
        let catalog = self.catalog()?;
        let tasks: Vec<TaskSource> = self
            .config
            .tasks
            .iter()
            .map(|t| TaskSource {
                name: t.name.clone(),
                query: t.query.trim().to_owned(),
                anchors: t.anchors,
            })
            .collect();
        Ok(Project::new(
            catalog,
            self.config.graph.clone(),
            &tasks,
            &self.config.targets,
        )?)
    }

    /// The files of a data folder, by the sources' patterns.
    pub fn files(&self, catalog: &Catalog, data: &Path) -> Result<Vec<FileSource>> {
        let mut found = Vec::new();
        for source in &self.config.sources {
            let Some(pattern) = &source.file else {
                continue;
            };
            let table = catalog.table(&source.table).with_context(|| {
                format!(
                    "{}: a source names the table {:?}, which no schema defines",
                    self.path.display(),
                    source.table
                )
            })?;
            let lag_ms = match &source.lag {
                Some(lag) => parse_duration_ms(lag).with_context(|| {
                    format!("lag {lag:?} of {} is not a duration like 2h", source.table)
                })?,
                None => 0,
            };
            let options = FileOptions {
                partition: 0,
                known_time: source.known_time.clone(),
                lag_ms,
                columns: source.columns.clone(),
            };
            let paths = matching(data, pattern)?;
            if paths.is_empty() {
                tracing::warn!(table = source.table, pattern, data = %data.display(), "no file matches");
            }
            found.extend(paths.into_iter().map(|path| FileSource {
                table: table.id,
                path,
                options: options.clone(),
            }));
        }
        if found.is_empty() {
            bail!(
                "{} holds no file that a source of {} names",
                data.display(),
                self.path.display()
            );
        }
        Ok(found)
    }

    /// The input topics.
    pub fn inputs(&self, catalog: &Catalog) -> Result<Vec<InputTopic>> {
        let mut inputs = Vec::new();
        for source in &self.config.sources {
            let Some(topic) = &source.topic else { continue };
            let table = catalog.table(&source.table).with_context(|| {
                format!(
                    "{}: a source names the table {:?}, which no schema defines",
                    self.path.display(),
                    source.table
                )
            })?;
            inputs.push(InputTopic {
                topic: topic.clone(),
                table: table.id,
            });
        }
        if inputs.is_empty() {
            bail!(
                "{} names no topics: give each source of the engine a `topic`",
                self.path.display()
            );
        }
        Ok(inputs)
    }
}

/// Files of a folder whose names match a pattern with `*`, by name.
fn matching(data: &Path, pattern: &str) -> Result<Vec<PathBuf>> {
    let path = data.join(pattern);
    if !pattern.contains('*') {
        return Ok(if path.exists() {
            vec![path]
        } else {
            Vec::new()
        });
    }
    let (dir, name) = (
        path.parent().unwrap_or(data),
        path.file_name()
            .and_then(|n| n.to_str())
            .unwrap_or_default(),
    );
    let parts: Vec<&str> = name.split('*').collect();
    let fits = |candidate: &str| {
        let (first, last) = (parts[0], parts[parts.len() - 1]);
        let Some(middle) = candidate
            .strip_prefix(first)
            .and_then(|rest| rest.strip_suffix(last))
        else {
            return false;
        };
        let mut rest = middle;
        parts[1..parts.len() - 1].iter().all(|part| {
            rest.find(part).is_some_and(|at| {
                rest = &rest[at + part.len()..];
                true
            })
        })
    };
    let mut paths = Vec::new();
    for entry in
        std::fs::read_dir(dir).with_context(|| format!("{} cannot be listed", dir.display()))?
    {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(fits) {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}
