//! Requests about sets of sessions, and the last word of sessions that end with their set.
//!
//! A control plane function that lost a part of itself has the sessions of that part ended, or
//! moved to another function that has an association here. Sessions are named by what was said of
//! them when they were established or changed; only those of the sender's own address are touched.
//! The answer leaves when the last of them is gone and persisted.
//!
//! The answer has no room for usage, so each session says its own with a last report
//! ([`ReportFlags::deleted`]); it is sent like every other, but once refused it is given up.
//!
//! Invariant: a set is looked for among all sessions, because such requests follow failures and
//! an index would cost every session memory.

use std::collections::{BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};

use super::event::Note;
use super::machine::{Node, Peer, Purpose, State, Turn};
use super::outbox::Outbox;
use super::receive::Origin;
use super::record::Record;
use super::report::{MAX_USAGE_IN_REPORT, report_address};
use super::session::{LastWord, Session, Task};
use crate::cause::Cause;
use crate::model::{NodeId, Rejection, Seid, UsageReport};
use crate::wire::{
    CauseCode, CpAddress, IeType, ReportFlags, SessionChangeInfo, SessionModificationRequest,
    SessionReportRequest, SessionReportResponse, SessionSetDeletionRequest,
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

/// The last usage of a session that is gone.
#[derive(Debug, Clone)]
pub(super) struct Farewell {
    session: Seid,
    to: SocketAddr,
    remote: Seid,
    reports: Vec<UsageReport>,
}

/// Last words that wait.
pub(super) type Farewells = VecDeque<Farewell>;

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
        let to = report_address(&session.remote, peer.address);
        for reports in reports.chunks(MAX_USAGE_IN_REPORT) {
            if self.farewells.len() >= FAREWELLS_MAX {
                turn.note(Note::ReportsLost(seid, reports.len()));
                continue;
            }
            self.farewells.push_back(Farewell {
                session: seid,
                to,
                remote: session.remote.seid,
                reports: reports.to_vec(),
            });
        }
        self.send_farewells(turn);
    }

    /// Sends last words as long as there is room; those to a peer that has too many requests of
    /// ours keep the others waiting, so that their order stays.
    pub(super) fn send_farewells(&mut self, turn: &mut Turn<'_>) {
        while let Some(next) = self.farewells.front() {
            let outstanding = self.outboxes.get(&next.to).map_or(0, Outbox::len);
            if outstanding >= self.config.limits.outstanding {
                return;
            }
            let Some(farewell) = self.farewells.pop_front() else {
                return;
            };
            let count = farewell.reports.len();
            let message = SessionReportRequest {
                downlink_data: None,
                reports: farewell.reports,
                error_indication: Vec::new(),
                inactivity: false,
                further_reports: None,
                flags: ReportFlags { deleted: true },
            };
            let purpose = Purpose::Farewell(farewell.session, count);
            let (to, remote) = (farewell.to, farewell.remote);
            let sent = self.request(turn, to, Some(remote), &message.into(), purpose);
            if sent.is_none() {
                turn.note(Note::ReportsLost(farewell.session, count));
            }
        }
    }

    /// What came of a last word.
    pub(super) fn farewell_said(
        turn: &mut Turn<'_>,
        (seid, count): (Seid, usize),
        answer: &SessionReportResponse,
    ) {
        if !answer.cause.is_accepted() {
            turn.note(Note::ReportRefused(seid, answer.cause.get()));
            turn.note(Note::ReportsLost(seid, count));
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
            turn.effects.push(super::Effect::Persist(record));
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
    /// Source: TS 29.244 §5.22.3.
    pub(super) fn serves(&self, owner: &NodeId, address: IpAddr) -> bool {
        let Some(owner) = self.peers.get(owner) else {
            return false;
        };
        let mut there = self.peers.values();
        owner.address.ip() == address
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
