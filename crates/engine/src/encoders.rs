//! Writers and readers of every output, bound to the ids that a schema store gives.
//!
//! Scores, alerts and policy states are records of `leadpulse-records`. Epoch records and layouts
//! are the engine's own format; their codec reads every version that a release wrote.

use leadpulse_records::{
    ALERT_SCHEMA, Alert, ERASURE_PROOF_SCHEMA, EXPOSURE_SCHEMA, ErasureProof, Exposure,
    POLICY_STATE_SCHEMA, PolicyStateRecord, ReadError, RecordCodec, SCORE_SCHEMA, Score,
    WORK_LIST_SCHEMA, WorkList,
};
use leadpulse_schema::Frame;
use serde::de::DeserializeOwned;

use crate::epoch::{EpochRecord, EpochRecordV1, LAYOUT_SECTION, PartitionLayout, ScriptRecord};
use crate::ports::{PortCause, PortError, SchemaLookupError, SchemaStore};

const EPOCH: &str = include_str!("../../../schemas/outputs/epoch_record.avsc");
const EPOCH_V3: &str = include_str!("../../../schemas/outputs/versions/epoch_record-3.avsc");
const EPOCH_V2: &str = include_str!("../../../schemas/outputs/versions/epoch_record-2.avsc");
const EPOCH_V1: &str = include_str!("../../../schemas/outputs/versions/epoch_record-1.avsc");
const LAYOUT: &str = include_str!("../../../schemas/outputs/partition_layout.avsc");

/// Codecs of all outputs.
pub struct OutputEncoders {
    score: RecordCodec,
    alert: RecordCodec,
    epoch: RecordCodec,
    epoch_v3: RecordCodec,
    epoch_v2: RecordCodec,
    epoch_v1: RecordCodec,
    layout: RecordCodec,
    policy_state: RecordCodec,
    work_list: RecordCodec,
    exposure: RecordCodec,
    erasure_proof: RecordCodec,
}

impl OutputEncoders {
    /// Registers the output schemas, or finds their ids.
    ///
    /// # Errors
    /// If the store refuses a schema or cannot be asked.
    pub fn new(schemas: &dyn SchemaStore) -> Result<Self, SchemaLookupError> {
        let codec =
            |json: &str, subject: &str| Ok(RecordCodec::new(json, schemas.id_of(subject, json)?));
        Ok(Self {
            score: codec(SCORE_SCHEMA, "scores-value")?,
            alert: codec(ALERT_SCHEMA, "alerts-value")?,
            // A subject of its own: format 2 is no compatible evolution of format 1, and a registry
            // would refuse it. Format 3 only adds fields to format 2.
            epoch: codec(EPOCH, "epochs-v2-value")?,
            // Older formats are only read, so they need no id.
            epoch_v3: RecordCodec::new(EPOCH_V3, 0),
            epoch_v2: RecordCodec::new(EPOCH_V2, 0),
            epoch_v1: RecordCodec::new(EPOCH_V1, 0),
            layout: codec(LAYOUT, "epochs-layout-value")?,
            policy_state: codec(POLICY_STATE_SCHEMA, "policy-state-value")?,
            work_list: codec(WORK_LIST_SCHEMA, "worklist-value")?,
            exposure: codec(EXPOSURE_SCHEMA, "exposures-value")?,
            erasure_proof: codec(ERASURE_PROOF_SCHEMA, "erasure-proofs-value")?,
        })
    }

    /// Writes a score as a framed Avro record.
    pub fn score(&self, record: &Score) -> Vec<u8> {
        self.score.encode(record)
    }

    /// Writes an alert as a framed Avro record.
    pub fn alert(&self, record: &Alert) -> Vec<u8> {
        self.alert.encode(record)
    }

    /// Writes an epoch record as a framed Avro record.
    pub fn epoch(&self, record: &EpochRecord) -> Vec<u8> {
        self.epoch.encode(record)
    }

    /// Writes a layout as a framed Avro record.
    pub fn layout(&self, layout: &PartitionLayout) -> Vec<u8> {
        self.layout.encode(layout)
    }

    /// Writes a policy state as a framed Avro record.
    pub fn policy_state(&self, record: &PolicyStateRecord) -> Vec<u8> {
        self.policy_state.encode(record)
    }

    /// Writes a work list as a framed Avro record.
    pub fn work_list(&self, record: &WorkList) -> Vec<u8> {
        self.work_list.encode(record)
    }

    /// Writes an exposure as a framed Avro record.
    pub fn exposure(&self, record: &Exposure) -> Vec<u8> {
        self.exposure.encode(record)
    }

    /// Writes the proof of an erasure as a framed Avro record.
    pub fn erasure_proof(&self, record: &ErasureProof) -> Vec<u8> {
        self.erasure_proof.encode(record)
    }

    /// Reads the proof of an erasure back.
    ///
    /// # Errors
    /// As [`Self::read_score`].
    pub fn read_erasure_proof(
        &self,
        value: &[u8],
        schemas: &dyn SchemaStore,
    ) -> Result<ErasureProof, PortError> {
        read(
            &self.erasure_proof,
            "the proof of an erasure",
            value,
            schemas,
        )
    }

    /// Reads a record of the epochs topic back, of any format that a release wrote. A record that
    /// introduces a layout gives the layout and itself. So does a record of format 1, which names
    /// partitions.
    ///
    /// The program knows the schemas of its own formats, so no registry is asked: old epoch records
    /// stay readable whatever ids a registry gives them today.
    ///
    /// # Errors
    /// Bytes that are of none of the formats.
    pub fn read_script(&self, value: &[u8]) -> Result<Vec<ScriptRecord>, PortError> {
        let frame = Frame::parse(value, std::iter::empty())
            .map_err(|e| unreadable("an epoch record", &e))?;
        // Formats 3 and 4 go on where the one before ends, so bytes of one are never whole for
        // another.
        let record = self.epoch.read_whole::<EpochRecord>(frame.body);
        let record = record.or_else(|| self.epoch_v3.read_whole(frame.body));
        let record = record.or_else(|| self.epoch_v2.read_whole(frame.body));
        if let Some(record) = record {
            let mut entries = Vec::with_capacity(2);
            if let Some(layout) = record.sections.get(LAYOUT_SECTION) {
                entries.push(ScriptRecord::Layout(self.read_layout(layout)?));
            }
            entries.push(ScriptRecord::Epoch(Box::new(record)));
            return Ok(entries);
        }
        let Some(record) = self.epoch_v1.read_whole::<EpochRecordV1>(frame.body) else {
            return Err(unreadable(
                "an epoch record",
                &"its bytes are of no format that this program knows; \
                  a newer program may have written it",
            ));
        };
        let (layout, record) = record.upgraded();
        Ok(vec![
            ScriptRecord::Layout(layout),
            ScriptRecord::Epoch(Box::new(record)),
        ])
    }

    fn read_layout(&self, value: &[u8]) -> Result<PartitionLayout, PortError> {
        let frame =
            Frame::parse(value, std::iter::empty()).map_err(|e| unreadable("a layout", &e))?;
        self.layout
            .read_whole(frame.body)
            .ok_or_else(|| unreadable("a layout", &"a newer program may have written it"))
    }

    /// Reads a score record back.
    ///
    /// # Errors
    /// Bytes that are no score record, or a writer schema that the store does not know.
    pub fn read_score(&self, value: &[u8], schemas: &dyn SchemaStore) -> Result<Score, PortError> {
        read(&self.score, "a score record", value, schemas)
    }

    /// Reads an alert record back.
    ///
    /// # Errors
    /// As [`Self::read_score`].
    pub fn read_alert(&self, value: &[u8], schemas: &dyn SchemaStore) -> Result<Alert, PortError> {
        read(&self.alert, "an alert record", value, schemas)
    }

    /// Reads a policy state back.
    ///
    /// # Errors
    /// As [`Self::read_score`].
    pub fn read_policy_state(
        &self,
        value: &[u8],
        schemas: &dyn SchemaStore,
    ) -> Result<PolicyStateRecord, PortError> {
        read(&self.policy_state, "a policy state", value, schemas)
    }

    /// Reads a work list back.
    ///
    /// # Errors
    /// As [`Self::read_score`].
    pub fn read_work_list(
        &self,
        value: &[u8],
        schemas: &dyn SchemaStore,
    ) -> Result<WorkList, PortError> {
        read(&self.work_list, "a work list", value, schemas)
    }
}

fn read<T: DeserializeOwned>(
    codec: &RecordCodec,
    what: &str,
    value: &[u8],
    schemas: &dyn SchemaStore,
) -> Result<T, PortError> {
    codec
        .read(value, |schema| {
            schemas.lookup(schema).map(|writer| writer.text)
        })
        .map_err(|error| match error {
            ReadError::Lookup(SchemaLookupError::Unavailable(_)) => {
                PortError::retriable(PortCause::NoAnswer, error.to_string())
            }
            ReadError::Lookup(SchemaLookupError::Denied(_)) => {
                PortError::fatal(PortCause::Refused, error.to_string())
            }
            ReadError::Lookup(SchemaLookupError::Unknown(_)) | ReadError::Unreadable(_) => {
                unreadable(what, &error)
            }
        })
}

fn unreadable(what: &str, why: &dyn std::fmt::Display) -> PortError {
    PortError::fatal(
        PortCause::Unreadable,
        format!("{what} cannot be read: {why}"),
    )
}

#[cfg(test)]
mod tests;
