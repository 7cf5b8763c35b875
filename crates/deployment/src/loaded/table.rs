//! The configuration as a table: paths of values, references in place of values, types.

use std::collections::BTreeMap;
use std::path::Path;

use leadpulse_kafka::is_secret_setting;

use crate::config_error::{ConfigError, PathError};

/// Maps whose keys are the user's own. A map of this name is never a reference itself, and its keys
/// are never settings.
const FREE_FORM: [&str; 11] = [
    "client",
    "columns",
    "fields",
    "highest",
    "min_distinct",
    "paths",
    "rates",
    "targets",
    "times",
    "tokens",
    "where",
];

/// True for a map whose keys are the user's own.
pub(super) fn is_free_form(key: &str) -> bool {
    FREE_FORM.contains(&key)
}

/// A value that stands elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reference {
    /// `{ env = "NAME" }`
    Environment(String),
    /// `{ file = "path" }`
    File(String),
}

impl Reference {
    /// The reference that a value is, if it is one.
    fn of(value: &toml::Value) -> Option<Self> {
        let table = value.as_table().filter(|table| table.len() == 1)?;
        let (key, target) = table.iter().next()?;
        let target = target.as_str()?.to_owned();
        match key.as_str() {
            "env" => Some(Self::Environment(target)),
            "file" => Some(Self::File(target)),
            _ => None,
        }
    }

    /// The text that the reference stands for; a file's without the newline at its end.
    fn resolve(&self, folder: &Path) -> Result<String, String> {
        match self {
            Self::Environment(name) => match std::env::var(name) {
                Ok(text) if text.is_empty() => {
                    Err(format!("the environment variable {name} is empty"))
                }
                Ok(text) => Ok(text),
                Err(std::env::VarError::NotPresent) => {
                    Err(format!("the environment variable {name} is not set"))
                }
                Err(std::env::VarError::NotUnicode(_)) => {
                    Err(format!("the environment variable {name} is not UTF-8"))
                }
            },
            Self::File(file) => {
                let path = folder.join(file);
                let text = std::fs::read_to_string(&path)
                    .map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
                Ok(text.trim_end_matches(['\n', '\r']).to_owned())
            }
        }
    }
}

impl std::fmt::Display for Reference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Environment(name) => write!(f, "{{ env = {name:?} }}"),
            Self::File(file) => write!(f, "{{ file = {file:?} }}"),
        }
    }
}

/// The path of `key` below `prefix`.
fn join(prefix: &str, key: &str) -> String {
    if prefix.is_empty() {
        key.to_owned()
    } else {
        format!("{prefix}.{key}")
    }
}

/// Name of the last table on a path: `kafka.client` → `client`.
fn last_name(prefix: &str) -> &str {
    let name = prefix.rsplit('.').next().unwrap_or(prefix);
    name.split('[').next().unwrap_or(name)
}

/// True where a table at `prefix` may be a reference.
fn may_be_reference(prefix: &str) -> bool {
    !is_free_form(last_name(prefix)) && !prefix.ends_with(']')
}

/// Collects the values below `value` by dotted path; tables in an array are numbered. A reference
/// is a value.
pub(super) fn leaves(prefix: &str, value: &toml::Value, out: &mut BTreeMap<String, toml::Value>) {
    match value {
        toml::Value::Table(_) if may_be_reference(prefix) && Reference::of(value).is_some() => {
            out.insert(prefix.to_owned(), value.clone());
        }
        toml::Value::Table(table) => {
            for (key, value) in table {
                leaves(&join(prefix, key), value, out);
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
pub(super) fn set(
    table: &mut toml::Table,
    path: &[String],
    value: toml::Value,
) -> Result<(), PathError> {
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

/// Puts the texts of references in their places. Returns the references by path.
pub(super) fn resolve_references(
    table: &mut toml::Table,
    folder: &Path,
    faults: &mut Vec<ConfigError>,
) -> BTreeMap<String, Reference> {
    let mut found = BTreeMap::new();
    for (key, value) in table.iter_mut() {
        resolve(key.clone(), value, folder, &mut found, faults);
    }
    found
}

fn resolve(
    path: String,
    value: &mut toml::Value,
    folder: &Path,
    found: &mut BTreeMap<String, Reference>,
    faults: &mut Vec<ConfigError>,
) {
    if may_be_reference(&path)
        && let Some(reference) = Reference::of(value)
    {
        match reference.resolve(folder) {
            Ok(text) => *value = toml::Value::String(text),
            Err(problem) => {
                if is_of_others(&path) {
                    *value = toml::Value::String(String::new());
                }
                faults.push(ConfigError::Reference {
                    path: path.clone(),
                    problem,
                });
            }
        }
        found.insert(path, reference);
        return;
    }
    match value {
        toml::Value::Table(table) => {
            for (key, value) in table.iter_mut() {
                resolve(join(&path, key), value, folder, found, faults);
            }
        }
        toml::Value::Array(items) => {
            for (index, value) in items.iter_mut().enumerate() {
                resolve(format!("{path}[{index}]"), value, folder, found, faults);
            }
        }
        _ => {}
    }
}

/// True for a secret of a sink, at `deliver.KIND.NAME.SETTING`, or of calls, at
/// `ingest.SOURCE.SETTING`. The address of a webhook of Slack is all that it takes to write there.
fn is_secret_of_others(path: &str) -> bool {
    let beside = BESIDE.iter().find_map(|section| path.strip_prefix(section));
    let Some(setting) = beside else {
        return false;
    };
    let last = setting.rsplit('.').next().unwrap_or_default();
    matches!(last, "secret" | "token" | "client_secret")
        || (setting.starts_with("slack.") && last == "url")
}

/// Sections of processes beside the worker.
const BESIDE: [&str; 2] = ["deliver.", "ingest."];

/// True for a setting that only a process beside the worker needs. Its secrets need not be at hand
/// where the worker runs.
pub(super) fn is_of_others(path: &str) -> bool {
    BESIDE.iter().any(|section| path.starts_with(section))
}

/// True for a setting whose value must not stand in the file.
pub(super) fn is_secret_path(path: &str) -> bool {
    const SECRETS: [&str; 7] = [
        "kafka.security.password",
        "kafka.security.key_password",
        "kafka.security.token",
        "kafka.security.oauth.client_secret",
        "registry.password",
        "registry.token",
        "erasure.secret",
    ];
    let is_bearer_token = || {
        let client = path.strip_prefix("server.access.tokens.");
        client.is_some_and(|client| client.ends_with(".token"))
    };
    SECRETS.contains(&path)
        || is_bearer_token()
        || is_secret_of_others(path)
        || path
            .strip_prefix("kafka.client.")
            .is_some_and(is_secret_setting)
}

/// Numbers that may be absent, so that no default shows their type.
const OPTIONAL_NUMBERS: [&str; 6] = [
    "exit",
    "max_active_members",
    "max_probability",
    "min_active_members",
    "min_probability",
    "seed",
];

/// Lists of domains, which are long enough to stand in a file or a variable.
const DOMAIN_LISTS: [&str; 3] = ["own_domains", "competitor_domains", "free_mail_domains"];

/// The items of a list that is written as text: separated by lines or commas; what follows `#` is a
/// comment.
fn items_of(text: &str) -> Vec<toml::Value> {
    let lines = text
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default());
    let items = lines.flat_map(|line| line.split(',')).map(str::trim);
    let items = items.filter(|item| !item.is_empty());
    items
        .map(|item| toml::Value::String(item.to_owned()))
        .collect()
}

/// Gives values the type of `template`, where text and number mean the same: variables and files
/// contain text only.
pub(super) fn coerce(key: &str, value: &mut toml::Value, template: Option<&toml::Value>) {
    use toml::Value::{Array, Boolean, Float, Integer, String, Table};
    match (&mut *value, template) {
        (Table(table), _) if key == "client" => {
            for (_, value) in table.iter_mut() {
                coerce("", value, Some(&String(std::string::String::new())));
            }
        }
        (Table(table), template) => {
            for (key, value) in table.iter_mut() {
                let inner = template.and_then(|template| template.get(key));
                coerce(key, value, inner);
            }
        }
        (Array(items), template) => {
            let inner = template.and_then(|template| template.get(0));
            for item in items {
                coerce("", item, inner);
            }
        }
        (String(text), _) if DOMAIN_LISTS.contains(&key) => *value = Array(items_of(text)),
        (String(text), Some(Integer(_))) => {
            if let Ok(number) = text.trim().parse() {
                *value = Integer(number);
            }
        }
        (String(text), Some(Float(_))) => {
            if let Ok(number) = text.trim().parse() {
                *value = Float(number);
            }
        }
        (String(text), Some(Boolean(_))) => {
            if let Ok(truth) = text.trim().parse() {
                *value = Boolean(truth);
            }
        }
        (String(text), None) if OPTIONAL_NUMBERS.contains(&key) => {
            let text = text.trim();
            if let Ok(number) = text.parse() {
                *value = Integer(number);
            } else if let Ok(number) = text.parse() {
                *value = Float(number);
            }
        }
        (Integer(_) | Float(_) | Boolean(_), Some(String(_))) => {
            *value = String(value.to_string());
        }
        _ => {}
    }
}
