//! Session reports: one at a time for each session, again until it is answered.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use super::event::{Effect, Kept, Note};
use super::machine::{Node, Purpose, State, Turn};
use super::outbox::Outbox;
use super::record::Record;
use super::session::Fate;
use crate::model::{FSeid, FTeid, NodeId, Seid, UsageReport};
use crate::wire::{
    CauseCode, DownlinkDataReport, ReportFlags, SessionReportRequest, SessionReportResponse,
};

/// Most usage reports in one request (chosen: well below the usual MTU of 1500 bytes times four).
pub(super) const MAX_USAGE_IN_REPORT: usize = 32;

/// Most tunnel endpoints and detection rules that one report names.
const MAX_NAMED: usize = 32;

/// Where a session's reports are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Phase {
    /// Nothing was sent that waits for an answer.
    #[default]
    Idle,
    /// The peer has too many of our requests.
    Ready,
    /// The peer does not answer.
    Parked,
    /// A report waits for its answer.
    Flying,
}

/// What a report says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Batch {
    usage: Vec<UsageReport>,
    downlink: Option<DownlinkDataReport>,
    errors: Vec<FTeid>,
    inactive: bool,
}

/// What a session has to report.
#[derive(Debug, Clone, Default)]
pub(super) struct Reports {
    usage: VecDeque<UsageReport>,
    rest: Batch,
    phase: Phase,
}

impl Reports {
    pub(super) fn into_usage(self) -> Vec<UsageReport> {
        self.usage.into()
    }

    /// What waits for the peer waits for nobody any more: the session is another's.
    pub(super) fn unsettle(&mut self) {
        if self.phase != Phase::Flying {
            self.phase = Phase::Idle;
        }
    }

    fn is_empty(&self) -> bool {
        self.usage.is_empty() && self.rest == Batch::default()
    }

    fn take(&mut self) -> Batch {
        let count = self.usage.len().min(MAX_USAGE_IN_REPORT);
        Batch {
            usage: self.usage.drain(..count).collect(),
            ..std::mem::take(&mut self.rest)
        }
    }

    /// Undoes [`Self::take`]; what is newer in the meantime stays newer.
    fn put_back(&mut self, batch: Batch) {
        for report in batch.usage.into_iter().rev() {
            self.usage.push_front(report);
        }
        self.rest.downlink = self.rest.downlink.take().or(batch.downlink);
        self.rest.inactive |= batch.inactive;
        for endpoint in batch.errors {
            self.name(endpoint);
        }
    }

    fn name(&mut self, endpoint: FTeid) {
        let errors = &mut self.rest.errors;
        if errors.len() < MAX_NAMED && !errors.contains(&endpoint) {
            errors.push(endpoint);
        }
    }
}

impl Node {
    pub(super) fn usage(&mut self, turn: &mut Turn<'_>, seid: Seid, mut reports: Vec<UsageReport>) {
        let limit = self.config.limits.reports;
        let Some(queue) = self.reports_of(seid) else {
            turn.note(Note::ReportsLost(seid, reports.len()));
            return;
        };
        let room = limit.saturating_sub(queue.usage.len());
        let lost = reports.len().saturating_sub(room);
        reports.truncate(room);
        queue.usage.extend(reports);
        if lost > 0 {
            turn.note(Note::ReportsLost(seid, lost));
        }
        self.report(turn, seid);
    }

    pub(super) fn downlink_data(
        &mut self,
        turn: &mut Turn<'_>,
        seid: Seid,
        report: DownlinkDataReport,
    ) {
        let Some(queue) = self.reports_of(seid) else {
            turn.note(Note::Unknown);
            return;
        };
        match &mut queue.rest.downlink {
            Some(standing) => {
                for pdr in report.pdrs {
                    if standing.pdrs.len() < MAX_NAMED && !standing.pdrs.contains(&pdr) {
                        standing.pdrs.push(pdr);
                    }
                }
            }
            empty => *empty = Some(report),
        }
        self.report(turn, seid);
    }

    pub(super) fn error_indication(
        &mut self,
        turn: &mut Turn<'_>,
        seid: Seid,
        endpoints: Vec<FTeid>,
    ) {
        let Some(queue) = self.reports_of(seid) else {
            turn.note(Note::Unknown);
            return;
        };
        for endpoint in endpoints {
            queue.name(endpoint);
        }
        self.report(turn, seid);
    }

    pub(super) fn inactive(&mut self, turn: &mut Turn<'_>, seid: Seid) {
        let Some(queue) = self.reports_of(seid) else {
            turn.note(Note::Unknown);
            return;
        };
        queue.rest.inactive = true;
        self.report(turn, seid);
    }

    fn reports_of(&mut self, seid: Seid) -> Option<&mut Reports> {
        let session = self.sessions.get_mut(&seid)?;
        (session.fate == Fate::Stays).then_some(&mut session.reports)
    }

    /// Sends what a session has to report, unless something stands in the way.
    pub(super) fn report(&mut self, turn: &mut Turn<'_>, seid: Seid) {
        let Some(session) = self.sessions.get_mut(&seid) else {
            return;
        };
        let idle = session.reports.phase == Phase::Idle && session.fate == Fate::Stays;
        if !idle || !session.is_established() || session.reports.is_empty() {
            return;
        }
        let Some(peer) = self.peers.get_mut(&session.owner) else {
            return;
        };
        if matches!(peer.state, State::Silent(_)) {
            session.reports.phase = Phase::Parked;
            peer.parked.insert(seid);
            return;
        }
        let to = report_address(&session.remote, peer.address);
        let outstanding = self.outboxes.get(&to).map_or(0, Outbox::len);
        if outstanding >= self.config.limits.outstanding {
            session.reports.phase = Phase::Ready;
            peer.ready.push_back(seid);
            return;
        }
        let batch = session.reports.take();
        session.reports.phase = Phase::Flying;
        let remote = session.remote.seid;
        let message = SessionReportRequest {
            downlink_data: batch.downlink.clone(),
            reports: batch.usage.clone(),
            error_indication: batch.errors.clone(),
            inactivity: batch.inactive,
            further_reports: None,
            flags: ReportFlags::default(),
        };
        let lost = batch.usage.len();
        let purpose = Purpose::Report(seid, Box::new(batch));
        let sent = self.request(turn, to, Some(remote), &message.into(), purpose);
        if sent.is_none() {
            turn.note(Note::ReportsLost(seid, lost));
            self.land(seid, Phase::Idle);
        }
    }

    fn land(&mut self, seid: Seid, phase: Phase) {
        if let Some(session) = self.sessions.get_mut(&seid) {
            session.reports.phase = phase;
        }
    }

    /// The answer to a report.
    pub(super) fn reported(
        &mut self,
        turn: &mut Turn<'_>,
        seid: Seid,
        batch: &Batch,
        answer: SessionReportResponse,
    ) {
        self.land(seid, Phase::Idle);
        acknowledged(turn, seid, &batch.usage);
        if answer.cause.is_accepted() {
            self.heed(turn, seid, answer);
        } else {
            turn.note(Note::ReportRefused(seid, answer.cause.get()));
            if !batch.usage.is_empty() {
                turn.note(Note::ReportsLost(seid, batch.usage.len()));
            }
            if answer.cause == CauseCode::SESSION_CONTEXT_NOT_FOUND {
                self.doom(turn, seid);
            }
        }
        self.report(turn, seid);
    }

    /// Does what the answer to a report asks for.
    fn heed(&mut self, turn: &mut Turn<'_>, seid: Seid, answer: SessionReportResponse) {
        let Some(session) = self.sessions.get_mut(&seid) else {
            return;
        };
        let admitted = |remote: &FSeid| {
            let v4 = remote.v4.is_none_or(|v4| self.config.admits(v4.into()));
            let v6 = remote.v6.is_none_or(|v6| self.config.admits(v6.into()));
            v4 && v6 && remote.seid.get() != 0
        };
        if let Some(remote) = answer.cp.filter(admitted) {
            session.remote = remote;
            let record = Record::Session(Box::new(session.record(seid)));
            turn.effects.push(Effect::Persist(record));
        }
        if !answer.bars.is_empty() || answer.flags.drop_buffered {
            turn.effects.push(Effect::Buffering {
                session: seid,
                orders: answer.bars,
                kept: if answer.flags.drop_buffered {
                    Kept::Dropped
                } else {
                    Kept::Stay
                },
            });
        }
    }

    /// Nobody at `to` answered a report: it waits until the peer answers a heartbeat, or goes to
    /// who has taken the session over.
    pub(super) fn unreported(
        &mut self,
        turn: &mut Turn<'_>,
        to: SocketAddr,
        seid: Seid,
        batch: Batch,
    ) {
        let Some(session) = self.sessions.get_mut(&seid) else {
            if !batch.usage.is_empty() {
                turn.note(Note::ReportsLost(seid, batch.usage.len()));
            }
            return;
        };
        session.reports.put_back(batch);
        session.reports.phase = Phase::Parked;
        let Some(peer) = self.peers.get_mut(&session.owner) else {
            return;
        };
        if report_address(&session.remote, peer.address) != to {
            session.reports.phase = Phase::Idle;
            return self.report(turn, seid);
        }
        peer.parked.insert(seid);
    }

    /// The peer answers: what waited for that goes.
    pub(super) fn unpark(&mut self, turn: &mut Turn<'_>, node: &NodeId) {
        let Some(peer) = self.peers.get_mut(node) else {
            return;
        };
        for seid in std::mem::take(&mut peer.parked) {
            self.land(seid, Phase::Idle);
            self.report(turn, seid);
        }
    }

    /// Sends reports that wait for room among our requests.
    pub(super) fn pump(&mut self, turn: &mut Turn<'_>, to: SocketAddr) {
        self.send_farewells(turn);
        let room = |node: &Self| {
            let outbox = node.outboxes.get(&to);
            outbox.map_or(0, Outbox::len) < node.config.limits.outstanding
        };
        let at_address = self.peers.iter();
        let at_address = at_address.filter(|(_, peer)| peer.address.ip() == to.ip());
        let names: Vec<NodeId> = at_address.map(|(name, _)| name.clone()).collect();
        for name in names {
            while room(self)
                && let Some(seid) = self.peers.get_mut(&name).and_then(|p| p.ready.pop_front())
            {
                self.land(seid, Phase::Idle);
                self.report(turn, seid);
            }
        }
    }
}

/// Reports that the peer has taken or refused for good are not sent again.
pub(super) fn acknowledged(turn: &mut Turn<'_>, session: Seid, reports: &[UsageReport]) {
    if reports.is_empty() {
        return;
    }
    let reports = reports.iter().map(|report| (report.urr, report.sequence));
    turn.effects.push(Effect::Acknowledged {
        session,
        reports: reports.collect(),
    });
}

/// The session's own address at the peer, of the family in which the association speaks.
pub(super) fn report_address(remote: &FSeid, peer: SocketAddr) -> SocketAddr {
    let v4 = remote.v4.map(IpAddr::from);
    let v6 = remote.v6.map(IpAddr::from);
    let ip = if peer.is_ipv4() { v4.or(v6) } else { v6.or(v4) };
    SocketAddr::new(ip.unwrap_or_else(|| peer.ip()), peer.port())
}
