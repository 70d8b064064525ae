//! The table of peers, and every message in and out.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use defguard_boringtun::noise::errors::WireGuardError;
use defguard_boringtun::noise::handshake::parse_handshake_anon;
use defguard_boringtun::noise::rate_limiter::RateLimiter;
use defguard_boringtun::noise::{Packet, Tunn, TunnResult};
use x25519_dalek::PublicKey as DalekPublicKey;

use crate::calls::{Budget, Calls, TRIES};
use crate::count::{Refusal, TunnelCounts, bump};
use crate::key::{PrivateKey, PublicKey};
use crate::lane::Lane;
use crate::peer::{Peer, PeerSetup, PeerState, Stage};
use crate::removed::Removed;
use crate::{MESSAGE_MIN, MESSAGE_OVERHEAD};

/// Counters from here on are refused.
///
/// Source: white paper §6.1 (`Reject-After-Messages`, 2^64 - 2^13 - 1). The library would overflow
/// at the end of the range, which a peer could cause on purpose.
const REJECT_AFTER_MESSAGES: u64 = u64::MAX - (1 << 13);

/// Shortest time between two initiations of one peer (as Linux: 50 in a second).
const INITIATION_INTERVAL_NS: u64 = 20_000_000;

const SECOND_NS: u64 = 1_000_000_000;

/// Bounds of a tunnel endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most peers, 1 to 65,536. Each takes some 15 KB.
    pub peers: u32,
    /// Handshake messages per second from which on their senders must prove their address by a
    /// cookie. Eight times as many are worked on at most: a handshake costs some 300 us.
    pub handshakes_per_second: u32,
    /// Which of several tables that share a socket this one is.
    pub lane: Lane,
}

impl Default for Limits {
    /// For a gateway: 4,096 peers, 100 handshakes (some 3 % of a core before cookies are asked for).
    fn default() -> Self {
        Self {
            peers: 4096,
            handshakes_per_second: 100,
            lane: Lane::ONLY,
        }
    }
}

/// Why a peer was not added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// The table is full.
    #[error("the table holds its {limit} peers")]
    Full {
        /// The table's bound.
        limit: u32,
    },
    /// Another peer has this key, or it is our own.
    #[error("key {0} is taken")]
    KeyTaken(PublicKey),
    /// Another peer has this tunnel address, or it is our own.
    #[error("tunnel address {0} is taken")]
    AddressTaken(IpAddr),
}

/// What a datagram was.
#[derive(Debug, PartialEq, Eq)]
pub enum Received<'a> {
    /// An IP packet whose source is its peer's tunnel address.
    Packet(&'a [u8]),
    /// A message to be sent back to where the datagram came from.
    Reply(&'a [u8]),
    /// A message to this end alone.
    Nothing,
}

/// What is to be sent for a packet.
#[derive(Debug, PartialEq, Eq)]
pub struct Sending<'a> {
    /// The peer's endpoint.
    pub to: SocketAddr,
    /// The message.
    pub message: &'a [u8],
    /// Whether the packet is in it. If not, the packet was refused ([`Refusal::NoSession`]) and the
    /// message begins a handshake.
    pub carries: bool,
}

/// One end of the tunnels to all peers.
pub struct Tunnels {
    key: PrivateKey,
    address: IpAddr,
    limits: Limits,
    peers: Vec<Option<Box<Peer>>>,
    by_key: HashMap<PublicKey, usize>,
    by_address: HashMap<IpAddr, usize>,
    /// Counts handshakes and asks for cookies.
    front: RateLimiter,
    /// For the peers' own check, which `front` has done already.
    behind: Arc<RateLimiter>,
    /// The second in which `worked` handshakes were worked on.
    second: u64,
    worked: u32,
    calls: Calls,
    removed: Removed,
    counts: TunnelCounts,
}

impl fmt::Debug for Tunnels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tunnels")
            .field("address", &self.address)
            .field("peers", &self.by_key.len())
            .field("counts", &self.counts)
            .finish_non_exhaustive()
    }
}

impl Tunnels {
    /// An end with private `key` and tunnel `address`, without peers.
    #[must_use]
    pub fn new(key: PrivateKey, address: IpAddr, limits: Limits) -> Self {
        let public = DalekPublicKey::from(key.secret());
        Self {
            key,
            address,
            limits,
            peers: Vec::new(),
            by_key: HashMap::new(),
            by_address: HashMap::new(),
            front: RateLimiter::new(&public, limits.handshakes_per_second.into()),
            behind: Arc::new(RateLimiter::new(&public, u64::MAX)),
            second: 0,
            worked: 0,
            calls: Calls::default(),
            removed: Removed::default(),
            counts: TunnelCounts::default(),
        }
    }

    /// Our public key.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        self.key.public()
    }

    /// Our tunnel address.
    #[must_use]
    pub const fn address(&self) -> IpAddr {
        self.address
    }

    /// Which table of its socket it is.
    #[must_use]
    pub const fn lane(&self) -> Lane {
        self.limits.lane
    }

    /// Whether a handshake message was made for our key. Nothing is counted.
    #[must_use]
    pub fn is_called(&self, datagram: &[u8]) -> bool {
        let mut cookie = [0; MESSAGE_MIN];
        let checked = self.behind.verify_packet(None, datagram, &mut cookie);
        checked.is_ok()
    }

    /// What happened so far.
    #[must_use]
    pub const fn counts(&self) -> &TunnelCounts {
        &self.counts
    }

    /// Counts what the caller refused of a packet that came out.
    pub fn note_refused(&mut self, reason: Refusal) {
        self.counts.refuse(reason);
    }

    /// Every peer as it is now.
    pub fn peers(&self) -> impl Iterator<Item = PeerState> {
        self.peers.iter().flatten().map(|peer| peer.state())
    }

    /// How many peers there are, and how many of them have keys in use.
    #[must_use]
    pub fn standing(&self) -> (u64, u64) {
        let peers = self.peers.iter().flatten();
        let with_keys = peers.filter(|peer| peer.usable).count();
        (self.by_key.len() as u64, with_keys as u64)
    }

    /// Adds a peer.
    ///
    /// # Errors
    ///
    /// [`PeerError`]; nothing changes then.
    pub fn add(&mut self, setup: PeerSetup) -> Result<(), PeerError> {
        if setup.key == self.public() || self.by_key.contains_key(&setup.key) {
            return Err(PeerError::KeyTaken(setup.key));
        }
        if setup.address == self.address || self.by_address.contains_key(&setup.address) {
            return Err(PeerError::AddressTaken(setup.address));
        }
        let slot = self.place(setup)?;
        self.by_address.insert(setup.address, slot);
        Ok(())
    }

    /// Adds a peer that is to take the place of `old` with another key: both may send from one
    /// address, and what is sent there goes to `old` until the new key was heard. So nothing is lost
    /// while one end changes its key. Where `old` is no peer it is added like any other; one
    /// that is there already takes the address back.
    ///
    /// # Errors
    ///
    /// [`PeerError`]; nothing changes then.
    pub fn succeed(&mut self, setup: PeerSetup, old: &PublicKey) -> Result<(), PeerError> {
        let address_of = |key: &PublicKey| {
            let peer = self.peers.get(*self.by_key.get(key)?)?.as_deref()?;
            Some(peer.setup.address)
        };
        if address_of(&setup.key) == Some(setup.address) {
            self.let_inherit(&setup);
            return Ok(());
        }
        match address_of(old) {
            None => self.add(setup),
            Some(address) if address != setup.address => {
                Err(PeerError::AddressTaken(setup.address))
            }
            Some(_) if setup.key == self.public() || self.by_key.contains_key(&setup.key) => {
                Err(PeerError::KeyTaken(setup.key))
            }
            Some(_) => {
                let slot = self.place(setup)?;
                if let Some(peer) = of_slot(&mut self.peers, slot) {
                    peer.inherits = true;
                }
                Ok(())
            }
        }
    }

    /// A peer that is there takes its address when it is heard, unless it has it.
    fn let_inherit(&mut self, setup: &PeerSetup) {
        let Some(slot) = self.by_key.get(&setup.key).copied() else {
            return;
        };
        let has_it = self.by_address.get(&setup.address) == Some(&slot);
        if let Some(peer) = of_slot(&mut self.peers, slot) {
            peer.inherits = !has_it;
        }
    }

    /// Gives a peer a free slot.
    fn place(&mut self, setup: PeerSetup) -> Result<usize, PeerError> {
        let free = self.peers.iter().position(Option::is_none);
        let slot = free.unwrap_or(self.peers.len());
        let limit = self.limits.peers;
        let index = u32::try_from(slot)
            .ok()
            .filter(|index| *index < limit)
            .ok_or(PeerError::Full { limit })?;
        let tunn = Tunn::new(
            self.key.secret().clone(),
            DalekPublicKey::from(setup.key.to_bytes()),
            None,
            setup.keepalive_s,
            self.limits.lane.index(index),
            Some(Arc::clone(&self.behind)),
        );
        let peer = Some(Box::new(Peer::new(setup, tunn)));
        match self.peers.get_mut(slot) {
            Some(place) => *place = peer,
            None => self.peers.push(peer),
        }
        self.by_key.insert(setup.key, slot);
        self.removed.forget(&setup.key);
        Ok(slot)
    }

    /// A peer was heard at `endpoint` before a restart: it is reached there until it is heard
    /// elsewhere, and called, because it still has the keys of before. Nothing where it has been
    /// heard already or is no peer.
    pub fn recall(&mut self, key: &PublicKey, endpoint: SocketAddr) {
        let Some(slot) = self.by_key.get(key).copied() else {
            return;
        };
        let Some(peer) = of_slot(&mut self.peers, slot) else {
            return;
        };
        if peer.stage == Stage::Silent && peer.endpoint.is_none() {
            peer.stage = Stage::Recalled(TRIES);
            peer.endpoint = Some(endpoint);
            peer.told = peer.endpoint;
            self.calls.add(slot, endpoint);
        }
    }

    /// Tells each peer, with keys in use, whose endpoint has changed since it was told last.
    pub fn moved(&mut self, mut tell: impl FnMut(PublicKey, SocketAddr)) {
        for peer in self.peers.iter_mut().flatten() {
            if let Some(endpoint) = peer.endpoint
                && peer.usable
                && peer.told != peer.endpoint
            {
                peer.told = peer.endpoint;
                tell(peer.setup.key, endpoint);
            }
        }
    }

    /// Forgets a peer and its keys; whether it was there.
    pub fn remove(&mut self, key: &PublicKey) -> bool {
        let Some(slot) = self.by_key.remove(key) else {
            return false;
        };
        self.removed.add(*key);
        let Some(peer) = self.peers.get_mut(slot).and_then(Option::take) else {
            return true;
        };
        let address = peer.setup.address;
        if self.by_address.get(&address) != Some(&slot) {
            return true;
        }
        // Who was to take its place, or whose place it took, has the address for itself now.
        let other = self
            .peers
            .iter_mut()
            .zip(0_usize..)
            .find_map(|(peer, slot)| {
                let peer = peer.as_deref_mut()?;
                (peer.setup.address == address).then_some((peer, slot))
            });
        match other {
            Some((peer, slot)) => {
                peer.inherits = false;
                self.by_address.insert(address, slot);
            }
            None => {
                self.by_address.remove(&address);
            }
        }
        true
    }

    /// Works on a datagram that came from `from`. What it gives lies in `out`, which is at least as
    /// long as the datagram and [`MESSAGE_MIN`]. `now_ns` is monotonic.
    ///
    /// # Errors
    ///
    /// The [`Refusal`], which is counted.
    pub fn receive<'a>(
        &mut self,
        now_ns: u64,
        from: SocketAddr,
        datagram: &[u8],
        out: &'a mut [u8],
    ) -> Result<Received<'a>, Refusal> {
        if out.len() < datagram.len().max(MESSAGE_MIN) {
            return Err(self.counts.refuse(Refusal::TooLong));
        }
        let result = match Tunn::parse_incoming_packet(datagram) {
            Ok(Packet::PacketData(data)) => {
                let index = data.receiver_idx;
                let result = self.receive_data(index, from, datagram, out);
                if matches!(result, Err(Refusal::IndexUnknown)) {
                    self.hear_old_keys(from);
                }
                result
            }
            Ok(_) => self.receive_handshake(now_ns, from, datagram, out),
            Err(_) => Err(Refusal::Malformed),
        };
        result.map_err(|reason| self.counts.refuse(reason))
    }

    fn receive_data<'a>(
        &mut self,
        index: u32,
        from: SocketAddr,
        datagram: &[u8],
        out: &'a mut [u8],
    ) -> Result<Received<'a>, Refusal> {
        let counter = datagram.get(8..16).and_then(|bytes| bytes.try_into().ok());
        if counter.is_none_or(|counter| u64::from_le_bytes(counter) >= REJECT_AFTER_MESSAGES) {
            return Err(Refusal::CounterExhausted);
        }
        let slot = self.limits.lane.slot(index).ok_or(Refusal::IndexUnknown)?;
        let peer = of_slot(&mut self.peers, slot).ok_or(Refusal::IndexUnknown)?;
        let (packet, source) = match peer.tunn.decapsulate(None, datagram, out) {
            TunnResult::WriteToTunnelV4(packet, source) => (packet, IpAddr::V4(source)),
            TunnResult::WriteToTunnelV6(packet, source) => (packet, IpAddr::V6(source)),
            // An empty message keeps the tunnel alive; it is as authentic as any.
            TunnResult::Done => {
                note_heard(peer, &mut self.counts, from);
                inherit(peer, (&mut self.by_address, &mut self.counts), slot);
                return Ok(Received::Nothing);
            }
            TunnResult::WriteToNetwork(_) => return Ok(Received::Nothing),
            TunnResult::Err(error) => return Err(data_refusal(&error)),
        };
        note_heard(peer, &mut self.counts, from);
        inherit(peer, (&mut self.by_address, &mut self.counts), slot);
        if source != peer.setup.address {
            return Err(Refusal::SourceForeign);
        }
        bump(&mut self.counts.received);
        Ok(Received::Packet(packet))
    }

    /// Data for keys that nobody has came from `from`: perhaps of a peer that has not noticed a
    /// restart. It is called at the next tick, and as any other called peer once in 5 s, so who
    /// only claims to be there gains nothing.
    fn hear_old_keys(&mut self, from: SocketAddr) {
        let slot = self.calls.heard_at(from);
        let peer = slot.and_then(|slot| of_slot(&mut self.peers, slot));
        if let Some(peer) = peer
            && peer.endpoint == Some(from)
            && !peer.usable
            && matches!(peer.stage, Stage::Silent | Stage::Recalled(_))
        {
            peer.stage = Stage::ToCall;
        }
    }

    fn receive_handshake<'a>(
        &mut self,
        now_ns: u64,
        from: SocketAddr,
        datagram: &[u8],
        out: &'a mut [u8],
    ) -> Result<Received<'a>, Refusal> {
        let mut cookie = [0; MESSAGE_MIN];
        let packet = match self
            .front
            .verify_packet(Some(from.ip()), datagram, &mut cookie)
        {
            Ok(packet) => packet,
            Err(TunnResult::WriteToNetwork(cookie)) => {
                bump(&mut self.counts.cookies);
                let place = out.get_mut(..cookie.len()).ok_or(Refusal::TooLong)?;
                place.copy_from_slice(cookie);
                return Ok(Received::Reply(place));
            }
            Err(_) => return Err(Refusal::MacInvalid),
        };
        self.take_turn(now_ns)?;
        let slot = match packet {
            Packet::HandshakeInit(initiation) => {
                let public = DalekPublicKey::from(self.key.secret());
                let half = parse_handshake_anon(self.key.secret(), &public, &initiation)
                    .map_err(|_| Refusal::Unauthentic)?;
                let slot = self.slot_of(half.peer_static_public)?;
                self.admit_initiation(slot, now_ns)?;
                slot
            }
            Packet::HandshakeResponse(response) => self.slot_named(response.receiver_idx)?,
            Packet::PacketCookieReply(reply) => self.slot_named(reply.receiver_idx)?,
            Packet::PacketData(_) => return Err(Refusal::Malformed),
        };
        let peer = of_slot(&mut self.peers, slot).ok_or(Refusal::IndexUnknown)?;
        peer.wind();
        match peer.tunn.decapsulate(Some(from.ip()), datagram, out) {
            TunnResult::WriteToNetwork(message) => {
                bump(&mut self.counts.handshakes);
                if peer.usable {
                    bump(&mut self.counts.renewals);
                }
                note_heard(peer, &mut self.counts, from);
                peer.look();
                Ok(Received::Reply(message))
            }
            TunnResult::Err(error) => Err(handshake_refusal(&error)),
            _ => Ok(Received::Nothing),
        }
    }

    /// One handshake more in this second, or none.
    fn take_turn(&mut self, now_ns: u64) -> Result<(), Refusal> {
        let second = now_ns.wrapping_div(SECOND_NS);
        if second != self.second {
            (self.second, self.worked) = (second, 0);
        }
        if self.worked >= self.limits.handshakes_per_second.saturating_mul(8) {
            return Err(Refusal::HandshakeLimit);
        }
        self.worked = self.worked.saturating_add(1);
        Ok(())
    }

    fn slot_named(&self, receiver: u32) -> Result<usize, Refusal> {
        let slot = self.limits.lane.slot(receiver);
        slot.ok_or(Refusal::IndexUnknown)
    }

    fn slot_of(&self, key: [u8; 32]) -> Result<usize, Refusal> {
        let key = PublicKey::from_bytes(key).map_err(|_| Refusal::KeyUnknown)?;
        self.by_key.get(&key).copied().ok_or_else(|| {
            if self.removed.contains(&key) {
                Refusal::KeyRemoved
            } else {
                Refusal::KeyUnknown
            }
        })
    }

    fn admit_initiation(&mut self, slot: usize, now_ns: u64) -> Result<(), Refusal> {
        let peer = of_slot(&mut self.peers, slot).ok_or(Refusal::KeyUnknown)?;
        let early = |last: u64| now_ns.saturating_sub(last) < INITIATION_INTERVAL_NS;
        if peer.initiated_ns.is_some_and(early) {
            return Err(Refusal::HandshakeLimit);
        }
        peer.initiated_ns = Some(now_ns);
        Ok(())
    }

    /// Seals an IP packet to the peer with tunnel address `to` into `out`, which is at least
    /// [`MESSAGE_OVERHEAD`] longer than the packet and [`MESSAGE_MIN`] long.
    ///
    /// # Errors
    ///
    /// The [`Refusal`], which is counted.
    pub fn send<'a>(
        &mut self,
        to: IpAddr,
        packet: &[u8],
        out: &'a mut [u8],
    ) -> Result<Sending<'a>, Refusal> {
        let needed = packet.len().saturating_add(MESSAGE_OVERHEAD);
        if out.len() < needed.max(MESSAGE_MIN) {
            return Err(self.counts.refuse(Refusal::TooLong));
        }
        let slot = self.by_address.get(&to);
        let peer = slot.and_then(|slot| of_slot(&mut self.peers, *slot));
        let Some(peer) = peer else {
            return Err(self.counts.refuse(Refusal::AddressUnknown));
        };
        let Some(endpoint) = peer.endpoint else {
            return Err(self.counts.refuse(Refusal::EndpointUnknown));
        };
        let carries = peer.usable;
        let result = if carries {
            peer.tunn.encapsulate(packet, out)
        } else {
            let result = peer.call(out);
            peer.stage = Stage::Active;
            result
        };
        if carries {
            bump(&mut self.counts.sent);
        } else {
            self.counts.refuse(Refusal::NoSession);
        }
        match result {
            TunnResult::WriteToNetwork(message) => {
                if !carries {
                    peer.note_sent(message);
                }
                Ok(Sending {
                    to: endpoint,
                    message,
                    carries,
                })
            }
            _ => Err(Refusal::NoSession),
        }
    }

    /// Does what time asks for: retransmissions, new keys, signs of life, calls after a restart. To be called some four
    /// times a second; `send` sends each message. `out` is [`MESSAGE_MIN`] long.
    pub fn tick(&mut self, out: &mut [u8], mut send: impl FnMut(SocketAddr, &[u8])) {
        self.front.reset_count();
        if out.len() < MESSAGE_MIN {
            return;
        }
        let mut budget = Budget::of(self.limits.handshakes_per_second);
        for peer in self.peers.iter_mut().flatten() {
            let result = match peer.stage {
                Stage::Silent | Stage::Recalled(_) => continue,
                Stage::ToCall if budget.wanted == 0 => continue,
                Stage::ToCall => {
                    budget.wanted = budget.wanted.saturating_sub(1);
                    peer.call(out)
                }
                Stage::Active => peer.tunn.update_timers(out),
            };
            peer.stage = Stage::Active;
            let result = match result {
                TunnResult::Done if peer.renews() => {
                    peer.tunn.format_handshake_initiation(out, false)
                }
                // It was tried for 90 s, or nothing was said for nine minutes.
                TunnResult::Err(_) if peer.setup.keepalive_s.is_some() => {
                    peer.tunn.format_handshake_initiation(out, false)
                }
                TunnResult::Err(_) => {
                    peer.stage = Stage::Silent;
                    TunnResult::Done
                }
                result => result,
            };
            if let (TunnResult::WriteToNetwork(message), Some(to)) = (result, peer.endpoint) {
                peer.note_sent(message);
                send(to, message);
            }
            peer.look();
        }
        self.call_recalled(budget, out, send);
    }

    /// Calls peers that were heard before a restart and not since.
    fn call_recalled(
        &mut self,
        mut budget: Budget,
        out: &mut [u8],
        mut send: impl FnMut(SocketAddr, &[u8]),
    ) {
        self.calls.tick();
        while budget.silent > 0
            && let Some(slot) = self.calls.next()
        {
            let Some(peer) = of_slot(&mut self.peers, slot) else {
                continue;
            };
            let Stage::Recalled(tries) = peer.stage else {
                continue;
            };
            let Some(tries) = tries.checked_sub(1) else {
                peer.stage = Stage::Silent;
                continue;
            };
            budget.silent = budget.silent.saturating_sub(1);
            if let (TunnResult::WriteToNetwork(message), Some(to)) = (peer.call(out), peer.endpoint)
            {
                peer.note_sent(message);
                send(to, message);
            }
            peer.stage = Stage::Recalled(tries);
            self.calls.again(slot);
        }
    }

    /// Begins new keys with a peer now instead of after two minutes; the message, where the peer is
    /// known and can be reached.
    pub fn rekey<'a>(
        &mut self,
        key: &PublicKey,
        out: &'a mut [u8],
    ) -> Option<(SocketAddr, &'a [u8])> {
        let slot = *self.by_key.get(key)?;
        let peer = of_slot(&mut self.peers, slot)?;
        let to = peer.endpoint?;
        match peer.tunn.format_handshake_initiation(out, true) {
            TunnResult::WriteToNetwork(message) => {
                peer.note_sent(message);
                peer.stage = Stage::Active;
                Some((to, message))
            }
            _ => None,
        }
    }
}

fn of_slot(peers: &mut [Option<Box<Peer>>], slot: usize) -> Option<&mut Peer> {
    peers.get_mut(slot)?.as_deref_mut()
}

/// The peer was heard, and now there may be keys to send with.
fn note_heard(peer: &mut Peer, counts: &mut TunnelCounts, from: SocketAddr) {
    if peer.heard_from(from) {
        bump(&mut counts.roamed);
    }
    if !peer.usable {
        peer.look();
    }
}

/// A peer that was heard takes the address that it shares with the one whose place it takes.
fn inherit(
    peer: &mut Peer,
    (by_address, counts): (&mut HashMap<IpAddr, usize>, &mut TunnelCounts),
    slot: usize,
) {
    if peer.inherits {
        peer.inherits = false;
        bump(&mut counts.successions);
        by_address.insert(peer.setup.address, slot);
    }
}

fn data_refusal(error: &WireGuardError) -> Refusal {
    match error {
        WireGuardError::NoCurrentSession | WireGuardError::WrongIndex => Refusal::IndexUnknown,
        WireGuardError::DuplicateCounter | WireGuardError::InvalidCounter => Refusal::Replayed,
        WireGuardError::InvalidPacket => Refusal::InnerMalformed,
        _ => Refusal::Unauthentic,
    }
}

fn handshake_refusal(error: &WireGuardError) -> Refusal {
    match error {
        WireGuardError::WrongTai64nTimestamp => Refusal::HandshakeReplayed,
        WireGuardError::UnexpectedPacket | WireGuardError::WrongIndex => {
            Refusal::HandshakeUnexpected
        }
        WireGuardError::WrongKey => Refusal::KeyUnknown,
        _ => Refusal::Unauthentic,
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
