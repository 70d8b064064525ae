//! Requests, answers and their frames.

use std::net::SocketAddr;

use qlink_types::codec::{Decode, DecodeError, Encode, List, Reader, Text};
use qlink_types::ids::{ContentId, Hash32, PackageId, SessionId, Teid};
use qlink_types::units::{Bytes, Incarnation};
use qlink_types::{enum_codec, struct_codec};

use crate::address::{decode_endpoint, encode_endpoint};
use crate::cause::Refusal;
use crate::charges::SessionCharges;
use crate::rules::{MAX_CONTENTS, MAX_PATH_BYTES, SessionChanges, SessionRules};
use crate::trace::{TraceOrder, TraceReport};
use crate::tunnel::{TunnelEnd, TunnelFigures, TunnelMember};
use crate::usage::SessionUsage;

/// Version of every message here.
pub const VERSION: u16 = 1;

/// Longest message in bytes.
pub const MAX_MESSAGE_BYTES: usize = 64 * 1024;

/// Most sessions in one answer to [`Request::List`] (chosen: 16 of the largest stay below
/// [`MAX_MESSAGE_BYTES`]).
pub const MAX_SESSIONS_PER_PAGE: usize = 16;

/// A content and the file that holds its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentBinding {
    /// Its BLAKE3 root.
    pub content: ContentId,
    /// Its length.
    pub size: Bytes,
    /// The file, as the data plane sees it.
    pub path: Text<MAX_PATH_BYTES>,
}

struct_codec!(ContentBinding {
    content,
    size,
    path
});

/// What a package consists of, for sessions that name it over PFCP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageBinding {
    /// Which.
    pub package: PackageId,
    /// Its contents, each bound before; at least one.
    pub contents: PackageContents,
}

struct_codec!(PackageBinding { package, contents });

/// The contents of a package.
pub type PackageContents = List<ContentId, MAX_CONTENTS>;

/// Packages by id.
pub type Packages = std::collections::BTreeMap<PackageId, PackageContents>;

/// Who the data plane is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataPlaneInfo {
    /// Start of its counters.
    pub incarnation: Incarnation,
    /// Its GTP-U endpoint towards BaseStations.
    pub n3: SocketAddr,
    /// Its endpoint towards origins.
    pub n6: SocketAddr,
    /// The arena file in which its counters live.
    pub arena: Text<MAX_PATH_BYTES>,
}

impl Encode for DataPlaneInfo {
    fn encode(&self, out: &mut Vec<u8>) {
        self.incarnation.encode(out);
        encode_endpoint(&self.n3, out);
        encode_endpoint(&self.n6, out);
        self.arena.encode(out);
    }
}

impl Decode for DataPlaneInfo {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            incarnation: Decode::decode(reader)?,
            n3: decode_endpoint(reader)?,
            n6: decode_endpoint(reader)?,
            arena: Decode::decode(reader)?,
        })
    }
}

/// What a gateway asks. Each is answered by exactly one [`Answer`], in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// First message of a connection.
    Hello,
    /// Makes a content provable here.
    BindContent {
        /// Which, and where its bytes are.
        binding: ContentBinding,
    },
    /// Undoes a binding that no session names.
    UnbindContent {
        /// Which.
        content: ContentId,
    },
    /// States what a package consists of, instead of what was stated before.
    BindPackage {
        /// Which, and of what.
        binding: PackageBinding,
    },
    /// Undoes a binding that no session names.
    UnbindPackage {
        /// Which.
        package: PackageId,
    },
    /// Opens a session.
    Establish {
        /// Its rules.
        rules: SessionRules,
    },
    /// Changes a session.
    Modify {
        /// Which.
        session: SessionId,
        /// What changes.
        changes: SessionChanges,
    },
    /// Closes a session and its flows.
    Delete {
        /// Which.
        session: SessionId,
    },
    /// Asks for the sessions that stand, in the order of their ids.
    List {
        /// Starts behind this one.
        after: Option<SessionId>,
    },
    /// Captures packets of a session.
    Trace {
        /// Which, and where to.
        order: TraceOrder,
    },
    /// Asks how far the trace of a session is.
    TraceProgress {
        /// Which.
        session: SessionId,
    },
    /// Asks why a session was charged.
    Charges {
        /// Which.
        session: SessionId,
    },
    /// Lets a BaseStation come through the tunnel.
    AddTunnelMember {
        /// Which.
        member: TunnelMember,
    },
    /// Lets a BaseStation come with a new key: both keys stand, with one address, until the old one
    /// is removed. What is sent to the BaseStation goes by the old key until the new one was heard.
    RenewTunnelMember {
        /// The BaseStation with its new key.
        member: TunnelMember,
        /// Its old key. One that does not stand changes nothing about the new one.
        old: Hash32,
    },
    /// Asks what the tunnel did.
    TunnelFigures,
    /// Ends a BaseStation's tunnel. Its sessions stand and have nobody to send for them.
    RemoveTunnelMember {
        /// Its key.
        key: Hash32,
    },
}

enum_codec!(Request, "request kind", {
    Hello = 1,
    BindContent { binding } = 2,
    UnbindContent { content } = 3,
    Establish { rules } = 4,
    Modify { session, changes } = 5,
    Delete { session } = 6,
    List { after } = 7,
    BindPackage { binding } = 8,
    UnbindPackage { package } = 9,
    Trace { order } = 20,
    TraceProgress { session } = 21,
    Charges { session } = 22,
    AddTunnelMember { member } = 30,
    RemoveTunnelMember { key } = 31,
    RenewTunnelMember { member, old } = 32,
    TunnelFigures = 33,
});

/// What the data plane answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// To [`Request::Hello`].
    Hello {
        /// Who answers.
        info: DataPlaneInfo,
    },
    /// To [`Request::BindContent`]: the file's bytes are the content.
    Bound {
        /// Which.
        content: ContentId,
    },
    /// To [`Request::UnbindContent`].
    Unbound {
        /// Which.
        content: ContentId,
    },
    /// To [`Request::BindPackage`].
    PackageBound {
        /// Which.
        package: PackageId,
    },
    /// To [`Request::UnbindPackage`].
    PackageUnbound {
        /// Which.
        package: PackageId,
    },
    /// To [`Request::Establish`]: packets of the session are forwarded from now on.
    Established {
        /// Which.
        session: SessionId,
        /// Our uplink tunnel endpoint.
        teid: Teid,
        /// Where uplink packets must be sent.
        n3: TunnelAddress,
    },
    /// To [`Request::Modify`].
    Modified {
        /// Which.
        session: SessionId,
    },
    /// To [`Request::Delete`]: no packet of the session is forwarded any more.
    Deleted {
        /// Which.
        session: SessionId,
        /// Its final counters.
        usage: SessionUsage,
    },
    /// To [`Request::List`].
    Sessions {
        /// The next sessions.
        sessions: List<SessionRules, MAX_SESSIONS_PER_PAGE>,
        /// Whether further ones follow.
        more: bool,
    },
    /// Nothing happened.
    Refused {
        /// Why.
        refusal: Refusal,
    },
    /// To [`Request::Trace`] and [`Request::TraceProgress`].
    Traced {
        /// How far it is.
        report: TraceReport,
    },
    /// To [`Request::Charges`].
    Charges {
        /// Why.
        charges: SessionCharges,
    },
    /// To [`Request::AddTunnelMember`] and [`Request::RenewTunnelMember`]: it may call.
    TunnelMemberAdded {
        /// Where.
        end: TunnelEnd,
    },
    /// To [`Request::RemoveTunnelMember`].
    TunnelMemberRemoved {
        /// Its key.
        key: Hash32,
    },
    /// To [`Request::TunnelFigures`], as of the last second.
    TunnelFigures {
        /// What it did.
        figures: TunnelFigures,
    },
}

enum_codec!(Answer, "answer kind", {
    Hello { info } = 1,
    Bound { content } = 2,
    Unbound { content } = 3,
    Established { session, teid, n3 } = 4,
    Modified { session } = 5,
    Deleted { session, usage } = 6,
    Sessions { sessions, more } = 7,
    Refused { refusal } = 8,
    PackageBound { package } = 9,
    PackageUnbound { package } = 10,
    Traced { report } = 20,
    Charges { charges } = 21,
    TunnelMemberAdded { end } = 30,
    TunnelMemberRemoved { key } = 31,
    TunnelFigures { figures } = 32,
});

/// The outer address of a tunnel endpoint (the address part of an F-TEID).
///
/// Source: TS 29.244 §8.2.3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TunnelAddress(pub SocketAddr);

impl Encode for TunnelAddress {
    fn encode(&self, out: &mut Vec<u8>) {
        encode_endpoint(&self.0, out);
    }
}

impl Decode for TunnelAddress {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        decode_endpoint(reader).map(Self)
    }
}

/// Why bytes are not a message, or a message not sendable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// The message is of another version.
    #[error("message version {found} is not {VERSION}")]
    Version {
        /// The version that was found.
        found: u16,
    },
    /// The message is longer than [`MAX_MESSAGE_BYTES`].
    #[error("message of {length} bytes exceeds {MAX_MESSAGE_BYTES}")]
    TooLong {
        /// Its length.
        length: usize,
    },
    /// The bytes are not a message.
    #[error("malformed message")]
    Malformed(#[from] DecodeError),
}

/// The bytes of a request; `sequence` comes back with the answer.
///
/// # Errors
///
/// [`MessageError::TooLong`]: not possible with the limits of today's fields.
pub fn encode_request(sequence: u32, request: &Request) -> Result<Vec<u8>, MessageError> {
    encode(sequence, request)
}

/// Sequence number and request of a message.
///
/// # Errors
///
/// Any [`MessageError`].
pub fn decode_request(message: &[u8]) -> Result<(u32, Request), MessageError> {
    decode(message)
}

/// The bytes of the answer to the request numbered `sequence`.
///
/// # Errors
///
/// [`MessageError::TooLong`]: not possible with the limits of today's fields.
pub fn encode_answer(sequence: u32, answer: &Answer) -> Result<Vec<u8>, MessageError> {
    encode(sequence, answer)
}

/// Sequence number and answer of a message.
///
/// # Errors
///
/// Any [`MessageError`].
pub fn decode_answer(message: &[u8]) -> Result<(u32, Answer), MessageError> {
    decode(message)
}

fn encode<T: Encode>(sequence: u32, body: &T) -> Result<Vec<u8>, MessageError> {
    let mut out = VERSION.to_bytes();
    sequence.encode(&mut out);
    body.encode(&mut out);
    if out.len() > MAX_MESSAGE_BYTES {
        return Err(MessageError::TooLong { length: out.len() });
    }
    Ok(out)
}

fn decode<T: Decode>(message: &[u8]) -> Result<(u32, T), MessageError> {
    if message.len() > MAX_MESSAGE_BYTES {
        return Err(MessageError::TooLong {
            length: message.len(),
        });
    }
    let mut reader = Reader::new(message);
    let found = u16::decode(&mut reader)?;
    if found != VERSION {
        return Err(MessageError::Version { found });
    }
    let sequence = u32::decode(&mut reader)?;
    let body = T::decode(&mut reader)?;
    reader.finish()?;
    Ok((sequence, body))
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
