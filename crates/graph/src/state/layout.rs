//! Which numbers are kept per event table: fixed by schema and options, never by a model.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use xxhash_rust::xxh3::xxh3_64;

use leadpulse_schema::{
    Catalog, DataType, Feature, FieldId, HubId, Meaning, OutcomeField, RelationId, RelationKind,
    Role, Row, Table, TableId, Value,
};

use crate::options::GraphOptions;

/// What one event adds: (slot, amount).
pub type Phi = SmallVec<[(u16, f64); 12]>;

/// What a slot counts.
#[derive(Clone, Debug, PartialEq)]
pub enum SlotKind {
    /// Events.
    Count,
    /// Events whose category has this declared value.
    Value(String),
    /// Events whose category falls into this hashed bucket.
    Bucket(u16),
    /// The number itself.
    Raw,
    /// sign(x)·ln(1 + |x|).
    Log,
    /// A truth value.
    Flag,
}

/// One slot of an event table.
#[derive(Clone, Debug, PartialEq)]
pub struct EventSlot {
    /// The field it comes from; `None` for the count.
    pub field: Option<FieldId>,
    /// What it counts.
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
    /// The event table.
    pub table: TableId,
    /// Its slots; slot 0 is the count.
    pub slots: Vec<EventSlot>,
    /// The slots hubs sum: all but hashed buckets.
    pub hub_slots: Vec<u16>,
    extracts: Vec<Extract>,
    stages: Option<(FieldId, FxHashMap<String, u8>)>,
    /// Highest stage number, 0 without stages.
    pub top_stage: u8,
    /// Fields that name hubs.
    pub hub_fields: Vec<(FieldId, HubId)>,
    /// Fields that name entities the event does not hang on.
    pub mentions: Vec<(FieldId, RelationId, TableId)>,
    outcome: Option<OutcomeField>,
    /// Where hub sums of this table start in a hub's vector, in slots.
    pub hub_offset: usize,
}

/// Numbers beyond this count as this: no row can make a sum, times any weight, infinite, and it fits the registers' f32.
const LARGEST_AMOUNT: f64 = 1e30;

/// A number as it is accumulated.
pub(crate) fn bounded(x: f64) -> f64 {
    x.clamp(-LARGEST_AMOUNT, LARGEST_AMOUNT)
}

/// sign(x)·ln(1 + |x|)
pub fn signed_log1p(x: f64) -> f64 {
    x.signum() * x.abs().ln_1p()
}

impl EventLayout {
    fn new(catalog: &Catalog, table: &Table, options: &GraphOptions, hub_offset: usize) -> Self {
        let mut slots = vec![EventSlot {
            field: None,
            kind: SlotKind::Count,
        }];
        let mut extracts = Vec::new();
        for field in &table.fields {
            let slot = slots.len() as u16;
            match (field.feature, &field.data_type) {
                (Feature::Number, DataType::Bool) => {
                    slots.push(EventSlot {
                        field: Some(field.id),
                        kind: SlotKind::Flag,
                    });
                    extracts.push(Extract::Flag {
                        field: field.id,
                        slot,
                    });
                }
                (Feature::Number, _) => {
                    slots.push(EventSlot {
                        field: Some(field.id),
                        kind: SlotKind::Raw,
                    });
                    slots.push(EventSlot {
                        field: Some(field.id),
                        kind: SlotKind::Log,
                    });
                    extracts.push(Extract::Number {
                        field: field.id,
                        slot,
                    });
                }
                (Feature::Category | Feature::Set, _) => {
                    let values = field
                        .values
                        .iter()
                        .enumerate()
                        .map(|(i, v)| (v.clone(), slot + i as u16))
                        .collect();
                    slots.extend(field.values.iter().map(|v| EventSlot {
                        field: Some(field.id),
                        kind: SlotKind::Value(v.clone()),
                    }));
                    let closed = matches!(field.data_type, DataType::Symbol(_));
                    let buckets = if closed { 0 } else { options.hashed_buckets };
                    slots.extend((0..buckets).map(|b| EventSlot {
                        field: Some(field.id),
                        kind: SlotKind::Bucket(b),
                    }));
                    extracts.push(Extract::Category {
                        field: field.id,
                        slot,
                        values,
                        buckets,
                    });
                }
                (Feature::None | Feature::Text | Feature::Time, _) => {}
            }
        }
        let hub_slots = (0..slots.len() as u16)
            .filter(|s| !matches!(slots[*s as usize].kind, SlotKind::Bucket(_)))
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
            hub_offset,
        }
    }

    /// What a row adds to the slots.
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

    /// The stage of a row, if its kind has one.
    pub fn stage(&self, row: Row<'_>) -> Option<u8> {
        let (field, stages) = self.stages.as_ref()?;
        stages.get(row.get(*field).text()?).copied()
    }

    /// Whether a row ends a deal, and how: won or lost.
    pub fn verdict(&self, row: Row<'_>) -> Option<bool> {
        let outcome = self.outcome.as_ref()?;
        outcome.of(row.get(outcome.field).text()?)
    }

    /// Its hub sums, in slots per half-life.
    pub fn hub_width(&self) -> usize {
        self.hub_slots.len()
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

/// What versions of an entity table say besides their values.
#[derive(Clone, Debug, Default)]
pub struct EntityLayout {
    /// Fields that name hubs.
    pub hub_fields: Vec<(FieldId, HubId)>,
    /// Fields that name related entities.
    pub references: Vec<(FieldId, RelationId, TableId)>,
    /// The relation to former roots, if the table has one.
    pub previous: Option<RelationId>,
    /// Fields that name a former root.
    pub previous_fields: Vec<(FieldId, TableId)>,
    /// Fields that name what the row became.
    pub became: Vec<(FieldId, TableId)>,
    /// Fields that name what the row was.
    pub was: Vec<(FieldId, TableId)>,
    /// Fields that name the entity's domain.
    pub match_fields: Vec<FieldId>,
}

impl EntityLayout {
    fn new(catalog: &Catalog, table: &Table) -> Self {
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
        }
    }
}

/// The slots of every event table, and which event tables hang on which entity table.
#[derive(Clone, Debug)]
pub struct StateLayout {
    /// One per event table, in table order.
    pub events: Vec<EventLayout>,
    /// Table → index into `events`.
    by_table: Vec<Option<usize>>,
    /// Entity table → indices into `events` of what may hang on it.
    of_entity: Vec<Vec<usize>>,
    /// One per table; of roots and members it is filled.
    entities: Vec<EntityLayout>,
    /// Slots a hub sums, over all event tables, per half-life.
    pub hub_width: usize,
    /// Day counters by event table: (index into `GraphOptions::day_counters`).
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
                Role::Hub | Role::Event => Vec::new(),
            })
            .collect();
        let entities = catalog.tables.iter().map(|t| match t.role {
            Role::Root | Role::Member => EntityLayout::new(&catalog, t),
            Role::Hub | Role::Event => EntityLayout::default(),
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
    pub fn event(&self, table: TableId) -> &EventLayout {
        &self.events[self.by_table[table.index()].expect("asked only for event tables")]
    }
    /// What versions of an entity table say.
    pub fn entity(&self, table: TableId) -> &EntityLayout {
        &self.entities[table.index()]
    }
    /// Whether events of a table may hang on an entity table.
    pub fn carries(&self, entity: TableId, event: TableId) -> bool {
        self.by_table[event.index()].is_some_and(|index| self.of_entity(entity).contains(&index))
    }
    /// Indices into [`Self::events`] of the event tables that may hang on an entity table, in table order.
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
    /// The catalog it was made from.
    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }
}
