//! Erasure: an entity, all rows that are the same person's, and what other entities know of them.
//!
//! A person is every row that links join, and every member row with one of the person's addresses.
//! Their nodes leave their cells with all events; keys become nameless places of the directory, so
//! that no number is given out twice. References of other rows to them become null. Sums that no
//! longer know whose events they are of stay: mentions where no outsiders are left out.
//!
//! Decision: docs/decisions/0070-a-person-is-erased.md

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rustc_hash::FxHashSet;
use smallvec::SmallVec;

use leadpulse_schema::{Field, Role, Row, RowBatch, TableId};

use crate::apply::Writer;
use crate::change::effects::{Cause, Effects};
use crate::ids::{CellRef, EntityId};
use crate::state::node::Node;
use crate::who::addresses::{person_address, person_hash};
use crate::who::matching::NamedDomains;
use crate::who::{keys_of, owner_of};

/// The rows of an erased person, and the places that knew them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ErasedRows {
    /// The entities that are gone, with table and key, ascending by number.
    pub entities: Vec<(EntityId, TableId, Arc<str>)>,
    /// The person's addresses, normalised.
    pub addresses: Vec<String>,
    /// The labels of the person's rows: names for people.
    pub labels: Vec<String>,
    /// Cells that contained or named the person and still have nodes, ascending.
    pub cells: Vec<CellRef>,
    /// Versions that were removed.
    pub versions: u64,
    /// Known event ids whose owner is forgotten.
    pub events: u64,
    /// Rows of others that named the person.
    pub rewritten: u64,
    /// Domains that nobody else names.
    pub domains: u64,
}

/// The entities and addresses of one person.
#[derive(Debug, Default)]
struct Person {
    entities: BTreeSet<EntityId>,
    addresses: BTreeSet<String>,
    /// Keys by table, those that no entity has included: an owner after the first is no entity yet.
    keys: BTreeMap<TableId, FxHashSet<Arc<str>>>,
}

impl Person {
    fn has(&self, entity: EntityId) -> bool {
        self.entities.contains(&entity)
    }

    /// The hashes of the addresses, as nodes have them.
    fn hashes(&self) -> FxHashSet<u64> {
        let addresses = self.addresses.iter();
        addresses.filter_map(|one| person_hash(one)).collect()
    }
}

impl Writer<'_> {
    /// Erases the entities of some keys, and all that are the same person's; `address` names
    /// further rows. Returns what was found, and the effects on cells.
    pub fn erase(
        mut self,
        named: &[(TableId, &str)],
        address: Option<&str>,
    ) -> (ErasedRows, Effects) {
        let mut person = self.person(named, address);
        person.keys = self.keys_of_person(&person, named);
        let mut erased = self.described(&person);
        self.let_go(&person);
        let domains = self.stop_naming(&person);
        self.close_doors(&person, &domains);
        let mut cells = self.take_out(&person, &mut erased);
        self.forget_in_others(&person, &mut cells, &mut erased);
        self.forget_events(&person, &mut erased);
        self.forget_names(&person, &mut erased);
        let is_occupied = |at: &CellRef| !self.cells.get(*at).nodes.is_empty();
        erased.cells = cells.into_iter().filter(is_occupied).collect();
        (erased, self.effects)
    }

    /// All entities of a person: those named, those joined with them, and members with an address
    /// of any of them, until nothing more is found.
    fn person(&self, named: &[(TableId, &str)], address: Option<&str>) -> Person {
        let directory = &self.entities.directory;
        let mut person = Person::default();
        for (table, key) in named {
            let found = directory.find(directory.of_table(*table), key);
            person.entities.extend(found);
            person.addresses.extend(person_address(key));
        }
        person.addresses.extend(address.and_then(person_address));
        let mut searched = 0;
        loop {
            let joined = person.entities.iter();
            let joined = joined.flat_map(|entity| self.entities.identity.group(*entity));
            let joined: Vec<EntityId> = joined.copied().collect();
            person.entities.extend(joined);
            let known = person.entities.iter().flat_map(|e| self.addresses_of(*e));
            let known: Vec<String> = known.collect();
            person.addresses.extend(known);
            if person.addresses.len() == searched {
                return person;
            }
            searched = person.addresses.len();
            let found = self.members_at(&person.hashes());
            person.entities.extend(found);
        }
    }

    fn keys_of_person(
        &self,
        person: &Person,
        named: &[(TableId, &str)],
    ) -> BTreeMap<TableId, FxHashSet<Arc<str>>> {
        let directory = &self.entities.directory;
        let found = person.entities.iter();
        let found = found.filter_map(|e| Some((directory.table(*e)?, directory.key(*e).clone())));
        let asked = named.iter().map(|(table, key)| (*table, Arc::from(*key)));
        let mut keys: BTreeMap<TableId, FxHashSet<Arc<str>>> = BTreeMap::new();
        for (table, key) in found.chain(asked) {
            keys.entry(table).or_default().insert(key);
        }
        keys
    }

    /// The addresses in the version of a member.
    fn addresses_of(&self, entity: EntityId) -> Vec<String> {
        let Some(place) = self.entities.directory.place(entity) else {
            return Vec::new();
        };
        let node = self.cells.node(place);
        if self.entities.is_root(entity) {
            return Vec::new();
        }
        let fields = &self.cells.shared.layout.entity(node.table).match_fields;
        let texts = fields.iter().filter_map(|field| node.value(*field).text());
        texts.filter_map(person_address).collect()
    }

    /// The members with one of some addresses, by hash.
    // Looks at all entities, at no node: an index would cost every row, and persons are erased
    // rarely.
    fn members_at(&self, hashes: &FxHashSet<u64>) -> Vec<EntityId> {
        let of_all = self.entities.directory.standings();
        let found = of_all.filter_map(|(entity, _, standing)| {
            let hash = standing.address?.get();
            hashes.contains(&hash).then_some(entity)
        });
        found
            .filter(|entity| !self.entities.is_root(*entity))
            .collect()
    }

    fn described(&self, person: &Person) -> ErasedRows {
        let directory = &self.entities.directory;
        let entities = person.entities.iter();
        ErasedRows {
            entities: entities
                .filter_map(|e| Some((*e, directory.table(*e)?, directory.key(*e).clone())))
                .collect(),
            addresses: person.addresses.iter().cloned().collect(),
            labels: self.labels_of(person),
            ..ErasedRows::default()
        }
    }

    fn labels_of(&self, person: &Person) -> Vec<String> {
        let mut labels = Vec::new();
        for entity in &person.entities {
            let Some(place) = self.entities.directory.place(*entity) else {
                continue;
            };
            let node = self.cells.node(place);
            let fields = &self.entities.catalog.table_at(node.table).fields;
            let marked = fields.iter().filter(|field| field.label);
            let texts = marked.filter_map(|field| node.value(field.id).text());
            labels.extend(texts.map(str::to_owned));
        }
        labels.sort();
        labels.dedup();
        labels
    }

    /// Takes back the edges of the person's rows; their targets are read anew.
    fn let_go(&mut self, person: &Person) {
        for entity in &person.entities {
            let Some(place) = self.entities.directory.place(*entity) else {
                continue;
            };
            self.effects
                .add_referrers(self.entities, &[*entity], place.cell);
            let before = std::mem::take(&mut self.node_mut(*entity).edges);
            let identity = &self.entities.identity;
            let targets = self
                .entities
                .incoming
                .replace(identity, *entity, &before, &[]);
            for target in targets {
                self.affect_entity(target, Cause::Referrer);
            }
        }
    }

    /// Takes back the domains and parents that the person's rows name. Returns the domains.
    fn stop_naming(&mut self, person: &Person) -> BTreeSet<EntityId> {
        let mut domains = BTreeSet::new();
        for entity in &person.entities {
            let is_root = self.entities.is_root(*entity);
            let matching = &mut self.entities.matching;
            domains.extend(matching.rename(*entity, is_root, NamedDomains::new()));
            matching.set_parent(*entity, None);
            for child in matching.children.remove(entity).unwrap_or_default() {
                matching.parents.remove(&child);
                domains.extend(matching.named(child).iter().copied());
            }
        }
        domains
    }

    /// Finds new homes for all that belonged to the person.
    fn close_doors(&mut self, person: &Person, domains: &BTreeSet<EntityId>) {
        let mut orphans: Vec<EntityId> = Vec::new();
        let directory = &mut self.entities.directory;
        for at in 0..directory.len() as u32 {
            let entity = EntityId(at);
            if person.has(entity) {
                continue;
            }
            let is_gone = |of: Option<EntityId>| of.is_some_and(|of| person.has(of));
            let (owner, company) = (directory.owner(entity), directory.company(entity));
            if is_gone(owner) {
                directory.set_owner(entity, None);
            }
            if is_gone(company) {
                directory.forget_company(entity);
            }
            if is_gone(owner) || is_gone(company) || is_gone(directory.parent(entity)) {
                orphans.push(entity);
            }
        }
        for domain in domains {
            self.lead(*domain);
        }
        for orphan in orphans {
            if self.entities.directory.place(orphan).is_some() {
                self.rehome(orphan);
            }
        }
    }

    /// Takes the person's nodes out of their cells. Returns the cells.
    fn take_out(&mut self, person: &Person, erased: &mut ErasedRows) -> BTreeSet<CellRef> {
        let mut left: SmallVec<[CellRef; 2]> = SmallVec::new();
        let mut moves_outcomes = false;
        for entity in &person.entities {
            let Some(place) = self.entities.directory.place(*entity) else {
                continue;
            };
            let node = self.take(*entity);
            self.entities.directory.clear_place(*entity);
            erased.versions += u64::from(node.is_known());
            let table = self.entities.catalog.table_at(node.table);
            moves_outcomes |= node.has_deals() || table.outcome.is_some();
            if !left.contains(&place.cell) {
                left.push(place.cell);
            }
        }
        if let Some(first) = left.first().copied() {
            self.affect_moved(&left, first, &[], moves_outcomes);
        }
        left.into_iter().collect()
    }

    /// Lets the rows and traces of others forget the person.
    fn forget_in_others(
        &mut self,
        person: &Person,
        cells: &mut BTreeSet<CellRef>,
        erased: &mut ErasedRows,
    ) {
        let hashes = person.hashes();
        for entity in self.knowing(person) {
            let node = self.node(entity);
            let version = node.row().filter(|row| self.names(*row, person));
            let version = version.map(|row| self.without(row, person));
            erased.rewritten += u64::from(version.is_some());
            let node = self.node_mut(entity);
            node.forget(|other| person.has(other));
            if let Some(version) = version {
                node.rewrite_row(version);
                node.address = node.address.filter(|hash| !hashes.contains(hash));
                self.note_standing(entity);
                self.rehome_by_row(entity);
            }
            let cell = self.entities.place(entity).cell;
            self.effects.add(cell, Cause::Version);
            cells.insert(cell);
        }
        for entity in &person.entities {
            self.entities.incoming.by_target.remove(entity);
        }
    }

    /// The entities whose rows or traces lead to the person.
    // Any text may be an address, which no index knows: all cells are looked at, one after the other,
    // and cold ones stay cold.
    fn knowing(&self, person: &Person) -> Vec<EntityId> {
        let mut knowing = Vec::new();
        for (_, cell) in self.cells.occupied() {
            let nodes = cell.nodes.scan();
            let found = nodes.iter().filter(|node| self.knows(node, person));
            knowing.extend(found.map(|node| node.entity));
        }
        knowing
    }

    /// Lets a member belong to the first owner that is left in its version.
    fn rehome_by_row(&mut self, entity: EntityId) {
        let catalog = self.entities.catalog.clone();
        let node = self.node(entity);
        if catalog.table_at(node.table).role != Role::Member {
            return;
        }
        let named = node.row().and_then(|row| {
            let (table, key) = owner_of(&catalog, row)?;
            Some((table, key.to_owned()))
        });
        let owner = named.map(|(table, key)| self.ensure(table, &key));
        if owner != self.entities.directory.owner(entity) {
            self.entities.directory.set_owner(entity, owner);
            self.rehome(entity);
        }
    }

    /// Whether a node of somebody else refers to the person.
    fn knows(&self, node: &Node, person: &Person) -> bool {
        node.refers(|other| person.has(other))
            || node.row().is_some_and(|row| self.names(row, person))
    }

    /// Whether a row has a field with a key or an address of the person.
    fn names(&self, row: Row<'_>, person: &Person) -> bool {
        let table = self.entities.catalog.table_at(row.table());
        let mut fields = table.fields.iter().filter(|field| field.id != table.key);
        fields.any(|field| {
            let value = row.get(field.id);
            keys_of(value)
                .iter()
                .any(|key| Self::is_of(field, key, person))
        })
    }

    /// Whether the text of a field is a key or an address of the person.
    fn is_of(field: &Field, text: &str, person: &Person) -> bool {
        let keys = field.reference.and_then(|to| person.keys.get(&to.table));
        keys.is_some_and(|keys| keys.contains(text))
            || text.contains('@')
                && person_address(text).is_some_and(|one| person.addresses.contains(&one))
    }

    /// The row without the keys and addresses of the person.
    fn without(&self, row: Row<'_>, person: &Person) -> RowBatch {
        let mut batch = RowBatch::new();
        let is_kept = |field: &Field, text: &str| !Self::is_of(field, text, person);
        batch.push_copy_where(&self.entities.catalog, row, is_kept);
        batch
    }

    /// Forgets whose the person's events were. Their ids stay known, so that no repeat of one
    /// counts for anybody.
    fn forget_events(&mut self, person: &Person, erased: &mut ErasedRows) {
        let is_gone = |owner: EntityId| person.has(owner);
        erased.events = self.gate.events.forget_owners(is_gone);
        let limit = self.cells.shared.options.burst_events;
        let flipped = self.bursts.forget_owners(&person.entities, limit);
        self.decide(&flipped);
    }

    /// Removes the keys of the person, and of domains that nobody names any more: an earlier version
    /// may have named one.
    fn forget_names(&mut self, person: &Person, erased: &mut ErasedRows) {
        for entity in &person.entities {
            self.newest.entities.remove(entity);
            self.entities.identity.forget(*entity);
            self.entities.directory.set_parent(*entity, None);
        }
        for entity in &person.entities {
            self.entities.directory.forget(*entity);
        }
        let grouped = self.bursts.grouping_domains();
        for at in 0..self.entities.directory.len() as u32 {
            let domain = EntityId(at);
            if self.is_unnamed(domain) && !grouped.contains(&domain) {
                self.entities.directory.forget(domain);
                erased.domains += 1;
            }
        }
    }

    /// Whether an entity is a domain that no version names, and that nothing belongs to.
    fn is_unnamed(&self, domain: EntityId) -> bool {
        let matching = &self.entities.matching;
        self.entities.directory.is_domain(domain)
            && matching.claims(domain).is_empty()
            && matching.seekers(domain).is_empty()
            && !self.cells.provisional.contains_key(&domain)
            && self.entities.directory.subtree(domain).len() == 1
    }
}
