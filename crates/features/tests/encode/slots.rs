//! Rows of members: which are attended to, what is folded, and a row for each that is asked about.

use leadpulse_features::{FeatureBatch, MemberBlock};
use leadpulse_graph::Tracking;
use leadpulse_schema::TableId;
use leadpulse_schema::units::AsOf;

use crate::scene::{NOW_MS, Scene};

/// An account of 40 open deals, 5 that ended since, and 60 contacts.
fn large() -> Scene {
    let mut scene = Scene::new(Tracking::Off);
    scene.account("a", 300.0, &[]);
    for i in 0..60 {
        let key = format!("c{i:02}");
        scene.contact(&key, "a", 200.0, &[]);
        scene.view(&key, 100.0 - f64::from(i), "blog");
    }
    for i in 0..45 {
        let opened = (150.0 - f64::from(i), "Discovery");
        let ended = (
            5.0,
            if i % 2 == 0 {
                "Closed Won"
            } else {
                "Closed Lost"
            },
        );
        let stages = [opened, ended];
        scene.deal(&format!("o{i:02}"), "a", &stages[..1 + usize::from(i < 5)]);
    }
    scene.now();
    scene
}

fn encode(scene: &Scene, asked: &[&str]) -> FeatureBatch {
    let asked: Vec<TableId> = asked
        .iter()
        .map(|table| scene.catalog.table(table).unwrap().id)
        .collect();
    let (at, _) = scene.find("accounts", "a");
    let as_of = AsOf::from_ms(NOW_MS);
    scene.plan.encode(&scene.graph, &[at], as_of, &asked)
}

fn block<'b>(scene: &Scene, batch: &'b FeatureBatch, table: &str) -> &'b MemberBlock {
    let members = &scene.plan.layout().members;
    &batch.members[members.iter().position(|m| m.name == table).unwrap()]
}

fn keys(scene: &Scene, block: &MemberBlock) -> Vec<String> {
    let key = |entity| scene.graph.directory().key(entity).to_string();
    let entities = block.entities.iter();
    entities
        .map(|entity| entity.map_or("rest".into(), key))
        .collect()
}

fn named(names: impl Iterator<Item = u32>, prefix: &str) -> Vec<String> {
    names.map(|i| format!("{prefix}{i:02}")).collect()
}

#[test]
fn every_member_asked_about_has_a_row_of_its_own() {
    let scene = large();
    let batch = encode(&scene, &["contacts", "opportunities"]);
    for (table, members) in [("contacts", 60), ("opportunities", 45)] {
        let block = block(&scene, &batch, table);
        assert_eq!((block.slots, block.attended[0]), (members + 1, 16));
        assert_eq!(block.folded[0] as usize, members - 15);
        let id = scene.catalog.table(table).unwrap().id;
        let prefix = if table == "contacts" { "c" } else { "o" };
        let mut rows: Vec<usize> = named(0..members as u32, prefix)
            .iter()
            .map(|key| {
                let (_, entity) = scene.find(table, key);
                scene.plan.row_of(&batch, id, 0, entity).unwrap().0
            })
            .collect();
        rows.sort_unstable();
        rows.dedup();
        assert_eq!(rows.len(), members, "nobody shares a row");
        let row = |at: usize| &block.values[at * block.width..(at + 1) * block.width];
        assert!(rows.windows(2).all(|w| row(w[0]) != row(w[1])));
    }
}

#[test]
fn tables_that_are_not_asked_about_have_rows_up_to_the_cap() {
    let scene = large();
    let (all, some) = (
        encode(&scene, &["contacts", "opportunities"]),
        encode(&scene, &["contacts"]),
    );
    assert_eq!(all.root, some.root);
    let (all, some) = (
        block(&scene, &all, "opportunities"),
        block(&scene, &some, "opportunities"),
    );
    assert_eq!((some.slots, some.folded[0]), (16, 30));
    assert_eq!(some.values[..], all.values[..16 * all.width]);
}

#[test]
fn open_members_come_before_ended_ones_and_then_the_newest() {
    let scene = large();
    let batch = encode(&scene, &["opportunities"]);
    let found = keys(&scene, block(&scene, &batch, "opportunities"));
    assert_eq!(found[..15], named((30..45).rev(), "o"));
    assert_eq!(found[15], "rest");
    // Those that ended have the newest events, and come last.
    assert_eq!(found[16..41], named((5..30).rev(), "o"));
    assert_eq!(found[41..], named(0..5, "o"));
}

#[test]
fn the_rest_row_has_the_events_of_all_that_it_stands_for() {
    let scene = large();
    let batch = encode(&scene, &["contacts"]);
    let block = block(&scene, &batch, "contacts");
    let layout = &scene.plan.layout().members;
    let columns = &layout
        .iter()
        .find(|m| m.name == "contacts")
        .unwrap()
        .columns;
    let column = |name: &str| columns.iter().position(|c| c.name == name).unwrap();
    let value = |row: usize, name: &str| f64::from(block.values[row * block.width + column(name)]);
    let sum: f64 = (16..61)
        .map(|row| value(row, "views/90d/sum").exp_m1())
        .sum();
    assert!((value(15, "views/90d/sum") - sum.ln_1p()).abs() < 1e-4);
    // The newest view of any of them, and the mean of a field.
    assert_eq!(value(15, "views/recency"), value(16, "views/recency"));
    assert_eq!(value(15, "contacts.engagement_score/missing"), 1.0);
}
