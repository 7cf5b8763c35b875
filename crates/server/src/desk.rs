//! Work that one request has at a time.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A service of the process that one request has at a time.
pub struct Desk<T: ?Sized> {
    service: Arc<T>,
    is_taken: Arc<AtomicBool>,
}

/// The right to use a service, until it is dropped.
pub(crate) struct Turn<T: ?Sized>(Desk<T>);

impl<T: ?Sized> Desk<T> {
    /// A desk before the first request.
    pub fn new(service: Arc<T>) -> Self {
        Self {
            service,
            is_taken: Arc::default(),
        }
    }

    /// The service, for what takes nobody's turn.
    pub(crate) fn service(&self) -> Arc<T> {
        self.service.clone()
    }

    /// Takes the service; `None` while another request has it.
    pub(crate) fn take(&self) -> Option<Turn<T>> {
        let was_taken = self.is_taken.swap(true, Ordering::AcqRel);
        (!was_taken).then(|| Turn(self.clone()))
    }
}

impl<T: ?Sized> Clone for Desk<T> {
    fn clone(&self) -> Self {
        Self {
            service: self.service.clone(),
            is_taken: self.is_taken.clone(),
        }
    }
}

impl<T: ?Sized> Deref for Turn<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0.service
    }
}

impl<T: ?Sized> Drop for Turn<T> {
    fn drop(&mut self) {
        self.0.is_taken.store(false, Ordering::Release);
    }
}

impl<T: ?Sized> fmt::Debug for Desk<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Desk")
    }
}
