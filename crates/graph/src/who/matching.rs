//! Domains that entities name: claims by roots, and the members that seek a root.

use smallvec::SmallVec;

use crate::ids::EntityId;
use crate::options::{GraphOptions, ULTIMATE_PARENT};
use crate::pieces::KeptMap;

/// The domains that an entity's current version names, in the order of its fields.
pub(crate) type NamedDomains = SmallVec<[EntityId; 1]>;

/// Domains by entity, and entities by domain.
#[derive(Clone, Debug, Default)]
pub(crate) struct Matching {
    pub(crate) named: KeptMap<EntityId, NamedDomains>,
    /// Root rows that name a domain, which leads to one of them.
    pub(crate) claims: KeptMap<EntityId, Vec<EntityId>>,
    /// Member rows that name a domain, in the order of first sight.
    pub(crate) seekers: KeptMap<EntityId, Vec<EntityId>>,
    /// The parent that a root row names, where shared domains lead to the topmost root.
    pub(crate) parents: KeptMap<EntityId, EntityId>,
    /// The root rows that name a parent, in the order of first sight.
    pub(crate) children: KeptMap<EntityId, Vec<EntityId>>,
}

/// The separator of a domain and the value that members and roots must agree in.
const AGREED: &str = " / ";

/// The key of a domain together with a value, as `acme.com / de`; upper case does not matter.
pub(crate) fn agreed_domain(domain: &str, value: &str) -> Option<String> {
    let value = value.trim().to_lowercase();
    (!value.is_empty()).then(|| format!("{domain}{AGREED}{value}"))
}

/// The domain of a key, without a value.
pub(crate) fn plain_domain(key: &str) -> &str {
    key.split_once(AGREED).map_or(key, |(domain, _)| domain)
}

/// The way to the right one of several roots that name a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SharedBy {
    /// The smallest key.
    Key,
    /// A value that member and root must agree in; without one a shared domain leads nowhere.
    Agreement,
    /// The root whose parent is none of the others.
    Parent,
}

impl SharedBy {
    pub fn new(options: &GraphOptions) -> Self {
        match options.match_by.as_deref() {
            None => Self::Key,
            Some(ULTIMATE_PARENT) => Self::Parent,
            Some(_) => Self::Agreement,
        }
    }
}

impl Matching {
    /// The domains that an entity names, in the order of its fields.
    pub(crate) fn named(&self, entity: EntityId) -> &[EntityId] {
        self.named.get(&entity).map_or(&[], |named| named)
    }
    /// Replaces the domains that an entity names. Returns those that were added or dropped.
    pub(crate) fn rename(
        &mut self,
        entity: EntityId,
        is_root: bool,
        named: NamedDomains,
    ) -> NamedDomains {
        let before = if named.is_empty() {
            self.named.remove(&entity)
        } else {
            self.named.insert(entity, named.clone())
        };
        let before = before.unwrap_or_default();
        let index = if is_root {
            &mut self.claims
        } else {
            &mut self.seekers
        };
        let dropped = before.iter().filter(|d| !named.contains(d));
        let mut changed: NamedDomains = dropped.copied().collect();
        for domain in &changed {
            let entities = index
                .get_mut(domain)
                .expect("an entity is listed under each domain that it names");
            entities.retain(|e| *e != entity);
            if entities.is_empty() {
                index.remove(domain);
            }
        }
        for domain in named.iter().filter(|d| !before.contains(d)) {
            index.entry_or(*domain, Vec::new).push(entity);
            changed.push(*domain);
        }
        changed
    }
    /// Replaces the parent that a root row names. Returns whether that changed anything.
    pub(crate) fn set_parent(&mut self, root: EntityId, parent: Option<EntityId>) -> bool {
        let before = match parent {
            Some(parent) => self.parents.insert(root, parent),
            None => self.parents.remove(&root),
        };
        if before == parent {
            return false;
        }
        if let Some(children) = before.and_then(|before| self.children.get_mut(&before)) {
            children.retain(|child| *child != root);
        }
        if let Some(parent) = parent {
            self.children.entry_or(parent, Vec::new).push(root);
        }
        true
    }
    /// The parent that a root row names.
    pub(crate) fn parent(&self, root: EntityId) -> Option<EntityId> {
        self.parents.get(&root).copied()
    }
    /// The root rows that name a parent.
    pub(crate) fn children(&self, parent: EntityId) -> &[EntityId] {
        self.children.get(&parent).map_or(&[], |roots| roots)
    }
    /// The root rows that name a domain.
    pub(crate) fn claims(&self, domain: EntityId) -> &[EntityId] {
        self.claims.get(&domain).map_or(&[], |roots| roots)
    }
    /// All domains that a root names.
    pub(crate) fn claimed(&self) -> impl Iterator<Item = EntityId> {
        self.claims.keys().copied()
    }
    /// The member rows that name a domain.
    pub(crate) fn seekers(&self, domain: EntityId) -> &[EntityId] {
        self.seekers.get(&domain).map_or(&[], |members| members)
    }
}
