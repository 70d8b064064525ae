//! Whether a thread sleeps, so that who has work for it makes a system call only then.
//!
//! ```text
//! sleeper   announce -> look for work once more -> sleep
//! waker     queue work -> ask whether it sleeps -> wake it
//! ```
//!
//! Invariant: the sleeper sees the work, or the waker sees that it sleeps.

use crate::sync::{AtomicBool, Ordering, fence};

/// Whether a thread sleeps or is about to.
#[derive(Debug)]
pub(crate) struct Asleep(AtomicBool);

impl Asleep {
    /// Awake.
    pub(crate) fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    /// Announces sleep; look for work after this.
    pub(crate) fn announce(&self) {
        self.0.store(true, Ordering::Relaxed);
        // Pairs with the fence of `ask`.
        fence(Ordering::SeqCst);
    }

    /// Ends the announcement.
    pub(crate) fn end(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    /// Whether the sleeper is to be woken by who asks; queue work before this. One of several who
    /// ask is told so.
    pub(crate) fn ask(&self) -> bool {
        // Pairs with the fence of `announce`: either the sleeper sees what was queued, or this
        // thread sees that it is about to sleep.
        fence(Ordering::SeqCst);
        self.0.swap(false, Ordering::Relaxed)
    }
}
