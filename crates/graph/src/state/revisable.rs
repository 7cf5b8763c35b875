//! Accumulated state of which some events may still turn out not to count.
//!
//! Sums forget what they would need to take an event back exactly: the newest time before it, the
//! entry that it displaced. So events whose fate is open are kept beside the sums of all settled
//! ones, and the state is made anew from both whenever a fate changes. Readers see the state alone.

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
    pub event: E,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(bound(serialize = "S: Serialize", deserialize = "S: DeserializeOwned"))]
struct Open<S: Accumulated> {
    /// The state of all events but the open ones.
    settled: S,
    /// Ascending by time and fingerprint.
    events: Vec<OpenEvent<S::Event>>,
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

    /// Takes something back from the state of settled events by `subtract`.
    pub(crate) fn exclude(
        &mut self,
        rules: &StateRules,
        subtract: impl FnOnce(&mut S) -> Undo,
    ) -> Undo {
        let Some(open) = &mut self.open else {
            return subtract(&mut self.now);
        };
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
            event.is_counted = decision.map_or(event.is_counted, |(_, counts)| *counts);
        }
        self.renew(rules);
    }

    /// Drops an open event: it is as if it had never come.
    pub(crate) fn withdraw(&mut self, rules: &StateRules, fingerprint: u64) {
        let Some(open) = &mut self.open else {
            return;
        };
        open.events.retain(|event| event.fingerprint != fingerprint);
        let is_last = open.events.is_empty();
        self.renew(rules);
        if is_last {
            self.open = None;
        }
    }

    /// Ends the wait for an open event: it counts for good, or never.
    pub(crate) fn close(&mut self, rules: &StateRules, fingerprint: u64) {
        let Some(open) = &mut self.open else {
            return;
        };
        let is_it = |event: &OpenEvent<S::Event>| event.fingerprint == fingerprint;
        let Some(at) = open.events.iter().position(is_it) else {
            return;
        };
        let event = open.events.remove(at);
        if event.is_counted {
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
            let counted = open.events.iter().filter(|event| event.is_counted);
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
