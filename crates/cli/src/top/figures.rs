//! Figures of a worker: two readings become lag, rates, waiting work and sinks.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value as Json;

use super::exposition::Samples;
use super::reader::Answers;

/// The figures of a moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figures {
    /// Wall clock of this machine, milliseconds since 1970 UTC.
    pub at: i64,
    /// Base URL of the worker.
    pub url: String,
    /// `/api/v1/status` without the tasks: phase, epoch, `as_of`, lag, remark, version in force.
    pub status: Json,
    /// Topics with records that wait or were read, by name.
    pub topics: BTreeMap<String, TopicLag>,
    /// Counts since the start of the process.
    pub totals: BTreeMap<&'static str, f64>,
    pub rates: Rates,
    /// Cells that wait for a later epoch, by queue.
    pub waiting_cells: BTreeMap<String, f64>,
    /// Resident memory of the process, bytes; 0 where the system does not say.
    pub memory_bytes: f64,
    /// Sinks by name; `null` without an address of `leadpulse deliver`.
    pub sinks: Option<BTreeMap<String, SinkFigures>>,
    /// The fault, where the sinks' process did not answer.
    pub sinks_fault: Option<String>,
    /// The newest alerts, newest first, as `/api/v1/alerts` summarises them.
    pub alerts: Vec<Json>,
}

/// Records of a topic that were not taken yet.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct TopicLag {
    pub records: f64,
    /// Age of the newest record taken, seconds; 0 while none waits.
    pub seconds: f64,
}

/// Changes between two readings.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Rates {
    /// Distance of the readings, seconds.
    pub over_seconds: f64,
    /// Counts a second, by the names of the totals.
    pub per_second: BTreeMap<&'static str, f64>,
    /// Mean time from cutting an epoch to its commit, seconds; `null` without an epoch.
    pub epoch_seconds: Option<f64>,
    /// Mean time from a record's timestamp to the commit, seconds; `null` without a live epoch.
    pub latency_seconds: Option<f64>,
    /// True if a counter fell: the process was started again between the readings.
    pub restarted: bool,
}

/// Counts of one sink.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SinkFigures {
    pub delivered: f64,
    pub dead_lettered: f64,
    /// Requests that were sent again.
    pub retried: f64,
    /// Age of the oldest record that was taken and not settled, seconds.
    pub lag_seconds: f64,
    /// True while the sink waits before it sends again.
    pub waits: bool,
}

/// Totals with the counters that they sum.
const TOTALS: [(&str, &str); 6] = [
    ("records", "leadpulse_events_consumed_total"),
    ("epochs", "leadpulse_epochs_total"),
    ("cells", "leadpulse_cells_scored_total"),
    ("scores", "leadpulse_scores_emitted_total"),
    ("alerts", "leadpulse_alerts_emitted_total"),
    ("dead_letters", "leadpulse_dlq_records_total"),
];

impl Figures {
    /// Figures of the newer of two readings of the worker at `url`.
    pub fn between(url: &str, before: &Answers, now: Answers) -> Self {
        let elapsed = now.elapsed.saturating_sub(before.elapsed);
        let rates = Rates::between(&before.worker, &now.worker, elapsed);
        let (sinks, sinks_fault) = match now.sinks {
            None => (None, None),
            Some(Ok(samples)) => (Some(sinks(&samples)), None),
            Some(Err(fault)) => (None, Some(fault)),
        };
        let mut status = now.status;
        if let Some(fields) = status.as_object_mut() {
            fields.remove("tasks");
        }
        Self {
            at: now.wall_ms,
            url: url.to_owned(),
            status,
            topics: topics(&now.worker),
            totals: totals(&now.worker),
            rates,
            waiting_cells: waiting(&now.worker),
            memory_bytes: now.worker.sum("process_resident_memory_bytes"),
            sinks,
            sinks_fault,
            alerts: now.alerts,
        }
    }
}

impl Rates {
    fn between(before: &Samples, now: &Samples, elapsed: Duration) -> Self {
        let seconds = elapsed.as_secs_f64();
        let mut rates = Self {
            over_seconds: seconds,
            ..Self::default()
        };
        let older = totals(before);
        for (name, total) in totals(now) {
            let grown = total - older[name];
            rates.restarted |= grown < 0.0;
            if seconds > 0.0 {
                rates.per_second.insert(name, grown.max(0.0) / seconds);
            }
        }
        if !rates.restarted {
            rates.epoch_seconds = mean("leadpulse_epoch_duration_seconds", before, now);
            rates.latency_seconds = mean("leadpulse_pipeline_latency_seconds", before, now);
        }
        rates
    }
}

/// Mean of what a histogram observed between two readings.
fn mean(histogram: &str, before: &Samples, now: &Samples) -> Option<f64> {
    let grown = |ending: &str| {
        let name = format!("{histogram}_{ending}");
        now.sum(&name) - before.sum(&name)
    };
    let count = grown("count");
    (count > 0.0).then(|| grown("sum") / count)
}

fn totals(samples: &Samples) -> BTreeMap<&'static str, f64> {
    let mut totals = BTreeMap::new();
    for (name, counter) in TOTALS {
        totals.insert(name, samples.sum(counter));
    }
    totals
}

fn topics(samples: &Samples) -> BTreeMap<String, TopicLag> {
    let mut topics: BTreeMap<String, TopicLag> = BTreeMap::new();
    for one in samples.series("leadpulse_kafka_consumer_lag_records") {
        let topic = topics.entry(one.label("topic").to_owned());
        topic.or_default().records = one.value;
    }
    for one in samples.series("leadpulse_kafka_consumer_lag_seconds") {
        let topic = topics.entry(one.label("topic").to_owned());
        topic.or_default().seconds = one.value;
    }
    topics
}

fn waiting(samples: &Samples) -> BTreeMap<String, f64> {
    let mut queues = BTreeMap::new();
    for one in samples.series("leadpulse_waiting_cells") {
        queues.insert(one.label("queue").to_owned(), one.value);
    }
    queues
}

fn sinks(samples: &Samples) -> BTreeMap<String, SinkFigures> {
    let mut sinks: BTreeMap<String, SinkFigures> = BTreeMap::new();
    let mut each = |metric: &str, outcome: &str, put: fn(&mut SinkFigures, f64)| {
        for one in samples.series(metric) {
            if one.label("outcome") == outcome {
                let sink = sinks.entry(one.label("sink").to_owned());
                put(sink.or_default(), one.value);
            }
        }
    };
    let (records, requests) = (
        "leadpulse_deliver_records_total",
        "leadpulse_deliver_requests_total",
    );
    each(records, "delivered", |sink, value| sink.delivered = value);
    each(records, "dead_lettered", |sink, value| {
        sink.dead_lettered = value
    });
    each(requests, "retried", |sink, value| sink.retried = value);
    each("leadpulse_deliver_lag_seconds", "", |sink, value| {
        sink.lag_seconds = value
    });
    each("leadpulse_deliver_waiting", "", |sink, value| {
        sink.waits = value > 0.0
    });
    sinks
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn answers(seconds: u64, page: &str) -> Answers {
        Answers {
            elapsed: Duration::from_secs(seconds),
            wall_ms: 1_760_486_400_000,
            status: json!({ "phase": "live", "tasks": [] }),
            alerts: Vec::new(),
            worker: Samples::read(page),
            sinks: None,
        }
    }

    #[test]
    fn rates_are_differences_over_the_time_between() {
        let before = answers(
            10,
            "leadpulse_epochs_total 5\nleadpulse_events_consumed_total{topic=\"a\"} 100\n\
             leadpulse_epoch_duration_seconds_sum 1\nleadpulse_epoch_duration_seconds_count 5",
        );
        let now = answers(
            14,
            "leadpulse_epochs_total 7\nleadpulse_events_consumed_total{topic=\"a\"} 140\n\
             leadpulse_events_consumed_total{topic=\"b\"} 20\n\
             leadpulse_epoch_duration_seconds_sum 1.5\nleadpulse_epoch_duration_seconds_count 7\n\
             leadpulse_waiting_cells{queue=\"soft\"} 3\n\
             leadpulse_kafka_consumer_lag_records{topic=\"a\"} 9\n\
             leadpulse_kafka_consumer_lag_seconds{topic=\"a\"} 2.5",
        );
        let figures = Figures::between("http://w", &before, now);
        let rates = &figures.rates;
        assert_eq!((rates.over_seconds, rates.restarted), (4.0, false));
        assert_eq!(rates.per_second["records"], 15.0);
        assert_eq!(rates.per_second["epochs"], 0.5);
        assert_eq!(rates.epoch_seconds, Some(0.25));
        assert_eq!(rates.latency_seconds, None, "nothing was observed");
        assert_eq!(figures.totals["records"], 160.0);
        assert_eq!(figures.waiting_cells["soft"], 3.0);
        let lag = TopicLag {
            records: 9.0,
            seconds: 2.5,
        };
        assert_eq!(figures.topics["a"], lag);
        assert_eq!(figures.status, json!({ "phase": "live" }));
        assert_eq!((figures.sinks, figures.sinks_fault), (None, None));
    }

    #[test]
    fn a_process_that_was_started_again_has_no_negative_rates() {
        let before = answers(1, "leadpulse_epochs_total 500");
        let now = answers(2, "leadpulse_epochs_total 2");
        let rates = Figures::between("http://w", &before, now).rates;
        assert!(rates.restarted);
        assert_eq!(rates.per_second["epochs"], 0.0);
        assert_eq!(rates.epoch_seconds, None);
    }

    #[test]
    fn sinks_are_joined_by_name_from_all_of_their_metrics() {
        let page = "leadpulse_deliver_records_total{sink=\"slack.a\",outcome=\"delivered\"} 7\n\
            leadpulse_deliver_records_total{sink=\"slack.a\",outcome=\"passed_over\"} 9\n\
            leadpulse_deliver_records_total{sink=\"slack.a\",outcome=\"dead_lettered\"} 1\n\
            leadpulse_deliver_requests_total{sink=\"slack.a\",outcome=\"retried\"} 4\n\
            leadpulse_deliver_lag_seconds{sink=\"slack.a\"} 2.5\n\
            leadpulse_deliver_waiting{sink=\"slack.a\"} 1";
        let now = Answers {
            sinks: Some(Ok(Samples::read(page))),
            ..answers(2, "")
        };
        let expected = SinkFigures {
            delivered: 7.0,
            dead_lettered: 1.0,
            retried: 4.0,
            lag_seconds: 2.5,
            waits: true,
        };
        let figures = Figures::between("http://w", &answers(1, ""), now);
        assert_eq!(figures.sinks.unwrap()["slack.a"], expected);
    }
}
