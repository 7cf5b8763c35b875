//! A model whose every number is known: a weight per column, added up.

use leadpulse_features::{
    Column, Contribution, Explanation, FeatureBatch, FeaturePlan, Scorer, ScorerTask, on_grid,
};

/// Weight of a column (by name) for a task (by name).
pub type Weigh = fn(&str, &str) -> f64;

/// `logit = bias + Σ weight · x / (1 + |x|)`, over the cell's columns and, for a task on members, the member's.
pub struct Linear {
    bundle_id: String,
    plan: FeaturePlan,
    tasks: Vec<ScorerTask>,
    weigh: Weigh,
}

/// Pseudo-random weights that depend on nothing but the names.
pub fn by_name(task: &str, column: &str) -> f64 {
    let name: smallvec::SmallVec<[u8; 128]> = [task, "/", column]
        .into_iter()
        .flat_map(str::bytes)
        .collect();
    let hash = xxhash_rust::xxh3::xxh3_64(&name);
    ((hash % 2001) as f64 / 1000.0 - 1.0) * 0.7
}

/// The logit of a cell without anything.
pub const BIAS: f64 = -1.0;

impl Linear {
    pub fn new(bundle_id: &str, plan: FeaturePlan, tasks: Vec<ScorerTask>, weigh: Weigh) -> Self {
        Self {
            bundle_id: bundle_id.into(),
            plan,
            tasks,
            weigh,
        }
    }

    fn member(&self, task: usize) -> Option<usize> {
        self.plan
            .layout()
            .members
            .iter()
            .position(|m| m.table == self.tasks[task].entity)
    }

    /// (group, what it adds) of every column of a row.
    fn terms(
        &self,
        batch: &FeatureBatch,
        task: usize,
        cell: usize,
        slot: usize,
    ) -> Vec<(usize, f64)> {
        let layout = self.plan.layout();
        let name = &self.tasks[task].name;
        let term = |(column, x): (&Column, &f32)| {
            let x = f64::from(*x);
            (
                column.group,
                (self.weigh)(name, &column.name) * x / (1.0 + x.abs()),
            )
        };
        let width = layout.root.len();
        let mut terms: Vec<_> = layout
            .root
            .iter()
            .zip(&batch.root[cell * width..(cell + 1) * width])
            .map(term)
            .collect();
        if let Some(member) = self.member(task) {
            let block = &batch.members[member];
            let row = cell * block.slots + slot;
            terms.extend(
                layout.members[member]
                    .columns
                    .iter()
                    .zip(&block.values[row * block.width..(row + 1) * block.width])
                    .map(term),
            );
        }
        terms
    }

    fn logit(&self, batch: &FeatureBatch, task: usize, cell: usize, slot: usize) -> f64 {
        let exact = BIAS
            + self
                .terms(batch, task, cell, slot)
                .iter()
                .map(|(_, x)| x)
                .sum::<f64>();
        on_grid(exact)
    }
}

impl Scorer for Linear {
    fn bundle_id(&self) -> &str {
        &self.bundle_id
    }
    fn plan(&self) -> &FeaturePlan {
        &self.plan
    }
    fn tasks(&self) -> &[ScorerTask] {
        &self.tasks
    }
    fn logits(&self, batch: &FeatureBatch, task: usize) -> Vec<f64> {
        let Some(member) = self.member(task) else {
            return (0..batch.cells)
                .map(|cell| self.logit(batch, task, cell, 0))
                .collect();
        };
        let block = &batch.members[member];
        let rows = (0..batch.cells).flat_map(|cell| (0..block.slots).map(move |slot| (cell, slot)));
        rows.map(|(cell, slot)| {
            let is_there = block.mask[cell * block.slots + slot] > 0.0;
            if is_there {
                self.logit(batch, task, cell, slot)
            } else {
                f64::NAN
            }
        })
        .collect()
    }
    fn explain(&self, batch: &FeatureBatch, task: usize, cell: usize, slot: usize) -> Explanation {
        let mut contributions: Vec<Contribution> = (0..self.plan.layout().groups.len())
            .map(|group| Contribution { group, logit: 0.0 })
            .collect();
        for (group, x) in self.terms(batch, task, cell, slot) {
            contributions[group].logit += x;
        }
        let logit = BIAS + contributions.iter().map(|c| c.logit).sum::<f64>();
        Explanation {
            base_logit: BIAS,
            logit,
            contributions,
        }
    }
}
