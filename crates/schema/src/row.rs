//! Rows in bulk: one header per row, a fixed number of slots per table, text in one arena.
//!
//! Every way in (Avro bytes, CSV, JSON Lines, container files) fills a [`RowBatch`]; everything
//! after reads one. A batch is reused between epochs: [`RowBatch::clear`] keeps its memory.

use serde::{Deserialize, Serialize};

use crate::catalog::{Catalog, Field, FieldId, TableId};

mod stored;

/// The place that a row came from: a partition of the engine's input, numbered by configuration,
/// and its offset (for files: the source's number and the record's).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Position {
    /// The input partition, numbered by configuration.
    pub partition: u32,
    /// The offset within the partition.
    pub offset: i64,
}

/// The effect of a row on its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operation {
    /// A version of an entity, or an event.
    Upsert,
    /// A tombstone: only the key is set.
    Delete,
    /// Takes back the event of the same key, whatever owner the row names; carries the whole row.
    Retract,
    /// Changes of the entity are missing, so what is known of it may be out of date: only the key
    /// is set.
    Gap,
}

/// The value of a field in a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// Null, or absent from the record.
    Null,
    Bool(bool),
    Long(i64),
    Double(f64),
    /// Milliseconds since 1970 UTC.
    Time(i64),
    /// Text, an enum symbol, a key or a reference.
    Text(&'a str),
    /// Several texts, in order.
    List(TextList<'a>),
}

impl<'a> Value<'a> {
    /// The text, if it is one.
    pub fn text(self) -> Option<&'a str> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }
    /// The number it stands for: numbers and truth values (1, 0); times are not numbers.
    pub fn number(self) -> Option<f64> {
        match self {
            Value::Bool(b) => Some(f64::from(u8::from(b))),
            Value::Long(n) => Some(n as f64),
            Value::Double(x) if x.is_finite() => Some(x),
            _ => None,
        }
    }
    /// Whether it is null or absent.
    pub fn is_null(self) -> bool {
        matches!(self, Value::Null)
    }
}

/// Several texts, borrowed from the arena: each is a little-endian `u32` length and its bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TextList<'a> {
    bytes: &'a [u8],
}

impl<'a> TextList<'a> {
    /// The items, in order.
    pub fn iter(self) -> impl Iterator<Item = &'a str> {
        let mut rest = self.bytes;
        std::iter::from_fn(move || {
            let (length, tail) = rest.split_first_chunk::<4>()?;
            let (item, tail) = tail.split_at(u32::from_le_bytes(*length) as usize);
            rest = tail;
            Some(
                std::str::from_utf8(item)
                    .expect("only RowBuilder::set_list writes lists, from &str"),
            )
        })
    }
}

#[derive(Clone, Copy, Debug)]
enum FieldSlot {
    Null,
    /// Not in the record: the version before has the value.
    Unchanged,
    Bool(bool),
    Long(i64),
    Double(f64),
    Time(i64),
    Text {
        start: u32,
        length: u32,
    },
    List {
        start: u32,
        length: u32,
    },
}

#[derive(Clone, Copy, Debug)]
struct RowHead {
    table: TableId,
    operation: Operation,
    key: FieldId,
    time: Option<FieldId>,
    position: Position,
    known_ms: i64,
    has_own_known_time: bool,
    slot: u32,
}

/// Many rows, of any tables.
#[derive(Clone, Debug, Default)]
pub struct RowBatch {
    heads: Vec<RowHead>,
    slots: Vec<FieldSlot>,
    arena: Vec<u8>,
}

impl RowBatch {
    /// Creates an empty batch; memory is allocated with the first row.
    pub fn new() -> Self {
        Self::default()
    }
    /// Number of rows.
    pub fn len(&self) -> usize {
        self.heads.len()
    }
    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.heads.is_empty()
    }
    /// Forgets the rows, keeps the memory.
    pub fn clear(&mut self) {
        self.heads.clear();
        self.slots.clear();
        self.arena.clear();
    }
    /// Bytes of text held; with [`Self::len`] a measure for cutting batches.
    pub fn text_bytes(&self) -> usize {
        self.arena.len()
    }
    /// Starts a row of `table`, known at `known_ms`; all fields are null until set.
    /// The row counts once [`RowBuilder::finish`] is called; a dropped builder leaves nothing.
    pub fn start<'a>(
        &'a mut self,
        catalog: &Catalog,
        table: TableId,
        operation: Operation,
        position: Position,
        known_ms: i64,
    ) -> RowBuilder<'a> {
        let definition = catalog.table_at(table);
        let head = RowHead {
            table,
            operation,
            key: definition.key,
            time: definition.time,
            position,
            known_ms,
            has_own_known_time: false,
            slot: u32::try_from(self.slots.len()).expect("a batch holds fewer than 2^32 fields"),
        };
        let arena_mark = self.arena.len();
        self.slots
            .resize(self.slots.len() + definition.fields.len(), FieldSlot::Null);
        RowBuilder {
            batch: self,
            head,
            arena_mark,
            finished: false,
        }
    }
    /// The row at `index`.
    pub fn row(&self, index: usize) -> Row<'_> {
        Row {
            batch: self,
            head: self.heads[index],
        }
    }
    /// All rows, in order.
    pub fn iter(&self) -> impl Iterator<Item = Row<'_>> {
        (0..self.len()).map(|i| self.row(i))
    }
    /// Keeps the first `rows` rows only.
    pub fn truncate(&mut self, rows: usize) {
        if let Some(head) = self.heads.get(rows) {
            self.slots.truncate(head.slot as usize);
            self.heads.truncate(rows);
        }
    }
    /// Copies a row of another batch to the end of this one.
    pub fn push_copy(&mut self, catalog: &Catalog, row: Row<'_>) {
        let mut builder = self.start(
            catalog,
            row.table(),
            row.operation(),
            row.position(),
            row.known_ms(),
        );
        builder.head.has_own_known_time = row.head.has_own_known_time;
        for field in &catalog.table_at(row.table()).fields {
            if row.is_unchanged(field.id) {
                builder.set_unchanged(field.id);
            } else {
                builder.set(field.id, row.get(field.id));
            }
        }
        builder.finish();
    }
    /// As [`Self::push_copy`], with null instead of a text, and without the items of a list, that
    /// are not to be kept. The key stays.
    pub fn push_copy_where(
        &mut self,
        catalog: &Catalog,
        row: Row<'_>,
        is_kept: impl Fn(&Field, &str) -> bool,
    ) {
        let table = catalog.table_at(row.table());
        let (operation, position) = (row.operation(), row.position());
        let mut builder = self.start(catalog, row.table(), operation, position, row.known_ms());
        builder.head.has_own_known_time = row.head.has_own_known_time;
        for field in &table.fields {
            let is_kept = |text: &str| field.id == table.key || is_kept(field, text);
            match row.get(field.id) {
                _ if row.is_unchanged(field.id) => builder.set_unchanged(field.id),
                Value::Text(text) if !is_kept(text) => builder.set(field.id, Value::Null),
                Value::List(list) => {
                    builder.set_list(field.id, list.iter().filter(|item| is_kept(item)));
                }
                value => builder.set(field.id, value),
            }
        }
        builder.finish();
    }
}

/// Fills one row in place.
#[derive(Debug)]
pub struct RowBuilder<'a> {
    batch: &'a mut RowBatch,
    head: RowHead,
    arena_mark: usize,
    finished: bool,
}

impl RowBuilder<'_> {
    /// Sets a field to a value, copying text into the arena.
    pub fn set(&mut self, field: FieldId, value: Value<'_>) {
        let slot = match value {
            Value::Null => FieldSlot::Null,
            Value::Bool(b) => FieldSlot::Bool(b),
            Value::Long(n) => FieldSlot::Long(n),
            Value::Double(x) => FieldSlot::Double(x),
            Value::Time(t) => FieldSlot::Time(t),
            Value::Text(text) => {
                let (start, length) = self.push_bytes(text.as_bytes());
                FieldSlot::Text { start, length }
            }
            Value::List(list) => {
                let (start, length) = self.push_bytes(list.bytes);
                FieldSlot::List { start, length }
            }
        };
        self.batch.slots[self.head.slot as usize + field.index()] = slot;
    }
    /// Sets a list field from its items.
    pub fn set_list<'t>(&mut self, field: FieldId, items: impl IntoIterator<Item = &'t str>) {
        let start = self.batch.arena.len();
        for item in items {
            self.batch.arena.extend_from_slice(
                &u32::try_from(item.len())
                    .expect("items are shorter than 4 GiB")
                    .to_le_bytes(),
            );
            self.batch.arena.extend_from_slice(item.as_bytes());
        }
        let length = (self.batch.arena.len() - start) as u32;
        self.batch.slots[self.head.slot as usize + field.index()] = FieldSlot::List {
            start: start as u32,
            length,
        };
    }
    /// Marks a field whose value the record does not carry because it did not change. It reads as
    /// null.
    pub fn set_unchanged(&mut self, field: FieldId) {
        self.batch.slots[self.head.slot as usize + field.index()] = FieldSlot::Unchanged;
    }
    /// True for a field that was marked with [`Self::set_unchanged`].
    pub fn is_unchanged(&self, field: FieldId) -> bool {
        let slot = self.head.slot as usize + field.index();
        matches!(self.batch.slots[slot], FieldSlot::Unchanged)
    }
    /// Overrides the operation, for tables whose retraction flag is a field.
    pub fn set_operation(&mut self, operation: Operation) {
        self.head.operation = operation;
    }
    /// Sets the known time that the record itself carries, for files with a column for it.
    pub fn set_own_known_ms(&mut self, known_ms: i64) {
        self.head.known_ms = known_ms;
        self.head.has_own_known_time = true;
    }
    /// Overrides the known time with one that follows from others: event time plus a lag.
    pub fn set_known_ms(&mut self, known_ms: i64) {
        self.head.known_ms = known_ms;
    }
    /// True for text of at least one byte. Cheaper than [`Self::get`], which reads the text.
    pub(crate) fn has_text(&self, field: FieldId) -> bool {
        let slot = self.batch.slots[self.head.slot as usize + field.index()];
        matches!(slot, FieldSlot::Text { length, .. } if length > 0)
    }
    /// True for text of no byte.
    pub(crate) fn is_empty_text(&self, field: FieldId) -> bool {
        let slot = self.batch.slots[self.head.slot as usize + field.index()];
        matches!(slot, FieldSlot::Text { length: 0, .. })
    }
    /// The field's value so far.
    pub fn get(&self, field: FieldId) -> Value<'_> {
        self.batch.value(self.head.slot as usize + field.index())
    }
    /// The row so far.
    pub fn row(&self) -> Row<'_> {
        Row {
            batch: self.batch,
            head: self.head,
        }
    }
    /// The row is complete.
    pub fn finish(mut self) {
        self.batch.heads.push(self.head);
        self.finished = true;
    }
    fn push_bytes(&mut self, bytes: &[u8]) -> (u32, u32) {
        let start =
            u32::try_from(self.batch.arena.len()).expect("a batch holds less than 4 GiB of text");
        self.batch.arena.extend_from_slice(bytes);
        (start, bytes.len() as u32)
    }
}

impl Drop for RowBuilder<'_> {
    fn drop(&mut self) {
        if !self.finished {
            self.batch.slots.truncate(self.head.slot as usize);
            self.batch.arena.truncate(self.arena_mark);
        }
    }
}

impl RowBatch {
    fn value(&self, slot: usize) -> Value<'_> {
        let span =
            |start: u32, length: u32| &self.arena[start as usize..start as usize + length as usize];
        match self.slots[slot] {
            FieldSlot::Null | FieldSlot::Unchanged => Value::Null,
            FieldSlot::Bool(b) => Value::Bool(b),
            FieldSlot::Long(n) => Value::Long(n),
            FieldSlot::Double(x) => Value::Double(x),
            FieldSlot::Time(t) => Value::Time(t),
            FieldSlot::Text { start, length } => Value::Text(
                std::str::from_utf8(span(start, length))
                    .expect("only set() writes text, from &str"),
            ),
            FieldSlot::List { start, length } => Value::List(TextList {
                bytes: span(start, length),
            }),
        }
    }
}

/// One row of a batch.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    batch: &'a RowBatch,
    head: RowHead,
}

impl<'a> Row<'a> {
    /// The table that the row belongs to.
    pub fn table(self) -> TableId {
        self.head.table
    }
    /// The row's effect on its key.
    pub fn operation(self) -> Operation {
        self.head.operation
    }
    /// The place the row was read from.
    pub fn position(self) -> Position {
        self.head.position
    }
    /// Known time: the Kafka timestamp; for files a column or a lag after the event.
    pub fn known_ms(self) -> i64 {
        self.head.known_ms
    }
    /// True for a row whose record carries its known time, in a column configured for it.
    pub fn has_own_known_time(self) -> bool {
        self.head.has_own_known_time
    }
    /// Event time: the table's time field, else the known time.
    pub fn event_ms(self) -> i64 {
        match self.head.time.map(|f| self.get(f)) {
            Some(Value::Time(t)) => t,
            _ => self.head.known_ms,
        }
    }
    /// The key or event id. Decoders refuse rows without one.
    pub fn key(self) -> &'a str {
        self.get(self.head.key).text().unwrap_or_default()
    }
    /// True for a field whose value did not change and is not in the row: the version before has
    /// it.
    pub fn is_unchanged(self, field: FieldId) -> bool {
        let slot = self.head.slot as usize + field.index();
        matches!(self.batch.slots[slot], FieldSlot::Unchanged)
    }
    /// The value of a field; null where it is unchanged.
    pub fn get(self, field: FieldId) -> Value<'a> {
        self.batch.value(self.head.slot as usize + field.index())
    }
}
