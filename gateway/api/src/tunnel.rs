//! The tunnel: a BaseStation states its tunnel key, the gateway answers with its own end; its operator
//! says who may not come.

use qlink_types::ids::{BaseStationId, Hash32};
use qlink_types::ruling::{DenyReason, Subject, TunnelRuling};
use qlink_types::signature::Signature;
use qlink_types::tunnel::{TunnelGrant, TunnelKey};
use qlink_types::units::TimeMs;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A BaseStation's tunnel key, signed by its device key.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EnrolTunnelRequest {
    /// The statement.
    #[schema(value_type = Object)]
    pub statement: TunnelKey,
    /// By the BaseStation's registered key.
    #[schema(value_type = String)]
    pub signature: Signature,
}

/// The gateway's end of the tunnel, signed by the gateway's registered key.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct EnrolledTunnel {
    /// What is granted.
    #[schema(value_type = Object)]
    pub grant: TunnelGrant,
    /// By the gateway's registered key.
    #[schema(value_type = String)]
    pub signature: Signature,
}

/// A ruling on who may come through the tunnel, signed by whoever runs the gateway.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RuleTunnelRequest {
    /// The ruling.
    #[schema(value_type = Object)]
    pub ruling: TunnelRuling,
    /// By the gateway's registered key.
    #[schema(value_type = String)]
    pub signature: Signature,
}

/// How far a ruling is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RulingState {
    /// It stands, and the data plane has done its part.
    InEffect,
    /// It stands; the data plane is told until it answers.
    Pending,
}

/// A ruling that stands.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct RulingView {
    /// Whom it is about.
    #[schema(value_type = Object)]
    pub subject: Subject,
    /// Why it may not come; absent: it may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub denied: Option<DenyReason>,
    /// Since when, Unix milliseconds.
    #[schema(value_type = String)]
    pub since: TimeMs,
    /// How far it is.
    pub state: RulingState,
    /// Sessions that ended with this request.
    #[serde(default, with = "qlink_types::text")]
    #[schema(value_type = String)]
    pub sessions_ended: u64,
}

/// An enrolled BaseStation.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TunnelMemberView {
    /// Which.
    #[schema(value_type = String)]
    pub basestation: BaseStationId,
    /// Its tunnel key.
    #[schema(value_type = String)]
    pub key: Hash32,
    /// Its address in the tunnel.
    pub address: String,
    /// When it stated its key last, Unix milliseconds.
    #[schema(value_type = String)]
    pub signed_at: TimeMs,
    /// Why it is kept out; absent: it may come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub denied: Option<DenyReason>,
}
