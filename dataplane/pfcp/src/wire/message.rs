//! The messages by type, to and from bytes.

use super::defect::{Defect, EncodeError, Fault};
use super::header::{Datagram, Follow, Header, HeaderError, RawMessage, frame};
use super::ie::{Group, Octets, Part, Writer};
use super::node::{
    AssociationReleaseRequest, AssociationReleaseResponse, AssociationSetupRequest,
    AssociationSetupResponse, AssociationUpdateRequest, AssociationUpdateResponse,
    HeartbeatRequest, HeartbeatResponse, NodeReportRequest, NodeReportResponse,
    PfdManagementRequest, PfdManagementResponse, VersionNotSupportedResponse,
};
use super::numbers::IeType;
use super::session::{
    SessionDeletionRequest, SessionDeletionResponse, SessionEstablishmentRequest,
    SessionEstablishmentResponse, SessionModificationRequest, SessionModificationResponse,
    SessionReportRequest, SessionReportResponse,
};
use super::sets::{
    SessionSetDeletionRequest, SessionSetDeletionResponse, SessionSetModificationRequest,
    SessionSetModificationResponse,
};
use crate::model::{NodeId, Time};

/// Our number in vendor-specific IEs unless a [`Codec`] is given another: the one that is reserved
/// for examples, because an operator who writes the same elements has a number of their own.
///
/// Source: RFC 5612 §2.
pub const ENTERPRISE_ID: u16 = 32473;

/// The type of a message. Source: TS 29.244 §7.3, table 7.3-1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct MessageType(u8);

impl MessageType {
    /// From its number; every number is possible on the wire.
    #[must_use]
    pub const fn new(number: u8) -> Self {
        Self(number)
    }

    /// Its number.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }

    /// Whether it belongs to a session, whose number its header holds.
    #[must_use]
    pub const fn is_session(self) -> bool {
        matches!(self.0, 50..=99)
    }
}

macro_rules! messages {
    ($($name:ident = $number:literal, $constant:ident;)*) => {
        #[expect(missing_docs, reason = "the names of the standard")]
        impl MessageType {
            $(pub const $constant: Self = Self($number);)*

            /// Those that [`Message`] holds, in the order of their numbers.
            pub const KNOWN: &[Self] = &[$(Self::$constant),*];

            /// Its name in capitals; `None` for a type that [`Message`] does not hold.
            #[must_use]
            pub const fn name(self) -> Option<&'static str> {
                match self {
                    $(Self::$constant => Some(stringify!($constant)),)*
                    _ => None,
                }
            }
        }

        /// A message without its header.
        #[derive(Debug, Clone, PartialEq, Eq)]
        #[expect(missing_docs, reason = "the types' own documentation")]
        pub enum Message {
            $($name($name),)*
        }

        impl Message {
            /// Its type.
            #[must_use]
            pub const fn kind(&self) -> MessageType {
                match self {
                    $(Self::$name(_) => MessageType::$constant,)*
                }
            }

            fn put(&self, out: &mut Writer) {
                match self {
                    $(Self::$name(message) => message.put(out),)*
                }
            }

            fn take(kind: MessageType, group: &Group<'_>) -> Result<Self, DecodeFault> {
                match kind {
                    $(MessageType::$constant => {
                        $name::take(group).map(Self::$name).map_err(DecodeFault::Body)
                    })*
                    _ => Err(DecodeFault::UnknownType),
                }
            }
        }

        $(impl From<$name> for Message {
            fn from(message: $name) -> Self {
                Self::$name(message)
            }
        })*
    };
}

enum DecodeFault {
    UnknownType,
    Body(Fault),
}

messages! {
    HeartbeatRequest = 1, HEARTBEAT_REQUEST;
    HeartbeatResponse = 2, HEARTBEAT_RESPONSE;
    PfdManagementRequest = 3, PFD_MANAGEMENT_REQUEST;
    PfdManagementResponse = 4, PFD_MANAGEMENT_RESPONSE;
    AssociationSetupRequest = 5, ASSOCIATION_SETUP_REQUEST;
    AssociationSetupResponse = 6, ASSOCIATION_SETUP_RESPONSE;
    AssociationUpdateRequest = 7, ASSOCIATION_UPDATE_REQUEST;
    AssociationUpdateResponse = 8, ASSOCIATION_UPDATE_RESPONSE;
    AssociationReleaseRequest = 9, ASSOCIATION_RELEASE_REQUEST;
    AssociationReleaseResponse = 10, ASSOCIATION_RELEASE_RESPONSE;
    VersionNotSupportedResponse = 11, VERSION_NOT_SUPPORTED_RESPONSE;
    NodeReportRequest = 12, NODE_REPORT_REQUEST;
    NodeReportResponse = 13, NODE_REPORT_RESPONSE;
    SessionSetDeletionRequest = 14, SESSION_SET_DELETION_REQUEST;
    SessionSetDeletionResponse = 15, SESSION_SET_DELETION_RESPONSE;
    SessionSetModificationRequest = 16, SESSION_SET_MODIFICATION_REQUEST;
    SessionSetModificationResponse = 17, SESSION_SET_MODIFICATION_RESPONSE;
    SessionEstablishmentRequest = 50, SESSION_ESTABLISHMENT_REQUEST;
    SessionEstablishmentResponse = 51, SESSION_ESTABLISHMENT_RESPONSE;
    SessionModificationRequest = 52, SESSION_MODIFICATION_REQUEST;
    SessionModificationResponse = 53, SESSION_MODIFICATION_RESPONSE;
    SessionDeletionRequest = 54, SESSION_DELETION_REQUEST;
    SessionDeletionResponse = 55, SESSION_DELETION_RESPONSE;
    SessionReportRequest = 56, SESSION_REPORT_REQUEST;
    SessionReportResponse = 57, SESSION_REPORT_RESPONSE;
}

/// Why a datagram or one of its messages is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The datagram is no message: see [`HeaderError`] for what is answered.
    #[error("not a PFCP message")]
    Header(#[from] HeaderError),
    /// The type is none of ours; dropped without an answer. Source: TS 29.244 §7.6.3.
    #[error("message type {} is not known", kind.get())]
    UnknownType {
        /// The type.
        kind: MessageType,
    },
    /// The body is refused: a request is answered with the defect's cause
    /// ([`Message::refusal`]), an answer is as good as lost.
    #[error("the body of message type {} is refused", kind.get())]
    Body {
        /// The message's header, which the answer repeats.
        header: Header,
        /// The message's type.
        kind: MessageType,
        /// What is wrong.
        #[source]
        defect: Defect,
    },
}

/// Makes messages from bytes and bytes from messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Codec {
    enterprise: u16,
}

impl Default for Codec {
    fn default() -> Self {
        Self::new(ENTERPRISE_ID)
    }
}

impl Codec {
    /// A codec whose vendor-specific IEs bear `enterprise`, a private enterprise number of IANA.
    #[must_use]
    pub const fn new(enterprise: u16) -> Self {
        Self { enterprise }
    }

    /// The messages of a datagram, in order; ends behind the first header that is none.
    pub fn decode_datagram<'a>(
        &self,
        datagram: &'a [u8],
    ) -> impl Iterator<Item = Result<(Header, Message), DecodeError>> + 'a {
        let codec = *self;
        Datagram::new(datagram).map(move |raw| codec.decode_raw(&raw?))
    }

    /// The one message of a datagram.
    ///
    /// # Errors
    ///
    /// Any [`DecodeError`]; [`HeaderError::Trailing`] when another message follows.
    pub fn decode(&self, datagram: &[u8]) -> Result<(Header, Message), DecodeError> {
        let mut messages = Datagram::new(datagram);
        let raw = messages.next().ok_or(HeaderError::TooShort)??;
        let octets = messages.octets_left();
        if octets > 0 {
            return Err(HeaderError::Trailing { octets }.into());
        }
        self.decode_raw(&raw)
    }

    /// A message whose header is read.
    ///
    /// # Errors
    ///
    /// [`DecodeError::UnknownType`] or [`DecodeError::Body`].
    pub fn decode_raw(&self, raw: &RawMessage<'_>) -> Result<(Header, Message), DecodeError> {
        let &RawMessage { header, kind, body } = raw;
        let mut octets = Octets::new(body, self.enterprise);
        let message = if MessageType::KNOWN.contains(&kind) {
            Group::parse(&mut octets)
                .map_err(DecodeFault::Body)
                .and_then(|group| Message::take(kind, &group))
        } else {
            Err(DecodeFault::UnknownType)
        };
        match message {
            Ok(message) => Ok((header, message)),
            Err(DecodeFault::UnknownType) => Err(DecodeError::UnknownType { kind }),
            Err(DecodeFault::Body(fault)) => Err(DecodeError::Body {
                header,
                kind,
                defect: fault.at(IeType::RESERVED),
            }),
        }
    }

    /// The bytes of one message.
    ///
    /// # Errors
    ///
    /// [`EncodeError`] when a value is outside of what its IE can state, when the header does not
    /// fit the message, or when the message is too long.
    pub fn encode(&self, header: &Header, message: &Message) -> Result<Vec<u8>, EncodeError> {
        self.encode_datagram(&[(*header, message)])
    }

    /// The bytes of a datagram with all `messages` (FO); several only to a peer with BUNDL.
    ///
    /// # Errors
    ///
    /// As [`Self::encode`].
    pub fn encode_datagram(&self, messages: &[(Header, &Message)]) -> Result<Vec<u8>, EncodeError> {
        let mut datagram = Vec::new();
        let last = messages.len().saturating_sub(1);
        for (index, (header, message)) in messages.iter().enumerate() {
            let mut out = Writer::new(self.enterprise);
            message.put(&mut out);
            let follow = match index < last {
                true => Follow::More,
                false => Follow::Last,
            };
            let body = out.finish()?;
            frame(header, message.kind(), &body, follow, &mut datagram)?;
        }
        Ok(datagram)
    }
}

impl Message {
    /// The answer that refuses a request of type `kind`: by `node`, which started at `recovery`.
    /// `None` for types that are answered otherwise (heartbeats) or never (answers).
    #[must_use]
    pub fn refusal(
        kind: MessageType,
        node: &NodeId,
        recovery: Time,
        defect: Defect,
    ) -> Option<Self> {
        let node = node.clone();
        let cause = defect.cause;
        let offending = (defect.offending != IeType::RESERVED).then_some(defect.offending);
        Some(match kind {
            MessageType::PFD_MANAGEMENT_REQUEST => {
                PfdManagementResponse { cause, offending }.into()
            }
            MessageType::ASSOCIATION_SETUP_REQUEST => AssociationSetupResponse {
                set: None,
                node,
                cause,
                recovery,
                up_features: None,
                cp_features: None,
                resources: Vec::new(),
            }
            .into(),
            MessageType::ASSOCIATION_UPDATE_REQUEST => AssociationUpdateResponse {
                node,
                cause,
                up_features: None,
                cp_features: None,
            }
            .into(),
            MessageType::ASSOCIATION_RELEASE_REQUEST => {
                AssociationReleaseResponse { node, cause }.into()
            }
            MessageType::NODE_REPORT_REQUEST => NodeReportResponse {
                node,
                cause,
                offending,
            }
            .into(),
            MessageType::SESSION_SET_DELETION_REQUEST => SessionSetDeletionResponse {
                node,
                cause,
                offending,
            }
            .into(),
            MessageType::SESSION_SET_MODIFICATION_REQUEST => SessionSetModificationResponse {
                node,
                cause,
                offending,
            }
            .into(),
            MessageType::SESSION_ESTABLISHMENT_REQUEST => SessionEstablishmentResponse {
                node,
                cause,
                offending,
                up: None,
                created: Vec::new(),
                created_endpoints: Vec::new(),
                failed: None,
            }
            .into(),
            _ => return Self::session_refusal(kind, defect.cause, offending),
        })
    }

    fn session_refusal(
        kind: MessageType,
        cause: super::CauseCode,
        offending: Option<IeType>,
    ) -> Option<Self> {
        Some(match kind {
            MessageType::SESSION_MODIFICATION_REQUEST => SessionModificationResponse {
                cause,
                offending,
                created: Vec::new(),
                created_endpoints: Vec::new(),
                reports: Vec::new(),
                failed: None,
                further_reports: None,
            }
            .into(),
            MessageType::SESSION_DELETION_REQUEST => SessionDeletionResponse {
                cause,
                offending,
                reports: Vec::new(),
                further_reports: None,
            }
            .into(),
            MessageType::SESSION_REPORT_REQUEST => SessionReportResponse {
                cause,
                offending,
                bars: Vec::new(),
                flags: super::ReportResponseFlags::default(),
                cp: None,
            }
            .into(),
            _ => return None,
        })
    }
}
