//! The node's endpoint without packets: sockets, journal and control thread are real.

use std::net::Ipv4Addr;

use crossbeam::channel::bounded;
use qlink_io::clock;
use qlink_pfcp::DataPlaneInfo;
use qlink_pfcp::model::{NodeId, Time};
use qlink_pfcp::node::Timers;
use qlink_pfcp::sim::{Happened, Smf, SmfConfig};
use qlink_pfcp::wire::ENTERPRISE_ID;
use qlink_types::codec::Text;

use super::*;
use crate::config::DataplaneConfig;
use crate::n4::{N4Start, restore};
use crate::start::Start;
use crate::trace::Traces;

/// Between two turns: longer than the SMF waits for an answer.
const PAUSE: Duration = Duration::from_millis(40);

/// A control thread with a node, and an SMF at a socket.
struct Rig {
    folder: tempfile::TempDir,
    control: Control,
    smf: Smf,
    socket: UdpSocket,
    at: SocketAddr,
}

impl Rig {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let config: DataplaneConfig = serde_json::from_value(serde_json::json!({
            "n3": "127.0.0.1:2152", "n6_local": "127.0.0.1:0", "n6_peer": "127.0.0.1:9",
            "control_socket": path("control"), "arena": path("arena"), "journal": path("journal"),
            "max_sessions": 4, "max_flows": 4, "max_views": 4, "max_contents": 1,
            "pfcp": {
                "listen": "127.0.0.1:0", "peers": ["127.0.0.0/8"], "journal": path("node"),
                "ue_v4": "10.60.0.0/24", "max_urrs": 4, "requests_to": "source",
            },
        }))
        .unwrap();
        let mut start = Start::new(&config).unwrap();
        let (_told, events) = bounded(1);
        let of = N4Start {
            config: config.pfcp.as_ref().unwrap(),
            n3: config.n3.ip(),
            events,
        };
        let n4 = restore(&mut start, of).unwrap();
        let at = n4.socket.local_addr().unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(PAUSE)).unwrap();
        let smf = Smf::new(SmfConfig {
            node: NodeId::V4(Ipv4Addr::LOCALHOST),
            address: Ipv4Addr::LOCALHOST.into(),
            recovery: Time::new(1_700_000_000),
            peer: at,
            timers: Timers {
                t1: PAUSE,
                n1: 100,
                ..Timers::default()
            },
            enterprise: ENTERPRISE_ID,
        });
        let info = DataPlaneInfo {
            incarnation: start.shards[0].reader.incarnation(),
            n3: config.n3,
            n6: config.n3,
            arena: Text::try_from("arena").unwrap(),
        };
        let control = Control {
            association: start.association,
            places: start.places,
            ended: BTreeMap::new(),
            copies: start.copies,
            checked: start.checked,
            shards: start.shards,
            journal: start.journal,
            traces: Traces::new(config.n3),
            metrics: start.metrics,
            paths: None,
            tunnel: None,
            info,
            n4: Some(Box::new(n4)),
        };
        Self {
            folder,
            control,
            smf,
            socket,
            at,
        }
    }

    fn n4(&mut self) -> &mut N4 {
        self.control.n4.as_mut().unwrap()
    }

    /// The SMF sends what is due and the node takes a turn; what the SMF hears.
    fn turn(&mut self) -> Vec<Happened> {
        let now = Duration::from_nanos(clock::now_ns());
        let mut happened = self.smf.timer(now);
        for datagram in self.smf.take_datagrams() {
            self.socket.send_to(&datagram, self.at).unwrap();
        }
        self.control.turn_n4(clock::now_ns());
        let mut buffer = [0; 2048];
        while let Ok(length) = self.socket.recv(&mut buffer) {
            happened.extend(self.smf.datagram(now, &buffer[..length]));
        }
        happened
    }

    fn associations(&self) -> usize {
        let (_, records) = Journal::<NodeRecord>::open(&self.folder.path().join("node")).unwrap();
        records.len()
    }
}

#[test]
fn an_answer_waits_for_its_record_however_often_it_is_asked_for() {
    let mut rig = Rig::new();
    let path = rig.folder.path().join("node");
    let sound = std::mem::replace(&mut rig.n4().journal, Journal::unwritable(&path));
    rig.smf.associate(Duration::from_nanos(clock::now_ns()));

    let heard: Vec<Happened> = (0..4).flat_map(|_| rig.turn()).collect();

    assert!(heard.is_empty(), "{heard:?}");
    assert_eq!(rig.associations(), 0);
    // Nothing is to be done until then that would keep the thread awake.
    assert!(rig.n4().is_idle());
    assert_eq!(rig.n4().next_deadline(), None);

    rig.n4().journal = sound;
    let heard: Vec<Happened> = (0..2).flat_map(|_| rig.turn()).collect();

    let associated = |happened: &Happened| matches!(happened, Happened::Associated { .. });
    assert!(heard.iter().any(associated), "{heard:?}");
    assert_eq!(rig.associations(), 1);
}
