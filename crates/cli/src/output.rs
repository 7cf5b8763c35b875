//! Standard output for results, standard error for failures.

use std::fmt::Arguments;
use std::io::{ErrorKind, Write, stdout};

/// Prints a line of results. A reader that stops early, as `head` does, ends the command without an
/// error.
macro_rules! say {
    ($($argument:tt)*) => { $crate::output::say(format_args!($($argument)*)) };
}

/// Prints a line; the function behind [`say!`].
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
