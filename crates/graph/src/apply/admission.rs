//! Admission of event rows, and their way to the shards once all links of their batch are settled.

use rayon::prelude::*;
use smallvec::SmallVec;

use leadpulse_schema::{Catalog, Operation, RelationId, Row, RowBatch, TableId};

use crate::apply::Writer;
use crate::apply::gate::{Takes, fingerprint};
use crate::apply::outcome::RowOutcome;
use crate::apply::shard::{EventOp, MentioningEvent, OwnedEvent, ShardEffects, apply_ops};
use crate::change::effects::Cause;
use crate::ids::{CellRef, EntityId};
use crate::options::GraphOptions;
use crate::who::{keys_of, owner_of, owners_of};

/// Below this many events a batch is applied on the caller's thread.
const PARALLEL_FROM: usize = 256;

/// An admitted event row, kept until all links of its batch are settled.
#[derive(Debug)]
pub(crate) struct AdmittedEvent {
    pub row: u32,
    pub owner: EntityId,
    pub fingerprint: u64,
    is_certain: bool,
    pub hubs: SmallVec<[EntityId; 2]>,
    /// The hash of the campaign of an event that may be of a burst; `None` for any other.
    pub burst_campaign: Option<u64>,
    mentions: SmallVec<[(RelationId, EntityId); 1]>,
}

/// Whether a row became known, by its own word, so late that the groups of its day may be closed:
/// it is of no burst, whatever was read before it.
fn is_backfill(options: &GraphOptions, row: Row<'_>) -> bool {
    let late_ms = row.known_ms().saturating_sub(row.event_ms());
    row.has_own_known_time() && late_ms > options.late_horizon_ms
}

impl Writer<'_> {
    /// Decides whether an event row is admitted, and finds its owner. `None` where nothing is left
    /// to add: the row has no owner, or is a retraction that came before its event.
    ///
    /// # Errors
    /// The outcome of a refused row.
    pub fn admit(
        &mut self,
        clock_ms: Option<i64>,
        row: Row<'_>,
        index: u32,
    ) -> Result<Option<AdmittedEvent>, RowOutcome> {
        let shared = self.cells.shared.clone();
        let catalog = self.entities.catalog.clone();
        let named = owner_of(&catalog, row);
        if named.is_none() && row.operation() != Operation::Retract {
            return Ok(None);
        }
        let fingerprint = fingerprint(row);
        let takes = match row.operation() {
            Operation::Retract => {
                let options = &shared.options;
                Some(
                    self.gate
                        .admit_retraction(options, clock_ms, row, fingerprint),
                )
            }
            Operation::Upsert | Operation::Delete | Operation::Gap => None,
        };
        let outcome = match takes {
            None => self.gate.admit(&shared.options, clock_ms, row, fingerprint),
            Some(Takes::Back(_) | Takes::BackIfThere | Takes::Ahead) => RowOutcome::Accepted,
            Some(Takes::Again) => RowOutcome::Duplicate,
            Some(Takes::Refused) => RowOutcome::Future,
        };
        if outcome != RowOutcome::Accepted {
            return Err(outcome);
        }
        // Named entities get their nodes now, also from a retraction that came before its event:
        // the set of entities does not depend on which of the two came first.
        let named = named.map(|(table, key)| self.ensure(table, key));
        if let Some(named) = named {
            self.note_company(&catalog, row, named);
        }
        // A retraction takes the event back from the state that contains it, whomever the
        // retraction names, if anybody.
        let owner = match takes {
            Some(Takes::Back(owner)) => Some(owner),
            _ => named,
        };
        let Some(owner) = owner else {
            return Ok(None);
        };
        if takes.is_none() {
            self.gate.assign(fingerprint, owner);
        }
        let layout = shared.layout.event(row.table());
        let hubs = self.entities.hub_nodes(row, &layout.hub_fields);
        let mut mentions = SmallVec::new();
        for (field, relation, target) in &layout.mentions {
            for key in keys_of(row.get(*field)) {
                mentions.push((*relation, self.ensure(*target, key)));
            }
        }
        let mut burst_campaign = layout.burst_campaign(row);
        if burst_campaign.is_some() || !layout.is_engagement(row) {
            // Mentions are activity too; the named entities exist all the same. A mention cannot
            // be taken back exactly, so what a scanner may have made mentions nobody.
            mentions.clear();
        }
        if is_backfill(&shared.options, row) {
            burst_campaign = None;
        }
        mentions.sort_unstable();
        mentions.dedup();
        Ok((takes != Some(Takes::Ahead)).then_some(AdmittedEvent {
            row: index,
            owner,
            fingerprint,
            is_certain: takes != Some(Takes::BackIfThere),
            hubs,
            burst_campaign,
            mentions,
        }))
    }

    /// Lets the owner of an event belong to the entity that the row names beside it, where nothing
    /// better is known: a root if it names one.
    fn note_company(&mut self, catalog: &Catalog, row: Row<'_>, owner: EntityId) {
        if self.entities.is_root(owner) {
            return;
        }
        let is_root = |(table, _): &(TableId, &str)| *table == catalog.root().id;
        let others = || owners_of(catalog, row).skip(1);
        let Some((table, key)) = others().find(is_root).or_else(|| others().next()) else {
            return;
        };
        let company = self.ensure(table, key);
        if company != owner && self.entities.directory.note_company(owner, company) {
            self.rehome(owner);
        }
    }

    /// Adds events to the state of their owners, and takes back retracted ones.
    pub fn apply_events(&mut self, batch: &RowBatch, events: &[AdmittedEvent]) {
        if !self.cells.shared.layout.has_bursts {
            return self.add_events(batch, &events.iter().collect::<Vec<_>>());
        }
        // What a retraction leaves is estimated from the state at that moment, which is to contain
        // all events before it and none after, of bursts or not.
        let is_retraction =
            |event: &AdmittedEvent| batch.row(event.row as usize).operation() == Operation::Retract;
        let mut rest = events;
        while !rest.is_empty() {
            let run = match rest.iter().position(is_retraction) {
                Some(0) => 1,
                Some(at) => at,
                None => rest.len(),
            };
            let (run, after) = rest.split_at(run);
            let others = self.apply_bursts(batch, run);
            self.add_events(batch, &others);
            rest = after;
        }
        // Domains may have become known in a batch without events.
        self.apply_bursts(batch, &[]);
    }

    fn add_events(&mut self, batch: &RowBatch, events: &[&AdmittedEvent]) {
        let shared = self.cells.shared.clone();
        let ops = self.operations(batch, events);
        let shards = &mut self.cells.shards;
        let touched: Vec<ShardEffects> = if events.len() >= PARALLEL_FROM {
            let work = shards.par_iter_mut().zip(&ops);
            work.map(|(shard, ops)| apply_ops(shard, &shared, batch, ops))
                .collect()
        } else {
            let work = shards.iter_mut().zip(&ops);
            work.map(|(shard, ops)| apply_ops(shard, &shared, batch, ops))
                .collect()
        };
        for (shard, effects) in touched.iter().enumerate() {
            for index in &effects.changed {
                let cell = CellRef::at(shard, *index as usize);
                self.effects.add(cell, Cause::Event);
            }
        }
        for (shard, mut effects) in touched.into_iter().enumerate() {
            effects.decided.sort_unstable();
            effects.decided.dedup();
            for index in effects.decided {
                self.affect_readers(CellRef::at(shard, index as usize));
            }
        }
    }

    /// The operations of events by shard, in row order.
    fn operations(&self, batch: &RowBatch, events: &[&AdmittedEvent]) -> Vec<Vec<EventOp>> {
        let entities = &self.entities;
        // With owners to leave out, mentions are kept by owner: who is left out may change.
        let is_left_out = !entities.outside.is_empty();
        let mut ops: Vec<Vec<EventOp>> = self.cells.shards.iter().map(|_| Vec::new()).collect();
        for event in events {
            let person = entities.place(entities.identity.survivor(event.owner));
            let table = batch.row(event.row as usize).table();
            let state = entities.place(self.carrier(event.owner, table));
            ops[person.cell.shard as usize].push(EventOp::Own(OwnedEvent {
                cell: person.cell.index,
                node: person.node,
                state: state.node,
                row: event.row,
                fingerprint: event.fingerprint,
                is_certain: event.is_certain,
                hubs: event.hubs.clone(),
                mentioned: match is_left_out {
                    true => event.mentions.iter().map(|(_, named)| *named).collect(),
                    false => SmallVec::new(),
                },
            }));
            for (relation, entity) in &event.mentions {
                let named = entities.place(entities.identity.survivor(*entity));
                ops[named.cell.shard as usize].push(EventOp::Mention(MentioningEvent {
                    cell: named.cell.index,
                    node: named.node,
                    row: event.row,
                    by: (*relation, is_left_out.then_some(event.owner)),
                }));
            }
        }
        ops
    }
}
