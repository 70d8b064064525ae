//! All sessions with rules of one worker, and what the control thread does to them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use qlink_forward::buffer::{BufferLimits, DownlinkBuffer, Overflow};
use qlink_forward::fragments::{FragmentLimits, FragmentMap};
use qlink_io::{BURST_MAX, clock};
use qlink_meter::{
    Deadlines, KeyedIndex, Policer, RuleBlock, SessionKind, SessionSlot, SessionUrrs, UrrError,
    WorkerCounter,
};
use qlink_pfcp::model::{Resolution, SessionModel, UrrId, UsageReport};
use qlink_pfcp::node::{Kept, Query};
use qlink_pfcp::{Cause, Refusal, SessionRules};
use qlink_types::ids::{ContentId, Teid};

use super::contents::standing;
use super::copies::Copies;
use super::diverted::Diverted;
use super::event::{EventLine, RuledEvent, RuledNews};
use super::kept_flows::{KeptFlows, KeptFlowsError};
use super::proven::ProvenRules;
use super::replies::Replies;
use super::session::{Measured, Places, Ruled, RuledSetup, measured};
use crate::contents::Copy;
use crate::plane::{NO_ENTRY, Plane, PlaneLimits};

/// Packets kept at once for all sessions of a worker (chosen: 3 MB).
const KEPT_MAX: u32 = 2048;
/// Packets kept at once for one session (chosen: a TCP window's beginning).
const SESSION_KEPT_MAX: u32 = 64;
/// Longest packet that is kept.
const KEPT_BYTES_MAX: u16 = 1500;
/// Sessions looked at for what came due, per burst.
const DUE_MAX: usize = 8;
/// How much later something that found no room is tried again.
const AGAIN_NS: u64 = 100_000_000;

/// Everything about sessions with rules.
#[derive(Debug)]
pub(crate) struct RuledTable {
    sessions: Box<[Option<Box<Ruled>>]>,
    /// Tunnels of sessions, by their far end.
    tunnels: KeyedIndex<(IpAddr, u32)>,
    deadlines: Deadlines,
    pub(super) buffer: DownlinkBuffer,
    /// Ports of datagrams that pass in fragments; `None` without sessions.
    pub(super) fragments: Option<FragmentMap>,
    pub(crate) replies: Replies,
    /// Copies that rules ask for.
    pub(crate) copies: Copies,
    /// Flows that go elsewhere than they asked for; `None`: no rule ever did that.
    pub(crate) diverted: Option<Box<Diverted>>,
    /// Where they will be kept.
    pub(super) kept_flows: KeptFlows,
    events: EventLine,
    /// What usage rules count of the running burst.
    pub(crate) measured: Vec<Measured>,
    /// How many of them leave under other ends.
    pub(super) edited: u32,
    /// Usage rules of sessions that have ended and whose last answer is not durable yet.
    closing: BTreeMap<SessionSlot, SessionUrrs>,
    /// Sessions whose kept packets go now.
    drains: Vec<SessionSlot>,
    /// Difference between the clock of usage rules and the monotonic one.
    epoch_ns: u64,
}

/// What changes in a session with rules.
#[derive(Debug)]
pub(crate) struct RuledChange {
    pub(crate) setup: RuledSetup,
    pub(crate) resolution: Resolution,
    pub(crate) query: Query,
    pub(crate) kept: Kept,
}

impl RuledTable {
    /// Room for the sessions of `limits` when it has usage rules, else for none.
    pub(crate) fn new(limits: &PlaneLimits, secret: u64) -> Self {
        let sessions = if limits.urrs > 0 { limits.sessions } else { 0 };
        Self {
            sessions: (0..sessions).map(|_| None).collect(),
            tunnels: KeyedIndex::new((sessions as usize).saturating_mul(2), secret),
            deadlines: Deadlines::new(sessions),
            buffer: DownlinkBuffer::new(BufferLimits {
                sessions,
                packets: if sessions > 0 { KEPT_MAX } else { 1 },
                packet_bytes_max: KEPT_BYTES_MAX,
                session_packets: SESSION_KEPT_MAX,
                session_bytes: u64::from(SESSION_KEPT_MAX) * u64::from(KEPT_BYTES_MAX),
                overflow: Overflow::DropNew,
            }),
            fragments: (sessions > 0)
                .then(|| FragmentMap::new(FragmentLimits::for_owners(sessions, secret))),
            replies: Replies::new(sessions),
            copies: Copies::none(),
            diverted: None,
            kept_flows: KeptFlows::default(),
            events: EventLine::none(),
            measured: Vec::with_capacity(BURST_MAX),
            edited: 0,
            closing: BTreeMap::new(),
            drains: Vec::new(),
            epoch_ns: clock::unix_ns().saturating_sub(clock::now_ns()),
        }
    }

    /// Lets the control thread hear.
    pub(crate) fn connect(&mut self, events: EventLine) {
        self.events = events;
    }

    #[inline]
    pub(crate) fn get(&self, slot: SessionSlot) -> Option<&Ruled> {
        self.sessions.get(slot.index())?.as_deref()
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, slot: SessionSlot) -> Option<&mut Ruled> {
        self.sessions.get_mut(slot.index())?.as_deref_mut()
    }

    /// A session, and what is sent to its subscriber.
    pub(super) fn ruled_and_replies(
        &mut self,
        slot: SessionSlot,
    ) -> (Option<&Ruled>, &mut Replies) {
        let ruled = self.sessions.get(slot.index());
        (ruled.and_then(Option::as_deref), &mut self.replies)
    }

    /// A session, and the copies of its packets.
    pub(super) fn ruled_and_copies(&mut self, slot: SessionSlot) -> (Option<&Ruled>, &mut Copies) {
        let ruled = self.sessions.get(slot.index());
        (ruled.and_then(Option::as_deref), &mut self.copies)
    }

    /// A session, and the flows that go elsewhere.
    pub(super) fn ruled_and_diverted(
        &mut self,
        slot: SessionSlot,
    ) -> (Option<&Ruled>, Option<&mut Diverted>) {
        let ruled = self.sessions.get(slot.index());
        (
            ruled.and_then(Option::as_deref),
            self.diverted.as_deref_mut(),
        )
    }

    pub(super) fn tell(&self, event: RuledEvent) -> Result<(), RuledEvent> {
        self.events.tell(event)
    }

    /// Whether a packet of the running burst leaves under other ends.
    #[inline]
    pub(crate) const fn has_edited(&self) -> bool {
        self.edited > 0
    }

    /// Remembers what the packet that is planned next adds; its place.
    pub(super) fn measure(&mut self, measured: Measured) -> u8 {
        if measured.edit.is_some() {
            self.edited = self.edited.saturating_add(1);
        }
        let place = u8::try_from(self.measured.len()).unwrap_or(NO_ENTRY);
        self.measured.push(measured);
        place
    }

    /// Forgets the burst; how many of its packets were edited.
    #[inline]
    pub(crate) fn clear_measured(&mut self) {
        self.measured.clear();
        self.edited = 0;
    }

    /// Time of usage rules: since the Unix epoch, never going back.
    #[inline]
    pub(crate) const fn unix(&self, now_ns: u64) -> u64 {
        now_ns.saturating_add(self.epoch_ns)
    }

    /// The session whose tunnel to `peer` has this endpoint.
    pub(crate) fn by_tunnel(&self, peer: IpAddr, teid: u32) -> Option<SessionSlot> {
        self.tunnels.get(&(peer, teid)).map(SessionSlot::new)
    }

    /// The next session whose kept packets go now.
    pub(crate) fn next_drain(&mut self) -> Option<SessionSlot> {
        self.drains.pop()
    }

    /// Reports go to the control thread; what finds no room goes later.
    fn publish(&mut self, slot: SessionSlot, now_ns: u64) {
        let unix = self.unix(now_ns);
        let Some(ruled) = self.sessions.get_mut(slot.index()).and_then(Option::as_mut) else {
            return;
        };
        let mut next = ruled.urrs.next_deadline();
        let mut reports = std::mem::take(&mut ruled.unsent);
        ruled.urrs.take_reports(|report| reports.push(report));
        if !reports.is_empty() {
            let news = RuledNews::Usage(reports);
            let seid = ruled.seid;
            if let Err(event) = self.events.tell(RuledEvent { seid, news })
                && let RuledNews::Usage(reports) = event.news
            {
                ruled.unsent = reports;
                let again = unix.saturating_add(AGAIN_NS);
                next = Some(next.map_or(again, |next| next.min(again)));
            }
        }
        if let Some(inactivity) = ruled.inactivity_ns {
            let due = ruled.last_packet_ns.saturating_add(inactivity);
            let due = due.saturating_add(self.epoch_ns);
            next = Some(next.map_or(due, |next| next.min(due)));
        }
        self.deadlines.at_latest(slot.get(), next);
    }

    fn link(&mut self, slot: SessionSlot, places: &Places) {
        for (peer, teid) in &places.tunnels {
            // Room for two tunnels of each session; further ones are only not found by errors.
            let _ = self.tunnels.insert((*peer, teid.get()), slot.get());
        }
    }

    fn unlink(&mut self, slot: SessionSlot, places: &Places) {
        for (peer, teid) in &places.tunnels {
            if self.tunnels.get(&(*peer, teid.get())) == Some(slot.get()) {
                self.tunnels.remove(&(*peer, teid.get()));
            }
        }
    }
}

impl Plane {
    /// Keeps redirected flows in the file beside the arena at `arena`.
    ///
    /// # Errors
    ///
    /// [`KeptFlowsError`].
    pub(crate) fn keep_redirects(&mut self, arena: &Path) -> Result<(), KeptFlowsError> {
        self.ruled.kept_flows = KeptFlows::open(arena)?;
        Ok(())
    }

    /// Opens a session with rules in `slot`, or continues the one that stands there.
    ///
    /// # Errors
    ///
    /// A [`Refusal`]; nothing has changed then.
    pub(crate) fn establish_ruled(
        &mut self,
        slot: SessionSlot,
        setup: RuledSetup,
        recovered: Option<&qlink_meter::Recovered>,
    ) -> Result<(), Refusal> {
        let own = setup.rules.teid.unwrap_or(Teid::new(0));
        let unix = self.ruled.unix(clock::now_ns());
        match recovered {
            Some(recovered) => {
                let contents = standing(slot, recovered, setup.copies);
                let rules = measuring(&setup.rules, &contents);
                self.resume(slot, &rules, contents, recovered)?;
            }
            None => self.establish(slot, &setup.rules, setup.copies)?,
        }
        let urrs = match recovered {
            Some(recovered) => {
                let revision = SessionUrrs::default().revision();
                let rows = &recovered.urrs;
                SessionUrrs::resume(&setup.model, slot, rows, &mut self.arena, (revision, unix))
            }
            None => SessionUrrs::establish(&setup.model, slot, &mut self.arena, unix),
        };
        let urrs = match urrs {
            Ok(urrs) => urrs,
            Err(error) => {
                self.delete(slot);
                return Err(no_rows(error));
            }
        };
        let places = Places::of(&setup.model, own);
        if !self.take_places(slot, &places, setup.rules.ue) {
            urrs.close(&mut self.arena);
            self.give_places(slot, &places, setup.rules.ue);
            self.delete(slot);
            return Err(Refusal::new(Cause::NoResources, "no room for addresses"));
        }
        self.sessions.set_kind(slot, SessionKind::Ruled);
        self.prepare(&setup.block);
        let ruled = Ruled {
            seid: setup.seid,
            block: setup.block,
            policer: Policer::new(&setup.model),
            urrs,
            proven: ProvenRules::default(),
            places,
            inactivity_ns: setup.inactivity_s.map(seconds),
            last_packet_ns: clock::now_ns(),
            unsent: Vec::new(),
        };
        if let Some(place) = self.ruled.sessions.get_mut(slot.index()) {
            *place = Some(Box::new(ruled));
        }
        self.measure_contents(slot, &setup.model);
        if recovered.is_some() {
            self.restore_redirects(slot, clock::now_ns());
        }
        self.ruled.publish(slot, clock::now_ns());
        Ok(())
    }

    /// Takes the memory that these rules are the first to need.
    fn prepare(&mut self, block: &RuleBlock) {
        self.prepare_redirects(block);
        self.ruled.copies.prepare(block);
    }

    /// Gives a session other rules; what its usage rules report with it comes back.
    ///
    /// # Errors
    ///
    /// A [`Refusal`]; nothing has changed then.
    pub(crate) fn modify_ruled(
        &mut self,
        slot: SessionSlot,
        change: RuledChange,
    ) -> Result<Vec<UsageReport>, Refusal> {
        let setup = change.setup;
        let own = setup.rules.teid.unwrap_or(Teid::new(0));
        let now_ns = clock::now_ns();
        let unix = self.ruled.unix(now_ns);
        let unknown = || Refusal::new(Cause::SessionUnknown, "no session there");
        let before = self.ruled.get(slot).ok_or_else(unknown)?.places.clone();
        let naming = self.room_for_contents(slot, setup.copies)?;
        self.prepare(&setup.block);
        let places = Places::of(&setup.model, own);
        // The address under which the session was opened, whatever its rules name now.
        let ue = self.sessions.get(slot).map_or(setup.rules.ue, |hot| hot.ue);
        self.give_places(slot, &before, ue);
        if !self.take_places(slot, &places, ue) {
            self.give_places(slot, &places, ue);
            // There was room for them a moment ago.
            self.take_places(slot, &before, ue);
            return Err(Refusal::new(Cause::NoResources, "no room for addresses"));
        }
        let Some(Some(ruled)) = self.ruled.sessions.get_mut(slot.index()) else {
            return Err(unknown());
        };
        let revision = ruled.urrs.revision().saturating_add(1);
        let moment = (revision, unix);
        let arena = &mut self.arena;
        let taken = ruled
            .urrs
            .modify(&setup.model, &change.resolution, slot, arena, moment);
        if let Err(error) = taken {
            self.give_places(slot, &places, ue);
            self.take_places(slot, &before, ue);
            return Err(no_rows(error));
        }
        match &change.query {
            Query::Ended => {}
            Query::Some(urrs) => ruled.urrs.query(urrs, &mut self.arena, unix),
            Query::All => ruled.urrs.query(&[], &mut self.arena, unix),
        }
        ruled.block = setup.block;
        ruled.policer = ruled.policer.updated(&setup.model);
        ruled.places = places;
        ruled.inactivity_ns = setup.inactivity_s.map(seconds);
        let mut reports = std::mem::take(&mut ruled.unsent);
        ruled.urrs.take_reports(|report| reports.push(report));
        self.name_contents(slot, &setup.rules, naming);
        self.measure_contents(slot, &setup.model);
        for far in &change.resolution.end_markers {
            self.mark_end(far);
        }
        self.settle_kept(slot, change.kept);
        self.ruled.publish(slot, now_ns);
        Ok(reports)
    }

    /// Rules from other filters of applications, or from other contents of packages; nothing else
    /// changes.
    ///
    /// # Errors
    ///
    /// A [`Refusal`]; nothing has changed then.
    pub(crate) fn recompile_ruled(
        &mut self,
        slot: SessionSlot,
        setup: RuledSetup,
    ) -> Result<(), Refusal> {
        let naming = self.room_for_contents(slot, setup.copies)?;
        self.prepare(&setup.block);
        if let Some(ruled) = self.ruled.get_mut(slot) {
            ruled.block = setup.block;
            self.name_contents(slot, &setup.rules, naming);
            self.measure_contents(slot, &setup.model);
        }
        Ok(())
    }

    /// Finds which usage rules measure the contents of a session.
    fn measure_contents(&mut self, slot: SessionSlot, model: &SessionModel) {
        let sponsored = self.sponsored.get(slot.index()).and_then(Option::as_deref);
        let contents = sponsored.map_or(&[][..], |session| &session.contents.0);
        if let Some(ruled) = self.ruled.get_mut(slot) {
            let contents = contents.iter().map(|(content, _)| content);
            ruled.proven = ProvenRules::new(model, &ruled.block, contents);
        }
    }

    /// Ends a session; its last usage comes back, and is kept until [`Self::close_ruled`].
    ///
    /// # Errors
    ///
    /// A [`Refusal`] when there is no such session.
    pub(crate) fn delete_ruled(&mut self, slot: SessionSlot) -> Result<Vec<UsageReport>, Refusal> {
        let unix = self.ruled.unix(clock::now_ns());
        // Flows first: what is pending in them is the session's usage.
        self.close_flows_of(slot);
        let taken = self
            .ruled
            .sessions
            .get_mut(slot.index())
            .and_then(Option::take);
        let unknown = || Refusal::new(Cause::SessionUnknown, "no session there");
        let mut ruled = taken.ok_or_else(unknown)?;
        let ue = self.sessions.get(slot).map(|session| session.ue);
        if let Some(ue) = ue {
            self.give_places(slot, &ruled.places, ue);
        }
        self.ruled.deadlines.remove(slot.get());
        self.ruled.buffer.discard(slot.get());
        self.close_redirects(slot);
        ruled.urrs.terminate(&mut self.arena, unix);
        let mut reports = std::mem::take(&mut ruled.unsent);
        ruled.urrs.take_reports(|report| reports.push(report));
        // A process that is killed before the end is durable finds the session with its last
        // usage, and is asked to end it again.
        self.forget(slot);
        self.ruled.closing.insert(slot, ruled.urrs);
        Ok(reports)
    }

    /// The answer that carried a session's last usage is durable.
    pub(crate) fn close_ruled(&mut self, slot: SessionSlot) {
        if let Some(urrs) = self.ruled.closing.remove(&slot) {
            urrs.close(&mut self.arena);
            self.arena.close_session(slot);
        }
    }

    /// The control plane has these reports.
    pub(crate) fn acknowledge_ruled(&mut self, slot: SessionSlot, reports: &[(UrrId, u32)]) {
        let now_ns = clock::now_ns();
        let unix = self.ruled.unix(now_ns);
        if let Some(Some(ruled)) = self.ruled.sessions.get_mut(slot.index()) {
            for report in reports {
                ruled.urrs.acknowledge(*report, &mut self.arena, unix);
            }
        }
        self.ruled.publish(slot, now_ns);
    }

    /// How a session's packets are kept from now on, and what becomes of those that are.
    pub(crate) fn settle_kept(&mut self, slot: SessionSlot, kept: Kept) {
        match kept {
            Kept::Dropped => {
                self.ruled.buffer.discard(slot.get());
            }
            // Their rules may let them go now; if not, they are kept again.
            Kept::Stay => {
                if self.ruled.buffer.session_held(slot.get()).packets > 0 {
                    self.ruled.drains.push(slot);
                }
                self.ruled.buffer.reset(slot.get());
            }
        }
    }

    /// Gives `to` the oldest kept packet of a session and takes it out.
    pub(crate) fn take_kept(&mut self, slot: SessionSlot, to: impl FnOnce(&[u8])) {
        if let Some(packet) = self.ruled.buffer.front(slot.get()) {
            to(packet);
            self.ruled.buffer.drop_front(slot.get());
        }
    }

    /// How many packets of a session are kept.
    pub(crate) fn kept(&self, slot: SessionSlot) -> u32 {
        self.ruled.buffer.session_held(slot.get()).packets
    }

    fn mark_end(&mut self, far: &qlink_pfcp::model::Far) {
        let outer = far.forwarding.as_ref().and_then(|to| to.outer);
        if let Some(qlink_pfcp::model::OuterHeaderCreation::Gtpu { teid, v4, v6 }) = outer
            && let Some(peer) = v4.map(IpAddr::from).or_else(|| v6.map(IpAddr::from))
        {
            let to = (peer, qlink_wire::GTPU_PORT).into();
            // Whether it is sent is counted where it is sent.
            let _ = self.signals.end_marker(teid, to);
        }
    }

    /// Makes addresses lead to a session; `false` when one of them does not, some others then do.
    fn take_places(&mut self, slot: SessionSlot, places: &Places, ue: IpAddr) -> bool {
        let mut all = true;
        for teid in &places.teids {
            all &= self.sessions.alias_teid(*teid, slot);
        }
        for address in places.ues.iter().map(|prefix| prefix.key()) {
            all &= address == ue || self.sessions.alias_ue(address, slot);
        }
        for (peer, _) in &places.tunnels {
            self.sessions.alias_peer(*peer);
        }
        self.ruled.link(slot, places);
        all
    }

    fn give_places(&mut self, slot: SessionSlot, places: &Places, ue: IpAddr) {
        for teid in &places.teids {
            self.sessions.forget_teid(*teid, slot);
        }
        for address in places.ues.iter().map(|prefix| prefix.key()) {
            if address != ue {
                self.sessions.forget_ue(address, slot);
            }
        }
        for (peer, _) in &places.tunnels {
            self.sessions.forget_peer(*peer);
        }
        self.ruled.unlink(slot, places);
    }

    /// What came due in sessions with rules, a few per call.
    pub(crate) fn sweep_ruled(&mut self, now_ns: u64) {
        let unix = self.ruled.unix(now_ns);
        self.sweep_redirects(now_ns);
        for _ in 0..DUE_MAX {
            let Some(slot) = self.ruled.deadlines.pop_due(unix) else {
                return;
            };
            let slot = SessionSlot::new(slot);
            let Some(Some(ruled)) = self.ruled.sessions.get_mut(slot.index()) else {
                continue;
            };
            ruled.urrs.tick(&mut self.arena, unix);
            let idle = now_ns.saturating_sub(ruled.last_packet_ns);
            if ruled.inactivity_ns.is_some_and(|limit| idle >= limit) {
                let (seid, news) = (ruled.seid, RuledNews::Inactive);
                if self.ruled.events.tell(RuledEvent { seid, news }).is_ok() {
                    // Once for each time without packets.
                    ruled.last_packet_ns = now_ns;
                }
            }
            self.ruled.publish(slot, now_ns);
        }
    }

    /// Settles usage rules with the burst that was sent, as part of each session's change.
    pub(crate) fn commit_ruled(&mut self, now_ns: u64) {
        let unix = self.ruled.unix(now_ns);
        let (table, rules) = (&self.sessions, &mut self.ruled.sessions);
        let kind = |slot| table.get(slot).map_or(SessionKind::Direct, |hot| hot.kind);
        self.arena
            .commit_burst_with(self.entries.as_slice(), kind, |slot, update| {
                if let Some(Some(ruled)) = rules.get_mut(slot.index()) {
                    ruled.urrs.settle(update, unix);
                }
            });
        for (slot, _) in self.entries.as_slice() {
            if kind(*slot) == SessionKind::Ruled {
                self.ruled.publish(*slot, now_ns);
            }
        }
    }

    /// An error indication is believed only from the peer of the tunnel that it names.
    pub(crate) fn heed_error(&mut self, from: IpAddr, teid: u32) -> bool {
        let Some(slot) = self.ruled.by_tunnel(from, teid) else {
            return false;
        };
        let Some(ruled) = self.ruled.get(slot) else {
            return false;
        };
        let news = RuledNews::ErrorIndication(from, Teid::new(teid));
        let seid = ruled.seid;
        if self.ruled.tell(RuledEvent { seid, news }).is_err() {
            self.arena.count(WorkerCounter::EventsDelayed, 1);
        }
        self.arena.count(WorkerCounter::ErrorIndications, 1);
        true
    }
}

/// The rules of a session that stood, with all the contents that it had.
fn measuring(rules: &SessionRules, contents: &[(ContentId, Copy)]) -> SessionRules {
    let contents: Vec<ContentId> = contents.iter().map(|(content, _)| *content).collect();
    SessionRules {
        sponsor: measured(contents),
        ..rules.clone()
    }
}

fn no_rows(error: UrrError) -> Refusal {
    Refusal::new(Cause::NoResources, &error.to_string())
}

const fn seconds(seconds: u32) -> u64 {
    (seconds as u64).saturating_mul(1_000_000_000)
}
