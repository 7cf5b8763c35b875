//! Accumulated state of which some events may still turn out not to count.
//!
//! Sums forget what they would need to take an event back exactly: the newest time before it, the
//! entry that it displaced. So events whose fate is open are kept beside the sums of all settled
//! ones, and the state is made anew from both whenever a fate changes. Readers see the state alone.
//!
//! A retraction settles the state first: it would otherwise be exact while its event is open and
//! estimated afterwards, and the result would depend on when days were closed.

use std::fmt::Debug;
use std::ops::Deref;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::state::cell::StateRules;
use crate::state::events::Undo;

/// State that events are added to, in any order.
pub trait Accumulated: Clone + Debug + Default + PartialEq {
    /// An event that owns all that the state takes of it.
    type Event: Clone + Debug + PartialEq + Serialize + DeserializeOwned;
    /// Adds an event.
    fn include(&mut self, rules: &StateRules, event: &Self::Event);
    /// Takes back an event that the state contains.
    fn retract(&mut self, rules: &StateRules, event: &Self::Event) -> Undo;
    /// Adds all events of another state.
    fn unite(&mut self, rules: &StateRules, other: Self);
}

/// An event that may still turn out not to count.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OpenEvent<E> {
    /// Event time, milliseconds.
    pub time_ms: i64,
    /// Fingerprint of the event: breaks ties of time.
    pub fingerprint: u64,
    /// Whether the event counts as things are.
    pub is_counted: bool,
    /// Whether the settled state has the event, if it counts.
    pub is_settled: bool,
    pub event: E,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(bound(serialize = "S: Serialize", deserialize = "S: DeserializeOwned"))]
struct Open<S: Accumulated> {
    /// The state of all events but those that are still to be settled.
    settled: S,
    /// Ascending by time and fingerprint.
    events: Vec<OpenEvent<S::Event>>,
}

impl<S: Accumulated> Open<S> {
    /// Adds all open events that count to the settled state. They stay open.
    fn settle(&mut self, rules: &StateRules) {
        for event in &mut self.events {
            if event.is_counted && !event.is_settled {
                self.settled.include(rules, &event.event);
            }
            event.is_settled = true;
        }
    }
    fn remove(&mut self, fingerprint: u64) -> Option<OpenEvent<S::Event>> {
        let mut events = self.events.iter();
        let at = events.position(|event| event.fingerprint == fingerprint)?;
        Some(self.events.remove(at))
    }
}

/// A state with its open events. Most have none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(bound(serialize = "S: Serialize", deserialize = "S: DeserializeOwned"))]
pub struct Revisable<S: Accumulated> {
    now: S,
    open: Option<Box<Open<S>>>,
}

impl<S: Accumulated> Deref for Revisable<S> {
    type Target = S;
    fn deref(&self) -> &S {
        &self.now
    }
}

impl<S: Accumulated> Revisable<S> {
    /// Adds an event that counts for good.
    pub(crate) fn include(&mut self, rules: &StateRules, event: &S::Event) {
        self.now.include(rules, event);
        if let Some(open) = &mut self.open {
            open.settled.include(rules, event);
        }
    }

    /// Takes something back by `subtract`, from the state of all events.
    pub(crate) fn exclude(
        &mut self,
        rules: &StateRules,
        subtract: impl FnOnce(&mut S) -> Undo,
    ) -> Undo {
        let Some(open) = &mut self.open else {
            return subtract(&mut self.now);
        };
        open.settle(rules);
        let undo = subtract(&mut open.settled);
        self.renew(rules);
        undo
    }

    /// Adds all events of another state, with its open ones.
    pub(crate) fn unite(&mut self, rules: &StateRules, other: Self) {
        if self.open.is_none() && other.open.is_none() {
            self.now.unite(rules, other.now);
            return;
        }
        let (mut settled, mut events) = std::mem::take(self).parts();
        let (others, more) = other.parts();
        settled.unite(rules, others);
        events.extend(more);
        events.sort_by_key(|event| (event.time_ms, event.fingerprint));
        self.open = Some(Box::new(Open { settled, events }));
        self.renew(rules);
    }

    /// The state of settled events, and the open ones.
    fn parts(self) -> (S, Vec<OpenEvent<S::Event>>) {
        match self.open {
            Some(open) => (open.settled, open.events),
            None => (self.now, Vec::new()),
        }
    }

    /// Adds an event that may still turn out not to count.
    pub(crate) fn open(&mut self, rules: &StateRules, event: OpenEvent<S::Event>) {
        let open = self.open.get_or_insert_with(|| {
            Box::new(Open {
                settled: self.now.clone(),
                events: Vec::new(),
            })
        });
        if event.is_counted {
            self.now.include(rules, &event.event);
        }
        let order = |e: &OpenEvent<S::Event>| (e.time_ms, e.fingerprint);
        let at = open.events.partition_point(|e| order(e) < order(&event));
        open.events.insert(at, event);
    }

    /// Decides anew whether open events count, by fingerprint.
    pub(crate) fn decide(&mut self, rules: &StateRules, decisions: &[(u64, bool)]) {
        let Some(open) = &mut self.open else {
            return;
        };
        for event in &mut open.events {
            let decision = decisions.iter().find(|(of, _)| *of == event.fingerprint);
            let counts = decision.map_or(event.is_counted, |(_, counts)| *counts);
            if event.is_settled && counts != event.is_counted {
                match counts {
                    true => open.settled.include(rules, &event.event),
                    false => drop(open.settled.retract(rules, &event.event)),
                }
            }
            event.is_counted = counts;
        }
        self.renew(rules);
    }

    /// Takes an open event back.
    pub(crate) fn withdraw(&mut self, rules: &StateRules, fingerprint: u64) -> Undo {
        let Some(open) = &mut self.open else {
            return Undo::Unmatched;
        };
        open.settle(rules);
        let Some(event) = open.remove(fingerprint) else {
            return Undo::Unmatched;
        };
        let undo = match event.is_counted {
            true => open.settled.retract(rules, &event.event),
            false => Undo::Exact,
        };
        let is_last = open.events.is_empty();
        self.renew(rules);
        if is_last {
            self.open = None;
        }
        undo
    }

    /// Ends the wait for an open event: it counts for good, or never.
    pub(crate) fn close(&mut self, rules: &StateRules, fingerprint: u64) {
        let Some(open) = &mut self.open else {
            return;
        };
        let Some(event) = open.remove(fingerprint) else {
            return;
        };
        if event.is_counted && !event.is_settled {
            open.settled.include(rules, &event.event);
        }
        if open.events.is_empty() {
            self.open = None;
        }
    }

    /// Makes the state anew from settled and open events.
    fn renew(&mut self, rules: &StateRules) {
        if let Some(open) = &self.open {
            self.now = open.settled.clone();
            let to_add = |event: &&OpenEvent<_>| event.is_counted && !event.is_settled;
            let counted = open.events.iter().filter(to_add);
            counted.for_each(|event| self.now.include(rules, &event.event));
        }
    }

    /// Fingerprints of open events, with whether each counts.
    pub(crate) fn open_events(&self) -> impl Iterator<Item = (u64, bool)> {
        let events = self.open.iter().flat_map(|open| &open.events);
        events.map(|event| (event.fingerprint, event.is_counted))
    }

    /// Bytes of open events on the heap, roughly.
    pub(crate) fn open_bytes(&self) -> usize {
        self.open.as_ref().map_or(0, |open| {
            size_of::<Open<S>>() + open.events.capacity() * size_of::<OpenEvent<S::Event>>()
        })
    }
}
