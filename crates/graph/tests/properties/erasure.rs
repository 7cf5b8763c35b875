//! An erased person leaves no byte, and a graph that is as if the person's rows had never come.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use leadpulse_graph::{DAY_MS, ErasedRows, Graph, NodeImage, Pieces, Tracking, Which};
use leadpulse_schema::units::AsOf;
use leadpulse_schema::{Role, TableId};
use proptest::prelude::*;
use serde_json::Value as Json;

use crate::market::{Datum, Dice, Market, Plain, START_MS, Style, cases, network, seeds, stream};
use crate::stored::{Shelf, Stored, all, put, read_into};

const KEY: &str = "zz-victim-key";
const EMAIL: &str = "Jo.Victim@victims.example";
/// Bytes of the victim, as they may be anywhere.
const TRACES: [&[u8]; 3] = [b"victim-key", b"ictim@", b"victims.example"];

/// Makes an entity of any of some tables the victim. Returns the table.
fn with_any_victim(
    market: &Market,
    rows: &mut [Plain],
    dice: &mut Dice,
    tables: &[&str],
) -> TableId {
    let name = tables[dice.below(tables.len() as u64) as usize];
    let key = format!("{}{}", &name[..2], dice.below(6));
    let table = market.catalog.table(name).unwrap().id;
    with_victim(market, rows, table, &key);
    table
}

/// Rows in which one entity has the victim's key and address wherever it is named.
fn with_victim(market: &Market, rows: &mut [Plain], table: TableId, key: &str) {
    let catalog = &market.catalog;
    for row in rows {
        let of = catalog.table_at(row.table);
        for field in &of.fields {
            let is_own = row.table == table && field.id == of.key;
            let is_reference = field.reference.is_some_and(|to| to.table == table);
            let value = &mut row.values[field.id.index()];
            match value {
                Datum::Text(text) if (is_own || is_reference) && text == key => {
                    KEY.clone_into(text)
                }
                Datum::List(items) if is_reference => {
                    let named = items.iter_mut().filter(|item| *item == key);
                    named.for_each(|item| KEY.clone_into(item));
                }
                _ => {}
            }
        }
        let is_victims =
            row.table == table && row.values[of.key.index()] == Datum::Text(KEY.into());
        if let Some(email) = of.field("email").filter(|_| is_victims && !row.delete)
            && row.values[email.id.index()] != Datum::Null
        {
            row.values[email.id.index()] = Datum::Text(EMAIL.into());
        }
    }
}

/// The rows that are nobody's of some erased entities, without references to them.
fn without_erased(
    market: &Market,
    rows: &[Plain],
    asked: TableId,
    erased: &ErasedRows,
) -> Vec<Plain> {
    let catalog = &market.catalog;
    let mut gone: BTreeSet<(TableId, String)> = erased
        .entities
        .iter()
        .map(|(_, table, key)| (*table, key.to_string()))
        .collect();
    gone.insert((asked, KEY.to_owned()));
    let is_gone = |table: TableId, text: &str| gone.contains(&(table, text.to_owned()));
    let text = |row: &Plain, field: leadpulse_schema::FieldId| match &row.values[field.index()] {
        Datum::Text(text) if !text.is_empty() => Some(text.clone()),
        _ => None,
    };
    let mut left = Vec::new();
    for row in rows {
        let table = catalog.table_at(row.table);
        if text(row, table.key).is_some_and(|key| is_gone(row.table, &key)) {
            continue;
        }
        let mut owners = table.owners.iter().filter_map(|field| {
            let to = table.field_at(*field).reference?.table;
            Some((to, text(row, *field)?))
        });
        let first = owners.next();
        if table.role == Role::Event && first.is_some_and(|(to, key)| is_gone(to, &key)) {
            continue;
        }
        let mut row = row.clone();
        for field in table
            .fields
            .iter()
            .filter(|field| field.reference.is_some())
        {
            let to = field.reference.map(|to| to.table).unwrap();
            let value = &mut row.values[field.id.index()];
            match value {
                Datum::Text(key) if is_gone(to, key) => *value = Datum::Null,
                Datum::List(items) => items.retain(|key| !is_gone(to, key)),
                _ => {}
            }
        }
        left.push(row);
    }
    left
}

fn apply(market: &Market, graph: &mut Graph, rows: &[Plain]) {
    graph.apply(&market.batch(rows), None);
    let newest_ms = rows.iter().map(|row| row.known_ms).max();
    graph.advance(AsOf::from_ms(newest_ms.unwrap_or(START_MS)));
    graph.take_dirty(3);
}

/// The part of a node that rows of others decide, with sums to six places: they differ by the order
/// in which they were made.
fn compared(mut node: NodeImage) -> Json {
    // An address may have been the victim's, and homes follow what events named beside.
    node.cell.clear();
    node.row.retain(|_, text| !text.contains('@'));
    rounded(serde_json::to_value(node).unwrap())
}

fn rounded(value: Json) -> Json {
    match value {
        Json::Number(number) if number.is_f64() => {
            let millionths = number.as_f64().unwrap() * 1e6;
            Json::from(millionths.round() as i64)
        }
        Json::Array(items) => items.into_iter().map(rounded).collect(),
        Json::Object(fields) => {
            let fields = fields.into_iter();
            fields.map(|(name, value)| (name, rounded(value))).collect()
        }
        other => other,
    }
}

fn has_traces(stored: &Stored) -> Option<String> {
    let holds = |bytes: &[u8], trace: &[u8]| bytes.windows(trace.len()).any(|part| part == trace);
    let found = stored.iter().find(|(key, value)| {
        TRACES
            .iter()
            .any(|trace| holds(key, trace) || holds(value, trace))
    });
    found.map(|(key, value)| format!("{key:?}: {}", String::from_utf8_lossy(value)))
}

/// Cells that an erasure left out of memory, in all cases.
static STAYED_OUT: AtomicU64 = AtomicU64::new(0);

/// A graph and one with all cells out of memory, erased alike.
fn erase_cold(
    market: &Market,
    rows: &[Plain],
    table: TableId,
    more: Option<&str>,
) -> Result<(), TestCaseError> {
    let mut warm = market.graph(Tracking::On);
    let shelf = Shelf::default();
    let mut cold = market.graph(Tracking::On);
    cold.keep_cold(Arc::new(shelf.clone()), 0);
    cold.note_changes();
    let store = |graph: &mut Graph, epoch: u64| {
        let mut changed = Pieces::default();
        graph.write_pieces(Which::Changed, &mut changed);
        graph.forget_changes(epoch);
        shelf.take(epoch, changed, 0);
        graph.put_out(epoch, 0);
    };
    for (batch, epoch) in rows.chunks(9).zip(1..) {
        apply(market, &mut warm, batch);
        apply(market, &mut cold, batch);
        store(&mut cold, epoch);
    }
    let epoch = rows.len() as u64;
    // Twice: what was used stays at the first look.
    cold.put_out(epoch, 0);
    let out = cold.residence().unwrap().put_out - cold.residence().unwrap().reads;
    let expected = warm.erase(&[(table, KEY)], more);
    let erased = cold.erase(&[(table, KEY)], more);
    prop_assert_eq!(&erased, &expected);
    let still_out = cold.residence().unwrap().put_out - cold.residence().unwrap().reads;
    prop_assert!(still_out <= out);
    STAYED_OUT.fetch_add(still_out, Relaxed);
    store(&mut cold, epoch + 1);
    prop_assert_eq!(has_traces(&shelf.pieces()), None);
    prop_assert_eq!(cold.check(), Ok(()));
    prop_assert!(
        all(&cold) == all(&warm),
        "other pieces than with all cells in memory"
    );
    prop_assert!(
        shelf.pieces() == all(&warm),
        "changed pieces are not the whole state"
    );
    Ok(())
}

proptest! {
    #![proptest_config(cases(48))]

    fn an_erasure_finds_a_person_in_cold_cells(
        seeds in seeds(120, 60),
        entropy in any::<u64>(),
        with_steps in any::<bool>(),
        by_address in any::<bool>(),
    ) {
        let market = network(with_steps);
        let mut dice = Dice(entropy);
        let mut rows = stream(&market, Style { ties: false, wild: false }, &seeds);
        let table = with_any_victim(&market, &mut rows, &mut dice, &["people", "leads", "deals", "companies"]);
        erase_cold(&market, &rows, table, by_address.then_some(EMAIL))?;
    }
}

/// Cold cells that know nothing of the person stay where they are.
#[test]
fn an_erasure_brings_back_the_cells_that_know_the_person() {
    an_erasure_finds_a_person_in_cold_cells();
    assert!(STAYED_OUT.load(Relaxed) > 100);
}

proptest! {
    #![proptest_config(cases(64))]

    #[test]
    fn an_erased_person_leaves_no_byte_in_stored_pieces(
        seeds in seeds(160, 60),
        entropy in any::<u64>(),
        with_steps in any::<bool>(),
    ) {
        let market = network(with_steps);
        let mut dice = Dice(entropy);
        let mut rows = stream(&market, Style { ties: false, wild: false }, &seeds);
        let table = with_any_victim(&market, &mut rows, &mut dice, &["people", "leads", "deals", "companies"]);
        let cut = dice.below(rows.len() as u64 + 1) as usize;
        let mut graph = market.graph(Tracking::On);
        graph.note_changes();
        let mut stored = Stored::new();
        let mut store = |graph: &mut Graph| {
            let mut pieces = Pieces::default();
            graph.write_pieces(Which::Changed, &mut pieces);
            graph.forget_changes(0);
            put(&pieces, &mut stored);
            assert!(stored == all(graph), "changed pieces are not the whole state");
            stored.clone()
        };
        for batch in rows[..cut].chunks(7) {
            apply(&market, &mut graph, batch);
        }
        store(&mut graph);
        let erased = graph.erase(&[(table, KEY)], Some(EMAIL));
        prop_assert_eq!(graph.check(), Ok(()));
        prop_assert!(graph.find(table, KEY).is_none());
        let written = store(&mut graph);
        prop_assert_eq!(has_traces(&written), None);
        let mut read = read_into(market.graph(Tracking::On), &written).unwrap();
        read.note_changes();
        prop_assert_eq!(read.image(), graph.image());
        let rest = without_erased(&market, &rows[cut..], table, &erased);
        for batch in rest.chunks(7) {
            apply(&market, &mut graph, batch);
            apply(&market, &mut read, batch);
            prop_assert_eq!((graph.check(), read.check()), (Ok(()), Ok(())));
            prop_assert!(all(&graph) == all(&read), "a stored graph goes on in another way");
        }
        prop_assert_eq!(has_traces(&store(&mut graph)), None);
        prop_assert_eq!(graph.erase(&[(table, KEY)], Some(EMAIL)).entities, vec![]);
    }

    #[test]
    fn a_graph_without_a_person_is_as_if_the_rows_had_never_come(
        seeds in seeds(160, 60),
        entropy in any::<u64>(),
        with_steps in any::<bool>(),
    ) {
        let mut market = network(with_steps);
        market.forbids_retractions = true;
        let mut dice = Dice(entropy);
        let mut rows = stream(&market, Style { ties: false, wild: false }, &seeds);
        // A repeat that names another owner would count without the first.
        let mut ids = BTreeSet::new();
        rows.retain(|row| {
            let table = market.catalog.table_at(row.table);
            let id = format!("{:?}", row.values[table.key.index()]);
            table.role != Role::Event || ids.insert((row.table, id))
        });
        let table = with_any_victim(&market, &mut rows, &mut dice, &["people", "leads"]);
        let mut graph = market.graph(Tracking::On);
        for batch in rows.chunks(9) {
            apply(&market, &mut graph, batch);
        }
        let erased = graph.erase(&[(table, KEY)], None);
        let mut never = market.graph(Tracking::On);
        for batch in without_erased(&market, &rows, table, &erased).chunks(9) {
            apply(&market, &mut never, batch);
        }
        let at = AsOf::from_ms(START_MS + 70 * DAY_MS);
        graph.advance(at);
        never.advance(at);
        prop_assert_eq!((graph.check(), never.check()), (Ok(()), Ok(())));
        let (found, expected) = (graph.image().nodes, never.image().nodes);
        for (name, node) in &expected {
            let other = found.get(name);
            prop_assert!(other.is_some(), "{} is gone", name);
            let (a, b) = (compared(node.clone()), compared(other.unwrap().clone()));
            prop_assert_eq!(a, b, "{}", name);
        }
        for (name, node) in &found {
            // Entities that nobody but the person's rows had named are placeholders.
            let is_stub = node.row.is_empty() && node.events.values().all(|state| state.is_empty());
            prop_assert!(expected.contains_key(name) || is_stub, "{} is left", name);
        }
    }
}
