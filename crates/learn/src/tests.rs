//! Training, judging and refusing on a small market of files.

mod coverage;
mod late;
mod sampled;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::Arc;

use leadpulse_features::{Explanation, FeatureBatch, FeaturePlan, Scorer, ScorerTask};
use leadpulse_graph::{CellRef, GraphOptions, Tracking};
use leadpulse_model::{ExampleSet, FitOptions, Outcome, Regularisation};
use leadpulse_schema::units::{DAY_MS, DAY_MS_F64};
use leadpulse_schema::{Catalog, FileOptions, Role, Row, RowBatch, TextRow, TextTable};

use leadpulse_history::{FileSource, Files, REFUSED_RATIO};

use leadpulse_project::{Project, TaskPlan, TaskSource};
use leadpulse_schema::units::AsOf;

use crate::*;

const ACCOUNTS: &str = r#"{"type":"record","name":"Account","leadpulse":{"table":"accounts","role":"root"},"fields":[
  {"name":"id","type":"string","leadpulse":{"key":true}},
  {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"},"leadpulse":{"time":true}},
  {"name":"industry","type":["null","string"],"default":null,"leadpulse":{"feature":"category"}}]}"#;
const CONTACTS: &str = r#"{"type":"record","name":"Contact","leadpulse":{"table":"contacts","role":"member"},"fields":[
  {"name":"id","type":"string","leadpulse":{"key":true}},
  {"name":"account","type":["null","string"],"default":null,"leadpulse":{"ref":"accounts","owner":true}},
  {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"},"leadpulse":{"time":true}},
  {"name":"role","type":["null","string"],"default":null,"leadpulse":{"values":["user","boss"]}},
  {"name":"source","type":["null","string"],"default":null,"leadpulse":{"static":true}}]}"#;
const VISITS: &str = r#"{"type":"record","name":"Visit","leadpulse":{"table":"visits","role":"event"},"fields":[
  {"name":"id","type":"string","leadpulse":{"key":true}},
  {"name":"contact","type":"string","leadpulse":{"ref":"contacts","owner":true}},
  {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"},"leadpulse":{"time":true}},
  {"name":"page","type":["null","string"],"default":null,"leadpulse":{"values":["blog","pricing"]}}]}"#;
const DEALS: &str = r#"{"type":"record","name":"Deal","leadpulse":{"table":"deals","role":"event"},"fields":[
  {"name":"id","type":"string","leadpulse":{"key":true}},
  {"name":"account","type":"string","leadpulse":{"ref":"accounts","owner":true}},
  {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"},"leadpulse":{"time":true}},
  {"name":"stage","type":["null","string"],"default":null,"leadpulse":{"values":["won","lost"]}},
  {"name":"amount","type":["null","double"],"default":null}]}"#;

pub(crate) const WINS: &str =
    "PREDICT COUNT(deals.* WHERE deals.stage = 'won', 0, 30, days) > 0 FOR EACH accounts.id";
const VALUE: &str = "PREDICT SUM(deals.amount, 0, 30, days) FOR EACH accounts.id";
const PRICING: &str = "PREDICT COUNT(visits.* WHERE visits.page = 'pricing', 0, 20, days) > 0 FOR EACH contacts.id WHERE contacts.role = 'user'";
const BOSSES: &str = "PREDICT BOOL(contacts.role = 'boss', 0, 40, days) FOR EACH contacts.id";

/// A number generator of a few lines: the same market everywhere.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> f64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }
    fn below(&mut self, n: usize) -> usize {
        (self.next() * n as f64) as usize
    }
}

/// One row of a table: when it is known, and its columns.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    table: &'static str,
    known_ms: i64,
    columns: Vec<String>,
}

const DAYS: i64 = 300;
const HEADERS: [(&str, &str); 4] = [
    ("accounts", "known,id,at,industry"),
    ("contacts", "known,id,account,at,role,source"),
    ("visits", "known,id,contact,at,page"),
    ("deals", "known,id,account,at,stage,amount"),
];

/// Accounts become interested now and then: their contacts look at prices, and soon after there is
/// a deal.
pub(crate) fn market(seed: u64) -> Vec<Line> {
    const ACCOUNTS: usize = 70;
    let mut dice = Dice(seed);
    let mut lines = Vec::new();
    let mut add = |table, at_ms: i64, late_ms: i64, columns: Vec<String>| {
        lines.push(Line {
            table,
            known_ms: at_ms + late_ms,
            columns,
        });
    };
    let mut number = 0;
    for a in 0..ACCOUNTS {
        let mut visit =
            |dice: &mut Dice,
             day: f64,
             page: &str,
             add: &mut dyn FnMut(&'static str, i64, i64, Vec<String>)| {
                let at_ms = ((day + dice.next()) * DAY_MS_F64) as i64;
                // One row in ten comes two weeks late.
                let late_ms = if dice.next() < 0.1 { 14 * DAY_MS } else { 0 };
                number += 1;
                let contact = format!("c{a}-{}", dice.below(3));
                add(
                    "visits",
                    at_ms,
                    late_ms,
                    vec![
                        format!("v{number}"),
                        contact,
                        at_ms.to_string(),
                        page.into(),
                    ],
                );
            };
        add(
            "accounts",
            0,
            0,
            vec![
                format!("a{a}"),
                "0".into(),
                ["steel", "paper"][a % 2].into(),
            ],
        );
        for c in 0..3 {
            let row = |at: i64, role: &str| {
                vec![
                    format!("c{a}-{c}"),
                    format!("a{a}"),
                    at.to_string(),
                    role.into(),
                    "web".into(),
                ]
            };
            add("contacts", DAY_MS, 0, row(DAY_MS, "user"));
            if dice.next() < 0.6 {
                let at_ms = DAY_MS * (20 + dice.below(270) as i64);
                add("contacts", at_ms, 0, row(at_ms, "boss"));
            }
        }
        let mut interested = false;
        for day in 2..DAYS {
            interested = if interested {
                dice.next() > 0.04
            } else {
                dice.next() < 0.008
            };
            if dice.next() < 0.05 {
                visit(&mut dice, day as f64, "blog", &mut add);
            }
            if interested && dice.next() < 0.5 {
                visit(&mut dice, day as f64, "pricing", &mut add);
            }
            if dice.next() < if interested { 0.04 } else { 0.001 } {
                let at_ms = day * DAY_MS;
                let (stage, amount) = if dice.next() < 0.7 {
                    ("won", 100 * (1 + dice.below(9)))
                } else {
                    ("lost", 0)
                };
                let late_ms = if dice.next() < 0.2 { 9 * DAY_MS } else { 0 };
                add(
                    "deals",
                    at_ms,
                    late_ms,
                    vec![
                        format!("d{a}-{day}"),
                        format!("a{a}"),
                        at_ms.to_string(),
                        stage.into(),
                        amount.to_string(),
                    ],
                );
            }
        }
    }
    lines
}

/// A market's files and project.
pub(crate) struct Ground {
    _folder: tempfile::TempDir,
    pub(crate) project: Project,
    sources: Vec<FileSource>,
    pub(crate) files: Files,
}

pub(crate) fn ground(lines: &[Line], queries: &[(&str, &str)]) -> Ground {
    let schemas = [
        ("accounts.avsc", ACCOUNTS),
        ("contacts.avsc", CONTACTS),
        ("visits.avsc", VISITS),
        ("deals.avsc", DEALS),
    ];
    ground_of(&schemas, &HEADERS, lines, queries)
}

fn ground_of(
    schemas: &[(&str, &str)],
    headers: &[(&str, &str)],
    lines: &[Line],
    queries: &[(&str, &str)],
) -> Ground {
    let folder = tempfile::tempdir().unwrap();
    let catalog =
        Arc::new(Catalog::from_json(schemas).unwrap_or_else(|faults| panic!("{faults:?}")));
    let sources = headers.iter().map(|(table, header)| {
        let mut text = format!("{header}\n");
        for line in lines.iter().filter(|line| line.table == *table) {
            writeln!(text, "{},{}", line.known_ms, line.columns.join(",")).unwrap();
        }
        let path = folder.path().join(format!("{table}.csv"));
        std::fs::write(&path, text).unwrap();
        // The histories of these tests begin in 1970.
        let times = catalog
            .table(table)
            .unwrap()
            .fields
            .iter()
            .filter_map(|field| {
                (field.data_type == leadpulse_schema::DataType::Time).then_some(field.name.as_str())
            });
        let since_1970 = |name: &str| {
            (
                name.to_owned(),
                serde_json::json!({"unit": "millis", "from": "1970-01-01"}),
            )
        };
        let times: serde_json::Map<String, serde_json::Value> =
            times.chain(["known"]).map(since_1970).collect();
        let options = FileOptions {
            known_time: Some("known".into()),
            shape: serde_json::from_value(serde_json::json!({ "times": times })).unwrap(),
            ..FileOptions::default()
        };
        FileSource {
            table: catalog.table(table).unwrap().id,
            path,
            options,
            refused_ratio: REFUSED_RATIO,
        }
    });
    let sources: Vec<FileSource> = sources.collect();
    let files = Files::prepare(catalog.clone(), &sources).unwrap();
    let tasks: Vec<TaskSource> = queries
        .iter()
        .map(|(name, query)| TaskSource {
            lateness_ms: None,
            name: (*name).into(),
            query: (*query).into(),
            anchors: "every 5d".parse().unwrap(),
        })
        .collect();
    let project = Project::new(catalog, GraphOptions::default(), &tasks, &BTreeMap::new())
        .unwrap_or_else(|error| panic!("{error}"));
    Ground {
        _folder: folder,
        project,
        sources,
        files,
    }
}

impl Ground {
    fn tasks(&self) -> Vec<&TaskPlan> {
        self.project.tasks.iter().collect()
    }

    fn collected(&self, split: Split) -> (FeaturePlan, Vec<Collected>) {
        self.collected_with(split, Sampling::ALL)
    }

    fn collected_with(&self, split: Split, sampling: Sampling) -> (FeaturePlan, Vec<Collected>) {
        let survey = survey(&self.project, &self.files, Some(split.val_from_ms)).unwrap();
        let plan = self.project.feature_plan(survey.spec);
        let harvest = Harvest {
            project: &self.project,
            tasks: &self.tasks(),
            files: &self.files,
            plan: &plan,
            extent: survey.extent,
            lateness: &survey.lateness,
            split,
            warmup_ms: 20 * DAY_MS,
            sampling,
        };
        let (collected, _) = collect(harvest, &mut |_| {}).unwrap();
        (plan, collected)
    }

    fn train(
        &self,
        names: &[&str],
        seed: u64,
    ) -> Result<(leadpulse_model::Bundle, TrainReport), LearnError> {
        self.train_with(names, seed, &TrainOptions::default(), false)
    }

    /// Trains tasks, which may be left out if they are optional.
    fn train_with(
        &self,
        names: &[&str],
        seed: u64,
        options: &TrainOptions,
        is_optional: bool,
    ) -> Result<(leadpulse_model::Bundle, TrainReport), LearnError> {
        let fit = FitOptions {
            candidates: vec![Regularisation {
                hidden: 32,
                // Tasks share a trunk where networks read members.
                members: true,
                ..Regularisation::default()
            }],
            ensemble: 1,
            selection_members: 1,
            max_epochs: 4,
            batch_size: 64,
            seed,
            ..FitOptions::default()
        };
        let tasks: Vec<TrainTask<'_>> = names
            .iter()
            .map(|name| TrainTask {
                plan: self.project.task(name).unwrap(),
                fit: fit.clone(),
                is_optional,
            })
            .collect();
        let options = TrainOptions {
            val_from_ms: Some(160 * DAY_MS),
            test_from_ms: Some(220 * DAY_MS),
            refit: true,
            ..options.clone()
        };
        train(&self.project, &tasks, &self.files, &options, &mut |_| {})
    }
}

/// A scorer without parameters to learn: every number of a cell moves the logit.
struct Sum {
    plan: FeaturePlan,
    tasks: Vec<ScorerTask>,
}

impl Scorer for Sum {
    fn bundle_id(&self) -> &str {
        "sum"
    }
    fn plan(&self) -> &FeaturePlan {
        &self.plan
    }
    fn tasks(&self) -> &[ScorerTask] {
        &self.tasks
    }
    fn logits(&self, batch: &FeatureBatch, task: usize) -> Vec<f64> {
        let add = |values: &[f32]| {
            values
                .iter()
                .enumerate()
                .map(|(i, x)| f64::from(*x) / (i + 2) as f64)
                .sum::<f64>()
        };
        let width = self.plan.layout().root.len();
        let roots: Vec<f64> = batch.root.chunks(width).map(add).collect();
        let entity = self.tasks[task].entity;
        let Some(table) = self
            .plan
            .layout()
            .members
            .iter()
            .position(|m| m.table == entity)
        else {
            return roots;
        };
        let block = &batch.members[table];
        (0..batch.cells * block.slots)
            .map(|i| {
                roots[i / block.slots] + add(&block.values[i * block.width..(i + 1) * block.width])
            })
            .collect()
    }
    fn explain(&self, _: &FeatureBatch, _: usize, _: usize, _: usize) -> Explanation {
        unreachable!("no test explains")
    }
}

/// Everything known after a moment becomes something else.
fn altered(lines: &[Line], after_ms: i64, seed: u64) -> Vec<Line> {
    let mut dice = Dice(seed);
    let mut altered = Vec::new();
    for line in lines.iter().filter(|line| line.known_ms > after_ms) {
        for copy in 0..dice.below(3) {
            let mut line = line.clone();
            line.known_ms += dice.below(30) as i64 * DAY_MS;
            match line.table {
                // Another event of someone else, at a time that may lie before the moment.
                "visits" | "deals" => {
                    line.columns[0] = format!("x{copy}{}", line.columns[0]);
                    line.columns[1] = if line.table == "deals" {
                        format!("a{}", dice.below(70))
                    } else {
                        format!("c{}-{}", dice.below(70), dice.below(3))
                    };
                    line.columns[2] = (line.columns[2].parse::<i64>().unwrap()
                        - dice.below(60) as i64 * DAY_MS)
                        .max(0)
                        .to_string();
                    line.columns[3] = ["blog", "pricing", "won", "lost"][dice.below(4)].into();
                }
                // A contact goes elsewhere.
                "contacts" => line.columns[1] = format!("a{}", dice.below(70)),
                _ => {}
            }
            altered.push(line);
        }
    }
    for i in (1..altered.len()).rev() {
        altered.swap(i, dice.below(i + 1));
    }
    // What was known stays as it was, behind all that was not.
    altered.extend(
        lines
            .iter()
            .filter(|line| line.known_ms <= after_ms)
            .cloned(),
    );
    altered
}

#[test]
fn what_is_known_later_changes_no_example_and_no_score() {
    let queries = [
        ("wins", WINS),
        ("value", VALUE),
        ("pricing", PRICING),
        ("bosses", BOSSES),
    ];
    let split = Split {
        val_from_ms: 150 * DAY_MS,
        test_from_ms: 220 * DAY_MS,
    };
    let lines = market(1);
    let before = ground(&lines, &queries);
    let (plan, examples) = before.collected(split);
    let mut asked: Vec<[String; 3]> = Vec::new();
    for (account, day) in (0..70).flat_map(|a| [40, 90, 131, 150].map(|day| (a, day * DAY_MS))) {
        for (task, key) in [
            ("wins", format!("a{account}")),
            ("pricing", format!("c{account}-1")),
        ] {
            asked.push([task.to_owned(), day.to_string(), key]);
        }
    }
    let asked = TextTable {
        columns: ["task", "timestamp", "key"].map(str::to_owned).into(),
        rows: (2..)
            .zip(asked)
            .map(|(line, cells)| TextRow {
                line,
                cells: cells.map(Some).into(),
            })
            .collect(),
    };
    let score = |ground: &Ground| {
        let entity = |name: &str| ScorerTask {
            name: name.into(),
            entity: ground.project.task(name).unwrap().plan.entity,
            horizon_ms: 0,
            quality: None,
            interval_logits: None,
        };
        let survey = survey(&ground.project, &ground.files, Some(split.val_from_ms)).unwrap();
        let scorer = Sum {
            plan: ground.project.feature_plan(survey.spec),
            tasks: vec![entity("wins"), entity("pricing")],
        };
        let tasks = [
            ground.project.task("wins").unwrap(),
            ground.project.task("pricing").unwrap(),
        ];
        let job = Backtest {
            project: &ground.project,
            tasks: &tasks,
            files: &ground.files,
            scorer: &scorer,
            freeze_at_ms: None,
            baselines: Baselines::default(),
        };
        let mut out = Vec::new();
        let columns = GivenColumns::default();
        let name = "asked".to_owned();
        let rows = GivenRows::of_table(name, asked.clone(), &columns, &ground.project, &tasks);
        let out_table = OutTable::csv(&mut out);
        let judged = backtest(&job, &rows.unwrap(), out_table, &mut |_| {}).unwrap();
        let judged = judged.tasks;
        assert!(judged.iter().all(|j| j.scored == 280), "{judged:?}");
        String::from_utf8(out).unwrap()
    };
    let scores = score(&before);
    for seed in 1..4 {
        let after = ground(&altered(&lines, split.val_from_ms, seed), &queries);
        let (other_plan, others) = after.collected(split);
        assert_eq!(plan.hash(), other_plan.hash());
        for ((examples, others), (name, _)) in examples.iter().zip(&others).zip(queries) {
            let (a, b) = (&examples.training, &others.training);
            assert!(a.len() > 500, "{name}: {}", a.len());
            let facts = |set: &ExampleSet| {
                set.examples()
                    .iter()
                    .map(|e| (e.anchor_ms, e.entity, e.slot, e.outcome))
                    .collect::<Vec<_>>()
            };
            assert!(facts(a) == facts(b), "{name}, altered with seed {seed}");
            let all: Vec<usize> = (0..a.len()).collect();
            let (a, b) = (a.feature_batch(&all), b.feature_batch(&all));
            assert!(
                a.root == b.root
                    && a.members
                        .iter()
                        .zip(&b.members)
                        .all(|(a, b)| a.values == b.values && a.mask == b.mask),
                "{name}, {seed}"
            );
        }
        assert!(
            examples[0]
                .refit
                .examples()
                .iter()
                .zip(others[0].refit.examples())
                .any(|(a, b)| a.outcome != b.outcome),
            "something changed"
        );
        assert!(scores == score(&after), "altered with seed {seed}");
    }
}

#[test]
fn outcomes_count_from_when_they_are_known() {
    let line = |table, known: i64, columns: &[&str]| Line {
        table,
        known_ms: known * DAY_MS,
        columns: columns.iter().map(|c| (*c).to_owned()).collect(),
    };
    let day = |day: i64| (day * DAY_MS).to_string();
    let mut lines = vec![
        line("accounts", 0, &["a", "0", "steel"]),
        // Won on day 60; the warehouse heard of it on day 110.
        line("deals", 110, &["d", "a", &day(60), "won", "500"]),
    ];
    for visit in 0..300 {
        lines.push(line(
            "visits",
            visit,
            &[&format!("v{visit}"), "c", &day(visit), "blog"],
        ));
    }
    lines.push(line("contacts", 0, &["c", "a", "0", "user", "web"]));
    let ground = ground(&lines, &[("wins", WINS), ("value", VALUE)]);
    let split = Split {
        val_from_ms: 100 * DAY_MS,
        test_from_ms: 200 * DAY_MS,
    };
    let (_, collected) = ground.collected(split);
    let covering = |set: &ExampleSet| {
        let around = |anchor: i64| (31 * DAY_MS..60 * DAY_MS).contains(&anchor);
        set.examples()
            .iter()
            .filter(|e| around(e.anchor_ms))
            .map(|e| e.outcome)
            .collect::<Vec<_>>()
    };
    let [wins, value] = &collected[..] else {
        panic!("two tasks")
    };
    assert!(covering(&wins.training).len() >= 4);
    assert!(
        covering(&wins.training)
            .iter()
            .all(|o| matches!(o, Outcome::Hazard { after_ms: None, .. }))
    );
    assert!(covering(&wins.refit).iter().all(|o| matches!(
        o,
        Outcome::Hazard {
            after_ms: Some(_),
            ..
        }
    )));
    assert!(
        covering(&value.training)
            .iter()
            .all(|o| *o == Outcome::Value(0.0))
    );
    assert!(
        covering(&value.refit)
            .iter()
            .all(|o| *o == Outcome::Value(500.0))
    );
    assert_eq!(
        (wins.training_tally.positive, value.training_tally.positive),
        (0, 0)
    );
}

#[test]
fn a_lead_wins_with_the_contact_it_became() {
    const LEADS: &str = r#"{"type":"record","name":"Lead","leadpulse":{"table":"leads","role":"member"},"fields":[
      {"name":"id","type":"string","leadpulse":{"key":true}},
      {"name":"account","type":["null","string"],"default":null,"leadpulse":{"ref":"accounts","owner":true}},
      {"name":"contact","type":["null","string"],"default":null,"leadpulse":{"ref":"contacts","became":true}},
      {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"},"leadpulse":{"time":true}}]}"#;
    const CALLS: &str = r#"{"type":"record","name":"Call","leadpulse":{"table":"calls","role":"event"},"fields":[
      {"name":"id","type":"string","leadpulse":{"key":true}},
      {"name":"contact","type":["null","string"],"default":null,"leadpulse":{"ref":"contacts","owner":true}},
      {"name":"lead","type":["null","string"],"default":null,"leadpulse":{"ref":"leads","owner":true}},
      {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"},"leadpulse":{"time":true}}]}"#;
    let line = |table, day: i64, columns: &[&str]| {
        let columns = columns
            .iter()
            .map(|c| {
                if *c == "at" {
                    (day * DAY_MS).to_string()
                } else {
                    (*c).to_owned()
                }
            })
            .collect();
        Line {
            table,
            known_ms: day * DAY_MS,
            columns,
        }
    };
    let mut lines = vec![
        line("accounts", 0, &["a", "at", "steel"]),
        line("contacts", 1, &["c", "a", "at", "user", "web"]),
    ];
    lines.extend(["l1", "l2"].map(|lead| line("leads", 2, &[lead, "a", "", "at"])));
    // The first lead becomes the contact, who is called three weeks later; someone else is called
    // all the time.
    lines.push(line("leads", 40, &["l1", "a", "c", "at"]));
    lines.push(line("calls", 60, &["win", "c", "", "at"]));
    lines.extend((3..150).map(|day| line("calls", day, &[&format!("k{day}"), "other", "", "at"])));
    let schemas = [
        ("accounts.avsc", ACCOUNTS),
        ("contacts.avsc", CONTACTS),
        ("leads.avsc", LEADS),
        ("calls.avsc", CALLS),
    ];
    let headers = [
        HEADERS[0],
        HEADERS[1],
        ("leads", "known,id,account,contact,at"),
        ("calls", "known,id,contact,lead,at"),
    ];
    let ground = ground_of(
        &schemas,
        &headers,
        &lines,
        &[(
            "called",
            "PREDICT COUNT(calls.*, 0, 30, days) > 0 FOR EACH leads.id",
        )],
    );
    let (_, collected) = ground.collected(Split {
        val_from_ms: 100 * DAY_MS,
        test_from_ms: 140 * DAY_MS,
    });
    let tally = &collected[0].training_tally;
    assert_eq!(
        (tally.entities, tally.positive_entities),
        (2, 1),
        "{tally:?}"
    );
    let called: Vec<i64> = collected[0]
        .training
        .examples()
        .iter()
        .filter(|e| {
            matches!(
                e.outcome,
                Outcome::Hazard {
                    after_ms: Some(_),
                    ..
                }
            )
        })
        .map(|e| e.anchor_ms / DAY_MS)
        .collect();
    assert!(
        !called.is_empty() && called.iter().all(|day| (29..60).contains(day)),
        "{called:?}"
    );
}

/// A line that became known when it happened; the column `at` is that time.
fn known_at_once(table: &'static str, day: i64, columns: &[&str]) -> Line {
    let column = |text: &&str| match *text {
        "at" => (day * DAY_MS).to_string(),
        text => text.to_owned(),
    };
    Line {
        table,
        known_ms: day * DAY_MS,
        columns: columns.iter().map(column).collect(),
    }
}

#[test]
fn roots_that_only_events_name_are_asked_from_their_first_mention() {
    let deals = |account: &'static str, from: i64| {
        (from..150).step_by(10).map(move |day| {
            let stage = if day % 20 == 0 { "won" } else { "lost" };
            known_at_once(
                "deals",
                day,
                &[&format!("{account}{day}"), account, "at", stage, "1"],
            )
        })
    };
    // A third account has a row and no events; the two others have events and no row.
    let mut lines: Vec<Line> = deals("a", 10).chain(deals("b", 55)).collect();
    lines.push(known_at_once("accounts", 70, &["c", "at", "steel"]));
    let schemas = [("accounts.avsc", ACCOUNTS), ("deals.avsc", DEALS)];
    let headers = [HEADERS[0], HEADERS[3]];
    let mut ground = ground_of(&schemas, &headers, &lines, &[("wins", WINS)]);
    let split = Split {
        val_from_ms: 110 * DAY_MS,
        test_from_ms: 145 * DAY_MS,
    };
    let (_, collected) = ground.collected(split);
    assert_eq!(collected[0].training_tally.entities, 3);
    let mut asked: BTreeMap<i64, usize> = BTreeMap::new();
    for example in collected[0].refit.examples() {
        *asked.entry(example.anchor_ms / DAY_MS).or_default() += 1;
    }
    let expected = |day: i64| 1 + usize::from(day > 55) + usize::from(day > 70);
    let surely = asked
        .iter()
        .filter(|(day, _)| **day < 100 && ![55, 70].contains(*day));
    let surely: Vec<_> = surely.map(|(day, count)| (*day, *count)).collect();
    assert!(surely.len() > 8, "{asked:?}");
    assert!(
        surely.iter().all(|(day, count)| *count == expected(*day)),
        "{asked:?}"
    );

    ground.project.tasks[0].anchors = "entity + 24h".parse().unwrap();
    let (_, collected) = ground.collected(split);
    let examples = collected[0].refit.examples().iter();
    let days: BTreeSet<i64> = examples.map(|e| e.anchor_ms / DAY_MS).collect();
    assert_eq!(
        days,
        BTreeSet::from([56, 71]),
        "each once, a day after its first mention, but for the one of the warm-up"
    );
}

#[test]
fn versions_alone_can_be_learned_from() {
    let mut lines = Vec::new();
    for number in 0..30 {
        let id = format!("c{number}");
        let contact =
            |day, role: &str| known_at_once("contacts", day, &[&id, "a", "at", role, "web"]);
        lines.push(contact(5 + number % 3, "user"));
        if number % 2 == 0 {
            lines.push(contact(60 + number * 2, "boss"));
        }
    }
    let schemas = [("accounts.avsc", ACCOUNTS), ("contacts.avsc", CONTACTS)];
    let ground = ground_of(&schemas, &HEADERS[..2], &lines, &[("bosses", BOSSES)]);
    let found = survey(&ground.project, &ground.files, None).unwrap();
    assert_eq!(found.extent.first_ms, 5 * DAY_MS);
    let (_, collected) = ground.collected(Split {
        val_from_ms: 80 * DAY_MS,
        test_from_ms: 110 * DAY_MS,
    });
    let tally = &collected[0].training_tally;
    assert_eq!(tally.entities, 30);
    assert!(tally.positive > 0, "{tally:?}");
}

#[test]
fn tasks_share_a_bundle_and_leave_the_first_alone() {
    let lines = market(2);
    let mut ground = ground(
        &lines,
        &[
            ("wins", WINS),
            ("value", VALUE),
            ("pricing", PRICING),
            ("bosses", BOSSES),
        ],
    );
    // A market as small as this one has too few outcomes to wait for late ones.
    for task in &mut ground.project.tasks {
        task.lateness_ms = Some(0);
    }
    let (alone, _) = ground.train(&["wins"], 0).unwrap();
    let (bundle, report) = ground
        .train(&["wins", "value", "pricing", "bosses"], 0)
        .unwrap();
    let names: Vec<&str> = bundle.tasks().iter().map(|t| t.name.as_str()).collect();
    assert_eq!(names, ["wins", "value", "pricing", "bosses"]);
    for task in &report.tasks {
        assert!(
            task.training > 0 && task.validation_tally.positive_entities > 0,
            "{task:?}"
        );
    }
    // Accounts are asked by two tasks, contacts by two: cells are stored once per moment.
    let asked: usize = report
        .tasks
        .iter()
        .map(|t| t.training_tally.asked + t.validation_tally.asked)
        .sum();
    assert!(
        report.cells * 3 < asked,
        "{} cells, {asked} rows",
        report.cells
    );
    let auroc = |i: usize| {
        report.tasks[i].metrics["validation"]["auroc"]
            .as_f64()
            .unwrap()
    };
    assert!(
        auroc(0) > 0.65 && auroc(2) > 0.65,
        "{} {}",
        auroc(0),
        auroc(2)
    );

    let (_, examples) = ground.collected(report.split);
    let batch = examples[0]
        .validation
        .feature_batch(&(0..50).collect::<Vec<_>>());
    assert_eq!(alone.logits(&batch, 0), bundle.logits(&batch, 0));

    let period = Period {
        project: &ground.project,
        tasks: &ground.tasks(),
        files: &ground.files,
        scorer: &bundle,
        from_ms: 220 * DAY_MS,
        baselines: Baselines::default(),
    };
    let mut out = Vec::new();
    let judged = judge(&period, OutTable::csv(&mut out), &mut |_| {})
        .unwrap()
        .tasks;
    let written = String::from_utf8(out).unwrap();
    let evaluation = judged[0].0.evaluation.as_ref().unwrap();
    assert_eq!(evaluation.rows, judged[0].1.labelled);
    assert_eq!(evaluation.positives, judged[0].1.positive);
    assert_eq!(evaluation.positive_entities, judged[0].1.positive_entities);
    let (model, recency) = (evaluation.model.unwrap(), &evaluation.baselines[0]);
    let auroc = judged[0].0.binary.as_ref().unwrap().auroc.unwrap();
    assert!((model.auroc.unwrap().value - auroc).abs() < 1e-9);
    assert!(recency.figures.auroc.unwrap().value > 0.5, "{recency:?}");
    let industries = evaluation.segments.iter();
    let industries = industries.filter(|part| part.field == "accounts.industry");
    assert_eq!(
        industries.map(|part| part.rows).sum::<usize>(),
        evaluation.rows
    );
    let trained = &report.tasks[0].evaluation;
    let quality = bundle.manifest().tasks[0].quality.as_ref();
    assert_eq!(quality, trained.quality.as_ref());
    assert!(!trained.groups.is_empty() && trained.groups[0].mean_logit > 0.0);
    for (judgement, tally) in &judged {
        assert!(tally.labelled > 100, "{judgement:?} {tally:?}");
        assert_eq!(
            written
                .lines()
                .filter(|l| l.starts_with(&format!("{},", judgement.task)))
                .count(),
            tally.labelled
        );
    }
    assert!(
        judged[0].0.binary.as_ref().unwrap().auroc.unwrap() > 0.65,
        "{:?}",
        judged[0]
    );
    assert!(
        judged[1].0.regression.as_ref().unwrap().spearman.unwrap() > 0.1,
        "{:?}",
        judged[1]
    );
}

#[test]
fn permuted_outcomes_cannot_be_predicted() {
    let mut lines = market(3);
    let mut dice = Dice(99);
    for line in lines.iter_mut().filter(|line| line.table == "deals") {
        let at_ms = (2 + dice.below(DAYS as usize - 2)) as i64 * DAY_MS;
        (line.columns[1], line.columns[2], line.known_ms) =
            (format!("a{}", dice.below(70)), at_ms.to_string(), at_ms);
    }
    let ground = ground(&lines, &[("wins", WINS)]);
    let (bundle, _) = ground.train(&["wins"], 0).unwrap();
    let period = Period {
        project: &ground.project,
        tasks: &ground.tasks(),
        files: &ground.files,
        scorer: &bundle,
        from_ms: 190 * DAY_MS,
        baselines: Baselines::default(),
    };
    let judged = judge(&period, OutTable::csv(Vec::new()), &mut |_| {})
        .unwrap()
        .tasks;
    let binary = judged[0].0.binary.clone().unwrap();
    assert!(binary.positives > 60, "{binary:?}");
    assert!((binary.auroc.unwrap() - 0.5).abs() < 0.12, "{binary:?}");
}

#[test]
fn what_cannot_be_trained_is_refused() {
    let using = format!("{WINS} USING accounts, deals");
    let source = "PREDICT COUNT(contacts.* WHERE contacts.source = 'web', 0, 30, days) > 0 FOR EACH accounts.id";
    let queries = [
        ("wins", WINS),
        ("using", &using),
        ("pricing", PRICING),
        ("bosses", BOSSES),
        ("source", source),
    ];
    // The files of today: the newest version of each contact, made when the contact was.
    let mut newest: BTreeMap<String, Line> = BTreeMap::new();
    let (contacts, mut lines): (Vec<Line>, Vec<Line>) = market(4)
        .into_iter()
        .partition(|line| line.table == "contacts");
    for mut line in contacts {
        (line.known_ms, line.columns[2]) = (DAY_MS, DAY_MS.to_string());
        newest.insert(line.columns[0].clone(), line);
    }
    lines.extend(newest.into_values());
    let today = ground(&lines, &queries);
    for (names, expected) in [
        (&["pricing"][..], "its filter reads contacts.role"),
        (&["bosses"], "its target reads contacts.role"),
        (
            &["wins", "using"],
            "\"using\" uses accounts, deals, but \"wins\" uses all tables",
        ),
        (&["using", "wins"], "--task"),
        (&[], "no task"),
        // A field that never changes may be counted: here there is only nothing to tell apart.
        (&["source"], "are false"),
    ] {
        let error = today
            .train(names, 0)
            .map(|(_, report)| report.tasks.len())
            .unwrap_err()
            .to_string();
        assert!(error.contains(expected), "{names:?}: {error}");
    }
    assert!(today.train(&["using"], 0).is_ok());
}

#[test]
fn optional_tasks_that_cannot_be_judged_are_left_out() {
    // Before day 160 people of steel read the blog, afterwards those of paper do: what was learnt
    // ranks validation worse than chance.
    let mut lines = market(6);
    for line in lines.iter_mut().filter(|line| line.table == "visits") {
        let account: usize = line.columns[1][1..]
            .split('-')
            .next()
            .unwrap()
            .parse()
            .unwrap();
        let is_early = line.columns[2].parse::<i64>().unwrap() < 160 * DAY_MS;
        let page = ["docs", "blog"][usize::from(account.is_multiple_of(2) == is_early)];
        line.columns[3] = page.into();
    }
    let never = "PREDICT COUNT(deals.* WHERE deals.stage = 'nowhere', 0, 30, days) > 0 FOR EACH accounts.id";
    let turned =
        "PREDICT COUNT(visits.* WHERE visits.page = 'blog', 0, 20, days) > 0 FOR EACH accounts.id";
    let ground = ground(
        &lines,
        &[
            ("wins", WINS),
            ("never", never),
            ("turned", turned),
            ("pricing", VALUE),
        ],
    );
    let names = ["wins", "never", "turned", "pricing"];
    let options = TrainOptions::default();
    let (bundle, report) = ground.train_with(&names, 0, &options, true).unwrap();
    let reasons: Vec<(&str, &str)> = report
        .left_out
        .iter()
        .map(|left_out| (left_out.task.as_str(), left_out.reason.as_str()))
        .collect();
    assert!(
        matches!(reasons[..], [("never", a), ("turned", b)] if a.contains("are false") && b.contains("worse than chance")),
        "{reasons:?}"
    );
    let of_bundle: Vec<&str> = bundle
        .tasks()
        .iter()
        .map(|task| task.name.as_str())
        .collect();
    assert_eq!(of_bundle, ["wins", "pricing"]);
    let reported: Vec<&str> = report.tasks.iter().map(|task| task.name.as_str()).collect();
    assert_eq!(reported, of_bundle);
    for (task, report) in bundle.manifest().tasks.iter().zip(&report.tasks) {
        assert_eq!(task.metrics["training"]["examples"], report.training);
        assert_eq!(report.evaluation.task, task.name);
    }
    // The others are what they are without them.
    let (alone, _) = ground.train(&["wins", "pricing"], 0).unwrap();
    let same = |a: &leadpulse_model::Bundle| {
        let tasks = a.manifest().tasks.iter();
        tasks
            .map(|task| (task.calibration.clone(), task.metrics["validation"].clone()))
            .collect::<Vec<_>>()
    };
    assert_eq!(same(&alone), same(&bundle));
    // Asked for, each ends the training or is kept.
    let named = ground.train(&["wins", "never"], 0).unwrap_err();
    assert!(named.to_string().contains("are false"), "{named}");
    let kept = TrainOptions {
        keep_worse_than_chance: true,
        ..options
    };
    let (bundle, report) = ground
        .train_with(&["wins", "turned"], 0, &kept, true)
        .unwrap();
    assert_eq!((bundle.tasks().len(), report.left_out.len()), (2, 0));
}

#[test]
fn sources_that_stop_are_for_training_only() {
    let mut ground = ground(&market(7), &[("wins", WINS), ("pricing", PRICING)]);
    let (_, plain) = ground.train(&["wins", "pricing"], 0).unwrap();
    ground.project.graph_options.source_ages = true;
    let (bundle, report) = ground.train(&["wins", "pricing"], 0).unwrap();
    for (task, plain) in report.tasks.iter().zip(&plain.tasks) {
        let share = task.stopped as f64 / plain.training as f64;
        assert!((0.15..0.35).contains(&share), "{share}");
        assert_eq!(task.training, plain.training + task.stopped);
        assert_eq!((plain.stopped, task.validation), (0, plain.validation));
        assert_eq!(task.training_tally, plain.training_tally);
        assert_eq!(task.validation_tally, plain.validation_tally);
    }
    let columns = bundle.plan().layout().root.iter();
    let ages = columns.filter(|column| column.name.ends_with("/source_age"));
    assert_eq!(ages.count(), 2);
}

#[test]
fn labels_are_counted_as_they_are_trained() {
    let ground = ground(&market(5), &[("wins", WINS), ("pricing", PRICING)]);
    for task in ground.tasks() {
        let count =
            count_labels(&ground.project, task, &ground.files, LabelBounds::COUNTS).unwrap();
        assert!(
            count.anchors > 40
                && count.tally.labelled == count.tally.asked
                && count.tally.positive > 50,
            "{count:?}"
        );
    }
}

/// Rows of a batch, events last and the last partition first: another order of arrival, in which
/// each partition keeps its own.
fn rearranged(catalog: &Catalog, batch: &RowBatch) -> RowBatch {
    let is_event = |row: &Row<'_>| catalog.table_at(row.table()).role == Role::Event;
    let mut events: Vec<Row<'_>> = batch.iter().filter(is_event).collect();
    events.sort_by_key(|row| std::cmp::Reverse(row.position().partition));
    let mut other = RowBatch::new();
    batch
        .iter()
        .filter(|row| !is_event(row))
        .chain(events)
        .for_each(|row| other.push_copy(catalog, row));
    other
}

/// Every number a step of f32 higher or lower, or as it is: what sums in another order may become.
/// Small markets show it too rarely.
fn nudged(mut batch: FeatureBatch, dice: &mut Dice) -> FeatureBatch {
    for x in batch
        .root
        .iter_mut()
        .chain(batch.members.iter_mut().flat_map(|block| &mut block.values))
        .filter(|x| **x != 0.0)
    {
        *x = [x.next_down(), *x, x.next_up()][dice.below(3)];
    }
    batch
}

/// The same rows, cut into other epochs, with other boards between and in another order, and with
/// sums that end in other bits: logits differ before they are rounded. Whatever falls to the other
/// side of a step stays within the promise.
#[test]
fn cuts_of_the_same_rows_move_no_probability_by_more_than_promised() {
    const PROMISE: f64 = 1e-5;
    let ground = ground(&market(7), &[("wins", WINS)]);
    let (bundle, _) = ground.train(&["wins"], 1).unwrap();
    let catalog = &ground.project.catalog;
    // Events of one person come over three partitions, as if keyed by their own ids.
    let mut sources = Vec::new();
    for source in &ground.sources {
        let text = std::fs::read_to_string(&source.path).unwrap();
        let (header, rows) = text.split_once('\n').unwrap();
        let partitions = if catalog.table_at(source.table).role == Role::Event {
            3
        } else {
            1
        };
        for partition in 0..partitions {
            let path = source.path.with_extension(format!("{partition}.csv"));
            let rows: Vec<&str> = rows.lines().skip(partition).step_by(partitions).collect();
            std::fs::write(&path, format!("{header}\n{}\n", rows.join("\n"))).unwrap();
            sources.push(FileSource {
                path,
                ..source.clone()
            });
        }
    }
    let files = Files::prepare(catalog.clone(), &sources).unwrap();
    let probabilities = |rows_at_once: usize,
                         is_rearranged: bool,
                         mut noise: Option<Dice>|
     -> BTreeMap<(i64, String), f64> {
        let mut graph = ground.project.graph(Tracking::Off);
        let mut replay = files.replay().unwrap();
        let mut found = BTreeMap::new();
        for day in 40..DAYS {
            let as_of_ms = day * DAY_MS;
            loop {
                let mut batch = RowBatch::new();
                if replay.read(as_of_ms - 1, rows_at_once, &mut batch).unwrap() == 0 {
                    break;
                }
                let newest_ms = batch.iter().map(|row| row.known_ms()).max().unwrap_or(0);
                graph.apply(
                    &if is_rearranged {
                        rearranged(catalog, &batch)
                    } else {
                        batch
                    },
                    None,
                );
                graph.advance(AsOf::from_ms(newest_ms));
            }
            graph.advance(AsOf::from_ms(as_of_ms));
            let cells: Vec<CellRef> = graph.cells().map(|(at, _)| at).collect();
            let mut encoded = bundle
                .plan()
                .encode(&graph, &cells, AsOf::from_ms(as_of_ms), &[]);
            if let Some(dice) = &mut noise {
                encoded = nudged(encoded, dice);
            }
            let logits = bundle.logits(&encoded, 0);
            for (at, logit) in cells.iter().zip(logits) {
                let key = graph.directory().key(graph.cell(*at).anchor).to_string();
                found.insert((as_of_ms, key), leadpulse_features::probability(logit));
            }
        }
        found
    };
    let expected = probabilities(8192, false, None);
    assert!(expected.len() > 10_000);
    for (rows_at_once, is_rearranged, noise) in [
        (1, false, None),
        (23, true, None),
        (8192, true, Some(Dice(3))),
    ] {
        let is_noisy = noise.is_some();
        let found = probabilities(rows_at_once, is_rearranged, noise);
        assert!(found.keys().eq(expected.keys()));
        let differences = || {
            expected
                .values()
                .zip(found.values())
                .map(|(a, b)| (a - b).abs())
        };
        let (largest, moved) = (
            differences().fold(0.0, f64::max),
            differences().filter(|d| *d > 0.0).count(),
        );
        println!(
            "{rows_at_once} rows at once: largest difference {largest:.2e}, {moved} of {} differ",
            expected.len()
        );
        assert!(
            largest <= PROMISE,
            "{rows_at_once} rows at once: {largest:e}"
        );
        assert!(
            !is_noisy || moved > 0,
            "noise that moves nothing proves nothing"
        );
    }
}

/// Rows of accounts with the outcomes that the query gives, divided at day 160.
fn given_text(ground: &Ground) -> String {
    let (bundle, _) = ground.train(&["wins"], 0).unwrap();
    let period = Period {
        project: &ground.project,
        tasks: &[ground.project.task("wins").unwrap()],
        files: &ground.files,
        scorer: &bundle,
        from_ms: 20 * DAY_MS,
        baselines: Baselines::default(),
    };
    let mut out = Vec::new();
    judge(&period, OutTable::csv(&mut out), &mut |_| {}).unwrap();
    let mut text = String::from("who,day,won,importance,part\n");
    let mut reader = csv::Reader::from_reader(out.as_slice());
    for record in reader.records() {
        let record = record.unwrap();
        let (time, key, label) = (&record[1], &record[2], &record[3]);
        let day = leadpulse_schema::parse_time_ms(time).unwrap() / DAY_MS;
        let part = match day {
            130..160 => continue,
            ..130 => "train",
            _ => "validation",
        };
        writeln!(text, "{key},{time},{label},2,{part}").unwrap();
    }
    text
}

/// The columns of [`given_text`].
fn given_columns() -> GivenColumns {
    let name = |name: &str| Some(name.to_owned());
    GivenColumns {
        entity: name("who"),
        time: name("day"),
        label: name("won"),
        weight: name("importance"),
        split: name("part"),
        task: None,
    }
}

fn read_given(ground: &Ground, text: &str, columns: &GivenColumns) -> Result<GivenRows, RowsError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.csv");
    std::fs::write(&path, text).unwrap();
    let wins = [ground.project.task("wins").unwrap()];
    GivenRows::read(&path, columns, &ground.project, &wins)
}

#[test]
fn given_rows_train_what_their_outcomes_say() {
    let ground = ground(&market(5), &[("wins", WINS), ("value", VALUE)]);
    let text = given_text(&ground);
    let given = read_given(&ground, &text, &given_columns()).unwrap();
    assert_eq!(given.rows().len(), text.lines().count() - 1);
    assert!(given.rows().iter().all(|row| row.weight == 2.0));
    let fit = FitOptions {
        candidates: vec![Regularisation::default()],
        ensemble: 1,
        selection_members: 1,
        max_epochs: 4,
        ..FitOptions::default()
    };
    let task = |name: &str| TrainTask {
        plan: ground.project.task(name).unwrap(),
        fit: fit.clone(),
        is_optional: false,
    };
    let folder = tempfile::tempdir().unwrap();
    let examples = folder.path().join("examples.parquet");
    let options = TrainOptions {
        given: Some(given.clone()),
        examples: Some(examples.clone()),
        ..TrainOptions::default()
    };
    let train = |tasks: &[TrainTask<'_>], options: &TrainOptions| {
        train(&ground.project, tasks, &ground.files, options, &mut |_| {})
    };
    let (bundle, report) = train(&[task("wins")], &options).unwrap();
    let head = &bundle.manifest().tasks[0].head;
    assert_eq!(*head, leadpulse_model::Head::Window);
    let evaluation = &report.tasks[0].evaluation;
    let in_validation = text.matches("validation").count();
    assert_eq!(evaluation.rows, in_validation);
    assert_eq!(report.tasks[0].training, given.rows().len() - in_validation);
    assert!(evaluation.model.unwrap().auroc.unwrap().value > 0.6);
    let cohorts = evaluation.cohorts.iter();
    let rows = cohorts.map(|c| c.parts.iter().map(|part| part.rows).sum::<usize>());
    assert!(rows.clone().count() > 0 && rows.clone().all(|rows| rows == in_validation));

    let table = TextTable::read(&examples).unwrap();
    assert_eq!(
        table.columns[..5],
        ["task", "part", "key", "as_of", "label"]
    );
    let mut written: Vec<String> = Vec::new();
    for row in &table.rows {
        let cell = |column: usize| row.cells[column].as_deref().unwrap();
        let label = cell(4).parse::<f64>().unwrap();
        written.push(format!("{},{},{label},2,{}", cell(2), cell(3), cell(1)));
    }
    let mut expected: Vec<&str> = text.lines().skip(1).collect();
    expected.sort_unstable();
    written.sort();
    assert_eq!(written, expected);
    let both = train(&[task("wins"), task("value")], &options).unwrap_err();
    assert!(both.to_string().contains("--task"), "{both}");
}

#[test]
fn given_rows_that_mean_nothing_are_named_with_line_column_and_remedy() {
    let ground = ground(&market(5), &[("wins", WINS)]);
    let read = |text: &str| read_given(&ground, text, &given_columns());
    for (row, expected) in [
        (
            "a1,1970-03-01,maybe,1,train",
            "line 3, column won: \"maybe\" is not 0, 1, true",
        ),
        ("a1,1970-03-01,2,1,train", "\"2\" is not 0, 1, true"),
        (
            "a1,1970-03-01,1,-2,train",
            "column importance: \"-2\" is not a weight",
        ),
        (
            "a1,1970-03-01,1,1,test",
            "\"test\" is not train or validation",
        ),
        ("a1,March,1,1,train", "column day: \"March\" is not a time"),
        (",1970-03-01,1,1,train", "column who: \"\" is not a key"),
        (
            "a1,1970-03-01,1,train",
            "the row has 4 cells and the header 5",
        ),
    ] {
        let text = format!("who,day,won,importance,part\na1,1970-03-01,1,1,train\n{row}\n");
        let fault = read(&text).unwrap_err().to_string();
        assert!(
            fault.contains("rows.csv") && fault.contains(expected),
            "{row}: {fault}"
        );
    }
    let fault = read("who,day,importance,part\na1,1970-03-01,1,train\n").unwrap_err();
    assert!(
        fault.to_string().contains("no column won; it has who, day"),
        "{fault}"
    );
    assert!(fault.to_string().contains("--label-column"), "{fault}");
    let fault = read("who,day\n").unwrap_err();
    assert!(fault.to_string().contains("no rows"), "{fault}");
}

#[test]
fn given_rows_that_cannot_be_learnt_from_end_the_training() {
    let ground = ground(&market(5), &[("wins", WINS)]);
    let train = |text: &str| {
        let rows = read_given(&ground, text, &GivenColumns::default()).unwrap();
        let options = TrainOptions {
            given: Some(rows),
            ..TrainOptions::default()
        };
        let tasks = [TrainTask {
            plan: ground.project.task("wins").unwrap(),
            fit: FitOptions::default(),
            is_optional: false,
        }];
        let trained = train(
            &ground.project,
            &tasks,
            &ground.files,
            &options,
            &mut |_| {},
        );
        trained.unwrap_err().to_string()
    };
    for (text, expected) in [
        ("id,time\na1,1970-03-01\n", "no column of outcomes"),
        (
            "id,time,label\na1,1970-03-01,1\na2,1970-03-01,\n",
            "1 of the 2 rows",
        ),
        (
            "id,time,label\na1,1970-03-01,1\na2,1970-03-01,0\n",
            "--split-column",
        ),
        (
            "key,anchor,label\nx,1970-03-01,1\ny,1970-06-01,0\n",
            "none of the 2 rows",
        ),
    ] {
        let fault = train(text);
        assert!(fault.contains(expected), "{text}: {fault}");
    }
}

#[test]
fn roots_that_are_only_named_have_outcomes_and_can_be_learnt() {
    let mut lines = market(4);
    lines.retain(|line| line.table != "accounts");
    let ground = ground(&lines, &[("wins", WINS)]);
    let task = ground.project.task("wins").unwrap();
    let count = count_labels(&ground.project, task, &ground.files, LabelBounds::COUNTS).unwrap();
    let deals = lines.iter().filter(|line| line.table == "deals").count();
    assert!(
        deals > 100 && count.tally.positive > 100,
        "{:?}",
        count.tally
    );
    assert_eq!(count.tally.unowned_rows, 0);
    let (_, report) = ground.train(&["wins"], 0).unwrap();
    assert!(report.tasks[0].evaluation.positives > 20);
}
