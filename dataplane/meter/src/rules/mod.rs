//! The rules of a PFCP session, compiled for the packet path.
//!
//! ```text
//! SessionModel --compile--> RuleBlock   one per session, immutable, replaced as a whole
//! packet: PacketMeta -> Key (7 words, remote and local end) -> Pattern (mask, value) -> CompiledPdr
//! ```
//!
//! A detection rule becomes one pattern for each combination of its filters and address families.
//! Few patterns are compared one after the other in the order of precedence. More are grouped by
//! mask, each group is one hashed probe, and the groups are ordered by the best rule in them: the
//! search ends as soon as no later group can hold a better one, so its cost follows the number of
//! different masks, not the number of rules.
//!
//! Invariant: of all rules that match, the one with the lowest precedence value (then the lowest
//! id) is found; compiling allocates, classifying never does.

mod action;
mod block;
mod compile;
mod list;
mod pattern;
mod search;
mod set;

pub use action::{Action, CopiesAt, Out, RedirectAt};
pub use block::{CompiledPdr, ProofRule, RuleBlock};
pub use compile::{ApplicationFilters, CompileError, NoApplications, PATTERNS_MAX};
pub use list::{IndexList, PDR_QERS_MAX, PDR_URRS_MAX, QerList, UrrList};
pub use pattern::PacketMeta;
pub use set::UrrSet;

#[cfg(test)]
mod rules_tests;
