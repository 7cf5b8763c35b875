//! A trained model with everything needed to load and check it: owns writing, loading and refusing bundles; implements `Scorer`.
//!
//! A bundle is written to a folder beside its own, flushed to disk, and moved into place. Loading trusts nothing: the format's
//! version, the hash of every file, the plan's hash, every parameter's finiteness, and that golden cells give the logits they gave
//! when it was written.

#[cfg(test)]
mod fixtures;
pub(crate) mod manifest;

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use burn::module::{Module, ModuleVisitor, Param};
use burn::store::ModuleRecord;
use burn::tensor::{Bytes, Device, Tensor};
use leadpulse_features::{
    Explanation, FeatureBatch, FeaturePlan, FeatureSpec, LOGIT_STEPS, Layout, Scorer, ScorerTask,
};
use leadpulse_schema::TableId;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::bundle::manifest::{Golden, Manifest, TaskManifest, pretty, sha256};
use crate::explain::coalitions::MOST_GROUPS;
use crate::fit::{Fitted, FittedTask, TaskDefinition, target_of};
use crate::network::{Network, TrunkConfig};

/// Version of the bundle format that is written and read.
pub const FORMAT_VERSION: u32 = 1;
/// Golden logits may differ by this much between machines: ten steps of the grid. Kernels of another CPU add f32 in another order, which
/// a calibration may spread; a bundle of other weights differs by far more.
const GOLDEN_TOLERANCE: f64 = 10.0 / LOGIT_STEPS + 1e-9;

const MANIFEST: &str = "manifest.json";
const NORMALISER: &str = "normaliser.json";
const GOLDEN: &str = "golden.json";

/// Why a bundle cannot be made, written or loaded.
#[derive(Debug, Error)]
pub enum BundleError {
    /// A file could not be read or written.
    #[error(
        "cannot {action} {path}: {source}; check that the bundle's folder exists and may be accessed{hint}"
    )]
    Io {
        /// `read` or `write`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
        /// Where else to look, or empty.
        hint: String,
    },
    /// A file is not what it should be.
    #[error(
        "{path} is not a bundle file: {reason}; train the bundle again or restore it from a backup"
    )]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Written by another version of the format.
    #[error(
        "{path} has bundle format {found}, this program reads {FORMAT_VERSION}; use the program that wrote it or train again"
    )]
    Format {
        /// The manifest.
        path: PathBuf,
        /// Its version.
        found: u64,
    },
    /// A file was changed after it was written.
    #[error(
        "{path} was changed or damaged: its SHA-256 is {found}, the bundle says {expected}; restore the bundle or train again"
    )]
    Changed {
        /// The file.
        path: PathBuf,
        /// The hash, or for the manifest the bundle id, that was written.
        expected: String,
        /// What it is now.
        found: String,
    },
    /// The feature plan could not be rebuilt.
    #[error(
        "the feature plan of bundle {bundle} does not fit the schemas: {source}; use the schemas it was trained with or train again"
    )]
    Plan {
        /// The bundle.
        bundle: String,
        /// The cause.
        source: Box<dyn Error + Send + Sync>,
    },
    /// Features mean something else than in training.
    #[error(
        "bundle {bundle} was trained with feature plan {expected}, schemas and graph options here give {found}: features would mean something else; use the schemas and graph options it was trained with (schemas then: {catalog_fingerprint}) or train again"
    )]
    PlanHash {
        /// The bundle.
        bundle: String,
        /// Its plan's hash.
        expected: String,
        /// The hash here.
        found: String,
        /// The schemas it was trained with.
        catalog_fingerprint: String,
    },
    /// A task is about a table that is not there.
    #[error(
        "task `{task}` of bundle {bundle} scores table `{table}`, which is neither the root nor a member table of the schemas here"
    )]
    UnknownTable {
        /// The bundle.
        bundle: String,
        /// The task.
        task: String,
        /// The table.
        table: String,
    },
    /// Parts that do not belong together.
    #[error("{what} do not fit together: {reason}; train the bundle again")]
    Mismatch {
        /// Which parts.
        what: &'static str,
        /// What differs.
        reason: String,
    },
    /// A parameter is infinite or not a number.
    #[error("{what} holds a number that is not finite; train the bundle again")]
    NotFinite {
        /// Which part.
        what: String,
    },
    /// The network computes something else than when it was written.
    #[error(
        "golden cell {cell} of task `{task}` gives logit {found}, but gave {expected} when the bundle was written: the program computes differently; train the bundle again with this program"
    )]
    Golden {
        /// The task.
        task: String,
        /// Index into the golden logits.
        cell: usize,
        /// When it was written.
        expected: String,
        /// Now.
        found: String,
    },
}

/// What the caller says of a bundle.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BundleMeta {
    /// Fingerprint of the schemas, for people.
    pub catalog_fingerprint: String,
    /// When it was trained, if that shall be recorded; it then is part of the bundle's id.
    pub created_at: Option<String>,
}

/// A trained model, ready to score.
pub struct Bundle {
    manifest: Manifest,
    plan: FeaturePlan,
    tasks: Vec<ScorerTask>,
    fitted: Fitted,
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
        let tasks = fitted.tasks.iter().map(|task| TaskManifest {
            name: task.definition.name.clone(),
            entity: task.definition.entity_name.clone(),
            pql: task.definition.pql.clone(),
            horizon_ms: task.definition.horizon_ms,
            head: task.definition.head.clone(),
            calibration: task.calibration.clone(),
            regularisation: task.regularisation.clone(),
            metrics: task.metrics.clone(),
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
        Ok(Self {
            tasks: scorer_tasks(&fitted),
            manifest,
            plan,
            fitted,
        })
    }

    /// What the bundle says of itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The trained ensemble, to train one more head on ([`crate::fit_head()`]).
    pub fn fitted(&self) -> &Fitted {
        &self.fitted
    }

    /// Writes the bundle to folder `dir`, whole or not at all. A bundle that is there is replaced: it is moved to `.NAME.previous`
    /// beside it for the moment of the exchange.
    ///
    /// # Errors
    /// When a file cannot be written; what was there then still is.
    pub fn save(&self, dir: &Path) -> Result<(), BundleError> {
        let fail = |path: &Path| {
            let path = path.to_owned();
            move |source| BundleError::Io {
                action: "write",
                path,
                source,
                hint: String::new(),
            }
        };
        let dir = if dir.is_absolute() {
            dir.to_owned()
        } else {
            std::env::current_dir().map_err(fail(dir))?.join(dir)
        };
        let parent = dir.parent().unwrap_or(&dir).to_owned();
        let partial = sibling(&dir, &format!("partial-{}", std::process::id()));
        let previous = sibling(&dir, "previous");
        fs::create_dir_all(&parent).map_err(fail(&parent))?;
        if partial.exists() {
            fs::remove_dir_all(&partial).map_err(fail(&partial))?;
        }
        let written = self.write_files(&partial);
        if written.is_err() {
            // Best effort: the error that matters is the one that is returned.
            let _ = fs::remove_dir_all(&partial);
        }
        written?;
        let replaces = dir.exists();
        if replaces {
            if previous.exists() {
                fs::remove_dir_all(&previous).map_err(fail(&previous))?;
            }
            fs::rename(&dir, &previous).map_err(fail(&dir))?;
        }
        if let Err(source) = fs::rename(&partial, &dir) {
            if replaces {
                fs::rename(&previous, &dir).map_err(fail(&dir))?;
            }
            return Err(fail(&dir)(source));
        }
        File::open(&parent)
            .and_then(|folder| folder.sync_all())
            .map_err(fail(&parent))?;
        if replaces {
            fs::remove_dir_all(&previous).map_err(fail(&previous))?;
        }
        Ok(())
    }

    fn write_files(&self, dir: &Path) -> Result<(), BundleError> {
        let mut files = files_of(&self.fitted)?;
        files.push((MANIFEST.into(), self.manifest.to_text().0.into_bytes()));
        let write = |path: &Path, bytes: &[u8]| {
            let mut file = File::create_new(path)?;
            file.write_all(bytes)?;
            file.sync_all()
        };
        let fail = |path: &Path, source| BundleError::Io {
            action: "write",
            path: path.into(),
            source,
            hint: String::new(),
        };
        fs::create_dir(dir).map_err(|source| fail(dir, source))?;
        for (name, bytes) in files {
            let path = dir.join(name);
            write(&path, &bytes).map_err(|source| fail(&path, source))?;
        }
        File::open(dir)
            .and_then(|folder| folder.sync_all())
            .map_err(|source| fail(dir, source))
    }

    /// Loads the bundle in folder `dir`. `plan` rebuilds the feature plan; `table` finds a table by name.
    ///
    /// # Errors
    /// When anything is not as it was written, or the plan here differs from the one it was trained with.
    pub fn load(
        dir: &Path,
        plan: impl FnOnce(&FeatureSpec) -> Result<FeaturePlan, Box<dyn Error + Send + Sync>>,
        table: impl Fn(&str) -> Option<TableId>,
    ) -> Result<Self, BundleError> {
        let manifest = read_manifest(dir)?;
        let bundle = || manifest.bundle_id.clone();
        let mut files = BTreeMap::new();
        for (name, expected) in &manifest.files {
            let path = dir.join(name);
            let bytes = read(dir, name)?;
            let found = sha256(&bytes);
            if found != *expected {
                return Err(BundleError::Changed {
                    path,
                    expected: expected.clone(),
                    found,
                });
            }
            files.insert(name.as_str(), bytes);
        }
        let plan = plan(&manifest.features).map_err(|source| BundleError::Plan {
            bundle: bundle(),
            source,
        })?;
        if plan.hash() != manifest.plan_hash {
            return Err(BundleError::PlanHash {
                bundle: bundle(),
                expected: manifest.plan_hash.clone(),
                found: plan.hash().into(),
                catalog_fingerprint: manifest.catalog_fingerprint.clone(),
            });
        }
        let mut tasks = Vec::new();
        for task in &manifest.tasks {
            let unknown = || BundleError::UnknownTable {
                bundle: bundle(),
                task: task.name.clone(),
                table: task.entity.clone(),
            };
            let entity = table(&task.entity).ok_or_else(unknown)?;
            tasks.push(fitted_task(task, entity));
        }
        let golden: Golden = parse(dir, GOLDEN, &files)?;
        let networks = (0..manifest.ensemble)
            .map(|k| network(dir, &manifest, k, &files))
            .collect::<Result<_, _>>()?;
        let widths: Vec<usize> = plan
            .layout()
            .members
            .iter()
            .map(|m| m.columns.len())
            .collect();
        if !golden.fits(plan.layout().root.len(), &widths) || golden.logits.len() != tasks.len() {
            let reason = "golden cells have another shape than the plan's columns".into();
            return Err(BundleError::Malformed {
                path: dir.join(GOLDEN),
                reason,
            });
        }
        let fitted = Fitted {
            layout: plan.layout().clone(),
            config: manifest.network.clone(),
            networks,
            normaliser: parse(dir, NORMALISER, &files)?,
            tasks,
            golden: golden.batch(),
        };
        check(&fitted, plan.layout())?;
        check_golden(&fitted, &golden)?;
        Ok(Self {
            tasks: scorer_tasks(&fitted),
            manifest,
            plan,
            fitted,
        })
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
        self.fitted.logits(batch, task)
    }
    fn explain(&self, batch: &FeatureBatch, task: usize, cell: usize, slot: usize) -> Explanation {
        self.fitted.explain(batch, task, cell, slot)
    }
}

fn scorer_tasks(fitted: &Fitted) -> Vec<ScorerTask> {
    let definitions = fitted.tasks.iter().map(|t| &t.definition);
    definitions
        .map(|d| ScorerTask {
            name: d.name.clone(),
            entity: d.entity,
            horizon_ms: d.horizon_ms,
        })
        .collect()
}

fn fitted_task(task: &TaskManifest, entity: TableId) -> FittedTask {
    FittedTask {
        definition: TaskDefinition {
            name: task.name.clone(),
            entity,
            entity_name: task.entity.clone(),
            pql: task.pql.clone(),
            horizon_ms: task.horizon_ms,
            head: task.head.clone(),
        },
        regularisation: task.regularisation.clone(),
        calibration: task.calibration.clone(),
        metrics: task.metrics.clone(),
    }
}

/// `.NAME.suffix` beside `dir`.
fn sibling(dir: &Path, suffix: &str) -> PathBuf {
    let name = dir
        .file_name()
        .map_or_else(|| "bundle".into(), |n| n.to_string_lossy().into_owned());
    dir.with_file_name(format!(".{name}.{suffix}"))
}

fn weights_name(member: usize) -> String {
    format!("weights-{member}.bpk")
}

/// Every file but the manifest.
fn files_of(fitted: &Fitted) -> Result<Vec<(String, Vec<u8>)>, BundleError> {
    let logits = (0..fitted.tasks.len())
        .map(|task| fitted.logits(&fitted.golden, task))
        .collect();
    let mut files = vec![
        (
            NORMALISER.to_owned(),
            pretty(&fitted.normaliser).into_bytes(),
        ),
        (
            GOLDEN.to_owned(),
            pretty(&Golden::new(&fitted.golden, logits)).into_bytes(),
        ),
    ];
    for (k, network) in fitted.networks.iter().enumerate() {
        let bytes = network.clone().into_record().into_bytes();
        let bytes = bytes.map_err(|e| BundleError::Mismatch {
            what: "network and record",
            reason: e.to_string(),
        })?;
        files.push((weights_name(k), bytes.to_vec()));
    }
    Ok(files)
}

fn read(dir: &Path, name: &str) -> Result<Vec<u8>, BundleError> {
    let path = dir.join(name);
    fs::read(&path).map_err(|source| {
        let previous = sibling(dir, "previous");
        let hint = if previous.exists() {
            format!(
                "; writing it was interrupted: the bundle before it is in {}",
                previous.display()
            )
        } else {
            String::new()
        };
        BundleError::Io {
            action: "read",
            path,
            source,
            hint,
        }
    })
}

fn read_manifest(dir: &Path) -> Result<Manifest, BundleError> {
    let path = dir.join(MANIFEST);
    let malformed = |reason: String| BundleError::Malformed {
        path: path.clone(),
        reason,
    };
    let text = String::from_utf8(read(dir, MANIFEST)?).map_err(|e| malformed(e.to_string()))?;
    // The version first: another version may have other fields.
    let value: serde_json::Value =
        serde_json::from_str(&text).map_err(|e| malformed(e.to_string()))?;
    let found = value
        .get("format")
        .and_then(serde_json::Value::as_u64)
        .ok_or_else(|| malformed("no field `format`".into()))?;
    if found != u64::from(FORMAT_VERSION) {
        return Err(BundleError::Format { path, found });
    }
    let manifest: Manifest = serde_json::from_value(value).map_err(|e| malformed(e.to_string()))?;
    let found = Manifest::expected_id(&text, &manifest.bundle_id);
    if found != manifest.bundle_id {
        return Err(BundleError::Changed {
            path,
            expected: manifest.bundle_id,
            found,
        });
    }
    Ok(manifest)
}

fn listed<'a>(
    dir: &Path,
    name: &str,
    files: &'a BTreeMap<&str, Vec<u8>>,
) -> Result<&'a [u8], BundleError> {
    let missing = || BundleError::Malformed {
        path: dir.join(MANIFEST),
        reason: format!("it does not list {name}"),
    };
    files.get(name).map(Vec::as_slice).ok_or_else(missing)
}

fn parse<T: DeserializeOwned>(
    dir: &Path,
    name: &str,
    files: &BTreeMap<&str, Vec<u8>>,
) -> Result<T, BundleError> {
    let malformed = |e: serde_json::Error| BundleError::Malformed {
        path: dir.join(name),
        reason: e.to_string(),
    };
    serde_json::from_slice(listed(dir, name, files)?).map_err(malformed)
}

fn network(
    dir: &Path,
    manifest: &Manifest,
    k: usize,
    files: &BTreeMap<&str, Vec<u8>>,
) -> Result<Network, BundleError> {
    let name = weights_name(k);
    let bytes = Bytes::from_bytes_vec(listed(dir, &name, files)?.to_vec());
    let malformed = |reason: String| BundleError::Malformed {
        path: dir.join(&name),
        reason,
    };
    let record = ModuleRecord::from_bytes(bytes).map_err(|e| malformed(e.to_string()))?;
    // Every parameter is overwritten, or the record refused: the seed does not matter.
    let empty = manifest
        .network
        .init(&mut ChaCha8Rng::seed_from_u64(0), &Device::flex());
    empty
        .try_load_record(record)
        .map_err(|e| malformed(e.to_string()))
}

/// What must hold of every ensemble that scores.
fn check(fitted: &Fitted, layout: &Layout) -> Result<(), BundleError> {
    let mismatch = |what, reason: &str| {
        Err(BundleError::Mismatch {
            what,
            reason: reason.into(),
        })
    };
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
        let head = &task.definition.head;
        if tower.outputs != head.outputs()
            || head.fault().is_some()
            || tower.target != target_of(layout, task.definition.entity)
        {
            return mismatch(
                "network and tasks",
                &format!(
                    "the tower of task `{}` is not the one its head needs",
                    task.definition.name
                ),
            );
        }
        if !task.calibration.is_sound() {
            return mismatch(
                "calibration and task",
                &format!("that of task `{}` does not rise", task.definition.name),
            );
        }
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

fn check_golden(fitted: &Fitted, golden: &Golden) -> Result<(), BundleError> {
    for (index, (task, expected)) in fitted.tasks.iter().zip(&golden.logits).enumerate() {
        let found = fitted.logits(&fitted.golden, index);
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
