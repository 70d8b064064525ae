//! Reading a block of the ring: a total parser over bytes that the kernel wrote.
//!
//! Source: `linux/if_packet.h`, kernel documentation `networking/packet_mmap`.

use std::mem::offset_of;

use libc::{sockaddr_ll, tpacket_block_desc, tpacket_hdr_v1, tpacket_hdr_variant1, tpacket3_hdr};

/// Bytes of both MAC addresses, behind which a VLAN tag stands.
const MAC_BYTES: usize = 12;
/// Bytes of a VLAN tag: tag protocol and tag control information.
const TAG_BYTES: usize = 4;
/// Tag protocol of 802.1Q, for kernels that do not say which one it was.
const DOT1Q: u16 = 0x8100;
/// Where the sender's link-layer address stands behind a frame's header.
const ADDRESS_AT: usize = size_of::<tpacket3_hdr>().next_multiple_of(libc::TPACKET_ALIGNMENT);

/// One frame of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame {
    /// First byte inside the block.
    pub(super) start: usize,
    /// Bytes present.
    pub(super) len: u32,
    /// Bytes on the wire.
    pub(super) orig_len: u32,
    /// When it came, nanoseconds since the Unix epoch.
    pub(super) unix_ns: u64,
    /// The tag that was taken out.
    tag: Option<[u8; TAG_BYTES]>,
    /// `PACKET_OUTGOING` and its siblings.
    pub(super) kind: u8,
}

/// What stands at the cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Frame(Frame),
    /// No frame any more.
    End,
    /// The rest of the block is not readable.
    Malformed,
}

/// Where reading stands inside a block.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Cursor {
    at: usize,
    left: u32,
}

impl Cursor {
    /// Before the first frame of `block`.
    pub(super) fn new(block: &[u8]) -> Self {
        const HEADER: usize = offset_of!(tpacket_block_desc, hdr);
        let field = |offset| u32_at(block, HEADER.saturating_add(offset));
        let first = field(offset_of!(tpacket_hdr_v1, offset_to_first_pkt));
        let count = field(offset_of!(tpacket_hdr_v1, num_pkts));
        match (first, count) {
            (Some(first), Some(left)) => Self {
                at: first as usize,
                left,
            },
            _ => Self::default(),
        }
    }

    /// Whether no frame is left.
    pub(super) const fn is_at_end(self) -> bool {
        self.left == 0
    }

    /// The next frame of `block`, over which the cursor moves.
    pub(super) fn advance(&mut self, block: &[u8]) -> Next {
        if self.left == 0 {
            return Next::End;
        }
        let Some((frame, step)) = read(block, self.at) else {
            self.left = 0;
            return Next::Malformed;
        };
        self.left = self.left.saturating_sub(1);
        self.at = self.at.saturating_add(step);
        Next::Frame(frame)
    }
}

/// The frame whose header stands at `at`, and how far behind the next header is.
fn read(block: &[u8], at: usize) -> Option<(Frame, usize)> {
    let header = block.get(at..)?;
    let tags = offset_of!(tpacket3_hdr, hv1);
    let status = u32_at(header, offset_of!(tpacket3_hdr, tp_status))?;
    let tci = u32_at(header, tags + offset_of!(tpacket_hdr_variant1, tp_vlan_tci))?;
    let tpid = u16_at(
        header,
        tags + offset_of!(tpacket_hdr_variant1, tp_vlan_tpid),
    )?;
    let len = u32_at(header, offset_of!(tpacket3_hdr, tp_snaplen))?;
    let mac = usize::from(u16_at(header, offset_of!(tpacket3_hdr, tp_mac))?);
    header.get(mac..)?.get(..len as usize)?;
    let seconds = u32_at(header, offset_of!(tpacket3_hdr, tp_sec))?;
    let nanoseconds = u32_at(header, offset_of!(tpacket3_hdr, tp_nsec))?;
    let frame = Frame {
        start: at.checked_add(mac)?,
        len,
        orig_len: u32_at(header, offset_of!(tpacket3_hdr, tp_len))?,
        unix_ns: u64::from(seconds)
            .checked_mul(1_000_000_000)?
            .checked_add(u64::from(nanoseconds))?,
        tag: tag(status, tci, tpid),
        kind: *header.get(ADDRESS_AT + offset_of!(sockaddr_ll, sll_pkttype))?,
    };
    let step = u32_at(header, offset_of!(tpacket3_hdr, tp_next_offset))?;
    Some((frame, step as usize))
}

/// The tag that stood in the frame; the upper half of `tci` is unused.
fn tag(status: u32, tci: u32, tpid: u16) -> Option<[u8; TAG_BYTES]> {
    if status & libc::TP_STATUS_VLAN_VALID == 0 {
        return None;
    }
    let says_protocol = status & libc::TP_STATUS_VLAN_TPID_VALID != 0;
    let protocol = if says_protocol { tpid } else { DOT1Q };
    let [.., high, low] = tci.to_be_bytes();
    let [first, second] = protocol.to_be_bytes();
    Some([first, second, high, low])
}

impl Frame {
    /// Whether the frame's bytes lack a tag.
    pub(super) const fn lacks_tag(&self) -> bool {
        self.tag.is_some()
    }

    /// The frame with its tag back in place: the MAC addresses move into the room before the
    /// frame. Without such room, or without whole addresses, nothing changes.
    pub(super) fn with_tag(self, block: &mut [u8]) -> Self {
        let (Some(tag), Some(start)) = (self.tag, self.start.checked_sub(TAG_BYTES)) else {
            return self;
        };
        let whole = (self.len as usize) >= MAC_BYTES;
        let Some(room) = block
            .get_mut(start..)
            .and_then(|room| room.get_mut(..MAC_BYTES + TAG_BYTES))
            .filter(|_| whole)
        else {
            return self;
        };
        room.copy_within(TAG_BYTES.., 0);
        if let Some(place) = room.last_chunk_mut() {
            *place = tag;
        }
        Self {
            start,
            len: self.len.saturating_add(4),
            orig_len: self.orig_len.saturating_add(4),
            tag: None,
            ..self
        }
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let field = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_ne_bytes(*field))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let field = bytes.get(at..)?.first_chunk()?;
    Some(u16::from_ne_bytes(*field))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// No block makes the reader panic, run for ever or leave the block.
        #[test]
        fn any_bytes_are_read_to_an_end(
            mut block in prop::collection::vec(any::<u8>(), 0..2048),
            first in 0_u32..2048,
        ) {
            if let Some(place) = block.get_mut(16..20) {
                place.copy_from_slice(&first.to_ne_bytes());
            }
            if let Some(place) = block.get_mut(12..16) {
                place.copy_from_slice(&50_u32.to_ne_bytes());
            }
            let mut cursor = Cursor::new(&block);
            for _ in 0..=50 {
                match cursor.advance(&block) {
                    Next::Frame(frame) => {
                        let frame = frame.with_tag(&mut block);
                        let end = frame.start + frame.len as usize;
                        prop_assert!(end <= block.len());
                    }
                    Next::End | Next::Malformed => prop_assert!(cursor.is_at_end()),
                }
            }
            prop_assert!(cursor.is_at_end());
        }
    }

    #[test]
    fn a_tag_goes_back_between_addresses_and_type() {
        let mut block = [&[0_u8; 8][..], b"DDDDDDSSSSSStypebody"].concat();
        let frame = Frame {
            start: 8,
            len: 20,
            orig_len: 20,
            unix_ns: 0,
            tag: tag(
                libc::TP_STATUS_VLAN_VALID | libc::TP_STATUS_VLAN_TPID_VALID,
                0x2064,
                0x88a8,
            ),
            kind: 0,
        };

        let whole = frame.with_tag(&mut block);

        assert_eq!(
            block[whole.start..],
            *b"DDDDDDSSSSSS\x88\xa8\x20\x64typebody"
        );
        assert_eq!((whole.len, whole.orig_len), (24, 24));
    }
}
