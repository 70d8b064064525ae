//! The writer's side of the counters.

use std::path::Path;
use std::sync::atomic::AtomicU64;

use qlink_io::arena::{Arena, ArenaError};
use qlink_io::huge;
use qlink_types::units::Incarnation;

use crate::identity::{FlowIdentity, SessionIdentity, SessionState, ViewIdentity};
use crate::inflight::{self, BurstDelta};
use crate::layout::{ArenaLayout, LAYOUT_VERSION, LINE_WORDS, Places, ROW_IDENTITY_WORDS, header};
use crate::migrate;
use crate::reason::DropReason;
use crate::record::{Row, StageSink, add, load, open_place, store};
use crate::redo::{self, RedoList};
use crate::session::{SessionKind, SessionSlot};
use crate::traffic::TrafficRows;
use crate::urr::RecoveredUrr;
use crate::usage::{Proven, Traffic, Usage};

/// Why counters could not be set up. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The file is not usable.
    #[error(transparent)]
    Arena(#[from] ArenaError),
    /// The arena was written by a newer release; exit code 64 at the shell.
    #[error("counter layout {found} is newer than {LAYOUT_VERSION}")]
    NewerLayout {
        /// The version found.
        found: u64,
    },
    /// The arena has other dimensions than configured.
    #[error("the arena was made for other limits: {what} is {found}, configured is {wanted}")]
    OtherLimits {
        /// Which dimension.
        what: &'static str,
        /// In the arena.
        found: u64,
        /// Configured.
        wanted: u64,
    },
}

/// How to set up the counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArenaSetup {
    /// Dimensions.
    pub layout: ArenaLayout,
    /// Counter start that a new arena gets; an existing one keeps its own.
    pub incarnation: Incarnation,
    /// How many arenas the data plane has, one for each worker (1 to 16).
    pub shards: u8,
}

/// What stood in the arena.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recovered {
    /// Sessions, the closed ones too.
    pub sessions: Vec<(SessionSlot, SessionIdentity)>,
    /// Places and views, in the order of their sessions' slots.
    pub views: Vec<(usize, ViewIdentity)>,
    /// Places and flows, in the order of their sessions' slots.
    pub flows: Vec<(usize, FlowIdentity)>,
    /// Usage rules, in the order of their places.
    pub urrs: Vec<RecoveredUrr>,
    /// Network bytes that a kill left uncertain, this time.
    pub uncertain_bytes: u64,
}

impl Recovered {
    /// Views of one session.
    #[must_use]
    pub fn views_of(&self, slot: SessionSlot) -> &[(usize, ViewIdentity)] {
        let from = self.views.partition_point(|(_, view)| view.session < slot);
        let to = self.views.partition_point(|(_, view)| view.session <= slot);
        self.views.get(from..to).unwrap_or_default()
    }

    /// Flows of one session.
    #[must_use]
    pub fn flows_of(&self, slot: SessionSlot) -> &[(usize, FlowIdentity)] {
        let from = self
            .flows
            .partition_point(|(_, flow)| flow.key.session < slot);
        let to = self
            .flows
            .partition_point(|(_, flow)| flow.key.session <= slot);
        self.flows.get(from..to).unwrap_or_default()
    }
}

macro_rules! worker_counters {
    ($($(#[$doc:meta])* $variant:ident = $name:literal;)*) => {
        /// What a worker counts besides sessions and drops.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum WorkerCounter { $($(#[$doc])* $variant),* }

        impl WorkerCounter {
            /// Every counter in the order of their places.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The stable name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }
        }
    };
}

worker_counters! {
    /// Packets received.
    ReceivedPackets = "received_packets";
    /// Packets accepted for transmit.
    SentPackets = "sent_packets";
    /// Inner IP bytes of forwarded packets.
    NetworkBytes = "network_bytes";
    /// Bursts with at least one packet.
    Bursts = "bursts";
    /// Echo requests answered.
    EchoReplies = "echo_replies";
    /// Flows opened.
    FlowsOpened = "flows_opened";
    /// Flows closed.
    FlowsClosed = "flows_closed";
    /// Times that the flow table was full.
    FlowTableFull = "flow_table_full";
    /// Broken conservation laws; zero in a sound build.
    ConservationViolations = "conservation_violations";
    /// Network bytes that kills left uncertain.
    UncertainBytes = "uncertain_bytes";
    /// Times that an arena with state was opened again.
    Recoveries = "recoveries";
    /// Packets handed over to the worker that owns their session.
    HandedOver = "handed_over";
    /// Error indications, end markers, notifications and echo requests sent.
    SignalsSent = "signals_sent";
    /// Error indications received that name a live tunnel of their sender.
    ErrorIndications = "error_indications";
    /// Downlink packets kept for later.
    Buffered = "buffered_packets";
    /// Times that something to report found no room.
    EventsDelayed = "events_delayed";
    /// SYN segments whose maximum segment size was lowered.
    SegmentsLowered = "segments_lowered";
    /// Packets that left in fragments.
    PacketsFragmented = "packets_fragmented";
    /// ICMP errors sent about packets that were too long.
    TooBigAnswers = "too_big_answers";
    /// Packets whose addresses were translated, both ways.
    Translated = "translated_packets";
    /// Port blocks given to subscribers.
    PortBlocksAssigned = "port_blocks_assigned";
    /// Port blocks taken back.
    PortBlocksReleased = "port_blocks_released";
    /// Packets sent in the place of servers whose requests are redirected.
    RedirectReplies = "redirect_replies";
    /// Packets that left for another destination than they asked for, and those that came back.
    Redirected = "redirected_packets";
    /// Copies of packets that forwarding rules ask for, sent; nobody is billed for them.
    CopiesSent = "copies_sent";
    /// Copies that found no room, or that the port did not take; their packets went on.
    CopiesShed = "copies_shed";
}

#[derive(Debug)]
pub(crate) enum Backing {
    File(Arena),
    /// Words, and how many of them lie in front of the first whole cache line.
    Memory(Box<[AtomicU64]>, usize),
}

impl Backing {
    #[inline]
    pub(crate) fn words(&self) -> &[AtomicU64] {
        match self {
            Self::File(arena) => arena.words(),
            Self::Memory(words, skip) => words.get(*skip..).unwrap_or_default(),
        }
    }
}

/// Counters and proof states of one worker; the only writer of its arena.
#[derive(Debug)]
pub struct CounterArena {
    pub(crate) backing: Backing,
    pub(crate) layout: ArenaLayout,
    pub(crate) places: Places,
    shards: u8,
    pub(crate) redo: RedoList,
    /// Places of usage rules that nobody uses.
    pub(crate) urrs_free: Vec<u32>,
}

impl CounterArena {
    /// Opens or makes the arena file at `path` and recovers what stands in it.
    ///
    /// # Errors
    ///
    /// Any [`SetupError`]. An arena of an earlier version, or one without usage rules, becomes one
    /// of this version with `setup`'s places for them; everything in it stays.
    pub fn open(path: &Path, setup: ArenaSetup) -> Result<(Self, Recovered), SetupError> {
        let arena = migrate::open(path, &setup.layout)?;
        Self::with_backing(Backing::File(arena), setup)
    }

    /// Counters in the memory of this process alone, all zero.
    #[must_use]
    pub fn in_memory(layout: ArenaLayout) -> Self {
        // A file's words begin with a page, so rows there lie on as few lines as they can.
        let spare = LINE_WORDS.saturating_sub(1);
        let words = huge::table(layout.words().saturating_add(spare), |_| AtomicU64::new(0));
        let skip = words.as_ptr().align_offset(LINE_WORDS * 8).min(spare);
        let mut arena = Self {
            backing: Backing::Memory(words, skip),
            layout,
            places: Places::of(&layout),
            shards: 1,
            redo: RedoList::new(),
            urrs_free: Vec::new(),
        };
        arena.write_header(Incarnation::ZERO);
        arena.find_free_urrs();
        arena
    }

    fn with_backing(backing: Backing, setup: ArenaSetup) -> Result<(Self, Recovered), SetupError> {
        let layout = setup.layout;
        let mut arena = Self {
            backing,
            layout,
            places: Places::of(&layout),
            shards: setup.shards,
            redo: RedoList::new(),
            urrs_free: Vec::new(),
        };
        match load(arena.words(), header::VERSION) {
            0 => {
                arena.write_header(setup.incarnation);
                arena.find_free_urrs();
                Ok((arena, Recovered::default()))
            }
            LAYOUT_VERSION => {
                check_header(arena.words(), &layout)?;
                arena.check_shards()?;
                let recovered = arena.recover();
                Ok((arena, recovered))
            }
            found => Err(SetupError::NewerLayout { found }),
        }
    }

    fn check_shards(&self) -> Result<(), SetupError> {
        let (found, wanted) = (load(self.words(), header::WORKERS), self.shards.into());
        if found == wanted {
            return Ok(());
        }
        Err(SetupError::OtherLimits {
            what: "workers",
            found,
            wanted,
        })
    }

    /// The version goes last: without it the arena is still new.
    fn write_header(&self, incarnation: Incarnation) {
        for (at, _, value) in dimensions(&self.layout) {
            store(self.words(), at, value as u64);
        }
        store(self.words(), header::WORKERS, self.shards.into());
        store(self.words(), header::INCARNATION, incarnation.get());
        store(self.words(), header::VERSION, LAYOUT_VERSION);
    }

    /// Brings the words into a state that a living writer would have left.
    fn recover(&mut self) -> Recovered {
        redo::recover(self.words(), &self.layout, &self.places);
        self.find_free_urrs();
        let uncertain_bytes = self.settle_leftovers();
        add(
            self.words(),
            Places::WORKER.saturating_add(WorkerCounter::Recoveries as usize),
            1,
        );
        let identity = |at, len| -> Vec<u64> {
            (at..)
                .take(len)
                .map(|place| load(self.words(), place))
                .collect()
        };
        let mut recovered = Recovered {
            sessions: (0..self.layout.sessions)
                .filter_map(|slot| {
                    let words = identity(
                        self.places.session(slot).saturating_add(1),
                        SessionIdentity::WORDS,
                    );
                    let number = u32::try_from(slot).ok()?;
                    SessionIdentity::from_words(&words)
                        .map(|found| (SessionSlot::new(number), found))
                })
                .collect(),
            views: (0..self.layout.views)
                .filter_map(|view| {
                    let words = identity(self.places.view(view), ROW_IDENTITY_WORDS);
                    ViewIdentity::from_words(&words).map(|found| (view, found))
                })
                .collect(),
            flows: (0..self.layout.flows)
                .filter_map(|flow| {
                    let words = identity(self.places.flow(flow), ROW_IDENTITY_WORDS);
                    FlowIdentity::from_words(&words).map(|found| (flow, found))
                })
                .collect(),
            urrs: self.recovered_urrs(),
            uncertain_bytes,
        };
        recovered.views.sort_by_key(|(_, view)| view.session);
        recovered.flows.sort_by_key(|(_, flow)| flow.key.session);
        recovered
    }

    /// Books notes whose count did not happen as uncertain. A kill in here repeats at most the
    /// note that is being booked, which its own guard then tells apart.
    fn settle_leftovers(&mut self) -> u64 {
        let mut total = 0_u64;
        for note in inflight::leftovers(self.words(), Places::INFLIGHT) {
            let row = self.places.traffic(note.slot.index());
            if row.guard(self.words()) != note.guard {
                continue;
            }
            self.change_traffic(note.slot, |traffic| {
                traffic.uncertain = traffic.uncertain.saturating_add(note.network_bytes);
            });
            total = total.saturating_add(note.network_bytes);
            add(
                self.words(),
                Places::WORKER.saturating_add(WorkerCounter::UncertainBytes as usize),
                note.network_bytes,
            );
        }
        inflight::clear(self.words(), Places::INFLIGHT);
        total
    }

    #[inline]
    pub(crate) fn words(&self) -> &[AtomicU64] {
        self.backing.words()
    }

    /// Dimensions.
    #[must_use]
    pub const fn layout(&self) -> &ArenaLayout {
        &self.layout
    }

    /// Start of these counters.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        Incarnation::new(load(self.words(), header::INCARNATION))
    }

    /// Counters of a session.
    #[must_use]
    pub fn usage(&self, slot: SessionSlot) -> Usage {
        Usage::sum(&self.traffic(slot), &self.proven(slot))
    }

    /// What is proven of a session.
    #[inline]
    #[must_use]
    pub fn proven(&self, slot: SessionSlot) -> Proven {
        if slot.index() >= self.layout.sessions {
            return Proven::default();
        }
        let row = self.places.proven(slot.index());
        Proven::from_words(row.standing(self.words()))
    }

    #[inline]
    fn traffic(&self, slot: SessionSlot) -> Traffic {
        if slot.index() >= self.layout.sessions {
            return Traffic::default();
        }
        let row = self.places.traffic(slot.index());
        Traffic::from_words(row.standing(self.words()))
    }

    /// What the session's personal payer has been billed.
    #[inline]
    #[must_use]
    pub fn billed(&self, slot: SessionSlot) -> u64 {
        let proven = self.proven(slot).personal;
        proven.saturating_add(self.traffic(slot).personal)
    }

    /// What packets count of sessions, to be looked up once for many of them.
    #[inline(always)]
    #[must_use]
    pub fn traffic_rows(&self) -> TrafficRows<'_> {
        self.places.traffic_rows(self.words(), &self.layout)
    }

    /// Starts loading what packets count of a session.
    #[inline]
    pub fn prefetch_usage(&self, slot: SessionSlot) {
        self.traffic_rows().prefetch(slot);
    }

    /// Starts a session in `slot` with all counters at zero.
    pub fn establish(&mut self, slot: SessionSlot, identity: &SessionIdentity) {
        self.write_identity(slot, &[0]);
        self.change_traffic(slot, |traffic| *traffic = Traffic::default());
        if slot.index() < self.layout.sessions {
            let row = self.places.proven(slot.index());
            row.change(self.words(), |_| Proven::default().to_words());
        }
        self.set_identity(slot, identity);
    }

    /// Replaces what readers are told about a session; counters stay.
    pub fn set_identity(&mut self, slot: SessionSlot, identity: &SessionIdentity) {
        self.write_identity(slot, &identity.to_words());
    }

    /// Marks a session as closed; its counters stay readable until the slot is used again.
    pub fn close_session(&mut self, slot: SessionSlot) {
        if let Some(identity) = self.identity(slot) {
            let state = SessionState::Closed;
            self.set_identity(slot, &SessionIdentity { state, ..identity });
        }
    }

    /// Who stands in a slot, live or closed.
    #[must_use]
    pub fn identity(&self, slot: SessionSlot) -> Option<SessionIdentity> {
        let at = self.places.session(slot.index()).saturating_add(1);
        let mut words = [0; SessionIdentity::WORDS];
        for (word, place) in words.iter_mut().zip(at..) {
            *word = load(self.words(), place);
        }
        SessionIdentity::from_words(&words)
    }

    /// Identities change rarely: readers wait.
    fn write_identity(&self, slot: SessionSlot, identity: &[u64]) {
        if slot.index() < self.layout.sessions {
            let row = self.places.identity(slot.index());
            row.write(self.words(), identity);
        }
    }

    #[inline]
    fn change_traffic(&mut self, slot: SessionSlot, change: impl FnOnce(&mut Traffic)) {
        if slot.index() >= self.layout.sessions {
            return;
        }
        let row = self.places.traffic(slot.index());
        row.change(self.words(), |words| {
            let mut traffic = Traffic::from_words(words);
            change(&mut traffic);
            traffic.to_words()
        });
    }

    /// Opens the place `view`; `encode` writes its first state.
    pub fn open_view(
        &mut self,
        view: usize,
        identity: ViewIdentity,
        classes: [u64; 8],
        encode: impl FnOnce(&mut StageSink<'_>),
    ) {
        if view >= self.layout.views {
            return;
        }
        let row = self.places.view_row(view);
        let mut sink = row.stage(self.words());
        sink.put_all(classes);
        encode(&mut sink);
        row.flip(self.words());
        open_place(self.words(), self.places.view(view), &identity.to_words());
    }

    /// Opens the place `flow`; `encode` writes its first state.
    pub fn open_flow(
        &mut self,
        flow: usize,
        identity: FlowIdentity,
        encode: impl FnOnce(&mut StageSink<'_>),
    ) {
        if flow >= self.layout.flows {
            return;
        }
        let row = self.places.flow_row(flow);
        encode(&mut row.stage(self.words()));
        row.flip(self.words());
        open_place(self.words(), self.places.flow(flow), &identity.to_words());
        self.count(WorkerCounter::FlowsOpened, 1);
    }

    /// Closes the place `view`.
    pub fn close_view(&mut self, view: usize) {
        if view < self.layout.views {
            store(self.words(), self.places.view(view), 0);
        }
    }

    /// Closes the place `flow`.
    pub fn close_flow(&mut self, flow: usize) {
        if flow < self.layout.flows {
            store(self.words(), self.places.flow(flow), 0);
            self.count(WorkerCounter::FlowsClosed, 1);
        }
    }

    /// State words of a view, without its classes.
    #[must_use]
    pub fn view_state(&self, view: usize) -> Vec<u64> {
        let mut words = self.state(self.places.view_row(view));
        words.drain(..crate::layout::VIEW_HEAD_WORDS.min(words.len()));
        words
    }

    /// State words of a flow.
    #[must_use]
    pub fn flow_state(&self, flow: usize) -> Vec<u64> {
        self.state(self.places.flow_row(flow))
    }

    fn state(&self, row: Row) -> Vec<u64> {
        let mut words = vec![0; row.len];
        if row.read(self.words(), &mut words).is_none() {
            words.clear();
        }
        words
    }

    /// The head logs of a flow.
    #[inline]
    #[must_use]
    pub fn heads(&self, flow: usize) -> &[AtomicU64] {
        let start = self.places.heads(flow);
        self.words()
            .get(start..start.saturating_add(self.layout.head_words))
            .unwrap_or_default()
    }

    /// Begins a change of a flow, views and a session that happens as one.
    #[inline]
    pub fn update(&mut self) -> ProofUpdate<'_> {
        self.redo.clear();
        ProofUpdate { arena: self }
    }

    /// Notes what the packets of a burst will add when they are forwarded: call before sending.
    #[inline]
    pub fn note_burst(&mut self, entries: &[(SessionSlot, BurstDelta)]) {
        let rows = self.traffic_rows();
        inflight::note(self.words(), Places::INFLIGHT, entries, |slot| {
            rows.guard(slot)
        });
    }

    /// Adds what was forwarded of the noted burst: call after sending.
    #[inline]
    pub fn commit_burst(&mut self, entries: &[(SessionSlot, BurstDelta)]) {
        let rows = self.traffic_rows();
        for (slot, delta) in entries {
            rows.add(*slot, delta);
        }
        inflight::clear(self.words(), Places::INFLIGHT);
    }

    /// [`Self::commit_burst`]; to the change of a session whose `kind` is ruled, `more` adds what
    /// is counted with it.
    #[inline]
    pub fn commit_burst_with(
        &mut self,
        entries: &[(SessionSlot, BurstDelta)],
        kind: impl Fn(SessionSlot) -> SessionKind,
        mut more: impl FnMut(SessionSlot, &mut ProofUpdate<'_>),
    ) {
        for (slot, delta) in entries {
            match kind(*slot) {
                SessionKind::Direct => self.change_traffic(*slot, |traffic| delta.apply(traffic)),
                SessionKind::Ruled => {
                    let mut update = self.update();
                    update.burst(*slot, delta);
                    more(*slot, &mut update);
                    update.commit();
                }
            }
        }
        inflight::clear(self.words(), Places::INFLIGHT);
    }

    /// Counts dropped packets.
    #[inline]
    pub fn count_drop(&mut self, reason: DropReason, packets: u64) {
        let at = Places::DROPS.saturating_add(reason.index());
        add(self.words(), at, packets);
    }

    /// Raises a counter of the worker.
    #[inline]
    pub fn count(&mut self, counter: WorkerCounter, by: u64) {
        let at = Places::WORKER.saturating_add(counter as usize);
        add(self.words(), at, by);
    }

    /// Packets dropped for `reason`.
    #[must_use]
    pub fn drops(&self, reason: DropReason) -> u64 {
        load(self.words(), Places::DROPS.saturating_add(reason.index()))
    }

    /// A counter of the worker.
    #[must_use]
    pub fn counter(&self, counter: WorkerCounter) -> u64 {
        load(
            self.words(),
            Places::WORKER.saturating_add(counter as usize),
        )
    }
}

const fn dimensions(layout: &ArenaLayout) -> [(usize, &'static str, usize); 7] {
    [
        (header::SESSIONS, "sessions", layout.sessions),
        (header::VIEWS, "views", layout.views),
        (header::FLOWS, "flows", layout.flows),
        (header::VIEW_WORDS, "view words", layout.view_words),
        (header::FLOW_WORDS, "flow words", layout.flow_words),
        (header::HEAD_WORDS, "head words", layout.head_words),
        (header::URRS, "usage rules", layout.urrs),
    ]
}

/// Whether an arena was made for `layout`.
pub(crate) fn check_header(words: &[AtomicU64], layout: &ArenaLayout) -> Result<(), SetupError> {
    for (at, what, value) in dimensions(layout) {
        let (found, wanted) = (load(words, at), value as u64);
        if found != wanted {
            return Err(SetupError::OtherLimits {
                what,
                found,
                wanted,
            });
        }
    }
    Ok(())
}

/// A change in preparation; without [`Self::commit`] nothing happens.
#[derive(Debug)]
pub struct ProofUpdate<'a> {
    pub(crate) arena: &'a mut CounterArena,
}

impl ProofUpdate<'_> {
    /// Prepares the next state of a flow, which `encode` writes.
    #[inline]
    pub fn flow(&mut self, flow: usize, encode: impl FnOnce(&mut StageSink<'_>)) {
        let row = self.arena.places.flow_row(flow);
        let mut sink = row.stage(self.arena.backing.words());
        encode(&mut sink);
        debug_assert!(sink.fits(), "the layout has room for the largest state");
        self.arena.redo.push(row);
    }

    /// Prepares the next state of a view.
    #[inline]
    pub fn view(
        &mut self,
        view: usize,
        classes: [u64; 8],
        encode: impl FnOnce(&mut StageSink<'_>),
    ) {
        let row = self.arena.places.view_row(view);
        let mut sink = row.stage(self.arena.backing.words());
        sink.put_all(classes);
        encode(&mut sink);
        debug_assert!(sink.fits(), "the layout has room for the largest state");
        self.arena.redo.push(row);
    }

    /// Prepares what is proven of a session from now on, once per update.
    #[inline]
    pub fn proven(&mut self, slot: SessionSlot, proven: Proven) {
        if slot.index() >= self.arena.layout.sessions {
            return;
        }
        let row = self.arena.places.proven(slot.index());
        row.prepare(self.arena.words(), |_| proven.to_words());
        self.arena.redo.push(row);
    }

    /// Makes all of it the state, as one change.
    #[inline]
    pub fn commit(self) {
        let arena = self.arena;
        arena.redo.commit(arena.backing.words(), &arena.places);
    }
}

#[cfg(test)]
#[path = "arena_tests.rs"]
mod tests;
