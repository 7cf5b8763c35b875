//! Files of history, prepared to be replayed.
//!
//! [`Files`] looks at every file once: one in order of known time is streamed, a small one stays in
//! memory, a large one out of order is sorted into a temporary file. Then any number of
//! [`crate::Replay`]s read them. Memory is bounded whatever the files' size and order.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use leadpulse_schema::{Catalog, FileError, FileOptions, FileReader, RowBatch, TableId};

use crate::HistoryError;
use crate::spill::{Spill, by_known_time};

/// Rows read from one file at a time: at least, at most.
pub(crate) const CHUNK_ROWS_OF_ONE: (usize, usize) = (256, 8192);
/// Bytes that a row takes in memory beside its text: for itself, and for each field of its table.
const ROW_BYTES: (usize, usize) = (56, 16);

/// Bounds on the memory for rows of files.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MemoryLimits {
    /// Small files are held in memory up to this much together, bytes.
    pub resident_bytes: usize,
    /// The rows that are sorted at a time, bytes.
    pub run_bytes: usize,
}

impl Default for MemoryLimits {
    fn default() -> Self {
        Self {
            resident_bytes: 64 << 20,
            run_bytes: 64 << 20,
        }
    }
}

/// A file with rows of one table.
#[derive(Clone, Debug)]
pub struct FileSource {
    pub table: TableId,
    pub path: PathBuf,
    /// The meaning of the rows; the partition is set by [`Files::prepare`].
    pub options: FileOptions,
}

impl FileSource {
    pub(crate) fn open(&self, catalog: &Arc<Catalog>) -> Result<FileReader, FileError> {
        FileReader::open(
            &self.path,
            catalog.clone(),
            self.table,
            self.options.clone(),
        )
    }

    pub(crate) fn spilling<T>(&self, done: io::Result<T>) -> Result<T, HistoryError> {
        let failed = |source| HistoryError::Spill {
            file: self.path.display().to_string(),
            folder: std::env::temp_dir().display().to_string(),
            source,
        };
        done.map_err(failed)
    }
}

/// The source from which a file's rows come in order of known time.
#[derive(Clone, Debug)]
pub(crate) enum Supply {
    /// The rows are in memory; the numbers are their order.
    Resident(Arc<RowBatch>, Arc<[u32]>),
    /// The file is in order.
    InOrder,
    /// The rows are in a temporary file, sorted.
    Sorted(Arc<Spill>),
}

/// Files, ready to be replayed as often as needed.
#[derive(Clone, Debug)]
pub struct Files {
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) sources: Vec<(FileSource, Supply)>,
    rejected: u64,
}

/// Rows that could not be used.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RejectedRows {
    pub(crate) rows: u64,
    /// The number of them that an earlier pass over the file logged.
    pub(crate) logged: u64,
}

/// Reads up to `max_rows`; logs, counts and skips malformed rows.
pub(crate) fn read(
    reader: &mut FileReader,
    batch: &mut RowBatch,
    max_rows: usize,
    rejected: &mut RejectedRows,
) -> Result<usize, FileError> {
    let before = batch.len();
    while batch.len() - before < max_rows {
        match reader.read(batch, max_rows - (batch.len() - before)) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if error.is_row() => {
                rejected.rows += 1;
                if (rejected.logged + 1..=10).contains(&rejected.rows) {
                    tracing::warn!(%error, "row passed over");
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(batch.len() - before)
}

/// Logs what nothing in a file fitted, once it was read to its end.
fn tell_fit(source: &FileSource, reader: &FileReader) {
    let file = source.path.display();
    for remark in reader.remarks() {
        if remark.is_setting {
            tracing::warn!(%file, "{}", remark.text);
        } else {
            tracing::info!(%file, "{}", remark.text);
        }
    }
}

impl Files {
    /// Looks at every file. A file's partition number is its place in the list.
    pub fn prepare(catalog: Arc<Catalog>, sources: &[FileSource]) -> Result<Self, HistoryError> {
        Self::prepare_within(catalog, sources, MemoryLimits::default())
    }

    pub(crate) fn prepare_within(
        catalog: Arc<Catalog>,
        sources: &[FileSource],
        mut limits: MemoryLimits,
    ) -> Result<Self, HistoryError> {
        let mut files = Self {
            catalog,
            sources: Vec::new(),
            rejected: 0,
        };
        for (partition, source) in sources.iter().enumerate() {
            let mut source = source.clone();
            source.options.partition = partition as u32;
            let (supply, rejected) = files.supply(&source, &mut limits)?;
            files.sources.push((source, supply));
            files.rejected += rejected;
        }
        Ok(files)
    }

    /// Chooses how a file is read, and counts the malformed rows.
    fn supply(
        &self,
        source: &FileSource,
        limits: &mut MemoryLimits,
    ) -> Result<(Supply, u64), HistoryError> {
        let row_bytes =
            ROW_BYTES.0 + ROW_BYTES.1 * self.catalog.table_at(source.table).fields.len();
        let bytes = |rows: &RowBatch| rows.len() * row_bytes + rows.text_bytes();
        let mut rejected = RejectedRows::default();
        let mut reader = source.open(&self.catalog)?;
        let mut rows = RowBatch::new();
        let (mut fits, mut sorted, mut last_ms, mut checked) = (true, true, i64::MIN, 0);
        let warn_unless_known = |reader: &FileReader| match &source.options.known_time {
            Some(column) if reader.known_rows() == 0 => tracing::warn!(
                file = %source.path.display(),
                "no row has a {column:?}, the configured known_time: event time plus lag stands \
                 in; correct the name, or leave it out"
            ),
            _ => {}
        };
        while read(&mut reader, &mut rows, CHUNK_ROWS_OF_ONE.1, &mut rejected)? > 0 {
            for row in (checked..rows.len()).map(|i| rows.row(i)) {
                sorted &= row.known_ms() >= last_ms;
                last_ms = row.known_ms();
            }
            fits &= bytes(&rows) <= limits.resident_bytes;
            if !fits && !sorted {
                break;
            }
            if !fits {
                rows.clear();
            }
            checked = rows.len();
        }
        let has_rows = last_ms > i64::MIN;
        if has_rows && (fits || sorted) {
            warn_unless_known(&reader);
            tell_fit(source, &reader);
        }
        if fits {
            limits.resident_bytes -= bytes(&rows);
            let order = by_known_time(&rows).into();
            return Ok((Supply::Resident(Arc::new(rows), order), rejected.rows));
        }
        if sorted {
            return Ok((Supply::InOrder, rejected.rows));
        }
        tracing::info!(file = %source.path.display(), "not in order of known time: sorted on disk");
        let mut spill = source.spilling(Spill::new(
            self.catalog.clone(),
            source.table,
            source.options.partition,
        ))?;
        let mut rejected = RejectedRows {
            rows: 0,
            logged: rejected.rows,
        };
        reader = source.open(&self.catalog)?;
        rows.clear();
        while read(&mut reader, &mut rows, CHUNK_ROWS_OF_ONE.0, &mut rejected)? > 0 {
            if bytes(&rows) >= limits.run_bytes {
                source.spilling(spill.push_run(&rows))?;
                rows.clear();
            }
        }
        warn_unless_known(&reader);
        tell_fit(source, &reader);
        if !rows.is_empty() {
            source.spilling(spill.push_run(&rows))?;
        }
        Ok((Supply::Sorted(Arc::new(spill)), rejected.rows))
    }

    /// The files, in their order.
    pub fn sources(&self) -> impl Iterator<Item = &FileSource> {
        self.sources.iter().map(|(source, _)| source)
    }

    /// The number of malformed rows, which every replay skips.
    pub fn rejected(&self) -> u64 {
        self.rejected
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;

    const ACCOUNTS: &str = r#"{"type":"record","name":"Account","leadpulse":{"table":"accounts","role":"root"},"fields":[
      {"name":"id","type":"string","leadpulse":{"key":true}},
      {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"},"leadpulse":{"time":true}}]}"#;
    const VISITS: &str = r#"{"type":"record","name":"Visit","leadpulse":{"table":"visits","role":"event"},"fields":[
      {"name":"id","type":"string","leadpulse":{"key":true}},
      {"name":"account","type":"string","leadpulse":{"ref":"accounts","owner":true}},
      {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"},"leadpulse":{"time":true}}]}"#;

    /// Reads everything, in odd portions.
    fn keys(files: &Files) -> Vec<String> {
        let mut replay = files.replay().unwrap();
        let (mut batch, mut keys) = (RowBatch::new(), Vec::new());
        while replay.read(i64::MAX, 13, &mut batch).unwrap() > 0 {
            keys.extend(
                batch
                    .iter()
                    .map(|row| format!("{} {}", row.known_ms(), row.key())),
            );
            batch.clear();
        }
        keys
    }

    #[test]
    fn limits_do_not_change_the_order() {
        let folder = tempfile::tempdir().unwrap();
        let catalog = Arc::new(
            Catalog::from_json(&[("accounts.avsc", ACCOUNTS), ("visits.avsc", VISITS)]).unwrap(),
        );
        let (mut accounts, mut disordered, mut ordered) = (
            "id,at\n".to_owned(),
            "id,account,at\n".to_owned(),
            "id,account,at\n".to_owned(),
        );
        for i in 0..900 {
            writeln!(accounts, "a{i},{}", 1_700_000_001_000_i64 + i * 7 % 500).unwrap();
            // A row in between that cannot be used.
            writeln!(
                disordered,
                "d{i},a1,{}",
                if i % 300 == 7 {
                    "never".into()
                } else {
                    (1_700_000_001_000_i64 + i * 7919 % 400).to_string()
                }
            )
            .unwrap();
            writeln!(ordered, "o{i},a1,{}", 1_700_000_001_000_i64 + i / 3).unwrap();
        }
        let mut sources = Vec::new();
        for (name, table, text) in [
            ("d.csv", "visits", &disordered),
            ("o.csv", "visits", &ordered),
            ("accounts.csv", "accounts", &accounts),
        ] {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            sources.push(FileSource {
                table: catalog.table(table).unwrap().id,
                path,
                options: FileOptions::default(),
            });
        }
        let in_memory = Files::prepare(catalog.clone(), &sources).unwrap();
        assert!(
            in_memory
                .sources
                .iter()
                .all(|(_, supply)| matches!(supply, Supply::Resident(..)))
        );
        let expected = keys(&in_memory);
        assert_eq!(expected.len(), 2697);
        // Roots before events of the same moment, files in their order, rows in theirs.
        let at_1000: Vec<&str> = expected
            .iter()
            .filter_map(|k| k.strip_prefix("1700000001000 "))
            .collect();
        assert_eq!(
            at_1000,
            ["a0", "a500", "d0", "d400", "d800", "o0", "o1", "o2"]
        );
        for resident_bytes in [0, 100_000] {
            let limits = MemoryLimits {
                resident_bytes,
                run_bytes: 20_000,
            };
            let files = Files::prepare_within(catalog.clone(), &sources, limits).unwrap();
            let resident = files
                .sources
                .iter()
                .filter(|(_, supply)| matches!(supply, Supply::Resident(..)))
                .count();
            assert_eq!(resident, usize::from(resident_bytes > 0));
            if resident_bytes == 0 {
                assert!(
                    matches!(files.sources[0].1, Supply::Sorted(_))
                        && matches!(files.sources[1].1, Supply::InOrder)
                );
            }
            assert_eq!(files.rejected(), 3);
            assert_eq!(keys(&files), expected);
        }
    }
}
