//! A data plane process's inside with a simulated SMF over PFCP, a BaseStation and an origin, all on
//! loopback.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use qlink_dataplane::{DataplaneConfig, DataplaneError, run};
use qlink_meter::ArenaSet;
use qlink_pfcp::DataPlaneInfo;
use qlink_pfcp::model::{FTeid, FailedRule, NodeId, Seid, SessionChange, Time, UsageReport};
use qlink_pfcp::node::Timers;
use qlink_pfcp::sim::{Happened, SessionPlan, Smf, SmfConfig};
use qlink_pfcp::wire::{
    CauseCode, ENTERPRISE_ID, IeType, ModificationFlags, SessionModificationRequest, SessionSets,
};
use qlink_types::ids::Teid;
use qlink_wire::build::udp_packet;
use qlink_wire::{gpdu_header, parse_gtpu};

pub(crate) const WITHIN: Duration = Duration::from_secs(5);
pub(crate) const SERVER: &str = "192.0.2.9:53";
pub(crate) const UE: Ipv4Addr = Ipv4Addr::new(10, 60, 0, 9);
pub(crate) const GNB_TEID: Teid = Teid::new(0x77);

/// A network of its own addresses: 127.9.`net`.x.
pub(crate) struct Network {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) config: DataplaneConfig,
    pub(crate) gnb: UdpSocket,
    pub(crate) origin: UdpSocket,
    pub(crate) smf_socket: UdpSocket,
    pub(crate) smf: Smf,
    pub(crate) heard: VecDeque<Happened>,
    pub(crate) started: Instant,
}

pub(crate) struct Running {
    pub(crate) info: DataPlaneInfo,
    pub(crate) stop: Arc<AtomicBool>,
    pub(crate) thread: JoinHandle<Result<(), DataplaneError>>,
}

impl Network {
    pub(crate) fn new(net: u8) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |host: u8| IpAddr::from([127, 9, net, host]);
        let socket = |host, port| {
            let socket = UdpSocket::bind((at(host), port)).unwrap();
            socket.set_read_timeout(Some(WITHIN)).unwrap();
            socket
        };
        let (gnb, origin, smf_socket) = (socket(2, 2152), socket(3, 0), socket(4, 0));
        smf_socket
            .set_read_timeout(Some(Duration::from_millis(100)))
            .unwrap();
        let path = |name: &str| folder.path().join(name);
        let config = serde_json::json!({
            "n3": SocketAddr::new(at(1), 2152),
            "n6_local": SocketAddr::new(at(1), 0),
            "n6_peer": origin.local_addr().unwrap(),
            "control_socket": path("control"), "arena": path("arena"), "journal": path("journal"),
            "max_sessions": 8, "max_flows": 4, "max_views": 8, "max_contents": 2,
            "pfcp": {
                "listen": SocketAddr::new(at(1), 8805), "peers": ["127.0.0.0/8"],
                "journal": path("node"), "ue_v4": "10.60.0.0/24", "max_urrs": 64,
                "requests_to": "source",
            },
        });
        let smf = smf(net, 1_700_000_000);
        Self {
            folder,
            config: serde_json::from_value(config).unwrap(),
            gnb,
            origin,
            smf_socket,
            smf,
            heard: VecDeque::new(),
            started: Instant::now(),
        }
    }

    pub(crate) fn start(&self) -> Running {
        let stop = Arc::new(AtomicBool::new(false));
        let (ready, started) = channel();
        let thread = std::thread::spawn({
            let (config, stop) = (self.config.clone(), Arc::clone(&stop));
            move || run(&config, |info| ready.send(info.clone()).unwrap(), &stop)
        });
        let Ok(info) = started.recv_timeout(WITHIN) else {
            panic!("not started: {:?}", thread.join());
        };
        Running { info, stop, thread }
    }

    pub(crate) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    pub(crate) fn flush(&mut self) {
        for datagram in self.smf.take_datagrams() {
            let peer = self.config.pfcp.as_ref().unwrap().listen;
            self.smf_socket.send_to(&datagram, peer).unwrap();
        }
    }

    /// Exchanges PFCP until something happens that `wanted` takes.
    pub(crate) fn until<T>(&mut self, mut wanted: impl FnMut(&Happened) -> Option<T>) -> T {
        let deadline = Instant::now() + WITHIN;
        let mut buffer = [0; 65_536];
        loop {
            self.flush();
            while let Some(happened) = self.heard.pop_front() {
                if let Some(found) = wanted(&happened) {
                    return found;
                }
            }
            assert!(Instant::now() < deadline, "nothing happened");
            let received = self.smf_socket.recv(&mut buffer);
            let now = self.now();
            let happened = match received {
                Ok(length) => self.smf.datagram(now, buffer.get(..length).unwrap()),
                // Nothing came, or the data plane was not there: what is due goes again.
                Err(_) => self.smf.timer(now),
            };
            self.heard.extend(happened);
        }
    }

    pub(crate) fn associate(&mut self) {
        let now = self.now();
        self.smf.associate(now);
        self.until(|happened| matches!(happened, Happened::Associated { .. }).then_some(()));
    }

    pub(crate) fn plan(&self) -> SessionPlan {
        let IpAddr::V4(gnb) = self.gnb.local_addr().unwrap().ip() else {
            panic!("an IPv4 BaseStation");
        };
        SessionPlan {
            ue: Some(UE),
            gnb,
            gnb_teid: GNB_TEID,
            threshold: None,
            quota: None,
            mbr: None,
            qfi: None,
            contents: Vec::new(),
            packages: Vec::new(),
        }
    }

    /// Opens a session; its number at the SMF and the uplink endpoint.
    pub(crate) fn establish(&mut self, plan: &SessionPlan) -> (Seid, FTeid) {
        self.establish_rules(plan.rules())
    }

    pub(crate) fn establish_rules(&mut self, rules: SessionChange) -> (Seid, FTeid) {
        self.establish_in(rules, SessionSets::default())
    }

    /// Opens a session that belongs to sets.
    pub(crate) fn establish_in(
        &mut self,
        rules: SessionChange,
        sets: SessionSets,
    ) -> (Seid, FTeid) {
        let now = self.now();
        self.smf.establish_in(now, rules, sets);
        self.until(|happened| match happened {
            Happened::Established {
                session, created, ..
            } => {
                let fteid = created.iter().find_map(|pdr| pdr.local_fteid);
                Some((*session, fteid.unwrap()))
            }
            Happened::Refused { .. } => panic!("{happened:?}"),
            _ => None,
        })
    }

    /// What the rules of a session are refused with.
    pub(crate) fn refusal(
        &mut self,
        rules: SessionChange,
    ) -> (CauseCode, Option<IeType>, Option<FailedRule>) {
        let now = self.now();
        self.smf.establish(now, rules);
        self.until(|happened| match happened {
            Happened::Refused {
                cause,
                offending,
                failed,
                ..
            } => Some((*cause, *offending, *failed)),
            Happened::Established { .. } => panic!("{happened:?}"),
            _ => None,
        })
    }

    pub(crate) fn delete(&mut self, session: Seid) -> Vec<UsageReport> {
        let now = self.now();
        self.smf.delete(now, session);
        self.until(|happened| match happened {
            Happened::Deleted { reports, .. } => Some(reports.clone()),
            _ => None,
        })
    }

    pub(crate) fn modify(&mut self, session: Seid, change: SessionChange) {
        let now = self.now();
        self.smf.modify(now, session, modification(change));
        self.until(|happened| match happened {
            Happened::Modified { .. } => Some(()),
            Happened::Refused { .. } => panic!("{happened:?}"),
            _ => None,
        });
    }

    pub(crate) fn send_up(&self, running: &Running, teid: Teid, payload: usize) -> Vec<u8> {
        let inner = datagram((UE, 40_000).into(), SERVER.parse().unwrap(), payload);
        let length = u16::try_from(inner.len()).unwrap();
        let mut message = gpdu_header(teid.get(), length).to_vec();
        message.extend(&inner);
        self.gnb.send_to(&message, running.info.n3).unwrap();
        inner
    }

    pub(crate) fn uplink(&self, running: &Running, teid: Teid, payload: usize) {
        let inner = self.send_up(running, teid, payload);
        assert_eq!(receive(&self.origin), inner);
    }

    pub(crate) fn send_down(&self, running: &Running, payload: usize) -> Vec<u8> {
        let inner = datagram(SERVER.parse().unwrap(), (UE, 40_000).into(), payload);
        self.origin.send_to(&inner, running.info.n6).unwrap();
        inner
    }

    pub(crate) fn downlink(&self, running: &Running, payload: usize) {
        let inner = self.send_down(running, payload);
        let message = receive(&self.gnb);
        let gtpu = parse_gtpu(&message).unwrap();
        assert_eq!((gtpu.teid, gtpu.payload), (GNB_TEID.get(), &*inner));
    }

    pub(crate) fn drops(&self, reason: &str) -> u64 {
        let drops = ArenaSet::open(&self.config.arena).unwrap().drops();
        drops.get(reason).copied().unwrap_or(0)
    }

    /// Waits until a packet was dropped for `reason`.
    pub(crate) fn until_dropped(&self, reason: &str) {
        self.until_dropped_beyond(reason, 0);
    }

    /// Waits until more than `before` packets were dropped for `reason`.
    pub(crate) fn until_dropped_beyond(&self, reason: &str, before: u64) {
        let deadline = Instant::now() + WITHIN;
        while self.drops(reason) <= before {
            assert!(Instant::now() < deadline, "no drop for {reason}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// A modification of rules alone.
pub(crate) fn modification(change: SessionChange) -> SessionModificationRequest {
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

/// An SMF that started at `recovery`.
pub(crate) fn smf(net: u8, recovery: u64) -> Smf {
    Smf::new(SmfConfig {
        node: NodeId::V4(Ipv4Addr::new(127, 9, net, 4)),
        address: IpAddr::from([127, 9, net, 4]),
        recovery: Time::new(recovery),
        peer: SocketAddr::new(IpAddr::from([127, 9, net, 1]), 8805),
        timers: Timers {
            t1: Duration::from_millis(300),
            ..Timers::default()
        },
        enterprise: ENTERPRISE_ID,
    })
}

impl Running {
    pub(crate) fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap().unwrap();
    }
}

pub(crate) fn datagram(from: SocketAddr, to: SocketAddr, payload: usize) -> Vec<u8> {
    udp_packet(from, to, &vec![1; payload]).unwrap()
}

pub(crate) fn receive(socket: &UdpSocket) -> Vec<u8> {
    let mut buffer = [0; 2048];
    let length = socket.recv(&mut buffer).unwrap();
    buffer.get(..length).unwrap().to_vec()
}

pub(crate) fn volume(reports: &[UsageReport]) -> (u64, u64) {
    reports.iter().fold((0, 0), |(up, down), report| {
        let volume = report.volume.unwrap();
        (up + volume.uplink, down + volume.downlink)
    })
}
