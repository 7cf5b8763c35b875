//! The row of a cell: the events of all of its members together, and who they came from.

use leadpulse_graph::Tracking;
use leadpulse_schema::Value;

use crate::scene::Scene;

fn close(found: f32, expected: f64) {
    assert!(
        (f64::from(found) - expected).abs() < 1e-5,
        "{found} for {expected}"
    );
}

/// The log of a decayed count of events so many days ago.
fn decayed(half_life_days: f64, days_ago: &[f64]) -> f64 {
    let weights = days_ago.iter().map(|days| (-days / half_life_days).exp2());
    weights.sum::<f64>().ln_1p()
}

fn market() -> Scene {
    let seniority = |value: &'static str| [("seniority", Value::Text(value))];
    let mut scene = Scene::new(Tracking::Off);
    scene
        .account("a", 100.0, &[])
        .contact("c1", "a", 90.0, &seniority("VP"))
        .contact("c2", "a", 90.0, &seniority("IC"))
        .contact("c3", "a", 90.0, &[])
        .row(
            "leads",
            80.0,
            &[
                ("lead_id", Value::Text("l1")),
                ("account_id", Value::Text("a")),
                ("seniority", Value::Text("IC")),
            ],
        )
        .view("c1", 10.0, "pricing")
        .view("c1", 3.0, "blog")
        .view("c2", 5.0, "pricing")
        .event("views", 1.0, &[("lead_id", "l1"), ("content", "pricing")])
        .activity("c3", 2.0, "demo_request")
        .account("b", 100.0, &[])
        .contact("d1", "b", 90.0, &seniority("VP"))
        .view("d1", 1.0, "pricing")
        .now();
    scene
}

#[test]
fn events_of_members_are_summed_in_the_row_of_their_cell() {
    let row = market().root("a");
    let all = [10.0, 3.0, 5.0, 1.0];
    for half in [2.0, 14.0, 90.0] {
        close(row[&format!("views/{half}d/sum")], decayed(half, &all));
    }
    let pricing = [10.0, 5.0, 1.0];
    close(
        row["views.content=pricing/90d/sum"],
        decayed(90.0, &pricing),
    );
    let recency = |days: f64| 1.0 - days.ln_1p() / 3650.0_f64.ln_1p();
    close(row["views/recency"], recency(1.0));
    close(row["views.content=blog/recency"], recency(3.0));
    close(row["views/total"], 4.0_f64.ln_1p());
    close(row["views/age"], 10.0_f64.ln_1p());
    close(row["views/active_days"], 4.0_f64.ln_1p());
    // Gaps of 5, 2 and 2 days, whoever was active.
    close(row["views/gap_mean"], 3.0_f64.ln_1p());
    close(row["activities/2d/sum"], decayed(2.0, &[2.0]));
}

#[test]
fn shares_go_by_person_over_all_tables_of_people() {
    let row = market().root("a");
    let weight = |days: f64| (-days / 14.0).exp2();
    let (vp, ic) = (weight(10.0) + weight(3.0), weight(5.0) + weight(1.0));
    // The contact without a seniority counts in the whole alone.
    let all = vp + ic + weight(2.0);
    close(row["people/share seniority=VP"], vp / all);
    close(row["people/share seniority=IC"], ic / all);
    assert_eq!(row["people/share seniority=Manager"], 0.0);
    // A department is a field of contacts alone, and so none of people.
    assert!(!row.keys().any(|name| name.contains("share department")));
}

#[test]
fn an_account_without_events_has_none() {
    let mut scene = market();
    scene.account("quiet", 50.0, &[]).now();
    let row = scene.root("quiet");
    let of_events = row.iter().filter(|(name, _)| {
        ["views", "activities", "stage_changes", "people"]
            .iter()
            .any(|table| name.starts_with(table))
    });
    for (name, x) in of_events {
        assert_eq!(*x, 0.0, "{name}");
    }
}

#[test]
fn a_converted_lead_changes_no_sum_of_its_cell() {
    let before = market().root("a");
    let mut scene = market();
    scene
        .row(
            "leads",
            0.5,
            &[
                ("lead_id", Value::Text("l1")),
                ("account_id", Value::Text("a")),
                ("converted_contact_id", Value::Text("c1")),
            ],
        )
        .now();
    let after = scene.root("a");
    for (name, x) in before.iter().filter(|(name, _)| name.starts_with("views")) {
        close(after[name], f64::from(*x));
    }
}
