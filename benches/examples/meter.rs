//! Our side of `peers.sh`: the replay of a capture with its contents registered, every sum checked
//! against what the generator wrote.
//!
//! ```text
//! meter FOLDER        as made by the example `traffic`
//! ```
//!
//! Exit status 1 when a sum is wrong: a fast meter that miscounts has no speed.
#![expect(clippy::print_stdout, reason = "a program that prints its result")]

use std::error::Error;
use std::fs;
use std::path::Path;

use qlink_dataplane::replay::{ReplayOptions, Report, replay};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder] = arguments.as_slice() else {
        return Err("usage: meter FOLDER".into());
    };
    let folder = Path::new(folder);
    let options = ReplayOptions {
        contents: Some(folder.join("contents")),
    };
    let report = replay(&[folder.join("gtpu.pcap")], &options)?;
    let expected = fs::read_to_string(folder.join("expected"))?;
    let mut wrong = Vec::new();
    for (name, counted) in sums(&report) {
        println!("{name}={counted}");
        if number(&expected, name)? != counted {
            wrong.push(name);
        }
    }
    println!("ns_per_packet={}", report.ns_per_packet);
    if !wrong.is_empty() || !report.drops.is_empty() {
        return Err(format!("wrong: {wrong:?}, dropped: {:?}", report.drops).into());
    }
    Ok(())
}

/// What is compared, by the names that the generator uses.
fn sums(report: &Report) -> [(&'static str, u64); 5] {
    let tunnels = report.tunnels.iter();
    let packets = tunnels.clone().map(|row| row.packets).sum();
    let inner_bytes = tunnels.map(|row| row.network_bytes.get()).sum();
    let contents = report.contents.iter();
    let content_bytes = contents.clone().map(|row| row.content_bytes.get()).sum();
    [
        ("packets", packets),
        ("inner_bytes", inner_bytes),
        ("content_bytes", content_bytes),
        // Each tunnel is seen in both directions, each download is a row of its own.
        ("sessions", (report.tunnels.len() / 2) as u64),
        ("downloads", contents.len() as u64),
    ]
}

fn number(expected: &str, name: &str) -> Result<u64, Box<dyn Error>> {
    let mut lines = expected.lines().filter_map(|line| line.split_once('='));
    let found = lines.find(|(known, _)| *known == name);
    let (_, value) = found.ok_or_else(|| format!("no {name} among the expected sums"))?;
    Ok(value.parse()?)
}
