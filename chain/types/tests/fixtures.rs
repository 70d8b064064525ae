//! Every encoded type has a fixture: an encoding that must not change by accident.
//!
//! To change a format on purpose, raise its version and run with `QLINK_UPDATE_FIXTURES=1`.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::too_many_lines,
    reason = "test code; one value per type"
)]

use std::path::Path;

use qlink_types::batch::{Batch, Final};
use qlink_types::block::{Block, Certificate, Header, SCHEME_SOLO};
use qlink_types::codec::{Blob, Decode, Encode, List, Text};
use qlink_types::content::{ContentRegistration, GROUP_LOG};
use qlink_types::ids::{
    AccountId, BaseStationId, BlockId, ContentId, GatewayId, Hash32, OperatorId, PackageId,
    SessionId, Teid, TxId, ViewerKey,
};
use qlink_types::merkle::{self, InclusionProof};
use qlink_types::outcome::{ClosingReason, Event, RefusedRecord, Share, Status, TxReceipt};
use qlink_types::package::VersionedTerms;
use qlink_types::package::{Audience, CarriageShares, PackageTerms, RepeatPolicy, Scope};
use qlink_types::receipt::{ByteClasses, Receipt, ReceiptSigner, SignedReceipt};
use qlink_types::record::{CarriageKey, CarriageRecord, GradedBytes, Leaf, RatioKey, RatioRecord};
use qlink_types::session::{Acceptance, SessionOpen, SignedAcceptance};
use qlink_types::signature::{ChainId, SecretKey};
use qlink_types::transaction::{Party, PartyKind, Sender, Transaction, TxBody, prove_key};
use qlink_types::units::{
    BlockHeight, Bytes, Incarnation, Nonce, PackageEpoch, SeatEpoch, TimeMs, Units,
};

const CHAIN: ChainId = ChainId::new([0xc4; 32]);
const PACKAGE: PackageId = PackageId::new([0x11; 16]);
const GATEWAY: GatewayId = GatewayId::new([0x22; 16]);
const VIEWER: ViewerKey = ViewerKey::new([0x33; 32]);
const ACCOUNT: AccountId = AccountId::new([0x44; 32]);

fn check<T: Encode + Decode + PartialEq + std::fmt::Debug>(name: &str, value: &T) {
    let encoded = value.to_bytes();
    assert_eq!(
        &T::from_bytes(&encoded).unwrap(),
        value,
        "{name} does not round-trip"
    );
    let mut longer = encoded.clone();
    longer.push(0);
    assert!(
        T::from_bytes(&longer).is_err(),
        "{name} accepts a trailing byte"
    );
    for cut in 0..encoded.len() {
        let short = encoded.get(..cut).unwrap();
        assert!(
            T::from_bytes(short).is_err(),
            "{name} accepts {cut} of {} bytes",
            encoded.len()
        );
    }

    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures")
        .join(format!("{name}.hex"));
    let text = format!("{}\n", hex::encode(&encoded));
    if std::env::var_os("QLINK_UPDATE_FIXTURES").is_some() {
        std::fs::write(&path, text).unwrap();
        return;
    }
    let fixture =
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("fixture {name}: {error}"));
    assert_eq!(text, fixture, "the encoding of {name} changed");
}

fn list<T, const MAX: usize>(values: Vec<T>) -> List<T, MAX> {
    List::try_from(values).unwrap()
}

fn ratio_record() -> RatioRecord {
    RatioRecord {
        key: RatioKey {
            package: PACKAGE,
            package_epoch: PackageEpoch::new(1),
            viewer: VIEWER,
            gateway: GATEWAY,
            incarnation: Incarnation::new(7),
        },
        bytes: GradedBytes {
            verified: Bytes::new(10_000_000),
            edge: Bytes::new(2),
            receipt: Bytes::new(3),
        },
        units: Units::new(10_000_005),
        lease: Bytes::new(20_000_000),
        evidence_root: Hash32::new([0x55; 32]),
    }
}

fn carriage_record() -> CarriageRecord {
    CarriageRecord {
        key: CarriageKey {
            package: PACKAGE,
            package_epoch: PackageEpoch::new(1),
            gateway: GATEWAY,
            incarnation: Incarnation::new(7),
            operator: OperatorId::new([0x66; 16]),
            basestation: BaseStationId::new([0x77; 16]),
        },
        bytes: Bytes::new(10_000_005),
    }
}

fn batch() -> Batch {
    let mut batch = Batch {
        gateway: GATEWAY,
        incarnation: Incarnation::new(7),
        sequence: 9,
        ratio: list(vec![ratio_record()]),
        carriage: list(vec![carriage_record()]),
        finals: list(vec![Final {
            package: PACKAGE,
            package_epoch: PackageEpoch::new(0),
        }]),
        root: Hash32::ZERO,
    };
    batch.root = batch.compute_root();
    batch
}

fn terms() -> PackageTerms {
    PackageTerms {
        scope: Scope::Contents {
            contents: list(vec![ContentId::new([0x88; 32])]),
        },
        bytes: Bytes::new(100_000_000),
        reward: Units::new(100_000_000),
        carriage: CarriageShares {
            operator: Units::new(50),
            basestation: Units::new(30),
            gateway: Units::new(20),
        },
        valid_from: TimeMs::new(1),
        valid_until: TimeMs::new(2),
        audience: Audience::Keys {
            keys: list(vec![VIEWER]),
        },
        viewer_cap: Bytes::new(10_000_000),
        repeat: RepeatPolicy::ChargeUser,
        gateways: list(vec![GATEWAY]),
    }
}

fn receipt() -> Receipt {
    Receipt {
        session: SessionId::new([0x99; 16]),
        gateway: GATEWAY,
        incarnation: Incarnation::new(7),
        sequence: 4,
        package: PACKAGE,
        package_epoch: PackageEpoch::new(1),
        viewer: VIEWER,
        uplink_network_bytes: Bytes::new(1_000),
        downlink_network_bytes: Bytes::new(2_000),
        classes: ByteClasses {
            wire_payload: Bytes::new(28),
            verified_unique: Bytes::new(1),
            retransmit: Bytes::new(2),
            verified_repeat: Bytes::new(3),
            overhead_allowed: Bytes::new(4),
            undelivered: Bytes::new(5),
            user_charged: Bytes::new(6),
            pending: Bytes::new(7),
        },
        stated_at: TimeMs::new(1_700_000_000_000),
    }
}

fn transaction(body: TxBody) -> Transaction {
    Transaction {
        chain: CHAIN,
        sender: Sender::Account { account: ACCOUNT },
        nonce: Nonce::new(3),
        max_fee: Units::new(1_000),
        valid_until: TimeMs::new(99),
        body,
    }
}

fn header() -> Header {
    Header {
        chain: CHAIN,
        height: BlockHeight::new(5),
        parent: BlockId::new([1; 32]),
        time_ms: TimeMs::new(1_700_000_000_000),
        seat_epoch: SeatEpoch::new(0),
        proposer: SecretKey::from_seed([1; 32]).public(),
        engine_context: Blob::try_from(vec![1, 2, 3]).unwrap(),
        state_root_prev: Hash32::new([2; 32]),
        tx_root: Hash32::new([3; 32]),
        receipts_root: Hash32::new([4; 32]),
        next_seats_hash: Hash32::new([5; 32]),
    }
}

#[test]
fn records_and_batches_keep_their_encoding() {
    check("ratio_record", &ratio_record());
    check("carriage_record", &carriage_record());
    check("leaf_ratio", &Leaf::Ratio(ratio_record()));
    check("leaf_carriage", &Leaf::Carriage(carriage_record()));
    check("batch", &batch());
    let leaves = [b"a".as_slice(), b"b", b"c"];
    check::<InclusionProof>("inclusion_proof", &merkle::prove(leaves, 2).unwrap());
}

#[test]
fn receipts_and_session_statements_keep_their_encoding() {
    let key = SecretKey::from_seed([6; 32]);
    check("receipt", &receipt());
    for (name, signer) in [
        ("signed_receipt_gateway", ReceiptSigner::Gateway),
        ("signed_receipt_viewer", ReceiptSigner::Viewer),
        ("signed_receipt_basestation", ReceiptSigner::BaseStation),
    ] {
        let signed = SignedReceipt::sign(receipt(), signer, &key, &CHAIN);
        assert!(signed.verify(&CHAIN).is_ok());
        check(name, &signed);
    }
    let acceptance = Acceptance {
        package: PACKAGE,
        viewer: ViewerKey::from(key.public()),
        gateway: GATEWAY,
        valid_until: TimeMs::new(5),
        nonce: Hash32::new([6; 32]),
    };
    check("acceptance", &acceptance);
    check(
        "signed_acceptance",
        &SignedAcceptance::sign(acceptance, &key, &CHAIN),
    );
    let open = SessionOpen {
        basestation: BaseStationId::new([0x77; 16]),
        gateway: GATEWAY,
        downlink_teid: Teid::new(0x0102_0304),
        acceptance_hash: Hash32::new([8; 32]),
        personal_package: PackageId::new([9; 16]),
        valid_until: TimeMs::new(5),
        nonce: Hash32::new([7; 32]),
    };
    check("session_open", &open);
}

#[test]
fn terms_keep_their_encoding_in_every_audience() {
    check("terms", &VersionedTerms(terms()));
    for (name, audience) in [
        ("audience_open", Audience::Open),
        (
            "audience_keys",
            Audience::Keys {
                keys: list(vec![VIEWER]),
            },
        ),
        (
            "audience_invite_codes",
            Audience::InviteCodes {
                root: Hash32::new([1; 32]),
            },
        ),
        (
            "audience_operators",
            Audience::Operators {
                operators: list(vec![OperatorId::new([2; 16])]),
            },
        ),
        (
            "audience_regions",
            Audience::Regions {
                regions: list(vec![Text::try_from("DE-BE").unwrap()]),
            },
        ),
    ] {
        check(name, &audience);
    }
    check("scope_any", &Scope::Any);
}

#[test]
fn every_transaction_type_keeps_its_encoding() {
    let key = SecretKey::from_seed([6; 32]);
    let registration = ContentRegistration {
        content: ContentId::new([0x88; 32]),
        size: Bytes::new(10_000_000),
        group_log: GROUP_LOG,
        sha256: Hash32::new([1; 32]),
        groups_hash: Hash32::new([2; 32]),
        media_type: Text::try_from("video/mp4").unwrap(),
        royalty_units: Units::ZERO,
    };
    check("content_registration", &registration);
    let carriage = CarriageShares::default();
    let key_proof = prove_key(&key, &CHAIN, &ACCOUNT);
    let bodies = [
        (
            "transfer",
            TxBody::Transfer {
                to: ACCOUNT,
                amount: Units::new(5),
            },
        ),
        (
            "register_party",
            TxBody::RegisterParty {
                party_kind: PartyKind::BaseStation,
                key: key.public(),
                key_proof,
                asset: Hash32::new([3; 32]),
                name: Text::try_from("roof").unwrap(),
            },
        ),
        (
            "rotate_key",
            TxBody::RotateKey {
                party: Party::Gateway { gateway: GATEWAY },
                key: key.public(),
                key_proof,
            },
        ),
        ("register_content", TxBody::RegisterContent { registration }),
        (
            "buy_package",
            TxBody::BuyPackage {
                terms: VersionedTerms(terms()),
            },
        ),
        (
            "top_up_package",
            TxBody::TopUpPackage {
                package: PACKAGE,
                bytes: Bytes::new(1),
                reward: Units::new(2),
                carriage,
                valid_until: TimeMs::new(3),
            },
        ),
        ("close_package", TxBody::ClosePackage { package: PACKAGE }),
        (
            "claim",
            TxBody::Claim {
                package: PACKAGE,
                to: ACCOUNT,
                total: Units::new(1),
            },
        ),
        ("settle_batch", TxBody::SettleBatch { batch: batch() }),
    ];
    for (name, body) in bodies {
        check(&format!("tx_{name}"), &transaction(body).sign(&key));
    }
    let gateway = Transaction {
        sender: Sender::Gateway { gateway: GATEWAY },
        ..transaction(TxBody::SettleBatch { batch: batch() })
    };
    check("tx_from_gateway", &gateway);
    let viewer = Transaction {
        sender: Sender::Viewer { viewer: VIEWER },
        ..transaction(TxBody::ClosePackage { package: PACKAGE })
    };
    check("tx_from_viewer", &viewer);
}

fn events() -> Vec<Event> {
    let party = Party::Operator {
        operator: OperatorId::new([2; 16]),
    };
    let package_epoch = PackageEpoch::new(1);
    let (bytes, units) = (Bytes::new(10), Units::new(20));
    vec![
        Event::Transferred {
            from: ACCOUNT,
            to: AccountId::ZERO,
            units,
        },
        Event::PartyRegistered {
            party,
            owner: ACCOUNT,
        },
        Event::KeyRotated { party },
        Event::ContentRegistered {
            content: ContentId::ZERO,
            owner: ACCOUNT,
            size: bytes,
        },
        Event::PackageBought {
            package: PACKAGE,
            owner: ACCOUNT,
            bytes,
            reward_units: units,
            carriage_units: units,
        },
        Event::PackageEpochOpened {
            package: PACKAGE,
            package_epoch,
            bytes,
            reward_units: units,
        },
        Event::PackageClosing {
            package: PACKAGE,
            package_epoch,
            reason: ClosingReason::TopUp,
            deadline: TimeMs::new(4),
        },
        Event::PackageSettled {
            package: PACKAGE,
            package_epoch,
            gateway: GATEWAY,
            used_bytes: bytes,
            moved_units: units,
        },
        Event::CarriagePaid {
            package: PACKAGE,
            share: Share::Operator,
            party,
            account: ACCOUNT,
            units,
        },
        Event::BatchSettled {
            gateway: GATEWAY,
            sequence: 1,
            root: Hash32::ZERO,
            accepted: 2,
            refused: 3,
        },
        Event::PackageClosed {
            package: PACKAGE,
            used_bytes: bytes,
            reward_units: units,
            unclaimed_units: units,
            dust_units: units,
            carriage_units: units,
            refund_units: units,
        },
        Event::Claimed {
            package: PACKAGE,
            viewer: VIEWER,
            account: ACCOUNT,
            units,
        },
    ]
}

#[test]
fn blocks_certificates_and_outcomes_keep_their_encoding() {
    check("header", &header());
    let key = SecretKey::from_seed([6; 32]);
    let transfer = TxBody::Transfer {
        to: ACCOUNT,
        amount: Units::new(5),
    };
    let block = Block {
        header: header(),
        transactions: list(vec![transaction(transfer).sign(&key)]),
    };
    check("block", &block);
    let certificate = Certificate {
        scheme: SCHEME_SOLO,
        seat_epoch: SeatEpoch::new(0),
        proof: Blob::try_from(vec![9; 64]).unwrap(),
    };
    check("certificate", &certificate);
    let outcome = TxReceipt {
        tx: TxId::new([1; 32]),
        status: Status::Accepted,
        fee: Units::new(100),
        refused: list(vec![RefusedRecord {
            index: 4,
            status: Status::UnitsMismatch,
        }]),
        events: list(events()),
    };
    check("tx_receipt", &outcome);
}
