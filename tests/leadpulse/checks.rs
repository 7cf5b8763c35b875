//! Invariants of the committed records of a deployment, after any run.

use std::collections::{BTreeMap, BTreeSet};

use leadpulse_engine::EpochRecord;
use leadpulse_engine::ports::NextOffset;

use super::scenario::{Alert, Cause, Scenario, Score, Status};

/// Tolerance between scores of different runs and of backtests.
const TOLERANCE: f64 = 1e-5;

/// The committed records of a deployment, with the invariants that hold at any time.
pub struct Committed {
    pub epochs: Vec<EpochRecord>,
    pub scores: Vec<Score>,
    pub alerts: Vec<Alert>,
}

/// Reads the committed records, and checks them.
pub fn committed(scenario: &Scenario) -> Committed {
    let committed = Committed {
        epochs: scenario.epochs(),
        scores: scenario.scores(),
        alerts: scenario.alerts(),
    };
    let (partitions, starts, ends) = scenario.input_log();
    if let Some(layout) = scenario.layout() {
        assert!(layout.is_of(&partitions), "{layout:?}");
    }
    intervals_tile_the_log(&committed.epochs, &starts, &ends);
    every_record_has_one_outcome(&committed.epochs);
    outputs_are_those_of_their_epochs(&committed);
    committed
}

/// Whether an epoch belongs to a closing tick. Of several the last is marked as closing.
fn is_of_closing(epoch: &EpochRecord) -> bool {
    epoch.closing || epoch.work_note().unwrap().is_closing
}

/// Requires intervals from the start to the end of every partition, without gap or overlap. Epochs
/// are numbered without gaps, and time does not go back.
fn intervals_tile_the_log(epochs: &[EpochRecord], starts: &[NextOffset], ends: &[NextOffset]) {
    let mut at: Vec<i64> = starts.iter().map(|start| start.0).collect();
    let mut as_of_ms = i64::MIN;
    for (index, epoch) in epochs.iter().enumerate() {
        assert_eq!(epoch.epoch, index as i64 + 1);
        assert!(
            epoch.as_of >= as_of_ms,
            "as_of goes back in epoch {}",
            epoch.epoch
        );
        as_of_ms = epoch.as_of;
        for (at, interval) in at.iter_mut().zip(&epoch.partitions) {
            assert_eq!(interval.start, *at, "epoch {}", epoch.epoch);
            assert!(interval.end >= interval.start);
            *at = interval.end;
        }
    }
    assert_eq!(
        at,
        ends.iter().map(|end| end.0).collect::<Vec<_>>(),
        "the last epoch ends where the log ends"
    );
}

/// Requires in = accepted + duplicate + unchanged + dead-lettered. Late records and those ahead of the clock
/// are dead letters.
fn every_record_has_one_outcome(epochs: &[EpochRecord]) {
    for epoch in epochs {
        let dead = |reason: &str| {
            epoch
                .dead_lettered
                .iter()
                .filter(|count| count.reason == reason)
                .map(|count| count.count)
                .sum::<i64>()
        };
        let dead_lettered: i64 = epoch.dead_lettered.iter().map(|count| count.count).sum();
        assert_eq!(
            epoch.records() as i64,
            epoch.outcomes().records(),
            "{epoch:?}"
        );
        assert_eq!(epoch.outcomes().dead, dead_lettered, "{epoch:?}");
        assert_eq!(
            (epoch.late, epoch.future),
            (dead("late_beyond_horizon"), dead("future_timestamp")),
            "{epoch:?}"
        );
    }
}

/// Requires every score and alert to belong to a committed epoch, once. Each epoch has as many as
/// its record counts, and alert ids are unique.
fn outputs_are_those_of_their_epochs(committed: &Committed) {
    let mut scores: BTreeMap<i64, i32> = BTreeMap::new();
    for score in &committed.scores {
        let next = scores.entry(score.epoch).or_default();
        assert_eq!(
            score.sequence, *next,
            "scores of epoch {} are numbered from 0, each once",
            score.epoch
        );
        *next += 1;
        let epoch = &committed.epochs[score.epoch as usize - 1];
        assert_eq!(score.as_of, epoch.as_of);
        assert_eq!(score.status == Status::Scored, score.probability.is_some());
        // A tick that closes before the closing tick may end in its epochs.
        assert!(score.cause != Cause::Closing || is_of_closing(epoch));
    }
    let mut alerts: BTreeMap<i64, i64> = BTreeMap::new();
    let mut ids = BTreeSet::new();
    for alert in &committed.alerts {
        *alerts.entry(alert.epoch).or_default() += 1;
        assert!(ids.insert(&alert.alert_id), "{} twice", alert.alert_id);
        let Some(threshold) = alert.threshold.filter(|_| alert.state == "open") else {
            continue;
        };
        assert_eq!(
            alert.r#type == "threshold_up",
            alert.probability >= threshold,
            "{alert:?}"
        );
    }
    for epoch in &committed.epochs {
        let found =
            |counts: &BTreeMap<i64, i64>| counts.get(&epoch.epoch).copied().unwrap_or_default();
        assert_eq!(
            i64::from(scores.get(&epoch.epoch).copied().unwrap_or_default()),
            epoch.scores,
            "scores of epoch {}",
            epoch.epoch
        );
        assert_eq!(
            found(&alerts),
            epoch.alerts,
            "alerts of epoch {}",
            epoch.epoch
        );
    }
}

impl Committed {
    /// The scores of the closing ticks, by their moment. Each tick has one record per entity of the
    /// population, and a leaving record for every other entity that ever had a score.
    pub fn closings(&self, scenario: &Scenario) -> BTreeMap<i64, BTreeMap<String, f64>> {
        assert!(
            self.scores
                .iter()
                .all(|score| score.task == scenario.dataset.task)
        );
        let mut standing: BTreeMap<&str, &Score> = BTreeMap::new();
        let mut closings = BTreeMap::new();
        let mut closing: BTreeMap<String, f64> = BTreeMap::new();
        let mut scores = self.scores.iter().peekable();
        for epoch in &self.epochs {
            // A closing tick takes as many epochs as its work needs, at one moment.
            if !is_of_closing(epoch) {
                closing.clear();
            }
            while let Some(score) = scores.next_if(|score| score.epoch == epoch.epoch) {
                standing.insert(&score.entity_id, score);
                assert_eq!(score.status == Status::Ineligible, score.reason.is_some());
                if score.cause != Cause::Closing {
                    continue;
                }
                if let Some(p) = score.probability {
                    // Twice only after the death of a process, and alike.
                    let before = closing.insert(score.entity_id.clone(), p);
                    let is_same = before.is_none_or(|before| (before - p).abs() <= TOLERANCE);
                    assert!(
                        is_same || !is_of_closing(epoch),
                        "{} twice in a closing tick",
                        score.entity_id
                    );
                } else {
                    closing.remove(&score.entity_id);
                }
            }
            if !epoch.closing {
                continue;
            }
            for (entity, score) in &standing {
                assert_eq!(
                    score.status == Status::Scored,
                    closing.contains_key(*entity),
                    "{score:?} is the last of {entity}"
                );
            }
            let found: BTreeSet<String> = closing.keys().cloned().collect();
            let (must, may) = scenario.dataset.population_at(epoch.as_of);
            assert!(
                must.is_subset(&found),
                "not scored: {:?}",
                must.difference(&found).collect::<Vec<_>>()
            );
            assert!(
                found.is_subset(&may),
                "not of the population: {:?}",
                found.difference(&may).collect::<Vec<_>>()
            );
            closings.insert(epoch.as_of, std::mem::take(&mut closing));
        }
        closings
    }

    /// The scores of the last closing tick.
    pub fn closing(&self, scenario: &Scenario) -> BTreeMap<String, f64> {
        assert!(self.epochs.last().is_some_and(|last| last.closing));
        self.closings(scenario).pop_last().unwrap().1
    }
}

/// Requires the same entities with the same scores.
#[track_caller]
pub fn assert_same_scores(found: &BTreeMap<String, f64>, expected: &BTreeMap<String, f64>) {
    assert_eq!(
        found.keys().collect::<Vec<_>>(),
        expected.keys().collect::<Vec<_>>()
    );
    let differing = found
        .iter()
        .zip(expected.values())
        .filter(|((_, found), expected)| (*found - *expected).abs() > TOLERANCE);
    let differing: Vec<_> = differing
        .map(|((entity, found), expected)| (entity, found, expected))
        .collect();
    assert!(
        differing.is_empty(),
        "{} of {} scores differ: {:?}",
        differing.len(),
        found.len(),
        &differing[..differing.len().min(10)]
    );
}
