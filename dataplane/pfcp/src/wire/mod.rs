//! PFCP on the wire, version 1: messages to and from bytes.
//!
//! Stub docs.

mod defect;
mod features;
mod flow;
mod header;
mod ie;
mod message;
mod node;
mod numbers;
mod pfd;
mod rules;
mod session;
mod values;

pub use defect::{Defect, EncodeError};
pub use features::{CpFeatures, UpFeatures};
pub use flow::{format_flow, parse_flow};
pub use header::{
    Datagram, Header, HeaderError, MAX_BUNDLE, MAX_MESSAGE_BYTES, RawMessage, Sequence, VERSION,
};
pub use message::{Codec, DecodeError, ENTERPRISE_ID, Message, MessageType};
pub use node::{
    AssociationReleaseRequest, AssociationReleaseResponse, AssociationSetupRequest,
    AssociationSetupResponse, AssociationUpdateRequest, AssociationUpdateResponse, CsidNode,
    FqCsid, HeartbeatRequest, HeartbeatResponse, NodeReportRequest, NodeReportResponse,
    PfdManagementRequest, PfdManagementResponse, ReleaseRequest, RemotePeer,
    SessionSetDeletionRequest, SessionSetDeletionResponse, Timer, UserPlaneResource,
    VersionNotSupportedResponse,
};
pub use numbers::{CauseCode, IeType};
pub use pfd::{ApplicationPfds, CONTENT_LINE, CustomPfd, Pfd, PfdFlow};
pub use rules::ModificationFlags;
pub use session::{
    BarOrder, DownlinkDataReport, FurtherReports, PdnType, ReportResponseFlags, ServiceInformation,
    SessionDeletionRequest, SessionDeletionResponse, SessionEstablishmentRequest,
    SessionEstablishmentResponse, SessionModificationRequest, SessionModificationResponse,
    SessionReportRequest, SessionReportResponse, SuggestedPackets,
};

/// Most rules of one kind in one message, and most repetitions of any other IE.
pub const MAX_RULES: usize = 256;

/// Most filters, usage rules or quality rules of one detection rule, and links of one usage rule.
pub const MAX_REFERENCES: usize = 32;

/// Most monitoring times of one usage rule behind the first.
pub const MAX_SPLITS: usize = 15;

/// Most QFIs of one detection rule: there are no more.
pub const MAX_QFIS: usize = 64;
