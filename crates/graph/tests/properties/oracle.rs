//! The graph said again, as simply as possible: keep every row, recompute everything from scratch whenever asked.
//!
//! Shares no code with the graph; only its public types are read.

use std::collections::{BTreeMap, BTreeSet};

use leadpulse_graph::{DAY_MS, Outcome, SlotKind};
use leadpulse_schema::{Catalog, DayWindow, Feature, FieldId, Measure, Role, Table, TableId};

use crate::market::{Datum, Market, Plain};

/// Table and key.
pub type Who = (TableId, String);
/// Hub name and key.
pub type HubKey = (String, String);

/// Every row that ever came, and where the last board fell.
pub struct Oracle<'m> {
    market: &'m Market,
    log: Vec<Plain>,
    board: Option<i64>,
    /// Rows in the log when the last board was published.
    published: usize,
}

/// The world after a number of rows.
pub struct World<'o> {
    market: &'o Market,
    pub people: BTreeMap<Who, Person>,
    pub events: Vec<(Who, &'o Plain)>,
}

/// What is known of an entity.
#[derive(Clone, Debug, Default)]
pub struct Person {
    pub version: Option<Vec<Datum>>,
    pub since_ms: Option<i64>,
    pub parent: Option<Who>,
}

/// The entity a row hangs on or belongs to.
pub fn owner(catalog: &Catalog, table: TableId, values: &[Datum]) -> Option<Who> {
    let table = catalog.table_at(table);
    let owned = |f: &FieldId| Some((table.field_at(*f).reference?.table, values[f.index()].text()?.to_owned()));
    table.owners.iter().find_map(owned)
}

/// What is left after `elapsed_ms` of an amount of 1.
pub fn decayed(elapsed_ms: i64, half_life_days: f64) -> f64 {
    0.5_f64.powf(elapsed_ms as f64 / (half_life_days * DAY_MS as f64))
}

impl<'m> Oracle<'m> {
    pub fn new(market: &'m Market) -> Self {
        Self { market, log: Vec::new(), board: None, published: 0 }
    }
    /// What becomes of each row; those let in are kept.
    pub fn apply(&mut self, gatekeeper: &mut Gatekeeper, rows: &[Plain]) -> Vec<Outcome> {
        let outcomes: Vec<Outcome> = rows.iter().map(|row| gatekeeper.judge(self.market, row)).collect();
        self.log.extend(rows.iter().zip(&outcomes).filter(|(_, o)| **o == Outcome::Accepted).map(|(row, _)| row.clone()));
        outcomes
    }
    pub fn advance(&mut self, as_of_ms: i64) {
        let due = as_of_ms.div_euclid(self.market.options.board_period_ms);
        if self.board.is_none_or(|board| due > board) {
            self.board = Some(due);
            self.published = self.log.len();
        }
    }
    pub fn now(&self) -> World<'_> {
        World::of(self.market, &self.log)
    }
    pub fn at_board(&self) -> World<'_> {
        World::of(self.market, &self.log[..self.published])
    }
    /// Whether an entity belonged to another since the last board: then the cell it is the top of is a new one.
    pub fn moved_since_board(&self, who: &Who) -> bool {
        let versions = || self.log.iter().enumerate().filter(|(_, row)| row.table == who.0 && row.key(&self.market.catalog) == who.1);
        let belongs = |rows: usize| {
            World::of(self.market, versions().take(rows).map(|(_, row)| row)).people.get(who).is_some_and(|p| p.parent.is_some())
        };
        let ends = versions().map(|(at, _)| at).skip(1).chain([self.log.len()]);
        // A version holds until the next one.
        ends.enumerate().any(|(version, end)| end >= self.published && belongs(version + 1))
    }
}

/// Lets rows in, and forgets nothing.
#[derive(Default)]
pub struct Gatekeeper {
    newest_ms: BTreeMap<u32, i64>,
    seen: BTreeSet<(TableId, Who, String)>,
}

impl Gatekeeper {
    pub fn judge(&mut self, market: &Market, row: &Plain) -> Outcome {
        if market.catalog.table_at(row.table).role != Role::Event {
            return Outcome::Accepted;
        }
        if row.time_ms > row.known_ms + market.options.future_tolerance_ms {
            return Outcome::Future;
        }
        let newest = self.newest_ms.entry(row.partition).or_insert(row.time_ms);
        if row.time_ms < *newest - market.options.late_horizon_ms {
            return Outcome::Late;
        }
        *newest = (*newest).max(row.time_ms);
        let owner = owner(&market.catalog, row.table, &row.values).expect("streams give every event an owner");
        let is_new = self.seen.insert((row.table, owner, row.key(&market.catalog).to_owned()));
        if is_new { Outcome::Accepted } else { Outcome::Duplicate }
    }
}

impl<'o> World<'o> {
    fn of(market: &'o Market, log: impl IntoIterator<Item = &'o Plain>) -> Self {
        let mut world = World { market, people: BTreeMap::new(), events: Vec::new() };
        for row in log {
            let table = market.catalog.table_at(row.table);
            let who = (row.table, row.key(&market.catalog).to_owned());
            match table.role {
                Role::Hub => {}
                Role::Event => {
                    let owner = owner(&market.catalog, row.table, &row.values).expect("streams give every event an owner");
                    world.people.entry(owner.clone()).or_default();
                    world.events.push((owner, row));
                }
                Role::Root | Role::Member if row.delete => {
                    if let Some(person) = world.people.get_mut(&who) {
                        person.version = None;
                        person.parent = None;
                    }
                }
                Role::Root | Role::Member => world.learn(table, who, row),
            }
        }
        world
    }

    fn learn(&mut self, table: &Table, who: Who, row: &Plain) {
        let person = self.people.entry(who).or_default();
        let mut version = row.values.clone();
        if let (Some(Datum::List(changed)), Some(before)) = (table.changed_fields.map(|f| &row.values[f.index()]), &person.version) {
            for field in &table.fields {
                let told = field.id == table.key || Some(field.id) == table.time || changed.contains(&field.name);
                if !told {
                    version[field.id.index()] = before[field.id.index()].clone();
                }
            }
        }
        person.since_ms = Some(person.since_ms.map_or(row.known_ms, |t| t.min(row.known_ms)));
        person.parent = owner(&self.market.catalog, table.id, &version);
        person.version = Some(version);
        if let Some(parent) = person.parent.clone() {
            self.people.entry(parent).or_default();
        }
    }

    /// The entity at the top of the chain of owners: its cell is named after it.
    pub fn top(&self, who: &Who) -> Who {
        let mut top = who.clone();
        while let Some(parent) = &self.people[&top].parent {
            top = parent.clone();
        }
        top
    }
    /// Who is in which cell.
    pub fn cells(&self) -> BTreeMap<Who, Vec<Who>> {
        let mut cells: BTreeMap<Who, Vec<Who>> = BTreeMap::new();
        for who in self.people.keys() {
            cells.entry(self.top(who)).or_default().push(who.clone());
        }
        cells
    }
    /// The events of a table that hang on an entity.
    pub fn events_on(&self, who: &Who, table: TableId) -> Vec<&'o Plain> {
        self.events.iter().filter(|(owner, row)| owner == who && row.table == table).map(|(_, row)| *row).collect()
    }
    /// The hubs that values of a row name.
    fn hubs_in(&self, table: TableId, values: &[Datum]) -> BTreeSet<HubKey> {
        let fields = &self.market.catalog.table_at(table).fields;
        let named = fields.iter().filter_map(|f| Some((f, &self.market.catalog.hubs[f.hub?.index()].name)));
        named.flat_map(|(f, hub)| values[f.id.index()].texts().into_iter().map(move |key| (hub.clone(), key.to_owned()))).collect()
    }
    /// The hubs that an entity's current version names.
    pub fn hubs_named(&self, who: &Who) -> BTreeSet<HubKey> {
        self.people[who].version.as_ref().map_or_else(BTreeSet::new, |values| self.hubs_in(who.0, values))
    }
    /// The hubs that an entity's events touched, with the times.
    pub fn hubs_touched(&self, who: &Who) -> BTreeMap<HubKey, Vec<i64>> {
        let mut touched: BTreeMap<HubKey, Vec<i64>> = BTreeMap::new();
        for (_, row) in self.events.iter().filter(|(owner, _)| owner == who) {
            for hub in self.hubs_in(row.table, &row.values) {
                touched.entry(hub).or_default().push(row.time_ms);
            }
        }
        touched
    }
    /// Per hub: the cells that touch it.
    pub fn cells_of_hubs(&self) -> BTreeMap<HubKey, BTreeSet<Who>> {
        let mut hubs: BTreeMap<HubKey, BTreeSet<Who>> = BTreeMap::new();
        for who in self.people.keys() {
            for hub in self.hubs_named(who).into_iter().chain(self.hubs_touched(who).into_keys()) {
                hubs.entry(hub).or_default().insert(self.top(who));
            }
        }
        hubs
    }
    /// A day window at `t`, over the events of some entities. Days end at midnight, and a window with the day it ends in.
    pub fn window(&self, owners: &[Who], window: DayWindow, t_ms: i64) -> f64 {
        let counter = &self.market.options.day_counters[window.counter];
        let day_end = |t: i64| (t as f64 / DAY_MS as f64).ceil() as i64 * DAY_MS;
        let end_ms = day_end(t_ms + window.end_days * DAY_MS);
        let start_ms = window.start_days.map(|start| end_ms - (window.end_days - start) * DAY_MS);
        let batch = |row: &Plain| self.market.batch(std::slice::from_ref(row));
        let counted = self.events.iter().filter(|(owner, row)| {
            let in_window = day_end(row.time_ms) <= end_ms && start_ms.is_none_or(|start| day_end(row.time_ms) > start);
            owners.contains(owner) && row.table == counter.events && in_window
        });
        counted
            .filter(|(_, row)| counter.filter.as_ref().is_none_or(|filter| filter.holds(&batch(row).row(0))))
            .map(|(_, row)| match counter.measure {
                Measure::Count => 1.0,
                Measure::CountOf(field) => f64::from(u8::from(row.values[field.index()] != Datum::Null)),
                Measure::SumOf(field) => row.values[field.index()].number().unwrap_or(0.0),
            })
            .sum()
    }
    /// Whether an entity is known and in the market's population at `t`.
    pub fn is_eligible(&self, who: &Who, t_ms: i64) -> bool {
        let family: Vec<Who> = self.people.keys().filter(|p| *p == who || (self.top(p) == *who)).cloned().collect();
        let windows = &self.market.population.windows;
        self.people[who].version.is_some() && self.window(&family, windows[0], t_ms) > 0.0 && self.window(&family, windows[1], t_ms) <= 2.0
    }
}

/// What a row adds to a slot. Buckets are summed up: their division is by a hash, which is nobody's business here.
pub fn amount(table: &Table, row: &Plain, field: Option<FieldId>, kind: &SlotKind) -> f64 {
    let Some(field) = field.map(|f| table.field_at(f)) else { return 1.0 };
    let value = &row.values[field.id.index()];
    let number = value.number();
    match kind {
        SlotKind::Count => 1.0,
        SlotKind::Value(declared) => value.texts().iter().filter(|text| *text == declared).count() as f64,
        SlotKind::Bucket(_) => value.texts().iter().filter(|text| !field.values.iter().any(|v| v == *text)).count() as f64,
        SlotKind::Raw | SlotKind::Flag => number.unwrap_or(0.0),
        SlotKind::Log => number.map_or(0.0, |x| if x < 0.0 { -(1.0 - x).ln() } else { (1.0 + x).ln() }),
    }
}

/// Whether a row adds anything at all to a slot (an amount of 0 counts, a missing one does not).
pub fn touches(table: &Table, row: &Plain, field: Option<FieldId>, kind: &SlotKind) -> bool {
    match kind {
        SlotKind::Raw | SlotKind::Log | SlotKind::Flag => field.is_some_and(|f| row.values[f.index()] != Datum::Null),
        _ => amount(table, row, field, kind) != 0.0,
    }
}

/// Per stage, the newest event among the last `kept` staged ones that stands at the end of a chain of all stages before it.
pub fn reached(table: &Table, events: &[&Plain], kept: usize, window_ms: i64) -> Vec<Option<i64>> {
    let Some(staged) = &table.staged else { return Vec::new() };
    let stage = |row: &Plain| Some(*staged.stages.get(row.values[staged.field.index()].text()?)?);
    let mut steps: Vec<(i64, u8)> = events.iter().filter_map(|row| Some((row.time_ms, stage(row)?))).collect();
    steps.sort_unstable();
    let steps = &steps[steps.len().saturating_sub(kept)..];
    fn stands(steps: &[(i64, u8)], at: usize, window_ms: i64) -> bool {
        let (time_ms, stage) = steps[at];
        stage == 1
            || (0..at)
                .any(|before| steps[before].1 + 1 == stage && time_ms - steps[before].0 <= window_ms && stands(steps, before, window_ms))
    }
    let top = staged.stages.values().copied().max().unwrap_or(0);
    (1..=top)
        .map(|stage| (0..steps.len()).filter(|i| steps[*i].1 == stage && stands(steps, *i, window_ms)).map(|i| steps[i].0).max())
        .collect()
}

/// Fields that open slots, with whether undeclared values are hashed.
pub fn expected_slots(table: &Table, buckets: u16) -> usize {
    let slots = |field: &leadpulse_schema::Field| match (field.feature, &field.data_type) {
        (Feature::Number, leadpulse_schema::DataType::Bool) => 1,
        (Feature::Number, _) => 2,
        (Feature::Category, leadpulse_schema::DataType::Symbol(symbols)) => symbols.len(),
        (Feature::Category | Feature::Set, _) => field.values.len() + usize::from(buckets),
        _ => 0,
    };
    1 + table.fields.iter().map(slots).sum::<usize>()
}

impl Datum {
    pub fn text(&self) -> Option<&str> {
        match self {
            Datum::Text(text) => Some(text),
            _ => None,
        }
    }
    /// The texts it names: none, one or several.
    pub fn texts(&self) -> Vec<&str> {
        match self {
            Datum::Text(text) => vec![text],
            Datum::List(items) => items.iter().map(String::as_str).collect(),
            _ => Vec::new(),
        }
    }
    pub fn number(&self) -> Option<f64> {
        match self {
            Datum::Bool(b) => Some(f64::from(u8::from(*b))),
            Datum::Long(n) => Some(*n as f64),
            Datum::Double(x) => Some(*x),
            _ => None,
        }
    }
}

impl Plain {
    pub fn key(&self, catalog: &Catalog) -> &str {
        self.values[catalog.table_at(self.table).key.index()].text().unwrap()
    }
}
