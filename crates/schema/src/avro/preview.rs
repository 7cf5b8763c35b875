//! A look into Avro bytes of any schema, for people: JSON, as far as the bytes go.
//!
//! Unlike a decoder this needs no table, and never refuses: it stops where the bytes contradict
//! the schema, end, or exceed a limit, and says so. Nothing here runs on the engine's thread.

use apache_avro::Schema;
use apache_avro::schema::{NamesRef, ResolvedSchema};
use serde_json::{Map, Value as Json, json};

use crate::avro::cursor::{AvroCursor, Snag};
use crate::hex::hex;

/// Deepest nesting shown.
const MAX_DEPTH: usize = 32;
/// Most values shown; an array of empty records has no bytes that would end it.
const MAX_VALUES: usize = 2_000;

/// Values read from Avro bytes, and the place where the reading ended early.
#[derive(Clone, Debug, PartialEq)]
pub struct AvroPreview {
    /// The values as JSON; what was not read is absent. Bytes are hexadecimal.
    pub json: Json,
    /// The cause of an early end, for people; `None` when all bytes were read.
    pub stopped: Option<String>,
}

/// Reads `body`, written under the schema `writer`, as far as possible.
///
/// # Errors
/// If `writer` is not an Avro schema.
pub fn avro_preview(writer: &str, body: &[u8]) -> Result<AvroPreview, String> {
    let schema = Schema::parse_str(writer).map_err(|error| error.to_string())?;
    let resolved = ResolvedSchema::try_from(&schema).map_err(|error| error.to_string())?;
    let mut look = Look {
        cursor: AvroCursor::new(body),
        names: resolved.get_names(),
        values: 0,
    };
    let mut json = Json::Null;
    let outcome = look.value(&schema, 0, &mut json);
    let rest = look.cursor.remaining();
    let stopped = match outcome {
        Err(stop) => Some(stop.describe()),
        Ok(()) if rest > 0 => Some(format!("{rest} bytes are left over")),
        Ok(()) => None,
    };
    Ok(AvroPreview { json, stopped })
}

/// The cause of an early end.
enum Stop {
    Snag(Snag),
    Limit,
}

impl From<Snag> for Stop {
    fn from(snag: Snag) -> Self {
        Self::Snag(snag)
    }
}

impl Stop {
    fn describe(&self) -> String {
        match self {
            Self::Snag(Snag::Truncated) => "the bytes end here".to_owned(),
            Self::Snag(Snag::Length(length)) => {
                format!("a length of {length} does not fit the bytes that are left")
            }
            Self::Snag(Snag::Number) => "a number or truth value is malformed".to_owned(),
            Self::Snag(Snag::Utf8) => "a text is not UTF-8".to_owned(),
            Self::Snag(Snag::Branch(branch)) => format!("the union has no branch {branch}"),
            Self::Snag(Snag::Symbol(symbol)) => format!("the enum has no symbol {symbol}"),
            Self::Snag(Snag::TooDeep) | Self::Limit => "more than can be shown".to_owned(),
            Self::Snag(Snag::Unreadable(what)) => what.clone(),
        }
    }
}

struct Look<'a> {
    cursor: AvroCursor<'a>,
    names: &'a NamesRef<'a>,
    values: usize,
}

impl Look<'_> {
    /// Reads one value into `out`, which holds what was read when the reading stops.
    fn value(&mut self, schema: &Schema, depth: usize, out: &mut Json) -> Result<(), Stop> {
        self.values += 1;
        if depth > MAX_DEPTH || self.values > MAX_VALUES {
            return Err(Stop::Limit);
        }
        let cursor = &mut self.cursor;
        *out = match schema {
            Schema::Null => Json::Null,
            Schema::Boolean => json!(cursor.boolean()?),
            Schema::Int | Schema::Date | Schema::TimeMillis => json!(cursor.int()?),
            Schema::Float => json!(cursor.float()?),
            Schema::Double => json!(cursor.double()?),
            Schema::String => json!(cursor.text()?),
            Schema::Bytes | Schema::BigDecimal | Schema::Decimal(_) | Schema::Uuid(_) => {
                return self.bytes_like(schema, out);
            }
            Schema::Fixed(fixed) => json!(hex(cursor.take(fixed.size)?)),
            Schema::Duration(fixed) => json!(hex(cursor.take(fixed.size)?)),
            Schema::Enum(symbols) => {
                let index = cursor.long()?;
                let symbol = usize::try_from(index).ok();
                let symbol = symbol.and_then(|at| symbols.symbols.get(at));
                json!(symbol.ok_or(Snag::Symbol(index))?)
            }
            Schema::Union(union) => {
                let index = cursor.long()?;
                let branch = usize::try_from(index).ok();
                let branch = branch.and_then(|at| union.variants().get(at));
                return self.value(branch.ok_or(Snag::Branch(index))?, depth + 1, out);
            }
            Schema::Record(record) => {
                *out = Json::Object(Map::new());
                for field in &record.fields {
                    let slot = &mut out[field.name.as_str()];
                    self.value(&field.schema, depth + 1, slot)?;
                }
                return Ok(());
            }
            Schema::Array(array) => return self.array(&array.items, depth, out),
            Schema::Map(map) => return self.map(&map.types, depth, out),
            Schema::Ref { name } => {
                let names = self.names;
                let target = names.get(name).copied();
                let target = target.ok_or_else(|| unnamed(name.as_ref()))?;
                return self.value(target, depth + 1, out);
            }
            // Every logical type of whole numbers.
            _ => json!(cursor.long()?),
        };
        Ok(())
    }

    /// Bytes, and the logical types that lie over bytes, fixed or text.
    fn bytes_like(&mut self, schema: &Schema, out: &mut Json) -> Result<(), Stop> {
        use apache_avro::schema::{InnerDecimalSchema, UuidSchema};
        let fixed = match schema {
            Schema::Decimal(decimal) => match &decimal.inner {
                InnerDecimalSchema::Fixed(fixed) => Some(fixed.size),
                InnerDecimalSchema::Bytes => None,
            },
            Schema::Uuid(UuidSchema::Fixed(fixed)) => Some(fixed.size),
            Schema::Uuid(UuidSchema::String) => {
                *out = json!(self.cursor.text()?);
                return Ok(());
            }
            _ => None,
        };
        let bytes = match fixed {
            Some(size) => self.cursor.take(size)?,
            None => self.cursor.prefixed()?,
        };
        *out = json!(hex(bytes));
        Ok(())
    }

    fn array(&mut self, items: &Schema, depth: usize, out: &mut Json) -> Result<(), Stop> {
        let mut list = Vec::new();
        let mut outcome = Ok(());
        'blocks: while outcome.is_ok() {
            match self.cursor.block() {
                Ok(None) => break,
                Err(snag) => outcome = Err(snag.into()),
                Ok(Some(block)) => {
                    for _ in 0..block.items {
                        let mut item = Json::Null;
                        outcome = self.value(items, depth + 1, &mut item);
                        if outcome.is_err() {
                            break 'blocks;
                        }
                        list.push(item);
                    }
                }
            }
        }
        *out = Json::Array(list);
        outcome
    }

    fn map(&mut self, types: &Schema, depth: usize, out: &mut Json) -> Result<(), Stop> {
        *out = Json::Object(Map::new());
        while let Some(block) = self.cursor.block()? {
            for _ in 0..block.items {
                let key = self.cursor.text()?.to_owned();
                self.value(types, depth + 1, &mut out[key.as_str()])?;
            }
        }
        Ok(())
    }
}

fn unnamed(name: &str) -> Stop {
    Stop::Snag(Snag::Unreadable(format!(
        "the schema does not define {name}"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITER: &str = r#"{"type":"record","name":"R","fields":[
      {"name":"id","type":"string"},
      {"name":"n","type":["null","long"]},
      {"name":"at","type":{"type":"long","logicalType":"timestamp-micros"}},
      {"name":"tags","type":{"type":"array","items":"string"}},
      {"name":"more","type":{"type":"map","values":"int"}},
      {"name":"raw","type":"bytes"},
      {"name":"next","type":["null","R"]}]}"#;

    /// `a`, 5, 3 µs, [x, y], {k: 1}, bytes ff, no next.
    const BODY: [u8; 19] = [
        2, b'a', 2, 10, 6, 4, 2, b'x', 2, b'y', 0, 2, 2, b'k', 2, 0, 2, 0xff, 0,
    ];

    #[track_caller]
    fn check(body: &[u8], expected: Json, stopped: Option<&str>) {
        let found = avro_preview(WRITER, body).unwrap();
        assert_eq!(found.json, expected);
        assert_eq!(found.stopped.as_deref(), stopped);
    }

    #[test]
    fn bytes_are_shown_as_far_as_they_fit_the_schema() {
        let whole = json!({"id": "a", "n": 5, "at": 3, "tags": ["x", "y"], "more": {"k": 1},
            "raw": "ff", "next": null});
        check(&BODY, whole.clone(), None);
        check(
            &[&BODY[..], &[7, 7]].concat(),
            whole,
            Some("2 bytes are left over"),
        );
        check(
            &BODY[..8],
            json!({"id": "a", "n": 5, "at": 3, "tags": ["x"]}),
            Some("the bytes end here"),
        );
        check(
            &[2, b'a', 8],
            json!({"id": "a", "n": null}),
            Some("the union has no branch 4"),
        );
        check(&[], json!({"id": null}), Some("the bytes end here"));
    }

    #[test]
    fn hostile_bytes_end_at_a_limit() {
        let nothing = r#"{"type":"array","items":"null"}"#;
        // 2^62 nulls take no bytes.
        let body = [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
        let found = avro_preview(nothing, &body).unwrap();
        assert_eq!(found.stopped.as_deref(), Some("more than can be shown"));
        // Each byte 2 is another level of the same record.
        let deep = r#"{"type":"record","name":"R","fields":[{"name":"r","type":["null","R"]}]}"#;
        let found = avro_preview(deep, &[2; 10_000]).unwrap();
        assert_eq!(found.stopped.as_deref(), Some("more than can be shown"));
    }
}
