use super::rig::*;
use crate::model::*;
use crate::node::*;
use crate::testing::{Pool, open_qer};
use crate::wire::*;

/// A node with two sessions, one changed, one association more, and filters.
fn busy() -> Rig {
    let (mut rig, mut smf, cp, _) = established();
    let mut other = smf_at(OTHER, 7);
    other.associate(rig.now);
    rig.talk(&mut other, OTHER);
    smf.establish(rig.now, plan(2).rules());
    smf.establish(rig.now, plan(3).rules());
    smf.modify(
        rig.now,
        cp,
        change(SessionChange {
            create_qers: vec![open_qer(5)],
            ..SessionChange::default()
        }),
    );
    smf.state_applications(
        rig.now,
        vec![ApplicationPfds {
            application: ApplicationId(b"film".to_vec()),
            pfds: vec![Pfd {
                domain: Some(b"film.example".to_vec()),
                ..Pfd::default()
            }],
        }],
    );
    rig.talk(&mut smf, SMF);
    let third = smf.sessions().last().unwrap();
    smf.delete(rig.now, third);
    rig.talk(&mut smf, SMF);
    rig
}

fn restored(records: impl IntoIterator<Item = Record>) -> (Node, Pool) {
    let mut pool = Pool::new(1000);
    let node = Node::restore(config(), records, std::time::Duration::ZERO, &mut pool).unwrap();
    (node, pool)
}

#[test]
fn the_journal_makes_the_same_node() {
    let rig = busy();
    let codec = Codec::default();
    let records = rig.journal.iter();
    let records = records.map(|bytes| Record::from_bytes(bytes, &codec).unwrap());

    let (node, pool) = restored(records);

    assert_eq!(node.snapshot(), rig.node.snapshot());
    // Two associations, two sessions, an application, and the answer that ended the third session.
    assert_eq!(node.snapshot().len(), 6);
    assert_eq!(pool, rig.pool);
}

/// What a process that is killed behind a turn's journal leaves: everything but what it sent.
fn killed(rig: &mut Rig) {
    rig.sent.clear();
    let codec = Codec::default();
    let records = rig.journal.iter();
    let records = records.map(|bytes| Record::from_bytes(bytes, &codec).unwrap());
    let mut pool = Pool::new(1000);
    let later = NodeConfig {
        start: 2,
        ..config()
    };
    rig.node = Node::restore(later, records.collect::<Vec<_>>(), rig.now, &mut pool).unwrap();
    rig.pool = pool;
}

#[test]
fn a_deletion_asked_for_again_after_a_kill_is_answered_with_the_last_usage() {
    let (mut rig, mut smf, cp, _) = established();
    smf.delete(rig.now, cp);
    for bytes in smf.take_datagrams() {
        rig.event(Event::Datagram {
            from: SMF,
            bytes: &bytes,
        });
    }
    killed(&mut rig);

    rig.now += Timers::default().t1;
    let unanswered = smf.timer(rig.now);
    let happened = rig.talk(&mut smf, SMF);

    assert!(unanswered.is_empty());
    let [crate::sim::Happened::Deleted { reports, .. }] = &happened[..] else {
        panic!("{happened:?}");
    };
    assert_eq!(reports.len(), 1);
    // Long after nobody asks again, it is not remembered either.
    rig.wait_with(&mut smf, SMF, 3600);
    let other = smf.establish(rig.now, plan(2).rules());
    rig.talk(&mut smf, SMF);
    smf.delete(rig.now, other);
    rig.talk(&mut smf, SMF);
    let ended = rig.node.snapshot();
    let ended = ended
        .iter()
        .filter(|record| matches!(record, Record::Ended(..)));
    assert_eq!(ended.count(), 1);
}

#[test]
fn last_words_that_nobody_heard_before_a_kill_are_said_again_until_they_are_answered() {
    let (mut rig, mut smf) = associated();
    let part = FqCsid {
        node: CsidNode::V4([192, 0, 2, 7].into()),
        csids: vec![1],
        kind: None,
    };
    let sets = SessionSets {
        csids: vec![part.clone()],
        group: None,
    };
    let session = smf.establish_in(rig.now, plan(1).rules(), sets);
    rig.talk(&mut smf, SMF);
    smf.delete_sets(rig.now, vec![part]);
    for bytes in smf.take_datagrams() {
        rig.event(Event::Datagram {
            from: SMF,
            bytes: &bytes,
        });
    }
    killed(&mut rig);
    assert_eq!(rig.node.next_deadline(), Some(std::time::Duration::ZERO));

    // The control plane is away for longer than requests are sent again.
    rig.wait_alone(60);
    rig.sent.clear();
    let happened = rig.wait_with(&mut smf, SMF, 60);

    let told = happened.iter().filter(|happened| {
        matches!(happened, crate::sim::Happened::Reported { session: of, report }
            if *of == session && report.flags.deleted && report.reports.len() == 1)
    });
    assert_eq!(told.count(), 1, "{happened:?}");
    assert_eq!(rig.noted("reports_lost"), 0);
    killed(&mut rig);
    assert!(rig.wait_with(&mut smf, SMF, 60).is_empty());
}

#[test]
fn a_snapshot_makes_the_same_node() {
    let rig = busy();

    let (node, pool) = restored(rig.node.snapshot());

    assert_eq!(node.snapshot(), rig.node.snapshot());
    assert_eq!(pool, rig.pool);
}

#[test]
fn a_restored_node_goes_on() {
    let (mut rig, mut smf, cp, _) = established();
    let snapshot = rig.node.snapshot();
    let mut pool = Pool::new(1000);
    let later = NodeConfig {
        start: 2,
        ..config()
    };
    rig.node = Node::restore(later, snapshot, rig.now, &mut pool).unwrap();

    smf.establish(rig.now, plan(2).rules());
    smf.delete(rig.now, cp);
    let happened = rig.talk(&mut smf, SMF);

    assert_eq!(happened.len(), 2);
    let (left, _) = rig.node.sessions().next().unwrap();
    let (_, owner, remote) = rig.node.session(left).unwrap();
    assert_eq!(rig.node.association(owner).unwrap().peer, SMF);
    assert_eq!(remote.seid, smf.sessions().next().unwrap());
    assert_eq!(rig.plane.len(), 1);
    rig.assert_sound();
}

#[test]
fn a_session_whose_endpoint_is_taken_is_not_restored() {
    let rig = busy();
    let mut pool = Pool::new(1000);
    for endpoint in rig.pool.taken.keys() {
        pool.taken.insert(*endpoint, Seid::new(1));
    }

    let node = Node::restore(
        config(),
        rig.node.snapshot(),
        std::time::Duration::ZERO,
        &mut pool,
    );

    assert!(matches!(node, Err(RestoreError::Session { .. })));
}

#[test]
fn a_record_of_another_version_is_refused() {
    let codec = Codec::default();
    let mut bytes = Record::SessionGone(Seid::new(5)).to_bytes(&codec).unwrap();
    assert!(Record::from_bytes(&bytes, &codec).is_ok());
    bytes[5] += 1;
    assert!(Record::from_bytes(&bytes, &codec).is_err());
    bytes[5] -= 1;
    bytes[0] = b'X';
    assert!(Record::from_bytes(&bytes, &codec).is_err());
}

/// The bytes of a record that an earlier build wrote are read by this one: a change of the format
/// is a new version, and this line stays.
#[test]
fn the_format_of_records_stands() {
    let bytes = Record::SessionGone(Seid::new(0x0102_0304_0506_0708))
        .to_bytes(&Codec::default())
        .unwrap();

    assert_eq!(
        bytes,
        [b"QPFN\0\x01\x04".as_slice(), &[1, 2, 3, 4, 5, 6, 7, 8]].concat()
    );
}
