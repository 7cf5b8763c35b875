//! A configuration with its layers: the file, the environment, the command line.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::config_error::{ConfigError, PathError};

/// Environment variables of this prefix override the file: `LEADPULSE_ENGINE__MAX_RECORDS=1000`
/// sets `engine.max_records`.
const ENVIRONMENT_PREFIX: &str = "LEADPULSE_";

/// A checked configuration, with the origin of each value.
#[derive(Debug)]
pub struct Loaded {
    /// The typed configuration.
    pub config: Config,
    /// The file; relative folders start beside it.
    pub path: PathBuf,
    /// Damaged places of input partitions to leave out, from the command line.
    pub skips: Vec<leadpulse_engine::Skip>,
    /// Dotted path of a value → file, environment variable or `command line`. Absent: the default.
    origins: BTreeMap<String, String>,
}

/// A value that replaces one of the file.
struct Override {
    /// Dotted path, e.g. `engine.max_records`.
    path: String,
    /// TOML; a bare word is text.
    value: String,
    /// The environment variable, or `command line`.
    origin: String,
}

/// Collects the values below `value` by dotted path; tables in an array are numbered.
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

/// Sets a value; sections on the way are created.
fn set(table: &mut toml::Table, path: &[String], value: toml::Value) -> Result<(), PathError> {
    let (first, rest) = path.split_first().ok_or(PathError::Empty)?;
    if rest.is_empty() {
        table.insert(first.clone(), value);
        return Ok(());
    }
    let inner = table
        .entry(first.clone())
        .or_insert_with(|| toml::Value::Table(toml::Table::new()));
    let section = inner.as_table_mut().ok_or_else(|| PathError::NotASection {
        name: first.clone(),
    })?;
    set(section, rest, value)
}

/// Overrides of the environment: a section and a key, separated by two underscores.
fn environment() -> Vec<Override> {
    let mut overrides = Vec::new();
    for (name, value) in std::env::vars() {
        let Some(dotted) = name.strip_prefix(ENVIRONMENT_PREFIX) else {
            continue;
        };
        // Variables without a section are not ours: the tests' LEADPULSE_TEST_BROKERS, for one.
        if dotted.contains("__") {
            overrides.push(Override {
                path: dotted.to_lowercase().replace("__", "."),
                value,
                origin: name,
            });
        }
    }
    overrides
}

/// An override's text as TOML reads it; a bare word is text.
fn parse_value(text: String) -> toml::Value {
    format!("v = {text}")
        .parse::<toml::Table>()
        .ok()
        .and_then(|mut table| table.remove("v"))
        .unwrap_or(toml::Value::String(text))
}

fn typed(table: &toml::Table) -> Result<Config, toml::de::Error> {
    toml::Value::Table(table.clone()).try_into()
}

impl Loaded {
    /// Reads a file, then the environment, then `overrides` (dotted path, value) of the command
    /// line.
    ///
    /// # Errors
    /// The file cannot be read, a value does not fit, or values contradict each other.
    pub fn read(path: &Path, overrides: &[(&str, String)]) -> Result<Self, ConfigError> {
        let mut table = read_table(path)?;
        let mut found = BTreeMap::new();
        leaves("", &toml::Value::Table(table.clone()), &mut found);
        let mut origins = BTreeMap::new();
        for key in found.into_keys() {
            origins.insert(key, path.display().to_string());
        }
        let flags = overrides.iter().map(|(path, value)| Override {
            path: (*path).to_owned(),
            value: value.clone(),
            origin: "command line".to_owned(),
        });
        let mut config = typed(&table);
        // The override that made a valid configuration invalid; the message must not blame the
        // file.
        let mut culprit = None;
        for Override {
            path: dotted,
            value,
            origin,
        } in environment().into_iter().chain(flags)
        {
            let parts: Vec<String> = dotted.split('.').map(str::to_owned).collect();
            set(&mut table, &parts, parse_value(value)).map_err(|source| {
                ConfigError::NotApplied {
                    origin: origin.clone(),
                    source,
                }
            })?;
            let was_valid = config.is_ok();
            config = typed(&table);
            if config.is_ok() {
                culprit = None;
            } else if was_valid {
                culprit = Some(format!("{origin} does not fit {dotted}"));
            }
            origins.insert(dotted, origin);
        }
        let config = config.map_err(|source| ConfigError::Invalid {
            culprit: culprit
                .unwrap_or_else(|| format!("{} is not a valid configuration", path.display())),
            source,
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

    fn check(&self) -> Result<(), ConfigError> {
        let config = &self.config;
        config.graph.clone().validated()?;
        config.engine.clone().validated()?;
        config.kafka.validate()?;
        let mut names = BTreeSet::new();
        for task in &config.tasks {
            if !names.insert(&task.name) {
                return Err(ConfigError::TwoTasks {
                    path: self.path.clone(),
                    name: task.name.clone(),
                });
            }
            task.policy
                .validated()
                .map_err(|source| ConfigError::Policy {
                    path: self.path.clone(),
                    task: task.name.clone(),
                    source: Box::new(source),
                })?;
        }
        Ok(())
    }

    /// Every value in force, one a line, with its origin as a comment.
    ///
    /// # Errors
    /// A value that TOML cannot express.
    pub fn effective(&self) -> Result<String, ConfigError> {
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
