//! The proof of one TCP flow: which byte is whose.

mod input;
mod state;

pub use input::{CloseReason, Context, Direction, DropReason, Policy, Segment, Verdict};
pub use state::FlowProof;
