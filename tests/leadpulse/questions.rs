//! Questions of sales teams, from query to score on a simulated market: conversions of accounts,
//! contacts and leads as conditions, named targets, filters as of the anchor, tables left out, and
//! numbers.

use std::collections::BTreeMap;
use std::sync::Arc;

use leadpulse_features::Scorer;
use leadpulse_graph::GraphOptions;
use leadpulse_history::{FileSource, Files, REFUSED_RATIO};
use leadpulse_learn::{Baselines, OutTable, Period, TrainOptions, TrainTask, judge, train};
use leadpulse_model::{FitOptions, Regularisation};
use leadpulse_project::{Project, TaskPlan, TaskSource};
use leadpulse_schema::units::DAY_MS;
use leadpulse_schema::{Catalog, FileOptions};
use leadpulse_sim::{KNOWN_AT, Knobs, Market, MarketOptions, TABLES, write_files};

use crate::harness::repository;

/// 2024-10-01.
const START_MS: i64 = 1_727_740_800_000;
const DAYS: u32 = 480;

/// Queries with the bundle that they are trained into. Tasks of one bundle use the same tables.
const QUERIES: [(&str, usize, &str); 10] = [
    (
        "revenue",
        0,
        "PREDICT SUM(OPPORTUNITIES.AMOUNT, 0, 90, days) > 0 FOR EACH ACCOUNTS.ACCOUNT_ID",
    ),
    (
        "mql",
        0,
        "PREDICT BOOL(LEADS.STATUS = 'Closed Won', 0, 90, days) FOR EACH LEADS.LEAD_ID WHERE LEADS.STATUS = 'MQL'",
    ),
    (
        "recent",
        0,
        "PREDICT will_convert FOR EACH contacts.contact_id WHERE contacts.created_at > '2025-01-01'",
    ),
    (
        "contacts",
        0,
        "PREDICT will_convert FOR EACH contacts.contact_id",
    ),
    (
        "open",
        0,
        "PREDICT conversion FOR EACH leads.lead_id WHERE leads.status != 'Closed'",
    ),
    ("leads", 0, "PREDICT conversion FOR leads"),
    (
        "amount",
        0,
        "PREDICT SUM(opportunities.amount, 0, 60, days) FOR EACH accounts.account_id",
    ),
    (
        "visits",
        0,
        "PREDICT COUNT(content_views.*, 0, 30, days) FOR EACH accounts.account_id",
    ),
    (
        "deal-size",
        0,
        "PREDICT AVG(opportunities.amount, 0, 90, days) FOR EACH accounts.account_id",
    ),
    (
        "narrow",
        1,
        "PREDICT will_convert FOR contact USING contact, company, activity, opportunity",
    ),
];

fn names() -> BTreeMap<String, String> {
    [
        (
            "will_convert",
            "COUNT(opportunities.* WHERE opportunities.stage = 'Closed Won', 0, 90, days) > 0",
        ),
        (
            "conversion",
            "BOOL(leads.status = 'Closed Won', 0, 90, days)",
        ),
    ]
    .map(|(name, target)| (name.to_owned(), target.to_owned()))
    .into()
}

#[test]
fn every_query_parses_plans_trains_and_scores() {
    let folder = tempfile::tempdir().unwrap();
    let options = MarketOptions {
        accounts: 240,
        days: DAYS,
        seed: 5,
        start_ms: START_MS,
    };
    // In so small a market leads must convert more often and sooner than in the shipped one, or no
    // lead is MQL three months before it wins.
    let mut knobs = Knobs::default();
    knobs.leads.qualifies_per_day = [0.1; 6];
    knobs.leads.accepted_per_day = [0.05; 6];
    knobs.leads.converts_per_day = [0.2; 6];
    knobs.leads.given_up_per_day = [0.004; 6];
    write_files(
        &mut Market::new(options, knobs).unwrap(),
        folder.path(),
        &mut |_| {},
    )
    .unwrap();
    let schemas = repository().join("schemas");
    let catalog = Arc::new(Catalog::load(&schemas).unwrap_or_else(|faults| panic!("{faults:?}")));
    let sources = TABLES.map(|table| {
        let may_be_late = ["activities", "content_views", "product_usage"].contains(&table);
        let options = FileOptions {
            known_time: may_be_late.then(|| KNOWN_AT.into()),
            ..FileOptions::default()
        };
        FileSource {
            table: catalog.table(table).unwrap().id,
            path: folder.path().join(format!("{table}.jsonl")),
            options,
            refused_ratio: REFUSED_RATIO,
        }
    });
    let files = Files::prepare(catalog.clone(), &sources).unwrap();
    let tasks = QUERIES.map(|(name, _, query)| {
        let anchors = if name == "mql" {
            "every 6d"
        } else {
            "every 20d"
        };
        TaskSource {
            name: name.into(),
            query: query.into(),
            anchors: anchors.parse().unwrap(),
            lateness_ms: None,
        }
    });
    let project = Project::new(catalog, GraphOptions::default(), &tasks, &names())
        .unwrap_or_else(|error| panic!("{error}"));
    let fit = FitOptions {
        candidates: vec![Regularisation {
            hidden: 16,
            ..Regularisation::default()
        }],
        ensemble: 1,
        selection_members: 1,
        max_epochs: 1,
        ..FitOptions::default()
    };
    for number in 0..2 {
        let of_bundle: Vec<&TaskPlan> = QUERIES
            .iter()
            .filter(|(_, bundle, _)| *bundle == number)
            .map(|(name, ..)| project.task(name).unwrap())
            .collect();
        let training: Vec<TrainTask<'_>> = of_bundle
            .iter()
            .map(|plan| TrainTask {
                plan,
                fit: fit.clone(),
                is_optional: false,
            })
            .collect();
        let options = TrainOptions {
            val_from_ms: Some(START_MS + 270 * DAY_MS),
            test_from_ms: Some(START_MS + 450 * DAY_MS),
            refit: true,
            ..TrainOptions::default()
        };
        let (bundle, report) = train(&project, &training, &files, &options, &mut |_| {})
            .unwrap_or_else(|error| panic!("bundle {number}: {error}"));
        assert_eq!(bundle.tasks().len(), of_bundle.len());
        for task in &report.tasks {
            assert!(
                task.training > 100 && task.training_tally.positive_entities > 0,
                "{task:?}"
            );
            let has = |metric: &str| {
                task.metrics["validation"]
                    .get(metric)
                    .is_some_and(serde_json::Value::is_number)
            };
            assert!(
                has("auroc") && has("ece") || has("mae") && has("spearman"),
                "{task:?}"
            );
        }
        // A converted lead is no longer in the population, and a closed one is not open: filters
        // apply as of the anchor.
        let tally = |name: &str| {
            report
                .tasks
                .iter()
                .find(|t| t.name == name)
                .map(|t| t.training_tally.clone())
        };
        if let (Some(mql), Some(open), Some(leads)) = (tally("mql"), tally("open"), tally("leads"))
        {
            assert!(
                mql.asked < open.asked && mql.positive > 0,
                "{mql:?} {open:?}"
            );
            assert!(open.asked <= leads.asked, "{open:?} {leads:?}");
        }
        let from_ms = START_MS + 365 * DAY_MS;
        let period = Period {
            project: &project,
            tasks: &of_bundle,
            files: &files,
            scorer: &bundle,
            from_ms,
            baselines: Baselines::default(),
        };
        let mut out = Vec::new();
        let judged = judge(&period, OutTable::csv(&mut out), &mut |_| {})
            .unwrap()
            .tasks;
        for (judgement, tally) in &judged {
            assert_eq!(judgement.scored, judgement.rows, "{judgement:?}");
            assert!(
                judgement.scored > 10 && tally.asked == judgement.rows,
                "{judgement:?} {tally:?}"
            );
            match (&judgement.binary, &judgement.regression) {
                (Some(binary), None) => assert!(
                    binary.log_loss.is_finite() && binary.rows == tally.labelled,
                    "{judgement:?}"
                ),
                (None, Some(regression)) => {
                    assert!(
                        regression.mae.is_finite() && regression.mae_log1p.is_finite(),
                        "{judgement:?}"
                    );
                    assert!(regression.spearman.is_some(), "{judgement:?}");
                }
                _ => panic!("{judgement:?} {tally:?}"),
            }
        }
        let written = String::from_utf8(out).unwrap();
        let probabilities = written
            .lines()
            .skip(1)
            .map(|line| line.rsplit(',').next().unwrap().parse::<f64>().unwrap());
        assert!(probabilities.clone().count() > 50 && probabilities.clone().all(f64::is_finite));
    }
}
