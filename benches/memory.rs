//! Framed Avro records to sealed epochs in memory: throughput by size of epoch, where the time
//! goes, and what it would be otherwise.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use apache_avro::reader::datum::GenericDatumReader;
use rayon::prelude::*;

use leadpulse_engine::ports::{
    CommittedEpoch, InputPartition, NextOffset, PortError, RecordBatch, SealedEpoch, Sink,
};
use leadpulse_engine::read_model::{EngineStatus, Phase, ReadModel};
use leadpulse_engine::{
    AsOfRule, Cut, CutTicks, Decoded, Decoders, EpochViews, Machine, MachineParts, OutputEncoders,
    Readings, SchemaVerdicts, WorkBudget,
};
use leadpulse_features::Scorer;
use leadpulse_graph::{CellRef, Graph, GraphOptions, Tracking, owner_of};
use leadpulse_history::Replay;
use leadpulse_project::Project;
use leadpulse_schema::units::AsOf;
use leadpulse_schema::{Frame, Role, RowBatch};

use crate::gauge::{Span, Table, best_of, load, mean_of, number, resident_bytes, timed};
use crate::ground::{Ground, epochs};

/// Records per epoch and records in all of each live run.
const LIVE_RUNS: [(usize, usize); 3] = [(200, 20_000), (2_000, 60_000), (20_000, 160_000)];
/// Live records that the runs take.
pub const LIVE_RECORDS: usize = LIVE_RUNS[0].1 + LIVE_RUNS[1].1 + LIVE_RUNS[2].1;
/// Stages of an epoch, in order.
const STAGES: [&str; 8] = [
    "read", "decode", "graph", "track", "infer", "policy", "seal", "publish",
];
/// Cells that are scored together, as the machine does it.
const SCORE_CHUNK: usize = 16;
/// Cells whose state is rebuilt from their rows.
const REBUILT_CELLS: usize = 512;
/// Runs of each reference.
const REFERENCE_RUNS: u32 = 3;

/// Time and results of some epochs.
#[derive(Default)]
pub struct Work {
    records: usize,
    epochs: usize,
    /// Cells scored.
    pub cells: usize,
    scores: i64,
    alerts: i64,
    stages: BTreeMap<&'static str, f64>,
    span: Span,
}

impl Work {
    fn spent(&mut self, stage: &'static str, since: Instant) {
        *self.stages.entry(stage).or_default() += since.elapsed().as_secs_f64();
    }
    fn seconds(&self, stages: &[&str]) -> f64 {
        stages
            .iter()
            .map(|stage| self.stages.get(stage).copied().unwrap_or_default())
            .sum()
    }
}

/// A sink that takes every epoch, and keeps none.
struct MemorySink;

impl Sink for MemorySink {
    fn owner(&self) -> &str {
        "bench"
    }
    fn take_over(&mut self) -> Result<Option<CommittedEpoch>, PortError> {
        Ok(None)
    }
    fn arrange(&mut self, _: &[InputPartition]) {}
    fn commit(&mut self, _: &Arc<SealedEpoch>) -> Result<(), PortError> {
        Ok(())
    }
}

/// A machine fed from memory, epoch after epoch.
pub struct Driver {
    machine: Machine,
    decoders: Decoders,
    read_model: ReadModel,
}

impl Driver {
    /// A machine before its first epoch.
    pub fn new(ground: &Ground) -> Result<Self> {
        let options = &ground.loaded.config.engine;
        let machine = Machine::new(MachineParts {
            worker: "bench".into(),
            fingerprint: ground.project.catalog.fingerprint(),
            graph: ground.project.graph(Tracking::On),
            tasks: ground.tasks()?,
            scorer: ground.scorer.clone(),
            encoders: Arc::new(OutputEncoders::new(ground.schemas.as_ref())?),
            partitions: ground.partitions.clone(),
            start: vec![NextOffset(0); ground.partitions.len()],
            owner: "bench".into(),
            soft_budget: options.soft_budget,
            explain_budget: options.explain_budget,
            explain_top: options.explain_top,
            tick_ms: options.tick_ms as i64,
            current_scores: true,
            caps: ground.loaded.config.alerts.caps.checked()?,
            work_lists: ground.loaded.config.work_lists()?,
            erasure_key: ground.loaded.config.erasure_key()?,
            exports_spans: false,
            release: None,
        })?;
        Ok(Self {
            machine,
            decoders: Decoders::default(),
            read_model: ReadModel::new(),
        })
    }

    /// The graph as it is now.
    pub fn graph(&self) -> &Graph {
        self.machine.graph()
    }

    /// Takes the whole history in the largest epochs the engine makes by default.
    pub fn take_history(&mut self, ground: &Ground) -> Result<Work> {
        self.take_records(
            ground,
            &epochs(
                &ground.history,
                0,
                ground.history.len(),
                ground.largest_epoch(),
            ),
        )
    }

    /// Takes records, epoch after epoch.
    pub fn take_records(&mut self, ground: &Ground, epochs: &[RecordBatch]) -> Result<Work> {
        let mut work = Work::default();
        let (outcome, span) = timed(|| {
            for records in epochs {
                let started = Instant::now();
                let decoded = self.decode(ground, records);
                work.spent("decode", started);
                self.step(records, decoded, &mut work);
            }
            anyhow::Ok(())
        });
        outcome?;
        Ok(Work { span, ..work })
    }

    /// Decodes the records of an epoch.
    pub fn decode(&mut self, ground: &Ground, records: &RecordBatch) -> Decoded {
        self.decoders.decode(
            records,
            &ground.partitions,
            &ground.project.catalog,
            ground.schemas.as_ref(),
            SchemaVerdicts::Store,
        )
    }

    /// The history once more, from its files: rows without Avro.
    fn take_files(&mut self, ground: &Ground) -> Result<Work> {
        let mut work = Work::default();
        let (outcome, span) = timed(|| {
            let opening = Instant::now();
            let mut replay = Replay::open(ground.project.catalog.clone(), &ground.files)?;
            work.spent("read", opening);
            loop {
                let reading = Instant::now();
                let mut rows = RowBatch::new();
                let read = replay.read(i64::MAX, ground.largest_epoch(), &mut rows)?;
                work.spent("read", reading);
                if read == 0 {
                    return anyhow::Ok(());
                }
                let decoded = Decoded {
                    records: (0..read as u32).collect(),
                    rows,
                    ..Decoded::default()
                };
                self.step(&RecordBatch::default(), decoded, &mut work);
            }
        });
        outcome?;
        Ok(Work { span, ..work })
    }

    /// One epoch, to what the engine does once it is committed.
    fn step(&mut self, records: &RecordBatch, decoded: Decoded, work: &mut Work) {
        let mut positions = self.machine.positions().to_vec();
        let mut read = vec![0; positions.len()];
        for row in decoded.rows.iter() {
            let partition = row.position().partition as usize;
            positions[partition].0 += 1;
            read[partition] += 1;
        }
        work.records += decoded.rows.len();
        let cut = Cut {
            positions,
            read,
            moment: AsOfRule::Newest,
            clock: Readings::default(),
            closing: false,
            skipped: Vec::new(),
            ticks: CutTicks::default(),
            work: WorkBudget::NONE,
        };
        let begun = Instant::now();
        let sealed = self
            .machine
            .step_timed(records, decoded, cut, &|| begun.elapsed());
        let epoch = sealed.commit(&mut MemorySink).expect("it takes everything");
        work.epochs += 1;
        work.cells += epoch.tally.cells;
        work.scores += epoch.record.scores;
        work.alerts += epoch.record.alerts;
        for (stage, seconds) in &epoch.tally.stage_seconds {
            *work.stages.entry(stage).or_default() += seconds;
        }
        let publishing = Instant::now();
        let status = EngineStatus {
            phase: Phase::Live,
            epoch: self.machine.number(),
            as_of_ms: self.machine.as_of().map(AsOf::ms),
            records: epoch.record.records(),
            lag_records: 0,
            reason: None,
            deployed: Default::default(),
        };
        let EpochViews {
            scores,
            alerts,
            work_lists,
            dead_letters,
            said,
            traced: _,
        } = epoch.into_views();
        self.read_model.publish_work_lists(work_lists);
        self.read_model.publish_dead_letters(dead_letters);
        self.read_model.publish_said(said);
        self.read_model.publish(scores, alerts, status);
        work.spent("publish", publishing);
    }
}

/// Measures everything in memory; `history` is what the driver did so far.
pub fn measure(ground: &Ground, driver: &mut Driver, history: Work) -> Result<()> {
    let files = Driver::new(ground)?.take_files(ground)?;
    let mut runs = vec![
        ("history from JSON Lines files".to_owned(), files),
        ("history from Avro records".to_owned(), history),
    ];
    let mut from = 0;
    for (epoch_records, records) in LIVE_RUNS {
        let work = driver.take_records(
            ground,
            &epochs(&ground.live, from, from + records, epoch_records),
        )?;
        runs.push((
            format!("live, epochs of {}", number(epoch_records as f64)),
            work,
        ));
        from += records;
    }
    print_throughput(ground, &runs);
    print_stages(&runs);
    print_sizes(driver.graph());
    print_decoding(ground)?;
    print_recompute(ground, driver.graph(), &runs[2..])
}

fn print_throughput(ground: &Ground, runs: &[(String, Work)]) {
    let mut table = Table::new(&[
        "",
        "records/s",
        "wall s",
        "CPU s",
        "epochs",
        "records a scored cell",
        "scored cells/s",
        "scores out",
        "alerts out",
    ]);
    for (name, work) in runs {
        let wall = work.span.wall.as_secs_f64();
        let figures = [
            work.records as f64 / wall,
            wall,
            work.span.cpu.as_secs_f64(),
            work.epochs as f64,
            work.records as f64 / work.cells.max(1) as f64,
            work.cells as f64 / wall,
            work.scores as f64,
            work.alerts as f64,
        ];
        table.row(name, figures.map(number));
    }
    table.print(&format!(
        "In memory: records to sealed epochs and the read model (load {})",
        load()
    ));
    println!(
        "  History: {} records an epoch, days of it, so a board each. Live records are dense: boards and timers hardly matter.",
        number(ground.largest_epoch() as f64)
    );
}

fn print_stages(runs: &[(String, Work)]) {
    let mut table = Table::new(&[&[""], &STAGES[..], &["all"]].concat());
    for (name, work) in runs {
        let each = |stages: &[&str]| number(1e6 * work.seconds(stages) / work.records as f64);
        table.row(
            name,
            STAGES
                .iter()
                .map(|stage| each(&[stage]))
                .chain([each(&STAGES)]),
        );
    }
    table.print(
        "Where the time goes: wall µs a record, by stage (infer = encode + network; infer, and graph in large epochs, on all threads)",
    );
}

fn print_sizes(graph: &Graph) {
    let size = graph.size();
    let nodes: usize = size.known.iter().chain(&size.stubs).sum();
    println!(
        "
Sizes: {} cells, {} nodes of {} bytes on average, {} fingerprints, {} hubs; {} MB resident",
        number(size.cells as f64),
        number(nodes as f64),
        number(size.bytes as f64 / nodes.max(1) as f64),
        number(size.fingerprints as f64),
        number(size.hubs as f64),
        number(resident_bytes().unwrap_or_default() as f64 / 1e6)
    );
}

/// Decoding alone, one thread: our decoder beside Avro's reference implementation with its schemas
/// resolved beforehand.
fn print_decoding(ground: &Ground) -> Result<()> {
    let sample = epochs(
        &ground.history,
        0,
        ground.history.len().min(200_000),
        ground.largest_epoch(),
    );
    let records = sample.iter().map(RecordBatch::len).sum::<usize>() as f64;
    let catalog = &ground.project.catalog;
    let mut decoders = Decoders::default();
    let mut ours = || {
        for batch in &sample {
            let decoded = black_box(decoders.decode(
                batch,
                &ground.partitions,
                catalog,
                ground.schemas.as_ref(),
                SchemaVerdicts::Store,
            ));
            assert!(decoded.blocked.is_empty(), "the folder has every schema");
        }
    };
    ours(); // compiles the schemas
    let ours = best_of(REFERENCE_RUNS, ours).as_secs_f64();
    let readers = ground
        .partitions
        .iter()
        .map(|p| GenericDatumReader::builder(&catalog.table_at(p.tables[0]).avro).build())
        .collect::<Result<Vec<_>, _>>()?;
    let values = || {
        for record in sample.iter().flat_map(RecordBatch::iter) {
            let headers = record
                .headers()
                .filter_map(|(name, value)| Some((name, value?)));
            let mut body = Frame::parse(record.value().unwrap_or_default(), headers)
                .expect("framed by us")
                .body;
            black_box(readers[record.partition() as usize].read_value(&mut body))
                .expect("encoded under this schema");
        }
    };
    let values = best_of(REFERENCE_RUNS, values).as_secs_f64();
    let mut table = Table::new(&["", "records/s", "µs a record", "ratio"]);
    table.row(
        "records to ordered rows",
        [
            number(records / ours),
            number(1e6 * ours / records),
            "1".into(),
        ],
    );
    table.row(
        "reference: apache-avro values",
        [
            number(records / values),
            number(1e6 * values / records),
            format!("1/{}", number(values / ours)),
        ],
    );
    table.print("Decoding alone, best of 3");
    Ok(())
}

/// Cost of an epoch if less were kept up to date. The references use the same encoder, network,
/// memory layout and threads.
fn print_recompute(ground: &Ground, graph: &Graph, live: &[(String, Work)]) -> Result<()> {
    let cells: Vec<CellRef> = graph.cells().map(|(at, _)| at).collect();
    let everything = mean_of(REFERENCE_RUNS, || score(ground, graph, &cells)).as_secs_f64();
    let (rebuilt, rows) = rebuild(ground, graph, &cells)?;
    let mut table = Table::new(&[
        "",
        "incremental",
        "every cell scored",
        "factor",
        "dirty cells rebuilt",
        "factor",
    ]);
    for (name, work) in live {
        let per_epoch = |seconds: f64| 1e3 * seconds / work.epochs as f64;
        let incremental = per_epoch(work.seconds(&["graph", "track", "infer"]));
        let all = per_epoch(work.seconds(&["graph"])) + 1e3 * everything;
        let rebuilding = per_epoch(rebuilt * work.cells as f64);
        table.row(
            name,
            [
                number(incremental),
                number(all),
                number(all / incremental),
                number(rebuilding),
                number(rebuilding / incremental),
            ],
        );
    }
    table.print("Incremental beside recomputing: wall ms an epoch (graph, track, infer), same layout and threads");
    println!(
        "  every cell scored: the state is kept, all {} cells are encoded and scored each epoch.",
        number(cells.len() as f64)
    );
    println!(
        "  dirty cells rebuilt: per scored cell its {} rows, contiguous, are applied to an empty graph, then scored: {} µs a cell.",
        number(rows),
        number(1e6 * rebuilt)
    );
    Ok(())
}

/// Encodes and scores cells as the machine does.
fn score(ground: &Ground, graph: &Graph, cells: &[CellRef]) -> usize {
    let (plan, as_of_ms) = (ground.scorer.plan(), graph.as_of_ms());
    cells
        .par_chunks(SCORE_CHUNK)
        .map(|chunk| {
            black_box(
                ground
                    .scorer
                    .logits(&plan.encode(graph, chunk, AsOf::from_ms(as_of_ms), &[]), 0),
            )
            .len()
        })
        .sum()
}

/// Rebuilds evenly chosen cells from all their rows so far and scores them: seconds a cell, and
/// rows a cell.
fn rebuild(ground: &Ground, graph: &Graph, cells: &[CellRef]) -> Result<(f64, f64)> {
    let catalog = &ground.project.catalog;
    let chosen = cells
        .iter()
        .step_by(cells.len().div_ceil(REBUILT_CELLS).max(1));
    let mut by_cell: BTreeMap<CellRef, RowBatch> =
        chosen.map(|at| (*at, RowBatch::new())).collect();
    let mut decoders = Decoders::default();
    for records in [
        (&ground.history, ground.history.len()),
        (&ground.live, LIVE_RECORDS),
    ] {
        for batch in epochs(records.0, 0, records.1, ground.largest_epoch()) {
            let decoded = decoders.decode(
                &batch,
                &ground.partitions,
                catalog,
                ground.schemas.as_ref(),
                SchemaVerdicts::Store,
            );
            for row in decoded.rows.iter() {
                let subject = match catalog.table_at(row.table()).role {
                    Role::Event => owner_of(catalog, row),
                    _ => Some((row.table(), row.key())),
                };
                let found = subject.and_then(|(table, key)| graph.find(table, key));
                if let Some(rows) = found.and_then(|(at, _)| by_cell.get_mut(&at)) {
                    rows.push_copy(catalog, row);
                }
            }
        }
    }
    let mut rows = RowBatch::new();
    by_cell
        .values()
        .flat_map(RowBatch::iter)
        .for_each(|row| rows.push_copy(catalog, row));
    // Cell after cell, time starts over: without a horizon nothing is late.
    let graph_options = GraphOptions {
        late_horizon_ms: i64::MAX / 4,
        ..ground.project.graph_options.clone()
    };
    let project = Project {
        graph_options,
        ..ground.project.clone()
    };
    let seconds = mean_of(REFERENCE_RUNS, || {
        let mut fresh = project.graph(Tracking::Off);
        black_box(fresh.apply(&rows, None));
        fresh.advance(AsOf::from_ms(graph.as_of_ms()));
        let cells: Vec<CellRef> = fresh.cells().map(|(at, _)| at).collect();
        score(ground, &fresh, &cells)
    })
    .as_secs_f64();
    Ok((
        seconds / by_cell.len() as f64,
        rows.len() as f64 / by_cell.len() as f64,
    ))
}
