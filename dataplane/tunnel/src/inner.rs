//! The UDP datagram inside a tunnelled IP packet: GTP-U between two tunnel addresses.

use std::net::{IpAddr, SocketAddr};

use qlink_wire::checksum::Checksum;
use qlink_wire::{parse_ip, parse_udp, protocol};

use crate::count::Refusal;

/// Longest header that [`write_header`] writes: IPv6 and UDP.
pub const HEADER_MAX: usize = 48;

const UDP_BYTES: u16 = 8;

/// A datagram of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// Who sent it: its tunnel address and port.
    pub from: SocketAddr,
    /// Its payload.
    pub payload: &'a [u8],
}

/// The datagram in `packet` that is sent to `own`, our tunnel address and port.
///
/// # Errors
///
/// [`Refusal::InnerMalformed`], [`Refusal::InnerFragment`], [`Refusal::InnerProtocol`] or
/// [`Refusal::InnerDestination`]; nobody has counted it yet.
pub fn open(packet: &[u8], own: SocketAddr) -> Result<Datagram<'_>, Refusal> {
    let ip = parse_ip(packet).map_err(|_| Refusal::InnerMalformed)?;
    if ip.fragment.is_some() {
        return Err(Refusal::InnerFragment);
    }
    if ip.protocol != protocol::UDP {
        return Err(Refusal::InnerProtocol);
    }
    let udp = parse_udp(ip.payload).map_err(|_| Refusal::InnerMalformed)?;
    if ip.is_cut() {
        return Err(Refusal::InnerMalformed);
    }
    if ip.dst != own.ip() || udp.dst_port != own.port() {
        return Err(Refusal::InnerDestination);
    }
    Ok(Datagram {
        from: SocketAddr::new(ip.src, udp.src_port),
        payload: udp.payload,
    })
}

/// Writes the IP and UDP headers of a datagram with payload `head` and `body` to the front of `out`
/// and returns their length; `None` when the addresses are of two families, the payload is too long
/// or `out` too short.
///
/// Over IPv4 the UDP checksum is zero, "none" (RFC 768): the tunnel authenticates every byte. Over
/// IPv6 it is computed (RFC 8200 §8.1), because a kernel at the other end asks for it.
#[must_use]
pub fn write_header(
    (from, to): (SocketAddr, SocketAddr),
    head: &[u8],
    body: &[u8],
    out: &mut [u8],
) -> Option<usize> {
    let payload = u16::try_from(head.len().checked_add(body.len())?).ok()?;
    let udp_len = payload.checked_add(UDP_BYTES)?;
    let [src_port, dst_port] = [from.port(), to.port()].map(u16::to_be_bytes);
    let length = udp_len.to_be_bytes();
    let mut udp = [0; UDP_BYTES as usize];
    for (place, value) in udp.chunks_exact_mut(2).zip([src_port, dst_port, length]) {
        place.copy_from_slice(&value);
    }
    match (from.ip(), to.ip()) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let total = udp_len.checked_add(20)?.to_be_bytes();
            let mut ip = [0_u8; 20];
            // Version and length, total length, "do not fragment", time to live, UDP.
            let fields: [(usize, &[u8]); 6] = [
                (0, &[0x45]),
                (2, &total),
                (6, &[0x40]),
                (8, &[64, protocol::UDP]),
                (12, &src.octets()),
                (16, &dst.octets()),
            ];
            place(&mut ip, &fields)?;
            let sum = Checksum::default().with(&ip).finish().to_be_bytes();
            place(&mut ip, &[(10, &sum)])?;
            place(out, &[(0, &ip), (ip.len(), &udp)])?;
            Some(28)
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let mut ip = [0_u8; 40];
            let fields: [(usize, &[u8]); 5] = [
                (0, &[0x60]),
                (4, &length),
                (6, &[protocol::UDP, 64]),
                (8, &src.octets()),
                (24, &dst.octets()),
            ];
            place(&mut ip, &fields)?;
            let sum = Checksum::default()
                .with_pseudo_header(src.into(), dst.into(), protocol::UDP, udp_len.into())
                .with(&udp);
            let sum = match head.len() % 2 {
                0 => sum.with(head).with(body).finish(),
                // The halves of a sum have to begin at even places.
                _ => return None,
            };
            // Zero would mean "none", so it is sent as its other representation (RFC 768).
            let sum = if sum == 0 { u16::MAX } else { sum };
            place(&mut udp, &[(6, &sum.to_be_bytes())])?;
            place(out, &[(0, &ip), (ip.len(), &udp)])?;
            Some(48)
        }
        _ => None,
    }
}

/// Copies each piece to its place; `None` when one does not fit.
fn place(out: &mut [u8], pieces: &[(usize, &[u8])]) -> Option<()> {
    for (at, piece) in pieces {
        out.get_mut(*at..at.checked_add(piece.len())?)?
            .copy_from_slice(piece);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use qlink_wire::build;

    fn pair(from: &str, to: &str) -> (SocketAddr, SocketAddr) {
        (from.parse().unwrap(), to.parse().unwrap())
    }

    /// The builder is for tests and computes every checksum.
    fn built((from, to): (SocketAddr, SocketAddr), payload: &[u8]) -> Vec<u8> {
        build::udp_packet(from, to, payload).unwrap()
    }

    #[test]
    fn a_written_datagram_opens_to_what_was_sent() {
        for ends in [
            pair("10.99.0.1:2152", "10.99.0.2:2152"),
            pair("[fd00::1]:2152", "[fd00::2]:2152"),
        ] {
            let mut out = [0; 128];
            let len = write_header(ends, b"gtpu", b"inner packet", &mut out).unwrap();
            out[len..len + 16].copy_from_slice(b"gtpuinner packet");
            let packet = &out[..len + 16];

            let opened = open(packet, ends.1).unwrap();

            assert_eq!(
                (opened.from, opened.payload),
                (ends.0, &b"gtpuinner packet"[..])
            );
        }
    }

    #[test]
    fn headers_are_those_of_the_independent_builder() {
        let ends = pair("[fd00::1]:2152", "[fd00::2]:2152");
        let mut out = [0; 128];
        let len = write_header(ends, b"gtpu", b"inner", &mut out).unwrap();
        out[len..len + 9].copy_from_slice(b"gtpuinner");

        // Flow label and hop limit are the writer's choice.
        let expected = built(ends, b"gtpuinner");
        assert_eq!(out[40..len + 9], expected[40..]);

        let ends = pair("10.99.0.1:2152", "10.99.0.2:2152");
        let len = write_header(ends, b"gtpu", b"inner", &mut out).unwrap();
        let ip = &out[..20];
        assert_eq!(Checksum::default().with(ip).finish(), 0);
        assert_eq!(len, 28);
    }

    #[test]
    fn what_is_not_for_us_is_refused_with_its_reason() {
        let ends = pair("10.99.0.2:2152", "10.99.0.1:2152");
        let own = ends.1;
        let cases = [
            (
                built(pair("10.99.0.2:2152", "10.99.0.3:2152"), b"x"),
                Refusal::InnerDestination,
            ),
            (
                built(pair("10.99.0.2:2152", "10.99.0.1:53"), b"x"),
                Refusal::InnerDestination,
            ),
            (vec![0x45; 10], Refusal::InnerMalformed),
            (Vec::new(), Refusal::InnerMalformed),
        ];
        for (packet, error) in cases {
            assert_eq!(open(&packet, own), Err(error));
        }
        let mut tcp = built(ends, b"x");
        tcp[9] = 6;
        assert_eq!(open(&tcp, own), Err(Refusal::InnerProtocol));
        let mut fragment = built(ends, b"x");
        fragment[6] = 0x20;
        assert_eq!(open(&fragment, own), Err(Refusal::InnerFragment));
    }

    #[test]
    fn a_datagram_that_cannot_be_is_not_written() {
        let mut out = [0; 128];

        let mixed = pair("10.99.0.1:1", "[fd00::1]:1");
        assert_eq!(write_header(mixed, b"", b"", &mut out), None);
        let v4 = pair("10.99.0.1:1", "10.99.0.2:1");
        assert_eq!(write_header(v4, &[0; 65_535], b"", &mut out), None);
        assert_eq!(write_header(v4, b"", b"", &mut out[..27]), None);
    }
}
