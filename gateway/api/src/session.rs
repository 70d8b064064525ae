//! Sessions: opening, what they used, and a reason for every byte that was not sponsored.

use qlink_types::ids::{BaseStationId, ContentId, PackageId, SessionId, Teid, ViewerKey};
use qlink_types::receipt::{ByteClasses, SignedReceipt};
use qlink_types::session::{SessionOpen, SignedAcceptance};
use qlink_types::signature::Signature;
use qlink_types::units::{Bytes, PackageEpoch};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Opens a session; signed by the BaseStation, with the viewer's acceptance when sponsored.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OpenSessionRequest {
    /// The request.
    #[schema(value_type = Object)]
    pub open: SessionOpen,
    /// By the BaseStation's registered key.
    #[schema(value_type = String)]
    pub signature: Signature,
    /// The viewer's acceptance of the sponsoring package.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub acceptance: Option<SignedAcceptance>,
    /// The owner's acceptance of the personal package that pays `user_charged` bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub personal: Option<SignedAcceptance>,
    /// Outer address of the BaseStation, `ip:port`.
    pub peer: String,
}

/// An open session's tunnel.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct OpenedSession {
    /// Its id.
    #[schema(value_type = String)]
    pub session: SessionId,
    /// The gateway's outer address for uplink packets, `ip:port`.
    pub n3: String,
    /// The gateway's tunnel endpoint for uplink packets.
    #[schema(value_type = String)]
    pub teid: Teid,
    /// The subscriber's inner address.
    pub ue_address: String,
    /// Content bytes reserved of the sponsoring package.
    #[schema(value_type = String)]
    pub reserved_bytes: Bytes,
}

/// Where a session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SessionState {
    /// Packets flow.
    Open,
    /// Closed; its counters are final.
    Closed,
}

/// Why a session is closed. A closed list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SessionEnd {
    /// Its BaseStation closed it.
    Basestation,
    /// The gateway's operator denied its BaseStation.
    BasestationDenied,
}

/// A line of the reason table: how many bytes, and why nobody or somebody else paid for them.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ReasonRow {
    /// A byte class or drop reason from the closed lists.
    pub reason: String,
    /// How many bytes.
    #[schema(value_type = String)]
    pub bytes: Bytes,
    /// Who pays: `package`, `nobody`, `personal`, `operator`, `undecided`.
    pub payer: String,
    /// In plain words.
    pub explanation: String,
}

/// Bytes of one content in a session.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct SessionContent {
    /// Which content.
    #[schema(value_type = String)]
    pub content: ContentId,
    /// Payload of its flows by class.
    #[schema(value_type = Object)]
    pub classes: ByteClasses,
}

/// A session.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct SessionView {
    /// Its id.
    #[schema(value_type = String)]
    pub session: SessionId,
    /// Whether it is open.
    pub state: SessionState,
    /// Why it is closed; absent while it is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_by: Option<SessionEnd>,
    /// Who forwards.
    #[schema(value_type = String)]
    pub basestation: BaseStationId,
    /// The subscriber's inner address.
    pub ue_address: String,
    /// The gateway's outer address, `ip`.
    pub peer: String,
    /// The gateway's tunnel endpoint.
    #[schema(value_type = String)]
    pub teid: Teid,
    /// The sponsoring package.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub package: Option<PackageId>,
    /// Its terms.
    #[schema(value_type = String)]
    pub package_epoch: PackageEpoch,
    /// Who is paid.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub viewer: Option<ViewerKey>,
    /// Inner IP bytes from the subscriber.
    #[schema(value_type = String)]
    pub uplink_network_bytes: Bytes,
    /// Inner IP bytes to the subscriber.
    #[schema(value_type = String)]
    pub downlink_network_bytes: Bytes,
    /// All payload by class.
    #[schema(value_type = Object)]
    pub classes: ByteClasses,
    /// Bytes that the session's payer pays for.
    #[schema(value_type = String)]
    pub charged_bytes: Bytes,
    /// By content.
    pub contents: Vec<SessionContent>,
    /// A reason for every byte.
    pub reasons: Vec<ReasonRow>,
    /// Receipts by the gateway, the viewer and the BaseStation.
    #[schema(value_type = Vec<Object>)]
    pub receipts: Vec<SignedReceipt>,
}

/// Closes a session; signed by the BaseStation over the session id, or with final receipts.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CloseSessionRequest {
    /// The BaseStation's final network-byte receipt; its signature authorises the close.
    #[schema(value_type = Object)]
    pub basestation_receipt: SignedReceipt,
    /// The viewer's final content-byte receipt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub viewer_receipt: Option<SignedReceipt>,
}

/// One line of a package's consumption.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ConsumptionRow {
    /// Which package.
    #[schema(value_type = String)]
    pub package: PackageId,
    /// Who.
    #[schema(value_type = String)]
    pub viewer: ViewerKey,
    /// Bytes under all terms.
    #[schema(value_type = String)]
    pub bytes: Bytes,
    /// Reward earned.
    pub earned: crate::money::Money,
    /// Reward claimed.
    pub claimed: crate::money::Money,
}
