//! Who is who, and whose: keys become dense ids, entities have a place in a cell, members have a parent.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use leadpulse_schema::{Catalog, HubId, TableId};

use crate::cell::{CellRef, EntityId};

/// Where an entity's node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its cell.
    pub cell: CellRef,
    /// Index in the cell's nodes.
    pub node: u32,
}

/// What kind of thing a key names: a table's entities, or a promoted hub's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Namespace(u16);

#[derive(Debug)]
struct Entry {
    namespace: Namespace,
    key: Arc<str>,
    place: Option<Place>,
    parent: Option<EntityId>,
    children: SmallVec<[EntityId; 2]>,
}

/// All entities ever named.
#[derive(Debug)]
pub struct Directory {
    entries: Vec<Entry>,
    maps: Vec<FxHashMap<Arc<str>, EntityId>>,
    tables: usize,
    hub_namespace: Vec<Namespace>,
    hub_of: Vec<Option<HubId>>,
}

impl Directory {
    /// An empty directory.
    pub fn new(catalog: &Catalog) -> Self {
        let tables = catalog.tables.len();
        let mut spaces = tables;
        let mut hub_of = vec![None; tables];
        let hub_namespace = catalog
            .hubs
            .iter()
            .map(|hub| match hub.table {
                Some(table) => {
                    hub_of[table.index()] = Some(hub.id);
                    Namespace(table.0)
                }
                None => {
                    spaces += 1;
                    hub_of.push(Some(hub.id));
                    Namespace(spaces as u16 - 1)
                }
            })
            .collect();
        Self { entries: Vec::new(), maps: vec![FxHashMap::default(); spaces], tables, hub_namespace, hub_of }
    }
    /// The namespace of a table's keys.
    pub fn of_table(&self, table: TableId) -> Namespace {
        Namespace(table.0)
    }
    /// The namespace of a hub's keys.
    pub fn of_hub(&self, hub: HubId) -> Namespace {
        self.hub_namespace[hub.index()]
    }
    /// The id of a key, new if it was never named.
    pub fn intern(&mut self, namespace: Namespace, key: &str) -> EntityId {
        if let Some(id) = self.maps[namespace.0 as usize].get(key) {
            return *id;
        }
        let id = EntityId(u32::try_from(self.entries.len()).expect("fewer than 2^32 entities"));
        let key: Arc<str> = key.into();
        self.maps[namespace.0 as usize].insert(key.clone(), id);
        self.entries.push(Entry { namespace, key, place: None, parent: None, children: SmallVec::new() });
        id
    }
    /// The id of a key, if it was ever named.
    pub fn find(&self, namespace: Namespace, key: &str) -> Option<EntityId> {
        self.maps[namespace.0 as usize].get(key).copied()
    }
    /// An entity's key.
    pub fn key(&self, entity: EntityId) -> &Arc<str> {
        &self.entry(entity).key
    }
    /// An entity's table; promoted hub values have none.
    pub fn table(&self, entity: EntityId) -> Option<TableId> {
        let namespace = self.entry(entity).namespace.0;
        ((namespace as usize) < self.tables).then_some(TableId(namespace))
    }
    /// The hub an entity is a node of.
    pub fn hub(&self, entity: EntityId) -> Option<HubId> {
        self.hub_of[self.entry(entity).namespace.0 as usize]
    }
    /// Where an entity's node is; hubs and never-linked keys have none.
    pub fn place(&self, entity: EntityId) -> Option<Place> {
        self.entry(entity).place
    }
    pub(crate) fn set_place(&mut self, entity: EntityId, place: Place) {
        self.entries[entity.0 as usize].place = Some(place);
    }
    /// The entity it belongs to.
    pub fn parent(&self, entity: EntityId) -> Option<EntityId> {
        self.entry(entity).parent
    }
    pub(crate) fn set_parent(&mut self, entity: EntityId, parent: Option<EntityId>) {
        if let Some(old) = self.entries[entity.0 as usize].parent {
            self.entries[old.0 as usize].children.retain(|c| *c != entity);
        }
        self.entries[entity.0 as usize].parent = parent;
        if let Some(new) = parent {
            self.entries[new.0 as usize].children.push(entity);
        }
    }
    /// The entity and everyone below it.
    pub(crate) fn subtree(&self, entity: EntityId) -> Vec<EntityId> {
        let mut all = vec![entity];
        let mut next = 0;
        while next < all.len() {
            all.extend(self.entry(all[next]).children.iter().copied());
            next += 1;
        }
        all
    }
    /// How many entities were ever named.
    pub fn len(&self) -> usize {
        self.entries.len()
    }
    /// Whether none was.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
    fn entry(&self, entity: EntityId) -> &Entry {
        &self.entries[entity.0 as usize]
    }
}
