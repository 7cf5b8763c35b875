//! Moves of nodes between cells, when the home of an entity changes. History moves along.

use smallvec::SmallVec;

use leadpulse_schema::TableId;

use crate::apply::Writer;
use crate::change::effects::Cause;
use crate::ids::{CellRef, EntityId};
use crate::state::node::Node;
use crate::who::directory::Standing;
use crate::who::home::RootFoundBy;
use crate::who::journal::Change;

impl Writer<'_> {
    /// The entity of a key, with a node: a stub in a cell of its own if it had none.
    pub fn ensure(&mut self, table: TableId, key: &str) -> EntityId {
        let directory = &mut self.entities.directory;
        let entity = directory.intern(directory.of_table(table), key);
        if directory.place(entity).is_none() {
            let cell = self.open_cell(entity);
            let node = Node::stub(entity, table, &self.cells.shared.layout);
            self.put(cell, node);
            self.effects.add(cell, Cause::FirstNamed);
        }
        entity
    }

    /// Opens a cell for an anchor.
    fn open_cell(&mut self, anchor: EntityId) -> CellRef {
        let cell = self.cells.open(anchor, self.entities.directory.key(anchor));
        self.effects.add(cell, Cause::Opened);
        cell
    }

    /// The cell of an anchor, new if it has none.
    fn cell_of(&mut self, anchor: EntityId) -> CellRef {
        let own = match self.entities.directory.place(anchor) {
            Some(place) => Some(place.cell).filter(|cell| self.cells.get(*cell).anchor == anchor),
            None => self.cells.provisional.get(&anchor).copied(),
        };
        if let Some(cell) = own {
            return cell;
        }
        let cell = self.open_cell(anchor);
        if self.entities.directory.is_domain(anchor) {
            self.cells.provisional.insert(anchor, cell);
        }
        cell
    }

    /// Puts a node into a cell.
    fn put(&mut self, cell: CellRef, node: Node) {
        let entity = node.entity;
        let place = self.cells.put(cell, node);
        self.entities.directory.set_place(entity, place);
    }

    /// Takes a node out of its cell.
    pub fn take(&mut self, entity: EntityId) -> Node {
        let place = self.entities.place(entity);
        let node = self.cells.take(place);
        let nodes = &self.cells.get(place.cell).nodes;
        if let Some(swapped) = nodes.get(place.node as usize) {
            self.entities.directory.set_place(swapped.entity, place);
        }
        node
    }

    pub fn node(&self, entity: EntityId) -> &Node {
        self.cells.node(self.entities.place(entity))
    }

    /// The node of an entity about to change.
    pub fn node_mut(&mut self, entity: EntityId) -> &mut Node {
        self.cells.node_mut(self.entities.place(entity))
    }

    /// Notes what is counted of the node of an entity, after it changed.
    pub fn note_standing(&mut self, entity: EntityId) {
        let standing = Standing::of(self.node(entity));
        self.entities.directory.set_standing(entity, standing);
    }

    /// Moves an entity, or its survivor, to the home it has now.
    pub fn rehome(&mut self, entity: EntityId) {
        let survivor = self.entities.identity.survivor(entity);
        self.note_outsider(survivor);
        let (parent, found_by) = self.entities.home(survivor);
        self.entities.directory.journal.note(Change::Home {
            entity: survivor,
            home: parent,
            found_by,
        });
        if parent != self.entities.directory.parent(survivor) {
            self.entities.directory.set_parent(survivor, parent);
            self.relocate(survivor);
        }
    }

    /// Notes whether a survivor is an outsider now. Cells that could see the survivor by an edge or
    /// a mention are affected.
    fn note_outsider(&mut self, survivor: EntityId) {
        let is_outside = self.entities.outsider(survivor).is_some();
        if self.node(survivor).is_outside == is_outside {
            return;
        }
        self.node_mut(survivor).is_outside = is_outside;
        self.affect_seeing(survivor);
    }

    /// Records that an entity became an outsider, or is none any more, for the cells that could see
    /// it.
    pub fn affect_seeing(&mut self, survivor: EntityId) {
        let cell = self.entities.place(survivor).cell;
        self.effects.add(cell, Cause::Outsider);
        if !self.effects.is_tracked() {
            return;
        }
        self.effects.add_referrers(self.entities, &[survivor], cell);
        let joined = self.entities.identity.group(survivor).iter().copied();
        let rows: Vec<EntityId> = joined
            .filter(|e| *e != survivor)
            .chain([survivor])
            .collect();
        let mut seen: Vec<EntityId> = self.node(survivor).mentioned().to_vec();
        for row in rows {
            seen.extend(self.node(row).edges.iter().map(|edge| edge.to));
        }
        for target in seen {
            self.affect_entity(self.entities.identity.survivor(target), Cause::Referrer);
        }
    }

    /// Lets a domain lead to the root that names it now.
    pub fn lead(&mut self, domain: EntityId) {
        let root = self.entities.claimant(domain);
        let before = self.entities.directory.parent(domain);
        if root == before {
            return;
        }
        self.entities.directory.journal.note(Change::Home {
            entity: domain,
            home: root,
            found_by: RootFoundBy::Domain,
        });
        self.entities.directory.set_parent(domain, root);
        self.relocate(domain);
        // A seeker prefers a domain that leads to a root, so its home may be another domain now.
        if root.is_some() != before.is_some() {
            for seeker in self.entities.matching.seekers(domain).to_vec() {
                self.rehome(seeker);
            }
        }
    }

    /// Moves an entity's node, and all nodes below it, to the cell that the entity belongs to.
    pub fn relocate(&mut self, entity: EntityId) {
        let directory = &self.entities.directory;
        let family = directory.subtree(entity);
        if !family.iter().any(|e| directory.place(*e).is_some()) {
            return;
        }
        let identity = &self.entities.identity;
        let anchor = directory.top(entity, |e| identity.survivor(e) != e);
        let to = self.cell_of(anchor);
        let mut left: SmallVec<[CellRef; 2]> = SmallVec::new();
        let mut moved: Vec<EntityId> = Vec::new();
        let mut moves_outcomes = false;
        for member in family {
            let Some(place) = self.entities.directory.place(member) else {
                continue;
            };
            if place.cell == to {
                continue;
            }
            if !left.contains(&place.cell) {
                left.push(place.cell);
            }
            let node = self.take(member);
            let table = self.entities.catalog.table_at(node.table);
            moves_outcomes |= node.has_deals() || table.outcome.is_some();
            self.put(to, node);
            moved.push(member);
        }
        self.affect_moved(&left, to, &moved, moves_outcomes);
    }

    /// Records the effects of a move: on the cells that were left, the one that was joined, and
    /// the cells that refer to either.
    pub fn affect_moved(
        &mut self,
        left: &[CellRef],
        to: CellRef,
        moved: &[EntityId],
        moves_outcomes: bool,
    ) {
        for from in left {
            let cell = self.cells.get(*from);
            if cell.nodes.is_empty() {
                let anchor = cell.anchor;
                self.cells.provisional.remove(&anchor);
            }
            self.effects.add(*from, Cause::Left);
            if moves_outcomes {
                self.affect_readers(*from);
            }
        }
        if moved.is_empty() {
            return;
        }
        self.effects.add(to, Cause::Joined);
        if moves_outcomes {
            self.affect_readers(to);
        }
        for entity in moved {
            self.effects.add_referrers(self.entities, &[*entity], to);
        }
    }

    /// Records that the outcomes of a cell changed, for the cells that refer to its entities.
    pub fn affect_readers(&mut self, cell: CellRef) {
        if self.effects.is_tracked() {
            let nodes = &self.cells.get(cell).nodes;
            let entities: Vec<EntityId> = nodes.iter().map(|n| n.entity).collect();
            self.effects.add_referrers(self.entities, &entities, cell);
        }
    }

    /// Records a cause for the cell of an entity, if it has one.
    pub fn affect_entity(&mut self, entity: EntityId, cause: Cause) {
        if let Some(place) = self.entities.directory.place(entity) {
            self.effects.add(place.cell, cause);
        }
    }
}
