//! Standard output for results, standard error for failures.
//!
//! With `--json` the lines for people go to standard error, and standard output has one JSON object.

use std::fmt::Arguments;
use std::io::{ErrorKind, Write, stdout};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;
use serde_json::Value;

/// True once a command was asked for its figures as JSON.
static IS_JSON: AtomicBool = AtomicBool::new(false);

/// `--json`
#[derive(clap::Args, Clone, Copy, Debug)]
pub struct JsonArgument {
    /// Print the figures as one JSON object; lines for people go to standard error.
    #[arg(long)]
    json: bool,
}

impl From<bool> for JsonArgument {
    fn from(json: bool) -> Self {
        Self { json }
    }
}

impl JsonArgument {
    /// True if figures are wanted as JSON.
    pub fn is_wanted(self) -> bool {
        self.json
    }

    /// Turns the lines that follow away from standard output, if JSON is wanted.
    pub fn begin(self) {
        IS_JSON.store(self.json, Ordering::Relaxed);
    }

    /// Prints the figures, if JSON is wanted.
    pub fn print(self, figures: impl FnOnce() -> Result<Value>) -> Result<()> {
        if self.json {
            IS_JSON.store(false, Ordering::Relaxed);
            say(format_args!("{}", figures()?));
            IS_JSON.store(true, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// Prints a line of results. A reader that stops early, as `head` does, ends the command without an
/// error.
macro_rules! say {
    ($($argument:tt)*) => { $crate::output::say(format_args!($($argument)*)) };
}

/// Prints a line; the function behind [`say!`].
pub fn say(line: Arguments<'_>) {
    if IS_JSON.load(Ordering::Relaxed) {
        eprintln!("{line}");
        return;
    }
    let mut out = stdout().lock();
    if let Err(error) = writeln!(out, "{line}") {
        if error.kind() != ErrorKind::BrokenPipe {
            tracing::error!(%error, "results cannot be printed");
            std::process::exit(1);
        }
        std::process::exit(0);
    }
}

/// The last line of a command that failed, as the JSON of a log line; `at` is RFC 3339.
pub fn failure_json(at: &str, words: &str) -> String {
    serde_json::json!({
        "timestamp": at,
        "level": "ERROR",
        "fields": { "message": words, "final": true },
    })
    .to_string()
}

/// An error with its causes. A cause that an earlier message already quotes is left out.
pub fn explain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !text.contains(&cause) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&cause);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_that_its_error_quotes_is_printed_once() {
        let io = || anyhow::Error::new(std::io::Error::other("no room"));
        assert_eq!(
            explain(&io().context("x cannot be written: no room; make some")),
            "x cannot be written: no room; make some"
        );
        assert_eq!(
            explain(
                &io()
                    .context("x cannot be written")
                    .context("training failed")
            ),
            "training failed: x cannot be written: no room"
        );
    }
}
