//! Questions to the machine: a bounded queue, which the engine answers between two epochs.
//!
//! A question reads the state after the last committed epoch and changes nothing: not the state, not
//! the outputs, not the script. It runs on the engine's own thread, so it must take milliseconds at
//! most. Asking never waits. An engine that ends drops the waiting questions without a call.

use std::fmt;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use crate::machine::Machine;

/// A question: called once with the machine, or with `None` while scores are still being loaded.
pub type MachineQuestion = Box<dyn FnOnce(Option<&Machine>) + Send>;

/// The queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many questions are asked at once")]
pub struct TooManyQuestions;

/// The asking end of the queue. Cheap to clone.
#[derive(Clone)]
pub struct QuestionDesk(Sender<MachineQuestion>);

/// The answering end of the queue, held by the engine.
pub struct QuestionQueue(Receiver<MachineQuestion>);

/// Creates a queue for at most `capacity` waiting questions.
pub fn question_queue(capacity: usize) -> (QuestionDesk, QuestionQueue) {
    let (sender, receiver) = bounded(capacity);
    (QuestionDesk(sender), QuestionQueue(receiver))
}

impl QuestionDesk {
    /// Puts a question into the queue. An engine that has ended, or ends before it answers, drops
    /// the question.
    ///
    /// # Errors
    /// If the queue is full.
    pub fn ask(&self, question: MachineQuestion) -> Result<(), TooManyQuestions> {
        match self.0.try_send(question) {
            Err(TrySendError::Full(_)) => Err(TooManyQuestions),
            Ok(()) | Err(TrySendError::Disconnected(_)) => Ok(()),
        }
    }
}

impl QuestionQueue {
    /// True if anything waits for an answer.
    pub fn is_waiting(&self) -> bool {
        !self.0.is_empty()
    }

    /// Answers at most `limit` of the waiting questions. Returns the number answered.
    pub fn answer(&self, limit: usize, machine: Option<&Machine>) -> usize {
        let waiting = self.0.try_iter().take(limit);
        waiting.map(|question| question(machine)).count()
    }
}

impl fmt::Debug for QuestionDesk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("QuestionDesk")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn questions_are_bounded_and_answered_a_few_at_a_time() {
        let (desk, queue) = question_queue(2);
        let asked = Arc::new(AtomicUsize::new(0));
        let ask = || {
            let asked = asked.clone();
            desk.ask(Box::new(move |machine| {
                assert!(machine.is_none());
                asked.fetch_add(1, Ordering::Relaxed);
            }))
        };
        assert_eq!(
            (ask(), ask(), ask()),
            (Ok(()), Ok(()), Err(TooManyQuestions))
        );
        assert_eq!(queue.answer(1, None), 1);
        assert_eq!(ask(), Ok(()), "there is room again");
        assert_eq!((queue.answer(9, None), queue.answer(9, None)), (2, 0));
        assert_eq!(asked.load(Ordering::Relaxed), 3);
        drop(queue);
        assert_eq!(ask(), Ok(()), "nobody answers; the question is dropped");
    }
}
