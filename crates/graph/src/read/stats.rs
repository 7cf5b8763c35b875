//! Counts of entities, cells and memory, and of the ways by which members found their root.

use leadpulse_schema::Role;
use serde::Serialize;

use crate::graph::Graph;
use crate::ids::EntityId;
use crate::state::nodes::nodes_bytes;
use crate::who::home::RootFoundBy;
use crate::who::outsiders::Outsider;

/// The size of a graph.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GraphSize {
    /// Known entities per table, in table order.
    pub known: Vec<usize>,
    /// Named but unknown entities per table, in table order.
    pub stubs: Vec<usize>,
    /// Known entities whose source reported a gap in their changes, per table, in table order.
    pub stale: Vec<usize>,
    /// Cells that contain a node.
    pub cells: usize,
    /// Hub nodes with sums.
    pub hubs: usize,
    /// Event fingerprints kept against duplicates.
    pub fingerprints: usize,
    /// Those of them that are kept for good: of outcome tables, and of tables whose rows carry
    /// their own known time.
    pub fingerprints_for_good: usize,
    /// Events kept one by one, because they may still turn out to be of a burst.
    pub open_events: usize,
    /// Bytes of all nodes in memory and of the memory of newest versions, roughly.
    pub bytes: usize,
}

/// Counts of the ways by which members found their root, of joined rows, and of retractions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct IdentityStats {
    /// Known members whose version names an owner.
    pub by_reference: u64,
    /// Known members with the owner of an entity that they are joined with.
    pub by_link: u64,
    /// Known members whose domain leads to a root.
    pub by_domain: u64,
    /// Known members with the entity that their events name beside them.
    pub by_events: u64,
    /// Known members whose domain leads to no root yet: they share the domain's cell.
    pub provisional: u64,
    /// Known members that stand alone.
    pub unresolved: u64,
    /// Known members with an address of an own domain: they count nowhere.
    pub own: u64,
    /// Known members with an address of a competitor's domain: they count nowhere.
    pub competitors: u64,
    /// Events of bursts, which count as no engagement.
    pub burst_events: u64,
    /// Domains that several roots name.
    pub ambiguous_domains: u64,
    /// Entities joined into another of their table.
    pub merged: u64,
    /// Entities joined into one of another table.
    pub converted: u64,
    /// Retractions that could not restore everything: the newest event's amounts, a slot's newest
    /// time, entries that a full list had dropped.
    pub inexact_retractions: u64,
    /// Retractions that found nothing to undo and changed nothing.
    pub unmatched_retractions: u64,
    /// Events refused because their retraction had come first.
    pub cancelled_events: u64,
}

/// A domain that several roots name: who is matched by it belongs to one of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedDomain {
    pub domain: String,
    /// Keys of the roots that name it, ascending; those merged into another are not listed.
    pub roots: Vec<String>,
    /// Key of the root that gets its members: the smallest of `roots`, or that of `match_by`.
    pub taken_by: String,
    /// The number of known members that found it by the domain.
    pub members: usize,
}

/// The members that count nowhere, because their address is of an own or a competitor's domain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outsiders {
    /// Known members with an address of an own domain.
    pub own: usize,
    /// Known members with an address of a competitor's domain.
    pub competitors: usize,
    /// Their events, and those of all that they own.
    pub events: u64,
    /// Keys of the roots that name such a domain, ascending. They are scored like others.
    pub roots: Vec<String>,
}

impl Graph {
    /// Counts outsiders and their events. Walks all nodes where domains are left out.
    pub fn outsiders(&self) -> Outsiders {
        let mut found = Outsiders::default();
        let entities = &self.entities;
        if entities.outside.is_empty() {
            return found;
        }
        for (_, cell) in self.cells().filter(|(_, cell)| cell.is_outside()) {
            for node in &cell.nodes {
                found.events += node.events.iter().map(|state| state.total).sum::<u64>();
                if node.absorbed || !node.is_known() {
                    continue;
                }
                match entities.outsider(node.entity) {
                    Some(Outsider::Own) => found.own += 1,
                    Some(Outsider::Competitor) => found.competitors += 1,
                    None => {}
                }
            }
        }
        let claimed = entities.matching.claimed();
        let outside = claimed.filter(|domain| {
            entities
                .outside
                .side(entities.directory.key(*domain))
                .is_some()
        });
        let roots = outside.flat_map(|domain| entities.matching.claims(domain));
        found.roots = roots
            .map(|root| entities.directory.key(self.survivor(*root)).to_string())
            .collect();
        found.roots.sort_unstable();
        found.roots.dedup();
        found
    }

    /// The domains that several roots name, those with most members first. Looks at all domains
    /// and at the members of shared ones.
    pub fn shared_domains(&self) -> Vec<SharedDomain> {
        let entities = &self.entities;
        let key = |root: &EntityId| entities.directory.key(*root).to_string();
        let mut shared: Vec<SharedDomain> = entities
            .matching
            .claimed()
            .filter_map(|domain| {
                let claims = entities.matching.claims(domain).iter();
                let mut roots: Vec<EntityId> = claims.map(|root| self.survivor(*root)).collect();
                roots.sort_unstable_by_key(key);
                roots.dedup();
                let taken_by = entities.claimant(domain).filter(|_| roots.len() > 1)?;
                let is_matched = |member: &&EntityId| {
                    let (home, found_by) = entities.home(**member);
                    home == Some(domain) && found_by == RootFoundBy::Domain
                };
                let members = entities.matching.seekers(domain).iter();
                Some(SharedDomain {
                    domain: entities.directory.key(domain).to_string(),
                    roots: roots.iter().map(key).collect(),
                    taken_by: key(&self.survivor(taken_by)),
                    members: members.filter(is_matched).count(),
                })
            })
            .collect();
        shared.sort_unstable_by(|a, b| (b.members, &a.domain).cmp(&(a.members, &b.domain)));
        shared
    }

    /// Counts entities, cells, hubs and fingerprints. Walks all entities, and the nodes in memory.
    pub fn size(&self) -> GraphSize {
        let tables = self.catalog().tables.len();
        let mut size = GraphSize {
            known: vec![0; tables],
            stubs: vec![0; tables],
            stale: vec![0; tables],
            ..GraphSize::default()
        };
        for (_, table, standing) in self.directory().standings() {
            let counts = match standing.is_known {
                true => &mut size.known,
                false => &mut size.stubs,
            };
            counts[table.index()] += 1;
            size.stale[table.index()] += usize::from(standing.is_stale);
        }
        for (_, cell) in self.cells() {
            size.cells += 1;
            let nodes = cell.nodes.in_memory().unwrap_or_default();
            size.bytes += nodes_bytes(nodes);
        }
        size.hubs = self.hubs.len();
        size.fingerprints = self.gate.len();
        size.fingerprints_for_good = self.gate.kept_for_good();
        size.open_events = self.bursts.len();
        size.bytes += self.newest.heap_bytes();
        size.bytes += self.hubs.row_bytes();
        size.bytes += self.staff.heap_bytes();
        size
    }

    /// Counts ways to a root, joined rows and retractions. Walks all entities.
    pub fn identity(&self) -> IdentityStats {
        let mut stats = IdentityStats {
            cancelled_events: self.gate.cancelled(),
            burst_events: self.bursts.events(),
            ..IdentityStats::default()
        };
        for shard in &self.cells.shards {
            stats.inexact_retractions += shard.book.inexact;
            stats.unmatched_retractions += shard.book.unmatched;
        }
        for (entity, table, standing) in self.directory().standings() {
            if standing.is_absorbed {
                *(if standing.is_merged {
                    &mut stats.merged
                } else {
                    &mut stats.converted
                }) += 1;
            } else if standing.is_known && self.catalog().table_at(table).role == Role::Member {
                let count = match self.entities.home(entity).1 {
                    RootFoundBy::Reference => &mut stats.by_reference,
                    RootFoundBy::Link => &mut stats.by_link,
                    RootFoundBy::Domain => &mut stats.by_domain,
                    RootFoundBy::Events => &mut stats.by_events,
                    RootFoundBy::ProvisionalDomain => &mut stats.provisional,
                    RootFoundBy::Nothing => &mut stats.unresolved,
                    RootFoundBy::Outside => match self.entities.outsider(entity) {
                        Some(Outsider::Competitor) => &mut stats.competitors,
                        Some(Outsider::Own) | None => &mut stats.own,
                    },
                };
                *count += 1;
            }
        }
        let is_ambiguous = |domain: &EntityId| {
            let mut roots = self
                .entities
                .matching
                .claims(*domain)
                .iter()
                .map(|root| self.survivor(*root));
            let first = roots.next();
            roots.any(|root| Some(root) != first)
        };
        stats.ambiguous_domains = self
            .entities
            .matching
            .claimed()
            .filter(is_ambiguous)
            .count() as u64;
        stats
    }
}
