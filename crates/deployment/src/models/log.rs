//! The log of promotions: one JSON object a line, only appended to.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::ModelsError;
use super::files::read_text;

/// Name of the file.
pub(super) const FILE: &str = "log.jsonl";

/// The change of champion that a line is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogAction {
    /// A bundle became champion.
    Promote,
    /// The champion before became champion again.
    RollBack,
}

/// A line of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEntry {
    /// Moment of the change, milliseconds since 1970 UTC.
    #[serde(rename = "at")]
    pub at_ms: i64,
    /// The person or program that changed the champion.
    pub by: String,
    pub action: LogAction,
    /// Id of the new champion.
    pub bundle: String,
    /// Id of the champion before; `None` for the first.
    pub before: Option<String>,
    /// True if the quality gate was overruled.
    #[serde(default)]
    pub forced: bool,
}

/// Appends a line, and waits for the disk.
pub(super) fn append(path: &Path, entry: &LogEntry) -> Result<(), ModelsError> {
    let mut line =
        serde_json::to_string(entry).map_err(|error| ModelsError::damaged(path, error))?;
    line.push('\n');
    let write = || {
        let mut file = OpenOptions::new().create(true).append(true).open(path)?;
        file.write_all(line.as_bytes())?;
        file.sync_all()
    };
    write().map_err(|source| ModelsError::io("write", path, source))
}

/// The lines, oldest first. A last line without an end was cut by a crash, and is left out.
pub(super) fn read(path: &Path) -> Result<Vec<LogEntry>, ModelsError> {
    let text = read_text(path)?.unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let mut entries = Vec::new();
    for (number, line) in (1..).zip(whole.lines()) {
        let entry = serde_json::from_str(line);
        entries.push(
            entry.map_err(|error| ModelsError::damaged(path, format!("line {number}: {error}")))?,
        );
    }
    Ok(entries)
}

/// The champion that a roll-back goes to: of the promotions that were not taken back, the one before
/// the last.
pub(super) fn champion_before(log: &[LogEntry]) -> Option<String> {
    let mut champions: Vec<&str> = Vec::new();
    for entry in log {
        match entry.action {
            LogAction::Promote => {
                if let (true, Some(before)) = (champions.is_empty(), &entry.before) {
                    champions.push(before);
                }
                if champions.last() != Some(&entry.bundle.as_str()) {
                    champions.push(&entry.bundle);
                }
            }
            LogAction::RollBack => {
                champions.pop();
            }
        }
    }
    champions.pop();
    champions.last().map(|id| (*id).to_owned())
}
