//! A deployment under load: a market's history is produced while the program runs, is killed,
//! paused, or loses its brokers.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::dataset::{MARKET_DAYS, accounts};
use super::exact::{Commits, Exact, exact};
use super::process::{Process, arg};
use super::scenario::Scenario;
use crate::harness::kafka;

/// Tolerance between final scores of runs whose epochs were cut elsewhere.
const TOLERANCE: f64 = 1e-5;

/// A deployment whose input grows.
pub struct Load {
    pub scenario: Scenario,
    pub commits: Commits,
    feed: Process,
}

impl Load {
    /// Begins to produce the last third of the history, within `over`. The rest is there from the
    /// start. `None` where there is no Kafka.
    pub fn of_the_last_third(name: &str, over: Duration) -> Option<Self> {
        let scenario = empty(&kafka()?.servers, name);
        let mut parts = scenario.dataset.batches(&scenario.catalog);
        let last = parts.pop().unwrap();
        for part in &parts {
            scenario.replay(part, &[]);
        }
        let days = MARKET_DAYS / (parts.len() as u64 + 1);
        Some(Self::feeding(scenario, &last, days, over))
    }

    /// Begins to produce the whole history on a cluster, within `over`.
    pub fn of_all(servers: &str, name: &str, over: Duration) -> Self {
        Self::feeding(empty(servers, name), &accounts().data, MARKET_DAYS, over)
    }

    fn feeding(scenario: Scenario, data: &Path, days: u64, over: Duration) -> Self {
        let speed = format!("{}x", days * 86_400 / over.as_secs().max(1));
        let feed = scenario.start(
            "replay",
            &["--data", arg(data), "--append", "--speed", &speed],
        );
        Self {
            commits: Commits::follow(&scenario),
            scenario,
            feed,
        }
    }

    /// True while records still come.
    pub fn lasts(&mut self) -> bool {
        self.feed.runs_on()
    }

    /// Ends the load and processes the rest. Requires exact outputs, a deployment that starts
    /// again, and the final scores of a deployment without faults.
    pub fn finish(mut self) {
        assert!(
            self.lasts(),
            "the load ended before the faults did: make it longer"
        );
        self.feed.kill();
        let summary = self.scenario.run_to_end();
        let found = exact(&self.scenario);
        let again = self.scenario.run_to_end();
        assert_eq!(
            (again.epochs, again.records),
            (0, 0),
            "nothing is left after {summary:?}"
        );
        let mut faultless = self.scenario.beside("faultless");
        faultless.set("ENGINE__CLOCK", "events");
        faultless.run_to_end();
        let Exact {
            epochs,
            scores,
            alerts,
            closing,
            ..
        } = found;
        println!(
            "{epochs} epochs, {scores} scores, {alerts} alerts: each once; {} entities in the closing tick",
            closing.len()
        );
        assert_agree(&closing, &exact(&faultless).closing);
    }
}

/// A deployment whose epochs depend on its input only.
fn empty(servers: &str, name: &str) -> Scenario {
    let dataset = accounts();
    let mut scenario = Scenario::on(servers, dataset, name, dataset.config.clone());
    scenario.set("ENGINE__CLOCK", "events");
    scenario.create_inputs(4);
    scenario.create_outputs();
    scenario
}

fn assert_agree(found: &BTreeMap<String, f64>, expected: &BTreeMap<String, f64>) {
    assert!(!expected.is_empty(), "nothing was scored at the end");
    assert_eq!(
        found.keys().collect::<Vec<_>>(),
        expected.keys().collect::<Vec<_>>()
    );
    for (entity, expected) in expected {
        assert!(
            (found[entity] - expected).abs() <= TOLERANCE,
            "{entity}: {} with faults, {expected} without",
            found[entity]
        );
    }
}
