//! Standard output and error: results go to the one, what went wrong to the other.

use std::fmt::Arguments;
use std::io::{ErrorKind, Write, stdout};

/// Prints a line of results. Whoever reads them may stop before the end, as `head` does: that ends the command, and is no fault.
macro_rules! say {
    ($($argument:tt)*) => { $crate::output::say(format_args!($($argument)*)) };
}

/// See [`say!`].
pub fn say(line: Arguments<'_>) {
    let mut out = stdout().lock();
    if let Err(error) = writeln!(out, "{line}") {
        if error.kind() != ErrorKind::BrokenPipe {
            tracing::error!(%error, "results cannot be printed");
            std::process::exit(1);
        }
        std::process::exit(0);
    }
}

/// An error with its causes, each said once: many errors quote their cause themselves.
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
    fn a_cause_is_said_once() {
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
