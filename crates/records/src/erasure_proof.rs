//! The proof of an erasure: what was removed, and what may hold copies until when.

use serde::{Deserialize, Serialize};

/// Avro schema of [`ErasureProof`], JSON.
pub const ERASURE_PROOF_SCHEMA: &str = include_str!("../../../schemas/outputs/erasure_proof.avsc");

/// A place that may hold copies of an erased person's records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldUntil {
    pub place: String,
    pub kind: String,
    pub until: Option<i64>,
}

/// One proof: `schemas/outputs/erasure_proof.avsc` gives the meaning and unit of each field. No
/// field names the person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErasureProof {
    pub request_id: String,
    pub subject: String,
    pub action: String,
    pub requested_at: i64,
    pub as_of: i64,
    pub clock_at: Option<i64>,
    pub epoch: i64,
    pub hashes: i64,
    pub entities: i64,
    pub versions: i64,
    pub events: i64,
    pub domains: i64,
    pub rewritten_rows: i64,
    pub tombstones: i64,
    pub renewed_records: i64,
    pub work_lists: i64,
    pub held: Vec<HeldUntil>,
}
