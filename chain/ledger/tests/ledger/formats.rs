//! The stored form of every kind of row, byte for byte.
//!
//! `QLINK_WRITE_FIXTURES=1` writes the file anew: only when the format changes on purpose.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;

use qlink_ledger::{Genesis, Params, Space};
use qlink_types::transaction::TxBody;
use qlink_types::units::{TimeMs, Units};

use crate::stake_world::*;
use crate::world::*;

/// Letters of all kinds of rows.
const KINDS: &[u8] = b"ANPW abcdegijklmnoprstvwxy";

/// A world in which every kind of row exists, among them a package of each state but `Open`.
fn everything() -> World {
    let mut world = World::new();
    let terms = world.terms();
    let ids: Vec<_> = (0..3).map(|_| world.buy(terms.clone())).collect();
    world.settle(0, world.watch(ids[0], &[(0, 1_000), (1, 2_000)]));
    world.settle(0, world.watch(ids[1], &[(1, 3_000)]));
    let claim = world.claim(ids[0], 1, 500);
    world.submit(claim);
    let until = world.package(&ids[0]).valid_until;
    world.accept(&provider(), top_up(ids[0], 10, 20, until));
    world.settle(
        0,
        world.batch(0, Vec::new(), Vec::new(), world.finals(ids[0])),
    );
    world.accept(&provider(), top_up(ids[1], 10, 20, until));
    world.accept(&provider(), TxBody::ClosePackage { package: ids[2] });
    stakes(&mut world);
    world
}

/// A candidate with a vote, stake that waits, and an election's row.
fn stakes(world: &mut World) {
    let least = Params::default().stake.min_self_stake.get();
    let body = world.candidacy(0, least, commission(100_000, 10_000));
    let funds = TxBody::Transfer {
        to: id(0),
        amount: Units::new(2 * least),
    };
    world.accept(&provider(), funds);
    let mut candidacy = world.unsigned(&holder(0), body);
    candidacy.max_fee = Params::default().register_candidate_fee;
    world.submit(candidacy.sign(&holder(0)));
    world.accept(&provider(), vote(id(0), 3_000));
    world.accept(&provider(), unvote(id(0), 1_000));
}

fn fixture(name: &str) -> PathBuf {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.join("tests").join("fixtures").join(name)
}

fn compare(name: &str, found: &str) {
    let path = fixture(name);
    if std::env::var_os("QLINK_WRITE_FIXTURES").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, found).unwrap();
    }
    let stored = std::fs::read_to_string(&path).unwrap();
    assert!(
        stored == found,
        "{} differs; see its first lines:\n{found}",
        path.display()
    );
}

#[test]
fn rows_are_stored_as_they_always_were() {
    let world = everything();

    let mut text = String::new();
    let mut kinds = BTreeSet::from([b' ']);
    for ((space, key), value) in world.state.iter() {
        kinds.insert(key[0]);
        let space = match space {
            Space::Tree => "tree",
            Space::Rows => "rows",
        };
        let kind = char::from(key[0]);
        let (key, value) = (hex::encode(&key[1..]), hex::encode(value));
        writeln!(text, "{space} {kind} {key} {value}").unwrap();
    }

    assert_eq!(kinds, KINDS.iter().copied().collect());
    compare("rows.txt", &text);
}

#[test]
fn a_genesis_has_one_json_form_and_one_id() {
    let accounts = vec![(wallet(), Units::new(5))];
    let genesis = Genesis::try_new("test", TimeMs::new(7), accounts, Params::default()).unwrap();

    let json = serde_json::to_string_pretty(&genesis).unwrap();
    compare("genesis.txt", &format!("{json}\n{}\n", genesis.chain_id()));
}
