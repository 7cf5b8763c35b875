//! The on-disk format of a bundle: `manifest.json` and `golden.json`.
//!
//! ```text
//! BUNDLE/
//!   manifest.json      this module; names every other file with its SHA-256
//!   normaliser.json    crate::Normaliser
//!   golden.json        raw features of some cells, and the logits they must give
//!   weights-<k>.bpk    the parameters of network k of the ensemble (burnpack)
//!   trees-<task>.json  the trees of a task that has some (crate::trees::forest)
//! ```

use std::collections::BTreeMap;

use leadpulse_features::{FeatureBatch, FeatureSpec, MemberBlock};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::fit::Regularisation;
use crate::fit::calibrate::Calibration;
use crate::network::NetworkConfig;
use crate::network::head::Head;

/// The contents of `manifest.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of this format.
    pub format: u32,
    /// First 16 hexadecimal digits of the SHA-256 of this file with this field empty. It names the
    /// bundle in every output.
    pub bundle_id: String,
    /// Program and version that wrote it.
    pub created_by: String,
    /// Creation time, if the caller passed one.
    pub created_at: Option<String>,
    /// Hash of the feature plan it was trained with.
    pub plan_hash: String,
    /// Fingerprint of the schemas it was trained with, for people: the plan's hash decides.
    pub catalog_fingerprint: String,
    /// The specification from which the plan is rebuilt.
    pub features: FeatureSpec,
    /// Widths of each member's network.
    pub network: NetworkConfig,
    /// The number of networks of the ensemble.
    pub ensemble: usize,
    /// The tasks, in the order of the network's towers.
    pub tasks: Vec<TaskManifest>,
    /// Every other file and its SHA-256, hexadecimal.
    pub files: BTreeMap<String, String>,
}

/// One task of a bundle.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskManifest {
    /// The task's name in the configuration.
    pub name: String,
    /// Name of the entity table scored.
    pub entity: String,
    /// The query it was compiled from.
    pub pql: String,
    /// End of the predicted window after the moment of scoring, milliseconds.
    pub horizon_ms: i64,
    /// The last layer of the task.
    pub head: Head,
    /// Raw to calibrated logits.
    pub calibration: Calibration,
    /// The regularisation that validation chose.
    pub regularisation: Regularisation,
    /// The trees beside the networks, where validation gave them weight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trees: Option<TreesManifest>,
    /// Metrics by name, as the fit and the caller wrote them.
    pub metrics: Map<String, Value>,
    /// Whether the metrics can be relied on; `None` for a bundle that nobody graded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality: Option<Quality>,
}

/// The grade of a task's evaluation.
///
/// Decision: docs/decisions/0048-a-bundle-carries-its-grade.md
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quality {
    pub grade: Grade,
    /// Everything that lowered the grade, in words; none for [`Grade::Sound`].
    pub reasons: Vec<String>,
}

/// Grades of an evaluation, worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Grade {
    /// A coin ranks better.
    WorseThanChance,
    /// Too few outcomes, or no ranking that chance would not give.
    Insufficient,
    /// Few outcomes, or figures that a simple rule beats.
    Provisional,
    /// Nothing was found against it.
    Sound,
}

impl Grade {
    /// The grade for people.
    pub fn words(self) -> &'static str {
        match self {
            Grade::WorseThanChance => "worse than chance",
            Grade::Insufficient => "insufficient",
            Grade::Provisional => "provisional",
            Grade::Sound => "sound",
        }
    }
}

/// The trees of a task, in a file of their own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TreesManifest {
    /// Name of the file in the bundle's folder.
    pub file: String,
    /// Weight of the trees' logit, above 0 and at most 1; the networks' mean logit has the rest.
    pub weight: f64,
    /// The number of trees.
    pub rounds: usize,
}

impl Manifest {
    /// The text of the file, and the bundle id that it holds.
    pub(crate) fn to_text(&self) -> (String, String) {
        let unnamed = Self {
            bundle_id: String::new(),
            ..self.clone()
        };
        let id = id_of(&pretty(&unnamed));
        (
            pretty(&Self {
                bundle_id: id.clone(),
                ..unnamed
            }),
            id,
        )
    }

    /// The bundle id that this text should hold, given the one it holds. Works on the text, so that
    /// how numbers print and parse cannot matter.
    pub(crate) fn expected_id(text: &str, held: &str) -> String {
        id_of(&text.replacen(
            &format!("\"bundle_id\": \"{held}\""),
            "\"bundle_id\": \"\"",
            1,
        ))
    }
}

/// Cells and the logits they must give.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Golden {
    cells: usize,
    root: Vec<f32>,
    members: Vec<GoldenMembers>,
    /// Per task, in the shape of `Scorer::logits`; null for padding.
    pub logits: Vec<Vec<Option<f64>>>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct GoldenMembers {
    slots: usize,
    width: usize,
    values: Vec<f32>,
    mask: Vec<f32>,
    /// As in a batch; absent in bundles whose cells were pooled over all of their rows.
    #[serde(default)]
    attended: Vec<u32>,
}

impl GoldenMembers {
    fn attended(&self, cells: usize) -> Vec<u32> {
        if !self.attended.is_empty() {
            return self.attended.clone();
        }
        let rows = |cell: usize| &self.mask[cell * self.slots..(cell + 1) * self.slots];
        let there = |cell: usize| rows(cell).iter().filter(|mask| **mask != 0.0).count() as u32;
        (0..cells).map(there).collect()
    }
}

impl Golden {
    pub fn new(batch: &FeatureBatch, logits: Vec<Vec<f64>>) -> Self {
        let members = batch.members.iter().map(|b| GoldenMembers {
            slots: b.slots,
            width: b.width,
            values: b.values.clone(),
            mask: b.mask.clone(),
            attended: b.attended.clone(),
        });
        let logits = logits
            .into_iter()
            .map(|task| {
                task.into_iter()
                    .map(|z| z.is_finite().then_some(z))
                    .collect()
            })
            .collect();
        Self {
            cells: batch.cells,
            root: batch.root.clone(),
            members: members.collect(),
            logits,
        }
    }

    pub fn batch(&self) -> FeatureBatch {
        let members = self.members.iter().map(|m| MemberBlock {
            slots: m.slots,
            width: m.width,
            values: m.values.clone(),
            mask: m.mask.clone(),
            entities: vec![None; m.mask.len()],
            attended: m.attended(self.cells),
            folded: vec![0; self.cells],
        });
        FeatureBatch {
            cells: self.cells,
            root: self.root.clone(),
            members: members.collect(),
        }
    }

    /// Whether the lengths agree with each other and with these widths.
    pub fn fits(&self, root: usize, members: &[usize]) -> bool {
        self.root.len() == self.cells * root
            && self.members.len() == members.len()
            && self.members.iter().zip(members).all(|(m, width)| {
                m.width == *width
                    && m.mask.len() == self.cells * m.slots
                    && (m.attended.is_empty() || m.attended.len() == self.cells)
                    && m.values.len() == m.mask.len() * m.width
            })
    }
}

/// JSON as it is written to files.
pub(crate) fn pretty(value: &impl Serialize) -> String {
    let mut text = serde_json::to_string_pretty(value)
        .expect("plain structs of finite numbers with string keys print as JSON");
    text.push('\n');
    text
}

/// The SHA-256 of some bytes, hexadecimal.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    leadpulse_schema::hex(&Sha256::digest(bytes))
}

fn id_of(text: &str) -> String {
    sha256(text.as_bytes())[..16].to_owned()
}
