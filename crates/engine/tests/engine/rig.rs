//! A deployment in memory: catalog, tasks, model and cluster; and the invariants that every run of it must keep.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use leadpulse_engine::explain::ExplainQueue;
use leadpulse_engine::invariants;
use leadpulse_engine::ports::{
    Clock, InputPartition, NextOffset, Output, OutputRecord, RecordBatch, SchemaStore, Sink,
    StateStore,
};
use leadpulse_engine::questions::QuestionQueue;
use leadpulse_engine::read_model::ReadModel;
use leadpulse_engine::{
    AsOfRule, AuditFindings, Chain, ClockMode, Cut, CutTicks, Decoders, Engine, EngineOptions,
    Epoch, EpochRecord, ErasureKey, HEADER_OFFSET, HEADER_PARTITION, HEADER_TOPIC, Machine,
    MachineError, MachineParts, Metrics, NoSink, OutputEncoders, Ports, RESUMED_SECTION, Readings,
    Reason, RunError, RunSummary, SchemaVerdicts, ScriptRecord, Sealed, Skip, StandbyOptions, Task,
    TickClosing, Until, WorkBudget, audit,
};
use leadpulse_features::{FeaturePlan, FeatureSpec, ScorerTask};
use leadpulse_graph::{DAY_MS, Graph, GraphOptions, Tracking};
use leadpulse_policy::{CapOptions, PolicyOptions, WorkListOptions};
use leadpulse_schema::units::AsOf;
use leadpulse_schema::{
    Catalog, Comparison, Condition, DayCounter, DayWindow, FolderRegistry, Frame, Literal, Measure,
    Operand, Operation, Population, Position, RowBatch, RowEncoder, SchemaRef, TableId, Value,
    encode_frame,
};
use serde_json::Value as Json;
use sha2::{Digest, Sha256};

use super::broker::{
    BeforeTakeOver, Broker, Fault, HandClock, MemoryHeartbeats, MemoryOutputs, MemorySink,
    MemorySource, Message, OnLook, Reading, Schemas, WaitedClock, Watcher,
};
use super::memory_store::MemoryStore;
use super::releases::ReleaseDesk;
use super::scorer::{Linear, Weigh};

/// A value of a row to send.
#[derive(Clone, Copy, Debug)]
pub enum Put<'a> {
    Text(&'a str),
    Long(i64),
    Double(f64),
    Time(i64),
    Bool(bool),
    List(&'a [&'a str]),
}

/// A task of the deployment.
#[derive(Clone)]
pub struct TaskSpec {
    pub name: &'static str,
    pub table: &'static str,
    pub policy: &'static str,
    pub filter: Filter,
}

/// Who a task is about.
#[derive(Clone)]
pub enum Filter {
    Everyone,
    /// More than 0 activities within so many days.
    ActiveWithin(i64),
    /// A text field has this value.
    Equals(&'static str, &'static str),
    /// A field is not null.
    Has(&'static str),
}

pub const POLICY: &str = r#"{"bands":[{"name":"warm","enter":0.2},{"name":"hot","enter":0.5}],"threshold_up":"hot","threshold_down":"hot",
    "fall_dwell":"0s","confirm":{"min_active_members":0,"min_kinds":0,"recency":"40000d"},"suppress":{"customers":false,"deals_of_others":false},
    "emit_step":{"logit":0.05},"cooldown_ms":21600000}"#;

/// Schemas of outputs by id, parsed once.
static OUTPUT_SCHEMAS: Mutex<BTreeMap<u32, Arc<apache_avro::Schema>>> = Mutex::new(BTreeMap::new());

/// Input partitions: (topic, number, table).
const PARTITIONS: [(&str, i32, &str); 11] = [
    ("crm.accounts", 0, "accounts"),
    ("crm.contacts", 0, "contacts"),
    ("crm.leads", 0, "leads"),
    ("crm.opportunities", 0, "opportunities"),
    ("mkt.activities", 0, "activities"),
    ("mkt.activities", 1, "activities"),
    ("mkt.content", 0, "content_views"),
    ("crm.stages", 0, "opportunity_stage_changes"),
    ("scoring.overrides", 0, "overrides"),
    ("scoring.feedback", 0, "feedback"),
    ("privacy.erasures", 0, "erasures"),
];

/// A deployment.
#[derive(Clone)]
pub struct Rig {
    pub catalog: Arc<Catalog>,
    pub schemas: Arc<Schemas>,
    pub broker: Broker,
    pub tasks: Vec<TaskSpec>,
    pub weigh: Weigh,
    pub bundle_id: String,
    pub fingerprint: String,
    pub options: EngineOptions,
    pub encoders: Arc<OutputEncoders>,
    pub work_lists: WorkListOptions,
    /// Most alerts that a person gets on a day.
    pub cap: Option<u32>,
    /// The stored state of the workers, where they have one.
    pub store: Option<MemoryStore>,
    /// Digest of the release that the version stands for.
    pub release: Option<String>,
    /// The releases that processes may go on under.
    pub desk: Option<ReleaseDesk>,
}

/// Key and value of a record.
pub type KeyAndValue = (Option<Vec<u8>>, Option<Vec<u8>>);

/// How one process lives.
#[derive(Default)]
pub struct Life {
    pub reading: Reading,
    pub fault: Option<(u32, Fault)>,
    pub watcher: Option<Watcher>,
    pub read_model: Arc<ReadModel>,
    pub clock: HandClock,
    /// Used instead of `clock`.
    pub waited_clock: Option<WaitedClock>,
    pub stop: Arc<AtomicBool>,
    pub requests: Option<ExplainQueue>,
    pub questions: Option<QuestionQueue>,
    pub skips: Vec<Skip>,
    /// Gets the metrics of the engine.
    pub registry: prometheus::Registry,
    /// Called when everything is read.
    pub on_idle: Option<Box<dyn FnMut() + Send>>,
    /// Follows first; this happens at each look at the owner.
    pub on_look: Option<OnLook>,
    /// Happens right before it takes over.
    pub before_take_over: Option<BeforeTakeOver>,
}

/// The schema files of the repository.
fn schemas_dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../schemas")
}

impl Rig {
    pub fn new(tasks: &[TaskSpec], weigh: Weigh) -> Self {
        let catalog = Arc::new(Catalog::load(&schemas_dir()).unwrap());
        let schemas = Arc::new(Schemas::load(&schemas_dir()));
        let partition = |(topic, partition, table): (&str, i32, &str)| InputPartition {
            topic: topic.into(),
            partition,
            tables: vec![catalog.table(table).unwrap().id],
        };
        let partitions: Vec<_> = PARTITIONS.into_iter().map(partition).collect();
        // Epochs end by what is polled, not by the time that passes.
        let options = EngineOptions {
            clock: ClockMode::Events,
            epoch_floor_ms: 10_000,
            // No epoch is cut by the time that passes.
            epoch_nodes: Some(u64::MAX),
            soft_budget: 4,
            explain_budget: 2,
            explain_top: 0,
            // Alerts fire from the beginning.
            live_from_ms: Some(0),
            ..Default::default()
        };
        Self {
            encoders: Arc::new(OutputEncoders::new(schemas.as_ref()).unwrap()),
            broker: Broker::new(partitions),
            fingerprint: catalog.fingerprint(),
            catalog,
            schemas,
            tasks: tasks.to_vec(),
            weigh,
            bundle_id: "linear-1".into(),
            options: options.validated().unwrap(),
            work_lists: WorkListOptions {
                size: 0,
                ..WorkListOptions::default()
            },
            cap: None,
            store: None,
            release: None,
            desk: None,
        }
    }

    /// The same configuration, nothing produced and nothing committed yet.
    pub fn emptied(&self) -> Self {
        let partitions = self.broker.lock().partitions.clone();
        Self {
            broker: Broker::new(partitions),
            ..self.clone()
        }
    }

    /// The same input and configuration, nothing committed yet.
    pub fn elsewhere(&self) -> Self {
        let broker = {
            let cluster = self.broker.lock();
            let copy = Broker::new(cluster.partitions.clone());
            copy.lock().input.clone_from(&cluster.input);
            copy.lock().ends.clone_from(&cluster.ends);
            copy.lock().starts.clone_from(&cluster.starts);
            copy
        };
        Self {
            broker,
            store: None,
            desk: self.desk.as_ref().map(ReleaseDesk::elsewhere),
            ..self.clone()
        }
    }

    /// The partition (the first, for a topic of two) of a table.
    pub fn partition_of(&self, table: &str) -> usize {
        PARTITIONS
            .iter()
            .position(|(_, _, name)| *name == table)
            .unwrap()
    }

    /// A framed record of a table.
    pub fn encode(&self, table: &str, fields: &[(&str, Put<'_>)]) -> Vec<u8> {
        let table = self.catalog.table(table).unwrap();
        let mut rows = RowBatch::new();
        let mut row = rows.start(
            &self.catalog,
            table.id,
            Operation::Upsert,
            Position::default(),
            0,
        );
        // The one field without a null: what is not said to take an event back does not.
        if let Some(retraction) = table.retraction {
            row.set(retraction, Value::Bool(false));
        }
        for (name, value) in fields {
            let field = table
                .field(name)
                .unwrap_or_else(|| panic!("{} has no field {name}", table.name))
                .id;
            match value {
                Put::Text(text) => row.set(field, Value::Text(text)),
                Put::Long(n) => row.set(field, Value::Long(*n)),
                Put::Double(x) => row.set(field, Value::Double(*x)),
                Put::Time(t) => row.set(field, Value::Time(*t)),
                Put::Bool(b) => row.set(field, Value::Bool(*b)),
                Put::List(items) => row.set_list(field, items.iter().copied()),
            }
        }
        row.finish();
        let mut body = Vec::new();
        RowEncoder::new(&self.catalog)
            .encode(rows.row(0), &mut body)
            .unwrap();
        let mut framed = Vec::new();
        encode_frame(
            FolderRegistry::id_of(&table.json).unwrap(),
            &body,
            &mut framed,
        );
        framed
    }

    /// Produces a row to a table's (first) partition, known at `known_ms`. Returns its offset.
    pub fn send(&self, table: &str, known_ms: i64, fields: &[(&str, Put<'_>)]) -> i64 {
        self.produce(
            self.partition_of(table),
            known_ms,
            None,
            Some(self.encode(table, fields)),
        )
    }

    /// Produces any record.
    pub fn produce(
        &self,
        partition: usize,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<Vec<u8>>,
    ) -> i64 {
        self.broker.append(
            partition,
            Message {
                offset: 0,
                timestamp_ms,
                key: key.map(Into::into),
                value,
                headers: vec![],
            },
        )
    }

    /// The day counters of all tasks, and each task's population bound to them.
    pub fn populations(&self) -> (Vec<DayCounter>, Vec<Population>) {
        let mut counters = Vec::new();
        let mut populations = Vec::new();
        for task in &self.tasks {
            let table = self.catalog.table(task.table).unwrap();
            let column = |name: &str| Operand::Column(table.field(name).unwrap().id);
            let mut population = Population::default();
            population.condition = match task.filter {
                Filter::Everyone => None,
                Filter::Equals(field, value) => Some(Condition::Compare(
                    column(field),
                    Comparison::Equal,
                    Literal::Text(value.into()),
                )),
                Filter::Has(field) => {
                    Some(Condition::Not(Box::new(Condition::IsNull(column(field)))))
                }
                Filter::ActiveWithin(days) => {
                    let events = self.catalog.table("activities").unwrap().id;
                    let counter = DayCounter {
                        events,
                        filter: None,
                        measure: Measure::Count,
                    };
                    population.windows = vec![DayWindow {
                        counter: counters.len(),
                        start_days: Some(-days),
                        end_days: 0,
                    }];
                    population.counters = vec![counter.clone()];
                    counters.push(counter);
                    Some(Condition::Compare(
                        Operand::Window(0),
                        Comparison::Greater,
                        Literal::Number(0.0),
                    ))
                }
            };
            populations.push(population);
        }
        (counters, populations)
    }

    fn graph_options(&self) -> GraphOptions {
        GraphOptions {
            day_counters: self.populations().0,
            shards: 4,
            ..GraphOptions::default()
        }
        .validated()
        .unwrap()
    }

    pub fn scorer(&self) -> Linear {
        let plan = FeaturePlan::new(
            self.catalog.clone(),
            &self.graph_options(),
            FeatureSpec::default(),
        );
        let task = |spec: &TaskSpec| ScorerTask {
            name: spec.name.into(),
            entity: self.entity(spec),
            horizon_ms: 90 * DAY_MS,
            quality: Some("provisional".into()),
            interval_logits: Some(0.5),
        };
        Linear::new(
            &self.bundle_id,
            plan,
            self.tasks.iter().map(task).collect(),
            self.weigh,
        )
    }

    pub fn entity(&self, spec: &TaskSpec) -> TableId {
        self.catalog.table(spec.table).unwrap().id
    }

    pub fn graph(&self, tracking: Tracking) -> Graph {
        let windows = self
            .populations()
            .1
            .iter()
            .flat_map(|p| p.windows.clone())
            .collect();
        let mut graph = Graph::new(
            self.catalog.clone(),
            self.graph_options(),
            windows,
            tracking,
        );
        graph.set_tick_ms(self.options.tick_ms as i64);
        graph
    }

    /// A machine before its first epoch.
    pub fn machine(&self) -> Machine {
        self.try_machine("by hand").unwrap()
    }

    pub fn try_machine(&self, owner: &str) -> Result<Machine, MachineError> {
        let partitions = self.broker.lock().partitions.clone();
        self.machine_of(owner, partitions)
    }

    /// A machine that reads these partitions from their starts.
    fn machine_of(
        &self,
        owner: &str,
        partitions: Vec<InputPartition>,
    ) -> Result<Machine, MachineError> {
        let start = {
            let cluster = self.broker.lock();
            let starts = cluster.starts.iter().take(partitions.len());
            starts.map(|start| NextOffset(*start)).collect()
        };
        let tasks = self
            .tasks
            .iter()
            .zip(self.populations().1)
            .map(|(spec, population)| Task {
                name: spec.name.into(),
                entity: self.entity(spec),
                population,
                policy: serde_json::from_str::<PolicyOptions>(spec.policy)
                    .unwrap()
                    .validated()
                    .unwrap(),
                query: format!("PREDICT {}", spec.name),
            });
        Machine::new(MachineParts {
            worker: "worker-1".into(),
            fingerprint: self.fingerprint.clone(),
            graph: self.graph(Tracking::On),
            tasks: tasks.collect(),
            scorer: Arc::new(self.scorer()),
            encoders: self.encoders.clone(),
            start,
            partitions,
            owner: owner.into(),
            soft_budget: self.options.soft_budget,
            explain_budget: self.options.explain_budget,
            explain_top: self.options.explain_top,
            tick_ms: self.options.tick_ms as i64,
            current_scores: true,
            caps: CapOptions {
                per_owner_and_day: self.cap,
                ..CapOptions::default()
            }
            .checked()
            .unwrap(),
            work_lists: self.work_lists.checked(self.options.tick_ms, 0).unwrap(),
            erasure_key: ErasureKey::default(),
            exports_spans: true,
            release: self.release.as_deref().map(Into::into),
        })
    }

    /// Runs a fresh process that is killed before it commits for the `commit`th time. Returns the
    /// error it ends with.
    ///
    /// # Panics
    /// If the process ends without an error.
    pub fn run_killed_before(&self, commit: u32) -> RunError {
        let life = Life {
            fault: Some((commit, Fault::Before)),
            ..Life::default()
        };
        self.run(Until::End, life).unwrap_err()
    }

    /// Runs a fresh process until it ends.
    pub fn run(&self, until: Until, life: Life) -> Result<RunSummary, RunError> {
        let sink = MemorySink::new(&self.broker, life.fault, life.watcher)
            .with_take_over(life.before_take_over);
        let owns = sink.owns();
        let machine = self.try_machine(sink.owner()).unwrap();
        let clock: Arc<dyn Clock> = match life.waited_clock {
            Some(clock) => Arc::new(clock),
            None => Arc::new(life.clock),
        };
        let ports = Ports {
            source: Box::new(MemorySource::new(
                &self.broker,
                life.reading,
                life.on_idle.unwrap_or_else(|| Box::new(|| {})),
                clock.clone(),
            )),
            sink: Box::new(sink),
            outputs: Box::new(
                MemoryOutputs::new(&self.broker).with_late_epochs(life.on_look.is_some(), &owns),
            ),
            schemas: self.schemas.clone(),
            clock,
            store: self
                .store
                .clone()
                .map(|store| Box::new(store) as Box<dyn StateStore>),
        };
        let metrics = Metrics::new(&life.registry).unwrap();
        let engine = Engine::new(
            self.options.clone(),
            ports,
            machine,
            self.encoders.clone(),
            life.read_model,
            metrics,
            life.stop,
        );
        let mut engine = engine.with_skips(life.skips);
        engine = match life.on_look {
            Some(on_look) => {
                let heartbeats = MemoryHeartbeats::new(&self.broker, on_look);
                engine.with_standby(StandbyOptions::default(), Box::new(heartbeats))
            }
            None => engine,
        };
        if let Some(desk) = &self.desk {
            engine = engine.with_releases(Box::new(desk.clone()), true);
        }
        if let Some(questions) = life.questions {
            engine = engine.with_questions(questions);
        }
        match life.requests {
            Some(requests) => engine.with_requests(requests),
            None => engine,
        }
        .run(until)
    }

    /// Computes everything committed again and compares, as `leadpulse verify` does.
    pub fn audit(&self) -> AuditFindings {
        let clock = Arc::new(HandClock::default());
        let ports = Ports {
            source: Box::new(MemorySource::new(
                &self.broker,
                Reading::default(),
                Box::new(|| {}),
                clock.clone(),
            )),
            sink: Box::new(NoSink),
            outputs: Box::new(MemoryOutputs::new(&self.broker)),
            schemas: self.schemas.clone(),
            clock,
            store: None,
        };
        let metrics = Metrics::new(&prometheus::Registry::new()).unwrap();
        let (read_model, stop) = (Arc::default(), Arc::default());
        let engine = Engine::new(
            self.options.clone(),
            ports,
            self.machine(),
            self.encoders.clone(),
            read_model,
            metrics,
            stop,
        );
        let engine = match &self.desk {
            Some(desk) => engine.with_releases(Box::new(desk.elsewhere()), true),
            None => engine,
        };
        audit(engine).unwrap()
    }

    /// Runs to the end, no faults.
    pub fn run_to_end(&self) -> RunSummary {
        self.run(Until::End, Life::default()).unwrap()
    }

    /// The records of some partitions between offsets.
    pub fn records(&self, from: &[NextOffset], to: &[NextOffset]) -> RecordBatch {
        let cluster = self.broker.lock();
        let mut batch = RecordBatch::default();
        // Not the order they are read in by anybody: an epoch's outcome does not depend on it.
        for partition in (0..to.len()).rev() {
            let within = |m: &&Message| (from[partition].0..to[partition].0).contains(&m.offset);
            for m in cluster.input[partition].iter().filter(within) {
                let headers = m
                    .headers
                    .iter()
                    .map(|(name, value)| (name.as_str(), value.as_deref()));
                batch.push(
                    partition as u32,
                    m.offset,
                    m.timestamp_ms,
                    m.key.as_deref(),
                    m.value.as_deref(),
                    headers,
                );
            }
        }
        batch
    }

    /// Steps a machine over everything that was sent since its last step.
    pub fn step(&self, machine: &mut Machine, clock_ms: Option<i64>) -> Epoch<Sealed> {
        let to: Vec<NextOffset> = self
            .broker
            .lock()
            .ends
            .iter()
            .map(|end| NextOffset(*end))
            .collect();
        let batch = self.records(machine.positions(), &to);
        let clock = Readings {
            live_ms: clock_ms,
            bound_ms: None,
        };
        let cut = Cut {
            read: self.count(&batch, to.len()),
            positions: to,
            moment: AsOfRule::Newest,
            clock,
            closing: false,
            skipped: vec![],
            ticks: self.ticks_of(machine, &batch, clock_ms),
            work: WorkBudget::NONE,
        };
        let partitions = self.broker.lock().partitions.clone();
        let decoded = Decoders::default().decode(
            &batch,
            &partitions,
            &self.catalog,
            self.schemas.as_ref(),
            SchemaVerdicts::Store,
        );
        assert_eq!(decoded.blocked, []);
        machine.step(&batch, decoded, cut)
    }

    /// Closes one tick, at the newest of what the epoch takes and of the clock.
    fn ticks_of(&self, machine: &Machine, batch: &RecordBatch, clock_ms: Option<i64>) -> CutTicks {
        let newest_ms = batch.iter().map(|r| r.timestamp_ms()).max().max(clock_ms);
        let tick =
            newest_ms.filter(|ms| machine.ticks().closed_ms.is_none_or(|closed| closed < *ms));
        let positions = self.broker.lock().ends.clone();
        CutTicks {
            live_from_ms: self.options.live_from_ms,
            closings: tick
                .map(|tick| TickClosing { tick, positions })
                .into_iter()
                .collect(),
            ..CutTicks::default()
        }
    }

    /// Steps a machine as a committed epoch was decided.
    fn repeat(&self, machine: &mut Machine, record: &EpochRecord) -> Epoch<Sealed> {
        let batch = self.records(machine.positions(), &record.positions());
        let partitions = self.broker.lock().partitions.clone();
        // By the store, not by the record: what was refused is still registered nowhere, and the words are those that were written.
        let decoded = Decoders::default().decode(
            &batch,
            &partitions,
            &self.catalog,
            self.schemas.as_ref(),
            SchemaVerdicts::Store,
        );
        assert_eq!(decoded.blocked, []);
        let unknown = decoded
            .dead
            .iter()
            .filter(|(_, reason, _)| *reason == Reason::UnknownSchema)
            .count() as i64;
        assert_eq!(
            unknown,
            record
                .refused
                .iter()
                .map(|range| range.end - range.start)
                .sum::<i64>(),
            "refusals are recorded"
        );
        machine.repeat(&batch, decoded, record)
    }

    /// Puts the release of an epoch in force.
    fn swap_as_recorded(&self, machine: &mut Machine, record: &EpochRecord) {
        let release = record.version_note().unwrap().release;
        if release.as_deref() != machine.deployed().release() {
            let desk = self.desk.as_ref().unwrap();
            let rig = desk.rig(release.as_deref().unwrap()).unwrap();
            machine.replace(rig.machine().into_parts().0).unwrap();
        }
    }

    /// Records by partition.
    fn count(&self, batch: &RecordBatch, partitions: usize) -> Vec<i64> {
        (0..partitions as u32)
            .map(|partition| batch.iter().filter(|r| r.partition() == partition).count() as i64)
            .collect()
    }

    /// An output record as a reader with the shipped schemas sees it.
    pub fn read(&self, record: &OutputRecord) -> Json {
        let frame = Frame::parse(record.value.as_ref().unwrap(), std::iter::empty()).unwrap();
        let SchemaRef::Id(id) = frame.schema else {
            panic!("outputs are framed with an id")
        };
        let parse = || {
            let text = self.schemas.lookup(&frame.schema).unwrap().text;
            Arc::new(apache_avro::Schema::parse_str(&text).unwrap())
        };
        let schema = OUTPUT_SCHEMAS
            .lock()
            .unwrap()
            .entry(id)
            .or_insert_with(parse)
            .clone();
        let reader = apache_avro::reader::datum::GenericDatumReader::builder(&schema)
            .build()
            .unwrap();
        Json::try_from(reader.read_value(&mut &frame.body[..]).unwrap()).unwrap()
    }

    /// The outputs of some kind among records.
    pub fn outputs(&self, records: &[OutputRecord], output: Output) -> Vec<Json> {
        records
            .iter()
            .filter(|r| r.output == output)
            .map(|r| self.read(r))
            .collect()
    }

    /// All committed outputs of some kind, in order.
    pub fn committed(&self, output: Output) -> Vec<Json> {
        let epochs = self.broker.lock().epochs.clone();
        epochs
            .iter()
            .flat_map(|e| self.outputs(&e.outputs, output))
            .collect()
    }

    /// Keys and values of all committed outputs of some kind, in order.
    pub fn bytes_of(&self, output: Output) -> Vec<KeyAndValue> {
        let epochs = self.broker.lock().epochs.clone();
        let outputs = epochs.iter().flat_map(|epoch| &epoch.outputs);
        let of_kind = outputs.filter(|record| record.output == output);
        of_kind
            .map(|record| (record.key.clone(), record.value.clone()))
            .collect()
    }

    /// The newest committed score of each (task, entity) in the population: its logit.
    pub fn standings(&self) -> BTreeMap<(String, String), f64> {
        let mut standings = BTreeMap::new();
        for score in self.committed(Output::Scores) {
            let key = (
                score["task"].as_str().unwrap().to_owned(),
                score["entity_id"].as_str().unwrap().to_owned(),
            );
            match score["logit"].as_f64() {
                Some(logit) => standings.insert(key, logit),
                None => standings.remove(&key),
            };
        }
        standings
    }

    /// What a graph built from all input at once, encoded and scored directly at a moment, says.
    pub fn rebuilt_standings(&self, as_of_ms: i64) -> BTreeMap<(String, String), f64> {
        use leadpulse_features::Scorer;
        let (partitions, ends) = {
            let cluster = self.broker.lock();
            (
                cluster.partitions.clone(),
                cluster
                    .ends
                    .iter()
                    .map(|end| NextOffset(*end))
                    .collect::<Vec<_>>(),
            )
        };
        let batch = self.records(&vec![NextOffset(0); ends.len()], &ends);
        let decoded = Decoders::default().decode(
            &batch,
            &partitions,
            &self.catalog,
            self.schemas.as_ref(),
            SchemaVerdicts::Store,
        );
        let mut graph = self.graph(Tracking::Off);
        graph.apply(&decoded.rows, None);
        graph.advance(AsOf::from_ms(as_of_ms));
        let scorer = self.scorer();
        let mut standings = BTreeMap::new();
        let populations = self.populations().1;
        let asked: Vec<_> = self.tasks.iter().map(|task| self.entity(task)).collect();
        for (at, cell) in graph.cells() {
            let batch = scorer
                .plan()
                .encode(&graph, &[at], AsOf::from_ms(as_of_ms), &asked);
            for (index, (task, population)) in self.tasks.iter().zip(&populations).enumerate() {
                let logits = scorer.logits(&batch, index);
                for node in cell.nodes.iter().filter(|n| n.table == self.entity(task)) {
                    if !graph
                        .view(cell, node, AsOf::from_ms(as_of_ms), population)
                        .is_eligible()
                    {
                        continue;
                    }
                    let member = scorer
                        .plan()
                        .layout()
                        .members
                        .iter()
                        .position(|m| m.table == node.table);
                    let slot = member.map_or(Some(0), |m| {
                        batch.members[m]
                            .entities
                            .iter()
                            .position(|e| *e == Some(node.entity))
                    });
                    let slot = slot.expect("the market has few members an account");
                    standings.insert(
                        (
                            task.name.to_owned(),
                            graph.directory().key(node.entity).to_string(),
                        ),
                        logits[slot],
                    );
                }
            }
        }
        standings
    }

    /// The committed epoch records.
    pub fn script(&self) -> Vec<EpochRecord> {
        let cluster = self.broker.lock();
        let values = cluster
            .epochs
            .iter()
            .flat_map(|e| &e.outputs)
            .filter(|r| r.output == Output::Epochs);
        let entries = values.flat_map(|r| {
            self.encoders
                .read_script(r.value.as_ref().unwrap())
                .unwrap()
        });
        let epochs = entries.filter_map(|entry| match entry {
            ScriptRecord::Epoch(record) => Some(*record),
            ScriptRecord::Layout(_) => None,
        });
        epochs.collect()
    }

    /// C1, C4, C6 on everything that was ever committed: committed outputs = reference(script); intervals tile the partitions;
    /// in = accepted + duplicate + unchanged + dead letters; each dead letter is one input record, byte for byte.
    pub fn check_committed(&self) {
        let script = self.script();
        let (epochs, input, partitions) = {
            let cluster = self.broker.lock();
            (
                cluster.epochs.clone(),
                cluster.input.clone(),
                cluster.partitions.clone(),
            )
        };
        assert_eq!(script.len(), epochs.len(), "one record an epoch");
        let Some(committed) = self.broker.lock().committed() else {
            return;
        };
        let mut chain = Chain::default();
        for record in epochs
            .iter()
            .flat_map(|e| &e.outputs)
            .filter(|r| r.output == Output::Epochs)
        {
            for entry in self
                .encoders
                .read_script(record.value.as_ref().unwrap())
                .unwrap()
            {
                chain.follow(entry).unwrap();
            }
        }
        chain.ends_with(&committed).unwrap();
        assert!(chain.layout().is_of(&partitions));

        // Another machine that steps along the script, and restarts where another process went on.
        let first = script[0].partitions.len();
        let mut reference = self
            .machine_of("nobody", partitions[..first].to_vec())
            .unwrap();
        let starts = script[0].partitions.iter();
        let mut at: Vec<NextOffset> = starts.map(|it| NextOffset(it.start)).collect();
        let mut owner: Option<&str> = None;
        let mut before: Option<&EpochRecord> = None;
        for (record, sealed) in script.iter().zip(&epochs) {
            let number = record.epoch;
            assert!(
                invariants::numbers_have_no_gaps(before, record),
                "epoch {number}"
            );
            if let Some(before) = before {
                assert!(
                    invariants::as_of_never_goes_back(before.as_of, record.as_of)
                        && invariants::intervals_tile(&before.partitions, &record.partitions),
                    "epoch {number}"
                );
            }
            before = Some(record);
            assert!(
                invariants::intervals_hold_their_records(&record.partitions)
                    && invariants::records_have_one_outcome(record)
                    && invariants::sealed_as_recorded(sealed, record)
                    && invariants::dead_letters_are_written(sealed, record),
                "epoch {number}: {record:?}"
            );
            let is_resumed = record.sections.contains_key(RESUMED_SECTION);
            if owner.is_some_and(|owner| owner != record.owner) {
                match is_resumed {
                    true => assert!(reference.resume(), "epoch {number}"),
                    false => reference.restart(false),
                }
            }
            owner = Some(&record.owner);
            self.swap_as_recorded(&mut reference, record);
            if record.partitions.len() > at.len() {
                let starts = vec![NextOffset(0); record.partitions.len() - at.len()];
                reference.add_partitions(&partitions[at.len()..record.partitions.len()], &starts);
                at.extend(starts);
            }
            let starts: Vec<NextOffset> = record
                .partitions
                .iter()
                .map(|p| NextOffset(p.start))
                .collect();
            assert_eq!(
                starts, at,
                "epoch {number} starts where the one before ended"
            );
            assert_eq!(
                record.positions(),
                sealed.positions,
                "epoch {number}: the record's and the transaction's positions"
            );
            assert_eq!(
                (record.epoch as u64, record.as_of),
                (sealed.number, sealed.as_of_ms)
            );
            let taken = self.records(&at, &sealed.positions).len() as i64;
            let dead: i64 = record.dead_lettered.iter().map(|r| r.count).sum();
            assert_eq!(
                taken,
                record.outcomes().records(),
                "epoch {number}: in = accepted + duplicate + unchanged + dead letters"
            );
            let count =
                |output| sealed.outputs.iter().filter(|r| r.output == output).count() as i64;
            assert_eq!(
                (
                    count(Output::Scores),
                    count(Output::Alerts),
                    count(Output::DeadLetters)
                ),
                (record.scores, record.alerts, dead)
            );
            let by_reason = |code: &str| {
                record
                    .dead_lettered
                    .iter()
                    .find(|r| r.reason == code)
                    .map_or(0, |r| r.count)
            };
            assert_eq!(
                (
                    by_reason("late_beyond_horizon"),
                    by_reason("future_timestamp")
                ),
                (record.late, record.future)
            );
            let outcome = sealed.outputs.iter().filter(|r| r.output != Output::Epochs);
            assert_eq!(record.digest, digest(outcome), "epoch {number}");

            let stepped = self.repeat(&mut reference, record);
            for (ours, theirs) in stepped
                .sealed
                .outputs
                .iter()
                .zip(&sealed.outputs)
                .filter(|(ours, theirs)| ours != theirs)
            {
                let text = |r: &OutputRecord| r.value.as_ref().map(|_| self.read(r).to_string());
                println!(
                    "epoch {number} {:?}:\n  reference {:?}\n  committed {:?}",
                    ours.output,
                    text(ours),
                    text(theirs)
                );
            }
            assert_eq!(
                stepped.record, *record,
                "the reference's record of epoch {number}"
            );
            assert!(
                *stepped.sealed == *sealed,
                "the reference's outputs of epoch {number} have other bytes"
            );
            at.clone_from(&sealed.positions);
        }

        self.check_current_scores(epochs.iter().flat_map(|e| &e.outputs));
        let found = self.audit();
        assert_eq!(
            (found.epochs, found.recomputed),
            (script.len() as u64, script.len() as u64)
        );
        assert_eq!(
            (
                found.outputs_differ,
                found.rows_differ,
                found.first_difference
            ),
            (0, 0, None)
        );

        let mut letters = BTreeMap::new();
        for letter in epochs
            .iter()
            .flat_map(|e| &e.outputs)
            .filter(|r| r.output == Output::DeadLetters)
        {
            let header = |name: &str| {
                let (_, value) = letter.headers.iter().rfind(|(n, _)| n == name).unwrap();
                String::from_utf8(value.clone().unwrap()).unwrap()
            };
            let number: i32 = header(HEADER_PARTITION).parse().unwrap();
            let partition = partitions
                .iter()
                .position(|p| p.topic == header(HEADER_TOPIC) && p.partition == number)
                .unwrap();
            let offset: i64 = header(HEADER_OFFSET).parse().unwrap();
            let original = input[partition]
                .iter()
                .find(|m| m.offset == offset)
                .unwrap();
            assert_eq!(
                (&letter.key, &letter.value, letter.timestamp_ms),
                (&original.key, &original.value, original.timestamp_ms)
            );
            assert!(letter.headers.starts_with(&original.headers));
            *letters.entry((partition, offset)).or_insert(0) += 1;
        }
        assert!(
            letters.values().all(|n| *n == 1),
            "a record is dead-lettered once"
        );
    }

    /// Compacting the topic of current scores leaves what folding the history does: the newest record of a key, nothing of the deleted.
    pub fn check_current_scores<'a>(&self, outputs: impl Iterator<Item = &'a OutputRecord>) {
        let (mut folded, mut current) = (BTreeMap::new(), BTreeMap::new());
        // Tombstones without a score, which only an erasure writes: its proof comes behind them.
        let mut erased = Vec::new();
        for record in outputs {
            match record.output {
                Output::Scores => {
                    let deleted = self.read(record)["reason"] == "deleted";
                    folded.insert(
                        record.key.clone(),
                        record.value.clone().filter(|_| !deleted),
                    );
                }
                Output::CurrentScores => {
                    if record.value.is_none() {
                        erased.push(record.key.clone());
                    }
                    drop(current.insert(record.key.clone(), record.value.clone()))
                }
                Output::ErasureProofs => {
                    folded.extend(erased.drain(..).map(|key| (key, None)));
                }
                Output::Epochs => erased.clear(),
                _ => {}
            }
        }
        assert!(
            folded == current,
            "the current scores are not those of the history"
        );
    }
}

/// SHA-256 over kind, key and value of outputs, lengths before bytes.
fn digest<'a>(outputs: impl Iterator<Item = &'a OutputRecord>) -> String {
    let mut hash = Sha256::new();
    for record in outputs {
        let kind = [record.output as u8];
        for part in [
            Some(&kind[..]),
            record.key.as_deref(),
            record.value.as_deref(),
        ] {
            hash.update(part.map_or(-1_i64, |b| b.len() as i64).to_le_bytes());
            hash.update(part.unwrap_or_default());
        }
    }
    leadpulse_schema::hex(&hash.finalize())
}
