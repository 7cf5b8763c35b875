//! Work of seconds to minutes, on a thread of its own.

use std::thread;

use tokio::sync::oneshot;

use super::answer::ApiError;

/// Runs work on a thread of its own: the process does not wait for it when it ends, and a client that
/// goes away does not end it. `thread` is the name of the thread, `what` names the work in errors.
///
/// # Errors
/// A thread that cannot be started, or work that ended by a panic.
pub(super) async fn run_apart<T: Send + 'static>(
    (thread, what): (&str, &str),
    run: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ApiError> {
    let (answered, answer) = oneshot::channel();
    let builder = thread::Builder::new().name(thread.to_owned());
    // A client that went away no longer listens.
    let spawned = builder.spawn(move || drop(answered.send(run())));
    if let Err(error) = spawned {
        return Err(ApiError::internal(format!(
            "no thread can be started: {error}"
        )));
    }
    let ended = format!("the {what} ended without an answer");
    answer.await.map_err(|_| ApiError::internal(ended))
}
