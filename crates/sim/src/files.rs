//! A whole history as files: one JSON Lines file a table, rows in the order in which they are
//! known.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::error::SimError;
use crate::market::Market;
use crate::rows::{ACTIVITIES, CONTENT_VIEWS, PRODUCT_USAGE, RowOut, TABLES};

/// Column with the known time in the files of events that may be late, milliseconds since 1970 UTC.
pub const KNOWN_AT: &str = "known_at";

/// Lives the rest of the market's days and writes `<table>.jsonl` for every table. Files of that
/// name are replaced. Returns the number of rows by table. `on_day` gets the number of days lived,
/// for progress.
///
/// Events that may be known later than they happened (activities, content views, product usage)
/// have a column [`KNOWN_AT`] besides the fields of their schema. In the other tables the row's own
/// time is the known time.
///
/// The files are byte-identical for the same options and knobs, and contain nothing that a CRM
/// would not know.
///
/// # Errors
/// [`SimError::Write`] with the file that could not be written.
pub fn write_files(
    market: &mut Market,
    directory: &Path,
    on_day: &mut dyn FnMut(u32),
) -> Result<BTreeMap<&'static str, u64>, SimError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| SimError::Write { path, source }
    };
    fs::create_dir_all(directory).map_err(failed(directory))?;
    let mut files = BTreeMap::new();
    for table in TABLES {
        let path = directory.join(format!("{table}.jsonl"));
        let file = File::create(&path).map_err(failed(&path))?;
        files.insert(
            table,
            TableFile {
                path,
                out: BufWriter::with_capacity(1 << 18, file),
                line: Vec::new(),
                rows: 0,
            },
        );
    }
    let mut outcome = Ok(());
    loop {
        let is_over = !market.next_day(&mut |row: RowOut| {
            if outcome.is_ok() {
                let file = files.get_mut(row.table).expect("rows name one of TABLES");
                outcome = file.write(&row).map_err(failed(&file.path));
            }
        });
        outcome?;
        if is_over {
            break;
        }
        outcome = Ok(());
        on_day(market.days_lived());
    }
    files
        .into_iter()
        .map(|(table, mut file)| match file.out.flush() {
            Ok(()) => Ok((table, file.rows)),
            Err(source) => Err(SimError::Write {
                path: file.path,
                source,
            }),
        })
        .collect()
}

struct TableFile {
    path: PathBuf,
    out: BufWriter<File>,
    /// The line being written.
    line: Vec<u8>,
    rows: u64,
}

impl TableFile {
    fn write(&mut self, row: &RowOut) -> std::io::Result<()> {
        self.rows += 1;
        if !matches!(row.table, ACTIVITIES | CONTENT_VIEWS | PRODUCT_USAGE) {
            serde_json::to_writer(&mut self.out, &row.fields)?;
            return self.out.write_all(b"\n");
        }
        self.line.clear();
        serde_json::to_writer(&mut self.line, &row.fields)?;
        let is_object = self.line.pop() == Some(b'}');
        debug_assert!(is_object, "rows are JSON objects with fields");
        writeln!(&mut self.line, ",\"{KNOWN_AT}\":{}}}", row.known_ms)?;
        self.out.write_all(&self.line)
    }
}
