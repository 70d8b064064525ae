//! Why bytes of a session were charged.

use std::net::SocketAddr;

use qlink_types::codec::{Decode, DecodeError, Encode, List, Reader, Text};
use qlink_types::ids::SessionId;
use qlink_types::struct_codec;
use qlink_types::units::Bytes;

use crate::address::{decode_endpoint, encode_endpoint};

/// Most reasons in one answer.
pub const MAX_CHARGE_REASONS: usize = 32;

/// Longest name of a reason in bytes.
pub const MAX_REASON_BYTES: usize = 32;

/// Bytes charged for one reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChargeRow {
    /// The reason's stable name.
    pub reason: Text<MAX_REASON_BYTES>,
    /// How many, ever since counting began.
    pub bytes: Bytes,
}

struct_codec!(ChargeRow { reason, bytes });

/// Most redirected flows in one answer.
pub const MAX_REDIRECT_ROWS: usize = 64;

/// A flow that goes to another destination than its subscriber asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RedirectRow {
    /// Number of its protocol: TCP, UDP, ICMP or `ICMPv6`.
    pub protocol: u8,
    /// The subscriber's port, or the identifier of its echo requests.
    pub ue_port: u16,
    /// What it asked for; of an echo request with port 0.
    pub asked: SocketAddr,
    /// Where it goes instead.
    pub to: SocketAddr,
    /// The subscriber's port there.
    pub port_there: u16,
}

impl Encode for RedirectRow {
    fn encode(&self, out: &mut Vec<u8>) {
        self.protocol.encode(out);
        self.ue_port.encode(out);
        encode_endpoint(&self.asked, out);
        encode_endpoint(&self.to, out);
        self.port_there.encode(out);
    }
}

impl Decode for RedirectRow {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            protocol: u8::decode(reader)?,
            ue_port: u16::decode(reader)?,
            asked: decode_endpoint(reader)?,
            to: decode_endpoint(reader)?,
            port_there: u16::decode(reader)?,
        })
    }
}

/// `user_charged` of a session's content flows by reason, as the running process has counted it.
///
/// What is missing to the session's `user_charged` was charged outside its content flows. Counted
/// when a packet is judged: one that the sender then refused is here and not in the session's sum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionCharges {
    /// The session.
    pub session: SessionId,
    /// `user_charged` bytes that an earlier process counted; it took their reasons with it.
    pub before: Bytes,
    /// Reasons with bytes.
    pub rows: List<ChargeRow, MAX_CHARGE_REASONS>,
    /// Flows that go to another destination now, those that were quiet for longest first; no more
    /// than fit.
    pub redirects: List<RedirectRow, MAX_REDIRECT_ROWS>,
}

struct_codec!(SessionCharges {
    session,
    before,
    rows,
    redirects
});
