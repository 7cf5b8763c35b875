//! A trained model with everything needed to load and check it: owns writing, loading and refusing
//! bundles; implements `Scorer`.
//!
//! A bundle is written to a folder beside its own, flushed to disk, and moved into place. Loading
//! trusts nothing: the format's version, the hash of every file, the plan's hash, every parameter's
//! finiteness, and that golden cells give the logits they gave when it was written.
//!
//! Decision: docs/decisions/0021-a-bundle-is-not-trusted.md

mod check;
mod error;
#[cfg(test)]
mod fixtures;
mod load;
pub(crate) mod manifest;
mod write;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;

use leadpulse_features::{
    Explanation, FeatureBatch, FeaturePlan, Forward, LOGIT_STEPS, Scorer, ScorerTask,
};

pub use error::BundleError;

use check::check;
use manifest::{Manifest, TaskManifest, TreesManifest, sha256};
use write::files_of;

use crate::fit::Fitted;
use crate::fit::levels::Levels;
use crate::network::TowerTarget;
use crate::plain::PlainEnsemble;

/// Version of the bundle format that is written and read. Plans of version 1 had other columns,
/// towers of version 2 did not read the row of the member that they score.
pub const FORMAT_VERSION: u32 = 3;
/// Golden logits may differ by this much between machines: ten steps of the grid. Kernels of
/// another CPU add f32 in another order, which a calibration may spread; a bundle of other weights
/// differs by far more.
const GOLDEN_TOLERANCE: f64 = 10.0 / LOGIT_STEPS + 1e-9;

const MANIFEST: &str = "manifest.json";
const NORMALISER: &str = "normaliser.json";
const GOLDEN: &str = "golden.json";

/// Facts about a bundle that only the caller knows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BundleMeta {
    /// Fingerprint of the schemas, for people.
    pub catalog_fingerprint: String,
    /// Time of training, to be recorded; it then is part of the bundle's id.
    pub created_at: Option<String>,
}

/// A part of the ensemble of each task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Member {
    /// The mean of the networks.
    Networks,
    /// The boosted trees.
    Trees,
}

/// A trained model, ready to score.
#[derive(Clone)]
pub struct Bundle {
    manifest: Manifest,
    plan: FeaturePlan,
    tasks: Vec<ScorerTask>,
    fitted: Fitted,
    plain: Arc<PlainEnsemble>,
    forward: Forward,
}

impl fmt::Debug for Bundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bundle")
            .field("manifest", &self.manifest)
            .finish_non_exhaustive()
    }
}

impl Fitted {
    /// Makes a bundle of a trained ensemble. `plan` is what its examples were encoded with.
    ///
    /// # Errors
    /// When the plan has other columns than the examples had, or a parameter is not finite.
    pub fn into_bundle(self, plan: FeaturePlan, meta: BundleMeta) -> Result<Bundle, BundleError> {
        Bundle::from_fit(self, plan, meta)
    }
}

impl Bundle {
    /// Makes a bundle of a trained ensemble. `plan` is what its examples were encoded with.
    ///
    /// # Errors
    /// When the plan has other columns than the examples had, or a parameter is not finite.
    pub fn from_fit(
        fitted: Fitted,
        plan: FeaturePlan,
        meta: BundleMeta,
    ) -> Result<Self, BundleError> {
        check(&fitted, plan.layout())?;
        let tasks = fitted
            .tasks
            .iter()
            .enumerate()
            .map(|(index, task)| TaskManifest {
                name: task.definition.name.clone(),
                entity: task.definition.entity_name.clone(),
                pql: task.definition.pql.clone(),
                horizon_ms: task.definition.horizon_ms,
                head: task.definition.head.clone(),
                calibration: task.calibration.clone(),
                regularisation: task.regularisation.clone(),
                trees: task.trees.as_ref().map(|trees| TreesManifest {
                    file: trees_name(index),
                    weight: trees.weight,
                    rounds: trees.forest.rounds(),
                }),
                metrics: task.metrics.clone(),
                quality: task.quality.clone(),
            });
        let mut manifest = Manifest {
            format: FORMAT_VERSION,
            bundle_id: String::new(),
            created_by: concat!("leadpulse ", env!("CARGO_PKG_VERSION")).into(),
            created_at: meta.created_at,
            plan_hash: plan.hash().into(),
            catalog_fingerprint: meta.catalog_fingerprint,
            features: plan.spec().clone(),
            network: fitted.config.clone(),
            ensemble: fitted.networks.len(),
            tasks: tasks.collect(),
            files: BTreeMap::new(),
        };
        manifest.files = files_of(&fitted)?
            .into_iter()
            .map(|(name, bytes)| (name, sha256(&bytes)))
            .collect();
        manifest.bundle_id = manifest.to_text().1;
        Ok(Self::of_parts(manifest, plan, fitted))
    }

    fn of_parts(manifest: Manifest, plan: FeaturePlan, fitted: Fitted) -> Self {
        Self {
            tasks: scorer_tasks(&fitted),
            plain: Arc::new(PlainEnsemble::new(&fitted)),
            forward: Forward::default(),
            manifest,
            plan,
            fitted,
        }
    }

    /// The bundle with scores computed by another program.
    pub fn with_forward(mut self, forward: Forward) -> Self {
        self.forward = forward;
        self
    }

    /// The contents of `manifest.json`.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The bundle with one member of each ensemble, to compare members. It ranks as that member
    /// does; its calibration remains that of the ensemble. `None` if a task has no trees.
    pub fn only(&self, member: Member) -> Option<Self> {
        let mut alone = self.clone();
        for task in &mut alone.fitted.tasks {
            match member {
                Member::Networks => task.trees = None,
                Member::Trees => task.trees.as_mut()?.weight = 1.0,
            }
        }
        alone.plain = Arc::new(PlainEnsemble::new(&alone.fitted));
        Some(alone)
    }

    /// The trained ensemble, to train one more head on ([`crate::fit_head()`]).
    pub fn fitted(&self) -> &Fitted {
        &self.fitted
    }
}

impl Scorer for Bundle {
    fn bundle_id(&self) -> &str {
        &self.manifest.bundle_id
    }
    fn plan(&self) -> &FeaturePlan {
        &self.plan
    }
    fn tasks(&self) -> &[ScorerTask] {
        &self.tasks
    }
    fn logits(&self, batch: &FeatureBatch, task: usize) -> Vec<f64> {
        self.logits_of(batch, &[task]).swap_remove(0)
    }
    fn logits_of(&self, batch: &FeatureBatch, tasks: &[usize]) -> Vec<Vec<f64>> {
        match self.forward {
            Forward::Plain => self.plain.logits(&self.fitted.tasks, batch, tasks),
            Forward::Burn => {
                let tasks = tasks.iter();
                tasks.map(|task| self.fitted.logits(batch, *task)).collect()
            }
        }
    }
    fn explain(&self, batch: &FeatureBatch, task: usize, cell: usize, slot: usize) -> Explanation {
        let target = self.fitted.config.towers[task].target;
        let alone = Fitted::alone(batch, target, cell);
        let row = if target == TowerTarget::Root { 0 } else { slot };
        let logit = self.logits(&alone, task)[row];
        self.fitted.explain_as(&alone, task, row, logit)
    }
    fn card(&self) -> serde_json::Value {
        let manifest = &self.manifest;
        let tasks = manifest.tasks.iter();
        let card_of = |task: &TaskManifest| {
            json!({
                "name": task.name,
                "entity": task.entity,
                "query": task.pql,
                "horizon_ms": task.horizon_ms,
                "quality": task.quality,
                "calibration": task.calibration,
                "has_trees": task.trees.is_some(),
                "metrics": task.metrics,
            })
        };
        let layout = self.plan.layout();
        let members = layout.members.iter().map(|block| block.columns.len());
        json!({
            "bundle_id": manifest.bundle_id,
            "created_by": manifest.created_by,
            "created_at": manifest.created_at,
            "plan_hash": manifest.plan_hash,
            "catalog_fingerprint": manifest.catalog_fingerprint,
            "networks": manifest.ensemble,
            "columns": {"root": layout.root.len(), "members": members.collect::<Vec<_>>()},
            "tasks": tasks.map(card_of).collect::<Vec<_>>(),
        })
    }
}

fn scorer_tasks(fitted: &Fitted) -> Vec<ScorerTask> {
    let tasks = fitted.tasks.iter();
    tasks
        .map(|task| ScorerTask {
            name: task.definition.name.clone(),
            entity: task.definition.entity,
            horizon_ms: task.definition.horizon_ms,
            quality: task.quality.as_ref().map(|q| q.grade.code().to_owned()),
            interval_logits: Levels::of_metrics(&task.metrics)
                .and_then(|levels| levels.interval_logits()),
        })
        .collect()
}

/// The path `.NAME.suffix` beside a folder of that name.
fn sibling(dir: &Path, suffix: &str) -> PathBuf {
    let name = dir
        .file_name()
        .map_or_else(|| "bundle".into(), |n| n.to_string_lossy().into_owned());
    dir.with_file_name(format!(".{name}.{suffix}"))
}

fn trees_name(task: usize) -> String {
    format!("trees-{task}.json")
}

fn weights_name(member: usize) -> String {
    format!("weights-{member}.bpk")
}
