//! Stored state by size: what a graph needs in memory and on the disk, and how long a start takes.
//!
//! ```text
//! cargo bench --profile dev -p leadpulse-benches --bench stored -- simulate FILES --accounts 8000 --days 60
//! cargo bench --profile dev -p leadpulse-benches --bench stored -- build DIR --files FILES --budget 600
//! cargo bench --profile dev -p leadpulse-benches --bench stored -- open DIR
//! ```
//!
//! `build` applies the rows of files in epochs, marks and "scores" what becomes dirty without
//! a network, and stores every epoch. `open` is another process: it reads what a start reads, then
//! the nodes of cells in an order of chance. Drop the page cache between the two for a cold disk.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use leadpulse_deployment::Loaded;
use leadpulse_engine::ports::{StateStore, StoreHead, StoredChange};
use leadpulse_engine::{NODE_AREA, Pieces, StateError};
use leadpulse_graph::{CellRef, Graph, Tracking, Which};
use leadpulse_history::Replay;
use leadpulse_project::Project;
use leadpulse_schema::RowBatch;
use leadpulse_schema::units::AsOf;
use leadpulse_sim::{Knobs, Market, MarketOptions, write_files};
use leadpulse_store::{FolderStore, StoreMetrics};
use rand::SeedableRng;
use rand::seq::SliceRandom;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Rows of an epoch.
const EPOCH_ROWS: usize = 20_000;
/// Soft-dirty cells taken in an epoch, as configured by default.
const SOFT: usize = 512;
const QUEUE_BYTES: usize = 256 << 20;

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    part: Part,
    /// Given by `cargo bench`.
    #[arg(long, hide = true, global = true)]
    bench: bool,
}

#[derive(Subcommand)]
enum Part {
    /// Writes the files of a simulated market.
    Simulate {
        /// The folder of the files.
        files: PathBuf,
        #[arg(long, default_value_t = 2_000)]
        accounts: usize,
        #[arg(long, default_value_t = 60)]
        days: u32,
    },
    /// Makes a stored state.
    Build {
        /// The folder of the state.
        dir: PathBuf,
        /// The folder of the files.
        #[arg(long)]
        files: PathBuf,
        /// MiB of memory of the process; without it all nodes stay.
        #[arg(long)]
        budget: Option<usize>,
    },
    /// Goes on from it.
    Open {
        /// The folder of the state.
        dir: PathBuf,
        /// Cells that are read one by one.
        #[arg(long, default_value_t = 2_000)]
        cells: usize,
    },
}

fn main() -> Result<()> {
    let project = project()?;
    match Arguments::parse().part {
        Part::Simulate {
            files,
            accounts,
            days,
        } => simulate(&files, accounts, days),
        Part::Build { dir, files, budget } => {
            build(&project, &dir, &files, budget.map(|mib| mib << 20))
        }
        Part::Open { dir, cells } => open(&project, &dir, cells),
    }
}

fn loaded() -> Result<Loaded> {
    let configuration = Path::new(env!("CARGO_MANIFEST_DIR")).join("../leadpulse.toml");
    Ok(Loaded::read(&configuration, &[])?)
}

fn project() -> Result<Project> {
    Ok(loaded()?.project()?)
}

fn folder_store(dir: &Path, budget: Option<usize>) -> Result<FolderStore> {
    let metrics = StoreMetrics::register(&prometheus::Registry::new())?;
    Ok(FolderStore::new(dir, QUEUE_BYTES, &metrics).with_memory(budget))
}

fn simulate(files: &Path, accounts: usize, days: u32) -> Result<()> {
    let options = MarketOptions {
        accounts,
        days,
        seed: 3,
        ..MarketOptions::default()
    };
    let mut market = Market::new(options, Knobs::default())?;
    write_files(&mut market, files, &mut |_| {})?;
    Ok(())
}

fn build(project: &Project, dir: &Path, files: &Path, budget: Option<usize>) -> Result<()> {
    let sources = loaded()?.files(&project.catalog, files)?;
    let mut replay = Replay::open(project.catalog.clone(), &sources)?;

    let mut store = folder_store(dir, budget)?;
    store.replace()?;
    let mut graph = project.graph(Tracking::On);
    let mut written = Written::default();
    graph.write_portions(&mut |pieces| written.put(&mut store, &pieces))?;
    store.finish(&StoreHead::default())?;
    let nodes = store.nodes().context("the store has no nodes")?;
    graph.keep_cold(nodes, 0);
    graph.note_changes();

    let started = Instant::now();
    let (mut epoch, mut records, mut most) = (0, 0, 0);
    loop {
        let mut rows = RowBatch::new();
        let read = replay.read(i64::MAX, EPOCH_ROWS, &mut rows)?;
        if read == 0 {
            break;
        }
        (epoch, records) = (epoch + 1, records + read);
        step(&mut graph, &rows);
        let mut pieces = Pieces::default();
        graph.write_pieces(Which::Changed, &mut pieces);
        graph.forget_changes(epoch);
        written.note(&pieces);
        let mut waiting = Some(StoredChange {
            after: epoch - 1,
            head: StoreHead {
                epoch,
                ..StoreHead::default()
            },
            pieces,
            is_erasure: false,
        });
        while let Some(change) = waiting.take() {
            waiting = store.write(change);
            if waiting.is_some() {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        make_room(&mut graph, &mut store, epoch);
        most = most.max(resident());
    }
    drop(replay);
    let seconds = started.elapsed().as_secs_f64();
    let residence = graph.residence().unwrap_or_default();
    let size = graph.size();
    let entities: usize = size.known.iter().chain(&size.stubs).sum();
    println!("records    {records} in {epoch} epochs, {seconds:.1} s");
    println!("entities   {entities} in {} cells", size.cells);
    println!(
        "memory     {} MiB resident, {} MiB at most; nodes of {} cells, {} MiB, are in memory; {} were put out, {} read back",
        resident() >> 20,
        most >> 20,
        residence.cells,
        residence.bytes >> 20,
        residence.put_out,
        residence.reads
    );
    store.close();
    let disk = bytes_of(dir)?;
    println!(
        "disk       {} MiB; {} bytes an entity; {} MiB of pieces in {} were handed over",
        disk >> 20,
        disk / entities.max(1) as u64,
        written.bytes >> 20,
        written.pieces
    );
    Ok(())
}

/// Puts nodes out as the engine does.
fn make_room(graph: &mut Graph, store: &mut FolderStore, epoch: u64) {
    loop {
        let before = graph.residence().unwrap_or_default();
        let budget = store.node_budget(before.bytes, graph.directory().len());
        let synced = store.status().synced;
        graph.put_out(synced, budget);
        let after = graph.residence().unwrap_or_default();
        let is_waiting = synced < epoch;
        if after.bytes <= budget.saturating_add(budget / 4)
            || !(is_waiting || after.put_out > before.put_out)
        {
            return;
        }
        if is_waiting {
            store.sync_soon();
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// An epoch as the engine makes it, with margins of chance instead of scores.
fn step(graph: &mut Graph, rows: &RowBatch) {
    let newest_ms = rows.iter().map(|row| row.known_ms()).max();
    graph.apply(rows, None);
    graph.advance(AsOf::from_ms(newest_ms.unwrap_or_default()));
    for (at, _) in graph.take_due() {
        graph.folded(at);
    }
    for (at, _) in graph.take_dirty(SOFT) {
        graph.scored(at, 1.0);
    }
}

#[derive(Default)]
struct Written {
    bytes: usize,
    pieces: usize,
}

impl Written {
    fn note(&mut self, pieces: &Pieces) {
        self.bytes += pieces.bytes();
        self.pieces += pieces.len();
    }

    fn put(&mut self, store: &mut FolderStore, pieces: &Pieces) -> Result<()> {
        self.note(pieces);
        Ok(store.put(pieces)?)
    }
}

fn open(project: &Project, dir: &Path, cells: usize) -> Result<()> {
    let before = resident();
    let started = Instant::now();
    let mut store = folder_store(dir, None)?;
    let head = store.head()?.context("the folder has no whole state")?;
    let mut graph = project.graph(Tracking::On);
    graph.keep_cold(store.nodes().context("the store has no nodes")?, 0);
    let mut pieces = 0_u64;
    store.read(&mut |key, value| {
        pieces += 1;
        debug_assert_ne!(key[0], NODE_AREA);
        graph.read_piece(key, value).map_err(StateError::from)
    })?;
    graph.finish_reading()?;
    let seconds = started.elapsed().as_secs_f64();
    let entities = graph.directory().len();
    println!(
        "start      epoch {}: {pieces} pieces, {entities} keys in {seconds:.2} s; {} bytes of memory a key, {} MiB in all",
        head.epoch,
        resident().saturating_sub(before) / entities.max(1),
        resident() >> 20
    );
    let mut all: Vec<CellRef> = graph.cells().map(|(at, _)| at).collect();
    let mut dice = rand_chacha::ChaCha8Rng::seed_from_u64(7);
    all.shuffle(&mut dice);
    let mut times = Vec::new();
    let mut nodes = 0;
    for at in all.into_iter().take(cells) {
        let started = Instant::now();
        nodes += graph.cell(at).nodes.iter().count();
        times.push(started.elapsed());
    }
    times.sort_unstable();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize].as_micros();
    let residence = graph.residence().unwrap_or_default();
    println!(
        "cells      {} read, {:.1} nodes each: p50 {} µs, p99 {} µs, at most {} µs; {} bytes a node in memory",
        times.len(),
        nodes as f64 / times.len().max(1) as f64,
        at(0.5),
        at(0.99),
        at(1.0),
        residence.bytes / nodes.max(1)
    );
    Ok(())
}

fn bytes_of(dir: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        bytes += match entry.file_type()?.is_dir() {
            true => bytes_of(&entry.path())?,
            false => entry.metadata()?.len(),
        };
    }
    Ok(bytes)
}

/// Memory that the process holds, bytes; 0 where the system does not tell.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse().ok());
    kib.unwrap_or(0_usize) << 10
}
