//! BaseStations behind translators.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::lab::{Classes, FILM, FILM_UNITS, Lab, Settings};

/// A BaseStation behind a translator, with a tunnel.
const TUNNEL: Settings = &[("QLINK_LAB_LINK", "tunnel")];

/// The same, which changes its key as often as it can: some ten seconds each time.
const ROTATING: Settings = &[("QLINK_LAB_LINK", "tunnel"), ("QLINK_LAB_ROTATE", "5s")];

/// The program under test.
const QLINK: &str = env!("CARGO_BIN_EXE_qlink");

impl Lab {
    fn path(&self, inside: &str) -> String {
        self.dir.join(inside).to_str().unwrap().to_owned()
    }

    fn log(&self, component: &str) -> String {
        std::fs::read_to_string(self.path(&format!("logs/{component}.log"))).unwrap()
    }

    /// Waits until a component's log tells something so many times.
    fn until_told(&self, component: &str, what: &str, times: usize) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.log(component).matches(what).count() < times {
            assert!(Instant::now() < deadline, "{}", self.log(component));
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// `qlink tunnel` on the gateway's machine, with the gateway's configuration.
    fn rule(&self, arguments: &[&str]) -> Vec<Value> {
        let config = self.path("config/gateway.toml");
        let (verb, rest) = arguments.split_first().unwrap();
        let command = [&[QLINK, "tunnel", verb, "--gateway", &config], rest].concat();
        let lines = self.inside("gw", &command);
        let lines = lines
            .lines()
            .map(|line| serde_json::from_str(line).unwrap());
        lines.collect()
    }

    /// The denials that stand.
    fn denials(&self) -> Vec<Value> {
        let lines = self.rule(&["list"]).into_iter();
        let denials = lines.filter_map(|mut line| line.get_mut("denied").map(Value::take));
        denials.collect()
    }

    fn basestation(&self) -> String {
        let config = std::fs::read_to_string(self.path("config/basestation.toml")).unwrap();
        let config: toml::Table = config.parse().unwrap();
        config["basestation"].as_str().unwrap().to_owned()
    }

    fn signal(&self, component: &str, signal: &str) {
        let pid = std::fs::read_to_string(self.path(&format!("pids/{component}"))).unwrap();
        let sent = Command::new("kill").args([signal, pid.trim()]).status();
        assert!(sent.unwrap().success());
    }

    /// Whether a subscriber gets anything within three seconds.
    fn is_served(&self, ue: &str) -> bool {
        let curl = ["exec", "ue", "curl", "-sS", "--fail", "-m", "3", "-I"];
        let to = ["--interface", ue, "http://198.18.0.1/film"];
        let output = self.command(&[&curl[..], &to].concat()).output();
        output.unwrap().status.success()
    }
}

/// Fetches the film at half a megabyte a second and does something meanwhile; what curl got must be
/// the film and be billed exactly.
fn fetch_while(lab: &Lab, meanwhile: impl FnOnce()) -> Classes {
    let ue = lab.open("one");
    let file = lab.dir.join("ue/film");
    let slow = ["--limit-rate", "500k", "-o", file.to_str().unwrap()];
    // The last of two limits counts.
    let patient = ["-m", "200", "http://198.18.0.1/film"];
    // What curl has not read yet stays on the way, else the whole film waits in the kernel.
    let short = "echo 4096 32768 65536 >/proc/sys/net/ipv4/tcp_rmem";
    lab.inside("ue", &["sh", "-c", short]);

    std::thread::scope(|scope| {
        scope.spawn(|| lab.curl(&ue, &[&slow[..], &patient].concat()));
        std::thread::sleep(Duration::from_secs(1));
        meanwhile();
    });

    let film = std::fs::read(lab.dir.join("www/film")).unwrap();
    assert!(std::fs::read(file).unwrap() == film, "curl got other bytes");
    let classes = lab.settled("one");
    assert_eq!(classes.of("verified_unique"), FILM);
    assert_eq!(classes.of("user_charged"), 0);
    assert_eq!(lab.close("one", FILM), FILM_UNITS);
    classes
}

#[test]
fn a_tunnel_behind_a_translator_that_rebinds_and_loses_bills_exactly() {
    let Some(lab) = Lab::up_with(TUNNEL) else {
        return;
    };
    lab.run(&["loss", "2"]);

    let classes = fetch_while(&lab, || {
        lab.run(&["rebind"]);
    });

    assert!(classes.of("retransmit") > 0, "nothing was lost");
    // The log follows once a second; without traffic the keepalive, each 25 s, is what roams.
    let told = || std::fs::read_to_string(lab.dir.join("logs/dataplane.log")).unwrap();
    let deadline = Instant::now() + Duration::from_secs(40);
    while !told().contains("\"roamed\":1") {
        assert!(Instant::now() < deadline, "{}", told());
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn a_data_plane_killed_behind_a_tunnel_is_found_again() {
    let Some(lab) = Lab::up_with(TUNNEL) else {
        return;
    };

    // The subscriber only receives, so the BaseStation has nothing to send by which it would notice:
    // the gateway has to call.
    fetch_while(&lab, || {
        lab.run(&["kill", "dataplane"]);
    });
}

#[test]
fn a_basestation_killed_behind_a_translator_comes_back_by_its_key() {
    let Some(lab) = Lab::up_with(TUNNEL) else {
        return;
    };
    lab.run(&["kill", "basestation"]);

    fetch_while(&lab, || {});
}

#[test]
fn a_tunnel_key_that_is_changed_again_and_again_loses_no_packet() {
    let Some(lab) = Lab::up_with(ROTATING) else {
        return;
    };
    let renewed = || {
        lab.log("basestation")
            .matches("the tunnel is renewed")
            .count()
    };

    // The first new key comes while the film does.
    fetch_while(&lab, || {});
    let ue = lab.open("two");
    let deadline = Instant::now() + Duration::from_secs(90);
    while renewed() < 3 {
        assert!(Instant::now() < deadline, "{}", lab.log("basestation"));
        assert!(lab.is_served(&ue));
    }

    // Neither end saw a packet that it could not open, or had one that it could not send.
    assert!(!lab.log("dataplane").contains("the tunnel refused"));
    for reason in ["send_refused", "gateway_unknown", "gateway_mismatch"] {
        assert_eq!(lab.radio_drops(reason), 0, "{reason}");
    }
    // The key that it has now stands in its file, and the gateway knows no other.
    lab.signal("basestation", "-STOP");
    let key = lab.path("keys/tunnel-basestation");
    let key = lab.inside("bs", &[QLINK, "key", "tunnel", &key]);
    lab.signal("basestation", "-CONT");
    assert!(
        lab.log("basestation")
            .contains(key.trim().split('"').nth(3).unwrap())
    );
    assert_eq!(lab.rule(&["list"]).len(), 1);
}

#[test]
fn a_basestation_that_the_data_plane_has_lost_enrols_again_by_itself() {
    let Some(lab) = Lab::up_with(TUNNEL) else {
        return;
    };
    let key = lab.inside(
        "bs",
        &[QLINK, "key", "tunnel", &lab.path("keys/tunnel-basestation")],
    );
    let key: Value = serde_json::from_str(&key).unwrap();
    let socket = lab.path("sockets/dataplane");

    fetch_while(&lab, || {
        let remove = [QLINK, "tunnel", "remove", "--dataplane", &socket];
        lab.inside(
            "gw",
            &[&remove[..], &[key["key"].as_str().unwrap()]].concat(),
        );
    });
}

#[test]
fn a_gateway_with_another_key_at_another_port_is_found_again() {
    let Some(lab) = Lab::up_with(TUNNEL) else {
        return;
    };

    fetch_while(&lab, || {
        let other = lab.path("keys/other");
        lab.inside("gw", &[QLINK, "key", "new", &other]);
        std::fs::rename(other, lab.path("keys/tunnel-gateway")).unwrap();
        for file in ["config/dataplane.toml", "config/gateway.toml"] {
            let config = std::fs::read_to_string(lab.path(file)).unwrap();
            assert!(config.contains(":51820"), "{config}");
            std::fs::write(lab.path(file), config.replace(":51820", ":51821")).unwrap();
        }
        lab.run(&["kill", "gateway"]);
        lab.run(&["kill", "dataplane"]);
    });
}

#[test]
fn a_denied_basestation_stays_out_over_a_kill_and_comes_back_when_it_is_allowed() {
    let Some(lab) = Lab::up_with(TUNNEL) else {
        return;
    };
    let ue = lab.open("one");
    assert!(lab.is_served(&ue));
    let station = lab.basestation();
    let deny = ["deny", "--basestation", &station, "--reason", "lost"];

    // The gateway dies after it has written the denial and before the data plane has heard of it.
    lab.signal("dataplane", "-STOP");
    std::thread::scope(|scope| {
        let config = lab.path("config/gateway.toml");
        let arguments = [
            &["exec", "gw", QLINK, "tunnel"],
            &deny[..],
            &["--gateway", &config],
        ];
        let denying = lab.command(&arguments.concat()).spawn();
        scope.spawn(move || denying.unwrap().wait().unwrap());
        let deadline = Instant::now() + Duration::from_secs(8);
        while lab.denials().is_empty() {
            assert!(Instant::now() < deadline, "the denial is not written");
        }
        assert_eq!(lab.denials()[0]["state"], "pending");
        lab.signal("gateway", "-KILL");
        lab.signal("dataplane", "-CONT");
    });
    lab.run(&["kill", "gateway"]);

    let deadline = Instant::now() + Duration::from_secs(20);
    while lab.denials()[0]["state"] != "in_effect" {
        assert!(Instant::now() < deadline, "{:?}", lab.denials());
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(
        lab.json(&["session", "one"])["ended_by"],
        "basestation_denied"
    );
    assert!(!lab.is_served(&ue));
    // It notices that nobody answers, and is told why.
    lab.until_told("basestation", "basestation_denied", 1);
    assert!(lab.log("basestation").contains("lost"));
    let opened = lab.command(&["open", "two"]).output().unwrap();
    assert!(!opened.status.success());

    lab.rule(&["allow", "--basestation", &station]);

    assert!(lab.denials().is_empty());
    // Its owner hears that the session has ended, and opens another.
    let closed = lab.json(&["close", "one"]);
    assert_eq!(closed["ended_by"], "basestation_denied");
    let ue = lab.open("three");
    let deadline = Instant::now() + Duration::from_secs(60);
    while !lab.is_served(&ue) {
        assert!(Instant::now() < deadline, "{}", lab.log("basestation"));
    }
    let figures = lab.inside(
        "gw",
        &[
            QLINK,
            "top",
            "--once",
            "--output",
            "json",
            "--dataplane",
            &lab.path("sockets/dataplane"),
        ],
    );
    let figures: Value = serde_json::from_str(&figures).unwrap();
    assert_eq!(figures["tunnel"]["with_keys"], "1");
    // What it sent meanwhile was for keys that nobody had.
    assert_ne!(figures["tunnel"]["refused"], "0", "{figures}");
}
