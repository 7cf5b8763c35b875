//! Committed output records, read back from their bytes. A registry that is away is waited for.

use leadpulse_records::{Alert, PolicyStateRecord, Score, WorkList};

use super::{Engine, RunError};
use crate::ports::PortError;

impl Engine {
    /// A policy state. Decisions follow from it, so bytes that are none are an error.
    pub(super) fn readable_policy(&self, value: &[u8]) -> Result<PolicyStateRecord, RunError> {
        let (schemas, encoders) = (self.ports.schemas.as_ref(), &self.encoders);
        let read = self
            .attendant
            .retry(|| encoders.read_policy_state(value, schemas));
        Ok(read?)
    }

    /// A work list. The next one is compared with it, so bytes that are none are an error.
    pub(super) fn readable_list(&self, value: &[u8]) -> Result<WorkList, RunError> {
        let (schemas, encoders) = (self.ports.schemas.as_ref(), &self.encoders);
        let read = self
            .attendant
            .retry(|| encoders.read_work_list(value, schemas));
        Ok(read?)
    }

    /// A score record; `None` for bytes that are none.
    pub(super) fn readable_score(&self, value: &[u8]) -> Result<Option<Score>, RunError> {
        let schemas = self.ports.schemas.as_ref();
        let read = self
            .attendant
            .retry(|| self.encoders.read_score(value, schemas));
        match read {
            Ok(record) => Ok(Some(record)),
            Err(stop @ PortError::Interrupted(_)) => Err(stop.into()),
            Err(error) => {
                tracing::debug!(%error, "a score is left out");
                Ok(None)
            }
        }
    }

    /// An alert record; `None` for bytes that are none.
    pub(super) fn readable_alert(&self, value: &[u8]) -> Result<Option<Alert>, RunError> {
        let schemas = self.ports.schemas.as_ref();
        let read = self
            .attendant
            .retry(|| self.encoders.read_alert(value, schemas));
        match read {
            Ok(record) => Ok(Some(record)),
            Err(stop @ PortError::Interrupted(_)) => Err(stop.into()),
            Err(_) => Ok(None),
        }
    }
}
