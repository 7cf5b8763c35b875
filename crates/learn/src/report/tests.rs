//! Evaluations of made rows.

use leadpulse_graph::EntityId;
use leadpulse_model::Grade;
use leadpulse_schema::units::DAY_MS;

use super::draws::SeededDraws;
use super::notes::Notes;
use super::rows::{EvaluatedRow, RowFacts};
use super::*;

/// Rows of some entities at anchors ten days apart: the outcome comes true with the chance of the
/// entity, in each window of 30 days anew.
fn rows(entities: u32, anchors: i64, predict: impl Fn(f64) -> f64) -> Vec<EvaluatedRow> {
    let mut dice = SeededDraws::new(4);
    let mut rows = Vec::new();
    for entity in 0..entities {
        let chance = dice.below(60) as f64 / 100.0;
        for anchor in 0..anchors {
            let window = (u64::from(entity), (anchor / 3).cast_unsigned());
            let outcome = SeededDraws::of(77, window) < chance;
            rows.push(EvaluatedRow {
                entity: EntityId(entity),
                at_ms: anchor * 10 * DAY_MS,
                predicted: predict(chance),
                label: f64::from(u8::from(outcome)),
                facts: RowFacts {
                    silence_ms: (entity % 3 > 0).then_some(i64::from(entity % 7)),
                    ..RowFacts::default()
                },
            });
        }
    }
    rows
}

fn evaluated(rows: &[EvaluatedRow]) -> TaskEvaluation {
    evaluated_with(rows, &Notes::default())
}

fn evaluated_with(rows: &[EvaluatedRow], notes: &Notes) -> TaskEvaluation {
    let subject = EvaluatedTask {
        task: "wins <b>&\"'",
        query: "PREDICT x > 0 FOR a",
        horizon_ms: 30 * DAY_MS,
        is_regression: false,
        base_rate: None,
        positive_entities: None,
        notes,
        groups: Vec::new(),
        remarks: Vec::new(),
        seed: 0,
    };
    evaluate(subject, rows)
}

fn grade(rows: &[EvaluatedRow]) -> (Grade, String) {
    let quality = evaluated(rows).quality.unwrap();
    (quality.grade, quality.reasons.join("\n"))
}

#[test]
fn grades_name_what_is_wrong() {
    let sound = rows(600, 9, |chance| chance);
    assert_eq!(grade(&sound), (Grade::Sound, String::new()));
    for (rows, expected, reason) in [
        (
            rows(200, 9, |chance| chance),
            Grade::Provisional,
            "200 are enough",
        ),
        (
            rows(30, 9, |chance| chance),
            Grade::Insufficient,
            "50 are the least",
        ),
        (
            rows(600, 9, |chance| chance / 4.0),
            Grade::Provisional,
            "calibration is off",
        ),
        (
            rows(600, 9, |chance| 0.9 + chance / 10.0),
            Grade::Provisional,
            "worse than the base rate",
        ),
        (
            rows(600, 9, |chance| 0.6 - chance),
            Grade::WorseThanChance,
            "worse than chance",
        ),
        (
            rows(600, 9, |chance| 0.28 + (chance * 1000.0 % 7.0) / 1000.0),
            Grade::Insufficient,
            "not told from chance",
        ),
    ] {
        let (found, reasons) = grade(&rows);
        assert!(reasons.contains(reason), "{reason}: {found:?} {reasons}");
        assert_eq!(found, expected, "{reasons}");
    }
}

#[test]
fn outcomes_are_counted_apart() {
    let row = |entity: u32, day: i64, label: f64| EvaluatedRow {
        entity: EntityId(entity),
        at_ms: day * DAY_MS,
        predicted: 0.5,
        label,
        facts: RowFacts::default(),
    };
    let found = evaluated(&[
        row(1, 0, 1.0),
        row(1, 10, 1.0),
        row(1, 30, 1.0),
        row(1, 59, 1.0),
        row(2, 10, 1.0),
        row(2, 80, 0.0),
        row(3, 80, 0.0),
    ]);
    assert_eq!((found.rows, found.positives), (7, 5));
    assert_eq!((found.entities, found.positive_entities), (3, 2));
    assert_eq!((found.outcomes, found.anchors), (3, 5));
    assert_eq!(found.first_anchor, "1970-01-01T00:00:00Z");
    assert_eq!(found.top_to_bottom, None);
}

#[test]
fn tenths_add_up_and_a_ratio_needs_outcomes() {
    let found = evaluated(&rows(600, 9, |chance| chance));
    assert!(found.outcomes >= 200, "{}", found.outcomes);
    assert!(found.top_to_bottom.is_none_or(|ratio| ratio > 3.0));
    let rows: f64 = found.deciles.iter().map(|tenth| tenth.rows).sum();
    assert!((rows - found.rows as f64).abs() < 1e-6);
    let last = found.deciles.last().unwrap();
    assert!((last.captured - 1.0).abs() < 1e-9);
    assert!(found.deciles[0].lift > 1.5 && last.lift < 0.5, "{found:?}");
    let few = evaluated(&rows_of_few());
    assert_eq!(few.top_to_bottom, None);
}

#[test]
fn rows_without_an_open_deal_are_judged_apart() {
    let plain = rows(300, 6, |chance| chance);
    assert_eq!(evaluated(&plain).without_open_deal, None);
    // The score of a row with a deal knows the outcome.
    let divided = plain.iter().cloned().map(|row| {
        let has_deal = row.entity.0.is_multiple_of(2);
        let predicted = if has_deal { row.label } else { row.predicted };
        let facts = RowFacts {
            has_open_deal: Some(has_deal),
            ..row.facts
        };
        EvaluatedRow {
            predicted,
            facts,
            ..row
        }
    });
    let divided: Vec<EvaluatedRow> = divided.collect();
    let of_part = divided
        .iter()
        .filter(|row| row.facts.has_open_deal == Some(false));
    let of_part: Vec<EvaluatedRow> = of_part.cloned().collect();
    let (whole, alone) = (evaluated(&divided), evaluated(&of_part));
    let part = whole.without_open_deal.clone().unwrap();
    let counts = (part.rows, part.entities, part.positives, part.outcomes);
    assert_eq!(
        counts,
        (alone.rows, alone.entities, alone.positives, alone.outcomes)
    );
    assert_eq!(Some(part.model), alone.model);
    assert_eq!(Some(part.losses), alone.losses);
    assert_eq!(Some(part.calibration), alone.calibration);
    assert_eq!(part.baselines, alone.baselines);
    let auroc = |figures: Option<RankFigures>| figures.unwrap().auroc.unwrap().value;
    assert!(auroc(whole.model) > auroc(alone.model) + 0.1);
    let report = Report {
        tasks: vec![whole],
        ..Report::default()
    };
    assert!(report.html().contains("<h3>Without an open deal</h3>"));
    let all_with = divided
        .into_iter()
        .filter(|row| row.facts.has_open_deal == Some(true));
    assert_eq!(
        evaluated(&all_with.collect::<Vec<_>>()).without_open_deal,
        None
    );
}

fn rows_of_few() -> Vec<EvaluatedRow> {
    rows(60, 3, |chance| chance)
}

#[test]
fn the_page_is_whole_and_escapes_what_it_shows() {
    let report = Report {
        title: "Test".into(),
        bundle: "b<1>".into(),
        tasks: vec![evaluated(&rows_of_few())],
    };
    let page = report.html();
    assert!(page.starts_with("<!doctype html>") && page.trim_end().ends_with("</html>"));
    assert!(page.contains("wins &lt;b&gt;&amp;&quot;&#39;") && page.contains("b&lt;1&gt;"));
    assert!(
        !page.contains("<b>") && !page.contains("http"),
        "nothing comes from elsewhere"
    );
    for tag in ["table", "svg", "ul", "p", "h3", "tr"] {
        let opened =
            page.matches(&format!("<{tag}>")).count() + page.matches(&format!("<{tag} ")).count();
        assert_eq!(opened, page.matches(&format!("</{tag}>")).count(), "{tag}");
    }
    let json = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
}
