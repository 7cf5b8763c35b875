//! Speed of the pipeline, each figure beside a reference of the same run: `make bench`.
//!
//! * `memory`: framed Avro records to sealed epochs, no Kafka; beside Avro's value tree and beside
//!   recomputing what is kept up to date.
//! * `model`: encoding, scoring and explaining cells.
//! * `kafka`: topics to committed scores on a real cluster; beside the same bytes copied in
//!   transactions through the same ports.
//!
//! Absolute figures belong to a machine and its load, both printed; the ratios are what compares.
//! The market is simulated and the bundle is fitted here: its accuracy is not under test, its size
//! is that of `leadpulse train`.

mod cluster;
mod gauge;
mod ground;
mod memory;
mod model;

// The Kafka part runs on the tests' cluster.
#[path = "../tests/harness.rs"]
mod harness;

use anyhow::Result;
use clap::{Parser, ValueEnum};

use leadpulse_deployment::SystemClock;
use leadpulse_engine::ports::Clock;
use leadpulse_graph::DAY_MS;

use crate::ground::{Ground, Size};

// As the command: glibc's allocator triples the time of a batch.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    Memory,
    Model,
    Kafka,
}

/// Throughput and latency, beside references of the same run.
#[derive(Debug, Parser)]
struct Arguments {
    /// Parts to measure; everything by default.
    parts: Vec<Part>,
    /// Accounts in the market.
    #[arg(long, default_value_t = 2000)]
    accounts: usize,
    /// Days of its history.
    #[arg(long, default_value_t = 365)]
    days: u32,
    /// Members of the ensemble that scores.
    #[arg(long, default_value_t = 3)]
    ensemble: usize,
    /// Records a second in the latency runs on Kafka, and per second of event time in the live runs
    /// in memory.
    #[arg(long, default_value_t = 20_000)]
    rate: u32,
    /// Seconds of each latency run that count; a third as much comes before as warm-up.
    #[arg(long, default_value_t = 15)]
    seconds: u32,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    let Arguments {
        parts,
        accounts,
        days,
        ensemble,
        rate,
        seconds,
        bench: _,
    } = Arguments::parse();
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::WARN)
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .init();
    let wanted = |part: Part| parts.is_empty() || parts.contains(&part);
    let paced = cluster::Pace {
        rate,
        warm_up_seconds: seconds.div_ceil(3),
        seconds,
    };
    gauge::print_machine();
    let live_records = memory::LIVE_RECORDS.max(paced.records());
    let ground = Ground::prepare(&Size {
        accounts,
        days,
        ensemble,
        live_records,
        live_per_second: rate,
        // Live records are of now: the clock counts once everything is read.
        ends_ms: wanted(Part::Kafka).then(|| {
            let now_ms = SystemClock.wall_ms();
            now_ms - now_ms.rem_euclid(DAY_MS)
        }),
    })?;
    ground.print();
    if wanted(Part::Memory) || wanted(Part::Model) {
        let mut driver = memory::Driver::new(&ground)?;
        let history = driver.take_history(&ground)?;
        if wanted(Part::Memory) {
            memory::measure(&ground, &mut driver, history)?;
        }
        if wanted(Part::Model) {
            model::measure(&ground, driver.graph());
        }
    }
    if wanted(Part::Kafka) {
        cluster::measure(&ground, &paced)?;
    }
    Ok(())
}
