//! The training of several members at once.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};

use super::train::{Diverged, FitPart, FitProgress, Length, Trained, Trainer};
use super::{FitError, Regularisation};

/// One member of one candidate, to be trained.
#[derive(Clone, Copy)]
pub(super) struct Job {
    /// Index of the regularisation.
    pub candidate: usize,
    /// Index of the member; decides its randomness.
    pub member: usize,
}

/// Runs jobs, and reports the progress of the whole fit.
pub(super) struct JobRunner<'a> {
    pub candidates: &'a [Regularisation],
    /// Jobs finished so far.
    done: usize,
    /// Jobs of the whole fit.
    units: usize,
    progress: &'a mut dyn FnMut(FitProgress),
}

/// A message of a training thread.
enum JobReport {
    Evaluated {
        job: usize,
        epochs: f64,
        training_loss: f64,
        validation_loss: f64,
    },
    Finished {
        job: usize,
        result: Result<Box<Trained>, Diverged>,
    },
}

impl<'a> JobRunner<'a> {
    /// A runner for a fit of `units` jobs.
    pub fn new(
        candidates: &'a [Regularisation],
        units: usize,
        progress: &'a mut dyn FnMut(FitProgress),
    ) -> Self {
        Self {
            candidates,
            done: 0,
            units,
            progress,
        }
    }

    /// Trains the jobs on as many threads as the machine has. Results come in the order of the
    /// jobs, and do not depend on the number of threads.
    pub fn run(
        &mut self,
        trainer: &Trainer<'_>,
        jobs: &[Job],
        length: impl Fn(&Job) -> Length + Sync,
    ) -> Result<Vec<Trained>, FitError> {
        let threads = std::thread::available_parallelism()
            .map_or(1, usize::from)
            .min(jobs.len());
        let next = AtomicUsize::new(0);
        let (sender, receiver) = mpsc::channel();
        let candidates = self.candidates;
        let results = std::thread::scope(|scope| {
            for _ in 0..threads {
                let (sender, next, length) = (sender.clone(), &next, &length);
                scope.spawn(move || work(trainer, candidates, jobs, next, length, &sender));
            }
            // The receiver ends when every sender is gone, this one included.
            drop(sender);
            self.collect(&receiver, jobs, trainer.options.max_epochs)
        });
        self.done += jobs.len();
        let mut members = Vec::with_capacity(jobs.len());
        for (job, result) in jobs.iter().zip(results) {
            match result.expect("every job reports its end, or its thread's panic is passed on") {
                Ok(trained) => members.push(*trained),
                Err(Diverged { step }) => {
                    return Err(FitError::Diverged {
                        task: trainer.task.to_owned(),
                        candidate: job.candidate,
                        member: job.member,
                        step,
                    });
                }
            }
        }
        Ok(members)
    }

    /// Reports trees that are grown, as a job of the fit.
    pub fn grown(&mut self, rounds: usize, validation_loss: f64) {
        self.done += 1;
        (self.progress)(FitProgress {
            done_ratio: self.done as f64 / self.units as f64,
            part: FitPart::Trees { rounds },
            validation_loss,
        });
    }

    /// Reads reports until all threads have ended. Reports progress on the way.
    fn collect(
        &mut self,
        receiver: &Receiver<JobReport>,
        jobs: &[Job],
        max_epochs: usize,
    ) -> Vec<Option<Result<Box<Trained>, Diverged>>> {
        let mut results: Vec<Option<_>> = jobs.iter().map(|_| None).collect();
        let mut parts = vec![0.0; jobs.len()];
        for report in receiver {
            match report {
                JobReport::Evaluated {
                    job,
                    epochs,
                    training_loss,
                    validation_loss,
                } => {
                    parts[job] = (epochs / max_epochs as f64).min(1.0);
                    let Job { candidate, member } = jobs[job];
                    let done = self.done as f64 + parts.iter().sum::<f64>();
                    (self.progress)(FitProgress {
                        done_ratio: done / self.units as f64,
                        part: FitPart::Network {
                            candidate,
                            member,
                            epochs,
                            training_loss,
                        },
                        validation_loss,
                    });
                }
                JobReport::Finished { job, result } => {
                    parts[job] = 1.0;
                    results[job] = Some(result);
                }
            }
        }
        results
    }
}

/// Takes and trains jobs until none is left.
fn work(
    trainer: &Trainer<'_>,
    candidates: &[Regularisation],
    jobs: &[Job],
    next: &AtomicUsize,
    length: &(impl Fn(&Job) -> Length + Sync),
    sender: &Sender<JobReport>,
) {
    loop {
        let job = next.fetch_add(1, Ordering::Relaxed);
        let Some(Job { candidate, member }) = jobs.get(job).copied() else {
            break;
        };
        let result = trainer.train(
            &candidates[candidate],
            member,
            length(&jobs[job]),
            |epochs, training_loss, validation_loss| {
                // The receiver lives until every sender is gone.
                let _ = sender.send(JobReport::Evaluated {
                    job,
                    epochs,
                    training_loss,
                    validation_loss,
                });
            },
        );
        let _ = sender.send(JobReport::Finished {
            job,
            result: result.map(Box::new),
        });
    }
}
