//! Against an independent implementation: Debian's `wireguard-go` with the kernel of a network
//! namespace behind it.
#![expect(clippy::unwrap_used, reason = "test code")]

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use qlink_tunnel::{Limits, PeerSetup, PrivateKey, Received, Tunnels};

const OURS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 99, 7, 1));
const THEIRS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 99, 7, 2));

/// Longer than any machine needs for a handshake; a failure is told by what did not come.
const PATIENCE: Duration = Duration::from_secs(60);

fn run(program: &str, arguments: &[&str]) {
    let status = Command::new(program).args(arguments).status().unwrap();
    assert!(status.success(), "{program} {arguments:?}");
}

/// wireguard-go, whose interface lies in a namespace of its own and whose socket on our loopback.
struct WireguardGo {
    process: Child,
    namespace: String,
    _keys: tempfile::TempDir,
}

impl WireguardGo {
    fn start(key_text: &str, port: u16, peer: &str, endpoint: Option<SocketAddr>) -> Self {
        let keys = tempfile::tempdir().unwrap();
        let file = keys.path().join("key");
        std::fs::write(&file, key_text).unwrap();
        let name = format!("qwg{}", std::process::id());
        let namespace = format!("qtun{}", std::process::id());
        let process = Command::new("wireguard-go")
            .args(["-f", &name])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let this = Self {
            process,
            namespace: namespace.clone(),
            _keys: keys,
        };
        let socket = format!("/var/run/wireguard/{name}.sock");
        let until = Instant::now() + PATIENCE;
        while !std::path::Path::new(&socket).exists() {
            assert!(Instant::now() < until, "wireguard-go has no socket");
            std::thread::sleep(Duration::from_millis(20));
        }
        let port = port.to_string();
        let endpoint = endpoint.map(|endpoint| endpoint.to_string());
        let allowed = format!("{OURS}/32");
        let mut set = vec!["set", &name, "private-key", file.to_str().unwrap()];
        set.extend(["listen-port", &port, "peer", peer, "allowed-ips", &allowed]);
        if let Some(endpoint) = &endpoint {
            set.extend(["endpoint", endpoint]);
        }
        run("wg", &set);
        run("ip", &["netns", "add", &namespace]);
        run("ip", &["link", "set", &name, "netns", &namespace]);
        let address = format!("{THEIRS}/24");
        run(
            "ip",
            &["-n", &namespace, "addr", "add", &address, "dev", &name],
        );
        run("ip", &["-n", &namespace, "link", "set", &name, "up"]);
        this
    }
}

impl Drop for WireguardGo {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = Command::new("ip")
            .args(["netns", "del", &self.namespace])
            .status();
    }
}

/// An ICMP echo request between the tunnel addresses.
fn echo_request(sequence: u8) -> Vec<u8> {
    let mut icmp = vec![8, 0, 0, 0, 0x51, 0x1c, 0, sequence];
    icmp.extend([sequence; 1000]);
    let sum = qlink_wire::checksum::Checksum::default()
        .with(&icmp)
        .finish();
    icmp[2..4].copy_from_slice(&sum.to_be_bytes());
    qlink_wire::build::IpEnvelope::new(OURS, THEIRS)
        .wrap(1, &icmp)
        .unwrap()
}

/// Pings until `wanted` different echoes of the kernel behind the tunnel have come back.
fn ping(tunnels: &mut Tunnels, socket: &UdpSocket, wanted: usize) {
    let mut seen = std::collections::BTreeSet::new();
    let (started, mut buffer, mut out) = (Instant::now(), [0; 4096], [0; 4096]);
    socket
        .set_read_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    for sequence in (0..=255_u8).cycle() {
        if seen.len() >= wanted {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "{tunnels:?}");
        tunnels.tick(&mut out, |to, message| {
            socket.send_to(message, to).unwrap();
        });
        if let Ok(sending) = tunnels.send(THEIRS, &echo_request(sequence), &mut out) {
            socket.send_to(sending.message, sending.to).unwrap();
        }
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let now_ns = u64::try_from(started.elapsed().as_nanos()).unwrap();
            match tunnels.receive(now_ns, from, &buffer[..length], &mut out) {
                Ok(Received::Reply(message)) => {
                    socket.send_to(message, from).unwrap();
                }
                Ok(Received::Packet(packet)) if packet[9] == 1 && packet[20] == 0 => {
                    assert_eq!(packet[28..], [packet[27]; 1000]);
                    seen.insert(packet[27]);
                    break;
                }
                Ok(_) => {}
                Err(refusal) => unreachable!("{refusal}: {tunnels:?}"),
            }
        }
    }
}

/// Why the peer cannot run here.
fn missing() -> Option<String> {
    for program in ["wireguard-go", "wg", "ip"] {
        let there = Command::new(program)
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if there.is_err() {
            return Some(format!("no program {program}"));
        }
    }
    let mark = std::fs::create_dir_all("/var/run/wireguard");
    mark.err()
        .map(|error| format!("/var/run/wireguard cannot be made: {error}"))
}

#[test]
fn wireguard_go_calls_is_called_and_gets_new_keys() {
    if let Some(why) = missing() {
        println!("skipped: {why}");
        return;
    }
    let theirs: PrivateKey = "0a".repeat(32).parse().unwrap();
    let ours = PrivateKey::from_bytes([11; 32]);
    let our_key = ours.public().to_string();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = UdpSocket::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    // 32 bytes of 0x0a as `wg genkey` writes them.
    let text = format!("{}Cgo=\n", "CgoK".repeat(10));
    let peer = WireguardGo::start(&text, port, &our_key, None);
    let setup = PeerSetup {
        key: theirs.public(),
        address: THEIRS,
        endpoint: Some(SocketAddr::from(([127, 0, 0, 1], port))),
        keepalive_s: Some(25),
    };
    let mut tunnels = Tunnels::new(ours.clone(), OURS, Limits::default());
    tunnels.add(setup).unwrap();

    // We call.
    ping(&mut tunnels, &socket, 20);
    assert_eq!(tunnels.counts().handshakes, 1);

    // New keys while both ends have old ones.
    let mut out = [0; 256];
    let (to, message) = tunnels.rekey(&theirs.public(), &mut out).unwrap();
    socket.send_to(message, to).unwrap();
    ping(&mut tunnels, &socket, 40);
    assert_eq!(tunnels.counts().handshakes, 2);

    // We start anew and do not know where they are: they call, as soon as something is to be sent.
    let mut tunnels = Tunnels::new(ours, OURS, Limits::default());
    tunnels
        .add(PeerSetup {
            endpoint: None,
            keepalive_s: None,
            ..setup
        })
        .unwrap();
    let mut pinging = Command::new("ip")
        .args(["netns", "exec", &peer.namespace])
        .args(["ping", "-c", "120", "-i", "0.5", &OURS.to_string()])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let (mut buffer, mut out, started) = ([0; 4096], [0; 4096], Instant::now());
    while tunnels.counts().received == 0 && started.elapsed() < PATIENCE {
        if let Ok((length, from)) = socket.recv_from(&mut buffer) {
            // What was sealed for the end before has no keys here.
            if let Ok(Received::Reply(message)) =
                tunnels.receive(0, from, &buffer[..length], &mut out)
            {
                socket.send_to(message, from).unwrap();
            }
        }
    }
    let _ = pinging.kill();
    let _ = pinging.wait();
    assert_eq!(tunnels.counts().handshakes, 1, "{tunnels:?}");
    ping(&mut tunnels, &socket, 20);
}
