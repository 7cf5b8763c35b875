//! Cells by name, their numbers by column.

use std::collections::BTreeMap;

use leadpulse_features::{FeatureBatch, FeaturePlan, FeatureSpec};
use leadpulse_graph::{CellRef, Graph};
use leadpulse_schema::TableId;
use leadpulse_schema::units::AsOf;

use crate::market::{Market, Plain, START_MS};

/// The plan of a market with some values of its open categories in the vocabulary.
pub fn plan_of(market: &Market) -> FeaturePlan {
    let vocabulary = |path: &str, values: &[&str]| {
        (
            path.to_owned(),
            values.iter().map(|v| (*v).to_owned()).collect(),
        )
    };
    let spec = FeatureSpec {
        vocabularies: [
            vocabulary("accounts.country", &["v1", "v3"]),
            vocabulary("accounts.tech", &["t0", "t2"]),
        ]
        .into(),
        ..FeatureSpec::default()
    };
    FeaturePlan::new(market.catalog.clone(), &market.options, spec)
}

/// All numbers of a cell: the root's columns, then each member row by its key.
#[derive(Clone, Debug, PartialEq)]
pub struct Numbers {
    pub root: Vec<f32>,
    /// (member table, key) → columns. The "rest" row has no key.
    pub members: BTreeMap<(usize, String), Vec<f32>>,
}

/// The numbers of one cell of a batch.
pub fn numbers(graph: &Graph, batch: &FeatureBatch, cell: usize) -> Numbers {
    let width = batch.root.len() / batch.cells;
    let mut members = BTreeMap::new();
    for (table, block) in batch.members.iter().enumerate() {
        for slot in (0..block.slots)
            .map(|s| cell * block.slots + s)
            .filter(|s| block.mask[*s] == 1.0)
        {
            let key = block.entities[slot]
                .map_or(String::new(), |e| graph.directory().key(e).to_string());
            members.insert(
                (table, key),
                block.values[slot * block.width..(slot + 1) * block.width].to_vec(),
            );
        }
    }
    Numbers {
        root: batch.root[cell * width..(cell + 1) * width].to_vec(),
        members,
    }
}

/// The member tables of a plan: all of them asked about.
pub fn everyone(plan: &FeaturePlan) -> Vec<TableId> {
    plan.layout().members.iter().map(|m| m.table).collect()
}

/// The numbers of every cell, by the name of its top entity.
pub fn encode_all(plan: &FeaturePlan, graph: &Graph, t_ms: i64) -> BTreeMap<String, Numbers> {
    let cells: Vec<CellRef> = graph.cells().map(|(at, _)| at).collect();
    let batch = plan.encode(graph, &cells, AsOf::from_ms(t_ms), &everyone(plan));
    cells
        .iter()
        .enumerate()
        .map(|(i, at)| (name(graph, *at), numbers(graph, &batch, i)))
        .collect()
}

/// Table and key of a cell's top entity.
pub fn name(graph: &Graph, at: CellRef) -> String {
    let anchor = graph.cell(at).anchor;
    format!(
        "{:?}/{}",
        graph.directory().table(anchor),
        graph.directory().key(anchor)
    )
}

/// The greatest difference of two cells' numbers relative to their size; infinite when they have other rows.
pub fn difference(a: &Numbers, b: &Numbers) -> f32 {
    let rows = |n: &Numbers| n.members.keys().cloned().collect::<Vec<_>>();
    if rows(a) != rows(b) {
        return f32::INFINITY;
    }
    let all = |n: &Numbers| {
        n.root
            .iter()
            .chain(n.members.values().flatten())
            .copied()
            .collect::<Vec<f32>>()
    };
    all(a)
        .iter()
        .zip(all(b))
        .map(|(x, y)| (x - y).abs() / x.abs().max(1.0))
        .fold(0.0, f32::max)
}

/// The columns in which two cells' numbers differ by more than `tolerance`, for people.
pub fn differing(plan: &FeaturePlan, a: &Numbers, b: &Numbers, tolerance: f32) -> Vec<String> {
    let layout = plan.layout();
    let mut rows = vec![("".to_owned(), &layout.root, Some(&a.root), Some(&b.root))];
    for member in a
        .members
        .keys()
        .chain(b.members.keys().filter(|key| !a.members.contains_key(*key)))
    {
        rows.push((
            format!("{} ", member.1),
            &layout.members[member.0].columns,
            a.members.get(member),
            b.members.get(member),
        ));
    }
    let mut differing = Vec::new();
    for (who, columns, a, b) in rows {
        match (a, b) {
            (Some(a), Some(b)) => {
                let pairs = columns
                    .iter()
                    .zip(a)
                    .zip(b)
                    .filter(|((_, x), y)| (*x - *y).abs() > tolerance * x.abs().max(1.0));
                differing.extend(pairs.map(|((c, x), y)| format!("{who}{}: {x} {y}", c.name)));
            }
            _ => differing.push(format!("{who}: a row on one side")),
        }
    }
    differing
}

/// The newest moment of some rows.
pub fn last_ms(rows: &[Plain]) -> i64 {
    rows.iter()
        .map(|r| r.time_ms.max(r.known_ms))
        .max()
        .unwrap_or(START_MS)
}
