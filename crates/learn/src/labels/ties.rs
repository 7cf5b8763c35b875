//! Events that name a root beside a member before any row ties the two.
//!
//! Some systems write the account onto the old activities of a lead when it converts. In an export
//! these rows look as if the account had been known all along, so that a lead's past counts for
//! the account before its conversion, and more often for accounts that went on to buy. The shares
//! of such events before anchors, by label, tell.
//!
//! Decision: docs/decisions/0040-whose-a-row-is.md

use leadpulse_graph::{EntityId, Graph, owners_of};
use leadpulse_schema::{Role, Row};
use rustc_hash::FxHashMap;
use serde::Serialize;

use super::belonging::{Belonging, Owners};

/// An event that names a root beside a member.
#[derive(Clone, Copy, Debug)]
struct Naming {
    known_ms: i64,
    member: EntityId,
}

/// Such events of a walk, by root.
#[derive(Debug, Default)]
pub(crate) struct Namings(FxHashMap<EntityId, Vec<Naming>>);

impl Namings {
    /// Takes an accepted row.
    pub(crate) fn observe(&mut self, graph: &Graph, row: Row<'_>) {
        let catalog = graph.catalog();
        if catalog.table_at(row.table()).role != Role::Event {
            return;
        }
        let mut owners = owners_of(catalog, row);
        let (Some(first), Some((root_table, root_key))) = (
            owners.next(),
            owners.find(|(table, _)| *table == catalog.root().id),
        ) else {
            return;
        };
        let directory = graph.directory();
        let find = |(table, key)| directory.find(directory.of_table(table), key);
        if let (Some(member), Some(root)) = (find(first), find((root_table, root_key)))
            && first.0 != root_table
        {
            let known_ms = row.known_ms();
            self.0
                .entry(root)
                .or_default()
                .push(Naming { known_ms, member });
        }
    }

    /// The events with the times of their ties.
    pub(crate) fn ties(&self, graph: &Graph, belonging: &Belonging) -> Ties {
        let owners = Owners {
            belonging,
            directory: graph.directory(),
            catalog: graph.catalog(),
        };
        let of_root = |(root, namings): (&EntityId, &Vec<Naming>)| {
            let mut tied: FxHashMap<EntityId, Option<i64>> = FxHashMap::default();
            let mut ties = Tied::default();
            for naming in namings {
                ties.known_ms.push(naming.known_ms);
                let tied_ms = *tied
                    .entry(naming.member)
                    .or_insert_with(|| owners.tied_since(naming.member, *root));
                if let Some(tied_ms) = tied_ms.filter(|tied_ms| *tied_ms > naming.known_ms) {
                    ties.early.push((naming.known_ms, tied_ms));
                }
            }
            ties.known_ms.sort_unstable();
            (*root, ties)
        };
        Ties(self.0.iter().map(of_root).collect())
    }
}

/// The events that name a root.
#[derive(Debug, Default)]
struct Tied {
    /// When each became known, ascending, milliseconds.
    known_ms: Vec<i64>,
    /// When each that came before its tie became known, and when the tie did.
    early: Vec<(i64, i64)>,
}

/// Events that name a root beside a member, by root, with the times of their ties.
#[derive(Debug, Default)]
pub(crate) struct Ties(FxHashMap<EntityId, Tied>);

impl Ties {
    /// Adds what an anchor of a root sees, milliseconds, under the label that it has.
    pub(crate) fn add(&self, shares: &mut TieShares, root: EntityId, anchor_ms: i64, label: f64) {
        let Some(tied) = self.0.get(&root) else {
            return;
        };
        let is_seen_early =
            |(known_ms, tied_ms): &&(i64, i64)| (*known_ms..*tied_ms).contains(&anchor_ms);
        let early = tied.early.iter().filter(is_seen_early).count();
        let events = tied
            .known_ms
            .partition_point(|known_ms| *known_ms <= anchor_ms);
        let of = match label > 0.0 {
            true => &mut shares.positive,
            false => &mut shares.negative,
        };
        of.events += events;
        of.early += early;
        of.roots += usize::from(early > 0);
    }
}

/// Events before the anchors of one label.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TieShare {
    /// Events that name a root beside a member.
    pub events: usize,
    /// Those whose tie became known after the anchor.
    pub early: usize,
    /// Anchors with any of the latter.
    pub roots: usize,
}

impl TieShare {
    /// The share of events whose tie became known after the anchor; 0 without events.
    pub fn ratio(self) -> f64 {
        self.early as f64 / self.events.max(1) as f64
    }
}

/// Events that name a root before any row ties the member beside it to the root, by label.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TieShares {
    pub positive: TieShare,
    pub negative: TieShare,
}

/// One label has this many times the share of the other: a leak.
const LEAK_RATIO: f64 = 2.0;
/// Below this many anchors with such events, the ratio is chance.
const LEAK_ANCHORS: usize = 20;

impl TieShares {
    /// Whether the shares differ so much between the labels that they tell the label.
    pub fn is_leak(&self) -> bool {
        let (positive, negative) = (self.positive.ratio(), self.negative.ratio());
        self.positive.roots + self.negative.roots >= LEAK_ANCHORS
            && self.positive.events > 0
            && self.negative.events > 0
            && (positive > LEAK_RATIO * negative || negative > LEAK_RATIO * positive)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_anchor_sees_early_what_is_tied_after_it() {
        let tied = Tied {
            known_ms: vec![10, 20, 30, 60],
            early: vec![(10, 100), (20, 25), (60, 80)],
        };
        let ties = Ties([(EntityId(1), tied)].into_iter().collect());
        let mut shares = TieShares::default();
        ties.add(&mut shares, EntityId(1), 50, 1.0);
        ties.add(&mut shares, EntityId(1), 24, 0.0);
        ties.add(&mut shares, EntityId(2), 50, 1.0);
        let share = |events, early| TieShare {
            events,
            early,
            roots: 1,
        };
        assert_eq!(shares.positive, share(3, 1));
        assert_eq!(shares.negative, share(2, 2));
    }

    #[test]
    fn shares_leak_if_one_label_has_twice_the_other() {
        let share = |early, roots| TieShare {
            events: 1000,
            early,
            roots,
        };
        let is_leak = |positive, negative| TieShares { positive, negative }.is_leak();
        assert!(is_leak(share(41, 15), share(20, 5)));
        assert!(is_leak(share(0, 0), share(20, 20)));
        assert!(!is_leak(share(40, 15), share(20, 5)));
        assert!(!is_leak(share(41, 15), share(20, 4)));
        assert!(!is_leak(TieShare::default(), share(20, 20)));
    }
}
