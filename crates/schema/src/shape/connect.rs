//! Types that Kafka Connect's converters and Debezium name beside the value: in the attributes of
//! an Avro schema, in the schema beside a JSON payload, in the titles of a JSON Schema.
//!
//! The names are those of [Connect's logical
//! types](https://kafka.apache.org/documentation/#connect) and of [Debezium's temporal
//! types](https://debezium.io/documentation/reference/stable/connectors/postgresql.html).

use std::borrow::Cow;

use serde_json::Value as Json;

use super::data_node::{DataNode, base64};
use crate::avro::program::decimal;
use crate::catalog::shape::TimeUnit;

/// The depth to which schemas may nest; deeper ones are not read into.
const MAX_DEPTH: usize = 64;
/// Most types that are read of one JSON Schema.
const MOST_TYPES: usize = 10_000;

/// The unit that a type's name declares for its numbers.
pub(crate) fn unit_of(name: &str) -> Option<TimeUnit> {
    Some(match name {
        "io.debezium.time.Timestamp" | "org.apache.kafka.connect.data.Timestamp" => {
            TimeUnit::Millis
        }
        "io.debezium.time.MicroTimestamp" => TimeUnit::Micros,
        "io.debezium.time.NanoTimestamp" => TimeUnit::Nanos,
        "io.debezium.time.Date" | "org.apache.kafka.connect.data.Date" => TimeUnit::Days,
        _ => return None,
    })
}

/// Writes the units that Connect names into an Avro schema as Avro's own logical types.
///
/// Debezium's `MicroTimestamp` is a plain `long` to Avro; taken as such it would be read in
/// whatever unit the reader has.
pub(crate) fn declare_units(schema: &mut Json) {
    match schema {
        Json::Array(items) => items.iter_mut().for_each(declare_units),
        Json::Object(members) => {
            let name = members.get("connect.name").and_then(Json::as_str);
            let logical = name.and_then(unit_of).map(|unit| match unit {
                TimeUnit::Micros => ("long", "timestamp-micros"),
                TimeUnit::Nanos => ("long", "timestamp-nanos"),
                TimeUnit::Days => ("int", "date"),
                TimeUnit::Millis | TimeUnit::Seconds => ("long", "timestamp-millis"),
            });
            if let Some((base, logical)) = logical
                && members.get("type").and_then(Json::as_str) == Some(base)
            {
                members.insert("logicalType".into(), logical.into());
            }
            for part in ["type", "items", "values", "fields"] {
                if let Some(inner) = members.get_mut(part) {
                    declare_units(inner);
                }
            }
        }
        _ => {}
    }
}

/// The types that a schema gives to a JSON value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Typing {
    /// Nothing.
    Plain,
    Time(TimeUnit),
    Decimal {
        scale: i32,
    },
    Members(Vec<(Box<str>, Typing)>),
    Items(Box<Typing>),
    /// The values of a map.
    Values(Box<Typing>),
}

impl Typing {
    fn named(name: &str, scale: Option<i32>) -> Option<Typing> {
        if name == "org.apache.kafka.connect.data.Decimal" {
            return Some(Typing::Decimal {
                scale: scale.unwrap_or(0),
            });
        }
        unit_of(name).map(Typing::Time)
    }

    /// The types that stand beside a payload of Connect's JsonConverter.
    pub(crate) fn of_connect(schema: &DataNode<'_>) -> Typing {
        Self::of_connect_at(schema, 0)
    }

    fn of_connect_at(schema: &DataNode<'_>, depth: usize) -> Typing {
        let text = |name: &str| schema.member(name).and_then(DataNode::text);
        let scale = || {
            let scale = schema.member("parameters")?.member("scale")?.scalar()?;
            scale.parse().ok()
        };
        if let Some(found) = text("name").and_then(|name| Self::named(name, scale())) {
            return found;
        }
        if depth > MAX_DEPTH {
            return Typing::Plain;
        }
        let inner = |schema: &DataNode<'_>| Self::of_connect_at(schema, depth + 1);
        match text("type") {
            Some("struct") => {
                let Some(DataNode::List(fields)) = schema.member("fields") else {
                    return Typing::Plain;
                };
                let mut members = Vec::new();
                for field in fields {
                    let typing = inner(field);
                    let name = field.member("field").and_then(DataNode::text);
                    if let Some(name) = name.filter(|_| typing != Typing::Plain) {
                        members.push((name.into(), typing));
                    }
                }
                Self::members(members)
            }
            Some("array") => schema.member("items").map_or(Typing::Plain, |items| {
                Self::wrapped(inner(items), Typing::Items)
            }),
            Some("map") => schema.member("values").map_or(Typing::Plain, |values| {
                Self::wrapped(inner(values), Typing::Values)
            }),
            _ => Typing::Plain,
        }
    }

    /// The types in a JSON Schema: titles and `connect.*` keywords.
    pub(crate) fn of_json_schema(schema: &Json) -> Typing {
        let mut left = MOST_TYPES;
        Self::of_json_schema_at(schema, schema, 0, &mut left)
    }

    fn of_json_schema_at(schema: &Json, root: &Json, depth: usize, left: &mut usize) -> Typing {
        // A schema may refer to itself, more than once in each turn.
        if depth > MAX_DEPTH || *left == 0 {
            return Typing::Plain;
        }
        *left -= 1;
        let mut inner = |schema: &Json| Self::of_json_schema_at(schema, root, depth + 1, left);
        if let Some(reference) = schema.get("$ref").and_then(Json::as_str) {
            let target = reference.strip_prefix('#').and_then(|at| root.pointer(at));
            return target.map_or(Typing::Plain, &mut inner);
        }
        let scale = || {
            let scale = schema.get("connect.parameters")?.get("scale")?;
            scale
                .as_str()
                .map_or_else(|| scale.as_i64().map(|n| n as i32), |s| s.parse().ok())
        };
        let title = schema.get("title").and_then(Json::as_str);
        if let Some(found) = title.and_then(|title| Self::named(title, scale())) {
            return found;
        }
        for choice in ["oneOf", "anyOf"] {
            let options = schema.get(choice).and_then(Json::as_array);
            for option in options.into_iter().flatten() {
                let found = inner(option);
                if found != Typing::Plain {
                    return found;
                }
            }
        }
        if let Some(properties) = schema.get("properties").and_then(Json::as_object) {
            let mut members = Vec::new();
            for (name, property) in properties {
                let typing = inner(property);
                if typing != Typing::Plain {
                    members.push((name.as_str().into(), typing));
                }
            }
            return Self::members(members);
        }
        if let Some(items) = schema.get("items") {
            return Self::wrapped(inner(items), Typing::Items);
        }
        match schema.get("additionalProperties") {
            Some(values @ Json::Object(_)) => Self::wrapped(inner(values), Typing::Values),
            _ => Typing::Plain,
        }
    }

    fn members(members: Vec<(Box<str>, Typing)>) -> Typing {
        if members.is_empty() {
            Typing::Plain
        } else {
            Typing::Members(members)
        }
    }

    fn wrapped(inner: Typing, wrap: fn(Box<Typing>) -> Typing) -> Typing {
        match inner {
            Typing::Plain => Typing::Plain,
            inner => wrap(Box::new(inner)),
        }
    }

    /// Gives the values of `node` the types that the schema declares.
    pub(crate) fn apply(&self, node: &mut DataNode<'_>) {
        match (self, node) {
            (Typing::Time(unit), node @ DataNode::Int(_)) => {
                let DataNode::Int(number) = node else { return };
                let ms = i64::try_from(*number).ok().and_then(|n| unit.to_ms(n));
                if let Some(ms) = ms {
                    *node = DataNode::Moment(ms);
                }
            }
            (Typing::Decimal { scale }, node @ DataNode::Text(_)) => {
                let DataNode::Text(text) = &*node else { return };
                if let Some(bytes) = base64(text) {
                    *node = DataNode::Double(decimal(&bytes, *scale));
                }
            }
            (Typing::Members(typings), DataNode::Members(members)) => {
                for (name, value) in members {
                    let typing = typings.iter().find(|(known, _)| **known == **name);
                    if let Some((_, typing)) = typing {
                        typing.apply(value);
                    }
                }
            }
            (Typing::Items(typing), DataNode::List(items)) => {
                items.iter_mut().for_each(|item| typing.apply(item));
            }
            (Typing::Values(typing), DataNode::Members(members)) => {
                members
                    .iter_mut()
                    .for_each(|(_, value)| typing.apply(value));
            }
            _ => {}
        }
    }
}

/// Takes a payload of Connect's JsonConverter (`schemas.enable`) out of its wrapper and gives its
/// values the types of the schema beside it. Other values stay as they are.
pub(crate) fn unwrap_payload(mut node: DataNode<'_>) -> DataNode<'_> {
    let DataNode::Members(members) = &mut node else {
        return node;
    };
    let [(first, _), (second, _)] = members.as_slice() else {
        return node;
    };
    let at = match (first.as_ref(), second.as_ref()) {
        ("schema", "payload") => (0, 1),
        ("payload", "schema") => (1, 0),
        _ => return node,
    };
    let schema = std::mem::replace(&mut members[at.0].1, DataNode::Null);
    let is_connect = schema.is_null() || schema.member("type").is_some_and(is_text);
    if !is_connect {
        members[at.0].1 = schema;
        return node;
    }
    let mut payload = std::mem::replace(&mut members[at.1].1, DataNode::Null);
    Typing::of_connect(&schema).apply(&mut payload);
    payload
}

fn is_text(node: &DataNode<'_>) -> bool {
    matches!(node, DataNode::Text(Cow::Borrowed(_) | Cow::Owned(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_beside_the_payload_types_its_values() {
        let record = br#"{"schema":{"type":"struct","fields":[
            {"field":"id","type":"int64"},
            {"field":"at","type":"int64","name":"io.debezium.time.MicroTimestamp"},
            {"field":"day","type":"int32","name":"io.debezium.time.Date"},
            {"field":"price","type":"bytes","name":"org.apache.kafka.connect.data.Decimal","parameters":{"scale":"2"}},
            {"field":"inner","type":"struct","fields":[{"field":"n","type":"int64","name":"io.debezium.time.NanoTimestamp"}]},
            {"field":"list","type":"array","items":{"type":"int64","name":"org.apache.kafka.connect.data.Timestamp"}}]},
          "payload":{"id":7,"at":1700000000000001,"day":1,"price":"MDk=","inner":{"n":1700000000000000001},"list":[5,null]}}"#;
        let node = unwrap_payload(DataNode::json(record).unwrap());
        assert_eq!(node.member("id"), Some(&DataNode::Int(7)));
        assert_eq!(
            node.member("at"),
            Some(&DataNode::Moment(1_700_000_000_000))
        );
        assert_eq!(node.member("day"), Some(&DataNode::Moment(86_400_000)));
        assert_eq!(node.member("price"), Some(&DataNode::Double(123.45)));
        let inner = node.member("inner").unwrap().member("n");
        assert_eq!(inner, Some(&DataNode::Moment(1_700_000_000_000)));
        let list = DataNode::List(vec![DataNode::Moment(5), DataNode::Null]);
        assert_eq!(node.member("list"), Some(&list));
    }

    #[test]
    fn a_row_with_columns_named_schema_and_payload_stays() {
        for record in [
            r#"{"schema":"public","payload":"x"}"#,
            r#"{"schema":{"type":"struct"},"payload":1,"more":2}"#,
        ] {
            let node = DataNode::json(record.as_bytes()).unwrap();
            assert_eq!(unwrap_payload(node.clone()), node, "{record}");
        }
    }

    #[test]
    fn titles_of_a_json_schema_type_the_values() {
        let schema = serde_json::json!({"type": "object", "definitions": {"Row": {"type": "object", "properties": {
            "at": {"oneOf": [{"type": "null"}, {"type": "integer", "title": "io.debezium.time.MicroTimestamp", "connect.type": "int64"}]},
            "price": {"connect.type": "bytes", "title": "org.apache.kafka.connect.data.Decimal", "connect.parameters": {"scale": "2"}},
            "next": {"$ref": "#/definitions/Row"}}}},
          "properties": {"after": {"oneOf": [{"type": "null"}, {"$ref": "#/definitions/Row"}]}}});
        let record =
            br#"{"after":{"at":1700000000000001,"price":"MDk=","next":{"at":1700000000000001}}}"#;
        let mut node = DataNode::json(record).unwrap();
        Typing::of_json_schema(&schema).apply(&mut node);
        let after = node.member("after").unwrap();
        assert_eq!(
            after.member("at"),
            Some(&DataNode::Moment(1_700_000_000_000))
        );
        assert_eq!(after.member("price"), Some(&DataNode::Double(123.45)));
        let next = after.member("next").unwrap().member("at");
        assert_eq!(next, Some(&DataNode::Moment(1_700_000_000_000)));
    }

    #[test]
    fn units_of_connect_become_logical_types_of_avro() {
        let mut schema = serde_json::json!({"type": "record", "name": "R", "fields": [
            {"name": "a", "type": {"type": "long", "connect.version": 1, "connect.name": "io.debezium.time.MicroTimestamp"}},
            {"name": "b", "type": ["null", {"type": "int", "connect.name": "io.debezium.time.Date"}]},
            {"name": "c", "type": {"type": "string", "connect.name": "io.debezium.time.ZonedTimestamp"}}]});
        declare_units(&mut schema);
        assert_eq!(
            schema["fields"][0]["type"]["logicalType"],
            "timestamp-micros"
        );
        assert_eq!(schema["fields"][1]["type"][1]["logicalType"], "date");
        assert_eq!(schema["fields"][2]["type"].get("logicalType"), None);
    }
}
