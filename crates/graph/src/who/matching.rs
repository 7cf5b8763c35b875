//! Domains that entities name: claims by roots, and the members that seek a root.

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::encoding::sorted;
use crate::ids::EntityId;

/// The domains that an entity's current version names, in the order of its fields.
pub(crate) type NamedDomains = SmallVec<[EntityId; 1]>;

/// Domains by entity, and entities by domain.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Matching {
    #[serde(serialize_with = "sorted")]
    named: FxHashMap<EntityId, NamedDomains>,
    /// Root rows that name a domain, which leads to one of them.
    #[serde(serialize_with = "sorted")]
    claims: FxHashMap<EntityId, Vec<EntityId>>,
    /// Member rows that name a domain, in the order of first sight.
    #[serde(serialize_with = "sorted")]
    seekers: FxHashMap<EntityId, Vec<EntityId>>,
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
            index.entry(*domain).or_default().push(entity);
            changed.push(*domain);
        }
        changed
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
