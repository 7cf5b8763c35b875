//! Schemas of the output topics as JSON Schema, so that the API and the topics have one vocabulary.

use serde_json::{Map, Value, json};

/// Names of the fields of an Avro record schema, in order; empty for text that is no record.
pub(super) fn field_names(schema: &str) -> Vec<String> {
    let schema: Value = serde_json::from_str(schema).unwrap_or_default();
    let fields = schema["fields"].as_array().cloned().unwrap_or_default();
    let names = fields.iter().filter_map(|field| field["name"].as_str());
    names.map(str::to_owned).collect()
}

/// An Avro record schema as the JSON Schema of its records, which have every field, as serde writes
/// them. Named types become `definitions` of their own.
pub(super) fn json_schema(schema: &str, definitions: &mut Map<String, Value>) -> Value {
    let schema: Value = serde_json::from_str(schema).unwrap_or_default();
    converted(&schema, definitions)
}

fn converted(schema: &Value, definitions: &mut Map<String, Value>) -> Value {
    match schema {
        Value::String(name) => named(name),
        Value::Array(branches) => union(branches, definitions),
        Value::Object(schema) => complex(schema, definitions),
        _ => json!({}),
    }
}

fn named(name: &str) -> Value {
    match name {
        "null" => json!({"type": "null"}),
        "boolean" => json!({"type": "boolean"}),
        "int" | "long" => json!({"type": "integer"}),
        "float" | "double" => json!({"type": "number"}),
        "string" | "bytes" => json!({"type": "string"}),
        name => json!({"$ref": format!("#/components/schemas/{name}")}),
    }
}

fn union(branches: &[Value], definitions: &mut Map<String, Value>) -> Value {
    let branches: Vec<Value> = branches
        .iter()
        .map(|branch| converted(branch, definitions))
        .collect();
    json!({"anyOf": branches})
}

fn complex(schema: &Map<String, Value>, definitions: &mut Map<String, Value>) -> Value {
    let part = |name: &str| schema.get(name).cloned().unwrap_or_default();
    match schema.get("type").and_then(Value::as_str) {
        Some("record") => {
            let record = record(schema, definitions);
            let name = schema
                .get("name")
                .and_then(Value::as_str)
                .unwrap_or_default();
            definitions.insert(name.to_owned(), record);
            named(name)
        }
        // A reader must bear new symbols, so none are listed.
        Some("enum") => {
            let name = schema
                .get("name")
                .and_then(Value::as_str)
                .unwrap_or_default();
            definitions.insert(name.to_owned(), json!({"type": "string"}));
            named(name)
        }
        Some("array") => json!({"type": "array", "items": converted(&part("items"), definitions)}),
        Some("map") => {
            let values = converted(&part("values"), definitions);
            json!({"type": "object", "additionalProperties": values})
        }
        Some(name) => named(name),
        None => converted(&part("type"), definitions),
    }
}

fn record(schema: &Map<String, Value>, definitions: &mut Map<String, Value>) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    let fields = schema.get("fields").and_then(Value::as_array);
    for field in fields.into_iter().flatten() {
        let Some(name) = field["name"].as_str() else {
            continue;
        };
        let mut property = converted(&field["type"], definitions);
        if let (Some(property), Some(doc)) = (property.as_object_mut(), field["doc"].as_str()) {
            property.insert("description".into(), doc.into());
        }
        properties.insert(name.to_owned(), property);
        required.push(name);
    }
    json!({
        "type": "object",
        "description": schema.get("doc").cloned().unwrap_or_default(),
        "properties": properties,
        "required": required,
    })
}
