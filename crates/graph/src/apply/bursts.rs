//! Bursts: events that a mail scanner makes, many of one campaign and one mail domain at once.
//!
//! Events of a table with `bursts` are grouped by table, campaign, the mail domain of their owner,
//! and ten seconds of UTC. A group of `burst_events` or more is a burst: none of its events is
//! engagement, those before the last included. The domain is that of the owner's first version,
//! which may arrive after the events and never changes. Without one the person is the group.
//!
//! An event is *open* while its group may still change: until its day is late in every partition
//! and, where the events of its campaign and interval are enough for a burst, all their owners have
//! a version. Open events are kept one by one ([`crate::state::revisable`]), so state is a function
//! of the set of rows, whichever topic is read first.
//!
//! Decision: docs/decisions/0037-who-does-not-count.md

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};
use serde::{Deserialize, Serialize};

use leadpulse_schema::{RowBatch, TableId};

use crate::apply::Writer;
use crate::apply::admission::AdmittedEvent;
use crate::apply::gate::is_held;
use crate::change::effects::Cause;
use crate::ids::EntityId;
use crate::options::DAY_MS;
use crate::pieces::{Kept, KeptMap, Lend};
use crate::state::events::Undo;
use crate::who::directory::NodePlace;

mod lists;

use lists::Lists;

/// Events of one group lie in the same interval of this length, milliseconds.
const INTERVAL_MS: i64 = 10_000;

/// A group of events that may be a burst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct BurstGroup {
    table: TableId,
    /// Hash of the campaign; 0 without one.
    campaign: u64,
    /// Number of the interval since 1970.
    interval: i64,
    /// The mail domain of the owner, else the person.
    whose: EntityId,
}

/// An event whose group may still change.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct OpenMember {
    owner: EntityId,
    group: BurstGroup,
    is_counted: bool,
}

/// All open events, by fingerprint, owner, group and day.
#[derive(Clone, Debug)]
pub(crate) struct Bursts {
    pub(crate) open: KeptMap<u64, OpenMember>,
    /// The mail domain of the first version of each owner.
    pub(crate) domains: KeptMap<EntityId, Option<EntityId>>,
    /// Events of closed bursts, where retractions may still come: they have nothing to take back.
    pub(crate) ignored: KeptMap<u64, ()>,
    /// Number of events of closed bursts ever.
    pub(crate) closed: Kept<u64>,
    of_owner: Lists<EntityId>,
    groups: Lists<BurstGroup>,
    by_day: BTreeMap<i64, Vec<u64>>,
}

impl BurstGroup {
    fn day(&self) -> i64 {
        (self.interval * INTERVAL_MS).div_euclid(DAY_MS)
    }
}

impl Default for Bursts {
    fn default() -> Self {
        Self {
            open: KeptMap::default(),
            domains: KeptMap::default(),
            ignored: KeptMap::default(),
            closed: Kept::default(),
            of_owner: Lists::new(|bursts| &bursts.of_owner),
            groups: Lists::new(|bursts| &bursts.groups),
            by_day: BTreeMap::new(),
        }
    }
}

impl Bursts {
    /// The bursts of a trial, above others.
    pub fn above(
        open: KeptMap<u64, OpenMember>,
        domains: KeptMap<EntityId, Option<EntityId>>,
        ignored: KeptMap<u64, ()>,
        beneath: &Arc<dyn Lend<Bursts>>,
    ) -> Self {
        let mut bursts = Self {
            open,
            domains,
            ignored,
            ..Self::default()
        };
        bursts.of_owner.beneath = Some(beneath.clone());
        bursts.groups.beneath = Some(beneath.clone());
        bursts
    }
    /// Lists open events by owner, group and day again, after they were read from stored state.
    pub fn index(&mut self) {
        let mut open: Vec<(u64, OpenMember)> = self.open.iter().map(|(f, m)| (*f, *m)).collect();
        open.sort_unstable_by_key(|(fingerprint, _)| *fingerprint);
        for (fingerprint, member) in open {
            self.list(fingerprint, &member);
        }
    }
    fn list(&mut self, fingerprint: u64, member: &OpenMember) {
        let OpenMember { owner, group, .. } = member;
        self.of_owner.push(*owner, fingerprint);
        self.groups.push(*group, fingerprint);
        let day = self.by_day.entry(group.day()).or_default();
        day.push(fingerprint);
    }
    fn insert(&mut self, fingerprint: u64, member: OpenMember) {
        self.list(fingerprint, &member);
        self.open.insert(fingerprint, member);
    }
    /// Forgets an open event. Its day keeps the fingerprint until the day is closed.
    fn remove(&mut self, fingerprint: u64) -> Option<OpenMember> {
        let member = self.open.remove(&fingerprint)?;
        self.of_owner.drop_from(&member.owner, fingerprint);
        self.groups.drop_from(&member.group, fingerprint);
        Some(member)
    }
    /// Notes the mail domain of a version of an owner. Returns whether it is the first version, and
    /// open events now belong to the groups of the domain.
    pub fn note_domain(&mut self, owner: EntityId, domain: Option<EntityId>) -> bool {
        if self.domains.contains_key(&owner) {
            return false;
        }
        self.domains.insert(owner, domain);
        domain.is_some() && self.of_owner.get(&owner).is_some()
    }
    /// The mail domain by which an owner's events are grouped, else the owner.
    fn whose(&self, owner: EntityId) -> EntityId {
        self.domains.get(&owner).copied().flatten().unwrap_or(owner)
    }
    /// Puts the open events of an owner into the groups of its domain, and notes the groups that
    /// changed.
    fn regroup(&mut self, owner: EntityId, changed: &mut FxHashSet<BurstGroup>) {
        let whose = self.whose(owner);
        let Some(fingerprints) = self.of_owner.get(&owner).cloned() else {
            return;
        };
        for fingerprint in &fingerprints {
            let is_there = |member: &OpenMember| member.group.whose == whose;
            if self.open.get(fingerprint).is_some_and(is_there) {
                continue;
            }
            let member = self.open.get_mut(fingerprint);
            let member = member.expect("listed events are open");
            self.groups.drop_from(&member.group, *fingerprint);
            changed.insert(member.group);
            member.group.whose = whose;
            self.groups.push(member.group, *fingerprint);
            changed.insert(member.group);
        }
    }
    /// Decides anew which events of some groups count. Returns those whose fate changed.
    fn judge(&mut self, changed: &FxHashSet<BurstGroup>, limit: usize) -> Vec<(u64, OpenMember)> {
        let mut flipped = Vec::new();
        for members in changed.iter().filter_map(|group| self.groups.get(group)) {
            let is_counted = members.len() < limit;
            for fingerprint in members {
                let member = self.open.get(fingerprint);
                if member.expect("grouped events are open").is_counted == is_counted {
                    continue;
                }
                if let Some(member) = self.open.get_mut(fingerprint) {
                    member.is_counted = is_counted;
                    flipped.push((*fingerprint, *member));
                }
            }
        }
        flipped.sort_unstable_by_key(|(fingerprint, _)| *fingerprint);
        flipped
    }
    /// Forgets some owners with their open events. Returns the events of others whose fate changed.
    pub fn forget_owners(
        &mut self,
        owners: &BTreeSet<EntityId>,
        limit: usize,
    ) -> Vec<(u64, OpenMember)> {
        let mut changed = ChangedGroups::default();
        for owner in owners {
            self.domains.remove(owner);
            for fingerprint in self.of_owner.get(owner).cloned().unwrap_or_default() {
                let removed = self.remove(fingerprint);
                changed.extend(removed.map(|member| member.group));
            }
        }
        self.judge(&changed, limit)
    }
    /// The domains that events are grouped by.
    pub fn grouping_domains(&self) -> FxHashSet<EntityId> {
        self.domains.values().copied().flatten().collect()
    }
    /// Days with open events that may be over under the bounds of their tables, ascending.
    fn days_before(&self, bounds: &FxHashMap<TableId, i64>) -> Vec<i64> {
        let Some(bound) = bounds.values().max() else {
            return Vec::new();
        };
        let days = self.by_day.range(..=bound.div_euclid(DAY_MS));
        days.map(|(day, _)| *day).collect()
    }
    /// Takes the events of a day out whose fate is decided: their table's day is over, and no
    /// domain that is still unknown can make them a burst.
    fn take_decided(
        &mut self,
        day: i64,
        limit: usize,
        is_over: impl Fn(TableId) -> bool,
    ) -> Vec<(u64, OpenMember)> {
        let mut together: BTreeMap<_, Vec<(u64, OpenMember)>> = BTreeMap::new();
        for fingerprint in self.by_day.remove(&day).unwrap_or_default() {
            if let Some(member) = self.open.get(&fingerprint) {
                let BurstGroup {
                    table,
                    campaign,
                    interval,
                    ..
                } = member.group;
                let of_campaign = together.entry((table, campaign, interval)).or_default();
                of_campaign.push((fingerprint, *member));
            }
        }
        let (mut decided, mut kept) = (Vec::new(), Vec::new());
        for ((table, ..), members) in together {
            let is_known = |(_, m): &(u64, OpenMember)| self.domains.contains_key(&m.owner);
            let is_settled = members.len() < limit || members.iter().all(is_known);
            match is_over(table) && is_settled {
                true => decided.extend(members),
                false => kept.extend(members.into_iter().map(|(fingerprint, _)| fingerprint)),
            }
        }
        if !kept.is_empty() {
            self.by_day.insert(day, kept);
        }
        for (fingerprint, _) in &decided {
            self.remove(*fingerprint);
        }
        decided
    }
    /// The number of open events.
    pub fn len(&self) -> usize {
        self.open.len()
    }
    /// The number of events of bursts, open and closed.
    pub fn events(&self) -> u64 {
        let open = self.open.values().filter(|member| !member.is_counted);
        *self.closed + open.count() as u64
    }
    /// Whether an open event counts; `None` for an event that is not open.
    pub fn counts(&self, fingerprint: u64) -> Option<bool> {
        Some(self.open.get(&fingerprint)?.is_counted)
    }
    /// Fingerprints of open events with their owners, and whether each counts.
    pub fn iter(&self) -> impl Iterator<Item = (u64, EntityId, bool)> {
        let open = self.open.iter();
        open.map(|(fingerprint, member)| (*fingerprint, member.owner, member.is_counted))
    }
}

/// The events of a run that concern bursts: additions, or one retraction.
enum BurstRun<'e> {
    Added(Vec<&'e AdmittedEvent>),
    /// An open event is taken back.
    Withdrawn(&'e AdmittedEvent),
    /// The retraction of an event that never counted as engagement.
    Ignored(&'e AdmittedEvent),
}

/// Groups whose events may have changed fate.
type ChangedGroups = FxHashSet<BurstGroup>;

impl Writer<'_> {
    /// Adds the events of a run that may be of a burst, and decides anew which open events count.
    /// Returns the other events, to be applied next. The run has no retractions.
    pub fn add_bursts<'e>(
        &mut self,
        batch: &RowBatch,
        events: &'e [AdmittedEvent],
    ) -> Vec<&'e AdmittedEvent> {
        let (mut added, mut others) = (Vec::new(), Vec::new());
        let mut changed = ChangedGroups::default();
        for event in events {
            let Some(campaign) = event.burst_campaign else {
                others.push(event);
                continue;
            };
            let row = batch.row(event.row as usize);
            let group = BurstGroup {
                table: row.table(),
                campaign,
                interval: row.event_ms().div_euclid(INTERVAL_MS),
                whose: self.bursts.whose(event.owner),
            };
            let member = OpenMember {
                owner: event.owner,
                group,
                is_counted: true,
            };
            self.bursts.insert(event.fingerprint, member);
            changed.insert(group);
            added.push(event);
        }
        self.settle_bursts(batch, BurstRun::Added(added), changed);
        others
    }

    /// Takes an open event back, or one that never counted as engagement, and decides anew which
    /// open events count. Returns `false` for an event that does not concern bursts any more.
    pub fn retract_burst(&mut self, batch: &RowBatch, event: &AdmittedEvent) -> bool {
        let mut changed = ChangedGroups::default();
        let run = if let Some(member) = self.bursts.remove(event.fingerprint) {
            changed.insert(member.group);
            BurstRun::Withdrawn(event)
        } else if self.bursts.ignored.remove(&event.fingerprint).is_some() {
            BurstRun::Ignored(event)
        } else {
            BurstRun::Added(Vec::new())
        };
        let is_of_burst = !matches!(run, BurstRun::Added(_));
        self.settle_bursts(batch, run, changed);
        is_of_burst
    }

    /// Lets domains that became known change the fate of open events, where no event did.
    pub fn regroup_bursts(&mut self, batch: &RowBatch) {
        if !self.regrouped.is_empty() {
            self.settle_bursts(batch, BurstRun::Added(Vec::new()), ChangedGroups::default());
        }
    }

    fn settle_bursts(&mut self, batch: &RowBatch, run: BurstRun<'_>, mut changed: ChangedGroups) {
        for owner in std::mem::take(&mut self.regrouped) {
            self.bursts.regroup(owner, &mut changed);
        }
        if changed.is_empty() && matches!(&run, BurstRun::Added(added) if added.is_empty()) {
            return;
        }
        let limit = self.cells.shared.options.burst_events;
        let mut flipped = self.bursts.judge(&changed, limit);
        match run {
            BurstRun::Added(added) => {
                let new: FxHashSet<u64> = added.iter().map(|e| e.fingerprint).collect();
                flipped.retain(|(fingerprint, _)| !new.contains(fingerprint));
                added.iter().for_each(|event| self.add_open(batch, event));
            }
            BurstRun::Withdrawn(event) => self.withdraw_open(batch, event),
            BurstRun::Ignored(event) => {
                self.uncount(batch, event, event.owner);
            }
        }
        self.decide(&flipped);
    }

    /// The places of an owner's traces, and of its state of an event table.
    fn burst_places(&self, owner: EntityId, table: TableId) -> (NodePlace, NodePlace) {
        let person = self.entities.identity.survivor(owner);
        let carrier = self.carrier(owner, table);
        (self.entities.place(person), self.entities.place(carrier))
    }

    fn add_open(&mut self, batch: &RowBatch, event: &AdmittedEvent) {
        let row = batch.row(event.row as usize);
        let shared = self.cells.shared.clone();
        let (person, state) = self.burst_places(event.owner, row.table());
        let fingerprint = event.fingerprint;
        let counts = self.bursts.counts(fingerprint);
        let is_counted = counts.expect("events that were taken back again are left out");
        let node = self.cells.node_mut(person);
        node.trace_open(&shared, row, &event.hubs, fingerprint, is_counted);
        let node = self.cells.node_mut(state);
        node.add_open(&shared, row, fingerprint, is_counted);
        self.effects.add(person.cell, Cause::Event);
    }

    fn withdraw_open(&mut self, batch: &RowBatch, event: &AdmittedEvent) {
        let table = batch.row(event.row as usize).table();
        let shared = self.cells.shared.clone();
        let (person, state) = self.burst_places(event.owner, table);
        let node = self.cells.node_mut(state);
        let undo = node.withdraw(&shared, table, event.fingerprint);
        let node = self.cells.node_mut(person);
        let of_traces = node.withdraw_trace(&shared, event.fingerprint);
        if self.uncount(batch, event, event.owner) == Undo::Exact {
            self.note_undo(person, undo.max(of_traces));
        }
    }

    /// Takes an event back from day counters.
    fn uncount(&mut self, batch: &RowBatch, event: &AdmittedEvent, owner: EntityId) -> Undo {
        let shared = self.cells.shared.clone();
        let place = self.entities.place(self.entities.identity.survivor(owner));
        let row = batch.row(event.row as usize);
        let node = self.cells.node_mut(place);
        let undo = node.uncount(&shared, row, event.fingerprint);
        self.note_undo(place, undo);
        self.effects.add(place.cell, Cause::Event);
        undo
    }

    /// Counts a retraction that could not be exact.
    fn note_undo(&mut self, place: NodePlace, undo: Undo) {
        let shard = &mut self.cells.shards[place.cell.shard as usize];
        if undo != Undo::Exact {
            shard.book.change().inexact += 1;
        }
    }

    /// Lets changed fates of open events take effect, each node once.
    pub fn decide(&mut self, flipped: &[(u64, OpenMember)]) {
        let mut traces: BTreeMap<EntityId, Vec<(u64, bool)>> = BTreeMap::new();
        let mut states: BTreeMap<(EntityId, TableId), Vec<(u64, bool)>> = BTreeMap::new();
        for (fingerprint, member) in flipped {
            let table = member.group.table;
            let person = self.entities.identity.survivor(member.owner);
            let carrier = self.carrier(member.owner, table);
            let decision = (*fingerprint, member.is_counted);
            traces.entry(person).or_default().push(decision);
            let state = states.entry((carrier, table)).or_default();
            state.push(decision);
        }
        let shared = self.cells.shared.clone();
        for (person, decisions) in traces {
            self.node_mut(person).decide_traces(&shared, &decisions);
            self.affect_entity(person, Cause::Event);
        }
        for ((carrier, table), decisions) in states {
            self.node_mut(carrier).decide(&shared, table, &decisions);
        }
    }

    /// Closes the groups of days that no event can come to any more: their events count for good,
    /// or never. Nothing that can be read changes.
    pub fn close_bursts(&mut self) {
        let bounds = self.gate.bounds(&self.cells.shared.options);
        for day in self.bursts.days_before(&bounds) {
            let is_over = |table: TableId| bounds.get(&table).is_some_and(|b| !is_held(day, *b));
            let limit = self.cells.shared.options.burst_events;
            for (fingerprint, member) in self.bursts.take_decided(day, limit, is_over) {
                self.close(fingerprint, &member);
            }
        }
    }

    /// Ends the wait for one event.
    fn close(&mut self, fingerprint: u64, member: &OpenMember) {
        let shared = self.cells.shared.clone();
        let table = member.group.table;
        let (person, state) = self.burst_places(member.owner, table);
        // What can be read stays, so the contribution to hubs need not be kept first.
        let node = self.cells.node_unseen(person);
        node.close_trace(&shared, fingerprint);
        let node = self.cells.node_unseen(state);
        node.close(&shared, table, fingerprint);
        if !member.is_counted {
            *self.bursts.closed.change() += 1;
            if self.gate.keeps_for_good(table) {
                self.bursts.ignored.insert(fingerprint, ());
            }
        }
    }
}
