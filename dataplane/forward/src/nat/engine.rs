//! The translator's tables and what packets do to them.

use std::net::{IpAddr, Ipv4Addr};

use super::blocks::{Blocks, Holder, Port};
use super::session::{TcpState, TcpTime, Way};
use super::{
    BlockChange, BlockEvent, BlockLog, Filtering, Hairpinning, NatConfig, NatConfigError,
    NatProtocol, NatRefusal, Signal, Timeouts,
};
use crate::chain::{Chain, List, NONE, place};
use crate::index::{PlaceIndex, address_bytes, tag_of};
use crate::slab::Slab;

/// Most blocks of one subscriber.
pub(super) const BLOCKS_MAX: usize = 8;

/// A packet that goes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outbound {
    /// Number of the subscriber.
    pub subscriber: u32,
    /// What it carries.
    pub protocol: NatProtocol,
    /// Source address and port.
    pub internal: (IpAddr, u16),
    /// Destination address and port; port 0 for ICMP.
    pub remote: (Ipv4Addr, u16),
    /// What it says.
    pub signal: Signal,
}

/// A packet that comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inbound {
    /// What it carries.
    pub protocol: NatProtocol,
    /// Destination address and port.
    pub external: (Ipv4Addr, u16),
    /// Source address and port; port 0 for ICMP.
    pub remote: (Ipv4Addr, u16),
    /// What it says.
    pub signal: Signal,
}

/// The inside of a mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Internal {
    /// Number of the subscriber.
    pub subscriber: u32,
    /// Its address; IPv6 behind NAT64.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
}

/// What a translator before this one left of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inherited {
    /// The external address.
    pub address: Ipv4Addr,
    /// First port of the block.
    pub first_port: u16,
    /// What was last known of it.
    pub past: Past,
}

/// The last that is known of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Past {
    /// A subscriber had it, opened as `identity`, first with this address.
    Held {
        /// See [`BlockEvent::identity`].
        identity: u128,
        /// See [`BlockEvent::inside`].
        inside: IpAddr,
    },
    /// It was released then, in nanoseconds of the caller's clock.
    Released {
        /// When.
        at_ns: u64,
    },
}

/// How full the tables are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NatGauges {
    /// Mappings now.
    pub mappings: usize,
    /// Sessions now.
    pub sessions: usize,
    /// Blocks that somebody holds.
    pub blocks_used: u32,
    /// Blocks in all.
    pub blocks: u32,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Mapping {
    pub(super) internal: Internal,
    pub(super) protocol: NatProtocol,
    pub(super) port: Port,
    pub(super) tag: u32,
    /// Nothing lives longer here, sessions included.
    pub(super) deadline_ns: u64,
    pub(super) sessions: List,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Session {
    pub(super) mapping: u32,
    pub(super) remote: (Ipv4Addr, u16),
    pub(super) tag: u32,
    pub(super) deadline_ns: u64,
    /// Meaningful in TCP.
    pub(super) state: TcpState,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Subscriber {
    /// Present while it is open.
    pub(super) identity: Option<u128>,
    /// Taken from the front; [`NONE`] behind.
    pub(super) blocks: [u32; BLOCKS_MAX],
    pub(super) sessions: u32,
}

const CLOSED: Subscriber = Subscriber {
    identity: None,
    blocks: [NONE; BLOCKS_MAX],
    sessions: 0,
};

/// The translator.
#[derive(Debug, Clone)]
pub struct Nat {
    pub(super) blocks: Blocks,
    pub(super) mappings: Slab<Mapping>,
    by_internal: PlaceIndex,
    pub(super) sessions: Slab<Session>,
    by_remote: PlaceIndex,
    chain: Chain,
    pub(super) subscribers: Box<[Subscriber]>,
    pub(super) timeouts: Timeouts,
    filtering: Filtering,
    hairpinning: Hairpinning,
    blocks_per_subscriber: usize,
    sessions_per_subscriber: u32,
    secret: u64,
    pub(super) cursors: [u32; 3],
}

impl Nat {
    /// A translator without subscribers; takes all its memory now.
    ///
    /// # Errors
    ///
    /// [`NatConfigError`].
    pub fn try_new(config: &NatConfig) -> Result<Self, NatConfigError> {
        Ok(Self {
            blocks: Blocks::try_new(config)?,
            mappings: Slab::new(config.mappings),
            by_internal: PlaceIndex::new(config.mappings),
            sessions: Slab::new(config.sessions),
            by_remote: PlaceIndex::new(config.sessions),
            chain: Chain::new(place(config.sessions)),
            subscribers: vec![CLOSED; place(config.subscribers)].into_boxed_slice(),
            timeouts: config.timeouts,
            filtering: config.filtering,
            hairpinning: config.hairpinning,
            blocks_per_subscriber: usize::from(config.blocks_per_subscriber),
            sessions_per_subscriber: config.sessions_per_subscriber.max(1),
            secret: config.secret,
            cursors: [0; 3],
        })
    }

    /// Opens a subscriber's number under an identity that is never used again; its events carry
    /// it. False when there is no such number or it is open.
    pub fn open(&mut self, subscriber: u32, identity: u128) -> bool {
        match self.subscribers.get_mut(place(subscriber)) {
            Some(state) if state.identity.is_none() => {
                state.identity = Some(identity);
                true
            }
            Some(_) | None => false,
        }
    }

    /// Whether a subscriber's number is open.
    #[inline]
    #[must_use]
    pub fn is_open(&self, subscriber: u32) -> bool {
        let state = self.subscribers.get(place(subscriber));
        state.is_some_and(|state| state.identity.is_some())
    }

    /// Takes over what a translator before this one left of a block, so that nobody has its ports
    /// before their rest is over. Call it before the first packet, once for each block; false when
    /// the block is none of this share, or was somebody's already.
    ///
    /// A block that was held is released in the log at once, or by [`Self::sweep`] when `log` has
    /// no room; its rest starts then.
    pub fn inherit(&mut self, block: &Inherited, now_ns: u64, log: &mut impl BlockLog) -> bool {
        let number = self.blocks.block_at(block.address, block.first_port);
        let Some(number) = number.filter(|number| self.blocks.is_new(*number)) else {
            return false;
        };
        match block.past {
            Past::Released { at_ns } => self.blocks.rest(number, at_ns),
            Past::Held { identity, inside } => {
                // No subscriber has this number: nothing refers to the block.
                self.blocks.assign(number, NONE, (identity, inside), now_ns);
                self.blocks.leave_unreported(number);
                self.report_release(number, now_ns, log);
            }
        }
        true
    }

    /// Which of the pool's shares has an external port.
    #[inline]
    #[must_use]
    pub fn owner_of(&self, port: u16) -> u8 {
        self.blocks.owner_of(port)
    }

    /// Closes a subscriber: its mappings go, its blocks are released. A release that `log` does
    /// not take is offered again by [`Self::sweep`].
    pub fn close(&mut self, subscriber: u32, now_ns: u64, log: &mut impl BlockLog) {
        let Some(state) = self.subscribers.get_mut(place(subscriber)) else {
            return;
        };
        let held = std::mem::replace(&mut state.blocks, CLOSED.blocks);
        for block in held.into_iter().filter(|block| *block != NONE) {
            for at in 0..self.blocks.places_per_block() {
                if let Some(mapping) = self.blocks.mapping_in(block, at) {
                    self.unmap(mapping, now_ns);
                }
            }
            self.blocks.leave_unreported(block);
            self.report_release(block, now_ns, log);
        }
        if let Some(state) = self.subscribers.get_mut(place(subscriber)) {
            *state = CLOSED;
        }
    }

    /// The external address and port of a packet that goes out; makes what is missing.
    ///
    /// # Errors
    ///
    /// [`NatRefusal`]; nothing is left behind then.
    pub fn outbound(
        &mut self,
        packet: &Outbound,
        now_ns: u64,
        log: &mut impl BlockLog,
    ) -> Result<(Ipv4Addr, u16), NatRefusal> {
        let tag = self.internal_tag(packet.subscriber, packet.protocol, packet.internal);
        let mut found = self.find_internal(tag, packet);
        if let Some(old) = found.filter(|number| self.is_over(*number, now_ns)) {
            self.unmap(old, now_ns);
            found = None;
        }
        let number = match found {
            Some(number) => number,
            None => self.map(tag, packet, now_ns, log)?,
        };
        let result = self.touch(number, Way::Out, packet.remote, packet.signal, now_ns);
        if result.is_err() && found.is_none() {
            self.unmap(number, now_ns);
        }
        result?;
        let mapping = self.mappings.get(number).ok_or(NatRefusal::NoMapping)?;
        Ok(self.blocks.external(mapping.port))
    }

    /// The inside of a packet that comes in.
    ///
    /// # Errors
    ///
    /// [`NatRefusal::NoMapping`], [`NatRefusal::Filtered`], [`NatRefusal::SessionTableFull`],
    /// [`NatRefusal::SubscriberSessionsFull`].
    pub fn inbound(&mut self, packet: &Inbound, now_ns: u64) -> Result<Internal, NatRefusal> {
        let (address, port) = packet.external;
        let number = self
            .blocks
            .mapping_at(address, packet.protocol, port)
            .ok_or(NatRefusal::NoMapping)?;
        if self.is_over(number, now_ns) {
            self.unmap(number, now_ns);
            return Err(NatRefusal::NoMapping);
        }
        self.touch(number, Way::In, packet.remote, packet.signal, now_ns)?;
        let mapping = self.mappings.get(number).ok_or(NatRefusal::NoMapping)?;
        Ok(mapping.internal)
    }

    /// The inside of an external place, for a packet that an ICMP error quotes: nothing changes.
    /// Source: RFC 5508 §4.2 REQ-4 and REQ-5.
    #[must_use]
    pub fn internal_of(
        &self,
        protocol: NatProtocol,
        (address, port): (Ipv4Addr, u16),
        now_ns: u64,
    ) -> Option<Internal> {
        let number = self.blocks.mapping_at(address, protocol, port)?;
        let mapping = self.mappings.get(number)?;
        (mapping.deadline_ns > now_ns).then_some(mapping.internal)
    }

    /// The external place of an internal one, for a packet that an ICMP error quotes: nothing
    /// changes.
    #[must_use]
    pub fn external_of(
        &self,
        subscriber: u32,
        protocol: NatProtocol,
        internal: (IpAddr, u16),
        now_ns: u64,
    ) -> Option<(Ipv4Addr, u16)> {
        let tag = self.internal_tag(subscriber, protocol, internal);
        let packet = Outbound {
            subscriber,
            protocol,
            internal,
            remote: (Ipv4Addr::UNSPECIFIED, 0),
            signal: Signal::LaterFragment,
        };
        let mapping = self.mappings.get(self.find_internal(tag, &packet)?)?;
        (mapping.deadline_ns > now_ns).then(|| self.blocks.external(mapping.port))
    }

    /// Whether an address is one of the pool.
    #[must_use]
    pub fn is_external(&self, address: Ipv4Addr) -> bool {
        self.blocks.is_ours(address)
    }

    /// What becomes of packets from subscriber to subscriber.
    #[must_use]
    pub const fn hairpinning(&self) -> Hairpinning {
        self.hairpinning
    }

    /// How full the tables are.
    #[must_use]
    pub fn gauges(&self) -> NatGauges {
        let (blocks, blocks_used) = self.blocks.gauges();
        NatGauges {
            mappings: self.mappings.len(),
            sessions: self.sessions.len(),
            blocks_used,
            blocks,
        }
    }

    /// Offers the release of a block that nobody has any more, and frees it when it is taken.
    pub(super) fn report_release(&mut self, block: u32, now_ns: u64, log: &mut impl BlockLog) {
        let Some(held) = self.blocks.get(block) else {
            return;
        };
        let who = (held.identity, held.inside);
        if log.offer(&self.event(BlockChange::Released, block, who, now_ns)) {
            self.blocks.release(block, now_ns);
        }
    }

    /// Ends a mapping with its sessions.
    pub(super) fn unmap(&mut self, number: u32, now_ns: u64) {
        while let Some(session) = self
            .mappings
            .get(number)
            .and_then(|mapping| mapping.sessions.first())
        {
            self.drop_session(session);
        }
        if let Some(mapping) = self.mappings.remove(number) {
            self.by_internal.remove(mapping.tag, number);
            self.blocks.free(mapping.port, mapping.protocol, now_ns);
        }
    }

    /// Ends a session, and a TCP mapping with its last one.
    pub(super) fn end_session(&mut self, number: u32, now_ns: u64) {
        let Some(mapping) = self.drop_session(number) else {
            return;
        };
        let alone = self.mappings.get(mapping).is_some_and(|state| {
            state.protocol == NatProtocol::Tcp && state.sessions.first().is_none()
        });
        if alone {
            self.unmap(mapping, now_ns);
        }
    }

    /// Takes a session out of every table; its mapping.
    fn drop_session(&mut self, number: u32) -> Option<u32> {
        let session = self.sessions.remove(number)?;
        self.by_remote.remove(session.tag, number);
        if let Some(mapping) = self.mappings.get_mut(session.mapping) {
            self.chain.remove(&mut mapping.sessions, number);
            let subscriber = place(mapping.internal.subscriber);
            if let Some(state) = self.subscribers.get_mut(subscriber) {
                state.sessions = state.sessions.saturating_sub(1);
            }
        }
        Some(session.mapping)
    }

    fn is_over(&self, number: u32, now_ns: u64) -> bool {
        self.mappings
            .get(number)
            .is_some_and(|mapping| mapping.deadline_ns <= now_ns)
    }

    /// Makes a mapping for a packet that may open one.
    fn map(
        &mut self,
        tag: u32,
        packet: &Outbound,
        now_ns: u64,
        log: &mut impl BlockLog,
    ) -> Result<u32, NatRefusal> {
        match packet.signal {
            Signal::Segment(flags) if !flags.syn() || flags.rst() => {
                return Err(NatRefusal::TcpWithoutSyn);
            }
            Signal::Reply => return Err(NatRefusal::IcmpWithoutQuery),
            Signal::LaterFragment => return Err(NatRefusal::FragmentWithoutMapping),
            Signal::Segment(_) | Signal::Datagram => {}
        }
        if self.mappings.is_full() {
            return Err(NatRefusal::MappingTableFull);
        }
        let port = self.free_port(packet, now_ns, log)?;
        let mapping = Mapping {
            internal: Internal {
                subscriber: packet.subscriber,
                address: packet.internal.0,
                port: packet.internal.1,
            },
            protocol: packet.protocol,
            port,
            tag,
            deadline_ns: now_ns,
            sessions: List::EMPTY,
        };
        let number = self
            .mappings
            .insert(mapping)
            .ok_or(NatRefusal::MappingTableFull)?;
        self.by_internal.insert(tag, number);
        self.blocks.take_port(port, packet.protocol, number);
        Ok(number)
    }

    /// A free port of a subscriber's blocks, or of one more.
    fn free_port(
        &mut self,
        packet: &Outbound,
        now_ns: u64,
        log: &mut impl BlockLog,
    ) -> Result<Port, NatRefusal> {
        let (subscriber, protocol) = (packet.subscriber, packet.protocol);
        let state = self
            .subscribers
            .get(place(subscriber))
            .copied()
            .ok_or(NatRefusal::SubscriberUnknown)?;
        let identity = state.identity.ok_or(NatRefusal::SubscriberUnknown)?;
        let held = state.blocks.iter().filter(|block| **block != NONE);
        for block in held.clone() {
            if let Some(port) = self.blocks.free_port(*block, protocol, now_ns) {
                return Ok(port);
            }
        }
        if held.count() >= self.blocks_per_subscriber {
            return Err(NatRefusal::SubscriberPortsFull);
        }
        let like = state.blocks.first().copied().filter(|first| *first != NONE);
        let block = self
            .blocks
            .next_free(like, now_ns)
            .ok_or(NatRefusal::NoBlock)?;
        let who = (identity, packet.internal.0);
        if !log.offer(&self.event(BlockChange::Assigned, block, who, now_ns)) {
            return Err(NatRefusal::LogFull);
        }
        self.blocks.assign(block, subscriber, who, now_ns);
        let own = self.subscribers.get_mut(place(subscriber));
        if let Some(free) = own.and_then(|state| state.blocks.iter_mut().find(|at| **at == NONE)) {
            *free = block;
        }
        self.blocks
            .free_port(block, protocol, now_ns)
            .ok_or(NatRefusal::SubscriberPortsFull)
    }

    fn event(
        &self,
        change: BlockChange,
        block: u32,
        (identity, inside): (u128, IpAddr),
        now_ns: u64,
    ) -> BlockEvent {
        let (address, first_port) = self.blocks.span(block);
        let last = u16::try_from(self.blocks.size().saturating_sub(1)).unwrap_or(0);
        BlockEvent {
            change,
            identity,
            inside,
            address,
            first_port,
            last_port: first_port.saturating_add(last),
            time_ns: now_ns,
        }
    }

    /// What a packet does to the state of its mapping and session.
    fn touch(
        &mut self,
        number: u32,
        way: Way,
        remote: (Ipv4Addr, u16),
        signal: Signal,
        now_ns: u64,
    ) -> Result<(), NatRefusal> {
        let protocol = self
            .mappings
            .get(number)
            .map(|mapping| mapping.protocol)
            .ok_or(NatRefusal::NoMapping)?;
        let timeout_ns = match protocol {
            NatProtocol::Tcp => {
                return self.touch_tcp(number, way, remote, signal, now_ns);
            }
            NatProtocol::Udp => self.timeouts.udp_ns,
            NatProtocol::Icmp => self.timeouts.icmp_ns,
        };
        let deadline_ns = now_ns.saturating_add(timeout_ns);
        if self.filtering == Filtering::AddressDependent {
            let key = (remote.0, 0);
            let tag = self.remote_tag(number, key);
            match (self.live_session(tag, number, key, now_ns), way) {
                (Some(_), Way::In) => {}
                (Some(session), Way::Out) => {
                    if let Some(session) = self.sessions.get_mut(session) {
                        session.deadline_ns = deadline_ns;
                    }
                }
                (None, Way::In) => return Err(NatRefusal::Filtered),
                (None, Way::Out) => {
                    // The state is TCP's and not looked at.
                    self.add_session(tag, number, key, deadline_ns, TcpState::InitOut)?;
                }
            }
        }
        if way == Way::Out {
            self.extend(number, deadline_ns);
        }
        Ok(())
    }

    fn touch_tcp(
        &mut self,
        number: u32,
        way: Way,
        remote: (Ipv4Addr, u16),
        signal: Signal,
        now_ns: u64,
    ) -> Result<(), NatRefusal> {
        let tag = self.remote_tag(number, remote);
        let live = self.live_session(tag, number, remote, now_ns);
        let strict = self.filtering == Filtering::AddressDependent;
        let Signal::Segment(flags) = signal else {
            return match live {
                None if way == Way::In && strict => Err(NatRefusal::Filtered),
                Some(_) | None => Ok(()),
            };
        };
        let Some(session) = live else {
            if way == Way::In && strict {
                return Err(NatRefusal::Filtered);
            }
            if !flags.syn() || flags.rst() {
                // Of a connection that was forgotten: RFC 6146 §3.5.2.2, CLOSED, passes it on.
                return Ok(());
            }
            let deadline_ns = now_ns.saturating_add(self.timeouts.tcp_transitory_ns);
            self.add_session(tag, number, remote, deadline_ns, TcpState::opened(way))?;
            self.extend(number, deadline_ns);
            return Ok(());
        };
        if let Some(session) = self.sessions.get_mut(session) {
            let before = session.state;
            session.state = before.step(way, flags);
            if session.state != before || before.is_refreshed(way) {
                let timeout_ns = match session.state.time() {
                    TcpTime::Established => self.timeouts.tcp_established_ns,
                    TcpTime::Transitory => self.timeouts.tcp_transitory_ns,
                };
                session.deadline_ns = now_ns.saturating_add(timeout_ns);
                let deadline_ns = session.deadline_ns;
                self.extend(number, deadline_ns);
            }
        }
        Ok(())
    }

    fn extend(&mut self, number: u32, deadline_ns: u64) {
        if let Some(mapping) = self.mappings.get_mut(number) {
            mapping.deadline_ns = mapping.deadline_ns.max(deadline_ns);
        }
    }

    /// A session whose time is not over; an old one is dropped.
    fn live_session(
        &mut self,
        tag: u32,
        mapping: u32,
        remote: (Ipv4Addr, u16),
        now_ns: u64,
    ) -> Option<u32> {
        let number = self.by_remote.find(tag, |number| {
            self.sessions
                .get(number)
                .is_some_and(|session| session.mapping == mapping && session.remote == remote)
        })?;
        if self.sessions.get(number)?.deadline_ns > now_ns {
            return Some(number);
        }
        self.drop_session(number);
        None
    }

    fn add_session(
        &mut self,
        tag: u32,
        mapping: u32,
        remote: (Ipv4Addr, u16),
        deadline_ns: u64,
        state: TcpState,
    ) -> Result<(), NatRefusal> {
        let owner = self
            .mappings
            .get_mut(mapping)
            .ok_or(NatRefusal::NoMapping)?;
        let subscriber = self
            .subscribers
            .get_mut(place(owner.internal.subscriber))
            .filter(|subscriber| subscriber.sessions < self.sessions_per_subscriber)
            .ok_or(NatRefusal::SubscriberSessionsFull)?;
        let session = Session {
            mapping,
            remote,
            tag,
            deadline_ns,
            state,
        };
        let number = self
            .sessions
            .insert(session)
            .ok_or(NatRefusal::SessionTableFull)?;
        subscriber.sessions = subscriber.sessions.saturating_add(1);
        self.by_remote.insert(tag, number);
        self.chain.push_back(&mut owner.sessions, number);
        Ok(())
    }

    #[inline]
    fn find_internal(&self, tag: u32, packet: &Outbound) -> Option<u32> {
        self.by_internal.find(tag, |number| {
            self.mappings.get(number).is_some_and(|mapping| {
                mapping.internal.subscriber == packet.subscriber
                    && mapping.internal.port == packet.internal.1
                    && mapping.protocol == packet.protocol
                    && mapping.internal.address == packet.internal.0
            })
        })
    }

    #[inline]
    fn internal_tag(
        &self,
        subscriber: u32,
        protocol: NatProtocol,
        (address, port): (IpAddr, u16),
    ) -> u32 {
        let mut bytes = [0; 23];
        let (fixed, host) = bytes.split_at_mut(7);
        let [a, b, c, d] = subscriber.to_le_bytes();
        let [low, high] = port.to_le_bytes();
        fixed.copy_from_slice(&[a, b, c, d, low, high, protocol.octet()]);
        host.copy_from_slice(&address_bytes(address));
        tag_of(&bytes, self.secret)
    }

    #[inline]
    fn remote_tag(&self, mapping: u32, (address, port): (Ipv4Addr, u16)) -> u32 {
        let [a, b, c, d] = mapping.to_le_bytes();
        let [e, f, g, h] = address.octets();
        let [low, high] = port.to_le_bytes();
        tag_of(&[a, b, c, d, e, f, g, h, low, high], self.secret)
    }

    /// The subscriber that holds a block.
    pub(super) fn holder(&self, block: u32) -> Option<Holder> {
        self.blocks.get(block).map(|block| block.holder)
    }
}
