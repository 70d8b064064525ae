//! The control thread's end, and the threads that write files.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use qlink_io::clock;
use qlink_io::pcap::{InterfaceCounts, InterfaceId, PacketNote, PacketWay, PcapngWriter};
use qlink_pfcp::{
    Cause, MAX_TRACE_PACKETS, MAX_TRACE_SECONDS, Refusal, TraceOrder, TraceReport, TraceState,
    TraceWriter,
};
use qlink_types::ids::SessionId;
use qlink_wire::build::udp_packet;
use qlink_wire::{LinkType, strip_link};

use super::file::{CaptureFile, Choice};
use super::ring::{Packet, Ring, Verdict};
use super::tracer::TRACES_MAX;
use crate::pipeline::Side;

/// How long a capture thread sleeps when its ring is empty.
const IDLE: Duration = Duration::from_millis(10);

/// Reports kept of traces that have ended.
const REPORTS_MAX: usize = 16;

/// What a capture thread tells the control thread.
#[derive(Debug)]
struct Progress {
    packets: AtomicU64,
    bytes: AtomicU64,
    state: AtomicU8,
    writer: AtomicU8,
    stop: AtomicBool,
}

#[derive(Debug)]
struct Running {
    progress: Arc<Progress>,
    ring: Arc<Ring>,
    thread: Option<JoinHandle<()>>,
    /// Order of their starts.
    number: u64,
}

impl Running {
    fn is_over(&self) -> bool {
        self.progress.state.load(Ordering::Acquire) != TraceState::Running as u8
    }

    fn report(&self, session: SessionId) -> TraceReport {
        let progress = &self.progress;
        let state = match progress.state.load(Ordering::Acquire) {
            state if state == TraceState::Running as u8 => TraceState::Running,
            state if state == TraceState::Finished as u8 => TraceState::Finished,
            _ => TraceState::Failed,
        };
        let writer = match progress.writer.load(Ordering::Relaxed) {
            writer if writer == TraceWriter::Uring as u8 => TraceWriter::Uring,
            _ => TraceWriter::Plain,
        };
        TraceReport {
            session,
            state,
            writer,
            packets: progress.packets.load(Ordering::Relaxed),
            lost: self
                .ring
                .lost(Side::N3)
                .saturating_add(self.ring.lost(Side::N6)),
            bytes: progress.bytes.load(Ordering::Relaxed),
        }
    }
}

/// Traces that run, and the last ones that have ended.
#[derive(Debug)]
pub(crate) struct Traces {
    /// Our GTP-U endpoint, for the outer headers that a socket keeps from us.
    n3: SocketAddr,
    by_session: BTreeMap<SessionId, Running>,
    started: u64,
}

impl Traces {
    /// None yet.
    pub(crate) const fn new(n3: SocketAddr) -> Self {
        Self {
            n3,
            by_session: BTreeMap::new(),
            started: 0,
        }
    }

    /// Makes the file and starts the thread; the ring is for the worker.
    ///
    /// # Errors
    ///
    /// A [`Refusal`]; nothing is captured then.
    pub(crate) fn start(&mut self, order: &TraceOrder) -> Result<Arc<Ring>, Refusal> {
        let refuse = |cause, detail: &str| Err(Refusal::new(cause, detail));
        if order.packets == 0 || order.packets > MAX_TRACE_PACKETS {
            return refuse(Cause::RuleInvalid, "packets: 1 to 1000000");
        }
        if order.seconds == 0 || order.seconds > MAX_TRACE_SECONDS {
            return refuse(Cause::RuleInvalid, "seconds: 1 to 3600");
        }
        let known = self.by_session.get(&order.session);
        if known.is_some_and(|known| !known.is_over()) {
            return refuse(Cause::Busy, "the session is being traced");
        }
        let running = self.by_session.values().filter(|known| !known.is_over());
        if running.count() >= TRACES_MAX {
            return refuse(Cause::NoResources, "4 sessions are being traced");
        }
        self.forget_old();
        let path = order.path.as_str();
        let file = create(Path::new(path))
            .map_err(|error| Refusal::new(Cause::SystemFailure, &format!("{path}: {error}")))?;
        let ring = Arc::new(Ring::new());
        let progress = Arc::new(Progress {
            packets: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            state: AtomicU8::new(TraceState::Running as u8),
            writer: AtomicU8::new(TraceWriter::Plain as u8),
            stop: AtomicBool::new(false),
        });
        let capture = Capture {
            n3: self.n3,
            ring: Arc::clone(&ring),
            progress: Arc::clone(&progress),
            packets_max: order.packets,
            until: Instant::now() + Duration::from_secs(order.seconds.into()),
        };
        let thread = std::thread::Builder::new()
            .name("qlink-capture".into())
            .spawn(move || capture.run(file))
            .map_err(|error| Refusal::new(Cause::SystemFailure, &error.to_string()))?;
        self.started = self.started.saturating_add(1);
        let running = Running {
            progress,
            ring: Arc::clone(&ring),
            thread: Some(thread),
            number: self.started,
        };
        self.by_session.insert(order.session, running);
        Ok(ring)
    }

    /// Ends the trace of a session early; its thread completes the file.
    pub(crate) fn stop(&self, session: &SessionId) {
        if let Some(running) = self.by_session.get(session) {
            running.progress.stop.store(true, Ordering::Relaxed);
        }
    }

    /// How far the session's last trace is.
    pub(crate) fn report(&self, session: SessionId) -> Option<TraceReport> {
        let running = self.by_session.get(&session)?;
        Some(running.report(session))
    }

    fn forget_old(&mut self) {
        while self.by_session.len() >= REPORTS_MAX {
            let over = self.by_session.iter().filter(|(_, known)| known.is_over());
            let oldest = over.min_by_key(|(_, known)| known.number);
            let Some(session) = oldest.map(|(session, _)| *session) else {
                return;
            };
            self.by_session.remove(&session);
        }
    }
}

impl Drop for Traces {
    fn drop(&mut self) {
        for running in self.by_session.values() {
            running.progress.stop.store(true, Ordering::Relaxed);
        }
        for running in self.by_session.values_mut() {
            if let Some(thread) = running.thread.take() {
                // One that ended by a panic has no more to say.
                let _ = thread.join();
            }
        }
    }
}

/// Subscribers' packets: for the owner's eyes only, and never over a file that stands.
fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    options.open(path)
}

/// One capture thread.
struct Capture {
    n3: SocketAddr,
    ring: Arc<Ring>,
    progress: Arc<Progress>,
    packets_max: u64,
    until: Instant,
}

/// A file's two interfaces with what was seen on them.
struct Sides {
    n3: InterfaceId,
    n6: InterfaceId,
    seen: [u64; 2],
}

impl Capture {
    fn run(self, file: File) {
        let state = match self.write(file) {
            Ok(()) => TraceState::Finished,
            Err(error) => {
                tracing::error!(%error, "a session's trace could not be written");
                TraceState::Failed
            }
        };
        self.ring.close();
        self.progress.state.store(state as u8, Ordering::Release);
    }

    fn write(&self, file: File) -> io::Result<()> {
        let file = CaptureFile::new(file, Choice::Automatic);
        let writer = file.writer() as u8;
        self.progress.writer.store(writer, Ordering::Relaxed);
        let mut writer = PcapngWriter::new(file)?;
        let mut sides = Sides {
            n3: writer.add_interface(LinkType::RawIp, "n3")?,
            n6: writer.add_interface(LinkType::RawIp, "n6")?,
            seen: [0; 2],
        };
        let boot_ns = clock::unix_ns().saturating_sub(clock::now_ns());
        let mut packets = 0_u64;
        loop {
            let is_full = packets >= self.packets_max;
            let is_late = Instant::now() >= self.until;
            let stopped = self.progress.stop.load(Ordering::Relaxed);
            match self.ring.take() {
                // The next one that came would be one too many.
                Some(packet) if (is_full || is_late) && packet.sight.came => {
                    self.ring.give_back(packet);
                    break;
                }
                Some(packet) => {
                    packets = packets.saturating_add(u64::from(packet.sight.came));
                    self.packet(&mut writer, &mut sides, &packet, boot_ns)?;
                    self.ring.give_back(packet);
                }
                None if is_full || is_late || stopped => break,
                None => {
                    writer.flush()?;
                    std::thread::sleep(IDLE);
                }
            }
            self.progress.packets.store(packets, Ordering::Relaxed);
        }
        self.ring.close();
        self.statistics(&mut writer, &sides)?;
        let file = writer.finish()?;
        self.progress.bytes.store(file.len(), Ordering::Relaxed);
        file.finish()
    }

    fn packet(
        &self,
        writer: &mut PcapngWriter<CaptureFile>,
        sides: &mut Sides,
        packet: &Packet,
        boot_ns: u64,
    ) -> io::Result<()> {
        let sight = &packet.sight;
        let [n3_seen, n6_seen] = &mut sides.seen;
        let (interface, seen) = match sight.side {
            Side::N3 => (sides.n3, n3_seen),
            Side::N6 => (sides.n6, n6_seen),
        };
        *seen = seen.saturating_add(1);
        let (frame, orig_len) = self.frame(packet);
        let note = PacketNote {
            comment: &comment(packet),
            way: if sight.came {
                PacketWay::Inbound
            } else {
                PacketWay::Outbound
            },
        };
        let time_ns = boot_ns.saturating_add(sight.now_ns);
        writer.write_commented(interface, time_ns, &frame, orig_len, &note)
    }

    /// The packet from its outermost IP header on. A UDP socket keeps the outer headers, so they
    /// are made again: addresses and ports are true, the rest is not seen.
    fn frame(&self, packet: &Packet) -> (Vec<u8>, u32) {
        let (sight, bytes) = (&packet.sight, packet.bytes());
        let (Side::N3, Some(peer)) = (sight.side, sight.peer) else {
            let stripped = strip_link(sight.link, bytes).unwrap_or(bytes);
            let head = bytes.len().saturating_sub(stripped.len());
            let head = u32::try_from(head).unwrap_or(0);
            return (stripped.to_vec(), packet.orig_len.saturating_sub(head));
        };
        let (from, to) = if sight.came {
            (peer, self.n3)
        } else {
            (self.n3, peer)
        };
        // The headers state the whole packet's length, also where only its beginning was kept.
        let missing = packet.orig_len as usize;
        let mut payload = bytes.to_vec();
        payload.resize(missing.max(bytes.len()), 0);
        let Ok(mut frame) = udp_packet(from, to, &payload) else {
            return (bytes.to_vec(), packet.orig_len);
        };
        let orig_len = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        let cut = payload.len().saturating_sub(bytes.len());
        frame.truncate(frame.len().saturating_sub(cut));
        (frame, orig_len)
    }

    fn statistics(&self, writer: &mut PcapngWriter<CaptureFile>, sides: &Sides) -> io::Result<()> {
        let [n3_seen, n6_seen] = sides.seen;
        for (interface, side, seen) in
            [(sides.n3, Side::N3, n3_seen), (sides.n6, Side::N6, n6_seen)]
        {
            let dropped = self.ring.lost(side);
            let comment = match dropped {
                0 => "every packet of the session is here".to_owned(),
                _ => format!("{dropped} packets of the session found no buffer and are missing"),
            };
            let counts = InterfaceCounts {
                received: seen.saturating_add(dropped),
                dropped,
                comment: &comment,
            };
            writer.write_statistics(interface, clock::unix_ns(), &counts)?;
        }
        Ok(())
    }
}

/// What happened to a packet, in the words of counters and metrics.
fn comment(packet: &Packet) -> String {
    let sight = &packet.sight;
    let way = match (sight.side, sight.came) {
        (Side::N3, true) | (Side::N6, false) => "uplink",
        (Side::N6, true) | (Side::N3, false) => "downlink",
    };
    if !sight.came {
        return format!("qlink: {way} sent");
    }
    match sight.verdict {
        Verdict::Forwarded if sight.charged > 0 => {
            format!("qlink: {way} forwarded, user_charged {}", sight.charged)
        }
        Verdict::Forwarded => format!("qlink: {way} forwarded"),
        Verdict::Dropped(reason) => format!("qlink: {way} dropped, {}", reason.name()),
        Verdict::NotSent => format!("qlink: {way} dropped, the sender did not take it"),
    }
}
