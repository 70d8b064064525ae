//! Conversations with a node.
#![expect(clippy::arithmetic_side_effects, reason = "test code")]

mod associations;
mod causes;
mod elements;
mod lossy;
mod pfds;
mod reports;
mod restoring;
mod rig;
mod sessions;
mod sets;
