//! A progress bar with time left on a terminal; a line now and then elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use leadpulse_learn::Progress;

/// Time between two lines of a job that no terminal shows.
pub const LINE_EVERY: Duration = Duration::from_secs(10);

/// The progress of a long job, on standard error.
pub struct Bar {
    bar: ProgressBar,
    phase: Option<&'static str>,
    /// Lines in place of a bar; `None` on a terminal.
    lines: Option<Lines>,
}

/// The clock of a job that tells its progress in lines.
struct Lines {
    phase_since: Instant,
    last_line: Instant,
}

impl Bar {
    /// Makes a bar that shows nothing until the first step.
    pub fn new() -> Self {
        let now = Instant::now();
        let lines = Lines {
            phase_since: now,
            last_line: now,
        };
        Self {
            bar: ProgressBar::no_length(),
            phase: None,
            lines: (!std::io::stderr().is_terminal()).then_some(lines),
        }
    }

    /// Shows a step of the job; a new phase starts a new bar.
    pub fn show(&mut self, progress: Progress) {
        match progress {
            Progress::Replay { rows, of } => self.count("replay", "rows", rows, of),
            Progress::Fit {
                done_ratio,
                message,
            } => {
                self.enter(
                    "fit",
                    1000,
                    "{prefix:>8} {wide_bar} {percent} %, {eta} left  {msg}",
                );
                self.bar.set_position((done_ratio * 1000.0) as u64);
                self.line("fit", Some(done_ratio), &message);
                self.bar.set_message(message);
            }
        }
    }

    /// Shows a step of a job that counts; `of` is 0 where the end is not known.
    pub fn count(&mut self, phase: &'static str, unit: &str, done: u64, of: u64) {
        let template =
            format!("{{prefix:>8}} {{wide_bar}} {{human_pos}}/{{human_len}} {unit}, {{eta}} left");
        self.enter(phase, of.max(1), &template);
        self.bar.set_position(done);
        let ratio = (of > 0).then(|| done as f64 / of as f64);
        self.line(phase, ratio, &format!("{done} {unit}"));
    }

    fn enter(&mut self, phase: &'static str, length: u64, template: &str) {
        if self.phase == Some(phase) {
            return;
        }
        self.phase = Some(phase);
        if let Some(lines) = &mut self.lines {
            lines.phase_since = Instant::now();
            return;
        }
        self.bar.finish_and_clear();
        let style = ProgressStyle::with_template(template).expect("templates are constants");
        self.bar = ProgressBar::new(length)
            .with_style(style)
            .with_prefix(phase);
    }

    /// Logs a line if the last one is a while ago.
    fn line(&mut self, phase: &str, done_ratio: Option<f64>, message: &str) {
        let Some(lines) = &mut self.lines else {
            return;
        };
        if lines.last_line.elapsed() < LINE_EVERY {
            return;
        }
        lines.last_line = Instant::now();
        let words = words(lines.phase_since.elapsed(), done_ratio);
        tracing::info!("{phase}{words}: {message}");
    }

    /// Removes the bar from the terminal.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// The share done and the time left, where a share is known.
fn words(elapsed: Duration, done_ratio: Option<f64>) -> String {
    let Some(done) = done_ratio.filter(|done| *done > 0.0 && *done <= 1.0) else {
        return String::new();
    };
    let left_s = elapsed.as_secs_f64() * (1.0 - done) / done;
    let left = match left_s {
        ..90.0 => format!("{left_s:.0} s"),
        _ => format!("{:.0} min", left_s / 60.0),
    };
    format!(" {:.0} %, {left} left", done * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_left_follows_from_the_share_done() {
        let check = |seconds: u64, done: Option<f64>, expected: &str| {
            assert_eq!(words(Duration::from_secs(seconds), done), expected);
        };
        check(30, Some(0.5), " 50 %, 30 s left");
        check(60, Some(0.1), " 10 %, 9 min left");
        check(60, Some(1.0), " 100 %, 0 s left");
        check(60, Some(0.0), "");
        check(60, None, "");
    }
}
