//! The work of an epoch: a time becomes a number of nodes by what nodes cost so far.
//!
//! The machine decides by the numbers alone, and they are in the epoch's record. What a node costs on
//! this computer at this moment stays here.

use crate::epoch::{EpochTally, MeasuredWork, WorkBudget};
use crate::options::EngineOptions;

/// The cost of a node before one was measured, seconds: a slow computer, so that the first epochs are
/// short rather than long.
const NODE_SECONDS: f64 = 500e-6;
/// The cost of an explanation before one was measured, seconds.
const EXPLANATION_SECONDS: f64 = 20e-3;
/// The part of a new measurement in the estimate.
const NEWEST_SHARE: f64 = 0.2;
/// A measurement changes the estimate by no more than this factor: a computer that stood still says
/// nothing about nodes.
const LARGEST_FACTOR: f64 = 4.0;
/// Less work than this is no measurement: its time is mostly fixed.
const LEAST_NODES: u64 = 32;
/// Work of an epoch of history, in that of a live one: nobody waits for its scores, a follower is
/// told by signs that do not wait for epochs, and each epoch writes the state of every policy that
/// it changed.
const HISTORY_FACTOR: u64 = 30;
/// An epoch is offered so many records in any case.
const LEAST_RECORDS: usize = 256;
/// The part of an epoch for explanations.
const EXPLANATION_SHARE: f64 = 0.5;

/// Costs by what was measured so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct WorkCosts {
    node_seconds: f64,
    explanation_seconds: f64,
    /// Records that the next epoch is offered at most: what an epoch gives back is decoded again.
    records: usize,
}

impl Default for WorkCosts {
    fn default() -> Self {
        Self {
            node_seconds: NODE_SECONDS,
            explanation_seconds: EXPLANATION_SECONDS,
            records: usize::MAX,
        }
    }
}

impl WorkCosts {
    /// The bound of the next epoch.
    pub fn budget(self, options: &EngineOptions) -> WorkBudget {
        if let Some(nodes) = options.epoch_nodes {
            return match nodes {
                u64::MAX => WorkBudget::NONE,
                nodes => WorkBudget::of_nodes(nodes),
            };
        }
        let seconds = options.epoch_work_ms as f64 / 1_000.0;
        let amount = |seconds: f64, each: f64| (seconds / each).clamp(1.0, 1e9) as u64;
        WorkBudget {
            nodes: amount(seconds, self.node_seconds),
            explanations: amount(seconds * EXPLANATION_SHARE, self.explanation_seconds),
        }
    }

    /// The bound of an epoch of history, or of a closing tick: nobody waits for its scores, and an epoch
    /// has costs of its own.
    pub fn budget_of_history(self, options: &EngineOptions) -> WorkBudget {
        let budget = self.budget(options);
        match options.epoch_nodes {
            Some(_) => budget,
            None => WorkBudget {
                nodes: budget.nodes.saturating_mul(HISTORY_FACTOR),
                explanations: budget.explanations.saturating_mul(HISTORY_FACTOR),
            },
        }
    }

    /// The most records to offer to the next epoch.
    pub fn records(self, options: &EngineOptions) -> usize {
        self.records.min(options.max_records)
    }

    /// Notes how many records an epoch took, and whether it gave others back.
    pub fn note_taken(&mut self, taken: usize, is_short: bool) {
        self.records = match is_short {
            true => (2 * taken).max(LEAST_RECORDS),
            false => self.records.saturating_mul(2),
        };
    }

    /// Takes the measurements of an epoch into account.
    pub fn note(&mut self, tally: &EpochTally) {
        if tally.scored.count >= LEAST_NODES {
            learn(&mut self.node_seconds, tally.scored);
        }
        learn(&mut self.explanation_seconds, tally.explained);
    }
}

fn learn(estimate: &mut f64, work: MeasuredWork) {
    if work.count == 0 || work.seconds <= 0.0 {
        return;
    }
    let measured = work.seconds / work.count as f64;
    let believed = measured.clamp(*estimate / LARGEST_FACTOR, *estimate * LARGEST_FACTOR);
    *estimate += NEWEST_SHARE * (believed - *estimate);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(nodes: u64, seconds: f64) -> EpochTally {
        let mut tally = EpochTally::default();
        tally.scored.add(nodes, seconds);
        tally
    }

    #[test]
    fn a_budget_follows_the_measured_cost_and_no_single_epoch() {
        let options = EngineOptions {
            epoch_work_ms: 100,
            ..EngineOptions::default()
        };
        let mut costs = WorkCosts::default();
        for _ in 0..100 {
            costs.note(&tally(1_000, 0.1));
        }
        let nodes = costs.budget(&options).nodes;
        assert!((990..=1_010).contains(&nodes), "{nodes} nodes of 100 µs");
        costs.note(&tally(1_000, 60.0));
        let after = costs.budget(&options).nodes;
        assert!(after * 2 > nodes, "one pause: {after} of {nodes}");
        costs.note(&tally(1, 60.0));
        assert_eq!(costs.budget(&options).nodes, after, "too little to measure");
        costs.note(&tally(1_000, 0.0));
        assert_eq!(costs.budget(&options).nodes, after, "without a clock");
    }

    #[test]
    fn an_epoch_is_offered_twice_what_the_one_before_took() {
        let options = EngineOptions::default();
        let mut costs = WorkCosts::default();
        assert_eq!(costs.records(&options), options.max_records);
        costs.note_taken(1_000, true);
        assert_eq!(costs.records(&options), 2_000);
        costs.note_taken(0, true);
        assert_eq!(costs.records(&options), LEAST_RECORDS);
        for _ in 0..10 {
            costs.note_taken(300, false);
        }
        assert_eq!(costs.records(&options), options.max_records);
    }

    #[test]
    fn a_fixed_number_of_nodes_is_no_estimate() {
        let mut costs = WorkCosts::default();
        costs.note(&tally(1_000, 60.0));
        let of = |nodes| EngineOptions {
            epoch_nodes: Some(nodes),
            ..EngineOptions::default()
        };
        assert_eq!(costs.budget(&of(50)), WorkBudget::of_nodes(50));
        assert_eq!(costs.budget(&of(u64::MAX)), WorkBudget::NONE);
    }
}
