//! A progress bar with time left on a terminal; a line now and then elsewhere.

use indicatif::{ProgressBar, ProgressStyle};

use leadpulse_learn::Progress;

/// The progress of a long job, on standard error.
pub struct Bar {
    bar: ProgressBar,
    phase: Option<&'static str>,
}

impl Bar {
    /// Makes a bar that shows nothing until the first step.
    pub fn new() -> Self {
        Self {
            bar: ProgressBar::no_length(),
            phase: None,
        }
    }

    /// Shows a step of the job; a new phase starts a new bar.
    pub fn show(&mut self, progress: Progress) {
        match progress {
            Progress::Replay { rows, of } => {
                self.enter(
                    "replay",
                    of.max(1),
                    "{prefix:>8} {wide_bar} {human_pos}/{human_len} rows, {eta} left",
                );
                self.bar.set_position(rows);
            }
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
                self.bar.set_message(message);
            }
        }
    }

    fn enter(&mut self, phase: &'static str, length: u64, template: &str) {
        if self.phase != Some(phase) {
            self.bar.finish_and_clear();
            let style = ProgressStyle::with_template(template).expect("templates are constants");
            self.bar = ProgressBar::new(length)
                .with_style(style)
                .with_prefix(phase);
            self.phase = Some(phase);
        }
    }

    /// Removes the bar from the terminal.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
