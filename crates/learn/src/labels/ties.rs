//! Events that name a root beside a member before any row ties the two.
//!
//! Some systems write the account onto the old activities of a lead when it converts. In an export
//! these rows look as if the account had been known all along, so that a lead's past counts for
//! the account before its conversion, and more often for accounts that went on to buy.
//!
//! Two things tell. Members whose own rows lead nowhere are named beside a root only if a later row
//! ties them to it ([`FilledIn`]). Or, where files hold one row for each member, the share of such
//! events before anchors differs between the labels by more than chance ([`TieShares`]).
//!
//! Decision: docs/decisions/0051-accounts-written-onto-old-events.md

use leadpulse_graph::{EntityId, Graph, owners_of};
use leadpulse_schema::units::DAY_MS;
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
        let mut filled_in = FilledIn::default();
        let mut by_root = FxHashMap::default();
        for (root, namings) in &self.0 {
            let mut ties = Tied::default();
            let mut members: FxHashMap<EntityId, Pair> = FxHashMap::default();
            for naming in namings {
                ties.known_ms.push(naming.known_ms);
                let pair = members.entry(naming.member).or_insert_with(|| Pair {
                    tied_ms: owners.tied_since(naming.member, *root),
                    homeless_ms: None,
                });
                let is_early = pair.tied_ms.is_none_or(|tied_ms| tied_ms > naming.known_ms);
                if is_early && owners.is_homeless(naming.member, naming.known_ms) {
                    let first_ms = pair.homeless_ms.get_or_insert(naming.known_ms);
                    *first_ms = naming.known_ms.min(*first_ms);
                }
                if let Some(tied_ms) = pair.tied_ms.filter(|_| is_early) {
                    ties.early.push((naming.known_ms, tied_ms));
                }
            }
            members.values().for_each(|pair| filled_in.add(*pair));
            ties.known_ms.sort_unstable();
            by_root.insert(*root, ties);
        }
        Ties { by_root, filled_in }
    }
}

/// A member that events name beside a root.
#[derive(Clone, Copy, Debug)]
struct Pair {
    /// When a row tied the member to the root, milliseconds.
    tied_ms: Option<i64>,
    /// When an event first named the root while the member's own rows led nowhere, milliseconds.
    homeless_ms: Option<i64>,
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
pub(crate) struct Ties {
    by_root: FxHashMap<EntityId, Tied>,
    filled_in: FilledIn,
}

impl Ties {
    /// Adds what an anchor of a root sees, milliseconds, under the label that it has.
    pub(crate) fn add(&self, shares: &mut TieShares, root: EntityId, anchor_ms: i64, label: f64) {
        shares.filled_in = self.filled_in;
        let Some(tied) = self.by_root.get(&root) else {
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
        if early > 0 {
            of.anchors += 1;
            of.roots.add(root);
        }
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
    pub anchors: usize,
    /// The roots of those anchors.
    pub roots: RootSketch,
}

impl TieShare {
    /// The share of events whose tie became known after the anchor; 0 without events.
    pub fn ratio(self) -> f64 {
        self.early as f64 / self.events.max(1) as f64
    }
}

/// The number of different roots, estimated by linear counting: one bit of 512 each (Whang and
/// others, 1990). Within a twentieth up to some hundred roots; a full sketch says 3,000.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RootSketch([u64; 8]);

impl RootSketch {
    fn add(&mut self, root: EntityId) {
        // Counting by collisions needs places as chance would give them. Multiples of a constant
        // spread numbers that follow each other too evenly; this is the end of MurmurHash3.
        let mut hash = root.0;
        hash = (hash ^ (hash >> 16)).wrapping_mul(0x85eb_ca6b);
        hash = (hash ^ (hash >> 13)).wrapping_mul(0xc2b2_ae35);
        let place = (hash ^ (hash >> 16)) % 512;
        self.0[place as usize / 64] |= 1 << (place % 64);
    }

    /// The estimated number.
    pub fn count(self) -> f64 {
        let unset: u32 = self.0.iter().map(|word| word.count_zeros()).sum();
        512.0 * (512.0 / f64::from(unset).max(1.5)).ln()
    }
}

/// Members that events name beside a root while the members' own rows lead to none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FilledIn {
    /// Members that a row tied to that root a week later or more.
    pub tied: usize,
    /// Members that no row ever tied to it.
    pub untied: usize,
}

/// A tie this soon after an event is one that another system was slow to pass on.
const SLOW_MS: i64 = 7 * DAY_MS;
/// Fewer members may all have been tied later by chance.
const LEAST_FILLED_IN: usize = 10;
/// Of members that are named when they are met, at most this many in one are never tied.
const TIED_TO_UNTIED: usize = 10;

impl FilledIn {
    fn add(&mut self, pair: Pair) {
        match (pair.homeless_ms, pair.tied_ms) {
            (Some(named_ms), Some(tied_ms)) => {
                self.tied += usize::from(tied_ms - named_ms >= SLOW_MS);
            }
            (Some(_), None) => self.untied += 1,
            (None, _) => {}
        }
    }

    /// Whether events name only what later rows say: the root was written onto them afterwards.
    pub fn is_leak(self) -> bool {
        self.tied >= LEAST_FILLED_IN && self.tied >= TIED_TO_UNTIED * self.untied
    }
}

/// Events that name a root before any row ties the member beside it to the root, by label.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TieShares {
    pub positive: TieShare,
    pub negative: TieShare,
    pub filled_in: FilledIn,
}

/// One label has this many times the share of the other: a leak.
const LEAK_RATIO: f64 = 2.0;
/// Below this many anchors with such events, the ratio is chance.
const LEAK_ANCHORS: usize = 20;
/// Standard deviations beyond which a difference between labels is none of chance.
const LEAK_DEVIATIONS: f64 = 3.0;

impl TieShares {
    /// Whether early ties tell the label, or that roots were written onto old events.
    pub fn is_leak(&self) -> bool {
        let anchors = self.positive.anchors + self.negative.anchors;
        let (positive, negative) = (self.positive.ratio(), self.negative.ratio());
        let has_both = self.positive.events > 0 && self.negative.events > 0;
        let differs = positive > LEAK_RATIO * negative || negative > LEAK_RATIO * positive;
        let is_told = has_both && differs && self.deviations() >= LEAK_DEVIATIONS;
        anchors >= LEAK_ANCHORS && (is_told || self.filled_in.is_leak())
    }

    /// The difference between the anchors of positives that see early ties and those expected by
    /// their share of events, in standard deviations. Anchors of one root see the same events, so
    /// that many of them count as one.
    fn deviations(&self) -> f64 {
        let (positive, negative) = (self.positive.anchors as f64, self.negative.anchors as f64);
        let events = self.positive.events + self.negative.events;
        let share = self.positive.events as f64 / events.max(1) as f64;
        let anchors = positive + negative;
        let roots = self.positive.roots.count() + self.negative.roots.count();
        let anchors_of_one = (anchors / roots.max(1.0)).max(1.0);
        let variance = anchors * share * (1.0 - share) * anchors_of_one;
        (positive - anchors * share).abs() / variance.sqrt().max(f64::MIN_POSITIVE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sketch(roots: std::ops::Range<u32>) -> RootSketch {
        let mut sketch = RootSketch::default();
        roots.for_each(|root| sketch.add(EntityId(root)));
        sketch
    }

    #[test]
    fn an_anchor_sees_early_what_is_tied_after_it() {
        let tied = Tied {
            known_ms: vec![10, 20, 30, 60],
            early: vec![(10, 100), (20, 25), (60, 80)],
        };
        let ties = Ties {
            by_root: [(EntityId(1), tied)].into_iter().collect(),
            filled_in: FilledIn::default(),
        };
        let mut shares = TieShares::default();
        ties.add(&mut shares, EntityId(1), 50, 1.0);
        ties.add(&mut shares, EntityId(1), 24, 0.0);
        ties.add(&mut shares, EntityId(2), 50, 1.0);
        let share = |events, early| TieShare {
            events,
            early,
            anchors: 1,
            roots: sketch(1..2),
        };
        assert_eq!(shares.positive, share(3, 1));
        assert_eq!(shares.negative, share(2, 2));
    }

    #[test]
    fn a_sketch_counts_roots_once_and_nearly_right() {
        for (roots, margin) in [(0, 0.0), (1, 0.01), (40, 4.0), (300, 30.0)] {
            let mut found = sketch(7..7 + roots);
            assert!(
                (found.count() - f64::from(roots)).abs() <= margin,
                "{roots}"
            );
            let before = found;
            (7..7 + roots).for_each(|root| found.add(EntityId(root)));
            assert_eq!(found, before);
        }
        assert!(sketch(0..100_000).count() < 4_000.0);
    }

    #[test]
    fn shares_leak_if_one_label_has_twice_the_other_and_not_by_chance() {
        // Early events, anchors that see them, and the roots of those.
        let share = |early, anchors, roots: u32| TieShare {
            events: 1000,
            early,
            anchors,
            roots: sketch(0..roots),
        };
        let check = |positive, negative, expected| {
            let filled_in = FilledIn::default();
            let shares = TieShares {
                positive,
                negative,
                filled_in,
            };
            assert_eq!(shares.is_leak(), expected, "{shares:?}");
        };
        check(share(41, 35, 30), share(20, 5, 5), true);
        check(share(0, 0, 0), share(20, 20, 20), true);
        check(share(40, 35, 30), share(20, 5, 5), false);
        check(share(41, 15, 15), share(20, 4, 4), false);
        check(TieShare::default(), share(20, 20, 20), false);
        // Three roots, though many of their anchors.
        check(share(41, 35, 3), share(20, 5, 1), false);
    }

    #[test]
    fn roots_filled_in_later_leak_whatever_the_labels() {
        let day = |day: i64| Some(day * DAY_MS);
        let check = |pairs: &[(Option<i64>, Option<i64>)], expected: bool| {
            let mut filled_in = FilledIn::default();
            for (homeless_ms, tied_ms) in pairs {
                filled_in.add(Pair {
                    tied_ms: *tied_ms,
                    homeless_ms: *homeless_ms,
                });
            }
            assert_eq!(filled_in.is_leak(), expected, "{filled_in:?}");
        };
        check(&[(day(3), day(40)); 10], true);
        check(&[(day(3), day(40)); 9], false);
        // Another system was slow to pass it on; the row itself came late.
        check(&[(day(3), day(5)); 50], false);
        check(&[(None, day(40)); 50], false);
        // Events name roots of members that are never tied, too.
        let mut honest = vec![(day(3), day(40)); 50];
        honest.extend([(day(3), None); 5]);
        check(&honest, true);
        honest.push((day(3), None));
        check(&honest, false);
    }
}
