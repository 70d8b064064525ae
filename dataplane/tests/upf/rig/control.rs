//! An SMF on a socket, and everything that it was told of usage.

use std::collections::{BTreeMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use qlink_pfcp::model::{
    CreatedPdr, FTeid, FarChanges, NodeId, PdrId, Seid, SessionChange, Time, Trigger, UrrChanges,
    UrrId, UsageReport,
};
use qlink_pfcp::node::Timers;
use qlink_pfcp::sim::{Happened, Smf, SmfConfig};
use qlink_pfcp::wire::{
    AlternativeSmf, CauseCode, CpAddress, ENTERPRISE_ID, MessageType, ModificationFlags,
    SessionChangeInfo, SessionModificationRequest, SessionReportRequest, SessionSets,
};

use qlink_types::ids::Teid;

use super::{GATEWAY, WITHIN};

/// An SMF.
pub(crate) struct Control {
    smf: Smf,
    address: Ipv4Addr,
    socket: UdpSocket,
    started: Instant,
    heard: VecDeque<Happened>,
    /// Each report of usage once, however often it was sent.
    reports: BTreeMap<(Seid, UrrId, u32, bool), UsageReport>,
    /// The same in the order of their arrival.
    in_order: Vec<(Seid, UsageReport)>,
}

/// A session that stands.
#[derive(Debug, Clone)]
pub(crate) struct Opened {
    pub(crate) session: Seid,
    pub(crate) created: Vec<CreatedPdr>,
}

impl Opened {
    /// Where the BaseStation sends to.
    pub(crate) fn uplink(&self) -> FTeid {
        let mut chosen = self.created.iter().filter_map(|pdr| pdr.local_fteid);
        chosen.next().unwrap()
    }

    /// The end of a tunnel that was chosen for a detection rule.
    pub(crate) fn endpoint(&self, pdr: PdrId) -> Teid {
        let mut created = self.created.iter();
        let created = created.find(|created| created.id == pdr).unwrap();
        created.local_fteid.unwrap().teid
    }
}

impl Control {
    /// The SMF at `address` that started at `recovery`.
    pub(crate) fn new(address: Ipv4Addr, recovery: u64) -> Self {
        let socket = UdpSocket::bind((address, 8805)).unwrap();
        Self {
            smf: Smf::new(SmfConfig {
                node: NodeId::V4(address),
                address: address.into(),
                recovery: Time::new(recovery),
                peer: SocketAddr::new(GATEWAY, 8805),
                timers: Timers {
                    t1: Duration::from_millis(500),
                    ..Timers::default()
                },
                enterprise: ENTERPRISE_ID,
            }),
            address,
            socket,
            started: Instant::now(),
            heard: VecDeque::new(),
            reports: BTreeMap::new(),
            in_order: Vec::new(),
        }
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Exchanges PFCP for `duration`.
    pub(crate) fn pump(&mut self, duration: Duration) {
        let deadline = Instant::now() + duration;
        while Instant::now() < deadline {
            self.exchange(deadline - Instant::now());
        }
    }

    /// Sends what is to be sent, and takes in one datagram if one comes.
    fn exchange(&mut self, patience: Duration) {
        let peer = SocketAddr::new(GATEWAY, 8805);
        for datagram in self.smf.take_datagrams() {
            // An earlier datagram found nobody: it goes again by itself.
            let _ = self.socket.send_to(&datagram, peer);
        }
        let patience = patience.clamp(Duration::from_millis(1), Duration::from_millis(50));
        self.socket.set_read_timeout(Some(patience)).unwrap();
        let mut buffer = [0; 65_536];
        let received = self.socket.recv(&mut buffer);
        let now = self.now();
        let mut happened = match received {
            Ok(length) => self.smf.datagram(now, buffer.get(..length).unwrap()),
            Err(_) => Vec::new(),
        };
        happened.extend(self.smf.timer(now));
        for datagram in self.smf.take_datagrams() {
            let _ = self.socket.send_to(&datagram, peer);
        }
        for event in &happened {
            self.note(event);
        }
        self.heard.extend(happened);
    }

    fn note(&mut self, event: &Happened) {
        let (session, reports) = match event {
            Happened::Reported { session, report } => (*session, &report.reports),
            Happened::Modified {
                session, reports, ..
            }
            | Happened::Deleted { session, reports } => (*session, reports),
            _ => return,
        };
        for report in reports {
            let split = report.split.is_some();
            let key = (session, report.urr, report.sequence, split);
            if self.reports.insert(key, report.clone()).is_none() {
                self.in_order.push((session, report.clone()));
            }
        }
    }

    /// Exchanges PFCP until something happens that `wanted` takes; what it does not take is gone.
    pub(crate) fn until<T>(&mut self, mut wanted: impl FnMut(&Happened) -> Option<T>) -> T {
        let deadline = Instant::now() + WITHIN;
        loop {
            while let Some(happened) = self.heard.pop_front() {
                if let Some(found) = wanted(&happened) {
                    return found;
                }
            }
            assert!(Instant::now() < deadline, "nothing happened");
            self.exchange(Duration::from_millis(50));
        }
    }

    pub(crate) fn associate(&mut self) {
        let now = self.now();
        self.smf.associate(now);
        self.until(|happened| matches!(happened, Happened::Associated { .. }).then_some(()));
    }

    /// Ends the association.
    pub(crate) fn release(&mut self) {
        let now = self.now();
        self.smf.release(now);
        self.until(|happened| match happened {
            Happened::Done(MessageType::ASSOCIATION_RELEASE_REQUEST) => Some(()),
            _ => None,
        });
    }

    /// States applications; see [`Smf::state_applications`].
    pub(crate) fn state(&mut self, applications: Vec<qlink_pfcp::wire::ApplicationPfds>) {
        let now = self.now();
        self.smf.state_applications(now, applications);
        self.until(|happened| match happened {
            Happened::Done(_) => Some(()),
            Happened::Refused { .. } => panic!("{happened:?}"),
            _ => None,
        });
    }

    /// Asks for a session; the cause if it is refused.
    pub(crate) fn try_establish(&mut self, rules: SessionChange) -> Result<Opened, CauseCode> {
        let now = self.now();
        let asked = self.smf.establish(now, rules);
        self.until(|happened| match happened {
            Happened::Established {
                session, created, ..
            } if *session == asked => Some(Ok(Opened {
                session: *session,
                created: created.clone(),
            })),
            Happened::Refused { session, cause, .. } if *session == Some(asked) => {
                Some(Err(*cause))
            }
            _ => None,
        })
    }

    pub(crate) fn establish(&mut self, rules: SessionChange) -> Opened {
        self.try_establish(rules).unwrap()
    }

    /// Gives all of its sessions to another function of its set, which knows them already.
    pub(crate) fn hand_over(&mut self, other: &mut Self, address: Ipv4Addr) {
        other.smf.learn_from(&self.smf);
        let own = |v4| CpAddress {
            v4: Some(v4),
            v6: None,
        };
        let change = SessionChangeInfo {
            sets: Vec::new(),
            groups: Vec::new(),
            addresses: vec![own(self.address)],
            alternative: AlternativeSmf {
                address: own(address),
                preferred: false,
            },
        };
        let now = self.now();
        self.smf.move_sets(now, vec![change]);
        self.until(|happened| match happened {
            Happened::Done(MessageType::SESSION_SET_MODIFICATION_REQUEST) => Some(()),
            Happened::Refused { .. } => panic!("{happened:?}"),
            _ => None,
        });
    }

    /// Asks for a change; the usage that came back, or the cause if it is refused.
    pub(crate) fn try_modify(
        &mut self,
        session: Seid,
        request: SessionModificationRequest,
    ) -> Result<Vec<UsageReport>, CauseCode> {
        let now = self.now();
        self.smf.modify(now, session, request);
        self.until(|happened| match happened {
            Happened::Modified {
                session: changed,
                reports,
                ..
            } if *changed == session => Some(Ok(reports.clone())),
            Happened::Refused {
                session: refused,
                cause,
                ..
            } if *refused == Some(session) => Some(Err(*cause)),
            _ => None,
        })
    }

    pub(crate) fn modify(&mut self, session: Seid, change: SessionChange) -> Vec<UsageReport> {
        self.try_modify(session, modification(change)).unwrap()
    }

    /// Changes one forwarding rule.
    pub(crate) fn forward(&mut self, session: Seid, far: FarChanges) {
        self.modify(
            session,
            SessionChange {
                update_fars: vec![far],
                ..SessionChange::default()
            },
        );
    }

    /// Changes one usage rule.
    pub(crate) fn regrant(&mut self, session: Seid, urr: UrrChanges) -> Vec<UsageReport> {
        self.modify(
            session,
            SessionChange {
                update_urrs: vec![urr],
                ..SessionChange::default()
            },
        )
    }

    /// Asks for the usage of every rule.
    pub(crate) fn query(&mut self, session: Seid) -> Vec<UsageReport> {
        let mut request = modification(SessionChange::default());
        request.flags.query_all = true;
        self.try_modify(session, request).unwrap()
    }

    /// Ends a session; the cause if that is refused.
    pub(crate) fn try_delete(&mut self, session: Seid) -> Result<Vec<UsageReport>, CauseCode> {
        let now = self.now();
        self.smf.delete(now, session);
        self.until(|happened| match happened {
            Happened::Deleted {
                session: gone,
                reports,
            } if *gone == session => Some(Ok(reports.clone())),
            Happened::Refused {
                session: refused,
                cause,
                ..
            } if *refused == Some(session) => Some(Err(*cause)),
            _ => None,
        })
    }

    pub(crate) fn delete(&mut self, session: Seid) -> Vec<UsageReport> {
        self.try_delete(session).unwrap()
    }

    /// The next thing that the user plane tells of a session.
    pub(crate) fn told(&mut self, session: Seid) -> SessionReportRequest {
        self.until(|happened| match happened {
            Happened::Reported {
                session: of,
                report,
            } if *of == session => Some(report.clone()),
            _ => None,
        })
    }

    /// Waits for a report of a usage rule that has this trigger, which may have come before.
    pub(crate) fn reported(&mut self, session: Seid, urr: UrrId, trigger: Trigger) -> UsageReport {
        let deadline = Instant::now() + WITHIN;
        loop {
            let found = self
                .reports_of(session, urr)
                .find(|report| report.triggers.has(trigger))
                .cloned();
            if let Some(found) = found {
                return found;
            }
            assert!(Instant::now() < deadline, "{trigger:?} is not reported");
            self.exchange(Duration::from_millis(50));
        }
    }

    /// Uplink and downlink bytes that a usage rule ever reported.
    pub(crate) fn volume(&self, session: Seid, urr: UrrId) -> (u64, u64) {
        let of = self.reports_of(session, urr);
        of.filter_map(|report| report.volume)
            .fold((0, 0), |(up, down), volume| {
                (up + volume.uplink, down + volume.downlink)
            })
    }

    /// What a usage rule ever reported, in the order of arrival.
    pub(crate) fn reports_of(
        &self,
        session: Seid,
        urr: UrrId,
    ) -> impl Iterator<Item = &UsageReport> {
        let all = self.in_order.iter();
        all.filter(move |(of, report)| *of == session && report.urr == urr)
            .map(|(_, report)| report)
    }

    /// What was told, for a test that failed.
    pub(crate) fn story(&self) -> String {
        let last = self.in_order.iter().rev().take(10);
        format!(
            "last reports, newest first: {:#?}",
            last.collect::<Vec<_>>()
        )
    }
}

/// A modification that only changes rules.
fn modification(change: SessionChange) -> SessionModificationRequest {
    SessionModificationRequest {
        node: None,
        cp: None,
        change,
        flags: ModificationFlags::default(),
        query: Vec::new(),
        inactivity_timer: None,
        query_reference: None,
        sets: SessionSets::default(),
    }
}
