//! What is read from the graph beside cells: who stands for whom, edges, how deals ended, how members found their root.

use serde::Serialize;
use smallvec::SmallVec;

use leadpulse_schema::{RelationId, RelationKind, Role};

use crate::apply::moves::Found;
use crate::graph::Graph;
use crate::state::cell::{Cell, EntityId};
use crate::state::node::{Node, Verdicts};
use crate::who::edges::{Edge, each_once};

/// How the deals of a cell ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcomes {
    /// Won, ever.
    pub won: u32,
    /// Lost, ever.
    pub lost: u32,
    /// Not ended.
    pub open: u32,
    /// The newest one won, milliseconds.
    pub last_won_ms: Option<i64>,
    /// The newest one lost, milliseconds.
    pub last_lost_ms: Option<i64>,
}

/// How members found their root, who was joined with whom, and what retractions could not restore.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct IdentityStats {
    /// Known members whose version names an owner.
    pub by_reference: u64,
    /// Known members that have the owner of one they are joined with.
    pub by_link: u64,
    /// Known members whose domain leads to a root.
    pub by_domain: u64,
    /// Known members whose domain leads to no root yet: they share the domain's cell.
    pub provisional: u64,
    /// Known members that stand alone.
    pub unresolved: u64,
    /// Domains that several roots name.
    pub ambiguous_domains: u64,
    /// Entities joined into another of their table.
    pub merged: u64,
    /// Entities joined into one of another table.
    pub converted: u64,
    /// Retractions that could not restore everything: the newest event's amounts, a slot's newest time, what a ring had dropped.
    pub inexact_retractions: u64,
    /// Retractions that found nothing to undo and changed nothing.
    pub unmatched_retractions: u64,
    /// Events that were held off because their retraction had come before them.
    pub cancelled_events: u64,
}

impl Graph {
    /// The entity that stands for another: itself unless it was absorbed.
    pub fn survivor(&self, entity: EntityId) -> EntityId {
        self.identity.survivor(entity)
    }

    /// Everyone who is joined with an entity, itself included, ascending by (table, key); empty if nobody is.
    pub fn joined(&self, entity: EntityId) -> &[EntityId] {
        self.identity.group(entity)
    }

    /// Who refers to an entity, or was its member before: (relation, who says so), ascending. For one that was absorbed ask its
    /// survivor, whose list holds all. Two of them may be one person: see [`Self::survivor`].
    pub fn incoming(&self, entity: EntityId) -> &[(RelationId, EntityId)] {
        self.incoming.of(entity)
    }

    /// The edges of a node and of those it absorbed, as they lead now: to survivors, each once per relation (a reference since the
    /// earliest time, a former root since the latest), never to itself, and not to a former root that it belongs to again.
    /// Ascending; of a node that was absorbed there are none.
    pub fn edges(&self, node: &Node) -> SmallVec<[Edge; 4]> {
        let mut edges: SmallVec<[Edge; 4]> = SmallVec::new();
        if node.absorbed {
            return edges;
        }
        let joined = self
            .joined(node.entity)
            .iter()
            .filter(|e| **e != node.entity);
        let said = joined
            .map(|e| self.node(*e))
            .chain([node])
            .flat_map(|n| n.edges.iter().copied());
        let anchor = self
            .directory
            .place(node.entity)
            .map(|place| self.cell(place.cell).anchor);
        let is_former = |relation: RelationId| {
            matches!(
                self.catalog().relations[relation.index()].kind,
                RelationKind::Previous
            )
        };
        for Edge {
            relation,
            to,
            since_ms,
        } in said
        {
            let to = self.survivor(to);
            if to != node.entity && !(is_former(relation) && Some(to) == anchor) {
                edges.push(Edge {
                    relation,
                    to,
                    since_ms,
                });
            }
        }
        each_once(edges, is_former)
    }

    /// How a cell's deals ended. Won and lost are outcome events ever, or, where no event table has outcomes, members whose current
    /// value is one (since it became so); open are known members of tables with outcomes whose value is neither.
    pub fn outcomes(&self, cell: &Cell) -> Outcomes {
        let catalog = self.catalog();
        let by_events = catalog
            .tables
            .iter()
            .any(|t| t.role == Role::Event && t.outcome.is_some());
        let mut ended = Verdicts::default();
        let mut open = 0;
        for node in &cell.nodes {
            if let Some(verdicts) = node.verdicts() {
                ended.merge(verdicts);
            }
            let Some(outcome) = catalog
                .table_at(node.table)
                .outcome
                .as_ref()
                .filter(|_| !node.absorbed && node.is_known())
            else {
                continue;
            };
            let since_ms = Some(node.outcome_since_ms);
            match node
                .value(outcome.field)
                .text()
                .and_then(|value| outcome.of(value))
            {
                None => open += 1,
                Some(true) if !by_events => ended.merge(&Verdicts {
                    won: 1,
                    last_won_ms: since_ms,
                    ..Verdicts::default()
                }),
                Some(false) if !by_events => ended.merge(&Verdicts {
                    lost: 1,
                    last_lost_ms: since_ms,
                    ..Verdicts::default()
                }),
                Some(_) => {}
            }
        }
        let Verdicts {
            won,
            lost,
            last_won_ms,
            last_lost_ms,
        } = ended;
        Outcomes {
            won,
            lost,
            open,
            last_won_ms,
            last_lost_ms,
        }
    }

    /// Counts how members found their root, who was joined, and what retractions did. Walks all nodes.
    pub fn identity(&self) -> IdentityStats {
        let mut stats = IdentityStats {
            cancelled_events: self.gate.cancelled(),
            ..IdentityStats::default()
        };
        for shard in &self.shards {
            stats.inexact_retractions += shard.inexact;
            stats.unmatched_retractions += shard.unmatched;
        }
        for node in self.cells().flat_map(|(_, cell)| &cell.nodes) {
            if node.absorbed {
                *(if node.is_merged() {
                    &mut stats.merged
                } else {
                    &mut stats.converted
                }) += 1;
            } else if node.is_known() && self.catalog().table_at(node.table).role == Role::Member {
                let count = match self.home(node.entity).1 {
                    Found::Reference => &mut stats.by_reference,
                    Found::Link => &mut stats.by_link,
                    Found::Domain => &mut stats.by_domain,
                    Found::Provisional => &mut stats.provisional,
                    Found::Not => &mut stats.unresolved,
                };
                *count += 1;
            }
        }
        let is_ambiguous = |domain: &EntityId| {
            let mut roots = self
                .matching
                .claims(*domain)
                .iter()
                .map(|root| self.survivor(*root));
            let first = roots.next();
            roots.any(|root| Some(root) != first)
        };
        stats.ambiguous_domains = self.matching.claimed().filter(is_ambiguous).count() as u64;
        stats
    }
}
