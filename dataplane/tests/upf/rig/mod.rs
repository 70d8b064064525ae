//! A lab of four kernels for one test: subscriber, radio network, gateway, origin.
//!
//! ```text
//!   qu..ue             qu..ran                      qu..gw                     qu..origin
//!   ue0 (TUN)----------the test itself              the data plane             HTTP, UDP echo
//!   10.60.0.9          BaseStations 192.168.3.2, .3  N3, N4: 192.168.3.1       198.18.0.1, .2
//!   2001:db8:60:9::9   and fd00:3::2                 or N3: fd00:3::1          2001:db8:6::1, ::2
//!                      SMFs 192.168.3.4, .5, .6      n6 (TUN), routed to the
//!                      -------- n3 (veth) ---------  origin by the kernel ---- n6 (veth)
//! ```
//!
//! The test runs itself a second time inside the radio network's namespace, bounded in time; the
//! outer run makes the namespaces and removes them with all of their processes, however the inner
//! one ends.
//!
//! The oracle of every byte is the kernel: the counters of `n6`, whose `rx` are the packets that the
//! data plane forwarded uplink and whose `tx` those that it got for subscribers, and of `ue0`.

pub(crate) mod agent;
mod control;
mod namespaces;
mod plane;
mod radio;
mod rules;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use qlink_dataplane::DataplaneConfig;
use qlink_meter::{ArenaSet, Totals};
use qlink_pfcp::model::{Seid, SessionChange, UrrId};

pub(crate) use agent::run_agent;
pub(crate) use control::{Control, Opened};
pub(crate) use namespaces::{Carried, Names};
pub(crate) use plane::run_plane;
pub(crate) use radio::{Bearer, Framing, Heard, Mirror, Radio};
pub(crate) use rules::{Subscriber, downlink_far, filter, flow, through, volume};

/// How long anything may take that is waited for.
pub(crate) const WITHIN: Duration = Duration::from_secs(10);

/// How long a scenario may take.
const SCENARIO_WITHIN: Duration = Duration::from_secs(200);

/// Our endpoint for GTP-U and PFCP.
pub(crate) const GATEWAY: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 3, 1));
/// Our endpoint for GTP-U where N3 is of IPv6.
pub(crate) const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 3, 0, 0, 0, 0, 0, 1);
/// The BaseStations; the last one speaks IPv6.
pub(crate) const STATIONS: [IpAddr; 3] = [
    IpAddr::V4(Ipv4Addr::new(192, 168, 3, 2)),
    IpAddr::V4(Ipv4Addr::new(192, 168, 3, 3)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 3, 0, 0, 0, 0, 0, 2)),
];
/// The SMFs.
pub(crate) const SMFS: [Ipv4Addr; 3] = [
    Ipv4Addr::new(192, 168, 3, 4),
    Ipv4Addr::new(192, 168, 3, 5),
    Ipv4Addr::new(192, 168, 3, 6),
];
/// The origin, and another address of it.
pub(crate) const ORIGIN_V4: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(198, 18, 0, 1)),
    IpAddr::V4(Ipv4Addr::new(198, 18, 0, 2)),
];
/// The same over IPv6.
pub(crate) const ORIGIN_V6: [IpAddr; 2] = [
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 6, 0, 0, 0, 0, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 6, 0, 0, 0, 0, 2)),
];

/// Everything of one scenario, inside.
pub(crate) struct Lab {
    names: Names,
    folder: tempfile::TempDir,
    pub(crate) config: DataplaneConfig,
    plane: Option<Child>,
    /// The first SMF, associated.
    pub(crate) smf: Control,
    pub(crate) radio: Radio,
    origin: Child,
}

/// Runs `test` in a lab of its own.
pub(crate) fn scenario<F: FnOnce(&mut Lab)>(test: F) {
    scenario_with(|_| {}, test);
}

/// As [`scenario`], with a change to the data plane's configuration.
pub(crate) fn scenario_with<F: FnOnce(&mut Lab)>(change: fn(&mut DataplaneConfig), test: F) {
    match Names::inherited() {
        Some(names) => {
            let mut lab = Lab::new(names, change);
            test(&mut lab);
        }
        None => namespaces::run_inside(std::any::type_name::<F>(), SCENARIO_WITHIN),
    }
}

/// Whether everything is to be done as often as it is promised.
pub(crate) fn full_counts() -> bool {
    std::env::var_os("QLINK_LONG").is_some()
}

impl Lab {
    fn new(names: Names, change: fn(&mut DataplaneConfig)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = plane::configuration(folder.path());
        change(&mut config);
        let origin = agent::origin(&names);
        let radio = Radio::start();
        names.set_subscriber_up();
        let mut lab = Self {
            smf: Control::new(SMFS[0], 1_700_000_000),
            names,
            folder,
            config,
            plane: None,
            radio,
            origin,
        };
        lab.start_plane();
        lab.smf.associate();
        lab
    }

    /// Starts the data plane and waits until it answers.
    pub(crate) fn start_plane(&mut self) {
        assert!(self.plane.is_none(), "it runs already");
        self.plane = Some(plane::start(&self.names, &self.config));
    }

    /// Ends the data plane without warning.
    pub(crate) fn kill_plane(&mut self) {
        let mut plane = self.plane.take().unwrap();
        plane.kill().unwrap();
        plane.wait().unwrap();
    }

    /// Memory of the data plane that is not shared with files, in bytes.
    pub(crate) fn plane_memory(&self) -> u64 {
        let pid = self.plane.as_ref().unwrap().id();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("RssAnon:"));
        let kilobytes = line.unwrap().split_whitespace().next().unwrap();
        kilobytes.parse::<u64>().unwrap() * 1024
    }

    /// CPU time of the data plane's threads whose name starts with `name`, nanoseconds.
    pub(crate) fn plane_cpu_ns(&self, name: &str) -> u64 {
        let tasks = format!("/proc/{}/task", self.plane.as_ref().unwrap().id());
        let tasks = std::fs::read_dir(tasks).unwrap();
        let of_task = |task: PathBuf| {
            let read = |file| std::fs::read_to_string(task.join(file)).unwrap();
            let schedule = read("schedstat");
            let spent = schedule.split(' ').next().unwrap().parse::<u64>().unwrap();
            read("comm").starts_with(name).then_some(spent)
        };
        tasks.filter_map(|task| of_task(task.unwrap().path())).sum()
    }

    /// Bytes of the node's journal.
    pub(crate) fn journal_bytes(&self) -> u64 {
        let journal = &self.config.pfcp.as_ref().unwrap().journal;
        std::fs::metadata(journal).unwrap().len()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Opens a session of `subscriber`, gives him his addresses and attaches him to the first
    /// BaseStation.
    pub(crate) fn open(&mut self, subscriber: &Subscriber, rules: SessionChange) -> Opened {
        let opened = self.smf.establish(rules);
        self.attach(subscriber, &opened);
        opened
    }

    /// Gives a subscriber his addresses and a bearer for a session that stands.
    pub(crate) fn attach(&mut self, subscriber: &Subscriber, opened: &Opened) {
        self.attach_by(subscriber, subscriber.bearer(opened));
    }

    /// Gives a subscriber his addresses and this bearer.
    pub(crate) fn attach_by(&mut self, subscriber: &Subscriber, bearer: Bearer) {
        self.names.give_addresses(subscriber);
        self.radio.attach(bearer);
    }

    /// Runs a program as the subscriber to its success while PFCP goes on; what it printed.
    pub(crate) fn ue(&mut self, arguments: &[&str]) -> String {
        let child = self.start_ue(arguments);
        self.end(child)
    }

    /// Starts a program as the subscriber.
    pub(crate) fn start_ue(&self, arguments: &[&str]) -> Child {
        started(&mut self.names.inside("ue", arguments))
    }

    /// Waits for a program's success while PFCP goes on; what it printed.
    pub(crate) fn end(&mut self, mut child: Child) -> String {
        let deadline = Instant::now() + SCENARIO_WITHIN;
        while child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "a program does not end");
            self.smf.pump(Duration::from_millis(5));
        }
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{:?}: {text}{errors}",
            output.status
        );
        text
    }

    /// Runs this test's own program for subscribers; see [`agent`].
    pub(crate) fn agent(&mut self, arguments: &[&str]) -> String {
        let child = self.start_agent(arguments);
        self.end_agent(child)
    }

    /// Waits for one of this test's own programs; what it said.
    pub(crate) fn end_agent(&mut self, child: Child) -> String {
        agent::said(&self.end(child)).to_owned()
    }

    /// Starts this test's own program as the subscriber.
    pub(crate) fn start_agent(&self, arguments: &[&str]) -> Child {
        started(&mut agent::command(&self.names, "ue", arguments))
    }

    /// Runs this test's own program as the origin.
    pub(crate) fn origin_agent(&mut self, arguments: &[&str]) -> String {
        let child = self.start_origin_agent(arguments);
        self.end_agent(child)
    }

    /// Starts this test's own program as the origin.
    pub(crate) fn start_origin_agent(&self, arguments: &[&str]) -> Child {
        started(&mut agent::command(&self.names, "origin", arguments))
    }

    /// The first SMF ends without a word and is there again, with nothing that it knew; it says
    /// nothing before it is asked.
    pub(crate) fn restart_smf(&mut self, recovery: u64) {
        // Its port is free once it is gone.
        self.smf = Control::new(SMFS[2], recovery);
        self.smf = Control::new(SMFS[0], recovery);
    }

    /// Sends `count` datagrams of `size` payload bytes and waits for the echo of each; how many came
    /// back.
    pub(crate) fn echo(&mut self, to: (&Subscriber, IpAddr), count: u64, size: usize) -> u64 {
        let (from, to) = (to.0.like(to.1).to_string(), to.1.to_string());
        let (count, size) = (count.to_string(), size.to_string());
        let text = self.agent(&["echo", &from, &to, &count, &size]);
        text.trim().parse().unwrap()
    }

    /// Sends `count` datagrams of 100 payload bytes for which no echo comes.
    pub(crate) fn send(&mut self, to: (&Subscriber, IpAddr), count: u64) {
        let (from, to) = (to.0.like(to.1).to_string(), to.1.to_string());
        self.agent(&["push", &from, &to, &count.to_string(), "100", "0"]);
    }

    /// Fetches a body of `bytes` with curl as `subscriber`.
    pub(crate) fn fetch(&mut self, subscriber: &Subscriber, from: IpAddr, bytes: u64) {
        let (own, url) = (subscriber.like(from).to_string(), url(from, bytes));
        let arguments = ["-o", "/dev/null", "-w", "%{size_download}", &url];
        let got = self.curl(&own, &arguments);
        assert_eq!(got.parse(), Ok(bytes), "{got:?}");
    }

    /// Posts a body of `bytes` with curl as `subscriber`.
    pub(crate) fn post(&mut self, subscriber: &Subscriber, to: IpAddr, bytes: u64) {
        let body = self.path("body");
        std::fs::write(&body, vec![0x33; usize::try_from(bytes).unwrap()]).unwrap();
        let (own, url) = (subscriber.like(to).to_string(), url(to, 0));
        let data = format!("@{}", body.display());
        let arguments = ["-H", "Expect:", "--data-binary", &data, &url];
        let got = self.curl(&own, &arguments);
        assert_eq!(got.parse(), Ok(bytes), "{got:?}");
    }

    /// Runs curl with an own address.
    pub(crate) fn curl(&mut self, own: &str, arguments: &[&str]) -> String {
        let common = ["curl", "-gsS", "--fail", "-m", "60", "--interface", own];
        self.ue(&[&common, arguments].concat())
    }

    /// What the kernel carried between the data plane and the origin.
    pub(crate) fn n6(&self) -> Carried {
        self.names.carried("gw", "n6")
    }

    /// What the kernel carried between the radio network and the subscriber; `rx` is downlink.
    pub(crate) fn ue0(&self) -> Carried {
        self.names.carried("ue", "ue0")
    }

    /// [`Self::n6`] once nothing moves any more.
    pub(crate) fn settled(&mut self) -> Carried {
        let deadline = Instant::now() + WITHIN;
        let (mut last, mut since) = (self.n6(), Instant::now());
        loop {
            self.smf.pump(Duration::from_millis(20));
            let now = self.n6();
            if now != last {
                (last, since) = (now, Instant::now());
            } else if since.elapsed() > Duration::from_millis(120) {
                return last;
            }
            assert!(Instant::now() < deadline, "the traffic does not end");
        }
    }

    /// Packets that the data plane dropped for `reason`.
    pub(crate) fn drops(&self, reason: &str) -> u64 {
        let drops = ArenaSet::open(&self.config.arena).unwrap().drops();
        drops.get(reason).copied().unwrap_or(0)
    }

    pub(crate) fn totals(&self) -> Totals {
        ArenaSet::open(&self.config.arena).unwrap().totals()
    }

    /// Waits until `reason` has `count` drops while PFCP goes on.
    pub(crate) fn until_dropped(&mut self, reason: &str, count: u64) {
        let deadline = Instant::now() + WITHIN;
        while self.drops(reason) < count {
            let drops = ArenaSet::open(&self.config.arena).unwrap().drops();
            assert!(Instant::now() < deadline, "{reason}: {drops:?}");
            self.smf.pump(Duration::from_millis(5));
        }
    }

    /// Longest packets between the gateway and the origin.
    pub(crate) fn set_origin_mtu(&self, bytes: u16) {
        self.names.ip("gw", &format!("link set n6veth mtu {bytes}"));
        self.names.ip("origin", &format!("link set n6 mtu {bytes}"));
    }

    /// Routes a translator's pool to the data plane, and keeps subscribers' own addresses from the
    /// origin.
    pub(crate) fn hide_subscribers(&self, pool: &str) {
        self.names.ip("gw", &format!("route add {pool} dev n6"));
        let rules = "add table inet hidden; \
            add chain inet hidden in { type filter hook input priority 0; }; \
            add rule inet hidden in ip saddr 10.60.0.0/16 drop";
        let mut command = self.names.inside("origin", &["nft", rules]);
        assert!(command.status().unwrap().success());
    }

    /// Lets both kernels send datagrams without "don't fragment".
    pub(crate) fn let_subscribers_fragment(&self) {
        for place in ["ue", "origin"] {
            let set = "echo 1 >/proc/sys/net/ipv4/ip_no_pmtu_disc";
            let mut command = self.names.inside(place, &["sh", "-c", set]);
            assert!(command.status().unwrap().success());
        }
    }

    /// Loses each so manieth of a hundred packets on N3, at random, in both directions.
    pub(crate) fn lose(&self, percent: u8) {
        self.names.lose(percent);
    }

    /// Sessions that stand, as the data plane's arena shows them.
    pub(crate) fn sessions(&self) -> usize {
        let sessions = ArenaSet::open(&self.config.arena).unwrap().sessions();
        sessions.iter().filter(|session| session.is_live()).count()
    }

    /// Places in the arena that usage rules take.
    pub(crate) fn urr_rows(&self) -> usize {
        let arena = ArenaSet::open(&self.config.arena).unwrap();
        arena
            .workers()
            .iter()
            .map(|worker| worker.urrs().count())
            .sum()
    }

    /// Ends a session; everything that usage rule 1 ever reported is what the kernel carried since
    /// `before`.
    pub(crate) fn end_exactly(&mut self, session: Seid, before: Carried) {
        let now = self.settled();
        self.smf.delete(session);
        let (up, down) = self.smf.volume(session, UrrId::new(1));
        let carried = (now.rx - before.rx, now.tx - before.tx);
        // One worker may have more packets for another than that one takes in time.
        if self.drops("handover_full") > 0 {
            assert_eq!(up, carried.0, "reported and carried uplink");
            assert!(down <= carried.1, "{down} reported, {} came", carried.1);
        } else {
            assert_eq!((up, down), carried, "reported and carried");
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let drops = ArenaSet::open(&self.config.arena).map(|arena| arena.drops());
            let drops = drops.map(|mut drops| {
                drops.retain(|_, count| *count > 0);
                drops
            });
            eprintln!("drops: {drops:?}\n{}", self.smf.story());
        }
        for child in self.plane.iter_mut().chain([&mut self.origin]) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn started(command: &mut Command) -> Child {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Where the origin has a body of `bytes`.
pub(crate) fn url(origin: IpAddr, bytes: u64) -> String {
    format!("http://{}/{bytes}", SocketAddr::new(origin, 80))
}
