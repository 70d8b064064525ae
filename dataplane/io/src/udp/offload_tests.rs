//! Claims about trains, held by the real kernel on loopback.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Duration;

use qlink_wire::LinkType;

use super::traffic::{bodies, items, joined, receive, send_all};
use super::{Checksum, DATAGRAM_MAX, Offload, UdpOptions, UdpPort};
use crate::burst::BURST_MAX;
use crate::netns::{in_namespace, ip};
use crate::{Burst, IoError, Outgoing, PacketSource, sys};

const SEGMENTATION: UdpOptions = UdpOptions {
    offload: Offload::Segmentation,
    checksum: Checksum::Present,
};
const PLAIN: UdpOptions = UdpOptions {
    offload: Offload::None,
    checksum: Checksum::Present,
};

fn bound(options: UdpOptions) -> UdpPort {
    let address = "127.0.0.1:0".parse().unwrap();
    UdpPort::bind_with(address, LinkType::RawIp, options).unwrap()
}

#[test]
fn a_train_of_40_is_one_message_and_two_bursts() {
    let (mut to, from) = (bound(SEGMENTATION), bound(SEGMENTATION));
    let bodies = bodies([1392; 40]);
    let items = items(b"gtp-head", &bodies, &[to.local_addr()]);
    let mut burst = Burst::new();

    assert_eq!(from.send(&items).unwrap(), 40);
    assert!(to.poll(Some(Duration::from_secs(5))).unwrap());
    let first = to.recv_burst(&mut burst).unwrap();
    let mut received: Vec<Vec<u8>> = burst.iter().map(|d| to.frame(d).to_vec()).collect();
    // The socket is empty by now; only the port knows of the rest.
    assert!(to.poll(Some(Duration::ZERO)).unwrap());
    let second = to.recv_burst(&mut burst).unwrap();
    received.extend(burst.iter().map(|d| to.frame(d).to_vec()));

    assert_eq!((first, second), (BURST_MAX, 8));
    assert_eq!(
        (from.stats().trains_sent, to.stats().trains_received),
        (1, 1)
    );
    let expected: Vec<Vec<u8>> = joined(&items, from.local_addr())
        .into_iter()
        .map(|(_, b)| b)
        .collect();
    assert_eq!(received, expected);
    assert_eq!(to.recv_burst(&mut burst).unwrap(), 0);
}

#[test]
fn packets_and_order_are_the_same_with_and_without_offload() {
    // Equal, shorter, longer, empty and single-byte neighbours, and packets above the limit of a
    // train's segments.
    let lengths = [
        1400, 1400, 1400, 600, 0, 0, 1, 1, 1, 9000, 9000, 1400, 1401, 1400, 64, 64, 64, 64, 63,
    ];
    for (sending, receiving) in [
        (SEGMENTATION, SEGMENTATION),
        (SEGMENTATION, PLAIN),
        (PLAIN, SEGMENTATION),
        (PLAIN, PLAIN),
    ] {
        let (mut to, from) = (bound(receiving), bound(sending));
        let bodies = bodies(lengths.into_iter().cycle().take(133));
        let items = items(b"", &bodies, &[to.local_addr()]);

        send_all(&from, &items);
        let received = receive(&mut to, items.len());

        assert_eq!(
            received,
            joined(&items, from.local_addr()),
            "{sending:?} {receiving:?}"
        );
        assert_eq!(from.stats().trains_sent > 0, sending == SEGMENTATION);
    }
}

#[test]
fn every_peer_gets_its_own_packets_in_order() {
    let from = bound(SEGMENTATION);
    let mut peers: Vec<UdpPort> = (0..3).map(|_| bound(SEGMENTATION)).collect();
    // Runs of one peer and changes at every packet.
    let pattern: Vec<SocketAddr> = [0, 0, 0, 1, 1, 2, 0, 1, 2, 2, 2, 2]
        .map(|peer: usize| peers[peer].local_addr())
        .to_vec();
    let bodies = bodies([1200; 96]);
    let items = items(b"h", &bodies, &pattern);

    send_all(&from, &items);

    for peer in &mut peers {
        let own = items.iter().filter(|item| item.to == peer.local_addr());
        let own: Vec<Outgoing<'_>> = own.copied().collect();
        assert_eq!(receive(peer, own.len()), joined(&own, from.local_addr()));
    }
    // Three trains per round of the pattern; one is cut where the batch of 64 ends.
    assert_eq!(from.stats().trains_sent, 3 * 8 - 1);
}

#[test]
fn trains_of_two_senders_stay_apart() {
    let mut to = bound(SEGMENTATION);
    let senders = [bound(SEGMENTATION), bound(SEGMENTATION)];
    let bodies = bodies([1400; 20]);
    let items = items(b"", &bodies, &[to.local_addr()]);

    for from in &senders {
        send_all(from, &items);
    }

    let expected = [
        joined(&items, senders[0].local_addr()),
        joined(&items, senders[1].local_addr()),
    ]
    .concat();
    assert_eq!(receive(&mut to, 40), expected);
}

#[test]
fn accepted_packets_end_exactly_before_a_refused_one() {
    let (mut to, from) = (bound(SEGMENTATION), bound(SEGMENTATION));
    let bodies = bodies([1400, 1400, 1400, 70_000, 1400, 1400]);
    let items = items(b"", &bodies, &[to.local_addr()]);

    assert_eq!(from.send(&items).unwrap(), 3);
    let refused = from.send(&items[3..]).unwrap_err();
    assert_eq!(from.send(&items[4..]).unwrap(), 2);

    assert!(
        matches!(refused, IoError::Refused { len: 70_000, .. }),
        "{refused}"
    );
    assert_eq!(receive(&mut to, 5).len(), 5);
    assert!(!to.poll(Some(Duration::from_millis(5))).unwrap());
    assert_eq!(from.stats().trains_refused, 0);
}

#[test]
fn a_train_of_datagrams_above_the_limit_is_dropped_and_counted() {
    let (mut to, from) = (bound(SEGMENTATION), bound(SEGMENTATION));
    let bodies = bodies([DATAGRAM_MAX + 1, DATAGRAM_MAX + 1, 5]);
    let items = items(b"", &bodies, &[to.local_addr()]);

    send_all(&from, &items);

    // The last of the train fits.
    assert_eq!(receive(&mut to, 1), joined(&items[2..], from.local_addr()));
    assert_eq!(to.stats().truncated, 2);
}

#[test]
fn a_kernel_that_refuses_trains_gets_single_packets_for_good() {
    let (mut to, from) = (bound(SEGMENTATION), bound(SEGMENTATION));
    // Without checksums Linux refuses every train with EINVAL; the port was not told.
    sys::set_option(from.as_fd(), libc::SO_NO_CHECK, 1).unwrap();
    let bodies = bodies((0..20).flat_map(|step| [1400 - step * 10; 20]));
    let items = items(b"head", &bodies, &[to.local_addr()]);

    send_all(&from, &items);

    assert_eq!(
        receive(&mut to, items.len()),
        joined(&items, from.local_addr())
    );
    assert_eq!((from.stats().trains_sent, from.stats().refused), (0, 0));
    assert_eq!(from.stats().trains_refused, 9);
    assert!(!from.sends_trains());
}

#[test]
fn packets_above_the_mtu_leave_in_fragments_and_shorter_ones_in_trains() {
    let worked = in_namespace(|| {
        ip("link set lo mtu 1500");
        let (mut to, from) = (bound(SEGMENTATION), bound(SEGMENTATION));
        let bodies = bodies([[1600; 10], [1472; 10]].concat());
        let items = items(b"", &bodies, &[to.local_addr()]);

        send_all(&from, &items);

        assert_eq!(
            receive(&mut to, items.len()),
            joined(&items, from.local_addr())
        );
        assert_eq!(from.stats().trains_refused, 1);
        assert_eq!(from.stats().trains_sent, 1);
        assert!(from.sends_trains());
    });
    if worked.is_none() {
        println!("skipped: needs a network namespace");
    }
}

#[test]
fn checksums_left_out_exclude_trains_and_reach_the_peer() {
    for host in ["127.0.0.1:0", "[::1]:0"] {
        let options = UdpOptions {
            offload: Offload::Segmentation,
            checksum: Checksum::Zero,
        };
        let bind = || UdpPort::bind_with(host.parse().unwrap(), LinkType::RawIp, options);
        let (Ok(mut to), Ok(from)) = (bind(), bind()) else {
            assert!(host.starts_with('['), "IPv4 loopback must work");
            println!("skipped: no IPv6 loopback");
            continue;
        };
        let bodies = bodies([1400; 10]);
        let items = items(b"", &bodies, &[to.local_addr()]);

        send_all(&from, &items);

        assert_eq!(receive(&mut to, 10), joined(&items, from.local_addr()));
        assert!(!from.sends_trains() && to.receives_trains());
        assert_eq!(from.stats().trains_sent, 0);
    }
}

#[test]
fn trains_go_over_ipv6() {
    let bind =
        || UdpPort::bind_with("[::1]:0".parse().unwrap(), LinkType::RawIp, SEGMENTATION).ok();
    let (Some(mut to), Some(from)) = (bind(), bind()) else {
        println!("skipped: no IPv6 loopback");
        return;
    };
    let bodies = bodies([1300; 30]);
    let items = items(b"", &bodies, &[to.local_addr()]);

    send_all(&from, &items);

    assert_eq!(receive(&mut to, 30), joined(&items, from.local_addr()));
    assert_eq!(
        (from.stats().trains_sent, to.stats().trains_received),
        (1, 1)
    );
}

#[test]
fn receive_memory_is_bounded_with_and_without_offload() {
    assert_eq!(Offload::None.receive_bytes(), 32 * 9216);
    assert_eq!(Offload::Segmentation.receive_bytes(), 8 * 65_536);
}
