//! The network namespaces: made and removed by the outer run, used by the inner one.

use std::fs::File;
use std::net::IpAddr;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::Subscriber;

/// Names the prefix of the namespaces to the inner run.
const INHERITED: &str = "QLINK_UPF_LAB";

const PLACES: [&str; 4] = ["ue", "ran", "gw", "origin"];

/// What scenarios call.
const PROGRAMS: [&str; 5] = ["ip", "nft", "curl", "ping", "sh"];

/// Makes the network; `$1` is the prefix of the namespaces.
const MAKE: &str = r#"
set -eu
for place in ue ran gw origin; do
    ip netns add "$1$place"
    ip -n "$1$place" link set lo up
done
ip -batch - <<LINKS
link add n3 netns $1gw type veth peer name n3 netns $1ran
link add n6veth netns $1gw type veth peer name n6 netns $1origin
LINKS
ip -n "$1ran" -batch - <<RAN
link set n3 addrgenmode none
addr add 192.168.3.2/24 dev n3
addr add 192.168.3.3/24 dev n3
addr add 192.168.3.4/24 dev n3
addr add 192.168.3.5/24 dev n3
addr add 192.168.3.6/24 dev n3
addr add fe80::3:2/64 dev n3 nodad
addr add fd00:3::2/64 dev n3 nodad
link set n3 up
RAN
ip -n "$1origin" -batch - <<ORIGIN
link set n6 addrgenmode none
addr add 198.18.0.1/24 dev n6
addr add 198.18.0.2/24 dev n6
addr add fe80::1/64 dev n6 nodad
addr add 2001:db8:6::1/64 dev n6 nodad
addr add 2001:db8:6::2/64 dev n6 nodad
link set n6 up
route add default via 198.18.0.254
route add ::/0 via 2001:db8:6::fe
ORIGIN
ip -n "$1gw" -batch - <<GATEWAY
link set n3 addrgenmode none
link set n6veth addrgenmode none
addr add 192.168.3.1/24 dev n3
addr add fe80::3:1/64 dev n3 nodad
addr add fd00:3::1/64 dev n3 nodad
addr add 198.18.0.254/24 dev n6veth
addr add fe80::fe/64 dev n6veth nodad
addr add 2001:db8:6::fe/64 dev n6veth nodad
tuntap add n6 mode tun
link set n6 mtu 9000
link set n6 txqueuelen 10000
link set n6 addrgenmode none
link set n3 up
link set n6veth up
link set n6 up
route add 10.60.0.0/16 dev n6
route add 2001:db8:60::/48 dev n6
GATEWAY
ip netns exec "$1gw" sh -c '
    echo 1 >/proc/sys/net/ipv4/ip_forward
    echo 1 >/proc/sys/net/ipv6/conf/all/forwarding'
# More connections at once than the origin's queue holds wait for their turn.
ip netns exec "$1origin" sh -c 'echo 0 >/proc/sys/net/ipv4/tcp_syncookies'
# What the gateway's own kernel says to everybody on n6 is no subscriber's packet.
ip netns exec "$1gw" nft -f - <<QUIET
table inet quiet {
    chain out {
        type filter hook output priority 0; policy accept;
        oifname "n6" ip6 daddr ff00::/8 drop
        oifname "n6" meta l4proto igmp drop
    }
}
QUIET
# Nor are the words of a subscriber's kernel about datagrams that nobody asked for traffic to count.
ip netns exec "$1ue" nft -f - <<QUIET
table inet quiet {
    chain out {
        type filter hook output priority 0; policy accept;
        icmp type destination-unreachable drop
        icmpv6 type destination-unreachable drop
        ip6 daddr ff00::/8 drop
    }
}
QUIET
"#;

/// The namespaces of one scenario.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    prefix: String,
}

/// What an interface carried: bytes and packets, as the kernel counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Carried {
    pub(crate) rx: u64,
    pub(crate) tx: u64,
    pub(crate) rx_packets: u64,
    pub(crate) tx_packets: u64,
}

impl Names {
    /// The namespaces that the outer run made; `None` in the outer run.
    pub(crate) fn inherited() -> Option<Self> {
        let prefix = std::env::var(INHERITED).ok()?;
        Some(Self { prefix })
    }

    pub(crate) fn of(&self, place: &str) -> String {
        format!("{}{place}", self.prefix)
    }

    /// A command in a namespace.
    pub(crate) fn inside(&self, place: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.of(place)]);
        command.args(arguments);
        command
    }

    /// Runs `ip` on a namespace to its success; what it printed.
    pub(crate) fn ip(&self, place: &str, words: &str) -> String {
        let mut command = Command::new("ip");
        command.args(["-n", &self.of(place)]);
        succeed(command.args(words.split_whitespace()))
    }

    /// Moves the interface of subscribers from here to them and brings it up.
    pub(super) fn set_subscriber_up(&self) {
        self.ip("ran", &format!("link set ue0 netns {}", self.of("ue")));
        self.ip("ue", "link set ue0 addrgenmode none");
        self.ip("ue", "link set ue0 up");
        self.ip("ue", "route add default dev ue0");
        self.ip("ue", "-6 route add default dev ue0");
    }

    /// Gives the subscriber's kernel his addresses.
    pub(super) fn give_addresses(&self, subscriber: &Subscriber) {
        if let Some(v4) = subscriber.v4 {
            self.ip("ue", &format!("addr replace {v4}/32 dev ue0"));
        }
        if let Some(v6) = subscriber.v6 {
            self.ip("ue", &format!("addr replace {v6}/128 dev ue0 nodad"));
        }
    }

    /// Drops each so manieth of a hundred packets that come over N3, at random, on both sides.
    pub(super) fn lose(&self, percent: u8) {
        let rules = format!(
            "table inet loss {{ chain in {{ type filter hook prerouting priority -300; \
             iifname \"n3\" udp dport 2152 numgen random mod 100 < {percent} drop; }}; }}"
        );
        for place in ["ran", "gw"] {
            succeed(&mut self.inside(place, &["nft", &rules]));
        }
    }

    /// What an interface carried.
    pub(crate) fn carried(&self, place: &str, interface: &str) -> Carried {
        let text = self.ip(place, &format!("-j -s link show dev {interface}"));
        let all: Value = serde_json::from_str(&text).unwrap();
        let of = |side: &str, what: &str| all[0]["stats64"][side][what].as_u64().unwrap();
        Carried {
            rx: of("rx", "bytes"),
            tx: of("tx", "bytes"),
            rx_packets: of("rx", "packets"),
            tx_packets: of("tx", "packets"),
        }
    }
}

/// Whether two addresses are of one version.
pub(crate) const fn alike(one: IpAddr, other: IpAddr) -> bool {
    one.is_ipv4() == other.is_ipv4()
}

/// Runs a command to its success; what it printed.
pub(super) fn succeed(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(
        output.status.success(),
        "{:?}: {}",
        command.get_args().last(),
        told(&output)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn told(output: &Output) -> String {
    let out = String::from_utf8_lossy(&output.stdout);
    format!("{out}{}", String::from_utf8_lossy(&output.stderr))
}

/// Runs the test whose closure has this type's name again, inside.
pub(super) fn run_inside(closure: &str, within: Duration) {
    if let Some(why) = missing() {
        println!("skipped: {why}");
        return;
    }
    let path = closure.trim_end_matches("::{{closure}}");
    let (_, test) = path.split_once("::").unwrap();
    let network = Network::new();
    let output = network.run(test, within);
    assert!(output.status.success(), "{}", told(&output));
    // That it ran at all and was not filtered out.
    let out = String::from_utf8_lossy(&output.stdout);
    assert!(out.contains("1 passed"), "{test}: {out}");
    print!("{out}");
}

/// The namespaces, removed when dropped.
struct Network {
    names: Names,
}

impl Network {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("qu{}x{number}", std::process::id());
        let network = Self {
            names: Names { prefix },
        };
        let mut make = Command::new("sh");
        succeed(make.args(["-c", MAKE, "make", &network.names.prefix]));
        network
    }

    fn run(&self, test: &str, within: Duration) -> Output {
        let folder = tempfile::tempdir().unwrap();
        let (out, err) = (folder.path().join("out"), folder.path().join("err"));
        let program = std::env::current_exe().unwrap();
        let arguments = [program.to_str().unwrap(), test, "--exact", "--nocapture"];
        let mut child = self
            .names
            .inside("ran", &arguments)
            .env(INHERITED, &self.names.prefix)
            .stdin(Stdio::null())
            .stdout(File::create(&out).unwrap())
            .stderr(File::create(&err).unwrap())
            .spawn()
            .unwrap();
        let in_time = ends(&mut child, within);
        if !in_time {
            self.kill_all();
        }
        let status = child.wait().unwrap();
        let mut stderr = std::fs::read(err).unwrap();
        if !in_time {
            stderr.extend(format!("\nnot done within {within:?}").bytes());
        }
        let stdout = std::fs::read(out).unwrap();
        Output {
            status,
            stdout,
            stderr,
        }
    }

    /// Ends every process in the namespaces.
    fn kill_all(&self) {
        for place in PLACES {
            let mut list = Command::new("ip");
            let listed = list.args(["netns", "pids", &self.names.of(place)]).output();
            let pids = listed.map(|output| output.stdout).unwrap_or_default();
            for pid in String::from_utf8_lossy(&pids).split_whitespace() {
                let _ = Command::new("kill").args(["-KILL", pid]).status();
            }
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.kill_all();
        for place in PLACES {
            let mut delete = Command::new("ip");
            let _ = delete
                .args(["netns", "del", &self.names.of(place)])
                .output();
        }
    }
}

fn ends(child: &mut Child, within: Duration) -> bool {
    let deadline = Instant::now() + within;
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    true
}

/// Why no lab can be made here.
fn missing() -> Option<String> {
    let id = Command::new("id").arg("-u").output().ok()?;
    if id.stdout != b"0\n" {
        return Some("network namespaces need root".to_owned());
    }
    if !Path::new("/dev/net/tun").exists() {
        return Some("no /dev/net/tun".to_owned());
    }
    let folders = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];
    let is_there = |program: &str| {
        let mut places = folders.iter().map(|folder| Path::new(folder).join(program));
        places.any(|place| place.exists())
    };
    let absent = PROGRAMS.iter().find(|program| !is_there(program))?;
    Some(format!("{absent} is not installed"))
}
