//! The rules of a PFCP session as checked types: what the codec decodes into, what the session
//! machine checks and what the meter compiles.
//!
//! ```text
//! session  PDR --far--> FAR --bar--> BAR
//!              --urr--> URR --linked--> URR, --quota action--> FAR
//!              --qer--> QER
//! ```
//!
//! Invariant: a value of these types is well-formed by itself; whether rules refer to each other
//! soundly is [`SessionModel`]'s business, which is changed by whole modifications only.

mod forwarding;
mod ids;
mod packet;
mod quality;
mod session;
mod usage_rule;

pub use forwarding::{
    ApplyAction, Bar, BarChanges, Buffering, Far, FarChanges, Forwarding, OuterHeaderCreation,
    Redirect,
};
pub use ids::{
    BarId, FSeid, FTeid, FarId, NodeId, PdrId, Precedence, QerId, Qfi, Seid, Time, UrrId,
};
pub use packet::{
    ApplicationId, Interface, LocalFTeid, NetworkInstance, OuterHeaderRemoval, Pdi, Pdr,
    PdrChanges, SdfFilter, SdfRule, UeAddress, UeRole,
};
pub use quality::{BitRate, Gate, Qer, QerChanges};
pub use session::{Resolution, SessionChange, SessionModel};
pub use usage_rule::{
    MeasurementInformation, MeasurementMethod, Split, SplitSide, Trigger, Triggers, Urr,
    UrrChanges, UsageReport, Volume, VolumeKind, VolumeLimit,
};
