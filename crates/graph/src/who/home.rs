//! Homes: the entity or domain that each entity belongs to.
//!
//! 1. An absorbed entity belongs to its survivor.
//! 2. A member belongs to the owner that its version names, else to the owner of an entity that it
//!    is joined with.
//! 3. Else it belongs to the first domain of its own that leads to a root. A domain belongs to the
//!    root that names it, of several to the one with the smallest key, or the one that the
//!    option `match_by` chooses.
//! 4. Else it belongs to the entity that its events name beside it: rows of an export may never
//!    come, or years after the events.
//! 5. Else it belongs to the first domain that it names, else it stands alone.
//!    So does every [outsider](crate::who::outsiders), whatever it names.
//!
//! Following homes leads to the anchor of the cell. Members of a domain without a root share a
//! provisional cell of that domain.
//!
//! Decision: docs/decisions/0040-whose-a-row-is.md

use smallvec::SmallVec;

use crate::ids::EntityId;
use crate::who::Entities;
use crate::who::matching::{SharedBy, plain_domain};

/// The way by which a member finds its root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RootFoundBy {
    /// The version of the member names an owner.
    Reference,
    /// An entity that it is joined with names an owner.
    Link,
    /// A domain of the member leads to a root.
    Domain,
    /// Events name another entity beside the member.
    Events,
    /// The member names a domain, which leads to no root yet.
    ProvisionalDomain,
    /// There is none: the member stands alone.
    Nothing,
    /// There is none: the member is an outsider.
    Outside,
}

impl Entities {
    /// The home of an entity that was not absorbed, and the way it was found. A root has none.
    pub fn home(&self, entity: EntityId) -> (Option<EntityId>, RootFoundBy) {
        if self.is_root(entity) {
            return (None, RootFoundBy::Reference);
        }
        if self.outsider(entity).is_some() {
            return (None, RootFoundBy::Outside);
        }
        let group = self.identity.group(entity).iter().copied();
        let others = group.filter(|e| *e != entity);
        let joined = || std::iter::once(entity).chain(others.clone());
        for named_by in joined() {
            let owner = self.directory.owner(named_by);
            let Some(owner) = owner.filter(|o| self.identity.survivor(*o) != entity) else {
                continue;
            };
            return match named_by == entity {
                true => (Some(owner), RootFoundBy::Reference),
                false => (Some(owner), RootFoundBy::Link),
            };
        }
        let mut domains = joined().flat_map(|e| self.matching.named(e).iter().copied());
        let leads = |domain: &EntityId| self.directory.parent(*domain).is_some();
        if let Some(domain) = domains.clone().find(leads) {
            return (Some(domain), RootFoundBy::Domain);
        }
        let companies = joined().filter_map(|e| self.directory.company(e));
        let mut others = companies.filter(|company| self.identity.survivor(*company) != entity);
        if let Some(company) = others.next() {
            return (Some(company), RootFoundBy::Events);
        }
        match domains.next() {
            Some(domain) => (Some(domain), RootFoundBy::ProvisionalDomain),
            None => (None, RootFoundBy::Nothing),
        }
    }

    /// The root that a domain leads to: of those that name it, the one with the smallest key. Of a
    /// shared domain `match_by` may choose another one, or none.
    pub fn claimant(&self, domain: EntityId) -> Option<EntityId> {
        let claims = self.matching.claims(domain).iter();
        let roots: SmallVec<[EntityId; 4]> =
            claims.map(|root| self.identity.survivor(*root)).collect();
        let smallest = roots
            .iter()
            .copied()
            .min_by(|a, b| self.directory.order(*a, *b))?;
        let is_shared = roots.iter().any(|root| *root != smallest);
        match self.shared_by {
            SharedBy::Agreement if is_shared => {
                let key = self.directory.key(domain);
                (plain_domain(key) != &**key).then_some(smallest)
            }
            SharedBy::Parent if is_shared => {
                let topmost = roots
                    .iter()
                    .copied()
                    .filter(|root| self.is_topmost(*root, &roots));
                let top = topmost.min_by(|a, b| self.directory.order(*a, *b));
                // Parents in a ring have no top.
                Some(top.unwrap_or(smallest))
            }
            _ => Some(smallest),
        }
    }

    /// Whether no row of a root names another one of some roots as its parent.
    fn is_topmost(&self, root: EntityId, roots: &[EntityId]) -> bool {
        let alone = [root];
        let rows = match self.identity.group(root) {
            [] => &alone[..],
            joined => joined,
        };
        let mut parents = rows.iter().filter_map(|row| self.matching.parent(*row));
        !parents.any(|parent| {
            let parent = self.identity.survivor(parent);
            parent != root && roots.contains(&parent)
        })
    }
}
