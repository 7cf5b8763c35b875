//! Reasons for which nothing can be fitted.

use thiserror::Error;

/// The reason for which nothing could be fitted.
#[derive(Debug, Error)]
pub enum FitError {
    /// There is nothing to learn from.
    #[error(
        "task `{task}`: no {set} row has a known outcome ({rows} rows): its window must have \
         closed within the history; move the split times or shorten the window"
    )]
    NoOutcomes {
        /// Name of the task.
        task: String,
        /// The set at fault: `training` or `validation`.
        set: &'static str,
        /// Number of rows given.
        rows: usize,
    },
    /// There is nothing to tell apart.
    #[error(
        "task `{task}`: all {rows} {set} rows with a known outcome are {outcome}; both outcomes \
         are needed: widen the population or the period"
    )]
    OneOutcome {
        /// Name of the task.
        task: String,
        /// The set at fault: `training` or `validation`.
        set: &'static str,
        /// Rows with a known outcome.
        rows: usize,
        /// The only outcome that occurs.
        outcome: bool,
    },
    /// An outcome that the head cannot learn from.
    #[error(
        "task `{task}`: the outcome of {set} row {row} does not fit its head ({head}); build \
         outcomes with the task's plan"
    )]
    WrongOutcome {
        /// Name of the task.
        task: String,
        /// The set at fault: `training` or `validation`.
        set: &'static str,
        /// Index of the row.
        row: usize,
        /// The head, as debug text.
        head: String,
    },
    /// A member task's example without its member.
    #[error(
        "task `{task}`: {set} row {row} targets member slot {slot}, but the cell has {present}; \
         push the slot the member was encoded at"
    )]
    NoSuchMember {
        /// Name of the task.
        task: String,
        /// The set at fault: `training` or `validation`.
        set: &'static str,
        /// Index of the row.
        row: usize,
        /// The slot asked for.
        slot: usize,
        /// Number of members that the cell has.
        present: usize,
    },
    /// Sets that were encoded with different columns.
    #[error(
        "task `{task}`: training, validation and base network must have the same columns; encode \
         them with one feature plan"
    )]
    LayoutDiffers {
        /// Name of the task.
        task: String,
    },
    /// A task that is not well formed.
    #[error("task `{task}`: {fault}")]
    BadTask {
        /// Name of the task.
        task: String,
        /// The fault, in words.
        fault: String,
    },
    /// Options that do not make sense.
    #[error("fit option `{option}`: {fault}")]
    BadOption {
        /// Name of the option.
        option: &'static str,
        /// The fault, in words.
        fault: String,
    },
    /// Trees that validation had judged could not be grown again on everything.
    #[error(
        "task `{task}`: the trees could not be grown again with validation's rows: {reason}; leave \
         them out with `trees.rounds = 0`, or do not refit"
    )]
    Trees {
        /// Name of the task.
        task: String,
        /// The fault, in words.
        reason: String,
    },
    /// The loss left the finite numbers.
    #[error(
        "task `{task}`: the loss of candidate {candidate}, member {member} diverged at step \
         {step}; lower its learning rate"
    )]
    Diverged {
        /// Name of the task.
        task: String,
        /// Index of the regularisation.
        candidate: usize,
        /// Index of the member.
        member: usize,
        /// Step at which the loss diverged, from 0.
        step: usize,
    },
}
