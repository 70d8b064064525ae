//! What a simulated viewer is told to do, and what it reports.
//!
//! The types travel as JSON over the control socket; durations are in milliseconds of wall time,
//! sizes in bytes.
use std::net::{Ipv4Addr, SocketAddrV4};

use serde::{Deserialize, Serialize};

/// Probability that a link loses a packet, in parts per million.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
#[repr(transparent)]
pub struct LossPpm(u32);

/// A probability above one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("loss of {0} ppm exceeds {max} ppm", max = LossPpm::WHOLE)]
pub struct LossAboveWhole(u32);

impl LossPpm {
    /// Certainty.
    pub const WHOLE: u32 = 1_000_000;
    /// A link that loses nothing.
    pub const NONE: Self = Self(0);

    /// A probability from parts per million, at most [`Self::WHOLE`].
    ///
    /// # Errors
    ///
    /// [`LossAboveWhole`].
    pub const fn try_new(ppm: u32) -> Result<Self, LossAboveWhole> {
        if ppm > Self::WHOLE {
            Err(LossAboveWhole(ppm))
        } else {
            Ok(Self(ppm))
        }
    }

    /// Parts per million.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for LossPpm {
    type Error = LossAboveWhole;

    fn try_from(ppm: u32) -> Result<Self, LossAboveWhole> {
        Self::try_new(ppm)
    }
}

impl From<LossPpm> for u32 {
    fn from(loss: LossPpm) -> Self {
        loss.0
    }
}

/// What the origin shall play instead of the film; carried in the request header [`PLAY_HEADER`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Play {
    /// A foreign body under the film's URL and `Content-Range`.
    ForeignBody,
    /// The film up to `after` bytes of the body, then foreign bytes.
    ForeignTail {
        /// Genuine bytes at the body's start.
        after: u64,
    },
    /// The film; once all of it is acknowledged, `bytes` foreign bytes in raw segments at the
    /// body's sequence numbers from its first byte on.
    FakeRetransmit {
        /// Foreign payload in all.
        bytes: u64,
    },
}

/// The request header that asks the origin to cheat.
pub const PLAY_HEADER: &str = "x-play";

impl Play {
    /// The header's value.
    #[must_use]
    pub fn header_value(&self) -> String {
        match self {
            Self::ForeignBody => "foreign-body".to_owned(),
            Self::ForeignTail { after } => format!("foreign-tail={after}"),
            Self::FakeRetransmit { bytes } => format!("fake-retransmit={bytes}"),
        }
    }

    /// Reads a header value; `None` when it names no play.
    #[must_use]
    pub fn from_header(value: &str) -> Option<Self> {
        match value.split_once('=') {
            None if value == "foreign-body" => Some(Self::ForeignBody),
            Some(("foreign-tail", after)) => Some(Self::ForeignTail {
                after: after.parse().ok()?,
            }),
            Some(("fake-retransmit", bytes)) => Some(Self::FakeRetransmit {
                bytes: bytes.parse().ok()?,
            }),
            _ => None,
        }
    }
}

/// One HTTP request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestScript {
    /// `GET`, `HEAD` or `POST`.
    #[serde(default = "get_method")]
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Value of the `Range` header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<String>,
    /// Payload hidden in the head, in bytes.
    #[serde(default)]
    pub hidden_head_bytes: u32,
    /// Size of the request's body, in bytes.
    #[serde(default)]
    pub body_bytes: u32,
    /// What the origin shall play.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub play: Option<Play>,
}

fn get_method() -> String {
    "GET".to_owned()
}

impl RequestScript {
    /// An honest `GET` of a whole resource.
    #[must_use]
    pub fn get(path: &str) -> Self {
        Self {
            method: get_method(),
            path: path.to_owned(),
            range: None,
            hidden_head_bytes: 0,
            body_bytes: 0,
            play: None,
        }
    }

    /// An honest `GET` of the bytes `start..end`.
    #[must_use]
    pub fn part(path: &str, start: u64, end: u64) -> Self {
        let last = end.saturating_sub(1);
        Self {
            range: Some(format!("bytes={start}-{last}")),
            ..Self::get(path)
        }
    }
}

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CloseKind {
    /// FIN both ways, TIME-WAIT waited out.
    #[default]
    Fin,
    /// RST.
    Reset,
    /// Nothing is sent any more and nothing is answered, as when a battery dies.
    Vanish,
}

/// One TCP connection.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConnectionScript {
    /// Requests, one after the other.
    pub requests: Vec<RequestScript>,
    /// How it ends.
    #[serde(default)]
    pub close: CloseKind,
    /// Ends the connection once this many body bytes came in, in mid-answer if need be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub abort_after_bytes: Option<u64>,
    /// After the last answer, waits until no packet has come for this long.
    #[serde(default)]
    pub quiet_ms: u32,
}

/// Whether a job's connections run one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// One after the other.
    #[default]
    InTurn,
    /// All at once.
    AtOnce,
}

/// One job of one viewer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FetchScript {
    /// The viewer's inner address.
    pub viewer: Ipv4Addr,
    /// The origin's inner address and port.
    pub origin: SocketAddrV4,
    /// Value of the `Host` header.
    pub host: String,
    /// One after the other or all at once.
    #[serde(default)]
    pub order: Order,
    /// The connections.
    pub connections: Vec<ConnectionScript>,
    /// The job is given up after this long.
    #[serde(default = "fetch_timeout_ms")]
    pub timeout_ms: u32,
}

/// How many bytes the usual time is for.
const BYTES_PER_TIMEOUT: u64 = 10_000_000;

/// Chosen: twice what [`BYTES_PER_TIMEOUT`] take at 3 % loss on a loaded machine of two cores.
const fn fetch_timeout_ms() -> u32 {
    60_000
}

impl FetchScript {
    /// An honest job: these connections, one after the other.
    #[must_use]
    pub fn new(viewer: Ipv4Addr, origin: SocketAddrV4, connections: Vec<ConnectionScript>) -> Self {
        Self {
            viewer,
            origin,
            host: origin.ip().to_string(),
            order: Order::InTurn,
            connections,
            timeout_ms: fetch_timeout_ms(),
        }
    }

    /// The same with time for `bytes`: the usual time for each 10 MB begun, at least once.
    #[must_use]
    pub fn for_bytes(self, bytes: u64) -> Self {
        let times = bytes.div_ceil(BYTES_PER_TIMEOUT).max(1);
        let timeout_ms = u64::from(fetch_timeout_ms()).saturating_mul(times);
        Self {
            timeout_ms: u32::try_from(timeout_ms).unwrap_or(u32::MAX),
            ..self
        }
    }
}

/// How one request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The whole answer came.
    Complete,
    /// The script ended the connection in mid-answer.
    Aborted,
    /// The peer ended the connection, or the answer is not HTTP.
    Broken,
    /// The job's time ran out.
    TimedOut,
}

/// What came back for one request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestResult {
    /// Path and query as asked.
    pub path: String,
    /// Status code, 0 when no head came.
    pub status: u16,
    /// The answer's `Content-Range`.
    pub content_range: Option<String>,
    /// Body bytes received, without chunked framing.
    pub body_bytes: u64,
    /// BLAKE3 of the body, in hex.
    pub body_blake3: String,
    /// How it ended.
    pub outcome: Outcome,
}

/// What a job came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchResult {
    /// One row per request, by connection, then by request.
    pub requests: Vec<RequestResult>,
    /// Wall time from start to the last connection's end.
    pub elapsed_ms: u64,
}

impl FetchResult {
    /// Whether every answer came whole.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.requests
            .iter()
            .all(|request| request.outcome == Outcome::Complete)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_play_survives_its_header() {
        for play in [
            Play::ForeignBody,
            Play::ForeignTail { after: 7 },
            Play::FakeRetransmit { bytes: 9 },
        ] {
            assert_eq!(Play::from_header(&play.header_value()), Some(play));
        }
        assert_eq!(Play::from_header("film"), None);
    }

    #[test]
    fn a_longer_film_has_more_time() {
        let origin = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 80);
        let time = |bytes| {
            let script = FetchScript::new(Ipv4Addr::LOCALHOST, origin, Vec::new());
            script.for_bytes(bytes).timeout_ms
        };
        assert_eq!((time(0), time(10_000_000)), (60_000, 60_000));
        assert_eq!((time(10_000_001), time(60_000_000)), (120_000, 360_000));
        assert_eq!(time(u64::MAX), u32::MAX);
    }

    #[test]
    fn loss_above_one_is_refused() {
        assert_eq!(LossPpm::try_new(1_000_001), Err(LossAboveWhole(1_000_001)));
        assert!(serde_json::from_str::<LossPpm>("1000001").is_err());
    }
}
