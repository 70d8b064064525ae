//! Who decides the order of blocks: the [`Orderer`] seam and its engines.
//!
//! An engine is a machine without I/O and clock: it is told the time and hands back what to do.
//! The node asks [`Orderer::propose`] when it has work, [`Orderer::check`] for others' blocks, and
//! stores what [`Orderer::take_final`] hands over, then says so with [`Orderer::acknowledge`].
//!
//! ```text
//! node -- propose(parent, content, now) --> engine -- Final {block, certificate} --> node
//! node -- check(parent, block, now) ------> Ok or why not
//! node -- acknowledge(height) ------------> engine   (stored durably; may be delivered again before)
//! ```
//!
//! Engines: [`Solo`], one seat, every block final at once. The BFT engine comes behind the same
//! seam. Certificates are verified by [`verify_certificate`], which needs nothing of an engine.
#![forbid(unsafe_code)]
#![deny(
    clippy::arithmetic_side_effects,
    clippy::float_arithmetic,
    clippy::indexing_slicing
)]

mod certificate;
mod orderer;
mod solo;

pub use certificate::{
    CertificateError, MAX_PATH, MAX_SEATS, MIN_BFT_SEATS, SeatSet, SimplexProof, Vote, VoteError,
    finalize_message, quorum, verify_certificate, vote_namespace,
};
pub use orderer::{
    CheckError, Content, Evidence, Final, MAX_AHEAD_MS, Orderer, Parent, ProposeError, check_block,
};
pub use solo::Solo;
