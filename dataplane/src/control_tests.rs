//! Control against a worker without packets.

use std::sync::Arc;

use qlink_meter::{ArenaSetup, CounterArena};
use qlink_pfcp::{AssociationLimits, DownlinkPath, MAX_CONTENTS, Payer, Sponsor};
use qlink_types::codec::Text;
use qlink_types::ids::{PackageId, ViewerKey};
use qlink_types::package::RepeatPolicy;
use qlink_types::units::{Bytes, Incarnation, PackageEpoch};

use super::*;
use crate::plane::{Neighbours, Plane, PlaneLimits};
use crate::trace::Traces;
use crate::worker::apply;

const LIMITS: PlaneLimits = PlaneLimits {
    sessions: 4,
    flows: 4,
    views: 4,

    urrs: 0,
};

/// Control in `folder`, and a thread that ends with it.
pub(crate) fn control(folder: &std::path::Path) -> Control {
    let (bell, _sleeper) = qlink_io::handover::bell().unwrap();
    let (worker, orders) = WorkerHandle::pair(bell);
    let setup = ArenaSetup {
        layout: LIMITS.layout(),
        incarnation: Incarnation::new(1),
        shards: 1,
    };
    let arena = folder.join("arena");
    let (counters, _) = CounterArena::open(&arena, setup).unwrap();
    let neighbours = Neighbours {
        own: Vec::new(),
        n6_peer: "127.0.0.3:5000".parse().unwrap(),
        n3: Vec::new(),
        access: Vec::new(),
    };
    let mut plane = Plane::new(LIMITS, counters, neighbours);
    std::thread::spawn(move || {
        while let Ok((command, result)) = orders.recv() {
            let _ = result.send(apply(&mut plane, command));
        }
    });
    let content = ContentId::new(*blake3::hash(&[5; 100]).as_bytes());
    let copy = Copy::Owned(Arc::from(vec![5; 100]));
    let mut control = Control {
        association: Association::new(AssociationLimits {
            sessions: 4,
            contents: 4,
        }),
        places: BTreeMap::new(),
        ended: BTreeMap::new(),
        copies: BTreeMap::from([(content, copy)]),
        checked: CheckedCopies::open(&folder.join("copies")).unwrap(),
        shards: vec![Shard {
            allocator: TeidAllocator::new(0, 4, 7),
            worker,
            reader: ArenaReader::open(&arena).unwrap(),
            sessions: 0,
        }],
        journal: Journal::open(&folder.join("journal")).unwrap().0,
        traces: Traces::new("127.0.0.1:2152".parse().unwrap()),
        metrics: MetricsEndpoint::open(None).unwrap(),
        paths: None,
        tunnel: None,
        info: DataPlaneInfo {
            incarnation: Incarnation::new(1),
            n3: "127.0.0.1:2152".parse().unwrap(),
            n6: "127.0.0.1:5000".parse().unwrap(),
            arena: Text::try_from("arena").unwrap(),
        },
        n4: None,
    };
    control.association.apply(&Request::BindContent {
        binding: ContentBinding {
            content,
            size: Bytes::new(100),
            path: Text::try_from("film").unwrap(),
        },
    });
    control
}

fn rules(number: u8) -> SessionRules {
    let content = ContentId::new(*blake3::hash(&[5; 100]).as_bytes());
    SessionRules {
        session: SessionId::new([number; 16]),
        teid: None,
        ue: [10, 0, 0, number].into(),
        path: DownlinkPath {
            peer: "127.0.0.2:2152".parse().unwrap(),
            downlink_teid: Teid::new(77),
        },
        basestation: None,
        sponsor: Some(Sponsor {
            package: PackageId::new([2; 16]),
            package_epoch: PackageEpoch::ZERO,
            viewer: ViewerKey::ZERO,
            contents: vec![content].try_into().unwrap(),
            origins: Vec::new().try_into().unwrap(),
            limit: Bytes::new(100),
            repeat: RepeatPolicy::Free,
        }),
        payer: Payer::Operator,
    }
}

#[test]
fn a_delete_whose_record_failed_is_answered_in_full_when_asked_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut control = control(folder.path());
    let session = SessionId::new([1; 16]);
    let established = control.answer(Request::Establish { rules: rules(1) }, 1);
    assert!(matches!(established, Answer::Established { .. }));
    let path = folder.path().join("journal");
    let sound = std::mem::replace(&mut control.journal, Journal::unwritable(&path));

    let failed = control.answer(Request::Delete { session }, 2);
    control.journal = sound;
    let answer = control.answer(Request::Delete { session }, 3);

    assert!(matches!(failed, Answer::Refused { .. }), "{failed:?}");
    match &answer {
        Answer::Deleted { usage, .. } => assert_eq!(usage.contents.len(), 1),
        other => panic!("{other:?}"),
    }
    assert_eq!(control.answer(Request::Delete { session }, 4), answer);
}

#[test]
fn the_journal_stays_bounded_while_sessions_come_and_go() {
    let folder = tempfile::tempdir().unwrap();
    let mut control = control(folder.path());
    let path = folder.path().join("journal");
    let standing = control.answer(Request::Establish { rules: rules(1) }, 1);
    assert!(matches!(standing, Answer::Established { .. }));
    let mut long = rules(2);
    let many = vec![ContentId::new([9; 32]); MAX_CONTENTS];
    long.sponsor.as_mut().unwrap().contents = many.try_into().unwrap();
    let request = Request::Establish { rules: long };
    let mut largest = 0;

    for _ in 0..3_000 {
        control.make_durable(&request).unwrap();
        largest = largest.max(std::fs::metadata(&path).unwrap().len());
    }

    assert!(largest > 1 << 20, "{largest}");
    assert!(largest < (1 << 20) + 16_384, "{largest}");
    let (_, requests) = Journal::<Request>::open(&path).unwrap();
    assert!(matches!(requests.get(1), Some(Request::Establish { .. })));
}
