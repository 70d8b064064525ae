//! BaseStations over WireGuard: who may come through the tunnel, and where it begins.

use std::net::{IpAddr, SocketAddr};

use qlink_types::codec::{Decode, DecodeError, Encode, Reader};
use qlink_types::ids::Hash32;
use qlink_types::struct_codec;

use crate::address::{decode_endpoint, decode_ip, encode_endpoint, encode_ip};

/// Most BaseStations that requests can add.
pub const MAX_TUNNEL_MEMBERS: usize = 1 << 16;

/// A BaseStation in the tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TunnelMember {
    /// Its X25519 public key.
    pub key: Hash32,
    /// Its address in the tunnel.
    pub address: IpAddr,
}

impl Encode for TunnelMember {
    fn encode(&self, out: &mut Vec<u8>) {
        self.key.encode(out);
        encode_ip(&self.address, out);
    }
}

impl Decode for TunnelMember {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            key: Decode::decode(reader)?,
            address: decode_ip(reader)?,
        })
    }
}

/// The data plane's end of the tunnel, as a BaseStation needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TunnelEnd {
    /// Its X25519 public key.
    pub key: Hash32,
    /// Where it listens.
    pub listen: SocketAddr,
    /// Where GTP-U goes in the tunnel.
    pub gtpu: SocketAddr,
}

impl Encode for TunnelEnd {
    fn encode(&self, out: &mut Vec<u8>) {
        self.key.encode(out);
        encode_endpoint(&self.listen, out);
        encode_endpoint(&self.gtpu, out);
    }
}

impl Decode for TunnelEnd {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            key: Decode::decode(reader)?,
            listen: decode_endpoint(reader)?,
            gtpu: decode_endpoint(reader)?,
        })
    }
}

/// What a data plane's tunnel did since it started, and what it is now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TunnelFigures {
    /// Keys that may come.
    pub peers: u64,
    /// Those of them with traffic keys in use.
    pub with_keys: u64,
    /// GTP-U packets that came out.
    pub received: u64,
    /// GTP-U packets that went in.
    pub sent: u64,
    /// Handshakes that gave traffic keys.
    pub handshakes: u64,
    /// Those of them with a peer whose traffic keys were still in use.
    pub renewals: u64,
    /// How often a BaseStation changed its tunnel key.
    pub successions: u64,
    /// How often a peer was heard from another endpoint than before.
    pub roamed: u64,
    /// Calls of keys that were taken out, as a denied BaseStation's.
    pub denied: u64,
    /// Everything else that was refused.
    pub refused: u64,
    /// Packets that a worker or the socket had no room for, and handshakes beyond the bound.
    pub shed: u64,
}

struct_codec!(TunnelFigures {
    peers,
    with_keys,
    received,
    sent,
    handshakes,
    renewals,
    successions,
    roamed,
    denied,
    refused,
    shed,
});
