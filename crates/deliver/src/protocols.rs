//! The protocols of sinks: records become requests, answers become fates.

mod crm;
mod hubspot;
mod interest;
mod salesforce;
mod slack;
mod template;
mod webhook;

use serde_json::{Map, Value as Json};

pub(crate) use crm::CrmFields;
pub(crate) use hubspot::Hubspot;
pub(crate) use salesforce::Salesforce;
pub(crate) use slack::Slack;
pub(crate) use template::Template;
pub(crate) use webhook::Webhook;

use crate::fate::Judgement;
use crate::request::{HttpAnswer, HttpRequest};

/// A record as its fields.
pub type Fields = Map<String, Json>;

/// The text of a field; `None` for null, for an absent field and for anything but text.
pub(crate) fn text<'f>(fields: &'f Fields, name: &str) -> Option<&'f str> {
    fields.get(name).and_then(Json::as_str)
}

/// The protocol of one sink. Pure: time is an argument.
pub trait Protocol: Send {
    /// True if the sink sends this record.
    fn wants(&self, record: &Fields) -> bool;

    /// Requests for some records: indices of the records of each request, in the order in which they
    /// are sent. A record in no request is superseded by a later one of the same key. Two records of
    /// one entity keep their order.
    fn plan(&self, records: &[&Fields]) -> Vec<Vec<usize>>;

    /// The request for some records, at least one. `now_ms` is the wall clock.
    fn request(&self, records: &[&Fields], now_ms: i64) -> HttpRequest;

    /// The meaning of an answer to the request for these records.
    fn judge(&self, records: &[&Fields], answer: &HttpAnswer) -> Judgement;
}
