//! Avro container files: a header with the writer's schema, then compressed blocks of records.
//!
//! The records go through the same [`RowDecoder`] as those of Kafka.

use std::collections::HashMap;
use std::io::{BufReader, Read};

use apache_avro::{Codec, Schema};

use super::{FileContext, FileError, MAX_ROW_BYTES};
use crate::avro::cursor::AvroCursor;
use crate::avro::decode::RowDecoder;
use crate::avro::program::CompileError;
use crate::catalog::{DataType, FieldId};
use crate::row::{RowBatch, Value};
use crate::shape::WriterSchema;
use crate::shape::changes::ChangeNames;
use crate::shape::data_read::DataProgram;
use crate::shape::plan::record_name;
use crate::shape::writer::{AvroWriter, field_order};

const MAGIC: [u8; 4] = *b"Obj\x01";

pub(super) struct ContainerRows {
    bytes: CountedBytes,
    decoder: ContainerDecoder,
    codec: Codec,
    marker: [u8; 16],
    known_time: Option<FieldId>,
    block: Vec<u8>,
    block_offset: usize,
    left_in_block: u64,
    records: u64,
}

/// The reading of a container's records.
enum ContainerDecoder {
    /// Rows straight from the bytes.
    Rows(Box<RowDecoder>),
    /// Records with an envelope, a filter or paths into their members.
    Data {
        program: Box<DataProgram>,
        names: Box<ChangeNames>,
        name: String,
    },
}

impl ContainerDecoder {
    fn compile(json: &str, context: &FileContext) -> Result<(Self, Schema), FileError> {
        let writer = AvroWriter::parse(&WriterSchema::avro(json))
            .map_err(|e| context.damaged(0, format!("its schema is not valid: {e}")))?;
        let plan = &context.plan;
        let incomplete = |why| FileError::Schema {
            file: context.file.clone(),
            source: CompileError::Incomplete {
                table: context.catalog.table_at(context.table).name.clone(),
                why,
            },
        };
        let decoder = if plan.is_plain_for(&writer.schema) && !plan.is_filtered() {
            let decoder = RowDecoder::compile_planned(&writer.schema, &[], &context.catalog, plan);
            let decoder = decoder.map_err(|source| FileError::Schema {
                file: context.file.clone(),
                source,
            })?;
            ContainerDecoder::Rows(Box::new(decoder))
        } else {
            ContainerDecoder::Data {
                program: Box::new(DataProgram::of_plan(&writer, plan).map_err(incomplete)?),
                names: Box::new(
                    context
                        .names
                        .clone()
                        .with_order(field_order(&writer.schema, 8)),
                ),
                name: record_name(&writer.schema),
            }
        };
        Ok((decoder, writer.schema))
    }
}

impl ContainerRows {
    pub(super) fn open(
        bytes: Box<dyn Read + Send>,
        context: &FileContext,
    ) -> Result<ContainerRows, FileError> {
        let damaged = |why: String| context.damaged(0, why);
        let mut bytes = CountedBytes(BufReader::new(bytes));
        if bytes.array::<4>().map_err(damaged)? != MAGIC {
            return Err(damaged(
                "it does not begin as an Avro container file".into(),
            ));
        }
        let metadata = bytes.metadata().map_err(damaged)?;
        let marker = bytes.array::<16>().map_err(damaged)?;
        let text = |name: &str| {
            metadata
                .get(name)
                .map(|value| String::from_utf8_lossy(value).into_owned())
        };
        let json = text("avro.schema").ok_or_else(|| damaged("its header has no schema".into()))?;
        let codec_name = text("avro.codec").unwrap_or_else(|| "null".into());
        let codec: Codec = codec_name
            .parse()
            .map_err(|_| damaged(format!("its codec '{codec_name}' is not supported: write it with null, deflate, snappy or zstandard")))?;
        let (decoder, writer) = ContainerDecoder::compile(&json, context)?;
        Ok(ContainerRows {
            bytes,
            codec,
            marker,
            known_time: match &decoder {
                ContainerDecoder::Rows(_) => known_time(&writer, context)?,
                ContainerDecoder::Data { .. } => None,
            },
            decoder,
            block: Vec::new(),
            block_offset: 0,
            left_in_block: 0,
            records: 0,
        })
    }

    /// Appends the next row; `false` at the end.
    pub(super) fn next(
        &mut self,
        context: &mut FileContext,
        batch: &mut RowBatch,
    ) -> Result<bool, FileError> {
        let before = batch.len();
        while batch.len() == before {
            if !self.find_record(context)? {
                return Ok(false);
            }
            self.left_in_block -= 1;
            self.records += 1;
            match self.decoder {
                ContainerDecoder::Rows(_) => self.row(context, batch)?,
                ContainerDecoder::Data { .. } => self.record(context, batch)?,
            }
        }
        Ok(true)
    }

    /// Goes to the next block that has records, if this one has no more; `false` at the end.
    fn find_record(&mut self, context: &FileContext) -> Result<bool, FileError> {
        while self.left_in_block == 0 {
            if self.block_offset < self.block.len() {
                return Err(context.damaged(
                    self.records,
                    "bytes are left after the last record of a block",
                ));
            }
            let found = self.next_block();
            if !found.map_err(|why| context.damaged(self.records, why))? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Appends the rows of a record with members of its own.
    fn record(&mut self, context: &mut FileContext, batch: &mut RowBatch) -> Result<(), FileError> {
        let ContainerDecoder::Data {
            program,
            names,
            name,
        } = &self.decoder
        else {
            unreachable!("called for records that are not plain");
        };
        let mut cursor = AvroCursor::new(&self.block[self.block_offset..]);
        // Every part of a record is read or passed over, so one that cannot be read has no known
        // end.
        let node = program.read(&mut cursor);
        let node = node.map_err(|snag| context.damaged(self.records, snag.words()))?;
        let end = self.block.len() - cursor.remaining();
        let schema = Some((name.as_str(), &**names));
        let appended = context.rows(&node, schema, self.records, batch);
        self.block_offset = end;
        appended
    }

    /// Appends the row of a plain record.
    fn row(&mut self, context: &mut FileContext, batch: &mut RowBatch) -> Result<(), FileError> {
        let ContainerDecoder::Rows(decoder) = &self.decoder else {
            unreachable!("called for plain records");
        };
        let record = self.records;
        let mut builder = context.start(batch);
        let catalog = context.catalog.clone();
        let table = catalog.table_at(context.table);
        let whole = AvroCursor::new(&self.block[self.block_offset..]);
        let mut cursor = whole.clone();
        let filled = decoder.fill(&mut cursor, table, &mut builder);
        if filled.is_err() {
            // A record that cannot be read still has an end, unless the block is damaged.
            cursor = whole;
            decoder
                .pass_over(&mut cursor, table)
                .map_err(|e| context.damaged(record, e))?;
        }
        self.block_offset = self.block.len() - cursor.remaining();
        filled
            .and_then(|()| {
                let fit = &mut context.fit;
                decoder.check(table, &mut builder, |unknown| {
                    fit.drop_value(unknown.amount.index(), &unknown.currency);
                })
            })
            .map_err(|e| {
                context.bad_row(
                    record,
                    "",
                    &format!("record {record}"),
                    format!("usable: {e}"),
                )
            })?;
        context.fit.row();
        decoder
            .fed()
            .for_each(|field| context.fit.feed(field.index()));
        let known_ms = match self.known_time.map(|field| (field, builder.get(field))) {
            None | Some((_, Value::Null)) => None,
            Some((_, Value::Time(at))) => Some(at),
            Some((field, _)) => {
                return Err(context.bad_row(
                    record,
                    &table.field_at(field).name,
                    "",
                    "the time the row was known",
                ));
            }
        };
        context.finish(builder, known_ms, None, record)
    }

    /// Reads and decompresses the next block; `false` at the end of the file.
    fn next_block(&mut self) -> Result<bool, String> {
        let Some(first) = self.bytes.first_byte()? else {
            return Ok(false);
        };
        let records = self.bytes.long_from(first)?;
        let size = self.bytes.length()?;
        self.block = self.bytes.take(size)?;
        if self.bytes.array::<16>()? != self.marker {
            return Err("a block does not end with the file's marker".into());
        }
        self.codec
            .decompress(&mut self.block)
            .map_err(|e| format!("a block cannot be decompressed: {e}"))?;
        self.block_offset = 0;
        self.left_in_block =
            u64::try_from(records).map_err(|_| format!("a block of {records} records"))?;
        Ok(true)
    }
}

/// The known-time column, if the file has it, must be a time field of the table: other columns of a
/// container file are not read.
fn known_time(writer: &Schema, context: &FileContext) -> Result<Option<FieldId>, FileError> {
    let Some(column) = &context.options.known_time else {
        return Ok(None);
    };
    if !matches!(writer, Schema::Record(record) if record.lookup.contains_key(column)) {
        return Ok(None);
    }
    let table = context.catalog.table_at(context.table);
    let times = || {
        table
            .fields
            .iter()
            .filter(|f| f.data_type == DataType::Time)
    };
    context
        .plan
        .time_fed_by(column, table)
        .map(|field| Some(table.fields[field].id))
        .ok_or_else(|| FileError::MissingColumns {
            file: context.file.clone(),
            missing: format!("the known time '{column}', which must be a time field of the table"),
            found: times()
                .map(|f| f.name.as_str())
                .collect::<Vec<_>>()
                .join(", "),
        })
}

/// Avro primitives from a stream; the errors say what happened.
struct CountedBytes(BufReader<Box<dyn Read + Send>>);

impl CountedBytes {
    fn first_byte(&mut self) -> Result<Option<u8>, String> {
        let mut byte = [0];
        match self.0.read(&mut byte) {
            Ok(0) => Ok(None),
            Ok(_) => Ok(Some(byte[0])),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => self.first_byte(),
            Err(error) => Err(error.to_string()),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let mut bytes = [0; N];
        self.0.read_exact(&mut bytes).map_err(|e| e.to_string())?;
        Ok(bytes)
    }

    fn long(&mut self) -> Result<i64, String> {
        let [first] = self.array()?;
        self.long_from(first)
    }

    fn long_from(&mut self, first: u8) -> Result<i64, String> {
        let mut digits = [0; 10];
        digits[0] = first;
        let mut count = 1;
        while digits[count - 1] & 0x80 != 0 && count < digits.len() {
            [digits[count]] = self.array()?;
            count += 1;
        }
        AvroCursor::new(&digits[..count])
            .long()
            .map_err(|_| "a number is longer than its type".into())
    }

    fn length(&mut self) -> Result<u64, String> {
        let length = self.long()?;
        let fits = u64::try_from(length).ok().filter(|l| *l <= MAX_ROW_BYTES);
        fits.ok_or_else(|| {
            format!("a length of {length} bytes, where at most {MAX_ROW_BYTES} are read at once")
        })
    }

    fn take(&mut self, count: u64) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        let read = (&mut self.0)
            .take(count)
            .read_to_end(&mut bytes)
            .map_err(|e| e.to_string())?;
        if (read as u64) < count {
            Err("the file ends within a block".into())
        } else {
            Ok(bytes)
        }
    }

    fn metadata(&mut self) -> Result<HashMap<String, Vec<u8>>, String> {
        let mut metadata = HashMap::new();
        loop {
            let entries = match self.long()? {
                0 => return Ok(metadata),
                negative @ ..0 => {
                    self.length()?;
                    negative.unsigned_abs()
                }
                entries => entries.unsigned_abs(),
            };
            for _ in 0..entries {
                let name_length = self.length()?;
                let name = self.take(name_length)?;
                let value_length = self.length()?;
                metadata.insert(
                    String::from_utf8_lossy(&name).into_owned(),
                    self.take(value_length)?,
                );
            }
        }
    }
}
