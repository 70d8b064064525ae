//! The pool: which block of ports belongs to whom, and which mapping has which port.
//!
//! ```text
//! external port   | 0 .. 1023 unused | block | block | ... |    block = port >> shift
//! share           the blocks whose number leaves its index modulo their count
//! places          [address][block][protocol][port in block] -> mapping, resting since, or never used
//! ```
//!
//! Free blocks stand in two queues, oldest release first: one of all, from which a subscriber gets
//! its first block, and one per address, from which it gets further ones. Both answer at once,
//! however full the pool is.

use std::net::{IpAddr, Ipv4Addr};

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::{NatConfig, NatConfigError, NatProtocol, PoolShare};
use crate::chain::{Chain, List, NONE, place};

/// The first port that is used.
pub(super) const FIRST_PORT: u32 = 1024;

/// Set in a place that no mapping has; the other bits are the second since which it rests.
const RESTS: u32 = 1 << 31;

/// A place that no mapping ever had.
const NEVER_USED: u32 = u32::MAX;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holder {
    /// Nobody, since the block's time.
    Free,
    /// A subscriber by number.
    Subscriber(u32),
    /// Nobody any more, but the log has not taken the release yet.
    Unreported,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Block {
    pub(crate) holder: Holder,
    /// What the holder was opened as.
    pub(crate) identity: u128,
    /// The inside address that asked for it.
    pub(crate) inside: IpAddr,
    /// Mappings in it.
    pub(crate) live: u32,
    /// Since when it is free or has no mapping.
    pub(crate) since_ns: u64,
}

/// A port of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Port {
    pub(crate) block: u32,
    pub(crate) offset: u32,
}

#[derive(Debug, Clone)]
pub(crate) struct Blocks {
    addresses: Box<[Ipv4Addr]>,
    shift: u32,
    share: PoolShare,
    /// Blocks of this share on each address, those of unused ports included.
    per_address: u32,
    blocks: Box<[Block]>,
    places: Box<[u32]>,
    all_chain: Chain,
    all: List,
    own_chain: Chain,
    own: Box<[List]>,
    rest_ns: u64,
    secret: u64,
    draws: u64,
    used: u32,
}

impl Blocks {
    pub(crate) fn try_new(config: &NatConfig) -> Result<Self, NatConfigError> {
        let addresses = config.check()?;
        let shift = config.block_ports.trailing_zeros();
        let share = config.share;
        let (index, of) = (u32::from(share.index), u32::from(share.of).max(1));
        // Blocks whose number is the index modulo `of`.
        let per_address = (65_536_u32 >> shift).saturating_sub(index).div_ceil(of);
        // At most 4096 addresses of 1024 blocks.
        let count = place(per_address).saturating_mul(addresses.len());
        let block = Block {
            holder: Holder::Free,
            identity: 0,
            inside: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            live: 0,
            since_ns: 0,
        };
        let places = count
            .saturating_mul(1 << shift)
            .saturating_mul(NatProtocol::COUNT);
        let mut blocks = Self {
            shift,
            share,
            per_address,
            blocks: vec![block; count].into_boxed_slice(),
            places: vec![NEVER_USED; places].into_boxed_slice(),
            all_chain: Chain::new(count),
            all: List::EMPTY,
            own_chain: Chain::new(count),
            own: vec![List::EMPTY; addresses.len()].into_boxed_slice(),
            addresses: addresses.into_boxed_slice(),
            rest_ns: config.timeouts.rest_ns,
            secret: config.secret,
            draws: 0,
            used: 0,
        };
        // One block of every address, then the next: subscribers spread over the addresses.
        for within in blocks.unused()..per_address {
            for address in 0..blocks.own.len() {
                let number = u32::try_from(address).unwrap_or(NONE);
                blocks.queue(number.saturating_mul(per_address).saturating_add(within));
            }
        }
        Ok(blocks)
    }

    /// Whether the pool has this address.
    #[inline]
    pub(crate) fn is_ours(&self, address: Ipv4Addr) -> bool {
        self.number_of(address).is_some()
    }

    /// The place of an address in the pool. Most addresses asked for are far outside of it.
    #[inline]
    fn number_of(&self, address: Ipv4Addr) -> Option<u32> {
        let (first, last) = (self.addresses.first()?, self.addresses.last()?);
        if address < *first || address > *last {
            return None;
        }
        u32::try_from(self.addresses.binary_search(&address).ok()?).ok()
    }

    /// The mapping of an external place.
    #[inline]
    pub(crate) fn mapping_at(
        &self,
        address: Ipv4Addr,
        protocol: NatProtocol,
        port: u16,
    ) -> Option<u32> {
        let block = self.block_at(address, port)?;
        let offset = u32::from(port) & self.offset_mask();
        let at = self.place_of(Port { block, offset }, protocol);
        self.places.get(at).copied().filter(|held| *held < RESTS)
    }

    /// The block of an external port; `None` when it is another share's, or not the pool's.
    #[inline]
    pub(crate) fn block_at(&self, address: Ipv4Addr, port: u16) -> Option<u32> {
        let address = self.number_of(address)?;
        let of = u32::from(self.share.of).max(1);
        let number = u32::from(port) >> self.shift;
        let own = number.checked_rem(of) == Some(u32::from(self.share.index));
        let within = number.checked_div(of)?;
        own.then(|| within.saturating_add(address.saturating_mul(self.per_address)))
    }

    /// Which share has an external port.
    #[inline]
    pub(crate) fn owner_of(&self, port: u16) -> u8 {
        let of = u32::from(self.share.of).max(1);
        let owner = (u32::from(port) >> self.shift).checked_rem(of);
        owner
            .and_then(|owner| u8::try_from(owner).ok())
            .unwrap_or(0)
    }

    /// The external address and port of a place.
    #[inline]
    pub(crate) fn external(&self, port: Port) -> (Ipv4Addr, u16) {
        let (address, first) = self.span(port.block);
        (
            address,
            first.saturating_add(u16::try_from(port.offset).unwrap_or(0)),
        )
    }

    /// Address and first port of a block.
    pub(crate) fn span(&self, block: u32) -> (Ipv4Addr, u16) {
        let address = self.address_of(block);
        let within = (block % self.per_address)
            .saturating_mul(self.share.of.into())
            .saturating_add(self.share.index.into());
        let address = self.addresses.get(place(address)).copied();
        (
            address.unwrap_or(Ipv4Addr::UNSPECIFIED),
            u16::try_from(within << self.shift).unwrap_or(0),
        )
    }

    /// Ports of a block.
    pub(crate) const fn size(&self) -> u32 {
        1 << self.shift
    }

    /// Blocks in all, and those that somebody holds.
    pub(crate) fn gauges(&self) -> (u32, u32) {
        let usable = self.per_address.saturating_sub(self.unused());
        let addresses = u32::try_from(self.addresses.len()).unwrap_or(0);
        (usable.saturating_mul(addresses), self.used)
    }

    /// A free block that has rested: on the address of `like`, or on any.
    pub(crate) fn next_free(&self, like: Option<u32>, now_ns: u64) -> Option<u32> {
        let list = match like {
            Some(block) => self.own.get(place(self.address_of(block)))?,
            None => &self.all,
        };
        let number = list.first()?;
        let block = self.blocks.get(place(number))?;
        let rested = block.since_ns == 0 || now_ns.saturating_sub(block.since_ns) >= self.rest_ns;
        rested.then_some(number)
    }

    /// Gives a free block to a subscriber.
    pub(crate) fn assign(
        &mut self,
        number: u32,
        subscriber: u32,
        (identity, inside): (u128, IpAddr),
        now_ns: u64,
    ) {
        self.take(number);
        if let Some(block) = self.blocks.get_mut(place(number)) {
            *block = Block {
                holder: Holder::Subscriber(subscriber),
                identity,
                inside,
                live: 0,
                since_ns: now_ns,
            };
        }
    }

    /// Takes a free block out of the queues.
    fn take(&mut self, number: u32) {
        self.all_chain.remove(&mut self.all, number);
        let address = place(self.address_of(number));
        if let Some(list) = self.own.get_mut(address) {
            self.own_chain.remove(list, number);
        }
        self.used = self.used.saturating_add(1);
    }

    /// Whether a block was never anybody's, and is not one of unused ports.
    pub(crate) fn is_new(&self, number: u32) -> bool {
        let held = self.get(number);
        number % self.per_address >= self.unused()
            && held.is_some_and(|block| block.holder == Holder::Free && block.since_ns == 0)
    }

    /// Lets a free block rest as if it had been released then.
    pub(crate) fn rest(&mut self, number: u32, released_ns: u64) {
        self.take(number);
        self.release(number, released_ns);
    }

    /// Blocks at the beginning of each address that hold unused ports.
    fn unused(&self) -> u32 {
        let first = FIRST_PORT.div_ceil(self.size());
        first
            .saturating_sub(self.share.index.into())
            .div_ceil(u32::from(self.share.of).max(1))
    }

    /// Takes a block back.
    pub(crate) fn release(&mut self, number: u32, now_ns: u64) {
        if let Some(block) = self.blocks.get_mut(place(number)) {
            block.holder = Holder::Free;
            // Zero says that it never was anybody's.
            block.since_ns = now_ns.max(1);
        }
        self.used = self.used.saturating_sub(1);
        self.queue(number);
    }

    pub(crate) fn get(&self, number: u32) -> Option<Block> {
        self.blocks.get(place(number)).copied()
    }

    /// Marks a block whose release the log has not taken.
    pub(crate) fn leave_unreported(&mut self, number: u32) {
        if let Some(block) = self.blocks.get_mut(place(number)) {
            block.holder = Holder::Unreported;
        }
    }

    /// Blocks, whoever holds them.
    pub(crate) fn count(&self) -> u32 {
        u32::try_from(self.blocks.len()).unwrap_or(NONE)
    }

    /// A port of a block that is free and has rested, chosen so that nobody outside can guess it.
    /// Source: RFC 6056 §3.3.
    pub(crate) fn free_port(
        &mut self,
        block: u32,
        protocol: NatProtocol,
        now_ns: u64,
    ) -> Option<Port> {
        let first = self.place_of(Port { block, offset: 0 }, protocol);
        let places = self.places.get(first..)?.get(..place(self.size()))?;
        self.draws = self.draws.wrapping_add(1);
        let draw = xxh3_64_with_seed(&self.draws.to_le_bytes(), self.secret);
        let start = u32::try_from(draw & u64::from(self.offset_mask())).unwrap_or(0);
        let (before, after) = places.split_at_checked(place(start))?;
        let rest_s = self.rest_ns.div_ceil(1_000_000_000);
        let is_free = |held: &u32| has_rested(*held, now_ns, rest_s);
        let offset = match after.iter().position(is_free) {
            Some(at) => at.saturating_add(place(start)),
            None => before.iter().position(is_free)?,
        };
        Some(Port {
            block,
            offset: u32::try_from(offset).ok()?,
        })
    }

    /// Gives a free port to a mapping.
    pub(crate) fn take_port(&mut self, port: Port, protocol: NatProtocol, mapping: u32) {
        let at = self.place_of(port, protocol);
        if let Some(held) = self.places.get_mut(at) {
            *held = mapping;
        }
        if let Some(block) = self.blocks.get_mut(place(port.block)) {
            block.live = block.live.saturating_add(1);
        }
    }

    /// Takes a port back.
    pub(crate) fn free(&mut self, port: Port, protocol: NatProtocol, now_ns: u64) {
        let at = self.place_of(port, protocol);
        if let Some(held) = self.places.get_mut(at) {
            *held = RESTS | second(now_ns);
        }
        if let Some(block) = self.blocks.get_mut(place(port.block)) {
            block.live = block.live.saturating_sub(1);
            block.since_ns = now_ns;
        }
    }

    /// The mapping at a place of a block; places count through ports and protocols.
    pub(crate) fn mapping_in(&self, block: u32, at: u32) -> Option<u32> {
        let first = place(block).saturating_mul(place(self.places_per_block()));
        let held = self.places.get(first.saturating_add(place(at)))?;
        Some(*held).filter(|held| *held < RESTS)
    }

    /// Places of a block: ports times protocols.
    pub(crate) const fn places_per_block(&self) -> u32 {
        self.size().saturating_mul(3)
    }

    fn queue(&mut self, number: u32) {
        self.all_chain.push_back(&mut self.all, number);
        let address = place(self.address_of(number));
        if let Some(list) = self.own.get_mut(address) {
            self.own_chain.push_back(list, number);
        }
    }

    #[inline]
    fn place_of(&self, port: Port, protocol: NatProtocol) -> usize {
        place(port.block)
            .saturating_mul(NatProtocol::COUNT)
            .saturating_add(protocol.index())
            .saturating_mul(place(self.size()))
            .saturating_add(place(port.offset))
    }

    const fn offset_mask(&self) -> u32 {
        self.size().saturating_sub(1)
    }

    const fn address_of(&self, block: u32) -> u32 {
        block / self.per_address
    }
}

/// The second of a time, in the bits below [`RESTS`]; never all of them.
fn second(now_ns: u64) -> u32 {
    u32::try_from(now_ns / 1_000_000_000 % u64::from(RESTS - 1)).unwrap_or(0)
}

/// Whether a place is free for use again.
fn has_rested(held: u32, now_ns: u64, rest_s: u64) -> bool {
    if held < RESTS {
        return false;
    }
    // Seconds are cut, so one more has to pass.
    let rested = second(now_ns).wrapping_sub(held & !RESTS) & !RESTS;
    held == NEVER_USED || rest_s == 0 || u64::from(rested) > rest_s
}
