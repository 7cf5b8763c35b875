//! Files of history, prepared to be replayed.
//!
//! [`Files`] looks at every file once: one in order of known time is streamed, a small one stays in
//! memory, a large one out of order is sorted into a temporary file. Then any number of
//! [`crate::Replay`]s read them. Memory is bounded whatever the files' size and order.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use leadpulse_schema::{Catalog, FileError, FileOptions, FileReader, RowBatch, TableId};

use crate::HistoryError;
use crate::report::FileReport;
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
    /// The share of rows, from 0 to 1, that may be refused: with more the file is not used at all.
    pub refused_ratio: f64,
}

/// The share of a file's rows that may be refused, unless a command says otherwise.
// A file of which more is unusable is mostly one whose separator, encoding or unit is not the
// declared one, and what would be trained on the rest is not what its owner means.
pub const REFUSED_RATIO: f64 = 0.05;

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
    reports: Vec<FileReport>,
    /// True once nobody wants the rest.
    pub(crate) end: Arc<AtomicBool>,
}

/// Ends a reading that nobody wants the rest of.
///
/// # Errors
/// [`HistoryError::Ended`] once the sign is set.
pub(crate) fn go_on(end: &AtomicBool) -> Result<(), HistoryError> {
    match end.load(Ordering::Relaxed) {
        true => Err(HistoryError::Ended),
        false => Ok(()),
    }
}

/// Reads up to `max_rows`; notes and skips malformed rows.
pub(crate) fn read(
    reader: &mut FileReader,
    batch: &mut RowBatch,
    max_rows: usize,
    report: &mut FileReport,
) -> Result<usize, FileError> {
    let before = batch.len();
    while batch.len() - before < max_rows {
        let start = batch.len();
        match reader.read(batch, max_rows - (batch.len() - before)) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if error.is_row() => report.refuse(&error),
            Err(error) => return Err(error),
        }
        report.usable += (batch.len() - start) as u64;
    }
    Ok(batch.len() - before)
}

impl Files {
    /// Looks at every file. A file's partition number is its place in the list.
    pub fn prepare(catalog: Arc<Catalog>, sources: &[FileSource]) -> Result<Self, HistoryError> {
        Self::prepare_until(catalog, sources, Arc::default())
    }

    /// As [`Self::prepare`], for a reading that may be ended: here and in every replay, within some
    /// thousand rows after the sign is set.
    ///
    /// # Errors
    /// [`HistoryError::Ended`] besides those of the files.
    pub fn prepare_until(
        catalog: Arc<Catalog>,
        sources: &[FileSource],
        end: Arc<AtomicBool>,
    ) -> Result<Self, HistoryError> {
        Self::prepare_within(catalog, sources, MemoryLimits::default(), end)
    }

    pub(crate) fn prepare_within(
        catalog: Arc<Catalog>,
        sources: &[FileSource],
        mut limits: MemoryLimits,
        end: Arc<AtomicBool>,
    ) -> Result<Self, HistoryError> {
        let mut files = Self {
            catalog,
            sources: Vec::new(),
            reports: Vec::new(),
            end,
        };
        for (partition, source) in sources.iter().enumerate() {
            let mut source = source.clone();
            source.options.partition = partition as u32;
            let (supply, report) = files.supply(&source, &mut limits)?;
            files.sources.push((source, supply));
            files.reports.push(report);
        }
        files.refuse_bad_files()?;
        Ok(files)
    }

    /// Ends if too many rows of any file are refused: all such files are named at once.
    fn refuse_bad_files(&self) -> Result<(), HistoryError> {
        let all = self.sources.iter().zip(&self.reports);
        let bad: Vec<String> = all
            .filter(|((source, _), report)| report.refused_ratio() > source.refused_ratio)
            .map(|((source, _), report)| {
                let reasons = report.reasons_in_words().join("\n  ");
                format!(
                    "{}: {} of {} rows are refused ({:.1} %, at most {:.1} % may be)\n  {reasons}",
                    source.path.display(),
                    report.refused,
                    report.rows(),
                    report.refused_ratio() * 100.0,
                    source.refused_ratio * 100.0
                )
            })
            .collect();
        if bad.is_empty() {
            Ok(())
        } else {
            Err(HistoryError::BadFiles {
                files: bad.join("\n"),
            })
        }
    }

    /// Chooses how a file is read, and counts what becomes of its rows.
    fn supply(
        &self,
        source: &FileSource,
        limits: &mut MemoryLimits,
    ) -> Result<(Supply, FileReport), HistoryError> {
        let row_bytes =
            ROW_BYTES.0 + ROW_BYTES.1 * self.catalog.table_at(source.table).fields.len();
        let bytes = |rows: &RowBatch| rows.len() * row_bytes + rows.text_bytes();
        let mut report = FileReport::new(source.table, source.path.clone());
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
        while read(&mut reader, &mut rows, CHUNK_ROWS_OF_ONE.1, &mut report)? > 0 {
            go_on(&self.end)?;
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
        if fits || sorted {
            if has_rows {
                warn_unless_known(&reader);
                report.remarks = reader.remarks();
            }
            report.passed_over = reader.passed_over();
            report.future = reader.future_rows();
            report.finish();
        }
        if fits {
            limits.resident_bytes -= bytes(&rows);
            let order = by_known_time(&rows).into();
            return Ok((Supply::Resident(Arc::new(rows), order), report));
        }
        if sorted {
            return Ok((Supply::InOrder, report));
        }
        tracing::info!(file = %source.path.display(), "not in order of known time: sorted on disk");
        let mut spill = source.spilling(Spill::new(
            self.catalog.clone(),
            source.table,
            source.options.partition,
        ))?;
        // From the start again: the first pass ended where the file was out of order.
        report = FileReport::new(source.table, source.path.clone());
        reader = source.open(&self.catalog)?;
        rows.clear();
        while read(&mut reader, &mut rows, CHUNK_ROWS_OF_ONE.0, &mut report)? > 0 {
            go_on(&self.end)?;
            if bytes(&rows) >= limits.run_bytes {
                source.spilling(spill.push_run(&rows))?;
                rows.clear();
            }
        }
        warn_unless_known(&reader);
        report.remarks = reader.remarks();
        report.passed_over = reader.passed_over();
        report.future = reader.future_rows();
        report.finish();
        if !rows.is_empty() {
            source.spilling(spill.push_run(&rows))?;
        }
        Ok((Supply::Sorted(Arc::new(spill)), report))
    }

    /// The files, in their order.
    pub fn sources(&self) -> impl Iterator<Item = &FileSource> {
        self.sources.iter().map(|(source, _)| source)
    }

    /// What became of each file's rows, in the files' order. Every replay skips the refused ones.
    pub fn reports(&self) -> &[FileReport] {
        &self.reports
    }

    /// The number of refused rows of all files.
    pub fn refused(&self) -> u64 {
        self.reports.iter().map(|report| report.refused).sum()
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
                refused_ratio: REFUSED_RATIO,
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
            let files =
                Files::prepare_within(catalog.clone(), &sources, limits, Arc::default()).unwrap();
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
            assert_eq!(files.refused(), 3);
            assert_eq!(files.reports()[0].reasons.len(), 1);
            assert_eq!(keys(&files), expected);
        }
        // A reading ends wherever it is once nobody wants the rest.
        let end = Arc::new(AtomicBool::new(false));
        let files = Files::prepare_until(catalog.clone(), &sources, end.clone()).unwrap();
        let (mut replay, mut batch) = (files.replay().unwrap(), RowBatch::new());
        assert_eq!(replay.read(i64::MAX, 13, &mut batch).unwrap(), 13);
        end.store(true, Ordering::Relaxed);
        let ended = replay.read(i64::MAX, 13, &mut batch);
        assert!(matches!(ended, Err(HistoryError::Ended)), "{ended:?}");
        let ended = Files::prepare_until(catalog, &sources, end).map(|_| ());
        assert!(matches!(ended, Err(HistoryError::Ended)), "{ended:?}");
    }
}
