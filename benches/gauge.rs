//! Wall time, CPU time, memory and load, and how tables are printed.

use std::path::Path;
use std::time::{Duration, Instant};

/// Wall and CPU time of a stretch of work.
#[derive(Clone, Copy, Debug, Default)]
pub struct Span {
    /// Wall time.
    pub wall: Duration,
    /// Of all threads of this process, user and system; in steps of 10 ms.
    pub cpu: Duration,
}

/// Runs work. Returns its result and its time.
pub fn timed<T>(work: impl FnOnce() -> T) -> (T, Span) {
    let (started, cpu) = (Instant::now(), cpu_of("self").unwrap_or_default());
    let result = work();
    (
        result,
        Span {
            wall: started.elapsed(),
            cpu: cpu_of("self").unwrap_or_default().saturating_sub(cpu),
        },
    )
}

/// The shortest wall time of several runs: a limit, not a service time.
pub fn best_of<T>(runs: u32, mut work: impl FnMut() -> T) -> Duration {
    (0..runs)
        .map(|_| timed(&mut work).1.wall)
        .min()
        .unwrap_or_default()
}

/// The mean wall time of several runs.
pub fn mean_of<T>(runs: u32, mut work: impl FnMut() -> T) -> Duration {
    (0..runs).map(|_| timed(&mut work).1.wall).sum::<Duration>() / runs
}

/// CPU time of a process so far. `None` where there is no such process, or no `/proc`.
pub fn cpu_of(process: &str) -> Option<Duration> {
    let stat = std::fs::read_to_string(Path::new("/proc").join(process).join("stat")).ok()?;
    // The name in parentheses may hold anything; user and system time are the 12th and 13th fields
    // after it, in hundredths of a second.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let ticks: u64 = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    Some(Duration::from_millis(10 * ticks))
}

/// Memory this process holds, bytes.
pub fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let kib = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?
        .split_whitespace()
        .next()?
        .parse::<u64>()
        .ok()?;
    Some(kib << 10)
}

/// Load averages of the machine.
pub fn load() -> String {
    std::fs::read_to_string("/proc/loadavg").map_or_else(
        |_| "unknown".into(),
        |text| {
            text.split_whitespace()
                .take(3)
                .collect::<Vec<_>>()
                .join(" ")
        },
    )
}

/// The value below which a share of the sorted values lies; 0 of none.
pub fn percentile(sorted: &[f64], share: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    sorted
        .get((last as f64 * share).round() as usize)
        .copied()
        .unwrap_or_default()
}

/// Processor, threads, profile and load: without them no figure means anything.
pub fn print_machine() {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let processor = info
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or("unknown processor", |(_, name)| name.trim());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let profile = if cfg!(debug_assertions) {
        "dev profile: not for publication"
    } else {
        "release profile"
    };
    println!(
        "machine   {processor}, {threads} threads, load {}, {profile}",
        load()
    );
}

/// `1234567.8` → `1,234,568`; small numbers that are not whole keep three significant digits.
pub fn number(value: f64) -> String {
    let decimals = if value.abs() >= 100.0 || value.fract() == 0.0 {
        0
    } else {
        (2 - value.abs().log10().floor() as i32).clamp(0, 4) as usize
    };
    let text = format!("{value:.decimals$}");
    let (whole, fraction) = text
        .split_once('.')
        .map_or((text.as_str(), ""), |(w, f)| (w, f));
    let mut grouped = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0
            && (whole.len() - index).is_multiple_of(3)
            && digit != '-'
            && !grouped.ends_with('-')
        {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    if fraction.is_empty() {
        grouped
    } else {
        format!("{grouped}.{fraction}")
    }
}

/// A table of text: the first column to the left, figures to the right.
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these column heads.
    pub fn new(heads: &[&str]) -> Self {
        Self {
            rows: vec![heads.iter().map(|head| (*head).to_owned()).collect()],
        }
    }

    /// Adds a row.
    pub fn row(&mut self, label: impl Into<String>, figures: impl IntoIterator<Item = String>) {
        self.rows
            .push(std::iter::once(label.into()).chain(figures).collect());
    }

    /// Prints the table under a title.
    pub fn print(&self, title: &str) {
        print!("{}", self.text(title));
    }

    /// The table under a title.
    pub fn text(&self, title: &str) -> String {
        let mut text = format!("\n{title}\n");
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or_default();
        let width = |column: usize| {
            self.rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or_default()
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in &self.rows {
            let mut line = String::from(" ");
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                line += &if column == 0 {
                    format!(" {cell:<width$}")
                } else {
                    format!("  {cell:>width$}")
                };
            }
            text += line.trim_end();
            text.push('\n');
        }
        text
    }
}
