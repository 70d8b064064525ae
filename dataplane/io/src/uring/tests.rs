//! Claims about the port over io_uring, held by the real kernel on loopback.

use std::thread;
use std::time::Duration;

use qlink_wire::LinkType;

use super::{UringPort, available};
use crate::burst::BURST_MAX;
use crate::udp::traffic::{SECOND, bodies, items, joined, receive};
use crate::udp::{Checksum, DATAGRAM_MAX, Offload, UdpOptions, UdpPort};
use crate::{Burst, IoError, Outgoing, PacketSource};

fn options(offload: Offload) -> UdpOptions {
    UdpOptions {
        offload,
        checksum: Checksum::Present,
    }
}

fn try_bind(host: &str, offload: Offload) -> Result<UringPort, IoError> {
    UringPort::bind_with(host.parse().unwrap(), LinkType::RawIp, options(offload))
}

/// A port, or `None` where io_uring is forbidden.
fn bound(offload: Offload) -> Option<UringPort> {
    if let Err(error) = available() {
        println!("skipped: no io_uring: {error}");
        return None;
    }
    Some(try_bind("127.0.0.1:0", offload).unwrap())
}

#[test]
fn packets_and_order_are_those_sent_with_and_without_trains() {
    for (sending, receiving) in [
        (Offload::None, Offload::None),
        (Offload::Segmentation, Offload::None),
        (Offload::None, Offload::Segmentation),
        (Offload::Segmentation, Offload::Segmentation),
    ] {
        let (Some(mut to), Some(from)) = (bound(receiving), bound(sending)) else {
            return;
        };
        let bodies = bodies(
            [1400, 1400, 1400, 600, 0, 1, 9000, 64, 64, 63]
                .into_iter()
                .cycle()
                .take(200),
        );
        let items = items(b"head", &bodies, &[to.local_addr()]);

        assert_eq!(from.send(&items).unwrap(), 200);

        assert_eq!(receive(&mut to, 200), joined(&items, from.local_addr()));
        assert_eq!(to.recv_burst(&mut Burst::new()).unwrap(), 0);
        let trains = from.stats().trains_sent > 0;
        assert_eq!(trains, sending == Offload::Segmentation);
    }
}

#[test]
fn more_datagrams_than_buffers_wait_and_all_come() {
    for offload in [Offload::None, Offload::Segmentation] {
        let (Some(mut to), Some(from)) = (bound(offload), bound(Offload::None)) else {
            return;
        };
        let bodies = bodies([1000; 700]);
        let items = items(b"head", &bodies, &[to.local_addr()]);
        // The request stands before anything comes, and stands again after it has run dry.
        assert_eq!(to.recv_burst(&mut Burst::new()).unwrap(), 0);

        assert_eq!(from.send(&items).unwrap(), 700);

        assert_eq!(receive(&mut to, 700), joined(&items, from.local_addr()));
        // Few long buffers run dry; of the many short ones the kernel fills at most 32 at a time.
        assert!(to.stats().pauses > 0 || offload == Offload::None);
        assert_eq!(from.send(&items[..3]).unwrap(), 3);
        assert_eq!(receive(&mut to, 3).len(), 3);
    }
}

#[test]
fn what_is_accepted_is_always_a_prefix() {
    let (Some(mut to), Some(from)) = (bound(Offload::None), bound(Offload::None)) else {
        return;
    };
    let mut bodies = bodies([100; 3 * BURST_MAX]);
    bodies[BURST_MAX + 5] = vec![0; 70_000];
    let items = items(b"head", &bodies, &[to.local_addr()]);

    let accepted = from.send(&items).unwrap();
    let refused = from.send(&items[accepted..]).unwrap_err();

    assert_eq!(accepted, BURST_MAX + 5);
    assert!(
        matches!(refused, IoError::Refused { len: 70_004, .. }),
        "{refused}"
    );
    let received = receive(&mut to, accepted);
    assert_eq!(received, joined(&items[..accepted], from.local_addr()));
    assert!(!to.poll(Some(Duration::from_millis(5))).unwrap());
    assert_eq!(
        from.send(&items[accepted + 1..]).unwrap(),
        items.len() - accepted - 1
    );
}

#[test]
fn a_datagram_above_the_limit_is_dropped_and_counted() {
    for offload in [Offload::None, Offload::Segmentation] {
        let (Some(mut to), Some(from)) = (bound(offload), bound(Offload::None)) else {
            return;
        };
        let bodies = [vec![1; DATAGRAM_MAX - 3], vec![2; DATAGRAM_MAX - 4]];
        let items = items(b"head", &bodies, &[to.local_addr()]);

        assert_eq!(from.send(&items).unwrap(), 2);

        assert_eq!(receive(&mut to, 1), joined(&items[1..], from.local_addr()));
        assert_eq!(to.stats().truncated, 1);
    }
}

#[test]
fn a_received_frame_goes_back_through_its_own_port() {
    let (Some(mut echo), Some(mut client)) = (bound(Offload::None), bound(Offload::None)) else {
        return;
    };
    let bodies = bodies([1200; 40]);
    client
        .send(&items(b"head", &bodies, &[echo.local_addr()]))
        .unwrap();
    let mut burst = Burst::new();
    let mut returned = 0;

    while returned < 40 {
        assert!(echo.poll(SECOND).unwrap());
        echo.recv_burst(&mut burst).unwrap();
        let back: Vec<Outgoing<'_>> = burst
            .iter()
            .map(|d| Outgoing {
                head: b"re:",
                body: echo.frame(d),
                to: d.peer.unwrap(),
            })
            .collect();
        returned += echo.send(&back).unwrap();
    }

    let expected: Vec<Vec<u8>> = bodies
        .iter()
        .map(|b| [b"re:head", b.as_slice()].concat())
        .collect();
    let came = receive(&mut client, 40);
    assert!(came.into_iter().map(|(_, bytes)| bytes).eq(expected));
}

#[test]
fn a_port_serves_the_thread_that_uses_it_first_and_both_udp_back_ends_speak() {
    let Some(to) = bound(Offload::Segmentation) else {
        return;
    };
    let address = "127.0.0.1:0".parse().unwrap();
    let from =
        UdpPort::bind_with(address, LinkType::RawIp, options(Offload::Segmentation)).unwrap();
    let bodies = bodies([1400; 64]);
    let items = items(b"head", &bodies, &[to.local_addr()]);

    assert_eq!(from.send(&items).unwrap(), 64);

    let received = thread::spawn(move || {
        let mut to = to;
        let received = receive(&mut to, 64);
        assert!(to.stats().trains_received > 0);
        received
    });
    assert_eq!(received.join().unwrap(), joined(&items, from.local_addr()));
}

#[test]
fn another_thread_than_the_first_gets_an_error_and_nothing_is_written_after_the_end() {
    let (Some(mut to), Some(from)) = (bound(Offload::None), bound(Offload::None)) else {
        return;
    };
    let bodies = bodies([100; 10]);
    let items = items(b"head", &bodies, &[to.local_addr()]);
    assert_eq!(to.recv_burst(&mut Burst::new()).unwrap(), 0);

    let refused = thread::spawn(move || {
        let refused = to.recv_burst(&mut Burst::new()).is_err();
        // Dropped here, while the request stands and belongs to the other thread.
        drop(to);
        refused
    });

    assert!(refused.join().unwrap());
    let _ = from.send(&items);
}

#[test]
fn a_port_that_ends_while_datagrams_come_leaves_its_address_free() {
    let (Some(mut to), Some(from)) = (bound(Offload::None), bound(Offload::None)) else {
        return;
    };
    let bodies = bodies([100; 64]);
    for _ in 0..20 {
        let there = to.local_addr();
        assert_eq!(from.send(&items(b"head", &bodies, &[there])).unwrap(), 64);
        to.recv_burst(&mut Burst::new()).unwrap();

        drop(to);

        to = try_bind(&there.to_string(), Offload::None).unwrap();
    }
}

#[test]
fn ipv6_peers_are_reached_and_named() {
    if bound(Offload::None).is_none() {
        return;
    }
    let (Ok(mut to), Ok(from)) = (
        try_bind("[::1]:0", Offload::Segmentation),
        try_bind("[::1]:0", Offload::Segmentation),
    ) else {
        println!("skipped: no IPv6 loopback");
        return;
    };
    let bodies = bodies([1300; 20]);
    let items = items(b"head", &bodies, &[to.local_addr()]);

    from.send(&items).unwrap();

    assert_eq!(receive(&mut to, 20), joined(&items, from.local_addr()));
}

#[test]
fn a_system_that_forbids_io_uring_is_told_apart_from_a_bad_address() {
    let forbidden = thread::spawn(|| {
        forbid_io_uring();
        (
            available().unwrap_err(),
            try_bind("127.0.0.1:0", Offload::None).unwrap_err(),
        )
    });

    let (reason, error) = forbidden.join().unwrap();

    assert_eq!(reason.raw_os_error(), Some(libc::EPERM));
    assert!(error.to_string().contains("io_uring"), "{error}");
}

/// Makes `io_uring_setup` fail with EPERM for this thread, as container runtimes do.
fn forbid_io_uring() {
    let step = |code: u32, k: u32, jt, jf| libc::sock_filter {
        code: code.try_into().unwrap(),
        jt,
        jf,
        k,
    };
    let call = libc::SYS_io_uring_setup.try_into().unwrap();
    let mut program = [
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, call, 0, 1),
        step(
            libc::BPF_RET,
            libc::SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned(),
            0,
            0,
        ),
        step(libc::BPF_RET, libc::SECCOMP_RET_ALLOW, 0, 0),
    ];
    let filter = libc::sock_fprog {
        len: 4,
        filter: program.as_mut_ptr(),
    };
    // SAFETY: integers only; the thread and its children get no new privileges.
    let status = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    assert_eq!(status, 0);
    // SAFETY: filter and program are live; the system copies them.
    let status = unsafe {
        libc::prctl(
            libc::PR_SET_SECCOMP,
            libc::SECCOMP_MODE_FILTER,
            &raw const filter,
        )
    };
    assert_eq!(status, 0);
}
