//! Decayed tallies: the frequency, recency and weight of events by a key.

use serde::{Deserialize, Serialize};

use leadpulse_schema::RelationId;

use crate::ids::EntityId;
use crate::state::decay::{Bank, Landmark, NO_LANDMARK};
use crate::state::events::Undo;

/// A count with a decayed weight (of the longest half-life) and the newest time. Adding commutes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DecayedTally {
    landmark: Landmark,
    /// Relative to the landmark.
    weight: f64,
    count: u32,
    newest_ms: i64,
}

impl DecayedTally {
    /// A tally of no event.
    pub(crate) fn new() -> Self {
        Self {
            landmark: NO_LANDMARK,
            weight: 0.0,
            count: 0,
            newest_ms: i64::MIN,
        }
    }
    /// The decayed weight at `t`.
    pub fn weight_at(&self, bank: &Bank, t_ms: i64) -> f64 {
        self.weight * bank.read(bank.len() - 1, self.landmark, t_ms)
    }
    /// The number of events.
    pub fn count(&self) -> u32 {
        self.count
    }
    /// The newest time, milliseconds.
    pub fn newest_ms(&self) -> i64 {
        self.newest_ms
    }
    pub(crate) fn add(&mut self, bank: &Bank, time_ms: i64) {
        let one = Self {
            landmark: bank.landmark(time_ms),
            weight: 0.0,
            count: 1,
            newest_ms: time_ms,
        };
        let weight = bank.weight(bank.len() - 1, time_ms, one.landmark);
        self.merge(bank, &Self { weight, ..one });
    }
    pub(crate) fn merge(&mut self, bank: &Bank, other: &DecayedTally) {
        let longest = bank.len() - 1;
        let landmark = self.landmark.max(other.landmark);
        self.weight = self.weight * bank.rebase(longest, self.landmark, landmark)
            + other.weight * bank.rebase(longest, other.landmark, landmark);
        self.landmark = landmark;
        self.count += other.count;
        self.newest_ms = self.newest_ms.max(other.newest_ms);
    }
    /// Takes one event back. The newest time is not restored.
    pub(crate) fn retract(&mut self, bank: &Bank, time_ms: i64) -> Undo {
        if self.count == 0 || time_ms > self.newest_ms {
            return Undo::Unmatched;
        }
        self.count -= 1;
        if self.count == 0 {
            *self = Self::new();
            return Undo::Exact;
        }
        self.weight -= bank.weight(bank.len() - 1, time_ms, self.landmark);
        if time_ms == self.newest_ms {
            Undo::Inexact
        } else {
            Undo::Exact
        }
    }
}

/// A hub that events of an entity have touched.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Touch {
    /// Entity of the hub.
    pub hub: EntityId,
    /// Count, weight and newest time of the events.
    pub tally: DecayedTally,
}

impl Touch {
    /// The decayed weight at `t`.
    pub fn weight_at(&self, bank: &Bank, t_ms: i64) -> f64 {
        self.tally.weight_at(bank, t_ms)
    }
}

/// The key of mentions: a relation, and the owner of the events where outsiders are left out.
pub(crate) type MentionedBy = (RelationId, Option<EntityId>);

/// Events of other owners that name an entity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mention {
    /// The relation by which they name the entity.
    pub relation: RelationId,
    /// The owner of the events; `None` where no owner is ever left out, so that all events of a
    /// relation share one tally.
    pub owner: Option<EntityId>,
    /// Count, weight and newest time of the events.
    pub tally: DecayedTally,
}

impl Mention {
    /// The decayed weight at `t`.
    pub fn weight_at(&self, bank: &Bank, t_ms: i64) -> f64 {
        self.tally.weight_at(bank, t_ms)
    }
}

/// A tally by a key `K`: of events that touch a hub, or that mention by a relation.
pub(crate) trait Tallied<K> {
    fn new(key: K) -> Self;
    fn key(&self) -> K;
    fn tally(&mut self) -> &mut DecayedTally;
}

impl Tallied<EntityId> for Touch {
    fn new(hub: EntityId) -> Self {
        Self {
            hub,
            tally: DecayedTally::new(),
        }
    }
    fn key(&self) -> EntityId {
        self.hub
    }
    fn tally(&mut self) -> &mut DecayedTally {
        &mut self.tally
    }
}

impl Tallied<MentionedBy> for Mention {
    fn new((relation, owner): MentionedBy) -> Self {
        Self {
            relation,
            owner,
            tally: DecayedTally::new(),
        }
    }
    fn key(&self) -> MentionedBy {
        (self.relation, self.owner)
    }
    fn tally(&mut self) -> &mut DecayedTally {
        &mut self.tally
    }
}

/// Changes the tallies of some distinct keys in an ascending list. Keys without a tally get a new
/// one.
// New ones are sorted in at once: each on its own would move the list again.
fn change<K: Ord + Copy, T: Tallied<K>, I>(
    list: &mut Vec<T>,
    items: impl IntoIterator<Item = (K, I)>,
    mut with: impl FnMut(&mut DecayedTally, I),
) {
    let known = list.len();
    for (key, item) in items {
        match list[..known].binary_search_by_key(&key, T::key) {
            Ok(at) => with(list[at].tally(), item),
            Err(_) => {
                let mut new = T::new(key);
                with(new.tally(), item);
                list.push(new);
            }
        }
    }
    if list.len() > known {
        // Stable: two ascending runs are merged in linear time.
        list.sort_by_key(T::key);
    }
}

/// Adds one to the tallies of some distinct keys.
pub(crate) fn add<K: Ord + Copy, T: Tallied<K>>(
    list: &mut Vec<T>,
    bank: &Bank,
    keys: &[K],
    time_ms: i64,
) {
    change(list, keys.iter().map(|key| (*key, ())), |tally, ()| {
        tally.add(bank, time_ms)
    });
}

/// Takes one of each key back; a tally that counts nothing is dropped.
pub(crate) fn retract<K: Ord + Copy, T: Tallied<K>>(
    list: &mut Vec<T>,
    bank: &Bank,
    keys: &[K],
    time_ms: i64,
) -> Undo {
    let mut undo = Undo::Exact;
    let mut is_empty = false;
    for key in keys {
        let Ok(at) = list.binary_search_by_key(key, T::key) else {
            undo = Undo::Unmatched;
            continue;
        };
        undo = undo.max(list[at].tally().retract(bank, time_ms));
        is_empty |= list[at].tally().count == 0;
    }
    if is_empty {
        list.retain_mut(|item| item.tally().count > 0);
    }
    undo
}

/// Adds the tallies of one list to another.
pub(crate) fn merge<K: Ord + Copy, T: Tallied<K>>(into: &mut Vec<T>, bank: &Bank, from: Vec<T>) {
    change(
        into,
        from.into_iter().map(|item| (item.key(), item)),
        |tally, mut item| tally.merge(bank, item.tally()),
    );
}
