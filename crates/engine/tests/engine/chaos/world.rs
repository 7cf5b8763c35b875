//! The world of one history: processes that take turns, a clock, producers of input, and a source of
//! disturbances that a seed decides.
//!
//! Every call of a port is a step. One process runs at a time; at a step it may be killed, be
//! paused, or leave the turn to another one. So a history depends on its seed alone, whatever the
//! threads do.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use leadpulse_engine::ports::{Clock, InputPartition, PortCause, PortError};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::super::market::Market;
use super::super::rig::Put::{Text, Time};
use super::super::rig::Rig;
use super::coordinator::Coordinator;
use super::plan::{Disturbance, Plan, StepPlace};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Runs,
    Paused,
    Killed,
    Ended,
}

struct Process {
    fate: Fate,
    stop: Arc<AtomicBool>,
}

/// Mutable state of the world.
pub struct State {
    pub plan: Plan,
    random: ChaCha8Rng,
    pub coordinator: Coordinator,
    pub counts: BTreeMap<Disturbance, u64>,
    happened: u32,
    processes: Vec<Process>,
    handles: Vec<JoinHandle<()>>,
    turn: usize,
    steps: u32,
    idle_polls: u32,
    /// True once nothing disturbs any more, and every process is told to stop.
    pub quiet: bool,
    market: Market,
    to_send: u64,
    wall_ms: i64,
    elapsed_us: u64,
    stands_still: u32,
    /// First offset of an open transaction of a producer, by partition.
    pub open_inputs: BTreeMap<usize, i64>,
    grown: u64,
    away: u32,
    pub is_schema_known: bool,
    /// Words about how processes ended.
    pub ends: BTreeMap<String, u64>,
}

/// A body of a process: runs until it ends, and says how.
pub type Body = Arc<dyn Fn(&World, usize, Arc<AtomicBool>) -> String + Send + Sync>;

/// The shared world.
#[derive(Clone)]
pub struct World {
    state: Arc<(Mutex<State>, Condvar)>,
    pub rig: Rig,
    body: Body,
}

/// Steps after which a history becomes quiet.
const MOST_STEPS: u32 = 6_000;
/// Processes of a history at most.
const MOST_PROCESSES: usize = 14;
/// The id of the schema that is registered late.
pub const LATE_SCHEMA: u32 = 424_242;

impl World {
    pub fn new(plan: Plan, rig: Rig, body: Body) -> Self {
        let state = State {
            plan,
            random: ChaCha8Rng::seed_from_u64(plan.seed),
            coordinator: Coordinator::default(),
            counts: BTreeMap::new(),
            happened: 0,
            processes: Vec::new(),
            handles: Vec::new(),
            turn: 0,
            steps: 0,
            idle_polls: 0,
            quiet: false,
            market: Market::with_people(plan.seed),
            to_send: plan.records,
            wall_ms: 1_700_000_000_000,
            elapsed_us: 0,
            stands_still: 0,
            open_inputs: BTreeMap::new(),
            grown: 0,
            away: 0,
            is_schema_known: !plan.allows(Disturbance::SchemaLate),
            ends: BTreeMap::new(),
        };
        let world = Self {
            state: Arc::new((Mutex::new(state), Condvar::new())),
            rig,
            body,
        };
        world.first_records();
        world
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.0.lock().unwrap()
    }

    fn first_records(&self) {
        let mut state = self.lock();
        state.send(&self.rig);
        if state.plan.allows(Disturbance::Retention) && state.chance(0.5) {
            let mut cluster = self.rig.broker.lock();
            for partition in 0..cluster.input.len() {
                let start = cluster.ends[partition] / 3;
                if start > 0 {
                    cluster.starts[partition] = start;
                    cluster.input[partition].retain(|message| message.offset >= start);
                    *state.counts.entry(Disturbance::Retention).or_default() += 1;
                }
            }
        }
    }

    /// Starts processes, and waits until the last one has ended.
    pub fn run(&self) {
        let mut state = self.lock();
        self.start(&mut state);
        state = self
            .state
            .1
            .wait_while(state, |state| {
                state.processes.iter().any(|it| it.fate != Fate::Ended)
            })
            .unwrap();
        let handles = std::mem::take(&mut state.handles);
        drop(state);
        for handle in handles {
            handle.join().unwrap();
        }
    }

    fn start(&self, state: &mut State) {
        let me = state.processes.len();
        let stop = Arc::new(AtomicBool::new(state.quiet));
        state.processes.push(Process {
            fate: Fate::Runs,
            stop: stop.clone(),
        });
        let (world, body) = (self.clone(), self.body.clone());
        state.handles.push(std::thread::spawn(move || {
            world.await_turn(world.lock(), me);
            let end =
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| body(&world, me, stop)));
            let end = end.unwrap_or_else(|_| "panicked".to_owned());
            let mut state = world.lock();
            *state.ends.entry(end).or_default() += 1;
            state.processes[me].fate = Fate::Ended;
            world.pass_on(&mut state);
        }));
    }

    fn await_turn(&self, state: MutexGuard<'_, State>, me: usize) {
        drop(
            self.state
                .1
                .wait_while(state, |state| state.turn != me)
                .unwrap(),
        );
    }

    /// Gives the turn to a process that runs; without one to a paused or a new one.
    fn pass_on(&self, state: &mut State) {
        let of = |state: &State, fate: Fate| -> Vec<usize> {
            let all = state.processes.iter().enumerate();
            all.filter(|(_, it)| it.fate == fate)
                .map(|(me, _)| me)
                .collect()
        };
        let running = of(state, Fate::Runs);
        let paused = of(state, Fate::Paused);
        if !running.is_empty() {
            state.turn = running[state.below(running.len())];
        } else if !paused.is_empty()
            && (state.quiet || state.processes.len() >= MOST_PROCESSES || state.chance(0.3))
        {
            let woken = paused[state.below(paused.len())];
            state.wake(woken);
        } else if !state.quiet {
            if state.processes.len() >= MOST_PROCESSES {
                state.calm_down();
                return self.pass_on(state);
            }
            state.turn = state.processes.len();
            self.start(state);
        }
        self.state.1.notify_all();
    }

    /// A step of a process at a place.
    ///
    /// # Errors
    /// The process was killed.
    pub fn step(&self, me: usize, place: StepPlace) -> Result<(), PortError> {
        let mut state = self.lock();
        state.steps += 1;
        state.coordinator.pass();
        let has_markers = state.coordinator.has_decided();
        if has_markers && (state.quiet || state.chance(0.3)) {
            state.coordinator.write_markers();
        }
        if state.steps > MOST_STEPS {
            state.calm_down();
        }
        if state.processes[me].fate == Fate::Killed {
            return Err(killed());
        }
        let kill = match place {
            StepPlace::Reading => (Disturbance::KilledReading, 0.004),
            StepPlace::Restoring => (Disturbance::KilledRestoring, 0.01),
            StepPlace::BeforeCommit => (Disturbance::KilledBeforeCommit, 0.02),
            StepPlace::AfterCommit => (Disturbance::KilledAfterCommit, 0.05),
        };
        if state.happens(kill.0, kill.1) {
            state.processes[me].fate = Fate::Killed;
            return Err(killed());
        }
        let in_commit = matches!(place, StepPlace::BeforeCommit | StepPlace::AfterCommit);
        if state.happens(Disturbance::Paused, if in_commit { 0.03 } else { 0.003 }) {
            state.processes[me].fate = Fate::Paused;
            self.pass_on(&mut state);
            self.await_turn(state, me);
            return Ok(());
        }
        self.maybe_leave(state, me);
        Ok(())
    }

    /// Leaves the turn to a process that was started or woken, or that runs too.
    fn maybe_leave(&self, mut state: MutexGuard<'_, State>, me: usize) {
        let others = |state: &State, fate: Fate| -> Vec<usize> {
            let all = state.processes.iter().enumerate();
            all.filter(|(other, it)| *other != me && it.fate == fate)
                .map(|(other, _)| other)
                .collect()
        };
        let (paused, running) = (others(&state, Fate::Paused), others(&state, Fate::Runs));
        if !paused.is_empty() && state.happens(Disturbance::Woken, 0.01) {
            let woken = paused[state.below(paused.len())];
            state.wake(woken);
        } else if !running.is_empty() && state.happens(Disturbance::Switched, 0.05) {
            state.turn = running[state.below(running.len())];
        } else if state.processes.len() < MOST_PROCESSES / 2
            && state.happens(Disturbance::Started, 0.002)
        {
            state.turn = state.processes.len();
            self.start(&mut state);
        } else {
            return;
        }
        self.state.1.notify_all();
        self.await_turn(state, me);
    }

    /// True if the committed offsets name another process as the owner.
    pub fn is_owned_by_another(&self, me: usize) -> bool {
        let state = self.lock();
        let found = state.coordinator.offsets_now();
        found.is_some_and(|found| found.metadata.owner != token(me))
    }

    /// Draws whether a disturbance happens now.
    pub fn happens(&self, kind: Disturbance, probability: f64) -> bool {
        self.lock().happens(kind, probability)
    }

    pub fn below(&self, bound: usize) -> usize {
        self.lock().below(bound)
    }

    /// True where the registry does not answer now.
    pub fn registry_is_away(&self) -> bool {
        let mut state = self.lock();
        if state.away == 0 && state.happens(Disturbance::RegistryAway, 0.02) {
            state.away = 1 + state.below(20) as u32;
        }
        state.away = state.away.saturating_sub(1);
        state.away > 0 && !state.quiet
    }

    /// Lets producers and time go on while a process has nothing to read.
    pub fn idle(&self) {
        let mut state = self.lock();
        if state.to_send > 0 || !state.open_inputs.is_empty() {
            state.idle_polls = 0;
            state.end_inputs(&self.rig);
            state.send(&self.rig);
            state.grow(&self.rig);
            return;
        }
        state.idle_polls += 1;
        // Minutes pass, and the schema that was missing is registered.
        let ms = 60_000 * (1 + state.below(60) as i64);
        state.move_clock(ms);
        state.is_schema_known = true;
        if state.idle_polls > 7 {
            state.calm_down();
        }
    }
}

/// The owner's token of a process.
pub fn token(process: usize) -> String {
    format!("process-{process}")
}

fn killed() -> PortError {
    PortError::fatal(PortCause::Local, "killed")
}

impl State {
    fn chance(&mut self, probability: f64) -> bool {
        self.random.random_bool(probability)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        self.random.random_range(0..bound as u64) as usize
    }

    fn happens(&mut self, kind: Disturbance, probability: f64) -> bool {
        // Drawn in any case, so that a history without a kind is like the one with it up to there.
        let is_drawn = self.chance(probability);
        let is_left = self.happened < self.plan.disturbances && !self.quiet;
        let happens = is_drawn && is_left && self.plan.allows(kind);
        if happens {
            self.happened += 1;
            *self.counts.entry(kind).or_default() += 1;
        }
        happens
    }

    fn wake(&mut self, process: usize) {
        self.processes[process].fate = Fate::Runs;
        self.turn = process;
    }

    fn calm_down(&mut self) {
        self.quiet = true;
        self.is_schema_known = true;
        self.stands_still = 0;
        for process in &self.processes {
            process.stop.store(true, Ordering::SeqCst);
        }
    }

    /// Sends some of the records that are left, perhaps in a transaction that stays open.
    fn send(&mut self, rig: &Rig) {
        let records = self.to_send.min(4 + self.below(20) as u64);
        if records == 0 {
            return;
        }
        self.to_send -= records;
        let before = rig.broker.lock().ends.clone();
        self.market.send_within(rig, records, 2);
        if self.plan.allows(Disturbance::SchemaLate) && self.chance(0.3) {
            self.send_of_late_schema(rig);
        }
        for (partition, start) in before.iter().enumerate() {
            let has_more = rig.broker.lock().ends[partition] > *start;
            if has_more && self.happens(Disturbance::InputOpen, 0.1) {
                self.open_inputs.insert(partition, *start);
            }
        }
        let newest_ms = newest_ms(rig);
        let behind_ms = newest_ms - self.wall_ms;
        self.move_clock(behind_ms.max(0));
    }

    /// An activity by a writer whose schema may not be registered yet.
    fn send_of_late_schema(&mut self, rig: &Rig) {
        let at_ms = newest_ms(rig);
        let id = format!("late-schema-{}", self.to_send);
        let fields = [
            ("activity_id", Text(&id)),
            ("type", Text("meeting")),
            ("occurred_at", Time(at_ms)),
            ("contact_id", Text("C1")),
        ];
        let mut value = rig.encode("activities", &fields);
        value[1..5].copy_from_slice(&LATE_SCHEMA.to_be_bytes());
        rig.produce(rig.partition_of("activities"), at_ms, None, Some(value));
        if !self.is_schema_known {
            *self.counts.entry(Disturbance::SchemaLate).or_default() += 1;
        }
    }

    /// Commits or aborts the open transactions of producers.
    fn end_inputs(&mut self, rig: &Rig) {
        for (partition, start) in std::mem::take(&mut self.open_inputs) {
            let mut cluster = rig.broker.lock();
            let end = cluster.ends[partition];
            if self.happens(Disturbance::InputAborted, 0.5) {
                cluster.input[partition].retain(|message| message.offset < start);
            }
            // The marker of the end takes an offset.
            cluster.ends[partition] = end + 1;
        }
    }

    /// Adds a partition with a few events.
    fn grow(&mut self, rig: &Rig) {
        if self.grown < 2 && self.happens(Disturbance::PartitionAdded, 0.15) {
            self.grown += 1;
            let activities = rig.catalog.table("activities").unwrap().id;
            rig.broker.grow(InputPartition {
                topic: "mkt.activities".into(),
                partition: 1 + self.grown as i32,
                tables: vec![activities],
            });
        }
        let partitions = rig.broker.lock().partitions.len();
        for partition in partitions - self.grown as usize..partitions {
            let at_ms = newest_ms(rig);
            let id = format!("grown-{partition}-{}", self.to_send);
            let contact = format!("C{}", self.below(25));
            let fields = [
                ("activity_id", Text(&id)),
                ("type", Text("pricing_page_view")),
                ("occurred_at", Time(at_ms)),
                ("contact_id", Text(&contact)),
            ];
            let value = rig.encode("activities", &fields);
            rig.produce(partition, at_ms, Some(contact.as_bytes()), Some(value));
        }
    }

    fn move_clock(&mut self, ms: i64) {
        self.wall_ms += ms;
        self.elapsed_us += ms as u64 * 1_000;
    }
}

/// The newest timestamp of the input, milliseconds.
fn newest_ms(rig: &Rig) -> i64 {
    let cluster = rig.broker.lock();
    let all = cluster.input.iter().flatten();
    all.map(|message| message.timestamp_ms)
        .max()
        .unwrap_or(1_700_000_000_000)
}

/// The clock of a world: moves by what is waited for.
pub struct WorldClock(pub World);

impl Clock for WorldClock {
    fn wall_ms(&self) -> i64 {
        self.0.lock().wall_ms
    }
    fn elapsed(&self) -> Duration {
        Duration::from_micros(self.0.lock().elapsed_us)
    }
    fn wait(&self, duration: Duration) {
        let mut state = self.0.lock();
        if state.happens(Disturbance::ClockJump, 0.01) {
            let hours = state.below(5) as i64 - 2;
            state.wall_ms += hours * 3_600_000 + 20_000;
        }
        if state.stands_still == 0 && state.happens(Disturbance::ClockStill, 0.01) {
            state.stands_still = 1 + state.below(10) as u32;
        }
        state.stands_still = state.stands_still.saturating_sub(1);
        if state.stands_still == 0 {
            state.wall_ms += duration.as_millis() as i64;
        }
        // The monotonic clock goes on: every wait of the loop is bounded by it.
        state.elapsed_us += duration.as_micros() as u64;
    }
}
