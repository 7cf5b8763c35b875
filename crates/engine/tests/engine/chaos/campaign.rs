//! Histories of a range of seeds: what happened in them, the smallest part of one that fails, and the
//! flaws that the judge must find.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::judge::Broken;
use super::plan::{Disturbance, Plan};
use super::sink::Flaw;
use super::{HistoryFacts, history, setting};

/// Histories in the gate.
const GATE_SEEDS: u64 = 200;
/// Histories that run at once.
const THREADS: u32 = 2;

#[expect(
    clippy::disallowed_methods,
    reason = "a campaign prints how long it took; nothing in a history looks at this clock"
)]
fn now() -> Instant {
    Instant::now()
}

/// Histories of a range of seeds, on two threads.
#[derive(Default)]
struct Campaign {
    counts: BTreeMap<Disturbance, u64>,
    ends: BTreeMap<String, u64>,
    failed: Vec<(u64, Broken)>,
    histories: u64,
    epochs: u64,
    records: u64,
    dead: u64,
    alerts: u64,
    late_acted: u64,
    late_fenced: u64,
    aborted: u64,
    taken_over: u64,
}

impl Campaign {
    fn run(seeds: std::ops::Range<u64>, flaw: Option<Flaw>) -> Self {
        let (next, campaign) = (AtomicU64::new(seeds.start), Mutex::new(Self::default()));
        let started = now();
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    loop {
                        let seed = next.fetch_add(1, Ordering::SeqCst);
                        if seed >= seeds.end {
                            return;
                        }
                        let told = history(plan_of(seed), flaw);
                        let mut campaign = campaign.lock().unwrap();
                        campaign.add(seed, told);
                        if campaign.histories.is_multiple_of(1000) {
                            let seconds = started.elapsed().as_secs();
                            println!("{} histories in {seconds} s", campaign.histories);
                        }
                    }
                });
            }
        });
        campaign.into_inner().unwrap()
    }

    fn add(&mut self, seed: u64, told: Result<HistoryFacts, Broken>) {
        self.histories += 1;
        let told = match told {
            Ok(told) => told,
            Err(broken) => return self.failed.push((seed, broken)),
        };
        for (kind, count) in told.counts {
            *self.counts.entry(kind).or_default() += count;
        }
        for (end, count) in told.ends {
            *self.ends.entry(end).or_default() += count;
        }
        self.epochs += told.findings.epochs;
        self.records += told.findings.records;
        self.dead += told.findings.dead.len() as u64;
        self.alerts += told.findings.told.len() as u64;
        self.late_acted += told.late_copies.0;
        self.late_fenced += told.late_copies.1;
        self.aborted += told.aborted;
        self.taken_over += told.findings.owners.len().saturating_sub(1) as u64;
    }

    fn print(&self) {
        println!(
            "histories {}, epochs {}, records {}, dead letters {}, alerts {}, take-overs {}",
            self.histories, self.epochs, self.records, self.dead, self.alerts, self.taken_over
        );
        println!(
            "aborted transactions {}, late copies fenced {} and acting {}, processes {:?}",
            self.aborted, self.late_fenced, self.late_acted, self.ends
        );
        for (kind, count) in &self.counts {
            println!("{count:>8} {kind:?}");
        }
    }
}

/// The smallest part of a failing history that still fails: fewer kinds, fewer disturbances, fewer
/// records.
fn smallest(plan: Plan, flaw: Option<Flaw>) -> (Plan, Broken) {
    let fails = |plan: Plan| history(plan, flaw).err();
    let mut broken = fails(plan).unwrap_or_else(|| "does not fail again".to_owned());
    let mut plan = plan;
    let mut keep = |smaller: Plan, plan: &mut Plan| {
        if smaller != *plan
            && let Some(found) = fails(smaller)
        {
            (*plan, broken) = (smaller, found);
            return true;
        }
        false
    };
    for kind in Disturbance::ALL {
        keep(plan.without(kind), &mut plan);
    }
    for by in [2, 4, 8] {
        let fewer = |count: u64| count - count / by;
        while keep(
            Plan {
                disturbances: fewer(u64::from(plan.disturbances)) as u32,
                ..plan
            },
            &mut plan,
        ) {}
        while keep(
            Plan {
                records: fewer(plan.records),
                ..plan
            },
            &mut plan,
        ) {}
    }
    (plan, broken)
}

/// The plan of a seed, cut by `LEADPULSE_CHAOS_KINDS`, `_DISTURBANCES` and `_RECORDS`.
fn plan_of(seed: u64) -> Plan {
    let plan = Plan::of(seed);
    Plan {
        kinds: setting("LEADPULSE_CHAOS_KINDS").map_or(plan.kinds, |bits| bits as u32),
        disturbances: setting("LEADPULSE_CHAOS_DISTURBANCES")
            .map_or(plan.disturbances, |count| count as u32),
        records: setting("LEADPULSE_CHAOS_RECORDS").unwrap_or(plan.records),
        ..plan
    }
}

/// The seeds to run: `LEADPULSE_CHAOS_FROM` and `LEADPULSE_CHAOS_SEEDS`; else those of the gate.
fn seeds() -> std::ops::Range<u64> {
    let from = setting("LEADPULSE_CHAOS_FROM").unwrap_or(0);
    from..from + setting("LEADPULSE_CHAOS_SEEDS").unwrap_or(GATE_SEEDS)
}

#[test]
fn no_history_breaks_a_rule_and_every_disturbance_happens() {
    let started = now();
    let seeds = seeds();
    println!("seeds {seeds:?}");
    let campaign = Campaign::run(seeds.clone(), None);
    campaign.print();
    println!("{:.1} s", started.elapsed().as_secs_f64());
    for (seed, broken) in campaign.failed.iter().take(3) {
        let (plan, smaller) = smallest(plan_of(*seed), None);
        println!("seed {seed}: {broken}\n  smallest: {smaller}");
        println!(
            "  alone: make chaos FROM={seed} SEEDS=1 KINDS={} DISTURBANCES={} RECORDS={}",
            plan.kinds, plan.disturbances, plan.records
        );
    }
    for (seed, broken) in campaign.failed.iter().skip(3) {
        println!("seed {seed}: {broken}");
    }
    let failed: Vec<u64> = campaign.failed.iter().map(|(seed, _)| *seed).collect();
    assert!(failed.is_empty(), "histories broke rules: {failed:?}");
    if seeds.end - seeds.start < GATE_SEEDS {
        return;
    }
    // Histories in which nothing happened prove nothing.
    for kind in Disturbance::ALL {
        assert!(
            campaign.counts.contains_key(&kind),
            "{kind:?} never happened"
        );
    }
    assert!(
        campaign.ends.contains_key("fenced"),
        "no process was fenced"
    );
    assert!(campaign.late_fenced > 0, "no late copy was fenced");
    assert!(campaign.late_acted > 0, "no late request took effect");
    assert!(campaign.alerts > 200 && campaign.taken_over > 200 && campaign.dead > 200);
}

/// Requires that the judge finds the flaw in one of the first histories, whatever its words.
fn is_condemned(flaw: Flaw) {
    let started = now();
    for seed in 0..400 {
        let plan = Plan {
            kinds: u32::MAX,
            disturbances: 80,
            records: 60,
            ..Plan::of(seed)
        };
        // A history whose logs make no sense may end a step of the judge early.
        let found = std::panic::catch_unwind(|| history(plan, Some(flaw)));
        if let Err(broken) = found.unwrap_or_else(|_| Err("panicked".to_owned())) {
            let seconds = started.elapsed().as_secs_f64();
            println!("{flaw:?}: seed {seed}, {seconds:.1} s: {broken}");
            return;
        }
    }
    panic!("{flaw:?} passes for right");
}

#[test]
fn a_sink_that_goes_back_while_it_owns_is_condemned() {
    is_condemned(Flaw::RewindsWhileOwning);
}

#[test]
fn a_sink_that_sends_another_epoch_again_is_condemned() {
    is_condemned(Flaw::ResendsAnother);
}

#[test]
fn a_sink_that_commits_positions_first_is_condemned() {
    is_condemned(Flaw::PositionsFirst);
}

#[test]
fn a_sink_that_promotes_in_doubt_is_condemned() {
    is_condemned(Flaw::PromotesEarly);
}

#[test]
fn a_sink_that_promotes_by_number_alone_is_condemned() {
    is_condemned(Flaw::PromotesByNumber);
}

#[test]
fn a_sink_that_keeps_a_producer_that_was_not_answered_is_condemned() {
    is_condemned(Flaw::KeepsProducer);
}
