//! Loading a bundle, with every reason to refuse it.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::Path;

use burn::module::Module;
use burn::store::ModuleRecord;
use burn::tensor::{Bytes, Device};
use leadpulse_features::{FeaturePlan, FeatureSpec, Forward};
use leadpulse_schema::TableId;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::de::DeserializeOwned;

use super::check::{check, check_golden};
use super::manifest::{Golden, Manifest, TaskManifest, sha256};
use super::{
    Bundle, BundleError, FORMAT_VERSION, GOLDEN, MANIFEST, NORMALISER, sibling, weights_name,
};
use crate::fit::{Fitted, FittedTask, TaskDefinition};
use crate::network::Network;
use crate::trees::TreeMember;

impl Bundle {
    /// The manifest of the bundle in folder `dir`, after every file that it lists was checked. Loads
    /// no network.
    ///
    /// # Errors
    /// A file that is absent or was changed.
    pub fn manifest_of(dir: &Path) -> Result<Manifest, BundleError> {
        let manifest = read_manifest(dir)?;
        listed_files(dir, &manifest)?;
        Ok(manifest)
    }

    /// Loads the bundle in folder `dir`. `plan` rebuilds the feature plan; `table` finds a table by
    /// name.
    ///
    /// # Errors
    /// When anything is not as it was written, or the plan here differs from the one it was trained
    /// with.
    pub fn load(
        dir: &Path,
        plan: impl FnOnce(&FeatureSpec) -> Result<FeaturePlan, Box<dyn Error + Send + Sync>>,
        table: impl Fn(&str) -> Option<TableId>,
    ) -> Result<Self, BundleError> {
        let manifest = read_manifest(dir)?;
        let bundle = || manifest.bundle_id.clone();
        let files = listed_files(dir, &manifest)?;
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
            tasks.push(fitted_task(dir, task, entity, &files)?);
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
        let bundle = Self::of_parts(manifest, plan, fitted);
        for forward in [Forward::Plain, Forward::Burn] {
            check_golden(&bundle.clone().with_forward(forward), &golden)?;
        }
        Ok(bundle)
    }
}

fn fitted_task(
    dir: &Path,
    task: &TaskManifest,
    entity: TableId,
    files: &BTreeMap<&str, Vec<u8>>,
) -> Result<FittedTask, BundleError> {
    let mut trees = None;
    if let Some(listed) = &task.trees {
        trees = Some(TreeMember {
            weight: listed.weight,
            forest: parse(dir, &listed.file, files)?,
        });
    }
    Ok(FittedTask {
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
        trees,
        metrics: task.metrics.clone(),
        quality: task.quality.clone(),
        validation: Vec::new(),
    })
}

/// The files that a manifest lists, each with the hash that it lists.
fn listed_files<'a>(
    dir: &Path,
    manifest: &'a Manifest,
) -> Result<BTreeMap<&'a str, Vec<u8>>, BundleError> {
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
