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

mod change;
mod endpoint;
mod forwarding;
mod ids;
mod limits;
mod networks;
mod packet;
mod quality;
mod rejection;
mod session;
mod soundness;
mod traffic_endpoint;
mod usage_rule;

pub use endpoint::{Claim, Endpoint, Endpoints, Environment, Families};
pub use forwarding::{
    ApplyAction, Bar, BarChanges, Buffering, Destination, Duplication, DuplicationChanges, Far,
    FarChanges, Forwarding, OuterHeaderCreation, Redirect,
};
pub use ids::{
    BarId, FSeid, FTeid, FarId, NodeId, PdrId, Precedence, QerId, Qfi, Seid, SmfSetId, Time,
    TrafficEndpointId, UrrId,
};
pub use limits::{
    MAX_BARS, MAX_DUPLICATIONS, MAX_FARS, MAX_FILTERS, MAX_LINKED, MAX_PDRS, MAX_QERS,
    MAX_RULES_OF_PDR, MAX_SPLITS, MAX_URRS, ModelLimits,
};
pub use networks::{Networks, Port};
pub use packet::{
    ApplicationId, Interface, LocalFTeid, NetworkInstance, OuterHeaderRemoval, Pdi, Pdr,
    PdrChanges, SdfFilter, SdfRule, UeAddress, UeRole,
};
pub use quality::{BitRate, Gate, Qer, QerChanges};
pub use rejection::{FailedRule, Rejection};
pub use session::{CreatedPdr, Resolution, SessionChange, SessionModel};
pub use traffic_endpoint::{
    CreatedTrafficEndpoint, MAX_TRAFFIC_ENDPOINTS, TrafficEndpoint, TrafficEndpointChanges,
};
pub use usage_rule::{
    MeasurementInformation, MeasurementMethod, Split, SplitSide, Trigger, Triggers, Urr,
    UrrChanges, UsageReport, Volume, VolumeKind, VolumeLimit,
};
