use super::*;
use crate::build::{GtpuExtension, GtpuMessage};

const UPLINK: PduSessionInfo = PduSessionInfo {
    qfi: 9,
    downlink: false,
};

// Written by hand from TS 29.281 figure 5.1-1 and TS 38.415 figure 5.5.2.2-1.
#[test]
fn a_g_pdu_with_an_uplink_container_is_read_octet_by_octet() {
    let bytes = [
        0x34, 0xff, 0x00, 0x0b, 0x01, 0x02, 0x03, 0x04, // E, G-PDU, length 11, TEID
        0x00, 0x00, 0x00, 0x85, // no sequence, next: PDU session container
        0x01, 0x10, 0x09, 0x00, // one unit, uplink, QFI 9, nothing follows
        0xaa, 0xbb, 0xcc, // inner packet
    ];

    let gtpu = parse_gtpu(&bytes).unwrap();

    assert!(gtpu.is_gpdu());
    assert_eq!((gtpu.teid, gtpu.sequence), (0x0102_0304, None));
    assert_eq!(gtpu.pdu_session, Some(UPLINK));
    assert_eq!(
        (gtpu.payload, gtpu.payload_len),
        (&[0xaa, 0xbb, 0xcc][..], 3)
    );
}

#[test]
fn every_set_of_flags_finds_the_payload() {
    for bits in 0..8 {
        let message = GtpuMessage {
            sequence: (bits & 1 != 0).then_some(0x1234),
            npdu: (bits & 2 != 0).then_some(7),
            pdu_session: (bits & 4 != 0).then_some(UPLINK),
            ..GtpuMessage::gpdu(5)
        };
        let bytes = message.encode(b"inner").unwrap();

        let gtpu = parse_gtpu(&bytes).unwrap();

        assert_eq!(
            (gtpu.sequence, gtpu.pdu_session),
            (message.sequence, message.pdu_session)
        );
        assert_eq!((gtpu.payload, gtpu.payload_len), (&b"inner"[..], 5));
    }
}

#[test]
fn stale_bytes_in_the_optional_part_are_ignored_without_their_flag() {
    // S alone: the N-PDU number and the next extension type must not be evaluated.
    let bytes = [0x32, 0xff, 0, 6, 0, 0, 0, 1, 0, 42, 0xff, 0x85, 0xaa, 0xbb];

    let gtpu = parse_gtpu(&bytes).unwrap();

    assert_eq!((gtpu.sequence, gtpu.pdu_session), (Some(42), None));
    assert_eq!(gtpu.payload, [0xaa, 0xbb]);
}

#[test]
fn any_chain_of_extension_headers_is_walked() {
    let long = [0; 1018];
    let extensions = [
        GtpuExtension {
            kind: 0x20,
            content: &[1, 0],
        },
        GtpuExtension {
            kind: extension_type::PDU_SESSION,
            content: &[0x00, 0x3f],
        },
        GtpuExtension {
            kind: 0x7e,
            content: &long,
        },
        GtpuExtension {
            kind: extension_type::PDCP_NUMBER,
            content: &[0; 6],
        },
    ];
    let bytes = GtpuMessage::gpdu(1)
        .with_extensions(&extensions)
        .encode(b"inner")
        .unwrap();

    let gtpu = parse_gtpu(&bytes).unwrap();

    assert_eq!(
        gtpu.pdu_session,
        Some(PduSessionInfo {
            qfi: 63,
            downlink: true
        })
    );
    assert_eq!(gtpu.unknown_required_extension, None);
    assert_eq!(gtpu.payload, b"inner");
}

#[test]
fn the_first_of_two_containers_counts() {
    let second = [GtpuExtension {
        kind: extension_type::PDU_SESSION,
        content: &[0x00, 1],
    }];
    let message = GtpuMessage::gpdu(1)
        .with_pdu_session(UPLINK)
        .with_extensions(&second);

    let bytes = message.encode(b"").unwrap();

    assert_eq!(parse_gtpu(&bytes).unwrap().pdu_session, Some(UPLINK));
}

#[test]
fn an_unknown_extension_that_must_be_understood_is_named() {
    let read = |kind| {
        let extensions = [GtpuExtension {
            kind,
            content: &[0; 2],
        }];
        let bytes = GtpuMessage::gpdu(1)
            .with_extensions(&extensions)
            .encode(b"x")
            .unwrap();
        parse_gtpu(&bytes).unwrap().unknown_required_extension
    };

    assert_eq!(read(0x84), Some(0x84)); // NR RAN container
    assert_eq!(read(0xfe), Some(0xfe));
    assert_eq!(read(0x7f), None);
    assert_eq!(read(extension_type::PDU_SESSION), None);
}

#[test]
fn an_extension_header_of_length_zero_is_refused() {
    let mut bytes = GtpuMessage::gpdu(1)
        .with_pdu_session(UPLINK)
        .encode(b"inner")
        .unwrap();
    bytes[12] = 0;

    assert_eq!(parse_gtpu(&bytes), Err(WireError::GtpuExtensionLength));
}

#[test]
fn a_chain_at_the_limit_is_walked_and_one_longer_is_refused() {
    let extensions = [GtpuExtension {
        kind: 0x20,
        content: &[0; 2],
    }; MAX_GTPU_EXTENSIONS + 1];
    let parse = |count: usize| {
        let message = GtpuMessage::gpdu(1).with_extensions(&extensions[..count]);
        parse_gtpu(&message.encode(b"inner").unwrap()).map(|gtpu| gtpu.payload.len())
    };

    assert_eq!(parse(MAX_GTPU_EXTENSIONS), Ok(5));
    assert_eq!(
        parse(MAX_GTPU_EXTENSIONS + 1),
        Err(WireError::GtpuChainTooLong)
    );
}

#[test]
fn a_header_captured_in_part_is_refused_and_a_cut_payload_is_not() {
    let bytes = GtpuMessage {
        sequence: Some(1),
        ..GtpuMessage::gpdu(3)
    }
    .with_pdu_session(UPLINK)
    .encode(&[7; 40])
    .unwrap();

    for length in 0..16 {
        assert_eq!(
            parse_gtpu(&bytes[..length]),
            Err(WireError::GtpuTruncated),
            "{length}"
        );
    }
    for length in 16..=bytes.len() {
        let gtpu = parse_gtpu(&bytes[..length]).unwrap();
        assert_eq!((gtpu.teid, gtpu.payload_len), (3, 40));
        assert_eq!(gtpu.payload.len(), length - 16);
    }
}

#[test]
fn a_stated_length_inside_the_headers_is_refused_and_a_shorter_one_cuts_the_payload() {
    let bytes = GtpuMessage::gpdu(3)
        .with_pdu_session(UPLINK)
        .encode(&[7; 40])
        .unwrap();
    let with_length = |length: u16| {
        let mut bytes = bytes.clone();
        bytes[2..4].copy_from_slice(&length.to_be_bytes());
        parse_gtpu(&bytes).map(|gtpu| gtpu.payload.len())
    };

    for length in 0..8 {
        assert_eq!(with_length(length), Err(WireError::GtpuLength), "{length}");
    }
    assert_eq!(with_length(8), Ok(0));
    assert_eq!(with_length(20), Ok(12));
    assert_eq!(with_length(u16::MAX), Ok(40));
}

#[test]
fn other_versions_and_gtp_prime_are_refused() {
    let mut bytes = GtpuMessage::gpdu(3).encode(b"x").unwrap();
    for first in [0x00, 0x10, 0x20, 0x48, 0x50, 0xf0] {
        bytes[0] = first;
        assert_eq!(
            parse_gtpu(&bytes),
            Err(WireError::GtpuVersion),
            "{first:#x}"
        );
    }
    bytes[0] = 0x38; // the spare bit is ignored by receivers
    assert!(parse_gtpu(&bytes).is_ok());
}

#[test]
fn the_plain_header_is_what_the_encoder_writes() {
    let bytes = GtpuMessage::gpdu(0xdead_beef).encode(&[1; 300]).unwrap();

    assert_eq!(gpdu_header(0xdead_beef, 300)[..], bytes[..8]);
}

#[test]
fn the_header_with_container_is_what_the_encoder_writes() {
    for info in [
        UPLINK,
        PduSessionInfo {
            qfi: 63,
            downlink: true,
        },
    ] {
        let bytes = GtpuMessage::gpdu(7)
            .with_pdu_session(info)
            .encode(&[1; 300])
            .unwrap();

        assert_eq!(gpdu_header_with_container(7, 300, info)[..], bytes[..16]);
    }
}

#[test]
fn an_echo_is_answered_with_its_sequence_number_and_recovery() {
    let request = parse_gtpu(&echo_request(0xfffe)).map(|gtpu| (gtpu.message_type, gtpu.sequence));
    let bytes = echo_response(0xfffe);
    let response = parse_gtpu(&bytes).unwrap();

    assert_eq!(request, Ok((message_type::ECHO_REQUEST, Some(0xfffe))));
    assert_eq!(response.message_type, message_type::ECHO_RESPONSE);
    assert_eq!((response.teid, response.sequence), (0, Some(0xfffe)));
    assert_eq!(response.payload, [14, 0]);
}

#[test]
fn an_error_indication_round_trips_for_both_families() {
    for peer in ["10.1.2.3", "2001:db8::9"] {
        let peer = peer.parse().unwrap();
        let message = error_indication(0x0a0b_0c0d, peer);
        let gtpu = parse_gtpu(&message).unwrap();

        assert_eq!(gtpu.message_type, message_type::ERROR_INDICATION);
        assert_eq!((gtpu.teid, gtpu.sequence), (0, Some(0)));
        assert_eq!(usize::from(gtpu.payload_len), gtpu.payload.len());
        let indicated = parse_error_indication(gtpu.payload);
        assert_eq!(
            indicated,
            Ok(ErrorIndicated {
                teid: 0x0a0b_0c0d,
                peer
            })
        );
    }
}

#[test]
fn an_error_indication_truncated_anywhere_is_refused() {
    let message = error_indication(1, "2001:db8::9".parse().unwrap());
    let elements = parse_gtpu(&message).unwrap().payload;

    for length in 0..elements.len() {
        let refused = parse_error_indication(&elements[..length]);
        assert_eq!(refused, Err(WireError::GtpuElement), "{length}");
    }
}

#[test]
fn unknown_elements_with_a_length_are_skipped_in_an_error_indication() {
    let mut elements = vec![14, 0, 141, 1, 0x85, 255, 0, 3, 0, 0, 9];
    elements.extend_from_slice(
        parse_gtpu(&error_indication(1, [1, 2, 3, 4].into()))
            .unwrap()
            .payload,
    );

    assert_eq!(
        parse_error_indication(&elements).unwrap().peer,
        IpAddr::from([1, 2, 3, 4])
    );
    assert_eq!(
        parse_error_indication(&[99, 1, 2]),
        Err(WireError::GtpuElement)
    );
}

#[test]
fn the_other_control_messages_have_their_types() {
    let marker = end_marker(6);
    let marker = parse_gtpu(&marker).unwrap();
    assert_eq!(
        (marker.message_type, marker.teid, marker.payload_len),
        (254, 6, 0)
    );

    let notification = supported_extensions_notification();
    let notification = parse_gtpu(notification.as_ref()).unwrap();
    assert_eq!(
        notification.message_type,
        message_type::SUPPORTED_EXTENSIONS
    );
    assert_eq!(notification.payload, [141, 2, 0x85, 0xc0]);
}
