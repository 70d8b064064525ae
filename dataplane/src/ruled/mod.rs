//! Sessions whose packets are decided about by the rules of PFCP.
//!
//! ```text
//! packet -> tunnel's peer, subscriber's address -> PDR -> FAR: drop, keep, forward
//!        -> URR: quota -> QER: gates, rates -> content proof -> plan
//! FAR: redirect -> answered in the server's place, sent to another destination, or dropped
//! FAR: copies -> sent behind the burst, counted nowhere
//! sent   -> URR: counted in the session's own change, reports -> event to the control thread
//! ```
//!
//! It deliberately knows no PFCP message: the control thread compiles rules and tells what changed.
//!
//! Invariant: a packet is counted by the usage rules of its detection rule exactly when it is
//! counted for its session.

mod contents;
mod copies;
mod diverted;
mod event;
mod judge;
mod kept_flows;
mod outbox;
mod proven;
mod redirect;
mod replies;
mod session;
mod table;

pub(crate) use diverted::RedirectRows;
pub(crate) use event::{EventLine, RuledEvent, RuledNews};
pub(crate) use judge::RuledPacket;
pub(crate) use kept_flows::KeptFlowsError;
pub(crate) use proven::{Demand, forecast};
pub(crate) use redirect::is_location;
pub(crate) use session::{Places, RuledSetup, measured};
pub(crate) use table::{RuledChange, RuledTable};
