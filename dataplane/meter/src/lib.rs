//! Session and flow tables, quotas, and the counters of the data plane.
//!
//! Tables have a fixed capacity and are filled before the first packet: a lookup never allocates,
//! locks or grows. Counters live in words of shared memory with one writer; readers in other
//! processes take consistent copies without ever stopping the writer.
//!
//! ```text
//! arena  header | drops | worker | in-flight | redo | sessions | views | flows | redo | urrs
//!                                                                            (see `layout`)
//! ```
//!
//! It deliberately knows no content: what a proof state means is `qlink-content`'s business, here
//! it is a row of words that is either the old one or the new one, never half of each.
//!
//! Invariant: after a kill at any instruction, [`CounterArena::open`] leaves every record
//! whole, every proof state and its counters in step, and no byte counted twice.
#![forbid(unsafe_code)]

mod arena;
mod arena_set;
mod direction;
mod flow;
mod identity;
mod index;
mod inflight;
mod layout;
mod migrate;
mod policer;
mod quota;
mod reader;
mod reason;
mod record;
mod redo;
mod rules;
mod session;
mod sums;
mod sync;
mod teid;
mod traffic;
mod urr;
mod urr_rows;
mod usage;

pub use arena::{ArenaSetup, CounterArena, ProofUpdate, Recovered, SetupError, WorkerCounter};
pub use arena_set::{ArenaSet, shard_path};
pub use direction::Direction;
pub use flow::{FlowKey, FlowTable};
pub use identity::{FlowIdentity, SessionIdentity, SessionState, ViewIdentity};
pub use index::{KeyedIndex, TableKey, process_secret};
pub use inflight::{BurstDelta, INFLIGHT_MAX, PacketDelta};
pub use layout::{ArenaLayout, LAYOUT_VERSION, UrrPlace};
pub use policer::{Policer, RATE_KBPS_MAX};
pub use quota::{ChargeMode, Quota, QuotaVerdict};
pub use reader::{
    ArenaReader, FlowSnapshot, Occupancies, Occupancy, ReaderError, SessionSnapshot, Totals,
    ViewSnapshot,
};
pub use reason::DropReason;
pub use record::StageSink;
pub use rules::{
    Action, ApplicationFilters, CompileError, CompiledPdr, CopiesAt, IndexList, NoApplications,
    Out, PATTERNS_MAX, PDR_QERS_MAX, PDR_URRS_MAX, PacketMeta, ProofRule, QerList, RedirectAt,
    RuleBlock, UrrList, UrrSet,
};
pub use session::{HotSession, SessionKind, SessionSlot, SessionTable, prefix_of};
pub use sums::BurstSums;
pub use teid::{TEID_REST_NS, TeidAllocator};
pub use traffic::TrafficRows;
pub use urr::{
    Deadlines, PENDING_MAX, PacketCount, QuotaStop, QuotaStops, RecoveredUrr, SESSION_URRS_MAX,
    SessionUrrs, UrrCounters, UrrError, UrrLimits, UrrMarks,
};
pub use usage::{Proven, Usage};
