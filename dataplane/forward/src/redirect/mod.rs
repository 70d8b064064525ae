//! Flows of subscribers that go to another destination than they asked for, and come back as if
//! they had not.
//!
//! ```text
//! uplink    UE:p -> asked:q    becomes   UE:p' -> to:q'     p' is p unless that is taken
//! downlink  to:q' -> UE:p'     becomes   asked:q -> UE:p
//! ICMP      an error names the packet that its receiver sent, and comes from who it was sent to
//! ```
//!
//! Two flows that asked different servers from one port would be one flow to the one server that
//! both are sent to: the second one gets another port. So does a flow that asked that server itself.
//!
//! **Invariants**: a flow of one owner is found by what its subscriber sent and by what its server
//! answers, never by another owner's packets; no port of a flow changes while it lives; memory is
//! taken when the table is made; a full table refuses, and an owner that has its share gives up its
//! own flow that has been quiet for longest, an open TCP connection last.
//!
//! **What it does not do**: it does not say whether a packet may pass, nor which destination is the
//! right one, and does not look into payloads: where a protocol states addresses there, they stay.

mod edit;
mod flow;
mod keep;
mod table;

pub use edit::{Readdress, ReaddressError};
pub use flow::{Asked, FlowId, Message};
pub use keep::{FLOW_WORDS, Keep};
pub use table::{FlowState, RedirectLimits, RedirectRefusal, Redirects};
