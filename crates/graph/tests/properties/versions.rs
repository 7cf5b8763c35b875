//! Versions and deletions: with a version field the newest version wins in any order, without one
//! the log's order does, and no deletion that finds nothing counts as accepted.

use std::collections::BTreeMap;
use std::sync::Arc;

use leadpulse_graph::{Graph, GraphOptions, RowOutcome, Tracking};
use leadpulse_schema::{Catalog, Operation, Position, RowBatch, TableId, Value};
use proptest::prelude::*;

use crate::market::{Dice, START_MS, cases};
use crate::stored::{all, read_into};

const VERSIONED: &str = r#"{"type":"record","name":"A","leadpulse":{"table":"accounts","role":"root"},"fields":[
  {"name":"id","type":"string","leadpulse":{"key":true}},
  {"name":"version","type":["null","TYPE"],"default":null,"leadpulse":{"version":true}},
  {"name":"content","type":["null","string"],"default":null},
  {"name":"product","type":["null","string"],"default":null,"leadpulse":{"ref":"products"}}]}"#;
const TIMED: &str = r#"{"type":"record","name":"A","leadpulse":{"table":"accounts","role":"root"},"fields":[
  {"name":"id","type":"string","leadpulse":{"key":true}},
  {"name":"version","type":["null",{"type":"long","logicalType":"timestamp-millis"}],"default":null,"leadpulse":{"time":true}},
  {"name":"content","type":["null","string"],"default":null},
  {"name":"product","type":["null","string"],"default":null,"leadpulse":{"ref":"products"}}]}"#;
const PRODUCTS: &str = r#"{"type":"record","name":"P","leadpulse":{"table":"products","role":"hub"},"fields":[
  {"name":"sku","type":"string","leadpulse":{"key":true}}]}"#;
const VISITS: &str = r#"{"type":"record","name":"V","leadpulse":{"table":"visits","role":"event"},"fields":[
  {"name":"id","type":"string","leadpulse":{"key":true}},
  {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"},"leadpulse":{"time":true}},
  {"name":"account","type":"string","leadpulse":{"ref":"accounts","owner":true}}]}"#;

/// A graph of accounts, and the table that rows go to.
struct Story {
    catalog: Arc<Catalog>,
    graph: Graph,
    accounts: TableId,
}

impl Story {
    fn of(accounts: &str) -> Self {
        let file = |name: &str, json: &str| (name.to_owned(), json.to_owned());
        let files = [
            file("a.avsc", accounts),
            file("p.avsc", PRODUCTS),
            file("v.avsc", VISITS),
        ];
        let catalog = Arc::new(Catalog::from_json(&files).unwrap());
        let options = GraphOptions::default().validated().unwrap();
        Self {
            graph: Graph::new(catalog.clone(), options, Vec::new(), Tracking::On),
            accounts: catalog.root().id,
            catalog,
        }
    }
    /// Lets the graph go on from what is stored of it.
    fn store_and_read(&mut self) {
        let options = self.graph.shared().options.clone();
        let graph = Graph::new(self.catalog.clone(), options, Vec::new(), Tracking::On);
        self.graph = read_into(graph, &all(&self.graph)).unwrap();
    }
    fn longs() -> Self {
        Self::of(&VERSIONED.replace("TYPE", "long"))
    }

    fn push(&self, batch: &mut RowBatch, change: &Change) {
        let operation = if change.is_deletion {
            Operation::Delete
        } else {
            Operation::Upsert
        };
        let position = Position::default();
        let mut row = batch.start(&self.catalog, self.accounts, operation, position, START_MS);
        let table = self.catalog.table_at(self.accounts);
        let id = |name: &str| table.field(name).unwrap().id;
        row.set(id("id"), Value::Text(&change.key));
        if let Some(version) = change.version {
            let is_time = table.version.is_none();
            let value = if is_time {
                Value::Time(START_MS + version)
            } else {
                Value::Long(version)
            };
            row.set(id("version"), value);
        }
        if !change.is_deletion {
            row.set(id("content"), Value::Text(&change.content));
        }
        row.finish();
    }
    fn apply(&mut self, changes: &[Change]) -> Vec<RowOutcome> {
        let mut batch = RowBatch::new();
        changes
            .iter()
            .for_each(|change| self.push(&mut batch, change));
        self.graph.apply(&batch, None)
    }
    /// The content of an account; `None` while no row describes it.
    fn content(&self, key: &str) -> Option<String> {
        let (_, node) = self.graph.find(self.accounts, key)?;
        let field = self.catalog.root().field("content").unwrap().id;
        Some(node.row()?.get(field).text()?.to_owned())
    }
}

#[derive(Clone, Debug)]
struct Change {
    key: String,
    version: Option<i64>,
    content: String,
    is_deletion: bool,
}

fn upsert(key: &str, version: impl Into<Option<i64>>, content: &str) -> Change {
    Change {
        key: key.to_owned(),
        version: version.into(),
        content: content.to_owned(),
        is_deletion: false,
    }
}

fn delete(key: &str, version: impl Into<Option<i64>>) -> Change {
    Change {
        is_deletion: true,
        ..upsert(key, version, "")
    }
}

#[track_caller]
fn check(story: &mut Story, cases: &[(Change, RowOutcome, Option<&str>)]) {
    for (change, outcome, content) in cases {
        assert_eq!(
            story.apply(std::slice::from_ref(change)),
            [*outcome],
            "{change:?}"
        );
        assert_eq!(
            story.content(&change.key).as_deref(),
            *content,
            "after {change:?}"
        );
    }
}

#[test]
fn a_stored_graph_remembers_the_versions_of_its_deletions() {
    let mut story = Story::longs();
    story.apply(&[upsert("a", 5, "newest"), delete("a", 7)]);
    story.store_and_read();
    let late = story.apply(&[upsert("a", 6, "older than the deletion")]);
    assert_eq!(late, [RowOutcome::StaleVersion]);
    assert_eq!(story.content("a"), None);
}

#[test]
fn an_older_version_changes_nothing_and_a_deletion_keeps_its_version() {
    use RowOutcome::{Accepted, Duplicate, NothingToDelete, StaleVersion};
    check(
        &mut Story::longs(),
        &[
            (upsert("a", 5, "five"), Accepted, Some("five")),
            (upsert("a", 4, "four"), StaleVersion, Some("five")),
            (upsert("a", 5, "again"), Accepted, Some("again")),
            (delete("a", 4), StaleVersion, Some("again")),
            (delete("a", 7), Accepted, None),
            (delete("a", None), Duplicate, None),
            (upsert("a", 6, "six"), StaleVersion, None),
            (upsert("a", 7, "seven"), StaleVersion, None),
            (upsert("a", 8, "eight"), Accepted, Some("eight")),
            // A tombstone has no version: it deletes what came before it.
            (delete("a", None), Accepted, None),
            (upsert("a", 8, "eight"), StaleVersion, None),
            (upsert("a", 9, "nine"), Accepted, Some("nine")),
            // Without a version, the log's order decides.
            (
                upsert("a", None, "unversioned"),
                Accepted,
                Some("unversioned"),
            ),
            (upsert("a", 8, "eight"), StaleVersion, Some("unversioned")),
            // The deletion comes before any row of its key.
            (delete("b", 3), NothingToDelete, None),
            (delete("b", None), Duplicate, None),
            (upsert("b", 2, "two"), StaleVersion, None),
            (upsert("b", 4, "four"), Accepted, Some("four")),
            (delete("c", None), NothingToDelete, None),
            (upsert("c", 1, "one"), Accepted, Some("one")),
        ],
    );
}

#[test]
fn a_stored_graph_still_refuses_what_is_older_than_a_deletion() {
    use RowOutcome::{Accepted, Duplicate, StaleVersion};
    let mut story = Story::longs();
    story.apply(&[upsert("a", 5, "five"), delete("a", 7), delete("b", 3)]);
    story.store_and_read();
    check(
        &mut story,
        &[
            (upsert("a", 6, "six"), StaleVersion, None),
            (upsert("b", 2, "two"), StaleVersion, None),
            (delete("b", None), Duplicate, None),
            (upsert("b", 4, "four"), Accepted, Some("four")),
        ],
    );
}

#[test]
fn texts_are_versions_too() {
    let mut story = Story::of(&VERSIONED.replace("TYPE", "string"));
    let table = story.catalog.root().clone();
    let id = |name: &str| table.field(name).unwrap().id;
    let mut told = |version: &str, content: &str| {
        let mut batch = RowBatch::new();
        let mut row = batch.start(
            &story.catalog,
            table.id,
            Operation::Upsert,
            Position::default(),
            START_MS,
        );
        row.set(id("id"), Value::Text("a"));
        row.set(id("version"), Value::Text(version));
        row.set(id("content"), Value::Text(content));
        row.finish();
        story.graph.apply(&batch, None)[0]
    };
    assert_eq!(told("10", "ten"), RowOutcome::Accepted);
    assert_eq!(told("9", "nine"), RowOutcome::StaleVersion);
    assert_eq!(story.content("a").as_deref(), Some("ten"));
}

#[test]
fn a_part_of_an_entity_that_no_row_described_is_told() {
    use RowOutcome::{Accepted, InPart};
    let mut story = Story::of(TIMED);
    let part = |story: &mut Story, outcome: RowOutcome, content: Option<&str>| {
        let mut batch = RowBatch::new();
        let at = Position::default();
        let table = story.catalog.table_at(story.accounts);
        let mut row = batch.start(&story.catalog, table.id, Operation::Upsert, at, START_MS);
        row.set(table.key, Value::Text("a"));
        row.set_unchanged(table.field("content").unwrap().id);
        row.finish();
        assert_eq!(story.graph.apply(&batch, None), [outcome]);
        assert_eq!(story.content("a").as_deref(), content);
    };
    part(&mut story, InPart, None);
    // The part is a version now, and what follows adds to it.
    part(&mut story, Accepted, None);
    check(
        &mut story,
        &[(upsert("a", 1, "one"), Accepted, Some("one"))],
    );
    part(&mut story, Accepted, Some("one"));
    check(&mut story, &[(delete("a", None), Accepted, None)]);
    part(&mut story, InPart, None);
}

#[test]
fn deletions_without_a_target_are_no_accepted_rows() {
    use RowOutcome::{Accepted, Duplicate, NothingToDelete, SteppedBack};
    let mut story = Story::of(TIMED);
    check(
        &mut story,
        &[
            (delete("a", None), NothingToDelete, None),
            (upsert("a", 2, "two"), Accepted, Some("two")),
            (upsert("a", 1, "one"), SteppedBack, Some("one")),
            (upsert("a", 1, "same"), Accepted, Some("same")),
            (delete("a", None), Accepted, None),
            (delete("a", None), Duplicate, None),
        ],
    );
    assert_eq!(story.graph.directory().len(), 1, "nothing was invented");
    // An account that events name is there, but no row describes it.
    let visits = story.catalog.table("visits").unwrap();
    let mut batch = RowBatch::new();
    let mut row = batch.start(
        &story.catalog,
        visits.id,
        Operation::Upsert,
        Position::default(),
        START_MS,
    );
    row.set(visits.field("id").unwrap().id, Value::Text("v"));
    row.set(visits.field("at").unwrap().id, Value::Time(START_MS));
    row.set(visits.field("account").unwrap().id, Value::Text("stub"));
    row.finish();
    assert_eq!(story.graph.apply(&batch, None), [Accepted]);
    check(&mut story, &[(delete("stub", None), NothingToDelete, None)]);
    // Hubs: a row of their own is what a deletion finds.
    story.accounts = story.catalog.table("products").unwrap().id;
    let hub = |story: &Story, operation| {
        let products = story.catalog.table("products").unwrap();
        let mut batch = RowBatch::new();
        let mut row = batch.start(
            &story.catalog,
            products.id,
            operation,
            Position::default(),
            START_MS,
        );
        row.set(products.key, Value::Text("p"));
        row.finish();
        batch
    };
    for (operation, outcome) in [
        (Operation::Delete, NothingToDelete),
        (Operation::Upsert, Accepted),
        (Operation::Delete, Accepted),
        (Operation::Delete, Duplicate),
    ] {
        let batch = hub(&story, operation);
        assert_eq!(story.graph.apply(&batch, None), [outcome], "{operation:?}");
    }
}

/// The newest change of each key, deletions last among equals. Upserts of equal versions follow the
/// log, so a generated case has each version of a key in one upsert and one deletion at most.
fn newest(changes: &[Change]) -> BTreeMap<String, Option<String>> {
    let mut by_key: BTreeMap<String, &Change> = BTreeMap::new();
    for change in changes {
        let newest = by_key.entry(change.key.clone()).or_insert(change);
        let rank = |change: &Change| (change.version, change.is_deletion);
        if rank(change) > rank(newest) {
            *newest = change;
        }
    }
    by_key
        .into_iter()
        .map(|(key, newest)| {
            let content = (!newest.is_deletion).then(|| newest.content.clone());
            (key, content)
        })
        .collect()
}

proptest! {
    #![proptest_config(cases(128))]

    #[test]
    fn the_newest_version_wins_in_any_order_and_cut(
        drawn in prop::collection::btree_set((0..4_u8, -3..8_i64, any::<bool>()), 1..40),
        entropy in any::<u64>(),
    ) {
        let changes: Vec<Change> = drawn
            .into_iter()
            .map(|(key, version, is_deletion)| {
                let key = format!("k{key}");
                if is_deletion {
                    delete(&key, version)
                } else {
                    upsert(&key, version, &format!("{key} at {version}"))
                }
            })
            .collect();
        let expected = newest(&changes);
        let mut dice = Dice(entropy);
        for _ in 0..3 {
            // Repeats stand for a source that sends again.
            let mut sent = changes.clone();
            for _ in 0..dice.below(6) {
                let again = changes[dice.below(changes.len() as u64) as usize].clone();
                sent.push(again);
            }
            for at in (1..sent.len()).rev() {
                sent.swap(at, dice.below(at as u64 + 1) as usize);
            }
            let mut story = Story::longs();
            let mut rest = &sent[..];
            while !rest.is_empty() {
                let (batch, after) = rest.split_at((1 + dice.below(5) as usize).min(rest.len()));
                story.apply(batch);
                rest = after;
            }
            for (key, content) in &expected {
                prop_assert_eq!(&story.content(key), content, "{} after {:?}", key, &sent);
            }
            prop_assert!(story.graph.check().is_ok());
        }
    }
}
