//! Encodings of the standard library's addresses.

use std::net::{IpAddr, SocketAddr};

use qlink_types::codec::{Decode, DecodeError, Encode, Reader};

/// `u8 4 | 4 bytes` or `u8 6 | 16 bytes`. An IPv4 address in IPv6 form is another address.
pub(crate) fn encode_ip(address: &IpAddr, out: &mut Vec<u8>) {
    match address {
        IpAddr::V4(address) => {
            out.push(4);
            address.octets().encode(out);
        }
        IpAddr::V6(address) => {
            out.push(6);
            address.octets().encode(out);
        }
    }
}

/// Inverse of [`encode_ip`].
pub(crate) fn decode_ip(reader: &mut Reader<'_>) -> Result<IpAddr, DecodeError> {
    match u8::decode(reader)? {
        4 => Ok(IpAddr::from(reader.take_array::<4>()?)),
        6 => Ok(IpAddr::from(reader.take_array::<16>()?)),
        other => Err(DecodeError::UnknownTag {
            what: "ip version",
            value: other.into(),
        }),
    }
}

/// Address, then the port. Scope and flow label of IPv6 are not carried.
pub(crate) fn encode_endpoint(endpoint: &SocketAddr, out: &mut Vec<u8>) {
    encode_ip(&endpoint.ip(), out);
    endpoint.port().encode(out);
}

/// Inverse of [`encode_endpoint`].
pub(crate) fn decode_endpoint(reader: &mut Reader<'_>) -> Result<SocketAddr, DecodeError> {
    let ip = decode_ip(reader)?;
    Ok(SocketAddr::new(ip, u16::decode(reader)?))
}

/// `u32 count | endpoints`, refusing more than `limit`.
pub(crate) fn decode_endpoints(
    reader: &mut Reader<'_>,
    limit: usize,
) -> Result<Vec<SocketAddr>, DecodeError> {
    let count = reader.take_length(limit)?;
    let mut endpoints = Vec::with_capacity(count.min(reader.remaining()));
    for _ in 0..count {
        endpoints.push(decode_endpoint(reader)?);
    }
    Ok(endpoints)
}

/// Inverse of [`decode_endpoints`].
pub(crate) fn encode_endpoints(endpoints: &[SocketAddr], out: &mut Vec<u8>) {
    u32::try_from(endpoints.len())
        .unwrap_or(u32::MAX)
        .encode(out);
    for endpoint in endpoints {
        encode_endpoint(endpoint, out);
    }
}
