use std::net::Ipv4Addr;

use qlink_pfcp::SessionUsage;
use qlink_store::MemoryStore;
use qlink_types::ids::{BaseStationId, GatewayId, OperatorId, Teid};
use qlink_types::receipt::{ByteClasses, Receipt, ReceiptSigner, SignedReceipt};
use qlink_types::signature::{ChainId, SecretKey};
use qlink_types::units::{Incarnation, TimeMs};

use super::*;
use crate::session::{Endpoint, Ipv4Text, Leg, Stage};

const PACKAGE: PackageId = PackageId::new([1; 16]);
const GATEWAY: GatewayId = GatewayId::new([2; 16]);

fn registry(store: &Arc<MemoryStore>) -> Registry {
    let pool = AddressPool {
        base: Ipv4Addr::new(10, 45, 0, 1),
        count: 8,
    };
    Registry::open(Arc::clone(store) as Arc<dyn KvStore>, pool).unwrap()
}

fn store() -> Arc<MemoryStore> {
    Arc::new(MemoryStore::new())
}

fn viewer(number: u8) -> ViewerKey {
    ViewerKey::new([number; 32])
}

fn session(number: u8, proven: u64) -> Session {
    let mut usage = SessionUsage::default();
    usage.classes.verified_unique = Bytes::new(proven);
    let address = Endpoint("127.0.0.1:2152".parse().unwrap());
    let leg = Leg::begin(PACKAGE, viewer(number), Bytes::new(100), PackageEpoch::ZERO);
    Session {
        session: SessionId::new([number; 16]),
        incarnation: Incarnation::new(1),
        stage: Stage::Open,
        basestation: BaseStationId::new([4; 16]),
        operator: OperatorId::new([5; 16]),
        peer: address,
        downlink_teid: Teid::new(1),
        teid: Teid::new(2),
        n3: address,
        ue: Ipv4Text(Ipv4Addr::new(10, 45, 0, number)),
        sponsor: Some(leg.unwrap()),
        personal: None,
        usage,
        stated: Bytes::ZERO,
        viewer_receipt: None,
        basestation_receipt: None,
        request: Hash32::ZERO,
    }
}

fn closed(session: Session) -> Session {
    Session {
        stage: Stage::Closed,
        ..session
    }
}

fn receipt(bytes: u64) -> SignedReceipt {
    let receipt = Receipt {
        session: SessionId::new([1; 16]),
        gateway: GATEWAY,
        incarnation: Incarnation::new(1),
        sequence: 1,
        package: PACKAGE,
        package_epoch: PackageEpoch::ZERO,
        viewer: viewer(1),
        uplink_network_bytes: Bytes::ZERO,
        downlink_network_bytes: Bytes::ZERO,
        classes: ByteClasses {
            verified_unique: Bytes::new(bytes),
            ..ByteClasses::default()
        },
        stated_at: TimeMs::ZERO,
    };
    let key = SecretKey::from_seed([1; 32]);
    SignedReceipt::sign(receipt, ReceiptSigner::Viewer, &key, &ChainId::ZERO)
}

fn total(registry: &Registry) -> u64 {
    registry.totals().values().map(|bytes| bytes.get()).sum()
}

#[test]
fn a_closed_session_never_opens_again() {
    let store = store();
    let mut registry = registry(&store);
    registry.keep(session(1, 70)).unwrap();
    registry.close(&closed(session(1, 70))).unwrap();

    let changed = registry.update_open(&SessionId::new([1; 16]), |_| Ok(()));

    assert!(!changed.unwrap());
    assert!(matches!(
        registry.keep(closed(session(1, 70))),
        Err(RegistryError::Closed(_))
    ));
    assert_eq!(total(&registry), 70);
}

#[test]
fn a_low_receipt_neither_frees_the_cap_nor_takes_back_what_was_stated() {
    let store = store();
    let mut registry = registry(&store);
    registry.keep(session(1, 60)).unwrap();
    let low = Session {
        stated: Bytes::new(60),
        viewer_receipt: Some(receipt(5)),
        ..closed(session(1, 70))
    };

    registry.close(&low).unwrap();

    assert_eq!(total(&registry), 60);
    let used = registry.commitments().of_viewer(&PACKAGE, &viewer(1));
    assert_eq!(used, Bytes::new(70));
}

#[test]
fn a_refused_viewer_stays_out_and_the_others_stay_payable_after_a_restart() {
    let store = store();
    let mut first = registry(&store);
    first.keep(session(1, 70)).unwrap();
    first.keep(session(2, 30)).unwrap();
    first.close(&closed(session(1, 70))).unwrap();
    first.close(&closed(session(2, 30))).unwrap();
    let key = first
        .totals()
        .into_keys()
        .map(|path| path.ratio(GATEWAY))
        .find(|key| key.viewer == viewer(1))
        .unwrap();

    first.refuse(&key, Status::ViewerCapExceeded).unwrap();

    assert_eq!(total(&first), 30);
    assert_eq!(total(&registry(&store)), 30);
}

#[test]
fn an_acceptance_remembers_the_session_that_it_opened() {
    let store = store();
    let hash = Hash32::new([9; 32]);
    registry(&store).begin(session(1, 0), &[hash]).unwrap();

    let known = registry(&store).accepted(&hash).unwrap();

    assert_eq!(known, Some(SessionId::new([1; 16])));
}
