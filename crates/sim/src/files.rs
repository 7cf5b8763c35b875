//! A whole history as files: one JSON Lines file a table, rows in order of time.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::error::SimError;
use crate::market::Market;
use crate::rows::{RowOut, TABLES};

/// Lives the rest of the market's days and writes `<table>.jsonl` for every table, replacing files of that name.
/// Returns the number of rows by table. `on_day` is told the number of days lived, for progress.
///
/// The files are byte-identical for the same options and knobs, and hold nothing that a CRM would not know.
///
/// # Errors
/// [`SimError::Write`] with the file that could not be written.
pub fn write_files(market: &mut Market, directory: &Path, on_day: &mut dyn FnMut(u32)) -> Result<BTreeMap<&'static str, u64>, SimError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| SimError::Write { path, source }
    };
    fs::create_dir_all(directory).map_err(failed(directory))?;
    let mut files = BTreeMap::new();
    for table in TABLES {
        let path = directory.join(format!("{table}.jsonl"));
        let file = File::create(&path).map_err(failed(&path))?;
        files.insert(table, TableFile { path, out: BufWriter::with_capacity(1 << 18, file), rows: 0 });
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
            Err(source) => Err(SimError::Write { path: file.path, source }),
        })
        .collect()
}

struct TableFile {
    path: PathBuf,
    out: BufWriter<File>,
    rows: u64,
}

impl TableFile {
    fn write(&mut self, row: &RowOut) -> std::io::Result<()> {
        serde_json::to_writer(&mut self.out, &row.fields)?;
        self.rows += 1;
        self.out.write_all(b"\n")
    }
}
