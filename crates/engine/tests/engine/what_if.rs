//! Scores of rows that never came: they are those that the same rows bring when they come.

use std::collections::BTreeMap;

use leadpulse_engine::Machine;
use leadpulse_engine::Score;
use leadpulse_engine::explain::{ExplainRefusal, ExplainRequest};
use leadpulse_engine::what_if::{TriedRow, WhatIf, WhatIfAnswer, WhatIfRefusal};
use leadpulse_graph::DAY_MS;
use leadpulse_schema::Role;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Map, Value as Json, json};

use super::market::Market;
use super::rig::Put::{self, Double, List, Long, Text, Time};
use super::rig::{Filter, Rig, TaskSpec};
use super::scorer::by_name;

const HOUR_MS: i64 = 3_600_000;
const POLICY: &str =
    r#"{"bands":[{"name":"warm","enter":0.2},{"name":"hot","enter":0.5}],"threshold_up":"hot"}"#;

fn task(name: &'static str, table: &'static str, filter: Filter) -> TaskSpec {
    TaskSpec {
        name,
        table,
        policy: POLICY,
        filter,
    }
}

fn tasks() -> [TaskSpec; 3] {
    [
        task("buys", "accounts", Filter::Everyone),
        task("active", "accounts", Filter::ActiveWithin(7)),
        task("answers", "contacts", Filter::Everyone),
    ]
}

/// A row to send, and the same one to ask about.
struct Both {
    table: &'static str,
    at_ms: i64,
    fields: Vec<(&'static str, Owned)>,
}

#[derive(Clone)]
enum Owned {
    Text(String),
    Long(i64),
    Double(f64),
    Time(i64),
    List(Vec<&'static str>),
}

impl Owned {
    fn put(&self) -> Put<'_> {
        match self {
            Self::Text(text) => Text(text),
            Self::Long(n) => Long(*n),
            Self::Double(x) => Double(*x),
            Self::Time(ms) => Time(*ms),
            Self::List(items) => List(items),
        }
    }
    fn json(&self) -> Json {
        match self {
            Self::Text(text) => json!(text),
            Self::Long(n) | Self::Time(n) => json!(n),
            Self::Double(x) => json!(x),
            Self::List(items) => json!(items),
        }
    }
}

impl Both {
    fn words(&self) -> String {
        let fields = self.fields.iter();
        let fields: Vec<_> = fields
            .map(|(name, value)| format!("{name}={}", value.json()))
            .collect();
        format!("{} {}", self.table, fields.join(" "))
    }
    fn send(&self, rig: &Rig) {
        let fields: Vec<_> = self
            .fields
            .iter()
            .map(|(name, v)| (*name, v.put()))
            .collect();
        rig.send(self.table, self.at_ms, &fields);
    }
    /// A row that is sent has null where it has no value, so the question has, too.
    fn ask(&self, rig: &Rig) -> TriedRow {
        let table = rig.catalog.table(self.table).unwrap();
        let mut fields = Map::new();
        for field in table.fields.iter().filter(|field| field.nullable) {
            let is_partial = self
                .fields
                .iter()
                .any(|(name, _)| *name == "changed_fields");
            if table.role != Role::Event && !is_partial {
                fields.insert(field.name.clone(), Json::Null);
            }
        }
        let given = self
            .fields
            .iter()
            .filter(|(name, _)| *name != "changed_fields");
        fields.extend(given.map(|(name, value)| ((*name).to_owned(), value.json())));
        let table = self.table.to_owned();
        TriedRow { table, fields }
    }
}

/// Rows about a few accounts: fields, new people, moves, events, deals.
struct Chance(ChaCha8Rng, i64);

impl Chance {
    fn below(&mut self, n: u64) -> u64 {
        self.0.random_range(0..n)
    }
    fn pick(&mut self, items: &[&'static str]) -> Owned {
        Owned::Text(items[self.below(items.len() as u64) as usize].to_owned())
    }
    fn key(&mut self, prefix: &str, n: u64) -> Owned {
        Owned::Text(format!("{prefix}{}", self.below(n)))
    }
    fn row(&mut self, at_ms: i64) -> Both {
        self.1 += 1;
        let id = Owned::Text(format!("new-{}", self.1));
        let at = Owned::Time(at_ms);
        let (table, mut fields) = match self.below(9) {
            0 => (
                "accounts",
                vec![
                    ("account_id", self.key("A", 12)),
                    ("updated_at", at),
                    ("industry", self.pick(&["Software", "Retail", "Mining"])),
                    ("employee_count", Owned::Long(self.below(9_000) as i64)),
                    ("tech_stack", Owned::List(vec!["aws", "rust"])),
                ],
            ),
            1 => (
                "contacts",
                vec![
                    // Some are new people.
                    ("contact_id", self.key("C", 40)),
                    ("updated_at", at),
                    // Some move.
                    ("account_id", self.key("A", 13)),
                    ("seniority", self.pick(&["VP", "C-Level"])),
                    ("department", self.pick(&["Finance", "Engineering"])),
                ],
            ),
            2 => (
                "contacts",
                vec![
                    ("contact_id", self.key("C", 25)),
                    ("updated_at", at),
                    ("engagement_score", Owned::Double(self.below(100) as f64)),
                    ("changed_fields", Owned::List(vec!["engagement_score"])),
                ],
            ),
            3 => (
                "opportunity_stage_changes",
                vec![
                    ("change_id", id),
                    ("changed_at", at),
                    ("opportunity_id", self.key("O", 8)),
                    (
                        "to_stage",
                        self.pick(&["Proposal", "Closed Won", "Closed Lost"]),
                    ),
                ],
            ),
            4 => (
                "content_views",
                vec![
                    ("view_id", id),
                    ("content_type", self.pick(&["pricing", "case_study"])),
                    ("occurred_at", at),
                    ("contact_id", self.key("C", 25)),
                ],
            ),
            5 => (
                "leads",
                vec![
                    ("lead_id", self.key("L", 8)),
                    ("updated_at", at),
                    ("status", self.pick(&["Open", "SQL"])),
                    ("account_id", self.key("A", 12)),
                ],
            ),
            // The tenth of a burst, if it comes in the interval of the others.
            6 => ("activities", opening(&format!("open-{}", self.1), at_ms)),
            _ => (
                "activities",
                vec![
                    ("activity_id", id),
                    (
                        "type",
                        self.pick(&["demo_request", "email_open", "meeting"]),
                    ),
                    ("occurred_at", at),
                    ("contact_id", self.key("C", 27)),
                    ("campaign", self.pick(&["spring", "autumn"])),
                ],
            ),
        };
        match table {
            "accounts" if self.below(2) == 0 => {
                fields.push(("domain", self.pick(&["acme.com", "beta.com"])));
            }
            "contacts" if self.below(2) == 0 && fields.len() > 4 => {
                fields.push(("email", self.pick(&["x@acme.com", "x@beta.com"])));
            }
            _ => {}
        }
        Both {
            table,
            at_ms,
            fields,
        }
    }
}

/// Fields of a mail that was opened, of a campaign that a scanner reads.
fn opening(id: &str, at_ms: i64) -> Vec<(&'static str, Owned)> {
    vec![
        ("activity_id", Owned::Text(id.to_owned())),
        ("type", Owned::Text("email_open".into())),
        ("occurred_at", Owned::Time(at_ms)),
        ("contact_id", Owned::Text("C1".into())),
        ("campaign", Owned::Text("spring".into())),
    ]
}

/// A market with a first epoch, then one of a minute: its rows wait for the next board, and nine of
/// them are one short of a burst. Returns the moment of the questions, milliseconds.
fn begun(seed: u64) -> (Rig, Machine, i64) {
    let rig = Rig::new(&tasks(), by_name);
    Market::new(seed).send(&rig, 250);
    let mut machine = rig.machine();
    rig.step(&mut machine, None);
    let now_ms = machine.as_of().unwrap().ms();
    let base_ms = (now_ms / 10_000 + 1) * 10_000;
    for n in 0..9 {
        let fields = opening(&format!("opened-{n}"), base_ms + n);
        let (table, at_ms) = ("activities", base_ms + n);
        Both {
            table,
            at_ms,
            fields,
        }
        .send(&rig);
    }
    let mut chance = Chance(ChaCha8Rng::seed_from_u64(!seed), 1_000);
    (10..16).for_each(|n| chance.row(base_ms + n).send(&rig));
    rig.step(&mut machine, None);
    (rig, machine, base_ms + 20)
}

fn everybody() -> Vec<ExplainRequest> {
    let of = |task: &str, entity_type: &str, entity_id: String| ExplainRequest {
        task: task.into(),
        entity_type: entity_type.into(),
        entity_id,
    };
    let accounts =
        (0..12).flat_map(|n| ["buys", "active"].map(|task| of(task, "accounts", format!("A{n}"))));
    accounts
        .chain((0..27).map(|n| of("answers", "contacts", format!("C{n}"))))
        .collect()
}

/// Logits of the entities that have one.
fn logits(machine: &Machine) -> BTreeMap<String, f64> {
    let scored = everybody().into_iter().filter_map(|one| {
        let shown = machine.explain(&one).ok()?;
        Some((
            format!("{}/{}", one.task, one.entity_id),
            shown.record.logit.unwrap(),
        ))
    });
    scored.collect()
}

/// Groups whose contributions differ between an answer and a record, for people.
fn groups_apart(answer: &WhatIfAnswer, record: &Score) -> String {
    let mut found = String::new();
    for group in &answer.groups {
        let driver = record.drivers.iter().find(|one| one.group == group.group);
        let came = driver.map_or(0.0, |driver| driver.contribution);
        if (came - group.then).abs() > 1e-4 {
            found += &format!("{}: {} asked, {came} came; ", group.group, group.then);
        }
    }
    found
}

#[test]
fn a_question_about_rows_has_the_score_that_the_rows_bring() {
    let (mut moved, mut later, mut absent) = (0, 0, 0);
    for seed in 0..6 {
        let (rig, machine, now_ms) = begun(seed);
        let before = logits(&machine);
        let mut chance = Chance(ChaCha8Rng::seed_from_u64(seed), 0);
        for case in 0..6 {
            // Half of the questions are about days to come: boards lie between.
            let ahead_ms = match case % 2 {
                0 => chance.below(1_000) as i64,
                _ => HOUR_MS + chance.below(4 * DAY_MS as u64) as i64,
            };
            let rows: Vec<Both> = (0..1 + chance.below(4))
                .map(|_| chance.row(now_ms + ahead_ms))
                .collect();
            let question = WhatIf {
                rows: rows.iter().map(|row| row.ask(&rig)).collect(),
                as_of: None,
            };
            let answers: Vec<_> = everybody()
                .into_iter()
                .map(|one| (machine.what_if(&one, &question), one))
                .collect();
            assert_eq!(logits(&machine), before, "questions change nothing");

            let (real, mut came, _) = begun(seed);
            rows.iter().for_each(|row| row.send(&real));
            real.step(&mut came, None);
            for (answer, one) in answers {
                let shown = came.explain(&one);
                let asked: Vec<String> = rows.iter().map(Both::words).collect();
                let at = format!("seed {seed}, case {case}: {one:?} {asked:?}");
                match (answer, shown) {
                    (Ok(answer), Ok(shown)) => {
                        assert_eq!(answer.then.as_of, shown.record.as_of, "{at}");
                        let moved_by = groups_apart(&answer, &shown.record);
                        assert_eq!(answer.then.logit, shown.record.logit, "{at}: {moved_by}");
                        let sum: f64 = answer.groups.iter().map(|g| g.then).sum();
                        let base = shown.record.base_logit.unwrap();
                        let is_whole = (base + sum - shown.record.logit.unwrap()).abs() < 1e-4;
                        assert!(is_whole || answer.now.logit.is_none(), "{at}");
                        moved += i32::from(answer.then.logit != answer.now.logit);
                        later += i32::from(ahead_ms > HOUR_MS);
                    }
                    (Ok(answer), Err(ExplainRefusal::Ineligible { why, .. })) => {
                        assert_eq!(answer.then.absent, Some(why), "{at}");
                        absent += 1;
                    }
                    (Err(WhatIfRefusal::Subject(refusal)), Err(expected)) => {
                        assert_eq!(refusal, expected, "{at}");
                    }
                    other => panic!("{at}: {other:?}"),
                }
            }
        }
    }
    assert!(
        moved > 150 && later > 150 && absent > 10,
        "{moved} moved, {later} later, {absent} absent"
    );
}

#[test]
fn a_worker_that_was_asked_goes_on_as_one_that_was_not() {
    let (rig, mut market) = (Rig::new(&tasks(), by_name), Market::new(7));
    let (mut asked, mut silent) = (rig.machine(), rig.machine());
    let mut chance = Chance(ChaCha8Rng::seed_from_u64(7), 0);
    for _ in 0..10 {
        market.send(&rig, 40);
        let (ours, theirs) = (rig.step(&mut asked, None), rig.step(&mut silent, None));
        assert!(ours.sealed == theirs.sealed, "what was asked does not show");
        let now_ms = asked.as_of().unwrap().ms();
        for one in everybody() {
            let rows = (0..3)
                .map(|n| chance.row(now_ms + n * HOUR_MS).ask(&rig))
                .collect();
            let question = WhatIf { rows, as_of: None };
            let _ = asked.what_if(&one, &question);
        }
    }
}

#[test]
fn a_question_that_fits_no_table_is_refused_with_its_row() {
    let rig = Rig::new(&tasks(), by_name);
    let one = everybody().remove(0);
    let ask = |machine: &Machine, rows: Json, as_of: Option<i64>| {
        let question = json!({"rows": rows, "as_of": as_of});
        let question: WhatIf = serde_json::from_value(question).unwrap();
        machine.what_if(&one, &question).unwrap_err().to_string()
    };
    let mut machine = rig.machine();
    assert_eq!(
        ask(&machine, json!([]), None),
        "scores are still being loaded"
    );
    let at_ms = 1_700_000_000_000;
    let fields = [("account_id", Text("A0")), ("updated_at", Time(at_ms))];
    rig.send("accounts", at_ms, &fields);
    rig.step(&mut machine, None);
    let row = |table: &str, fields: Json| json!([{"table": table, "fields": fields}]);
    let cases = [
        (
            json!([]),
            None,
            "a question has 1 to 50 rows, this one has 0",
        ),
        (
            row("users", json!({})),
            None,
            "row 1 of the question: \"users\" is no table of entities or events: name one of accounts, ",
        ),
        (
            row(
                "accounts",
                json!({"account_id": "A0", "employee_count": "many"}),
            ),
            None,
            "row 1 of the question: employee_count is \"many\", and has to be a whole number",
        ),
        (
            row("accounts", json!({"account_id": "A0", "colour": 1})),
            None,
            "row 1 of the question: accounts has no field \"colour\"",
        ),
        (
            row("accounts", json!({"industry": "Retail"})),
            None,
            "row 1 of the question: a row of accounts needs its key, account_id",
        ),
        (
            row("accounts", json!({"account_id": "A0"})),
            Some(at_ms - 1),
            "the moment to score at is 1699999999999, and has to be between 1700000000000",
        ),
    ];
    for (rows, as_of, words) in cases {
        let refusal = ask(&machine, rows, as_of);
        assert!(refusal.starts_with(words), "{refusal}");
    }
}
