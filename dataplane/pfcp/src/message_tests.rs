use proptest::prelude::*;
use qlink_types::ids::{BaseStationId, PackageId, ViewerKey};
use qlink_types::package::RepeatPolicy;
use qlink_types::units::PackageEpoch;

use super::*;
use crate::cause::Cause;
use crate::charges::{ChargeRow, RedirectRow};
use crate::rules::{DownlinkPath, MAX_CONTENTS, MAX_ORIGINS, Payer, Sponsor};
use crate::trace::{TraceState, TraceWriter};
use crate::usage::{ContentUsage, VolumeMeasurement};

/// The largest session that the limits allow.
fn largest_rules(number: u8) -> SessionRules {
    SessionRules {
        session: SessionId::new([number; 16]),
        teid: Some(Teid::new(0x1000_0001)),
        ue: "2001:db8::1".parse().unwrap(),
        path: DownlinkPath {
            peer: "[2001:db8::2]:2152".parse().unwrap(),
            downlink_teid: Teid::new(7),
        },
        basestation: Some(BaseStationId::new([3; 16])),
        sponsor: Some(Sponsor {
            package: PackageId::new([4; 16]),
            package_epoch: PackageEpoch::new(1),
            viewer: ViewerKey::new([5; 32]),
            contents: vec![ContentId::new([6; 32]); MAX_CONTENTS]
                .try_into()
                .unwrap(),
            origins: vec!["[2001:db8::3]:80".parse().unwrap(); MAX_ORIGINS]
                .try_into()
                .unwrap(),
            limit: Bytes::new(10_000_000),
            repeat: RepeatPolicy::Free,
        }),
        payer: Payer::Personal {
            package: PackageId::new([8; 16]),
            package_epoch: PackageEpoch::new(2),
            viewer: ViewerKey::new([9; 32]),
            limit: Bytes::new(u64::MAX),
        },
    }
}

fn requests() -> Vec<Request> {
    vec![
        Request::Hello,
        Request::BindContent {
            binding: ContentBinding {
                content: ContentId::new([1; 32]),
                size: Bytes::new(10),
                path: Text::try_from("/var/lib/film").unwrap(),
            },
        },
        Request::UnbindContent {
            content: ContentId::new([1; 32]),
        },
        Request::BindPackage {
            binding: PackageBinding {
                package: PackageId::new([2; 16]),
                contents: vec![ContentId::new([1; 32]); MAX_CONTENTS]
                    .try_into()
                    .unwrap(),
            },
        },
        Request::UnbindPackage {
            package: PackageId::new([2; 16]),
        },
        Request::Establish {
            rules: largest_rules(1),
        },
        Request::Modify {
            session: SessionId::new([1; 16]),
            changes: SessionChanges {
                path: None,
                sponsor_limit: Some(Bytes::new(5)),
                personal_limit: None,
            },
        },
        Request::Delete {
            session: SessionId::new([1; 16]),
        },
        Request::List { after: None },
        Request::Trace {
            order: TraceOrder {
                session: SessionId::new([1; 16]),
                path: Text::try_from("/tmp/session.pcapng").unwrap(),
                packets: 1000,
                seconds: 60,
            },
        },
        Request::TraceProgress {
            session: SessionId::new([1; 16]),
        },
        Request::Charges {
            session: SessionId::new([1; 16]),
        },
        Request::AddTunnelMember {
            member: TunnelMember {
                key: Hash32::new([7; 32]),
                address: "fd00::2".parse().unwrap(),
            },
        },
        Request::RemoveTunnelMember {
            key: Hash32::new([7; 32]),
        },
        Request::RenewTunnelMember {
            member: TunnelMember {
                key: Hash32::new([8; 32]),
                address: "10.99.0.2".parse().unwrap(),
            },
            old: Hash32::new([7; 32]),
        },
        Request::TunnelFigures,
    ]
}

/// What is said about sessions.
fn session_answers() -> Vec<Answer> {
    let largest: Vec<SessionRules> = (0..16).map(largest_rules).collect();
    vec![
        Answer::Established {
            session: SessionId::new([1; 16]),
            teid: Teid::new(1),
            n3: TunnelAddress("127.0.0.1:2152".parse().unwrap()),
        },
        Answer::Modified {
            session: SessionId::new([1; 16]),
        },
        Answer::Deleted {
            session: SessionId::new([1; 16]),
            usage: SessionUsage {
                uplink: VolumeMeasurement {
                    network_bytes: Bytes::new(1),
                    packets: 2,
                },
                contents: vec![ContentUsage {
                    content: ContentId::new([1; 32]),
                    verified_unique: Bytes::new(3),
                }]
                .try_into()
                .unwrap(),
                ..SessionUsage::default()
            },
        },
        Answer::Sessions {
            sessions: largest.try_into().unwrap(),
            more: true,
        },
        Answer::Charges {
            charges: SessionCharges {
                session: SessionId::new([1; 16]),
                before: Bytes::new(5),
                rows: vec![ChargeRow {
                    reason: Text::try_from("mismatch").unwrap(),
                    bytes: Bytes::new(6),
                }]
                .try_into()
                .unwrap(),
                redirects: vec![RedirectRow {
                    protocol: 6,
                    ue_port: 1,
                    asked: "192.0.2.1:80".parse().unwrap(),
                    to: "[2001:db8::1]:8080".parse().unwrap(),
                    port_there: 2,
                }]
                .try_into()
                .unwrap(),
            },
        },
        Answer::Traced {
            report: TraceReport {
                session: SessionId::new([1; 16]),
                state: TraceState::Running,
                writer: TraceWriter::Uring,
                packets: 7,
                lost: 1,
                bytes: 1234,
            },
        },
    ]
}

fn answers() -> Vec<Answer> {
    let mut answers = session_answers();
    answers.extend([
        Answer::TunnelFigures {
            figures: TunnelFigures {
                peers: 3,
                shed: u64::MAX,
                ..TunnelFigures::default()
            },
        },
        Answer::TunnelMemberAdded {
            end: TunnelEnd {
                key: Hash32::new([8; 32]),
                listen: "192.0.2.1:51820".parse().unwrap(),
                gtpu: "[fd00::1]:2152".parse().unwrap(),
            },
        },
        Answer::TunnelMemberRemoved {
            key: Hash32::new([7; 32]),
        },
        Answer::Hello {
            info: DataPlaneInfo {
                incarnation: Incarnation::new(1),
                n3: "127.0.0.1:2152".parse().unwrap(),
                n6: "127.0.0.1:5000".parse().unwrap(),
                arena: Text::try_from("/run/arena").unwrap(),
            },
        },
        Answer::Bound {
            content: ContentId::new([1; 32]),
        },
        Answer::Unbound {
            content: ContentId::new([1; 32]),
        },
        Answer::Refused {
            refusal: Refusal::new(Cause::Busy, "later"),
        },
    ]);
    answers
}

#[test]
fn every_message_comes_back_from_its_bytes() {
    for (sequence, request) in (0u32..).zip(requests()) {
        let bytes = encode_request(sequence, &request).unwrap();
        assert_eq!(decode_request(&bytes), Ok((sequence, request)));
    }
    for (sequence, answer) in (0u32..).zip(answers()) {
        let bytes = encode_answer(sequence, &answer).unwrap();
        assert_eq!(decode_answer(&bytes), Ok((sequence, answer)));
    }
}

#[test]
fn a_full_page_of_the_largest_sessions_fits_into_a_message() {
    let page = &answers()[6];

    assert!(encode_answer(0, page).unwrap().len() <= MAX_MESSAGE_BYTES);
}

#[test]
fn a_message_of_another_version_is_refused() {
    let mut bytes = encode_request(1, &Request::Hello).unwrap();
    bytes[1] = 2;

    assert_eq!(
        decode_request(&bytes),
        Err(MessageError::Version { found: 2 })
    );
}

#[test]
fn every_cut_message_is_refused() {
    for request in requests() {
        let bytes = encode_request(9, &request).unwrap();
        for length in 0..bytes.len() {
            assert!(decode_request(&bytes[..length]).is_err(), "{length}");
        }
    }
}

#[test]
fn a_message_with_a_byte_too_many_is_refused() {
    let mut bytes = encode_request(1, &Request::Hello).unwrap();
    bytes.push(0);

    assert_eq!(
        decode_request(&bytes),
        Err(MessageError::Malformed(DecodeError::Trailing { extra: 1 }))
    );
}

proptest! {
    #[test]
    fn what_decodes_encodes_to_the_same_bytes(
        which in 0..7usize, place in 0..4000usize, value: u8,
    ) {
        let mut bytes = encode_request(3, &requests()[which]).unwrap();
        let place = place.checked_rem(bytes.len()).unwrap();
        bytes[place] = value;

        if let Ok((sequence, request)) = decode_request(&bytes) {
            prop_assert_eq!(encode_request(sequence, &request).unwrap(), bytes);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = decode_request(&bytes);
        let _ = decode_answer(&bytes);
    }
}
