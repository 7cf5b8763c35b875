//! Causes of marks, and the work of rows with very long lists, counted in comparisons of entities.

use std::sync::Arc;

use leadpulse_schema::units::AsOf;
use leadpulse_schema::{Catalog, FieldId, Operation, Position, RowBatch, TableId, Value};

use super::*;
use crate::change::effects::Cause;
use crate::ids::work;

const ACCOUNTS: &str = r#"{"type":"record","name":"A","leadpulse":{"table":"accounts","role":"root"},"fields":[
  {"name":"id","type":"string","leadpulse":{"key":true}}]}"#;
const DEALS: &str = r#"{"type":"record","name":"D","leadpulse":{"table":"deals","role":"member"},"fields":[
  {"name":"id","type":"string","leadpulse":{"key":true}},
  {"name":"account","type":["null","string"],"default":null,"leadpulse":{"ref":"accounts","owner":true}},
  {"name":"rivals","type":{"type":"array","items":"string"},"default":[],"leadpulse":{"ref":"accounts"}},
  {"name":"tags","type":{"type":"array","items":"string"},"default":[],"leadpulse":{"hub":"tags"}}]}"#;
const CALLS: &str = r#"{"type":"record","name":"C","leadpulse":{"table":"calls","role":"event"},"fields":[
  {"name":"id","type":"string","leadpulse":{"key":true}},
  {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"},"leadpulse":{"time":true}},
  {"name":"deal","type":["null","string"],"default":null,"leadpulse":{"ref":"deals","owner":true}},
  {"name":"about","type":{"type":"array","items":"string"},"default":[],"leadpulse":{"ref":"accounts"}},
  {"name":"tags","type":{"type":"array","items":"string"},"default":[],"leadpulse":{"hub":"tags"}},
  {"name":"revoked","type":"boolean","default":false,"leadpulse":{"retraction":true}}]}"#;

const MAILS: &str = r#"{"type":"record","name":"M","leadpulse":{"table":"mails","role":"event"},"fields":[
  {"name":"id","type":"string","leadpulse":{"key":true}},
  {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"},"leadpulse":{"time":true}},
  {"name":"deal","type":["null","string"],"default":null,"leadpulse":{"ref":"deals","owner":true}}]}"#;

/// A deal and its calls that name very many accounts and tags, in lists.
struct Lists {
    catalog: Arc<Catalog>,
    graph: Graph,
}

impl Lists {
    fn new() -> Self {
        let files = [
            ("a.avsc".to_owned(), ACCOUNTS),
            ("d.avsc".to_owned(), DEALS),
            ("c.avsc".to_owned(), CALLS),
            ("m.avsc".to_owned(), MAILS),
        ];
        let catalog = Arc::new(Catalog::from_json(&files).unwrap());
        let graph = Graph::new(
            catalog.clone(),
            GraphOptions::default().validated().unwrap(),
            Vec::new(),
            Tracking::On,
        );
        Self { catalog, graph }
    }
    fn batch(
        &self,
        table: &str,
        operation: Operation,
        texts: &[(&str, &str)],
        lists: &[(&str, &[String])],
        time_ms: i64,
    ) -> RowBatch {
        let table = self.catalog.table(table).unwrap();
        let mut batch = RowBatch::new();
        let mut row = batch.start(
            &self.catalog,
            table.id,
            operation,
            Position {
                partition: 0,
                offset: 0,
            },
            time_ms,
        );
        let field = |name: &str| -> FieldId { table.field(name).unwrap().id };
        texts
            .iter()
            .for_each(|(name, text)| row.set(field(name), Value::Text(text)));
        lists
            .iter()
            .for_each(|(name, items)| row.set_list(field(name), items.iter().map(String::as_str)));
        table
            .time
            .into_iter()
            .for_each(|time| row.set(time, Value::Time(time_ms)));
        row.finish();
        batch
    }
    fn apply(&mut self, batch: &RowBatch) {
        assert_eq!(self.graph.apply(batch, None), [RowOutcome::Accepted]);
    }
    fn deal(&mut self, keys: &[String], time_ms: i64) {
        let batch = self.batch(
            "deals",
            Operation::Upsert,
            &[("id", "d"), ("account", "a")],
            &[("rivals", keys), ("tags", keys)],
            time_ms,
        );
        self.apply(&batch);
    }
    fn call(&mut self, id: &str, operation: Operation, keys: &[String], time_ms: i64) {
        let batch = self.batch(
            "calls",
            operation,
            &[("id", id), ("deal", "d")],
            &[("about", keys), ("tags", keys)],
            time_ms,
        );
        self.apply(&batch);
    }
    fn mails(&mut self, times: std::ops::Range<i64>) {
        for time_ms in times {
            let id = format!("m{time_ms}");
            let texts = [("id", &*id), ("deal", "d")];
            let batch = self.batch("mails", Operation::Upsert, &texts, &[], time_ms);
            self.apply(&batch);
        }
    }
    /// Newest time that is known of the calls, milliseconds.
    fn newest_call_ms(&self) -> Option<i64> {
        let (_, node) = self.graph.find(self.table("deals"), "d").unwrap();
        let layout = &self.graph.shared().layout;
        let place = layout.position(node.table, self.table("calls"));
        node.events[place].newest_ms()
    }
    fn table(&self, name: &str) -> TableId {
        self.catalog.table(name).unwrap().id
    }
    fn edges(&self) -> usize {
        self.graph
            .edges(self.graph.find(self.table("deals"), "d").unwrap().1)
            .len()
    }
    fn touches(&self) -> usize {
        self.graph
            .find(self.table("deals"), "d")
            .unwrap()
            .1
            .touches()
            .len()
    }
}

/// Comparisons that rows with lists of `n` keys cost: a version, another, an event, a second one,
/// and its retraction.
fn comparisons_of_lists(n: usize) -> u64 {
    let mut lists = Lists::new();
    // Scattered, half of them twice, so that order of sight and order of keys are not that of the
    // list.
    let keys = |from: usize| -> Vec<String> {
        (0..n)
            .map(|i| format!("k{}", from + i * 7919 % n))
            .collect()
    };
    let (first, second) = (keys(0), keys(n / 2));
    let started = work::comparisons();
    lists.deal(&first, 1_000);
    lists.deal(&[&first[..], &first[..]].concat(), 2_000);
    lists.deal(&second, 3_000);
    assert_eq!(lists.edges(), n);
    lists.call("c1", Operation::Upsert, &second, 4_000);
    lists.call("c2", Operation::Upsert, &first, 5_000);
    assert_eq!(lists.touches(), n + n / 2);
    lists.call("c1", Operation::Retract, &second, 4_000);
    assert_eq!(lists.touches(), n);
    lists.graph.take_dirty(usize::MAX);
    lists.graph.advance(AsOf::from_ms(7_000));
    work::comparisons() - started
}

/// Sorting costs a little more than twice for twice the keys; each with each would cost four
/// times.
#[test]
fn rows_with_twice_the_keys_cost_about_twice_the_work() {
    let (half, whole) = (comparisons_of_lists(20_000), comparisons_of_lists(40_000));
    assert!(
        whole < half * 5 / 2,
        "{half} comparisons for 20,000 keys, {whole} for 40,000"
    );
    assert!(
        whole < 40_000 * 1_000,
        "{whole} comparisons for 40,000 keys"
    );
}

/// Rows that touch the nearest cells again and again do not keep the others from their turn.
#[test]
fn cells_within_a_limit_are_the_nearest_and_none_waits_for_ever() {
    let mut lists = Lists::new();
    let touch = |lists: &mut Lists, account: usize, time_ms| {
        let id = format!("a{account}");
        let batch = lists.batch("accounts", Operation::Upsert, &[("id", &id)], &[], time_ms);
        lists.apply(&batch);
    };
    // An account of one node is five nodes of work. Its number is its distance from a threshold.
    let take = |lists: &mut Lists, nodes| -> Vec<usize> {
        let limit = TakeLimit {
            soft_cells: usize::MAX,
            nodes,
        };
        let taken = lists.graph.take_within(limit).into_iter();
        let number = |at| -> usize {
            let anchor = lists.graph.cell(at).anchor;
            lists.graph.directory().key(anchor)[1..].parse().unwrap()
        };
        let mut taken: Vec<(usize, CellRef)> = taken.map(|(at, _)| (number(at), at)).collect();
        taken.sort_unstable();
        for (number, at) in &taken {
            lists.graph.scored(*at, *number as f32);
        }
        taken.into_iter().map(|(number, _)| number).collect()
    };
    (0..10).for_each(|account| touch(&mut lists, account, 1_000));
    assert_eq!(take(&mut lists, u64::MAX).len(), 10);
    (0..10).for_each(|account| touch(&mut lists, account, 2_000));
    assert_eq!(take(&mut lists, 10), [0, 1]);
    assert_eq!(lists.graph.dirty(), 8, "the others wait");
    let mut rounds = 0;
    let mut others: Vec<usize> = Vec::new();
    while others.len() < 8 {
        rounds += 1;
        assert!(rounds < 100, "only {others:?} had their turn");
        (0..2).for_each(|account| touch(&mut lists, account, 2_000 + rounds));
        let taken = take(&mut lists, 10);
        assert_eq!(taken.len(), 2, "the limit holds in every round");
        others.extend(taken.into_iter().filter(|account| *account > 1));
    }
    assert!(rounds > 60, "the nearest came first for {rounds} rounds");
    assert_eq!(take(&mut lists, 1), [0], "one cell in any case");
    lists.graph.restart(|_, _| 0.0, false);
    assert_eq!((lists.graph.dirty(), lists.graph.deferred()), (0, 10));
    assert_eq!(
        take(&mut lists, 25).len(),
        5,
        "the soft ones are within it, too"
    );
}

#[test]
fn every_mark_has_its_cause() {
    let mut lists = Lists::new();
    let causes = |lists: &mut Lists, batch: &RowBatch| -> Vec<Cause> {
        let (_, effects) = lists.graph.write(batch, None);
        lists.graph.tracker.mark_effects(&effects, 0, |_| 0);
        effects.iter().map(|(_, cause)| cause).collect()
    };
    let call = |lists: &Lists, id| {
        lists.batch(
            "calls",
            Operation::Upsert,
            &[("id", id), ("deal", "d")],
            &[],
            1_000,
        )
    };
    let deal = |lists: &Lists, operation| {
        let texts = [("id", "d"), ("account", "a")];
        lists.batch("deals", operation, &texts, &[], 1_000)
    };
    let first = call(&lists, "c1");
    let expected = [Cause::Opened, Cause::FirstNamed, Cause::Event];
    assert_eq!(causes(&mut lists, &first), expected);
    assert!(
        causes(&mut lists, &first).is_empty(),
        "a duplicate changes nothing"
    );
    let version = deal(&lists, Operation::Upsert);
    let expected = [
        Cause::Opened,
        Cause::FirstNamed,
        Cause::Left,
        Cause::Joined,
        Cause::Version,
    ];
    assert_eq!(causes(&mut lists, &version), expected);
    let second = call(&lists, "c2");
    assert_eq!(causes(&mut lists, &second), [Cause::Event]);
    let deleted = deal(&lists, Operation::Delete);
    let expected = [Cause::Opened, Cause::Left, Cause::Joined, Cause::Deleted];
    assert_eq!(causes(&mut lists, &deleted), expected);
    assert_eq!(lists.graph.check(), Ok(()));
}

/// Two topics are read in any order. Mails push the calls out of the list of newest events.
#[test]
fn a_retraction_leaves_the_same_newest_event_whichever_topic_is_read_first() {
    const MAILS: std::ops::Range<i64> = 3_000..3_040;
    let newest = |mails_first: bool| {
        let mut lists = Lists::new();
        lists.deal(&[], 500);
        if mails_first {
            lists.mails(MAILS);
        }
        for (id, time_ms) in [("c1", 1_000), ("c2", 1_500), ("c3", 2_000)] {
            lists.call(id, Operation::Upsert, &[], time_ms);
        }
        lists.call("c3", Operation::Retract, &[], 2_000);
        if !mails_first {
            lists.mails(MAILS);
        }
        lists.newest_call_ms()
    };
    assert_eq!(newest(true), newest(false));
}

/// HubSpot names merged contacts on the survivor's row only, in a list.
#[test]
fn a_survivor_may_list_the_rows_it_absorbed() {
    const PEOPLE: &str = r#"{"type":"record","name":"P","leadpulse":{"table":"people","role":"member"},"fields":[
      {"name":"id","type":"string","leadpulse":{"key":true}},
      {"name":"account","type":["null","string"],"default":null,"leadpulse":{"ref":"accounts","owner":true}},
      {"name":"merged","type":["null",{"type":"array","items":"string"}],"default":null,"leadpulse":{"ref":"people","was":true}}]}"#;
    const VISITS: &str = r#"{"type":"record","name":"V","leadpulse":{"table":"visits","role":"event"},"fields":[
      {"name":"id","type":"string","leadpulse":{"key":true}},
      {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"},"leadpulse":{"time":true}},
      {"name":"person","type":"string","leadpulse":{"ref":"people","owner":true}}]}"#;
    let files = [("a", ACCOUNTS), ("p", PEOPLE), ("v", VISITS)];
    let catalog = Arc::new(Catalog::from_json(&files).expect("the schemas are valid"));
    let (people, visits) = (catalog.table("people"), catalog.table("visits"));
    let (people, visits) = (people.expect("declared").id, visits.expect("declared").id);
    // Rows: the survivor 1 absorbs 2 and 3; each of the three visits once.
    let rows: [&dyn Fn(&mut RowBatch); 4] = [
        &|batch| {
            let position = Position::default();
            let mut row = batch.start(&catalog, people, Operation::Upsert, position, 0);
            row.set(FieldId(0), Value::Text("1"));
            row.set(FieldId(1), Value::Text("A"));
            row.set_list(FieldId(2), ["2", "3"]);
            row.finish();
        },
        &|batch| visit(&catalog, batch, visits, "v1", "1"),
        &|batch| visit(&catalog, batch, visits, "v2", "2"),
        &|batch| visit(&catalog, batch, visits, "v3", "3"),
    ];
    for order in [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]] {
        let options = GraphOptions::default().validated().expect("in range");
        let mut graph = Graph::new(catalog.clone(), options, Vec::new(), Tracking::Off);
        for index in order {
            let mut batch = RowBatch::new();
            rows[index](&mut batch);
            graph.apply(&batch, None);
        }
        let (_, survivor) = graph.find(people, "1").expect("described");
        assert_eq!(survivor.events[0].total, 3, "{order:?}");
        let (_, absorbed) = graph.find(people, "3").expect("named");
        assert!(absorbed.is_merged(), "{order:?}");
    }
}

fn visit(catalog: &Catalog, batch: &mut RowBatch, table: TableId, id: &str, person: &str) {
    let at_ms = 1_700_000_000_000;
    let mut row = batch.start(
        catalog,
        table,
        Operation::Upsert,
        Position::default(),
        at_ms,
    );
    row.set(FieldId(0), Value::Text(id));
    row.set(FieldId(1), Value::Time(at_ms));
    row.set(FieldId(2), Value::Text(person));
    row.finish();
}
