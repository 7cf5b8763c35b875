//! Allocations of a fixed script, beside those that a file keeps: time differs between machines and
//! runs, these counts do not.
//!
//! `LEADPULSE_COUNTS=write cargo test --workspace --test counts` writes the file anew; the change is then part of
//! the commit that causes it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(
    dead_code,
    reason = "the modules are the bench's, and it uses more of them"
)]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::Path;

use allocation_counter::measure;

use leadpulse_features::{FeatureBatch, Scorer};
use leadpulse_graph::CellRef;
use leadpulse_schema::units::AsOf;

use crate::ground::{Ground, Size, epochs};

mod gauge;
mod ground;
#[path = "../tests/harness.rs"]
mod harness;
mod memory;

const FILE: &str = "results/allocations.json";
/// Records of live epochs, and of one epoch.
const LIVE: (usize, usize) = (4_000, 20);
/// Cells that are encoded and scored on their own, and in one batch.
const CELLS: (usize, usize) = (128, 16);
/// A count may differ by this share from the file's: versions of libraries allocate otherwise.
const TOLERANCE: f64 = 0.1;
/// And by so much: a count near 0 has no share.
const LEAST: f64 = 0.05;

type Counts = BTreeMap<String, f64>;

#[test]
fn allocations_are_those_of_the_file() {
    // On one thread everything is counted.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1);
    let found = pool.build().unwrap().install(count);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE);
    if std::env::var("LEADPULSE_COUNTS").is_ok_and(|what| what == "write") {
        let text = serde_json::to_string_pretty(&found).unwrap() + "\n";
        std::fs::write(&path, text).unwrap();
    }
    let text = std::fs::read_to_string(&path).unwrap();
    let kept: Counts = serde_json::from_str(&text).unwrap();
    let names = |counts: &Counts| counts.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&found), names(&kept));
    let differ: Vec<String> = found
        .iter()
        .filter(|(name, count)| {
            let kept = kept[*name];
            (*count - kept).abs() > (kept * TOLERANCE).max(LEAST)
        })
        .map(|(name, count)| format!("{name}: {count:.2}, in the file {:.2}", kept[name]))
        .collect();
    assert!(
        differ.is_empty(),
        "allocations differ from benches/{FILE}; fewer are welcome, more need a reason. LEADPULSE_COUNTS=write keeps them.\n{}",
        differ.join("\n")
    );
}

fn count() -> Counts {
    let ground = Ground::prepare(&Size {
        accounts: 150,
        days: 200,
        ensemble: 2,
        live_records: 2 * LIVE.0,
        live_per_second: 1_000,
        ends_ms: None,
    })
    .unwrap();
    let mut driver = memory::Driver::new(&ground).unwrap();
    driver.take_history(&ground).unwrap();
    let (records, size) = LIVE;
    // The first live epochs meet states of history.
    let warm = epochs(&ground.live, 0, records, size);
    driver.take_records(&ground, &warm).unwrap();
    let measured = epochs(&ground.live, records, 2 * records, size);
    let mut counts = Counts::new();
    let mut work = None;
    let taken = measure(|| work = Some(driver.take_records(&ground, &measured).unwrap()));
    let cells = work.unwrap().cells;
    let mut keep = |name: &str, all: u64, parts: usize| {
        counts.insert(name.to_owned(), all as f64 / parts.max(1) as f64);
    };
    keep(
        "decode to publish, a live record",
        taken.count_total,
        records,
    );
    keep("decode to publish, a scored cell", taken.count_total, cells);
    let decoded = measure(|| {
        let epochs = measured.iter();
        epochs.for_each(|records| drop(black_box(driver.decode(&ground, records))));
    });
    keep("decode, a record", decoded.count_total, records);

    let graph = driver.graph();
    let cells: Vec<CellRef> = graph.cells().map(|(at, _)| at).take(CELLS.0).collect();
    let (scorer, as_of) = (ground.scorer.as_ref(), AsOf::from_ms(graph.as_of_ms()));
    let encode = |chunk: &[CellRef]| scorer.plan().encode(graph, chunk, as_of, &[]);
    for size in [1, CELLS.1] {
        let encoded = measure(|| cells.chunks(size).for_each(|chunk| drop(encode(chunk))));
        let name = format!("encode, a cell in batches of {size}");
        keep(&name, encoded.count_total, cells.len());
        let batches: Vec<FeatureBatch> = cells.chunks(size).map(encode).collect();
        let scored = measure(|| {
            let batches = batches.iter();
            batches.for_each(|batch| drop(black_box(scorer.logits(batch, 0))));
        });
        let name = format!("logits, a cell in batches of {size}");
        keep(&name, scored.count_total, cells.len());
    }
    counts
}
