//! What the node hears and what it wants done.

use std::net::SocketAddr;

use super::record::Record;
use crate::cause::Cause;
use crate::model::{
    ApplicationId, FTeid, NodeId, Rejection, Resolution, Seid, SessionModel, UrrId, UsageReport,
};
use crate::wire::{BarOrder, DownlinkDataReport, Pfd, RemotePeer};

/// Number of a command to the data plane; unique in the life of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event<'a> {
    /// A datagram came to our PFCP port.
    Datagram {
        /// From where.
        from: SocketAddr,
        /// Its bytes.
        bytes: &'a [u8],
    },
    /// The data plane did a command or did not; every command has one outcome.
    Outcome {
        /// The command.
        token: Token,
        /// Usage that it asked for or that ended with it, or why nothing of it took effect.
        result: Result<Vec<UsageReport>, Rejection>,
    },
    /// The time of [`Node::next_deadline`](super::Node::next_deadline) came, or any other.
    Timer,
    /// These paths had failed before the peer came, which is to know it.
    PathsKnown {
        /// The peer.
        node: NodeId,
        /// GTP-U peers that do not answer.
        failures: Vec<RemotePeer>,
    },
    /// Usage is to be reported; it is the node's from now on.
    Usage {
        /// Our number of the session.
        session: Seid,
        /// Reports in the order in which they were made.
        reports: Vec<UsageReport>,
    },
    /// A downlink packet came for a session whose packets are kept.
    DownlinkData {
        /// Our number of the session.
        session: Seid,
        /// What is known of it.
        report: DownlinkDataReport,
    },
    /// A GTP-U peer does not know tunnel endpoints of a session.
    ErrorIndication {
        /// Our number of the session.
        session: Seid,
        /// The endpoints.
        endpoints: Vec<FTeid>,
    },
    /// A session had no packet for its inactivity time.
    Inactive {
        /// Our number of the session.
        session: Seid,
    },
    /// GTP-U peers stopped answering echo requests, or answer again.
    Paths {
        /// Those that stopped.
        failures: Vec<RemotePeer>,
        /// Those that answer again.
        recoveries: Vec<RemotePeer>,
    },
    /// An association is to be opened from here.
    Associate {
        /// The peer.
        peer: SocketAddr,
    },
    /// An association is to be ended from here.
    Leave {
        /// The peer.
        node: NodeId,
        /// How many seconds it gets to move its sessions away.
        graceful_s: u32,
    },
}

/// What is to be done, in this order: a [`Self::Persist`] is durable before a [`Self::Send`] behind
/// it leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// A datagram leaves from our PFCP port.
    Send {
        /// Where to.
        to: SocketAddr,
        /// Its bytes.
        bytes: Vec<u8>,
    },
    /// The data plane does something as a whole or not at all, and says so with
    /// [`Event::Outcome`].
    Command {
        /// Its number.
        token: Token,
        /// Our number of the session.
        session: Seid,
        /// What.
        command: Box<Command>,
    },
    /// The journal takes a record in.
    Persist(Record),
    /// Applications are other filters from now on: those sessions are compiled again.
    Applications {
        /// What changed; no filters: the application is not known any more.
        changed: Vec<(ApplicationId, Vec<Pfd>)>,
        /// Sessions that name one of them.
        sessions: Vec<Seid>,
    },
    /// The answer to a report says how a session's packets are kept from now on.
    Buffering {
        /// Our number of the session.
        session: Seid,
        /// Orders by buffering rule.
        orders: Vec<BarOrder>,
        /// What happens to those that are kept.
        kept: Kept,
    },
    /// The peer has these reports: the data plane forgets them.
    Acknowledged {
        /// Our number of the session.
        session: Seid,
        /// Usage rules and the numbers of their reports.
        reports: Vec<(UrrId, u32)>,
    },
    /// Something to count and to log.
    Note(Note),
}

/// What happens to packets that are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kept {
    /// They stay.
    #[default]
    Stay,
    /// They are thrown away (DROBU).
    Dropped,
}

/// Which usage rules report at once.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Query {
    /// Those that the change ended.
    #[default]
    Ended,
    /// Those, and these.
    Some(Vec<UrrId>),
    /// All.
    All,
}

/// What the data plane does with a session.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "commands travel in a box")]
pub enum Command {
    /// Opens it.
    Establish {
        /// Its rules; nothing is left to choose.
        model: SessionModel,
        /// Seconds without a packet after which [`Event::Inactive`] is due.
        inactivity_s: Option<u32>,
    },
    /// Replaces its rules.
    Modify {
        /// Its rules from now on.
        model: SessionModel,
        /// What changed.
        resolution: Resolution,
        /// Usage that the outcome brings.
        query: Query,
        /// What happens to packets that are kept.
        kept: Kept,
        /// As in [`Self::Establish`].
        inactivity_s: Option<u32>,
    },
    /// Ends it; the outcome brings the last usage.
    Delete,
}

/// Why an association or its sessions ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum End {
    /// The peer asked for it, or we did.
    Released,
    /// The peer opened the association anew.
    Renewed,
    /// The peer lost its sessions.
    Restarted,
    /// The peer did not answer for too long.
    Silent,
}

/// What is counted and logged; the list is closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// A datagram from an address that is not on the list.
    PeerRefused(SocketAddr),
    /// A datagram that is no message.
    Malformed(SocketAddr),
    /// A message of another version.
    Version(SocketAddr),
    /// A message of an unknown type.
    UnknownMessage(SocketAddr),
    /// An answer that nobody waits for.
    StrayAnswer(SocketAddr),
    /// A request that was answered before, or is in work.
    Repeated(SocketAddr),
    /// A request older than the answers that are remembered.
    TooOld(SocketAddr),
    /// No more endpoints can send requests now.
    SourcesFull(SocketAddr),
    /// No more answers of that endpoint can be remembered now.
    ResponsesFull(SocketAddr),
    /// A request was refused.
    Refused(Cause),
    /// A message could not be stated.
    Unspeakable,
    /// An association stands.
    AssociationUp(NodeId),
    /// A peer does not answer.
    AssociationSilent(NodeId),
    /// A peer answers again.
    AssociationBack(NodeId),
    /// An association ended, with as many sessions.
    AssociationDown(NodeId, End, usize),
    /// So many sessions of a peer that does not answer are another one's of its set now.
    SessionsLeft(NodeId, usize),
    /// A peer did not open an association.
    AssociationRefused(SocketAddr),
    /// Our request was not answered.
    Unanswered(SocketAddr),
    /// The peer refused a report.
    ReportRefused(Seid, u8),
    /// So many usage reports found no place, or nobody to take them.
    ReportsLost(Seid, usize),
    /// The data plane did not delete a session whose association ended; it is told again.
    DeleteFailed(Seid),
    /// A session, or an outcome, that does not exist.
    Unknown,
}

impl Note {
    /// Its stable name in metrics and logs.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::PeerRefused(_) => "peer_refused",
            Self::Malformed(_) => "malformed",
            Self::Version(_) => "version",
            Self::UnknownMessage(_) => "unknown_message",
            Self::StrayAnswer(_) => "stray_answer",
            Self::Repeated(_) => "repeated",
            Self::TooOld(_) => "too_old",
            Self::SourcesFull(_) => "sources_full",
            Self::ResponsesFull(_) => "responses_full",
            Self::Refused(_) => "refused",
            Self::Unspeakable => "unspeakable",
            Self::AssociationUp(_) => "association_up",
            Self::AssociationSilent(_) => "association_silent",
            Self::AssociationBack(_) => "association_back",
            Self::AssociationDown(..) => "association_down",
            Self::SessionsLeft(..) => "sessions_left",
            Self::AssociationRefused(_) => "association_refused",
            Self::Unanswered(_) => "unanswered",
            Self::ReportRefused(..) => "report_refused",
            Self::ReportsLost(..) => "reports_lost",
            Self::DeleteFailed(_) => "delete_failed",
            Self::Unknown => "unknown",
        }
    }
}
