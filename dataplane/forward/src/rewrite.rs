//! The bytes that leave in place of a packet's first bytes.

use qlink_wire::{Fragment, IcmpFamily, WireError, parse_ip};
use std::net::IpAddr;

/// Most bytes of a packet that are copied to be edited. Chosen: the longest headers that a rule
/// reads are those of an ICMPv6 error with 64 bytes of extension headers that quotes such a packet
/// (40 + 64 + 8 + 40 + 20 = 172).
pub const LOADED_MAX: usize = 192;

/// Bytes of the scratch. NAT64 adds at most 28 bytes to a header and as much to a quoted one.
pub const SCRATCH_MAX: usize = LOADED_MAX + 64;

/// Why a packet could not be loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum LoadError {
    /// No sound IP header.
    #[error("the bytes hold no sound ip header")]
    Malformed(#[from] WireError),
    /// Fewer bytes than the header states: half a packet is not sent on.
    #[error("the packet is shorter than its header states")]
    Truncated,
}

/// A packet as it will leave: edited first bytes, then a range of the received packet.
///
/// One lives per place of a burst and is loaded anew for every packet; it is never moved.
#[derive(Debug, Clone)]
pub struct Rewrite {
    scratch: [u8; SCRATCH_MAX],
    len: usize,
    /// How many bytes at the start of the received packet the scratch stands for.
    replaced: usize,
    /// Where the received packet ends; bytes behind it are padding.
    end: usize,
}

impl Default for Rewrite {
    fn default() -> Self {
        Self::new()
    }
}

impl Rewrite {
    /// An empty packet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            scratch: [0; SCRATCH_MAX],
            len: 0,
            replaced: 0,
            end: 0,
        }
    }

    /// Takes a received IP packet: copies its first bytes, at most [`LOADED_MAX`], and notes where
    /// it ends.
    ///
    /// # Errors
    ///
    /// [`LoadError::Malformed`], [`LoadError::Truncated`]; the rewrite is empty then.
    pub fn load(&mut self, packet: &[u8]) -> Result<(), LoadError> {
        (self.len, self.replaced, self.end) = (0, 0, 0);
        let stated = parse_ip(packet)?.total_len;
        // At most 65,575.
        let end = usize::try_from(stated).unwrap_or(usize::MAX);
        let packet = packet.get(..end).ok_or(LoadError::Truncated)?;
        let copied = end.min(LOADED_MAX);
        self.put(0, packet.get(..copied).unwrap_or(&[]));
        (self.len, self.replaced, self.end) = (copied, copied, end);
        Ok(())
    }

    /// The bytes to send first.
    #[must_use]
    pub fn head(&self) -> &[u8] {
        self.scratch.get(..self.len).unwrap_or(&[])
    }

    /// The bytes of the received packet to send behind them; `packet` is the one that was loaded.
    #[must_use]
    pub fn body<'a>(&self, packet: &'a [u8]) -> &'a [u8] {
        packet.get(self.replaced..self.end).unwrap_or(&[])
    }

    /// Bytes that will be sent.
    #[must_use]
    pub const fn total_len(&self) -> usize {
        self.len
            .saturating_add(self.end.saturating_sub(self.replaced))
    }

    /// Puts the packet together in `place`; how many bytes it has, `None` when they do not fit.
    ///
    /// For buffers, captures and tests; the packet path sends both parts gathered.
    pub fn copy_to(&self, packet: &[u8], place: &mut [u8]) -> Option<usize> {
        let (head, body) = (self.head(), self.body(packet));
        let whole = place.get_mut(..head.len().saturating_add(body.len()))?;
        let (first, second) = whole.split_at_mut_checked(head.len())?;
        first.copy_from_slice(head);
        second.copy_from_slice(body);
        Some(whole.len())
    }

    /// `N` bytes of the scratch.
    #[inline]
    pub(crate) fn bytes<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.head().get(at..)?.first_chunk::<N>().copied()
    }

    /// A big-endian word of the scratch.
    #[inline]
    pub(crate) fn word(&self, at: usize) -> Option<u16> {
        self.bytes(at).map(u16::from_be_bytes)
    }

    /// Overwrites bytes of the scratch; bytes beyond its memory are left out.
    #[inline]
    pub(crate) fn put(&mut self, at: usize, bytes: &[u8]) {
        if let Some(place) = self
            .scratch
            .get_mut(at..)
            .and_then(|rest| rest.get_mut(..bytes.len()))
        {
            place.copy_from_slice(bytes);
        }
    }

    /// Overwrites a word of the scratch.
    #[inline]
    pub(crate) fn put_word(&mut self, at: usize, word: u16) {
        self.put(at, &word.to_be_bytes());
    }

    /// Puts `new` in the place of `old_len` bytes at `at`; false, and nothing changes, when the
    /// scratch is too small.
    pub(crate) fn splice(&mut self, at: usize, old_len: usize, new: &[u8]) -> bool {
        let (from, to) = (at.saturating_add(old_len), at.saturating_add(new.len()));
        let Some(tail) = self.len.checked_sub(from) else {
            return false;
        };
        let len = to.saturating_add(tail);
        if len > SCRATCH_MAX {
            return false;
        }
        self.scratch.copy_within(from..self.len, to);
        self.len = len;
        self.put(at, new);
        true
    }

    /// Makes this a packet of `head` and the bytes `range` of the received packet.
    pub(crate) fn set(&mut self, head: &[&[u8]], range: std::ops::Range<usize>) {
        let mut at = 0_usize;
        for part in head {
            self.put(at, part);
            at = at.saturating_add(part.len());
        }
        (self.len, self.replaced, self.end) = (at.min(SCRATCH_MAX), range.start, range.end);
    }

    /// Where the body stands in the received packet.
    pub(crate) const fn body_range(&self) -> std::ops::Range<usize> {
        self.replaced..self.end
    }

    /// Cuts the packet's end off so that `len` bytes are left, as far as it is in the body.
    pub(crate) const fn cut_body(&mut self, len: usize) {
        let body = len.saturating_sub(self.len);
        let end = self.replaced.saturating_add(body);
        if end < self.end {
            self.end = end;
        }
    }

    /// What the IP header at `at` of the scratch says; `None` when there is none.
    #[inline]
    pub(crate) fn header(&self, at: usize) -> Option<Header> {
        let ip = parse_ip(self.head().get(at..)?).ok()?;
        Some(Header {
            src: ip.src,
            dst: ip.dst,
            protocol: ip.protocol,
            len: usize::from(ip.header_len),
            payload_len: ip.payload_len,
            fragment: ip.fragment,
        })
    }
}

/// An IP header in a scratch; like [`qlink_wire::IpPacket`] without its borrowed bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) src: IpAddr,
    pub(crate) dst: IpAddr,
    pub(crate) protocol: u8,
    pub(crate) len: usize,
    pub(crate) payload_len: u32,
    pub(crate) fragment: Option<Fragment>,
}

impl Header {
    /// Whether the transport header is not in this packet.
    pub(crate) fn is_later_fragment(&self) -> bool {
        self.fragment.is_some_and(|fragment| fragment.offset > 0)
    }

    /// The ICMP family when the packet carries ICMP of its own IP version.
    pub(crate) fn icmp(&self) -> Option<IcmpFamily> {
        IcmpFamily::from_protocol(self.protocol)
            .filter(|family| (*family == IcmpFamily::V4) == self.src.is_ipv4())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use qlink_wire::build;

    fn packet(payload: usize) -> Vec<u8> {
        build::udp_packet(
            "10.45.0.2:1".parse().unwrap(),
            "192.0.2.1:2".parse().unwrap(),
            &vec![7; payload],
        )
        .unwrap()
    }

    fn whole(rewrite: &Rewrite, packet: &[u8]) -> Vec<u8> {
        let mut place = [0; 2048];
        let len = rewrite.copy_to(packet, &mut place).unwrap();
        place[..len].to_vec()
    }

    #[test]
    fn a_loaded_packet_leaves_as_it_came_without_its_padding() {
        for payload in [0, 1, 100, 163, 164, 165, 1400] {
            let packet = packet(payload);
            let padded = [&packet[..], &[0; 9]].concat();
            let mut rewrite = Rewrite::new();

            rewrite.load(&padded).unwrap();

            assert_eq!(whole(&rewrite, &padded), packet);
            assert_eq!(rewrite.total_len(), packet.len());
            assert!(rewrite.head().len() <= LOADED_MAX);
        }
    }

    #[test]
    fn half_a_packet_and_no_packet_are_refused_and_leave_nothing() {
        let (packet, mut rewrite) = (packet(1400), Rewrite::new());
        rewrite.load(&packet).unwrap();

        assert_eq!(rewrite.load(&packet[..1427]), Err(LoadError::Truncated));
        assert_eq!(rewrite.total_len(), 0);
        assert_eq!(
            rewrite.load(&[]),
            Err(LoadError::Malformed(WireError::IpTruncated))
        );
    }

    #[test]
    fn a_splice_moves_what_follows_and_never_outgrows_the_scratch() {
        let (packet, mut rewrite) = (packet(300), Rewrite::new());
        rewrite.load(&packet).unwrap();

        assert!(rewrite.splice(0, 20, &[9; 48]));
        assert_eq!(whole(&rewrite, &packet), [&[9; 48], &packet[20..]].concat());
        assert!(rewrite.splice(0, 48, &packet[..20]));
        assert_eq!(whole(&rewrite, &packet), packet);
        assert!(!rewrite.splice(0, 0, &[1; 65]));
        assert!(!rewrite.splice(190, 20, &[]));
        assert_eq!(whole(&rewrite, &packet), packet);
    }
}
