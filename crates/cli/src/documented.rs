//! Tests of all commands: every command line in the documents is one that the program understands,
//! and results come as JSON.

use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::{Command, CommandFactory, Parser};

use crate::Arguments;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// All Markdown files for people.
fn documents() -> Vec<PathBuf> {
    let mut found = vec![root().join("README.md"), root().join("CONTRIBUTING.md")];
    for folder in ["docs", "docs/connect"] {
        for entry in std::fs::read_dir(root().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|e| e == "md") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// A command of a document.
struct Documented {
    line: String,
    /// True for a line of a block, which can be pasted; a span in a sentence may be shortened.
    is_whole: bool,
}

/// The commands of a document: lines of blocks, and spans of code in sentences.
fn commands(document: &str) -> Vec<Documented> {
    let mut found = Vec::new();
    let mut block: Option<bool> = None;
    let mut continued = String::new();
    for line in document.lines() {
        if let Some(language) = line.trim_start().strip_prefix("```") {
            block = match block {
                Some(_) => None,
                None => Some(language.is_empty() || language.starts_with("sh")),
            };
            continue;
        }
        match block {
            Some(true) => {
                continued.push_str(line.trim().trim_start_matches("$ "));
                if let Some(begun) = continued.strip_suffix('\\') {
                    continued.truncate(begun.len());
                    continue;
                }
                let line = std::mem::take(&mut continued);
                if line.starts_with("leadpulse ") {
                    found.push(Documented {
                        line,
                        is_whole: true,
                    });
                }
            }
            Some(false) => {}
            None => {
                let spans = line.split('`').skip(1).step_by(2);
                for span in spans.filter(|span| span.starts_with("leadpulse ")) {
                    found.push(Documented {
                        line: span.to_owned(),
                        is_whole: false,
                    });
                }
            }
        }
    }
    found
}

/// The words of a command up to a pipe, a redirection or a second command.
fn words(line: &str) -> Option<Vec<String>> {
    let words = shlex::split(line)?;
    let ends = |word: &String| matches!(word.as_str(), "|" | ">" | ">>" | "&&" | ";" | "&" | "<");
    let end = words.iter().position(ends).unwrap_or(words.len());
    Some(words[..end].to_vec())
}

/// The fault of a command; `None` for one that is understood.
fn fault(command: &Documented) -> Option<String> {
    let Some(words) = words(&command.line) else {
        return Some("quotes that do not close".to_owned());
    };
    let error = Arguments::try_parse_from(words).err()?;
    let is_help = !error.use_stderr();
    let is_shortened = matches!(
        error.kind(),
        ErrorKind::MissingRequiredArgument
            | ErrorKind::MissingSubcommand
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
            | ErrorKind::InvalidValue
    );
    if is_help || is_shortened && !command.is_whole {
        return None;
    }
    Some(error.to_string())
}

#[test]
fn every_command_of_the_documents_is_understood() {
    let mut count = 0;
    let mut faults = Vec::new();
    for path in documents() {
        for command in commands(&std::fs::read_to_string(&path).unwrap()) {
            // A list of forms, not a command.
            if !command.is_whole && command.line.contains(['…', '[', '|']) {
                continue;
            }
            count += 1;
            if let Some(fault) = fault(&command) {
                faults.push(format!("{}: {}\n{fault}", path.display(), command.line));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(count > 40, "only {count} commands were found");
}

#[test]
fn commands_are_found_in_blocks_and_sentences_and_judged() {
    let document = "Text with `leadpulse train --data d` and `other`.\n\
        ```sh\n$ leadpulse query \"PREDICT x\" \\\n  --data d | head\nleadpulse bcktest   # a comment\n```\n\
        ```json\nleadpulse is no command here\n```\n";
    let found = commands(document);
    let lines: Vec<&str> = found.iter().map(|command| command.line.as_str()).collect();
    assert_eq!(
        lines,
        [
            "leadpulse train --data d",
            "leadpulse query \"PREDICT x\" --data d | head",
            "leadpulse bcktest   # a comment"
        ]
    );
    let faulty: Vec<bool> = found
        .iter()
        .map(|command| fault(command).is_some())
        .collect();
    assert_eq!(faulty, [false, false, true]);
}

/// Commands without results: a script for a shell, and processes whose log is all that they print.
const WITHOUT_RESULTS: [&str; 3] = ["completions", "deliver", "ingest"];

/// Commands that do something, by name: those without subcommands, and those that need none.
fn doers(command: &Command, path: &str, found: &mut Vec<(String, bool)>) {
    for sub in command.get_subcommands() {
        if sub.get_name() == "help" {
            continue;
        }
        let name = format!("{path} {}", sub.get_name()).trim().to_owned();
        if !sub.is_subcommand_required_set() {
            let has_json = sub
                .get_arguments()
                .any(|one| one.get_long() == Some("json"));
            found.push((name.clone(), has_json));
        }
        doers(sub, &name, found);
    }
}

#[test]
fn every_command_with_results_prints_them_as_json() {
    let mut command = Arguments::command();
    // Global arguments reach subcommands here.
    command.build();
    let mut found = Vec::new();
    doers(&command, "", &mut found);
    let without: Vec<&str> = found
        .iter()
        .filter(|(_, has_json)| !has_json)
        .map(|(name, _)| name.as_str())
        .collect();
    let mut expected = WITHOUT_RESULTS.to_vec();
    expected.sort_by_key(|name| found.iter().position(|(known, _)| known == name));
    assert_eq!(without, expected);
    assert!(found.len() > 30, "only {found:?}");
}
