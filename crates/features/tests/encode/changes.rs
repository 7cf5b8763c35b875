//! Changes between two moments of a scene.

use leadpulse_features::{Direction, EvidenceValue, PastValues, account_values, changes, stopped};
use leadpulse_graph::Tracking;
use leadpulse_schema::units::{AsOf, DAY_MS};

use crate::scene::{NOW_MS, Scene};

/// Values of the events and deals of account `a`, some days before now.
fn values_then(scene: &mut Scene, days_ago: i64) -> Vec<EvidenceValue> {
    scene.now();
    let as_of = AsOf::from_ms(NOW_MS - days_ago * DAY_MS);
    let (at, _) = scene.find("accounts", "a");
    account_values(&scene.graph, scene.graph.cell(at), as_of)
}

fn remembered(values: &[EvidenceValue]) -> PastValues {
    let past = values.iter();
    past.filter_map(|value| Some((value.label.clone(), value.past()?)))
        .collect()
}

#[test]
fn changes_count_the_events_of_the_week_by_kind() {
    let mut scene = Scene::new(Tracking::Off);
    scene.account("a", 100.0, &[]).contact("c", "a", 99.0, &[]);
    scene
        .activity("c", 60.0, "email_open")
        .activity("c", 30.0, "email_open");
    let before = values_then(&mut scene, 7);
    for days_ago in [6.0, 4.0, 1.0] {
        scene.activity("c", days_ago, "email_open");
    }
    scene
        .activity("c", 2.0, "demo_request")
        .deal("d", "a", &[(3.0, "Discovery")]);
    let now = values_then(&mut scene, 0);
    let (now_ms, then_ms) = (AsOf::from_ms(NOW_MS), NOW_MS - 7 * DAY_MS);
    let found = changes(&now, &remembered(&before), then_ms, now_ms);
    let found: Vec<(&str, Direction)> = found
        .iter()
        .map(|one| (one.text.as_str(), one.direction))
        .collect();
    let expected = [
        ("open opportunities 0 → 1", Direction::Rise),
        ("demo request added", Direction::Rise),
        ("deal step to discovery added", Direction::Rise),
        ("email open 1 → 4", Direction::Rise),
    ];
    assert_eq!(found, expected);
    assert_eq!(changes(&now, &remembered(&now), NOW_MS, now_ms), []);
}

#[test]
fn a_kind_that_stopped_is_told_without_an_earlier_moment() {
    let mut scene = Scene::new(Tracking::Off);
    scene.account("a", 100.0, &[]).contact("c", "a", 99.0, &[]);
    for days_ago in 21..60 {
        scene.activity("c", days_ago as f64, "email_open");
    }
    let now = values_then(&mut scene, 0);
    let found = stopped(&now, AsOf::from_ms(NOW_MS));
    assert_eq!(found, ["no email open for 21 days, usually 6 a week"]);
}
