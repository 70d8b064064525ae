//! Capturing the packets of one session.

use qlink_types::codec::Text;
use qlink_types::ids::SessionId;
use qlink_types::{struct_codec, tag_codec};

use crate::rules::MAX_PATH_BYTES;

/// Most packets of one trace (chosen: at 1400 bytes both sides are some 3 GB).
pub const MAX_TRACE_PACKETS: u64 = 1_000_000;

/// Longest trace in seconds.
pub const MAX_TRACE_SECONDS: u32 = 3600;

/// What to capture, and when to stop: at the first bound that is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceOrder {
    /// The session.
    pub session: SessionId,
    /// The file to write, as the data plane sees it; it must not exist.
    pub path: Text<MAX_PATH_BYTES>,
    /// Most packets, 1 to [`MAX_TRACE_PACKETS`]; one that is forwarded counts once, although it
    /// is in the file as it came and as it left.
    pub packets: u64,
    /// Most seconds, 1 to [`MAX_TRACE_SECONDS`].
    pub seconds: u32,
}

struct_codec!(TraceOrder {
    session,
    path,
    packets,
    seconds
});

/// How far a trace is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TraceState {
    /// Packets are captured.
    Running,
    /// A bound was reached; the file is complete.
    Finished,
    /// The file could not be written to its end.
    Failed,
}

tag_codec!(TraceState, "trace state", {
    Running = 1,
    Finished = 2,
    Failed = 3,
});

/// How a trace's file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TraceWriter {
    /// By io_uring.
    Uring,
    /// By plain system calls.
    Plain,
}

tag_codec!(TraceWriter, "trace writer", {
    Uring = 1,
    Plain = 2,
});

/// What a trace has captured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceReport {
    /// The session.
    pub session: SessionId,
    /// How far it is.
    pub state: TraceState,
    /// How the file is written.
    pub writer: TraceWriter,
    /// Packets captured.
    pub packets: u64,
    /// Packets that found no room between worker and file, and are not in it.
    pub lost: u64,
    /// Bytes of the file.
    pub bytes: u64,
}

struct_codec!(TraceReport {
    session,
    state,
    writer,
    packets,
    lost,
    bytes
});
