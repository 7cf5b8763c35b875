//! A judge of JSON by the keywords of JSON Schema that the API's document uses. Any other keyword is
//! a fault, so that nothing is described which nobody checks.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

pub struct Judge<'a> {
    pub document: &'a Value,
}

impl Judge<'_> {
    /// Adds the faults of a value to `faults`. Returns the names of the properties that the schema
    /// knows.
    pub fn judge(
        &self,
        schema: &Value,
        value: &Value,
        at: &str,
        faults: &mut Vec<String>,
    ) -> BTreeSet<String> {
        let mut known = BTreeSet::new();
        let Some(schema) = schema.as_object() else {
            faults.push(format!("{at}: {schema} is no schema"));
            return known;
        };
        for (keyword, rule) in schema {
            match keyword.as_str() {
                "description" | "additionalProperties" | "unevaluatedProperties" => {}
                "$ref" => known.extend(self.judge(self.target(rule), value, at, faults)),
                "type" if is_of(rule, value) => {}
                "type" => faults.push(format!("{at}: {value} is not {rule}")),
                "anyOf" => known.extend(self.any_of(rule, value, at, faults)),
                "allOf" => {
                    for part in rule.as_array().into_iter().flatten() {
                        known.extend(self.judge(part, value, at, faults));
                    }
                }
                "required" => {
                    for name in rule.as_array().into_iter().flatten() {
                        let name = name.as_str().unwrap_or_default();
                        if value.get(name).is_none() {
                            faults.push(format!("{at}: {name} is missing"));
                        }
                    }
                }
                "properties" => {
                    for (name, part) in rule.as_object().into_iter().flatten() {
                        known.insert(name.clone());
                        if let Some(inner) = value.get(name) {
                            self.judge(part, inner, &format!("{at}.{name}"), faults);
                        }
                    }
                }
                "items" => {
                    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                        self.judge(rule, item, &format!("{at}[{index}]"), faults);
                    }
                }
                other => faults.push(format!("{at}: {other} is a keyword that is not checked")),
            }
        }
        self.others(schema, value, &known, at, faults);
        known
    }

    /// Judges the properties that the schema does not name.
    fn others(
        &self,
        schema: &Map<String, Value>,
        value: &Value,
        known: &BTreeSet<String>,
        at: &str,
        faults: &mut Vec<String>,
    ) {
        let rule = schema
            .get("additionalProperties")
            .or(schema.get("unevaluatedProperties"));
        let Some(rule) = rule else { return };
        for (name, inner) in value.as_object().into_iter().flatten() {
            match rule {
                _ if known.contains(name) => {}
                Value::Bool(true) => {}
                Value::Bool(false) => faults.push(format!("{at}: {name} is not described")),
                rule => drop(self.judge(rule, inner, &format!("{at}.{name}"), faults)),
            }
        }
    }

    fn any_of(
        &self,
        rule: &Value,
        value: &Value,
        at: &str,
        faults: &mut Vec<String>,
    ) -> BTreeSet<String> {
        let mut all = Vec::new();
        for part in rule.as_array().into_iter().flatten() {
            let mut of_part = Vec::new();
            let known = self.judge(part, value, at, &mut of_part);
            if of_part.is_empty() {
                return known;
            }
            all.extend(of_part);
        }
        faults.extend(all);
        BTreeSet::new()
    }

    fn target(&self, reference: &Value) -> &Value {
        let path = reference.as_str().and_then(|path| path.strip_prefix('#'));
        path.and_then(|path| self.document.pointer(path))
            .unwrap_or(&Value::Null)
    }
}

fn is_of(kinds: &Value, value: &Value) -> bool {
    let is = |kind: &Value| match kind.as_str() {
        Some("null") => value.is_null(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("number") => value.is_number(),
        Some("string") => value.is_string(),
        Some("array") => value.is_array(),
        Some("object") => value.is_object(),
        _ => false,
    };
    match kinds {
        Value::Array(kinds) => kinds.iter().any(is),
        kind => is(kind),
    }
}

#[test]
fn the_judge_finds_what_is_wrong() {
    let document = json!({"a": {"type": "object", "properties": {"n": {"type": "integer"}},
        "required": ["n"]}});
    let closed = json!({"allOf": [{"$ref": "#/a"}, {"properties": {"m": {"anyOf": [
        {"type": "null"}, {"type": "array", "items": {"type": "string"}}]}}}],
        "unevaluatedProperties": false});
    let faults = |value: Value| {
        let mut faults = Vec::new();
        Judge {
            document: &document,
        }
        .judge(&closed, &value, "", &mut faults);
        faults
    };
    assert_eq!(faults(json!({"n": 1, "m": null})), [""; 0]);
    assert_eq!(faults(json!({"n": 1, "m": ["x"]})), [""; 0]);
    assert_eq!(faults(json!({"n": 1.5})), [".n: 1.5 is not \"integer\""]);
    assert_eq!(faults(json!({"n": 1, "o": 2})), [": o is not described"]);
    assert_eq!(faults(json!({})), [": n is missing"]);
    assert_eq!(faults(json!({"n": 1, "m": [2]})).len(), 2);
}
