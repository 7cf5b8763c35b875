//! Layouts and batches for the tests of this crate.

use std::sync::Arc;

use burn::tensor::Device;
use leadpulse_features::{
    Absent, Column, FeatureBatch, Group, GroupKind, Layout, MemberBlock, MemberLayout,
};
use leadpulse_graph::EntityId;
use leadpulse_schema::TableId;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde_json::Map;

use crate::examples::normalise::Normaliser;
use crate::examples::store::CellStore;
use crate::examples::{Example, ExampleSet};
use crate::fit::calibrate::Calibration;
use crate::fit::{Fitted, FittedTask, Regularisation, TaskDefinition, target_of};
use crate::network::head::{Head, Outcome};
use crate::network::{NetworkConfig, TowerConfig, TowerTarget, TrunkConfig};
use crate::trees::TreeMember;
use crate::trees::columns::TreeColumn;
use crate::trees::forest::{DecisionTree, Forest, TreeNode};

/// The root's table in these tests; member table `i` is `TableId(i + 1)`.
pub const ROOT: TableId = TableId(0);

/// A layout of these widths; each column is a group of its own, up to six, then they share.
pub fn layout(root: usize, members: &[usize]) -> Layout {
    let column = |name: String, i: usize| Column {
        name,
        group: i % 6,
        absent: if i.is_multiple_of(2) {
            Absent::Zero
        } else {
            Absent::Mean
        },
    };
    let columns = |prefix: &str, n: usize| {
        (0..n)
            .map(|i| column(format!("{prefix}.{i}"), i))
            .collect::<Vec<_>>()
    };
    Layout {
        root: columns("root", root),
        members: members
            .iter()
            .enumerate()
            .map(|(i, width)| MemberLayout {
                table: TableId(i as u16 + 1),
                name: format!("member{i}"),
                existence: 5 - i % 2,
                columns: columns(&format!("member{i}"), *width),
            })
            .collect(),
        groups: (0..6)
            .map(|i| Group {
                code: format!("group{i}"),
                label: format!("Group {i}"),
                kind: GroupKind::ALL[i % 4],
            })
            .collect(),
    }
}

/// A cell: its root row, and for each member table its rows.
pub type Cell<'a> = (&'a [f32], &'a [&'a [&'a [f32]]]);

/// A batch of cells.
pub fn batch_of(layout: &Layout, cells: &[Cell<'_>]) -> FeatureBatch {
    let owned: Vec<OwnedCell> = cells
        .iter()
        .map(|(root, tables)| {
            (
                root.to_vec(),
                tables
                    .iter()
                    .map(|t| t.iter().map(|r| r.to_vec()).collect())
                    .collect(),
            )
        })
        .collect();
    batch_of_owned(layout, &owned)
}

/// A cell that owns its rows.
pub type OwnedCell = (Vec<f32>, Vec<Vec<Vec<f32>>>);

/// A batch of cells that own their rows.
pub fn batch_of_owned(layout: &Layout, cells: &[OwnedCell]) -> FeatureBatch {
    let mut batch = FeatureBatch {
        cells: cells.len(),
        ..FeatureBatch::default()
    };
    for (root, _) in cells {
        batch.root.extend_from_slice(root);
    }
    for (t, member) in layout.members.iter().enumerate() {
        let width = member.columns.len();
        let slots = cells
            .iter()
            .map(|(_, tables)| tables[t].len())
            .max()
            .unwrap_or(0);
        let mut block = MemberBlock {
            slots,
            width,
            ..MemberBlock::default()
        };
        for (_, tables) in cells {
            for slot in 0..slots {
                block.values.extend(
                    tables[t]
                        .get(slot)
                        .cloned()
                        .unwrap_or_else(|| vec![0.0; width]),
                );
                block.mask.push(f32::from(u8::from(slot < tables[t].len())));
                block.entities.push(None);
            }
            block.attended.push(tables[t].len() as u32);
            block.folded.push(0);
        }
        batch.members.push(block);
    }
    batch
}

/// A random cell with up to `most` rows per member table.
pub fn random_cell(layout: &Layout, most: usize, rng: &mut ChaCha8Rng) -> OwnedCell {
    let row = |n: usize, rng: &mut ChaCha8Rng| {
        (0..n)
            .map(|_| rng.random_range(-2.0f32..2.0))
            .collect::<Vec<f32>>()
    };
    let root = row(layout.root.len(), rng);
    let tables = layout
        .members
        .iter()
        .map(|m| {
            let rows = rng.random_range(0..=most);
            (0..rows).map(|_| row(m.columns.len(), rng)).collect()
        })
        .collect();
    (root, tables)
}

/// A set of every cell of a batch, an example each: `of` says slot, entity, anchor and outcome.
pub fn one_set(
    layout: &Layout,
    batch: &FeatureBatch,
    of: impl Fn(usize) -> (usize, EntityId, i64, Outcome),
) -> ExampleSet {
    let mut store = CellStore::new(layout);
    let examples: Vec<Example> = (0..batch.cells)
        .map(|cell| {
            let (slot, entity, anchor_ms, outcome) = of(cell);
            Example {
                row: store.push(batch, cell),
                slot,
                entity,
                anchor_ms,
                outcome,
                weight: 1.0,
            }
        })
        .collect();
    let mut set = ExampleSet::new(Arc::new(store));
    examples.into_iter().for_each(|example| set.push(example));
    set
}

/// A task on a table.
pub fn task(name: &str, entity: TableId, head: Head) -> TaskDefinition {
    let entity_name = if entity == ROOT {
        "root".into()
    } else {
        format!("member{}", entity.0 - 1)
    };
    TaskDefinition {
        name: name.into(),
        entity,
        entity_name,
        pql: format!("PREDICT {name}"),
        horizon_ms: 1000,
        head,
    }
}

/// Trees with random splits over all that a task may read.
fn random_forest(
    layout: &Layout,
    target: TowerTarget,
    outputs: usize,
    rng: &mut ChaCha8Rng,
) -> Forest {
    let columns = TreeColumn::all(layout, target, outputs);
    let split = |rng: &mut ChaCha8Rng, left: u32| {
        let column = rng.random_range(0..columns.len());
        let cut = match columns[column] {
            TreeColumn::Bucket => 0,
            _ => rng.random_range(-8000..8000),
        };
        TreeNode::Split(column as u32, cut, left, left + 1)
    };
    let leaf = |rng: &mut ChaCha8Rng| TreeNode::Leaf(rng.random_range(-0.3f32..0.3));
    let trees = (0..40).map(|_| DecisionTree {
        nodes: vec![
            split(rng, 1),
            split(rng, 3),
            leaf(rng),
            leaf(rng),
            leaf(rng),
        ],
    });
    let trees = trees.collect();
    Forest::new(outputs, -1.0, columns, trees)
}

/// Two networks with random parameters and random trees beside them: a hazard task on the root, and
/// a window task on each member table and one on the root row alone.
pub fn untrained(layout: &Layout, rng: &mut ChaCha8Rng) -> Fitted {
    let mut definitions = vec![task("root", ROOT, Head::hazard(vec![10, 100, 1000]))];
    definitions.extend(
        layout
            .members
            .iter()
            .map(|m| task(&m.name, m.table, Head::Window)),
    );
    definitions.push(task("alone", ROOT, Head::Window));
    let towers: Vec<TowerConfig> = definitions
        .iter()
        .enumerate()
        .map(|(i, d)| {
            let target = target_of(layout, d.entity);
            TowerConfig {
                target,
                hidden: 24 + 8 * i,
                outputs: d.head.outputs(),
                residual: i == 0,
                reads_members: d.name != "alone",
            }
        })
        .collect();
    let config = NetworkConfig {
        trunk: TrunkConfig::for_layout(layout),
        towers,
        has_trunk: true,
    };
    let cells: Vec<OwnedCell> = (0..20).map(|_| random_cell(layout, 6, rng)).collect();
    let examples = one_set(layout, &batch_of_owned(layout, &cells), |i| {
        (0, EntityId(i as u32), 0, Outcome::Window(false))
    });
    let networks = (0..2).map(|_| config.init(rng, &Device::flex())).collect();
    let forests: Vec<Forest> = (config.towers.iter())
        .map(|tower| random_forest(layout, tower.target, tower.outputs, rng))
        .collect();
    Fitted {
        layout: layout.clone(),
        networks,
        config,
        normaliser: Normaliser::fit(&examples),
        tasks: definitions
            .into_iter()
            .zip(forests)
            .map(|(definition, forest)| FittedTask {
                definition,
                trees: Some(TreeMember {
                    weight: 0.4,
                    forest,
                }),
                regularisation: Regularisation::default(),
                calibration: Calibration::Platt {
                    slope: 0.9,
                    intercept: -0.2,
                },
                metrics: Map::new(),
                quality: None,
                validation: Vec::new(),
            })
            .collect(),
        golden: examples.feature_batch(&(0..10).collect::<Vec<_>>()),
    }
}
