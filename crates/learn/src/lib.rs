//! A history becomes examples, a bundle, an evaluation.
//!
//! The parts: `walk` moves a graph through the history, `labels` answers for each anchor, `collect`
//! takes examples of what `survey` found, by `sampling` and after `lateness`, `train` fits a bundle; `judge`, `backtest` and `explain` ask a bundle about past
//! moments, `aftermath` reads what came after given ones, `shadow` judges the scores of a `score_log`, `report` says how good the answers were. `advice` is about settings, `coverage` about the days of tables, `label_count` counts labels alone. `given` reads rows of the user's own, which
//! `given_examples` and `backtest` take; `out_table` writes tables, `example_table` that of
//! examples. `left_out` keeps tasks that cannot be judged out of a bundle,
//! `stopped` is the graph of a history in which sources stop.
//!
//! Invariants: training, backtest and the live engine read features through the same graph and the
//! same encoder. No row known after an anchor reaches the anchor's example, and no row known after
//! a split reaches the part before it.

mod advice;
mod aftermath;
mod backtest;
mod collect;
mod compare;
mod coverage;
mod data_report;
mod example_table;
mod explain;
mod given;
mod given_examples;
mod judge;
mod label_count;
mod labels;
mod lateness;
mod leaks;
mod left_out;
mod out_table;
mod predict;
mod report;
mod sampling;
mod score_log;
mod shadow;
mod stopped;
mod survey;
mod train;
mod walk;

#[cfg(test)]
mod tests;

use leadpulse_history::HistoryError;
use leadpulse_model::{BundleError, FitError};

pub use aftermath::{Aftermath, Aftermaths, EntityMoment};
pub use backtest::{Backtest, Backtested, backtest};
pub use collect::{Collected, Harvest, Split, collect};
pub use compare::{ComparedTask, Comparison, compare};
pub use coverage::Coverage;
pub use data_report::{DataReport, FileRows};
pub use explain::{Explain, Explained, PastExplanation, Why, explain};
pub use given::{GivenColumns, GivenRow, GivenRows, RowsError};
pub use judge::{Judged, Period, judge};
pub use label_count::{LabelBounds, LabelCount, TakenLabel, count_labels};
pub use labels::{FilledIn, RootSketch, Tally, TieShare, TieShares};
pub use lateness::Lateness;
pub use left_out::LeftOut;
pub use out_table::{OutError, OutTable};
pub use predict::TaskJudgement;
pub use report::{
    Against, Baseline, Baselines, CalibrationFigures, Cohort, Cohorts, Decile, Estimate,
    GroupWeight, LossFigures, PairFigures, PartFigures, RankFigures, ReliabilityBin, Report,
    Segment, TaskEvaluation,
};
pub use sampling::Sampling;
pub use score_log::{ScoreLog, ScoreRecord};
pub use shadow::{
    Shadow, ShadowMoments, Shadowed, ShadowedTask, Unjudged, predicts_number, shadow,
};
pub use survey::{Extent, Survey, survey};
pub use train::{TaskReport, TrainOptions, TrainReport, TrainTask, train};

/// Progress of a long job.
#[derive(Clone, Debug, PartialEq)]
pub enum Progress {
    /// The replay of the files.
    Replay {
        /// Rows read so far.
        rows: u64,
        /// Rows of the whole; 0 if unknown.
        of: u64,
    },
    /// The fit of a network.
    Fit {
        /// The share done, from 0 to 1.
        done_ratio: f64,
        /// The present step, in words.
        message: String,
    },
}

/// A training, backtest or explanation that failed.
#[derive(Debug, thiserror::Error)]
pub enum LearnError {
    /// A file cannot be read, or not be sorted.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// There is nothing to replay.
    #[error(
        "no row says when it was known: the files hold neither events nor versions with a time; check \
         the data folder and the file patterns of the sources, or give a source known_time"
    )]
    NoTimes,
    /// The configuration has no such task.
    #[error("there is no task {task:?} in the configuration (there are: {known})")]
    NoSuchTask {
        /// The name as given.
        task: String,
        /// The names there are.
        known: String,
    },
    /// No entity had these keys at the moment.
    #[error(
        "nothing was known at that moment about these of {table}: {keys}; check how they are \
         written, and the moment"
    )]
    NotKnown { table: String, keys: String },
    /// The list of tasks is empty.
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
        /// The other task and its tables.
        other: String,
    },
    /// The column of an existing score cannot be compared with a task's scores.
    #[error("task {task:?} cannot be compared with an existing score: {fault}")]
    ExistingScore {
        task: String,
        /// What is wrong with the column, and what to write.
        fault: String,
    },
    /// A file of examples has a value that means nothing, or does not fit the task.
    #[error("{0}")]
    Given(String),
    /// A count of labels is larger than its bound.
    #[error(
        "there are more than {most} pairs of entity and anchor; take anchors further apart, or a \
         narrower population"
    )]
    TooManyLabels {
        /// The bound.
        most: usize,
    },
    /// The split leaves nothing.
    #[error("the split leaves no room: {0}")]
    Split(String),
    /// A sample beside a weighting that needs every row.
    #[error(
        "task {task:?} gives each entity the same weight in each quarter, which a sample of rows \
         does not know; leave out --sample, or set weighting = \"rows\" in its fit"
    )]
    Sample { task: String },
    /// A filter or target looks at something whose past is not in the files.
    #[error("task {task:?} would leak: {message}")]
    Leak {
        task: String,
        /// The field, and the data to supply.
        message: String,
    },
    /// The network could not be fitted.
    #[error(transparent)]
    Fit(#[from] FitError),
    /// The bundle is not fit for use.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The given rows cannot be read.
    #[error(transparent)]
    Rows(#[from] RowsError),
    /// Scores or examples cannot be written.
    #[error(transparent)]
    Out(#[from] OutError),
}
