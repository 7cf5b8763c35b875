//! Replay becomes examples becomes a bundle; backtest, evaluation, explanations of past moments.
//!
//! Invariants: training, backtest and the live engine read features through the same graph and the same encoder; nothing known after an
//! anchor reaches its example, and nothing known after a split reaches the part before it; files are streamed, whatever their size and
//! order.

mod backtest;
mod collect;
mod explain;
mod judge;
mod labels;
mod leaks;
mod predict;
mod train;
mod walk;

#[cfg(test)]
mod tests;

use leadpulse_history::HistoryError;
use leadpulse_model::{BundleError, FitError};

pub use backtest::{Backtest, RowsError, backtest};
pub use collect::{Collected, Extent, Harvest, Split, Survey, collect, survey};
pub use explain::{Explain, Explained, Why, explain};
pub use judge::{Period, judge};
pub use labels::Tally;
pub use predict::TaskJudgement;
pub use train::{
    LabelCount, TaskReport, TrainOptions, TrainReport, TrainTask, count_labels, train,
};

/// How far a long job is.
#[derive(Clone, Debug, PartialEq)]
pub enum Progress {
    /// Rows replayed.
    Replay {
        /// So far.
        rows: u64,
        /// Of how many.
        of: u64,
    },
    /// Training.
    Fit {
        /// Share done, 0–1.
        done_ratio: f64,
        /// What it is at.
        message: String,
    },
}

/// Why training or a backtest failed.
#[derive(Debug, thiserror::Error)]
pub enum LearnError {
    /// A file cannot be read, or not be sorted.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// There is nothing to replay.
    #[error("the files hold no events: check the data folder and the file patterns of the sources")]
    NoEvents,
    /// The configuration has no such task.
    #[error("there is no task {task:?} in the configuration (there are: {known})")]
    NoSuchTask {
        /// The name asked for.
        task: String,
        /// The names there are.
        known: String,
    },
    /// Nobody of that name was known.
    #[error(
        "nothing was known at that moment about these of {table}: {keys}; check how they are written, and the moment"
    )]
    NotKnown {
        /// Their table.
        table: String,
        /// Their keys.
        keys: String,
    },
    /// Nothing to train.
    #[error("there is no task to train: add one to the configuration")]
    NoTask,
    /// Tasks that cannot share a trunk.
    #[error(
        "{other}, but {first}, and tasks of one bundle share a network that has seen the tables of its first: train them into bundles of \
         their own with --task"
    )]
    Using {
        /// The first task and its tables.
        first: String,
        /// Another.
        other: String,
    },
    /// The split leaves nothing.
    #[error("the split leaves no room: {0}")]
    Split(String),
    /// A filter or target looks at something whose past is not in the files.
    #[error("task {task:?} would leak: {message}")]
    Leak {
        /// The task.
        task: String,
        /// What, and what to supply.
        message: String,
    },
    /// The network could not be fitted.
    #[error(transparent)]
    Fit(#[from] FitError),
    /// The bundle is not fit for use.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The rows to score cannot be read.
    #[error(transparent)]
    Rows(#[from] RowsError),
}
