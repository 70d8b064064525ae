//! Conversations with a node.

mod associations;
mod causes;
mod lossy;
mod pfds;
mod reports;
mod restoring;
mod rig;
mod sessions;
