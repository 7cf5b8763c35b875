//! The table that ends every command which reads files: what became of each file's rows.

use std::fmt::Write;

use leadpulse_history::{FileReport, Files};
use leadpulse_learn::DataReport;
use leadpulse_schema::Catalog;

/// A line of the table; `None` where the command does not decide it.
struct Line {
    name: String,
    read: u64,
    refused: u64,
    passed_over: u64,
    /// Rows that lie ahead of the clock.
    future: u64,
    /// Accepted, duplicate, late, future, other.
    outcomes: Option<[u64; 5]>,
    reasons: Vec<String>,
}

impl Line {
    fn of(report: &FileReport) -> Line {
        let name = report.path.file_name().map_or_else(
            || report.path.display().to_string(),
            |name| name.to_string_lossy().into_owned(),
        );
        Line {
            name,
            read: report.rows(),
            refused: report.refused,
            passed_over: report.passed_over,
            outcomes: None,
            reasons: report.reasons_in_words(),
            future: report.future,
        }
    }
}

/// What became of the rows of files that were read, but not applied to a graph.
pub fn files_table(files: &Files) -> String {
    table(files.reports().iter().map(Line::of).collect())
}

/// What became of the rows of a history, how its references fit, and remarks.
pub fn data_report(catalog: &Catalog, report: &DataReport) -> String {
    let lines = report.files.iter().map(|file| Line {
        outcomes: Some([
            file.accepted,
            file.duplicate,
            file.late,
            file.future,
            file.other,
        ]),
        ..Line::of(&file.read)
    });
    let mut text = table(lines.collect());
    for fit in &report.references {
        let from = catalog.table_at(fit.table);
        let _ = writeln!(
            text,
            "fit       {}.{} → {}: {:.1} % of {} are known",
            from.name,
            from.field_at(fit.field).name,
            catalog.table_at(fit.target).name,
            // Rounded down: 100.0 % means all.
            (fit.share() * 1000.0).floor() / 10.0,
            fit.named
        );
    }
    for remark in &report.remarks {
        let _ = writeln!(text, "remark    {remark}");
    }
    text
}

fn table(lines: Vec<Line>) -> String {
    let with_outcomes = lines.iter().any(|line| line.outcomes.is_some());
    let mut header = vec!["file", "rows", "refused", "filtered"];
    if with_outcomes {
        header.extend(["accepted", "duplicate", "late", "future", "other"]);
    }
    let cells = lines.iter().map(|line| {
        let mut cells = vec![
            line.name.clone(),
            line.read.to_string(),
            line.refused.to_string(),
            line.passed_over.to_string(),
        ];
        cells.extend(line.outcomes.iter().flatten().map(u64::to_string));
        cells
    });
    let cells: Vec<Vec<String>> = cells.collect();
    let width = |column: usize| {
        let longest = cells.iter().filter_map(|line| line.get(column));
        let longest = longest.map(|cell| cell.chars().count()).max();
        longest.unwrap_or(0).max(header[column].len())
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let mut text = String::new();
    let mut write_line = |cells: &[&str], reasons: &[String], future: u64| {
        let padded = cells.iter().zip(&widths).enumerate();
        let padded: Vec<String> = padded
            .map(|(column, (cell, width))| match column {
                0 => format!("{cell:<width$}"),
                _ => format!("{cell:>width$}"),
            })
            .collect();
        let _ = writeln!(text, "{}", padded.join("  ").trim_end());
        for reason in reasons {
            let _ = writeln!(text, "  refused: {reason}");
        }
        if future > 0 {
            let _ = writeln!(
                text,
                "  future: {future} rows lie ahead of the clock and are left out; correct their times"
            );
        }
    };
    write_line(&header, &[], 0);
    for (cells, line) in cells.iter().zip(&lines) {
        let cells: Vec<&str> = cells.iter().map(String::as_str).collect();
        write_line(&cells, &line.reasons, line.future);
    }
    text
}
