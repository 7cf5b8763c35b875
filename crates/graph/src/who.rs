//! Entity identity: interned keys, links between rows of one entity, domains, edges, and homes.
//!
//! Membership is a function of the current versions and of all links ever made, never of the order
//! in which they came. This room knows keys and catalog only: no state, no time but an edge's.

use std::sync::Arc;

use smallvec::SmallVec;

use leadpulse_schema::{Catalog, FieldId, HubId, Role, Row, TableId, Value};

use crate::ids::EntityId;
use crate::options::GraphOptions;

pub(crate) mod addresses;
pub(crate) mod directory;
pub(crate) mod domains;
pub(crate) mod edges;
pub(crate) mod home;
pub(crate) mod identity;
pub(crate) mod journal;
pub(crate) mod matching;
pub(crate) mod outsiders;

use directory::{Directory, NodePlace};
use domains::Domains;
use edges::Incoming;
use identity::Identity;
use matching::{Matching, SharedBy};
use outsiders::OutsideDomains;

/// Everything known about the identity of entities.
#[derive(Debug)]
pub(crate) struct Entities {
    pub catalog: Arc<Catalog>,
    pub directory: Directory,
    pub identity: Identity,
    pub matching: Matching,
    pub domains: Domains,
    pub outside: OutsideDomains,
    pub shared_by: SharedBy,
    pub incoming: Incoming,
}

impl Entities {
    /// No entities, with the domains that the options name.
    pub fn new(catalog: Arc<Catalog>, options: &GraphOptions) -> Self {
        let domains = Domains::new(&options.free_mail_domains);
        Self {
            directory: Directory::new(&catalog),
            identity: Identity::default(),
            matching: Matching::default(),
            outside: OutsideDomains::new(&domains, options),
            domains,
            shared_by: SharedBy::new(options),
            incoming: Incoming::default(),
            catalog,
        }
    }

    /// The place of an entity that has a node.
    pub fn place(&self, entity: EntityId) -> NodePlace {
        self.directory
            .place(entity)
            .expect("every entity that a row names has a node")
    }

    pub fn is_root(&self, entity: EntityId) -> bool {
        self.directory
            .table(entity)
            .is_some_and(|table| self.catalog.table_at(table).role == Role::Root)
    }

    /// Interns the hubs that fields of a row name. Ascending and distinct.
    pub fn hub_nodes<const N: usize>(
        &mut self,
        row: Row<'_>,
        fields: &[(FieldId, HubId)],
    ) -> SmallVec<[EntityId; N]>
    where
        [EntityId; N]: smallvec::Array<Item = EntityId>,
    {
        let mut nodes = SmallVec::new();
        for (field, hub) in fields {
            let namespace = self.directory.of_hub(*hub);
            for key in keys_of(row.get(*field)) {
                nodes.push(self.directory.intern(namespace, key));
            }
        }
        nodes.sort_unstable();
        nodes.dedup();
        nodes
    }
}

/// The keys a value names: none, one or several. An empty key names nothing: otherwise all rows
/// without one would be related.
pub(crate) fn keys_of(value: Value<'_>) -> SmallVec<[&str; 2]> {
    match value {
        Value::Text(key) if !key.is_empty() => smallvec::smallvec![key],
        Value::List(keys) => keys.iter().filter(|key| !key.is_empty()).collect(),
        _ => SmallVec::new(),
    }
}

/// The table and key of the first owner reference that is not null.
pub fn owner_of<'a>(catalog: &Catalog, row: Row<'a>) -> Option<(TableId, &'a str)> {
    owners_of(catalog, row).next()
}

/// The tables and keys of all owner references that are not null, in their order.
pub fn owners_of<'a>(catalog: &Catalog, row: Row<'a>) -> impl Iterator<Item = (TableId, &'a str)> {
    let table = catalog.table_at(row.table());
    table.owners.iter().filter_map(move |field| {
        let key = row.get(*field).text().filter(|k| !k.is_empty())?;
        Some((table.field_at(*field).reference?.table, key))
    })
}
