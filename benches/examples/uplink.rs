//! CPU time per packet of the uplink pipeline, for a machine that others use too: criterion states
//! wall-clock time. `uplink SESSIONS SECONDS`; also something to run under `perf record`.
#![expect(clippy::print_stdout, reason = "a program that prints its result")]

#[path = "../benches/dataplane/traffic.rs"]
#[expect(clippy::unwrap_used, reason = "bench code")]
mod traffic;

use std::error::Error;

use qlink_io::clock::thread_cpu_ns;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [sessions, seconds] = arguments.as_slice() else {
        return Err("usage: uplink SESSIONS SECONDS".into());
    };
    let mut rig = traffic::Plain::new(sessions.parse()?);
    let passes = 10_000_u32;
    for _ in 0..passes {
        rig.pass();
    }
    let end = thread_cpu_ns().saturating_add(seconds.parse::<u64>()?.saturating_mul(1_000_000_000));
    let mut figures = Vec::new();
    loop {
        let before = thread_cpu_ns();
        for _ in 0..passes {
            rig.pass();
        }
        let after = thread_cpu_ns();
        let spent = u32::try_from(after.saturating_sub(before))?;
        figures.push(f64::from(spent) / f64::from(passes) / f64::from(traffic::PASS_PACKETS));
        if after > end {
            break;
        }
    }
    rig.assert_all_passed();
    figures.sort_by(f64::total_cmp);
    let at = |part: usize| {
        figures
            .get(figures.len() * part / 10)
            .copied()
            .unwrap_or_default()
    };
    println!(
        "p10 {:.1} p50 {:.1} ns/packet over {} samples",
        at(1),
        at(5),
        figures.len()
    );
    Ok(())
}
