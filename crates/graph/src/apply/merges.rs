//! Merges: a link makes nodes one.
//!
//! The survivor takes over all event state, and later events of the entities that it absorbed.
//! Events of a table that cannot hang on the survivor are kept by the smallest (table, key) of the
//! group that can carry them: the keeper is a function of the group, whatever the order of links.

use smallvec::SmallVec;

use leadpulse_schema::{RowBatch, TableId};

use crate::apply::Writer;
use crate::change::effects::Cause;
use crate::ids::EntityId;
use crate::state::node::Node;
use crate::who::home::RootFoundBy;
use crate::who::journal::Change;

impl Writer<'_> {
    /// The entity of a group that keeps the state of an event table: the survivor, else the
    /// smallest that can carry it.
    pub fn carrier(&self, entity: EntityId, events: TableId) -> EntityId {
        let survivor = self.entities.identity.survivor(entity);
        let layout = &self.cells.shared.layout;
        let carries = |e: &EntityId| {
            self.entities
                .directory
                .table(*e)
                .is_some_and(|table| layout.carries(table, events))
        };
        if carries(&survivor) {
            return survivor;
        }
        *self
            .entities
            .identity
            .group(entity)
            .iter()
            .find(|e| carries(e))
            .expect("an event's owner can carry it")
    }

    /// The keeper of each event table's state, among the entities joined with one.
    fn carriers(&self, entity: EntityId) -> Vec<(TableId, EntityId)> {
        let layout = &self.cells.shared.layout;
        let alone = [entity];
        let group = self.entities.identity.group(entity);
        let group = if group.is_empty() { &alone[..] } else { group };
        let mut tables: SmallVec<[TableId; 4]> = SmallVec::new();
        for table in group
            .iter()
            .filter_map(|e| self.entities.directory.table(*e))
        {
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

    /// Joins two entities, and all joined with either, into one: `from` became `to`.
    pub fn link(&mut self, from: EntityId, to: EntityId) {
        let mut sides: SmallVec<[EntityId; 2]> = smallvec::smallvec![
            self.entities.identity.survivor(from),
            self.entities.identity.survivor(to)
        ];
        sides.dedup();
        let was_outside: SmallVec<[bool; 2]> = sides
            .iter()
            .map(|side| self.node(*side).is_outside())
            .collect();
        let kept: Vec<(TableId, EntityId)> =
            sides.iter().flat_map(|side| self.carriers(*side)).collect();
        // The members of the smaller side, so that a large group is not walked for each entity
        // that joins it.
        let members = |entity: EntityId| match self.entities.identity.group(entity) {
            [] => vec![entity],
            group => group.to_vec(),
        };
        let small = *sides
            .iter()
            .min_by_key(|side| self.entities.identity.group(**side).len())
            .expect("there is a side");
        let few = members(small);
        if !self
            .entities
            .identity
            .link(&self.entities.directory, from, to)
        {
            return;
        }
        self.entities.directory.journal.note(Change::Link(from, to));
        let survivor = self.entities.identity.survivor(from);
        let mut changed: Vec<EntityId> = Vec::new();
        if small != survivor {
            changed.extend(&few);
        }
        if sides.iter().any(|side| *side != small && *side != survivor) {
            changed.extend(
                self.entities
                    .identity
                    .group(survivor)
                    .iter()
                    .filter(|e| !few.contains(e)),
            );
        }
        let table = self
            .entities
            .directory
            .table(survivor)
            .expect("only rows are linked");
        for entity in &changed {
            self.absorb(*entity, survivor, table);
        }
        for (events, keeper) in kept {
            self.hand_over(events, keeper, self.carrier(survivor, events));
        }
        for side in sides.iter().filter(|side| **side != survivor) {
            let traces = self.node_mut(*side).take_traces();
            let shared = self.cells.shared.clone();
            self.node_mut(survivor).merge_traces(&shared, traces);
            self.entities.incoming.redirect(*side, survivor);
        }
        self.rehome(survivor);
        if changed.contains(&survivor) {
            self.relocate(survivor);
        }
        changed
            .iter()
            .filter(|e| **e != survivor)
            .for_each(|e| self.relocate(*e));
        let is_outside = self.node(survivor).is_outside();
        if was_outside.iter().any(|was| *was != is_outside) {
            self.affect_seeing(survivor);
        }
        self.affect_merged(survivor, &changed);
    }

    /// Moves the state of an event table from one keeper of a group to another.
    fn hand_over(&mut self, events: TableId, from: EntityId, to: EntityId) {
        if from == to {
            return;
        }
        let shared = self.cells.shared.clone();
        let position = |node: &Node| shared.layout.position(node.table, events);
        let (at, into) = (position(self.node(from)), position(self.node(to)));
        let state = std::mem::take(&mut self.node_mut(from).events[at]);
        self.node_mut(to).events[into].unite(&shared, state);
    }

    /// Notes the survivor of an entity.
    fn absorb(&mut self, entity: EntityId, survivor: EntityId, survivor_table: TableId) {
        let node = self.node_mut(entity);
        node.absorbed = entity != survivor;
        node.is_outside &= !node.absorbed;
        node.survivor = survivor;
        node.survivor_table = survivor_table;
        let shared = self.cells.shared.clone();
        let node = self.node(entity);
        let mut version = RowBatch::new();
        if let Some(row) = node.row().filter(|_| !node.is_merged()) {
            version.push_copy(shared.layout.catalog(), row);
        }
        let fields = &shared.layout.entity(node.table).hub_fields;
        let hubs = if version.is_empty() {
            SmallVec::new()
        } else {
            self.entities.hub_nodes(version.row(0), fields)
        };
        self.node_mut(entity).hubs = hubs;
        self.note_standing(entity);
        if entity != survivor {
            self.entities.directory.set_parent(entity, Some(survivor));
            self.entities.directory.journal.note(Change::Home {
                entity,
                home: Some(survivor),
                found_by: RootFoundBy::Link,
            });
        }
    }

    /// Lets domains lead to the survivor, and records the effects on cells that could see one of
    /// the merged entities.
    fn affect_merged(&mut self, survivor: EntityId, changed: &[EntityId]) {
        let matching = &self.entities.matching;
        let roots = changed.iter().filter(|e| self.entities.is_root(**e));
        // The parent of a root below may be another root now.
        let roots = roots.flat_map(|e| matching.children(*e).iter().chain([e]));
        let claimed: Vec<EntityId> = roots
            .flat_map(|e| matching.named(*e).iter().copied())
            .collect();
        claimed.into_iter().for_each(|domain| self.lead(domain));
        let cell = self.entities.place(survivor).cell;
        self.effects.add(cell, Cause::Merged);
        if !self.effects.is_tracked() {
            return;
        }
        for entity in changed {
            let targets: SmallVec<[EntityId; 4]> = self
                .node(*entity)
                .edges
                .iter()
                .map(|e| self.entities.identity.survivor(e.to))
                .collect();
            targets
                .into_iter()
                .for_each(|target| self.affect_entity(target, Cause::Referrer));
        }
        self.affect_readers(cell);
    }
}
