//! Ctrl-C and SIGTERM become a request to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::{SignalKind, signal};

use crate::error::DeployError;

/// A flag that Ctrl-C or SIGTERM sets; a second signal ends the process at once.
///
/// # Errors
/// The process can start no thread, or open no more files.
pub fn stop_on_signal() -> Result<Arc<AtomicBool>, DeployError> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || runtime.block_on(listen(&flag)))?;
    Ok(stop)
}

async fn listen(flag: &AtomicBool) {
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        return;
    };
    loop {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
        if flag.swap(true, Ordering::Relaxed) {
            std::process::exit(1);
        }
        tracing::info!("stopping after this epoch; once more to stop at once");
    }
}
