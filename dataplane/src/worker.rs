//! A data plane process: one worker thread on two UDP ports, one control thread.

use std::collections::BTreeMap;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam::channel::Receiver;
use qlink_io::arena::ArenaError;
use qlink_io::seqpacket::{SeqConn, SeqError, SeqListener};
use qlink_io::udp::UdpPort;
use qlink_io::wait::wait;
use qlink_io::{Burst, IoError, Outgoing, PacketSink, PacketSource as _, clock};
use qlink_meter::{
    ArenaReader, ArenaSetup, CounterArena, ReaderError, Recovered, SessionSlot, SessionState,
    SetupError, TeidAllocator, process_secret,
};
use qlink_pfcp::{
    Answer, Association, AssociationLimits, Cause, DataPlaneInfo, MAX_MESSAGE_BYTES, Refusal,
    Request, SessionRules, SessionUsage, decode_request, encode_answer,
};
use qlink_types::codec::Text;
use qlink_types::ids::{ContentId, SessionId};
use qlink_types::units::Incarnation;
use qlink_wire::LinkType;

use crate::config::{ConfigError, DataplaneConfig};
use crate::contents::Copy;
use crate::control::{Command, Control, Order, WorkerHandle, copies_of, open_copy};
use crate::journal::{Journal, JournalError};
use crate::pipeline::{Ports, Side, process_burst};
use crate::plane::{Neighbours, Plane};

/// How long either thread sleeps when nothing happens (chosen: a stop is seen this late at most).
const IDLE: Duration = Duration::from_millis(100);

/// Most control connections at once.
const CONNECTIONS_MAX: usize = 16;

/// Why a data plane could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum DataplaneError {
    /// The configuration is not usable; exit code 64.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The arena is not usable.
    #[error(transparent)]
    Arena(#[from] SetupError),
    /// The arena cannot be read.
    #[error(transparent)]
    Reader(#[from] ReaderError),
    /// The journal is not usable.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A port cannot be used.
    #[error("a packet port failed")]
    Port(#[from] IoError),
    /// The control socket cannot be used.
    #[error("the control socket failed")]
    Control(#[from] SeqError),
    /// The system refused a thread, a socket or a wait.
    #[error("the system refused")]
    System(#[from] std::io::Error),
    /// The arena's path does not fit a message.
    #[error("the arena's path is not UTF-8 or too long")]
    ArenaPath,
    /// The worker ended by a panic.
    #[error("the worker ended unexpectedly")]
    WorkerPanic,
}

impl DataplaneError {
    /// Whether the configuration or a format is to blame: exit code 64 at the shell.
    #[must_use]
    pub const fn is_bad_configuration(&self) -> bool {
        match self {
            Self::Config(_) | Self::ArenaPath => true,
            Self::Arena(SetupError::NewerLayout { .. } | SetupError::OtherLimits { .. })
            | Self::Journal(JournalError::WrongMagic { .. } | JournalError::NewerVersion { .. }) => {
                true
            }
            Self::Arena(SetupError::Arena(error)) => matches!(
                error,
                ArenaError::WrongMagic { .. }
                    | ArenaError::NewerVersion { .. }
                    | ArenaError::UnknownVersion { .. }
                    | ArenaError::SizeMismatch { .. }
                    | ArenaError::LengthMismatch { .. }
            ),
            _ => false,
        }
    }
}

/// A port that sends through a shared borrow, because the burst being processed borrows it too.
#[derive(Debug)]
struct SharedPort<'a>(&'a UdpPort);

impl PacketSink for SharedPort<'_> {
    #[inline]
    fn send_burst(&mut self, items: &[Outgoing<'_>]) -> Result<usize, IoError> {
        self.0.send(items)
    }
}

/// Runs a data plane until `shutdown` is set. `ready` is called once requests are answered and
/// packets forwarded.
///
/// # Errors
///
/// Any [`DataplaneError`].
pub fn run(
    config: &DataplaneConfig,
    ready: impl FnOnce(&DataPlaneInfo),
    shutdown: &AtomicBool,
) -> Result<(), DataplaneError> {
    let mut start = Start::new(config)?;
    let listener = SeqListener::bind(&config.control_socket)?;
    let n3 = UdpPort::bind(config.n3, LinkType::RawIp)?;
    let n6 = UdpPort::bind(config.n6_local, LinkType::RawIp)?;
    let (worker, orders, woken) = WorkerHandle::pair()?;
    let arena = config
        .arena
        .to_str()
        .and_then(|path| Text::try_from(path).ok());
    let info = DataPlaneInfo {
        incarnation: start.plane.arena().incarnation(),
        n3: n3.local_addr(),
        n6: n6.local_addr(),
        arena: arena.ok_or(DataplaneError::ArenaPath)?,
    };
    start.plane.neighbours.own = vec![info.n3.ip(), info.n6.ip(), config.n6_peer.ip()];
    let mut control = Control {
        association: start.association,
        slots: start.slots,
        ended: BTreeMap::new(),
        copies: start.copies,
        allocator: start.allocator,
        journal: start.journal,
        worker,
        reader: ArenaReader::open(&config.arena)?,
        info,
    };
    let stop = AtomicBool::new(false);
    let stopped = || stop.load(Ordering::Relaxed) || shutdown.load(Ordering::Relaxed);
    let plane = start.plane;
    std::thread::scope(|scope| {
        let running = std::thread::Builder::new()
            .name("qlink-worker-0".into())
            .spawn_scoped(scope, || {
                let result = work(plane, n3, n6, &orders, &woken, &stopped);
                stop.store(true, Ordering::Relaxed);
                result
            })?;
        ready(&control.info);
        let served = serve(&listener, &mut control, &stopped);
        stop.store(true, Ordering::Relaxed);
        control.worker.wake();
        let worked = running.join().map_err(|_| DataplaneError::WorkerPanic)?;
        worked.and(served)
    })
}

/// What stands when a process starts.
struct Start {
    plane: Plane,
    association: Association,
    slots: BTreeMap<SessionId, SessionSlot>,
    copies: BTreeMap<ContentId, Copy>,
    allocator: TeidAllocator,
    journal: Journal,
}

impl Start {
    /// Journal and arena are read and brought together before a port opens.
    fn new(config: &DataplaneConfig) -> Result<Self, DataplaneError> {
        let limits = config.validate()?;
        // The arena first: its lock keeps a second process off the journal too.
        let setup = ArenaSetup {
            layout: limits.layout(),
            incarnation: Incarnation::new(clock::unix_ns().wrapping_div(1_000_000)),
        };
        let (arena, recovered) = CounterArena::open(&config.arena, setup)?;
        let (journal, requests) = Journal::open(&config.journal)?;
        let mut association = Association::new(AssociationLimits {
            sessions: config.max_sessions as usize,
            contents: config.max_contents as usize,
        });
        for request in &requests {
            association.apply(request);
        }
        let neighbours = Neighbours {
            own: Vec::new(),
            n6_peer: config.n6_peer,
        };
        let mut start = Self {
            plane: Plane::new(limits, arena, neighbours),
            copies: open_copies(&association),
            association,
            slots: BTreeMap::new(),
            allocator: TeidAllocator::new(0, config.max_sessions, process_secret()),
            journal,
        };
        start.resume(&requests, &recovered);
        start.journal.rewrite(&start.association)?;
        Ok(start)
    }

    fn resume(&mut self, requests: &[Request], recovered: &Recovered) {
        let now_ns = clock::now_ns();
        let sessions: Vec<SessionRules> = self.association.sessions().cloned().collect();
        let standing: BTreeMap<SessionId, SessionSlot> = recovered
            .sessions
            .iter()
            .filter(|(_, identity)| identity.state == SessionState::Live)
            .map(|(slot, identity)| (identity.session, *slot))
            .collect();
        let mut fresh = Vec::new();
        for rules in &sessions {
            match standing.get(&rules.session).copied() {
                Some(slot) if self.allocator.claim(slot) => {
                    let copies = copies_of(rules, &self.copies);
                    let resumed = self.plane.resume(slot, rules, copies, recovered);
                    self.settled(rules, slot, resumed);
                }
                _ if self.finish_delete(rules, recovered, now_ns) => {}
                _ => fresh.push(rules),
            }
        }
        tracing::info!(
            sessions = sessions.len(),
            standing = standing.len(),
            fresh = fresh.len(),
            flows = recovered.flows.len(),
            open_flows = self.plane.open_flows(),
            uncertain_bytes = recovered.uncertain_bytes,
            "state resumed"
        );
        self.plane.discard_orphans(recovered);
        for rules in fresh {
            // Journaled, but the process died before the worker knew: it starts at zero.
            let own = rules.teid.map(TeidAllocator::slot_of);
            let slot = match own {
                Some(slot) if self.allocator.claim(slot) => Some(slot),
                _ => self
                    .allocator
                    .allocate(now_ns, |_| false)
                    .map(|(slot, _)| slot),
            };
            if let Some(slot) = slot {
                let copies = copies_of(rules, &self.copies);
                let established = self.plane.establish(slot, rules, copies);
                self.settled(rules, slot, established);
            }
        }
        // Slots of sessions deleted shortly before rest from now on.
        for request in requests {
            let Request::Establish { rules } = request else {
                continue;
            };
            if let Some(slot) = rules.teid.map(TeidAllocator::slot_of)
                && self.allocator.claim(slot)
            {
                self.allocator.release(slot, now_ns);
            }
        }
    }

    /// A session that the worker closed before the process died is deleted: its counters stand in
    /// the arena for the gateway, which had no answer and asks again.
    fn finish_delete(&mut self, rules: &SessionRules, recovered: &Recovered, now_ns: u64) -> bool {
        let closed = recovered.sessions.iter().find(|(_, identity)| {
            identity.state == SessionState::Closed
                && identity.session == rules.session
                && Some(identity.teid) == rules.teid
        });
        let Some((slot, _)) = closed else {
            return false;
        };
        let session = rules.session;
        self.association.apply(&Request::Delete { session });
        if self.allocator.claim(*slot) {
            self.allocator.release(*slot, now_ns);
        }
        tracing::info!(%session, "a delete that a kill cut short is finished");
        true
    }

    fn settled(&mut self, rules: &SessionRules, slot: SessionSlot, result: Result<(), Refusal>) {
        self.slots.insert(rules.session, slot);
        if let Err(refusal) = result {
            tracing::error!(session = %rules.session, %refusal, "a session could not be resumed");
        }
    }
}

/// Copies of every bound content; one that is gone is reported and proves nothing.
fn open_copies(association: &Association) -> BTreeMap<ContentId, Copy> {
    association
        .contents()
        .map(|binding| {
            let copy = open_copy(binding).unwrap_or_else(|refusal| {
                tracing::error!(content = %binding.content, %refusal, "a content copy is gone");
                Copy::Missing
            });
            (binding.content, copy)
        })
        .collect()
}

/// The worker thread: bursts while there are any, commands in between, sleep otherwise.
fn work(
    mut plane: Plane,
    mut n3: UdpPort,
    mut n6: UdpPort,
    orders: &Receiver<Order>,
    woken: &UnixDatagram,
    stopped: &impl Fn() -> bool,
) -> Result<(), DataplaneError> {
    let mut burst = Burst::new();
    while !stopped() {
        while let Ok((command, result)) = orders.try_recv() {
            // The control thread may have given up waiting.
            let _ = result.try_send(apply(&mut plane, command));
        }
        let now_ns = clock::now_ns();
        let uplink = n3.recv_burst(&mut burst)?;
        if uplink > 0 {
            let mut ports = Ports {
                n3: SharedPort(&n3),
                n6: SharedPort(&n6),
            };
            process_burst(&mut plane, Side::N3, &n3, &burst, &mut ports, now_ns);
        }
        let downlink = n6.recv_burst(&mut burst)?;
        if downlink > 0 {
            let mut ports = Ports {
                n3: SharedPort(&n3),
                n6: SharedPort(&n6),
            };
            process_burst(&mut plane, Side::N6, &n6, &burst, &mut ports, now_ns);
        }
        if uplink == 0 && downlink == 0 {
            plane.sweep(now_ns);
            wait(&[n3.as_fd(), n6.as_fd(), woken.as_fd()], Some(IDLE))?;
            let mut byte = [0; 1];
            while woken.recv(&mut byte).is_ok() {}
        }
    }
    Ok(())
}

pub(crate) fn apply(plane: &mut Plane, command: Command) -> Result<SessionUsage, Refusal> {
    match command {
        Command::Establish {
            slot,
            rules,
            copies,
        } => plane
            .establish(slot, &rules, copies)
            .map(|()| SessionUsage::default()),
        Command::Modify { slot, rules } => {
            plane.modify(slot, &rules).map(|()| SessionUsage::default())
        }
        Command::Delete { slot } => Ok(plane.delete(slot)),
    }
}

/// The control thread.
fn serve(
    listener: &SeqListener,
    control: &mut Control,
    stopped: &impl Fn() -> bool,
) -> Result<(), DataplaneError> {
    let mut connections: Vec<SeqConn> = Vec::new();
    let mut buffer = vec![0; MAX_MESSAGE_BYTES];
    while !stopped() {
        let ready = {
            let mut descriptors = vec![listener.as_fd()];
            descriptors.extend(connections.iter().map(SeqConn::as_fd));
            wait(&descriptors, Some(IDLE))?
        };
        let mut number = 0_usize;
        connections.retain(|connection| {
            number = number.saturating_add(1);
            !ready.is_ready(number) || exchange(connection, control, &mut buffer)
        });
        if ready.is_ready(0)
            && connections.len() < CONNECTIONS_MAX
            && let Some(connection) = listener.accept(Some(Duration::ZERO))?
        {
            connections.push(connection);
        }
    }
    Ok(())
}

/// Reads one message and answers it; `false` when the connection is over.
fn exchange(connection: &SeqConn, control: &mut Control, buffer: &mut [u8]) -> bool {
    let length = match connection.recv(buffer, Some(Duration::ZERO)) {
        Ok(Some(length)) => length,
        Ok(None) => return true,
        Err(_) => return false,
    };
    let message = buffer.get(..length).unwrap_or_default();
    let (sequence, answer) = match decode_request(message) {
        Ok((sequence, request)) => (sequence, control.answer(request, clock::now_ns())),
        Err(error) => {
            let refusal = Refusal::new(Cause::Malformed, &error.to_string());
            (sequence_of(message), Answer::Refused { refusal })
        }
    };
    match encode_answer(sequence, &answer) {
        Ok(bytes) => connection.send(&bytes).is_ok(),
        Err(error) => {
            tracing::error!(%error, "an answer could not be encoded");
            false
        }
    }
}

/// Sequence number of a message that is otherwise not understood; 0 when it is too short.
fn sequence_of(message: &[u8]) -> u32 {
    let number = message.get(2..6).and_then(|bytes| bytes.first_chunk::<4>());
    number.map_or(0, |bytes| u32::from_be_bytes(*bytes))
}
