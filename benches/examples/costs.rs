//! What parts of the packet path cost, in CPU time, for a machine that others use too.
//!
//! ```text
//! costs meter SESSIONS SECONDS     the meter stage alone: lookup, quota, notes, counters
//! costs changes SESSIONS SECONDS   2,000 session changes per second: one is opened, modified or
//!                                  ended between any two bursts, in turns with bursts alone
//! costs watch SESSIONS SECONDS     metrics every 15 s and IPFIX every 10 s: rounds of both on a
//!                                  thread of their own, the worker in turns with and without
//! ```
//!
//! Best tenths of the samples are stated, as by the example `uplink`.
#![expect(clippy::print_stdout, reason = "a program that prints its result")]

#[path = "../benches/dataplane/traffic.rs"]
#[expect(clippy::unwrap_used, reason = "bench code")]
#[allow(dead_code, reason = "of the rig, some is used")]
mod traffic;

use std::error::Error;
use std::net::UdpSocket;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use qlink_benches::Random;
use qlink_dataplane::export::ipfix::{
    EndReason, MessageWriter, PayerKind, Record, SessionRecord, Volume,
};
use qlink_dataplane::metrics_text;
use qlink_io::clock::thread_cpu_ns;
use qlink_meter::{
    ArenaSet, ArenaSetup, BurstSums, CounterArena, Direction, HotSession, INFLIGHT_MAX,
    PacketDelta, SessionIdentity, SessionSlot, SessionSnapshot, SessionTable,
};
use qlink_pfcp::VolumeMeasurement;
use qlink_types::ids::Teid;
use qlink_types::units::Incarnation;
use traffic::{PASS_PACKETS, PAYLOAD, Plain, limits, own_teid, plain_rules};

/// Passes of one sample.
const PASSES: u32 = 4_000;
/// Sessions that come and go beside those with traffic.
const SPARE: u32 = 3_000;
/// As many changes in a second are promised to cost at most 2 %.
const CHANGES_PER_SECOND: f64 = 2_000.0;
/// Default of IPFIX, and of a Prometheus server.
const EXPORT_SECONDS: f64 = 10.0;
const SCRAPE_SECONDS: f64 = 15.0;

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [what, sessions, seconds] = arguments.as_slice() else {
        return Err("usage: costs meter|changes|watch SESSIONS SECONDS".into());
    };
    let (sessions, seconds) = (sessions.parse()?, seconds.parse()?);
    match what.as_str() {
        "meter" => meter(sessions, seconds),
        "changes" => changes(sessions, seconds),
        "watch" => watch(sessions, seconds),
        other => Err(format!("nothing is called {other}").into()),
    }
}

/// Nanoseconds that `work` took of this thread's CPU time.
fn timed(work: impl FnOnce()) -> Outcome<f64> {
    let before = thread_cpu_ns();
    work();
    let spent = thread_cpu_ns().saturating_sub(before);
    Ok(f64::from(u32::try_from(spent)?))
}

fn best_tenth(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 10).copied().unwrap_or_default()
}

/// Sessions, counters and the running burst, without headers and without sending.
struct Stage {
    table: SessionTable,
    arena: CounterArena,
    sums: BurstSums,
    teids: Vec<Teid>,
}

impl Stage {
    fn new(sessions: u32) -> Outcome<Self> {
        let mut table = SessionTable::new(sessions, 1);
        let mut arena = CounterArena::in_memory(limits(sessions).layout());
        for number in 0..sessions {
            let (slot, rules) = (SessionSlot::new(number), plain_rules(number));
            let hot = HotSession::from_rules(&rules).ok_or("no teid")?;
            let identity = SessionIdentity::from_rules(&rules).ok_or("no teid")?;
            arena.establish(slot, &identity);
            if !table.insert(slot, hot) {
                return Err("no place".into());
            }
        }
        let mut random = Random::new(u64::from(sessions));
        let teids = (0..sessions.next_multiple_of(32).max(4_096))
            .map(|_| own_teid(random.below(sessions)))
            .collect();
        Ok(Self {
            table,
            arena,
            sums: BurstSums::new(),
            teids,
        })
    }

    /// Every prepared packet once, in bursts, as the pipeline meters plain sessions; how many
    /// passed.
    fn round(&mut self) -> u32 {
        let payload = u32::try_from(PAYLOAD).unwrap_or(0);
        let mut passed = 0_u32;
        for burst in self.teids.chunks(INFLIGHT_MAX) {
            let rows = self.arena.traffic_rows();
            for teid in burst {
                self.table.prefetch(*teid);
            }
            for teid in burst {
                let Some((slot, _)) = self.table.plain(*teid) else {
                    continue;
                };
                rows.prefetch(slot);
                let packet = PacketDelta {
                    direction: Direction::Uplink,
                    bytes: payload.saturating_add(40),
                    user_charged: payload.into(),
                    personal: 0,
                };
                self.sums.add(slot, &packet);
                passed = passed.saturating_add(1);
            }
            self.arena.note_burst(self.sums.as_slice());
            self.arena.commit_burst(self.sums.as_slice());
            self.sums.clear();
        }
        passed
    }
}

fn meter(sessions: u32, seconds: u64) -> Outcome<()> {
    let mut stage = Stage::new(sessions)?;
    let packets = u32::try_from(stage.teids.len())?;
    let rounds = (PASSES * PASS_PACKETS).div_ceil(packets);
    let end = thread_cpu_ns().saturating_add(seconds.saturating_mul(1_000_000_000));
    let mut figures = Vec::new();
    while thread_cpu_ns() < end {
        let mut passed = 0_u32;
        let spent = timed(|| (0..rounds).for_each(|_| passed += stage.round()))?;
        if passed != rounds * packets {
            return Err("a packet did not pass".into());
        }
        figures.push(spent / f64::from(passed));
    }
    println!("meter stage {:.1} ns/packet", best_tenth(figures));
    Ok(())
}

/// The next change: of each spare session in turn, opened in one round, modified and ended in the
/// two after it.
fn change(rig: &mut Plain, first: u32, number: u32) {
    let slot = SessionSlot::new(first.saturating_add(number % SPARE));
    let rules = plain_rules(slot.get());
    let plane = rig.plane_mut();
    let done = match number / SPARE % 3 {
        0 => plane.establish(slot, &rules, Vec::new()).is_ok(),
        1 => plane.modify(slot, &rules).is_ok(),
        _ => plane.delete(slot).uplink.packets == 0,
    };
    assert!(done, "change {number}");
}

fn changes(sessions: u32, seconds: u64) -> Outcome<()> {
    let layout = limits(sessions.saturating_add(SPARE)).layout();
    let mut rig = Plain::on(CounterArena::in_memory(layout), sessions, SPARE);
    let end = thread_cpu_ns().saturating_add(seconds.saturating_mul(1_000_000_000));
    let (mut alone, mut changing, mut number) = (Vec::new(), Vec::new(), 0_u32);
    while thread_cpu_ns() < end {
        alone.push(timed(|| (0..PASSES).for_each(|_| rig.pass()))?);
        changing.push(timed(|| {
            for _ in 0..PASSES {
                rig.pass();
                change(&mut rig, sessions, number);
                number = number.wrapping_add(1) % (3 * SPARE);
            }
        })?);
    }
    rig.assert_all_passed();
    let each = (best_tenth(changing) - best_tenth(alone)) / f64::from(PASSES);
    println!(
        "{each:.0} ns for each change: 2,000 in a second cost {:.2} %",
        each * CHANGES_PER_SECOND / 1e7
    );
    Ok(())
}

/// What an exporter sends of a session.
fn session_record(snapshot: &SessionSnapshot, now_ms: u64) -> SessionRecord {
    let (identity, usage) = (&snapshot.identity, &snapshot.usage);
    let volume = |volume: &VolumeMeasurement| Volume {
        octets: volume.network_bytes.get(),
        packets: volume.packets,
    };
    SessionRecord {
        start_ms: now_ms,
        end_ms: now_ms,
        end: EndReason::Active,
        ue: identity.ue,
        uplink: volume(&usage.uplink),
        downlink: volume(&usage.downlink),
        session: identity.session,
        incarnation: Incarnation::new(1),
        teid: identity.teid,
        payer: PayerKind::Operator,
        sponsor: None,
        classes: usage.classes,
        personal: usage.personal_bytes.get(),
        uncertain: usage.uncertain_bytes.get(),
        violations: usage.conservation_violations,
    }
}

/// One scrape and one export of everything; nanoseconds of each.
fn look(arenas: &ArenaSet, socket: &UdpSocket) -> Outcome<(f64, f64)> {
    let mut text = Ok(Vec::new());
    let scrape = timed(|| text = metrics_text(arenas))?;
    text?;
    let export = timed(|| {
        let mut writer = MessageWriter::new(1, 32_473);
        // Whether somebody takes them is not the question.
        let mut out = |message: &[u8]| drop(socket.send(message));
        writer.templates(&mut out);
        for snapshot in arenas.sessions() {
            let record = session_record(&snapshot, 1);
            writer.record(&Record::Session(&record), &mut out);
        }
        writer.flush(&mut out);
    })?;
    Ok((scrape, export))
}

fn watch(sessions: u32, seconds: u64) -> Outcome<()> {
    let folder = std::env::temp_dir().join(format!("qlink-costs-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let result = watch_in(&folder, sessions, seconds);
    std::fs::remove_dir_all(&folder)?;
    result
}

fn watch_in(folder: &Path, sessions: u32, seconds: u64) -> Outcome<()> {
    let path = folder.join("arena");
    let setup = ArenaSetup {
        layout: limits(sessions).layout(),
        incarnation: Incarnation::new(1),
        shards: 1,
    };
    let (arena, _) = CounterArena::open(&path, setup)?;
    let mut rig = Plain::on(arena, sessions, 0);
    let arenas = ArenaSet::open(&path)?;
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect("127.0.0.1:9")?;
    let (looking, ended) = (AtomicBool::new(false), AtomicBool::new(false));
    let looks = AtomicU64::new(0);
    let (mut alone, mut watched) = (Vec::new(), Vec::new());
    let (scrapes, exports) = thread::scope(|scope| -> Outcome<_> {
        let watcher = scope.spawn(|| -> Result<_, String> {
            let (mut scrapes, mut exports) = (Vec::new(), Vec::new());
            while !ended.load(Ordering::Acquire) {
                if looking.load(Ordering::Acquire) {
                    let (scrape, export) =
                        look(&arenas, &socket).map_err(|error| error.to_string())?;
                    scrapes.push(scrape);
                    exports.push(export);
                    looks.fetch_add(1, Ordering::Release);
                } else {
                    thread::sleep(Duration::from_millis(1));
                }
            }
            Ok((scrapes, exports))
        });
        let end = thread_cpu_ns().saturating_add(seconds.saturating_mul(1_000_000_000));
        while thread_cpu_ns() < end {
            alone.push(timed(|| (0..PASSES).for_each(|_| rig.pass()))?);
            looking.store(true, Ordering::Release);
            watched.push(timed(|| (0..PASSES).for_each(|_| rig.pass()))?);
            looking.store(false, Ordering::Release);
        }
        ended.store(true, Ordering::Release);
        Ok(watcher
            .join()
            .map_err(|_| "the watcher ended unexpectedly")??)
    })?;
    rig.assert_all_passed();
    if looks.load(Ordering::Acquire) == 0 {
        return Err("too short: nothing was read meanwhile".into());
    }
    let (scrape, export) = (best_tenth(scrapes), best_tenth(exports));
    // How much of each second somebody reads.
    let reading = scrape / 1e9 / SCRAPE_SECONDS + export / 1e9 / EXPORT_SECONDS;
    let slower = best_tenth(watched) / best_tenth(alone) - 1.0;
    println!(
        "scrape {:.2} ms, export {:.2} ms: {:.2} % of a core at 15 s and 10 s; \
         while they read the worker is {:.1} % slower, {:.3} % in all",
        scrape / 1e6,
        export / 1e6,
        reading * 100.0,
        slower * 100.0,
        (reading * slower.max(0.0)) * 100.0
    );
    Ok(())
}
