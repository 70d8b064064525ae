//! Whether a BaseStation answers, as control planes are told.

use std::net::{IpAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use qlink_pfcp::model::{NodeId, Time};
use qlink_pfcp::node::Timers;
use qlink_pfcp::sim::{Happened, Smf, SmfConfig};
use qlink_pfcp::wire::{ENTERPRISE_ID, Message, NodeReportRequest, RemotePeer};
use qlink_wire::{echo_response, message_type, parse_gtpu};

use crate::network::{Network, WITHIN};

/// A BaseStation that answers echo requests while it is told to; while it is not, a stranger
/// answers with the right number, and the BaseStation with a wrong one.
struct Answering {
    answers: Arc<AtomicBool>,
    asked: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Answering {
    fn new(gnb: &UdpSocket, stranger: UdpSocket) -> Self {
        let gnb = gnb.try_clone().unwrap();
        gnb.set_read_timeout(Some(Duration::from_millis(50)))
            .unwrap();
        let (answers, stop) = (Arc::new(AtomicBool::new(true)), Arc::default());
        let asked = Arc::new(AtomicU64::new(0));
        let thread = std::thread::spawn({
            let (answers, stop, asked) =
                (Arc::clone(&answers), Arc::clone(&stop), Arc::clone(&asked));
            move || {
                let stop: Arc<AtomicBool> = stop;
                let mut buffer = [0; 2048];
                while !stop.load(Ordering::Relaxed) {
                    let Ok((length, from)) = gnb.recv_from(&mut buffer) else {
                        continue;
                    };
                    let gtpu = parse_gtpu(&buffer[..length]).unwrap();
                    assert_eq!(gtpu.message_type, message_type::ECHO_REQUEST);
                    assert_eq!(gtpu.teid, 0);
                    let sequence = gtpu.sequence.unwrap();
                    asked.fetch_add(1, Ordering::Relaxed);
                    if answers.load(Ordering::Relaxed) {
                        gnb.send_to(&echo_response(sequence), from).unwrap();
                    } else {
                        stranger.send_to(&echo_response(sequence), from).unwrap();
                        let wrong = sequence.wrapping_add(1);
                        gnb.send_to(&echo_response(wrong), from).unwrap();
                    }
                }
            }
        });
        Self {
            answers,
            asked,
            stop,
            thread: Some(thread),
        }
    }

    /// Waits until it was asked `more` times from now on.
    fn until_asked(&self, more: u64) {
        let deadline = Instant::now() + WITHIN;
        let wanted = self.asked.load(Ordering::Relaxed) + more;
        while self.asked.load(Ordering::Relaxed) < wanted {
            assert!(Instant::now() < deadline, "no echo request came");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().unwrap().join();
        if !std::thread::panicking() {
            ended.unwrap();
        }
    }
}

fn node_report(network: &mut Network) -> NodeReportRequest {
    network.until(|happened| match happened {
        Happened::Told(message) => match &**message {
            Message::NodeReportRequest(report) => Some(report.clone()),
            _ => None,
        },
        _ => None,
    })
}

/// What a control plane is told that opens its association now.
fn told_to_a_newcomer(network: &Network) -> NodeReportRequest {
    let at = IpAddr::from([127, 9, 55, 8]);
    let upf = network.config.pfcp.as_ref().unwrap().listen;
    let socket = UdpSocket::bind((at, 0)).unwrap();
    socket.set_read_timeout(Some(WITHIN)).unwrap();
    let mut smf = Smf::new(SmfConfig {
        node: NodeId::Fqdn("late.smf.example".to_owned()),
        address: at,
        recovery: Time::new(1_700_000_000),
        peer: upf,
        timers: Timers::default(),
        enterprise: ENTERPRISE_ID,
    });
    smf.associate(network.now());
    let mut buffer = [0; 65_536];
    for _ in 0..10 {
        for datagram in smf.take_datagrams() {
            socket.send_to(&datagram, upf).unwrap();
        }
        let length = socket.recv(&mut buffer).unwrap();
        for happened in smf.datagram(network.now(), &buffer[..length]) {
            if let Happened::Told(message) = happened
                && let Message::NodeReportRequest(report) = *message
            {
                return report;
            }
        }
    }
    panic!("nothing was told");
}

#[test]
fn a_silent_basestation_is_reported_to_the_smf_whoever_answers_for_it_and_so_is_its_return() {
    let mut network = Network::new(55);
    network.config.paths = serde_json::from_value(serde_json::json!({
        "interval": "300ms", "t3": "300ms", "n3": 3,
    }))
    .unwrap();
    let running = network.start();
    network.associate();
    let stranger = UdpSocket::bind((IpAddr::from([127, 9, 55, 9]), 2152)).unwrap();
    let basestation = Answering::new(&network.gnb, stranger);
    let (session, _) = network.establish(&network.plan());
    let peer = RemotePeer {
        v4: Some(network.plan().gnb),
        v6: None,
        destination: None,
        network_instance: None,
    };

    basestation.until_asked(3);
    basestation.answers.store(false, Ordering::Relaxed);
    let report = node_report(&mut network);
    assert_eq!(report.failures, std::slice::from_ref(&peer));
    assert_eq!(report.recoveries, []);
    assert!(network.drops("gtpu_signalling") > 0);
    assert_eq!(
        told_to_a_newcomer(&network).failures,
        std::slice::from_ref(&peer)
    );
    basestation.answers.store(true, Ordering::Relaxed);
    let report = node_report(&mut network);
    assert_eq!(report.recoveries, [peer]);
    assert_eq!(report.failures, []);

    drop(basestation);
    network.delete(session);
    running.stop();
}
