//! Every byte of a session with the reason for the bucket it is in.
//!
//! Pure: the arena's copy of a session and, where a process could be asked, its charges by reason
//! go in; an [`Explanation`] comes out whose JSON is described by `session-explain.schema.json`.

mod explanation;
mod words;

pub use explanation::{BucketRow, CauseRow, ContentRow, Explanation, FlowRow, SponsorRow};
pub use words::{Bucket, Cause, PaidBy};
