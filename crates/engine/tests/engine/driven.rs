//! The whole loop under a clock that moves by waiting alone: hours pass without a wait.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use leadpulse_engine::ports::Clock;
use leadpulse_engine::{ClockMode, Until};

use super::broker::{Reading, WaitedClock};
use super::rig::Life;
use super::rig::Put::{Text, Time};
use super::rig::Rig;
use super::stops::rig;

const T0: i64 = 1_700_000_000_000;
const HOUR_MS: i64 = 3_600_000;

fn account(rig: &Rig, key: &str, at_ms: i64) {
    let fields = [("account_id", Text(key)), ("updated_at", Time(at_ms))];
    rig.send("accounts", at_ms, &fields);
}

#[test]
fn thirty_hours_of_silence_tick_every_board_without_waiting() {
    let mut rig = rig();
    rig.options.clock = ClockMode::Wall;
    rig.options.epoch_floor_ms = 20;
    account(&rig, "A1", T0);
    let clock = WaitedClock::new(T0);
    let life = Life {
        waited_clock: Some(clock.clone()),
        ..Life::default()
    };
    let stop = life.stop.clone();
    let (broker, late, reader) = (rig.clone(), Arc::new(Mutex::new(false)), clock.clone());
    let sent = late.clone();
    let life = Life {
        on_idle: Some(Box::new(move || {
            let passed_ms = reader.wall_ms() - T0;
            let mut sent = sent.lock().unwrap();
            if passed_ms > 10 * HOUR_MS && !*sent {
                account(&broker, "A2", reader.wall_ms());
                *sent = true;
            }
            if passed_ms > 30 * HOUR_MS {
                stop.store(true, Ordering::Relaxed);
            }
        })),
        ..life
    };
    let summary = rig.run(Until::Stopped, life).unwrap();
    assert_eq!(summary.accepted, 2);
    let script = rig.script();
    let newest_ms = script.last().unwrap().as_of;
    assert!(
        newest_ms - T0 > 28 * HOUR_MS,
        "as_of follows the clock through the silence: {newest_ms}"
    );
    let late_ms = T0 + 10 * HOUR_MS;
    let taken = script
        .iter()
        .find(|record| record.accepted > 0 && record.epoch > 1);
    let live_ms = taken.and_then(|record| record.clock.live_at).unwrap();
    assert!(
        (0..1_000).contains(&(live_ms - late_ms)),
        "a record after the silence is taken at once: {live_ms}"
    );
    rig.check_committed();
}

#[test]
fn hiccups_of_the_source_are_waited_for_by_the_clock_port() {
    let rig = rig();
    account(&rig, "A1", T0);
    let clock = WaitedClock::new(T0);
    let life = Life {
        reading: Reading {
            hiccups: 20,
            ..Reading::default()
        },
        waited_clock: Some(clock.clone()),
        ..Life::default()
    };
    assert_eq!(rig.run(Until::End, life).unwrap().accepted, 1);
    assert!(clock.elapsed().as_secs() >= 10, "20 waits of half a second");
}

/// Count and sum of the latencies that were observed.
fn latencies(registry: &prometheus::Registry) -> (u64, f64) {
    let families = registry.gather();
    let name = "leadpulse_pipeline_latency_seconds";
    let family = families.iter().find(|family| family.name() == name);
    let histogram = family.unwrap().get_metric()[0].get_histogram();
    (histogram.get_sample_count(), histogram.get_sample_sum())
}

#[test]
fn the_age_of_history_is_no_latency() {
    let mut rig = rig();
    rig.options.clock = ClockMode::Wall;
    account(&rig, "A1", T0);
    account(&rig, "A2", T0 + HOUR_MS);
    let clock = WaitedClock::new(T0 + 48 * HOUR_MS);
    let life = Life {
        waited_clock: Some(clock.clone()),
        ..Life::default()
    };
    let (stop, registry) = (life.stop.clone(), life.registry.clone());
    let (broker, seen, mut idle) = (rig.clone(), registry.clone(), 0);
    let life = Life {
        on_idle: Some(Box::new(move || {
            idle += 1;
            match idle {
                3 => {
                    assert_eq!(latencies(&seen).0, 0, "only history was read");
                    account(&broker, "A3", clock.wall_ms());
                }
                8 => stop.store(true, Ordering::Relaxed),
                _ => {}
            }
        })),
        ..life
    };
    let summary = rig.run(Until::Stopped, life).unwrap();
    assert_eq!(summary.accepted, 3);
    let (count, seconds) = latencies(&registry);
    assert_eq!(count, 1);
    assert!(seconds < 60.0, "{seconds}");
}

#[test]
fn series_of_tasks_and_topics_exist_before_the_first_epoch() {
    let rig = rig();
    let life = Life::default();
    life.stop.store(true, Ordering::Relaxed);
    let registry = life.registry.clone();
    rig.run(Until::Stopped, life).unwrap();
    let families = registry.gather();
    let series = |name: &str| {
        let family = families.iter().find(|family| family.name() == name);
        family.map_or(0, |family| family.get_metric().len())
    };
    let (types, severities) = (11, 3);
    assert_eq!(series("leadpulse_alerts_emitted_total"), types * severities);
    assert_eq!(series("leadpulse_model_info"), 1);
    assert_eq!(series("leadpulse_scores_emitted_total"), 5);
    assert!(series("leadpulse_events_consumed_total") > 1);
    assert!(series("leadpulse_kafka_consumer_lag_seconds") > 1);
}
