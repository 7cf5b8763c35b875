//! From a trained ensemble to its plain form.

use pulp::Arch;

use super::forest::FlatForest;
use super::layers::{Layer, Matrix, biases, values, weights};
use super::{Columns, PlainEnsemble, PlainTable, PlainTask, PlainTower};
use crate::examples::normalise::Scales;
use crate::fit::Fitted;
use crate::network::TowerTarget;
use crate::network::tower::Tower;

impl Columns {
    fn new(scales: &Scales) -> Self {
        let columns = 0..scales.mean.len();
        Self {
            zero: columns.map(|at| scales.normalised(at, 0.0)).collect(),
            scales: scales.clone(),
        }
    }
}

impl PlainTask {
    fn new(fitted: &Fitted, task: usize, root: &Columns, tables: &[PlainTable]) -> Self {
        let towers: Vec<&Tower> = fitted.networks.iter().map(|n| &n.towers[task]).collect();
        let config = &fitted.config.towers[task];
        let read = towers.iter();
        let read = read.flat_map(|t| std::iter::once(&t.project).chain(&t.direct));
        let own: Vec<_> = towers.iter().filter_map(|t| t.own.as_ref()).collect();
        let own = match config.target {
            TowerTarget::Member(table) if !own.is_empty() => {
                Some(Layer::beside(&own).of_differences(&tables[table].columns.zero))
            }
            _ => None,
        };
        let trees = fitted.tasks[task].trees.as_ref();
        Self {
            target: config.target,
            hidden: config.hidden,
            outputs: config.outputs,
            pools: config.pools(&fitted.config.trunk),
            root: Layer::beside(&read.collect::<Vec<_>>()).of_differences(&root.zero),
            has_direct: config.residual,
            own,
            towers: towers.into_iter().map(PlainTower::new).collect(),
            forest: trees.map(|trees| FlatForest::new(&trees.forest, config.target)),
        }
    }
}

impl PlainTower {
    fn new(tower: &Tower) -> Self {
        let of = |linear| Layer::beside(&[linear]);
        let beta = tower.norm.beta.as_ref();
        let gamma = values(&tower.norm.gamma.val());
        Self {
            beta: beta.map_or_else(|| vec![0.0; gamma.len()], |beta| values(&beta.val())),
            gamma,
            hidden: of(&tower.hidden),
            narrow: of(&tower.narrow),
            row: tower.row.as_ref().map(of),
            output: of(&tower.output),
        }
    }
}

impl PlainEnsemble {
    /// Compiles an ensemble.
    pub fn new(fitted: &Fitted) -> Self {
        let (config, networks) = (&fitted.config.trunk, &fitted.networks);
        let root = Columns::new(&fitted.normaliser.root);
        let tables: Vec<PlainTable> = fitted
            .normaliser
            .members
            .iter()
            .enumerate()
            .map(|(table, scales)| {
                let columns = Columns::new(scales);
                let encoders = || networks.iter().map(move |n| &n.trunk.encoders[table]);
                let first: Vec<_> = encoders().map(|encoder| &encoder.first).collect();
                let second = encoders().map(|encoder| Layer::beside(&[&encoder.second]));
                PlainTable {
                    first: Layer::beside(&first).of_differences(&columns.zero),
                    second: second.collect(),
                    columns,
                }
            })
            .collect();
        let contexts: Vec<_> = networks
            .iter()
            .filter_map(|n| n.trunk.context.as_ref())
            .collect();
        let pools = config.pools();
        let (mut of_root, mut context_pools, mut bias) = (Vec::new(), Vec::new(), Vec::new());
        for context in &contexts {
            let (weights, outputs) = weights(context);
            let (pooled, root) = weights.split_at(pools * outputs);
            context_pools.push(Matrix::beside(&[(pooled.to_vec(), outputs)], pools));
            of_root.push((root.to_vec(), outputs));
            bias.extend(biases(context));
        }
        let context = (!contexts.is_empty()).then(|| {
            let matrix = Matrix::beside(&of_root, config.root_width);
            Layer::new(matrix, bias).of_differences(&root.zero)
        });
        let tasks = 0..fitted.tasks.len();
        let tasks = tasks.map(|task| PlainTask::new(fitted, task, &root, &tables));
        Self {
            arch: Arch::new(),
            networks: networks.len(),
            hidden: config.member_hidden,
            tasks: tasks.collect(),
            root,
            tables,
            context,
            context_pools,
        }
    }
}
