//! The header of a message, and how a datagram holds several.
//!
//! ```text
//! u8 version (3 bits) . . FO MP S | u8 type | u16 length | [u64 SEID, S] | u24 sequence
//!   | u4 priority, MP | u4 0                          length counts from behind itself
//! ```
//!
//! A message with FO is followed by another in the same datagram.
//!
//! Source: TS 29.244 §7.2.2 and §6.2.9.

use super::defect::EncodeError;
use super::message::MessageType;
use super::numbers::{CauseCode, IeType};
use crate::model::Seid;

/// The one version of PFCP.
pub const VERSION: u8 = 1;

/// Longest datagram in bytes: what UDP over IPv4 carries.
pub const MAX_MESSAGE_BYTES: usize = 65_507;

/// Most messages in one datagram (chosen: one of each kind, twice, fits).
pub const MAX_BUNDLE: usize = 64;

const FOLLOW_ON: u8 = 0x04;
const WITH_PRIORITY: u8 = 0x02;
const WITH_SEID: u8 = 0x01;

/// The number of a request, which its answer repeats; 24 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct Sequence(u32);

impl Sequence {
    /// The low 24 bits of `number`.
    #[must_use]
    pub const fn new(number: u32) -> Self {
        Self(number & 0x00ff_ffff)
    }

    /// Its number, below 2^24.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The following one; 0 follows the last.
    #[must_use]
    pub const fn next(self) -> Self {
        Self::new(self.0.wrapping_add(1))
    }
}

/// The header of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Header {
    /// The receiver's session; session messages have it, node messages do not. 0 where the sender
    /// does not know it.
    pub seid: Option<Seid>,
    /// Number of the request.
    pub sequence: Sequence,
    /// Priority of a session message, 0 (highest) to 15. Source: TS 29.244 §7.2.2.3.
    pub priority: Option<u8>,
}

impl Header {
    /// The header of a node message.
    #[must_use]
    pub const fn node(sequence: Sequence) -> Self {
        Self {
            seid: None,
            sequence,
            priority: None,
        }
    }

    /// The header of a session message.
    #[must_use]
    pub const fn session(seid: Seid, sequence: Sequence) -> Self {
        Self {
            seid: Some(seid),
            sequence,
            priority: None,
        }
    }
}

/// A message whose body is not looked at yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawMessage<'a> {
    /// Its header.
    pub header: Header,
    /// Its type, whether known or not.
    pub kind: MessageType,
    /// Its IEs.
    pub body: &'a [u8],
}

impl RawMessage<'_> {
    /// What came of the request that this message answers; `None` where it says nothing of it.
    /// Only that one IE is looked at.
    #[must_use]
    pub fn cause(&self) -> Option<CauseCode> {
        let mut rest = self.body;
        while let Some((&[a, b, c, d], behind)) = rest.split_first_chunk() {
            let length = usize::from(u16::from_be_bytes([c, d]));
            let (value, next) = behind.split_at_checked(length)?;
            if u16::from_be_bytes([a, b]) == IeType::CAUSE.get() {
                return value.first().copied().map(CauseCode::new);
            }
            rest = next;
        }
        None
    }
}

/// Why a datagram is no message. All but [`Self::Version`] are dropped without an answer.
///
/// Source: TS 29.244 §7.6.2 and §7.6.3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum HeaderError {
    /// Shorter than the header, or than the length that the header states.
    #[error("datagram is shorter than its message")]
    TooShort,
    /// Octets follow a message that announces no other.
    #[error("{octets} octets behind the last message")]
    Trailing {
        /// How many.
        octets: usize,
    },
    /// Another version: the answer is a Version Not Supported Response with this number.
    #[error("version {found} is not {VERSION}")]
    Version {
        /// The version.
        found: u8,
        /// Where version 1 has it.
        sequence: Sequence,
    },
    /// A session message without a session's number, or a node message with one.
    #[error("message type {} with the wrong kind of header", kind.get())]
    SeidFlag {
        /// The message's type.
        kind: MessageType,
    },
    /// More messages than [`MAX_BUNDLE`].
    #[error("more than {MAX_BUNDLE} messages in one datagram")]
    TooMany,
}

/// The messages of one datagram, in order; ends behind the first error.
#[derive(Debug, Clone)]
pub struct Datagram<'a> {
    rest: &'a [u8],
    seen: usize,
    more: bool,
}

impl<'a> Datagram<'a> {
    /// The messages in `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self {
            rest: bytes,
            seen: 0,
            more: true,
        }
    }

    /// Octets behind the messages that were taken.
    pub(super) const fn octets_left(&self) -> usize {
        self.rest.len()
    }

    fn read(&mut self) -> Result<RawMessage<'a>, HeaderError> {
        if self.seen == MAX_BUNDLE {
            return Err(HeaderError::TooMany);
        }
        self.seen = self.seen.saturating_add(1);
        let (&[flags, kind, high, low], behind) =
            self.rest.split_first_chunk().ok_or(HeaderError::TooShort)?;
        let found = flags >> 5;
        if found != VERSION {
            let sequence = sequence_at(flags, behind).unwrap_or_default();
            return Err(HeaderError::Version { found, sequence });
        }
        let length = usize::from(u16::from_be_bytes([high, low]));
        let (message, rest) = behind
            .split_at_checked(length)
            .ok_or(HeaderError::TooShort)?;
        let raw = split(flags, MessageType::new(kind), message)?;
        self.more = flags & FOLLOW_ON != 0;
        self.rest = rest;
        if !self.more && !rest.is_empty() {
            let octets = rest.len();
            return Err(HeaderError::Trailing { octets });
        }
        Ok(raw)
    }
}

impl<'a> Iterator for Datagram<'a> {
    type Item = Result<RawMessage<'a>, HeaderError>;

    fn next(&mut self) -> Option<Self::Item> {
        if !std::mem::take(&mut self.more) {
            return None;
        }
        Some(self.read().inspect_err(|_| self.more = false))
    }
}

/// The sequence number in a message from behind its length field.
fn sequence_at(flags: u8, message: &[u8]) -> Option<Sequence> {
    let at = if flags & WITH_SEID != 0 { 8 } else { 0 };
    let &[a, b, c] = message.get(at..)?.first_chunk()?;
    Some(Sequence::new(u32::from_be_bytes([0, a, b, c])))
}

fn split(flags: u8, kind: MessageType, message: &[u8]) -> Result<RawMessage<'_>, HeaderError> {
    let (seid, message) = if flags & WITH_SEID == 0 {
        (None, message)
    } else {
        let (seid, rest) = message.split_first_chunk().ok_or(HeaderError::TooShort)?;
        (Some(Seid::new(u64::from_be_bytes(*seid))), rest)
    };
    if seid.is_some() != kind.is_session() {
        return Err(HeaderError::SeidFlag { kind });
    }
    let (&[a, b, c, last], body) = message.split_first_chunk().ok_or(HeaderError::TooShort)?;
    let header = Header {
        seid,
        sequence: Sequence::new(u32::from_be_bytes([0, a, b, c])),
        priority: (seid.is_some() && flags & WITH_PRIORITY != 0).then_some(last >> 4),
    };
    Ok(RawMessage { header, kind, body })
}

/// Whether another message follows in the datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Follow {
    Last,
    More,
}

/// Appends a message to a datagram.
pub(super) fn frame(
    header: &Header,
    kind: MessageType,
    body: &[u8],
    follow: Follow,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let misfit = EncodeError::Value {
        ie: IeType::RESERVED,
    };
    let priority = header.priority.unwrap_or_default();
    if header.seid.is_some() != kind.is_session()
        || priority > 15
        || (header.priority.is_some() && header.seid.is_none())
    {
        return Err(misfit);
    }
    let mut flags = VERSION << 5;
    if follow == Follow::More {
        flags |= FOLLOW_ON;
    }
    if header.priority.is_some() {
        flags |= WITH_PRIORITY;
    }
    let mut head = Vec::with_capacity(12);
    if let Some(seid) = header.seid {
        flags |= WITH_SEID;
        head.extend_from_slice(&seid.get().to_be_bytes());
    }
    let [_, a, b, c] = header.sequence.get().to_be_bytes();
    head.extend_from_slice(&[a, b, c, priority << 4]);
    let length = head.len().saturating_add(body.len());
    let total = out.len().saturating_add(length).saturating_add(4);
    if total > MAX_MESSAGE_BYTES {
        return Err(EncodeError::TooLong { length: total });
    }
    let [high, low] = u16::try_from(length).map_err(|_| misfit)?.to_be_bytes();
    out.extend_from_slice(&[flags, kind.get(), high, low]);
    out.extend_from_slice(&head);
    out.extend_from_slice(body);
    Ok(())
}
