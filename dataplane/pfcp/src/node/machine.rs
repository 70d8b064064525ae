//! The node as a whole: its state, and who does what with an event.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::config::{NodeConfig, PFCP_PORT, RequestPort};
use super::event::{Effect, End, Event, Note, Token};
use super::inbox::Inbox;
use super::outbox::Outbox;
use super::record::{AssociationRecord, EndAnswer, Record};
use super::report::Batch;
use super::session::{Retries, Session};
use super::sets::{Farewells, Sweep, is_of_set};
use crate::model::{ApplicationId, Endpoints, FSeid, NodeId, Seid, SessionModel, SmfSetId, Time};
use crate::peers::PeerIndex;
use crate::wire::{Codec, CpAddress, CpFeatures, Header, Message, Pfd, Sequence};

/// What one of our requests is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To learn whether the peer is there.
    Heartbeat(NodeId),
    /// To open an association.
    Setup,
    /// To say that we leave.
    Leave,
    /// To tell of paths.
    NodeReport,
    /// To tell of a session.
    Report(Seid, Box<Batch>),
    /// To tell the last usage of a session that is gone: which part of it.
    Farewell((Seid, usize)),
}

/// How an association is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// The peer answers.
    Up,
    /// It does not, since then.
    Silent(Duration),
    /// It was told that we leave at that time.
    Leaving(Duration),
}

#[derive(Debug, Clone)]
pub(super) struct Peer {
    pub(super) address: SocketAddr,
    pub(super) recovery: Time,
    pub(super) features: CpFeatures,
    /// The set of functions that share its sessions.
    pub(super) set: Option<SmfSetId>,
    /// Where other functions of its set are, in the order in which they are tried.
    pub(super) alternatives: Vec<CpAddress>,
    /// How many of them were tried since one of the set answered.
    pub(super) tried: usize,
    pub(super) state: State,
    pub(super) heartbeat: Duration,
    pub(super) sessions: BTreeSet<Seid>,
    /// Sessions with something to report and room for it.
    pub(super) ready: VecDeque<Seid>,
    /// Sessions whose last report was not answered, until the peer answers a heartbeat.
    pub(super) parked: BTreeSet<Seid>,
}

/// One event's surroundings.
pub(super) struct Turn<'a> {
    pub(super) now: Duration,
    pub(super) endpoints: &'a mut dyn Endpoints,
    pub(super) effects: Vec<Effect>,
}

impl Turn<'_> {
    pub(super) fn note(&mut self, note: Note) {
        self.effects.push(Effect::Note(note));
    }
}

/// A user plane function as PFCP sees it. See the [module](super).
#[derive(Debug, Clone)]
pub struct Node {
    pub(super) config: NodeConfig,
    pub(super) codec: Codec,
    pub(super) peers: BTreeMap<NodeId, Peer>,
    pub(super) sessions: BTreeMap<Seid, Session>,
    pub(super) applications: BTreeMap<ApplicationId, Vec<Pfd>>,
    pub(super) inboxes: BTreeMap<SocketAddr, Inbox>,
    pub(super) outboxes: BTreeMap<SocketAddr, Outbox<Purpose>>,
    pub(super) commands: BTreeMap<Token, Seid>,
    pub(super) retries: Retries,
    /// Ends of the tunnels of all sessions that stand.
    pub(super) tunnel_peers: PeerIndex,
    pub(super) sweeps: Vec<Sweep>,
    pub(super) farewells: Farewells,
    /// Answers with the last usage of sessions, as long as they are remembered.
    pub(super) ends: VecDeque<(Duration, Seid, EndAnswer)>,
    /// The last number of our requests; peers do not share numbers, but that does no harm.
    last_sequence: Sequence,
    next_token: u64,
    next_seid: u64,
}

impl Node {
    /// A node without associations.
    #[must_use]
    pub fn new(config: NodeConfig) -> Self {
        Self {
            codec: Codec::new(config.enterprise),
            config,
            peers: BTreeMap::new(),
            sessions: BTreeMap::new(),
            applications: BTreeMap::new(),
            inboxes: BTreeMap::new(),
            outboxes: BTreeMap::new(),
            commands: BTreeMap::new(),
            retries: Retries::default(),
            tunnel_peers: PeerIndex::new(),
            sweeps: Vec::new(),
            farewells: Farewells::default(),
            ends: VecDeque::new(),
            last_sequence: Sequence::default(),
            next_token: 1,
            next_seid: 1,
        }
    }

    /// Takes an event in. `now` is the time since any fixed moment and never goes back.
    #[must_use]
    pub fn handle(
        &mut self,
        now: Duration,
        event: Event<'_>,
        endpoints: &mut dyn Endpoints,
    ) -> Vec<Effect> {
        let mut turn = Turn {
            now,
            endpoints,
            effects: Vec::new(),
        };
        match event {
            Event::Datagram { from, bytes } => self.datagram(&mut turn, from, bytes),
            Event::Outcome { token, result } => self.outcome(&mut turn, token, result),
            Event::Timer => self.timer(&mut turn),
            Event::Associate { peer } => self.associate(&mut turn, peer),
            Event::Leave { node, graceful_s } => self.leave(&mut turn, &node, graceful_s),
            Event::Paths {
                failures,
                recoveries,
            } => self.paths(&mut turn, &failures, &recoveries),
            Event::PathsKnown { node, failures } => {
                self.paths_known(&mut turn, &node, &failures);
            }
            Event::Usage { session, reports } => self.usage(&mut turn, session, reports),
            Event::DownlinkData { session, report } => {
                self.downlink_data(&mut turn, session, report);
            }
            Event::ErrorIndication { session, endpoints } => {
                self.error_indication(&mut turn, session, endpoints);
            }
            Event::Inactive { session } => self.inactive(&mut turn, session),
        }
        turn.effects
    }

    /// When [`Event::Timer`] is due; it may come at any other time too.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        let requests = self.outboxes.values().filter_map(Outbox::deadline);
        let peers = self.peers.values().flat_map(|peer| {
            let end = match peer.state {
                State::Up => None,
                State::Silent(since) => {
                    Some(since.saturating_add(self.config.timers.keep_sessions))
                }
                State::Leaving(until) => Some(until),
            };
            end.into_iter().chain([peer.heartbeat])
        });
        // Last words of before a restart wait for nothing.
        let unsaid = self.outboxes.is_empty() && self.farewells.is_waiting();
        let others = unsaid.then_some(Duration::ZERO);
        let others = others.into_iter().chain(self.retries.deadline());
        requests.chain(peers).chain(others).min()
    }

    /// Who the node is.
    #[must_use]
    pub const fn config(&self) -> &NodeConfig {
        &self.config
    }

    /// The filters of applications.
    #[must_use]
    pub const fn applications(&self) -> &BTreeMap<ApplicationId, Vec<Pfd>> {
        &self.applications
    }

    /// Where sessions that stand send tunnel packets.
    #[must_use]
    pub const fn tunnel_peers(&self) -> &PeerIndex {
        &self.tunnel_peers
    }

    /// A session's rules are others: those before it and those behind it.
    pub(super) fn index_tunnels(&mut self, before: &SessionModel, behind: &SessionModel) {
        for peer in behind.tunnel_peers() {
            self.tunnel_peers.add(peer);
        }
        for peer in before.tunnel_peers() {
            self.tunnel_peers.remove(peer);
        }
    }

    /// Peers with an association.
    pub fn associations(&self) -> impl Iterator<Item = &NodeId> {
        self.peers.keys()
    }

    /// An association as it stands.
    #[must_use]
    pub fn association(&self, node: &NodeId) -> Option<AssociationRecord> {
        self.peers.get(node).map(|peer| peer.record(node))
    }

    pub(super) fn token(&mut self, session: Seid) -> Token {
        let token = Token(self.next_token);
        self.next_token = self.next_token.wrapping_add(1);
        self.commands.insert(token, session);
        token
    }

    /// A number that no session has, is not 0 and says nothing about the one before.
    pub(super) fn seid(&mut self) -> Seid {
        loop {
            let mut input = [0; 16];
            let (start, count) = input.split_at_mut(8);
            start.copy_from_slice(&self.config.start.to_be_bytes());
            count.copy_from_slice(&self.next_seid.to_be_bytes());
            self.next_seid = self.next_seid.wrapping_add(1);
            let hash = blake3::keyed_hash(self.config.key.bytes(), &input);
            let number = hash.as_bytes().first_chunk();
            let seid = Seid::new(number.map_or(0, |bytes| u64::from_be_bytes(*bytes)));
            if seid.get() != 0 && !self.sessions.contains_key(&seid) {
                return seid;
            }
        }
    }

    pub(super) const fn fseid(&self, seid: Seid) -> FSeid {
        FSeid {
            seid,
            v4: self.config.v4,
            v6: self.config.v6,
        }
    }

    /// Where requests go to a peer whose own came from `source`.
    pub(super) const fn request_address(&self, source: SocketAddr) -> SocketAddr {
        match self.config.request_port {
            RequestPort::Standard => SocketAddr::new(source.ip(), PFCP_PORT),
            RequestPort::Source => source,
        }
    }

    /// Sends a request and waits for its answer; `None` when it cannot be stated.
    pub(super) fn request(
        &mut self,
        turn: &mut Turn<'_>,
        to: SocketAddr,
        seid: Option<Seid>,
        message: &Message,
        purpose: Purpose,
    ) -> Option<()> {
        let outbox = self.outboxes.entry(to).or_default();
        let sequence = outbox.number(self.last_sequence);
        self.last_sequence = sequence;
        let header = match seid {
            Some(seid) => Header::session(seid, sequence),
            None => Header::node(sequence),
        };
        let Ok(bytes) = self.codec.encode(&header, message) else {
            turn.note(Note::Unspeakable);
            return None;
        };
        let timers = &self.config.timers;
        outbox.sent(sequence, bytes.clone(), purpose, turn.now, timers);
        turn.effects.push(Effect::Send { to, bytes });
        Some(())
    }

    /// Whether a peer at this address has an association.
    pub(super) fn is_associated(&self, address: IpAddr) -> bool {
        let mut peers = self.peers.values();
        peers.any(|peer| peer.address.ip() == address || is_of_set(peer, address))
    }

    /// Ends an association here; its sessions are deleted one by one.
    pub(super) fn end(&mut self, turn: &mut Turn<'_>, node: &NodeId, end: End) {
        // Functions of a set share what they store: only who releases wants its sessions gone.
        if end != End::Released {
            self.leave_to_set(turn, node);
        }
        let Some(peer) = self.peers.remove(node) else {
            return;
        };
        turn.effects
            .push(Effect::Persist(Record::AssociationGone(node.clone())));
        turn.note(Note::AssociationDown(
            node.clone(),
            end,
            peer.sessions.len(),
        ));
        for seid in peer.sessions {
            self.doom(turn, seid);
        }
    }
}
