//! What two workers pass against one, over whole wall-clock time: `workers SESSIONS SECONDS`.
//!
//! A worker is a thread with a plane, a source and a sink of its own, all in memory, as in the data
//! plane process; nothing is shared but the machine. Rounds of one worker and of two take turns, so
//! that a slower minute of the machine meets both. The figure means something only where two cores
//! are free; `taskset -c 0,1` keeps the threads there.
#![expect(clippy::print_stdout, reason = "a program that prints its result")]

#[path = "../benches/dataplane/traffic.rs"]
#[expect(clippy::unwrap_used, reason = "bench code")]
mod traffic;

use std::error::Error;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

/// Rounds of each number of workers (chosen: odd, so that there is one in the middle).
const ROUNDS: u32 = 9;

/// Bursts between two looks at the clock.
const PASSES: u32 = 1_000;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [sessions, seconds] = arguments.as_slice() else {
        return Err("usage: workers SESSIONS SECONDS".into());
    };
    let sessions: u32 = sessions.parse()?;
    let round = Duration::from_secs(seconds.parse()?) / (2 * ROUNDS);
    let mut rates = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for (workers, rates) in (1..).zip(&mut rates) {
            rates.push(rate(workers, sessions, round)?);
        }
    }
    let [one, two] = rates.map(middle);
    println!(
        "1 worker {:.2}, 2 workers {:.2} Mpps in the middle of {ROUNDS} rounds of {round:?}: {:.2}x",
        one / 1e6,
        two / 1e6,
        two / one
    );
    Ok(())
}

fn middle(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates.get(rates.len() / 2).copied().unwrap_or_default()
}

/// Packets per second of all workers together.
fn rate(workers: usize, sessions: u32, round: Duration) -> Result<f64, Box<dyn Error>> {
    let start = Barrier::new(workers);
    let passed: Vec<Option<f64>> = thread::scope(|scope| {
        let running: Vec<_> = (0..workers)
            .map(|_| scope.spawn(|| work(sessions, round, &start)))
            .collect();
        let ended = running.into_iter().map(|thread| thread.join().ok());
        ended.collect()
    });
    let sum: Option<f64> = passed.into_iter().sum();
    sum.ok_or_else(|| "a worker ended unexpectedly".into())
}

/// Packets per second of one worker, its memory being warm.
fn work(sessions: u32, round: Duration, start: &Barrier) -> f64 {
    let mut rig = traffic::Plain::new(sessions);
    for _ in 0..PASSES {
        rig.pass();
    }
    start.wait();
    let started = Instant::now();
    let mut packets = 0_u32;
    while started.elapsed() < round {
        for _ in 0..PASSES {
            rig.pass();
        }
        packets = packets.saturating_add(traffic::PASS_PACKETS * PASSES);
    }
    let elapsed = started.elapsed();
    rig.assert_all_passed();
    f64::from(packets) / elapsed.as_secs_f64()
}
