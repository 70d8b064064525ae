//! A whole BaseStation between a device and a gateway, both played by plain UDP sockets.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "test code")]

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use qlink_api::session::{CloseSessionRequest, OpenSessionRequest, OpenedSession};
use qlink_api::tunnel::{EnrolTunnelRequest, EnrolledTunnel};
use qlink_basestation::{
    Closed, Config, Counters, GatewayApi, GatewayError, NoTap, Opened, Radio, Tap, TapDirection,
    TapPacket, run,
};
use qlink_types::ids::{BaseStationId, GatewayId, Hash32, SessionId, Teid};
use qlink_types::receipt::ReceiptSigner;
use qlink_types::signature::SecretKey;
use qlink_types::units::Bytes;
use qlink_wire::build::{GtpuMessage, udp_packet};
use qlink_wire::{echo_request, echo_response, parse_gtpu};
use serde_json::{Value, json};

const SEED: [u8; 32] = [0x0a; 32];

fn chain() -> Hash32 {
    Hash32::new([9; 32])
}

/// The gateway's REST side: opens sessions at a given N3 address and fails the first closes.
struct FakeGateway {
    n3: SocketAddr,
    opens: Mutex<Vec<OpenSessionRequest>>,
    closes: Mutex<Vec<CloseSessionRequest>>,
    failing_closes: AtomicUsize,
    /// It gives every session the same address, as if it had ended the one before.
    one_address: AtomicBool,
}

impl GatewayApi for FakeGateway {
    fn open(&self, _: &str, request: &OpenSessionRequest) -> Result<OpenedSession, GatewayError> {
        let mut opens = self.opens.lock().unwrap();
        opens.push(request.clone());
        let number = u8::try_from(opens.len()).unwrap();
        Ok(OpenedSession {
            session: SessionId::new([number; 16]),
            n3: self.n3.to_string(),
            teid: Teid::new(0x0500 + u32::from(number)),
            ue_address: match self.one_address.load(Ordering::Relaxed) {
                true => "10.1.0.1".to_owned(),
                false => format!("10.1.0.{number}"),
            },
            reserved_bytes: Bytes::new(10_000_000),
        })
    }

    fn close(
        &self,
        _: &str,
        _: SessionId,
        request: &CloseSessionRequest,
    ) -> Result<Value, GatewayError> {
        self.closes.lock().unwrap().push(request.clone());
        let fails = self.failing_closes.load(Ordering::Relaxed);
        if fails > 0 {
            self.failing_closes.store(fails - 1, Ordering::Relaxed);
            return Err(GatewayError::Unreachable("down".to_owned()));
        }
        Ok(json!({"state": "closed"}))
    }

    fn enrol(
        &self,
        _: BaseStationId,
        _: &EnrolTunnelRequest,
    ) -> Result<EnrolledTunnel, GatewayError> {
        Err(GatewayError::Unreachable("no tunnel here".to_owned()))
    }
}

struct Station {
    radio: SocketAddr,
    n3: SocketAddr,
    gateway: UdpSocket,
    rest: Arc<FakeGateway>,
    control: BufReader<UnixStream>,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
    _dir: tempfile::TempDir,
}

impl Drop for Station {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
    }
}

fn free_address() -> SocketAddr {
    UdpSocket::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    socket
}

impl Station {
    fn start(tap: Box<dyn Tap>, trust: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let key_file = dir.path().join("device.key");
        std::fs::write(&key_file, "0a".repeat(32)).unwrap();
        std::fs::set_permissions(&key_file, std::fs::Permissions::from_mode(0o600)).unwrap();
        let gateway = socket();
        let n3 = gateway.local_addr().unwrap();
        let rest = Arc::new(FakeGateway {
            n3,
            opens: Mutex::default(),
            closes: Mutex::default(),
            failing_closes: AtomicUsize::new(0),
            one_address: AtomicBool::new(false),
        });
        let radio = free_address();
        let config = Config {
            chain: chain(),
            basestation: BaseStationId::new([1; 16]),
            gateway: GatewayId::new([2; 16]),
            api: "http://127.0.0.1:1".to_owned(),
            key_file,
            radio: Radio::Udp(radio),
            n3: Some(free_address()),
            trusted_gateways: vec![if trust { n3 } else { free_address() }],
            control: dir.path().join("control"),
            tunnel: None,
            sessions_max: 16,
        };
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let (config, rest, stop) = (config.clone(), rest.clone(), stop.clone());
            move || {
                run(&config, Box::new(rest) as Box<dyn GatewayApi>, tap, &stop).unwrap();
            }
        });
        let control = loop {
            match UnixStream::connect(&config.control) {
                Ok(stream) => break BufReader::new(stream),
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        let (n3, thread) = (config.n3.unwrap(), Some(thread));
        Self {
            radio,
            n3,
            gateway,
            rest,
            control,
            stop,
            thread,
            _dir: dir,
        }
    }

    fn ask(&mut self, request: &Value) -> Result<Value, String> {
        self.control
            .get_mut()
            .write_all(format!("{request}\n").as_bytes())
            .unwrap();
        let mut line = String::new();
        self.control.read_line(&mut line).unwrap();
        let mut answer: Value = serde_json::from_str(&line).unwrap();
        match answer["error"].as_str() {
            Some(reason) => Err(reason.to_owned()),
            None => Ok(answer["ok"].take()),
        }
    }

    fn open(&mut self, radio: SocketAddr) -> Opened {
        let request = json!({"id": 1, "op": "open", "request": {"radio": radio}});
        serde_json::from_value(self.ask(&request).unwrap()).unwrap()
    }

    fn counters(&mut self) -> Counters {
        serde_json::from_value(self.ask(&json!({"id": 2, "op": "count"})).unwrap()).unwrap()
    }
}

fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = [0; 2048];
    let (len, from) = socket.recv_from(&mut buffer).unwrap();
    (buffer[..len].to_vec(), from)
}

fn inner(from: &str, to: &str) -> Vec<u8> {
    udp_packet(from.parse().unwrap(), to.parse().unwrap(), b"hello").unwrap()
}

#[test]
fn packets_pass_both_ways_and_the_receipt_states_their_bytes() {
    let mut station = Station::start(Box::new(NoTap), true);
    let device = socket();
    let opened = station.open(device.local_addr().unwrap());
    let up = inner("10.1.0.1:5000", "198.51.100.10:80");
    let down = inner("198.51.100.10:80", "10.1.0.1:5000");

    device.send_to(&up, station.radio).unwrap();
    let (message, from) = receive(&station.gateway);
    let gtpu = parse_gtpu(&message).unwrap();
    assert_eq!(
        (gtpu.teid, gtpu.payload, from),
        (opened.teid.get(), &up[..], station.n3)
    );
    let message = GtpuMessage::gpdu(opened.downlink_teid.get())
        .encode(&down)
        .unwrap();
    station.gateway.send_to(&message, station.n3).unwrap();
    assert_eq!(receive(&device), (down.clone(), station.radio));

    let close = json!({"id": 3, "op": "close", "session": opened.session});
    let closed: Closed = serde_json::from_value(station.ask(&close).unwrap()).unwrap();
    let receipt = &closed.receipt;
    receipt.verify(&chain()).unwrap();
    assert_eq!(receipt.signer, ReceiptSigner::BaseStation);
    assert_eq!(receipt.key, SecretKey::from_seed(SEED).public());
    assert_eq!(receipt.receipt.uplink_network_bytes.get(), up.len() as u64);
    assert_eq!(
        receipt.receipt.downlink_network_bytes.get(),
        down.len() as u64
    );
    assert!(station.ask(&close).unwrap_err().contains("no session"));
}

#[test]
fn session_open_is_signed_by_the_device_key() {
    let mut station = Station::start(Box::new(NoTap), true);

    let opened = station.open(free_address());

    let request = station.rest.opens.lock().unwrap()[0].clone();
    let key = SecretKey::from_seed(SEED).public();
    request
        .open
        .verify(&key, &chain(), &request.signature)
        .unwrap();
    assert_eq!(request.open.downlink_teid, opened.downlink_teid);
    assert_eq!(request.peer, station.n3.to_string());
}

#[test]
fn every_dropped_packet_has_its_reason() {
    let mut station = Station::start(Box::new(NoTap), true);
    let device = socket();
    let opened = station.open(device.local_addr().unwrap());
    let packet = inner("10.1.0.1:5000", "198.51.100.10:80");

    device
        .send_to(&inner("10.1.0.2:5000", "198.51.100.10:80"), station.radio)
        .unwrap();
    socket().send_to(&packet, station.radio).unwrap();
    device.send_to(b"junk", station.radio).unwrap();
    let unknown = GtpuMessage::gpdu(opened.downlink_teid.get() ^ 1)
        .encode(&packet)
        .unwrap();
    station.gateway.send_to(&unknown, station.n3).unwrap();
    socket().send_to(&unknown, station.n3).unwrap();
    station
        .gateway
        .send_to(&echo_request(7), station.n3)
        .unwrap();

    assert_eq!(receive(&station.gateway).0, echo_response(7));
    let mut counters = station.counters();
    for _ in 0..100 {
        if counters
            .drops
            .values()
            .map(|count| count.parse::<u32>().unwrap())
            .sum::<u32>()
            == 5
        {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
        counters = station.counters();
    }
    let drops = serde_json::to_value(&counters.drops).unwrap();
    for reason in [
        "source_unknown",
        "radio_peer_mismatch",
        "inner_malformed",
        "teid_unknown",
        "gateway_unknown",
    ] {
        assert_eq!(drops[reason], "1", "{reason}");
    }
    assert_eq!(counters.network.uplink_packets, 0);
    assert_eq!(counters.echoes, 1);
}

#[test]
fn failed_close_keeps_its_receipt_and_repeats_it() {
    let mut station = Station::start(Box::new(NoTap), true);
    let opened = station.open(free_address());
    station.rest.failing_closes.store(1, Ordering::Relaxed);
    let close = json!({"id": 3, "op": "close", "session": opened.session});

    assert!(station.ask(&close).unwrap_err().contains("did not answer"));
    station.ask(&close).unwrap();

    let closes = station.rest.closes.lock().unwrap();
    assert_eq!(closes.len(), 2);
    assert_eq!(closes[0].basestation_receipt, closes[1].basestation_receipt);
}

#[test]
fn a_session_that_the_gateway_has_ended_makes_room_and_its_receipt_waits() {
    let mut station = Station::start(Box::new(NoTap), true);
    station.rest.one_address.store(true, Ordering::Relaxed);
    let radio = socket();
    let at = radio.local_addr().unwrap();
    let first = station.open(at);
    let packet = inner("10.1.0.1:5000", "203.0.113.5:80");
    radio.send_to(&packet, station.radio).unwrap();
    receive(&station.gateway);

    let second = station.open(at);

    assert_ne!(first.session, second.session);
    assert_eq!(station.counters().sessions, 1);
    let close = json!({"id": 9, "op": "close", "session": first.session});
    station.ask(&close).unwrap();
    let closes = station.rest.closes.lock().unwrap();
    let receipt = &closes[0].basestation_receipt.receipt;
    assert_eq!(receipt.session, first.session);
    assert_eq!(receipt.uplink_network_bytes.get(), packet.len() as u64);
}

#[test]
fn session_towards_an_untrusted_gateway_address_is_closed_again() {
    let mut station = Station::start(Box::new(NoTap), false);

    let refused =
        station.ask(&json!({"id": 1, "op": "open", "request": {"radio": free_address()}}));

    assert!(refused.unwrap_err().contains("not trusted"));
    assert_eq!(station.rest.closes.lock().unwrap().len(), 1);
    assert_eq!(station.counters().sessions, 0);
}

#[test]
fn tap_sees_what_is_forwarded_and_answers_questions() {
    struct Seen(Vec<(TapDirection, usize)>);
    impl Tap for Seen {
        fn packet(&mut self, packet: &TapPacket<'_>) {
            self.0.push((packet.direction, packet.inner.len()));
        }
        fn ask(&mut self, question: Value) -> Result<Value, String> {
            Ok(json!([question, self.0.len()]))
        }
    }
    let mut station = Station::start(Box::new(Seen(Vec::new())), true);
    let device = socket();
    station.open(device.local_addr().unwrap());

    device
        .send_to(&inner("10.1.0.1:5000", "198.51.100.10:80"), station.radio)
        .unwrap();
    receive(&station.gateway);

    let answer = station.ask(&json!({"id": 4, "op": "tap", "question": "how many"}));
    assert_eq!(answer, Ok(json!(["how many", 1])));
}

#[test]
fn malformed_requests_get_a_reason_and_change_nothing() {
    let mut station = Station::start(Box::new(NoTap), true);

    for request in [
        "{\"id\":5,\"op\":\"fly\"}",
        "[]",
        "{\"op\":\"close\",\"session\":\"ses_x\"}",
    ] {
        let request: Value = serde_json::from_str(request).unwrap();
        assert!(station.ask(&request).is_err(), "{request}");
    }

    assert_eq!(station.counters().sessions, 0);
}

#[test]
fn a_session_without_a_radio_address_is_refused_where_radio_is_udp() {
    let mut station = Station::start(Box::new(NoTap), true);

    let answer = station.ask(&json!({"id": 1, "op": "open", "request": {}}));

    assert_eq!(
        answer.unwrap_err(),
        "request.radio is missing: radio is UDP here"
    );
    assert!(station.rest.opens.lock().unwrap().is_empty());
}
