//! Delegated proof of stake: candidates, votes, elections, rewards and bans.
//!
//! ```text
//! account --register, vote for oneself--> self-stake --\
//! account --vote--> votes, as shares of them ----------> weight --election--> seats, standby
//!    ^                         |                                    | one seat_epoch later
//!    |<-- release queue <-- unvote                                  v
//!    '<-- rewards: fees and a fixed stream of the community pool <-- the set that sat
//! ```
//!
//! - A seat_epoch is a number of blocks. At its first block the set that sat is paid, the set
//!   elected one seat_epoch before takes the seats, and the next one is elected: who will sign is
//!   known for a whole seat_epoch before.
//! - A candidate's weight is its stake, at most a multiple of its self-stake. Every seat has one
//!   equal vote. Too few candidates, or too little stake behind all of them, elect nobody: then
//!   the seats of the genesis go on.
//! - Votes are shares of all units behind a candidate, so that one subtraction cuts all of them.
//!   Rewards are kept as one rising index (units per share): paying a set costs the same for one
//!   voter and for a million, and each takes its own when it likes.
//! - Evidence bans a candidate for ever and cuts its stake once. Stake that was taken back answers
//!   for what the candidate did while it stood, until it is released; stake that was moved to
//!   another candidate leaves a surety behind.
//!
//! Invariants: every unit that is locked, waits or is owed stands in a row and in a line of the
//! supply; the rewards paid to voters never exceed what was set apart for them.

mod candidate;
mod election;
mod evidence;
mod params;
mod release;
mod rows;
mod vote;

pub use params::StakeParams;
pub use rows::{Candidate, Elected, Ranked, Release, Seat, SeatsRow, Standing, Vote, Waiting};

pub(crate) use candidate::{Registration, register, resign, rotate, update};
pub(crate) use election::{rank, turn};
pub(crate) use evidence::report;
pub(crate) use release::{parse_key as parse_release_key, run_due as run_releases};
pub(crate) use rows::{SeatKeyRow, VoterRow};
pub(crate) use vote::{collect, redelegate, unvote, vote};
