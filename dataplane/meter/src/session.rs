//! The sessions that packets are looked up in.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use qlink_io::huge;
use qlink_kernel::prefetch_slice;
use qlink_pfcp::SessionRules;
use qlink_types::ids::Teid;
use qlink_types::package::RepeatPolicy;

use crate::index::KeyedIndex;
use crate::quota::{ChargeMode, Quota};
use crate::teid::TeidAllocator;

/// A session's place in the tables of its worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct SessionSlot(u32);

impl SessionSlot {
    /// From its number.
    #[must_use]
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// Its number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// Its number as an index.
    #[inline]
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// Who decides about a session's packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionKind {
    /// The session itself: one subscriber address, one tunnel.
    Direct,
    /// The rules of a PFCP session.
    Ruled,
}

/// [`ChargeMode`] without its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PayerKind {
    Personal,
    Operator,
    Block,
}

/// What a packet needs to know of its session, on one cache line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(align(64))]
pub struct HotSession {
    /// Our uplink endpoint; 0: the place is empty.
    pub teid: Teid,
    /// The BaseStation's downlink endpoint.
    pub downlink_teid: Teid,
    /// The subscriber; the unspecified address: packets are found by tunnels alone.
    pub ue: IpAddr,
    /// The BaseStation.
    pub peer: IpAddr,
    /// Who decides about its packets.
    pub kind: SessionKind,
    peer_port: u16,
    /// The interface of a link-local BaseStation; 0: none.
    peer_scope: u32,
    payer: PayerKind,
    payer_limit: u64,
    repeat: RepeatPolicy,
    sponsored: bool,
    /// See [`Self::is_plain`].
    plain: bool,
}

const _: () = assert!(
    size_of::<HotSession>() == 64,
    "a session has one cache line"
);

impl HotSession {
    const EMPTY: Self = Self {
        teid: Teid::new(0),
        downlink_teid: Teid::new(0),
        ue: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        peer: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        kind: SessionKind::Direct,
        peer_port: 0,
        peer_scope: 0,
        payer: PayerKind::Block,
        payer_limit: 0,
        repeat: RepeatPolicy::ChargeUser,
        sponsored: false,
        plain: false,
    };

    /// The hot part of `rules`, which must carry their TEID; `None` when they do not.
    #[must_use]
    pub fn from_rules(rules: &SessionRules) -> Option<Self> {
        let (payer, payer_limit) = match ChargeMode::from(&rules.payer) {
            ChargeMode::Personal { limit } => (PayerKind::Personal, limit),
            ChargeMode::Operator => (PayerKind::Operator, 0),
            ChargeMode::Block => (PayerKind::Block, 0),
        };
        let peer = rules.path.peer;
        Some(Self {
            teid: rules.teid.filter(|teid| teid.get() != 0)?,
            downlink_teid: rules.path.downlink_teid,
            ue: rules.ue,
            peer: peer.ip(),
            kind: SessionKind::Direct,
            peer_port: peer.port(),
            peer_scope: match peer {
                SocketAddr::V4(_) => 0,
                SocketAddr::V6(peer) => peer.scope_id(),
            },
            payer,
            payer_limit,
            repeat: rules
                .sponsor
                .as_ref()
                .map_or(RepeatPolicy::ChargeUser, |sponsor| sponsor.repeat),
            sponsored: rules.sponsor.is_some(),
            plain: false,
        })
    }

    /// Where its downlink packets go.
    #[inline]
    #[must_use]
    pub const fn downlink(&self) -> SocketAddr {
        match self.peer {
            IpAddr::V4(ip) => SocketAddr::V4(SocketAddrV4::new(ip, self.peer_port)),
            IpAddr::V6(ip) => {
                SocketAddr::V6(SocketAddrV6::new(ip, self.peer_port, 0, self.peer_scope))
            }
        }
    }

    /// Who pays for charged bytes.
    #[inline]
    #[must_use]
    pub const fn quota(&self) -> Quota {
        Quota {
            mode: match self.payer {
                PayerKind::Personal => ChargeMode::Personal {
                    limit: self.payer_limit,
                },
                PayerKind::Operator => ChargeMode::Operator,
                PayerKind::Block => ChargeMode::Block,
            },
            repeat: self.repeat,
        }
    }

    /// Whether a sponsor pays for contents; without one there is no flow state.
    #[inline]
    #[must_use]
    pub const fn is_sponsored(&self) -> bool {
        self.sponsored
    }

    /// Whether its packets are charged without a look at anything else: no rules, no sponsor, and
    /// a payer without a limit. In a table alone; elsewhere the answer is no.
    #[inline]
    #[must_use]
    pub const fn is_plain(&self) -> bool {
        self.plain
    }

    /// The session, after a change, as a table has it.
    fn settled(self) -> Self {
        let free = self.kind == SessionKind::Direct && self.payer == PayerKind::Operator;
        Self {
            plain: free && !self.sponsored,
            ..self
        }
    }
}

/// Sessions by slot, by TEID and by subscriber address. All memory is taken at construction.
#[derive(Debug)]
pub struct SessionTable {
    sessions: Box<[HotSession]>,
    /// TEIDs that are not of our own making.
    foreign: KeyedIndex<u32>,
    by_ue: KeyedIndex<IpAddr>,
    /// How many sessions each BaseStation address carries.
    peers: KeyedIndex<IpAddr>,
}

impl SessionTable {
    /// Room for `capacity` sessions (1 to 2^20).
    #[must_use]
    pub fn new(capacity: u32, secret: u64) -> Self {
        let capacity = (capacity as usize).clamp(1, 1 << 20);
        Self {
            sessions: huge::table(capacity, |_| HotSession::EMPTY),
            foreign: KeyedIndex::new(capacity, secret),
            by_ue: KeyedIndex::new(capacity, secret),
            peers: KeyedIndex::new(capacity, secret),
        }
    }

    /// Starts loading the session that `teid` names.
    #[inline]
    pub fn prefetch(&self, teid: Teid) {
        prefetch_slice(&self.sessions, TeidAllocator::slot_of(teid).index());
    }

    /// The session whose uplink endpoint is `teid`: one index and one compare for TEIDs of ours.
    #[inline]
    #[must_use]
    pub fn by_teid(&self, teid: Teid) -> Option<(SessionSlot, &HotSession)> {
        let slot = TeidAllocator::slot_of(teid);
        match self.sessions.get(slot.index()) {
            Some(session) if session.teid == teid && teid.get() != 0 => Some((slot, session)),
            _ => self.by_foreign_teid(teid),
        }
    }

    /// The plain session whose uplink endpoint is `teid`, a TEID of ours; `None` says nothing about
    /// other sessions.
    #[inline(always)]
    #[must_use]
    pub fn plain(&self, teid: Teid) -> Option<(SessionSlot, &HotSession)> {
        let slot = TeidAllocator::slot_of(teid);
        let session = self.sessions.get(slot.index())?;
        // An empty place is not plain.
        (session.teid == teid && session.plain).then_some((slot, session))
    }

    fn by_foreign_teid(&self, teid: Teid) -> Option<(SessionSlot, &HotSession)> {
        if self.foreign.is_empty() {
            return None;
        }
        let slot = SessionSlot(self.foreign.get(&teid.get())?);
        self.get(slot).map(|session| (slot, session))
    }

    /// Hash of a subscriber address, for [`Self::prefetch_ue`] and [`Self::slot_of_ue`].
    #[inline]
    #[must_use]
    pub fn hash_ue(&self, ue: &IpAddr) -> u64 {
        self.by_ue.hash(ue)
    }

    /// Starts loading the place of an address.
    #[inline]
    pub fn prefetch_ue(&self, hash: u64) {
        self.by_ue.prefetch(hash);
    }

    /// Starts loading the session in a slot.
    #[inline]
    pub fn prefetch_slot(&self, slot: SessionSlot) {
        prefetch_slice(&self.sessions, slot.index());
    }

    /// The slot of a subscriber address whose hash is known.
    #[inline]
    #[must_use]
    pub fn slot_of_ue(&self, hash: u64, ue: &IpAddr) -> Option<SessionSlot> {
        self.by_ue.get_hashed(hash, ue).map(SessionSlot)
    }

    /// The session in a slot.
    #[inline]
    #[must_use]
    pub fn get(&self, slot: SessionSlot) -> Option<&HotSession> {
        self.sessions
            .get(slot.index())
            .filter(|session| session.teid.get() != 0)
    }

    /// Puts a session into an empty slot, or replaces the one there; `false`, and nothing is
    /// looked up there any more, when slot, TEID or address do not fit.
    pub fn insert(&mut self, slot: SessionSlot, session: HotSession) -> bool {
        self.remove(slot);
        let Some(place) = self.sessions.get_mut(slot.index()) else {
            return false;
        };
        if session.teid.get() == 0 || self.by_ue.get(&session.ue).is_some() {
            return false;
        }
        *place = session.settled();
        self.count_peer(session.peer, true);
        let own = TeidAllocator::slot_of(session.teid) == slot;
        let found = (session.ue.is_unspecified() || self.by_ue.insert(session.ue, slot.0))
            && (own || self.foreign.insert(session.teid.get(), slot.0));
        if !found {
            self.remove(slot);
        }
        found
    }

    /// Empties a slot.
    pub fn remove(&mut self, slot: SessionSlot) {
        let Some(place) = self.sessions.get_mut(slot.index()) else {
            return;
        };
        let session = std::mem::replace(place, HotSession::EMPTY);
        if session.teid.get() == 0 {
            return;
        }
        self.count_peer(session.peer, false);
        if self.by_ue.get(&session.ue) == Some(slot.0) {
            self.by_ue.remove(&session.ue);
        }
        if self.foreign.get(&session.teid.get()) == Some(slot.0) {
            self.foreign.remove(&session.teid.get());
        }
    }

    /// Lets contents be proven in the flows of the session in a slot.
    pub fn sponsor(&mut self, slot: SessionSlot) {
        if let Some(session) = self.sessions.get_mut(slot.index()) {
            session.sponsored = true;
            *session = session.settled();
        }
    }

    /// Lets rules decide about the packets of the session in a slot, or no longer.
    pub fn set_kind(&mut self, slot: SessionSlot, kind: SessionKind) {
        if let Some(session) = self.sessions.get_mut(slot.index()) {
            session.kind = kind;
            *session = session.settled();
        }
    }

    /// Lets a further uplink endpoint lead to a slot; `false` when it leads somewhere or there is
    /// no room. Its owner takes it back with [`Self::forget_teid`] before the session ends.
    #[must_use]
    pub fn alias_teid(&mut self, teid: Teid, slot: SessionSlot) -> bool {
        teid.get() != 0 && self.by_teid(teid).is_none() && self.foreign.insert(teid.get(), slot.0)
    }

    /// Undoes [`Self::alias_teid`].
    pub fn forget_teid(&mut self, teid: Teid, slot: SessionSlot) {
        if self.foreign.get(&teid.get()) == Some(slot.0) {
            self.foreign.remove(&teid.get());
        }
    }

    /// Lets a further address, or the first of an IPv6 prefix of 64 bits, lead to a slot, as
    /// [`Self::alias_teid`].
    #[must_use]
    pub fn alias_ue(&mut self, ue: IpAddr, slot: SessionSlot) -> bool {
        self.by_ue.get(&ue).is_none() && self.by_ue.insert(ue, slot.0)
    }

    /// Undoes [`Self::alias_ue`].
    pub fn forget_ue(&mut self, ue: IpAddr, slot: SessionSlot) {
        if self.by_ue.get(&ue) == Some(slot.0) {
            self.by_ue.remove(&ue);
        }
    }

    /// The slot whose subscriber has the prefix of 64 bits that `ue` is in.
    #[must_use]
    pub fn slot_of_prefix(&self, ue: Ipv6Addr) -> Option<SessionSlot> {
        let prefix = IpAddr::V6(prefix_of(ue));
        self.by_ue.get(&prefix).map(SessionSlot)
    }

    /// Counts a BaseStation address of the session, beside that of the session itself.
    pub fn alias_peer(&mut self, peer: IpAddr) {
        self.count_peer(peer, true);
    }

    /// Undoes [`Self::alias_peer`].
    pub fn forget_peer(&mut self, peer: IpAddr) {
        self.count_peer(peer, false);
    }

    /// Whether some session's BaseStation has this address.
    #[must_use]
    pub fn is_peer(&self, address: &IpAddr) -> bool {
        self.peers.get(address).is_some()
    }

    /// A session of `peer` came or went.
    fn count_peer(&mut self, peer: IpAddr, came: bool) {
        let before = self.peers.get(&peer).unwrap_or(0);
        let now = if came {
            before.saturating_add(1)
        } else {
            before.saturating_sub(1)
        };
        if now == 0 {
            self.peers.remove(&peer);
        } else {
            // There are at most as many addresses as sessions, for which there is room.
            let _ = self.peers.insert(peer, now);
        }
    }

    /// Room.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        self.sessions.len()
    }
}

/// The first address of the prefix of 64 bits that `address` is in.
#[must_use]
pub const fn prefix_of(address: Ipv6Addr) -> Ipv6Addr {
    Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(teid: u32, host: u8) -> HotSession {
        HotSession {
            teid: Teid::new(teid),
            ue: IpAddr::from([10, 0, 0, host]),
            ..HotSession::EMPTY
        }
    }

    fn find(table: &SessionTable, host: u8) -> Option<SessionSlot> {
        let ue = IpAddr::from([10, 0, 0, host]);
        table.slot_of_ue(table.hash_ue(&ue), &ue)
    }

    #[test]
    fn own_and_foreign_teids_are_found_and_late_generations_are_not() {
        let mut table = SessionTable::new(8, 1);
        assert!(table.insert(SessionSlot(2), session(0x0000_0207, 1)));
        assert!(table.insert(SessionSlot(3), session(0xdead_beef, 2)));

        let slot = |teid| table.by_teid(Teid::new(teid)).map(|(slot, _)| slot.0);

        assert_eq!(slot(0x0000_0207), Some(2));
        assert_eq!(slot(0xdead_beef), Some(3));
        assert_eq!(slot(0x0000_0208), None);
        assert_eq!(slot(0), None);
        assert_eq!(find(&table, 2), Some(SessionSlot(3)));
    }

    #[test]
    fn a_session_is_plain_as_long_as_nothing_but_its_operator_decides() {
        let rules = |payer| HotSession {
            payer,
            ..session(0x0000_0201, 1)
        };
        let (slot, teid) = (SessionSlot(2), Teid::new(0x0000_0201));
        let mut table = SessionTable::new(8, 1);
        let plain = |table: &SessionTable| table.plain(teid).is_some();

        table.insert(slot, rules(PayerKind::Personal));
        assert!(!plain(&table));
        table.insert(slot, rules(PayerKind::Block));
        assert!(!plain(&table));
        table.insert(slot, rules(PayerKind::Operator));
        assert!(plain(&table) && table.plain(Teid::new(0x0000_0202)).is_none());
        table.set_kind(slot, SessionKind::Ruled);
        assert!(!plain(&table));
        table.set_kind(slot, SessionKind::Direct);
        assert!(plain(&table));
        table.sponsor(slot);
        assert!(!plain(&table));
        table.remove(slot);
        assert!(!plain(&table) && table.plain(Teid::new(0)).is_none());
    }

    #[test]
    fn a_removed_session_is_found_by_nothing() {
        let mut table = SessionTable::new(8, 1);
        table.insert(SessionSlot(3), session(0xdead_beef, 2));

        table.remove(SessionSlot(3));

        assert!(table.by_teid(Teid::new(0xdead_beef)).is_none());
        assert_eq!(find(&table, 2), None);
    }

    #[test]
    fn an_address_is_a_peer_as_long_as_it_has_a_session() {
        let mut table = SessionTable::new(8, 1);
        let peer = HotSession::EMPTY.peer;
        table.insert(SessionSlot(1), session(0x0000_0101, 1));
        table.insert(SessionSlot(2), session(0x0000_0201, 2));
        // Refused, so it does not count.
        table.insert(SessionSlot(3), session(0x0000_0301, 2));

        table.remove(SessionSlot(1));
        assert!(table.is_peer(&peer));
        table.remove(SessionSlot(2));
        assert!(!table.is_peer(&peer));
    }

    #[test]
    fn sessions_without_an_address_do_not_stand_in_each_others_way() {
        let nowhere = |teid| HotSession {
            ue: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            ..session(teid, 1)
        };
        let mut table = SessionTable::new(8, 1);

        assert!(table.insert(SessionSlot(1), nowhere(0x0000_0101)));
        assert!(table.insert(SessionSlot(2), nowhere(0x0000_0201)));
        table.remove(SessionSlot(1));

        assert!(table.by_teid(Teid::new(0x0000_0201)).is_some());
        let nobody = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        assert_eq!(table.slot_of_ue(table.hash_ue(&nobody), &nobody), None);
    }

    #[test]
    fn a_taken_address_refuses_a_second_session() {
        let mut table = SessionTable::new(8, 1);
        table.insert(SessionSlot(1), session(0x0000_0101, 1));

        assert!(!table.insert(SessionSlot(2), session(0x0000_0201, 1)));
        assert_eq!(find(&table, 1), Some(SessionSlot(1)));
    }
}
