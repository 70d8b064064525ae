//! IPv4 and IPv6 headers written into a scratch.

use std::net::{Ipv4Addr, Ipv6Addr};

use qlink_wire::checksum::Checksum;

/// Bit of the fragment word that forbids fragmenting.
pub(crate) const DONT_FRAGMENT: u16 = 0x4000;
/// Bit of the fragment word that announces more.
pub(crate) const MORE_FRAGMENTS: u16 = 0x2000;
/// Bits of the fragment word that hold the offset in units of 8 bytes.
pub(crate) const OFFSET_MASK: u16 = 0x1fff;

/// Bytes of an IPv4 header without options.
pub(crate) const IPV4_HEADER: usize = 20;
/// Bytes of an IPv6 header.
pub(crate) const IPV6_HEADER: usize = 40;
/// Bytes of an IPv6 fragment header.
pub(crate) const FRAGMENT_HEADER: usize = 8;

/// The least MTU of an IPv6 link. Source: RFC 8200 §5.
pub(crate) const IPV6_MTU_MIN: u16 = 1280;

/// An IPv4 header without options. Source: RFC 791 §3.1.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ipv4Header {
    pub(crate) traffic_class: u8,
    pub(crate) total_len: u16,
    pub(crate) id: u16,
    /// Flags and offset.
    pub(crate) fragment: u16,
    pub(crate) hop_limit: u8,
    pub(crate) protocol: u8,
    pub(crate) src: Ipv4Addr,
    pub(crate) dst: Ipv4Addr,
}

impl Ipv4Header {
    pub(crate) fn encode(&self) -> [u8; IPV4_HEADER] {
        let [length_high, length_low] = self.total_len.to_be_bytes();
        let [id_high, id_low] = self.id.to_be_bytes();
        let [fragment_high, fragment_low] = self.fragment.to_be_bytes();
        let [a, b, c, d] = self.src.octets();
        let [e, f, g, h] = self.dst.octets();
        let mut bytes = [
            0x45,
            self.traffic_class,
            length_high,
            length_low,
            id_high,
            id_low,
            fragment_high,
            fragment_low,
            self.hop_limit,
            self.protocol,
            0,
            0,
            a,
            b,
            c,
            d,
            e,
            f,
            g,
            h,
        ];
        [bytes[10], bytes[11]] = Checksum::default().with(&bytes).finish().to_be_bytes();
        bytes
    }
}

/// An IPv6 header. Source: RFC 8200 §3.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ipv6Header {
    pub(crate) traffic_class: u8,
    pub(crate) payload_len: u16,
    pub(crate) next_header: u8,
    pub(crate) hop_limit: u8,
    pub(crate) src: Ipv6Addr,
    pub(crate) dst: Ipv6Addr,
}

impl Ipv6Header {
    pub(crate) fn encode(&self) -> [u8; IPV6_HEADER] {
        let [length_high, length_low] = self.payload_len.to_be_bytes();
        let mut bytes = [0; IPV6_HEADER];
        let (fixed, addresses) = bytes.split_at_mut(8);
        fixed.copy_from_slice(&[
            0x60 | self.traffic_class >> 4,
            self.traffic_class << 4,
            0,
            0,
            length_high,
            length_low,
            self.next_header,
            self.hop_limit,
        ]);
        let (src, dst) = addresses.split_at_mut(16);
        src.copy_from_slice(&self.src.octets());
        dst.copy_from_slice(&self.dst.octets());
        bytes
    }
}

/// An IPv6 fragment header; `offset` in bytes. Source: RFC 8200 §4.5.
pub(crate) fn fragment_header(
    next_header: u8,
    fragment: qlink_wire::Fragment,
) -> [u8; FRAGMENT_HEADER] {
    // The offset of a parsed or made fragment is below 2^16.
    let offset = u16::try_from(fragment.offset & 0xfff8).unwrap_or(0);
    let [high, low] = (offset | u16::from(fragment.more)).to_be_bytes();
    let [a, b, c, d] = fragment.id.to_be_bytes();
    [next_header, 0, high, low, a, b, c, d]
}
