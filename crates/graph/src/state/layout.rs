//! Layout of state: the numbers kept per event table, fixed by schema and options, never by a
//! model.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use xxhash_rust::xxh3::xxh3_64;

use leadpulse_schema::{
    Bursting, Catalog, DataType, Feature, Field, FieldId, HubId, Meaning, OutcomeField, RelationId,
    RelationKind, Role, Row, Table, TableId, Value, Verdict,
};

use crate::options::{DAY_MS, GraphOptions, ULTIMATE_PARENT, agreeing_field, parent_field};

/// The amounts of one event: (slot, amount).
pub type Phi = SmallVec<[(u16, f64); 12]>;

/// The quantity that a slot sums.
#[derive(Clone, Debug, PartialEq)]
pub enum SlotKind {
    /// The number of events.
    Count,
    /// Events whose category has this declared value.
    Value(String),
    /// Events whose category falls into this hashed bucket.
    Bucket(u16),
    /// A number field as it is, or the days from the event to a time that it names.
    Raw,
    /// A number field on a signed log scale: sign(x)·ln(1 + |x|).
    Log,
    /// A truth value: 0 or 1.
    Flag,
}

/// One slot of an event table.
#[derive(Clone, Debug, PartialEq)]
pub struct EventSlot {
    /// The field of the quantity; `None` for the count.
    pub field: Option<FieldId>,
    pub kind: SlotKind,
}

#[derive(Clone, Debug)]
enum Extract {
    Number {
        field: FieldId,
        slot: u16,
    },
    Flag {
        field: FieldId,
        slot: u16,
    },
    /// The days from the event to the field's time.
    Span {
        field: FieldId,
        slot: u16,
    },
    Category {
        field: FieldId,
        slot: u16,
        values: FxHashMap<String, u16>,
        buckets: u16,
    },
}

/// The slots of one event table.
#[derive(Clone, Debug)]
pub struct EventLayout {
    pub table: TableId,
    /// The slots of the table; slot 0 is the count.
    pub slots: Vec<EventSlot>,
    /// The slots hubs sum: all but hashed buckets.
    pub hub_slots: Vec<u16>,
    extracts: Vec<Extract>,
    stages: Option<(FieldId, FxHashMap<String, u8>)>,
    /// Highest stage number, 0 without stages.
    pub top_stage: u8,
    /// Fields that name hubs, with the hub.
    pub hub_fields: Vec<(FieldId, HubId)>,
    /// Fields that name entities beside the owner.
    pub mentions: Vec<(FieldId, RelationId, TableId)>,
    outcome: Option<OutcomeField>,
    /// The slots of the values that end a deal.
    pub(crate) end_slots: Vec<u16>,
    not_engagement: Vec<(FieldId, Vec<String>)>,
    /// The events that may be of a burst; `None` without such a rule.
    bursts: Option<Bursting>,
    /// The first slot of this table in a hub's vector.
    pub hub_offset: usize,
}

/// The bound of accumulated numbers.
// No row can make a sum, times any weight, infinite, and the bound fits the registers' f32.
const LARGEST_AMOUNT: f64 = 1e30;

/// A number clamped to the range that is accumulated.
pub(crate) fn bounded(x: f64) -> f64 {
    x.clamp(-LARGEST_AMOUNT, LARGEST_AMOUNT)
}

/// Computes sign(x)·ln(1 + |x|).
pub fn signed_log1p(x: f64) -> f64 {
    // Most amounts are 0, and the logarithm is not free.
    if x == 0.0 {
        return x;
    }
    x.signum() * x.abs().ln_1p()
}

impl EventLayout {
    fn new(catalog: &Catalog, table: &Table, options: &GraphOptions, hub_offset: usize) -> Self {
        let mut slots = vec![EventSlot {
            field: None,
            kind: SlotKind::Count,
        }];
        let mut extracts = Vec::new();
        // The table's own time is the event's, and decides what its amounts weigh.
        let fields = table.fields.iter().filter(|f| Some(f.id) != table.time);
        for field in fields {
            extracts.extend(field_slots(field, options, &mut slots));
        }
        let hub_slots = (0..slots.len() as u16)
            .filter(|s| !matches!(slots[*s as usize].kind, SlotKind::Bucket(_)))
            .collect();
        let end_slots = (0..slots.len() as u16)
            .filter(|s| ends_deal(table, &slots[*s as usize]))
            .collect();
        let stages = table.staged.as_ref().map(|s| {
            (
                s.field,
                s.stages.iter().map(|(k, v)| (k.clone(), *v)).collect(),
            )
        });
        Self {
            table: table.id,
            slots,
            hub_slots,
            extracts,
            top_stage: table
                .staged
                .as_ref()
                .and_then(|s| s.stages.values().copied().max())
                .unwrap_or(0),
            stages,
            hub_fields: hub_fields(table),
            mentions: relations_of(catalog, table, |kind| match kind {
                RelationKind::Mention(field) => Some(field),
                _ => None,
            }),
            outcome: table.outcome.clone(),
            end_slots,
            not_engagement: table.not_engagement.clone(),
            bursts: table.bursts.clone().filter(|_| options.burst_events > 0),
            hub_offset,
        }
    }

    /// The amounts that a row adds to slots.
    pub fn phi(&self, row: Row<'_>) -> Phi {
        let mut phi = Phi::new();
        phi.push((0, 1.0));
        for extract in &self.extracts {
            match extract {
                Extract::Number { field, slot } => {
                    if let Some(x) = row.get(*field).number() {
                        let x = bounded(x);
                        phi.push((*slot, x));
                        phi.push((slot + 1, signed_log1p(x)));
                    }
                }
                Extract::Flag { field, slot } => {
                    if let Some(x) = row.get(*field).number() {
                        phi.push((*slot, x));
                    }
                }
                Extract::Span { field, slot } => {
                    if let Value::Time(time_ms) = row.get(*field) {
                        let span_ms = time_ms.saturating_sub(row.event_ms());
                        let x = bounded(span_ms as f64 / DAY_MS as f64);
                        phi.push((*slot, x));
                        phi.push((slot + 1, signed_log1p(x)));
                    }
                }
                Extract::Category {
                    field,
                    slot,
                    values,
                    buckets,
                } => {
                    let mut add = |text: &str| {
                        if let Some(known) = values.get(text) {
                            phi.push((*known, 1.0));
                        } else if *buckets > 0 {
                            let bucket = (xxh3_64(text.as_bytes()) % u64::from(*buckets)) as u16;
                            phi.push((slot + values.len() as u16 + bucket, 1.0));
                        }
                    };
                    match row.get(*field) {
                        Value::Text(text) => add(text),
                        Value::List(items) => items.iter().for_each(add),
                        _ => {}
                    }
                }
            }
        }
        phi
    }

    /// The stage of a row, from 1; `None` for a kind without one.
    pub fn stage(&self, row: Row<'_>) -> Option<u8> {
        let (field, stages) = self.stages.as_ref()?;
        stages.get(row.get(*field).text()?).copied()
    }

    /// Whether a row makes its owner active. False for values that the schema marks as no
    /// engagement: such a row counts in day counters and outcomes alone.
    pub fn is_engagement(&self, row: Row<'_>) -> bool {
        !self
            .not_engagement
            .iter()
            .any(|marked| is_marked(row, marked))
    }

    /// The hash of the campaign of a row that may be of a burst, 0 without a campaign; `None` for
    /// any other row, and for one that ends a deal.
    pub fn burst_campaign(&self, row: Row<'_>) -> Option<u64> {
        let bursts = self.bursts.as_ref()?;
        if !bursts.only.iter().all(|values| is_marked(row, values)) {
            return None;
        }
        // The newest end of a deal cannot be taken back exactly.
        if self.verdict(row).is_some() || !self.is_engagement(row) {
            return None;
        }
        let campaign = row.get(bursts.campaign).text();
        Some(campaign.map_or(0, |campaign| xxh3_64(campaign.as_bytes())))
    }

    /// The end of a deal by a row: `true` for won, `false` for lost, `None` for neither.
    pub fn verdict(&self, row: Row<'_>) -> Option<bool> {
        let outcome = self.outcome.as_ref()?;
        outcome.of(row.get(outcome.field).text()?)
    }

    /// Whether rows of the table are steps of deals.
    pub fn has_outcome(&self) -> bool {
        self.outcome.is_some()
    }

    /// The end of a deal that counts, of several; the last without outcomes.
    pub fn verdict_rule(&self) -> Verdict {
        let outcome = self.outcome.as_ref();
        outcome.map_or(Verdict::default(), |outcome| outcome.verdict)
    }

    /// The slot of the value that may end a deal; `None` without one.
    pub fn outcome_slot(&self, row: Row<'_>) -> Option<u16> {
        let field = self.outcome.as_ref()?.field;
        let text = row.get(field).text()?;
        let is_it = |slot: &EventSlot| {
            slot.field == Some(field) && matches!(&slot.kind, SlotKind::Value(v) if v == text)
        };
        self.slots.iter().position(is_it).map(|slot| slot as u16)
    }

    /// Whether a slot is that of a value which ends a deal.
    pub fn ends_deal(&self, slot: u16) -> bool {
        self.end_slots.contains(&slot)
    }

    /// The number of slots that hubs sum.
    pub fn hub_width(&self) -> usize {
        self.hub_slots.len()
    }
}

/// Whether a slot is that of a value which ends a deal.
fn ends_deal(table: &Table, slot: &EventSlot) -> bool {
    let Some(outcome) = &table.outcome else {
        return false;
    };
    match &slot.kind {
        SlotKind::Value(value) => slot.field == Some(outcome.field) && outcome.of(value).is_some(),
        _ => false,
    }
}

/// Whether the value of a field of a row is one of some values.
fn is_marked(row: Row<'_>, (field, values): &(FieldId, Vec<String>)) -> bool {
    let value = row.get(*field).text();
    value.is_some_and(|value| values.iter().any(|marked| marked == value))
}

/// Adds the slots of a field. Returns the way to fill them; `None` for a field without slots.
fn field_slots(
    field: &Field,
    options: &GraphOptions,
    slots: &mut Vec<EventSlot>,
) -> Option<Extract> {
    let slot = slots.len() as u16;
    let of_field = |kind| EventSlot {
        field: Some(field.id),
        kind,
    };
    match (field.feature, &field.data_type) {
        (Feature::Number, DataType::Bool) => {
            slots.push(of_field(SlotKind::Flag));
            Some(Extract::Flag {
                field: field.id,
                slot,
            })
        }
        (Feature::Number, _) => {
            slots.extend([SlotKind::Raw, SlotKind::Log].map(of_field));
            Some(Extract::Number {
                field: field.id,
                slot,
            })
        }
        (Feature::Category | Feature::Set, _) => {
            let values = field.values.iter().enumerate();
            let values = values.map(|(i, v)| (v.clone(), slot + i as u16)).collect();
            slots.extend(
                field
                    .values
                    .iter()
                    .map(|v| of_field(SlotKind::Value(v.clone()))),
            );
            // An enumeration has no values but the declared ones.
            let is_closed = matches!(field.data_type, DataType::Symbol(_));
            let buckets = if is_closed { 0 } else { options.hashed_buckets };
            slots.extend((0..buckets).map(|b| of_field(SlotKind::Bucket(b))));
            Some(Extract::Category {
                field: field.id,
                slot,
                values,
                buckets,
            })
        }
        (Feature::Time, _) => {
            slots.extend([SlotKind::Raw, SlotKind::Log].map(of_field));
            Some(Extract::Span {
                field: field.id,
                slot,
            })
        }
        (Feature::None | Feature::Text, _) => None,
    }
}

fn hub_fields(table: &Table) -> Vec<(FieldId, HubId)> {
    table
        .fields
        .iter()
        .filter_map(|f| f.hub.map(|h| (f.id, h)))
        .collect()
}

/// The relations that start from fields of a table, with the tables they lead to.
fn relations_of(
    catalog: &Catalog,
    table: &Table,
    field: impl Fn(RelationKind) -> Option<FieldId>,
) -> Vec<(FieldId, RelationId, TableId)> {
    let own = catalog.relations.iter().filter(|r| r.from == table.id);
    own.filter_map(|r| Some((field(r.kind)?, r.id, r.target)))
        .collect()
}

/// Fields of an entity table with a meaning besides their values.
#[derive(Clone, Debug, Default)]
pub struct EntityLayout {
    /// Fields that name hubs, with the hub.
    pub hub_fields: Vec<(FieldId, HubId)>,
    /// Fields that name related entities.
    pub references: Vec<(FieldId, RelationId, TableId)>,
    /// The relation to former roots, if the table has one.
    pub previous: Option<RelationId>,
    /// Fields that name a former root.
    pub previous_fields: Vec<(FieldId, TableId)>,
    /// Fields that name the entity that the row became.
    pub became: Vec<(FieldId, TableId)>,
    /// Fields that name the entity that the row was before.
    pub was: Vec<(FieldId, TableId)>,
    /// Fields that name the entity's domain.
    pub match_fields: Vec<FieldId>,
    /// The field that member and root of a shared domain agree in, if one is asked for.
    pub agree_field: Option<FieldId>,
    /// The field that names a root's parent, if shared domains lead to the topmost root.
    pub parent_field: Option<FieldId>,
}

impl EntityLayout {
    fn new(catalog: &Catalog, table: &Table, options: &GraphOptions) -> Self {
        let match_by = options.match_by.as_deref();
        let by_parent = match_by == Some(ULTIMATE_PARENT);
        let meaning = |meaning| {
            let meant = table.fields.iter().filter_map(move |f| {
                Some((f.id, f.reference.filter(|r| r.meaning == meaning)?.table))
            });
            meant.collect::<Vec<_>>()
        };
        let reference = |kind| match kind {
            RelationKind::Reference(field) => Some(field),
            _ => None,
        };
        let is_previous = |kind| matches!(kind, RelationKind::Previous);
        Self {
            hub_fields: hub_fields(table),
            references: relations_of(catalog, table, reference),
            previous: catalog
                .relations
                .iter()
                .find(|r| r.from == table.id && is_previous(r.kind))
                .map(|r| r.id),
            previous_fields: meaning(Meaning::Previous),
            became: meaning(Meaning::Became),
            was: meaning(Meaning::Was),
            match_fields: table
                .fields
                .iter()
                .filter(|f| f.match_by.is_some())
                .map(|f| f.id)
                .collect(),
            agree_field: match_by
                .filter(|_| !by_parent)
                .and_then(|name| agreeing_field(table, name))
                .map(|field| field.id),
            parent_field: Some(table)
                .filter(|table| by_parent && table.role == Role::Root)
                .and_then(parent_field)
                .map(|field| field.id),
        }
    }
}

/// The slots of every event table, and the event tables of every entity table.
#[derive(Clone, Debug)]
pub struct StateLayout {
    /// One per event table, in table order.
    pub events: Vec<EventLayout>,
    /// Index into `events`, by table.
    by_table: Vec<Option<usize>>,
    /// Indices into `events` of the event tables that may hang on an entity table, by table.
    of_entity: Vec<Vec<usize>>,
    /// One per table; those of hubs and events are empty.
    entities: Vec<EntityLayout>,
    /// The number of slots that a hub sums, over all event tables.
    pub hub_width: usize,
    /// Whether an event of any table may be of a burst.
    pub has_bursts: bool,
    /// Indices into `GraphOptions::day_counters`, by event table.
    pub counters_of: Vec<Vec<usize>>,
    catalog: Arc<Catalog>,
}

impl StateLayout {
    /// The layout of a catalog.
    pub fn new(catalog: Arc<Catalog>, options: &GraphOptions) -> Self {
        let mut events = Vec::new();
        let mut by_table = vec![None; catalog.tables.len()];
        let mut hub_width = 0;
        for table in catalog.tables.iter().filter(|t| t.role == Role::Event) {
            by_table[table.id.index()] = Some(events.len());
            let layout = EventLayout::new(&catalog, table, options, hub_width);
            hub_width += layout.hub_width();
            events.push(layout);
        }
        let of_entity = catalog
            .tables
            .iter()
            .map(|t| match t.role {
                Role::Root | Role::Member => catalog
                    .events_of(t.id)
                    .filter_map(|e| by_table[e.id.index()])
                    .collect(),
                Role::Hub
                | Role::Event
                | Role::Staff
                | Role::Override
                | Role::Feedback
                | Role::Erasure => Vec::new(),
            })
            .collect();
        let entities = catalog.tables.iter().map(|t| match t.role {
            Role::Root | Role::Member => EntityLayout::new(&catalog, t, options),
            Role::Hub
            | Role::Event
            | Role::Staff
            | Role::Override
            | Role::Feedback
            | Role::Erasure => EntityLayout::default(),
        });
        let entities = entities.collect();
        let counters_of = catalog
            .tables
            .iter()
            .map(|t| {
                (0..options.day_counters.len())
                    .filter(|i| options.day_counters[*i].events == t.id)
                    .collect()
            })
            .collect();
        Self {
            has_bursts: events.iter().any(|events| events.bursts.is_some()),
            events,
            by_table,
            of_entity,
            entities,
            hub_width,
            counters_of,
            catalog,
        }
    }
    /// The layout of an event table.
    ///
    /// # Panics
    /// For a table of another role.
    pub fn event(&self, table: TableId) -> &EventLayout {
        &self.events[self.by_table[table.index()].expect("asked only for event tables")]
    }
    /// The fields with a meaning of an entity table; empty for a table of another role.
    pub fn entity(&self, table: TableId) -> &EntityLayout {
        &self.entities[table.index()]
    }
    /// Whether events of a table may hang on an entity table.
    pub fn carries(&self, entity: TableId, event: TableId) -> bool {
        self.by_table[event.index()].is_some_and(|index| self.of_entity(entity).contains(&index))
    }
    /// Indices into [`Self::events`] of the event tables that may hang on an entity table, in
    /// table order.
    pub fn of_entity(&self, table: TableId) -> &[usize] {
        &self.of_entity[table.index()]
    }
    /// Position of an event table among those of its owner's table.
    pub fn position(&self, owner: TableId, event: TableId) -> usize {
        let index = self.by_table[event.index()].expect("asked only for event tables");
        self.of_entity(owner)
            .iter()
            .position(|e| *e == index)
            .expect("owners are checked when the catalog is loaded")
    }
    /// The catalog that the layout was made from.
    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }
}
