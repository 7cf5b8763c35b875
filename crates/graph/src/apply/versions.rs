//! Versions of entities: a row's owner, domains, edges and links take effect.

use smallvec::SmallVec;

use leadpulse_schema::{Catalog, Operation, Role, Row, RowBatch, Table, Value, Version};

use crate::apply::Writer;
use crate::apply::outcome::{Described, RowOutcome};
use crate::change::effects::Cause;
use crate::ids::EntityId;
use crate::state::layout::EntityLayout;
use crate::who::addresses::person_hash;
use crate::who::edges::{Edge, Edges, FORMER_ROOTS, references};
use crate::who::matching::{NamedDomains, agreed_domain};
use crate::who::{keys_of, owner_of};

impl Writer<'_> {
    /// Replaces the version of an entity, unless the row's version is stale.
    pub fn upsert(&mut self, catalog: &Catalog, row: Row<'_>) -> RowOutcome {
        if let Some(field) = catalog.table_at(row.table()).version {
            let directory = &mut self.entities.directory;
            let entity = directory.intern(directory.of_table(row.table()), row.key());
            if !self.newest.note(entity, Version::of(row.get(field))) {
                return RowOutcome::StaleVersion;
            }
        }
        self.replace(catalog, row)
    }

    /// Replaces the version of an entity; its links stay for ever. Tells of an entity that went back
    /// in time, in a table without a version field, and of one that only a part describes.
    fn replace(&mut self, catalog: &Catalog, row: Row<'_>) -> RowOutcome {
        let shared = self.cells.shared.clone();
        let layout = shared.layout.entity(row.table());
        let table = catalog.table_at(row.table());
        let entity = self.ensure(row.table(), row.key());
        let batch = complete(catalog, self.node(entity).row(), row);
        let is_complete = table.is_whole(row);
        let version = batch.row(0);

        let owner = match table.role {
            Role::Member => owner_of(catalog, version).map(|(t, key)| self.ensure(t, key)),
            _ => None,
        };
        let root =
            owner.filter(|owner| self.entities.directory.table(*owner) == Some(catalog.root().id));
        let named = self.named(layout, version);
        let parent = self.parent_said(layout, version);
        let mut addresses = layout.match_fields.iter();
        let address = addresses.find_map(|field| person_hash(version.get(*field).text()?));
        let edges = self.edges_said(layout, entity, root, version);
        let links = self.links_said(layout, entity, version);
        let hubs = self.entities.hub_nodes(version, &layout.hub_fields);

        let (known_ms, event_ms) = (row.known_ms(), version.event_ms());
        let node = self.node(entity);
        let outcome = |row: Option<Row<'_>>| {
            row.map(|row| {
                Some(
                    table
                        .outcome
                        .as_ref()?
                        .of(row.get(table.outcome.as_ref()?.field).text()?),
                )
            })
        };
        let changes_outcome =
            table.outcome.is_some() && outcome(node.row()) != outcome(Some(version));
        let row_outcome = match node.row() {
            Some(before) if steps_back(table, before, version) => RowOutcome::SteppedBack,
            None if !is_complete => RowOutcome::InPart,
            _ => RowOutcome::Accepted,
        };
        let node = self.node_mut(entity);
        node.hubs = if node.is_merged() {
            SmallVec::new()
        } else {
            hubs
        };
        node.set_row(batch, known_ms);
        node.address = address;
        if is_complete {
            node.stale_since_ms = None;
        }
        node.last_root = root.or(node.last_root);
        if changes_outcome {
            node.outcome_since_ms = event_ms;
        }
        self.note_standing(entity);
        self.set_parent(entity, parent);
        if self.cells.shared.layout.has_bursts {
            let domain = self.entities.first_domain(&named);
            if self.bursts.note_domain(entity, domain) {
                self.regrouped.push(entity);
            }
        }
        self.settle(entity, edges, owner, named);
        for (from, to) in links {
            self.link(from, to);
        }
        let cell = self.entities.place(entity).cell;
        if changes_outcome {
            self.affect_readers(cell);
        }
        self.effects.add(cell, Cause::Version);
        row_outcome
    }

    /// Clears the version of an entity, unless the deletion is stale. History and former roots
    /// stay.
    pub fn delete(&mut self, catalog: &Catalog, row: Row<'_>) -> RowOutcome {
        let was_deleted = match catalog.table_at(row.table()).version {
            None => false,
            Some(field) => {
                let directory = &mut self.entities.directory;
                let entity = directory.intern(directory.of_table(row.table()), row.key());
                let was_deleted = self.newest.is_deleted(entity);
                let version = Version::of(row.get(field));
                if !self.newest.note_deletion(entity, version) {
                    return RowOutcome::StaleVersion;
                }
                was_deleted
            }
        };
        let directory = &self.entities.directory;
        let entity = directory.find(directory.of_table(row.table()), row.key());
        let Some(entity) = entity.filter(|entity| directory.place(*entity).is_some()) else {
            let described = match was_deleted {
                true => Described::Before,
                false => Described::Never,
            };
            return RowOutcome::of_deletion(described);
        };
        let node = self.node(entity);
        let described = match node.is_known() {
            true => Described::Now,
            false if was_deleted || node.since_ms.is_some() => Described::Before,
            false => Described::Never,
        };
        if described == Described::Now {
            self.clear(entity);
        }
        RowOutcome::of_deletion(described)
    }

    /// Takes the version of an entity away.
    fn clear(&mut self, entity: EntityId) {
        let table = self.node(entity).table;
        let previous = self.cells.shared.layout.entity(table).previous;
        let node = self.node_mut(entity);
        node.clear_row();
        node.stale_since_ms = None;
        let edges = node
            .edges
            .iter()
            .copied()
            .filter(|edge| Some(edge.relation) == previous)
            .collect();
        self.note_standing(entity);
        self.set_parent(entity, None);
        self.settle(entity, edges, None, NamedDomains::new());
        let cell = self.entities.place(entity).cell;
        if self.entities.catalog.table_at(table).outcome.is_some() {
            self.affect_readers(cell);
        }
        self.effects.add(cell, Cause::Deleted);
    }

    /// Notes that changes of a known entity are missing. Its version stays; the next complete one
    /// ends the doubt.
    pub fn mark_stale(&mut self, row: Row<'_>) -> RowOutcome {
        let directory = &self.entities.directory;
        let found = directory.find(directory.of_table(row.table()), row.key());
        if let Some(entity) = found.filter(|entity| directory.place(*entity).is_some()) {
            let node = self.node_mut(entity);
            if node.is_known() {
                node.stale_since_ms.get_or_insert(row.known_ms());
                self.note_standing(entity);
            }
        }
        RowOutcome::Accepted
    }

    /// The domains that a version names, each once, in the order of its fields. Where members and
    /// roots must agree in a value, each domain comes first with the value, then alone.
    fn named(&mut self, layout: &EntityLayout, version: Row<'_>) -> NamedDomains {
        let agreed = layout
            .agree_field
            .and_then(|field| version.get(field).text());
        let mut named = NamedDomains::new();
        for field in &layout.match_fields {
            let address = version.get(*field).text();
            let Some(domain) = address.and_then(|text| self.entities.domains.company(text)) else {
                continue;
            };
            let with_value = agreed.and_then(|value| agreed_domain(&domain, value));
            for key in with_value.into_iter().chain([domain]) {
                let directory = &mut self.entities.directory;
                let domain = directory.intern(directory.of_domains(), &key);
                if !named.contains(&domain) {
                    named.push(domain);
                }
            }
        }
        named
    }

    /// The links of a version, each from an entity to the one that it became.
    fn links_said(
        &mut self,
        layout: &EntityLayout,
        entity: EntityId,
        version: Row<'_>,
    ) -> SmallVec<[(EntityId, EntityId); 2]> {
        let mut links: SmallVec<[(EntityId, EntityId); 2]> = SmallVec::new();
        for (field, target) in &layout.became {
            links.extend(
                keys_of(version.get(*field))
                    .into_iter()
                    .map(|key| (entity, self.ensure(*target, key))),
            );
        }
        for (field, target) in &layout.was {
            links.extend(
                keys_of(version.get(*field))
                    .into_iter()
                    .map(|key| (self.ensure(*target, key), entity)),
            );
        }
        links
    }

    /// The parent that a version of a root names, where shared domains lead to the topmost one.
    fn parent_said(&mut self, layout: &EntityLayout, version: Row<'_>) -> Option<EntityId> {
        let key = version.get(layout.parent_field?).text()?;
        let directory = &mut self.entities.directory;
        let space = directory.of_table(version.table());
        (!key.is_empty()).then(|| directory.intern(space, key))
    }

    /// Replaces the parent of a root, where shared domains lead to the topmost one.
    fn set_parent(&mut self, entity: EntityId, parent: Option<EntityId>) {
        if self.entities.matching.set_parent(entity, parent) {
            for domain in self.entities.matching.named(entity).to_vec() {
                self.lead(domain);
            }
        }
    }

    /// The edges of a version: its references, and the former roots by this version and earlier
    /// ones.
    fn edges_said(
        &mut self,
        layout: &EntityLayout,
        entity: EntityId,
        root: Option<EntityId>,
        version: Row<'_>,
    ) -> Edges {
        let mut said = Edges::new();
        for (field, relation, target) in &layout.references {
            for key in keys_of(version.get(*field)) {
                let to = self
                    .entities
                    .directory
                    .intern(self.entities.directory.of_table(*target), key);
                said.push(Edge {
                    relation: *relation,
                    to,
                    since_ms: version.known_ms(),
                });
            }
        }
        let before = self.node(entity);
        let mut edges = references(said, entity, &before.edges);
        if let Some(relation) = layout.previous {
            let mut former: Vec<Edge> = before
                .edges
                .iter()
                .copied()
                .filter(|e| e.relation == relation)
                .collect();
            let left = before
                .last_root
                .filter(|last| root.is_some_and(|root| root != *last));
            if let Some(to) = left {
                former.retain(|e| e.to != to);
                former.push(Edge {
                    relation,
                    to,
                    since_ms: version.known_ms(),
                });
            }
            for (field, target) in &layout.previous_fields {
                for key in keys_of(version.get(*field)) {
                    let to = self
                        .entities
                        .directory
                        .intern(self.entities.directory.of_table(*target), key);
                    if !former.iter().any(|e| e.to == to) {
                        former.push(Edge {
                            relation,
                            to,
                            since_ms: version.known_ms(),
                        });
                    }
                }
            }
            former.sort_unstable_by(|a, b| {
                b.since_ms
                    .cmp(&a.since_ms)
                    .then(self.entities.directory.order(a.to, b.to))
            });
            former.truncate(FORMER_ROOTS);
            edges.extend(former);
        }
        edges.sort_unstable();
        edges
    }

    /// Lets the edges, owner and domains of a changed version take effect.
    fn settle(
        &mut self,
        entity: EntityId,
        edges: Edges,
        owner: Option<EntityId>,
        named: NamedDomains,
    ) {
        let before = std::mem::replace(&mut self.node_mut(entity).edges, edges.clone());
        for target in
            self.entities
                .incoming
                .replace(&self.entities.identity, entity, &before, &edges)
        {
            self.affect_entity(target, Cause::Referrer);
        }
        self.entities.directory.set_owner(entity, owner);
        let is_root = self.entities.is_root(entity);
        let renamed = self.entities.matching.rename(entity, is_root, named);
        self.rehome(entity);
        if is_root {
            renamed.into_iter().for_each(|domain| self.lead(domain));
        }
    }
}

/// Whether a version lies before the one that it replaces, by the table's time. Tables with a
/// version field go by that one.
fn steps_back(table: &Table, before: Row<'_>, version: Row<'_>) -> bool {
    let Some(time) = table.time.filter(|_| table.version.is_none()) else {
        return false;
    };
    match (before.get(time), version.get(time)) {
        (Value::Time(before_ms), Value::Time(now_ms)) => now_ms < before_ms,
        _ => false,
    }
}

/// The complete version: a change record takes the fields that it does not name, or that it marks
/// as unchanged, from the version before. Without one it is taken whole.
pub(super) fn complete(catalog: &Catalog, before: Option<Row<'_>>, row: Row<'_>) -> RowBatch {
    let table = catalog.table_at(row.table());
    let mut version = RowBatch::new();
    let mut builder = version.start(
        catalog,
        row.table(),
        Operation::Upsert,
        row.position(),
        row.known_ms(),
    );
    for field in &table.fields {
        let value = match before {
            Some(before) if !table.carries(row, field.id) => before.get(field.id),
            _ => row.get(field.id),
        };
        builder.set(field.id, value);
    }
    builder.finish();
    version
}
