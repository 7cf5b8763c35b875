//! Interned entity keys: a dense id, the place, owner and parent of each entity.

use std::fmt;
use std::num::NonZeroU64;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use leadpulse_schema::{Catalog, HubId, TableId};

use crate::encoding::StoredGraphError;
use crate::ids::{CellRef, EntityId};
use crate::pieces::{KeptList, Lend};
use crate::state::node::Node;
use crate::who::journal::Journal;

/// The place of an entity's node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodePlace {
    pub cell: CellRef,
    /// Index in the cell's nodes.
    pub node: u32,
}

/// A space of keys: a table's entities, a promoted hub's values, or domains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Namespace(u16);

/// The namespace of entries whose key was erased. Their numbers are not given out again.
const NAMELESS: Namespace = Namespace(u16::MAX);

/// Facts of a node that are counted and searched in all cells, known without it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Standing {
    pub is_known: bool,
    pub is_absorbed: bool,
    pub is_merged: bool,
    pub is_stale: bool,
    /// Hash of the person's address in the current version.
    pub address: Option<NonZeroU64>,
}

impl Standing {
    pub fn of(node: &Node) -> Self {
        Self {
            is_known: node.is_known(),
            is_absorbed: node.absorbed,
            is_merged: node.is_merged(),
            is_stale: node.stale_since_ms.is_some(),
            address: node.address.and_then(NonZeroU64::new),
        }
    }
}

/// One entity of the directory.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct DirectoryEntry {
    namespace: Namespace,
    key: Arc<str>,
    place: Option<NodePlace>,
    standing: Standing,
    /// Not stored: an entity is among the children of its parent.
    #[serde(skip)]
    parent: Option<EntityId>,
    owner: Option<EntityId>,
    /// The smallest (table, key) that events name beside the entity.
    company: Option<EntityId>,
    /// In the order in which they came: moves follow it.
    children: SmallVec<[EntityId; 2]>,
}

/// All entities that were ever named.
#[derive(Debug)]
pub struct Directory {
    pub(crate) entries: KeptList<DirectoryEntry>,
    maps: Vec<FxHashMap<Arc<str>, EntityId>>,
    tables: usize,
    hub_namespace: Vec<Namespace>,
    hub_of: Vec<Option<HubId>>,
    domains: Namespace,
    pub(crate) journal: Journal,
    trial: Option<Box<TrialEntries>>,
}

/// The entries of a trial: those of the directory beneath, but for copies that the trial changed, and
/// new ones, numbered from the length of the directory beneath.
#[derive(Clone)]
struct TrialEntries {
    beneath: Arc<dyn Lend<Directory>>,
    own: FxHashMap<EntityId, DirectoryEntry>,
    len: usize,
}

impl TrialEntries {
    /// The trial's own copy of an entry.
    fn lifted(&mut self, entity: EntityId) -> &mut DirectoryEntry {
        let beneath = &self.beneath;
        let copy = || beneath.lend().entry(entity).clone();
        self.own.entry(entity).or_insert_with(copy)
    }
}

impl fmt::Debug for TrialEntries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.own.keys()).finish()
    }
}

impl Directory {
    /// A directory of no entities, with the namespaces of a catalog.
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
        let domains = Namespace(spaces as u16);
        hub_of.push(None);
        Self {
            entries: KeptList::default(),
            maps: vec![FxHashMap::default(); spaces + 1],
            tables,
            hub_namespace,
            hub_of,
            domains,
            journal: Journal::default(),
            trial: None,
        }
    }
    /// The directory of a trial, above this one.
    pub(crate) fn above(catalog: &Catalog, beneath: Arc<dyn Lend<Directory>>) -> Self {
        let trial = TrialEntries {
            len: beneath.lend().len(),
            beneath,
            own: FxHashMap::default(),
        };
        Self {
            trial: Some(Box::new(trial)),
            ..Self::new(catalog)
        }
    }
    /// Finds keys and parents again, after the entries were read from stored state.
    ///
    /// # Errors
    /// If an entry names a namespace or an entity that does not exist.
    pub(crate) fn index(&mut self) -> Result<(), StoredGraphError> {
        let known = self.entries.len();
        for at in 0..known {
            let id = EntityId(at as u32);
            let (namespace, key) = (self.entries[at].namespace, self.entries[at].key.clone());
            if namespace == NAMELESS {
                continue;
            }
            self.maps
                .get_mut(namespace.0 as usize)
                .ok_or(StoredGraphError::OutOfRange("namespace"))?
                .insert(key, id);
            for child in self.entries[at].children.clone() {
                if child.0 as usize >= known {
                    return Err(StoredGraphError::OutOfRange("entity"));
                }
                self.entries.at_unstored(child.0 as usize).parent = Some(id);
            }
        }
        Ok(())
    }
    /// The namespace of a table's keys.
    pub fn of_table(&self, table: TableId) -> Namespace {
        Namespace(table.0)
    }
    /// The namespace of a hub's keys.
    pub fn of_hub(&self, hub: HubId) -> Namespace {
        self.hub_namespace[hub.index()]
    }
    /// The namespace of the domains by which entities find their root.
    pub fn of_domains(&self) -> Namespace {
        self.domains
    }
    /// The id of a key; a new one for a key that was never named.
    pub fn intern(&mut self, namespace: Namespace, key: &str) -> EntityId {
        if let Some(id) = self.find(namespace, key) {
            return id;
        }
        let id = EntityId(u32::try_from(self.len()).expect("fewer than 2^32 entities"));
        let key: Arc<str> = key.into();
        self.maps[namespace.0 as usize].insert(key.clone(), id);
        self.push(DirectoryEntry {
            namespace,
            key,
            place: None,
            standing: Standing::default(),
            parent: None,
            owner: None,
            company: None,
            children: SmallVec::new(),
        });
        id
    }
    fn push(&mut self, entry: DirectoryEntry) {
        match &mut self.trial {
            None => self.entries.push(entry),
            Some(trial) => {
                trial.own.insert(EntityId(trial.len as u32), entry);
                trial.len += 1;
            }
        }
    }
    /// The id of a key; `None` for a key that was never named.
    pub fn find(&self, namespace: Namespace, key: &str) -> Option<EntityId> {
        let found = self.maps[namespace.0 as usize].get(key).copied();
        found.or_else(|| self.trial.as_ref()?.beneath.lend().find(namespace, key))
    }
    /// The key of an entity, unique in its namespace.
    pub fn key(&self, entity: EntityId) -> &Arc<str> {
        &self.entry(entity).key
    }
    /// The table of an entity; promoted hub values and domains have none.
    pub fn table(&self, entity: EntityId) -> Option<TableId> {
        let namespace = self.entry(entity).namespace.0;
        ((namespace as usize) < self.tables).then_some(TableId(namespace))
    }
    /// The hub that an entity is a value of.
    pub fn hub(&self, entity: EntityId) -> Option<HubId> {
        let of_namespace = self.hub_of.get(self.entry(entity).namespace.0 as usize);
        of_namespace.copied().flatten()
    }
    /// Whether an entity is a domain, by which members find their root.
    pub fn is_domain(&self, entity: EntityId) -> bool {
        self.entry(entity).namespace == self.domains
    }
    /// The place of an entity's node; hubs, domains and keys that were only referred to have none.
    pub fn place(&self, entity: EntityId) -> Option<NodePlace> {
        self.entry(entity).place
    }
    pub(crate) fn set_place(&mut self, entity: EntityId, place: NodePlace) {
        self.entry_mut(entity).place = Some(place);
    }
    pub(crate) fn set_standing(&mut self, entity: EntityId, standing: Standing) {
        if self.entry(entity).standing != standing {
            self.entry_mut(entity).standing = standing;
        }
    }
    /// All entities with a node: what is counted of each.
    pub(crate) fn standings(&self) -> impl Iterator<Item = (EntityId, TableId, Standing)> {
        let entities = (0..).map(EntityId).zip(self.entries.iter());
        entities
            .filter(|(_, entry)| entry.place.is_some())
            .map(|(entity, entry)| (entity, TableId(entry.namespace.0), entry.standing))
    }
    pub(crate) fn standing(&self, entity: EntityId) -> Standing {
        self.entry(entity).standing
    }
    /// The home of an entity: its survivor, its owner, or the domain that stands for its root.
    /// Following parents leads to the anchor of the cell.
    pub fn parent(&self, entity: EntityId) -> Option<EntityId> {
        self.entry(entity).parent
    }
    pub(crate) fn set_parent(&mut self, entity: EntityId, parent: Option<EntityId>) {
        if let Some(old) = self.entry(entity).parent {
            let children = &mut self.entry_mut(old).children;
            children.retain(|c| *c != entity);
        }
        self.entry_unstored(entity).parent = parent;
        if let Some(new) = parent {
            self.entry_mut(new).children.push(entity);
        }
    }
    /// The owner that the current version of an entity names.
    pub fn owner(&self, entity: EntityId) -> Option<EntityId> {
        self.entry(entity).owner
    }
    pub(crate) fn set_owner(&mut self, entity: EntityId, owner: Option<EntityId>) {
        self.entry_mut(entity).owner = owner;
    }
    /// The entity that events name beside this one: of several the smallest (table, key).
    pub fn company(&self, entity: EntityId) -> Option<EntityId> {
        self.entry(entity).company
    }
    /// Notes that an event names `company` beside the entity. Returns whether that is news.
    // The smallest one, for ever: retractions and the order of rows must not decide.
    pub(crate) fn note_company(&mut self, entity: EntityId, company: EntityId) -> bool {
        let before = self.entry(entity).company;
        let is_news = before.is_none_or(|before| self.order(company, before).is_lt());
        if is_news {
            self.entry_mut(entity).company = Some(company);
        }
        is_news
    }
    /// Forgets the entity that events named beside this one.
    pub(crate) fn forget_company(&mut self, entity: EntityId) {
        self.entry_mut(entity).company = None;
    }
    /// Notes that an entity has no node any more.
    pub(crate) fn clear_place(&mut self, entity: EntityId) {
        let entry = self.entry_mut(entity);
        (entry.place, entry.standing) = (None, Standing::default());
    }
    /// Forgets the key of an entity that nothing belongs to. Its number stays taken.
    pub(crate) fn forget(&mut self, entity: EntityId) {
        let (namespace, key) = (self.entry(entity).namespace, self.entry(entity).key.clone());
        if let Some(map) = self.maps.get_mut(namespace.0 as usize) {
            map.remove(&key);
        }
        *self.entry_mut(entity) = DirectoryEntry {
            namespace: NAMELESS,
            key: "".into(),
            place: None,
            standing: Standing::default(),
            parent: None,
            owner: None,
            company: None,
            children: SmallVec::new(),
        };
    }
    /// The entity and all entities below it. Contradicting versions may close a ring: it is walked
    /// once.
    pub(crate) fn subtree(&self, entity: EntityId) -> Vec<EntityId> {
        let mut all = vec![entity];
        let mut next = 0;
        while next < all.len() {
            // Every entity has one parent, so only the start can come up again.
            all.extend(
                self.entry(all[next])
                    .children
                    .iter()
                    .copied()
                    .filter(|child| *child != entity),
            );
            next += 1;
        }
        all
    }
    /// The anchor of an entity's cell: the end of its parents. Where they run in a ring, the
    /// smallest (table, key) of the ring that was not absorbed.
    pub(crate) fn top(&self, entity: EntityId, is_absorbed: impl Fn(EntityId) -> bool) -> EntityId {
        let mut path: SmallVec<[EntityId; 8]> = smallvec::smallvec![entity];
        while let Some(parent) = self.parent(path[path.len() - 1]) {
            if let Some(start) = path.iter().position(|e| *e == parent) {
                let ring = path[start..]
                    .iter()
                    .copied()
                    .filter(|e| self.table(*e).is_some() && !is_absorbed(*e));
                return ring
                    .min_by(|a, b| self.order(*a, *b))
                    .expect("an absorbed entity is followed by its survivor");
            }
            path.push(parent);
        }
        path[path.len() - 1]
    }
    /// The order of (table, key), which does not depend on the order of first sight.
    pub fn order(&self, a: EntityId, b: EntityId) -> std::cmp::Ordering {
        let (a, b) = (self.entry(a), self.entry(b));
        (a.namespace, &a.key).cmp(&(b.namespace, &b.key))
    }
    /// The number of entities ever named.
    pub fn len(&self) -> usize {
        let trial = self.trial.as_ref();
        trial.map_or(self.entries.len(), |trial| trial.len)
    }
    /// Whether no entity was ever named.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    fn entry(&self, entity: EntityId) -> &DirectoryEntry {
        match &self.trial {
            None => &self.entries[entity.0 as usize],
            Some(trial) => match trial.own.get(&entity) {
                Some(entry) => entry,
                None => trial.beneath.lend().entry(entity),
            },
        }
    }
    /// An entry about to change.
    fn entry_mut(&mut self, entity: EntityId) -> &mut DirectoryEntry {
        match &mut self.trial {
            None => self.entries.at_mut(entity.0 as usize),
            Some(trial) => trial.lifted(entity),
        }
    }
    /// An entry about to change in nothing that is stored.
    fn entry_unstored(&mut self, entity: EntityId) -> &mut DirectoryEntry {
        match &mut self.trial {
            None => self.entries.at_unstored(entity.0 as usize),
            Some(trial) => trial.lifted(entity),
        }
    }
}
