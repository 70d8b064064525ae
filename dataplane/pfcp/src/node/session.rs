//! Sessions: requests in order, one at a time, each with one command and one answer.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Bound;
use std::time::Duration;

use super::event::{Command, Effect, Kept, Note, Query, Token};
use super::machine::{Node, State, Turn};
use super::receive::Origin;
use super::record::{Record, SessionRecord};
use super::report::{Reports, acknowledged};
use crate::cause::Cause;
use crate::model::{
    Environment, FSeid, FailedRule, NodeId, Rejection, Resolution, Seid, SessionChange,
    SessionModel, UsageReport,
};
use crate::wire::{
    CauseCode, FurtherReports, IeType, Message, SessionDeletionResponse,
    SessionEstablishmentRequest, SessionEstablishmentResponse, SessionModificationRequest,
    SessionModificationResponse, SessionSets,
};

/// Most usage reports in one answer (chosen: they fit a datagram with every part present).
const MAX_REPORTS_IN_ANSWER: usize = 250;

/// Whether a session is still its peer's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Stays,
    /// Its association ended: it is deleted as soon as the data plane is done with it.
    Goes,
}

/// Who hears the last usage of a session that nobody asked to end by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LastWord {
    /// Nobody: its control plane function is gone.
    Nobody,
    /// Its control plane function, which had its whole set ended.
    Report,
}

/// Rules that wait for the data plane.
#[derive(Debug, Clone)]
pub(super) struct Change {
    model: SessionModel,
    resolution: Resolution,
    /// Another control plane function that takes the session over.
    owner: Option<NodeId>,
    pub(super) remote: FSeid,
    inactivity_s: Option<u32>,
    sets: SessionSets,
}

#[derive(Debug, Clone)]
pub(super) enum Task {
    Establish(Box<Change>),
    Modify(Box<Change>),
    Delete,
}

/// A command that has no outcome yet; nobody asked for it when its session's fate is to go.
#[derive(Debug, Clone)]
pub(super) struct Work {
    pub(super) origin: Option<Origin>,
    pub(super) task: Task,
}

#[derive(Debug, Clone)]
pub(super) struct Session {
    pub(super) owner: NodeId,
    pub(super) remote: FSeid,
    pub(super) model: SessionModel,
    pub(super) inactivity_s: Option<u32>,
    pub(super) sets: SessionSets,
    pub(super) fate: Fate,
    pub(super) last_word: LastWord,
    pub(super) work: Option<Work>,
    pub(super) waiting: VecDeque<(Origin, Message)>,
    pub(super) reports: Reports,
}

impl Session {
    pub(super) fn new(owner: NodeId, remote: FSeid) -> Self {
        Self {
            owner,
            remote,
            model: SessionModel::default(),
            inactivity_s: None,
            sets: SessionSets::default(),
            fate: Fate::Stays,
            last_word: LastWord::Nobody,
            work: None,
            waiting: VecDeque::new(),
            reports: Reports::default(),
        }
    }

    /// Whether its peer knows its number here.
    pub(super) const fn is_established(&self) -> bool {
        !matches!(
            self.work,
            Some(Work {
                task: Task::Establish(_),
                ..
            })
        )
    }

    pub(super) fn record(&self, seid: Seid) -> SessionRecord {
        SessionRecord {
            seid,
            owner: self.owner.clone(),
            remote: self.remote,
            rules: self.model.to_change(),
            inactivity_s: self.inactivity_s,
            sets: self.sets.clone(),
        }
    }
}

/// Sessions whose deletion failed, by the time at which it is tried again.
#[derive(Debug, Clone, Default)]
pub(super) struct Retries(BTreeSet<(Duration, Seid)>);

impl Retries {
    fn add(&mut self, at: Duration, seid: Seid) {
        self.0.insert((at, seid));
    }

    pub(super) fn take_due(&mut self, now: Duration) -> Vec<Seid> {
        let mut due = Vec::new();
        while let Some((at, seid)) = self.0.first().copied()
            && at <= now
        {
            self.0.pop_first();
            due.push(seid);
        }
        due
    }

    pub(super) fn deadline(&self) -> Option<Duration> {
        self.0.first().map(|(at, _)| *at)
    }
}

impl Node {
    /// Rules of sessions that stand, by our number.
    pub fn sessions(&self) -> impl Iterator<Item = (Seid, &SessionModel)> {
        let established = self.sessions.iter();
        let established = established.filter(|(_, session)| session.is_established());
        established.map(|(seid, session)| (*seid, &session.model))
    }

    /// The sessions that stand behind `after`, in the order of our numbers.
    pub fn sessions_after(
        &self,
        after: Option<Seid>,
    ) -> impl Iterator<Item = (Seid, &SessionModel)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let rest = self.sessions.range((from, Bound::Unbounded));
        let rest = rest.filter(|(_, session)| session.is_established());
        rest.map(|(seid, session)| (*seid, &session.model))
    }

    /// How many sessions there are, those that are about to stand or to end too.
    #[must_use]
    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }

    /// The rules of a session that stands, and whose it is.
    #[must_use]
    pub fn session(&self, seid: Seid) -> Option<(&SessionModel, &NodeId, FSeid)> {
        let session = self.sessions.get(&seid)?;
        let stands = session.is_established();
        stands.then_some((&session.model, &session.owner, session.remote))
    }

    /// Seconds without a packet after which a session reports so.
    #[must_use]
    pub fn inactivity(&self, seid: Seid) -> Option<u32> {
        self.sessions.get(&seid)?.inactivity_s
    }

    /// The number at the peer; 0 for a session that is not known.
    pub(super) fn remote_of(&self, seid: Seid) -> Seid {
        let session = self.sessions.get(&seid);
        session
            .map(|session| session.remote.seid)
            .unwrap_or_default()
    }

    pub(super) fn establish(
        &mut self,
        turn: &mut Turn<'_>,
        origin: &Origin,
        request: &SessionEstablishmentRequest,
    ) {
        let seid = self.seid();
        let judged = self.check_establish(request).and_then(|()| {
            let kept = (request.cp, &request.sets);
            self.judge(turn, seid, None, kept, &request.rules)
        });
        let (model, resolution) = match judged {
            Ok(judged) => judged,
            Err(rejection) => return self.reject(turn, origin, request.cp.seid, rejection),
        };
        let mut session = Session::new(request.node.clone(), request.cp);
        let inactivity_s = request.inactivity_timer;
        let command = Command::Establish {
            model: model.clone(),
            inactivity_s,
        };
        session.work = Some(Work {
            origin: Some(*origin),
            task: Task::Establish(Box::new(Change {
                model,
                resolution,
                owner: None,
                remote: request.cp,
                inactivity_s,
                sets: request.sets.clone(),
            })),
        });
        session.sets = request.sets.clone();
        self.sessions.insert(seid, session);
        if let Some(peer) = self.peers.get_mut(&request.node) {
            peer.sessions.insert(seid);
        }
        self.command(turn, seid, command);
    }

    fn check_establish(&self, request: &SessionEstablishmentRequest) -> Result<(), Rejection> {
        let Some(peer) = self.peers.get(&request.node) else {
            return Err(Rejection::new(Cause::NoAssociation).about(IeType::NODE_ID));
        };
        if matches!(peer.state, State::Leaving(_)) {
            return Err(Rejection::new(Cause::Rejected));
        }
        self.check_remote(&request.cp)?;
        let missing = |ie| Err(Rejection::new(Cause::MandatoryMissing).about(ie));
        if request.rules.create_pdrs.is_empty() {
            return missing(IeType::CREATE_PDR);
        }
        if request.rules.create_fars.is_empty() {
            return missing(IeType::CREATE_FAR);
        }
        if peer.sessions.len() >= self.config.limits.sessions {
            return Err(Rejection::new(Cause::NoResources));
        }
        Ok(())
    }

    /// Reports go to the session's address at the peer, which has to be one that is listed.
    fn check_remote(&self, remote: &FSeid) -> Result<(), Rejection> {
        let v4 = remote.v4.is_none_or(|v4| self.config.admits(v4.into()));
        let v6 = remote.v6.is_none_or(|v6| self.config.admits(v6.into()));
        let named = remote.v4.is_some() || remote.v6.is_some();
        if remote.seid.get() == 0 || !named || !v4 || !v6 {
            return Err(Rejection::new(Cause::Malformed).about(IeType::F_SEID));
        }
        Ok(())
    }

    /// The rules that a request asks for, when they can stand and can be kept.
    fn judge(
        &mut self,
        turn: &mut Turn<'_>,
        seid: Seid,
        standing: Option<&SessionModel>,
        (remote, sets): (FSeid, &SessionSets),
        change: &SessionChange,
    ) -> Result<(SessionModel, Resolution), Rejection> {
        let applications = &self.applications;
        let mut environment = Environment {
            session: seid,
            endpoints: turn.endpoints,
            knows_application: &|application| applications.contains_key(application),
            networks: &self.config.networks,
        };
        let empty = SessionModel::default();
        let (model, resolution) = standing.unwrap_or(&empty).changed(
            change,
            &self.config.limits.model,
            &mut environment,
        )?;
        let record = Record::Session(Box::new(SessionRecord {
            seid,
            owner: self.config.node.clone(),
            remote,
            rules: model.to_change(),
            inactivity_s: Some(0),
            sets: sets.clone(),
        }));
        if record.to_bytes(&self.codec).is_err() {
            resolution.discard(seid, turn.endpoints);
            return Err(Rejection::new(Cause::NoResources));
        }
        Ok((model, resolution))
    }

    pub(super) fn session_request(
        &mut self,
        turn: &mut Turn<'_>,
        origin: Origin,
        seid: Seid,
        message: Message,
    ) {
        let known = self.sessions.get(&seid);
        let own = known.is_some_and(|session| self.serves(&session.owner, origin.from.ip()));
        let session = self.sessions.get_mut(&seid);
        let Some(session) = session.filter(|session| session.fate == Fate::Stays && own) else {
            return self.refuse(turn, &origin, Seid::default(), Cause::SessionUnknown);
        };
        if session.work.is_none() {
            self.begin(turn, seid, origin, &message);
        } else if session.waiting.len() < self.config.limits.waiting {
            session.waiting.push_back((origin, message));
        } else {
            let remote = session.remote.seid;
            self.refuse(turn, &origin, remote, Cause::NoResources);
        }
    }

    fn begin(&mut self, turn: &mut Turn<'_>, seid: Seid, origin: Origin, message: &Message) {
        match message {
            Message::SessionModificationRequest(request) => {
                if let Err(rejection) = self.modify(turn, seid, origin, request) {
                    let remote = self.remote_of(seid);
                    self.reject(turn, &origin, remote, rejection);
                }
            }
            Message::SessionDeletionRequest(_) => self.delete(turn, seid, Some(origin)),
            _ => {}
        }
    }

    fn modify(
        &mut self,
        turn: &mut Turn<'_>,
        seid: Seid,
        origin: Origin,
        request: &SessionModificationRequest,
    ) -> Result<(), Rejection> {
        let unknown = Rejection::new(Cause::SessionUnknown);
        let session = self.sessions.get(&seid).ok_or(unknown)?;
        let remote = request.cp.unwrap_or(session.remote);
        let owner = self.taken_over(session, &origin, request)?;
        let inactivity_s = request.inactivity_timer.or(session.inactivity_s);
        let sets = session.sets.changed(&request.sets);
        self.check_remote(&remote)?;
        let query = query(&session.model, request)?;
        let standing = session.model.clone();
        let (model, resolution) = self.judge(
            turn,
            seid,
            Some(&standing),
            (remote, &sets),
            &request.change,
        )?;
        let command = Command::Modify {
            model: model.clone(),
            resolution: resolution.clone(),
            query,
            kept: if request.flags.drop_buffered {
                Kept::Dropped
            } else {
                Kept::Stay
            },
            inactivity_s,
        };
        let change = Box::new(Change {
            model,
            resolution,
            owner,
            remote,
            inactivity_s,
            sets,
        });
        if let Some(session) = self.sessions.get_mut(&seid) {
            session.work = Some(Work {
                origin: Some(origin),
                task: Task::Modify(change),
            });
        }
        self.command(turn, seid, command);
        Ok(())
    }

    fn delete(&mut self, turn: &mut Turn<'_>, seid: Seid, origin: Option<Origin>) {
        let Some(session) = self.sessions.get_mut(&seid) else {
            return;
        };
        session.work = Some(Work {
            origin,
            task: Task::Delete,
        });
        self.command(turn, seid, Command::Delete);
    }

    fn command(&mut self, turn: &mut Turn<'_>, session: Seid, command: Command) {
        let token = self.token(session);
        turn.effects.push(Effect::Command {
            token,
            session,
            command: Box::new(command),
        });
    }

    /// Deletes a session whose association ended, now or when its command is done.
    pub(super) fn doom(&mut self, turn: &mut Turn<'_>, seid: Seid) {
        let Some(session) = self.sessions.get_mut(&seid) else {
            return;
        };
        session.fate = Fate::Goes;
        let idle = session.work.is_none();
        for (origin, _) in std::mem::take(&mut session.waiting) {
            self.refuse(turn, &origin, Seid::default(), Cause::SessionUnknown);
        }
        if idle {
            self.delete(turn, seid, None);
        }
    }

    pub(super) fn outcome(
        &mut self,
        turn: &mut Turn<'_>,
        token: Token,
        result: Result<Vec<UsageReport>, Rejection>,
    ) {
        let seid = self.commands.remove(&token);
        let session = seid.and_then(|seid| self.sessions.get_mut(&seid));
        let (Some(seid), Some(session)) = (seid, session) else {
            turn.note(Note::Unknown);
            return;
        };
        let Some(Work { origin, task }) = session.work.take() else {
            turn.note(Note::Unknown);
            return;
        };
        match (task, result) {
            (Task::Establish(change), Ok(_)) => self.established(turn, seid, origin, *change),
            (Task::Establish(change), Err(rejection)) => {
                change.resolution.discard(seid, turn.endpoints);
                self.removed(turn, seid, None);
                self.report_rejection(turn, origin, change.remote.seid, rejection);
            }
            (Task::Modify(change), Ok(reports)) => {
                self.modified(turn, seid, origin, *change, reports);
            }
            (Task::Modify(change), Err(rejection)) => {
                change.resolution.discard(seid, turn.endpoints);
                let remote = self.remote_of(seid);
                self.report_rejection(turn, origin, remote, rejection);
            }
            (Task::Delete, Ok(reports)) => self.deleted(turn, seid, origin, reports),
            (Task::Delete, Err(rejection)) => match origin {
                Some(_) => {
                    let remote = self.remote_of(seid);
                    self.report_rejection(turn, origin, remote, rejection);
                }
                None if rejection.cause == Cause::SessionUnknown => {
                    self.deleted(turn, seid, None, Vec::new());
                }
                // It stays until it is gone there too: its endpoints are not free before.
                None => {
                    turn.note(Note::DeleteFailed(seid));
                    let again = turn.now.saturating_add(self.config.timers.t1);
                    return self.retries.add(again, seid);
                }
            },
        }
        self.proceed(turn, seid);
    }

    fn report_rejection(
        &mut self,
        turn: &mut Turn<'_>,
        origin: Option<Origin>,
        remote: Seid,
        rejection: Rejection,
    ) {
        if let Some(origin) = origin {
            self.reject(turn, &origin, remote, rejection);
        }
    }

    /// What a session does when its command is done.
    fn proceed(&mut self, turn: &mut Turn<'_>, seid: Seid) {
        while let Some(session) = self.sessions.get_mut(&seid) {
            if session.work.is_some() {
                return;
            }
            if session.fate == Fate::Goes {
                return self.delete(turn, seid, None);
            }
            let Some((origin, message)) = session.waiting.pop_front() else {
                break;
            };
            self.begin(turn, seid, origin, &message);
        }
        self.report(turn, seid);
    }

    /// Takes the rules in that the data plane took; `None`: the session's fate is to go.
    fn take_in(&mut self, turn: &mut Turn<'_>, seid: Seid, change: &Change) -> Option<()> {
        change.resolution.keep(seid, turn.endpoints);
        if let Some(owner) = &change.owner
            && self.peers.contains_key(owner)
        {
            self.hand_to(seid, owner);
        }
        let session = self.sessions.get_mut(&seid)?;
        let before = std::mem::replace(&mut session.model, change.model.clone());
        session.remote = change.remote;
        session.inactivity_s = change.inactivity_s;
        session.sets = change.sets.clone();
        let stays = session.fate == Fate::Stays;
        let record = Record::Session(Box::new(session.record(seid)));
        self.index_tunnels(&before, &change.model);
        if !stays {
            return None;
        }
        turn.effects.push(Effect::Persist(record));
        Some(())
    }

    fn established(
        &mut self,
        turn: &mut Turn<'_>,
        seid: Seid,
        origin: Option<Origin>,
        change: Change,
    ) {
        let stays = self.take_in(turn, seid, &change);
        let Some(origin) = origin else {
            return;
        };
        let remote = change.remote.seid;
        if stays.is_none() {
            return self.refuse(turn, &origin, remote, Cause::NoAssociation);
        }
        let answer = SessionEstablishmentResponse {
            node: self.config.node.clone(),
            cause: CauseCode::REQUEST_ACCEPTED,
            offending: None,
            up: Some(self.fseid(seid)),
            created: change.resolution.created,
            created_endpoints: change.resolution.created_endpoints,
            failed: None,
        };
        self.answer(turn, &origin, remote, &answer.into());
    }

    fn modified(
        &mut self,
        turn: &mut Turn<'_>,
        seid: Seid,
        origin: Option<Origin>,
        change: Change,
        mut reports: Vec<UsageReport>,
    ) {
        let stays = self.take_in(turn, seid, &change);
        let Some(origin) = origin else {
            return;
        };
        let remote = change.remote.seid;
        if stays.is_none() {
            return self.refuse(turn, &origin, remote, Cause::SessionUnknown);
        }
        let further = reports.split_off(reports.len().min(MAX_REPORTS_IN_ANSWER));
        let count = u16::try_from(further.len()).unwrap_or(u16::MAX);
        let answer = SessionModificationResponse {
            cause: CauseCode::REQUEST_ACCEPTED,
            offending: None,
            created: change.resolution.created,
            created_endpoints: change.resolution.created_endpoints,
            reports: reports.clone(),
            failed: None,
            further_reports: (count > 0).then_some(FurtherReports::Count(count)),
        };
        self.answer(turn, &origin, remote, &answer.into());
        acknowledged(turn, seid, &reports);
        if !further.is_empty() {
            self.usage(turn, seid, further);
        }
    }

    fn deleted(
        &mut self,
        turn: &mut Turn<'_>,
        seid: Seid,
        origin: Option<Origin>,
        reports: Vec<UsageReport>,
    ) {
        let remote = self.remote_of(seid);
        let (gone, mut reports) = self.removed(turn, seid, Some(reports));
        let Some(origin) = origin else {
            match gone.filter(|session| session.last_word == LastWord::Report) {
                _ if reports.is_empty() => {}
                Some(session) => self.say_farewell(turn, seid, &session, &reports),
                None => turn.note(Note::ReportsLost(seid, reports.len())),
            }
            // Behind the last word, which is durable by itself.
            turn.effects
                .push(Effect::Persist(Record::SessionGone(seid)));
            return;
        };
        if reports.len() > MAX_REPORTS_IN_ANSWER {
            let lost = reports.len().saturating_sub(MAX_REPORTS_IN_ANSWER);
            turn.note(Note::ReportsLost(seid, lost));
            reports.truncate(MAX_REPORTS_IN_ANSWER);
        }
        let answer = SessionDeletionResponse {
            cause: CauseCode::REQUEST_ACCEPTED,
            offending: None,
            reports,
            further_reports: None,
        };
        self.answer_end(turn, &origin, (seid, remote), &answer.into());
    }

    /// Takes a session out, with the usage that it has left to report and `last`. Whoever calls
    /// persists that a session is gone that stood.
    fn removed(
        &mut self,
        turn: &mut Turn<'_>,
        seid: Seid,
        last: Option<Vec<UsageReport>>,
    ) -> (Option<Session>, Vec<UsageReport>) {
        let Some(mut session) = self.sessions.remove(&seid) else {
            return (None, Vec::new());
        };
        if let Some(peer) = self.peers.get_mut(&session.owner) {
            peer.sessions.remove(&seid);
            peer.parked.remove(&seid);
        }
        for endpoint in session.model.endpoints() {
            turn.endpoints.release(seid, endpoint);
        }
        self.index_tunnels(&session.model, &SessionModel::default());
        for (origin, _) in std::mem::take(&mut session.waiting) {
            self.refuse(turn, &origin, Seid::default(), Cause::SessionUnknown);
        }
        let mut reports = std::mem::take(&mut session.reports).into_usage();
        reports.extend(last.unwrap_or_default());
        self.swept(turn, seid);
        (Some(session), reports)
    }
}

/// Which usage is asked for; an unknown rule has none.
fn query(model: &SessionModel, request: &SessionModificationRequest) -> Result<Query, Rejection> {
    let mut unknown = request.query.iter();
    if let Some(urr) = unknown.find(|urr| !model.urrs.contains_key(urr)) {
        return Err(Rejection::rule(FailedRule::Urr(*urr)));
    }
    Ok(if request.flags.query_all {
        Query::All
    } else if request.query.is_empty() {
        Query::Ended
    } else {
        Query::Some(request.query.clone())
    })
}
