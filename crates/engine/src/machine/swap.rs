//! The moves between two epochs: another deployed version for the same state, or the same state in
//! another machine.

use std::sync::Arc;

use leadpulse_graph::EntityId;

use leadpulse_schema::DayWindow;

use super::deployed::StateShape;
use super::restore::Unmatched;
use super::{Deployed, Machine, Task, WorkerState};
use crate::epoch::VersionNote;
use crate::standings::Standings;

/// The remedy for a version that needs another graph.
const START_ANEW: &str =
    "stop the worker and start it with --anew: it applies every row again under the new version";

/// Reasons why a state cannot go on under a deployed version. A restart can: it builds the state
/// anew.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SwapError {
    /// The input schemas differ: rows of the graph are of the others.
    #[error("the input schemas are not those that the graph was built with; {START_ANEW}")]
    OtherSchemas,
    /// The graph options differ, or the counters that populations need: they shape the memory of
    /// every node.
    #[error(
        "the graph options, or the counters of the tasks' populations, are not those that the graph was built with; {START_ANEW}"
    )]
    OtherGraphOptions,
    /// The windows of all populations together differ: timers follow them.
    #[error(
        "the windows of the tasks' populations are not those that the graph looks at; {START_ANEW}"
    )]
    OtherWindows,
    /// A task asks about other entities than the running task of its name.
    #[error(
        "task {task:?} asks about other entities than it does in the running version; give the task another name, \
         or stop the worker and start it with --anew"
    )]
    OtherPopulation {
        /// Name of the task.
        task: String,
    },
    /// Ticks lie elsewhere: deadlines and alerts lie on them.
    #[error("engine.tick is not that of the running version; {START_ANEW}")]
    OtherTicks,
    /// Tasks, their tables or their populations differ from those that stored state is of.
    #[error(
        "the tasks or their populations are not those of the running version; restart the worker"
    )]
    OtherTasks,
    /// The state was made under another deployed version.
    #[error(
        "the state was made under the deployed version {made}, not under {given}; resume it there, then replace that version"
    )]
    OtherVersion {
        /// Digest of the version that the state was made under.
        made: String,
        /// Digest of the version that it was to go on under.
        given: String,
    },
}

impl Machine {
    /// Decides the next epochs under another deployed version. An equal one changes nothing. Under
    /// a different one every cell waits to be scored again, the one nearest to a threshold first, as
    /// after a restart; ranks stay those of the older scores until each entity has a new one. Memory
    /// follows the names of tasks: an added task starts without any, that of a removed one is
    /// dropped.
    ///
    /// # Errors
    /// [`SwapError`] if the state cannot go on under it. The machine stays as it was.
    pub fn replace(&mut self, given: Arc<Deployed>) -> Result<(), SwapError> {
        given.may_follow(&self.given)?;
        let before = self.put_in_force(given);
        if before.digest() == self.given.digest() {
            return Ok(());
        }
        let is_another_model = before.bundle_id() != self.given.bundle_id();
        if is_another_model {
            // Contributions of another bundle explain nothing of this one's scores.
            self.state.explained.clear();
        }
        self.restart(is_another_model);
        Ok(())
    }

    /// Follows a script under another deployed version, whose epochs come next.
    ///
    /// # Errors
    /// [`SwapError`] if the rows that were applied are not of it.
    pub fn follow(&mut self, given: Arc<Deployed>) -> Result<(), SwapError> {
        given.may_follow(&self.given)?;
        self.put_in_force(given);
        Ok(())
    }

    /// Takes back from which epochs on tasks are those of their names.
    pub fn restore_tasks(&mut self, note: &VersionNote) {
        for (index, task) in self.given.tasks.iter().enumerate() {
            let since = note.tasks.get(&*task.name).copied().unwrap_or_default();
            self.state.tasks_since[index] = since;
        }
    }

    /// The note about the deployed version, for the epoch's record.
    pub(super) fn version_note(&self) -> VersionNote {
        let tasks = self.given.tasks.iter().zip(&self.state.tasks_since);
        let added = tasks.filter(|(_, since)| **since > 0);
        VersionNote {
            release: self.given.release().map(str::to_owned),
            tasks: added
                .map(|(task, since)| (task.name.to_string(), *since))
                .collect(),
            rescoring: self.rescoring(),
        }
    }

    /// Refuses a record that is older than the task of its name.
    pub(super) fn is_of_task(&self, task: usize, epoch: i64) -> Result<(), Unmatched> {
        let since = self.state.tasks_since[task];
        match (epoch as u64) < since {
            true => Err(Unmatched),
            false => Ok(()),
        }
    }

    /// Puts a version in the place of the one before, which it returns, and moves what is kept by
    /// task.
    fn put_in_force(&mut self, given: Arc<Deployed>) -> Arc<Deployed> {
        let before = std::mem::replace(&mut self.given, given);
        let places: Vec<Option<usize>> = before
            .tasks
            .iter()
            .map(|task| self.given.task_index(&task.name, task.entity))
            .collect();
        let is_same = places.len() == self.given.tasks.len()
            && places
                .iter()
                .enumerate()
                .all(|(at, place)| *place == Some(at));
        if !is_same {
            self.state.rearrange(&places, self.given.tasks.len());
        }
        self.state.shape = self.given.shape();
        before
    }

    /// Separates the given from the known, between two epochs.
    pub fn into_parts(self) -> (Arc<Deployed>, WorkerState) {
        (self.given, self.state)
    }

    /// Goes on with a state that another machine made under an equal deployed version.
    ///
    /// # Errors
    /// [`SwapError::OtherVersion`] if the version is not equal.
    pub fn from_parts(given: Arc<Deployed>, state: WorkerState) -> Result<Self, SwapError> {
        if given.digest() != state.deployed {
            return Err(SwapError::OtherVersion {
                made: state.deployed,
                given: given.digest().to_owned(),
            });
        }
        Ok(Self { given, state })
    }
}

impl WorkerState {
    /// Moves what is kept by task to the tasks' new places; what has none is dropped. Revisits and
    /// missing explanations are left to a restart, which finds them anew.
    fn rearrange(&mut self, places: &[Option<usize>], tasks: usize) {
        let mut standings = vec![Standings::default(); tasks];
        // Before the first epoch there is no older task of a name.
        let next = if self.number == 0 { 0 } else { self.number + 1 };
        let mut since = vec![next; tasks];
        for (before, place) in places.iter().enumerate() {
            if let Some(place) = place {
                standings[*place] = std::mem::take(&mut self.standings[before]);
                since[*place] = self.tasks_since[before];
            }
        }
        self.standings = standings;
        self.tasks_since = since;
        let moved = |(task, entity): (usize, EntityId)| places[task].map(|place| (place, entity));
        self.tracked.rekey(moved);
        self.explained.rekey(moved);
        if let Some(rescoring) = &mut self.rescoring {
            rescoring.rearrange(places, tasks);
        }
    }
}

impl Deployed {
    /// Checks that a state made under the version `before` can go on under this one.
    fn may_follow(&self, before: &Self) -> Result<(), SwapError> {
        let (shape, older) = (self.shape(), before.shape());
        if shape.schemas != older.schemas {
            return Err(SwapError::OtherSchemas);
        }
        if shape.graph_options != older.graph_options {
            return Err(SwapError::OtherGraphOptions);
        }
        if self.tick_ms != before.tick_ms {
            return Err(SwapError::OtherTicks);
        }
        for task in &self.tasks {
            let index = before.task_index(&task.name, task.entity);
            let older = index.map(|index| &before.tasks[index]);
            if older.is_some_and(|older| older.population != task.population) {
                return Err(SwapError::OtherPopulation {
                    task: task.name.to_string(),
                });
            }
        }
        if windows(&self.tasks) != windows(&before.tasks) {
            return Err(SwapError::OtherWindows);
        }
        Ok(())
    }
}

/// The windows of all populations, each once, in one order.
fn windows(tasks: &[Task]) -> Vec<DayWindow> {
    let all = tasks
        .iter()
        .flat_map(|task| task.population.windows.iter().copied());
    let mut windows: Vec<DayWindow> = all.collect();
    windows.sort_by_key(|window| (window.counter, window.start_days, window.end_days));
    windows.dedup();
    windows
}

impl StateShape {
    /// Checks that stored state of the shape `before` can be read under a version of this shape.
    pub(super) fn succeeds(self, before: StateShape) -> Result<(), SwapError> {
        if self.schemas != before.schemas {
            return Err(SwapError::OtherSchemas);
        }
        if self.graph_options != before.graph_options {
            return Err(SwapError::OtherGraphOptions);
        }
        if self.tasks != before.tasks {
            return Err(SwapError::OtherTasks);
        }
        Ok(())
    }
}
