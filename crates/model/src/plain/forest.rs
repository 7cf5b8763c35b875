//! Trees in one list of nodes, read from a raw cell.

use leadpulse_features::FeatureBatch;

use crate::network::TowerTarget;
use crate::trees::columns::{GridRows, TreeColumn, count_on_grid, on_grid};
use crate::trees::forest::{Forest, TreeNode};

/// The column of a node that is a leaf.
const LEAF: u32 = u32::MAX;

/// A split, or a leaf.
#[derive(Clone, Copy, Debug)]
struct FlatNode {
    cut: i64,
    column: u32,
    /// The node for numbers up to the cut; of a leaf its place among the leaves.
    left: u32,
    right: u32,
}

/// A forest as it is evaluated.
#[derive(Clone, Debug)]
pub(super) struct FlatForest {
    base: f64,
    outputs: usize,
    target: TowerTarget,
    columns: Vec<TreeColumn>,
    bucket: Option<usize>,
    /// The first node of each tree, and whether it reads the bucket.
    trees: Vec<(u32, bool)>,
    nodes: Vec<FlatNode>,
    leaves: Vec<f64>,
}

impl FlatForest {
    pub fn new(forest: &Forest, target: TowerTarget) -> Self {
        let columns = forest.columns().to_vec();
        let mut flat = Self {
            base: forest.base(),
            outputs: forest.output_count(),
            target,
            bucket: columns.iter().position(|c| *c == TreeColumn::Bucket),
            columns,
            trees: Vec::with_capacity(forest.rounds()),
            nodes: Vec::new(),
            leaves: Vec::new(),
        };
        for tree in forest.trees() {
            let first = flat.nodes.len() as u32;
            let reads_bucket = flat.bucket.is_some_and(|bucket| tree.reads(bucket));
            flat.trees.push((first, reads_bucket));
            for node in &tree.nodes {
                let node = match *node {
                    TreeNode::Split(column, cut, left, right) => FlatNode {
                        cut,
                        column,
                        left: first + left,
                        right: first + right,
                    },
                    TreeNode::Leaf(value) => {
                        flat.leaves.push(f64::from(value));
                        FlatNode {
                            cut: 0,
                            column: LEAF,
                            left: flat.leaves.len() as u32 - 1,
                            right: 0,
                        }
                    }
                };
                flat.nodes.push(node);
            }
        }
        flat
    }

    /// The numbers of a cell that all of its rows share; those of a row and of the bucket are 0.
    pub fn shared_numbers(&self, batch: &FeatureBatch, cell: usize, numbers: &mut Vec<i64>) {
        let width = batch.root.len() / batch.cells.max(1);
        let root = &batch.root[cell * width..(cell + 1) * width];
        let attended = |table: usize| {
            let block = &batch.members[table];
            (block.attended[cell] as usize).min(super::rows_of(block, cell))
        };
        numbers.clear();
        numbers.extend(self.columns.iter().map(|column| match *column {
            TreeColumn::Root(column) => i64::from(on_grid(root[column])),
            TreeColumn::Count(table) => count_on_grid(attended(table)),
            TreeColumn::Pool {
                table,
                column,
                pool,
            } => {
                let block = &batch.members[table];
                let first = cell * block.slots * block.width + column;
                let values = block.values.get(first..).unwrap_or_default();
                let values = values.iter().step_by(block.width.max(1));
                GridRows::pooled(values.take(attended(table)).map(|x| on_grid(*x)), pool)
            }
            TreeColumn::Bucket | TreeColumn::Own(_) => 0,
        }));
    }

    /// Sets the numbers of a row: `own` is the raw row that a member task asks about.
    pub fn own_numbers(&self, own: &[f32], numbers: &mut [i64]) {
        if self.target == TowerTarget::Root {
            return;
        }
        for (column, number) in self.columns.iter().zip(numbers) {
            if let TreeColumn::Own(column) = column {
                *number = i64::from(on_grid(own[*column]));
            }
        }
    }

    /// The outputs of a row. The number of the bucket is overwritten.
    pub fn outputs(&self, numbers: &mut [i64], sums: &mut Vec<f64>) {
        sums.clear();
        sums.resize(self.outputs, self.base);
        for (first, reads_bucket) in &self.trees {
            match self.bucket.filter(|_| *reads_bucket) {
                None => {
                    let leaf = self.leaf(*first, numbers);
                    sums.iter_mut().for_each(|sum| *sum += leaf);
                }
                Some(bucket) => {
                    for (b, sum) in sums.iter_mut().enumerate() {
                        numbers[bucket] = b as i64;
                        *sum += self.leaf(*first, numbers);
                    }
                }
            }
        }
    }

    fn leaf(&self, first: u32, numbers: &[i64]) -> f64 {
        let mut node = self.nodes[first as usize];
        while node.column != LEAF {
            let below = numbers[node.column as usize] <= node.cut;
            let next = if below { node.left } else { node.right };
            node = self.nodes[next as usize];
        }
        self.leaves[node.left as usize]
    }
}
