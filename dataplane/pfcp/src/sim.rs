//! A small session management function: the control plane's end of PFCP, without I/O.
//!
//! It opens an association with one user plane function, drives usual sessions and answers what
//! comes. It is made to try a user plane with; it keeps no rules and decides nothing.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use qlink_types::ids::{ContentId, PackageId, Teid};

use crate::model::{
    ApplyAction, BitRate, CreatedPdr, CreatedTrafficEndpoint, FSeid, FailedRule, Far, FarId,
    Forwarding, Gate, Interface, LocalFTeid, MeasurementMethod, NodeId, OuterHeaderCreation,
    OuterHeaderRemoval, Pdi, Pdr, PdrId, Precedence, Qer, QerId, Qfi, Seid, SessionChange,
    SmfSetId, Time, Trigger, Triggers, UeAddress, UeRole, Urr, UrrId, UsageReport, VolumeKind,
    VolumeLimit,
};
use crate::node::{Age, Digest, Due, Inbox, Outbox, Room, Timers, Verdict};
use crate::wire::{
    AlternativeSmf, ApplicationPfds, AssociationReleaseRequest, AssociationSetupRequest,
    AssociationSetupResponse, AssociationUpdateResponse, CauseCode, Codec, CpAddress, CpFeatures,
    Datagram, FqCsid, Header, HeartbeatRequest, HeartbeatResponse, IeType, Message, MessageType,
    ModificationFlags, NodeReportResponse, PfdManagementRequest, RawMessage, ReportResponseFlags,
    Sequence, SessionChangeInfo, SessionDeletionRequest, SessionEstablishmentRequest,
    SessionModificationRequest, SessionReportRequest, SessionReportResponse,
    SessionSetDeletionRequest, SessionSetModificationRequest, SessionSets, UpFeatures,
};

/// Requests of the user plane whose answers are remembered.
const REMEMBERED: Room = Room {
    requests: 4096,
    bytes: 1 << 20,
};

/// Who the function is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SmfConfig {
    /// Its name.
    pub node: NodeId,
    /// Its address in session endpoints.
    pub address: IpAddr,
    /// When it started.
    pub recovery: Time,
    /// The user plane function.
    pub peer: SocketAddr,
    /// How long it waits.
    pub timers: Timers,
    /// Number of vendor-specific information elements.
    pub enterprise: u16,
}

/// A usual session: everything of one subscriber goes to and from one BaseStation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionPlan {
    /// The subscriber's address; `None`: the user plane chooses an IPv4 address.
    pub ue: Option<Ipv4Addr>,
    /// The BaseStation's address.
    pub gnb: Ipv4Addr,
    /// The BaseStation's tunnel endpoint.
    pub gnb_teid: Teid,
    /// Bytes after which usage is reported.
    pub threshold: Option<u64>,
    /// Bytes after which traffic stops.
    pub quota: Option<u64>,
    /// Rate in both directions.
    pub mbr: Option<BitRate>,
    /// `QoS` flow of downlink packets.
    pub qfi: Option<Qfi>,
    /// Contents whose proven bytes are measured by a usage rule of their own.
    pub contents: Vec<ContentId>,
    /// Packages whose contents it measures too.
    pub packages: Vec<PackageId>,
}

impl SessionPlan {
    /// Ids of the rules that [`Self::rules`] makes: uplink and downlink detection.
    pub const PDRS: [PdrId; 2] = [PdrId::new(1), PdrId::new(2)];
    /// Uplink and downlink forwarding.
    pub const FARS: [FarId; 2] = [FarId::new(1), FarId::new(2)];
    /// Usage of all packets, and of the contents.
    pub const URRS: [UrrId; 2] = [UrrId::new(1), UrrId::new(2)];

    /// The rules: uplink by a chosen tunnel endpoint, downlink by the subscriber's address.
    #[must_use]
    pub fn rules(&self) -> SessionChange {
        let [up, down] = Self::PDRS;
        let mut create_pdrs = vec![
            self.pdr(up, Interface::Access, UeRole::Source),
            self.pdr(down, Interface::Core, UeRole::Destination),
        ];
        let [all, proven] = Self::URRS;
        let mut create_urrs = vec![self.urr(all, VolumeKind::Network)];
        if !self.contents.is_empty() || !self.packages.is_empty() {
            create_urrs.push(self.urr(proven, VolumeKind::Proven));
            create_pdrs.push(self.content_pdr(proven));
        }
        SessionChange {
            create_pdrs,
            create_fars: self.fars(),
            create_urrs,
            create_qers: vec![Qer {
                id: QerId::new(1),
                correlation: None,
                uplink: Gate::Open,
                downlink: Gate::Open,
                mbr: self.mbr,
                gbr: None,
                qfi: self.qfi,
            }],
            ..SessionChange::default()
        }
    }

    fn pdr(&self, id: PdrId, source: Interface, role: UeRole) -> Pdr {
        let uplink = role == UeRole::Source;
        let [up, down] = Self::FARS;
        Pdr {
            id,
            precedence: Precedence::new(255),
            pdi: Pdi {
                source,
                endpoint: None,
                network_instance: None,
                local_fteid: uplink.then_some(LocalFTeid::Choose {
                    v4: true,
                    v6: false,
                    choose_id: Some(1),
                }),
                ue: Some(UeAddress {
                    role,
                    v4: self.ue,
                    v6: None,
                    choose_v4: self.ue.is_none(),
                    choose_v6: false,
                }),
                filters: Vec::new(),
                application: None,
                qfis: Vec::new(),
                contents: Vec::new(),
                packages: Vec::new(),
            },
            removal: uplink.then_some(OuterHeaderRemoval::GtpuUdpIp),
            far: Some(if uplink { up } else { down }),
            urrs: vec![UrrId::new(1)],
            qers: vec![QerId::new(1)],
        }
    }

    /// Measures contents in packets that the other rules forward.
    fn content_pdr(&self, urr: UrrId) -> Pdr {
        let mut pdr = self.pdr(PdrId::new(3), Interface::Core, UeRole::Destination);
        pdr.precedence = Precedence::new(254);
        pdr.pdi.contents.clone_from(&self.contents);
        pdr.pdi.packages.clone_from(&self.packages);
        pdr.far = None;
        pdr.urrs = vec![urr];
        pdr.qers = Vec::new();
        pdr
    }

    fn fars(&self) -> Vec<Far> {
        let [up, down] = Self::FARS;
        let forward = |id, destination, outer| Far {
            id,
            action: ApplyAction::Forward { duplicate: false },
            forwarding: Some(Forwarding {
                destination,
                network_instance: None,
                outer,
                redirect: None,
                transport_marking: None,
            }),
            duplicating: Vec::new(),
            bar: None,
        };
        let tunnel = OuterHeaderCreation::Gtpu {
            teid: self.gnb_teid,
            v4: Some(self.gnb),
            v6: None,
        };
        vec![
            forward(up, Interface::Core, None),
            forward(down, Interface::Access, Some(tunnel)),
        ]
    }

    fn urr(&self, id: UrrId, volume_kind: VolumeKind) -> Urr {
        let total = |bytes: Option<u64>| {
            bytes.map(|bytes| VolumeLimit {
                total: Some(bytes),
                uplink: None,
                downlink: None,
            })
        };
        let mut triggers = Triggers::NONE;
        if self.threshold.is_some() {
            triggers = triggers.with(Trigger::VolumeThreshold);
        }
        if self.quota.is_some() {
            triggers = triggers.with(Trigger::VolumeQuota);
        }
        Urr {
            id,
            method: MeasurementMethod {
                volume: true,
                duration: false,
                event: false,
            },
            volume_kind,
            triggers,
            volume_threshold: total(self.threshold),
            volume_quota: total(self.quota),
            ..Urr::silent(id)
        }
    }
}

/// What came of a request, or what the user plane says. Sessions are named by our numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happened {
    /// The association stands.
    Associated {
        /// What the user plane can do.
        features: UpFeatures,
    },
    /// A session stands.
    Established {
        /// Our number.
        session: Seid,
        /// What the user plane chose.
        created: Vec<CreatedPdr>,
        /// What it chose for traffic endpoints.
        endpoints: Vec<CreatedTrafficEndpoint>,
    },
    /// A session's rules changed.
    Modified {
        /// Our number.
        session: Seid,
        /// What the user plane chose.
        created: Vec<CreatedPdr>,
        /// What it chose for traffic endpoints.
        endpoints: Vec<CreatedTrafficEndpoint>,
        /// Usage that was asked for.
        reports: Vec<UsageReport>,
    },
    /// A session is gone.
    Deleted {
        /// Our number.
        session: Seid,
        /// Its last usage.
        reports: Vec<UsageReport>,
    },
    /// A request about the node took effect.
    Done(MessageType),
    /// A request was refused.
    Refused {
        /// Which.
        kind: MessageType,
        /// Our number, where it is about a session.
        session: Option<Seid>,
        /// Why.
        cause: CauseCode,
        /// The information element at fault.
        offending: Option<IeType>,
        /// The rule at fault.
        failed: Option<FailedRule>,
    },
    /// The user plane told of a session, and was answered.
    Reported {
        /// Our number.
        session: Seid,
        /// What it said.
        report: SessionReportRequest,
    },
    /// A request was not answered.
    Unanswered(MessageType),
    /// The user plane wants to leave, or told of paths, and was answered.
    Told(Box<Message>),
}

/// A request that waits for its answer.
#[derive(Debug, Clone, Copy)]
struct Asked {
    kind: MessageType,
    session: Option<Seid>,
}

/// The function. See the [module](self).
#[derive(Debug, Clone)]
pub struct Smf {
    config: SmfConfig,
    codec: Codec,
    outbox: Outbox<Asked>,
    inbox: Inbox,
    last: Sequence,
    next_session: u64,
    /// Numbers of sessions at the user plane, by ours.
    sessions: BTreeMap<Seid, Seid>,
    leaving: Vec<Vec<u8>>,
    set: Option<SmfSetId>,
    /// Whether the set has one association together, and where its other functions are.
    together: Option<Vec<IpAddr>>,
}

impl Smf {
    /// A function without association.
    #[must_use]
    pub fn new(config: SmfConfig) -> Self {
        Self {
            codec: Codec::new(config.enterprise),
            config,
            outbox: Outbox::default(),
            inbox: Inbox::default(),
            last: Sequence::default(),
            next_session: 1,
            sessions: BTreeMap::new(),
            leaving: Vec::new(),
            set: None,
            together: None,
        }
    }

    /// The same as a part of a set.
    #[must_use]
    pub fn in_set(mut self, set: SmfSetId) -> Self {
        self.set = Some(set);
        self
    }

    /// The same as a part of a set that has one association; its others are at these addresses.
    #[must_use]
    pub fn together_with(mut self, others: Vec<IpAddr>) -> Self {
        self.together = Some(others);
        self
    }

    /// Datagrams that leave for the user plane, in order.
    #[must_use]
    pub fn take_datagrams(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.leaving)
    }

    /// Sessions that stand, by our numbers.
    pub fn sessions(&self) -> impl Iterator<Item = Seid> {
        self.sessions.keys().copied()
    }

    /// Knows the sessions of another function as well, as functions of one set do that share what
    /// they store.
    pub fn learn_from(&mut self, other: &Self) {
        self.sessions.extend(&other.sessions);
    }

    /// When [`Self::timer`] is due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        self.outbox.deadline()
    }

    /// Opens the association.
    pub fn associate(&mut self, now: Duration) {
        let request = AssociationSetupRequest {
            node: self.config.node.clone(),
            recovery: self.config.recovery,
            up_features: None,
            cp_features: Some(match (&self.set, &self.together) {
                (_, Some(_)) => CpFeatures::SSET,
                (Some(_), None) => CpFeatures::MPAS,
                (None, None) => CpFeatures::NONE,
            }),
            set: self.set.clone(),
            alternatives: self.alternatives(),
            resources: Vec::new(),
        };
        self.ask(now, None, request);
    }

    fn alternatives(&self) -> Vec<AlternativeSmf> {
        let others = self.together.iter().flatten();
        let others = others.map(|address| match *address {
            IpAddr::V4(v4) => (Some(v4), None),
            IpAddr::V6(v6) => (None, Some(v6)),
        });
        let others = others.map(|(v4, v6)| AlternativeSmf {
            address: CpAddress { v4, v6 },
            preferred: false,
        });
        others.collect()
    }

    /// Ends the association.
    pub fn release(&mut self, now: Duration) {
        let node = self.config.node.clone();
        self.ask(now, None, AssociationReleaseRequest { node });
    }

    /// Replaces filters of applications.
    pub fn state_applications(&mut self, now: Duration, applications: Vec<ApplicationPfds>) {
        self.ask(now, None, PfdManagementRequest { applications });
    }

    /// Says when it started.
    pub fn heartbeat(&mut self, now: Duration) {
        let recovery = self.config.recovery;
        self.ask(now, None, HeartbeatRequest { recovery });
    }

    /// Has the sessions of parts of nodes ended.
    pub fn delete_sets(&mut self, now: Duration, sets: Vec<FqCsid>) {
        let node = self.config.node.clone();
        self.ask(now, None, SessionSetDeletionRequest { node, sets });
    }

    /// Gives sessions to another function.
    pub fn move_sets(&mut self, now: Duration, changes: Vec<SessionChangeInfo>) {
        let node = self.config.node.clone();
        self.ask(now, None, SessionSetModificationRequest { node, changes });
    }

    /// Opens a session; its number here.
    pub fn establish(&mut self, now: Duration, rules: SessionChange) -> Seid {
        self.establish_in(now, rules, SessionSets::default())
    }

    /// Opens a session that belongs to sets; its number here.
    pub fn establish_in(&mut self, now: Duration, rules: SessionChange, sets: SessionSets) -> Seid {
        let session = Seid::new(self.next_session);
        self.next_session = self.next_session.wrapping_add(1);
        let request = SessionEstablishmentRequest {
            node: self.config.node.clone(),
            cp: self.endpoint(session),
            rules,
            pdn: None,
            inactivity_timer: None,
            sets,
        };
        self.ask(now, Some(session), request);
        session
    }

    /// Changes a session that stands.
    pub fn modify(&mut self, now: Duration, session: Seid, request: SessionModificationRequest) {
        self.ask(now, Some(session), request);
    }

    /// Takes over a session of another function of the set, which this one knows
    /// ([`Self::learn_from`]): what it has to report comes here from now on.
    pub fn take_over(&mut self, now: Duration, session: Seid, change: SessionChange) {
        let request = SessionModificationRequest {
            node: Some(self.config.node.clone()),
            cp: Some(self.endpoint(session)),
            change,
            flags: ModificationFlags::default(),
            query: Vec::new(),
            inactivity_timer: None,
            query_reference: None,
            sets: SessionSets::default(),
        };
        self.ask(now, Some(session), request);
    }

    /// A session as the user plane names it.
    const fn endpoint(&self, seid: Seid) -> FSeid {
        let (v4, v6) = match self.config.address {
            IpAddr::V4(v4) => (Some(v4), None),
            IpAddr::V6(v6) => (None, Some(v6)),
        };
        FSeid { seid, v4, v6 }
    }

    /// Ends a session that stands.
    pub fn delete(&mut self, now: Duration, session: Seid) {
        self.ask(now, Some(session), SessionDeletionRequest {});
    }

    fn ask(&mut self, now: Duration, session: Option<Seid>, request: impl Into<Message>) {
        let message = request.into();
        let kind = message.kind();
        let sequence = self.outbox.number(self.last);
        self.last = sequence;
        let there = session.and_then(|session| self.sessions.get(&session).copied());
        let header = if kind.is_session() {
            Header::session(there.unwrap_or_default(), sequence)
        } else {
            Header::node(sequence)
        };
        let Ok(bytes) = self.codec.encode(&header, &message) else {
            return;
        };
        let asked = Asked { kind, session };
        let timers = &self.config.timers;
        self.outbox
            .sent(sequence, bytes.clone(), asked, now, timers);
        self.leaving.push(bytes);
    }

    /// Sends again what was not answered.
    pub fn timer(&mut self, now: Duration) -> Vec<Happened> {
        self.inbox.forget(now, self.config.timers.remember);
        let mut happened = Vec::new();
        for due in self.outbox.due(now, &self.config.timers) {
            match due {
                Due::Again(bytes) => self.leaving.push(bytes),
                Due::Unanswered(asked) => happened.push(Happened::Unanswered(asked.kind)),
            }
        }
        happened
    }

    /// Takes a datagram of the user plane in; what is no message is passed over.
    pub fn datagram(&mut self, now: Duration, bytes: &[u8]) -> Vec<Happened> {
        let messages = Datagram::new(bytes).map_while(Result::ok);
        messages.filter_map(|raw| self.message(now, &raw)).collect()
    }

    fn message(&mut self, now: Duration, raw: &RawMessage<'_>) -> Option<Happened> {
        let (header, message) = self.codec.decode_raw(raw).ok()?;
        if let Message::HeartbeatRequest(_) = message {
            let recovery = self.config.recovery;
            self.send(&header, &HeartbeatResponse { recovery }.into());
            return None;
        }
        let Some(answer) = self.answer_to(&header, &message) else {
            let asked = self.outbox.answered(header.sequence)?;
            return self.answered(asked, message);
        };
        let digest = Digest::of(raw);
        let sequence = header.sequence;
        match self
            .inbox
            .judge(sequence, digest, Age::Matters, now, REMEMBERED)
        {
            Verdict::New => {}
            Verdict::Answered(bytes) => {
                self.leaving.push(bytes);
                return None;
            }
            Verdict::InWork | Verdict::TooOld | Verdict::Full => return None,
        }
        let (seid, answer) = answer;
        let back = match header.seid {
            Some(_) => Header::session(seid, sequence),
            None => Header::node(sequence),
        };
        let bytes = self.send(&back, &answer)?;
        self.inbox
            .answer(sequence, digest, &bytes, now, REMEMBERED)?;
        let session = header.seid.unwrap_or_default();
        match message {
            Message::SessionReportRequest(report) => self
                .sessions
                .contains_key(&session)
                .then_some(Happened::Reported { session, report }),
            message => Some(Happened::Told(Box::new(message))),
        }
    }

    fn send(&mut self, header: &Header, message: &Message) -> Option<Vec<u8>> {
        let bytes = self.codec.encode(header, message).ok()?;
        self.leaving.push(bytes.clone());
        Some(bytes)
    }

    /// The answer to a request of the user plane, and the session's number there.
    fn answer_to(&self, header: &Header, message: &Message) -> Option<(Seid, Message)> {
        let node = self.config.node.clone();
        let cause = CauseCode::REQUEST_ACCEPTED;
        Some(match message {
            Message::SessionReportRequest(_) => {
                let there = self.sessions.get(&header.seid.unwrap_or_default());
                let cause = match there {
                    Some(_) => cause,
                    None => CauseCode::SESSION_CONTEXT_NOT_FOUND,
                };
                let answer = SessionReportResponse {
                    cause,
                    offending: None,
                    bars: Vec::new(),
                    flags: ReportResponseFlags::default(),
                    cp: None,
                };
                (there.copied().unwrap_or_default(), answer.into())
            }
            Message::AssociationSetupRequest(_) => {
                let answer = AssociationSetupResponse {
                    node,
                    cause,
                    recovery: self.config.recovery,
                    up_features: None,
                    cp_features: Some(CpFeatures::NONE),
                    set: None,
                    resources: Vec::new(),
                };
                (Seid::default(), answer.into())
            }
            Message::AssociationUpdateRequest(_) => {
                let answer = AssociationUpdateResponse {
                    node,
                    cause,
                    up_features: None,
                    cp_features: None,
                };
                (Seid::default(), answer.into())
            }
            Message::NodeReportRequest(_) => {
                let offending = None;
                let answer = NodeReportResponse {
                    node,
                    cause,
                    offending,
                };
                (Seid::default(), answer.into())
            }
            _ => return None,
        })
    }

    fn answered(&mut self, asked: Asked, message: Message) -> Option<Happened> {
        let Asked { kind, session } = asked;
        let refused = |cause: CauseCode, offending, failed| Happened::Refused {
            kind,
            session,
            cause,
            offending,
            failed,
        };
        let done = |cause: CauseCode, offending| {
            if cause.is_accepted() {
                Happened::Done(kind)
            } else {
                refused(cause, offending, None)
            }
        };
        let named = session.unwrap_or_default();
        Some(match message {
            Message::AssociationSetupResponse(answer) if answer.cause.is_accepted() => {
                Happened::Associated {
                    features: answer.up_features.unwrap_or_default(),
                }
            }
            Message::AssociationSetupResponse(answer) => refused(answer.cause, None, None),
            Message::AssociationReleaseResponse(answer) => done(answer.cause, None),
            Message::HeartbeatResponse(_) => Happened::Done(kind),
            Message::SessionSetDeletionResponse(answer) => done(answer.cause, answer.offending),
            Message::SessionSetModificationResponse(answer) => done(answer.cause, answer.offending),
            Message::PfdManagementResponse(answer) => done(answer.cause, answer.offending),
            Message::SessionEstablishmentResponse(answer) => match answer.up {
                Some(up) if answer.cause.is_accepted() => {
                    self.sessions.insert(named, up.seid);
                    Happened::Established {
                        session: named,
                        created: answer.created,
                        endpoints: answer.created_endpoints,
                    }
                }
                _ => refused(answer.cause, answer.offending, answer.failed),
            },
            Message::SessionModificationResponse(answer) if answer.cause.is_accepted() => {
                Happened::Modified {
                    session: named,
                    created: answer.created,
                    endpoints: answer.created_endpoints,
                    reports: answer.reports,
                }
            }
            Message::SessionModificationResponse(answer) => {
                refused(answer.cause, answer.offending, answer.failed)
            }
            Message::SessionDeletionResponse(answer) if answer.cause.is_accepted() => {
                self.sessions.remove(&named);
                Happened::Deleted {
                    session: named,
                    reports: answer.reports,
                }
            }
            Message::SessionDeletionResponse(answer) => {
                refused(answer.cause, answer.offending, None)
            }
            _ => return None,
        })
    }
}
