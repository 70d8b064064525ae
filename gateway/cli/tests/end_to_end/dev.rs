//! `qlink dev`: the object by which programs find the network, and the guide that people copy.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::Value;
use tempfile::TempDir;

use crate::rates::export;
use crate::report::Count;
use crate::run::{Running, output};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Dev {
    gateway: Gateway,
    chain: Chain,
    folder: String,
    pids: std::collections::BTreeMap<String, Count>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Gateway {
    api: String,
    id: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Chain {
    nodes: Vec<Node>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Node {
    rpc: String,
    pid: Count,
}

/// Starts `qlink dev` and waits until its output holds `last`.
fn start(folder: &TempDir, arguments: &[&str], last: &str) -> (Running, String) {
    let running = Running::start(folder.path(), arguments);
    let started = Instant::now();
    loop {
        let out = fs::read_to_string(folder.path().join("out")).unwrap();
        if out.contains(last) && out.ends_with('\n') {
            return (running, out);
        }
        assert!(
            started.elapsed() < Duration::from_secs(60),
            "{}",
            fs::read_to_string(folder.path().join("err")).unwrap()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn get(url: &str) -> Value {
    let out = Command::new("curl")
        .args(["-sS", "--fail", "-m", "10", url])
        .output()
        .unwrap();
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    serde_json::from_slice(&out.stdout).unwrap()
}

#[test]
fn dev_names_a_node_that_answers_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();

    let (mut running, out) = start(&folder, &["dev", "--json"], "}");

    assert_eq!(out.lines().count(), 1);
    let dev: Dev = serde_json::from_str(&out).unwrap();
    let status = get(&format!("{}/v1/status", dev.chain.nodes[0].rpc));
    let height: Count = serde_json::from_value(status["height"].clone()).unwrap();
    let last: Count = serde_json::from_value(status["final_height"].clone()).unwrap();
    assert!(last > Count(0) && last <= height);
    let root = status["state_root"].as_str().unwrap();
    assert!(root.starts_with("0x") && root.len() == 66, "{root}");
    assert!(dev.gateway.id.starts_with("gwy_"));
    assert!(get(&format!("{}/v1/packages", dev.gateway.api))["data"].is_array());
    assert_eq!(dev.pids["node"], dev.chain.nodes[0].pid);
    for pid in dev.pids.values() {
        assert!(Path::new(&format!("/proc/{}", pid.0)).exists());
    }

    assert_eq!(running.stop(), 0);
    for (name, pid) in &dev.pids {
        assert!(!Path::new(&format!("/proc/{}", pid.0)).exists(), "{name}");
    }
    assert!(!Path::new(&dev.folder).exists(), "{}", dev.folder);
}

#[test]
fn the_printed_guide_works_from_registration_to_close() {
    let folder = tempfile::tempdir().unwrap();
    let (mut running, out) = start(&folder, &["dev", "--dir", "network"], "accounts/$WALLET");
    let commands = out.find("# 0.").unwrap();
    let script = folder.path().join("guide.sh");
    fs::write(&script, format!("set -e\n{}", &out[commands..])).unwrap();
    let binary = Path::new(env!("CARGO_BIN_EXE_qlink")).parent().unwrap();
    let path = std::env::var("PATH").unwrap();

    let played = Command::new("timeout")
        .args(["60", "bash"])
        .arg(&script)
        .current_dir(folder.path())
        .env("PATH", format!("{}:{path}", binary.display()))
        .output()
        .unwrap();

    let said = String::from_utf8_lossy(&played.stdout).into_owned();
    let complaints = String::from_utf8_lossy(&played.stderr).into_owned();
    assert!(played.status.success(), "{said}\n{complaints}");
    let accepted = r#"{"state":"final","status":"accepted"}"#;
    assert_eq!(said.matches(accepted).count(), 4, "{said}\n{complaints}");
    // The equation is live: it may be read before the last record is final.
    assert!(
        said.contains("QLC moved of 1.00000000 QLC for 10000000 bytes"),
        "{said}"
    );
    let mut last = said.lines().rev();
    let account: Value = serde_json::from_str(last.next().unwrap()).unwrap();
    let package: Value = serde_json::from_str(last.next().unwrap()).unwrap();
    assert_eq!(package["state"], "closed");
    assert_eq!(package["used_bytes"], "1000000");
    assert_eq!(package["moved"]["units"], "10000000");
    // 1,000 QLC from the treasury, a tenth of a QLC for the film.
    assert_eq!(account["balance"]["units"], "100010000000", "{account}");

    // The chain tells a client the same as it leaves in its folder.
    let node = out
        .split("node ")
        .nth(1)
        .unwrap()
        .split(',')
        .next()
        .unwrap();
    let exported = output(&["chain", "export", "--json", "--node", node]);
    let told = String::from_utf8(exported.stdout).unwrap();
    assert_eq!(running.stop(), 0);
    let left = export(&folder.path().join("network/node"));
    assert!(told.lines().count() > 10);
    assert!(left.starts_with(&told));
}
