//! A forest as it is stored and evaluated.
//!
//! ```text
//! trees-<task>.json = { "format", "outputs", "base", "columns": [number], "trees": [tree] }
//! tree              = [node], the root first, children after their parent
//! node              = [column, cut, left, right]    left if the number is at most the cut
//!                   | leaf                          added to the output
//! ```
//!
//! Numbers are integers, so the cut "at most c" lies at c + ½: no input is on it.

use leadpulse_features::Layout;
use serde::{Deserialize, Serialize};

use crate::network::TowerTarget;
use crate::trees::columns::{GridCell, TreeColumn};

/// Version of the file's format.
const FOREST_FORMAT: u32 = 1;
/// Trees deeper than this are refused: growing stops long before.
const DEEPEST: usize = 64;

/// A node of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum TreeNode {
    /// Index into the forest's columns, the cut, and the indices of the two children.
    Split(u32, i64, u32, u32),
    /// The value added to the output.
    Leaf(f32),
}

/// One tree, its root first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct DecisionTree {
    pub nodes: Vec<TreeNode>,
}

impl DecisionTree {
    /// The leaf that a row falls into.
    fn leaf(&self, numbers: &[i64]) -> f64 {
        self.leaf_by(|column| numbers[column])
    }

    /// The leaf that a row falls into, whose numbers are asked for by column.
    pub fn leaf_by(&self, number: impl Fn(usize) -> i64) -> f64 {
        let mut at = 0;
        loop {
            match self.nodes[at] {
                TreeNode::Leaf(value) => return f64::from(value),
                TreeNode::Split(column, cut, left, right) => {
                    let below = number(column as usize) <= cut;
                    at = if below { left } else { right } as usize;
                }
            }
        }
    }

    /// The tree without the splits that lie outside of the ranges of their numbers.
    fn within(&self, ranges: &[(i64, i64)]) -> Self {
        let mut nodes = Vec::new();
        self.copy(0, ranges, &mut nodes);
        Self { nodes }
    }

    /// Appends the node `at` and what follows it, and returns where it was put.
    fn copy(&self, mut at: usize, ranges: &[(i64, i64)], to: &mut Vec<TreeNode>) -> u32 {
        while let TreeNode::Split(column, cut, left, right) = self.nodes[at] {
            let (low, high) = ranges[column as usize];
            if high <= cut {
                at = left as usize;
            } else if low > cut {
                at = right as usize;
            } else {
                let place = to.len();
                to.push(self.nodes[at]);
                let left = self.copy(left as usize, ranges, to);
                let right = self.copy(right as usize, ranges, to);
                to[place] = TreeNode::Split(column, cut, left, right);
                return place as u32;
            }
        }
        to.push(self.nodes[at]);
        to.len() as u32 - 1
    }

    /// The columns that its splits read; some more than once.
    pub fn columns(&self) -> impl Iterator<Item = usize> {
        self.nodes.iter().filter_map(|node| match node {
            TreeNode::Split(column, ..) => Some(*column as usize),
            TreeNode::Leaf(_) => None,
        })
    }

    /// Whether a split reads a column.
    pub fn reads(&self, column: usize) -> bool {
        self.columns().any(|read| read == column)
    }

    /// The fault of a tree over so many columns, if it has one.
    fn fault(&self, columns: usize) -> Option<String> {
        // Children come after their parent, so that no path has a circle, and each node's depth is
        // known before its children's.
        let mut depths = vec![0; self.nodes.len()];
        for (at, node) in self.nodes.iter().enumerate() {
            match *node {
                TreeNode::Leaf(value) if !value.is_finite() => {
                    return Some(format!("leaf {at} is not finite"));
                }
                TreeNode::Leaf(_) => {}
                TreeNode::Split(column, _, left, right) => {
                    if column as usize >= columns {
                        return Some(format!("node {at} reads column {column} of {columns}"));
                    }
                    for child in [left as usize, right as usize] {
                        if child <= at || child >= self.nodes.len() {
                            return Some(format!("node {at} leads to node {child}"));
                        }
                        depths[child] = depths[at] + 1;
                        if depths[child] > DEEPEST {
                            return Some(format!("node {child} is deeper than {DEEPEST}"));
                        }
                    }
                }
            }
        }
        self.nodes.is_empty().then(|| "it has no nodes".into())
    }
}

/// Trees over the columns that they read; their leaves add to a base.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Forest {
    format: u32,
    /// Outputs per row: one per bucket of a hazard, else 1.
    outputs: usize,
    /// The output of no trees.
    base: f64,
    columns: Vec<TreeColumn>,
    trees: Vec<DecisionTree>,
}

impl Forest {
    pub fn new(
        outputs: usize,
        base: f64,
        columns: Vec<TreeColumn>,
        trees: Vec<DecisionTree>,
    ) -> Self {
        Self {
            format: FOREST_FORMAT,
            outputs,
            base,
            columns,
            trees,
        }
    }

    /// The columns that the trees read, in the order of the numbers of a row.
    pub fn columns(&self) -> &[TreeColumn] {
        &self.columns
    }

    /// The trees, in their order.
    pub fn trees(&self) -> &[DecisionTree] {
        &self.trees
    }

    /// The output of no trees.
    pub fn base(&self) -> f64 {
        self.base
    }

    /// Outputs per row.
    pub fn output_count(&self) -> usize {
        self.outputs
    }

    /// The place of the bucket among the columns.
    pub fn bucket(&self) -> Option<usize> {
        self.columns.iter().position(|c| *c == TreeColumn::Bucket)
    }

    /// The number of trees.
    pub fn rounds(&self) -> usize {
        self.trees.len()
    }

    /// The forest of the first trees, without the columns that only the others read.
    pub fn first(&self, rounds: usize) -> Self {
        self.of_trees(self.trees[..rounds].to_vec())
    }

    /// The forest for numbers within ranges, both ends included, a range per column: without the
    /// splits that lie outside of them, and without the columns that no other split reads.
    /// Outputs of such numbers stay the same.
    pub fn within(&self, ranges: &[(i64, i64)]) -> Self {
        self.of_trees(self.trees.iter().map(|tree| tree.within(ranges)).collect())
    }

    /// The same forest with other trees over its columns, and the columns that they read.
    fn of_trees(&self, mut trees: Vec<DecisionTree>) -> Self {
        let mut columns = Vec::new();
        let mut places = vec![None; self.columns.len()];
        for node in trees.iter_mut().flat_map(|tree| &mut tree.nodes) {
            if let TreeNode::Split(column, ..) = node {
                let from = *column as usize;
                *column = *places[from].get_or_insert_with(|| {
                    columns.push(self.columns[from]);
                    columns.len() as u32 - 1
                });
            }
        }
        Self::new(self.outputs, self.base, columns, trees)
    }

    /// The numbers of one row. `own` is the index of the asked member's row.
    pub fn numbers(&self, cell: &GridCell, target: TowerTarget, own: usize) -> Vec<i64> {
        let columns = self.columns.iter();
        columns.map(|c| cell.value(*c, target, own)).collect()
    }

    /// Outputs of a row after the last tree. `numbers` holds a number per column; that of the
    /// bucket is overwritten.
    pub fn outputs(&self, numbers: &mut [i64]) -> Vec<f32> {
        let mut last = Vec::new();
        self.outputs_by_round(numbers, |round, outputs| {
            if round == self.trees.len() {
                last = outputs.iter().map(|x| *x as f32).collect();
            }
        });
        last
    }

    /// Hands the outputs after each number of trees, from 0, to `each`.
    pub fn outputs_by_round(&self, numbers: &mut [i64], mut each: impl FnMut(usize, &[f64])) {
        let bucket = self.bucket();
        let mut outputs = vec![self.base; self.outputs];
        each(0, &outputs);
        for (round, tree) in self.trees.iter().enumerate() {
            match bucket.filter(|bucket| tree.reads(*bucket)) {
                None => {
                    let leaf = tree.leaf(numbers);
                    outputs.iter_mut().for_each(|x| *x += leaf);
                }
                Some(at) => {
                    for (b, x) in outputs.iter_mut().enumerate() {
                        numbers[at] = b as i64;
                        *x += tree.leaf(numbers);
                    }
                }
            }
            each(round + 1, &outputs);
        }
    }

    /// The fault of a forest for a task over cells of this layout, if it has one.
    pub fn fault(&self, layout: &Layout, target: TowerTarget, outputs: usize) -> Option<String> {
        if self.format != FOREST_FORMAT {
            return Some(format!(
                "its format is {}, this program reads {FOREST_FORMAT}",
                self.format
            ));
        }
        if self.outputs != outputs {
            return Some(format!(
                "it has {} outputs, the head {outputs}",
                self.outputs
            ));
        }
        if !self.base.is_finite() {
            return Some("its base is not finite".into());
        }
        if let Some(column) = self.columns.iter().find(|c| !c.fits(layout, target)) {
            return Some(format!("the plan has no {column:?} for this task"));
        }
        let trees = self.trees.iter().enumerate();
        let mut faults = trees.filter_map(|(i, tree)| Some((i, tree.fault(self.columns.len())?)));
        let (tree, fault) = faults.next()?;
        Some(format!("tree {tree}: {fault}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::layout;

    /// `root ≤ ½` → −1, else by the bucket: the first 2, later ones 3.
    fn forest() -> Forest {
        let nodes = vec![
            TreeNode::Split(0, 2048, 1, 2),
            TreeNode::Leaf(-1.0),
            TreeNode::Split(1, 0, 3, 4),
            TreeNode::Leaf(2.0),
            TreeNode::Leaf(3.0),
        ];
        let constant = vec![TreeNode::Leaf(0.5)];
        let trees = [nodes, constant].map(|nodes| DecisionTree { nodes });
        let columns = vec![TreeColumn::Root(0), TreeColumn::Bucket];
        Forest::new(3, 0.25, columns, trees.to_vec())
    }

    #[test]
    fn leaves_add_up_by_bucket() {
        for (root, expected) in [(2048, [-0.25; 3]), (2049, [2.75, 3.75, 3.75])] {
            assert_eq!(forest().outputs(&mut [root, 99]), expected);
        }
        let mut rounds = Vec::new();
        forest().outputs_by_round(&mut [0, 0], |round, outputs| {
            rounds.push((round, outputs[0]))
        });
        assert_eq!(rounds, [(0, 0.25), (1, -0.75), (2, -0.25)]);
        let first = forest().first(1);
        assert_eq!(first.outputs(&mut [0, 0]), [-0.75; 3]);
    }

    #[test]
    fn a_forest_within_ranges_gives_the_same_outputs_there() {
        let always = (i64::MIN, i64::MAX);
        let narrow = forest().within(&[(100, 2048), always]);
        assert_eq!(narrow.columns(), []);
        assert_eq!(narrow.outputs(&mut []), [-0.25; 3]);
        let narrow = forest().within(&[(2049, 5000), always]);
        assert_eq!(narrow.columns(), [TreeColumn::Bucket]);
        assert_eq!(narrow.outputs(&mut [0]), [2.75, 3.75, 3.75]);
        let same = forest().within(&[(2048, 2049), always]);
        assert_eq!(same.trees, forest().trees);
        assert_eq!(same.columns(), forest().columns());
    }

    #[test]
    fn text_gives_a_forest_back() {
        let text = serde_json::to_string(&forest()).unwrap();
        assert_eq!(serde_json::from_str::<Forest>(&text).unwrap(), forest());
    }

    #[test]
    fn forests_that_must_not_score_are_refused() {
        let layout = layout(1, &[]);
        let fault = |edit: &dyn Fn(&mut Forest)| {
            let mut forest = forest();
            edit(&mut forest);
            forest.fault(&layout, TowerTarget::Root, 3)
        };
        assert_eq!(fault(&|_| ()), None);
        type Edit<'a> = &'a dyn Fn(&mut Forest);
        let cases: [(Edit<'_>, &str); 9] = [
            (&|f| f.format = 9, "its format is 9"),
            (&|f| f.outputs = 2, "2 outputs, the head 3"),
            (&|f| f.base = f64::NAN, "base is not finite"),
            (&|f| f.columns[0] = TreeColumn::Root(1), "no Root(1)"),
            (
                &|f| f.trees[0].nodes[0] = TreeNode::Split(2, 0, 1, 2),
                "tree 0: node 0 reads column 2 of 2",
            ),
            (
                &|f| f.trees[0].nodes[2] = TreeNode::Split(0, 0, 2, 3),
                "tree 0: node 2 leads to node 2",
            ),
            (
                &|f| f.trees[0].nodes[2] = TreeNode::Split(0, 0, 3, 5),
                "tree 0: node 2 leads to node 5",
            ),
            (
                &|f| f.trees[1].nodes[0] = TreeNode::Leaf(f32::INFINITY),
                "tree 1: leaf 0 is not finite",
            ),
            (&|f| f.trees[1].nodes.clear(), "tree 1: it has no nodes"),
        ];
        for (edit, expected) in cases {
            let found = fault(edit).unwrap();
            assert!(found.contains(expected), "{found}");
        }
        let chain = |depth: u32| DecisionTree {
            nodes: (0..depth)
                .map(|i| TreeNode::Split(0, 0, i + 1, i + 1))
                .chain([TreeNode::Leaf(0.0)])
                .collect(),
        };
        assert_eq!(chain(64).fault(1), None);
        assert_eq!(chain(65).fault(1).unwrap(), "node 65 is deeper than 64");
    }
}
