//! Text of a data file: its encoding, separator and quote, and the cells of its rows.

use std::fs::File;
use std::io::{BufRead, BufReader, Chain, Cursor, Read};
use std::path::{Path, PathBuf};

use csv::ReaderBuilder;
use flate2::read::MultiGzDecoder;
use serde_json::Value as Json;

use crate::files::FileKind;
use crate::files::parquet::ParquetRecords;
use crate::shape::SourceFormat;
use crate::shape::data_node::DataNode;

/// Bytes at a file's start that decide its encoding and its separator.
const SNIFF_BYTES: u64 = 1 << 20;

/// The characters of Windows-1252 for the bytes 0x80 to 0x9f; unassigned bytes keep their number.
const WINDOWS_1252: [char; 32] = [
    '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}',
    '\u{90}', '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
];

/// A file that no tables can be inferred from.
#[derive(Debug, thiserror::Error)]
pub enum InferError {
    /// The file cannot be opened or read.
    #[error("{file}: cannot be read: {source}")]
    Unreadable {
        file: String,
        source: std::io::Error,
    },
    /// The name does not say what the file contains.
    #[error(
        "{file}: its kind is not known; name it .csv, .tsv, .txt, .jsonl, .ndjson (also .gz) or .parquet, or leave it out"
    )]
    UnknownKind { file: String },
    /// The contents are not rows of one table.
    #[error("{file}, line {line}: {why}")]
    Damaged {
        file: String,
        /// The line, from 1.
        line: u64,
        /// The reason, and what to do.
        why: String,
    },
    /// The files together make no graph.
    #[error("{0}")]
    NoTables(String),
}

/// The encoding of a text file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Utf8,
    Utf16Le,
    Utf16Be,
    Windows1252,
}

impl Encoding {
    /// The setting's value; `None` for UTF-8, which is the default.
    pub(super) fn setting(self) -> Option<&'static str> {
        match self {
            Encoding::Utf8 => None,
            Encoding::Utf16Le => Some("utf-16le"),
            Encoding::Utf16Be => Some("utf-16be"),
            Encoding::Windows1252 => Some("windows-1252"),
        }
    }

    /// The encoding of bytes: a mark decides, then zero bytes, then whether they are UTF-8.
    fn of(start: &[u8]) -> Self {
        match start {
            [0xff, 0xfe, ..] => return Encoding::Utf16Le,
            [0xfe, 0xff, ..] => return Encoding::Utf16Be,
            [0, x, 0, y, ..] if *x != 0 && *y != 0 => return Encoding::Utf16Be,
            [x, 0, y, 0, ..] if *x != 0 && *y != 0 => return Encoding::Utf16Le,
            _ => {}
        }
        match std::str::from_utf8(start) {
            Ok(_) => Encoding::Utf8,
            // The last character may be cut.
            Err(error) if error.error_len().is_none() => Encoding::Utf8,
            Err(_) => Encoding::Windows1252,
        }
    }
}

/// The way in which a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Dialect {
    pub(super) encoding: Encoding,
    pub(super) separator: u8,
    pub(super) quote: u8,
    pub(super) is_json: bool,
    pub(super) is_parquet: bool,
}

impl Dialect {
    /// The values are typed: nothing has to be said about their text.
    const PARQUET: Dialect = Dialect {
        encoding: Encoding::Utf8,
        separator: b',',
        quote: b'"',
        is_json: true,
        is_parquet: true,
    };
}

/// The value of a cell, as the file writes it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cell {
    Missing,
    Text(String),
    /// A number of JSON, in its digits.
    Number(String),
    /// A truth value of JSON.
    Flag(bool),
    List(Vec<String>),
}

/// Bytes in any encoding, read as UTF-8 without a mark.
struct Decoded<R> {
    inner: R,
    encoding: Encoding,
    out: Vec<u8>,
    taken: usize,
    /// A first half of UTF-16 that waits for its second.
    high: Option<u16>,
    is_start: bool,
}

impl<R: BufRead> Decoded<R> {
    fn refill(&mut self) -> std::io::Result<()> {
        self.out.clear();
        self.taken = 0;
        while self.out.is_empty() {
            let mut bytes = vec![0; 32 << 10];
            let mut count = 0;
            // UTF-16 needs whole pairs.
            while count < bytes.len() {
                match self.inner.read(&mut bytes[count..])? {
                    0 => break,
                    read => count += read,
                }
            }
            if count == 0 {
                return Ok(());
            }
            self.decode(&bytes[..count]);
        }
        Ok(())
    }

    fn decode(&mut self, bytes: &[u8]) {
        let mut bytes = bytes;
        if std::mem::take(&mut self.is_start) && bytes.starts_with(&[0xef, 0xbb, 0xbf]) {
            bytes = &bytes[3..];
        }
        let mut buffer = [0; 4];
        let mut push = |out: &mut Vec<u8>, c: char| {
            out.extend_from_slice(c.encode_utf8(&mut buffer).as_bytes());
        };
        match self.encoding {
            Encoding::Utf8 => self.out.extend_from_slice(bytes),
            Encoding::Windows1252 => {
                for byte in bytes {
                    match byte {
                        0x80..=0x9f => {
                            push(&mut self.out, WINDOWS_1252[usize::from(byte - 0x80)]);
                        }
                        _ => push(&mut self.out, char::from(*byte)),
                    }
                }
            }
            Encoding::Utf16Le | Encoding::Utf16Be => {
                let is_big = self.encoding == Encoding::Utf16Be;
                let pairs = bytes.chunks_exact(2).map(|pair| {
                    let pair = [pair[0], pair[1]];
                    if is_big {
                        u16::from_be_bytes(pair)
                    } else {
                        u16::from_le_bytes(pair)
                    }
                });
                let units = self.high.take().into_iter().chain(pairs);
                let mut units: Vec<u16> = units.collect();
                if units.last().is_some_and(|u| (0xd800..0xdc00).contains(u)) {
                    self.high = units.pop();
                }
                for unit in char::decode_utf16(units) {
                    match unit.unwrap_or(char::REPLACEMENT_CHARACTER) {
                        '\u{feff}' => {}
                        c => push(&mut self.out, c),
                    }
                }
            }
        }
    }
}

impl<R: BufRead> Read for Decoded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.taken == self.out.len() {
            self.refill()?;
        }
        let rest = &self.out[self.taken..];
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.taken += count;
        Ok(count)
    }
}

type Bytes = BufReader<Chain<Cursor<Vec<u8>>, Box<dyn Read>>>;

/// Takes a row: its line, the names of the columns and its cells.
pub(super) type NumberedRow<'a> = dyn FnMut(u64, &[String], &[Cell]) + 'a;

/// A data file with its dialect.
pub(super) struct DataText {
    pub(super) path: PathBuf,
    pub(super) dialect: Dialect,
}

impl DataText {
    /// Opens a file and settles its dialect.
    pub(super) fn sniff(path: &Path) -> Result<Self, InferError> {
        let file = path.display().to_string();
        let lower = file.to_lowercase();
        if FileKind::of(SourceFormat::Avro, &lower) == Some(FileKind::Parquet) {
            return Ok(Self {
                path: path.to_owned(),
                dialect: Dialect::PARQUET,
            });
        }
        let kind = lower.strip_suffix(".gz").unwrap_or(&lower);
        let is_json = kind.ends_with(".jsonl") || kind.ends_with(".ndjson");
        if !is_json
            && ![".csv", ".tsv", ".txt"]
                .iter()
                .any(|end| kind.ends_with(end))
        {
            return Err(InferError::UnknownKind { file });
        }
        let unreadable = |source| InferError::Unreadable {
            file: file.clone(),
            source,
        };
        let mut start = Vec::new();
        let mut bytes = raw(path).map_err(unreadable)?.take(SNIFF_BYTES);
        bytes.read_to_end(&mut start).map_err(unreadable)?;
        let encoding = Encoding::of(&start);
        let mut decoded = Decoded {
            inner: Cursor::new(start),
            encoding,
            out: Vec::new(),
            taken: 0,
            high: None,
            is_start: true,
        };
        let mut text = Vec::new();
        decoded.read_to_end(&mut text).map_err(unreadable)?;
        let (separator, quote) = if is_json {
            (b',', b'"')
        } else {
            separator_of(&text)
        };
        Ok(Self {
            path: path.to_owned(),
            dialect: Dialect {
                encoding,
                separator,
                quote,
                is_json,
                is_parquet: false,
            },
        })
    }

    fn bytes(&self) -> Result<Decoded<Bytes>, InferError> {
        let inner = raw(&self.path).map_err(|source| InferError::Unreadable {
            file: self.path.display().to_string(),
            source,
        })?;
        Ok(Decoded {
            inner: BufReader::new(Cursor::new(Vec::new()).chain(inner)),
            encoding: self.dialect.encoding,
            out: Vec::new(),
            taken: 0,
            high: None,
            is_start: true,
        })
    }

    fn damaged(&self, line: u64, why: impl Into<String>) -> InferError {
        InferError::Damaged {
            file: self.path.display().to_string(),
            line,
            why: why.into(),
        }
    }

    /// Hands each row to `take`: names of its columns and its cells, in parallel. Columns of JSON
    /// Lines grow as rows have them; a row is then shorter than a later one.
    pub(super) fn each_row(
        &self,
        take: &mut dyn FnMut(&[String], &[Cell]),
    ) -> Result<(), InferError> {
        self.each_numbered_row(&mut |_, names, cells| {
            take(names, &cells[..cells.len().min(names.len())]);
        })
    }

    /// As [`Self::each_row`], with the line of the row, from 1; in Parquet its number. Rows of
    /// delimited text may have more or fewer cells than there are columns.
    pub(super) fn each_numbered_row(&self, take: &mut NumberedRow<'_>) -> Result<(), InferError> {
        if self.dialect.is_parquet {
            self.each_record(take)
        } else if self.dialect.is_json {
            self.each_object(take)
        } else {
            self.each_line(take)
        }
    }

    fn each_line(&self, take: &mut NumberedRow<'_>) -> Result<(), InferError> {
        let mut reader = ReaderBuilder::new()
            .delimiter(self.dialect.separator)
            .quote(self.dialect.quote)
            .flexible(true)
            .from_reader(self.bytes()?);
        let header = reader
            .byte_headers()
            .map_err(|error| self.damaged(1, error.to_string()))?;
        let names: Vec<String> = header
            .iter()
            .map(|name| String::from_utf8_lossy(name).trim().to_owned())
            .collect();
        for (index, name) in names.iter().enumerate() {
            if names[..index].contains(name) {
                let why = format!(
                    "two columns are called '{name}'; give one of them another name in the header"
                );
                return Err(self.damaged(1, why));
            }
        }
        let mut record = csv::ByteRecord::new();
        let mut cells = Vec::new();
        while reader
            .read_byte_record(&mut record)
            .map_err(|error| self.damaged(0, error.to_string()))?
        {
            cells.clear();
            cells.extend(record.iter().map(|cell| {
                if cell.is_empty() {
                    Cell::Missing
                } else {
                    Cell::Text(String::from_utf8_lossy(cell).into_owned())
                }
            }));
            let line = record.position().map_or(0, csv::Position::line);
            take(line, &names, &cells);
        }
        Ok(())
    }

    fn each_record(&self, take: &mut NumberedRow<'_>) -> Result<(), InferError> {
        let file = File::open(&self.path).map_err(|source| InferError::Unreadable {
            file: self.path.display().to_string(),
            source,
        })?;
        let records = ParquetRecords::open(file, |_| true);
        let mut records = records.map_err(|why| self.damaged(0, why))?;
        let mut names = Vec::new();
        let mut cells: Vec<Cell> = Vec::new();
        let mut row = 0;
        while let Some(record) = records.next() {
            row += 1;
            let record = record.map_err(|why| self.damaged(row, why))?;
            cells.iter_mut().for_each(|cell| *cell = Cell::Missing);
            flatten_node(&record, "", &mut names, &mut cells);
            take(row, &names, &cells);
        }
        Ok(())
    }

    fn each_object(&self, take: &mut NumberedRow<'_>) -> Result<(), InferError> {
        let mut names = Vec::new();
        let mut cells: Vec<Cell> = Vec::new();
        for (index, line) in BufReader::new(self.bytes()?).lines().enumerate() {
            let line = line.map_err(|error| self.damaged(index as u64 + 1, error.to_string()))?;
            if line.trim().is_empty() {
                continue;
            }
            let object: Json = serde_json::from_str(&line)
                .map_err(|error| self.damaged(index as u64 + 1, error.to_string()))?;
            if !object.is_object() {
                let why = "the line is not an object; write one JSON object a line";
                return Err(self.damaged(index as u64 + 1, why));
            }
            cells.iter_mut().for_each(|cell| *cell = Cell::Missing);
            flatten(&object, "", &mut names, &mut cells);
            take(index as u64 + 1, &names, &cells);
        }
        Ok(())
    }
}

fn raw(path: &Path) -> std::io::Result<Box<dyn Read>> {
    let file = File::open(path)?;
    let is_gzip = path.extension().is_some_and(|end| end == "gz");
    Ok(if is_gzip {
        Box::new(MultiGzDecoder::new(BufReader::new(file)))
    } else {
        Box::new(file)
    })
}

/// Objects within objects become columns with dotted names.
fn flatten(object: &Json, before: &str, names: &mut Vec<String>, cells: &mut Vec<Cell>) {
    for (name, value) in object.as_object().into_iter().flatten() {
        let name = format!("{before}{name}");
        let cell = match value {
            Json::Object(_) => {
                flatten(value, &format!("{name}."), names, cells);
                continue;
            }
            Json::Null => Cell::Missing,
            Json::Bool(flag) => Cell::Flag(*flag),
            Json::Number(number) => Cell::Number(number.to_string()),
            Json::String(text) if text.is_empty() => Cell::Missing,
            Json::String(text) => Cell::Text(text.clone()),
            Json::Array(items) => {
                let texts = items.iter().map(|item| item.as_str().map(str::to_owned));
                match texts.collect::<Option<Vec<String>>>() {
                    Some(texts) => Cell::List(texts),
                    // Lists of objects and numbers are none of a table's types.
                    None => continue,
                }
            }
        };
        put(name, cell, names, cells);
    }
}

/// Sets the cell of a column, which is added where it is new.
fn put(name: String, cell: Cell, names: &mut Vec<String>, cells: &mut Vec<Cell>) {
    let index = names.iter().position(|known| *known == name);
    let index = index.unwrap_or_else(|| {
        names.push(name);
        names.len() - 1
    });
    cells.resize(names.len(), Cell::Missing);
    cells[index] = cell;
}

/// As [`flatten`], for typed records: a time becomes its text in ISO's form.
fn flatten_node(
    record: &DataNode<'_>,
    before: &str,
    names: &mut Vec<String>,
    cells: &mut Vec<Cell>,
) {
    for (name, value) in record.members() {
        let name = format!("{before}{name}");
        let cell = match value {
            DataNode::Members(_) => {
                flatten_node(value, &format!("{name}."), names, cells);
                continue;
            }
            DataNode::Null => Cell::Missing,
            DataNode::Bool(flag) => Cell::Flag(*flag),
            DataNode::Int(number) => Cell::Number(number.to_string()),
            DataNode::Double(number) => Cell::Number(number.to_string()),
            DataNode::Text(text) if text.is_empty() => Cell::Missing,
            DataNode::Text(text) => Cell::Text(text.clone().into_owned()),
            DataNode::Moment(ms) => match jiff::Timestamp::from_millisecond(*ms) {
                Ok(at) => Cell::Text(at.to_string()),
                Err(_) => Cell::Missing,
            },
            DataNode::List(items) => {
                let texts = items.iter().map(|item| item.text().map(str::to_owned));
                match texts.collect::<Option<Vec<String>>>() {
                    Some(texts) => Cell::List(texts),
                    None => continue,
                }
            }
            // No field of a table is raw bytes.
            DataNode::Bytes(_) => continue,
        };
        put(name, cell, names, cells);
    }
}

/// The separator and quote of a table: those that cut most lines into the same number of cells.
fn separator_of(text: &[u8]) -> (u8, u8) {
    let mut best = (0.0, b',', b'"');
    for separator in [b',', b';', b'\t', b'|'] {
        for quote in [b'"', b'\''] {
            let mut reader = ReaderBuilder::new()
                .has_headers(false)
                .flexible(true)
                .delimiter(separator)
                .quote(quote)
                .from_reader(text);
            let mut widths = Vec::new();
            let mut quotes = 0;
            for record in reader.byte_records().take(100).flatten() {
                // A quote that stays in a cell was not meant as one of the dialect.
                let is_quoted = |cell: &[u8]| {
                    cell.len() > 1 && matches!(cell[0], b'"' | b'\'') && cell.last() == cell.first()
                };
                quotes += record.iter().filter(|cell| is_quoted(cell)).count();
                widths.push(record.len());
            }
            let Some(width) = widths.first().copied().filter(|width| *width > 1) else {
                continue;
            };
            let same = widths.iter().filter(|w| **w == width).count() as f64;
            let share = same / widths.len() as f64;
            let left = quotes as f64 / (width * widths.len()) as f64;
            let score = share * share * (width as f64).ln_1p() - left;
            if score > best.0 + 1e-9 {
                best = (score, separator, quote);
            }
        }
    }
    (best.1, best.2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_separator_is_the_one_that_cuts_lines_alike() {
        let check = |text: &str, separator, quote| {
            assert_eq!(separator_of(text.as_bytes()), (separator, quote), "{text}");
        };
        check("a,b\n1,2\n", b',', b'"');
        check("a;b;c\n1,5;2,5;x\n2,5;3,0;y\n", b';', b'"');
        check("a\tb\n1, 2\t3\n", b'\t', b'"');
        check("a|b\n\"x|y\"|2\n", b'|', b'"');
        check("id,name\n'1','O, K'\n'2','B, C'\n", b',', b'\'');
        check("only\nx\n", b',', b'"');
    }

    #[test]
    fn the_encoding_follows_the_bytes() {
        let check = |bytes: &[u8], encoding| assert_eq!(Encoding::of(bytes), encoding);
        check("Zürich".as_bytes(), Encoding::Utf8);
        check(b"Z\xfcrich", Encoding::Windows1252);
        check(b"\xff\xfeZ\0", Encoding::Utf16Le);
        check(b"\0i\0d", Encoding::Utf16Be);
        // A character that the sample cuts is not a fault.
        check(&"Zü".as_bytes()[..2], Encoding::Utf8);
    }

    #[test]
    fn other_encodings_are_read_as_the_characters_they_stand_for() {
        let folder = tempfile::tempdir().unwrap();
        let check = |bytes: &[u8]| {
            let path = folder.path().join("a.csv");
            std::fs::write(&path, bytes).unwrap();
            let mut seen = Vec::new();
            DataText::sniff(&path)
                .unwrap()
                .each_row(&mut |names, cells| seen.push((names.to_vec(), cells.to_vec())))
                .unwrap();
            let names = vec!["id".to_owned(), "preis".to_owned()];
            let cells = vec![Cell::Text("1".into()), Cell::Text("5 €".into())];
            assert_eq!(seen, [(names, cells)]);
        };
        check("\u{feff}id,preis\r\n1,5 €\r\n".as_bytes());
        check(b"id,preis\n1,5 \x80\n");
        let utf16 = "\u{feff}id,preis\n1,5 €\n".encode_utf16();
        check(&utf16.flat_map(u16::to_le_bytes).collect::<Vec<u8>>());
    }
}
