//! The way of rows into state: admission, versions of entities, moves between cells, merges,
//! events.
//!
//! A batch is applied in two phases. The first is serial, in row order: versions of entities,
//! links, moves between cells, and the admission of events. The second is parallel by shard:
//! events add to the state of their owners. Event state commutes and moves along with its node, so
//! the result does not depend on how rows were cut into batches.
//!
//! This room changes state and reports the touched cells as [`Effects`]; it marks nothing itself.

use leadpulse_schema::{Catalog, Operation, Role, Row, RowBatch, Version};

use crate::change::effects::Effects;
use crate::ids::EntityId;
use crate::state::Cells;
use crate::state::hubs::Hubs;
use crate::who::Entities;

mod admission;
pub(crate) mod bursts;
pub(crate) mod erase;
pub(crate) mod gate;
mod merges;
mod moves;
pub(crate) mod newest;
pub(crate) mod outcome;
mod shard;
pub(crate) mod staff;
mod versions;

use admission::AdmittedEvent;
use bursts::Bursts;
use gate::{Gate, is_ahead};
use newest::NewestVersions;
use outcome::RowOutcome;
use staff::Staff;
use versions::complete;

/// Everything that rows change, and the effects so far.
pub(crate) struct Writer<'g> {
    pub entities: &'g mut Entities,
    pub cells: &'g mut Cells,
    pub gate: &'g mut Gate,
    pub hubs: &'g mut Hubs,
    pub newest: &'g mut NewestVersions,
    pub bursts: &'g mut Bursts,
    pub staff: &'g mut Staff,
    /// Owners of open events whose mail domain became known since the events were applied.
    pub regrouped: Vec<EntityId>,
    pub effects: Effects,
}

impl Writer<'_> {
    /// Applies rows in their order. Returns one outcome per row, and the effects on cells.
    pub fn apply(mut self, batch: &RowBatch, clock_ms: Option<i64>) -> (Vec<RowOutcome>, Effects) {
        let shared = self.cells.shared.clone();
        let catalog = self.entities.catalog.clone();
        let mut outcomes = vec![RowOutcome::Accepted; batch.len()];
        let mut events: Vec<AdmittedEvent> = Vec::new();
        for (index, row) in batch.iter().enumerate() {
            self.entities.directory.journal.at_row(index as u32);
            if is_ahead(&shared.options, clock_ms, row) {
                outcomes[index] = RowOutcome::Future;
                continue;
            }
            outcomes[index] = match (catalog.table_at(row.table()).role, row.operation()) {
                (Role::Root | Role::Member, Operation::Upsert) => self.upsert(&catalog, row),
                (Role::Root | Role::Member, Operation::Delete | Operation::Retract) => {
                    self.delete(&catalog, row)
                }
                (Role::Root | Role::Member, Operation::Gap) => self.mark_stale(row),
                (Role::Hub, Operation::Gap) => RowOutcome::Accepted,
                (Role::Hub, operation) => self.hub_row(&catalog, row, operation),
                // The engine keeps them: they change alerts, and no cell.
                (Role::Override | Role::Feedback | Role::Erasure, _) => RowOutcome::Accepted,
                (Role::Staff, _) => self.staff.take(catalog.table_at(row.table()), row),
                (Role::Event, _) => match self.admit(clock_ms, row, index as u32) {
                    Ok(event) => {
                        events.extend(event);
                        RowOutcome::Accepted
                    }
                    Err(refused) => refused,
                },
            };
        }
        self.apply_events(batch, &events);
        (outcomes, self.effects)
    }
    /// A row of a hub table. Its values are kept where cells can read any of them.
    fn hub_row(&mut self, catalog: &Catalog, row: Row<'_>, operation: Operation) -> RowOutcome {
        let table = catalog.table_at(row.table());
        let directory = &mut self.entities.directory;
        let namespace = directory.of_table(row.table());
        let is_upsert = operation == Operation::Upsert;
        // A deletion with a version holds off older rows that are still to come.
        let hub = match is_upsert || table.version.is_some() {
            true => directory.intern(namespace, row.key()),
            false => match directory.find(namespace, row.key()) {
                Some(hub) => hub,
                None => return RowOutcome::NothingToDelete,
            },
        };
        if let Some(field) = table.version {
            let version = Version::of(row.get(field));
            let is_newest = match is_upsert {
                true => self.newest.note(hub, version),
                false => self.newest.note_deletion(hub, version),
            };
            if !is_newest {
                return RowOutcome::StaleVersion;
            }
        }
        if table.hub_features().next().is_some() {
            let described = match is_upsert {
                true => complete(catalog, self.hubs.described(hub), row),
                false => RowBatch::new(),
            };
            self.hubs.describe(hub, described);
        }
        if is_upsert {
            self.newest.describe_hub(hub);
            return RowOutcome::Accepted;
        }
        self.newest.delete_hub(hub)
    }
}
