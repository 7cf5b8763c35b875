//! Explanations on request: a bounded queue between whoever asks and the engine, which answers between epochs from its own state.
//!
//! A request changes nothing: not the state, not the outputs, not the script. Whoever asks never waits for room in the queue, and an engine
//! that ends drops what waits, which the asker sees as a reply that never comes.

use std::fmt;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use leadpulse_records::ShownScore;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExplainRequest {
    /// Task name.
    pub task: String,
    /// Entity table.
    pub entity_type: String,
    /// Entity key.
    pub entity_id: String,
}

/// Why there is no explanation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExplainRefusal {
    /// No such task, or it is about another table.
    #[error("there is no task \"{task}\" about {entity_type}")]
    NoSuchTask {
        /// Task name.
        task: String,
        /// Entity table.
        entity_type: String,
    },
    /// Nothing is known about the entity.
    #[error("nothing is known about \"{entity_id}\" in {entity_type}")]
    NoSuchEntity {
        /// Entity table.
        entity_type: String,
        /// Entity key.
        entity_id: String,
    },
    /// It has no score that could be explained.
    #[error("\"{entity_id}\" has no score under {task}: it is {why}")]
    Ineligible {
        /// Task name.
        task: String,
        /// Entity key.
        entity_id: String,
        /// The reason, as in score records.
        why: String,
    },
    /// Nothing has been scored yet, or what was committed before is still being read.
    #[error("scores are still being loaded")]
    NotReady,
    /// Too many requests wait.
    #[error("too many explanations are asked for at once")]
    Busy,
}

/// Takes the answer; called on the engine's thread, so it must not wait.
pub type ExplainReply = Box<dyn FnOnce(Result<ShownScore, ExplainRefusal>) + Send>;

/// Where explanations are asked for. Cheap to clone.
#[derive(Clone)]
pub struct ExplainDesk(SyncSender<(ExplainRequest, ExplainReply)>);

/// The engine's end.
pub struct ExplainQueue(Receiver<(ExplainRequest, ExplainReply)>);

/// A queue for at most `capacity` requests that wait.
pub fn explain_queue(capacity: usize) -> (ExplainDesk, ExplainQueue) {
    let (sender, receiver) = sync_channel(capacity);
    (ExplainDesk(sender), ExplainQueue(receiver))
}

impl ExplainDesk {
    /// Puts a request into the queue. `reply` is dropped without a call when the engine has ended or ends before it answers.
    ///
    /// # Errors
    /// [`ExplainRefusal::Busy`] if the queue is full.
    pub fn ask(&self, request: ExplainRequest, reply: ExplainReply) -> Result<(), ExplainRefusal> {
        match self.0.try_send((request, reply)) {
            Err(TrySendError::Full(_)) => Err(ExplainRefusal::Busy),
            Ok(()) | Err(TrySendError::Disconnected(_)) => Ok(()),
        }
    }
}

impl ExplainQueue {
    /// Answers at most `limit` of the requests that wait; says how many.
    pub fn answer(
        &self,
        limit: usize,
        mut answer: impl FnMut(&ExplainRequest) -> Result<ShownScore, ExplainRefusal>,
    ) -> usize {
        self.0
            .try_iter()
            .take(limit)
            .map(|(request, reply)| reply(answer(&request)))
            .count()
    }

    /// Waits for the next request and answers it; `false` when nobody can ask any more.
    pub fn answer_next(
        &self,
        answer: impl FnOnce(&ExplainRequest) -> Result<ShownScore, ExplainRefusal>,
    ) -> bool {
        self.0
            .recv()
            .map(|(request, reply)| reply(answer(&request)))
            .is_ok()
    }
}

impl fmt::Debug for ExplainDesk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ExplainDesk")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn the_queue_is_bounded_and_answers_in_order() {
        let (desk, queue) = explain_queue(2);
        let told = Arc::new(Mutex::new(Vec::new()));
        let ask = |id: &str| {
            let told = told.clone();
            let request = ExplainRequest {
                task: "t".into(),
                entity_type: "accounts".into(),
                entity_id: id.into(),
            };
            desk.ask(
                request,
                Box::new(move |answer| told.lock().unwrap().push(answer.unwrap_err().to_string())),
            )
        };
        assert_eq!(
            (ask("a"), ask("b"), ask("c")),
            (Ok(()), Ok(()), Err(ExplainRefusal::Busy))
        );
        let refuse = |request: &ExplainRequest| {
            Err(ExplainRefusal::NoSuchEntity {
                entity_type: request.entity_type.clone(),
                entity_id: request.entity_id.clone(),
            })
        };
        assert_eq!(queue.answer(1, refuse), 1);
        assert_eq!(ask("d"), Ok(()), "there is room again");
        assert_eq!((queue.answer(10, refuse), queue.answer(10, refuse)), (2, 0));
        let expected =
            ["a", "b", "d"].map(|id| format!("nothing is known about \"{id}\" in accounts"));
        assert_eq!(*told.lock().unwrap(), expected);
        drop(queue);
        assert_eq!(ask("e"), Ok(()), "nobody answers; the reply is dropped");
        assert_eq!(told.lock().unwrap().len(), 3);
    }
}
