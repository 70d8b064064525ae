//! The packet formats between a network card and a subscriber's payload: link layers, IPv4 and
//! IPv6, UDP, TCP, ICMP, GTP-U, and the reassembly of outer fragments.
//!
//! Stop 2 of "follow one byte": `io` hands over a frame, this crate says what it is, `meter`
//! decides whose it is. The crate knows no session, no clock and no socket.
//!
//! **Invariant**: every parser is total. Any byte string gives a value or a [`WireError`]; nothing
//! panics, allocates, or loops longer than a stated bound. Lengths that a header states and bytes
//! that were captured are kept apart: a capture that was cut short is still counted by what the
//! headers say, and bytes behind the stated end (Ethernet padding) never reach a payload.
//!
//! **What it does not do**: it does not check checksums while parsing (see [`checksum`] for that),
//! does not reassemble TCP, and does not decide whether a packet may pass.
//!
//! The usual frame on the N3 interface, outside in:
//!
//! ```text
//! | link 14+4n | IPv4 20+ / IPv6 40+ | UDP 8 | GTP-U 8+ | inner IPv4 / IPv6 | TCP / UDP | bytes |
//!                                                       |<------- network bytes ------------->|
//! ```
//!
//! GTP-U version 1 (TS 29.281 §5.1). `length` counts everything behind the TEID. The second row
//! is there when any of E, S, PN is set; extension headers follow only when E is set.
//!
//! ```text
//!      0               1               2               3
//!     +-----+-+-+-+-+-+---------------+-------------------------------+
//!   0 | v=1 |1|0|E|S|P| message type  |            length             |
//!     +-----+-+-+-+-+-+---------------+-------------------------------+
//!   4 |                             TEID                              |
//!     +-------------------------------+---------------+---------------+
//!   8 |        sequence number        | N-PDU number  | next ext type |
//!     +---------------+---------------+---------------+---------------+
//!  12 | n (x 4 bytes) |        content, 4n - 2 bytes  | next ext type |  repeated until
//!     +---------------+-------------------------------+---------------+  the type is 0
//!
//!     PDU Session Container (type 0x85, n = 1, TS 38.415 §5.5.2):
//!     | 1 | PDU type (4 bits) 0 = downlink, 1 = uplink; flags | flags, QFI (6 bits) | next |
//! ```
//!
//! A frame from end to end:
//!
//! ```
//! use qlink_wire::build::{self, LinkFrame};
//! use qlink_wire::{LinkType, parse_gtpu, parse_ip, parse_udp, strip_link};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let inner = build::udp_packet("10.45.0.2:5000".parse()?, "8.8.8.8:53".parse()?, b"query")?;
//! let outer = build::gpdu_packet("127.0.0.1:2152".parse()?, "127.0.0.7:2152".parse()?, 1, &inner)?;
//! let frame = LinkFrame::new(LinkType::Ethernet).wrap(&outer)?;
//!
//! let ip = parse_ip(strip_link(LinkType::Ethernet, &frame)?)?;
//! let gtpu = parse_gtpu(parse_udp(ip.payload)?.payload)?;
//! assert_eq!((gtpu.teid, parse_ip(gtpu.payload)?.total_len), (1, 33));
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

pub mod build;
pub mod checksum;
mod error;
mod fragment;
mod gtpu;
mod icmp;
mod ip;
mod link;
mod tcp;
mod udp;
mod usual;

pub use error::WireError;
pub use fragment::{Reassembler, ReassemblyLimits, ReassemblyStats};
pub use gtpu::{
    ControlMessage, ErrorIndicated, GTPU_PORT, GtpuPacket, MAX_GTPU_EXTENSIONS, PduSessionInfo,
    echo_request, echo_response, end_marker, error_indication, extension_type, gpdu_header,
    gpdu_header_with_container, message_type, parse_error_indication, parse_gtpu,
    supported_extensions_notification,
};
pub use icmp::{IcmpFamily, IcmpMessage, parse_icmp};
pub use ip::{Fragment, IpPacket, MAX_IPV6_EXTENSIONS, parse_ip, protocol};
pub use link::{LinkType, MAX_VLAN_TAGS, strip_link};
pub use tcp::{TcpFlags, TcpSegment, parse_tcp};
pub use udp::{UdpDatagram, parse_udp};
pub use usual::{UsualGpdu, usual_container, usual_gpdu, usual_gpdu_packet, usual_ipv4};
