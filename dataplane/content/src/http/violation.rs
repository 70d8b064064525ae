//! What ends the framing of a stream for good.

/// Why a stream cannot be framed; closed list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Violation {
    /// The first uplink bytes are no HTTP method.
    NoMethod = 1,
    /// CR without LF, LF without CR, or a control byte.
    LineEnd,
    /// A start line or field that the grammar does not know.
    Syntax,
    /// A field line continued on the next line.
    ObsFold,
    /// A field that decides the framing is too long.
    LineTooLong,
    /// A protocol version other than HTTP/1.0 and HTTP/1.1.
    Version,
    /// Content-Length twice with different values, or no number.
    ContentLength,
    /// Transfer-Encoding other than chunked alone, or in HTTP/1.0.
    TransferEncoding,
    /// Content-Length and Transfer-Encoding together.
    LengthAndEncoding,
    /// A content coding other than identity.
    ContentEncoding,
    /// Content-Range that is malformed, repeated or contradicts the length.
    ContentRange,
    /// A body in several parts.
    Multipart,
    /// Another protocol follows: Upgrade, 101 or CONNECT.
    Upgrade,
    /// A response body that ends with the connection.
    Unsized,
    /// A response without a request.
    Unsolicited,
    /// More than [`QUEUE_LIMIT`](super::QUEUE_LIMIT) requests without response.
    Pipelining,
    /// A chunk size that is no number, or framing that does not follow the chunk.
    Chunk,
}

impl Violation {
    /// Every violation.
    pub const ALL: [Self; 17] = [
        Self::NoMethod,
        Self::LineEnd,
        Self::Syntax,
        Self::ObsFold,
        Self::LineTooLong,
        Self::Version,
        Self::ContentLength,
        Self::TransferEncoding,
        Self::LengthAndEncoding,
        Self::ContentEncoding,
        Self::ContentRange,
        Self::Multipart,
        Self::Upgrade,
        Self::Unsized,
        Self::Unsolicited,
        Self::Pipelining,
        Self::Chunk,
    ];

    pub(crate) fn from_code(code: u64) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|violation| *violation as u64 == code)
    }
}
