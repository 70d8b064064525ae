//! The few header fields that the simulators route by.
use std::net::Ipv4Addr;

/// Source and destination of an IPv4 packet.
#[must_use]
pub(crate) fn addresses(packet: &[u8]) -> Option<(Ipv4Addr, Ipv4Addr)> {
    let header = packet.first_chunk::<20>()?;
    let [first, .., s0, s1, s2, s3, d0, d1, d2, d3] = *header;
    (first >> 4 == 4).then(|| (Ipv4Addr::new(s0, s1, s2, s3), Ipv4Addr::new(d0, d1, d2, d3)))
}

/// Source and destination port of an unfragmented TCP packet over IPv4.
#[must_use]
pub(crate) fn tcp_ports(packet: &[u8]) -> Option<(u16, u16)> {
    let header = packet.first_chunk::<20>()?;
    let header_len = usize::from(header[0] & 0x0f).checked_mul(4)?;
    if header[0] >> 4 != 4 || header[9] != 6 {
        return None;
    }
    let [s0, s1, d0, d1] = *packet.get(header_len..)?.first_chunk::<4>()?;
    Some((u16::from_be_bytes([s0, s1]), u16::from_be_bytes([d0, d1])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_or_foreign_packets_have_no_addresses() {
        assert_eq!(addresses(&[0x45; 19]), None);
        assert_eq!(addresses(&[0x60; 40]), None);
        assert_eq!(tcp_ports(&[0x4f; 20]), None);
    }
}
