//! The atomics of waking, in one place so that a model checker can put its own there.

pub(crate) use std::sync::atomic::{AtomicBool, Ordering, fence};
