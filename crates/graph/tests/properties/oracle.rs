//! The graph said again, as simply as possible: keep every row, recompute everything from scratch
//! whenever asked.
//!
//! Shares no code with the graph; only its public types are read.

use std::collections::{BTreeMap, BTreeSet};

use leadpulse_graph::{DAY_MS, RowOutcome, SlotKind};
use leadpulse_schema::{
    Catalog, DayWindow, Feature, FieldId, Meaning, Measure, Role, Table, TableId,
};

use crate::market::{ADDRESSES, Datum, Market, Plain};

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
    /// The cells that were there then and after each row since.
    stayed: BTreeSet<Who>,
}

/// The world after a number of rows.
pub struct World<'o> {
    market: &'o Market,
    pub people: BTreeMap<Who, Person>,
    /// Events with whom they were addressed to.
    pub events: Vec<(Who, &'o Plain)>,
    links: BTreeSet<(Who, Who)>,
    survivors: BTreeMap<Who, Who>,
    groups: BTreeMap<Who, Vec<Who>>,
    /// Per domain, the roots that name it.
    claims: BTreeMap<String, BTreeSet<Who>>,
    /// Events that were in and were then taken back.
    pub removed: Vec<(Who, &'o Plain)>,
    /// Table and key of the events that a scanner made.
    scanned: BTreeSet<(TableId, String)>,
}

/// What is known of an entity.
#[derive(Clone, Debug, Default)]
pub struct Person {
    pub version: Option<Vec<Datum>>,
    pub since_ms: Option<i64>,
    pub owner: Option<Who>,
    /// The smallest that events name beside it.
    pub company: Option<Who>,
    pub domains: Vec<String>,
    /// Those of its first version; `None` before it.
    pub first_domains: Option<Vec<String>>,
    /// Relation, whom it names → since when.
    pub references: BTreeMap<(String, Who), i64>,
    /// Former roots: whom → when it became known that it had left.
    pub former: BTreeMap<Who, i64>,
    last_root: Option<Who>,
    /// When the current version's outcome became what it is.
    pub outcome_since_ms: i64,
}

/// Domains are named like entities of a table that does not exist.
pub const DOMAINS: TableId = TableId(u16::MAX);

/// How a member found its root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    Reference,
    Link,
    Domain,
    Events,
    Provisional,
    Not,
    Own,
    Competitor,
}

/// The entity a row hangs on or belongs to.
pub fn owner(catalog: &Catalog, table: TableId, values: &[Datum]) -> Option<Who> {
    owners(catalog, table, values).into_iter().next()
}

/// The entities that a row's owner references name, in their order.
fn owners(catalog: &Catalog, table: TableId, values: &[Datum]) -> Vec<Who> {
    let table = catalog.table_at(table);
    let owned = |f: &FieldId| {
        Some((
            table.field_at(*f).reference?.table,
            values[f.index()].text()?.to_owned(),
        ))
    };
    table.owners.iter().filter_map(owned).collect()
}

/// The entities an event names besides its owner, each once per relation.
fn mentions(market: &Market, row: &Plain) -> BTreeSet<(String, Who)> {
    let table = market.catalog.table_at(row.table);
    let named = table
        .fields
        .iter()
        .filter(|f| !table.owners.contains(&f.id) && f.hub.is_none());
    let named = named.filter_map(|f| Some((f, f.reference?.table)));
    named
        .flat_map(|(f, target)| {
            let relation = format!("{}.{}", table.name, f.name);
            row.values[f.id.index()]
                .texts()
                .into_iter()
                .map(move |key| (relation.clone(), (target, key.to_owned())))
        })
        .collect()
}

/// The campaign of an event that a scanner may have made.
fn may_be_scanned(market: &Market, row: &Plain) -> Option<Option<String>> {
    let table = market.catalog.table_at(row.table);
    let bursts = table.bursts.as_ref()?;
    let has = |(field, values): &(FieldId, Vec<String>)| {
        let value = row.values[field.index()].text();
        value.is_some_and(|value| values.iter().any(|one| one == value))
    };
    if market.options.burst_events == 0
        || !bursts.only.iter().all(has)
        || table.not_engagement.iter().any(has)
    {
        return None;
    }
    let campaign = row.values[bursts.campaign.index()].text();
    Some(campaign.map(str::to_owned))
}

/// What is left after `elapsed_ms` of an amount of 1.
pub fn decayed(elapsed_ms: i64, half_life_days: f64) -> f64 {
    0.5_f64.powf(elapsed_ms as f64 / (half_life_days * DAY_MS as f64))
}

impl<'m> Oracle<'m> {
    pub fn new(market: &'m Market) -> Self {
        Self {
            market,
            log: Vec::new(),
            board: None,
            published: 0,
            stayed: BTreeSet::new(),
        }
    }
    /// What becomes of each row; those let in are kept.
    pub fn apply(&mut self, gatekeeper: &mut Gatekeeper, rows: &[Plain]) -> Vec<RowOutcome> {
        let outcomes: Vec<RowOutcome> = rows
            .iter()
            .map(|row| gatekeeper.judge(self.market, row, None))
            .collect();
        for (row, _) in rows.iter().zip(&outcomes).filter(|(_, o)| o.is_accepted()) {
            self.log.push(row.clone());
            let cells = self.now().cells();
            self.stayed.retain(|cell| cells.contains_key(cell));
        }
        outcomes
    }
    pub fn advance(&mut self, as_of_ms: i64) {
        let due = as_of_ms.div_euclid(self.market.options.board_period_ms);
        if self.board.is_none_or(|board| due > board) {
            self.board = Some(due);
            self.published = self.log.len();
            self.stayed = self.now().cells().into_keys().collect();
        }
    }
    pub fn now(&self) -> World<'_> {
        World::of(self.market, &self.log)
    }
    pub fn at_board(&self) -> World<'_> {
        World::of(self.market, &self.log[..self.published])
    }
    /// Whether a cell was there at the last board and after each row since: otherwise it is a new
    /// one of the same name.
    pub fn stayed(&self, cell: &Who) -> bool {
        self.stayed.contains(cell)
    }
}

/// Lets rows in. It forgets nothing, but knows which days one that forgets may have forgotten.
#[derive(Default)]
pub struct Gatekeeper {
    newest_ms: BTreeMap<u32, i64>,
    /// Tables and the partitions that accepted rows of them.
    read: BTreeSet<(TableId, u32)>,
    seen: BTreeSet<(TableId, String)>,
    taken_back: BTreeSet<(TableId, String)>,
    /// Days before this one are closed to a table.
    first_day: BTreeMap<TableId, i64>,
    /// Entities and hubs that a row has described, with the time of their version; `None` once
    /// deleted.
    described: BTreeMap<Who, Option<Datum>>,
}

impl Gatekeeper {
    pub fn judge(&mut self, market: &Market, row: &Plain, clock_ms: Option<i64>) -> RowOutcome {
        let options = &market.options;
        let (sent_ms, tolerance_ms) = (row.time_ms.min(row.known_ms), options.future_tolerance_ms);
        if clock_ms.is_some_and(|clock| sent_ms > clock + tolerance_ms) {
            return RowOutcome::Future;
        }
        if market.catalog.table_at(row.table).role != Role::Event {
            return self.judge_version(market, row);
        }
        if row.time_ms > row.known_ms + tolerance_ms
            || clock_ms.is_some_and(|clock| row.time_ms > clock + tolerance_ms)
        {
            return RowOutcome::Future;
        }
        let name = (row.table, row.key(&market.catalog).to_owned());
        let is_outcome = market.catalog.table_at(row.table).outcome.is_some();
        let is_accepted = if row.takes_back(&market.catalog) {
            self.taken_back.insert(name)
        } else {
            let newest = self.newest_ms.get(&row.partition);
            let is_closed = self
                .first_day
                .get(&row.table)
                .is_some_and(|first| row.time_ms.div_euclid(DAY_MS) < *first);
            let is_old =
                newest.is_some_and(|newest| row.time_ms < newest - options.late_horizon_ms);
            if !is_outcome && (is_closed || is_old) {
                return RowOutcome::Late;
            }
            self.seen.insert(name.clone()) && !self.taken_back.contains(&name)
        };
        if !is_accepted {
            return RowOutcome::Duplicate;
        }
        let newest = self.newest_ms.entry(row.partition).or_insert(row.time_ms);
        *newest = (*newest).max(row.time_ms);
        self.read.insert((row.table, row.partition));
        RowOutcome::Accepted
    }

    /// Versions and deletions follow the log; repeated deletions, steps back and parts of nothing are noticed.
    fn judge_version(&mut self, market: &Market, row: &Plain) -> RowOutcome {
        let table = market.catalog.table_at(row.table);
        let who = (row.table, row.key(&market.catalog).to_owned());
        if row.delete {
            return match self.described.get_mut(&who) {
                None => RowOutcome::NothingToDelete,
                Some(None) => RowOutcome::Duplicate,
                Some(version) => {
                    *version = None;
                    RowOutcome::Accepted
                }
            };
        }
        let time = table
            .time
            .map_or(Datum::Null, |f| row.values[f.index()].clone());
        let changed = table.changed_fields.map(|f| &row.values[f.index()]);
        let is_part = matches!(changed, Some(Datum::List(names)) if !names.is_empty());
        match (self.described.insert(who, Some(time.clone())), time) {
            (None | Some(None), _) if is_part && table.role != Role::Hub => RowOutcome::InPart,
            (Some(Some(Datum::Time(before_ms))), Datum::Time(now_ms)) if now_ms < before_ms => {
                RowOutcome::SteppedBack
            }
            _ => RowOutcome::Accepted,
        }
    }

    /// A board was published: days that are late in every partition of a table are closed to it.
    pub fn published(&mut self, market: &Market) {
        for table in &market.catalog.tables {
            let partitions = self
                .read
                .iter()
                .filter(|(read, _)| *read == table.id)
                .map(|(_, partition)| partition);
            if let Some(slowest_ms) = partitions.map(|partition| self.newest_ms[partition]).min() {
                let first_day = self.first_day.entry(table.id).or_insert(i64::MIN);
                *first_day = (*first_day)
                    .max((slowest_ms - market.options.late_horizon_ms).div_euclid(DAY_MS));
            }
        }
    }
}

impl<'o> World<'o> {
    fn of(market: &'o Market, log: impl IntoIterator<Item = &'o Plain>) -> Self {
        let mut world = World {
            market,
            people: BTreeMap::new(),
            events: Vec::new(),
            links: BTreeSet::new(),
            survivors: BTreeMap::new(),
            groups: BTreeMap::new(),
            claims: BTreeMap::new(),
            removed: Vec::new(),
            scanned: BTreeSet::new(),
        };
        let mut settles = false;
        for row in log {
            let table = market.catalog.table_at(row.table);
            let who = (row.table, row.key(&market.catalog).to_owned());
            match table.role {
                Role::Hub | Role::Staff | Role::Override | Role::Feedback | Role::Erasure => {}
                Role::Event => {
                    let owner = owner(&market.catalog, row.table, &row.values)
                        .expect("streams give every event an owner");
                    world.people.entry(owner.clone()).or_default();
                    world.name_company(&owner, row);
                    for (_, named) in mentions(market, row) {
                        world.people.entry(named).or_default();
                    }
                    if row.takes_back(&market.catalog) {
                        settles = true;
                        let key = row.key(&market.catalog);
                        let is_it = |(_, e): &(Who, &Plain)| {
                            (e.table, e.key(&market.catalog)) == (row.table, key)
                        };
                        world
                            .removed
                            .extend(world.events.iter().filter(|e| is_it(e)).cloned());
                        world.events.retain(|e| !is_it(e));
                    } else {
                        world.events.push((owner, row));
                    }
                }
                Role::Root | Role::Member if row.delete => {
                    if let Some(person) = world.people.get_mut(&who) {
                        person.version = None;
                        person.owner = None;
                        person.domains.clear();
                        person.references.clear();
                    }
                }
                Role::Root | Role::Member => world.learn(table, who, row),
            }
        }
        world.resolve();
        world.scanned = world.find_scanned();
        if settles {
            // A retraction, of whatever, settled what was open: an event that turned out to be scanned was in.
            let scanned: Vec<_> = world.scanned_events().cloned().collect();
            world.removed.extend(scanned);
        }
        world
    }

    fn name_company(&mut self, who: &Who, row: &Plain) {
        let root = self.market.catalog.root().id;
        let others = owners(&self.market.catalog, row.table, &row.values).split_off(1);
        let company = others.iter().find(|o| o.0 == root).or(others.first());
        if let Some(company) = company.filter(|company| *company != who && who.0 != root) {
            self.people.entry(company.clone()).or_default();
            let known = &mut self.people.get_mut(who).unwrap().company;
            if known.as_ref().is_none_or(|known| company < known) {
                *known = Some(company.clone());
            }
        }
    }

    /// Events of one campaign and one mail domain, or of one person, within ten seconds.
    fn find_scanned(&self) -> BTreeSet<(TableId, String)> {
        let mut together: BTreeMap<_, Vec<(TableId, String)>> = BTreeMap::new();
        for (owner, row) in &self.events {
            let Some(campaign) = may_be_scanned(self.market, row) else {
                continue;
            };
            let mut domains = self.people[owner].first_domains.iter().flatten();
            let whose = domains
                .next()
                .map_or(owner.clone(), |domain| (DOMAINS, domain.clone()));
            let seconds = row.time_ms.div_euclid(10_000);
            let name = (row.table, row.key(&self.market.catalog).to_owned());
            let group = (row.table, campaign, seconds, whose);
            together.entry(group).or_default().push(name);
        }
        let limit = self.market.options.burst_events;
        let scanned = together.into_values().filter(|names| names.len() >= limit);
        scanned.flatten().collect()
    }

    fn learn(&mut self, table: &Table, who: Who, row: &Plain) {
        let catalog = &self.market.catalog;
        let person = self.people.entry(who.clone()).or_default();
        let mut version = row.values.clone();
        if let (Some(Datum::List(changed)), Some(before)) = (
            table.changed_fields.map(|f| &row.values[f.index()]),
            &person.version,
        ) && !changed.is_empty()
        {
            for field in &table.fields {
                let told = field.id == table.key
                    || Some(field.id) == table.time
                    || changed.contains(&field.name);
                if !told {
                    version[field.id.index()] = before[field.id.index()].clone();
                }
            }
        }
        let outcome = |version: &Vec<Datum>| {
            let outcome = table.outcome.as_ref()?;
            Some(
                version[outcome.field.index()]
                    .text()
                    .and_then(|value| outcome.of(value)),
            )
        };
        if person.version.as_ref().map(outcome) != Some(outcome(&version)) {
            person.outcome_since_ms = row.time_ms;
        }
        person.since_ms = Some(
            person
                .since_ms
                .map_or(row.known_ms, |t| t.min(row.known_ms)),
        );
        person.owner = owner(catalog, table.id, &version).filter(|_| table.role == Role::Member);
        let root = person.owner.clone().filter(|o| o.0 == catalog.root().id);
        let mut named = vec![];
        let mut references = BTreeMap::new();
        person.domains.clear();
        for field in &table.fields {
            let value = &version[field.id.index()];
            if field.match_by.is_some() {
                let address = value.text().map(|text| {
                    ADDRESSES
                        .iter()
                        .find(|(address, _)| *address == text)
                        .unwrap()
                        .1
                });
                person.domains.extend(address.flatten().map(str::to_owned));
            }
            let Some(reference) = field.reference else {
                continue;
            };
            for key in value.texts() {
                let target = (reference.table, key.to_owned());
                match reference.meaning {
                    Meaning::Became => named.push((who.clone(), target)),
                    Meaning::Was => named.push((target, who.clone())),
                    Meaning::Previous => {
                        person.former.entry(target).or_insert(row.known_ms);
                    }
                    Meaning::Related
                        if table.owners.contains(&field.id)
                            || field.hub.is_some()
                            || target == who => {}
                    Meaning::Related => {
                        let name = (format!("{}.{}", table.name, field.name), target);
                        let since_ms = person
                            .references
                            .get(&name)
                            .copied()
                            .unwrap_or(row.known_ms);
                        references.insert(name, since_ms);
                    }
                }
            }
        }
        if let (Some(last), Some(root)) = (&person.last_root, &root)
            && last != root
        {
            person.former.insert(last.clone(), row.known_ms);
        }
        while person.former.len() > 8 {
            let oldest = person
                .former
                .iter()
                .min_by_key(|(to, since)| (**since, std::cmp::Reverse((*to).clone())))
                .unwrap()
                .0
                .clone();
            person.former.remove(&oldest);
        }
        person.first_domains.get_or_insert(person.domains.clone());
        person.references = references;
        person.last_root = root.or(person.last_root.take());
        person.version = Some(version);
        let owner = person.owner.clone();
        for other in owner
            .into_iter()
            .chain(named.iter().flat_map(|(a, b)| [a.clone(), b.clone()]))
        {
            self.people.entry(other).or_default();
        }
        self.links.extend(named.into_iter().filter(|(a, b)| a != b));
    }

    /// Who stands for whom, and which roots name which domain.
    fn resolve(&mut self) {
        let next = |who: &Who| {
            self.links
                .iter()
                .filter(|(a, _)| a == who)
                .map(|(_, b)| b.clone())
                .collect::<Vec<_>>()
        };
        let either = |who: &Who| {
            let ends = self.links.iter().filter_map(|(a, b)| {
                if a == who {
                    Some(b)
                } else {
                    (b == who).then_some(a)
                }
            });
            ends.cloned().collect::<Vec<_>>()
        };
        fn reach(from: &Who, step: impl Fn(&Who) -> Vec<Who>) -> BTreeSet<Who> {
            let mut reached = BTreeSet::new();
            let mut open = step(from);
            while let Some(who) = open.pop() {
                if reached.insert(who.clone()) {
                    open.extend(step(&who));
                }
            }
            reached
        }
        let mut survivors = BTreeMap::new();
        for who in self.people.keys() {
            let mut group = reach(who, either);
            group.insert(who.clone());
            let end = group.iter().find(|w| next(w).is_empty());
            let behind = || {
                let rings: Vec<&Who> = group
                    .iter()
                    .filter(|w| reach(w, next).contains(*w))
                    .collect();
                group.iter().find(|w| {
                    rings
                        .iter()
                        .any(|ring| ring == w || reach(ring, next).contains(*w))
                })
            };
            survivors.insert(who.clone(), end.or_else(behind).unwrap().clone());
        }
        self.survivors = survivors;
        for (who, survivor) in &self.survivors {
            self.groups
                .entry(survivor.clone())
                .or_default()
                .push(who.clone());
        }
        let root = self.market.catalog.root().id;
        for (who, person) in self.people.iter().filter(|(who, _)| who.0 == root) {
            for domain in &person.domains {
                self.claims
                    .entry(domain.clone())
                    .or_default()
                    .insert(self.survivors[who].clone());
            }
        }
    }

    /// Who stands for an entity.
    pub fn survivor(&self, who: &Who) -> Who {
        self.survivors.get(who).unwrap_or(who).clone()
    }
    /// Everyone who is one with an entity.
    pub fn joined(&self, who: &Who) -> Vec<Who> {
        self.groups[&self.survivor(who)].clone()
    }
    /// Whether an event on or about one of those joined with an entity was taken back: then not
    /// all of its state is exact.
    pub fn is_tainted(&self, who: &Who) -> bool {
        let survivor = self.survivor(who);
        self.removed.iter().any(|(owner, row)| {
            self.survivor(owner) == survivor
                || mentions(self.market, row)
                    .iter()
                    .any(|(_, named)| self.survivor(named) == survivor)
        })
    }
    /// Whether it was joined into another of its table.
    pub fn is_merged(&self, who: &Who) -> bool {
        let survivor = self.survivor(who);
        survivor != *who && survivor.0 == who.0
    }
    /// The number of events that a scanner made.
    /// The events that a scanner made, which may have counted before it was known for one.
    fn scanned_events(&self) -> impl Iterator<Item = &(Who, &'o Plain)> {
        self.events.iter().filter(|(_, row)| {
            let name = (row.table, row.key(&self.market.catalog).to_owned());
            self.scanned.contains(&name)
        })
    }
    pub fn scanned(&self) -> usize {
        self.scanned.len()
    }
    /// Domains that several roots name.
    pub fn ambiguous_domains(&self) -> usize {
        self.claims.values().filter(|roots| roots.len() > 1).count()
    }
    /// The side of somebody who counts nowhere.
    fn side(&self, who: &Who) -> Option<Way> {
        let options = &self.market.options;
        let survivor = self.survivor(who);
        let joined = self.joined(who);
        let root = self.market.catalog.root().id;
        if joined.iter().any(|one| one.0 == root) {
            return None;
        }
        let own = &self.people[&survivor].domains;
        let domains = match own.is_empty() {
            false => own,
            true => joined
                .iter()
                .map(|one| &self.people[one].domains)
                .find(|domains| !domains.is_empty())?,
        };
        domains.iter().find_map(|domain| {
            if options.own_domains.contains(domain) {
                return Some(Way::Own);
            }
            let is_rival = options.competitor_domains.contains(domain);
            is_rival.then_some(Way::Competitor)
        })
    }
    /// Whether somebody counts nowhere.
    pub fn is_outside(&self, who: &Who) -> bool {
        self.people.contains_key(who) && self.side(who).is_some()
    }
    /// Whom a survivor belongs to, and how it found them.
    pub fn home(&self, who: &Who) -> (Option<Who>, Way) {
        if who.0 == self.market.catalog.root().id {
            return (None, Way::Reference);
        }
        if let Some(side) = self.side(who) {
            return (None, side);
        }
        let others = self.joined(who).into_iter().filter(|p| p != who);
        let joined: Vec<Who> = std::iter::once(who.clone()).chain(others).collect();
        for person in &joined {
            if let Some(owner) = self.people[person]
                .owner
                .as_ref()
                .filter(|o| self.survivor(o) != *who)
            {
                return (
                    Some(owner.clone()),
                    if person == who {
                        Way::Reference
                    } else {
                        Way::Link
                    },
                );
            }
        }
        let domains: Vec<&String> = joined
            .iter()
            .flat_map(|p| &self.people[p].domains)
            .collect();
        if let Some(domain) = domains.iter().find(|d| self.claims.contains_key(**d)) {
            return (self.claims[*domain].first().cloned(), Way::Domain);
        }
        let mut companies = joined.iter().filter_map(|p| self.people[p].company.clone());
        if let Some(company) = companies.find(|company| self.survivor(company) != *who) {
            return (Some(company), Way::Events);
        }
        match domains.first() {
            Some(domain) => (Some((DOMAINS, (*domain).clone())), Way::Provisional),
            None => (None, Way::Not),
        }
    }

    /// The entity its cell is named after: the end of the chain of owners, or the smallest of a
    /// ring.
    pub fn top(&self, who: &Who) -> Who {
        let mut path = vec![self.survivor(who)];
        loop {
            let last = path.last().unwrap();
            if last.0 == DOMAINS {
                return last.clone();
            }
            let Some(next) = self.home(last).0 else {
                return last.clone();
            };
            let next = if next.0 == DOMAINS {
                next
            } else {
                self.survivor(&next)
            };
            if let Some(start) = path.iter().position(|p| *p == next) {
                return path[start..].iter().min().unwrap().clone();
            }
            path.push(next);
        }
    }
    /// Who is in which cell.
    pub fn cells(&self) -> BTreeMap<Who, Vec<Who>> {
        let mut cells: BTreeMap<Who, Vec<Who>> = BTreeMap::new();
        for who in self.people.keys() {
            cells.entry(self.top(who)).or_default().push(who.clone());
        }
        cells
    }
    /// The events of a table whose state an entity keeps: those of everyone joined with it, if it
    /// is the survivor, or else the smallest that such events can hang on.
    pub fn events_on(&self, who: &Who, table: TableId) -> Vec<&'o Plain> {
        let definition = self.market.catalog.table_at(table);
        let carries = |w: &Who| {
            definition
                .owners
                .iter()
                .any(|f| definition.field_at(*f).reference.unwrap().table == w.0)
        };
        let joined = self.joined(who);
        let survivor = self.survivor(who);
        let keeper = if carries(&survivor) {
            Some(&survivor)
        } else {
            joined.iter().find(|w| carries(w))
        };
        if keeper != Some(who) {
            return Vec::new();
        }
        self.events
            .iter()
            .filter(|(owner, row)| joined.contains(owner) && row.table == table)
            .filter(|(_, row)| self.engages(row))
            .map(|(_, row)| *row)
            .collect()
    }
    /// Whether a row is something that makes its owner active.
    fn engages(&self, row: &Plain) -> bool {
        let marks = &self.market.catalog.table_at(row.table).not_engagement;
        let name = (row.table, row.key(&self.market.catalog).to_owned());
        !self.scanned.contains(&name)
            && !marks.iter().any(|(field, values)| {
                values
                    .iter()
                    .any(|value| row.values[field.index()] == Datum::Text(value.clone()))
            })
    }
    /// All events that engage those whom an entity stands for.
    pub fn events_of(&self, who: &Who) -> Vec<&'o Plain> {
        let stands_for = |owner: &Who| self.survivor(owner) == *who;
        self.events
            .iter()
            .filter(|(owner, row)| stands_for(owner) && self.engages(row))
            .map(|(_, row)| *row)
            .collect()
    }
    /// By relation, the times at which events named one of those whom an entity stands for.
    pub fn mentioned(&self, who: &Who) -> BTreeMap<String, Vec<i64>> {
        let mut mentioned: BTreeMap<String, Vec<i64>> = BTreeMap::new();
        let counts = |owner: &Who, row: &Plain| {
            let is_lasting = may_be_scanned(self.market, row).is_none();
            is_lasting && self.engages(row) && !self.is_outside(owner)
        };
        for (_, row) in self.events.iter().filter(|(who, row)| counts(who, row)) {
            for (relation, named) in mentions(self.market, row) {
                if self.survivor(&named) == *who {
                    mentioned.entry(relation).or_default().push(row.time_ms);
                }
            }
        }
        mentioned
    }
    /// Edges as an entity's versions said them.
    pub fn edges_said(&self, who: &Who) -> BTreeSet<(String, Who, i64)> {
        let person = &self.people[who];
        let previous = format!("{}/previous", self.market.catalog.table_at(who.0).name);
        let former = person
            .former
            .iter()
            .map(|(to, since)| (previous.clone(), to.clone(), *since));
        person
            .references
            .iter()
            .map(|((relation, to), since)| (relation.clone(), to.clone(), *since))
            .chain(former)
            .collect()
    }
    /// Edges of a survivor as they lead now.
    pub fn edges(&self, who: &Who) -> BTreeSet<(String, Who, i64)> {
        let mut edges: BTreeMap<(String, Who), i64> = BTreeMap::new();
        if self.is_outside(who) {
            return BTreeSet::new();
        }
        for (relation, to, since) in self.joined(who).iter().flat_map(|p| self.edges_said(p)) {
            let (to, is_previous) = (self.survivor(&to), relation.ends_with("/previous"));
            if to != *who && !(is_previous && to == self.top(who)) && !self.is_outside(&to) {
                let known = edges.entry((relation, to)).or_insert(since);
                *known = if is_previous {
                    since.max(*known)
                } else {
                    since.min(*known)
                };
            }
        }
        edges
            .into_iter()
            .map(|((relation, to), since)| (relation, to, since))
            .collect()
    }
    /// Who refers to someone a survivor stands for.
    pub fn incoming(&self, who: &Who) -> BTreeSet<(String, Who)> {
        let said = self.people.keys().flat_map(|from| {
            self.edges_said(from)
                .into_iter()
                .map(move |edge| (edge, from))
        });
        said.filter(|((_, to, _), _)| self.survivor(to) == *who)
            .map(|((relation, _, _), from)| (relation, from.clone()))
            .collect()
    }
    /// Won, lost, open, and the newest won and lost.
    pub fn outcomes(&self, members: &[Who]) -> (u32, u32, u32, Option<i64>, Option<i64>) {
        let catalog = &self.market.catalog;
        let verdict = |table: &Table, values: &[Datum]| {
            let outcome = table.outcome.as_ref()?;
            values[outcome.field.index()]
                .text()
                .and_then(|value| outcome.of(value))
        };
        let mut ended: Vec<(bool, i64)> = Vec::new();
        let by_events = catalog
            .tables
            .iter()
            .any(|t| t.role == Role::Event && t.outcome.is_some());
        let stands =
            |owner: &Who, row: &Plain| members.contains(owner) && !self.is_reversed(owner, row);
        for (_, row) in self.events.iter().filter(|(who, row)| stands(who, row)) {
            ended.extend(
                verdict(catalog.table_at(row.table), &row.values).map(|won| (won, row.time_ms)),
            );
        }
        let mut open = 0;
        for who in members
            .iter()
            .filter(|w| self.survivor(w) == **w && catalog.table_at(w.0).outcome.is_some())
        {
            let Some(version) = &self.people[who].version else {
                continue;
            };
            match verdict(catalog.table_at(who.0), version) {
                None => open += 1,
                Some(won) if !by_events => ended.push((won, self.people[who].outcome_since_ms)),
                Some(_) => {}
            }
        }
        let times = |won: bool| {
            ended
                .iter()
                .filter(move |(w, _)| *w == won)
                .map(|(_, t)| *t)
        };
        (
            times(true).count() as u32,
            times(false).count() as u32,
            open,
            times(true).max(),
            times(false).max(),
        )
    }
    /// Whether the end of a deal was taken back by another step of the deal.
    fn is_reversed(&self, owner: &Who, row: &Plain) -> bool {
        let table = self.market.catalog.table_at(row.table);
        let Some(outcome) = &table.outcome else {
            return false;
        };
        let end = |row: &Plain| {
            row.values[outcome.field.index()]
                .text()
                .and_then(|value| outcome.of(value))
        };
        let deal = self.survivor(owner);
        let is_deal = self.market.catalog.table_at(deal.0).role == Role::Member;
        let others = self
            .events
            .iter()
            .filter(|(other, step)| self.survivor(other) == deal && step.table == row.table);
        is_deal
            && end(row).is_some()
            && others
                .map(|(_, step)| step)
                .any(|step| step.time_ms > row.time_ms && end(step) != end(row))
    }
    /// What a row's events leave in the sums of hubs: without ends of deals that were taken back.
    pub fn hub_amount(
        &self,
        owner: &Who,
        row: &Plain,
        field: Option<FieldId>,
        kind: &SlotKind,
    ) -> f64 {
        let table = self.market.catalog.table_at(row.table);
        let is_outcome = table
            .outcome
            .as_ref()
            .is_some_and(|outcome| Some(outcome.field) == field);
        if is_outcome && self.is_reversed(owner, row) {
            return 0.0;
        }
        amount(table, row, field, kind)
    }
    /// The hubs that values of a row name.
    fn hubs_in(&self, table: TableId, values: &[Datum]) -> BTreeSet<HubKey> {
        let fields = &self.market.catalog.table_at(table).fields;
        let named = fields
            .iter()
            .filter_map(|f| Some((f, &self.market.catalog.hubs[f.hub?.index()].name)));
        named
            .flat_map(|(f, hub)| {
                values[f.id.index()]
                    .texts()
                    .into_iter()
                    .map(move |key| (hub.clone(), key.to_owned()))
            })
            .collect()
    }
    /// The hubs that an entity's current version names; a merged one names none.
    pub fn hubs_named(&self, who: &Who) -> BTreeSet<HubKey> {
        if self.is_merged(who) {
            return BTreeSet::new();
        }
        self.people[who]
            .version
            .as_ref()
            .map_or_else(BTreeSet::new, |values| self.hubs_in(who.0, values))
    }
    /// The hubs that an entity's events touched, with the times.
    pub fn hubs_touched(&self, who: &Who) -> BTreeMap<HubKey, Vec<i64>> {
        let mut touched: BTreeMap<HubKey, Vec<i64>> = BTreeMap::new();
        for row in self.events_of(who) {
            for hub in self.hubs_in(row.table, &row.values) {
                touched.entry(hub).or_default().push(row.time_ms);
            }
        }
        touched
    }
    /// Per hub: the cells that touch it.
    pub fn cells_of_hubs(&self) -> BTreeMap<HubKey, BTreeSet<Who>> {
        let mut hubs: BTreeMap<HubKey, BTreeSet<Who>> = BTreeMap::new();
        let counts = |who: &&Who| !self.is_outside(&self.top(who));
        for who in self.people.keys().filter(counts) {
            for hub in self
                .hubs_named(who)
                .into_iter()
                .chain(self.hubs_touched(who).into_keys())
            {
                hubs.entry(hub).or_default().insert(self.top(who));
            }
        }
        hubs
    }
    /// A day window at `t`, over the events of some entities. Days end at midnight, and a window
    /// with the day it ends in.
    pub fn window(&self, owners: &[Who], window: DayWindow, t_ms: i64) -> f64 {
        let counter = &self.market.options.day_counters[window.counter];
        let day_end = |t: i64| (t as f64 / DAY_MS as f64).ceil() as i64 * DAY_MS;
        let end_ms = day_end(t_ms + window.end_days * DAY_MS);
        let start_ms = window
            .start_days
            .map(|start| end_ms - (window.end_days - start) * DAY_MS);
        let batch = |row: &Plain| self.market.batch(std::slice::from_ref(row));
        let counted = self.events.iter().filter(|(owner, row)| {
            let in_window = day_end(row.time_ms) <= end_ms
                && start_ms.is_none_or(|start| day_end(row.time_ms) > start);
            owners.contains(owner) && row.table == counter.events && in_window
        });
        counted
            .filter(|(_, row)| {
                counter
                    .filter
                    .as_ref()
                    .is_none_or(|filter| filter.holds(&batch(row).row(0)))
            })
            .map(|(_, row)| match counter.measure {
                Measure::Count => 1.0,
                Measure::CountOf(field) => {
                    f64::from(u8::from(row.values[field.index()] != Datum::Null))
                }
                Measure::SumOf(field) => row.values[field.index()].number().unwrap_or(0.0),
            })
            .sum()
    }
    /// Whether an entity is known and in the market's population at `t`.
    /// Described by a row, or a root that was only named.
    fn exists(&self, who: &Who) -> bool {
        let person = &self.people[who];
        let is_named = who.0 == self.market.catalog.root().id && person.since_ms.is_none();
        person.version.is_some() || is_named
    }

    pub fn is_eligible(&self, who: &Who, t_ms: i64) -> bool {
        let family: Vec<Who> = if self.top(who) == *who {
            self.people
                .keys()
                .filter(|p| self.top(p) == *who)
                .cloned()
                .collect()
        } else {
            self.joined(who)
        };
        let windows = &self.market.population.windows;
        let in_windows = self.window(&family, windows[0], t_ms) > 0.0
            && self.window(&family, windows[1], t_ms) <= 2.0;
        let is_asked = !self.is_merged(who) && !self.is_outside(&self.top(who));
        self.exists(who) && is_asked && in_windows
    }
}

/// The amount that a row adds to a slot. Buckets are summed up: their division is by a hash, which is
/// nobody's business here.
pub fn amount(table: &Table, row: &Plain, field: Option<FieldId>, kind: &SlotKind) -> f64 {
    let Some(field) = field.map(|f| table.field_at(f)) else {
        return 1.0;
    };
    let value = &row.values[field.id.index()];
    let number = value.number();
    match kind {
        SlotKind::Count => 1.0,
        SlotKind::Value(declared) => value
            .texts()
            .iter()
            .filter(|text| *text == declared)
            .count() as f64,
        SlotKind::Bucket(_) => value
            .texts()
            .iter()
            .filter(|text| !field.values.iter().any(|v| v == *text))
            .count() as f64,
        SlotKind::Raw | SlotKind::Flag => number.unwrap_or(0.0),
        SlotKind::Log => number.map_or(0.0, |x| {
            if x < 0.0 {
                -(1.0 - x).ln()
            } else {
                (1.0 + x).ln()
            }
        }),
    }
}

/// Whether a row adds anything at all to a slot (an amount of 0 counts, a missing one does not).
pub fn touches(table: &Table, row: &Plain, field: Option<FieldId>, kind: &SlotKind) -> bool {
    match kind {
        SlotKind::Raw | SlotKind::Log | SlotKind::Flag => {
            field.is_some_and(|f| row.values[f.index()] != Datum::Null)
        }
        _ => amount(table, row, field, kind) != 0.0,
    }
}

/// Per stage, the newest event among the last `kept` staged ones that stands at the end of a chain
/// of all stages before it.
pub fn reached(table: &Table, events: &[&Plain], kept: usize, window_ms: i64) -> Vec<Option<i64>> {
    let Some(staged) = &table.staged else {
        return Vec::new();
    };
    let stage = |row: &Plain| {
        Some(
            *staged
                .stages
                .get(row.values[staged.field.index()].text()?)?,
        )
    };
    let mut steps: Vec<(i64, u8)> = events
        .iter()
        .filter_map(|row| Some((row.time_ms, stage(row)?)))
        .collect();
    steps.sort_unstable();
    let steps = &steps[steps.len().saturating_sub(kept)..];
    fn stands(steps: &[(i64, u8)], at: usize, window_ms: i64) -> bool {
        let (time_ms, stage) = steps[at];
        stage == 1
            || (0..at).any(|before| {
                steps[before].1 + 1 == stage
                    && time_ms - steps[before].0 <= window_ms
                    && stands(steps, before, window_ms)
            })
    }
    let top = staged.stages.values().copied().max().unwrap_or(0);
    (1..=top)
        .map(|stage| {
            (0..steps.len())
                .filter(|i| steps[*i].1 == stage && stands(steps, *i, window_ms))
                .map(|i| steps[i].0)
                .max()
        })
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
        self.values[catalog.table_at(self.table).key.index()]
            .text()
            .unwrap()
    }
}
