//! The proof of one TCP flow: which byte is whose.
//!
//! ```text
//! segment -> state (SYN, RST, FIN, ACK) -> walk (each payload byte -> class)
//!                                       -> settle (acknowledged or closed: pending -> class)
//! ```

mod charged;
mod half;
mod input;
mod settle;
mod state;
mod tally;
mod walk;
mod words;

pub use input::{CloseReason, Context, Direction, DropReason, Policy, Segment, Verdict};
pub use state::FlowProof;
