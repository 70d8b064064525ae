//! Metering what another gateway forwards, from a mirror of its N3: nothing is sent.
//!
//! ```text
//! gateway --- N3 --- BaseStations
//!              |
//!            mirror --> ring --> copies, by direction --> the pipeline of every data plane --> arena
//!                                   |  a tunnel nobody told of
//!                                   +--> learner --> control socket, as a gateway would
//! ```
//!
//! Sessions, flows, proofs and counters are those of a data plane that forwards, and stand in the
//! arena as always. Sessions are told over the control socket, or learned from uplink packets like
//! those of [`crate::replay`]: TEID, subscriber and BaseStation. The first packets of a session wait
//! until it stands, so that none of its bytes is missed. A mirror shows no signalling, so a learned
//! session ends when nothing of it was seen for `packet.idle`.
//!
//! # What can be proven from a mirror
//!
//! A byte that is counted as content was compared with the content, and an acknowledgement of it by
//! the subscriber passed the mirror: what there is of grade V is sound, a lower bound. It is no
//! more than that, because a tap holds nothing back: what a gateway in the path would drop (a
//! limit reached, a lie about the source, a flow that cannot be proven any further) passes here and
//! is only counted, under its reason; and what the mirror loses is missing, which the acknowledgement
//! tells: such bytes are never verified. So a tap is fit to reconcile a gateway's account and to
//! find out what a content's share would be; a package that must not be exceeded needs a gateway
//! in the path.

mod copies;
mod learner;
mod settings;
mod silence;
mod worker;

pub(crate) use learner::{Learner, learner};
pub use settings::{PacketSettings, TapFrames};
pub(crate) use worker::TapWorker;
