//! A data file as a table of text, for files whose columns no schema describes.

use std::path::Path;

use super::InferError;
use super::text::{Cell, DataText};

/// The columns and rows of a data file, in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TextTable {
    /// Names of the columns, in the file's order.
    pub columns: Vec<String>,
    pub rows: Vec<TextRow>,
}

/// One row of a [`TextTable`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextRow {
    /// The line in the file, from 1; in Parquet the row's number.
    pub line: u64,
    /// A cell per column; `None` where it is empty or null.
    pub cells: Vec<Option<String>>,
}

impl TextTable {
    /// Reads a file: delimited text, JSON Lines (either also with `.gz`) or Parquet, by its name.
    /// Encoding, separator and quote follow from the text. Times of Parquet become ISO 8601.
    ///
    /// # Errors
    /// The file cannot be read, or a row has another number of cells than the header.
    pub fn read(path: &Path) -> Result<Self, InferError> {
        let text = DataText::sniff(path)?;
        let mut table = Self::default();
        let mut ragged = None;
        text.each_numbered_row(&mut |line, names, cells| {
            if table.columns.len() < names.len() {
                table.columns = names.to_vec();
            }
            if !text.dialect.is_json && cells.len() != names.len() && ragged.is_none() {
                ragged = Some((line, cells.len()));
            }
            let cells = cells.iter().map(cell_text).collect();
            table.rows.push(TextRow { line, cells });
        })?;
        if let Some((line, cells)) = ragged {
            return Err(InferError::Damaged {
                file: path.display().to_string(),
                line,
                why: format!(
                    "the row has {cells} cells and the header {}; correct the row, or quote cells \
                     that contain the separator",
                    table.columns.len()
                ),
            });
        }
        // Columns of JSON appear as rows have them.
        for row in &mut table.rows {
            row.cells.resize(table.columns.len(), None);
        }
        Ok(table)
    }
}

fn cell_text(cell: &Cell) -> Option<String> {
    match cell {
        Cell::Missing => None,
        Cell::Text(text) | Cell::Number(text) => Some(text.clone()),
        Cell::Flag(flag) => Some(flag.to_string()),
        Cell::List(items) => Some(serde_json::to_string(items).expect("a list of text is JSON")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, text: &str) -> Result<TextTable, InferError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        TextTable::read(&path)
    }

    #[test]
    fn delimited_text_and_json_lines_are_the_same_table() {
        let expected = TextTable {
            columns: vec!["id".into(), "at".into(), "won".into()],
            rows: vec![
                TextRow {
                    line: 2,
                    cells: vec![Some("a;1".into()), Some("2024-01-02".into()), None],
                },
                TextRow {
                    line: 3,
                    cells: vec![Some("7".into()), None, Some("true".into())],
                },
            ],
        };
        let delimited = "id;at;won\n\"a;1\";2024-01-02;\n7;;true\n";
        assert_eq!(read("t.csv", delimited).unwrap(), expected);
        let lines =
            "\n{\"id\":\"a;1\",\"at\":\"2024-01-02\"}\n{\"id\":7,\"at\":null,\"won\":true}\n";
        assert_eq!(read("t.jsonl", lines).unwrap(), expected);
    }

    #[test]
    fn a_row_with_another_number_of_cells_is_named() {
        let fault = read("t.csv", "id,at\n1,2\n1,2,3\n").unwrap_err();
        assert!(
            fault.to_string().contains("line 3: the row has 3 cells"),
            "{fault}"
        );
    }

    #[test]
    fn a_file_of_another_kind_is_refused() {
        let fault = read("t.xlsx", "PK").unwrap_err();
        assert!(
            fault.to_string().contains("its kind is not known"),
            "{fault}"
        );
    }
}
