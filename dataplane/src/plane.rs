//! One worker's sessions, flows, proofs and counters, and what the control plane does to them.

use std::net::{IpAddr, SocketAddr};

use qlink_content::{
    CloseReason, EBB_NS, FORGET_NS, FlowProof, HEAD_WORDS, IDLE_NS, LimitReason, Policy, View,
};
use qlink_io::clock;
use qlink_meter::{
    ArenaLayout, BurstSums, CounterArena, FlowTable, HotSession, Recovered, SessionIdentity,
    SessionSlot, SessionTable, ViewIdentity, process_secret,
};
use qlink_pfcp::node::PeerPrefix;
use qlink_pfcp::{Cause, ContentUsage, Refusal, SessionRules, SessionUsage};
use qlink_types::ids::ContentId;
use qlink_types::units::Bytes;

use crate::charges::Charges;
use crate::contents::{Copy, SessionContents};
use crate::forwarding::Forwarding;
use crate::paths::AnswersIn;
use crate::prove::{Trial, class_words, write_view};
use crate::ruled::RuledTable;
use crate::shard::Others;
use crate::signal::{HOLD_NS, Signals};
use crate::trace::Tracer;

/// Flows looked at for idleness per burst.
const SWEEP: usize = 8;

/// Bounds of a [`Plane`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlaneLimits {
    /// Most sessions.
    pub sessions: u32,
    /// Most content flows at once; one session has at most a sixteenth of them, or 8 if that is
    /// more (chosen: a browser opens 6 connections to a server).
    pub flows: u32,
    /// Most (session, content) pairs.
    pub views: u32,
    /// Most usage rules of sessions with rules; 0: there are no such sessions.
    pub urrs: u32,
}

impl PlaneLimits {
    const fn session_flows(&self) -> u32 {
        let share = self.flows.wrapping_div(16);
        if share > 8 { share } else { 8 }
    }

    /// The arena that such a plane needs.
    #[must_use]
    pub const fn layout(&self) -> ArenaLayout {
        ArenaLayout {
            sessions: self.sessions as usize,
            views: self.views as usize,
            flows: self.flows as usize,
            view_words: View::WORDS,
            flow_words: FlowProof::WORDS,
            head_words: HEAD_WORDS,
            urrs: self.urrs as usize,
        }
    }
}

/// Where a plane stands in its network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbours {
    /// Addresses of our own network, the next hop's too; no subscriber may send to them.
    pub own: Vec<IpAddr>,
    /// Where uplink packets go, and from where downlink packets come.
    pub n6_peer: SocketAddr,
    /// Our GTP-U addresses in error indications, at most one of each family; who sends over another
    /// family is told nothing.
    pub n3: Vec<IpAddr>,
    /// Networks whose BaseStations may send before a rule names their tunnel.
    pub access: Vec<PeerPrefix>,
}

/// The sponsored part of a session.
#[derive(Debug)]
pub(crate) struct Sponsored {
    pub(crate) contents: SessionContents,
    pub(crate) views: Vec<View>,
    /// Each view's place in the arena.
    pub(crate) places: Vec<usize>,
    /// The views' classes as the arena has them.
    pub(crate) written: Vec<[u64; 8]>,
    /// Accepted servers; empty: any.
    pub(crate) origins: Vec<SocketAddr>,
    /// Most content bytes over all views.
    pub(crate) limit: u64,
}

impl Sponsored {
    /// Content bytes that the sponsor may still pay.
    #[inline]
    pub(crate) fn left(&self) -> u64 {
        let used = self.views.iter().fold(0_u64, |sum, view| {
            sum.saturating_add(view.classes().verified_unique.get())
        });
        self.limit.saturating_sub(used)
    }

    /// Lets each view use what is left of the session's limit. One view has it from the start.
    #[inline]
    pub(crate) fn share_limit(&mut self) {
        if self.views.len() > 1 {
            let left = self.left();
            for view in &mut self.views {
                let own = view.classes().verified_unique.get();
                let limit = Bytes::new(own.saturating_add(left));
                view.set_limit(limit, LimitReason::PackageExhausted);
            }
        }
    }

    #[inline]
    pub(crate) fn accepts(&self, origin: SocketAddr) -> bool {
        self.origins.is_empty() || self.origins.contains(&origin)
    }
}

/// Everything that one worker owns.
#[derive(Debug)]
pub struct Plane {
    pub(crate) sessions: SessionTable,
    pub(crate) flows: FlowTable,
    pub(crate) session_flows_max: u32,
    pub(crate) proofs: Box<[FlowProof]>,
    pub(crate) sponsored: Box<[Option<Box<Sponsored>>]>,
    pub(crate) arena: CounterArena,
    pub(crate) neighbours: Neighbours,
    /// The sessions of other workers.
    pub(crate) others: Others,
    /// Path MTU and address translation, where they are configured.
    pub(crate) forwarding: Option<Box<Forwarding>>,
    pub(crate) signals: Signals,
    pub(crate) answers: AnswersIn,
    pub(crate) ruled: RuledTable,
    /// Whether there may be sessions with rules.
    pub(crate) has_rules: bool,
    pub(crate) trial: Trial,
    /// Whether what cannot be proven may be held back.
    pub(crate) policy: Policy,
    pub(crate) tracer: Tracer,
    /// Why sponsored sessions were charged, by slot.
    pub(crate) charges: Box<[Option<Box<Charges>>]>,
    /// What the running burst adds, by session.
    pub(crate) entries: BurstSums,
    /// For each place of a view the session that uses it, live or closed.
    view_owners: Box<[Option<SessionSlot>]>,
    sweep_at: usize,
    /// When a flow to be closed was last searched.
    searched_ns: Option<u64>,
}

/// No entry among what usage rules count of the running burst.
pub(crate) const NO_ENTRY: u8 = u8::MAX;

impl Plane {
    /// A plane on `arena`, without sessions.
    #[must_use]
    pub fn new(limits: PlaneLimits, arena: CounterArena, neighbours: Neighbours) -> Self {
        let secret = process_secret();
        let sessions = limits.sessions as usize;
        Self {
            sessions: SessionTable::new(limits.sessions, secret),
            flows: FlowTable::new(limits.flows, secret),
            session_flows_max: limits.session_flows(),
            proofs: vec![FlowProof::new(0); limits.flows as usize].into_boxed_slice(),
            sponsored: (0..sessions).map(|_| None).collect(),
            arena,
            neighbours,
            others: Others::none(),
            forwarding: None,
            ruled: RuledTable::new(&limits, secret),
            has_rules: limits.urrs > 0,
            answers: AnswersIn::none(),
            signals: Signals::new(clock::now_ns().saturating_add(HOLD_NS)),
            trial: Trial::new(),
            policy: Policy::Live,
            tracer: Tracer::new(),
            charges: (0..sessions).map(|_| None).collect(),
            entries: BurstSums::new(),
            view_owners: vec![None; limits.views as usize].into_boxed_slice(),
            sweep_at: 0,
            searched_ns: None,
        }
    }

    /// The counters.
    #[must_use]
    pub const fn arena(&self) -> &CounterArena {
        &self.arena
    }

    /// Open content flows.
    #[must_use]
    pub const fn open_flows(&self) -> usize {
        self.flows.len()
    }

    /// Starts a session in `slot` with all counters at zero. `copies` are its sponsor's contents
    /// in order.
    ///
    /// # Errors
    ///
    /// A [`Refusal`]; nothing has changed then.
    pub fn establish(
        &mut self,
        slot: SessionSlot,
        rules: &SessionRules,
        copies: Vec<(ContentId, Copy)>,
    ) -> Result<(), Refusal> {
        let (hot, identity) = parts(rules)?;
        self.release_views(slot);
        let places = self.take_view_places(copies.len())?;
        if !self.sessions.insert(slot, hot) {
            return Err(Refusal::new(Cause::NoResources, "the session has no place"));
        }
        self.arena.establish(slot, &identity);
        let Some(sponsor) = &rules.sponsor else {
            return Ok(());
        };
        self.count_charges(slot, rules.session, 0);
        let limit = View::new(sponsor.limit, LimitReason::PackageExhausted);
        for ((position, place), (content, _)) in (0_u16..).zip(&places).zip(&copies) {
            let identity = ViewIdentity {
                session: slot,
                position,
                content: *content,
            };
            let classes = class_words(&limit.classes());
            self.arena
                .open_view(*place, identity, classes, |sink| write_view(&limit, sink));
            self.own_view(*place, Some(slot));
        }
        let width = copies.len();
        self.sponsor(
            slot,
            Sponsored {
                contents: SessionContents(copies),
                views: vec![limit; width],
                places,
                written: vec![[0; 8]; width],
                origins: sponsor.origins.to_vec(),
                limit: sponsor.limit.get(),
            },
        );
        Ok(())
    }

    /// Continues a session that stands in the arena: its counters, views and flows go on.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] when the session has no place; it is not forwarded then.
    pub fn resume(
        &mut self,
        slot: SessionSlot,
        rules: &SessionRules,
        copies: Vec<(ContentId, Copy)>,
        recovered: &Recovered,
    ) -> Result<(), Refusal> {
        let (hot, identity) = parts(rules)?;
        if !self.sessions.insert(slot, hot) {
            return Err(Refusal::new(Cause::NoResources, "the session has no place"));
        }
        self.arena.set_identity(slot, &identity);
        let Some(sponsor) = &rules.sponsor else {
            return Ok(());
        };
        let before = self.arena.usage(slot).user_charged;
        self.count_charges(slot, rules.session, before);
        let fresh = View::new(sponsor.limit, LimitReason::PackageExhausted);
        let width = copies.len();
        let mut session = Sponsored {
            contents: SessionContents(copies),
            views: vec![fresh; width],
            places: Vec::with_capacity(width),
            written: Vec::with_capacity(width),
            origins: sponsor.origins.to_vec(),
            limit: sponsor.limit.get(),
        };
        for (position, (content, _)) in (0_u16..).zip(&session.contents.0) {
            let identity = ViewIdentity {
                session: slot,
                position,
                content: *content,
            };
            let mut standing = recovered.views_of(slot).iter();
            let known = standing.find(|(_, view)| *view == identity);
            let place = match known {
                Some((place, _)) => *place,
                None => self.reopen_view(identity, &fresh)?,
            };
            if let (Some((place, _)), Some(view)) =
                (known, session.views.get_mut(usize::from(position)))
                && let Ok(state) = View::from_words(&self.arena.view_state(*place))
            {
                *view = state;
                view.set_limit(sponsor.limit, LimitReason::PackageExhausted);
            }
            session.places.push(place);
        }
        session.written = session
            .views
            .iter()
            .map(|view| class_words(&view.classes()))
            .collect();
        for place in &session.places {
            self.own_view(*place, Some(slot));
        }
        self.sponsor(slot, session);
        self.resume_flows(slot, recovered);
        Ok(())
    }

    fn reopen_view(&mut self, identity: ViewIdentity, view: &View) -> Result<usize, Refusal> {
        let places = self.take_view_places(1)?;
        let place = places.first().copied().unwrap_or(usize::MAX);
        let classes = class_words(&view.classes());
        self.arena
            .open_view(place, identity, classes, |sink| write_view(view, sink));
        self.own_view(place, Some(identity.session));
        Ok(place)
    }

    fn resume_flows(&mut self, slot: SessionSlot, recovered: &Recovered) {
        for (flow, identity) in recovered.flows_of(slot) {
            let state = FlowProof::from_words(&self.arena.flow_state(*flow));
            match (state, self.proofs.get_mut(*flow)) {
                (Ok(proof), Some(place))
                    if proof.closed().is_none() && self.flows.restore(*flow, identity.key) =>
                {
                    *place = proof;
                    place.seen_by(clock::now_ns());
                    if let Some(Some(session)) = self.sponsored.get_mut(slot.index()) {
                        proof.rejoin(&mut session.views);
                    }
                }
                (state, _) => {
                    let state = state.map(|proof| proof.closed());
                    tracing::warn!(flow, ?state, "a flow could not be resumed");
                    self.arena.close_flow(*flow);
                }
            }
        }
    }

    /// Closes what stands in the arena without a session: views and flows of killed deletions.
    pub fn discard_orphans(&mut self, recovered: &Recovered) {
        for (flow, identity) in &recovered.flows {
            if self.sessions.get(identity.key.session).is_none() {
                self.arena.close_flow(*flow);
            }
        }
        for (view, identity) in &recovered.views {
            if self.sessions.get(identity.session).is_none() {
                self.own_view(*view, Some(identity.session));
            }
        }
        for (slot, _) in &recovered.sessions {
            if self.sessions.get(*slot).is_none() {
                self.arena.close_session(*slot);
            }
        }
        for row in &recovered.urrs {
            if self.sessions.get(row.session).is_none() {
                self.arena.close_urr(row.place);
            }
        }
    }

    /// Gives a session other rules; its counters go on.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] when there is no session in `slot`.
    pub fn modify(&mut self, slot: SessionSlot, rules: &SessionRules) -> Result<(), Refusal> {
        let (hot, identity) = parts(rules)?;
        if self.sessions.get(slot).is_none() || !self.sessions.insert(slot, hot) {
            return Err(Refusal::new(Cause::SessionUnknown, "no session there"));
        }
        self.arena.set_identity(slot, &identity);
        let session = self
            .sponsored
            .get_mut(slot.index())
            .and_then(Option::as_mut);
        if let (Some(session), Some(sponsor)) = (session, &rules.sponsor) {
            session.limit = sponsor.limit.get();
            if let [view] = session.views.as_mut_slice() {
                view.set_limit(sponsor.limit, LimitReason::PackageExhausted);
            }
        }
        Ok(())
    }

    /// Ends a session: its flows are closed and no packet of it passes any more.
    pub fn delete(&mut self, slot: SessionSlot) -> SessionUsage {
        let usage = self.forget(slot);
        self.arena.close_session(slot);
        usage
    }

    /// [`Self::delete`], but its counters stand as a live session's.
    pub(crate) fn forget(&mut self, slot: SessionSlot) -> SessionUsage {
        self.close_flows_of(slot);
        let usage = self.usage(slot);
        self.tracer.forget(slot);
        self.close_translation(slot);
        self.sessions.remove(slot);
        if let Some(session) = self.sponsored.get_mut(slot.index()) {
            *session = None;
        }
        usage
    }

    /// Closes the flows of a session; searched only as long as there are any.
    pub(crate) fn close_flows_of(&mut self, slot: SessionSlot) {
        for flow in 0..self.flows.capacity() {
            if self.flows.of_session(slot) == 0 {
                return;
            }
            if self.flows.key(flow).is_some_and(|key| key.session == slot) {
                self.close_flow(flow, CloseReason::SessionEnd);
            }
        }
    }

    /// The next session whose kept packets go now.
    pub(crate) fn next_drain(&mut self) -> Option<SessionSlot> {
        self.ruled.next_drain()
    }

    /// Counters of a session with its contents.
    #[must_use]
    pub fn usage(&self, slot: SessionSlot) -> SessionUsage {
        let session = self.sponsored.get(slot.index()).and_then(Option::as_ref);
        let contents: Vec<ContentUsage> = session.map_or_else(Vec::new, |session| {
            let views = session.views.iter().zip(&session.contents.0);
            views
                .map(|(view, (content, _))| ContentUsage {
                    content: *content,
                    verified_unique: view.classes().verified_unique,
                })
                .collect()
        });
        SessionUsage {
            contents: contents.try_into().unwrap_or_default(),
            ..self.arena.usage(slot).to_session_usage()
        }
    }

    /// Settles what is pending in flows of which nothing was seen for [`IDLE_NS`] and closes them
    /// after [`FORGET_NS`]: a few flows per call, so a burst is never late because of it.
    pub fn sweep(&mut self, now_ns: u64) {
        if self.has_rules {
            self.sweep_ruled(now_ns);
        }
        if self.forwarding.is_some() {
            self.sweep_forwarding(now_ns);
        }
        for _ in 0..SWEEP.min(self.flows.capacity()) {
            self.sweep_at = self.sweep_at.saturating_add(1);
            if self.sweep_at >= self.flows.capacity() {
                self.sweep_at = 0;
            }
            let flow = self.sweep_at;
            let (Some(_), Some(proof)) = (self.flows.key(flow), self.proofs.get(flow)) else {
                continue;
            };
            let idle = now_ns.saturating_sub(proof.idle_since());
            if proof.is_ebbing() && idle >= EBB_NS {
                self.close_flow(flow, CloseReason::Reset);
            } else if idle >= FORGET_NS {
                self.close_flow(flow, CloseReason::Idle);
            } else if idle >= IDLE_NS && proof.pending_bytes() > 0 {
                self.pause_flow(flow);
            }
        }
    }

    /// Closes the flow that has rested longest, of `session` alone if one is given: one that has
    /// rested for [`IDLE_NS`] or that the subscriber has reset; `false` when there is none. Searches
    /// once per burst only.
    pub(crate) fn make_room(&mut self, session: Option<SessionSlot>, now_ns: u64) -> bool {
        if self.searched_ns == Some(now_ns) {
            return false;
        }
        self.searched_ns = Some(now_ns);
        let oldest = (0..self.flows.capacity())
            .filter(|flow| {
                let key = self.flows.key(*flow);
                key.is_some_and(|key| session.is_none_or(|slot| key.session == slot))
            })
            .filter_map(|flow| {
                let proof = self.proofs.get(flow)?;
                let idle = now_ns.saturating_sub(proof.idle_since()) >= IDLE_NS;
                let reason = match (proof.is_ebbing(), idle) {
                    (true, _) => CloseReason::Reset,
                    (false, true) => CloseReason::Idle,
                    (false, false) => return None,
                };
                Some((proof.idle_since(), flow, reason))
            })
            .min_by_key(|(seen, ..)| *seen);
        let Some((_, flow, reason)) = oldest else {
            return false;
        };
        self.close_flow(flow, reason);
        true
    }

    pub(crate) fn sponsor(&mut self, slot: SessionSlot, session: Sponsored) {
        if let Some(place) = self.sponsored.get_mut(slot.index()) {
            *place = Some(Box::new(session));
        }
    }

    pub(crate) fn own_view(&mut self, view: usize, owner: Option<SessionSlot>) {
        if let Some(place) = self.view_owners.get_mut(view) {
            *place = owner;
        }
    }

    /// Frees the views that an earlier session left in `slot`.
    fn release_views(&mut self, slot: SessionSlot) {
        for view in 0..self.view_owners.len() {
            if self.view_owners.get(view) == Some(&Some(slot)) {
                self.arena.close_view(view);
                self.own_view(view, None);
            }
        }
    }

    /// `count` free places; those of closed sessions are taken when no other is left.
    pub(crate) fn take_view_places(&self, count: usize) -> Result<Vec<usize>, Refusal> {
        let free = |owner: &Option<SessionSlot>| owner.is_none();
        let mut places: Vec<usize> = positions(&self.view_owners, free).take(count).collect();
        if places.len() < count {
            let closed = |owner: &Option<SessionSlot>| {
                owner.is_some_and(|slot| self.sessions.get(slot).is_none())
            };
            let missing = count.saturating_sub(places.len());
            places.extend(positions(&self.view_owners, closed).take(missing));
        }
        if places.len() < count {
            return Err(Refusal::new(
                Cause::NoResources,
                "the table of views is full",
            ));
        }
        Ok(places)
    }
}

fn positions<'a>(
    owners: &'a [Option<SessionSlot>],
    wanted: impl Fn(&Option<SessionSlot>) -> bool + 'a,
) -> impl Iterator<Item = usize> + 'a {
    owners
        .iter()
        .enumerate()
        .filter(move |(_, owner)| wanted(owner))
        .map(|(place, _)| place)
}

fn parts(rules: &SessionRules) -> Result<(HotSession, SessionIdentity), Refusal> {
    HotSession::from_rules(rules)
        .zip(SessionIdentity::from_rules(rules))
        .ok_or_else(|| Refusal::new(Cause::RuleInvalid, "the rules carry no teid"))
}
