//! The tunnel: a BaseStation states its tunnel key, the gateway answers with its own end.

use qlink_types::signature::Signature;
use qlink_types::tunnel::{TunnelGrant, TunnelKey};
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
