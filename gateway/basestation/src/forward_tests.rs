use super::*;
use qlink_wire::build::{GtpuMessage, udp_packet};
use qlink_wire::{echo_request, error_indication};

const UE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 1, 0, 7));

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn gateway() -> SocketAddr {
    address("127.1.0.1:2152")
}

fn tunnel(session: u8) -> Tunnel {
    Tunnel {
        session: SessionId::new([session; 16]),
        ue: IpAddr::from([10, 1, 0, session]),
        radio: Some(address("127.1.0.9:4000")),
        gateway: gateway(),
        uplink_teid: Teid::new(0x0100_0000 + u32::from(session)),
        downlink_teid: Teid::new(u32::from(session)),
    }
}

fn forwarder() -> Forwarder {
    let mut forwarder = Forwarder::new(vec![gateway(), address("127.1.0.5:2152")], 3);
    forwarder.install(tunnel(7)).unwrap();
    forwarder
}

fn inner(from: &str, to: &str) -> Vec<u8> {
    udp_packet(address(from), address(to), b"hello").unwrap()
}

fn gpdu(teid: u32, payload: &[u8]) -> Vec<u8> {
    GtpuMessage::gpdu(teid).encode(payload).unwrap()
}

#[test]
fn uplink_goes_to_the_sessions_gateway_under_its_teid() {
    let packet = inner("10.1.0.7:5000", "198.51.100.10:80");

    let uplink = forwarder().uplink(&packet, tunnel(7).radio).unwrap();

    let message = [&uplink.head[..], &packet].concat();
    let gtpu = parse_gtpu(&message).unwrap();
    assert_eq!((gtpu.teid, gtpu.payload), (0x0100_0007, &packet[..]));
    assert_eq!(
        gtpu.pdu_session,
        Some(PduSessionInfo {
            qfi: 1,
            downlink: false
        })
    );
    assert_eq!(
        (uplink.to, usize::from(uplink.inner_len)),
        (gateway(), packet.len())
    );
}

#[test]
fn spoofed_source_is_dropped() {
    let packet = inner("10.1.0.8:5000", "198.51.100.10:80");

    assert_eq!(
        forwarder().uplink(&packet, tunnel(7).radio),
        Err(DropReason::SourceUnknown)
    );
}

#[test]
fn on_an_interface_the_source_address_alone_names_the_session() {
    let mut forwarder = Forwarder::new(vec![tunnel(7).gateway], 4);
    let on_interface = Tunnel {
        radio: None,
        ..tunnel(7)
    };
    forwarder.install(on_interface).unwrap();
    let packet = |from| inner(from, "198.51.100.10:80");

    let own = forwarder.uplink(&packet("10.1.0.7:5000"), None);
    let other = forwarder.uplink(&packet("10.1.0.8:5000"), None);
    let over_udp = forwarder.uplink(&packet("10.1.0.7:5000"), tunnel(7).radio);

    assert_eq!(own.unwrap().to, tunnel(7).gateway);
    assert_eq!(other, Err(DropReason::SourceUnknown));
    assert_eq!(over_udp, Err(DropReason::RadioPeerMismatch));
}

#[test]
fn another_radio_peer_cannot_send_for_the_session() {
    let packet = inner("10.1.0.7:5000", "198.51.100.10:80");

    let result = forwarder().uplink(&packet, Some(address("127.1.0.9:4001")));

    assert_eq!(result, Err(DropReason::RadioPeerMismatch));
}

#[test]
fn truncated_inner_packet_is_dropped() {
    let packet = inner("10.1.0.7:5000", "198.51.100.10:80");

    for len in 0..packet.len() {
        let result = forwarder().uplink(&packet[..len], tunnel(7).radio);
        assert_eq!(result, Err(DropReason::InnerMalformed), "{len} bytes");
    }
}

#[test]
fn downlink_reaches_the_subscriber() {
    let packet = inner("198.51.100.10:80", "10.1.0.7:5000");
    let container = PduSessionInfo {
        qfi: 1,
        downlink: true,
    };
    let message = GtpuMessage::gpdu(7)
        .with_pdu_session(container)
        .encode(&packet)
        .unwrap();

    let mut forwarder = forwarder();
    let downlink = forwarder.downlink(&message, gateway()).unwrap();

    let Downlink::Deliver {
        head, inner, to, ..
    } = downlink
    else {
        panic!("{downlink:?}")
    };
    assert_eq!((inner, to), (&packet[..], tunnel(7).radio));
    assert_eq!([head, inner].concat(), message);
}

#[test]
fn every_wrong_downlink_has_its_reason() {
    let packet = inner("198.51.100.10:80", "10.1.0.7:5000");
    let elsewhere = inner("198.51.100.10:80", "10.1.0.8:5000");
    let other_gateway = address("127.1.0.5:2152");
    let cases = [
        (
            gpdu(7, &packet),
            address("127.1.0.6:2152"),
            DropReason::GatewayUnknown,
        ),
        (gpdu(7, &packet), other_gateway, DropReason::GatewayMismatch),
        (gpdu(8, &packet), gateway(), DropReason::TeidUnknown),
        (
            gpdu(7, &elsewhere),
            gateway(),
            DropReason::DestinationMismatch,
        ),
        (gpdu(7, b"\x45"), gateway(), DropReason::InnerMalformed),
        (
            gpdu(7, &packet)[..20].to_vec(),
            gateway(),
            DropReason::GtpuMalformed,
        ),
        (
            b"\x30\x05\0\0\0\0\0\0".to_vec(),
            gateway(),
            DropReason::GtpuUnsupported,
        ),
    ];

    for (message, from, reason) in cases {
        assert_eq!(forwarder().downlink(&message, from), Err(reason));
    }
}

#[test]
fn echo_is_answered_with_its_sequence_number() {
    let mut forwarder = forwarder();
    let request = echo_request(513);

    let answer = forwarder.downlink(&request, gateway()).unwrap();

    assert_eq!(answer, Downlink::Answer(echo_response(513)));
    assert_eq!(forwarder.echoes(), 1);
    let stranger = forwarder.downlink(&request, address("127.9.9.9:2152"));
    assert_eq!(stranger, Err(DropReason::GatewayUnknown));
}

#[test]
fn error_indications_are_noted() {
    let mut forwarder = forwarder();
    let message = error_indication(9, gateway().ip());

    let noted = forwarder.downlink(&message, gateway());

    assert_eq!(
        (noted, forwarder.error_indications()),
        (Ok(Downlink::Noted), 1)
    );
}

#[test]
fn counters_stay_with_the_session_when_it_is_installed_again() {
    let mut forwarder = forwarder();
    let uplink = forwarder
        .uplink(&inner("10.1.0.7:5000", "198.51.100.10:80"), tunnel(7).radio)
        .unwrap();
    forwarder.note_uplink(uplink.entry, uplink.inner_len.into());

    forwarder.install(tunnel(7)).unwrap();

    assert_eq!(forwarder.len(), 1);
    let (_, count) = forwarder.remove(&tunnel(7).session).unwrap();
    assert_eq!((count.uplink_bytes, count.uplink_packets), (33, 1));
    assert!(forwarder.is_empty());
}

#[test]
fn install_refuses_what_would_confuse_sessions() {
    let mut forwarder = forwarder();
    let refused = [
        (
            Tunnel {
                ue: UE,
                ..tunnel(8)
            },
            InstallError::AddressTaken(UE),
        ),
        (
            Tunnel {
                downlink_teid: Teid::new(7),
                ..tunnel(8)
            },
            InstallError::TeidTaken(Teid::new(7)),
        ),
        (
            Tunnel {
                downlink_teid: Teid::new(0),
                ..tunnel(8)
            },
            InstallError::TeidTaken(Teid::new(0)),
        ),
        (
            Tunnel {
                gateway: address("127.6.6.6:2152"),
                ..tunnel(8)
            },
            InstallError::GatewayUntrusted(address("127.6.6.6:2152")),
        ),
    ];
    for (tunnel, error) in refused {
        assert_eq!(forwarder.install(tunnel), Err(error));
    }
    forwarder.install(tunnel(8)).unwrap();
    forwarder.install(tunnel(9)).unwrap();

    assert_eq!(
        forwarder.install(tunnel(10)),
        Err(InstallError::TableFull { limit: 3 })
    );
    forwarder.remove(&tunnel(8).session).unwrap();
    assert_eq!(forwarder.install(tunnel(10)), Ok(()));
}

#[test]
fn removed_session_forwards_nothing() {
    let mut forwarder = forwarder();
    let packet = inner("198.51.100.10:80", "10.1.0.7:5000");

    forwarder.remove(&tunnel(7).session).unwrap();

    assert_eq!(
        forwarder.downlink(&gpdu(7, &packet), gateway()),
        Err(DropReason::TeidUnknown)
    );
}
