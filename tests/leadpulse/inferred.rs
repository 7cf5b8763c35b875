//! What `init` writes for files without ids runs as it stands.

use std::fmt::Write as _;
use std::fs;

use super::process::{arg, leadpulse};

/// Day `n` after 2023-01-01, with an hour.
fn day(n: usize, hour: usize) -> String {
    let start = jiff::civil::date(2023, 1, 1).at(0, 0, 0, 0);
    let days = i64::try_from(n).unwrap();
    let moment = start
        + jiff::Span::new()
            .days(days)
            .hours(i64::try_from(hour).unwrap());
    moment.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// Customers, their visits (no id at all) and the lines of their orders (two columns name a line).
fn write_files(folder: &std::path::Path) {
    let mut customers = "customer_id,signed_up,country\n".to_owned();
    let mut visits = "customer_id,visited_at,page\n".to_owned();
    let mut lines = "order_no,line_no,customer_id,ordered_at,amount\n".to_owned();
    let mut orders = 0;
    for customer in 0..60 {
        let country = ["NL", "DE", "FR"][customer % 3];
        writeln!(
            customers,
            "CU{customer:03},{},{country}",
            day(customer % 40, 8)
        )
        .unwrap();
        for visit in 0..25 {
            let at = 40 + (customer * 7 + visit * 13) % 330;
            let page = ["home", "pricing", "docs"][(customer + visit) % 3];
            writeln!(visits, "CU{customer:03},{},{page}", day(at, visit % 24)).unwrap();
            if (customer + visit) % 6 == 0 {
                orders += 1;
                for line in 1..=1 + visit % 3 {
                    let at = day(at + 1, 12);
                    let amount = 10 * line + customer;
                    writeln!(lines, "{orders},{line},CU{customer:03},{at},{amount}").unwrap();
                }
            }
        }
    }
    for (name, text) in [
        ("customers.csv", customers),
        ("visits.csv", visits),
        ("order_lines.csv", lines),
    ] {
        fs::write(folder.join(name), text).unwrap();
    }
}

#[test]
fn files_without_ids_are_read_by_what_init_writes() {
    let folder = tempfile::tempdir().unwrap();
    let (data, out) = (folder.path().join("data"), folder.path().join("out"));
    fs::create_dir(&data).unwrap();
    write_files(&data);
    leadpulse(&["init", "--from", arg(&data), "--out", arg(&out)]).done();
    let config = out.join("leadpulse.toml");
    let text = fs::read_to_string(&config).unwrap();
    assert!(text.contains("key = "), "{text}");
    assert!(text.contains("[[tasks.policy.actions]]"), "{text}");
    let tasks = text.split("[[tasks]]").nth(1).unwrap();
    let name = tasks.split('"').nth(1).unwrap();
    let query = |words: &[&str]| {
        let common = [
            "query",
            name,
            "--config",
            arg(&config),
            "--data",
            arg(&data),
        ];
        leadpulse(&[&common[..], words].concat()).done()
    };
    let first = query(&[]);
    assert!(!first.line("labels").starts_with('0'), "{}", first.out);
    for file in ["visits.csv", "order_lines.csv"] {
        let row = first.out.lines().find(|line| line.contains(file));
        assert!(row.is_some(), "{file} is not in\n{}", first.out);
    }

    // The same rows once more under another name are duplicates, and change no label.
    fs::copy(data.join("visits.csv"), data.join("visits-again.csv")).unwrap();
    let twice = text.replace("\"visits.csv\"", "\"visits*.csv\"");
    assert_ne!(twice, text);
    fs::write(&config, twice).unwrap();
    let second = query(&[]);
    assert_eq!(second.line("labels"), first.line("labels"));
    assert_eq!(second.line("base rate"), first.line("base rate"));
    let accepted = |file: &str| {
        let row = second.out.lines().find(|line| line.contains(file));
        row.unwrap_or_else(|| panic!("{file}\n{}", second.out))
            .to_owned()
    };
    let (one, other) = (accepted("visits.csv"), accepted("visits-again.csv"));
    let numbers = |row: &str| -> Vec<u64> {
        row.split_whitespace()
            .filter_map(|word| word.replace(',', "").parse().ok())
            .collect()
    };
    let rows = numbers(&one).iter().chain(&numbers(&other)).copied().max();
    assert_eq!(rows, Some(1500), "{one}\n{other}");
    assert!(
        numbers(&one).contains(&0) || numbers(&other).contains(&0),
        "{one}\n{other}"
    );
}

#[test]
fn a_query_tells_of_accounts_that_were_written_onto_old_events() {
    let folder = tempfile::tempdir().unwrap();
    let told = |world: &str| {
        let data = folder.path().join(world);
        let size = ["--accounts", "400", "--days", "540", "--seed", "3"];
        let simulate = ["simulate", "--world", world, "--out", arg(&data)];
        leadpulse(&[&simulate[..], &size].concat()).done();
        leadpulse(&["query", "account-wins-90d", "--data", arg(&data)]).done()
    };
    let words = "name their account before any row ties them to it";
    let backfilled = told("backfilled");
    assert!(backfilled.line("backfill").contains(words));
    let refused = backfilled.line("backfill").contains("train refuses that");
    assert!(refused, "{}", backfilled.out);
    assert!(!told("market").out.contains(words));
}
