//! C9: alerts are a function of the rows and of the recorded ticks.
//!
//! The oracle knows the input and the closings, and nothing of epochs, emitted scores, budgets and
//! deaths: it applies the rows of each tick at once, scores what is due at it, and folds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use leadpulse_engine::ports::{NextOffset, Output};
use leadpulse_engine::{ClockMode, Decoders, SchemaVerdicts, TickClosing, Until};
use leadpulse_features::{AlertFactPlan, Scorer, probability};
use leadpulse_graph::{CellRef, DAY_MS, EntityId, Graph, Reasons, Tracking};
use leadpulse_policy::{
    AccountOverride, AlertState, EntityDraft, OverrideKind, Policy, PolicyOptions, Scored, Seen,
    Stage, WorkListOptions, combine,
};
use leadpulse_schema::units::{AsOf, Span};
use leadpulse_schema::{Population, Row, TableId, Value};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::broker::{Fault, HandClock, Reading};
use super::decisions::{DecisionRow, Decisions};
use super::market::Market;
use super::memory_store::MemoryStore;
use super::rig::{Filter, KeyAndValue, Life, Put, Rig, TaskSpec};
use super::scorer::{Linear, by_name};

/// Dwell, cooldown and confirmation of hours, so that a month has many of each.
const PATIENT: &str = r#"{"bands":[{"name":"warm","enter":0.25},{"name":"hot","enter":0.45}],"threshold_up":"warm","threshold_down":"warm",
    "hysteresis_ratio":0.1,"min_dwell":"3h","fall_dwell":"5h","cooldown":"2d","emit_step":{"logit":0.01},
    "confirm":{"min_active_members":1,"min_kinds":1,"recency":"4d","within":"2d"},"suppress":{"customers":false,"deals_of_others":false}}"#;
pub const PROMPT: &str = r#"{"bands":[{"name":"hot","enter":0.4}],"threshold_up":"hot","threshold_down":"hot","hysteresis_ratio":0.05,
    "fall_dwell":"0s","cooldown":"1h","emit_step":{"logit":0.01},
    "confirm":{"min_active_members":0,"min_kinds":0,"recency":"40d"},"suppress":{"customers":false,"deals_of_others":false}}"#;

pub fn tasks() -> Vec<TaskSpec> {
    let task = |name, table, policy, filter| TaskSpec {
        name,
        table,
        policy,
        filter,
    };
    vec![
        task("buys_90d", "accounts", PATIENT, Filter::ActiveWithin(12)),
        task("grows_90d", "accounts", PROMPT, Filter::Everyone),
        task("engages_14d", "contacts", PROMPT, Filter::Has("seniority")),
    ]
}

/// The parts of alerts that the data decide: id, severity, tick.
pub type Told = BTreeSet<(String, String, i64)>;

pub fn assert_told(found: &Told, expected: &Told, seed: u64) {
    let missing: Vec<_> = expected.difference(found).collect();
    let more: Vec<_> = found.difference(expected).collect();
    assert!(
        missing.is_empty() && more.is_empty(),
        "seed {seed}: not told {missing:?}, not expected {more:?}"
    );
}

pub fn committed(rig: &Rig) -> Told {
    let alerts = rig.committed(Output::Alerts);
    let told: Told = alerts
        .iter()
        .map(|alert| {
            let text = |field: &str| alert[field].as_str().unwrap().to_owned();
            (
                text("alert_id"),
                text("severity"),
                alert["as_of"].as_i64().unwrap(),
            )
        })
        .collect();
    assert_eq!(told.len(), alerts.len(), "nothing is told twice");
    told
}

/// The sentence of each alert by id. It follows from the data too: from the state of the tick and the
/// memory of the fold, never from which scores were explained.
fn sentences(rig: &Rig) -> BTreeMap<String, String> {
    let alerts = rig.committed(Output::Alerts).into_iter();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    alerts
        .map(|alert| (text(&alert["alert_id"]), text(&alert["summary"])))
        .collect()
}

/// A closed tick; or a swap amid a tick, before which rows up to some positions came.
struct ScriptStep {
    /// The moment that its rows belong to, milliseconds.
    opened_ms: i64,
    at: TickClosing,
    swaps_to: Option<Rig>,
}

/// The alerts that follow from the input, the closings and the versions in force.
struct Oracle<'r> {
    rig: &'r Rig,
    /// The tasks of the version in force.
    tasks: Vec<TaskSpec>,
    graph: Graph,
    scorer: Linear,
    populations: Vec<Population>,
    policies: Vec<Policy>,
    facts: Vec<AlertFactPlan>,
    /// By name of the task.
    memory: BTreeMap<(&'static str, EntityId), AlertState>,
    live_from_ms: i64,
    known: Option<u32>,
    told: Told,
    decisions: Decisions,
    /// Subjects of decisions since the last tick.
    decided: BTreeSet<(TableId, String)>,
}

impl<'r> Oracle<'r> {
    fn new(rig: &'r Rig, live_from_ms: i64) -> Self {
        let options = |spec: &TaskSpec| serde_json::from_str::<PolicyOptions>(spec.policy).unwrap();
        let policies: Vec<Policy> = rig
            .tasks
            .iter()
            .map(|spec| options(spec).validated().unwrap())
            .collect();
        let mut graph = rig.graph(Tracking::On);
        // Days are forgotten once they are late in every partition that is to be read.
        for (number, partition) in (0..).zip(&rig.broker.lock().partitions) {
            for table in &partition.tables {
                graph.expect(number, *table);
            }
        }
        let plan = |policy: &Policy| {
            AlertFactPlan::new(&rig.catalog, &graph.shared().layout, policy.fact_options()).unwrap()
        };
        Self {
            facts: policies.iter().map(plan).collect(),
            scorer: rig.scorer(),
            populations: rig.populations().1,
            rig,
            tasks: rig.tasks.clone(),
            graph,
            policies,
            memory: BTreeMap::new(),
            live_from_ms,
            known: None,
            told: Told::new(),
            decisions: Decisions::default(),
            decided: BTreeSet::new(),
        }
    }

    /// The decision of a row of the overrides; `None` for other rows, and for those that lie ahead
    /// of their known time.
    fn decision_of(&self, row: Row<'_>) -> Option<DecisionRow> {
        let table = self.rig.catalog.table("overrides").unwrap();
        let is_ahead = row.event_ms() > row.known_ms() + 5 * 60_000;
        if row.table() != table.id || is_ahead {
            return None;
        }
        let field = |name: &str| row.get(table.field(name).unwrap().id);
        let text = |name: &str| field(name).text().map(str::to_owned);
        let subject = ["contact", "lead", "account"].into_iter().find_map(|one| {
            let named = self.rig.catalog.table(&format!("{one}s")).unwrap().id;
            Some((named, text(&format!("{one}_id"))?))
        });
        let word = |subject| {
            let word = text("decision")?;
            let decision = match word.as_str() {
                "pin" => OverrideKind::Pin,
                "mute" => OverrideKind::Mute,
                _ => OverrideKind::Exclude,
            };
            let ruling = AccountOverride {
                decision,
                who: text("decided_by")?,
                why: text("reason"),
                until_ms: match field("until") {
                    Value::Time(until_ms) if word != "none" => Some(until_ms),
                    _ => None,
                },
            };
            Some((subject, ruling, word == "none"))
        };
        Some(DecisionRow {
            id: row.key().to_owned(),
            said: (
                row.event_ms(),
                row.position().partition,
                row.position().offset,
            ),
            word: subject.and_then(word),
        })
    }

    /// Table and key of an entity, and of all that it was joined with.
    fn names(&self, entity: EntityId) -> Vec<(TableId, String)> {
        let directory = self.graph.directory();
        let joined = self.graph.joined(entity).iter().copied();
        let all: BTreeSet<EntityId> = joined.chain([entity]).collect();
        let name = |one| Some((directory.table(one)?, directory.key(one).to_string()));
        all.into_iter().filter_map(name).collect()
    }

    /// Everything up to the last closing. Each step comes with the moment that its rows belong to.
    fn follow(mut self, steps: &[ScriptStep]) -> Told {
        let mut from = Vec::new();
        let mut before_ms = None;
        let mut is_news = false;
        for step in steps {
            from.resize(step.at.positions.len(), NextOffset(0));
            let to: Vec<NextOffset> = step.at.positions.iter().map(|at| NextOffset(*at)).collect();
            let (opened_ms, tick_ms) = (step.opened_ms, step.at.tick);
            // A swap between two ticks comes before the next one is looked at.
            let is_open = tick_ms > 0;
            if let Some(before_ms) = before_ms.filter(|_| is_open) {
                self.wait(before_ms, opened_ms);
            }
            let was_live = before_ms.is_some() && opened_ms > self.live_from_ms;
            if is_open && was_live && self.known.is_none() {
                self.known = Some(self.graph.directory().len() as u32);
            }
            is_news |= self.take(&from, &to);
            from = to;
            if let Some(version) = &step.swaps_to {
                self.swap(version);
            } else if is_news || before_ms.is_some() {
                if opened_ms < tick_ms {
                    self.wait(opened_ms, tick_ms);
                }
                self.look(tick_ms);
                before_ms = Some(tick_ms);
                is_news = false;
            }
        }
        self.told
    }

    /// Applies rows. Returns whether there were any.
    fn take(&mut self, from: &[NextOffset], to: &[NextOffset]) -> bool {
        let rows = self.rows(from, to);
        self.graph.apply(&rows, None);
        let decisions: Vec<DecisionRow> = rows
            .iter()
            .filter_map(|row| self.decision_of(row))
            .collect();
        for decision in decisions {
            for subject in self.decisions.take(decision) {
                self.decided.insert(subject);
            }
        }
        !rows.is_empty()
    }

    /// Goes on under another version: every cell is due, and its levels are placed.
    fn swap(&mut self, version: &Rig) {
        let next = Oracle::new(version, self.live_from_ms);
        self.tasks = next.tasks;
        self.scorer = next.scorer;
        self.populations = next.populations;
        self.policies = next.policies;
        self.facts = next.facts;
        let tasks = &self.tasks;
        self.memory
            .retain(|(name, _), _| tasks.iter().any(|task| task.name == *name));
        self.graph.mark_all_due(Reasons::BUNDLE);
    }

    fn rows(&self, from: &[NextOffset], to: &[NextOffset]) -> leadpulse_schema::RowBatch {
        let batch = self.rig.records(from, to);
        let partitions = self.rig.broker.lock().partitions.clone();
        let verdicts = SchemaVerdicts::Store;
        let schemas = self.rig.schemas.as_ref();
        let mut decoders = Decoders::default();
        decoders
            .decode(&batch, &partitions, &self.rig.catalog, schemas, verdicts)
            .rows
    }

    /// Looks at every moment between two ticks at which time alone makes something due.
    fn wait(&mut self, from_ms: i64, to_ms: i64) {
        loop {
            let revisit = self.memory.values().filter_map(|state| state.revisit_at_ms);
            let revisit = revisit.map(|at_ms| self.tick_of(at_ms));
            let revisit = revisit.filter(|at_ms| *at_ms > self.graph.as_of_ms()).min();
            let next_ms = self.graph.next_due_ms().min(revisit.unwrap_or(i64::MAX));
            let next_ms = next_ms.min(self.next_lists_ms(from_ms));
            if next_ms >= to_ms.min(from_ms + 366 * DAY_MS) {
                break;
            }
            self.look(next_ms);
        }
        self.graph.fire_before(to_ms);
    }

    /// The next moment of work lists: cells that a swap made due are looked at by then.
    fn next_lists_ms(&self, from_ms: i64) -> i64 {
        let step_ms = self.rig.options.tick_ms;
        let lists = self.rig.work_lists.checked(step_ms, 0).unwrap();
        let looked_ms = from_ms.max(self.graph.as_of_ms());
        match (lists.are_made(), looked_ms >= self.live_from_ms) {
            (false, _) => i64::MAX,
            (true, false) => self.live_from_ms,
            (true, true) => lists.next_ms(looked_ms),
        }
    }

    /// The first tick at or after a moment.
    fn tick_of(&self, at_ms: i64) -> i64 {
        let step_ms = self.rig.options.tick_ms as i64;
        (at_ms + step_ms - 1).div_euclid(step_ms) * step_ms
    }

    fn look(&mut self, tick_ms: i64) {
        let as_of = AsOf::from_ms(tick_ms);
        self.graph.advance(as_of);
        if tick_ms >= self.live_from_ms && self.known.is_none() {
            self.known = Some(self.graph.directory().len() as u32);
        }
        let mut due: BTreeMap<CellRef, Reasons> = self.graph.take_due().into_iter().collect();
        for at in due.keys() {
            self.graph.folded(*at);
        }
        for ((_, entity), state) in &self.memory {
            let is_due = state
                .revisit_at_ms
                .is_some_and(|at_ms| self.tick_of(at_ms) <= tick_ms);
            if let (true, Some(place)) = (is_due, self.graph.directory().place(*entity)) {
                due.entry(place.cell).or_insert(Reasons::TIMER);
            }
        }
        for (table, key) in std::mem::take(&mut self.decided) {
            if let Some((at, _)) = self.graph.find(table, &key) {
                due.entry(at).or_insert(Reasons::EVENT);
                self.graph.folded(at);
            }
        }
        let drafts = due
            .into_iter()
            .flat_map(|(at, reasons)| self.fold(tick_ms, at, reasons))
            .collect();
        for alert in combine(drafts) {
            let severity = alert.lead.draft.severity.name().to_owned();
            self.told.insert((alert.lead.alert_id(), severity, tick_ms));
        }
    }

    fn fold(&mut self, tick_ms: i64, at: CellRef, reasons: Reasons) -> Vec<EntityDraft> {
        let as_of = AsOf::from_ms(tick_ms);
        let (scorer, populations) = (&self.scorer, &self.populations);
        let cell = self.graph.cell(at);
        let mut drafts = Vec::new();
        for (task, spec) in self.tasks.iter().enumerate() {
            let asked = [self.rig.entity(spec)];
            let batch = scorer.plan().encode(&self.graph, &[at], as_of, &asked);
            let logits = scorer.logits(&batch, task);
            for node in cell.nodes.iter().filter(|node| node.table == asked[0]) {
                let absence = self.graph.absence(cell, node, as_of, &populations[task]);
                let key = (spec.name, node.entity);
                if absence.is_some() && !self.memory.contains_key(&key) {
                    continue;
                }
                let row = scorer.plan().row_of(&batch, node.table, 0, node.entity);
                let facts = self.facts[task].facts(&self.graph, cell, node.entity, as_of);
                let root = self.rig.catalog.root().id;
                let account = cell.anchor_node().filter(|anchor| anchor.table == root);
                let own = self.names(node.entity);
                let ruling = self.decisions.about(&own, tick_ms).or_else(|| {
                    let account = self.names(account?.entity);
                    self.decisions.about(&account, tick_ms)
                });
                let seen = Seen {
                    tick_ms,
                    score: absence.map_or_else(
                        || {
                            let logit = logits[row.unwrap().0];
                            Ok(Scored {
                                probability: probability(logit),
                                logit,
                            })
                        },
                        Err,
                    ),
                    stage: if tick_ms <= self.live_from_ms || reasons.contains(Reasons::BUNDLE) {
                        Stage::Placing
                    } else {
                        Stage::Live
                    },
                    is_new: self.known.is_some_and(|known| node.entity.0 >= known),
                    facts: &facts,
                    ruling: ruling.as_ref(),
                };
                let state = self.memory.entry(key).or_default();
                let folded = self.policies[task].fold(state, &seen);
                let directory = self.graph.directory();
                drafts.extend(folded.fired.into_iter().map(|draft| EntityDraft {
                    task: spec.name.into(),
                    entity_type: spec.table.into(),
                    entity_id: directory.key(node.entity).clone(),
                    account: facts.account.as_str().into(),
                    owner: facts.owner.as_deref().map(Arc::from),
                    draft,
                }));
            }
        }
        drafts
    }
}

/// Alerts that a person's decision ended.
fn silenced(rig: &Rig) -> usize {
    let alerts = rig.committed(Output::Alerts);
    let is_silenced = |alert: &&serde_json::Value| {
        let summary = alert["summary"].as_str().unwrap_or_default();
        summary.contains("switched its alerts off")
    };
    alerts.iter().filter(is_silenced).count()
}

/// The alerts by the oracle, given the closings of the script.
pub fn expected(rig: &Rig) -> Told {
    let script = rig.script();
    let live_from_ms = script.iter().find_map(|record| record.live_from).unwrap();
    let mut steps = Vec::new();
    let mut in_force = rig.release.clone();
    let mut open_tick = None;
    for record in script {
        let is_closing = record.closing || record.work_note().unwrap().is_closing;
        let release = record.version_note().unwrap().release;
        if release != in_force {
            let desk = rig.desk.as_ref().unwrap();
            let starts = record.partitions.iter().map(|interval| interval.start);
            let tick_ms = open_tick.unwrap_or_default();
            steps.push(ScriptStep {
                opened_ms: tick_ms,
                at: TickClosing {
                    tick: tick_ms,
                    positions: starts.collect(),
                },
                swaps_to: desk.rig(release.as_deref().unwrap()),
            });
            in_force = release;
        }
        let is_empty = record.ticks.is_empty();
        for at in record.ticks {
            // The closing tick ends a tick that is open without looking at it.
            let opened_ms = open_tick.filter(|_| is_closing).unwrap_or(at.tick);
            steps.push(ScriptStep {
                opened_ms,
                at,
                swaps_to: None,
            });
        }
        // An epoch that ends within a tick has opened none: rows of the one before are still not
        // looked at.
        let is_closed = !is_empty;
        open_tick = record.open_tick.or(open_tick.filter(|_| !is_closed));
    }
    Oracle::new(rig, live_from_ms).follow(&steps)
}

pub fn random_reading(generator: &mut ChaCha8Rng) -> Reading {
    Reading {
        seed: generator.random(),
        empty_ratio: [0.0, 0.3][generator.random_range(0..2)],
        most: [1, 7, usize::MAX][generator.random_range(0..3)],
        favourite: generator
            .random_bool(0.5)
            .then(|| generator.random_range(0..8_u64) as usize),
        ..Reading::default()
    }
}

/// A market whose alerts begin after a third of its records.
/// A start whose stored state is many epochs behind applies their rows, past the moments at which
/// the stored memory of alerts asked for a decision, and ends where the log does.
#[test]
fn a_start_far_behind_the_log_passes_moments_that_were_decided() {
    for seed in 70..74 {
        let mut rig = Rig::new(&tasks(), by_name);
        rig.cap = Some(1);
        rig.options.max_records = 20;
        let mut market = Market::with_people(seed);
        market.send(&rig, 300);
        let first = rig
            .broker
            .lock()
            .input
            .iter()
            .flatten()
            .map(|m| m.timestamp_ms)
            .min();
        rig.options.live_from_ms = first;
        let store = MemoryStore::default();
        rig.store = Some(store.clone());
        rig.run(Until::End, Life::default()).unwrap();
        store.lock().lag = 1_000;
        market.send(&rig, 300);
        rig.run(Until::End, Life::default()).unwrap();
        store.die(0);
        let stored = store.lock().head.as_ref().map_or(0, |head| head.epoch);
        let epochs = rig.script().len() as u64;
        assert!(stored + 10 < epochs, "{stored} of {epochs}");
        market.send(&rig, 20);
        rig.run(Until::End, Life::default()).unwrap();
        let script = rig.script();
        let taken: i64 = script.iter().map(|r| r.outcomes().records()).sum();
        let sent: usize = rig.broker.lock().input.iter().map(Vec::len).sum();
        assert_eq!(taken, sent as i64, "every record was taken");
        assert!(script.is_sorted_by(|one, next| one.epoch + 1 == next.epoch));
    }
}

pub fn market(seed: u64, records: u64) -> Rig {
    let mut rig = Rig::new(&tasks(), by_name);
    Market::with_people(seed).send(&rig, records);
    let mut stamps: Vec<i64> = {
        let cluster = rig.broker.lock();
        cluster
            .input
            .iter()
            .flatten()
            .map(|message| message.timestamp_ms)
            .collect()
    };
    stamps.sort_unstable();
    rig.options.live_from_ms = Some(stamps[stamps.len() / 3]);
    rig.work_lists = WorkListOptions {
        size: 3,
        every: Span::from_ms(DAY_MS / 2),
    };
    rig
}

/// Keys and values of work lists and exposures, in order.
type Listed = [Vec<KeyAndValue>; 2];

fn assert_listed(rig: &Rig, expected: &mut Option<Listed>, seed: u64) {
    let found = [Output::WorkLists, Output::Exposures].map(|output| rig.bytes_of(output));
    let exposed = rig.committed(Output::Exposures);
    let news: BTreeSet<String> = rig
        .committed(Output::Alerts)
        .iter()
        .filter(|alert| alert["state"] != "resolved")
        .map(|alert| alert["alert_id"].as_str().unwrap().to_owned())
        .collect();
    let ids = exposed
        .iter()
        .map(|one| one["exposure_id"].as_str().unwrap().to_owned());
    assert_eq!(ids.collect::<BTreeSet<_>>(), news, "seed {seed}");
    let expected = expected.get_or_insert_with(|| found.clone());
    assert!(found == *expected, "seed {seed}: other lists or exposures");
}

#[test]
fn alerts_follow_from_rows_and_ticks_whatever_epochs_budgets_and_deaths() {
    let (mut alerts, mut lists, mut ended) = (0, 0, 0);
    for seed in 0..6 {
        let mut generator = ChaCha8Rng::seed_from_u64(seed);
        let rig = market(seed, 400);
        let (mut told, mut listed): (Option<Told>, Option<Listed>) = (None, None);
        let mut said: Option<BTreeMap<String, String>> = None;
        for (max_records, soft_budget, kills) in [(20_000, 4, 0), (1, 1, 2), (7, 1, 6), (50, 99, 3)]
        {
            let mut rig = rig.elsewhere();
            rig.options.max_records = max_records;
            rig.options.soft_budget = soft_budget;
            for life in 0.. {
                let fault = [Fault::Before, Fault::After][generator.random_range(0..2)];
                let fault = (life < kills).then(|| (generator.random_range(0..30), fault));
                let reading = random_reading(&mut generator);
                let life = Life {
                    reading,
                    fault,
                    ..Life::default()
                };
                if rig.run(Until::End, life).is_ok() {
                    break;
                }
            }
            rig.check_committed();
            let found = committed(&rig);
            assert_told(&found, &expected(&rig), seed);
            // The end of the log closes the same ticks, so the alerts are equal, too.
            assert_told(&found, told.get_or_insert_with(|| found.clone()), seed);
            assert_listed(&rig, &mut listed, seed);
            let sentences = sentences(&rig);
            assert_eq!(
                &sentences,
                said.get_or_insert_with(|| sentences.clone()),
                "seed {seed}"
            );
            ended += silenced(&rig);
        }
        alerts += told.unwrap().len();
        lists += listed.unwrap()[0].len();
    }
    assert!(lists > 200, "{lists} lists are too few to compare");
    assert!(alerts > 60, "{alerts} alerts are too few to compare");
    assert!(ended > 0, "no decision ended an alert");
}

#[test]
fn a_back_fill_that_goes_live_alerts_as_its_ticks_say() {
    let mut alerts = 0;
    for seed in 10..14 {
        let mut generator = ChaCha8Rng::seed_from_u64(seed);
        let mut rig = Rig::new(&tasks(), by_name);
        let mut market = Market::with_people(seed);
        market.send(&rig, 300);
        rig.options.clock = ClockMode::Wall;
        rig.options.epoch_floor_ms = 1;
        rig.options.live_from_ms = None;
        for _ in 0..3 {
            rig.options.max_records = [1, 9, 20_000][generator.random_range(0..3)];
            let clock = HandClock::default();
            let newest_ms = {
                let cluster = rig.broker.lock();
                cluster
                    .input
                    .iter()
                    .flatten()
                    .map(|message| message.timestamp_ms)
                    .max()
                    .unwrap()
            };
            clock.0.store(newest_ms + 1, Ordering::SeqCst);
            let life = Life {
                reading: random_reading(&mut generator),
                clock: clock.clone(),
                ..Life::default()
            };
            let (stop, until_ms) = (life.stop.clone(), newest_ms + 4 * DAY_MS);
            let on_idle = Box::new(move || {
                let now_ms = clock.0.fetch_add(47 * 60_000, Ordering::SeqCst);
                stop.store(now_ms > until_ms, Ordering::SeqCst);
            });
            rig.run(
                Until::Stopped,
                Life {
                    on_idle: Some(on_idle),
                    ..life
                },
            )
            .unwrap();
            market.skip(5 * DAY_MS);
            market.send_within(&rig, 150, 9);
        }
        rig.check_committed();
        let found = committed(&rig);
        assert_told(&found, &expected(&rig), seed);
        alerts += found.len();
    }
    assert!(alerts > 20, "{alerts} alerts are too few to compare");
}

#[test]
fn a_tick_ends_by_the_clock_though_nothing_else_comes() {
    const START_MS: i64 = 1_700_000_000_000;
    let mut rig = Rig::new(&tasks(), by_name);
    rig.options.clock = ClockMode::Wall;
    rig.options.epoch_floor_ms = 1;
    rig.options.live_from_ms = None;
    let clock = HandClock::default();
    clock.0.store(START_MS, Ordering::SeqCst);
    let life = Life {
        clock: clock.clone(),
        ..Life::default()
    };
    let (stop, producer) = (life.stop.clone(), rig.clone());
    let on_idle = Box::new(move || {
        let now_ms = clock.0.fetch_add(1_000, Ordering::SeqCst);
        if now_ms == START_MS + 12_000 {
            let fields = [
                ("account_id", Put::Text("A1")),
                ("updated_at", Put::Time(now_ms)),
            ];
            producer.send("accounts", now_ms, &fields);
        }
        stop.store(now_ms > START_MS + 60_000, Ordering::SeqCst);
    });
    rig.run(
        Until::Stopped,
        Life {
            on_idle: Some(on_idle),
            ..life
        },
    )
    .unwrap();
    rig.check_committed();
    let closings: Vec<i64> = {
        let ticks = rig.script().into_iter().flat_map(|record| record.ticks);
        let over_the_row = ticks.filter(|closing| closing.positions.iter().sum::<i64>() == 1);
        over_the_row.map(|closing| closing.tick).collect()
    };
    assert_eq!(closings.first(), Some(&(START_MS + 20_000)), "{closings:?}");
}
