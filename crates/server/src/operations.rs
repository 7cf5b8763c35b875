//! The port to operations: what people do from the console, in the words of the deployment's commands.
//!
//! Decision: docs/decisions/0083-operations-are-the-commands.md

use serde::{Deserialize, Serialize};

use crate::desk::Desk;

/// An answer to an alert.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlertAnswer {
    /// Id of the alert.
    pub alert_id: String,
    /// `accepted` or `rejected`.
    pub verdict: String,
    /// Category of the answer, in the words of the company.
    #[serde(default)]
    pub disposition: Option<String>,
    /// Free text.
    #[serde(default)]
    pub note: Option<String>,
    /// Task and type of the alert, for counts.
    #[serde(default)]
    pub task: Option<String>,
    #[serde(default)]
    pub r#type: Option<String>,
}

/// A row that was sent to an input topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SentRow {
    /// Name of the topic.
    pub topic: String,
    /// Key of the row.
    pub key: String,
}

/// A change of the champion.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PromotionRequest {
    /// Id of a bundle, the start of one, or `challenger`.
    pub bundle: String,
    /// True to promote it although a task of it is worse than chance.
    #[serde(default)]
    pub force: bool,
    /// True to ask the running worker to go on under it.
    #[serde(default)]
    pub live: bool,
}

/// A return to the champion before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RollbackRequest {
    /// True to ask the running worker to go on under it.
    pub live: bool,
}

/// A changed champion.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ChangedChampion {
    /// Id of the new champion.
    pub bundle: String,
    /// Id of the champion before; `None` for the first.
    pub before: Option<String>,
    /// Digest of the release that the running worker was asked for; `None` if nobody asked it.
    pub release: Option<String>,
}

/// A bundle of the registry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KnownModel {
    /// Id of the bundle.
    pub bundle: String,
    /// Names that stand for it: `champion`, `challenger`.
    pub aliases: Vec<String>,
    /// Code of the worst grade of its tasks; `None` if nobody graded it.
    pub grade: Option<String>,
    /// Names of its tasks.
    pub tasks: Vec<String>,
}

/// The choice of dead letters to send again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReplayRequest {
    /// Codes of reasons; at least one reason or topic has to be named.
    pub reasons: Vec<String>,
    /// Topics of the original records.
    pub topics: Vec<String>,
    /// True to send records again that were sent again and refused again.
    pub again: bool,
    /// True to send nothing, and to count only.
    pub dry_run: bool,
}

/// Counts of a replay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ReplayCounts {
    /// Letters to send again.
    pub letters: u64,
    /// Letters that the schemas and the configuration of now would accept.
    pub accepted_now: u64,
    /// Records that were sent.
    pub sent: u64,
    /// Letters that another replay sent in the meantime.
    pub sent_by_others: u64,
    /// Letters that were sent again before.
    pub replayed: u64,
    /// Letters whose record was sent again and refused again.
    pub refused_again: u64,
    /// Letters without all bytes of their record.
    pub incomplete: u64,
    /// Letters of topics that no source reads.
    pub without_source: u64,
}

/// Reasons why an operation was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OperationError {
    /// The deployment refuses what is asked for.
    #[error("{0}")]
    Refused(String),
    /// Cluster or files failed.
    #[error("{0}")]
    Failed(String),
}

/// Operations of a deployment. Each may take seconds; `by` is the name of the client.
pub trait Operations: Send + Sync {
    /// Sends the answer as a row of the feedback table.
    ///
    /// # Errors
    /// A deployment without a feedback topic, or a cluster that does not take it.
    fn answer_alert(&self, answer: &AlertAnswer, by: &str) -> Result<SentRow, OperationError>;
    /// The bundles of the registry of models.
    ///
    /// # Errors
    /// A deployment without a registry, or files that cannot be read.
    fn models(&self) -> Result<Vec<KnownModel>, OperationError>;
    /// Makes a bundle the champion.
    ///
    /// # Errors
    /// A bundle that does not exist, does not fit or is worse than chance; a cluster that does not take
    /// the request to the worker.
    fn promote(
        &self,
        request: &PromotionRequest,
        by: &str,
    ) -> Result<ChangedChampion, OperationError>;
    /// Makes the champion before this one the champion again.
    ///
    /// # Errors
    /// As [`Self::promote`], and no champion before.
    fn roll_back(
        &self,
        request: &RollbackRequest,
        by: &str,
    ) -> Result<ChangedChampion, OperationError>;
    /// Sends dead letters again.
    ///
    /// # Errors
    /// A filter of nothing, or a cluster that does not answer. What was sent before stays sent.
    fn replay(&self, request: &ReplayRequest, by: &str) -> Result<ReplayCounts, OperationError>;
}

/// The operations of a process, one at a time.
pub type OperationsDesk = Desk<dyn Operations>;
