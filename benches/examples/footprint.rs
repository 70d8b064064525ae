//! Memory of a worker that carries sessions: its arena, and what it keeps for itself.
//!
//! ```text
//! footprint SESSIONS FLOWS        without usage rules, without a sponsor, nothing open
//! ```
//!
//! The arena's file counts as a whole: its blocks are taken when it is made.
#![expect(clippy::print_stdout, reason = "a program that prints its result")]

#[path = "../benches/dataplane/traffic.rs"]
#[expect(clippy::unwrap_used, reason = "bench code")]
#[allow(dead_code, reason = "of the rig, the sessions are used")]
mod traffic;

use std::error::Error;
use std::fs;

use qlink_dataplane::plane::{Plane, PlaneLimits};
use qlink_meter::{ArenaSetup, CounterArena, SessionSlot};
use qlink_types::units::Incarnation;

/// Bytes of this process that no file backs and nobody shares, now.
fn private_bytes() -> Result<u64, Box<dyn Error>> {
    let rollup = fs::read_to_string("/proc/self/smaps_rollup")?;
    let line = rollup
        .lines()
        .find_map(|line| line.strip_prefix("Anonymous:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next());
    Ok(kilobytes.ok_or("no Anonymous line")?.parse::<u64>()? * 1024)
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [sessions, flows] = arguments.as_slice() else {
        return Err("usage: footprint SESSIONS FLOWS".into());
    };
    let sessions: u32 = sessions.parse()?;
    let limits = PlaneLimits {
        sessions,
        flows: flows.parse()?,
        views: 2048,
        urrs: 0,
    };
    let path = std::env::temp_dir().join(format!("qlink-footprint-{}", std::process::id()));
    let before = private_bytes()?;
    let setup = ArenaSetup {
        layout: limits.layout(),
        incarnation: Incarnation::new(1),
        shards: 1,
    };
    let (arena, _) = CounterArena::open(&path, setup)?;
    let mut plane = Plane::new(limits, arena, traffic::neighbours());
    for number in 0..sessions {
        let rules = traffic::plain_rules(number);
        let established = plane.establish(SessionSlot::new(number), &rules, Vec::new());
        established.map_err(|refusal| format!("session {number}: {refusal:?}"))?;
    }
    let private = private_bytes()?.saturating_sub(before);
    let arena = fs::metadata(&path)?.len();
    fs::remove_file(&path)?;
    let mebibytes = |bytes: u64| f64::from(u32::try_from(bytes >> 10).unwrap_or(u32::MAX)) / 1024.0;
    println!(
        "arena {:.1} MiB, private {:.1} MiB, together {:.1} MiB",
        mebibytes(arena),
        mebibytes(private),
        mebibytes(arena.saturating_add(private)),
    );
    Ok(())
}
