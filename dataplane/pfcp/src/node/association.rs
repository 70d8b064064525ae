//! Associations: who is there, since when, and until when.

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;

use super::event::{Effect, End, Note};
use super::machine::{Node, Peer, Purpose, State, Turn};
use super::outbox::Due;
use super::receive::Origin;
use super::record::{AssociationRecord, Record, preferred_first};
use crate::cause::Cause;
use crate::model::{NodeId, Seid, Time};
use crate::wire::{
    AssociationReleaseRequest, AssociationReleaseResponse, AssociationSetupRequest,
    AssociationSetupResponse, AssociationUpdateRequest, AssociationUpdateResponse, CauseCode,
    HeartbeatRequest, MAX_RULES, Message, NodeReportRequest, RawMessage, ReleaseRequest,
    RemotePeer, Timer,
};

impl Node {
    pub(super) fn association_setup(
        &mut self,
        turn: &mut Turn<'_>,
        origin: &Origin,
        request: &AssociationSetupRequest,
    ) {
        let known = self.peers.contains_key(&request.node);
        if !known && self.peers.len() >= self.config.limits.associations {
            return self.refuse(turn, origin, Seid::default(), Cause::NoResources);
        }
        self.start_anew(origin);
        self.open(
            turn,
            AssociationRecord {
                node: request.node.clone(),
                peer: self.request_address(origin.from),
                recovery: request.recovery,
                features: request.cp_features.unwrap_or_default(),
                set: request.set.clone(),
                alternatives: preferred_first(&request.alternatives),
            },
        );
        let answer = AssociationSetupResponse {
            node: self.config.node.clone(),
            cause: CauseCode::REQUEST_ACCEPTED,
            recovery: self.config.recovery,
            up_features: Some(self.config.features),
            cp_features: None,
            set: None,
            resources: Vec::new(),
        };
        self.answer(turn, origin, Seid::default(), &answer.into());
    }

    /// Opens an association; one with the same name ends with its sessions, because its peer
    /// starts from nothing. Source: TS 29.244 §6.2.6.2.2.
    fn open(&mut self, turn: &mut Turn<'_>, record: AssociationRecord) {
        self.end(turn, &record.node, End::Renewed);
        self.peers.insert(
            record.node.clone(),
            Peer::new(
                &record,
                turn.now.saturating_add(self.config.timers.heartbeat),
            ),
        );
        turn.note(Note::AssociationUp(record.node.clone()));
        turn.effects
            .push(Effect::Persist(Record::Association(record)));
    }

    pub(super) fn association_update(
        &mut self,
        turn: &mut Turn<'_>,
        origin: &Origin,
        request: &AssociationUpdateRequest,
    ) {
        let Some(peer) = self.peers.get_mut(&request.node) else {
            return self.refuse(turn, origin, Seid::default(), Cause::NoAssociation);
        };
        let alternatives = preferred_first(&request.alternatives);
        if request.cp_features.is_some() || request.set.is_some() || !alternatives.is_empty() {
            peer.features = request.cp_features.unwrap_or(peer.features);
            peer.set = request.set.clone().or_else(|| peer.set.clone());
            if !alternatives.is_empty() {
                peer.alternatives = alternatives;
            }
            let record = peer.record(&request.node);
            turn.effects
                .push(Effect::Persist(Record::Association(record)));
        }
        let answer = AssociationUpdateResponse {
            node: self.config.node.clone(),
            cause: CauseCode::REQUEST_ACCEPTED,
            up_features: Some(self.config.features),
            cp_features: None,
        };
        self.answer(turn, origin, Seid::default(), &answer.into());
    }

    pub(super) fn association_release(
        &mut self,
        turn: &mut Turn<'_>,
        origin: &Origin,
        request: &AssociationReleaseRequest,
    ) {
        if !self.peers.contains_key(&request.node) {
            return self.refuse(turn, origin, Seid::default(), Cause::NoAssociation);
        }
        self.end(turn, &request.node, End::Released);
        let answer = AssociationReleaseResponse {
            node: self.config.node.clone(),
            cause: CauseCode::REQUEST_ACCEPTED,
        };
        self.answer(turn, origin, Seid::default(), &answer.into());
    }

    /// Opens an association from here.
    pub(super) fn associate(&mut self, turn: &mut Turn<'_>, peer: SocketAddr) {
        if !self.config.admits(peer.ip()) || self.peers.len() >= self.config.limits.associations {
            turn.note(Note::AssociationRefused(peer));
            return;
        }
        let request = AssociationSetupRequest {
            node: self.config.node.clone(),
            recovery: self.config.recovery,
            up_features: Some(self.config.features),
            cp_features: None,
            set: None,
            alternatives: Vec::new(),
            resources: Vec::new(),
        };
        self.request(turn, peer, None, &request.into(), Purpose::Setup);
    }

    /// Tells a peer that we leave. Source: TS 29.244 §6.2.8.3.
    pub(super) fn leave(&mut self, turn: &mut Turn<'_>, node: &NodeId, graceful_s: u32) {
        let grace = std::time::Duration::from_secs(graceful_s.into());
        let Some(peer) = self.peers.get_mut(node) else {
            turn.note(Note::Unknown);
            return;
        };
        peer.state = State::Leaving(turn.now.saturating_add(grace));
        let to = peer.address;
        let request = AssociationUpdateRequest {
            node: self.config.node.clone(),
            up_features: None,
            cp_features: None,
            set: None,
            alternatives: Vec::new(),
            release: Some(ReleaseRequest {
                release: true,
                reports_sent: false,
            }),
            graceful: Some(Timer::at_least(graceful_s)),
            resources: Vec::new(),
        };
        self.request(turn, to, None, &request.into(), Purpose::Leave);
    }

    /// Tells every peer of GTP-U paths. Source: TS 29.244 §6.2.9.
    pub(super) fn paths(
        &mut self,
        turn: &mut Turn<'_>,
        failures: &[RemotePeer],
        recoveries: &[RemotePeer],
    ) {
        if failures.is_empty() && recoveries.is_empty() {
            return;
        }
        let message = Message::from(NodeReportRequest {
            node: self.config.node.clone(),
            failures: failures.to_vec(),
            recoveries: recoveries.to_vec(),
        });
        let addresses: BTreeSet<SocketAddr> =
            self.peers.values().map(|peer| peer.address).collect();
        for to in addresses {
            self.request(turn, to, None, &message, Purpose::NodeReport);
        }
    }

    /// Tells one peer of paths that had failed before.
    pub(super) fn paths_known(
        &mut self,
        turn: &mut Turn<'_>,
        node: &NodeId,
        failures: &[RemotePeer],
    ) {
        let Some(to) = self.peers.get(node).map(|peer| peer.address) else {
            return;
        };
        for failures in failures.chunks(MAX_RULES) {
            let message = Message::from(NodeReportRequest {
                node: self.config.node.clone(),
                failures: failures.to_vec(),
                recoveries: Vec::new(),
            });
            self.request(turn, to, None, &message, Purpose::NodeReport);
        }
    }

    /// A peer says when it started: a later time than before means that its sessions are lost
    /// there, an earlier one that the message was on its way for long.
    ///
    /// Source: TS 23.527 §4.2 and TS 29.244 §8.2.65.
    pub(super) fn recovery_came(&mut self, turn: &mut Turn<'_>, from: SocketAddr, recovery: Time) {
        let port = self.config.request_port;
        let restarted = self
            .peers
            .iter()
            .filter(|(_, peer)| port.is_same_peer(peer.address, from) && recovery > peer.recovery);
        let restarted: Vec<NodeId> = restarted.map(|(node, _)| node.clone()).collect();
        for node in restarted {
            self.end(turn, &node, End::Restarted);
        }
    }

    /// The answer to one of our requests.
    pub(super) fn answer_came(
        &mut self,
        turn: &mut Turn<'_>,
        from: SocketAddr,
        raw: &RawMessage<'_>,
    ) {
        let Ok((header, message)) = self.codec.decode_raw(raw) else {
            turn.note(Note::Malformed(from));
            return;
        };
        let outbox = self.outboxes.get_mut(&from);
        let Some(purpose) = outbox.and_then(|outbox| outbox.answered(header.sequence)) else {
            turn.note(Note::StrayAnswer(from));
            return;
        };
        match (purpose, message) {
            (Purpose::Heartbeat(node), Message::HeartbeatResponse(answer)) => {
                self.recovery_came(turn, from, answer.recovery);
                self.alive(turn, &node);
            }
            (Purpose::Setup, Message::AssociationSetupResponse(answer)) => {
                self.opened(turn, from, &answer);
            }
            (Purpose::Report(seid, batch), Message::SessionReportResponse(answer)) => {
                self.reported(turn, seid, &batch, answer);
            }
            (Purpose::Farewell(name), Message::SessionReportResponse(answer)) => {
                self.farewell_said(turn, name, &answer);
            }
            (Purpose::Leave, Message::AssociationUpdateResponse(_))
            | (Purpose::NodeReport, Message::NodeReportResponse(_)) => {}
            (purpose, _) => {
                turn.note(Note::Malformed(from));
                self.unanswered(turn, from, purpose);
            }
        }
        self.pump(turn, from);
    }

    fn opened(&mut self, turn: &mut Turn<'_>, from: SocketAddr, answer: &AssociationSetupResponse) {
        let known = self.peers.contains_key(&answer.node);
        let full = !known && self.peers.len() >= self.config.limits.associations;
        if full || !answer.cause.is_accepted() {
            turn.note(Note::AssociationRefused(from));
            return;
        }
        self.open(
            turn,
            AssociationRecord {
                node: answer.node.clone(),
                peer: from,
                recovery: answer.recovery,
                features: answer.cp_features.unwrap_or_default(),
                set: answer.set.clone(),
                alternatives: Vec::new(),
            },
        );
    }

    fn alive(&mut self, turn: &mut Turn<'_>, node: &NodeId) {
        let Some(peer) = self.peers.get_mut(node) else {
            return;
        };
        peer.tried = 0;
        if matches!(peer.state, State::Silent(_)) {
            peer.state = State::Up;
            turn.note(Note::AssociationBack(node.clone()));
        }
        self.unpark(turn, node);
    }

    fn unanswered(&mut self, turn: &mut Turn<'_>, to: SocketAddr, purpose: Purpose) {
        turn.note(Note::Unanswered(to));
        match purpose {
            Purpose::Heartbeat(node) => {
                if self.ask_next_of_set(turn, &node, to) {
                    return;
                }
                if let Some(peer) = self.peers.get_mut(&node)
                    && peer.state == State::Up
                {
                    peer.state = State::Silent(turn.now);
                    turn.note(Note::AssociationSilent(node.clone()));
                    self.leave_to_set(turn, &node);
                }
            }
            Purpose::Setup => turn.note(Note::AssociationRefused(to)),
            Purpose::Report(seid, batch) => self.unreported(turn, to, seid, *batch),
            Purpose::Farewell(name) => self.farewell_unheard(turn, name),
            Purpose::Leave | Purpose::NodeReport => {}
        }
    }

    /// Does what is due.
    pub(super) fn timer(&mut self, turn: &mut Turn<'_>) {
        self.forget_answers(turn);
        let addresses: Vec<SocketAddr> = self.outboxes.keys().copied().collect();
        for to in addresses {
            let outbox = self.outboxes.get_mut(&to);
            let due = outbox.map(|outbox| outbox.due(turn.now, &self.config.timers));
            for due in due.unwrap_or_default() {
                match due {
                    Due::Again(bytes) => turn.effects.push(Effect::Send { to, bytes }),
                    Due::Unanswered(purpose) => self.unanswered(turn, to, purpose),
                }
            }
            self.pump(turn, to);
        }
        self.send_farewells(turn);
        self.outboxes.retain(|_, outbox| outbox.len() > 0);
        for seid in self.retries.take_due(turn.now) {
            self.doom(turn, seid);
        }
        let names: Vec<NodeId> = self.peers.keys().cloned().collect();
        for node in names {
            self.peer_timer(turn, &node);
        }
    }

    fn peer_timer(&mut self, turn: &mut Turn<'_>, node: &NodeId) {
        let timers = self.config.timers;
        let Some(peer) = self.peers.get_mut(node) else {
            return;
        };
        match peer.state {
            State::Silent(since) if turn.now >= since.saturating_add(timers.keep_sessions) => {
                return self.end(turn, node, End::Silent);
            }
            State::Leaving(until) if turn.now >= until => {
                return self.end(turn, node, End::Released);
            }
            State::Up | State::Silent(_) | State::Leaving(_) => {}
        }
        if turn.now < peer.heartbeat {
            return;
        }
        let patience = timers.t1.saturating_mul(timers.n1.into());
        peer.heartbeat = turn.now.saturating_add(timers.heartbeat.max(patience));
        let to = peer.address;
        let recovery = self.config.recovery;
        let message = HeartbeatRequest { recovery }.into();
        self.request(turn, to, None, &message, Purpose::Heartbeat(node.clone()));
    }
}

impl Peer {
    pub(super) fn new(record: &AssociationRecord, heartbeat: std::time::Duration) -> Self {
        Self {
            address: record.peer,
            recovery: record.recovery,
            features: record.features,
            set: record.set.clone(),
            alternatives: record.alternatives.clone(),
            tried: 0,
            state: State::Up,
            heartbeat,
            sessions: BTreeSet::new(),
            ready: VecDeque::new(),
            parked: BTreeSet::new(),
        }
    }

    pub(super) fn record(&self, node: &NodeId) -> AssociationRecord {
        AssociationRecord {
            node: node.clone(),
            peer: self.address,
            recovery: self.recovery,
            features: self.features,
            set: self.set.clone(),
            alternatives: self.alternatives.clone(),
        }
    }
}
