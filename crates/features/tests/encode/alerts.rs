//! Facts of alerts, read from scenes of a few rows.

use leadpulse_features::AlertFactPlan;
use leadpulse_graph::{DAY_MS, Tracking};
use leadpulse_policy::{AlertFacts, FactOptions};
use leadpulse_schema::Value;
use leadpulse_schema::units::AsOf;

use crate::scene::{NOW_MS, Scene};

fn options() -> FactOptions {
    FactOptions {
        usage: vec!["activities".into()],
        limits: [("activities".to_owned(), vec!["demo_request".to_owned()])].into(),
        do_not_contact: Vec::new(),
    }
}

fn facts(scene: &Scene, table: &str, key: &str) -> AlertFacts {
    let graph = &scene.graph;
    let plan = AlertFactPlan::new(&scene.catalog, &graph.shared().layout, &options()).unwrap();
    let (at, entity) = scene.find(table, key);
    plan.facts(graph, graph.cell(at), entity, AsOf::from_ms(NOW_MS))
}

fn is_near(found: f64, expected: f64, within: f64) {
    assert!(
        (found - expected).abs() <= within,
        "{found} instead of {expected}"
    );
}

#[test]
fn the_pace_of_an_account_is_compared_with_its_own() {
    let mut scene = Scene::new(Tracking::Off);
    scene
        .account("steady", 200.0, &[])
        .contact("s", "steady", 200.0, &[]);
    scene
        .account("spike", 200.0, &[])
        .contact("p", "spike", 200.0, &[]);
    scene
        .account("young", 10.0, &[])
        .contact("y", "young", 10.0, &[]);
    for week in 0..26 {
        for contact in ["s", "p"] {
            for half in [0.2, 3.7] {
                scene.view(contact, f64::from(week) * 7.0 + half, "blog");
            }
        }
    }
    for hour in 0..14 {
        scene.view("p", f64::from(hour) / 12.0, "pricing");
    }
    scene.activity("p", 0.5, "demo_request");
    scene.view("y", 3.0, "blog").now();
    let pace = |account: &str| facts(&scene, "accounts", account).engagement;
    let steady = pace("steady").unwrap();
    is_near(steady.usual_week, 2.0, 0.2);
    is_near(steady.week, 2.0, 0.6);
    let spike = pace("spike").unwrap();
    is_near(spike.usual_week, 2.2, 0.4);
    is_near(spike.week, 15.5, 3.0);
    assert_eq!(pace("young"), None, "ten days are no habit");
    let spike = facts(&scene, "accounts", "spike");
    assert_eq!(spike.limit_ms, Some(NOW_MS - DAY_MS / 2));
    assert_eq!(spike.active_kinds, Some(3), "blog, pricing, demo");
    let usual_gap_ms = facts(&scene, "accounts", "steady").usual_gap_ms;
    assert_eq!(usual_gap_ms, Some(4 * DAY_MS));
    assert_eq!(facts(&scene, "accounts", "young").usual_gap_ms, None);
}

#[test]
fn people_are_told_by_rank_and_by_where_they_came_from() {
    let mut scene = Scene::new(Tracking::Off);
    let text = Value::Text;
    scene.account("old", 300.0, &[]).account("new", 300.0, &[]);
    scene.contact(
        "vp",
        "new",
        200.0,
        &[("seniority", text("VP")), ("department", text("IT"))],
    );
    scene.contact(
        "ic",
        "new",
        200.0,
        &[("seniority", text("IC")), ("department", text("Data"))],
    );
    scene.contact("away", "new", 200.0, &[("seniority", text("C-Level"))]);
    scene.contact("mover", "old", 200.0, &[("seniority", text("Manager"))]);
    scene.view("mover", 90.0, "pricing");
    scene.contact("mover", "new", 10.0, &[("seniority", text("Manager"))]);
    scene.view("mover", 2.0, "blog");
    scene
        .view("vp", 1.0, "pricing")
        .view("ic", 60.0, "blog")
        .view("ic", 3.0, "blog");
    scene.view("away", 40.0, "blog").now();
    let found = facts(&scene, "accounts", "new");
    assert_eq!(found.active_people, Some(3));
    let executives: Vec<(&str, i64)> = found
        .executives
        .iter()
        .map(|one| (one.key.as_str(), one.at_ms))
        .collect();
    assert_eq!(executives, [("vp", NOW_MS - DAY_MS)]);
    let moved = &found.from_elsewhere;
    assert_eq!(moved.len(), 1);
    assert_eq!(
        (moved[0].key.as_str(), moved[0].from.as_deref()),
        ("mover", Some("old"))
    );
    assert_eq!(moved[0].at_ms, NOW_MS - 10 * DAY_MS);
    let reached: Vec<&str> = found.reached["seniority"]
        .iter()
        .map(String::as_str)
        .collect();
    assert_eq!(reached, ["IC", "Manager", "VP"]);
    assert_eq!(found.by_field["department"], ["Data", "IT"]);
    assert_eq!(facts(&scene, "contacts", "vp").account, "new");
}

#[test]
fn deals_and_peers_are_told_by_outcomes_and_hubs() {
    let mut scene = Scene::new(Tracking::Off);
    let finance = [("industry", Value::Text("finance"))];
    for peer in 0..8 {
        let name = format!("peer{peer}");
        scene.account(&name, 300.0, &finance);
        if peer < 3 {
            let deal = format!("deal{peer}");
            scene.deal(&deal, &name, &[(80.0, "Discovery"), (5.0, "Closed Won")]);
        }
    }
    scene.account("acme", 300.0, &finance);
    scene.deal(
        "lost",
        "acme",
        &[(150.0, "Discovery"), (100.0, "Closed Lost")],
    );
    scene.deal("open", "acme", &[(20.0, "Negotiation")]).now();
    let found = facts(&scene, "accounts", "acme");
    assert_eq!(found.value_at_stake(), 120_000.0);
    assert_eq!(found.open_deals.len(), 1);
    assert!(!found.is_customer);
    assert_eq!(found.lost_ms, Some(NOW_MS - 100 * DAY_MS));
    let peers = found.peers.unwrap();
    assert_eq!(
        (peers.hub.as_str(), peers.of, peers.within_days),
        ("finance", 8, 90)
    );
    is_near(peers.closed, 2.7, 0.1);
    let winner = facts(&scene, "accounts", "peer0");
    assert!(winner.is_customer);
    assert_eq!(winner.lost_ms, None);
    is_near(winner.peers.unwrap().closed, 1.8, 0.1);
}

#[test]
fn unknown_names_of_facts_are_refused() {
    let scene = Scene::new(Tracking::Off);
    let layout = &scene.graph.shared().layout;
    let refused = |options: FactOptions| {
        let plan = AlertFactPlan::new(&scene.catalog, layout, &options);
        plan.expect_err("a name is unknown").to_string()
    };
    let limits = |table: &str, kind: &str| FactOptions {
        limits: [(table.to_owned(), vec![kind.to_owned()])].into(),
        ..FactOptions::default()
    };
    let usage = FactOptions {
        usage: vec!["contacts".into()],
        ..FactOptions::default()
    };
    let contact = FactOptions {
        do_not_contact: vec!["contacts.email".into()],
        ..FactOptions::default()
    };
    for (message, expected) in [
        (
            refused(usage),
            "facts.usage names \"contacts\", which is not one of: activities, stage_changes, views",
        ),
        (
            refused(limits("nothing", "blog")),
            "facts.limits names \"nothing\"",
        ),
        (
            refused(limits("views", "brochure")),
            "facts.limits.views names \"brochure\", which is not one of: blog, ebook, case_study, pricing",
        ),
        (
            refused(contact),
            "facts.do_not_contact names \"contacts.email\"",
        ),
    ] {
        assert!(message.contains(expected), "{message}");
    }
}
