//! Cost of a cell by size of batch: encoding, scoring, explaining.

use std::hint::black_box;
use std::time::{Duration, Instant};

use leadpulse_features::{FeatureBatch, Forward, Scorer};
use leadpulse_graph::{CellRef, Graph};
use leadpulse_model::Bundle;
use leadpulse_schema::units::AsOf;

use crate::gauge::{Span, Table, load, number, percentile, timed};
use crate::ground::Ground;

/// Cells measured on.
const CELLS: usize = 256;
/// Sizes of batches.
const BATCHES: [usize; 4] = [1, 4, 16, 256];
/// Each figure is over at least this long.
const LEAST: Duration = Duration::from_millis(300);
/// Cells explained.
const EXPLAINED: usize = 32;

/// Measures on cells of a graph that has taken the history.
pub fn measure(ground: &Ground, graph: &Graph) {
    let known: Vec<CellRef> = graph
        .cells()
        .filter(|(_, cell)| cell.nodes.len() > 1)
        .map(|(at, _)| at)
        .collect();
    let cells: Vec<CellRef> = known
        .iter()
        .copied()
        .step_by((known.len() / CELLS).max(1))
        .take(CELLS)
        .collect();
    let (scorer, as_of_ms) = (ground.scorer.as_ref(), graph.as_of_ms());
    let burn = scorer.clone().with_forward(Forward::Burn);
    let encode = |chunk: &[CellRef]| {
        scorer
            .plan()
            .encode(graph, chunk, AsOf::from_ms(as_of_ms), &[])
    };

    let mut table = Table::new(&[
        "cells a batch",
        "encode wall µs",
        "encode CPU µs",
        "logits wall µs",
        "logits CPU µs",
        "logits by Burn, wall µs",
        "CPU µs",
        "ratio of CPU",
    ]);
    for size in BATCHES {
        let batches: Vec<FeatureBatch> = cells.chunks(size).map(encode).collect();
        let encoding = per_cell(cells.len(), || {
            cells
                .chunks(size)
                .for_each(|chunk| drop(black_box(encode(chunk))))
        });
        let score = |scorer: &Bundle| {
            let all = || {
                let batches = batches.iter();
                batches.for_each(|batch| drop(black_box(scorer.logits(batch, 0))));
            };
            per_cell(cells.len(), all)
        };
        let (scoring, by_burn) = (score(scorer), score(&burn));
        let times = [
            encoding.0, encoding.1, scoring.0, scoring.1, by_burn.0, by_burn.1,
        ];
        let figures = times.into_iter().chain([by_burn.1 / scoring.1]);
        table.row(size.to_string(), figures.map(number));
    }
    let members = cells
        .iter()
        .map(|at| graph.cell(*at).nodes.len())
        .sum::<usize>() as f64
        / cells.len().max(1) as f64;
    table.print(&format!(
        "The model: a cell of {} nodes on average, by size of batch, one caller (load {})",
        number(members),
        load()
    ));

    let mut explained: Vec<f64> = cells
        .iter()
        .take(EXPLAINED)
        .map(|at| {
            let batch = encode(&[*at]);
            let started = Instant::now();
            black_box(scorer.explain(&batch, 0, 0, 0));
            started.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    explained.sort_by(f64::total_cmp);
    println!(
        "  explaining one score: p50 {} ms, p99 {} ms",
        number(percentile(&explained, 0.5)),
        number(percentile(&explained, 0.99))
    );
}

/// Wall and CPU µs a cell, over as many passes as fill the time.
fn per_cell(cells: usize, mut pass: impl FnMut()) -> (f64, f64) {
    pass();
    let mut passes = 0;
    let ((), Span { wall, cpu }) = timed(|| {
        let started = Instant::now();
        while started.elapsed() < LEAST {
            pass();
            passes += 1;
        }
    });
    let each = |time: Duration| 1e6 * time.as_secs_f64() / (passes * cells) as f64;
    (each(wall), each(cpu))
}
