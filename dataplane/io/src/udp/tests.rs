//! Claims about a port without offload.

use std::time::Duration;

use qlink_wire::LinkType;

use super::traffic::{SECOND, receive};
use super::{DATAGRAM_MAX, UdpPort, UdpStats};
use crate::burst::BURST_MAX;
use crate::{Burst, IoError, Outgoing, PacketSink, PacketSource};

fn port() -> UdpPort {
    UdpPort::bind("127.0.0.1:0".parse().unwrap(), LinkType::RawIp).unwrap()
}

#[test]
fn head_and_body_arrive_joined_and_in_order() {
    let (mut to, mut from) = (port(), port());
    let bodies: Vec<Vec<u8>> = (0..100_u8).map(|i| vec![i; usize::from(i) * 80]).collect();
    let items: Vec<Outgoing<'_>> = bodies
        .iter()
        .map(|body| Outgoing {
            head: b"head",
            body,
            to: to.local_addr(),
        })
        .collect();

    let accepted = from.send_burst(&items).unwrap();

    assert_eq!(accepted, 100);
    for ((peer, bytes), body) in receive(&mut to, 100).into_iter().zip(&bodies) {
        assert_eq!(peer, from.local_addr());
        assert_eq!(bytes, [b"head", body.as_slice()].concat());
    }
}

#[test]
fn nothing_there_is_zero_packets_and_no_error() {
    let mut burst = Burst::new();

    assert_eq!(port().recv_burst(&mut burst).unwrap(), 0);
    assert!(!port().poll(Some(Duration::ZERO)).unwrap());
}

#[test]
fn a_datagram_above_the_limit_is_dropped_and_counted() {
    let (mut to, from) = (port(), port());
    let (long, fits) = (vec![1; DATAGRAM_MAX + 1], vec![2; DATAGRAM_MAX]);
    let items = [&long, &fits].map(|body| Outgoing {
        head: &[],
        body,
        to: to.local_addr(),
    });

    assert_eq!(from.send(&items).unwrap(), 2);

    assert_eq!(receive(&mut to, 1), [(from.local_addr(), fits.clone())]);
    assert_eq!(
        to.stats(),
        UdpStats {
            truncated: 1,
            ..UdpStats::default()
        }
    );
}

#[test]
fn a_packet_the_system_refuses_stops_only_itself() {
    let (mut to, from) = (port(), port());
    let (too_long, fits) = (vec![0; 70_000], vec![1; 10]);
    let items = [&fits, &too_long, &fits].map(|body| Outgoing {
        head: &[],
        body,
        to: to.local_addr(),
    });

    assert_eq!(from.send(&items).unwrap(), 1);
    let refused = from.send(&items[1..]).unwrap_err();
    assert_eq!(from.send(&items[2..]).unwrap(), 1);

    assert!(
        matches!(refused, IoError::Refused { len: 70_000, .. }),
        "{refused}"
    );
    assert_eq!(from.stats().refused, 1);
    assert_eq!(receive(&mut to, 2).len(), 2);
}

#[test]
fn what_is_accepted_is_always_a_prefix() {
    let (mut to, from) = (port(), port());
    let (too_long, fits) = (vec![0; 70_000], vec![1; 10]);
    let item = |body| Outgoing {
        head: &[],
        body,
        to: to.local_addr(),
    };
    let mut items = vec![item(fits.as_slice()); 3 * BURST_MAX];
    items[BURST_MAX + 5] = item(too_long.as_slice());

    let accepted = from.send(&items).unwrap();

    assert_eq!(accepted, BURST_MAX + 5);
    assert_eq!(receive(&mut to, accepted).len(), accepted);
    assert!(!to.poll(Some(Duration::from_millis(5))).unwrap());
}

#[test]
fn a_peer_that_is_gone_does_not_break_the_port() {
    let mut from = port();
    let gone = port().local_addr();
    let mut to = port();
    from.endpoint.socket.connect(gone).unwrap();
    let nobody = [Outgoing {
        head: &[],
        body: b"x",
        to: gone,
    }];

    for _ in 0..10 {
        from.send(&nobody).unwrap();
        from.recv_burst(&mut Burst::new()).unwrap();
    }

    assert!(from.stats().unreachable > 0);
    let someone = [Outgoing {
        head: &[],
        body: b"x",
        to: to.local_addr(),
    }];
    assert_eq!(from.send(&someone).unwrap(), 1);
    assert_eq!(receive(&mut to, 1).len(), 1);
}

#[test]
fn a_received_frame_goes_back_through_its_own_port() {
    let (mut echo, mut client) = (port(), port());
    let there = [Outgoing {
        head: b"",
        body: b"echo",
        to: echo.local_addr(),
    }];
    client.send_burst(&there).unwrap();
    let mut burst = Burst::new();
    assert!(echo.poll(SECOND).unwrap());
    echo.recv_burst(&mut burst).unwrap();

    let back = burst.iter().map(|d| Outgoing {
        head: b"re:",
        body: echo.frame(d),
        to: d.peer.unwrap(),
    });
    assert_eq!(echo.send(&back.collect::<Vec<_>>()).unwrap(), 1);

    assert_eq!(
        receive(&mut client, 1),
        [(echo.local_addr(), b"re:echo".to_vec())]
    );
}

#[test]
fn ipv6_peers_are_reached_and_named() {
    let Ok(mut to) = UdpPort::bind("[::1]:0".parse().unwrap(), LinkType::RawIp) else {
        println!("skipped: no IPv6 loopback");
        return;
    };
    let from = UdpPort::bind("[::1]:0".parse().unwrap(), LinkType::RawIp).unwrap();

    from.send(&[Outgoing {
        head: b"",
        body: b"six",
        to: to.local_addr(),
    }])
    .unwrap();

    assert_eq!(receive(&mut to, 1), [(from.local_addr(), b"six".to_vec())]);
}

#[test]
fn an_address_in_use_is_refused_with_the_address() {
    let taken = port();

    let error = UdpPort::bind(taken.local_addr(), LinkType::RawIp).unwrap_err();

    assert!(
        error.to_string().contains(&taken.local_addr().to_string()),
        "{error}"
    );
}
