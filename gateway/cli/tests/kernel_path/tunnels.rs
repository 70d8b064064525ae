//! BaseStations behind translators.

use std::time::{Duration, Instant};

use crate::lab::{Classes, FILM, FILM_UNITS, Lab, Settings};

/// A BaseStation behind a translator, with a tunnel.
const TUNNEL: Settings = &[("QLINK_LAB_LINK", "tunnel")];

/// Fetches the film at half a megabyte a second and does something meanwhile; what curl got must be
/// the film and be billed exactly.
fn fetch_while(lab: &Lab, meanwhile: impl FnOnce()) -> Classes {
    let ue = lab.open("one");
    let file = lab.dir.join("ue/film");
    let slow = ["--limit-rate", "500k", "-o", file.to_str().unwrap()];
    // The last of two limits counts.
    let patient = ["-m", "80", "http://198.18.0.1/film"];
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
