//! Requests about sets of sessions, and the last word of sessions that end with their set.
//!
//! A control plane function that lost a part of itself has the sessions of that part ended, or
//! moved to another function that has an association here. Sessions are named by what was said of
//! them when they were established or changed; only those of the sender's own address are touched.
//! The answer leaves when the last of them is gone and persisted.
//!
//! The answer has no room for usage, so each session says its own with a last report
//! ([`crate::wire::ReportFlags::deleted`]); it is durable with the end and sent until it is answered, but once
//! refused it is given up.
//!
//! Invariant: a set is looked for among all sessions, because such requests follow failures and
//! an index would cost every session memory.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};

use super::event::{Effect, Note};
use super::machine::{Node, Peer, Purpose, State, Turn};
use super::outbox::Outbox;
use super::receive::Origin;
use super::record::{LastUsage, Record};
use super::report::{MAX_USAGE_IN_REPORT, report_address};
use super::session::{LastWord, Session, Task};
use crate::cause::Cause;
use crate::model::{FSeid, NodeId, Rejection, Seid, UsageReport};
use crate::wire::{
    CauseCode, CpAddress, CpFeatures, IeType, Message, SessionChangeInfo,
    SessionModificationRequest, SessionReportResponse, SessionSetDeletionRequest,
    SessionSetDeletionResponse, SessionSetModificationRequest, SessionSetModificationResponse,
};

/// Set deletions in work at once (chosen: each holds the numbers of its sessions).
const SWEEPS_MAX: usize = 16;

/// Last words that wait for room among our requests (chosen: some 10 MB at most).
const FAREWELLS_MAX: usize = 4096;

/// A request that is answered when the sessions that it named are gone.
#[derive(Debug, Clone)]
pub(super) struct Sweep {
    origin: Origin,
    left: BTreeSet<Seid>,
}

/// Last words, durable until they are said.
#[derive(Debug, Clone, Default)]
pub(super) struct Farewells {
    /// All that are not answered, in parts that fit a message.
    parts: BTreeMap<(Seid, usize), LastUsage>,
    /// Those that wait for room among our requests.
    waiting: VecDeque<(Seid, usize)>,
}

impl Farewells {
    /// Takes a session's last usage in; what finds no room comes back.
    pub(super) fn add(&mut self, last: &LastUsage) -> usize {
        let mut lost = 0_usize;
        for (part, reports) in last.reports.chunks(MAX_USAGE_IN_REPORT).enumerate() {
            if self.parts.len() >= FAREWELLS_MAX {
                lost = lost.saturating_add(reports.len());
                continue;
            }
            let name = (last.session, part);
            let reports = reports.to_vec();
            self.parts.insert(
                name,
                LastUsage {
                    reports,
                    ..last.clone()
                },
            );
            self.waiting.push_back(name);
        }
        lost
    }

    /// Every last word that is not said, whole.
    pub(super) fn left(&self) -> Vec<LastUsage> {
        let mut whole: Vec<LastUsage> = Vec::new();
        for part in self.parts.values() {
            match whole.last_mut().filter(|last| last.session == part.session) {
                Some(last) => last.reports.extend(part.reports.iter().cloned()),
                None => whole.push(part.clone()),
            }
        }
        whole
    }

    /// Whether any waits for room among our requests.
    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// A part is said, or nobody is there; whether nothing of that session is left.
    fn done(&mut self, name: (Seid, usize)) -> bool {
        self.parts.remove(&name);
        let (session, _) = name;
        let mut rest = self.parts.range((session, 0)..=(session, usize::MAX));
        rest.next().is_none()
    }
}

/// A session that moves.
struct Move {
    session: Seid,
    owner: NodeId,
    address: CpAddress,
}

impl Node {
    /// Ends the sessions of parts of nodes. Source: TS 29.244 §7.4.6.
    pub(super) fn session_set_deletion(
        &mut self,
        turn: &mut Turn<'_>,
        origin: &Origin,
        request: &SessionSetDeletionRequest,
    ) {
        if let Err(rejection) = self.check_set_deletion(request) {
            return self.reject(turn, origin, Seid::default(), rejection);
        }
        let own = self.sessions_at(origin.from.ip());
        let left: BTreeSet<Seid> = own
            .filter(|(_, session)| session.sets.is_in(&request.sets))
            .map(|(seid, _)| seid)
            .collect();
        if left.is_empty() {
            return self.answer_sweep(turn, origin);
        }
        let sweep = Sweep {
            origin: *origin,
            left: left.clone(),
        };
        self.sweeps.push(sweep);
        for seid in left {
            if let Some(session) = self.sessions.get_mut(&seid) {
                session.last_word = LastWord::Report;
            }
            self.doom(turn, seid);
        }
    }

    fn check_set_deletion(&self, request: &SessionSetDeletionRequest) -> Result<(), Rejection> {
        if !self.peers.contains_key(&request.node) {
            return Err(Rejection::new(Cause::NoAssociation).about(IeType::NODE_ID));
        }
        if request.sets.is_empty() {
            return Err(Rejection::new(Cause::ConditionalMissing).about(IeType::FQ_CSID));
        }
        if self.sweeps.len() >= SWEEPS_MAX {
            return Err(Rejection::new(Cause::NoResources));
        }
        Ok(())
    }

    fn answer_sweep(&mut self, turn: &mut Turn<'_>, origin: &Origin) {
        let answer = SessionSetDeletionResponse {
            node: self.config.node.clone(),
            cause: CauseCode::REQUEST_ACCEPTED,
            offending: None,
        };
        self.answer(turn, origin, Seid::default(), &answer.into());
    }

    /// A session is gone: requests that waited for it alone are answered.
    pub(super) fn swept(&mut self, turn: &mut Turn<'_>, seid: Seid) {
        for sweep in &mut self.sweeps {
            sweep.left.remove(&seid);
        }
        while let Some(place) = self.sweeps.iter().position(|sweep| sweep.left.is_empty()) {
            let done = self.sweeps.swap_remove(place);
            self.answer_sweep(turn, &done.origin);
        }
    }

    /// Sessions of the control plane functions at an address.
    fn sessions_at(&self, address: IpAddr) -> impl Iterator<Item = (Seid, &Session)> {
        let peers = self.peers.values();
        let there = peers.filter(move |peer| peer.address.ip() == address);
        let seids = there.flat_map(|peer| &peer.sessions);
        seids.filter_map(|seid| Some((*seid, self.sessions.get(seid)?)))
    }

    /// Says the last usage of a session that its set took away.
    pub(super) fn say_farewell(
        &mut self,
        turn: &mut Turn<'_>,
        seid: Seid,
        session: &Session,
        reports: &[UsageReport],
    ) {
        let Some(peer) = self.peers.get(&session.owner) else {
            turn.note(Note::ReportsLost(seid, reports.len()));
            return;
        };
        let last = LastUsage {
            session: seid,
            to: report_address(&session.remote, peer.address),
            remote: session.remote.seid,
            reports: reports.to_vec(),
        };
        let lost = self.farewells.add(&last);
        if lost > 0 {
            turn.note(Note::ReportsLost(seid, lost));
        }
        // Durable before it is said: it is said again until it is answered.
        let record = Record::LastWord(Box::new(last));
        if record.to_bytes(&self.codec).is_ok() {
            turn.effects.push(Effect::Persist(record));
        }
        self.send_farewells(turn);
    }

    /// Sends last words as long as there is room; those to a peer that has too many requests of
    /// ours keep the others waiting, so that their order stays.
    pub(super) fn send_farewells(&mut self, turn: &mut Turn<'_>) {
        while let Some(name) = self.farewells.waiting.front().copied() {
            let Some(farewell) = self.farewells.parts.get(&name) else {
                self.farewells.waiting.pop_front();
                continue;
            };
            let (to, remote) = (farewell.to, farewell.remote);
            let outstanding = self.outboxes.get(&to).map_or(0, Outbox::len);
            if outstanding >= self.config.limits.outstanding {
                return;
            }
            let message = Message::from(farewell.to_message());
            self.farewells.waiting.pop_front();
            let purpose = Purpose::Farewell(name);
            if self
                .request(turn, to, Some(remote), &message, purpose)
                .is_none()
            {
                self.give_up_farewell(turn, name);
            }
        }
    }

    /// What came of a last word.
    pub(super) fn farewell_said(
        &mut self,
        turn: &mut Turn<'_>,
        name: (Seid, usize),
        answer: &SessionReportResponse,
    ) {
        if !answer.cause.is_accepted() {
            turn.note(Note::ReportRefused(name.0, answer.cause.get()));
            return self.give_up_farewell(turn, name);
        }
        self.end_farewell(turn, name);
    }

    /// Nobody answered a last word: it is said again as long as there is an association with who
    /// is to hear it.
    pub(super) fn farewell_unheard(&mut self, turn: &mut Turn<'_>, name: (Seid, usize)) {
        let to = self.farewells.parts.get(&name).map(|part| part.to.ip());
        if to.is_some_and(|to| self.is_associated(to)) {
            self.farewells.waiting.push_back(name);
        } else {
            self.give_up_farewell(turn, name);
        }
    }

    fn give_up_farewell(&mut self, turn: &mut Turn<'_>, name: (Seid, usize)) {
        let count = self
            .farewells
            .parts
            .get(&name)
            .map_or(0, |part| part.reports.len());
        turn.note(Note::ReportsLost(name.0, count));
        self.end_farewell(turn, name);
    }

    fn end_farewell(&mut self, turn: &mut Turn<'_>, name: (Seid, usize)) {
        if self.farewells.done(name) {
            turn.effects.push(Effect::Persist(Record::Said(name.0)));
        }
    }

    /// Gives sessions to other control plane functions, all that are named or none.
    ///
    /// Source: TS 29.244 §7.4.7.
    pub(super) fn session_set_modification(
        &mut self,
        turn: &mut Turn<'_>,
        origin: &Origin,
        request: &SessionSetModificationRequest,
    ) {
        let moves = match self.judge_moves(origin, request) {
            Ok(moves) => moves,
            Err(rejection) => return self.reject(turn, origin, Seid::default(), rejection),
        };
        for step in moves {
            self.move_session(turn, &step);
        }
        let answer = SessionSetModificationResponse {
            node: self.config.node.clone(),
            cause: CauseCode::REQUEST_ACCEPTED,
            offending: None,
        };
        self.answer(turn, origin, Seid::default(), &answer.into());
    }

    fn judge_moves(
        &self,
        origin: &Origin,
        request: &SessionSetModificationRequest,
    ) -> Result<Vec<Move>, Rejection> {
        if !self.peers.contains_key(&request.node) {
            return Err(Rejection::new(Cause::NoAssociation).about(IeType::NODE_ID));
        }
        let mut moves = Vec::new();
        let mut moved = BTreeSet::new();
        for change in &request.changes {
            let alternative = change.alternative.address;
            let mut peers = self.peers.iter();
            let owner = peers.find(|(_, peer)| alternative.has(peer.address.ip()));
            let (owner, peer) = owner.ok_or_else(|| {
                Rejection::new(Cause::NoAssociation).about(IeType::ALTERNATIVE_SMF_IP_ADDRESS)
            })?;
            let before = moves.len();
            let named = self.sessions_at(origin.from.ip());
            for (session, _) in named.filter(|(_, session)| is_named(session, change)) {
                if !peer.sessions.contains(&session) && moved.insert(session) {
                    moves.push(Move {
                        session,
                        owner: owner.clone(),
                        address: alternative,
                    });
                }
            }
            let come = moves.len().saturating_sub(before);
            if peer.sessions.len().saturating_add(come) > self.config.limits.sessions {
                return Err(Rejection::new(Cause::NoResources));
            }
        }
        Ok(moves)
    }

    fn move_session(&mut self, turn: &mut Turn<'_>, step: &Move) {
        let seid = step.session;
        let Some(session) = self.sessions.get_mut(&seid) else {
            return;
        };
        let remote = &mut session.remote;
        (remote.v4, remote.v6) = (step.address.v4, step.address.v6);
        if let Some(work) = &mut session.work
            && let Task::Establish(change) | Task::Modify(change) = &mut work.task
        {
            let remote = &mut change.remote;
            (remote.v4, remote.v6) = (step.address.v4, step.address.v6);
        }
        self.hand_to(seid, &step.owner);
        let session = self.sessions.get(&seid);
        if let Some(session) = session.filter(|session| session.is_established()) {
            let record = Record::Session(Box::new(session.record(seid)));
            turn.effects.push(Effect::Persist(record));
        }
        self.report(turn, seid);
    }

    /// A session is another control plane function's from now on.
    pub(super) fn hand_to(&mut self, seid: Seid, owner: &NodeId) {
        let Some(session) = self.sessions.get_mut(&seid) else {
            return;
        };
        let before = std::mem::replace(&mut session.owner, owner.clone());
        session.reports.unsettle();
        if let Some(peer) = self.peers.get_mut(&before) {
            peer.sessions.remove(&seid);
            peer.parked.remove(&seid);
            peer.ready.retain(|waiting| *waiting != seid);
        }
        if let Some(peer) = self.peers.get_mut(owner) {
            peer.sessions.insert(seid);
        }
    }

    /// Whether the control plane function at an address may ask about the sessions of `owner`: it
    /// is that one, or one of the same set.
    ///
    /// Source: TS 29.244 §5.22.2 and §5.22.3.
    pub(super) fn serves(&self, owner: &NodeId, address: IpAddr) -> bool {
        let Some(owner) = self.peers.get(owner) else {
            return false;
        };
        let mut there = self.peers.values();
        owner.address.ip() == address
            || is_of_set(owner, address)
            || there.any(|peer| peer.address.ip() == address && is_sibling(peer, owner))
    }

    /// Who controls a session behind a modification that came from `origin`, when that changes:
    /// another function of the set says that it does, by its name or by its session endpoint.
    ///
    /// Source: TS 29.244 §7.5.4.1, Node ID.
    pub(super) fn taken_over(
        &self,
        session: &Session,
        origin: &Origin,
        request: &SessionModificationRequest,
    ) -> Result<Option<NodeId>, Rejection> {
        let Some(owner) = self.peers.get(&session.owner) else {
            return Ok(None);
        };
        // The association is that of the whole set; who it is now, the session endpoint says.
        if owner.features.has(CpFeatures::SSET) {
            return Ok(None);
        }
        let at = origin.from.ip();
        let unfit = Rejection::new(Cause::NoAssociation).about(IeType::NODE_ID);
        let new = match &request.node {
            Some(node) if *node == session.owner => return Ok(None),
            Some(node) => self.peers.get_key_value(node).ok_or(unfit)?,
            None if request.cp.is_none() || owner.address.ip() == at => return Ok(None),
            None => {
                let mut peers = self.peers.iter();
                let there =
                    peers.find(|(_, peer)| peer.address.ip() == at && is_sibling(peer, owner));
                there.ok_or(unfit)?
            }
        };
        let (name, peer) = new;
        if peer.address.ip() != at || !is_sibling(peer, owner) {
            return Err(unfit);
        }
        if peer.sessions.len() >= self.config.limits.sessions {
            return Err(Rejection::new(Cause::NoResources));
        }
        Ok(Some(name.clone()))
    }

    /// The function of a set with one association does not answer: the next one of the set is asked,
    /// and has its sessions, under the same numbers. `false` when there is none left to ask.
    ///
    /// Source: TS 29.244 §5.22.2.
    pub(super) fn ask_next_of_set(
        &mut self,
        turn: &mut Turn<'_>,
        node: &NodeId,
        gone: SocketAddr,
    ) -> bool {
        let Some(peer) = self.peers.get_mut(node) else {
            return false;
        };
        if !peer.features.has(CpFeatures::SSET) || peer.address != gone || peer.state != State::Up {
            return false;
        }
        let mut left = peer.alternatives.iter().enumerate().skip(peer.tried);
        let Some((place, next)) = left.find(|(_, one)| !one.has(gone.ip())) else {
            return false;
        };
        let next = *next;
        let (v4, v6) = (next.v4.map(IpAddr::V4), next.v6.map(IpAddr::V6));
        let same = v4
            .filter(|_| gone.is_ipv4())
            .or_else(|| v6.filter(|_| gone.is_ipv6()));
        let Some(address) = same.or(v4).or(v6) else {
            return false;
        };
        peer.tried = place.saturating_add(1);
        peer.address.set_ip(address);
        peer.heartbeat = turn.now;
        let moves: Vec<Move> = peer
            .sessions
            .iter()
            .map(|session| Move {
                session: *session,
                owner: node.clone(),
                address: next,
            })
            .collect();
        let record = Record::Association(peer.record(node));
        turn.effects.push(Effect::Persist(record));
        turn.note(Note::SessionsLeft(node.clone(), moves.len()));
        for step in moves {
            let known = self.sessions.get(&step.session);
            if known.is_some_and(|session| is_at(&session.remote, gone.ip())) {
                self.move_session(turn, &step);
            }
        }
        true
    }

    /// A control plane function does not answer any more: another one of its set that does gets
    /// its sessions, which have the same numbers there.
    ///
    /// Source: TS 23.527 §4.3, TS 29.244 §5.22.3.
    pub(super) fn leave_to_set(&mut self, turn: &mut Turn<'_>, node: &NodeId) {
        let Some(gone) = self.peers.get(node) else {
            return;
        };
        let mut others = self.peers.iter();
        let heir = others.find(|(name, peer)| {
            *name != node && peer.state == State::Up && is_sibling(peer, gone)
        });
        let Some((owner, heir)) = heir else {
            return;
        };
        let room = self
            .config
            .limits
            .sessions
            .saturating_sub(heir.sessions.len());
        let (v4, v6) = match heir.address.ip() {
            IpAddr::V4(v4) => (Some(v4), None),
            IpAddr::V6(v6) => (None, Some(v6)),
        };
        let address = CpAddress { v4, v6 };
        let moves = gone.sessions.iter().take(room).map(|session| Move {
            session: *session,
            owner: owner.clone(),
            address,
        });
        let moves: Vec<Move> = moves.collect();
        if !moves.is_empty() {
            turn.note(Note::SessionsLeft(node.clone(), moves.len()));
        }
        for step in moves {
            self.move_session(turn, &step);
        }
    }
}

/// Whether `address` is that of a function of a set with one association: one that it named, or any
/// that may speak to us when it named none.
pub(super) fn is_of_set(owner: &Peer, address: IpAddr) -> bool {
    let mut named = owner.alternatives.iter();
    owner.features.has(CpFeatures::SSET)
        && (owner.alternatives.is_empty() || named.any(|one| one.has(address)))
}

fn is_at(remote: &FSeid, address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => remote.v4 == Some(address),
        IpAddr::V6(address) => remote.v6 == Some(address),
    }
}

/// Whether two control plane functions are of one set.
fn is_sibling(one: &Peer, other: &Peer) -> bool {
    one.set.is_some() && one.set == other.set
}

/// Whether a session is one of those that move.
fn is_named(session: &Session, change: &SessionChangeInfo) -> bool {
    let group = session.sets.group.as_ref();
    let by_group = group.is_some_and(|group| change.groups.contains(group));
    let own = CpAddress {
        v4: session.remote.v4,
        v6: session.remote.v6,
    };
    let same = |named: &CpAddress| {
        named.v4.is_some_and(|v4| own.v4 == Some(v4))
            || named.v6.is_some_and(|v6| own.v6 == Some(v6))
    };
    by_group || session.sets.is_in(&change.sets) || change.addresses.iter().any(same)
}
