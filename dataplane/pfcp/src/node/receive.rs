//! Datagrams: whose they are, whether they were here before, and who answers them.

use std::net::SocketAddr;
use std::time::Duration;

use super::event::{Effect, Note};
use super::inbox::{Age, Digest, Verdict};
use super::machine::{Node, Turn};
use super::record::{EndAnswer, Record};
use crate::cause::Cause;
use crate::model::{Rejection, Seid};
use crate::wire::{
    CauseCode, Datagram, DecodeError, Defect, Header, HeaderError, HeartbeatResponse, IeType,
    Message, MessageType, RawMessage, Sequence, VersionNotSupportedResponse,
};

/// Whose request it is, so that its answer finds the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) from: SocketAddr,
    pub(super) sequence: Sequence,
    pub(super) kind: MessageType,
    digest: Digest,
}

impl Node {
    pub(super) fn datagram(&mut self, turn: &mut Turn<'_>, from: SocketAddr, bytes: &[u8]) {
        if !self.config.admits(from.ip()) {
            turn.note(Note::PeerRefused(from));
            return;
        }
        for raw in Datagram::new(bytes) {
            match raw {
                Ok(raw) => self.message(turn, from, &raw),
                Err(HeaderError::Version { sequence, .. }) => {
                    turn.note(Note::Version(from));
                    let answer = VersionNotSupportedResponse {}.into();
                    self.send(turn, from, &Header::node(sequence), &answer);
                }
                Err(_) => turn.note(Note::Malformed(from)),
            }
        }
    }

    fn message(&mut self, turn: &mut Turn<'_>, from: SocketAddr, raw: &RawMessage<'_>) {
        if !MessageType::KNOWN.contains(&raw.kind) {
            turn.note(Note::UnknownMessage(from));
            return;
        }
        if raw.kind == MessageType::HEARTBEAT_REQUEST {
            self.heartbeat_request(turn, from, raw);
            return;
        }
        if !is_request(raw.kind) {
            self.answer_came(turn, from, raw);
            return;
        }
        let origin = Origin {
            from,
            sequence: raw.header.sequence,
            kind: raw.kind,
            digest: Digest::of(raw),
        };
        if !self.admit(turn, &origin) {
            return;
        }
        match self.codec.decode_raw(raw) {
            Ok((header, message)) => {
                let seid = header.seid.unwrap_or_default();
                self.dispatch(turn, origin, seid, message);
            }
            Err(DecodeError::Body { header, defect, .. }) => {
                let remote = self.remote_of(header.seid.unwrap_or_default());
                self.answer_defect(turn, &origin, remote, defect);
            }
            Err(DecodeError::Header(_) | DecodeError::UnknownType { .. }) => {
                turn.note(Note::Malformed(from));
            }
        }
    }

    /// Whether a request is done now; if not it is answered as it was, or dropped.
    fn admit(&mut self, turn: &mut Turn<'_>, origin: &Origin) -> bool {
        let limits = &self.config.limits;
        let known = self.inboxes.contains_key(&origin.from);
        if !known && self.inboxes.len() >= limits.sources {
            self.forget_answers(turn);
            if self.inboxes.len() >= self.config.limits.sources {
                turn.note(Note::SourcesFull(origin.from));
                self.refuse_at_once(turn, origin);
                return false;
            }
        }
        let age = match origin.kind {
            MessageType::ASSOCIATION_SETUP_REQUEST => Age::Ignored,
            _ => Age::Matters,
        };
        let life = self.config.timers.remember;
        let room = self.config.limits.room();
        let inbox = self.inboxes.entry(origin.from).or_default();
        inbox.forget(turn.now, life);
        match inbox.judge(origin.sequence, origin.digest, age, turn.now, room) {
            Verdict::New => return true,
            Verdict::InWork => turn.note(Note::Repeated(origin.from)),
            Verdict::Answered(bytes) => {
                turn.note(Note::Repeated(origin.from));
                let to = origin.from;
                turn.effects.push(Effect::Send { to, bytes });
            }
            Verdict::TooOld => turn.note(Note::TooOld(origin.from)),
            Verdict::Full => {
                turn.note(Note::ResponsesFull(origin.from));
                self.refuse_at_once(turn, origin);
            }
        }
        false
    }

    /// A peer starts anew: nothing that it asked for before is repeated or answered.
    pub(super) fn start_anew(&mut self, origin: &Origin) {
        let port = self.config.request_port;
        for (from, inbox) in &mut self.inboxes {
            if *from == origin.from {
                inbox.start_anew(Some(origin.sequence));
            } else if port.is_same_peer(*from, origin.from) {
                inbox.start_anew(None);
            }
        }
    }

    /// Forgets answers by time, and endpoints without any.
    pub(super) fn forget_answers(&mut self, turn: &Turn<'_>) {
        let life = self.config.timers.remember;
        self.inboxes.retain(|_, inbox| {
            inbox.forget(turn.now, life);
            !inbox.is_empty()
        });
    }

    fn dispatch(&mut self, turn: &mut Turn<'_>, origin: Origin, seid: Seid, message: Message) {
        match message {
            Message::AssociationSetupRequest(request) => {
                self.association_setup(turn, &origin, &request);
            }
            Message::AssociationUpdateRequest(request) => {
                self.association_update(turn, &origin, &request);
            }
            Message::AssociationReleaseRequest(request) => {
                self.association_release(turn, &origin, &request);
            }
            _ if !self.is_associated(origin.from.ip()) => {
                self.refuse(turn, &origin, Seid::default(), Cause::NoAssociation);
            }
            Message::PfdManagementRequest(request) => {
                self.pfd_management(turn, &origin, request.applications);
            }
            Message::SessionEstablishmentRequest(request) => {
                self.establish(turn, &origin, &request);
            }
            Message::SessionSetDeletionRequest(request) => {
                self.session_set_deletion(turn, &origin, &request);
            }
            Message::SessionSetModificationRequest(request) => {
                self.session_set_modification(turn, &origin, &request);
            }
            message @ (Message::SessionModificationRequest(_)
            | Message::SessionDeletionRequest(_)) => {
                self.session_request(turn, origin, seid, message);
            }
            _ => self.refuse(turn, &origin, Seid::default(), Cause::ServiceUnsupported),
        }
    }

    /// Heartbeats change nothing and are answered every time.
    fn heartbeat_request(&mut self, turn: &mut Turn<'_>, from: SocketAddr, raw: &RawMessage<'_>) {
        let Ok((header, Message::HeartbeatRequest(request))) = self.codec.decode_raw(raw) else {
            turn.note(Note::Malformed(from));
            return;
        };
        self.recovery_came(turn, from, request.recovery);
        let recovery = self.config.recovery;
        let answer = HeartbeatResponse { recovery }.into();
        self.send(turn, from, &header, &answer);
    }

    fn send(&self, turn: &mut Turn<'_>, to: SocketAddr, header: &Header, message: &Message) {
        match self.codec.encode(header, message) {
            Ok(bytes) => turn.effects.push(Effect::Send { to, bytes }),
            Err(_) => turn.note(Note::Unspeakable),
        }
    }

    /// Answers a request and remembers the answer. `remote` is the session's number at the peer.
    pub(super) fn answer(
        &mut self,
        turn: &mut Turn<'_>,
        origin: &Origin,
        remote: Seid,
        message: &Message,
    ) {
        let header = header_of(origin, remote);
        let Ok(bytes) = self.codec.encode(&header, message) else {
            turn.note(Note::Unspeakable);
            return;
        };
        let inbox = self.inboxes.get_mut(&origin.from);
        let room = self.config.limits.room();
        let waits = inbox
            .and_then(|inbox| inbox.answer(origin.sequence, origin.digest, &bytes, turn.now, room));
        if waits.is_some() {
            let to = origin.from;
            turn.effects.push(Effect::Send { to, bytes });
        }
    }

    /// Answers a request that ended session `seid`. What it says is said nowhere else, so it is
    /// durable with the end of the session.
    pub(super) fn answer_end(
        &mut self,
        turn: &mut Turn<'_>,
        origin: &Origin,
        (seid, remote): (Seid, Seid),
        message: &Message,
    ) {
        let bytes = self.codec.encode(&header_of(origin, remote), message);
        let record = match bytes {
            Ok(bytes) => {
                let answer = EndAnswer {
                    from: origin.from,
                    sequence: origin.sequence,
                    digest: origin.digest.get(),
                    bytes,
                };
                self.ends.push_back((turn.now, seid, answer.clone()));
                Record::Ended(seid, answer)
            }
            Err(_) => Record::SessionGone(seid),
        };
        let life = self.config.timers.remember;
        let old = |at: &Duration| turn.now.saturating_sub(*at) >= life;
        while self.ends.len() > self.config.limits.responses
            || self.ends.front().is_some_and(|(at, ..)| old(at))
        {
            self.ends.pop_front();
        }
        turn.effects.push(Effect::Persist(record));
        self.answer(turn, origin, remote, message);
    }

    /// Takes in an answer that a killed process had made durable: who asked asks again.
    pub(super) fn remember_end(&mut self, now: Duration, seid: Seid, answer: EndAnswer) {
        let room = self.config.limits.room();
        let sources = self.inboxes.len();
        let known = self.inboxes.contains_key(&answer.from);
        if known || sources < self.config.limits.sources {
            let inbox = self.inboxes.entry(answer.from).or_default();
            let (sequence, digest) = (answer.sequence, Digest::restored(answer.digest));
            if inbox.judge(sequence, digest, Age::Ignored, now, room) == Verdict::New {
                // It waits: it was new just now.
                let _ = inbox.answer(sequence, digest, &answer.bytes, now, room);
            }
        }
        self.ends.push_back((now, seid, answer));
    }

    /// Refuses a request for a cause that needs no particulars.
    pub(super) fn refuse(
        &mut self,
        turn: &mut Turn<'_>,
        origin: &Origin,
        remote: Seid,
        cause: Cause,
    ) {
        self.reject(turn, origin, remote, Rejection::new(cause));
    }

    /// Refuses a request.
    pub(super) fn reject(
        &mut self,
        turn: &mut Turn<'_>,
        origin: &Origin,
        remote: Seid,
        rejection: Rejection,
    ) {
        turn.note(Note::Refused(rejection.cause));
        if let Some(message) = self.rejection(origin, rejection) {
            self.answer(turn, origin, remote, &message);
        }
    }

    fn answer_defect(
        &mut self,
        turn: &mut Turn<'_>,
        origin: &Origin,
        remote: Seid,
        defect: Defect,
    ) {
        turn.note(Note::Malformed(origin.from));
        let Defect { cause, offending } = defect;
        if let Some(message) = self.refusal(origin, cause, offending) {
            self.answer(turn, origin, remote, &message);
        }
    }

    /// Refuses a request without remembering that.
    fn refuse_at_once(&mut self, turn: &mut Turn<'_>, origin: &Origin) {
        turn.note(Note::Refused(Cause::Busy));
        if let Some(message) = self.rejection(origin, Rejection::new(Cause::Busy)) {
            let header = header_of(origin, Seid::default());
            self.send(turn, origin.from, &header, &message);
        }
    }

    fn rejection(&self, origin: &Origin, rejection: Rejection) -> Option<Message> {
        let offending = rejection.offending.unwrap_or(IeType::RESERVED);
        let mut message = self.refusal(origin, code(rejection.cause), offending)?;
        match &mut message {
            Message::SessionEstablishmentResponse(answer) => answer.failed = rejection.failed_rule,
            Message::SessionModificationResponse(answer) => answer.failed = rejection.failed_rule,
            _ => {}
        }
        Some(message)
    }

    fn refusal(&self, origin: &Origin, cause: CauseCode, offending: IeType) -> Option<Message> {
        let defect = Defect { cause, offending };
        Message::refusal(origin.kind, &self.config.node, self.config.recovery, defect)
    }
}

fn header_of(origin: &Origin, remote: Seid) -> Header {
    if origin.kind.is_session() {
        Header::session(remote, origin.sequence)
    } else {
        Header::node(origin.sequence)
    }
}

/// The number on the wire; ours mean nothing there.
fn code(cause: Cause) -> CauseCode {
    if cause.code() < 192 {
        CauseCode::new(cause.code())
    } else {
        CauseCode::REQUEST_REJECTED
    }
}

const fn is_request(kind: MessageType) -> bool {
    matches!(
        kind,
        MessageType::PFD_MANAGEMENT_REQUEST
            | MessageType::ASSOCIATION_SETUP_REQUEST
            | MessageType::ASSOCIATION_UPDATE_REQUEST
            | MessageType::ASSOCIATION_RELEASE_REQUEST
            | MessageType::NODE_REPORT_REQUEST
            | MessageType::SESSION_SET_DELETION_REQUEST
            | MessageType::SESSION_SET_MODIFICATION_REQUEST
            | MessageType::SESSION_ESTABLISHMENT_REQUEST
            | MessageType::SESSION_MODIFICATION_REQUEST
            | MessageType::SESSION_DELETION_REQUEST
            | MessageType::SESSION_REPORT_REQUEST
    )
}
