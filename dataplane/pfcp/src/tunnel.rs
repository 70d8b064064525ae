//! BaseStations over WireGuard: who may come through the tunnel, and where it begins.

use std::net::{IpAddr, SocketAddr};

use qlink_types::codec::{Decode, DecodeError, Encode, Reader};
use qlink_types::ids::Hash32;

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
