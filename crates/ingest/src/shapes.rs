//! Bodies of calls in the shapes that sources read (`docs/connect`).

use serde_json::{Map, Value as Json, json};

use crate::call::{IngestCall, IngestSource};
use crate::options::{HubspotIngest, JsonIngest, MarketoIngest, SegmentIngest};

/// A record for a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IngestRecord {
    /// Topic.
    pub topic: String,
    /// Key, which decides the partition; `None` for any.
    pub key: Option<Vec<u8>>,
    /// JSON.
    pub value: Vec<u8>,
}

/// The fate of one item of a body, before Kafka.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is to be stored.
    Record(IngestRecord),
    /// It can never be read; the reason is for its sender.
    Refused(String),
    /// It concerns no row that is read here.
    Ignored(String),
}

impl Taken {
    fn refused(reason: &str) -> Self {
        Self::Refused(reason.to_owned())
    }
}

/// A body that is not JSON, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NotItems(pub(crate) String);

/// An item of a body with its bytes.
pub(crate) struct Item {
    value: Json,
    bytes: Vec<u8>,
}

impl Item {
    fn of(value: Json) -> Self {
        let bytes = value.to_string().into_bytes();
        Self { value, bytes }
    }

    fn object(&self) -> Option<&Map<String, Json>> {
        self.value.as_object()
    }
}

/// The items of a body: one value, a list, a list named `batch`, or, for programs, a value a line.
/// A single value and those of lines keep their bytes.
pub(crate) fn items(call: &IngestCall) -> Result<Vec<Item>, NotItems> {
    let parsed: Result<Json, _> = serde_json::from_slice(&call.body);
    match parsed {
        Ok(Json::Array(values)) => Ok(values.into_iter().map(Item::of).collect()),
        Ok(mut value) => {
            let batch = value
                .get_mut("batch")
                .filter(|_| call.source == IngestSource::Segment);
            if let Some(Json::Array(values)) = batch.map(Json::take) {
                return Ok(values.into_iter().map(Item::of).collect());
            }
            let bytes = call.body.clone();
            Ok(vec![Item { value, bytes }])
        }
        Err(error) if call.source != IngestSource::Json => Err(NotItems(error.to_string())),
        Err(_) => lines(&call.body),
    }
}

fn lines(body: &[u8]) -> Result<Vec<Item>, NotItems> {
    let mut items = Vec::new();
    for (number, line) in body.split(|byte| *byte == b'\n').enumerate() {
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        let value = serde_json::from_slice(line)
            .map_err(|error| NotItems(format!("line {}: {error}", number + 1)))?;
        items.push(Item {
            value,
            bytes: line.to_vec(),
        });
    }
    Ok(items)
}

/// Text of a value that is text or a number; `None` for others and for empty text.
fn plain(value: Option<&Json>) -> Option<String> {
    match value? {
        Json::String(text) if !text.is_empty() => Some(text.clone()),
        Json::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// A member at a dotted path.
fn at<'v>(value: &'v Json, path: &str) -> Option<&'v Json> {
    path.split('.')
        .try_fold(value, |value, name| value.get(name))
}

impl SegmentIngest {
    /// A call of Segment as it is. Its `messageId` tells a second copy from a second event.
    pub(crate) fn take(&self, item: Item) -> Taken {
        let Some(call) = item.object() else {
            return Taken::refused("a call is an object");
        };
        if plain(call.get("messageId")).is_none() || plain(call.get("type")).is_none() {
            return Taken::refused("a call has a messageId and a type");
        }
        let keys = match call.get("type").and_then(Json::as_str) {
            Some("group") => ["groupId", "userId", "anonymousId"],
            _ => ["userId", "anonymousId", "groupId"],
        };
        let key = keys.into_iter().find_map(|name| plain(call.get(name)));
        Taken::Record(IngestRecord {
            topic: self.topic.clone(),
            key: key.map(String::into_bytes),
            value: item.bytes,
        })
    }
}

impl HubspotIngest {
    /// An event of a subscription as a change of an object. Its columns are those of HubSpot's API:
    /// `id`, `properties.NAME`, `createdAt`, `updatedAt`; `operation` is `update` or `delete`, and
    /// `changed` lists the columns that an update has.
    pub(crate) fn take(&self, item: Item) -> Taken {
        let Some(event) = item.object() else {
            return Taken::refused("an event is an object");
        };
        let subscription = plain(event.get("subscriptionType")).unwrap_or_default();
        let Some((kind, action)) = subscription.split_once('.') else {
            return Taken::refused(
                "an event has a subscriptionType such as contact.propertyChange",
            );
        };
        let kind = match (kind, event.get("objectTypeId").and_then(Json::as_str)) {
            ("object", Some("0-1")) => "contact",
            ("object", Some("0-2")) => "company",
            ("object", Some("0-3")) => "deal",
            (kind, _) => kind,
        };
        let topic = match kind {
            "contact" => &self.contacts,
            "company" => &self.companies,
            "deal" => &self.deals,
            _ => &None,
        };
        let Some(topic) = topic else {
            return Taken::Ignored(format!("no topic takes {subscription}"));
        };
        let Some(id) = plain(event.get("objectId")) else {
            return Taken::refused("an event has an objectId");
        };
        let occurred = event.get("occurredAt").and_then(Json::as_i64);
        let moment = occurred.and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
        let Some(moment) = moment.map(|moment| moment.to_string()) else {
            return Taken::refused("an event has an occurredAt in milliseconds");
        };
        let value = match action {
            "propertyChange" => match plain(event.get("propertyName")) {
                Some(name) => property_change(&id, &moment, &name, event.get("propertyValue")),
                None => return Taken::refused("a propertyChange has a propertyName"),
            },
            "creation" => json!({
                "id": id, "operation": "update", "changed": ["id", "createdAt", "updatedAt"],
                "createdAt": moment, "updatedAt": moment,
            }),
            "deletion" | "privacyDeletion" => {
                json!({"id": id, "operation": "delete", "updatedAt": moment})
            }
            _ => return Taken::Ignored(format!("{subscription} changes no field")),
        };
        Taken::Record(IngestRecord {
            topic: topic.clone(),
            key: Some(id.into_bytes()),
            value: value.to_string().into_bytes(),
        })
    }
}

fn property_change(id: &str, moment: &str, name: &str, value: Option<&Json>) -> Json {
    // A property that was emptied comes as empty text.
    let value = value.filter(|value| value.as_str() != Some(""));
    let mut properties = Map::new();
    properties.insert(name.to_owned(), value.cloned().unwrap_or_default());
    json!({
        "id": id, "operation": "update",
        "changed": ["id", format!("properties.{name}"), "updatedAt"],
        "properties": properties, "updatedAt": moment,
    })
}

impl MarketoIngest {
    /// A lead, or an activity, which has an `activityTypeId`; as it is.
    pub(crate) fn take(&self, item: Item) -> Taken {
        let Some(object) = item.object() else {
            return Taken::refused("a lead or an activity is an object");
        };
        let is_activity = object.contains_key("activityTypeId");
        let (topic, key, what) = if is_activity {
            (&self.activities, "leadId", "an activity")
        } else {
            (&self.leads, "id", "a lead")
        };
        let Some(topic) = topic else {
            return Taken::Ignored(format!("no topic takes {what}"));
        };
        let Some(key) = plain(object.get(key)) else {
            return Taken::Refused(format!("{what} has a {key}"));
        };
        if is_activity && plain(object.get("marketoGUID")).is_none() {
            return Taken::refused("an activity has a marketoGUID");
        }
        Taken::Record(IngestRecord {
            topic: topic.clone(),
            key: Some(key.into_bytes()),
            value: item.bytes,
        })
    }
}

impl JsonIngest {
    /// The topic that a call writes to.
    pub(crate) fn topic(&self, call: &IngestCall) -> Result<&str, NotItems> {
        let known = || self.topics.join(", ");
        match (call.parameter("topic"), self.topics.as_slice()) {
            (None, [only]) => Ok(only),
            (None, _) => Err(NotItems(format!("name a topic with ?topic=: {}", known()))),
            (Some(name), topics) => {
                let found = topics.iter().find(|topic| *topic == name);
                let found = found.map(String::as_str);
                found.ok_or_else(|| NotItems(format!("the topics of calls are: {}", known())))
            }
        }
    }

    /// An object as it is, with the value at `key` as its key.
    pub(crate) fn take(&self, topic: &str, key: Option<&str>, item: Item) -> Taken {
        if item.object().is_none() {
            return Taken::refused("a record is an object");
        }
        let value = key.map(|path| (path, plain(at(&item.value, path))));
        let key = match value {
            None => None,
            Some((_, Some(key))) => Some(key.into_bytes()),
            Some((path, None)) => return Taken::Refused(format!("there is no key at {path:?}")),
        };
        Taken::Record(IngestRecord {
            topic: topic.to_owned(),
            key,
            value: item.bytes,
        })
    }
}
