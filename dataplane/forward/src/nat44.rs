//! NAT44: the edit of IPv4 headers, of transport headers, and of what ICMP errors quote.
//!
//! | Rule | Source |
//! |---|---|
//! | checksums are adjusted, a UDP checksum of zero stays | RFC 1624 §3, RFC 3022 §4.2, RFC 768 |
//! | an error is changed outside and, the other way round, in the packet it quotes | RFC 5508 §4.1 REQ-3, RFC 3022 §4.3 |
//! | a later fragment is changed in its addresses only | RFC 3022 §6.3 |

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::Rewrite;
use crate::checksum::ChecksumDelta;
use crate::nat::NatProtocol;
use crate::rewrite::Header;
use crate::transport::{Edit, End, ICMP_HEADER, IcmpBefore, Part, Quoted};

/// Places in an IPv4 header.
const CHECKSUM: usize = 10;
const SOURCE: usize = 12;
const DESTINATION: usize = 16;

/// Places in an IPv6 header.
const SOURCE_V6: usize = 8;
const DESTINATION_V6: usize = 24;

/// Gives one end of a packet another address and port.
#[inline]
pub(crate) fn translate(
    rewrite: &mut Rewrite,
    header: &Header,
    protocol: NatProtocol,
    part: Part,
    end: End,
    (address, port): (Ipv4Addr, u16),
) -> Option<()> {
    let change = set_address(rewrite, 0, end, address.into())?;
    match part {
        Part::Later => Some(()),
        Part::Head => edit(protocol, end, port, change).apply(rewrite, header.len),
    }
}

/// Gives one end of an ICMP error another address, and the other end of the packet that it quotes
/// that address and port.
pub(crate) fn translate_error(
    rewrite: &mut Rewrite,
    header: &Header,
    quoted: &Quoted,
    end: End,
    (address, port): (Ipv4Addr, u16),
) -> Option<()> {
    let before = IcmpBefore::note(rewrite, header.len)?;
    set_address(rewrite, 0, end, address.into())?;
    let other = match end {
        End::Source => End::Destination,
        End::Destination => End::Source,
    };
    let change = set_address(rewrite, quoted.at, other, address.into())?;
    let transport = header
        .len
        .checked_add(ICMP_HEADER)?
        .checked_add(quoted.header.len)?;
    edit(quoted.flow.protocol, other, port, change).apply(rewrite, transport)?;
    before.settle(rewrite, header.len, ChecksumDelta::default())
}

/// The edit of one port behind a change of addresses.
pub(crate) const fn edit(
    protocol: NatProtocol,
    end: End,
    port: u16,
    change: AddressChange,
) -> Edit {
    Edit {
        protocol,
        end,
        port,
        pseudo: match protocol {
            NatProtocol::Tcp | NatProtocol::Udp => change.0,
            NatProtocol::Icmp => change.1,
        },
        icmp_type: None,
    }
}

/// What an address does to the sums of TCP and UDP, and to that of ICMP.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct AddressChange(pub(crate) ChecksumDelta, pub(crate) ChecksumDelta);

/// Writes an address into the IP header at `at`, which has its version, and adjusts its checksum.
#[inline]
pub(crate) fn set_address(
    rewrite: &mut Rewrite,
    at: usize,
    end: End,
    address: IpAddr,
) -> Option<AddressChange> {
    let address = match address {
        IpAddr::V4(address) => address,
        IpAddr::V6(address) => return set_address_v6(rewrite, at, end, address),
    };
    let place = at.checked_add(match end {
        End::Source => SOURCE,
        End::Destination => DESTINATION,
    })?;
    let change = ChecksumDelta::default()
        .without(&rewrite.bytes::<4>(place)?)
        .with(&address.octets());
    rewrite.put(place, &address.octets());
    let checksum = at.checked_add(CHECKSUM)?;
    rewrite.put_word(checksum, change.apply(rewrite.word(checksum)?));
    // ICMP for IPv4 has no pseudo header.
    Some(AddressChange(change, ChecksumDelta::default()))
}

/// The same of IPv6, whose header has no checksum.
fn set_address_v6(
    rewrite: &mut Rewrite,
    at: usize,
    end: End,
    address: Ipv6Addr,
) -> Option<AddressChange> {
    let place = at.checked_add(match end {
        End::Source => SOURCE_V6,
        End::Destination => DESTINATION_V6,
    })?;
    let change = ChecksumDelta::default()
        .without(&rewrite.bytes::<16>(place)?)
        .with(&address.octets());
    rewrite.put(place, &address.octets());
    Some(AddressChange(change, change))
}
