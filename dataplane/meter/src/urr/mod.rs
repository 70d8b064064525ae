//! The usage reporting rules of a session: what is counted, when it is reported, when it stops.
//!
//! ```text
//! packet  judge --(quota left, running burst included)--> running
//! sent    settle --> counters (cumulative) --> thresholds, quotas --> reports --> arena, one change
//! time    tick   --> splits, periods, thresholds, quotas, holding, validity, inactivity
//! answer  acknowledge --> the report is forgotten
//! ```
//!
//! A counter is never reset. A report covers what lies between two marks on the counters, and it is
//! kept in the arena, with its numbers, until it is acknowledged: sent again after a kill it is the
//! same report. Up to [`PENDING_MAX`] reports wait; what comes due beyond them is remembered and
//! made when one is acknowledged, so nothing is lost, only later.
//!
//! Time is one number: nanoseconds since the Unix epoch that never go back while a process runs.
//!
//! Invariant: the sum of all reports of a rule and of what it has not reported yet equals its
//! counters, whatever packets, times, queries, modifications and kills came in which order.
//!
//! Source: TS 29.244 §5.2.2.

mod counters;
mod deadlines;
mod limits;
mod marks;
mod pending;
mod session;
mod state;
mod time;

pub use counters::UrrCounters;
pub use deadlines::Deadlines;
pub use limits::{QuotaStop, QuotaStops, UrrLimits};
pub use marks::UrrMarks;
pub use pending::PENDING_MAX;
pub use session::{PacketCount, RecoveredUrr, SESSION_URRS_MAX, SessionUrrs, UrrError};

#[cfg(test)]
mod law_tests;
#[cfg(test)]
mod urr_tests;
