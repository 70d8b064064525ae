//! The user-plane session model and the messages in which a gateway states it to its data plane.
//!
//! A gateway process establishes, modifies and deletes sessions; the data plane answers each
//! request with one answer. A request takes effect as a whole or not at all, and a [`Cause`] tells
//! the truth about which. Names follow TS 29.244 where its terms fit.
//!
//! For a session management function that speaks PFCP itself there are the rules of its sessions
//! ([`model`]), their messages ([`wire`]) and the user plane's end of the conversation ([`node`]);
//! [`sim`] is the other end, to try it with.
//!
//! ```text
//! message  u16 version (1) | u32 sequence | u8 kind | fields          <= 64 KiB
//! ```
//!
//! It deliberately does no I/O, holds no counter and knows no packet: [`Association`] is a state
//! machine that checks requests against what stands and takes accepted ones in.
//!
//! Invariant: a decoder accepts exactly the bytes that the encoder makes, and never panics.
#![forbid(unsafe_code)]
#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

mod address;
mod association;
mod cause;
mod charges;
mod members;
mod message;
pub mod model;
pub mod node;
mod peers;
mod rules;
pub mod sim;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod trace;
mod tunnel;
mod usage;
pub mod wire;

pub use association::{Association, AssociationLimits, Novelty};
pub use cause::{Cause, Refusal};
pub use charges::{
    ChargeRow, MAX_CHARGE_REASONS, MAX_REASON_BYTES, MAX_REDIRECT_ROWS, RedirectRow, SessionCharges,
};
pub use members::TunnelMembers;
pub use message::{
    Answer, ContentBinding, DataPlaneInfo, MAX_MESSAGE_BYTES, MAX_SESSIONS_PER_PAGE, MessageError,
    PackageBinding, PackageContents, Packages, Request, TunnelAddress, VERSION, decode_answer,
    decode_request, encode_answer, encode_request,
};
pub use peers::PeerIndex;
pub use rules::{
    DownlinkPath, MAX_CONTENTS, MAX_ORIGINS, MAX_PATH_BYTES, Payer, SessionChanges, SessionRules,
    Sponsor,
};
pub use trace::{
    MAX_TRACE_PACKETS, MAX_TRACE_SECONDS, TraceOrder, TraceReport, TraceState, TraceWriter,
};
pub use tunnel::{MAX_TUNNEL_MEMBERS, TunnelEnd, TunnelFigures, TunnelMember};
pub use usage::{ContentUsage, SessionUsage, VolumeMeasurement};
