//! What a flow is told and what it answers.

use crate::deltas::Deltas;
use crate::heads::HeadWords;
use crate::view::{ContentSet, View};

/// Which way a packet goes, seen from the subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the subscriber.
    Uplink,
    /// To the subscriber.
    Downlink,
}

/// What to do with what cannot be judged yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Policy {
    /// Drop it; TCP sends it again.
    Live,
    /// It was on the wire already, so it is charged.
    Replay,
}

/// The fields of a TCP segment that the proof looks at. Source: RFC 9293 §3.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment<'a> {
    /// Sequence number of the first payload byte, or of the SYN.
    pub seq: u32,
    /// Acknowledgement number; meaningful with the ACK flag.
    pub ack: u32,
    /// The header's fourteenth byte: FIN 1, SYN 2, RST 4, PSH 8, ACK 16.
    pub flags: u8,
    /// The captured payload, at most `payload_len` bytes.
    pub payload: &'a [u8],
    /// Payload length as the IP header states it.
    pub payload_len: u32,
}

impl Segment<'_> {
    /// FIN bit of `flags`.
    pub const FIN: u8 = 0x01;
    /// SYN bit of `flags`.
    pub const SYN: u8 = 0x02;
    /// RST bit of `flags`.
    pub const RST: u8 = 0x04;
    /// ACK bit of `flags`.
    pub const ACK: u8 = 0x10;

    #[inline]
    pub(crate) const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// What surrounds a flow during one packet.
pub struct Context<'a> {
    /// Contents that responses of this session may be nominated for.
    pub contents: &'a dyn ContentSet,
    /// The view of each slot.
    pub views: &'a mut [View],
    /// The flow's head logs, [`crate::HEAD_WORDS`] words.
    pub heads: &'a mut dyn HeadWords,
    /// Monotonic time of this packet.
    pub now_ns: u64,
    /// Live traffic or a capture.
    pub policy: Policy,
}

impl std::fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context")
            .field("views", &self.views.len())
            .field("now_ns", &self.now_ns)
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

/// Why a packet must not be forwarded; the flow is as if it had never come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DropReason {
    /// It lies ahead of framing that was not seen yet.
    FramingUnknown,
    /// It would need a 33rd range.
    CoverageFull,
}

impl DropReason {
    /// Stable name in schemas and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FramingUnknown => "framing_unknown",
            Self::CoverageFull => "coverage_full",
        }
    }
}

/// What to do with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "returned by value once per packet, never stored"
)]
pub enum Verdict {
    /// Forward it; these are its bytes' classes. Views are up to date.
    Forward(Deltas),
    /// Do not forward it; nothing changed.
    Drop(DropReason),
}

/// Why a flow ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum CloseReason {
    /// FIN acknowledged both ways.
    Finished = 0,
    /// A believed RST.
    Reset,
    /// A SYN with another initial sequence number.
    Replaced,
    /// Nothing for [`crate::IDLE_NS`].
    Idle,
    /// The session ended.
    SessionEnd,
}

impl CloseReason {
    /// Every reason.
    pub const ALL: [Self; 5] = [
        Self::Finished,
        Self::Reset,
        Self::Replaced,
        Self::Idle,
        Self::SessionEnd,
    ];

    /// Stable name in schemas and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Reset => "reset",
            Self::Replaced => "replaced",
            Self::Idle => "idle",
            Self::SessionEnd => "session_end",
        }
    }
}
