//! The thread that reads counters and sends them.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use crossbeam::channel::Receiver;
use prometheus::IntCounter;
use qlink_io::clock;
use qlink_meter::{ArenaReader, SessionSlot, SessionSnapshot, SessionState};
use qlink_pfcp::{Payer, VolumeMeasurement};
use qlink_types::ids::SessionId;

use super::ipfix::{
    ContentRecord, DropRecord, EndReason, MessageWriter, PayerKind, PortBlockEvent,
    PortBlockRecord, Record, SessionRecord, Volume,
};
use super::settings::IpfixConfig;
use crate::metrics::ControlMetrics;

/// How often the thread looks whether it shall end.
const TICK: Duration = Duration::from_millis(50);

/// Messages sent without a pause (chosen: some 45 KB, below the receive buffer of any collector).
const PACE: u32 = 32;

/// Rounds in which a closed session's final counters are sent: UDP may lose one.
const FINAL_ROUNDS: u8 = 3;

/// What the exporter remembers of a session.
#[derive(Debug, Clone, Copy)]
struct Known {
    session: SessionId,
    start_ms: u64,
    end_ms: u64,
    /// Packets and pending bytes: what changes whenever anything does.
    mark: (u64, u64),
    /// Rounds since it was seen closed.
    closed_rounds: u8,
}

/// Sends the counters of one arena to one collector.
#[derive(Debug)]
pub(crate) struct Exporter {
    config: IpfixConfig,
    worker: u8,
    reader: ArenaReader,
    link: Link,
    writer: MessageWriter,
    known: BTreeMap<SessionSlot, Known>,
    /// Rounds until everything is sent again.
    rounds_left: u32,
    told_templates: bool,
    blocks: Blocks,
}

/// Port blocks of a translator on their way to the collector.
#[derive(Debug)]
struct Blocks {
    received: Option<Receiver<PortBlockRecord>>,
    /// Those that subscribers have, told again with everything else: UDP loses records.
    held: BTreeMap<(Ipv4Addr, u16), PortBlockRecord>,
    /// Those taken back lately, with the rounds in which that is told again.
    released: Vec<(PortBlockRecord, u8)>,
}

impl Blocks {
    /// Takes what the worker says, and tells it.
    fn pass(&mut self, writer: &mut MessageWriter, out: &mut impl FnMut(&[u8])) {
        for record in self.received.iter().flat_map(Receiver::try_iter) {
            writer.record(&Record::PortBlock(&record), out);
            let block = (record.outside, record.ports.0);
            match record.event {
                PortBlockEvent::Allocated => {
                    self.held.insert(block, record);
                }
                PortBlockEvent::Released => {
                    self.held.remove(&block);
                    self.released.push((record, FINAL_ROUNDS.saturating_sub(1)));
                }
            }
        }
    }

    /// Tells again.
    fn repeat(
        &mut self,
        everything: bool,
        writer: &mut MessageWriter,
        out: &mut impl FnMut(&[u8]),
    ) {
        for (record, rounds) in &mut self.released {
            writer.record(&Record::PortBlock(record), out);
            *rounds = rounds.saturating_sub(1);
        }
        self.released.retain(|(_, rounds)| *rounds > 0);
        if everything {
            for record in self.held.values() {
                writer.record(&Record::PortBlock(record), out);
            }
        }
    }
}

impl Exporter {
    /// An exporter of one worker's counters that has sent nothing yet.
    ///
    /// # Errors
    ///
    /// Those of the socket.
    pub(crate) fn new(
        config: IpfixConfig,
        worker: u8,
        reader: ArenaReader,
        blocks: Option<Receiver<PortBlockRecord>>,
        metrics: &ControlMetrics,
    ) -> io::Result<Self> {
        Ok(Self {
            worker,
            writer: MessageWriter::new(config.observation_domain, config.pen),
            link: Link::new(config.collector, metrics)?,
            config,
            reader,
            known: BTreeMap::new(),
            rounds_left: 0,
            told_templates: false,
            blocks: Blocks {
                received: blocks,
                held: BTreeMap::new(),
                released: Vec::new(),
            },
        })
    }

    /// Sends until `stopped`, then once more: the last counters.
    pub(crate) fn run(mut self, stopped: &impl Fn() -> bool) {
        let interval_ns = u64::try_from(self.config.interval.0.as_nanos()).unwrap_or(u64::MAX);
        let mut due_ns = clock::now_ns().saturating_add(interval_ns);
        while !stopped() {
            let now_ns = clock::now_ns();
            if now_ns >= due_ns {
                self.round(clock::unix_ns() / 1_000_000);
                due_ns = now_ns.saturating_add(interval_ns);
            }
            self.pass_blocks();
            std::thread::sleep(TICK.min(self.config.interval.0));
        }
        self.round(clock::unix_ns() / 1_000_000);
        tracing::info!(
            collector = %self.config.collector,
            records = self.writer.sequence(),
            messages = self.link.sent,
            lost = self.link.lost,
            "IPFIX export has ended"
        );
    }

    /// Sends at once who got which ports: it is asked for when a court wants to know. Before the
    /// first round nobody has the templates, so that comes first then.
    fn pass_blocks(&mut self) {
        let waiting = self
            .blocks
            .received
            .as_ref()
            .is_some_and(|way| !way.is_empty());
        if !waiting {
            return;
        }
        let now_ms = clock::unix_ns() / 1_000_000;
        if !self.told_templates {
            self.round(now_ms);
            return;
        }
        let link = &mut self.link;
        let mut out = |message: &[u8]| link.send(message);
        self.writer
            .set_time(u32::try_from(now_ms / 1000).unwrap_or(u32::MAX));
        self.blocks.pass(&mut self.writer, &mut out);
        self.writer.flush(&mut out);
    }

    /// Sends what changed, and now and then everything with its templates.
    fn round(&mut self, now_ms: u64) {
        let everything = self.rounds_left == 0;
        let link = &mut self.link;
        let writer = &mut self.writer;
        let mut out = |message: &[u8]| link.send(message);
        writer.set_time(u32::try_from(now_ms / 1000).unwrap_or(u32::MAX));
        if everything {
            let refresh = self.config.refresh.0.as_millis();
            let rounds = refresh.checked_div(self.config.interval.0.as_millis());
            self.rounds_left = rounds.and_then(|n| u32::try_from(n).ok()).unwrap_or(1);
            writer.templates(&mut out);
            self.told_templates = true;
        }
        self.blocks.repeat(everything, writer, &mut out);
        self.blocks.pass(writer, &mut out);
        self.rounds_left = self.rounds_left.saturating_sub(1);
        let incarnation = self.reader.incarnation();
        let mut told = BTreeMap::new();
        for snapshot in self.reader.sessions() {
            if let Some(record) = observe(&mut self.known, &snapshot, now_ms, everything) {
                let record = SessionRecord {
                    incarnation,
                    ..record
                };
                writer.record(&Record::Session(&record), &mut out);
                told.insert(snapshot.slot, record.session);
            }
        }
        for view in self.reader.views() {
            if let Some(session) = told.get(&view.slot) {
                let record = ContentRecord {
                    session: *session,
                    incarnation,
                    content: view.content,
                    classes: view.classes,
                };
                writer.record(&Record::Content(&record), &mut out);
            }
        }
        for (reason, packets) in self.reader.drops() {
            let record = DropRecord {
                packets,
                incarnation,
                worker: self.worker.into(),
                reason,
            };
            writer.record(&Record::Drops(&record), &mut out);
        }
        writer.flush(&mut out);
    }
}

/// Takes a look at a session; its record when it is due.
fn observe(
    known: &mut BTreeMap<SessionSlot, Known>,
    snapshot: &SessionSnapshot,
    now_ms: u64,
    everything: bool,
) -> Option<SessionRecord> {
    let (identity, usage) = (&snapshot.identity, &snapshot.usage);
    let packets = usage.uplink.packets.saturating_add(usage.downlink.packets);
    let mark = (packets, usage.classes.pending.get());
    let fresh = Known {
        session: identity.session,
        start_ms: now_ms,
        end_ms: now_ms,
        mark,
        closed_rounds: 0,
    };
    let place = known.entry(snapshot.slot).or_insert(fresh);
    let is_new = place.session != identity.session || place.start_ms == now_ms;
    if place.session != identity.session {
        *place = fresh;
    }
    let changed = is_new || place.mark != mark;
    if changed {
        place.mark = mark;
        place.end_ms = now_ms;
    }
    let closed = identity.state == SessionState::Closed;
    let due = if closed {
        place.closed_rounds = place.closed_rounds.saturating_add(1);
        place.closed_rounds <= FINAL_ROUNDS
    } else {
        changed || everything
    };
    due.then(|| record(snapshot, place, closed))
}

fn record(snapshot: &SessionSnapshot, known: &Known, closed: bool) -> SessionRecord {
    let (identity, usage) = (&snapshot.identity, &snapshot.usage);
    let volume = |volume: &VolumeMeasurement| Volume {
        octets: volume.network_bytes.get(),
        packets: volume.packets,
    };
    SessionRecord {
        start_ms: known.start_ms,
        end_ms: known.end_ms,
        end: if closed {
            EndReason::Closed
        } else {
            EndReason::Active
        },
        ue: identity.ue,
        uplink: volume(&usage.uplink),
        downlink: volume(&usage.downlink),
        session: identity.session,
        incarnation: qlink_types::units::Incarnation::ZERO,
        teid: identity.teid,
        payer: match identity.payer {
            Payer::Personal { .. } => PayerKind::Personal,
            Payer::Operator => PayerKind::Operator,
            Payer::Block => PayerKind::Block,
        },
        sponsor: identity
            .sponsor
            .map(|(package, epoch, viewer, ..)| (package, epoch, viewer)),
        classes: usage.classes,
        personal: usage.personal_bytes.get(),
        uncertain: usage.uncertain_bytes.get(),
        violations: usage.conservation_violations,
    }
}

/// The way to the collector; sending never waits.
#[derive(Debug)]
struct Link {
    socket: UdpSocket,
    sent: u64,
    lost: u64,
    sent_since_loss: u64,
    in_a_row: u32,
    /// Of all exporters.
    all_sent: IntCounter,
    all_lost: IntCounter,
}

impl Link {
    fn new(collector: SocketAddr, metrics: &ControlMetrics) -> io::Result<Self> {
        let any = match collector {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
        socket.set_nonblocking(true)?;
        socket.connect(collector)?;
        Ok(Self {
            socket,
            sent: 0,
            lost: 0,
            sent_since_loss: 0,
            in_a_row: 0,
            all_sent: metrics.ipfix_sent.clone(),
            all_lost: metrics.ipfix_lost.clone(),
        })
    }

    fn send(&mut self, message: &[u8]) {
        match self.socket.send(message) {
            Ok(_) => {
                self.sent = self.sent.saturating_add(1);
                self.all_sent.inc();
                self.sent_since_loss = self.sent_since_loss.saturating_add(1);
            }
            Err(error) => {
                // A collector that is away refuses every second message: one line, not thousands.
                if self.sent_since_loss > 1 || self.lost == 0 {
                    tracing::warn!(%error, "the IPFIX collector takes nothing");
                }
                self.lost = self.lost.saturating_add(1);
                self.all_lost.inc();
                self.sent_since_loss = 0;
            }
        }
        self.in_a_row = self.in_a_row.saturating_add(1);
        if self.in_a_row >= PACE {
            self.in_a_row = 0;
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
