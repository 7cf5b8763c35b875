//! What came after: the outcomes of given entities at given moments, and how often the same outcome
//! comes without them.

use leadpulse_graph::EntityId;
use leadpulse_history::Files;
use leadpulse_model::Outcome;
use leadpulse_project::{Project, TaskPlan};
use leadpulse_schema::units::AsOf;

use crate::collect::asked;
use crate::labels::{Chronicle, Seen, Tally, TaskOutcomes};
use crate::lateness::Lateness;
use crate::survey::Extent;
use crate::walk::{Schedule, Walk};
use crate::{LearnError, Progress};

/// An entity at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntityMoment {
    /// Index of the task.
    pub task: usize,
    /// Key of the entity.
    pub key: String,
    /// The moment, milliseconds.
    pub at_ms: i64,
}

/// The outcome after a moment, as known at the end of the files.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Aftermath {
    /// The window has ended.
    Closed {
        /// True if the condition held; of a number, if it is above 0.
        came_true: bool,
        /// The time to the event that made it true, milliseconds; `None` where it did not come
        /// true, and for targets that may become false again.
        after_ms: Option<i64>,
    },
    /// The window has not ended.
    Open {
        /// The time to the event that made it true already, milliseconds.
        after_ms: Option<i64>,
    },
    /// There is none: the entity is not known, or there is nothing to average or compare.
    Without,
}

/// The job: entities at moments, and the period of the comparison.
pub struct Aftermaths<'a> {
    pub project: &'a Project,
    pub tasks: &'a [&'a TaskPlan],
    pub files: &'a Files,
    /// The extent of the files, see [`survey`](crate::survey).
    pub extent: Extent,
    /// The lateness of the rows of the files, see [`survey`](crate::survey).
    pub lateness: &'a Lateness,
    /// First and last moment of the comparison, milliseconds.
    pub period_ms: (i64, i64),
}

impl Aftermaths<'_> {
    /// Reads the outcomes of the given moments, in their order, and counts the outcomes of each
    /// task's population at its own anchors in the period.
    ///
    /// # Errors
    /// A file cannot be read on.
    pub fn read(
        &self,
        moments: &[EntityMoment],
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(Vec<Aftermath>, Vec<Tally>), LearnError> {
        let Extent { last_ms, rows, .. } = self.extent;
        let tasks = self.tasks.iter();
        let mut chronicles: Vec<Chronicle<'_>> = tasks
            .map(|task| Chronicle::new(self.project, task, self.files, self.lateness))
            .collect();
        let (from_ms, to_ms) = self.period_ms;
        let tasks = self.tasks.iter();
        let schedule = Schedule::new(tasks.map(|task| (*task, from_ms, to_ms)));
        let mut population: Vec<Vec<(EntityId, i64)>> = vec![Vec::new(); self.tasks.len()];
        let mut walk = Walk::new(self.project, self.files, i64::MAX)?;
        walk.pass(
            schedule,
            &mut chronicles,
            (last_ms, rows),
            progress,
            |graphs, at_ms, due| {
                for due in due {
                    let found = asked(
                        graphs.whole,
                        self.tasks[due.task],
                        &due,
                        AsOf::from_ms(at_ms),
                    );
                    let pairs = found.into_iter().map(|(_, entity)| (entity, at_ms));
                    population[due.task].extend(pairs);
                }
            },
        )?;
        let graph = walk.graph();
        let mut outcomes: Vec<TaskOutcomes<'_>> = Vec::with_capacity(chronicles.len());
        for chronicle in &mut chronicles {
            outcomes.push(chronicle.known_by(graph, walk.belonging(), last_ms));
        }
        let mut found = Vec::with_capacity(moments.len());
        for moment in moments {
            let place = graph.find(self.tasks[moment.task].plan.entity, &moment.key);
            found.push(place.map_or(Aftermath::Without, |(_, node)| {
                aftermath(outcomes[moment.task].seen(node.entity, moment.at_ms))
            }));
        }
        let mut tallies = Vec::with_capacity(outcomes.len());
        for (outcomes, pairs) in outcomes.iter().zip(population) {
            let mut tally = outcomes.tally();
            for (entity, at_ms) in pairs {
                tally.add(entity, &outcomes.seen(entity, at_ms));
            }
            tallies.push(tally);
        }
        Ok((found, tallies))
    }
}

fn aftermath(seen: Seen) -> Aftermath {
    match seen {
        Seen::Known { outcome, label } => {
            let after_ms = match outcome {
                Outcome::Hazard { after_ms, .. } => after_ms,
                Outcome::Window(_) | Outcome::Value(_) => None,
            };
            match label {
                Some(label) => Aftermath::Closed {
                    came_true: label > 0.0,
                    after_ms,
                },
                None => Aftermath::Open { after_ms },
            }
        }
        Seen::Open => Aftermath::Open { after_ms: None },
        Seen::Dropped => Aftermath::Without,
    }
}
