//! PFCP on the wire, version 1: messages to and from bytes.
//!
//! [`Codec`] reads a datagram into [`Header`]s and [`Message`]s, whose rules are the types of
//! [`crate::model`], and writes them. It deliberately keeps no state: which message may come when,
//! which answer belongs to which request and whether rules refer to each other soundly is the
//! business of those who use it.
//!
//! ```text
//! datagram   message+                               several only with FO: see `header`
//! message    header | IE*                           the IEs in any order
//! IE         u16 type | u16 length | [u16 enterprise] | value          a value may be IEs again
//! ```
//!
//! Invariants: reading never panics, and takes time and memory in proportion to the datagram; what
//! is read can be written and is read back the same; what is written has one form (the order of the
//! tables in `rules`, `node` and `session`). A body that is not taken is a [`Defect`]: the cause
//! and the offending IE of the answer, which [`Message::refusal`] makes.
//!
//! # Malformed and unexpected IEs
//!
//! | What comes | What happens |
//! |---|---|
//! | an IE that its group does not know, or another vendor's | skipped |
//! | an IE that may stand once, again | the first is taken |
//! | more of one type than [`MAX_RULES`] and its sisters | cause 75 |
//! | a mandatory IE is not there | cause 66 |
//! | a conditional IE is not there although its condition holds | cause 67 |
//! | a value shorter than its content, an IE longer than its group | cause 68 |
//! | a value longer than its content | the rest is of a later version: not looked at |
//! | a value that cannot be, also in an optional IE | cause 69: a limit that is left out would cost |
//! | a feature that is not announced and would change what the others mean | cause 76 |
//!
//! Source: TS 29.244 §7.6.
//!
//! # Messages
//!
//! Every message is read and written.
//!
//! | Message | Type | Module | Read and not kept |
//! |---|---|---|---|
//! | Heartbeat | 1, 2 | `node` | Source IP Address |
//! | PFD Management | 3, 4 | `node`, `pfd` | Node ID |
//! | Association Setup | 5, 6 | `node` | retention of sessions, entity and alternative addresses, flags |
//! | Association Update | 7, 8 | `node` | PFCPAUReq-Flags, entity and alternative addresses |
//! | Association Release | 9, 10 | `node` | |
//! | Version Not Supported | 11 | `node` | |
//! | Node Report | 12, 13 | `node` | clock drift, path quality, peer restart |
//! | Session Set Deletion | 14, 15 | `sets` | |
//! | Session Set Modification | 16, 17 | `sets` | |
//! | Session Establishment | 50, 51 | `session` | User ID, S-NSSAI, APN/DNN, Trace, RAT type |
//! | Session Modification | 52, 53 | `session` | Trace, time-sensitive networking |
//! | Session Deletion | 54, 55 | `session` | Node ID, F-SEID, Load and Overload Control, packet rate status |
//! | Session Report | 56, 57 | `session` | Load and Overload Control, set and path reports |
//!
//! # Information elements
//!
//! | IE | Module | Remarks |
//! |---|---|---|
//! | Create, Update and Remove PDR; PDI | `rules` | a PDR without Precedence (Sxa) is looked at last |
//! | F-TEID with CH, CHID; F-SEID; Node ID; SMF Set ID; UE IP Address | `values` | IPv6D becomes a prefix length |
//! | SDF Filter, PFD flow descriptions | `flow` | `permit` only; no `!`, no options |
//! | Create, Update and Remove FAR; Forwarding Parameters | `rules` | two redirect addresses: cause 76 |
//! | Apply Action | `values` | octet 6 and on: BDPN and DDPN are not kept |
//! | Create, Update and Remove QER, BAR | `rules` | RQI, paging policy, averaging window not kept |
//! | Create, Update and Remove URR; Additional Monitoring Time | `rules` | subsequent event limits, number of reports, time quota mechanism, Ethernet inactivity not kept |
//! | Reporting Triggers, Usage Report Trigger | `values` | triggers that we have no cause for not kept |
//! | Usage Report (78, 79, 80) | `rules` | application detection, query reference, UE address, Ethernet traffic not kept |
//! | Query URR, PFCPSMReq-Flags, PFCPSRRsp-Flags | `session` | |
//! | Downlink Data Report, Error Indication Report | `session` | data status, packet size not kept |
//! | UP and CP Function Features | `features` | 8 octets |
//! | User Plane IP Resource Information, Remote GTP-U Peer | `node` | |
//! | FQ-CSID, Group ID, Session Change Info, CP and Alternative SMF IP Address | `sets` | |
//! | Application ID's PFDs, PFD contents | `pfd` | several contexts become one |
//! | Failed Rule ID, Offending IE, Created PDR | `session` | MAR and SRR: cause 76 |
//! | Create, Update, Remove and Created Traffic Endpoint | `rules`, `session` | one for each PDI; the Linked Traffic Endpoint of a FAR is not kept |
//! | Ethernet filters, IP multicast, MAR, SRR | none | cause 76 |
//! | predefined rules, (de)activation times, Forwarding Policy, Header Enrichment, Packet Rate, Aggregated URRs | none | cause 76 |
//! | an IE of length 0 that takes a parameter away | none | cause 68 |
//!
//! Ours, with the enterprise number of the [`Codec`]:
//!
//! | IE | Type | Stands in | Value |
//! |---|---|---|---|
//! | Content Root | 0x8001 | PDI, repeats | 32 octets: the BLAKE3 root of a content |
//! | Volume Kind | 0x8002 | Create and Update URR | 0 network, 1 proven, 2 charged |
//! | Package | 0x8003 | PDI, repeats | 16 octets: the id of a package, which stands for its contents |
//!
//! A detection rule that names contents or packages, both if it likes, needs no FAR: its usage rules
//! of kind proven or charged measure them in packets that the other rules forward. A package has
//! the contents that the gateway bound to it; when they change, sessions that name it follow. One
//! that is not bound here, or is of any content, refuses the rule: cause 64 and its Failed Rule ID.

mod defect;
mod features;
mod flow;
mod header;
mod ie;
mod message;
mod node;
mod numbers;
mod ours;
mod pfd;
mod redirect;
mod rules;
mod session;
mod sets;
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
    AssociationSetupResponse, AssociationUpdateRequest, AssociationUpdateResponse,
    HeartbeatRequest, HeartbeatResponse, NodeReportRequest, NodeReportResponse,
    PfdManagementRequest, PfdManagementResponse, ReleaseRequest, RemotePeer, Timer,
    UserPlaneResource, VersionNotSupportedResponse,
};
pub use numbers::{CauseCode, IeType};
pub use pfd::{
    ApplicationPfds, CONTENT_LINE, CustomPfd, NamedContents, PACKAGE_LINE, Pfd, PfdFlow,
};
pub use rules::ModificationFlags;
pub use session::{
    BarOrder, DownlinkDataReport, FurtherReports, PdnType, ReportFlags, ReportResponseFlags,
    ServiceInformation, SessionDeletionRequest, SessionDeletionResponse,
    SessionEstablishmentRequest, SessionEstablishmentResponse, SessionModificationRequest,
    SessionModificationResponse, SessionReportRequest, SessionReportResponse, SuggestedPackets,
};
pub use sets::{
    AlternativeSmf, CpAddress, CsidNode, FqCsid, GroupId, SessionChangeInfo,
    SessionSetDeletionRequest, SessionSetDeletionResponse, SessionSetModificationRequest,
    SessionSetModificationResponse, SessionSets,
};

/// Most rules of one kind in one message, and most repetitions of any other IE.
pub const MAX_RULES: usize = 256;

/// Most filters, usage rules or quality rules of one detection rule, and links of one usage rule.
pub const MAX_REFERENCES: usize = 32;

/// Most monitoring times of one usage rule behind the first.
pub const MAX_SPLITS: usize = 15;

/// Most QFIs of one detection rule: there are no more.
pub const MAX_QFIS: usize = 64;
