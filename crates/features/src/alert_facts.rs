//! The facts that alerts are decided by, read from state: people, pace, deals, peers.
//!
//! Roles and annotations of the schemas decide what is a person, a deal or a peer. What they cannot
//! say is named by [`FactOptions`].

mod people;
mod rhythm;

use std::collections::BTreeMap;
use std::sync::Arc;

use leadpulse_graph::{Cell, EntityId, Graph, Node, SlotKind, StateLayout};
use leadpulse_policy::{AlertFacts, FactOptions, OpenDeal, PeerClosings, PolicyError};
use leadpulse_schema::units::AsOf;
use leadpulse_schema::{Catalog, DataType, Feature, FieldId, MatchBy, Role, Table, TableId, Value};

use crate::assigned::assignee;
use crate::evidence::{PastValue, account_values};
use crate::facts::open_members;
use crate::groups::is_person;
use crate::hubs::{HubView, slot_of};
use crate::words;
use rhythm::Rhythm;
pub(crate) use rhythm::{about, usual_week};

/// Fewest other cells of a hub that are a group of peers.
const MIN_PEERS: u32 = 5;
/// Closings below this are noise of a decayed sum.
const MIN_CLOSED: f64 = 0.5;

/// The reading of alert facts from cells of one catalog: names of the options found once.
#[derive(Clone, Debug)]
pub struct AlertFactPlan {
    /// Event tables of the use of the product.
    usage: Vec<TableId>,
    /// Slots of events that report a limit, by table.
    limits: Vec<(TableId, Vec<u16>)>,
    /// Truth values that forbid contact, by table.
    do_not_contact: Vec<(TableId, FieldId)>,
    /// Slots of each event table that tell kinds apart.
    kinds: Vec<(TableId, Vec<u16>)>,
    /// Hub slots of deals won.
    closings: Vec<usize>,
    has_people: bool,
}

impl AlertFactPlan {
    /// The plan of a catalog, with its state layout.
    ///
    /// # Errors
    /// The first name of the options that the catalog lacks, with the known ones.
    pub fn new(
        catalog: &Catalog,
        layout: &StateLayout,
        options: &FactOptions,
    ) -> Result<Self, PolicyError> {
        let mut usage = Vec::new();
        for name in &options.usage {
            usage.push(event_table(catalog, "facts.usage", name)?.id);
        }
        let mut limits = Vec::new();
        for (name, kinds) in &options.limits {
            let table = event_table(catalog, "facts.limits", name)?;
            limits.push((table.id, slots_of_kinds(table, layout, kinds)?));
        }
        let mut do_not_contact = Vec::new();
        for path in &options.do_not_contact {
            do_not_contact.push(flag(catalog, path)?);
        }
        let kinds = layout
            .events
            .iter()
            .map(|events| kind_slots(catalog, layout, events.table))
            .collect();
        Ok(Self {
            usage,
            limits,
            do_not_contact,
            kinds,
            closings: closing_slots(catalog, layout),
            has_people: catalog
                .members()
                .any(|table| is_person(catalog, table.id) && table.outcome.is_none()),
        })
    }

    /// The facts about an entity of a cell at a moment.
    pub fn facts(&self, graph: &Graph, cell: &Cell, entity: EntityId, as_of: AsOf) -> AlertFacts {
        let catalog = graph.catalog();
        let root = graph.root_node(cell);
        let own = cell.nodes.iter().find(|node| node.entity == entity);
        let outcomes = graph.outcomes(cell);
        let unit = root.map_or(entity, |root| root.entity);
        let mut facts = AlertFacts {
            account: graph.directory().key(unit).to_string(),
            domain: root.or(own).and_then(|node| domain(catalog, node)),
            owner: assignee(graph, cell, entity),
            newest_event_ms: cell.newest_event_ms(),
            open_deals: open_deals(graph, cell),
            is_customer: outcomes.won > 0,
            do_not_contact: root.into_iter().chain(own).any(|node| self.forbids(node)),
            lost_ms: outcomes
                .last_lost_ms
                .filter(|lost_ms| outcomes.last_won_ms.is_none_or(|won_ms| won_ms < *lost_ms)),
            peers: self.peers(graph, cell, root, as_of),
            counts: Arc::new(counts(graph, cell, as_of)),
            ..AlertFacts::default()
        };
        self.rhythm(graph, cell, as_of, &mut facts);
        if self.has_people {
            people::write(graph, cell, as_of, &mut facts);
        }
        facts
    }

    fn rhythm(&self, graph: &Graph, cell: &Cell, as_of: AsOf, facts: &mut AlertFacts) {
        let layout = &graph.shared().layout;
        let mut all = Rhythm::new(graph, as_of);
        let mut of_usage = Rhythm::new(graph, as_of);
        for node in &cell.nodes {
            for (state, events) in node.events.iter().zip(layout.of_entity(node.table)) {
                let table = layout.events[*events].table;
                all.add(state, &self.kinds[*events].1, *events);
                if self.usage.contains(&table) {
                    of_usage.add(state, &[], *events);
                }
                let limits = self.limits.iter().filter(|(one, _)| *one == table);
                for (_, slots) in limits {
                    facts.limit_ms = facts.limit_ms.max(rhythm::newest_of(graph, state, slots));
                }
            }
        }
        let kinds: usize = self.kinds.iter().map(|(_, slots)| slots.len()).sum();
        facts.active_kinds = (kinds > 1).then(|| all.active_kinds());
        facts.engagement = all.pace();
        facts.usage = of_usage.pace().filter(|_| !self.usage.is_empty());
        facts.usual_gap_ms = all.usual_gap_ms();
    }

    fn forbids(&self, node: &Node) -> bool {
        let mut flags = self.do_not_contact.iter();
        flags.any(|(table, field)| {
            *table == node.table && matches!(node.value(*field), Value::Bool(true))
        })
    }

    /// The hub of the root whose other cells closed most for their number.
    fn peers(
        &self,
        graph: &Graph,
        cell: &Cell,
        root: Option<&Node>,
        as_of: AsOf,
    ) -> Option<PeerClosings> {
        let root = root.filter(|root| !root.hubs.is_empty() && !self.closings.is_empty())?;
        let half_lives = &graph.shared().options.half_lives_days;
        let longest = half_lives.len() - 1;
        let view = HubView::new(graph, cell, as_of);
        let mut best: Option<PeerClosings> = None;
        for hub in &root.hubs {
            let Some(others) = view.others(*hub).filter(|others| others.cells >= MIN_PEERS) else {
                continue;
            };
            let sum = |half: usize| {
                let slots = self.closings.iter();
                slots.map(|slot| others.sum(*slot, half)).sum::<f64>()
            };
            let closed = about(half_lives, half_lives[longest], sum);
            let closed = closed.min(f64::from(others.cells));
            let share = closed / f64::from(others.cells);
            let best_share = best.as_ref().map_or(0.0, |b| b.closed / f64::from(b.of));
            if closed >= MIN_CLOSED && share > best_share {
                best = Some(PeerClosings {
                    hub: words::value(graph.directory().key(*hub)).unwrap_or_default(),
                    closed,
                    of: others.cells,
                    within_days: half_lives[longest].round() as u32,
                });
            }
        }
        best
    }
}

/// The values of events and deals by name, as the next alert compares with them.
fn counts(graph: &Graph, cell: &Cell, as_of: AsOf) -> BTreeMap<String, f64> {
    let mut counts = BTreeMap::new();
    for value in account_values(graph, cell, as_of) {
        // What is absent was nothing.
        if let Some(PastValue::Number(number)) = value.past()
            && number > 0.0
        {
            counts.insert(value.label, number);
        }
    }
    counts
}

fn open_deals(graph: &Graph, cell: &Cell) -> Vec<OpenDeal> {
    let catalog = graph.catalog();
    let deal = |node: &&Node| OpenDeal {
        key: graph.directory().key(node.entity).to_string(),
        amount: amount_field(catalog.table_at(node.table))
            .and_then(|field| node.value(field).number())
            .filter(|amount| amount.is_finite() && *amount > 0.0),
        owner: graph.assignee(node).map(str::to_owned),
    };
    open_members(graph, cell).iter().map(deal).collect()
}

/// The field with the amount of a deal: the first with a currency, else the only real number.
fn amount_field(table: &Table) -> Option<FieldId> {
    let with_currency = table.fields.iter().find(|field| field.currency.is_some());
    let mut numbers = table
        .fields
        .iter()
        .filter(|field| field.data_type == DataType::Double && field.feature == Feature::Number);
    let only = numbers.next().filter(|_| numbers.next().is_none());
    with_currency.or(only).map(|field| field.id)
}

/// The domain that an entity is matched by, without scheme, `www.` and path.
fn domain(catalog: &Catalog, node: &Node) -> Option<String> {
    let table = catalog.table_at(node.table);
    let matched = table.fields.iter().filter(|field| field.match_by.is_some());
    for field in matched {
        let Some(text) = node.value(field.id).text() else {
            continue;
        };
        let text = match field.match_by {
            Some(MatchBy::Domain) => text.rsplit('@').next().unwrap_or(text),
            _ => text.split_once("://").map_or(text, |(_, rest)| rest),
        };
        let host = text.split(['/', '?', '#', ':']).next().unwrap_or(text);
        let host = host.trim().trim_end_matches('.').to_lowercase();
        let host = host.strip_prefix("www.").unwrap_or(&host);
        if host.contains('.') {
            return Some(host.to_owned());
        }
    }
    None
}

fn event_table<'c>(
    catalog: &'c Catalog,
    place: &str,
    name: &str,
) -> Result<&'c Table, PolicyError> {
    let found = catalog.table(name).filter(|one| one.role == Role::Event);
    let events = catalog.tables.iter().filter(|one| one.role == Role::Event);
    found.ok_or_else(|| unknown(place, name, events.map(|one| one.name.clone())))
}

fn unknown(place: &str, name: &str, known: impl Iterator<Item = String>) -> PolicyError {
    PolicyError::UnknownName {
        place: place.to_owned(),
        name: name.to_owned(),
        known: known.collect::<Vec<_>>().join(", "),
    }
}

/// The category field that names the kind of an event: the first of its table.
fn kind_field(table: &Table) -> Option<FieldId> {
    let mut fields = table.fields.iter();
    let kind = fields.find(|field| field.feature == Feature::Category && field.hub.is_none())?;
    Some(kind.id)
}

/// The slots of a table's kinds; that of the count for a table with one kind.
fn kind_slots(catalog: &Catalog, layout: &StateLayout, table: TableId) -> (TableId, Vec<u16>) {
    let kind = kind_field(catalog.table_at(table));
    let slots = &layout.event(table).slots;
    let number = |at: usize| u16::try_from(at).expect("slots are numbered by u16");
    let mut found: Vec<u16> = Vec::new();
    for (at, slot) in slots.iter().enumerate() {
        let is_kind = matches!(slot.kind, SlotKind::Value(_) | SlotKind::Bucket(_));
        if is_kind && kind.is_some() && slot.field == kind {
            found.push(number(at));
        }
    }
    if found.is_empty() {
        let count = slots.iter().position(|slot| slot.kind == SlotKind::Count);
        found.extend(count.map(number));
    }
    (table, found)
}

/// The slots of some kinds of a table, by value.
fn slots_of_kinds(
    table: &Table,
    layout: &StateLayout,
    kinds: &[String],
) -> Result<Vec<u16>, PolicyError> {
    let kind = kind_field(table);
    let mut known: Vec<(&str, u16)> = Vec::new();
    for (at, slot) in layout.event(table.id).slots.iter().enumerate() {
        if let SlotKind::Value(value) = &slot.kind
            && slot.field == kind
        {
            let number = u16::try_from(at).expect("slots are numbered by u16");
            known.push((value, number));
        }
    }
    let place = format!("facts.limits.{}", table.name);
    let mut slots = Vec::new();
    for name in kinds {
        let found = known.iter().find(|(value, _)| value == name);
        let values = known.iter().map(|(value, _)| (*value).to_owned());
        slots.push(found.ok_or_else(|| unknown(&place, name, values))?.1);
    }
    Ok(slots)
}

/// A truth value of an entity table, by `table.field`.
fn flag(catalog: &Catalog, path: &str) -> Result<(TableId, FieldId), PolicyError> {
    let entities = || catalog.tables.iter().filter(|table| table.is_entity());
    let flags = entities().flat_map(|table| {
        let flags = table
            .fields
            .iter()
            .filter(|f| f.data_type == DataType::Bool);
        flags.map(move |field| (table, field))
    });
    let mut known = Vec::new();
    for (table, field) in flags {
        let is_table = |name: &str| catalog.table(name).is_some_and(|one| one.id == table.id);
        if path
            .split_once('.')
            .is_some_and(|(name, of)| is_table(name) && of == field.name)
        {
            return Ok((table.id, field.id));
        }
        known.push(format!("{}.{}", table.name, field.name));
    }
    Err(unknown("facts.do_not_contact", path, known.into_iter()))
}

/// The hub slots of values that win a deal.
fn closing_slots(catalog: &Catalog, layout: &StateLayout) -> Vec<usize> {
    let mut slots = Vec::new();
    for table in catalog.tables.iter().filter(|t| t.role == Role::Event) {
        let Some(outcome) = &table.outcome else {
            continue;
        };
        slots.extend(slot_of(layout, table.id, |slot| {
            slot.field == Some(outcome.field)
                && matches!(&slot.kind, SlotKind::Value(value) if outcome.won.contains(value))
        }));
    }
    slots
}
