//! Every query of `docs/pql.md` parses, prints, and plans against the shipped schemas.

use std::collections::BTreeMap;
use std::path::Path;

use leadpulse_schema::Catalog;
use leadpulse_schema::units::DAY_MS;

use crate::{LintKind, TargetKind, parse, plan};

const PAGE: &str = include_str!("../../../../docs/pql.md");

/// The contents of the page's code blocks of this language.
fn blocks(language: &str) -> Vec<&'static str> {
    let fence = format!("```{language}\n");
    PAGE.split(fence.as_str())
        .skip(1)
        .map(|rest| rest.split("\n```").next().unwrap_or(rest))
        .collect()
}

/// The queries that `docs/pql.md` shows.
pub(crate) fn queries() -> Vec<&'static str> {
    blocks("pql")
}

fn shipped() -> Catalog {
    let schemas = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas");
    Catalog::load(&schemas).unwrap_or_else(|faults| panic!("{faults:?}"))
}

/// The named targets of the page.
fn names() -> BTreeMap<String, String> {
    let lines = blocks("toml")[0]
        .lines()
        .filter_map(|line| line.split_once(" = "));
    lines
        .map(|(name, text)| (name.to_owned(), text.trim_matches('"').to_owned()))
        .collect()
}

#[test]
fn the_queries_of_the_manual_run() {
    let (catalog, names) = (shipped(), names());
    assert_eq!(names.len(), 3);
    let queries = queries();
    assert!(queries.len() >= 20, "{}", queries.len());
    for source in queries {
        let query = parse(source).unwrap_or_else(|fault| panic!("{}", fault.render(source)));
        assert_eq!(parse(&query.to_string()).as_ref().ok(), Some(&query));
        let planned = plan(&query, &catalog, &names)
            .unwrap_or_else(|fault| panic!("{}", fault.render(source)));
        assert!(planned.horizon_ms > 0 && !planned.target.aggregates.is_empty());
    }
}

/// Queries as products of this kind print them, with what they are trained on.
#[test]
fn queries_as_they_are_commonly_written_have_plans() {
    let (catalog, names) = (shipped(), names());
    for (source, entity, horizon_days, kind) in [
        (
            "PREDICT SUM(OPPORTUNITIES.AMOUNT, 0, 90, days) > 0\nFOR EACH ACCOUNTS.ACCOUNT_ID",
            "accounts",
            90,
            TargetKind::Window,
        ),
        (
            "PREDICT BOOL(LEADS.STATUS = 'Closed Won', 0, 90, days)\nFOR EACH \
             LEADS.LEAD_ID\nWHERE LEADS.STATUS = 'MQL'",
            "leads",
            90,
            TargetKind::Monotone,
        ),
        (
            "PREDICT will_convert FOR EACH contacts.contact_id WHERE contacts.created_at > \
             '2025-01-01'",
            "contacts",
            90,
            TargetKind::Monotone,
        ),
        (
            "PREDICT will_convert FOR EACH contacts.contact_id",
            "contacts",
            90,
            TargetKind::Monotone,
        ),
        (
            "PREDICT conversion FOR EACH leads.lead_id WHERE leads.status != 'Closed'",
            "leads",
            90,
            TargetKind::Monotone,
        ),
        (
            "PREDICT conversion FOR leads",
            "leads",
            90,
            TargetKind::Monotone,
        ),
        (
            "PREDICT will_convert FOR contact USING contact, company, activity, opportunity",
            "contacts",
            90,
            TargetKind::Monotone,
        ),
    ] {
        let planned = parse(source)
            .and_then(|query| plan(&query, &catalog, &names))
            .unwrap_or_else(|fault| panic!("{}", fault.render(source)));
        assert_eq!(catalog.table_at(planned.entity).name, entity, "{source}");
        assert_eq!(planned.horizon_ms, horizon_days * DAY_MS, "{source}");
        assert_eq!(planned.target.kind(), kind, "{source}");
    }
}

/// What is not supported, and what to write instead.
const UNSUPPORTED: &[(&str, &str)] = &[
    (
        "PREDICT LAST(leads.status, 0, 90) = 'Closed Won' FOR leads",
        "PREDICT BOOL(leads.status = 'Closed Won', 0, 90) FOR leads",
    ),
    (
        "PREDICT will_convert FOR accounts WHERE LAST(activities.type, -30, 0) = 'demo'",
        "PREDICT will_convert FOR accounts WHERE COUNT(activities.* WHERE activities.type = \
         'demo', -30, 0) > 0",
    ),
    (
        "EVALUATE PREDICT will_convert FOR accounts",
        "PREDICT will_convert FOR accounts",
    ),
    (
        "PREDICT will_convert FOR accounts ORDER BY x",
        "PREDICT will_convert FOR accounts",
    ),
    (
        "PREDICT LIST_DISTINCT(product_usage.product, 0, 90) RANK TOP 5 FOR accounts",
        "PREDICT COUNT(product_usage.* WHERE product_usage.product = 'pro', 0, 90) > 0 FOR \
         accounts",
    ),
    (
        "PREDICT LAST(leads.status, 0, 90) CLASSIFY FOR leads",
        "PREDICT BOOL(leads.status = 'SQL', 0, 90) FOR leads",
    ),
    (
        "PREDICT COUNT(activities.*, 0, 30) FORECAST 2 TIMEFRAMES FOR accounts",
        "PREDICT COUNT(activities.*, 30, 60) FOR accounts",
    ),
    (
        "PREDICT conversion FOR leads.lead_id IN ('L1', 'L2')",
        "PREDICT conversion FOR leads.lead_id",
    ),
    (
        "PREDICT accounts.status FOR accounts",
        "PREDICT BOOL(accounts.status = 'Customer', 0, 90) FOR accounts",
    ),
    (
        "PREDICT will_convert FOR accounts WHERE AVG(activities.duration_seconds, -30, 0) > 5",
        "PREDICT will_convert FOR accounts WHERE SUM(activities.duration_seconds, -30, 0) > 5",
    ),
    (
        "PREDICT will_convert FOR accounts WHERE COUNT(opportunities.*, -365, 0) = 0",
        "PREDICT will_convert FOR accounts WHERE COUNT(opportunity_stage_changes.*, -365, 0) = 0",
    ),
    (
        "PREDICT will_convert FOR accounts WHERE COUNT(activities.*, -3, 0, months) > 0",
        "PREDICT will_convert FOR accounts WHERE COUNT(activities.*, -90, 0, days) > 0",
    ),
    (
        "PREDICT will_convert FOR accounts WHERE COUNT(activities.*, -7, 30) > 0",
        "PREDICT will_convert FOR accounts ASSUMING COUNT(activities.*, 0, 30) > 0",
    ),
    (
        "PREDICT will_convert FOR accounts WHERE leads.status = 'MQL'",
        "PREDICT will_convert AND BOOL(leads.status = 'MQL', 0, 90) FOR accounts",
    ),
];

#[test]
fn the_manual_and_the_planner_agree_on_what_is_unsupported() {
    let (catalog, names) = (shipped(), names());
    let run = |source: &str| parse(source).and_then(|query| plan(&query, &catalog, &names));
    for (refused, instead) in UNSUPPORTED {
        assert!(run(refused).is_err(), "{refused}");
        assert!(
            run(instead).is_ok(),
            "{}",
            run(instead).unwrap_err().render(instead)
        );
    }
}

#[test]
fn the_remarks_of_the_manual_are_made() {
    let (catalog, names) = (shipped(), names());
    for (source, kind) in [
        (
            "PREDICT SUM(opportunities.amount, 0, 90, days) > 0 FOR accounts",
            LintKind::AnyRow,
        ),
        (
            "PREDICT COUNT(opportunity_stage_changes.*, 0, 90) > 0 FOR accounts",
            LintKind::AnyRow,
        ),
        (
            "PREDICT MAX(product_usage.seconds, 0, 30) > 60 FOR accounts",
            LintKind::SilentDropped,
        ),
        (
            "PREDICT conversion FOR leads WHERE leads.status != 'Closed'",
            LintKind::UnknownValue,
        ),
        ("PREDICT will_convert FOR contacts", LintKind::SeveralPaths),
        (
            "PREDICT COUNT(activities.*, 0, 90) > 0 FOR leads",
            LintKind::Becomes,
        ),
    ] {
        let planned = parse(source)
            .and_then(|query| plan(&query, &catalog, &names))
            .unwrap_or_else(|fault| panic!("{}", fault.render(source)));
        assert!(
            planned.lints.iter().any(|lint| lint.kind == kind),
            "{source}: {:?}",
            planned.lints
        );
    }
}
