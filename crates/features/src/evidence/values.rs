//! Values of the evidence: counts and values, named in words, that two moments are compared by.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use leadpulse_graph::{Cell, EventLayout, Graph, Node, SlotKind};
use leadpulse_schema::units::AsOf;
use leadpulse_schema::{FieldId, Table};

use super::EvidenceDraft;
use super::activity::{self, ActivitySum};
use crate::columns::days;
use crate::facts::open_members;
use crate::{groups, words};

/// Events that have faded to less than this are not remembered.
const FORGOTTEN: f64 = 0.25;
/// Places after which numbers are rounded, so that a last bit decides nothing.
const STEPS: f64 = 100.0;

/// Places in the order of telling: the higher come first. A kind of event with a stage lies
/// between, by its stage.
pub(super) const DEAL_STAGE: u16 = 400;
pub(super) const DEALS: u16 = 300;
pub(super) const PEOPLE: u16 = 20;
pub(super) const PEERS: u16 = 15;
pub(super) const FIELD: u16 = 5;

/// One value behind an explanation group.
#[derive(Clone, Debug, PartialEq)]
pub struct EvidenceValue {
    /// Name in words, e.g. `pricing page view`, `active people`, `stage of Renewal`.
    pub label: String,
    /// Place in the order of telling: higher ones come first.
    pub telling: u16,
    /// The value itself.
    pub measure: Measure,
}

/// The value of an [`EvidenceValue`] and the way in which two of them differ.
#[derive(Clone, Debug, PartialEq)]
pub enum Measure {
    /// Events of one kind. Each counts less with its age.
    Events(EventMeasure),
    /// A number of rows of which more is better.
    Count(f64),
    /// A number of rows of which more is worse, such as lost deals.
    Losses(f64),
    /// A value of a field. `order` has the values in ascending order; empty for a field without
    /// one, whose changes are neither a rise nor a fall.
    Text {
        /// The value in words.
        text: String,
        /// All values in words, ascending.
        order: Vec<String>,
    },
}

/// Events of one kind at a moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EventMeasure {
    /// Sum over all events: 1 for one of now, one half for one that is a half-life old.
    pub weight: f64,
    /// Half-life of the weight, milliseconds.
    pub half_life_ms: f64,
    /// The newest event, milliseconds.
    pub newest_ms: i64,
    /// Events of a usual week before; 0 where it is not known.
    pub usual_week: f64,
}

/// A value as the next comparison remembers it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum PastValue {
    /// Weight of events, or a number of rows, rounded to hundredths.
    Number(f64),
    /// A value of a field in words.
    Text(String),
}

/// Remembered values of one group, by label.
pub type PastValues = BTreeMap<String, PastValue>;

impl EvidenceValue {
    /// The value as it is remembered; `None` for events that have faded.
    pub fn past(&self) -> Option<PastValue> {
        let number = match &self.measure {
            Measure::Text { text, .. } => return Some(PastValue::Text(text.clone())),
            Measure::Events(events) if events.weight < FORGOTTEN => return None,
            Measure::Events(events) => events.weight,
            Measure::Count(count) | Measure::Losses(count) => *count,
        };
        Some(PastValue::Number((number * STEPS).round() / STEPS))
    }
}

/// Values of events and deals of a whole cell, whatever the group: the ones that alerts compare.
pub fn account_values(graph: &Graph, cell: &Cell, as_of: AsOf) -> Vec<EvidenceValue> {
    let mut nodes: Vec<&Node> = cell.nodes.iter().collect();
    nodes.sort_unstable_by(|a, b| graph.directory().order(a.entity, b.entity));
    let mut found = Vec::new();
    for layout in &graph.shared().layout.events {
        let table = graph.catalog().table_at(layout.table);
        let sum = activity::add_up(graph, layout, &nodes, as_of);
        let of_table = of_events(graph, layout, table, &sum, as_of);
        for (_, value) in of_table {
            join(&mut found, value);
        }
    }
    let open = open_members(graph, cell);
    for table in graph.catalog().members() {
        if table.outcome.is_some() {
            let count = open.iter().filter(|node| node.table == table.id).count();
            found.push(open_deals(table, count));
        }
    }
    found
}

/// Adds a value to a list; events of the same name in two tables are one.
fn join(found: &mut Vec<EvidenceValue>, value: EvidenceValue) {
    let same = found.iter_mut().find(|one| one.label == value.label);
    match (same.map(|one| &mut one.measure), &value.measure) {
        (Some(Measure::Events(of)), Measure::Events(more)) => {
            of.weight += more.weight;
            of.newest_ms = of.newest_ms.max(more.newest_ms);
            of.usual_week += more.usual_week;
        }
        (Some(_), _) => {}
        (None, _) => found.push(value),
    }
}

/// The number of open rows of a table of deals.
pub(super) fn open_deals(table: &Table, count: usize) -> EvidenceValue {
    EvidenceValue {
        label: format!("open {}", words::name(&table.name)),
        telling: DEALS,
        measure: Measure::Count(count as f64),
    }
}

/// The values of a table's events, each with its group: one a declared kind, or one of the whole
/// table where it declares no kinds. Kinds that are no engagement, and ends of deals, are left out.
pub(super) fn of_events(
    graph: &Graph,
    layout: &EventLayout,
    table: &Table,
    sum: &ActivitySum,
    as_of: AsOf,
) -> Vec<(String, EvidenceValue)> {
    let half_lives = &graph.shared().options.half_lives_days;
    let half_lives_ms = graph.shared().bank.half_lives_ms();
    let known_days = sum.oldest_ms.map_or(0.0, |ms| days(ms, as_of));
    let measure = |slot: u16| {
        let of_slot = sum.slots.get(&slot)?;
        let usual_week =
            crate::alert_facts::usual_week(half_lives, known_days, of_slot.before).unwrap_or(0.0);
        Some(Measure::Events(EventMeasure {
            weight: of_slot.weight,
            half_life_ms: half_lives_ms[half_lives_ms.len() - 1],
            newest_ms: of_slot.newest_ms,
            usual_week,
        }))
    };
    let Some(kind) = activity::kind_field(table).filter(|kind| !kind.values.is_empty()) else {
        let label = words::singular(&words::name(&table.name));
        let value = measure(0).map(|measure| EvidenceValue {
            label,
            telling: 0,
            measure,
        });
        return value
            .map(|value| (groups::of_events(table), value))
            .into_iter()
            .collect();
    };
    let mut found = Vec::new();
    for (slot, definition) in layout.slots.iter().enumerate() {
        let SlotKind::Value(value) = &definition.kind else {
            continue;
        };
        if definition.field != Some(kind.id) || !is_told(table, kind.id, value) {
            continue;
        }
        let (Some(measure), Some(name)) = (measure(slot as u16), words::value(value)) else {
            continue;
        };
        let name = name.to_lowercase();
        let label = match table.outcome {
            Some(_) => format!("deal step to {name}"),
            None => name,
        };
        found.push((
            groups::of_event_value(table, kind, value),
            EvidenceValue {
                label,
                telling: 10 * stage_of(table, kind.id, value),
                measure,
            },
        ));
    }
    found
}

/// True for a kind of engagement that ends no deal.
fn is_told(table: &Table, field: FieldId, value: &str) -> bool {
    let is_end = table
        .outcome
        .as_ref()
        .is_some_and(|outcome| outcome.field == field && outcome.of(value).is_some());
    let mut passive = table.not_engagement.iter();
    let is_passive =
        passive.any(|(of, values)| *of == field && values.iter().any(|one| one == value));
    !is_end && !is_passive
}

/// The declared stage of a kind; 0 without one.
fn stage_of(table: &Table, field: FieldId, value: &str) -> u16 {
    let staged = table.staged.as_ref().filter(|staged| staged.field == field);
    let stage = staged.and_then(|staged| staged.stages.get(value));
    stage.map_or(0, |stage| u16::from(*stage))
}

/// Adds a value of a field to a group.
pub(super) fn text(
    found: &mut EvidenceDraft<'_>,
    group: &str,
    label: String,
    telling: u16,
    (text, order): (String, &[String]),
) {
    let order = order.iter().filter_map(|value| words::value(value));
    let value = EvidenceValue {
        label,
        telling,
        measure: Measure::Text {
            text,
            order: order.collect(),
        },
    };
    found.measure(group, value);
}

/// Adds a number of rows to a group.
pub(super) fn count(
    found: &mut EvidenceDraft<'_>,
    group: &str,
    label: String,
    telling: u16,
    count: f64,
) {
    let measure = Measure::Count(count);
    let value = EvidenceValue {
        label,
        telling,
        measure,
    };
    found.measure(group, value);
}
