//! The program as a person or a script meets it, without a cluster.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .unwrap()
        .to_owned()
}

fn leadpulse(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_leadpulse"))
        .current_dir(folder)
        .args(arguments)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[track_caller]
fn succeeds(folder: &Path, arguments: &[&str]) -> String {
    let output = leadpulse(folder, arguments);
    let (out, error) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{arguments:?}: {out}{error}");
    out
}

#[track_caller]
fn fails(folder: &Path, arguments: &[&str], code: i32) -> String {
    let output = leadpulse(folder, arguments);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}");
    text(&output.stderr)
}

/// A folder with the shipped CRM and, where `accounts` is above 0, the files of a market.
fn crm(accounts: usize) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    succeeds(folder.path(), &["init", "--out", "."]);
    if accounts > 0 {
        let accounts = accounts.to_string();
        let days = ["--days", "200", "--out", "data"];
        let market = [&["simulate", "--accounts", accounts.as_str()][..], &days].concat();
        succeeds(folder.path(), &market);
    }
    folder
}

#[test]
fn completions_know_every_command_of_every_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = succeeds(&root(), &["completions", shell]);
        for command in ["backtest", "completions", "metrics", "until-end"] {
            assert!(script.contains(command), "{shell}: {command}");
        }
    }
}

#[test]
fn manual_pages_are_written_for_every_command() {
    let folder = tempfile::tempdir().unwrap();
    succeeds(folder.path(), &["man", "pages"]);
    for page in ["leadpulse", "leadpulse-run", "leadpulse-dlq-replay"] {
        let path = folder.path().join("pages").join(format!("{page}.1"));
        let page = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path:?}: {e}"));
        assert!(page.contains(".TH"), "{path:?}");
    }
}

#[test]
fn near_misses_are_named() {
    let folder = crm(0);
    let check = |arguments: &[&str], code: i32, meant: &str| {
        let said = fails(folder.path(), arguments, code);
        assert!(said.contains(meant), "{arguments:?}: {said}");
    };
    // Nothing at all is no name, and the language says where and what is missing.
    check(&["query", ""], 1, "Help: ");
    check(&["query", "predict"], 1, "Help: ");
    check(
        &["query", "account-win-90d"],
        1,
        "did you mean account-wins-90d?",
    );
    check(
        &[
            "train",
            "--data",
            "d",
            "--out",
            "o",
            "--task",
            "acount-wins-90d",
        ],
        1,
        "did you mean account-wins-90d?",
    );
    check(
        &["validate", "--table", "acounts", "x.jsonl"],
        1,
        "did you mean accounts?",
    );
    check(
        &["replay", "--data", "d", "--only", "contcts"],
        1,
        "did you mean contacts?",
    );
    check(
        &[
            "query",
            "PREDICT COUNT(activitis.*, 0, 90, days) > 0 FOR EACH accounts.account_id",
        ],
        1,
        "did you mean activities?",
    );
    check(
        &[
            "query",
            "PREDICT COUNT(activities.*, 0, 90, days) > 0 FOR EACH accounts.acount_id",
        ],
        1,
        "did you mean account_id?",
    );
    check(&["backtset"], 2, "backtest");
}

#[test]
fn the_last_error_is_json_where_logs_are() {
    let folder = crm(0);
    let check = |arguments: &[&str], code: i32, words: &str| {
        let said = fails(folder.path(), arguments, code);
        let last = said.trim_end().lines().last().unwrap();
        let line: serde_json::Value =
            serde_json::from_str(last).unwrap_or_else(|e| panic!("{e}: {said}"));
        assert_eq!(line["level"], "ERROR");
        assert_eq!(line["fields"]["final"], true);
        let message = line["fields"]["message"].as_str().unwrap();
        assert!(message.contains(words), "{message}");
        let at = line["timestamp"].as_str().unwrap();
        assert!(at.ends_with('Z') && at.contains('T'), "{at}");
    };
    check(
        &["--log-json", "query", "churn-9d"],
        1,
        "no task \"churn-9d\"",
    );
    check(&["--log-json", "run", "--modle", "x"], 2, "--modle");
    let said = fails(folder.path(), &["query", "churn-9d"], 1);
    assert!(said.starts_with("error: "), "{said}");
}

#[test]
fn settings_that_something_sets_are_shown_alone() {
    let folder = crm(0);
    let all = succeeds(folder.path(), &["config", "show"]);
    let changed = succeeds(folder.path(), &["config", "show", "--changed"]);
    assert_eq!(succeeds(folder.path(), &["config"]), all);
    assert!(all.lines().any(|line| line.ends_with("# default")));
    assert!(!changed.is_empty());
    for line in changed.lines() {
        assert!(!line.ends_with("# default"), "{line}");
        assert!(all.contains(line), "{line}");
    }
    assert!(
        !changed.contains("engine.epoch_floor"),
        "nothing sets it: {changed}"
    );
    let output = Command::new(env!("CARGO_BIN_EXE_leadpulse"))
        .current_dir(folder.path())
        .args(["config", "show", "--changed"])
        .env("LEADPULSE_ENGINE__EPOCH_FLOOR", "50ms")
        .output()
        .unwrap();
    assert!(text(&output.stdout).contains("engine.epoch_floor"));
}

#[test]
fn files_are_looked_at_before_a_cluster_is_asked() {
    let folder = crm(0);
    // Nothing listens at this address: a command that asked it first would say so.
    let said = fails(
        folder.path(),
        &["replay", "--data", "nowhere", "--brokers", "127.0.0.1:1"],
        1,
    );
    assert!(said.contains("nowhere"), "{said}");
    assert!(!said.contains("127.0.0.1:1"), "{said}");
}

#[test]
fn figures_come_as_one_json_object_and_lines_go_elsewhere() {
    let folder = crm(30);
    let check = |arguments: &[&str]| -> serde_json::Value {
        let out = succeeds(folder.path(), arguments);
        serde_json::from_str(&out).unwrap_or_else(|e| panic!("{arguments:?}: {e}: {out}"))
    };
    let query = check(&["query", "account-wins-90d", "--data", "data", "--json"]);
    assert_eq!(query["entity"], "accounts");
    assert!(query["labels"]["labelled"].as_u64().unwrap() > 0);
    let again = ["--accounts", "5", "--days", "20", "--out", "again"];
    let written = check(&[&["simulate", "--json"][..], &again].concat());
    assert!(written["rows"]["accounts"].as_u64().unwrap() >= 5);
    let written = check(&["init", "--out", "crm", "--json"]);
    let files = written["files"].as_array().unwrap();
    assert!(files.contains(&"leadpulse.toml".into()), "{files:?}");
    let inferred = check(&["init", "--from", "data", "--out", "inferred", "--json"]);
    assert!(inferred["files"].as_array().unwrap().len() > 3);
    assert!(inferred["doubts"].is_array() && inferred["task"].is_string());
    let sound = check(&["schema", "check", "schemas", "--json"]);
    assert_eq!(sound["sound"], true);
    assert!(sound["tables"].as_array().unwrap().len() > 3);
    let ids = check(&["schema", "ids", "schemas", "--json"]);
    assert!(ids["ids"][0]["id"].is_number());
    let settings = check(&["config", "show", "--changed", "--json"]);
    assert_eq!(settings["schemas"]["origin"], "leadpulse.toml");
    assert!(settings.get("engine.epoch_floor").is_none());
    let checked = check(&["config", "check", "--json"]);
    assert_eq!(checked["faults"], serde_json::json!([]));
    assert_eq!(check(&["man", "pages", "--json"])["dir"], "pages");
    let metrics = succeeds(folder.path(), &["metrics", "--json"]);
    let lines = succeeds(folder.path(), &["metrics", "--format", "json"]);
    assert_eq!(metrics, lines);
}

#[test]
fn faults_of_a_folder_come_as_json_with_a_failure() {
    let folder = crm(0);
    let accounts = folder.path().join("schemas/accounts.avsc");
    std::fs::write(accounts, "{}").unwrap();
    let output = leadpulse(folder.path(), &["schema", "check", "schemas", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let found: serde_json::Value = serde_json::from_str(&text(&output.stdout)).unwrap();
    assert_eq!(found["sound"], false);
    let fault = found["faults"][0].as_str().unwrap();
    assert!(
        fault.contains("'accounts', which no file defines"),
        "{fault}"
    );
}

#[test]
fn colours_stay_away_where_they_are_not_wanted() {
    let folder = crm(0);
    for arguments in [&["query", "PREDICT x"][..], &["backtset"], &["config"]] {
        let output = Command::new(env!("CARGO_BIN_EXE_leadpulse"))
            .current_dir(folder.path())
            .args(arguments)
            .env("NO_COLOR", "1")
            .env("CLICOLOR_FORCE", "1")
            .output()
            .unwrap();
        let said = text(&output.stderr) + &text(&output.stdout);
        assert!(!said.contains('\u{1b}'), "{arguments:?}: {said:?}");
    }
}

/// The demo of a market of some accounts: its lines, and its log.
fn demo(accounts: &str) -> (String, String) {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_leadpulse"))
        .current_dir(folder.path())
        .args(["demo", "--accounts", accounts, "--duration", "3s"])
        .env("LEADPULSE_SERVER__LISTEN", "127.0.0.1:0")
        .output()
        .unwrap();
    let (out, log) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{accounts}: {out}{log}");
    (out, log)
}

#[test]
fn a_demo_of_a_small_market_leaves_out_what_it_cannot_train() {
    let (out, _) = demo("50");
    assert!(out.contains("quality  "), "{out}");
    assert!(out.contains("summary  "), "{out}");
    assert!(out.contains("left out"), "{out}");
}

#[test]
fn a_first_start_warns_of_nothing() {
    let (out, log) = demo("300");
    assert!(out.contains("quality  account-wins-90d: "), "{out}");
    let warnings: Vec<&str> = log.lines().filter(|line| line.contains("WARN")).collect();
    assert_eq!(warnings, Vec::<&str>::new());
}

/// The scripts of a document's blocks that are marked `sh run`.
fn scripts(document: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut script: Option<String> = None;
    for line in document.lines() {
        match &mut script {
            Some(lines) if line == "```" => {
                found.push(std::mem::take(lines));
                script = None;
            }
            Some(lines) => {
                lines.push_str(line);
                lines.push('\n');
            }
            None if line == "```sh run" => script = Some(String::new()),
            None => {}
        }
    }
    found
}

#[test]
fn commands_of_the_documents_that_are_marked_work() {
    let bin = Path::new(env!("CARGO_BIN_EXE_leadpulse")).parent().unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let mut count = 0;
    for name in ["docs/quickstart.md", "docs/analysts.md", "docs/gallery.md"] {
        // Blocks of one document go on in the folder of those before, which has the examples.
        let folder = tempfile::tempdir().unwrap();
        let examples = folder.path().join("examples");
        std::os::unix::fs::symlink(root().join("examples"), examples).unwrap();
        let mut whole = String::from("set -eu\n");
        for script in scripts(&std::fs::read_to_string(root().join(name)).unwrap()) {
            whole.push_str(&script);
            count += 1;
        }
        let output = Command::new("sh")
            .args(["-c", &whole])
            .current_dir(folder.path())
            .env("PATH", &path)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{name}:\n{whole}\n{}{}",
            text(&output.stdout),
            text(&output.stderr)
        );
    }
    assert!(count >= 3, "{count} blocks");
}

#[test]
fn the_router_of_the_examples_delivers_once() {
    let Ok(output) = Command::new("python3")
        .args(["-m", "unittest", "discover", "deploy/examples/router"])
        .current_dir(root())
        .output()
    else {
        eprintln!("SKIPPED: python3 is not here");
        return;
    };
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("Ran 6 tests"), "{said}");
}

/// A Python with pandas and pyarrow: that of `deploy/wheel-tools.sh`, else the system's. `None` where
/// neither has them.
fn python_with_frames() -> Option<PathBuf> {
    let own = root().join(".tools/wheel/bin/python");
    let has_frames = |python: &PathBuf| {
        let output = Command::new(python)
            .args(["-c", "import pandas, pyarrow"])
            .output();
        output.is_ok_and(|output| output.status.success())
    };
    [own, PathBuf::from("python3")].into_iter().find(has_frames)
}

/// Runs Python on the package of the repository and the program under test.
fn in_python(python: &Path, arguments: &[&str]) -> Output {
    Command::new(python)
        .args(arguments)
        .current_dir(root())
        .env("PYTHONPATH", root().join("python"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("LEADPULSE_BIN", env!("CARGO_BIN_EXE_leadpulse"))
        .output()
        .unwrap()
}

#[test]
fn frames_become_a_model_with_scores_and_reasons_in_python() {
    let Some(python) = python_with_frames() else {
        eprintln!("SKIPPED: no Python with pandas and pyarrow; deploy/wheel-tools.sh makes one");
        return;
    };
    let tests = in_python(&python, &["-m", "unittest", "discover", "-s", "python"]);
    let said = text(&tests.stderr);
    assert!(tests.status.success(), "{said}");
    assert!(said.contains("Ran 4 tests"), "{said}");

    let folder = tempfile::tempdir().unwrap();
    let example = ["python/examples/market.py", folder.path().to_str().unwrap()];
    let output = in_python(&python, &example);
    let (out, log) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{out}{log}");
    let reasons = out.lines().filter(|line| line.starts_with(['+', '-']));
    assert!(reasons.count() >= 2, "{out}");
    assert!(folder.path().join("project/scored.parquet").exists());
    let is_asked = |line: &&str| line.contains("2020-08-01") || line.contains("2020-08-15");
    let rows = out.lines().filter(is_asked);
    assert_eq!(rows.count(), 2, "both rows have a score: {out}");
}
