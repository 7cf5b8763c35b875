//! Outputs and exit codes of the commands, without Kafka.

use std::path::Path;

use leadpulse_schema::parse_time_ms;
use serde_json::{Value as Json, json};

use super::dataset::{accounts, contacts};
use super::process::{Ended, arg, leadpulse, start};
use crate::harness::repository;

fn query(text: &str, more: &[&str]) -> Ended {
    leadpulse(&[&["query", text], more].concat())
}

fn set(name: &str, value: &str) -> Vec<(String, String)> {
    vec![(name.to_owned(), value.to_owned())]
}

#[test]
fn usage_errors_exit_with_2_and_failures_with_1() {
    for usage in [&[][..], &["trian"], &["train"], &["config", "--colour"]] {
        leadpulse(usage).failed(2, &[]);
    }
    leadpulse(&["simulate", "--out", "x", "--world", "flat"])
        .failed(2, &["\"flat\" is no world", "market, no-waves"]);
    let explain = [
        "explain",
        "--data",
        "nowhere",
        "--model",
        "none",
        "--task",
        "t",
        "--as-of",
        "2025-06-01",
    ];
    leadpulse(&explain).failed(2, &["<KEY>"]);
    leadpulse(&[&explain[..], &["A"]].concat())
        .failed(1, &["has no task \"t\"; there is: account-wins-90d"]);
    leadpulse(&["simulate", "--out", "x", "--start", "tomorrow"])
        .failed(2, &["is not a time; write e.g. 2011-09-09"]);
    leadpulse(&["--help"]).done();
    leadpulse(&["config", "--config", "none.toml"])
        .failed(1, &["none.toml cannot be read", "--config"]);
    let train = [
        "train",
        "--data",
        "nowhere",
        "--out",
        "never-written",
        "--task",
    ];
    leadpulse(&[&train[..], &["nope"]].concat()).failed(1, &["has no task \"nope\""]);
    leadpulse(&[&train[..], &["account-wins-90d"]].concat()).failed(
        1,
        &["nowhere holds no file that a source of leadpulse.toml names"],
    );
    leadpulse(&["replay", "--data", "nowhere", "--only", "acounts"]).failed(
        1,
        &["no schema defines the table \"acounts\"; did you mean accounts?"],
    );
    assert!(!repository().join("never-written").exists());
}

#[test]
fn a_cluster_that_does_not_answer_is_named() {
    let dataset = accounts();
    let config = dataset.config_file();
    let impatient = set("LEADPULSE_KAFKA__REQUEST_TIMEOUT_MS", "200");
    for command in [
        &[
            "run",
            "--model",
            arg(&dataset.bundle),
            "--no-http",
            "--until-end",
        ][..],
        &["replay", "--data", arg(&dataset.data)],
    ] {
        let ended = start(
            &[
                command,
                &["--config", arg(&config), "--brokers", "127.0.0.1:1"],
            ]
            .concat(),
            &impatient,
        )
        .wait();
        ended.failed(1, &["127.0.0.1:1", "is the cluster up"]);
    }
}

#[test]
fn errors_have_no_colours_outside_a_terminal() {
    let ended = leadpulse(&[
        "train",
        "--data",
        "nowhere",
        "--task",
        "account-wins-90d",
        "--out",
        "never-written",
    ]);
    assert!(
        ended.err.contains("no file matches") && !ended.err.contains('\u{1b}'),
        "{}",
        ended.err
    );
}

#[test]
fn a_bad_query_is_shown_with_its_place_and_a_hint() {
    let cases = [
        (
            "PREDICT COUNT(activities.nope, 0, 90, days) > 0 FOR EACH accounts.account_id",
            "has no column nope",
            "query:1:26",
            "it has activity_id",
        ),
        (
            "PREDICT COUNT(activities.*, 0, 90, days)",
            "does not say for whom",
            "query:1:41",
            "add FOR EACH",
        ),
        (
            "PREDICT COUNT(activities.*,\n 90, 30, days) > 0\n FOR EACH accounts.account_id",
            "the window ends before it starts",
            "query:2:2",
            "the earlier bound comes first",
        ),
    ];
    for (text, fault, place, hint) in cases {
        query(text, &[]).failed(1, &[fault, place, "here", hint]);
    }
}

#[test]
fn a_query_is_planned_and_its_labels_are_counted() {
    let plan = query("account-wins-90d", &[]).done();
    assert_eq!(
        (plan.line("entity"), plan.line("horizon")),
        ("accounts", "90 days")
    );
    assert_eq!(plan.line("meaning"), "for every row of accounts");
    assert!(
        plan.out
            .contains("predicted is the probability that #1 > 0, by day 7, 14, 30, 60, 90"),
        "{}",
        plan.out
    );

    // The query asks a day after each account became known for an activity within ten days. Of
    // three accounts only the first has one; the outcome of the fourth is not known yet.
    let data = tempfile::tempdir().unwrap();
    let account = |id: &str, day: u32| {
        format!("{{\"account_id\":\"{id}\",\"updated_at\":\"2025-01-{day:02}T00:00:00Z\"}}\n")
    };
    let activity = |id: &str, account: &str, at: &str| {
        format!(
            "{{\"activity_id\":\"{id}\",\"type\":\"call\",\"account_id\":\"{account}\",\"occurred_at\":\"2025-01-{at}:00Z\"}}\n"
        )
    };
    let accounts = [
        account("A", 1),
        account("B", 1),
        account("C", 2),
        account("D", 20),
    ]
    .concat();
    let activities = [
        activity("a", "A", "12T00:00"),
        activity("b", "B", "12T00:01"),
        activity("c", "C", "02T12:00"),
        activity("d", "D", "25T00:00"),
    ];
    std::fs::write(data.path().join("accounts.jsonl"), accounts).unwrap();
    std::fs::write(data.path().join("activities.jsonl"), activities.concat()).unwrap();
    let text = "PREDICT COUNT(activities.*, 0, 10, days) > 0 FOR EACH accounts.account_id";
    let counted = query(
        text,
        &["--data", arg(data.path()), "--anchors", "entity + 1d"],
    )
    .done();
    assert!(
        counted.line("labels").starts_with("3 at "),
        "{}",
        counted.out
    );
    assert_eq!(counted.line("base rate"), "0.3333 (1 positive)");
    let ahead = query(
        &text.replace("10", "90"),
        &["--data", arg(data.path()), "--anchors", "every 100d"],
    )
    .done();
    let remarks: Vec<&str> = ahead
        .out
        .lines()
        .filter_map(|line| line.strip_prefix("remark"))
        .collect();
    let told = [
        "the history is 22 days long: no anchor has a label",
        "anchors are 100 days apart and the query looks 90 days ahead",
    ];
    assert!(
        told.iter()
            .all(|words| remarks.iter().any(|remark| remark.contains(words))),
        "{remarks:?}"
    );
}

/// Every row of a file has an outcome that the command tells: too many refused ones end it, and
/// references that find nobody are remarked on.
#[test]
fn every_row_of_a_file_is_accounted_for() {
    let data = tempfile::tempdir().unwrap();
    let accounts: String = ["A", "B"]
        .map(|id| format!("{{\"account_id\":\"{id}\",\"updated_at\":\"2025-01-01\"}}\n"))
        .concat();
    std::fs::write(data.path().join("accounts.jsonl"), accounts).unwrap();
    let write = |bad: usize| {
        let activity = |id: usize, contact: &str, at: &str| {
            format!(
                "{{\"activity_id\":\"{id}\",\"type\":\"call\",\"account_id\":\"A\",\
                 \"contact_id\":{contact},\"occurred_at\":\"{at}\"}}\n"
            )
        };
        let mut rows: Vec<String> = (0..30)
            .map(|id| activity(id, "null", "2025-01-12"))
            .collect();
        rows[10] = activity(10, "\"nobody\"", "2025-01-12");
        rows.push(activity(3, "null", "2025-01-12"));
        rows.extend((0..bad).map(|id| activity(100 + id, "null", "12/01/25")));
        std::fs::write(data.path().join("activities.jsonl"), rows.concat()).unwrap();
    };
    let text = "PREDICT COUNT(activities.*, 0, 5, days) > 0 FOR EACH accounts.account_id";
    let arguments = ["--data", arg(data.path()), "--anchors", "entity + 1d"];

    write(1);
    let told = query(text, &arguments).done();
    let words: Vec<Vec<&str>> = told
        .out
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    let of_file = |name: &str| {
        words
            .iter()
            .find(|line| line.first() == Some(&name))
            .cloned()
    };
    assert_eq!(
        of_file("file").unwrap()[1..],
        [
            "rows",
            "refused",
            "filtered",
            "accepted",
            "duplicate",
            "late",
            "future",
            "other"
        ]
    );
    // 32 rows: one with a bad time, one a repeat.
    assert_eq!(
        of_file("activities.jsonl").unwrap()[1..],
        ["32", "1", "0", "30", "1", "0", "0", "0"]
    );
    let refused = "refused: 1 row line 32, column 'occurred_at': '12/01/25' is not a time";
    assert!(told.out.contains(refused), "{}", told.out);
    let lost =
        "activities.contact_id: 1 of 1 references name a row of contacts, of which no row was sent";
    assert!(told.out.contains(lost), "{}", told.out);

    write(3);
    query(text, &arguments).failed(
        1,
        &[
            "activities.jsonl: 3 of 34 rows are refused (8.8 %, at most 5.0 % may be)",
            "3 rows, first line 32, column 'occurred_at'",
            "--allow-bad",
        ],
    );
    query(text, &[&arguments[..], &["--allow-bad", "0.1"]].concat()).done();
}

#[test]
fn config_prints_the_source_of_each_value() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("leadpulse.toml");
    std::fs::write(
        &file,
        "schemas = \"s\"\n[engine]\nmax_records = 5\nmax_bytes = 1000000\n",
    )
    .unwrap();
    let shown = start(
        &["config", "--config", arg(&file)],
        &set("LEADPULSE_ENGINE__MAX_RECORDS", "77"),
    )
    .wait()
    .done();
    let origin = |key: &str, value: &str| {
        let line = shown
            .out
            .lines()
            .find(|line| line.starts_with(&format!("{key} = {value} ")))
            .unwrap_or_else(|| panic!("{}", shown.out));
        line.split_once('#').unwrap().1.trim().to_owned()
    };
    assert_eq!(
        origin("engine.max_records", "77"),
        "LEADPULSE_ENGINE__MAX_RECORDS"
    );
    assert_eq!(origin("engine.max_bytes", "1000000"), arg(&file));
    assert_eq!(origin("engine.epoch_floor", "\"20ms\""), "default");

    let with = |environment: &[(String, String)]| {
        start(&["config", "--config", arg(&file)], environment).wait()
    };
    with(&set("LEADPULSE_ENGINE__MAX_RECORD", "77")).failed(
        1,
        &[
            "unknown field `max_record`",
            "did you mean LEADPULSE_ENGINE__MAX_RECORDS?",
        ],
    );
    with(&set("LEADPULSE_KAFKA_BROKERS", "x:1")).failed(1, &["LEADPULSE_KAFKA__BROKERS"]);
    let old = with(&set("LEADPULSE_ENGINE__EPOCH_FLOOR_MS", "35")).done();
    assert!(
        old.out.contains("engine.epoch_floor = \"35ms\""),
        "{}",
        old.out
    );
    assert!(
        old.err.contains("engine.epoch_floor_ms is now written"),
        "{}",
        old.err
    );
    with(&set("LEADPULSE_KAFKA__BROKERS", "\"\"")).failed(1, &["kafka.brokers: must not be empty"]);
    with(&set("LEADPULSE_GRAPH__SHARDS", "many")).failed(1, &["graph.shards"]);
}

#[test]
fn a_simulated_market_is_the_same_for_the_same_seed() {
    let dir = tempfile::tempdir().unwrap();
    let files = |name: &str, seed: &str| {
        let out = dir.path().join(name);
        leadpulse(&[
            "simulate",
            "--accounts",
            "20",
            "--days",
            "60",
            "--seed",
            seed,
            "--out",
            arg(&out),
        ])
        .done();
        let mut files: Vec<_> = std::fs::read_dir(out)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        files.sort();
        files
            .iter()
            .map(|file| {
                (
                    file.file_name().unwrap().to_owned(),
                    std::fs::read(file).unwrap(),
                )
            })
            .collect::<Vec<_>>()
    };
    let first = files("first", "5");
    assert!(first.len() >= 8 && first.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() > 10_000);
    assert!(first == files("again", "5"));
    assert!(first != files("other", "6"));

    // The market begins as documented, years before the clock of a deployment that reads it.
    let line = |out: &str, table: &str| -> Json {
        let text = std::fs::read_to_string(dir.path().join(out).join(table)).unwrap();
        serde_json::from_str(text.lines().next().unwrap()).unwrap()
    };
    assert_eq!(
        line("first", "accounts.jsonl")["updated_at"],
        json!(parse_time_ms("2020-01-01").unwrap())
    );
    let out = dir.path().join("of 2021");
    leadpulse(&[
        "simulate",
        "--accounts",
        "5",
        "--days",
        "3",
        "--start",
        "2021-03-01",
        "--out",
        arg(&out),
    ])
    .done();
    assert_eq!(
        line("of 2021", "accounts.jsonl")["updated_at"],
        json!(parse_time_ms("2021-03-01").unwrap())
    );
    assert!(
        leadpulse(&["simulate", "--help"])
            .done()
            .out
            .contains("[default: 2020-01-01]")
    );
}

/// The shipped schemas with one replacement in one file.
fn schemas(dir: &Path, file: &str, from: &str, to: &str) {
    for entry in std::fs::read_dir(repository().join("schemas"))
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|e| e.path().is_file())
    {
        let json = std::fs::read_to_string(entry.path()).unwrap();
        let is_changed = entry.file_name() == file;
        assert!(!is_changed || json.contains(from), "{file} has no {from}");
        std::fs::write(
            dir.join(entry.file_name()),
            if is_changed {
                json.replacen(from, to, 1)
            } else {
                json
            },
        )
        .unwrap();
    }
}

#[test]
fn schema_check_names_file_record_and_field_of_each_fault() {
    let sound = leadpulse(&["schema", "check", "schemas"]).done();
    assert!(
        sound.out.contains("root    accounts") && sound.out.contains("schemas is sound"),
        "{}",
        sound.out
    );
    let cases = [
        (
            "contacts.avsc",
            r#""ref": "accounts", "owner": true"#,
            r#""ref": "acounts", "owner": true"#,
            ["Contact", "account_id", "'acounts'"],
        ),
        (
            "contacts.avsc",
            r#""label": true"#,
            r#""key": true"#,
            ["Contact", "name", "key"],
        ),
        (
            "activities.avsc",
            r#""time": true"#,
            r#""group": "history""#,
            ["Activity", "activities.avsc", "time"],
        ),
        (
            "leads.avsc",
            r#""type": "record""#,
            r#""type": "recrod""#,
            ["leads.avsc", "Lead", "Avro"],
        ),
    ];
    for (file, from, to, words) in cases {
        let dir = tempfile::tempdir().unwrap();
        schemas(dir.path(), file, from, to);
        leadpulse(&["schema", "check", arg(dir.path())]).failed(1, &[&[file][..], &words].concat());
    }
}

#[test]
fn records_of_a_file_are_judged_as_a_run_would() {
    let dir = tempfile::tempdir().unwrap();
    let schemas = repository().join("schemas");
    let config = dir.path().join("leadpulse.toml");
    let text = format!(
        "schemas = {:?}\n[[sources]]\ntable = \"contacts\"\nfile = \"contacts.jsonl\"\n\
         [[sources]]\ntable = \"accounts\"\nfile = \"accounts.jsonl\"\n",
        arg(&schemas)
    );
    std::fs::write(&config, text).unwrap();
    let file = |name: &str, lines: &[&str]| {
        let path = dir.path().join(name);
        std::fs::write(&path, lines.join("\n")).unwrap();
        path
    };
    let accounts = r#"{"account_id": "A1", "updated_at": "2026-01-01", "domain": "acme.example"}"#;
    file("accounts.jsonl", &[accounts]);
    let good = [
        r#"{"contact_id": "C1", "updated_at": "2026-02-01", "account_id": "A1", "name": "Jo"}"#,
        r#"{"contact_id": "C1", "updated_at": "2026-01-01", "account_id": "A1"}"#,
        r#"{"contact_id": "C2", "updated_at": "2026-02-01", "email": "x@acme.example"}"#,
    ];
    let sound = file("contacts.jsonl", &good);
    let judge = |path: &Path, more: &[&str]| {
        let command = ["validate", "--config", arg(&config), "--table", "contacts"];
        leadpulse(&[&command[..], more, &[arg(path)]].concat())
    };
    let ended = judge(&sound, &["--data", arg(dir.path())]).done();
    for words in [
        "row 1  contacts  accepted",
        "upsert of C1, at 2026-02-01T00:00:00Z",
        "belongs to accounts A1",
        "name = \"Jo\"",
        "row 3",
        "never fed    contacts: ",
    ] {
        assert!(ended.out.contains(words), "{words:?} in {}", ended.out);
    }
    let json: Vec<Json> = judge(&sound, &["--json"])
        .done()
        .out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let outcomes: Vec<&Json> = json[..3].iter().map(|one| &one["outcome"]).collect();
    assert_eq!(outcomes, ["accepted", "stepped_back", "accepted"]);
    assert_eq!(
        json[2]["row"]["owner"],
        "the domain acme.example, which no account has yet"
    );
    assert_eq!(
        json[3]["summary"]["outcomes"],
        json!({"accepted": 2, "stepped_back": 1})
    );

    let bad = file(
        "bad.jsonl",
        &[
            good[0],
            r#"{"contact_id": "C3", "updated_at": "soon"}"#,
            good[2],
        ],
    );
    let ended = judge(&bad, &["--refused"]).failed(1, &["1 of 3 records cannot be used"]);
    assert_eq!(ended.out.lines().count(), 3, "{}", ended.out);
    assert!(
        ended.out.contains("bad_row") && ended.out.contains("updated_at"),
        "{}",
        ended.out
    );
    let unknown = [
        "validate",
        "--config",
        arg(&config),
        "--table",
        "contracts",
        arg(&bad),
    ];
    leadpulse(&unknown).failed(1, &["contracts"]);
    leadpulse(&["validate", "--config", arg(&config)]).failed(2, &["--table", "FILE"]);
}

#[test]
fn explanations_have_the_scores_of_a_backtest() {
    let dataset = contacts();
    let as_of_ms = parse_time_ms("2020-05-31").unwrap();
    let (asked, perhaps) = dataset.population_at(as_of_ms);
    let everyone = dataset.entities_at(as_of_ms);
    let outside = everyone.difference(&perhaps).next().unwrap();
    let keys: Vec<&String> = asked.iter().take(3).chain([outside]).collect();
    let expected = dataset.backtest(as_of_ms, keys.iter().copied());

    let config = dataset.config_file();
    let explain = |more: &[&str]| {
        let args = [
            "explain",
            "--config",
            arg(&config),
            "--data",
            arg(&dataset.data),
            "--model",
            arg(&dataset.bundle),
            "--task",
            dataset.task,
        ];
        leadpulse(&[&args[..], &["--as-of", "2020-05-31"], more].concat())
    };
    let names: Vec<&str> = keys.iter().map(|key| key.as_str()).collect();
    let told = explain(&[&["--json"], &names[..]].concat()).done();
    let told: Vec<Json> = told
        .out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(told.len(), keys.len());
    for (one, key) in told.iter().zip(&keys) {
        let is_outside = *key == outside;
        assert_eq!(
            (&one["task"], &one["entity_type"], &one["entity_id"]),
            (&json!(dataset.task), &json!("contacts"), &json!(key))
        );
        assert_eq!(
            (&one["as_of"], &one["status"]),
            (
                &json!(as_of_ms),
                &json!(if is_outside { "ineligible" } else { "scored" })
            )
        );
        assert_eq!(
            one["reason"],
            if is_outside {
                json!("outside the task's population")
            } else {
                Json::Null
            }
        );
        let (probability, logit) = (
            one["probability"].as_f64().unwrap(),
            one["logit"].as_f64().unwrap(),
        );
        assert!(
            (probability - expected[*key]).abs() < 1e-9
                && (probability - 1.0 / (1.0 + (-logit).exp())).abs() < 1e-9,
            "{one}"
        );
        let drivers = one["drivers"].as_array().unwrap();
        let moved: f64 = drivers
            .iter()
            .map(|driver| driver["contribution"].as_f64().unwrap())
            .sum();
        assert!(
            (one["base_logit"].as_f64().unwrap() + moved - logit).abs() < 1e-4,
            "{one}"
        );
        assert_eq!(
            drivers
                .iter()
                .map(|driver| driver["share"].as_i64().unwrap().abs())
                .sum::<i64>(),
            100,
            "{one}"
        );
        assert!(
            drivers
                .iter()
                .any(|driver| !driver["evidence"].as_array().unwrap().is_empty()),
            "{one}"
        );
    }

    let page = explain(&[outside]).done();
    assert_eq!(page.line("entity"), format!("{outside} of contacts"));
    assert_eq!(
        page.line("probability"),
        format!("{:.4}", expected[outside])
    );
    assert_eq!(page.line("ineligible"), "outside the task's population");
    let driver = &told[3]["drivers"][0];
    let line = format!("{:>+8.3}", driver["contribution"].as_f64().unwrap());
    assert!(
        page.line(&line).contains(driver["label"].as_str().unwrap()),
        "{}",
        page.out
    );

    explain(&[outside, "nobody", "no-one"]).failed(1, &["contacts: nobody, no-one"]);
}

/// A copy of a bundle with a change in one file.
fn damaged(bundle: &Path, file: &str, change: impl Fn(Vec<u8>) -> Vec<u8>) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(bundle)
        .unwrap()
        .map(|entry| entry.unwrap())
    {
        let bytes = std::fs::read(entry.path()).unwrap();
        std::fs::write(
            dir.path().join(entry.file_name()),
            if entry.file_name() == file {
                change(bytes)
            } else {
                bytes
            },
        )
        .unwrap();
    }
    dir
}

#[test]
fn a_bundle_that_does_not_fit_is_refused() {
    let dataset = accounts();
    let dir = tempfile::tempdir().unwrap();
    let (config, rows, out) = (
        dataset.config_file(),
        dir.path().join("rows.csv"),
        dir.path().join("out.csv"),
    );
    std::fs::write(&rows, "timestamp,account_id,label\n2020-05-31,A00001,0\n2020-05-31,nobody,1\n2020-05-31,A00002,1\n").unwrap();
    let backtest = |bundle: &Path, environment: &[(String, String)]| {
        let args = [
            "backtest",
            "--config",
            arg(&config),
            "--data",
            arg(&dataset.data),
            "--task",
            dataset.task,
        ];
        start(
            &[
                &args[..],
                &[
                    "--model",
                    arg(bundle),
                    "--rows",
                    arg(&rows),
                    "--out",
                    arg(&out),
                ],
            ]
            .concat(),
            environment,
        )
        .wait()
    };
    let good = backtest(&dataset.bundle, &[]).done();
    assert_eq!(
        good.line("rows"),
        "3 (2 scored, 1 of entities not known yet)"
    );
    assert_eq!(
        std::fs::read_to_string(&out).unwrap().lines().nth(2),
        Some("2020-05-31,nobody,1,")
    );

    let other_plan = backtest(
        &dataset.bundle,
        &set("LEADPULSE_GRAPH__HALF_LIVES_DAYS", "[1.0, 10.0]"),
    );
    other_plan.failed(1, &["was trained with feature plan", "train again"]);
    let flipped = damaged(&dataset.bundle, "weights-0.bpk", |mut bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        bytes
    });
    backtest(flipped.path(), &[])
        .failed(1, &["weights-0.bpk was changed or damaged", "train again"]);
    let cut_off = damaged(&dataset.bundle, "manifest.json", |bytes| {
        bytes[..100].to_vec()
    });
    backtest(cut_off.path(), &[]).failed(
        1,
        &[
            "manifest.json is not a bundle file",
            "train the bundle again",
        ],
    );
    backtest(Path::new("no-bundle"), &[]).failed(
        1,
        &[
            "cannot read no-bundle/manifest.json",
            "check that the bundle's folder exists",
        ],
    );
    backtest(&contacts().bundle, &[]).failed(1, &[dataset.task, contacts().task]);
}
