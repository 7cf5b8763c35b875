//! Rows of hub tables: published with boards, the newest version in any order, and read again by the
//! cells that touch the hub.

use std::collections::BTreeMap;
use std::sync::Arc;

use leadpulse_graph::{DAY_MS, Graph, GraphOptions, RowOutcome, Tracking};
use leadpulse_schema::units::AsOf;
use leadpulse_schema::{Catalog, Operation, Position, RowBatch, Value};
use proptest::prelude::*;

use crate::market::{START_MS, cases};
use crate::stored::{all, read_into};

const ACCOUNTS: &str = r#"{"type":"record","name":"A","leadpulse":{"table":"accounts","role":"root"},"fields":[
  {"name":"id","type":"string","leadpulse":{"key":true}},
  {"name":"product","type":["null","string"],"default":null,"leadpulse":{"ref":"products"}}]}"#;
const PRODUCTS: &str = r#"{"type":"record","name":"P","leadpulse":{"table":"products","role":"hub"},"fields":[
  {"name":"sku","type":"string","leadpulse":{"key":true}},
  {"name":"version","type":["null","long"],"default":null,"leadpulse":{"version":true}},
  {"name":"price","type":["null","double"],"default":null},
  {"name":"brand","type":["null","string"],"default":null,"leadpulse":{"feature":"category"}},
  {"name":"title","type":["null","string"],"default":null,"leadpulse":{"label":true}},
  {"name":"changed","type":["null",{"type":"array","items":"string"}],"default":null,"leadpulse":{"changed_fields":true}}]}"#;
const VISITS: &str = r#"{"type":"record","name":"V","leadpulse":{"table":"visits","role":"event"},"fields":[
  {"name":"id","type":"string","leadpulse":{"key":true}},
  {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"},"leadpulse":{"time":true}},
  {"name":"account","type":"string","leadpulse":{"ref":"accounts","owner":true}}]}"#;

/// A row of a product; without a price a deletion.
#[derive(Clone, Debug)]
struct Change {
    sku: &'static str,
    version: Option<i64>,
    price: Option<f64>,
}

struct Shop {
    catalog: Arc<Catalog>,
    graph: Graph,
    now_ms: i64,
}

impl Shop {
    fn new() -> Self {
        let files = [
            ("a.avsc", ACCOUNTS),
            ("p.avsc", PRODUCTS),
            ("v.avsc", VISITS),
        ];
        let catalog = Arc::new(Catalog::from_json(&files).unwrap());
        let graph = Self::graph(&catalog);
        Self {
            catalog,
            graph,
            now_ms: START_MS,
        }
    }
    fn graph(catalog: &Arc<Catalog>) -> Graph {
        let options = GraphOptions::default().validated().unwrap();
        Graph::new(catalog.clone(), options, Vec::new(), Tracking::On)
    }
    fn apply(
        &mut self,
        table: &str,
        operation: Operation,
        values: &[(&str, Value<'_>)],
    ) -> RowOutcome {
        let table = self.catalog.table(table).unwrap();
        let mut batch = RowBatch::new();
        let position = Position::default();
        let mut row = batch.start(&self.catalog, table.id, operation, position, self.now_ms);
        for (field, value) in values {
            row.set(table.field(field).unwrap().id, *value);
        }
        row.finish();
        self.graph.apply(&batch, None)[0]
    }
    fn change(&mut self, change: &Change) -> RowOutcome {
        let mut values = vec![("sku", Value::Text(change.sku))];
        values.extend(change.version.map(|n| ("version", Value::Long(n))));
        values.extend(change.price.map(|price| ("price", Value::Double(price))));
        let operation = match change.price {
            Some(_) => Operation::Upsert,
            None => Operation::Delete,
        };
        self.apply("products", operation, &values)
    }
    /// Lets a day and so a board pass.
    fn pass(&mut self) {
        self.now_ms += DAY_MS;
        self.graph.advance(AsOf::from_ms(self.now_ms));
    }
    fn price(&self, sku: &str) -> Option<f64> {
        let table = self.catalog.table("products").unwrap();
        let field = table.field("price").unwrap().id;
        let directory = self.graph.directory();
        let hub = directory.find(directory.of_table(table.id), sku)?;
        self.graph.hubs().row(hub)?.get(field).number()
    }
    /// The keys of the accounts that wait to be scored; they are scored.
    fn score(&mut self) -> Vec<String> {
        let taken = self.graph.take_dirty(usize::MAX);
        let mut keys: Vec<String> = taken
            .iter()
            .map(|(at, _)| {
                let anchor = self.graph.cell(*at).anchor;
                self.graph.directory().key(anchor).to_string()
            })
            .collect();
        for (at, _) in taken {
            self.graph.scored(at, 0.0);
        }
        keys.sort();
        keys
    }
}

fn priced(sku: &'static str, price: f64) -> Change {
    Change {
        sku,
        version: None,
        price: Some(price),
    }
}

#[test]
fn a_row_of_a_hub_is_published_with_the_next_board() {
    let mut shop = Shop::new();
    shop.pass();
    shop.change(&priced("anvil", 10.0));
    assert_eq!(shop.price("anvil"), None);
    shop.pass();
    assert_eq!(shop.price("anvil"), Some(10.0));
    let deletion = Change {
        price: None,
        ..priced("anvil", 0.0)
    };
    assert_eq!(shop.change(&deletion), RowOutcome::Accepted);
    assert_eq!(shop.price("anvil"), Some(10.0), "until the board");
    shop.pass();
    assert_eq!(shop.price("anvil"), None);
    assert_eq!(shop.change(&deletion), RowOutcome::Duplicate);
}

#[test]
fn a_change_record_keeps_the_fields_that_it_does_not_name() {
    let mut shop = Shop::new();
    shop.change(&priced("anvil", 10.0));
    let values = [
        ("sku", Value::Text("anvil")),
        ("brand", Value::Text("Acme")),
    ];
    shop.pass();
    let table = shop.catalog.table("products").unwrap().clone();
    let mut batch = RowBatch::new();
    let position = Position::default();
    let mut row = batch.start(
        &shop.catalog,
        table.id,
        Operation::Upsert,
        position,
        shop.now_ms,
    );
    for (field, value) in values {
        row.set(table.field(field).unwrap().id, value);
    }
    row.set_list(table.field("changed").unwrap().id, ["brand"]);
    row.finish();
    shop.graph.apply(&batch, None);
    shop.pass();
    assert_eq!(shop.price("anvil"), Some(10.0));
}

/// The accounts that wait for a score after a board, with rows of products before it.
fn waiting_after(rows: &[&[(&str, Value<'_>)]]) -> Vec<String> {
    let mut shop = Shop::new();
    for (account, product) in [("a", "anvil"), ("b", "anvil"), ("c", "bolt")] {
        let values = [
            ("id", Value::Text(account)),
            ("product", Value::Text(product)),
        ];
        shop.apply("accounts", Operation::Upsert, &values);
    }
    shop.change(&priced("anvil", 10.0));
    for _ in 0..3 {
        shop.pass();
        shop.score();
    }
    for row in rows {
        shop.apply("products", Operation::Upsert, row);
    }
    assert_eq!(shop.score(), [""; 0], "the board is still to come");
    shop.pass();
    shop.score()
}

#[test]
fn accounts_that_touch_a_hub_are_scored_again_when_its_row_changes() {
    // Time alone makes some of them due.
    let by_time = waiting_after(&[]);
    assert!(by_time.len() < 3, "{by_time:?}");
    let anvil = ("sku", Value::Text("anvil"));
    let bolt = ("sku", Value::Text("bolt"));
    let with = |account: &str| {
        let mut waiting = by_time.clone();
        waiting.push(account.to_owned());
        waiting.sort();
        waiting.dedup();
        waiting
    };
    let price = ("price", Value::Double(7.0));
    assert!(with("c").len() > by_time.len());
    assert_eq!(waiting_after(&[&[bolt, price]]), with("c"));
    assert_eq!(
        waiting_after(&[&[anvil, price]]).len(),
        with("a").len().max(2)
    );
    let same = ("price", Value::Double(10.0));
    let title = ("title", Value::Text("An anvil"));
    assert_eq!(waiting_after(&[&[anvil, same, title]]), by_time);
}

proptest! {
    #![proptest_config(cases(64))]

    #[test]
    fn the_newest_version_of_a_hub_wins_in_any_order(
        changes in prop::collection::vec((0..3_usize, prop::option::of(0..9_u32)), 1..20),
        order in any::<u64>(),
        boards in prop::collection::vec(any::<bool>(), 20),
    ) {
        let changes: Vec<Change> = changes
            .iter()
            .zip(0..)
            .map(|((sku, price), version)| Change {
                sku: ["anvil", "bolt", "clamp"][*sku],
                version: Some(version),
                price: price.map(f64::from),
            })
            .collect();
        let mut newest = BTreeMap::new();
        for change in &changes {
            newest.insert(change.sku, change.price);
        }
        let mut shuffled = changes.clone();
        let key = |change: &Change| {
            (order ^ (change.version.unwrap() as u64)).wrapping_mul(0x9E37_79B9_7F4A_7C15)
        };
        shuffled.sort_by_key(key);
        let mut shop = Shop::new();
        for (change, board) in shuffled.iter().zip(&boards) {
            shop.change(change);
            if *board {
                shop.pass();
                let graph = Shop::graph(&shop.catalog);
                shop.graph = read_into(graph, &all(&shop.graph)).unwrap();
            }
        }
        shop.pass();
        for (sku, price) in newest {
            prop_assert_eq!(shop.price(sku), price, "{}", sku);
        }
    }
}
