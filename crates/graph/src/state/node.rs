//! A node: one entity of a cell with its current version, edges, and traces of events.

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use leadpulse_schema::{FieldId, Measure, Role, Row, RowBatch, TableId, Value};

use crate::ids::EntityId;
use crate::state::cell::StateRules;
use crate::state::days::DayBuckets;
use crate::state::deals::{DealStep, DealSteps, DealVerdicts};
use crate::state::decay::Bank;
use crate::state::events::{EventState, Occurrence, Undo};
use crate::state::layout::{SlotKind, StateLayout, bounded};
use crate::state::revisable::{Accumulated, OpenEvent, Revisable};
use crate::state::tally::{self, Mention, MentionedBy, Touch};
use crate::who::edges::Edges;

/// One of the newest events of an entity, for evidence.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Recent {
    /// Event time, milliseconds.
    pub time_ms: i64,
    /// Key of the event row.
    pub id: Box<str>,
    pub table: u16,
    /// The kind: the first category of the row; empty without one.
    pub kind: Box<str>,
}

/// The number of newest events that a node keeps for evidence.
pub(crate) const RECENT_EVENTS: usize = 4;

/// Traces of engagement: touched hubs and newest events.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EngagementTraces {
    /// Number of events in the traces.
    events: u64,
    touches: Vec<Touch>,
    recent: Vec<Recent>,
}

/// An event as the traces of engagement take it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EngagingEvent {
    hubs: SmallVec<[EntityId; 2]>,
    recent: Recent,
}

impl Accumulated for EngagementTraces {
    type Event = EngagingEvent;
    fn include(&mut self, rules: &StateRules, event: &EngagingEvent) {
        self.events += 1;
        let time_ms = event.recent.time_ms;
        tally::add(&mut self.touches, &rules.bank, &event.hubs, time_ms);
        keep_recent(&mut self.recent, event.recent.clone());
    }
    fn retract(&mut self, rules: &StateRules, event: &EngagingEvent) -> Undo {
        let time_ms = event.recent.time_ms;
        let mut undo = tally::retract(&mut self.touches, &rules.bank, &event.hubs, time_ms);
        if let Ok(at) = self.recent.binary_search(&event.recent) {
            let forgot = self.events > self.recent.len() as u64;
            self.recent.remove(at);
            undo = undo.max(if forgot { Undo::Inexact } else { Undo::Exact });
        }
        self.events = self.events.saturating_sub(1);
        undo
    }
    fn unite(&mut self, rules: &StateRules, other: Self) {
        self.events += other.events;
        tally::merge(&mut self.touches, &rules.bank, other.touches);
        for recent in other.recent {
            keep_recent(&mut self.recent, recent);
        }
    }
}

/// Traces of events besides the states of their tables. They lie at the survivor of a person's
/// rows.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Traces {
    engagement: Revisable<EngagementTraces>,
    /// Day counters with a value, ascending by counter.
    counters: Vec<(usize, DayBuckets)>,
    mentions: Vec<Mention>,
    /// The entities that events of this one named, ascending; noted where outsiders are left out,
    /// and never dropped: their cells are to be scored when this one becomes an outsider.
    mentioned: Vec<EntityId>,
    /// Steps of deals; `None` without any.
    deals: Option<Box<DealSteps>>,
}

/// One entity of a cell.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Node {
    pub entity: EntityId,
    pub table: TableId,
    /// The current version: none for a stub, and after a delete.
    row: RowBatch,
    /// Hash of the person's address in the current version; `None` without one, and for addresses
    /// that several people share.
    pub(crate) address: Option<u64>,
    /// The time at which the first version became known, milliseconds.
    pub since_ms: Option<i64>,
    /// The time since which changes of the current version may be missing, milliseconds: its source
    /// reported a gap, and no complete version came since.
    pub stale_since_ms: Option<i64>,
    /// Hubs named by the current version, ascending; a merged entity names none.
    pub hubs: SmallVec<[EntityId; 4]>,
    /// References of the current version, and former roots, ascending. Readers use
    /// [`crate::Graph::edges`], which leads to survivors.
    pub edges: Edges,
    /// True after a merge: the survivor has this node's events, and counts skip this node.
    pub absorbed: bool,
    /// The entity that stands for this one: the entity itself unless it was absorbed. In the same
    /// cell.
    pub survivor: EntityId,
    pub(crate) survivor_table: TableId,
    /// True for a survivor whose address is of an own or a competitor's domain: the node stands
    /// alone and counts nowhere.
    pub(crate) is_outside: bool,
    /// The newest root that versions named as owner.
    pub(crate) last_root: Option<EntityId>,
    /// The time since which the outcome has the value of the current version, milliseconds.
    pub(crate) outcome_since_ms: i64,
    /// One state per event table that may hang on the node, in the layout's order. A survivor's
    /// states contain the events of the nodes that it absorbed. Events of a table that cannot hang
    /// on the survivor are kept by the smallest of the group that can carry them.
    #[serde(with = "crate::encoding::mostly_empty")]
    pub events: Vec<Revisable<EventState>>,
    traces: Traces,
}

impl Node {
    /// A placeholder for a key that another row named before its own first version arrived.
    pub fn stub(entity: EntityId, table: TableId, layout: &StateLayout) -> Self {
        Self {
            entity,
            table,
            row: RowBatch::new(),
            address: None,
            since_ms: None,
            stale_since_ms: None,
            hubs: SmallVec::new(),
            edges: SmallVec::new(),
            absorbed: false,
            survivor: entity,
            survivor_table: table,
            is_outside: false,
            last_root: None,
            outcome_since_ms: 0,
            events: vec![Revisable::default(); layout.of_entity(table).len()],
            traces: Traces::default(),
        }
    }
    /// The current version of the entity.
    pub fn row(&self) -> Option<Row<'_>> {
        (!self.row.is_empty()).then(|| self.row.row(0))
    }
    /// Whether the entity has a current version.
    pub fn is_known(&self) -> bool {
        !self.row.is_empty()
    }
    /// Whether the entity was joined into another of its own table.
    pub fn is_merged(&self) -> bool {
        self.absorbed && self.survivor_table == self.table
    }
    pub(crate) fn set_row(&mut self, row: RowBatch, known_ms: i64) {
        self.row = row;
        self.since_ms = Some(self.since_ms.map_or(known_ms, |since| since.min(known_ms)));
    }
    /// Replaces the current version by one that says less.
    pub(crate) fn rewrite_row(&mut self, row: RowBatch) {
        self.row = row;
    }
    /// Whether an edge or a trace leads to one of some entities.
    pub(crate) fn refers(&self, is_one: impl Fn(EntityId) -> bool) -> bool {
        let mentions = self.traces.mentions.iter();
        self.edges.iter().any(|edge| is_one(edge.to))
            || self.last_root.is_some_and(&is_one)
            || mentions.filter_map(|mention| mention.owner).any(&is_one)
            || self.traces.mentioned.iter().any(|entity| is_one(*entity))
    }
    /// Drops edges and traces that lead to one of some entities.
    pub(crate) fn forget(&mut self, is_one: impl Fn(EntityId) -> bool) {
        self.edges.retain(|edge| !is_one(edge.to));
        self.last_root = self.last_root.filter(|root| !is_one(*root));
        let traces = &mut self.traces;
        traces
            .mentions
            .retain(|mention| !mention.owner.is_some_and(&is_one));
        traces.mentioned.retain(|entity| !is_one(*entity));
    }
    pub(crate) fn clear_row(&mut self) {
        self.row = RowBatch::new();
        self.address = None;
        self.hubs.clear();
    }
    /// The value of a field of the current version.
    pub fn value(&self, field: FieldId) -> Value<'_> {
        self.row().map_or(Value::Null, |row| row.get(field))
    }
    /// The time of the newest event on the node, milliseconds.
    pub fn newest_event_ms(&self) -> Option<i64> {
        self.events.iter().filter_map(|s| s.newest_ms()).max()
    }
    /// The buckets of a day counter; `None` for a counter without values.
    pub fn counter(&self, index: usize) -> Option<&DayBuckets> {
        let counters = &self.traces.counters;
        counters
            .binary_search_by_key(&index, |(i, _)| *i)
            .ok()
            .map(|at| &counters[at].1)
    }
    /// Day counters with a value, ascending by counter.
    pub fn counters(&self) -> impl Iterator<Item = (usize, &DayBuckets)> {
        self.traces.counters.iter().map(|(i, days)| (*i, days))
    }
    /// Hubs touched by events, ascending by hub.
    pub fn touches(&self) -> &[Touch] {
        &self.traces.engagement.touches
    }
    /// Whether the entity is an outsider: it stands alone, and counts nowhere.
    pub fn is_outside(&self) -> bool {
        self.is_outside
    }
    /// The entities that events of this one named, where outsiders are left out.
    pub(crate) fn mentioned(&self) -> &[EntityId] {
        &self.traces.mentioned
    }
    /// Events of other owners that name this entity, ascending by relation and owner. Readers use
    /// [`crate::Graph::mentions`], which leaves outsiders out.
    pub fn mentions(&self) -> &[Mention] {
        &self.traces.mentions
    }
    /// The newest events, ascending.
    pub fn recent(&self) -> &[Recent] {
        &self.traces.engagement.recent
    }
    /// Whether events have told steps of a deal.
    pub(crate) fn has_deals(&self) -> bool {
        self.traces.deals.is_some()
    }
    /// The ends of deals that count, by events; `None` without steps of deals.
    pub(crate) fn verdicts(&self, layout: &StateLayout) -> Option<DealVerdicts> {
        let deals = self.traces.deals.as_ref()?;
        Some(deals.verdicts(layout, self.is_deal(layout)))
    }
    /// The ends of deals that count, by events.
    pub(crate) fn ends(&self, layout: &StateLayout) -> impl Iterator<Item = &DealStep> {
        let is_deal = self.is_deal(layout);
        let deals = self.traces.deals.iter();
        deals.flat_map(move |deals| deals.ends(layout, is_deal))
    }
    fn is_deal(&self, layout: &StateLayout) -> bool {
        layout.catalog().table_at(self.table).role == Role::Member
    }
    /// The state of an event table.
    fn state(&mut self, shared: &StateRules, events: TableId) -> &mut Revisable<EventState> {
        &mut self.events[shared.layout.position(self.table, events)]
    }
    /// Adds an event row to the state of its table.
    pub(crate) fn add(&mut self, shared: &StateRules, row: Row<'_>, fingerprint: u64) {
        let event = occurrence(shared, row, fingerprint);
        self.state(shared, row.table()).include(shared, &event);
    }
    /// Takes an event row back from the state of its table, which contains it for certain or
    /// perhaps.
    pub(crate) fn retract(
        &mut self,
        shared: &StateRules,
        row: Row<'_>,
        fingerprint: u64,
        is_certain: bool,
    ) -> Undo {
        let event = occurrence(shared, row, fingerprint);
        self.state(shared, row.table()).exclude(shared, |state| {
            state.retract(&shared.bank, &event, is_certain)
        })
    }
    /// Adds the traces of an event: counters, touched hubs, evidence, outcomes.
    pub(crate) fn trace(
        &mut self,
        shared: &StateRules,
        row: Row<'_>,
        hubs: &[EntityId],
        fingerprint: u64,
    ) {
        self.count(shared, row, fingerprint);
        let event = engaging(shared, row, hubs);
        self.traces.engagement.include(shared, &event);
    }
    /// Takes back the traces that [`Self::trace`] added.
    pub(crate) fn untrace(
        &mut self,
        shared: &StateRules,
        row: Row<'_>,
        hubs: &[EntityId],
        fingerprint: u64,
    ) -> Undo {
        let undo = self.uncount(shared, row, fingerprint);
        let event = engaging(shared, row, hubs);
        let engagement = &mut self.traces.engagement;
        let back = engagement.exclude(shared, |engagement| engagement.retract(shared, &event));
        undo.max(back).min(Undo::Inexact)
    }
    /// Adds an event that may still turn out to be no engagement to the state of its table.
    pub(crate) fn add_open(
        &mut self,
        shared: &StateRules,
        row: Row<'_>,
        fingerprint: u64,
        is_counted: bool,
    ) {
        let event = OpenEvent {
            time_ms: row.event_ms(),
            fingerprint,
            is_counted,
            is_settled: false,
            event: occurrence(shared, row, fingerprint),
        };
        self.state(shared, row.table()).open(shared, event);
    }
    /// Adds the traces of an event that may still turn out to be no engagement. Day counters count
    /// the event in any case.
    pub(crate) fn trace_open(
        &mut self,
        shared: &StateRules,
        row: Row<'_>,
        hubs: &[EntityId],
        fingerprint: u64,
        is_counted: bool,
    ) {
        self.count(shared, row, fingerprint);
        let event = OpenEvent {
            time_ms: row.event_ms(),
            fingerprint,
            is_counted,
            is_settled: false,
            event: engaging(shared, row, hubs),
        };
        self.traces.engagement.open(shared, event);
    }
    /// Decides anew which open events of a table count.
    pub(crate) fn decide(
        &mut self,
        shared: &StateRules,
        events: TableId,
        decisions: &[(u64, bool)],
    ) {
        self.state(shared, events).decide(shared, decisions);
    }
    /// Decides anew which open events leave traces.
    pub(crate) fn decide_traces(&mut self, shared: &StateRules, decisions: &[(u64, bool)]) {
        self.traces.engagement.decide(shared, decisions);
    }
    /// Drops an open event from the state of its table.
    pub(crate) fn withdraw(
        &mut self,
        shared: &StateRules,
        events: TableId,
        fingerprint: u64,
    ) -> Undo {
        self.state(shared, events).withdraw(shared, fingerprint)
    }
    /// Drops the traces of an open event, but for its counts.
    pub(crate) fn withdraw_trace(&mut self, shared: &StateRules, fingerprint: u64) -> Undo {
        self.traces.engagement.withdraw(shared, fingerprint)
    }
    /// Ends the wait for an open event in the state of its table.
    pub(crate) fn close(&mut self, shared: &StateRules, events: TableId, fingerprint: u64) {
        self.state(shared, events).close(shared, fingerprint);
    }
    /// Ends the wait for the traces of an open event.
    pub(crate) fn close_trace(&mut self, shared: &StateRules, fingerprint: u64) {
        self.traces.engagement.close(shared, fingerprint);
    }
    /// Fingerprints of open events in the traces, with whether each counts.
    pub(crate) fn open_traces(&self) -> impl Iterator<Item = (u64, bool)> {
        self.traces.engagement.open_events()
    }
    /// Adds an event to day counters and outcomes alone: the traces of one that is no engagement.
    pub(crate) fn count(&mut self, shared: &StateRules, row: Row<'_>, fingerprint: u64) {
        let (traces, time_ms) = (&mut self.traces, row.event_ms());
        for (counter, amount) in counted(shared, row) {
            let at = match traces.counters.binary_search_by_key(&counter, |(i, _)| *i) {
                Ok(at) => at,
                Err(at) => {
                    traces.counters.insert(at, (counter, DayBuckets::default()));
                    at
                }
            };
            traces.counters[at].1.add(time_ms, amount);
        }
        if let Some(step) = deal_step(shared, row, fingerprint) {
            traces.deals.get_or_insert_default().add(step);
        }
    }
    /// Takes back what [`Self::count`] added.
    pub(crate) fn uncount(&mut self, shared: &StateRules, row: Row<'_>, fingerprint: u64) -> Undo {
        let (traces, time_ms) = (&mut self.traces, row.event_ms());
        let mut undo = Undo::Exact;
        for (counter, amount) in counted(shared, row) {
            let Ok(at) = traces.counters.binary_search_by_key(&counter, |(i, _)| *i) else {
                continue;
            };
            traces.counters[at].1.retract(time_ms, amount);
            if traces.counters[at].1.is_empty() {
                traces.counters.remove(at);
            }
        }
        if let Some(step) = deal_step(shared, row, fingerprint) {
            let deals = traces.deals.get_or_insert_default();
            undo = undo.max(deals.retract(step));
            if deals.is_empty() {
                traces.deals = None;
            }
        }
        undo.min(Undo::Inexact)
    }
    /// Notes entities that an event of this one names.
    pub(crate) fn note_mentioned(&mut self, entities: &[EntityId]) {
        for entity in entities {
            if let Err(at) = self.traces.mentioned.binary_search(entity) {
                self.traces.mentioned.insert(at, *entity);
            }
        }
    }
    /// Adds a mention by an event of another owner.
    pub(crate) fn mention(&mut self, bank: &Bank, by: MentionedBy, time_ms: i64) {
        tally::add(&mut self.traces.mentions, bank, &[by], time_ms);
    }
    /// Takes a mention back.
    pub(crate) fn unmention(&mut self, bank: &Bank, by: MentionedBy, time_ms: i64) -> Undo {
        tally::retract(&mut self.traces.mentions, bank, &[by], time_ms)
    }
    /// Gives the traces away, to a survivor.
    pub(crate) fn take_traces(&mut self) -> Traces {
        std::mem::take(&mut self.traces)
    }
    /// Takes over traces that another node has given away.
    pub(crate) fn merge_traces(&mut self, shared: &StateRules, other: Traces) {
        self.note_mentioned(&other.mentioned);
        let traces = &mut self.traces;
        for (counter, days) in other.counters {
            match traces.counters.binary_search_by_key(&counter, |(i, _)| *i) {
                Ok(at) => traces.counters[at].1.merge(&days),
                Err(at) => traces.counters.insert(at, (counter, days)),
            }
        }
        traces.engagement.unite(shared, other.engagement);
        tally::merge(&mut traces.mentions, &shared.bank, other.mentions);
        if let Some(deals) = other.deals {
            traces.deals.get_or_insert_default().merge(*deals);
        }
    }
    /// Bytes on the heap, roughly.
    pub fn heap_bytes(&self) -> usize {
        self.row.text_bytes()
            + 64
            + self
                .events
                .iter()
                .map(|e| size_of::<EventState>() + e.heap_bytes() + e.open_bytes())
                .sum::<usize>()
            + self.traces.engagement.touches.capacity() * size_of::<Touch>()
            + self.traces.engagement.open_bytes()
            + self
                .traces
                .deals
                .as_ref()
                .map_or(0, |deals| deals.heap_bytes())
            + self.traces.mentions.capacity() * size_of::<Mention>()
            + self.traces.engagement.recent.capacity() * 64
    }
}

/// A row as the state of its table takes it.
fn occurrence(shared: &StateRules, row: Row<'_>, fingerprint: u64) -> Occurrence {
    let layout = shared.layout.event(row.table());
    Occurrence {
        phi: layout.phi(row),
        stage: layout.stage(row),
        time_ms: row.event_ms(),
        fingerprint,
    }
}

/// A row as a step of a deal; `None` for a table without outcomes.
fn deal_step(shared: &StateRules, row: Row<'_>, fingerprint: u64) -> Option<DealStep> {
    let layout = shared.layout.event(row.table());
    layout.has_outcome().then(|| DealStep {
        table: row.table(),
        time_ms: row.event_ms(),
        fingerprint,
        slot: layout.outcome_slot(row),
        is_engagement: layout.is_engagement(row),
        verdict: layout.verdict(row),
    })
}

/// A row as the traces of engagement take it.
fn engaging(shared: &StateRules, row: Row<'_>, hubs: &[EntityId]) -> EngagingEvent {
    EngagingEvent {
        hubs: hubs.into(),
        recent: recent(shared, row),
    }
}

/// The amounts that a row adds to day counters: (counter, amount).
fn counted(shared: &StateRules, row: Row<'_>) -> SmallVec<[(usize, f64); 4]> {
    let definitions = &shared.options.day_counters;
    let holds = |counter: &&usize| {
        definitions[**counter]
            .filter
            .as_ref()
            .is_none_or(|filter| filter.holds(&row))
    };
    let amount = |counter: &usize| {
        let amount = match definitions[*counter].measure {
            Measure::Count => Some(1.0),
            Measure::CountOf(field) => (!row.get(field).is_null()).then_some(1.0),
            Measure::SumOf(field) => row.get(field).number().map(bounded),
        };
        amount.map(|amount| (*counter, amount))
    };
    shared.layout.counters_of[row.table().index()]
        .iter()
        .filter(holds)
        .filter_map(amount)
        .collect()
}

fn recent(shared: &StateRules, row: Row<'_>) -> Recent {
    let kind = shared
        .layout
        .event(row.table())
        .slots
        .iter()
        .find_map(|slot| match slot.kind {
            SlotKind::Value(_) | SlotKind::Bucket(_) => slot.field.and_then(|f| row.get(f).text()),
            _ => None,
        });
    Recent {
        time_ms: row.event_ms(),
        id: row.key().into(),
        table: row.table().0,
        kind: kind.unwrap_or_default().into(),
    }
}

fn keep_recent(list: &mut Vec<Recent>, recent: Recent) {
    if list.len() < RECENT_EVENTS || list[0] < recent {
        let at = list.partition_point(|r| *r < recent);
        list.insert(at, recent);
        if list.len() > RECENT_EVENTS {
            list.remove(0);
        }
    }
}
