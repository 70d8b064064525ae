//! Lowers the maximum segment size that TCP peers announce, so that their segments fit the tunnel
//! and path MTU discovery is not needed for them.
//!
//! Only the option of a SYN or SYN-ACK is touched, only downwards, and its TCP checksum is
//! adjusted (RFC 1624 §3). An option is never added: without one the peer sends at most 536 bytes
//! (IPv4) or 1220 (IPv6), which always fit. Source: RFC 9293 §3.7.1, RFC 6691 §2, RFC 4459 §3.2.
//!
//! A SYN with an authentication option (RFC 5925) is left alone: its options are signed.

use qlink_wire::protocol;

use crate::Rewrite;
use crate::checksum::ChecksumDelta;

/// Option kinds of RFC 9293 §3.1 and RFC 5925 §2.2.
const END: u8 = 0;
const NO_OPERATION: u8 = 1;
const MSS: u8 = 2;
const AUTHENTICATION: u8 = 29;

/// Bits of the fourteenth byte.
const SYN: u8 = 0x02;

/// The largest segment sizes let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MssClamp {
    ipv4: u16,
    ipv6: u16,
}

/// What became of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MssOutcome {
    /// Nothing to do: no SYN, no option, an option that is small enough, or none that can be read.
    Unchanged,
    /// The option was lowered.
    Lowered {
        /// The value that came, in bytes.
        from: u16,
        /// The value that leaves, in bytes.
        to: u16,
    },
}

impl MssClamp {
    /// Sizes for a path that carries inner packets of `mtu` bytes: the size counts neither IP nor
    /// TCP options, so 40 or 60 bytes are taken off. Source: RFC 6691 §2.
    #[must_use]
    pub const fn for_mtu(mtu: u16) -> Self {
        Self {
            ipv4: mtu.saturating_sub(40),
            ipv6: mtu.saturating_sub(60),
        }
    }

    /// Lowers the option of a SYN in place.
    pub fn clamp(&self, rewrite: &mut Rewrite) -> MssOutcome {
        self.try_clamp(rewrite).unwrap_or(MssOutcome::Unchanged)
    }

    fn try_clamp(&self, rewrite: &mut Rewrite) -> Option<MssOutcome> {
        let header = rewrite.header(0)?;
        if header.protocol != protocol::TCP || header.is_later_fragment() {
            return None;
        }
        let tcp = header.len;
        let [words, flags] = rewrite.bytes::<2>(tcp.checked_add(12)?)?;
        if flags & SYN == 0 {
            return None;
        }
        let end = tcp.checked_add(usize::from(words >> 4) << 2)?;
        let at = find_option(rewrite.head().get(tcp.checked_add(20)?..end)?)?
            .checked_add(tcp.checked_add(20)?)?;
        let limit = if header.src.is_ipv4() {
            self.ipv4
        } else {
            self.ipv6
        };
        let from = rewrite.word(at)?;
        if from <= limit {
            return None;
        }
        // The value may stand at an odd place; the checksum counts words, so take both it is in.
        // They are inside the TCP header, which has a whole number of words.
        let words = at & !1..at.checked_add(3)? & !1;
        let before = ChecksumDelta::default().without(rewrite.head().get(words.clone())?);
        rewrite.put_word(at, limit);
        let delta = before.with(rewrite.head().get(words)?);
        let checksum = tcp.checked_add(16)?;
        rewrite.put_word(checksum, delta.apply(rewrite.word(checksum)?));
        Some(MssOutcome::Lowered { from, to: limit })
    }
}

/// Where the value of the option stands; `None` when there is none, when the options do not parse
/// up to it, or when they are signed.
fn find_option(options: &[u8]) -> Option<usize> {
    let (mut at, mut found) = (0_usize, None);
    while let Some(rest) = options.get(at..) {
        let len = match *rest {
            [] | [END, ..] => break,
            [NO_OPERATION, ..] => 1,
            [AUTHENTICATION, ..] => return None,
            [MSS, 4, _, _, ..] => {
                found = found.or_else(|| at.checked_add(2));
                4
            }
            [_, len, ..] if len >= 2 => usize::from(len),
            _ => break,
        };
        at = at.checked_add(len)?;
    }
    found
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use proptest::prelude::*;
    use qlink_wire::build::{self, TcpFields};
    use qlink_wire::checksum::transport_checksum;
    use qlink_wire::{TcpFlags, parse_ip};

    use super::*;

    fn syn(v6: bool, flags: TcpFlags, options: &[u8]) -> Vec<u8> {
        let (src, dst): (SocketAddr, SocketAddr) = if v6 {
            (
                "[2001:db8::1]:40000".parse().unwrap(),
                "[2001:db8::2]:80".parse().unwrap(),
            )
        } else {
            (
                "10.45.0.2:40000".parse().unwrap(),
                "192.0.2.1:80".parse().unwrap(),
            )
        };
        let fields = TcpFields {
            options,
            ..TcpFields::new(7, 0, flags)
        };
        build::tcp_packet(src, dst, &fields, b"").unwrap()
    }

    fn clamped(packet: &[u8]) -> (MssOutcome, Vec<u8>) {
        let mut rewrite = Rewrite::new();
        rewrite.load(packet).unwrap();
        let outcome = MssClamp::for_mtu(1400).clamp(&mut rewrite);
        let mut place = [0; 2048];
        let len = rewrite.copy_to(packet, &mut place).unwrap();
        (outcome, place[..len].to_vec())
    }

    fn checksum_holds(packet: &[u8]) -> bool {
        let ip = parse_ip(packet).unwrap();
        transport_checksum(ip.src, ip.dst, ip.protocol, ip.payload) == 0
    }

    #[test]
    fn a_syn_and_a_syn_ack_announce_at_most_what_fits() {
        for (v6, limit) in [(false, 1360), (true, 1340)] {
            for flags in [TcpFlags::SYN, TcpFlags::SYN.union(TcpFlags::ACK)] {
                let (outcome, packet) = clamped(&syn(v6, flags, &[2, 4, 5, 0xb4]));

                assert_eq!(
                    outcome,
                    MssOutcome::Lowered {
                        from: 1460,
                        to: limit
                    }
                );
                assert_eq!(packet, {
                    let [high, low] = limit.to_be_bytes();
                    syn(v6, flags, &[2, 4, high, low])
                });
            }
        }
    }

    #[test]
    fn a_value_at_an_odd_place_is_lowered_with_its_checksum() {
        let options = [1, 2, 4, 5, 0xb4, 1, 1, 0];

        let (outcome, packet) = clamped(&syn(false, TcpFlags::SYN, &options));

        assert!(matches!(outcome, MssOutcome::Lowered { .. }));
        assert_eq!(
            packet,
            syn(false, TcpFlags::SYN, &[1, 2, 4, 5, 0x50, 1, 1, 0])
        );
    }

    #[test]
    fn what_is_small_enough_signed_or_no_syn_is_left_alone() {
        let signed = [&[2, 4, 5, 0xb4, 29, 16][..], &[0; 14]].concat();
        for (flags, options) in [
            (TcpFlags::SYN, &[2, 4, 5, 0x50][..]),
            (TcpFlags::SYN, &[]),
            (TcpFlags::SYN, &signed),
            (TcpFlags::SYN, &[0, 4, 2, 4]),
            (TcpFlags::SYN, &[3, 0, 2, 4, 5, 0xb4, 0, 0]),
            (TcpFlags::SYN, &[2, 3, 5, 0xb4]),
            (TcpFlags::ACK, &[2, 4, 5, 0xb4]),
        ] {
            let packet = syn(false, flags, options);

            assert_eq!(clamped(&packet), (MssOutcome::Unchanged, packet));
        }
    }

    proptest! {
        #[test]
        fn any_options_keep_their_length_and_a_right_checksum(
            v6: bool, words in prop::collection::vec(any::<[u8; 4]>(), 0..10), mss: Option<u16>,
        ) {
            let mut options = words.concat();
            if let (Some(mss), Some(place)) = (mss, options.get_mut(..4)) {
                let [high, low] = mss.to_be_bytes();
                place.copy_from_slice(&[2, 4, high, low]);
            }
            let packet = syn(v6, TcpFlags::SYN, &options);

            let (outcome, after) = clamped(&packet);

            prop_assert_eq!(after.len(), packet.len());
            prop_assert!(checksum_holds(&after));
            prop_assert_eq!(outcome == MssOutcome::Unchanged, after == packet);
            prop_assert_eq!(clamped(&after).0, MssOutcome::Unchanged);
        }
    }
}
