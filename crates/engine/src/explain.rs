//! Explanations on request: a bounded queue of requests, which the engine answers between epochs.
//!
//! A request changes nothing: not the state, not the outputs, not the script. Asking never waits
//! for room in the queue. An engine that ends drops the waiting requests, so their replies are
//! never called.

use std::fmt;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use leadpulse_records::ShownScore;

/// A request: one entity under one task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExplainRequest {
    /// Name of a task about `entity_type`.
    pub task: String,
    /// Name of the entity's table.
    pub entity_type: String,
    /// Key of the entity in its table.
    pub entity_id: String,
}

/// Refusal of a request for an explanation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExplainRefusal {
    /// No task has this name and is about this table.
    #[error("there is no task \"{task}\" about {entity_type}")]
    NoSuchTask { task: String, entity_type: String },
    /// No row names the entity.
    #[error("nothing is known about \"{entity_id}\" in {entity_type}")]
    NoSuchEntity {
        entity_type: String,
        entity_id: String,
    },
    /// The entity has no score to explain.
    #[error("\"{entity_id}\" has no score under {task}: it is {why}")]
    Ineligible {
        task: String,
        entity_id: String,
        /// Reason for which the entity has no score, as in score records.
        why: String,
    },
    /// The machine has not scored yet, or still restores committed epochs.
    #[error("scores are still being loaded")]
    NotReady,
    /// The queue is full.
    #[error("too many explanations are asked for at once")]
    Busy,
}

/// Callback for the answer. The engine's own thread calls it, so it must not wait.
pub type ExplainReply = Box<dyn FnOnce(Result<ShownScore, ExplainRefusal>) + Send>;

/// The asking end of the queue. Cheap to clone.
#[derive(Clone)]
pub struct ExplainDesk(Sender<(ExplainRequest, ExplainReply)>);

/// The answering end of the queue, held by the engine.
pub struct ExplainQueue(Receiver<(ExplainRequest, ExplainReply)>);

/// Creates a queue for at most `capacity` waiting requests.
pub fn explain_queue(capacity: usize) -> (ExplainDesk, ExplainQueue) {
    let (sender, receiver) = bounded(capacity);
    (ExplainDesk(sender), ExplainQueue(receiver))
}

impl ExplainDesk {
    /// Puts a request into the queue. An engine that has ended, or ends before it answers, drops
    /// `reply` without a call.
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
    /// True if anything waits for an answer.
    pub fn is_waiting(&self) -> bool {
        !self.0.is_empty()
    }

    /// Answers at most `limit` of the waiting requests. Returns the number answered.
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

    /// Waits for the next request and answers it. Returns `false` once every desk is gone.
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
