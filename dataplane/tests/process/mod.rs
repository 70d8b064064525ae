//! A data plane on loopback with a BaseStation's and an origin's socket, for tests of what
//! operators see of it.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread::JoinHandle;
use std::time::Duration;

use qlink_dataplane::{DataplaneConfig, DataplaneError, run};
use qlink_io::seqpacket::SeqConn;
use qlink_pfcp::{
    Answer, DataPlaneInfo, DownlinkPath, Payer, Request, SessionRules, decode_answer,
    encode_request,
};
use qlink_types::ids::{SessionId, Teid};
use qlink_wire::build::udp_packet;
use qlink_wire::gpdu_header;

/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A running data plane.
pub(crate) struct Process {
    pub(crate) info: DataPlaneInfo,
    pub(crate) control: SeqConn,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) basestation: UdpSocket,
    pub(crate) origin: UdpSocket,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<(), DataplaneError>>>,
}

impl Process {
    /// Starts one; `change` finishes its configuration. `network` is the third octet of its
    /// addresses.
    pub(crate) fn start(network: u8, change: impl FnOnce(&mut DataplaneConfig)) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), network, change)
    }

    /// Starts one on what stands in a folder.
    pub(crate) fn start_in(
        folder: tempfile::TempDir,
        network: u8,
        change: impl FnOnce(&mut DataplaneConfig),
    ) -> Self {
        let address = |host: u8| SocketAddr::from(([127, 9, network, host], 0));
        let peer = |host: u8| {
            let socket = UdpSocket::bind(address(host)).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket
        };
        let (basestation, origin) = (peer(2), peer(3));
        let path = |name: &str| folder.path().join(name);
        let text = serde_json::json!({
            "n3": address(1),
            "n6_local": address(1),
            "n6_peer": origin.local_addr().unwrap(),
            "control_socket": path("control"),
            "arena": path("arena"),
            "journal": path("journal"),
            "max_sessions": 8,
            "max_flows": 8,
            "max_views": 8,
            "max_contents": 4,
        });
        let mut config: DataplaneConfig = serde_json::from_value(text).unwrap();
        change(&mut config);
        let stop = Arc::new(AtomicBool::new(false));
        let (ready, started) = channel();
        let thread = std::thread::spawn({
            let (config, stop) = (config.clone(), Arc::clone(&stop));
            move || run(&config, |info| ready.send(info.clone()).unwrap(), &stop)
        });
        let info = started.recv_timeout(PATIENCE).expect("the plane starts");
        Self {
            info,
            control: SeqConn::connect(&config.control_socket).unwrap(),
            folder,
            basestation,
            origin,
            stop,
            thread: Some(thread),
        }
    }

    /// One question, one answer.
    pub(crate) fn ask(&self, request: &Request) -> Answer {
        self.control
            .send(&encode_request(1, request).unwrap())
            .unwrap();
        let mut buffer = vec![0; 65_536];
        let length = self.control.recv(&mut buffer, Some(PATIENCE)).unwrap();
        decode_answer(&buffer[..length.unwrap()]).unwrap().1
    }

    /// Opens session `number` of subscriber 10.45.0.`number`; its TEID.
    pub(crate) fn establish(&self, number: u8) -> Teid {
        self.establish_towards(number, self.basestation.local_addr().unwrap())
    }

    /// The same with another BaseStation.
    pub(crate) fn establish_towards(&self, number: u8, peer: SocketAddr) -> Teid {
        let rules = SessionRules {
            session: SessionId::new([number; 16]),
            teid: None,
            ue: [10, 45, 0, number].into(),
            path: DownlinkPath {
                peer,
                downlink_teid: Teid::new(u32::from(number)),
            },
            basestation: None,
            sponsor: None,
            payer: Payer::Operator,
        };
        match self.ask(&Request::Establish { rules }) {
            Answer::Established { teid, .. } => teid,
            other => panic!("{other:?}"),
        }
    }

    /// Sends a datagram of session `number` uplink without waiting for it; its inner length.
    pub(crate) fn send_uplink(&self, number: u8, teid: Teid, payload: usize) -> usize {
        let inner = datagram(ue(number), server(), payload);
        let length = u16::try_from(inner.len()).unwrap();
        let mut message = gpdu_header(teid.get(), length).to_vec();
        message.extend(&inner);
        self.basestation.send_to(&message, self.info.n3).unwrap();
        inner.len()
    }

    /// Sends a datagram through the tunnel and waits until the origin has it; its inner length.
    pub(crate) fn uplink(&self, number: u8, teid: Teid, payload: usize) -> usize {
        let length = self.send_uplink(number, teid, payload);
        assert_eq!(received(&self.origin), length);
        length
    }

    /// Sends a datagram to the subscriber and waits until the BaseStation has it.
    pub(crate) fn downlink(&self, number: u8, payload: usize) -> usize {
        let inner = datagram(server(), ue(number), payload);
        self.origin.send_to(&inner, self.info.n6).unwrap();
        assert_eq!(received(&self.basestation), inner.len() + 8);
        inner.len()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let result = self.thread.take().unwrap().join();
        if !std::thread::panicking() {
            result.unwrap().unwrap();
        }
    }
}

fn ue(number: u8) -> SocketAddr {
    SocketAddr::from(([10, 45, 0, number], 40_000))
}

fn server() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 9], 40_001))
}

fn datagram(from: SocketAddr, to: SocketAddr, payload: usize) -> Vec<u8> {
    udp_packet(from, to, &vec![1; payload]).unwrap()
}

fn received(socket: &UdpSocket) -> usize {
    let mut buffer = [0; 2048];
    socket.recv_from(&mut buffer).unwrap().0
}
