//! Bad input gets a reason and the right exit code, and changes nothing.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;

use crate::run::{output, qlink};

const OK: i32 = 0;
const FAILED: i32 = 1;
const USAGE: i32 = 2;
const BAD_CONFIGURATION: i32 = 64;

/// Runs a command that must fail with `code` and say `words`, on standard error alone.
fn refused(arguments: &[&str], code: i32, words: &[&str]) {
    let out = output(arguments);
    let said = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(code), "{arguments:?}: {said}");
    assert!(out.stdout.is_empty(), "{arguments:?}");
    for word in words {
        assert!(said.contains(word), "{arguments:?}: {said}");
    }
}

#[test]
fn unknown_options_and_values_out_of_range_are_usage_errors() {
    refused(&["demo", "--nope"], USAGE, &["--nope"]);
    refused(&["demo", "--loss", "51"], USAGE, &["51", "0 to 50"]);
    refused(&["demo", "--viewers", "0"], USAGE, &["--viewers", "0"]);
    refused(
        &["demo", "--package-bytes", "0"],
        USAGE,
        &["--package-bytes"],
    );
    refused(&["replay"], USAGE, &["FILE"]);
    refused(&["chain", "export"], USAGE, &["--node", "--dir"]);
    refused(&["nothing"], USAGE, &["nothing"]);
}

#[test]
fn a_malformed_capture_gets_its_reason_and_place() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text.pcap");
    fs::write(&text, "root:x:0:0:root:/root:/bin/bash\n").unwrap();
    // A section header, and a block that states another length behind than before.
    let broken = folder.path().join("broken.pcapng");
    let mut bytes = vec![
        0x0a, 0x0d, 0x0d, 0x0a, 28, 0, 0, 0, 0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0,
    ];
    bytes.extend([0xff; 8]);
    bytes.extend([
        28, 0, 0, 0, 6, 0, 0, 0, 16, 0, 0, 0, 1, 2, 3, 4, 99, 0, 0, 0,
    ]);
    fs::write(&broken, bytes).unwrap();

    refused(
        &["replay", text.to_str().unwrap()],
        FAILED,
        &["text.pcap", "not a capture"],
    );
    refused(
        &["replay", broken.to_str().unwrap()],
        FAILED,
        &["broken.pcapng", "offset 28"],
    );
    refused(
        &["replay", "/nonexistent"],
        FAILED,
        &["/nonexistent", "No such file"],
    );
}

#[test]
fn an_unknown_key_ends_every_process_with_64_and_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bad.toml");
    fs::write(&file, "no_such_key = 1\n").unwrap();
    let file = file.to_str().unwrap();

    for component in ["node", "gateway", "dataplane", "basestation", "opsim"] {
        refused(
            &["config", "check", component, file],
            BAD_CONFIGURATION,
            &["no_such_key"],
        );
        refused(
            &[component, "--config", file],
            BAD_CONFIGURATION,
            &["no_such_key"],
        );
    }
    refused(
        &["node", "--config", "/nonexistent"],
        BAD_CONFIGURATION,
        &["/nonexistent"],
    );
}

/// A small film's demo leaves a node's, a gateway's and a data plane's state of this release.
fn played(folder: &Path) {
    fs::write(folder.join("film"), crate::run::film(20_000, "formats")).unwrap();
    let network = folder.join("network");
    let out = qlink()
        .args(["demo", "--viewers", "1", "--cheaters", "0", "--json"])
        .args(["--content", "film", "--dir", network.to_str().unwrap()])
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
}

/// Raises the big-endian or little-endian version that stands at `at`.
fn raise_version(file: &Path, at: usize) -> Vec<u8> {
    let mut bytes = fs::read(file).unwrap();
    bytes[at] = bytes[at].wrapping_add(1);
    fs::write(file, &bytes).unwrap();
    bytes
}

#[test]
fn the_data_planes_files_of_a_newer_release_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    played(folder.path());
    let network = folder.path().join("network");
    let config = network.join("config/dataplane.toml");
    let arguments = ["dataplane", "--config", config.to_str().unwrap()];

    // Version behind the 8 bytes of magic: big-endian in the journal, little-endian in the arena.
    for (name, at) in [("control.journal", 11), ("arena", 8)] {
        let file = network.join("dataplane").join(name);
        let sound = fs::read(&file).unwrap();
        let newer = raise_version(&file, at);

        refused(&arguments, BAD_CONFIGURATION, &[name, "version 2"]);
        assert_eq!(fs::read(&file).unwrap(), newer, "{name}");
        fs::write(&file, sound).unwrap();
    }
}

#[test]
fn a_key_file_that_others_may_read_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    let name = file.to_str().unwrap();
    assert_eq!(output(&["key", "new", name]).status.code(), Some(OK));
    let seed = fs::read_to_string(&file).unwrap();
    let mode = fs::metadata(&file).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);

    refused(&["key", "new", name], FAILED, &["key", "exists"]);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    refused(&["key", "show", name], FAILED, &["0600"]);

    assert_eq!(fs::read_to_string(&file).unwrap(), seed);
    let said = output(&["key", "show", name]).stderr;
    assert!(!String::from_utf8_lossy(&said).contains(seed.trim()));
}

/// Signing happens where the key is, so this is the last place that can notice a mix-up.
#[test]
fn a_transaction_of_another_account_is_not_signed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    let name = file.to_str().unwrap();
    assert_eq!(output(&["key", "new", name]).status.code(), Some(OK));
    let transaction = transaction_of_another();

    let mut child = qlink()
        .args(["tx", "sign", "--key", name])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(transaction.as_bytes()).unwrap();
    drop(input);
    let out = child.wait_with_output().unwrap();

    let said = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(FAILED), "{said}");
    assert!(out.stdout.is_empty());
    assert!(said.contains("the transaction is for acc_0707"), "{said}");
}

/// A transfer by an account whose id is 32 times the byte 7, in the codec of the chain.
fn transaction_of_another() -> String {
    use qlink_types::codec::Encode as _;
    use qlink_types::ids::AccountId;
    use qlink_types::signature::ChainId;
    use qlink_types::transaction::{Sender, Transaction, TxBody};
    use qlink_types::units::{Nonce, TimeMs, Units};

    let transaction = Transaction {
        chain: ChainId::new([1; 32]),
        sender: Sender::Account {
            account: AccountId::new([7; 32]),
        },
        nonce: Nonce::ZERO,
        max_fee: Units::new(1_000),
        valid_until: TimeMs::ZERO,
        body: TxBody::Transfer {
            to: AccountId::new([8; 32]),
            amount: Units::new(1),
        },
    };
    hex::encode(transaction.to_bytes())
}

#[test]
fn words_that_are_no_transaction_are_named() {
    refused(
        &["tx", "show", "--transaction", "zz"],
        FAILED,
        &["not hexadecimal"],
    );
    refused(
        &["tx", "show", "--transaction", "00"],
        FAILED,
        &["no transaction"],
    );
}

#[test]
fn a_folder_in_use_is_not_written_to() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("mine"), "mine").unwrap();
    let name = folder.path().to_str().unwrap();

    refused(&["demo", "--dir", name], FAILED, &[name, "not empty"]);
    refused(&["dev", "--dir", name], FAILED, &[name, "not empty"]);

    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn looking_for_a_chain_where_there_is_none_makes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let nothing = folder.path().join("nothing");
    let name = nothing.to_str().unwrap();

    refused(
        &["chain", "export", "--dir", name],
        FAILED,
        &[name, "no chain"],
    );

    assert!(!nothing.exists());
}
