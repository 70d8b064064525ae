//! Reassembly of fragmented outer packets, so that the GTP-U header of the first fragment covers
//! the bytes of all.
//!
//! Everything is allocated once: a table of incomplete datagrams, a pool of 2 KiB blocks that
//! their bytes live in, and one buffer for the datagram that was just completed. Bounds hold in
//! datagrams, in datagrams per source, in bytes and in time; an attacker can fill them, never
//! exceed them, and gets a reason.
//!
//! ```text
//! fragment -> key (src, dst, id, protocol) -> datagram { map of 8-byte units, block numbers }
//!                                                        |                     |
//!                          overlap? complete? <----------+     pool of blocks <+
//! ```
//!
//! **Overlap** is refused, not resolved: an exact copy of bytes that are already there is ignored,
//! any other overlap discards the datagram and every later fragment of it until its time is over.
//! First-wins was the alternative; receivers differ there, and a meter that resolves an overlap
//! otherwise than the receiver counts bytes that nobody got. Source: RFC 791 §3.2, RFC 5722 §4,
//! RFC 8200 §4.5.

use std::net::IpAddr;

use crate::ip::walk_extensions;
use crate::{Fragment, IpPacket, WireError};

/// Bytes of one block. Chosen: one block holds a fragment of a 1500-byte link.
const BLOCK_BYTES: usize = 2048;
/// Blocks that the largest datagram needs.
const BLOCKS_MAX: usize = 32;
/// Fragment offsets count 8-byte units.
const UNIT_BYTES: usize = 8;
/// Words of the unit map: 65,536 bytes / 8 bytes per unit / 64 units per word.
const MAP_WORDS: usize = 128;
/// Marks a block that is not allocated.
const NO_BLOCK: u32 = u32::MAX;
/// The largest payload of an IP packet, in bytes.
const PAYLOAD_MAX: usize = 65_535;

/// How much a [`Reassembler`] may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReassemblyLimits {
    /// Incomplete datagrams at a time, 1 to 4096; other values are brought into the range.
    pub datagrams: usize,
    /// Incomplete datagrams of one source address at a time, at least 1.
    pub datagrams_per_source: usize,
    /// Bytes of incomplete datagrams, rounded up to blocks of 2 KiB; at least one datagram of
    /// 64 KiB, at most 256 MiB.
    pub bytes: usize,
    /// Time from the first fragment to giving up, in nanoseconds of the caller's clock.
    pub timeout_ns: u64,
}

impl Default for ReassemblyLimits {
    /// 256 datagrams, 64 of one source, 2 MiB, 2 s.
    ///
    /// Chosen: fragments of one datagram arrive within milliseconds on a backhaul; the 60 s of
    /// RFC 8200 §4.5 only give a forger more time.
    fn default() -> Self {
        Self {
            datagrams: 256,
            datagrams_per_source: 64,
            bytes: 2 << 20,
            timeout_ns: 2_000_000_000,
        }
    }
}

/// What a [`Reassembler`] did since it was made; every number only grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReassemblyStats {
    /// Fragments taken into an incomplete datagram.
    pub fragments_accepted: u64,
    /// Exact copies of bytes that were already there; ignored.
    pub fragments_duplicate: u64,
    /// Datagrams completed.
    pub datagrams_completed: u64,
    /// Accepted fragments that were discarded because their datagram's time was over.
    pub fragments_expired: u64,
    /// Accepted fragments that were discarded because their datagram proved to be inconsistent.
    pub fragments_poisoned: u64,
}

/// Puts fragments of IP packets together.
#[derive(Debug)]
pub struct Reassembler {
    limits: ReassemblyLimits,
    /// Whose place in `datagrams` is taken by whom; apart, because every fragment searches it.
    keys: Box<[Option<Key>]>,
    datagrams: Box<[Datagram]>,
    pool: BlockPool,
    /// The datagram completed last.
    output: Box<[u8]>,
    /// No live datagram is older than this.
    oldest_ns: u64,
    live: usize,
    stats: ReassemblyStats,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Key {
    src: IpAddr,
    dst: IpAddr,
    id: u32,
    /// Zero in IPv6, where only the first fragment's number counts (RFC 8200 §4.5).
    protocol: u8,
}

#[derive(Debug, Clone)]
struct Datagram {
    first_ns: u64,
    /// Accepted fragments.
    fragments: u32,
    /// Units present.
    units: usize,
    /// Payload length, once the last fragment came.
    end: Option<usize>,
    /// End of the furthest fragment.
    reach: usize,
    /// Protocol and header length of the fragment at offset 0.
    head: Option<(u8, u16)>,
    /// Inconsistent: every further fragment is refused.
    poisoned: bool,
    map: [u64; MAP_WORDS],
    blocks: [u32; BLOCKS_MAX],
}

/// What the units of a fragment meet in a datagram.
enum Meeting {
    New,
    Covered,
    Partly,
}

impl Reassembler {
    /// A reassembler with all its memory.
    #[must_use]
    pub fn new(limits: ReassemblyLimits) -> Self {
        let datagrams = limits.datagrams.clamp(1, 4096);
        let blocks = limits
            .bytes
            .div_ceil(BLOCK_BYTES)
            .clamp(BLOCKS_MAX, 131_072);
        Self {
            limits,
            keys: vec![None; datagrams].into_boxed_slice(),
            datagrams: vec![Datagram::FREE; datagrams].into_boxed_slice(),
            pool: BlockPool::new(blocks),
            output: vec![0; PAYLOAD_MAX].into_boxed_slice(),
            oldest_ns: u64::MAX,
            live: 0,
            stats: ReassemblyStats::default(),
        }
    }

    /// Takes a packet at time `now_ns` (monotonic); gives it back when it is whole, gives the
    /// datagram when this fragment completed it, and `None` while fragments are missing.
    ///
    /// The datagram's `header_len` is that of its first fragment (without the IPv6 fragment
    /// header), `total_len` that of the packet before it was fragmented. Its bytes stay valid
    /// until the next call.
    ///
    /// # Errors
    ///
    /// [`WireError::FragmentLength`] for a fragment that the capture cut, an empty one, or one of
    /// uneven length; [`WireError::FragmentTooLarge`], [`WireError::FragmentOverlap`],
    /// [`WireError::FragmentTableFull`], [`WireError::FragmentMemoryFull`]; the errors of
    /// [`parse_ip`](crate::parse_ip) for IPv6 extension headers behind the fragment header.
    #[inline]
    pub fn push<'a>(
        &'a mut self,
        packet: &IpPacket<'a>,
        now_ns: u64,
    ) -> Result<Option<IpPacket<'a>>, WireError> {
        match packet.fragment {
            None => Ok(Some(*packet)),
            Some(fragment) => self.push_fragment(packet, fragment, now_ns),
        }
    }

    /// Discards every datagram whose time was over at `now_ns`; gives how many. Calling it is
    /// never needed: [`push`](Self::push) does it too.
    pub fn expire(&mut self, now_ns: u64) -> usize {
        if self.live == 0 || now_ns.saturating_sub(self.oldest_ns) <= self.limits.timeout_ns {
            return 0;
        }
        let (mut gone, mut oldest_ns) = (0, u64::MAX);
        for (key, datagram) in self.keys.iter_mut().zip(&mut self.datagrams) {
            if key.is_none() {
                continue;
            }
            if now_ns.saturating_sub(datagram.first_ns) > self.limits.timeout_ns {
                if !datagram.poisoned {
                    self.stats.fragments_expired += u64::from(datagram.fragments);
                }
                self.pool.release(&mut datagram.blocks);
                *key = None;
                gone += 1;
            } else {
                oldest_ns = oldest_ns.min(datagram.first_ns);
            }
        }
        self.live -= gone;
        self.oldest_ns = oldest_ns;
        gone
    }

    /// What was done so far.
    #[must_use]
    pub const fn stats(&self) -> ReassemblyStats {
        self.stats
    }

    /// Incomplete datagrams held now, including inconsistent ones that wait for their time.
    #[must_use]
    pub const fn pending(&self) -> usize {
        self.live
    }

    /// Bytes of blocks held now.
    #[must_use]
    pub fn pending_bytes(&self) -> usize {
        self.pool.used().saturating_mul(BLOCK_BYTES)
    }

    #[cold]
    fn push_fragment<'a>(
        &'a mut self,
        packet: &IpPacket<'_>,
        fragment: Fragment,
        now_ns: u64,
    ) -> Result<Option<IpPacket<'a>>, WireError> {
        self.expire(now_ns);
        let bytes = packet.payload;
        let uneven = fragment.more && !bytes.len().is_multiple_of(UNIT_BYTES);
        if packet.is_cut() || bytes.is_empty() || uneven {
            return Err(WireError::FragmentLength);
        }
        // The parser's offset has 16 bits.
        let start = usize::try_from(fragment.offset).unwrap_or(PAYLOAD_MAX);
        let end = start.saturating_add(bytes.len());
        if end > PAYLOAD_MAX {
            return Err(WireError::FragmentTooLarge);
        }
        let index = self.place(Key::of(packet, fragment), now_ns)?;
        let datagram = self
            .datagrams
            .get_mut(index)
            .ok_or(WireError::FragmentTableFull)?;
        if datagram.poisoned {
            return Err(WireError::FragmentOverlap);
        }
        match datagram.meet(start, end, fragment.more) {
            Meeting::New => {}
            Meeting::Covered if self.pool.equal(&datagram.blocks, start, bytes) => {
                self.stats.fragments_duplicate += 1;
                return Ok(None);
            }
            Meeting::Covered | Meeting::Partly => {
                datagram.poisoned = true;
                self.stats.fragments_poisoned += u64::from(datagram.fragments);
                self.pool.release(&mut datagram.blocks);
                return Err(WireError::FragmentOverlap);
            }
        }
        if !self.pool.write(&mut datagram.blocks, start, bytes) {
            if datagram.fragments == 0 {
                self.free(index);
            }
            return Err(WireError::FragmentMemoryFull);
        }
        datagram.note(packet, start, end, fragment.more);
        self.stats.fragments_accepted += 1;
        if datagram.is_complete() {
            self.complete(index, packet)
        } else {
            Ok(None)
        }
    }

    /// The datagram of `key`, new if there is none.
    fn place(&mut self, key: Key, now_ns: u64) -> Result<usize, WireError> {
        let (mut free, mut same_source) = (None, 0);
        for (index, held) in self.keys.iter().enumerate() {
            match held {
                Some(held) if *held == key => return Ok(index),
                Some(held) if held.src == key.src => same_source += 1,
                Some(_) => {}
                None => free = free.or(Some(index)),
            }
        }
        if same_source >= self.limits.datagrams_per_source.max(1) {
            return Err(WireError::FragmentTableFull);
        }
        let index = free.ok_or(WireError::FragmentTableFull)?;
        if let (Some(place), Some(datagram)) =
            (self.keys.get_mut(index), self.datagrams.get_mut(index))
        {
            *place = Some(key);
            *datagram = Datagram {
                first_ns: now_ns,
                ..Datagram::FREE
            };
        }
        self.live += 1;
        self.oldest_ns = self.oldest_ns.min(now_ns);
        Ok(index)
    }

    fn free(&mut self, index: usize) {
        if let (Some(place), Some(datagram)) =
            (self.keys.get_mut(index), self.datagrams.get_mut(index))
        {
            self.pool.release(&mut datagram.blocks);
            *place = None;
            self.live -= 1;
        }
    }

    /// Copies the datagram out, frees its place and describes it as a packet.
    fn complete<'a>(
        &'a mut self,
        index: usize,
        last: &IpPacket<'_>,
    ) -> Result<Option<IpPacket<'a>>, WireError> {
        let Some((head, len)) = self.datagrams.get(index).and_then(|datagram| {
            let len = datagram.end?;
            self.pool
                .read(&datagram.blocks, self.output.get_mut(..len)?);
            Some((datagram.head?, len))
        }) else {
            unreachable!("a complete datagram has a head, an end and all its bytes")
        };
        self.free(index);
        self.stats.datagrams_completed += 1;
        let payload = self.output.get(..len).unwrap_or(&[]);
        let (protocol, header_len) = head;
        let chain = match last.src {
            IpAddr::V4(_) => crate::ip::ExtensionChain {
                protocol,
                len: 0,
                fragment: None,
            },
            IpAddr::V6(_) => walk_extensions(protocol, payload, len)?,
        };
        if chain.fragment.is_some() {
            return Err(WireError::FragmentOverlap); // fragments inside fragments
        }
        // Both are at most 65,535, so 32 bits hold the sum.
        let payload_len = u32::try_from(len).unwrap_or(u32::MAX);
        let total_len = payload_len.saturating_add(u32::from(header_len));
        let limit = if last.src.is_ipv4() {
            65_535
        } else {
            65_535 + 40
        };
        if total_len > limit {
            return Err(WireError::FragmentTooLarge);
        }
        Ok(Some(IpPacket {
            src: last.src,
            dst: last.dst,
            protocol: chain.protocol,
            total_len,
            header_len: header_len.saturating_add(chain.len),
            fragment: None,
            payload: payload.get(usize::from(chain.len)..).unwrap_or(&[]),
            payload_len: payload_len.saturating_sub(u32::from(chain.len)),
        }))
    }
}

impl Key {
    fn of(packet: &IpPacket<'_>, fragment: Fragment) -> Self {
        let protocol = if packet.src.is_ipv4() {
            packet.protocol
        } else {
            0
        };
        Self {
            src: packet.src,
            dst: packet.dst,
            id: fragment.id,
            protocol,
        }
    }
}

impl Datagram {
    const FREE: Self = Self {
        first_ns: 0,
        fragments: 0,
        units: 0,
        end: None,
        reach: 0,
        head: None,
        poisoned: false,
        map: [0; MAP_WORDS],
        blocks: [NO_BLOCK; BLOCKS_MAX],
    };

    /// How the bytes `start..end` of a fragment stand to what is already there.
    fn meet(&self, start: usize, end: usize, more: bool) -> Meeting {
        let ends_agree = match self.end {
            Some(known) if more => end < known,
            Some(known) => end == known,
            // All that came so far said that more follows.
            None => more || end > self.reach,
        };
        if !ends_agree {
            return Meeting::Partly;
        }
        let (first, last) = (start / UNIT_BYTES, end.div_ceil(UNIT_BYTES));
        let present = self.present(first, last);
        if present == 0 {
            Meeting::New
        } else if present == last - first {
            Meeting::Covered
        } else {
            Meeting::Partly
        }
    }

    /// How many of the units `first..last` are there.
    fn present(&self, first: usize, last: usize) -> usize {
        self.map
            .iter()
            .enumerate()
            .map(|(word, bits)| (bits & word_mask(word, first, last)).count_ones() as usize)
            .sum()
    }

    fn note(&mut self, packet: &IpPacket<'_>, start: usize, end: usize, more: bool) {
        let (first, last) = (start / UNIT_BYTES, end.div_ceil(UNIT_BYTES));
        for (word, bits) in self.map.iter_mut().enumerate() {
            *bits |= word_mask(word, first, last);
        }
        self.units += last - first;
        self.fragments += 1;
        self.reach = self.reach.max(end);
        if !more {
            self.end = Some(end);
        }
        if start == 0 {
            // The 8 bytes of the IPv6 fragment header are no part of the original packet.
            let header_len = match packet.src {
                IpAddr::V4(_) => packet.header_len,
                IpAddr::V6(_) => packet.header_len.saturating_sub(8),
            };
            self.head = Some((packet.protocol, header_len));
        }
    }

    fn is_complete(&self) -> bool {
        self.end
            .is_some_and(|end| self.units == end.div_ceil(UNIT_BYTES))
    }
}

/// The bits of map word `word` that stand for units in `first..last`.
const fn word_mask(word: usize, first: usize, last: usize) -> u64 {
    let base = word * 64;
    let from = first.saturating_sub(base);
    let to = last.saturating_sub(base);
    below(to) & !below(from)
}

/// The lowest `count` bits.
const fn below(count: usize) -> u64 {
    if count >= 64 {
        u64::MAX
    } else {
        (1 << count) - 1
    }
}

/// Blocks of equal size and the list of free ones.
#[derive(Debug)]
struct BlockPool {
    memory: Box<[u8]>,
    /// Numbers of free blocks; its capacity is the number of blocks.
    free: Vec<u32>,
    blocks: usize,
}

impl BlockPool {
    fn new(blocks: usize) -> Self {
        let count = u32::try_from(blocks).unwrap_or(NO_BLOCK);
        Self {
            memory: vec![0; blocks * BLOCK_BYTES].into_boxed_slice(),
            free: (0..count).rev().collect(),
            blocks,
        }
    }

    const fn used(&self) -> usize {
        self.blocks.saturating_sub(self.free.len())
    }

    /// Writes `bytes` at `start` of the datagram that owns `owned`; false, and nothing changed,
    /// when the pool has too few blocks.
    fn write(&mut self, owned: &mut [u32; BLOCKS_MAX], start: usize, bytes: &[u8]) -> bool {
        let touched = || start / BLOCK_BYTES..(start + bytes.len()).div_ceil(BLOCK_BYTES);
        let mine = owned.get(touched()).unwrap_or(&[]);
        if mine.iter().filter(|block| **block == NO_BLOCK).count() > self.free.len() {
            return false;
        }
        for block in owned.get_mut(touched()).unwrap_or(&mut []) {
            if *block == NO_BLOCK {
                *block = self.free.pop().unwrap_or(NO_BLOCK);
            }
        }
        for (block, within, part) in pieces(owned, start, bytes) {
            if let Some(place) = self.memory.get_mut(span(block, within, part.len())) {
                place.copy_from_slice(part);
            }
        }
        true
    }

    /// Whether the bytes at `start` are `bytes`.
    fn equal(&self, owned: &[u32; BLOCKS_MAX], start: usize, bytes: &[u8]) -> bool {
        pieces(owned, start, bytes).all(|(block, within, part)| {
            self.memory.get(span(block, within, part.len())) == Some(part)
        })
    }

    /// Copies the datagram's first bytes to `output`.
    fn read(&self, owned: &[u32; BLOCKS_MAX], output: &mut [u8]) {
        for (part, block) in output.chunks_mut(BLOCK_BYTES).zip(owned) {
            if let Some(bytes) = self.memory.get(span(*block, 0, part.len())) {
                part.copy_from_slice(bytes);
            }
        }
    }

    fn release(&mut self, owned: &mut [u32; BLOCKS_MAX]) {
        for block in owned {
            if *block != NO_BLOCK {
                self.free.push(*block);
                *block = NO_BLOCK;
            }
        }
    }
}

/// Cuts `bytes` at block borders: block number, position within it, part.
fn pieces<'a>(
    owned: &[u32; BLOCKS_MAX],
    start: usize,
    bytes: &'a [u8],
) -> impl Iterator<Item = (u32, usize, &'a [u8])> {
    let within = start % BLOCK_BYTES;
    let (first, rest) = bytes
        .split_at_checked(BLOCK_BYTES - within)
        .unwrap_or((bytes, &[]));
    owned
        .iter()
        .copied()
        .skip(start / BLOCK_BYTES)
        .zip(std::iter::once((within, first)).chain(rest.chunks(BLOCK_BYTES).map(|part| (0, part))))
        .map(|(block, (within, part))| (block, within, part))
}

/// Where `len` bytes lie in the pool's memory.
const fn span(block: u32, within: usize, len: usize) -> std::ops::Range<usize> {
    let from = (block as usize)
        .saturating_mul(BLOCK_BYTES)
        .saturating_add(within);
    from..from.saturating_add(len)
}

#[cfg(test)]
#[path = "fragment_tests.rs"]
mod tests;
