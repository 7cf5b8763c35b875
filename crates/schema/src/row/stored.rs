//! Rows as stored state: values instead of places in an arena.
//!
//! Two batches of equal rows are stored alike, however they were filled: an arena may contain text
//! that a later value replaced, and stored rows do not. The form needs no catalog. Whoever stores
//! rows notes which schemas they are of.

use serde::de::{Deserializer, Error as _};
use serde::ser::{SerializeSeq, Serializer};
use serde::{Deserialize, Serialize};

use super::{FieldSlot, Operation, Position, RowBatch, RowHead, Value};
use crate::catalog::{FieldId, TableId};

/// A row with its values, in the order of the table's fields.
#[derive(Serialize, Deserialize)]
struct StoredRow<'a> {
    table: TableId,
    operation: Operation,
    key: FieldId,
    time: Option<FieldId>,
    position: Position,
    known_ms: i64,
    #[serde(borrow)]
    values: Vec<StoredValue<'a>>,
}

/// A value of a stored row.
#[derive(Serialize, Deserialize)]
enum StoredValue<'a> {
    Null,
    Bool(bool),
    Long(i64),
    Double(f64),
    Time(i64),
    Text(&'a str),
    List(Vec<&'a str>),
}

impl RowBatch {
    fn stored_row(&self, index: usize) -> StoredRow<'_> {
        let head = &self.heads[index];
        let end = self.heads.get(index + 1).map(|next| next.slot as usize);
        let slots = head.slot as usize..end.unwrap_or(self.slots.len());
        StoredRow {
            table: head.table,
            operation: head.operation,
            key: head.key,
            time: head.time,
            position: head.position,
            known_ms: head.known_ms,
            values: slots.map(|slot| self.stored_value(slot)).collect(),
        }
    }

    fn stored_value(&self, slot: usize) -> StoredValue<'_> {
        match self.value(slot) {
            Value::Null => StoredValue::Null,
            Value::Bool(b) => StoredValue::Bool(b),
            Value::Long(n) => StoredValue::Long(n),
            Value::Double(x) => StoredValue::Double(x),
            Value::Time(t) => StoredValue::Time(t),
            Value::Text(text) => StoredValue::Text(text),
            Value::List(items) => StoredValue::List(items.iter().collect()),
        }
    }

    /// Adds a stored row to the end. `None` if the row is no row: its key or time lies beyond its
    /// values, or the batch grows beyond 4 GiB.
    fn push_stored(&mut self, row: StoredRow<'_>) -> Option<()> {
        let is_field = |field: FieldId| field.index() < row.values.len();
        if !is_field(row.key) || !row.time.is_none_or(is_field) {
            return None;
        }
        self.heads.push(RowHead {
            table: row.table,
            operation: row.operation,
            key: row.key,
            time: row.time,
            position: row.position,
            known_ms: row.known_ms,
            // Only admission asks, and stored rows were admitted.
            has_own_known_time: false,
            slot: u32::try_from(self.slots.len()).ok()?,
        });
        for value in row.values {
            let start = u32::try_from(self.arena.len()).ok()?;
            let slot = match value {
                StoredValue::Null => FieldSlot::Null,
                StoredValue::Bool(b) => FieldSlot::Bool(b),
                StoredValue::Long(n) => FieldSlot::Long(n),
                StoredValue::Double(x) => FieldSlot::Double(x),
                StoredValue::Time(t) => FieldSlot::Time(t),
                StoredValue::Text(text) => {
                    self.arena.extend_from_slice(text.as_bytes());
                    let length = u32::try_from(text.len()).ok()?;
                    FieldSlot::Text { start, length }
                }
                StoredValue::List(items) => {
                    for item in items {
                        let length = u32::try_from(item.len()).ok()?;
                        self.arena.extend_from_slice(&length.to_le_bytes());
                        self.arena.extend_from_slice(item.as_bytes());
                    }
                    let length = u32::try_from(self.arena.len() - start as usize).ok()?;
                    FieldSlot::List { start, length }
                }
            };
            self.slots.push(slot);
        }
        Some(())
    }
}

impl Serialize for RowBatch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut rows = serializer.serialize_seq(Some(self.len()))?;
        for index in 0..self.len() {
            rows.serialize_element(&self.stored_row(index))?;
        }
        rows.end()
    }
}

/// From formats that lend text out of their input, as binary ones do.
impl<'de> Deserialize<'de> for RowBatch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut batch = RowBatch::new();
        for row in Vec::<StoredRow<'de>>::deserialize(deserializer)? {
            batch
                .push_stored(row)
                .ok_or_else(|| D::Error::custom("a stored row is longer or shorter than a row"))?;
        }
        Ok(batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Catalog;

    const ACCOUNTS: &str = r#"{"type": "record", "name": "Account",
      "leadpulse": {"table": "accounts", "role": "root"}, "fields": [
        {"name": "id", "type": "string", "leadpulse": {"key": true}},
        {"name": "paying", "type": ["null", "boolean"]},
        {"name": "seats", "type": ["null", "long"]},
        {"name": "spend", "type": ["null", "double"]},
        {"name": "tags", "type": {"type": "array", "items": "string"}},
        {"name": "note", "type": ["null", "string"], "leadpulse": {"feature": "none"}}]}"#;
    const VISITS: &str = r#"{"type": "record", "name": "Visit",
      "leadpulse": {"table": "visits", "role": "event"}, "fields": [
        {"name": "id", "type": "string", "leadpulse": {"key": true}},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"},
         "leadpulse": {"time": true}},
        {"name": "account", "type": "string", "leadpulse": {"ref": "accounts", "owner": true}}]}"#;

    fn catalog() -> Catalog {
        let files = [
            ("accounts.avsc".to_owned(), ACCOUNTS),
            ("visits.avsc".to_owned(), VISITS),
        ];
        Catalog::from_json(&files).unwrap()
    }

    fn batch(catalog: &Catalog, replaced_text: Option<&str>) -> RowBatch {
        let table = catalog.table("accounts").unwrap();
        let field = |name: &str| table.field(name).unwrap().id;
        let position = Position {
            partition: 3,
            offset: 41,
        };
        let mut batch = RowBatch::new();
        let mut row = batch.start(catalog, table.id, Operation::Upsert, position, 1_700);
        row.set(field("id"), Value::Text("ä"));
        row.set(field("paying"), Value::Bool(true));
        row.set(field("seats"), Value::Long(i64::MIN));
        row.set(field("spend"), Value::Double(-0.0));
        if let Some(text) = replaced_text {
            row.set(field("note"), Value::Text(text));
        }
        row.set_list(field("tags"), ["", "big", "ß"]);
        row.set(field("note"), Value::Text("n"));
        row.finish();
        let visits = catalog.table("visits").unwrap();
        let mut row = batch.start(catalog, visits.id, Operation::Retract, position, -5);
        row.set(visits.field("id").unwrap().id, Value::Text("v"));
        row.set(visits.field("at").unwrap().id, Value::Time(9));
        row.finish();
        batch
    }

    #[test]
    fn rows_read_alike_after_they_were_stored() {
        let catalog = catalog();
        let batch = batch(&catalog, None);
        let json = serde_json::to_string(&batch).unwrap();
        let read: RowBatch = serde_json::from_str(&json).unwrap();
        assert_eq!(read.len(), 2);
        for (row, expected) in read.iter().zip(batch.iter()) {
            assert_eq!(row.table(), expected.table());
            assert_eq!(row.operation(), expected.operation());
            assert_eq!(row.position(), expected.position());
            assert_eq!(
                (row.key(), row.known_ms(), row.event_ms()),
                (expected.key(), expected.known_ms(), expected.event_ms())
            );
            for field in &catalog.table_at(row.table()).fields {
                assert_eq!(row.get(field.id), expected.get(field.id), "{}", field.name);
            }
        }
        assert_eq!(serde_json::to_string(&read).unwrap(), json);
    }

    #[test]
    fn a_replaced_text_leaves_no_trace_in_stored_rows() {
        let catalog = catalog();
        let stored = |text| serde_json::to_string(&batch(&catalog, text)).unwrap();
        assert_eq!(stored(Some("written over")), stored(None));
    }

    #[test]
    fn a_stored_row_without_its_key_is_refused() {
        let catalog = catalog();
        let mut json = serde_json::to_value(batch(&catalog, None)).unwrap();
        json[0]["values"] = serde_json::json!([]);
        let read: Result<RowBatch, _> = serde_json::from_str(&json.to_string());
        assert!(read.is_err());
    }
}
