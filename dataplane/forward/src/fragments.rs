//! Which flow a later fragment belongs to: the ports of first fragments, by datagram.
//!
//! ```text
//! first fragment   (realm, src, dst, id, protocol) -> ports, owner     kept for a time
//! later fragment   same key                        -> the same ports, or `Unmatched`
//! ```
//!
//! The first fragment wins: as long as a datagram is known, another first fragment with other
//! ports is refused, so nobody can give a datagram a second flow. A later fragment that comes
//! before its first is not kept; it is unclassified. Whether fragments overlap is their receiver's
//! business. Source: RFC 6274 §4.1.2 (first wins), RFC 4787 §11 REQ-14 (in order is what a NAT must support),
//! RFC 8200 §4.5 (IPv6: the protocol is no part of a datagram's name), RFC 1858 §3 and RFC 7112 §5
//! (a first fragment holds the whole transport header).

use std::net::IpAddr;

use qlink_wire::{Fragment, IpPacket, protocol};

use crate::chain::{Chain, List, place};
use crate::index::{PlaceIndex, address_bytes, tag_of};
use crate::slab::Slab;

/// How much a [`FragmentMap`] may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FragmentLimits {
    /// Datagrams at a time, 1 to 2^24; other values are brought into the range.
    pub datagrams: u32,
    /// Owners, numbered from 0; an owner outside is refused.
    pub owners: u32,
    /// Datagrams of one owner at a time, at least 1.
    pub datagrams_per_owner: u16,
    /// Time from the first fragment to forgetting it, in nanoseconds of the caller's clock.
    pub timeout_ns: u64,
    /// Seed of the hash; unknown outside.
    pub secret: u64,
}

impl FragmentLimits {
    /// 4096 datagrams, 64 of one owner, 2 s.
    ///
    /// Chosen: as the reassembler of outer fragments; fragments of one datagram arrive within
    /// milliseconds, and the 60 s of RFC 8200 §4.5 only give a forger more time.
    #[must_use]
    pub const fn for_owners(owners: u32, secret: u64) -> Self {
        Self {
            datagrams: 4096,
            owners,
            datagrams_per_owner: 64,
            timeout_ns: 2_000_000_000,
            secret,
        }
    }
}

/// What names a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DatagramKey {
    realm: u32,
    src: IpAddr,
    dst: IpAddr,
    id: u32,
    protocol: u8,
}

impl DatagramKey {
    /// The datagram of a fragment. `realm` tells equal addresses of different networks apart, for
    /// example the session's number on the way up and `u32::MAX` on the way down.
    #[must_use]
    pub fn new(realm: u32, src: IpAddr, dst: IpAddr, fragment: Fragment, protocol: u8) -> Self {
        Self {
            realm,
            src,
            dst,
            id: fragment.id,
            protocol: if src.is_ipv4() { protocol } else { 0 },
        }
    }

    fn tag(&self, secret: u64) -> u32 {
        let mut bytes = [0; 41];
        let (src, rest) = bytes.split_at_mut(16);
        let (dst, rest) = rest.split_at_mut(16);
        let (realm, rest) = rest.split_at_mut(4);
        let (id, last) = rest.split_at_mut(4);
        src.copy_from_slice(&address_bytes(self.src));
        dst.copy_from_slice(&address_bytes(self.dst));
        realm.copy_from_slice(&self.realm.to_be_bytes());
        id.copy_from_slice(&self.id.to_be_bytes());
        last.copy_from_slice(&[self.protocol]);
        tag_of(&bytes, secret)
    }
}

/// What a later fragment needs to be classified like its first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ports {
    /// Source port; of an ICMP query its identifier.
    pub src: u16,
    /// Destination port; of an ICMP query its identifier.
    pub dst: u16,
}

/// Why a fragment was not classified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FragmentRefusal {
    /// No first fragment is known: it is lost, late, or was refused.
    Unmatched,
    /// A first fragment that ends inside its transport header, or a later one that would write
    /// into it.
    Tiny,
    /// Another first fragment of the same datagram with other ports.
    Conflict,
    /// A protocol without ports.
    Portless,
    /// No room for another datagram.
    TableFull,
    /// The owner has as many datagrams as one may have, or is not one.
    OwnerFull,
}

impl FragmentRefusal {
    /// Every refusal.
    pub const ALL: [Self; 6] = [
        Self::Unmatched,
        Self::Tiny,
        Self::Conflict,
        Self::Portless,
        Self::TableFull,
        Self::OwnerFull,
    ];

    /// The stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unmatched => "inner_fragment_unmatched",
            Self::Tiny => "inner_fragment_tiny",
            Self::Conflict => "inner_fragment_conflict",
            Self::Portless => "inner_fragment_portless",
            Self::TableFull => "inner_fragment_table_full",
            Self::OwnerFull => "inner_fragment_owner_full",
        }
    }
}

/// How a packet stands to its datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Classified {
    /// No fragment at all.
    Whole,
    /// The first fragment; later ones will have these ports.
    First(Ports),
    /// A later fragment of a datagram with these ports.
    Later(Ports),
}

#[derive(Debug, Clone, Copy)]
struct Datagram {
    key: DatagramKey,
    tag: u32,
    ports: Ports,
    owner: u32,
    first_ns: u64,
}

/// The ports of first fragments.
#[derive(Debug, Clone)]
pub struct FragmentMap {
    limits: FragmentLimits,
    index: PlaceIndex,
    datagrams: Slab<Datagram>,
    /// In the order in which their time will be over.
    chain: Chain,
    queue: List,
    owners: Box<[u16]>,
}

impl FragmentMap {
    /// An empty map; takes all its memory now.
    #[must_use]
    pub fn new(limits: FragmentLimits) -> Self {
        let datagrams = limits.datagrams.clamp(1, 1 << 24);
        Self {
            limits,
            index: PlaceIndex::new(datagrams),
            datagrams: Slab::new(datagrams),
            chain: Chain::new(place(datagrams)),
            queue: List::EMPTY,
            owners: vec![0; place(limits.owners)].into_boxed_slice(),
        }
    }

    /// Classifies a packet of `owner` at time `now_ns` (monotonic), and remembers it when it is a
    /// first fragment.
    ///
    /// # Errors
    ///
    /// [`FragmentRefusal`]; such a fragment belongs to no flow.
    pub fn classify(
        &mut self,
        realm: u32,
        owner: u32,
        packet: &IpPacket<'_>,
        now_ns: u64,
    ) -> Result<Classified, FragmentRefusal> {
        let Some(fragment) = packet.fragment else {
            return Ok(Classified::Whole);
        };
        let key = DatagramKey::new(realm, packet.src, packet.dst, fragment, packet.protocol);
        if fragment.offset > 0 {
            return self
                .later(&key, fragment, packet.protocol, now_ns)
                .map(Classified::Later);
        }
        let ports = ports_of(packet.protocol, packet.payload)?;
        self.first(&key, owner, ports, now_ns)?;
        Ok(Classified::First(ports))
    }

    /// Remembers the ports of a first fragment.
    ///
    /// # Errors
    ///
    /// [`FragmentRefusal::Conflict`], [`FragmentRefusal::TableFull`],
    /// [`FragmentRefusal::OwnerFull`].
    pub fn first(
        &mut self,
        key: &DatagramKey,
        owner: u32,
        ports: Ports,
        now_ns: u64,
    ) -> Result<(), FragmentRefusal> {
        self.expire(now_ns);
        let tag = key.tag(self.limits.secret);
        if let Some(known) = self.find(tag, key) {
            return if known.ports == ports {
                Ok(())
            } else {
                Err(FragmentRefusal::Conflict)
            };
        }
        let held = self
            .owners
            .get_mut(place(owner))
            .filter(|held| **held < self.limits.datagrams_per_owner.max(1))
            .ok_or(FragmentRefusal::OwnerFull)?;
        let datagram = Datagram {
            key: *key,
            tag,
            ports,
            owner,
            first_ns: now_ns,
        };
        let number = self
            .datagrams
            .insert(datagram)
            .ok_or(FragmentRefusal::TableFull)?;
        *held = held.saturating_add(1);
        self.index.insert(tag, number);
        self.chain.push_back(&mut self.queue, number);
        Ok(())
    }

    /// The ports of a later fragment.
    ///
    /// # Errors
    ///
    /// [`FragmentRefusal::Unmatched`], [`FragmentRefusal::Tiny`].
    pub fn later(
        &mut self,
        key: &DatagramKey,
        fragment: Fragment,
        number: u8,
        now_ns: u64,
    ) -> Result<Ports, FragmentRefusal> {
        self.expire(now_ns);
        // It would overwrite the flags of a TCP header: RFC 1858 §3.2.2.
        if number == protocol::TCP && fragment.offset < 20 {
            return Err(FragmentRefusal::Tiny);
        }
        self.find(key.tag(self.limits.secret), key)
            .map(|datagram| datagram.ports)
            .ok_or(FragmentRefusal::Unmatched)
    }

    /// Forgets every datagram whose time was over at `now_ns`. Calling it is never needed. Ends,
    /// because datagrams stand in the order of their time.
    pub fn expire(&mut self, now_ns: u64) {
        while let Some((number, datagram)) = self
            .queue
            .first()
            .and_then(|number| Some((number, *self.datagrams.get(number)?)))
        {
            if now_ns.saturating_sub(datagram.first_ns) <= self.limits.timeout_ns {
                return;
            }
            self.chain.remove(&mut self.queue, number);
            self.index.remove(datagram.tag, number);
            self.datagrams.remove(number);
            if let Some(held) = self.owners.get_mut(place(datagram.owner)) {
                *held = held.saturating_sub(1);
            }
        }
    }

    /// Datagrams known now.
    #[must_use]
    pub fn len(&self) -> usize {
        self.datagrams.len()
    }

    /// Whether no datagram is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.datagrams.len() == 0
    }

    fn find(&self, tag: u32, key: &DatagramKey) -> Option<&Datagram> {
        let number = self.index.find(tag, |number| {
            self.datagrams
                .get(number)
                .is_some_and(|datagram| datagram.key == *key)
        })?;
        self.datagrams.get(number)
    }
}

/// The ports at the start of a first fragment's payload.
fn ports_of(number: u8, payload: &[u8]) -> Result<Ports, FragmentRefusal> {
    let needed = match number {
        protocol::TCP => 20,
        protocol::UDP | protocol::ICMP | protocol::ICMPV6 => 8,
        _ => return Err(FragmentRefusal::Portless),
    };
    let head = payload
        .first_chunk::<8>()
        .filter(|_| payload.len() >= needed)
        .ok_or(FragmentRefusal::Tiny)?;
    let word = |high: u8, low: u8| u16::from_be_bytes([high, low]);
    let [a, b, c, d, e, f, _, _] = *head;
    Ok(match number {
        protocol::TCP | protocol::UDP => Ports {
            src: word(a, b),
            dst: word(c, d),
        },
        _ => Ports {
            src: word(e, f),
            dst: word(e, f),
        },
    })
}

#[cfg(test)]
#[path = "fragments_tests.rs"]
mod tests;
