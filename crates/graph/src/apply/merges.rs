//! Two become one: what a link does to the nodes it joins.
//!
//! The survivor takes over all event state, and later events addressed to whom it absorbed. Events of a table that cannot hang on the
//! survivor are kept by the smallest (table, key) of the group that can carry them, so that it is a function of the group.

use smallvec::SmallVec;

use leadpulse_schema::{RowBatch, TableId};

use crate::graph::{Graph, Tracking};
use crate::state::cell::{EntityId, Reasons};

impl Graph {
    /// The entity of a group that keeps the state of an event table: the survivor, else the smallest that can carry it.
    pub(crate) fn carrier(&self, entity: EntityId, events: TableId) -> EntityId {
        let survivor = self.identity.survivor(entity);
        let layout = &self.shared.layout;
        let carries = |e: &EntityId| {
            self.directory
                .table(*e)
                .is_some_and(|table| layout.carries(table, events))
        };
        if carries(&survivor) {
            return survivor;
        }
        *self
            .identity
            .group(entity)
            .iter()
            .find(|e| carries(e))
            .expect("an event's owner can carry it")
    }

    /// Who keeps which event table's state among those joined with an entity.
    fn carriers(&self, entity: EntityId) -> Vec<(TableId, EntityId)> {
        let layout = &self.shared.layout;
        let alone = [entity];
        let group = self.identity.group(entity);
        let group = if group.is_empty() { &alone[..] } else { group };
        let mut tables: SmallVec<[TableId; 4]> = SmallVec::new();
        for table in group.iter().filter_map(|e| self.directory.table(*e)) {
            if !tables.contains(&table) {
                tables.push(table);
            }
        }
        let events = layout.events.iter().map(|events| events.table);
        let carried =
            events.filter(|events| tables.iter().any(|table| layout.carries(*table, *events)));
        carried
            .map(|events| {
                (
                    events,
                    if group.len() == 1 {
                        entity
                    } else {
                        self.carrier(entity, events)
                    },
                )
            })
            .collect()
    }

    /// One entity became another: they and all joined with either are one from now on.
    pub(crate) fn link(&mut self, from: EntityId, to: EntityId) {
        let mut sides: SmallVec<[EntityId; 2]> =
            smallvec::smallvec![self.identity.survivor(from), self.identity.survivor(to)];
        sides.dedup();
        let kept: Vec<(TableId, EntityId)> =
            sides.iter().flat_map(|side| self.carriers(*side)).collect();
        // The members of the smaller side, so that a large group is not walked for each that joins it.
        let members = |entity: EntityId| match self.identity.group(entity) {
            [] => vec![entity],
            group => group.to_vec(),
        };
        let small = *sides
            .iter()
            .min_by_key(|side| self.identity.group(**side).len())
            .expect("there is a side");
        let few = members(small);
        if !self.identity.link(&self.directory, from, to) {
            return;
        }
        let survivor = self.identity.survivor(from);
        let mut changed: Vec<EntityId> = Vec::new();
        if small != survivor {
            changed.extend(&few);
        }
        if sides.iter().any(|side| *side != small && *side != survivor) {
            changed.extend(
                self.identity
                    .group(survivor)
                    .iter()
                    .filter(|e| !few.contains(e)),
            );
        }
        let table = self
            .directory
            .table(survivor)
            .expect("only rows are linked");
        for entity in &changed {
            self.absorb(*entity, survivor, table);
        }
        for (events, keeper) in kept {
            let now = self.carrier(survivor, events);
            if now != keeper {
                let shared = self.shared.clone();
                let at = |graph: &Graph, entity| {
                    shared.layout.position(graph.node(entity).table, events)
                };
                let (from, to) = (at(self, keeper), at(self, now));
                let state = std::mem::take(&mut self.node_mut(keeper).events[from]);
                self.node_mut(now).events[to].merge(&shared.bank, &shared.options, state);
            }
        }
        for side in sides.iter().filter(|side| **side != survivor) {
            let traces = self.node_mut(*side).take_traces();
            let shared = self.shared.clone();
            self.node_mut(survivor).merge_traces(&shared.bank, traces);
            self.incoming.redirect(*side, survivor);
        }
        self.rehome(survivor);
        if changed.contains(&survivor) {
            self.relocate(survivor);
        }
        changed
            .iter()
            .filter(|e| **e != survivor)
            .for_each(|e| self.relocate(*e));
        self.tell_of_merge(survivor, &changed);
    }

    /// Notes who stands for an entity now.
    fn absorb(&mut self, entity: EntityId, survivor: EntityId, survivor_table: TableId) {
        let node = self.node_mut(entity);
        node.absorbed = entity != survivor;
        node.survivor = survivor;
        node.survivor_table = survivor_table;
        let shared = self.shared.clone();
        let node = self.node(entity);
        let mut version = RowBatch::new();
        if let Some(row) = node.row().filter(|_| !node.is_merged()) {
            version.push_copy(shared.layout.catalog(), row);
        }
        let fields = &shared.layout.entity(node.table).hub_fields;
        let hubs = if version.is_empty() {
            SmallVec::new()
        } else {
            self.hub_nodes(version.row(0), fields)
        };
        self.node_mut(entity).hubs = hubs;
        if entity != survivor {
            self.directory.set_parent(entity, Some(survivor));
        }
    }

    /// After a merge: domains lead to the survivor, and all who could see one of the merged look again.
    fn tell_of_merge(&mut self, survivor: EntityId, changed: &[EntityId]) {
        let roots = changed.iter().filter(|e| self.is_root(**e));
        let claimed: Vec<EntityId> = roots
            .flat_map(|e| self.matching.named(*e).iter().copied())
            .collect();
        claimed.into_iter().for_each(|domain| self.lead(domain));
        let cell = self.place(survivor).cell;
        self.mark(cell, Reasons::EVENT);
        if self.tracking == Tracking::Off {
            return;
        }
        for entity in changed {
            let targets: SmallVec<[EntityId; 4]> = self
                .node(*entity)
                .edges
                .iter()
                .map(|e| self.identity.survivor(e.to))
                .collect();
            targets
                .into_iter()
                .for_each(|target| self.mark_entity(target));
        }
        self.mark_readers(cell);
    }
}
