//! Histories under disturbances: processes die, stand still and wake, requests and answers get lost or
//! late, clocks jump, registries are away; and a judge reads what was committed.
//!
//! A seed decides a history: its records, its processes, its disturbances, and whose turn it is.
//! `make chaos SEEDS=10000` runs many; a seed that fails is printed with the smallest part of it
//! that still fails.
//!
//! Decision: docs/decisions/0067-histories-by-seed.md

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use leadpulse_engine::ports::{Clock, PortCause, PortError, ScriptFault, SealedEpoch};
use leadpulse_engine::{ClockMode, Engine, Metrics, Ports, RunError, Until};

use super::broker::Message;
use super::rig::{Life, Rig};
use super::scorer::by_name;
use super::ticks::{expected, tasks};
use coordinator::SimTransaction;
use judge::{Broken, Evidence, Findings, judge};
use plan::{Disturbance, Plan};
use ports::{SimOutputs, SimRegistry, SimSource};
use sink::{Flaw, KeptProducer, SimSink};
use world::{Body, LATE_SCHEMA, World, WorldClock, token};

mod campaign;
mod coordinator;
mod judge;
mod plan;
mod ports;
mod sink;
mod world;

/// Of so many histories, one is stepped through again byte for byte.
const STEPPED_AGAIN: u64 = 10;
/// Largest distance of a committed logit from one that was computed at once.
const TOLERANCE: f64 = 1e-4;

/// The result of a history.
struct HistoryFacts {
    findings: Findings,
    counts: BTreeMap<Disturbance, u64>,
    /// How its processes ended.
    ends: BTreeMap<String, u64>,
    late_copies: (u64, u64),
    aborted: u64,
}

/// Parts that all histories share, loaded once.
fn base() -> &'static Rig {
    static BASE: OnceLock<Rig> = OnceLock::new();
    BASE.get_or_init(|| {
        let rig = Rig::new(&tasks(), by_name);
        let activities = rig.catalog.table("activities").unwrap();
        rig.schemas.register(LATE_SCHEMA, &activities.json);
        rig
    })
}

/// A deployment for a seed: options that a history varies.
fn rig_of(seed: u64) -> Rig {
    let mut rig = base().emptied();
    let pick = |options: &[u64], shift: u32| options[(seed >> shift) as usize % options.len()];
    rig.options.max_records = pick(&[1, 4, 9, 200], 0) as usize;
    rig.options.soft_budget = pick(&[1, 4, 99], 2) as usize;
    rig.options.tick_ms = pick(&[10_000, 3_600_000], 1);
    if pick(&[0, 1], 0) == 0 {
        rig.options.clock = ClockMode::Events;
        rig.options.live_from_ms = Some(1_700_000_000_000 + 2 * 86_400_000);
    } else {
        rig.options.clock = ClockMode::Wall;
        rig.options.epoch_floor_ms = 1;
        rig.options.live_from_ms = None;
    }
    rig
}

/// Runs one process until it ends. Returns how.
fn live(
    world: &World,
    me: usize,
    stop: &Arc<AtomicBool>,
    kept: &KeptProducer,
    flaw: Option<Flaw>,
) -> Result<(), PortError> {
    let rig = &world.rig;
    let sink = SimSink::new(world, me, flaw, kept.clone());
    let source = SimSource::new(world, me);
    let machine = rig.try_machine(&token(me)).unwrap();
    let clock: Arc<dyn Clock> = Arc::new(WorldClock(world.clone()));
    let ports = Ports {
        source: Box::new(source),
        sink: Box::new(sink),
        outputs: Box::new(SimOutputs::new(world, me)),
        schemas: Arc::new(SimRegistry(world.clone())),
        clock,
        store: None,
    };
    let metrics = Metrics::new(&prometheus::Registry::new()).unwrap();
    let engine = Engine::new(
        rig.options.clone(),
        ports,
        machine,
        rig.encoders.clone(),
        Arc::default(),
        metrics,
        stop.clone(),
    );
    match engine.run(Until::Stopped) {
        Ok(_) => Ok(()),
        Err(RunError::Port(error)) => Err(error),
    }
}

/// The life of a process with restarts under the flaw that goes back.
fn body(flaw: Option<Flaw>) -> Body {
    Arc::new(move |world, me, stop| {
        let kept = KeptProducer::default();
        loop {
            let known = world.rig.broker.lock().partitions.len();
            match live(world, me, &stop, &kept, flaw) {
                Ok(()) => return "stopped".to_owned(),
                Err(PortError::Retriable(_)) if flaw == Some(Flaw::RewindsWhileOwning) => {}
                Err(PortError::Fenced(_)) => return "fenced".to_owned(),
                // It read the epochs of a process that took over while it restored.
                Err(error)
                    if error.cause() == PortCause::ScriptBroken(ScriptFault::OtherEnd)
                        && world.is_owned_by_another(me) =>
                {
                    return "outrun".to_owned();
                }
                // A partition was added, and committed by another process, after this one had listed
                // them; docs/gaps.md.
                Err(error)
                    if error.cause() == PortCause::TopicReplaced
                        && world.rig.broker.lock().partitions.len() > known =>
                {
                    return "outgrown".to_owned();
                }
                Err(error) => return error.to_string(),
            }
        }
    })
}

/// Runs a history, then one process to the end without disturbances, and judges.
fn history(plan: Plan, flaw: Option<Flaw>) -> Result<HistoryFacts, Broken> {
    let world = World::new(plan, rig_of(plan.seed), body(flaw));
    world.run();
    let mut state = world.lock();
    assert!(state.quiet, "the history came to its end");
    state.coordinator.write_markers();
    let told = |findings| HistoryFacts {
        findings,
        counts: state.counts.clone(),
        ends: state.ends.clone(),
        late_copies: (state.coordinator.acted, state.coordinator.fenced),
        aborted: state.coordinator.aborted,
    };
    let allowed = ["stopped", "fenced", "killed", "outrun", "outgrown"];
    if let Some(end) = state
        .ends
        .keys()
        .find(|end| !allowed.contains(&end.as_str()))
    {
        return Err(format!("a process ended: {end}"));
    }
    let mut transactions = state.coordinator.visible.clone();
    let rig = &world.rig;
    commit_to_broker(rig, &transactions);
    let last = rig.run(Until::End, Life::default());
    if let Err(error) = last {
        print_script(rig);
        // The judge's words are better than those of a start that is refused.
        let broken = examine(rig, &transactions).err();
        return Err(broken.unwrap_or_else(|| format!("the last process ended: {error}")));
    }
    let before = transactions
        .iter()
        .filter(|it| !it.records.is_empty())
        .count();
    let epochs = rig.broker.lock().epochs.clone();
    transactions.extend(epochs[before..].iter().map(of_epoch));
    let findings = examine(rig, &transactions)?;
    let compared = compare(rig, &findings);
    if compared.is_err() {
        print_script(rig);
    }
    compared?;
    if plan.seed.is_multiple_of(STEPPED_AGAIN) {
        let checked = std::panic::AssertUnwindSafe(|| rig.check_committed());
        std::panic::catch_unwind(checked)
            .map_err(|_| "another machine comes to other bytes; see the panic above".to_owned())?;
    }
    Ok(told(findings))
}

/// Prints the epochs of a history that runs alone, and its alerts.
fn print_script(rig: &Rig) {
    if setting("LEADPULSE_CHAOS_SEEDS") != Some(1) {
        return;
    }
    for record in rig.script() {
        println!(
            "epoch {} of {} as of {} clock {:?} live from {:?} closing {} ticks {:?} open {:?} accepted {} scores {} alerts {} intervals {:?}",
            record.epoch,
            record.owner,
            record.as_of,
            record.clock,
            record.live_from,
            record.closing,
            record
                .ticks
                .iter()
                .map(|it| (it.tick, it.positions.iter().sum::<i64>()))
                .collect::<Vec<_>>(),
            record.open_tick,
            record.accepted,
            record.scores,
            record.alerts,
            record
                .partitions
                .iter()
                .map(|it| (it.start, it.end))
                .collect::<Vec<_>>(),
        );
    }
}

/// Puts the committed epochs where the rig's own ports find them.
fn commit_to_broker(rig: &Rig, transactions: &[SimTransaction]) {
    let mut cluster = rig.broker.lock();
    for transaction in transactions {
        let Some(group) = transaction
            .offsets
            .as_ref()
            .filter(|_| !transaction.records.is_empty())
        else {
            continue;
        };
        cluster.epochs.push(SealedEpoch {
            number: group.metadata.number,
            nonce: group.metadata.nonce,
            as_of_ms: group.metadata.as_of_ms,
            positions: group.positions.clone(),
            outputs: transaction.records.clone(),
        });
    }
}

fn of_epoch(epoch: &SealedEpoch) -> SimTransaction {
    use coordinator::{GroupMetadata, GroupOffsets};
    SimTransaction {
        records: epoch.outputs.clone(),
        offsets: Some(GroupOffsets {
            metadata: GroupMetadata {
                number: epoch.number,
                as_of_ms: epoch.as_of_ms,
                nonce: epoch.nonce,
                owner: "last".to_owned(),
            },
            positions: epoch.positions.clone(),
        }),
    }
}

fn examine(rig: &Rig, transactions: &[SimTransaction]) -> Result<Findings, Broken> {
    let (input, starts, places) = {
        let cluster = rig.broker.lock();
        let places = cluster.partitions.iter();
        let places: Vec<_> = places.map(|it| (it.topic.clone(), it.partition)).collect();
        (cluster.input.clone(), cluster.starts.clone(), places)
    };
    judge(&Evidence {
        transactions,
        input: &input,
        starts: &starts,
        places: &places,
        decode: &|record| rig.read(record),
    })
}

/// Compares with what follows from the rows and the recorded closings: alerts by the oracle of ticks,
/// scores by a graph of all rows at once, dead letters by a run that nothing disturbs.
fn compare(rig: &Rig, findings: &Findings) -> Result<(), Broken> {
    let calm = without_dead(rig, findings);
    calm.broker.lock().epochs = rig.broker.lock().epochs.clone();
    let told = expected(&calm);
    if told != findings.told {
        let missing: Vec<_> = told.difference(&findings.told).collect();
        let more: Vec<_> = findings.told.difference(&told).collect();
        return Err(format!(
            "alerts: not told {missing:?}, not expected {more:?}"
        ));
    }
    let Some(closed_at) = findings.closed_at else {
        return match findings.records {
            0 => Ok(()),
            _ => Err("the run to the end closed nothing".to_owned()),
        };
    };
    same_scores(&rig.standings(), &calm.rebuilt_standings(closed_at))?;
    let undisturbed = rig.elsewhere();
    let mut undisturbed = Rig {
        broker: undisturbed.broker,
        ..undisturbed
    };
    undisturbed.options.max_records = 20_000;
    undisturbed.options.clock = ClockMode::Events;
    undisturbed
        .run(Until::End, Life::default())
        .map_err(|error| error.to_string())?;
    let committed = undisturbed.broker.lock().epochs.clone();
    let transactions: Vec<SimTransaction> = committed.iter().map(of_epoch).collect();
    let other = examine(&undisturbed, &transactions)?;
    // A repeat of an event is a duplicate or late, and the clock decides what lies ahead.
    let by_bytes = |dead: &BTreeMap<(usize, i64), String>| -> BTreeMap<(usize, i64), String> {
        let all = dead.iter();
        all.filter(|(_, reason)| {
            !["late_beyond_horizon", "future_timestamp"].contains(&reason.as_str())
        })
        .map(|(place, reason)| (*place, reason.clone()))
        .collect()
    };
    let (ours, theirs) = (by_bytes(&findings.dead), by_bytes(&other.dead));
    if ours != theirs {
        return Err(format!(
            "dead letters are {ours:?}, without disturbances {theirs:?}"
        ));
    }
    Ok(())
}

/// The same input where each record that was refused is empty: what is refused moves nothing.
fn without_dead(rig: &Rig, findings: &Findings) -> Rig {
    let calm = rig.elsewhere();
    let mut cluster = calm.broker.lock();
    for (partition, offset) in findings.dead.keys() {
        let messages: &mut Vec<Message> = &mut cluster.input[*partition];
        let found = messages
            .iter_mut()
            .find(|message| message.offset == *offset);
        if let Some(message) = found {
            message.value = Some(Vec::new());
        }
    }
    drop(cluster);
    calm
}

type Standings = BTreeMap<(String, String), f64>;

fn same_scores(found: &Standings, expected: &Standings) -> Result<(), Broken> {
    let keys = |of: &Standings| of.keys().cloned().collect::<BTreeSet<_>>();
    let (ours, theirs) = (keys(found), keys(expected));
    if ours != theirs {
        let differ: Vec<_> = ours.symmetric_difference(&theirs).collect();
        return Err(format!("other entities are scored: {differ:?}"));
    }
    for (key, logit) in found {
        let other = expected[key];
        if (logit - other).abs() > TOLERANCE {
            return Err(format!("{key:?} has logit {logit}, at once {other}"));
        }
    }
    Ok(())
}

/// A number of the environment.
fn setting(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(
        value
            .parse()
            .unwrap_or_else(|_| panic!("{name}={value} is no number")),
    )
}
