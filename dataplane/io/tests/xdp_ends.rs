//! XDP ports from their opening to their end: queues, modes, privileges, and what a killed process
//! leaves.
#![expect(clippy::unwrap_used, reason = "test code")]

mod rig;

use std::net::UdpSocket;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use qlink_io::xdp::frame::Envelope;
use qlink_io::xdp::{
    AttachChoice, AttachMode, CopyChoice, CopyMode, NeighbourKeeper, Steering, SteeringRule,
    Support, XdpConfig, XdpError, XdpPort, available,
};
use qlink_io::{Burst, IoError, PacketSource as _};
use qlink_wire::GTPU_PORT;
use rig::site::{Site, ip, open, port};
use rig::{Namespace, RawSocket, veth};

#[test]
fn every_queue_has_its_own_port() {
    let Some(site) = Site::new() else { return };
    let (left, right) = (&site.station, &site.plane);
    veth((left, "q0"), (right, "q1"), "numrxqueues 4 numtxqueues 4");
    left.up("q0", &["10.0.4.7/24"]);
    right.up("q1", &["10.0.4.1/24"]);
    let rule = SteeringRule::N3 {
        endpoints: vec![ip("10.0.4.1")],
    };
    let steering = right.run(|| Steering::attach("q1", &rule, AttachChoice::Best).unwrap());
    assert_eq!(steering.interface().rx_queues, 4);
    let mut ports: Vec<XdpPort> = (0..4)
        .map(|queue| right.run(|| open(&steering, queue, Envelope::Ethernet).unwrap()))
        .collect();
    let refused = right.run(|| open(&steering, 4, Envelope::Ethernet).unwrap_err());

    for number in 0..200_u16 {
        let client = left.run(|| UdpSocket::bind(("10.0.4.7", 20_000 + number)).unwrap());
        client.send_to(&[0; 30], ("10.0.4.1", GTPU_PORT)).unwrap();
    }

    let mut burst = Burst::new();
    let mut seen = 0;
    for _ in 0..1000 {
        for port in &mut ports {
            seen += port.recv_burst(&mut burst).unwrap();
        }
        std::thread::sleep(Duration::from_millis(1));
        if seen == 200 {
            break;
        }
    }
    assert_eq!(seen, 200);
    assert!(
        matches!(
            refused,
            XdpError::Setting {
                setting: "queue",
                ..
            }
        ),
        "{refused}"
    );
}

#[test]
fn a_queue_or_interface_in_use_is_named_and_one_just_closed_is_waited_for() {
    let Some(site) = Site::new() else { return };
    let attach = || {
        site.plane
            .run(|| Steering::attach("n3", &Site::n3_rule(), AttachChoice::Best))
    };
    let open = |steering: &Arc<Steering>| site.plane.run(|| open(steering, 0, Envelope::Ethernet));
    let steering = attach().unwrap();
    let port = open(&steering).unwrap();

    let queue = open(&steering).unwrap_err();
    let interface = attach().unwrap_err();

    assert!(
        matches!(queue, XdpError::QueueBusy { queue: 0, .. }),
        "{queue}"
    );
    assert!(
        matches!(interface, XdpError::Occupied { .. }),
        "{interface}"
    );
    drop((port, steering));
    for _ in 0..20 {
        let steering = attach().unwrap();
        drop(open(&steering).unwrap());
        drop(open(&steering).unwrap());
    }
}

#[test]
fn an_interface_without_native_programs_gets_the_generic_mode() {
    let Some(namespace) = Namespace::new() else {
        return;
    };

    let steering = namespace.run(|| Steering::attach("lo", &Site::n3_rule(), AttachChoice::Best));
    let native = namespace.run(|| {
        let only = AttachChoice::Only(AttachMode::Native);
        Steering::attach("lo", &Site::n3_rule(), only)
    });

    assert_eq!(steering.unwrap().mode(), AttachMode::Generic);
    assert!(native.is_err());
}

#[test]
fn the_doctor_is_told_what_an_interface_offers_and_disturbs_nothing() {
    let Some(site) = Site::new() else { return };

    let (veth, loopback, none) = site.plane.run(|| {
        (
            available("n3", 2048),
            available("lo", 2048),
            available("nosuch0", 2048),
        )
    });

    let veth = veth.unwrap();
    assert!(
        matches!(
            veth.support,
            Support::Native | Support::NativeZeroCopy | Support::Unknown
        ),
        "{veth:?}"
    );
    assert!(!site.plane.interface("n3").has_program);
    assert!(matches!(
        loopback.unwrap().support,
        Support::Generic | Support::Unknown
    ));
    assert!(matches!(none, Err(XdpError::NoInterface { .. })));
}

#[test]
fn zero_copy_alone_is_refused_where_the_driver_copies() {
    let Some(site) = Site::new() else { return };
    let steering = site
        .plane
        .run(|| Steering::attach("n3", &Site::n3_rule(), AttachChoice::Best).unwrap());
    let keeper = NeighbourKeeper::new(1, vec![]).unwrap();
    let config = XdpConfig {
        copy: CopyChoice::Only(CopyMode::ZeroCopy),
        ..XdpConfig::new(Envelope::Ethernet)
    };

    let reader = keeper.reader();
    let refused = site
        .plane
        .run(|| XdpPort::open(&steering, 0, &config, reader).unwrap_err());

    assert!(refused.to_string().contains("binding"), "{refused}");
}

// The number of an interface means another one there: nothing must ever be bound to it.
#[test]
fn a_port_is_not_opened_from_another_namespace() {
    let Some(site) = Site::new() else { return };
    let steering = site
        .plane
        .run(|| Steering::attach("n3", &Site::n3_rule(), AttachChoice::Best).unwrap());
    veth((&site.station, "n3"), (&site.origin, "x3"), "");
    site.station.up("n3", &[]);

    for elsewhere in [&site.origin, &site.station] {
        let refused = elsewhere.run(|| open(&steering, 0, Envelope::Ethernet).unwrap_err());
        assert!(matches!(refused, XdpError::NoInterface { .. }), "{refused}");
    }
}

#[test]
fn a_link_that_goes_down_comes_back_and_one_removed_is_an_error() {
    let Some(site) = Site::new() else { return };
    let rule = Site::n3_rule();
    let mut port = port(
        &site.plane,
        "n3",
        &rule,
        Envelope::Ethernet,
        AttachChoice::Best,
    );
    let station = RawSocket::open(&site.station, "s3");
    let mut burst = Burst::new();

    site.plane.ip("link set n3 down");
    let while_down = port.recv_burst(&mut burst);
    site.plane.ip("link set n3 up");
    let frame = site.uplink(1, 100);
    let started = Instant::now();
    // The other side learns only after a while that the link is back, and drops until then.
    let after = loop {
        station.send(&frame);
        match port.recv_burst(&mut burst) {
            Ok(0) if started.elapsed() < Duration::from_secs(10) => {
                std::thread::sleep(Duration::from_millis(10));
            }
            result => break result,
        }
    };
    site.plane.ip("link del n3");
    let removed = port.recv_burst(&mut burst);

    assert!(matches!(while_down, Ok(0)), "{while_down:?}");
    assert!(matches!(after, Ok(1..)), "{after:?}");
    assert!(matches!(removed, Err(IoError::Xdp(_))), "{removed:?}");
}

const CHILD: &str = "QLINK_TEST_XDP_CHILD";

/// The child's part: does what it is told on interface n3 and waits to be killed, or says why not.
#[test]
fn child_of_other_tests() {
    match std::env::var(CHILD).as_deref() {
        Ok("hold") => {
            let steering = Steering::attach("n3", &Site::n3_rule(), AttachChoice::Best).unwrap();
            let _port = open(&steering, 0, Envelope::Ethernet).unwrap();
            println!("held");
            std::thread::sleep(Duration::from_secs(30));
        }
        Ok("try") => {
            let result = available("n3", 2048).and_then(|_| {
                for (interface, rule) in [("n3", Site::n3_rule()), ("n6", Site::n6_rule())] {
                    let steering = Steering::attach(interface, &rule, AttachChoice::Best)?;
                    open(&steering, 0, Envelope::Ethernet)?;
                }
                Ok(())
            });
            match result {
                Ok(()) => println!("fine"),
                Err(error) => println!("{error}"),
            }
        }
        _ => {} // only meaningful when a test below starts it
    }
}

/// This test binary again, in the plane's namespace, behind `wrapper`.
fn child(site: &Site, part: &str, wrapper: &[&str]) -> Child {
    let binary = std::env::current_exe().unwrap();
    let mut words: Vec<&str> = wrapper.to_vec();
    words.push(binary.to_str().unwrap());
    site.plane.run(|| {
        Command::new(words[0])
            .args(&words[1..])
            .args(["--exact", "child_of_other_tests", "--nocapture"])
            .env(CHILD, part)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    })
}

#[test]
fn a_killed_process_leaves_the_interface_clean() {
    let Some(site) = Site::new() else { return };
    for _ in 0..3 {
        let mut child = child(&site, "hold", &[]);
        let started = Instant::now();
        while !site.plane.interface("n3").has_program {
            assert!(
                started.elapsed() < Duration::from_secs(20),
                "never attached"
            );
            std::thread::sleep(Duration::from_millis(5));
        }

        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(9));

        // The kernel may detach a moment later; the next owner waits for it.
        let port = port(
            &site.plane,
            "n3",
            &Site::n3_rule(),
            Envelope::Ethernet,
            AttachChoice::Best,
        );
        drop(port);
        let started = Instant::now();
        while site.plane.interface("n3").has_program {
            assert!(started.elapsed() < Duration::from_secs(5), "still attached");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

#[test]
fn a_killed_process_alone_detaches_its_program() {
    let Some(site) = Site::new() else { return };
    let mut child = child(&site, "hold", &[]);
    let started = Instant::now();
    while !site.plane.interface("n3").has_program {
        assert!(
            started.elapsed() < Duration::from_secs(20),
            "never attached"
        );
        std::thread::sleep(Duration::from_millis(5));
    }

    child.kill().unwrap();
    child.wait().unwrap();

    let started = Instant::now();
    while site.plane.interface("n3").has_program {
        assert!(started.elapsed() < Duration::from_secs(5), "still attached");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What a child without all privileges says.
fn said_behind(wrapper: &[&str]) -> Option<String> {
    let site = Site::new()?;
    let output = child(&site, "try", wrapper).wait_with_output().unwrap();
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn the_three_capabilities_suffice_and_each_is_needed() {
    let all = "--bounding-set=-all,+net_raw,+net_admin,+bpf";
    let Some(said) = said_behind(&["setpriv", all]) else {
        return;
    };
    assert!(said.contains("fine"), "{said}");
    for lacking in [
        "--bounding-set=-all,+net_admin,+bpf",
        "--bounding-set=-all,+net_raw,+bpf",
        "--bounding-set=-all,+net_raw,+net_admin",
    ] {
        let said = said_behind(&["setpriv", lacking]).unwrap();
        assert!(
            said.contains("CAP_NET_RAW, CAP_NET_ADMIN and CAP_BPF"),
            "{lacking}: {said}"
        );
    }
}

#[test]
fn too_little_lockable_memory_is_named_with_the_fix() {
    let caps = "--bounding-set=-all,+net_raw,+net_admin,+bpf";
    let wrapper = ["prlimit", "--memlock=65536:65536", "setpriv", caps];
    let Some(said) = said_behind(&wrapper) else {
        return;
    };

    assert!(
        said.contains("RLIMIT_MEMLOCK is 65536 bytes") && said.contains("LimitMEMLOCK="),
        "{said}"
    );
}
