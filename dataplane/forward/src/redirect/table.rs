//! The table of redirected flows.

use super::edit::Readdress;
use super::flow::{Asked, FlowId};
use super::keep::Keep;
use crate::chain::{Chain, List, place};
use crate::index::{PlaceIndex, address_bytes, tag_of};
use crate::nat::{NatProtocol, Signal, TcpState, TcpTime, Timeouts, Way};
use crate::slab::Slab;
use crate::transport::End;

/// Ports that are tried for a flow whose own port is taken (chosen: with a share of 512 flows the
/// first one is free as a rule).
const PORT_TRIALS: u32 = 64;

/// First port that a flow gets instead of its own. Source: RFC 6056 §3.2.
const PORT_FIRST: u32 = 1024;

/// Flows that are looked at for one to be given up.
const TRIALS: usize = 8;

/// Bounds of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RedirectLimits {
    /// Most flows.
    pub flows: u32,
    /// Owners, numbered from 0.
    pub owners: u32,
    /// Most flows of one owner.
    pub flows_per_owner: u32,
    /// How long flows live without a packet.
    pub timeouts: Timeouts,
    /// Seed of hashes and of the choice of ports; unknown outside.
    pub secret: u64,
}

/// Why a packet was not redirected, and must not leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum RedirectRefusal {
    /// It says nothing that opens a flow, and there is none.
    #[error("the packet opens no flow")]
    NoFlow,
    /// No room for another flow, or none for its owner.
    #[error("no room for another flow")]
    Full,
}

/// A redirected flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowState {
    /// Whose it is.
    pub owner: u32,
    /// Its ends as the subscriber knows them.
    pub flow: FlowId,
    /// The remote end that it is sent to.
    pub to: Asked,
    /// The subscriber's port as that end knows it.
    pub own_port: u16,
}

impl FlowState {
    /// Its ends as its server knows them.
    const fn outside(&self) -> FlowId {
        FlowId {
            protocol: self.flow.protocol,
            own: (self.flow.own.0, self.own_port),
            remote: self.to,
        }
    }

    /// The edit of a packet of the subscriber's.
    const fn away(&self) -> Readdress {
        Readdress {
            end: End::Destination,
            before: self.flow.remote.0,
            remote: self.to,
            own_port: self.own_port,
        }
    }

    /// The edit of a packet to the subscriber.
    const fn back(&self) -> Readdress {
        Readdress {
            end: End::Source,
            before: self.to.0,
            remote: self.flow.remote,
            own_port: self.flow.own.1,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    state: FlowState,
    /// Hashes of what it is found by.
    inside: u32,
    outside: u32,
    deadline_ns: u64,
    /// Meaningful in TCP.
    tcp: TcpState,
}

impl Entry {
    /// Whether a connection is open: it is given up last.
    fn is_open(&self) -> bool {
        self.state.flow.protocol == NatProtocol::Tcp && self.tcp.time() == TcpTime::Established
    }
}

#[derive(Debug, Clone, Copy)]
struct Owner {
    flows: u32,
    /// The one that has been quiet for longest first.
    list: List,
}

/// Which of a flow's two ends a hash is of.
#[derive(Debug, Clone, Copy)]
enum Side {
    Inside,
    Outside,
}

/// Redirected flows of one worker.
#[derive(Debug, Clone)]
pub struct Redirects {
    limits: RedirectLimits,
    entries: Slab<Entry>,
    inside: PlaceIndex,
    outside: PlaceIndex,
    chain: Chain,
    owners: Box<[Owner]>,
    cursor: u32,
}

impl Redirects {
    /// An empty table; takes all its memory now.
    #[must_use]
    pub fn new(limits: RedirectLimits) -> Self {
        let flows = limits.flows.clamp(1, 1 << 24);
        let owner = Owner {
            flows: 0,
            list: List::EMPTY,
        };
        Self {
            limits: RedirectLimits { flows, ..limits },
            entries: Slab::new(flows),
            inside: PlaceIndex::new(flows),
            outside: PlaceIndex::new(flows),
            chain: Chain::new(place(flows)),
            owners: vec![owner; place(limits.owners)].into_boxed_slice(),
            cursor: 0,
        }
    }

    /// The edit of a subscriber's packet that goes to `to`; makes the flow if there is none.
    ///
    /// A flow that went elsewhere until now goes there from now on.
    ///
    /// # Errors
    ///
    /// [`RedirectRefusal`].
    pub fn away(
        &mut self,
        owner: u32,
        (flow, signal): (&FlowId, Signal),
        to: Asked,
        now_ns: u64,
        keep: &mut impl Keep,
    ) -> Result<Readdress, RedirectRefusal> {
        let to = match flow.protocol {
            NatProtocol::Icmp => (to.0, 0),
            NatProtocol::Tcp | NatProtocol::Udp => to,
        };
        let mut found = self.find(Side::Inside, owner, flow);
        let stale = |entry: &Entry| entry.state.to != to || entry.deadline_ns <= now_ns;
        if let Some(old) = found.filter(|number| self.entries.get(*number).is_some_and(stale)) {
            self.remove(old, keep);
            found = None;
        }
        let number = match found {
            Some(number) => number,
            None => self.open(owner, (flow, signal), to, now_ns, keep)?,
        };
        self.touch(number, (Way::Out, signal), now_ns);
        let entry = self.entries.get(number);
        entry.map_or(Err(RedirectRefusal::NoFlow), |entry| Ok(entry.state.away()))
    }

    /// The edit of a packet to a subscriber; `None` when it is of no redirected flow.
    pub fn back(
        &mut self,
        owner: u32,
        (flow, signal): (&FlowId, Signal),
        now_ns: u64,
    ) -> Option<Readdress> {
        let number = self.find(Side::Outside, owner, flow)?;
        let entry = self.entries.get(number)?;
        if entry.deadline_ns <= now_ns {
            return None;
        }
        let edit = entry.state.back();
        self.touch(number, (Way::In, signal), now_ns);
        Some(edit)
    }

    /// The edit of a subscriber's ICMP error about a packet of `flow`; nothing changes.
    #[must_use]
    pub fn error_away(&self, owner: u32, flow: &FlowId) -> Option<Readdress> {
        let number = self.find(Side::Inside, owner, flow)?;
        self.entries.get(number).map(|entry| entry.state.away())
    }

    /// The edit of an ICMP error to a subscriber about a packet of `flow`; nothing changes.
    #[must_use]
    pub fn error_back(&self, owner: u32, flow: &FlowId) -> Option<Readdress> {
        let number = self.find(Side::Outside, owner, flow)?;
        self.entries.get(number).map(|entry| entry.state.back())
    }

    /// Takes over the flow that stood in place `number` before a restart, as an open one; false
    /// when there is no room for it.
    pub fn restore(&mut self, number: u32, state: &FlowState, now_ns: u64) -> bool {
        let taken = [
            self.find(Side::Inside, state.owner, &state.flow),
            self.find(Side::Outside, state.owner, &state.outside()),
        ];
        let room = self.owners.get(place(state.owner));
        if taken.iter().any(Option::is_some)
            || room.is_none_or(|owner| owner.flows >= self.limits.flows_per_owner)
        {
            return false;
        }
        let tcp = TcpState::Established;
        let entry = self.entry(state, tcp, self.lives(state.flow.protocol, tcp, now_ns));
        let free = self.entries.insert_at(number, entry);
        if free {
            self.link(number, &entry);
        }
        free
    }

    /// Forgets every flow of an owner.
    pub fn close(&mut self, owner: u32, keep: &mut impl Keep) {
        while let Some(number) = self
            .owners
            .get(place(owner))
            .and_then(|owner| owner.list.first())
        {
            self.remove(number, keep);
        }
    }

    /// Forgets flows whose time is over, looking at `count` places.
    pub fn sweep(&mut self, count: u32, now_ns: u64, keep: &mut impl Keep) {
        for _ in 0..count.min(self.limits.flows) {
            let number = self.cursor;
            self.cursor = match number.saturating_add(1) {
                next if next < self.limits.flows => next,
                _ => 0,
            };
            let over = self.entries.get(number);
            if over.is_some_and(|entry| entry.deadline_ns <= now_ns) {
                self.remove(number, keep);
            }
        }
    }

    /// Flows now.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no flow.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether an owner has flows.
    #[inline]
    #[must_use]
    pub fn has(&self, owner: u32) -> bool {
        self.owners
            .get(place(owner))
            .is_some_and(|owner| owner.flows > 0)
    }

    /// The flows of an owner, the one that has been quiet for longest first.
    pub fn of(&self, owner: u32) -> impl Iterator<Item = &FlowState> {
        let first = self.owners.get(place(owner));
        let mut next = first.and_then(|owner| owner.list.first());
        std::iter::from_fn(move || {
            let number = next?;
            next = self.chain.after(number);
            self.entries.get(number).map(|entry| &entry.state)
        })
    }

    fn open(
        &mut self,
        owner: u32,
        (flow, signal): (&FlowId, Signal),
        to: Asked,
        now_ns: u64,
        keep: &mut impl Keep,
    ) -> Result<u32, RedirectRefusal> {
        let tcp = match signal {
            Signal::Reply => return Err(RedirectRefusal::NoFlow),
            Signal::Segment(flags) if flags.rst() => return Err(RedirectRefusal::NoFlow),
            Signal::Segment(flags) if flags.syn() => TcpState::opened(Way::Out),
            // In the middle of a connection of before the rule: its server will reset it.
            Signal::Segment(_) | Signal::Datagram | Signal::LaterFragment => TcpState::Transitory,
        };
        self.make_room(owner, now_ns, keep)?;
        let mut state = FlowState {
            owner,
            flow: *flow,
            to,
            own_port: flow.own.1,
        };
        self.choose_port(&mut state)?;
        let deadline_ns = self.lives(flow.protocol, tcp, now_ns);
        self.insert(&state, tcp, deadline_ns, keep)
            .ok_or(RedirectRefusal::Full)
    }

    /// The subscriber's own port, or another one that no flow to the same end has.
    fn choose_port(&self, state: &mut FlowState) -> Result<(), RedirectRefusal> {
        let free = |state: &FlowState| {
            let outside = state.outside();
            self.find(Side::Outside, state.owner, &outside).is_none()
        };
        if free(state) {
            return Ok(());
        }
        let start = self.tag(Side::Inside, state.owner, &state.flow);
        let span = 65_536_u32.saturating_sub(PORT_FIRST);
        for trial in 0..PORT_TRIALS {
            let port = start.wrapping_add(trial).checked_rem(span).unwrap_or(0);
            let port = PORT_FIRST.saturating_add(port);
            state.own_port = u16::try_from(port).unwrap_or(u16::MAX);
            if free(state) {
                return Ok(());
            }
        }
        Err(RedirectRefusal::Full)
    }

    /// Room for one more flow of an owner, at the cost of another one of its own if need be.
    fn make_room(
        &mut self,
        owner: u32,
        now_ns: u64,
        keep: &mut impl Keep,
    ) -> Result<(), RedirectRefusal> {
        let held = self.owners.get(place(owner)).ok_or(RedirectRefusal::Full)?;
        if held.flows < self.limits.flows_per_owner && !self.entries.is_full() {
            return Ok(());
        }
        let oldest = std::iter::successors(held.list.first(), |number| self.chain.after(*number));
        let quiet = oldest.take(TRIALS).find(|number| {
            let entry = self.entries.get(*number);
            entry.is_some_and(|entry| !entry.is_open() || entry.deadline_ns <= now_ns)
        });
        self.remove(quiet.ok_or(RedirectRefusal::Full)?, keep);
        Ok(())
    }

    fn insert(
        &mut self,
        state: &FlowState,
        tcp: TcpState,
        deadline_ns: u64,
        keep: &mut impl Keep,
    ) -> Option<u32> {
        let entry = self.entry(state, tcp, deadline_ns);
        let number = self.entries.insert(entry)?;
        self.link(number, &entry);
        keep.keep(number, Some(state));
        Some(number)
    }

    fn entry(&self, state: &FlowState, tcp: TcpState, deadline_ns: u64) -> Entry {
        Entry {
            state: *state,
            inside: self.tag(Side::Inside, state.owner, &state.flow),
            outside: self.tag(Side::Outside, state.owner, &state.outside()),
            deadline_ns,
            tcp,
        }
    }

    /// Lets an entry be found.
    fn link(&mut self, number: u32, entry: &Entry) {
        if let Some(owner) = self.owners.get_mut(place(entry.state.owner)) {
            owner.flows = owner.flows.saturating_add(1);
            self.chain.push_back(&mut owner.list, number);
        }
        self.inside.insert(entry.inside, number);
        self.outside.insert(entry.outside, number);
    }

    fn remove(&mut self, number: u32, keep: &mut impl Keep) {
        let Some(entry) = self.entries.remove(number) else {
            return;
        };
        self.inside.remove(entry.inside, number);
        self.outside.remove(entry.outside, number);
        if let Some(owner) = self.owners.get_mut(place(entry.state.owner)) {
            owner.flows = owner.flows.saturating_sub(1);
            self.chain.remove(&mut owner.list, number);
        }
        keep.keep(number, None);
    }

    /// What a packet does to the time of its flow.
    fn touch(&mut self, number: u32, (way, signal): (Way, Signal), now_ns: u64) {
        let Some(entry) = self.entries.get_mut(number) else {
            return;
        };
        let protocol = entry.state.flow.protocol;
        if let (NatProtocol::Tcp, Signal::Segment(flags)) = (protocol, signal) {
            let before = entry.tcp;
            entry.tcp = before.step(way, flags);
            if entry.tcp == before && !before.is_refreshed(way) {
                return;
            }
        }
        let (tcp, owner) = (entry.tcp, entry.state.owner);
        let deadline_ns = self.lives(protocol, tcp, now_ns);
        if let Some(entry) = self.entries.get_mut(number) {
            entry.deadline_ns = deadline_ns;
        }
        if let Some(owner) = self.owners.get_mut(place(owner)) {
            self.chain.remove(&mut owner.list, number);
            self.chain.push_back(&mut owner.list, number);
        }
    }

    /// When a flow ends if nothing more is seen of it.
    const fn lives(&self, protocol: NatProtocol, tcp: TcpState, now_ns: u64) -> u64 {
        let times = &self.limits.timeouts;
        now_ns.saturating_add(match (protocol, tcp.time()) {
            (NatProtocol::Tcp, TcpTime::Established) => times.tcp_established_ns,
            (NatProtocol::Tcp, TcpTime::Transitory) => times.tcp_transitory_ns,
            (NatProtocol::Udp, _) => times.udp_ns,
            (NatProtocol::Icmp, _) => times.icmp_ns,
        })
    }

    fn find(&self, side: Side, owner: u32, flow: &FlowId) -> Option<u32> {
        let tag = self.tag(side, owner, flow);
        let index = match side {
            Side::Inside => &self.inside,
            Side::Outside => &self.outside,
        };
        index.find(tag, |number| {
            let state = self.entries.get(number).map(|entry| entry.state);
            state.is_some_and(|state| {
                let known = match side {
                    Side::Inside => state.flow,
                    Side::Outside => state.outside(),
                };
                state.owner == owner && known == *flow
            })
        })
    }

    fn tag(&self, side: Side, owner: u32, flow: &FlowId) -> u32 {
        let mut bytes = [0; 41];
        let (own, rest) = bytes.split_at_mut(16);
        let (remote, rest) = rest.split_at_mut(16);
        own.copy_from_slice(&address_bytes(flow.own.0));
        remote.copy_from_slice(&address_bytes(flow.remote.0));
        let [a, b] = flow.own.1.to_be_bytes();
        let [c, d] = flow.remote.1.to_be_bytes();
        let [e, f, g, h] = owner.to_be_bytes();
        rest.copy_from_slice(&[a, b, c, d, e, f, g, h, flow.protocol.octet()]);
        let secret = match side {
            Side::Inside => self.limits.secret,
            Side::Outside => !self.limits.secret,
        };
        tag_of(&bytes, secret)
    }
}
