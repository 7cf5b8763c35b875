//! Checks a call and splits it into records.

use crate::call::{IngestCall, IngestSource};
use crate::options::{IngestOptions, IngestOptionsError};
use crate::shapes::{NotItems, Taken, items};
use crate::signature::{NotGenuine, check_bearer, check_hubspot, check_marketo, check_segment};

/// A call that is refused as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Status of HTTP.
    pub status: u16,
    /// Words for the sender.
    pub detail: String,
}

impl From<NotGenuine> for Refusal {
    fn from(why: NotGenuine) -> Self {
        Self {
            status: 401,
            detail: why.0.to_owned(),
        }
    }
}

impl From<NotItems> for Refusal {
    fn from(why: NotItems) -> Self {
        Self {
            status: 400,
            detail: why.0,
        }
    }
}

/// The sources of a configuration.
#[derive(Clone, Debug)]
pub struct Intake {
    options: IngestOptions,
}

impl Intake {
    /// The sources of checked options.
    ///
    /// # Errors
    /// The first setting that cannot work.
    pub fn new(options: &IngestOptions) -> Result<Self, IngestOptionsError> {
        options.check()?;
        Ok(Self {
            options: options.clone(),
        })
    }

    /// The fate of each item of a call, in order. `now_ms` is the wall clock.
    ///
    /// # Errors
    /// A source without a section, a wrong signature, a body that is not JSON, or too many items.
    pub fn take(&self, call: &IngestCall, now_ms: i64) -> Result<Vec<Taken>, Refusal> {
        let take: Box<dyn Fn(_) -> Taken> = match call.source {
            IngestSource::Segment => {
                let segment = configured(&self.options.segment, call)?;
                check_segment(call, &segment.secret)?;
                Box::new(|item| segment.take(item))
            }
            IngestSource::Hubspot => {
                let hubspot = configured(&self.options.hubspot, call)?;
                check_hubspot(call, &hubspot.secret, &hubspot.url, now_ms)?;
                Box::new(|item| hubspot.take(item))
            }
            IngestSource::Marketo => {
                let marketo = configured(&self.options.marketo, call)?;
                check_marketo(call, &marketo.token)?;
                Box::new(|item| marketo.take(item))
            }
            IngestSource::Json => {
                let json = configured(&self.options.json, call)?;
                check_bearer(call, &json.token)?;
                let topic = json.topic(call)?;
                let key = call.parameter("key");
                Box::new(move |item| json.take(topic, key, item))
            }
        };
        let items = items(call)?;
        if items.len() > self.options.records {
            let (count, most) = (items.len(), self.options.records);
            return Err(Refusal {
                status: 413,
                detail: format!("{count} records in one call; send {most} at most"),
            });
        }
        Ok(items.into_iter().map(take).collect())
    }
}

fn configured<'o, O>(section: &'o Option<O>, call: &IngestCall) -> Result<&'o O, Refusal> {
    section.as_ref().ok_or_else(|| Refusal {
        status: 404,
        detail: format!("there is no [ingest.{}] here", call.source.name()),
    })
}

#[cfg(test)]
mod tests;
