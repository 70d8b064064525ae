//! The local registry through its port, on real files.
#![expect(clippy::unwrap_used, reason = "test code")]

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use qlink_bridge::{LocalRegistry, RegistryError};
use qlink_client::asset::{AssetKind, AssetRegistration, AssetRegistry as _, AssetState};
use qlink_operator::{FileJournal, Journal as _, JournalError};
use qlink_types::ids::{AccountId, Hash32};

/// A file of its own per test, gone with the guard.
fn file() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("assets.journal");
    (dir, path)
}

fn registration(identity: u8, owner: u8) -> AssetRegistration {
    AssetRegistration {
        kind: AssetKind::Basestation,
        identity: Hash32::new([identity; 32]),
        owner: AccountId::new([owner; 32]),
        configuration: Hash32::new([9; 32]),
    }
}

/// A journal file with exactly these records.
fn journal_of(path: &Path, records: &[&str]) {
    let mut journal = FileJournal::open(path).unwrap().journal;
    for record in records {
        journal.append(record.as_bytes()).unwrap();
    }
}

#[test]
fn an_asset_is_pending_until_activated_and_outlives_the_process() {
    let (_dir, path) = file();
    let mut registry = LocalRegistry::open(&path).unwrap();

    let first = registry.register(&registration(1, 7)).unwrap();
    let second = registry.register(&registration(2, 7)).unwrap();
    let active = registry.activate(&second.token).unwrap();
    drop(registry);
    let reopened = LocalRegistry::open(&path).unwrap();

    assert_eq!(first.state, AssetState::Pending);
    assert_eq!(
        (first.registration_index, second.registration_index),
        (0, 1)
    );
    assert_eq!(active.state, AssetState::Active);
    assert_eq!(reopened.assets(), [first.clone(), active]);
    assert_eq!(reopened.asset(&first.token).unwrap(), Some(first));
}

#[test]
fn registering_and_activating_again_writes_nothing() {
    let (_dir, path) = file();
    let mut registry = LocalRegistry::open(&path).unwrap();
    let first = registry.register(&registration(1, 7)).unwrap();
    let active = registry.activate(&first.token).unwrap();
    let bytes = fs::metadata(&path).unwrap().len();

    let again = registry.register(&registration(1, 7)).unwrap();
    let active_again = registry.activate(&first.token).unwrap();

    assert_eq!(again, active);
    assert_eq!(active_again, active);
    assert_eq!(fs::metadata(&path).unwrap().len(), bytes);
}

#[test]
fn an_identity_of_another_owner_is_refused() {
    let (_dir, path) = file();
    let mut registry = LocalRegistry::open(&path).unwrap();
    let first = registry.register(&registration(1, 7)).unwrap();

    let refused = registry.register(&registration(1, 8)).unwrap_err();

    let RegistryError::IdentityTaken { owner, .. } = refused else {
        panic!("{refused}");
    };
    assert_eq!(owner, AccountId::new([7; 32]));
    assert_eq!(registry.assets(), [first]);
}

#[test]
fn a_token_that_was_never_given_is_refused() {
    let (_dir, path) = file();
    let mut registry = LocalRegistry::open(&path).unwrap();
    let token = Hash32::new([3; 32]);

    let refused = registry.activate(&token).unwrap_err();

    assert!(matches!(refused, RegistryError::UnknownAsset { .. }));
    assert_eq!(registry.asset(&token).unwrap(), None);
}

#[test]
fn a_revoked_asset_never_comes_back() {
    let (_dir, path) = file();
    let mut registry = LocalRegistry::open(&path).unwrap();
    let asset = registry.register(&registration(1, 7)).unwrap();
    registry.revoke(&asset.token).unwrap();
    drop(registry);

    let mut registry = LocalRegistry::open(&path).unwrap();
    let refused = registry.activate(&asset.token).unwrap_err();
    let again = registry.register(&registration(1, 7)).unwrap();

    assert!(matches!(refused, RegistryError::Revoked { .. }));
    assert_eq!(again.state, AssetState::Revoked);
}

/// A crash can stop a write at any byte: whole records stay, the torn one is as if never asked.
#[test]
fn a_record_cut_at_any_byte_is_as_if_never_written() {
    let (dir, path) = file();
    let mut registry = LocalRegistry::open(&path).unwrap();
    let first = registry.register(&registration(1, 7)).unwrap();
    let whole = fs::read(&path).unwrap().len();
    let second = registry.register(&registration(2, 7)).unwrap();
    drop(registry);
    let bytes = fs::read(&path).unwrap();

    for cut in whole..bytes.len() {
        let torn = dir.path().join(format!("torn-{cut}"));
        fs::write(&torn, &bytes[..cut]).unwrap();
        let mut registry = LocalRegistry::open(&torn).unwrap();

        assert_eq!(registry.assets(), std::slice::from_ref(&first));
        assert_eq!(registry.register(&registration(2, 7)).unwrap(), second);
    }
}

#[test]
fn a_file_cut_before_its_first_record_opens_empty() {
    let (dir, path) = file();
    drop(LocalRegistry::open(&path).unwrap());
    let bytes = fs::read(&path).unwrap();

    for cut in 0..bytes.len() {
        let torn = dir.path().join(format!("torn-{cut}"));
        fs::write(&torn, &bytes[..cut]).unwrap();

        assert!(LocalRegistry::open(&torn).unwrap().assets().is_empty());
        // The header was written again: the next open reads it.
        LocalRegistry::open(&torn).unwrap();
    }
}

#[test]
fn a_newer_registry_is_refused_and_left_as_it_was() {
    let (_dir, path) = file();
    journal_of(
        &path,
        &[r#"{"magic":"qlink-local-registry","version":2,"more":true}"#],
    );
    let before = fs::read(&path).unwrap();

    let refused = LocalRegistry::open(&path).unwrap_err();

    assert!(matches!(refused, RegistryError::NewerVersion { found: 2 }));
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn a_journal_of_something_else_is_refused() {
    let (_dir, path) = file();
    journal_of(&path, &[r#"{"magic":"outbox","version":1}"#]);

    let refused = LocalRegistry::open(&path).unwrap_err();

    assert!(matches!(refused, RegistryError::NotARegistry));
}

#[test]
fn a_file_that_is_no_journal_is_refused() {
    let (_dir, path) = file();
    let mut file = fs::File::create(&path).unwrap();
    file.write_all(&[b'x'; 64]).unwrap();

    let refused = LocalRegistry::open(&path).unwrap_err();

    assert!(matches!(
        refused,
        RegistryError::Journal(JournalError::NotAJournal { .. })
    ));
}

#[test]
fn a_record_that_does_not_follow_from_those_before_is_refused() {
    let header = r#"{"magic":"qlink-local-registry","version":1}"#;
    let token = Hash32::new([3; 32]);
    let activated = format!(r#"{{"activated":{{"token":"{token}"}}}}"#);
    for record in [activated.as_str(), r#"{"sold":{}}"#, "not json"] {
        let (_dir, path) = file();
        journal_of(&path, &[header, record]);

        let refused = LocalRegistry::open(&path).unwrap_err();

        assert!(
            matches!(refused, RegistryError::InvalidRecord { number: 1 }),
            "{record}: {refused}"
        );
    }
}

#[test]
fn one_process_holds_the_registry() {
    let (_dir, path) = file();
    let _registry = LocalRegistry::open(&path).unwrap();

    let refused = LocalRegistry::open(&path).unwrap_err();

    assert!(matches!(
        refused,
        RegistryError::Journal(JournalError::InUse { .. })
    ));
}

#[test]
fn the_registry_says_that_it_is_not_neo() {
    let (_dir, path) = file();
    let registry = LocalRegistry::open(&path).unwrap();

    assert!(registry.description().contains("not NEO"));
}
