//! Whose everyone is, and the moves between cells that follow.
//!
//! Where everyone belongs is a function of the current versions and of all links ever made, not of the order in which they came:
//!
//! 1. whoever was absorbed belongs to its survivor;
//! 2. a member belongs to the owner its version names, else to the owner of one it is joined with;
//! 3. else to the domain it names (the first that leads to a root, else the first), and a domain belongs to the root that
//!    names it: of several the one with the smallest key;
//! 4. else it stands alone.
//!
//! Following these leads to the anchor of the cell. Members of a domain without a root share a provisional cell of that domain.

use smallvec::SmallVec;
use xxhash_rust::xxh3::xxh3_64;

use leadpulse_schema::{Role, TableId};

use crate::graph::{Graph, Tracking};
use crate::state::cell::{CellRef, EntityId, Reasons};
use crate::state::node::Node;
use crate::who::directory::Place;

/// How a member finds its root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Its version names an owner.
    Reference,
    /// One it is joined with names an owner.
    Link,
    /// Its domain leads to a root.
    Domain,
    /// Its domain leads to none yet.
    Provisional,
    /// Not at all.
    Not,
}

/// Up to this many cells are marked at once because of what they refer to; more wait among the soft-dirty.
const DIRECT_READERS: usize = 64;

impl Graph {
    /// The entity of a key, with a node: a stub in a cell of its own if it had none.
    pub(crate) fn ensure(&mut self, table: TableId, key: &str) -> EntityId {
        let entity = self.directory.intern(self.directory.of_table(table), key);
        if self.directory.place(entity).is_none() {
            let cell = self.open_cell(entity);
            let node = Node::stub(entity, table, &self.shared.layout);
            self.put(cell, node);
            self.mark(cell, Reasons::EVENT);
        }
        entity
    }

    /// A new cell of an entity.
    pub(crate) fn open_cell(&mut self, anchor: EntityId) -> CellRef {
        let shard =
            (xxh3_64(self.directory.key(anchor).as_bytes()) % self.shards.len() as u64) as u16;
        CellRef {
            shard,
            index: self.shards[shard as usize].open(anchor),
        }
    }

    /// The cell of an anchor, new if it has none.
    pub(crate) fn cell_of(&mut self, anchor: EntityId) -> CellRef {
        let own = match self.directory.place(anchor) {
            Some(place) => Some(place.cell).filter(|cell| self.cell(*cell).anchor == anchor),
            None => self.provisional.get(&anchor).copied(),
        };
        own.unwrap_or_else(|| {
            let cell = self.open_cell(anchor);
            if self.directory.is_domain(anchor) {
                self.provisional.insert(anchor, cell);
            }
            cell
        })
    }

    pub(crate) fn put(&mut self, cell: CellRef, node: Node) {
        self.shards[cell.shard as usize].freeze(cell.index, &self.shared);
        let nodes = &mut self.shards[cell.shard as usize].cells[cell.index as usize].nodes;
        self.directory.set_place(
            node.entity,
            Place {
                cell,
                node: nodes.len() as u32,
            },
        );
        nodes.push(node);
    }

    pub(crate) fn take(&mut self, entity: EntityId) -> Node {
        let place = self
            .directory
            .place(entity)
            .expect("only placed entities move");
        let shard = &mut self.shards[place.cell.shard as usize];
        shard.freeze(place.cell.index, &self.shared);
        let cell = &mut shard.cells[place.cell.index as usize];
        let node = cell.nodes.swap_remove(place.node as usize);
        if let Some(swapped) = cell.nodes.get(place.node as usize) {
            self.directory.set_place(swapped.entity, place);
        }
        node
    }

    pub(crate) fn place(&self, entity: EntityId) -> Place {
        self.directory
            .place(entity)
            .expect("ensure() gave it a place")
    }
    pub(crate) fn node(&self, entity: EntityId) -> &Node {
        let place = self.place(entity);
        &self.cell(place.cell).nodes[place.node as usize]
    }
    /// A node about to be changed: what its cell has in the hubs is kept first.
    pub(crate) fn node_mut(&mut self, entity: EntityId) -> &mut Node {
        let place = self.place(entity);
        let shard = &mut self.shards[place.cell.shard as usize];
        shard.freeze(place.cell.index, &self.shared);
        &mut shard.cells[place.cell.index as usize].nodes[place.node as usize]
    }

    pub(crate) fn is_root(&self, entity: EntityId) -> bool {
        self.directory
            .table(entity)
            .is_some_and(|table| self.catalog().table_at(table).role == Role::Root)
    }

    /// Whom an entity that was not absorbed belongs to, and how it found them.
    pub(crate) fn home(&self, entity: EntityId) -> (Option<EntityId>, Found) {
        if self.is_root(entity) {
            return (None, Found::Reference);
        }
        let others = self
            .identity
            .group(entity)
            .iter()
            .copied()
            .filter(|e| *e != entity);
        let joined = || std::iter::once(entity).chain(others.clone());
        let owned = joined().find_map(|e| {
            Some((
                e,
                self.directory
                    .owner(e)
                    .filter(|o| self.identity.survivor(*o) != entity)?,
            ))
        });
        if let Some((who, owner)) = owned {
            return (
                Some(owner),
                if who == entity {
                    Found::Reference
                } else {
                    Found::Link
                },
            );
        }
        let mut domains = joined().flat_map(|e| self.matching.named(e).iter().copied());
        match domains
            .clone()
            .find(|domain| self.directory.parent(*domain).is_some())
        {
            Some(domain) => (Some(domain), Found::Domain),
            None => domains.next().map_or((None, Found::Not), |domain| {
                (Some(domain), Found::Provisional)
            }),
        }
    }

    /// Moves an entity, or who stands for it, to where it belongs now.
    pub(crate) fn rehome(&mut self, entity: EntityId) {
        let survivor = self.identity.survivor(entity);
        let (parent, _) = self.home(survivor);
        if parent != self.directory.parent(survivor) {
            self.directory.set_parent(survivor, parent);
            self.relocate(survivor);
        }
    }

    /// Lets a domain lead to the root that names it now.
    pub(crate) fn lead(&mut self, domain: EntityId) {
        let roots = self
            .matching
            .claims(domain)
            .iter()
            .map(|root| self.identity.survivor(*root));
        let root = roots.min_by(|a, b| self.directory.order(*a, *b));
        let before = self.directory.parent(domain);
        if root == before {
            return;
        }
        self.directory.set_parent(domain, root);
        self.relocate(domain);
        if root.is_some() != before.is_some() {
            for seeker in self.matching.seekers(domain).to_vec() {
                self.rehome(seeker);
            }
        }
    }

    /// Moves an entity's node, with everyone below it, to the cell it belongs to. History moves along.
    pub(crate) fn relocate(&mut self, entity: EntityId) {
        let family = self.directory.subtree(entity);
        if !family.iter().any(|e| self.directory.place(*e).is_some()) {
            return;
        }
        let anchor = self
            .directory
            .top(entity, |e| self.identity.survivor(e) != e);
        let to = self.cell_of(anchor);
        let mut left: SmallVec<[CellRef; 2]> = SmallVec::new();
        let mut moved: Vec<EntityId> = Vec::new();
        let mut moves_outcomes = false;
        for member in family {
            let Some(from) = self
                .directory
                .place(member)
                .map(|place| place.cell)
                .filter(|cell| *cell != to)
            else {
                continue;
            };
            if !left.contains(&from) {
                left.push(from);
            }
            let node = self.take(member);
            moves_outcomes |=
                node.verdicts().is_some() || self.catalog().table_at(node.table).outcome.is_some();
            self.put(to, node);
            moved.push(member);
        }
        for from in &left {
            let cell = self.cell(*from);
            if cell.nodes.is_empty() {
                let anchor = cell.anchor;
                self.provisional.remove(&anchor);
            }
            self.mark(*from, Reasons::EVENT);
            if moves_outcomes {
                self.mark_readers(*from);
            }
        }
        if !moved.is_empty() {
            self.mark(to, Reasons::EVENT);
            if moves_outcomes {
                self.mark_readers(to);
            }
            moved
                .into_iter()
                .for_each(|entity| self.mark_referrers(&[entity], to));
        }
    }

    pub(crate) fn mark_entity(&mut self, entity: EntityId) {
        if let Some(place) = self.directory.place(entity) {
            self.mark(place.cell, Reasons::EVENT);
        }
    }

    /// Marks the cells that refer to anyone in a cell: they read its outcomes.
    pub(crate) fn mark_readers(&mut self, cell: CellRef) {
        if self.tracking == Tracking::On {
            let entities: Vec<EntityId> = self.cell(cell).nodes.iter().map(|n| n.entity).collect();
            self.mark_referrers(&entities, cell);
        }
    }

    /// Marks the cells that refer to some entities of a cell; very many wait among the soft-dirty.
    pub(crate) fn mark_referrers(&mut self, entities: &[EntityId], cell: CellRef) {
        if self.tracking == Tracking::Off {
            return;
        }
        let sources = entities
            .iter()
            .flat_map(|e| self.incoming.of(*e))
            .filter_map(|(_, source)| self.directory.place(*source));
        let mut cells: Vec<CellRef> = sources
            .map(|place| place.cell)
            .filter(|c| *c != cell)
            .collect();
        cells.sort_unstable();
        cells.dedup();
        let is_direct = cells.len() <= DIRECT_READERS;
        for cell in cells {
            if is_direct {
                self.mark(cell, Reasons::EVENT)
            } else {
                self.soften(cell)
            }
        }
    }
}
