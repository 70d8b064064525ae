use super::*;

fn event(change: BlockChange, first_port: u16) -> BlockEvent {
    BlockEvent {
        change,
        identity: 7 << 64 | 9,
        inside: "2001:db8::5".parse().unwrap(),
        address: Ipv4Addr::new(198, 51, 100, 7),
        first_port,
        last_port: first_port + 511,
        time_ns: 0,
    }
}

#[test]
fn what_a_killed_process_had_given_is_known_to_the_next_even_with_another_pool() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("blocks");
    let pool = vec![
        Ipv4Addr::new(203, 0, 113, 1),
        Ipv4Addr::new(198, 51, 100, 7),
    ];
    let (ledger, before) = Ledger::open(&path, pool.clone(), 512).unwrap();
    let mut line = BlockLine {
        ledger: Some(ledger),
        ..BlockLine::default()
    };
    assert!(before.is_empty());

    assert!(line.offer(&event(BlockChange::Assigned, 1024)));
    assert!(line.offer(&event(BlockChange::Assigned, 2048)));
    assert!(line.offer(&event(BlockChange::Released, 2048)));
    drop(line);

    let wider = [&pool[..], &[Ipv4Addr::new(192, 0, 2, 1)]].concat();
    for pool in [pool, wider] {
        let (_, known) = Ledger::open(&path, pool, 512).unwrap();
        let [held, released] = known[..] else {
            panic!("{known:?}")
        };
        assert_eq!((held.first_port, released.first_port), (1024, 2048));
        let first = event(BlockChange::Assigned, 1024);
        let (identity, inside) = (first.identity, first.inside);
        assert_eq!(held.past, Past::Held { identity, inside });
        assert!(matches!(released.past, Past::Released { .. }));
    }
}

#[test]
fn an_event_that_the_exporter_has_no_room_for_is_refused_and_leaves_nothing() {
    let (sender, receiver) = crossbeam::channel::bounded(1);
    let mut line = BlockLine {
        line: Some(sender),
        ..BlockLine::default()
    };

    assert!(line.offer(&event(BlockChange::Assigned, 1024)));
    assert!(!line.offer(&event(BlockChange::Assigned, 2048)));

    assert_eq!(line.assigned, 1);
    let record = receiver.recv().unwrap();
    assert_eq!((record.ports, record.event as u8), ((1024, 1535), 16));
}

#[test]
fn a_file_of_a_newer_release_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("blocks");
    let arena = Arena::create(&path, HEADER_WORDS).unwrap();
    arena.words()[0].store(2, Ordering::Release);
    drop(arena);

    let opened = Ledger::open(&path, vec![Ipv4Addr::new(198, 51, 100, 7)], 512);

    assert!(matches!(opened, Err(LedgerError::NewerLayout { found: 2 })));
}
