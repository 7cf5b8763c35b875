//! Checks of an ensemble: parts that fit together, finite parameters, golden cells.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;
use leadpulse_features::{Layout, Scorer};

use super::manifest::Golden;
use super::{Bundle, BundleError, GOLDEN_TOLERANCE};
use crate::explain::coalitions::MOST_GROUPS;
use crate::fit::{Fitted, FittedTask, target_of};
use crate::network::{TowerConfig, TowerTarget, TrunkConfig};

/// Refuses an ensemble that must not score.
pub(super) fn check(fitted: &Fitted, layout: &Layout) -> Result<(), BundleError> {
    if fitted.layout != *layout {
        return mismatch(
            "network and feature plan",
            "the plan has other columns than the training examples had",
        );
    }
    if layout.groups.len() > MOST_GROUPS {
        return mismatch(
            "explanations and feature plan",
            &format!("more than {MOST_GROUPS} explanation groups"),
        );
    }
    if fitted.config.trunk != TrunkConfig::for_layout(layout) || !fitted.normaliser.fits(layout) {
        return mismatch("network and feature plan", "the widths differ");
    }
    if fitted.networks.is_empty()
        || fitted.tasks.is_empty()
        || fitted.config.towers.len() != fitted.tasks.len()
    {
        return mismatch(
            "network and tasks",
            "every task needs a tower, and an ensemble a member",
        );
    }
    for (task, tower) in fitted.tasks.iter().zip(&fitted.config.towers) {
        check_task(task, tower, layout)?;
    }
    if !fitted.normaliser.is_finite() {
        return Err(BundleError::NotFinite {
            what: "the normaliser".into(),
        });
    }
    for (k, network) in fitted.networks.iter().enumerate() {
        let mut sweep = FiniteSweep { finite: true };
        network.visit(&mut sweep);
        if !sweep.finite {
            return Err(BundleError::NotFinite {
                what: format!("member {k} of the ensemble"),
            });
        }
    }
    Ok(())
}

fn mismatch(what: &'static str, reason: &str) -> Result<(), BundleError> {
    Err(BundleError::Mismatch {
        what,
        reason: reason.into(),
    })
}

/// Refuses a task whose tower, trees or calibration must not score.
fn check_task(task: &FittedTask, tower: &TowerConfig, layout: &Layout) -> Result<(), BundleError> {
    let name = &task.definition.name;
    let head = &task.definition.head;
    if tower.outputs != head.outputs()
        || head.fault().is_some()
        || tower.target != target_of(layout, task.definition.entity)
        || !(tower.reads_members || tower.target == TowerTarget::Root)
    {
        return mismatch(
            "network and tasks",
            &format!("the tower of task `{name}` is not the one its head needs"),
        );
    }
    if let Some(fault) = tree_fault(task, tower, layout) {
        return mismatch(
            "trees and task",
            &format!("in those of task `{name}` {fault}"),
        );
    }
    if !task.calibration.is_sound() {
        return mismatch(
            "calibration and task",
            &format!("that of task `{name}` does not rise"),
        );
    }
    Ok(())
}

/// The fault of a task's trees, if it has one.
fn tree_fault(task: &FittedTask, tower: &TowerConfig, layout: &Layout) -> Option<String> {
    let trees = task.trees.as_ref()?;
    let is_sound = trees.weight > 0.0 && trees.weight <= 1.0;
    if !is_sound {
        return Some(format!("their weight is {}", trees.weight));
    }
    trees.forest.fault(layout, tower.target, tower.outputs)
}

struct FiniteSweep {
    finite: bool,
}

impl ModuleVisitor for FiniteSweep {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.finite &= param
            .val()
            .try_into_vec_as::<f32>()
            .is_ok_and(|values| values.iter().all(|x| x.is_finite()));
    }
}

/// Refuses an ensemble that scores golden cells otherwise than when it was written.
pub(super) fn check_golden(bundle: &Bundle, golden: &Golden) -> Result<(), BundleError> {
    let fitted = &bundle.fitted;
    for (index, (task, expected)) in fitted.tasks.iter().zip(&golden.logits).enumerate() {
        let found = bundle.logits(&fitted.golden, index);
        let differs = |cell: usize, expected: Option<f64>, found: Option<f64>| {
            let print = |z: Option<f64>| z.map_or("none".to_owned(), |z| z.to_string());
            Err(BundleError::Golden {
                task: task.definition.name.clone(),
                cell,
                expected: print(expected),
                found: print(found),
            })
        };
        for cell in 0..found.len().max(expected.len()) {
            let (then, now) = (
                expected.get(cell).copied().flatten(),
                found.get(cell).copied().filter(|z| z.is_finite()),
            );
            let same = match (then, now) {
                (Some(then), Some(now)) => (then - now).abs() <= GOLDEN_TOLERANCE,
                (None, None) => true,
                _ => false,
            };
            if !same {
                return differs(cell, then, now);
            }
        }
    }
    Ok(())
}
