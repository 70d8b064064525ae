//! The control thread: requests in, the worker told, the journal written, answers out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, bounded};
use qlink_content::verify_copy;
use qlink_io::filemap::FileMap;
use qlink_io::handover::Bell;
use qlink_meter::{ArenaReader, SessionSlot, TeidAllocator};
use qlink_pfcp::model::{Endpoint, UrrId, UsageReport};
use qlink_pfcp::node::Kept;
use qlink_pfcp::{
    Answer, Association, Cause, ContentBinding, DataPlaneInfo, Novelty, PackageBinding, Refusal,
    Request, SessionCharges, SessionRules, SessionUsage, TunnelAddress,
};
use qlink_types::ids::{ContentId, PackageId, SessionId, Teid};

use crate::checked::CheckedCopies;
use crate::contents::Copy;
use crate::journal::{Journal, requests_of};
use crate::metrics::{JournalName, MetricsEndpoint};
use crate::n4::N4;
use crate::paths::{Expected, PathWatch};
use crate::ruled::{RedirectRows, RuledChange, RuledSetup};
use crate::shard::{Place, Route};
use crate::trace::{Tap, Traces};
use crate::tunnel::TunnelHandle;

/// How long the worker may take to apply a command (chosen: it does so between two bursts).
const WORKER_TIMEOUT: Duration = Duration::from_secs(5);

/// What the worker does between two bursts.
#[derive(Debug)]
pub(crate) enum Command {
    Establish {
        slot: SessionSlot,
        rules: Box<SessionRules>,
        copies: Vec<(ContentId, Copy)>,
    },
    Modify {
        slot: SessionSlot,
        rules: Box<SessionRules>,
    },
    Delete {
        slot: SessionSlot,
    },
    /// Opens a session with rules.
    RuledEstablish {
        slot: SessionSlot,
        setup: Box<RuledSetup>,
    },
    /// Gives a session other rules.
    RuledModify {
        slot: SessionSlot,
        change: Box<RuledChange>,
    },
    /// Rules from other filters of applications.
    RuledRecompile {
        slot: SessionSlot,
        setup: Box<RuledSetup>,
    },
    /// Ends a session with rules.
    RuledDelete {
        slot: SessionSlot,
    },
    /// The last usage of an ended session is durable elsewhere.
    RuledClose {
        slot: SessionSlot,
    },
    /// The control plane has these reports.
    RuledAcknowledge {
        slot: SessionSlot,
        reports: Vec<(UrrId, u32)>,
    },
    /// What becomes of packets that are kept.
    RuledKept {
        slot: SessionSlot,
        kept: Kept,
    },
    /// Sends echo requests; the answers that are waited for, sorted.
    Echo {
        expected: Arc<[Expected]>,
        ask: Vec<Expected>,
    },
    /// Nothing: the worker shows that it works.
    Probe,
    Trace {
        tap: Tap,
    },
    Charges {
        slot: SessionSlot,
        into: Sender<(Option<SessionCharges>, RedirectRows)>,
    },
    /// Another worker has this session.
    AddRoute(Route),
    /// Another worker no longer has this session.
    RemoveRoute(Route),
}

/// What a command brings back.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Nothing.
    Done,
    /// The final counters of a session.
    Usage(Box<SessionUsage>),
    /// Usage that rules report.
    Reports(Vec<UsageReport>),
}

/// A command and where its result goes.
pub(crate) type Order = (Command, Sender<Result<Outcome, Refusal>>);

/// The control thread's end of the channel to a worker.
#[derive(Debug, Clone)]
pub(crate) struct WorkerHandle {
    orders: Sender<Order>,
    bell: Bell,
}

impl WorkerHandle {
    /// A handle whose worker `bell` wakes, and the worker's end.
    pub(crate) fn pair(bell: Bell) -> (Self, Receiver<Order>) {
        let (orders, received) = bounded(16);
        (Self { orders, bell }, received)
    }

    pub(crate) fn run(&self, command: Command) -> Result<Outcome, Refusal> {
        self.run_within(command, WORKER_TIMEOUT)
    }

    /// [`Self::run`], waiting no longer than `timeout` for each of place and answer.
    pub(crate) fn run_within(
        &self,
        command: Command,
        timeout: Duration,
    ) -> Result<Outcome, Refusal> {
        let (result, answer) = bounded(1);
        self.orders
            .send_timeout((command, result), timeout)
            .map_err(|_| Refusal::new(Cause::Busy, "the worker takes no commands"))?;
        self.bell.ring();
        answer
            .recv_timeout(timeout)
            .map_err(|_| Refusal::new(Cause::Busy, "the worker did not answer"))?
    }

    /// Wakes the worker so that it sees a stop flag.
    pub(crate) fn wake(&self) {
        self.bell.ring();
    }
}

/// One worker as the control thread sees it.
#[derive(Debug)]
pub(crate) struct Shard {
    pub(crate) allocator: TeidAllocator,
    pub(crate) worker: WorkerHandle,
    pub(crate) reader: ArenaReader,
    /// Sessions that stand there.
    pub(crate) sessions: usize,
}

impl Shard {
    /// Gives a slot back at `now_ns`.
    pub(crate) fn release(&mut self, slot: SessionSlot, now_ns: u64) {
        self.allocator.release(slot, now_ns);
        self.sessions = self.sessions.saturating_sub(1);
    }
}

/// A rested slot in the shard that has the fewest sessions, and its TEID, which `taken` does not
/// know.
pub(crate) fn allocate_in(
    shards: &mut [Shard],
    now_ns: u64,
    taken: &impl Fn(Teid) -> bool,
) -> Option<(Place, Teid)> {
    let mut order: Vec<(usize, u8)> = (0_u8..)
        .zip(&*shards)
        .map(|(number, shard)| (shard.sessions, number))
        .collect();
    order.sort_unstable();
    for (_, number) in order {
        let Some(shard) = shards.get_mut(usize::from(number)) else {
            continue;
        };
        if let Some((slot, teid)) = shard.allocator.allocate(now_ns, taken) {
            shard.sessions = shard.sessions.saturating_add(1);
            let place = Place {
                shard: number,
                slot,
            };
            return Some((place, teid));
        }
    }
    None
}

/// What becomes of a request.
#[derive(Debug)]
pub(crate) enum Reply {
    /// It is answered.
    Ready(Answer),
    /// The file of this binding has to be read first, beside this thread; then comes
    /// [`Control::read`].
    Read(ContentBinding),
}

/// State of the control plane.
#[derive(Debug)]
pub(crate) struct Control {
    pub(crate) association: Association,
    pub(crate) places: BTreeMap<SessionId, Place>,
    /// Final counters of sessions that the worker has ended and whose delete is not durable yet.
    pub(crate) ended: BTreeMap<SessionId, SessionUsage>,
    pub(crate) copies: BTreeMap<ContentId, Copy>,
    /// Which of them need not be read again after a restart.
    pub(crate) checked: CheckedCopies,
    /// In the order of their numbers; at least one.
    pub(crate) shards: Vec<Shard>,
    pub(crate) journal: Journal<Request>,
    pub(crate) info: DataPlaneInfo,
    /// The PFCP endpoint, where there is one.
    pub(crate) n4: Option<Box<N4>>,
    pub(crate) traces: Traces,
    pub(crate) metrics: MetricsEndpoint,
    /// Taken out while it works.
    pub(crate) paths: Option<Box<PathWatch>>,
    /// The tunnel, where there is one.
    pub(crate) tunnel: Option<TunnelHandle>,
}

impl Control {
    /// Lets the PFCP endpoint work; `now_ns` is monotonic.
    pub(crate) fn turn_n4(&mut self, now_ns: u64) {
        if let Some(mut n4) = self.n4.take() {
            n4.turn(self, now_ns);
            self.n4 = Some(n4);
        }
    }

    /// Watches the paths to GTP-U peers; `now_ns` is monotonic.
    pub(crate) fn turn_paths(&mut self, now_ns: u64) {
        if let Some(mut paths) = self.paths.take() {
            paths.turn(self, now_ns);
            self.paths = Some(paths);
        }
    }

    /// Takes one request; `now_ns` is monotonic.
    pub(crate) fn take(&mut self, request: Request, now_ns: u64) -> Reply {
        let reads = |binding: &ContentBinding| {
            let copy = self.copies.get(&binding.content);
            matches!(copy, None | Some(Copy::Missing)) && self.association.check(&request).is_ok()
        };
        match &request {
            Request::BindContent { binding } if reads(binding) => Reply::Read(binding.clone()),
            _ => Reply::Ready(self.answer(request, now_ns)),
        }
    }

    fn answer(&mut self, request: Request, now_ns: u64) -> Answer {
        let result = match request {
            Request::Hello => Ok(Answer::Hello {
                info: self.info.clone(),
            }),
            Request::List { after } => self.list(after),
            Request::BindContent { binding } => self.bind(binding, None),
            Request::UnbindContent { content } => self.unbind(content),
            Request::BindPackage { binding } => self.bind_package(binding),
            Request::UnbindPackage { package } => self.unbind_package(package),
            Request::Establish { rules } => self.establish(rules, now_ns),
            Request::Modify { session, changes } => {
                self.modify(session, &Request::Modify { session, changes })
            }
            Request::Delete { session } => self.delete(session, now_ns),
            Request::Trace { order } => self.trace(&order),
            Request::TraceProgress { session } => self.trace_progress(session),
            Request::Charges { session } => self.charges(session),
            Request::AddTunnelMember { .. } | Request::RenewTunnelMember { .. } => {
                self.admit_member(&request)
            }
            Request::RemoveTunnelMember { key } => self.remove_member(key),
            Request::TunnelFigures => self.tunnel_figures(),
        };
        let answer = result.unwrap_or_else(|refusal| Answer::Refused { refusal });
        self.metrics.control.answered(&answer);
        answer
    }

    fn list(&self, after: Option<SessionId>) -> Result<Answer, Refusal> {
        let (page, more) = self.association.page(after);
        let sessions = page
            .try_into()
            .map_err(|_| Refusal::new(Cause::SystemFailure, "a page is too long"))?;
        Ok(Answer::Sessions { sessions, more })
    }

    /// Answers [`Reply::Read`].
    pub(crate) fn read(&mut self, binding: ContentBinding, copy: Result<Copy, Refusal>) -> Answer {
        let result = self.bind(binding, Some(copy));
        let answer = result.unwrap_or_else(|refusal| Answer::Refused { refusal });
        self.metrics.control.answered(&answer);
        answer
    }

    /// `copy` absent: there is one already.
    fn bind(
        &mut self,
        binding: ContentBinding,
        copy: Option<Result<Copy, Refusal>>,
    ) -> Result<Answer, Refusal> {
        let content = binding.content;
        let request = Request::BindContent { binding };
        let novelty = self.association.check(&request)?;
        if let Some(copy) = copy {
            let copy = copy?;
            if let Some(stamp) = copy.stamp() {
                self.checked.note(content, stamp);
            }
            self.copies.insert(content, copy);
        }
        if novelty == Novelty::New {
            self.make_durable(&request)?;
            self.association.apply(&request);
        }
        Ok(Answer::Bound { content })
    }

    fn unbind(&mut self, content: ContentId) -> Result<Answer, Refusal> {
        let packages = self.association.packages();
        let n4 = self.n4.as_deref();
        if n4.is_some_and(|n4| n4.measures(&content, packages)) {
            return Err(Refusal::new(
                Cause::ContentInUse,
                "a PFCP session measures it",
            ));
        }
        let request = Request::UnbindContent { content };
        self.association.check(&request)?;
        self.make_durable(&request)?;
        self.association.apply(&request);
        self.copies.remove(&content);
        self.checked.forget(&content);
        Ok(Answer::Unbound { content })
    }

    fn bind_package(&mut self, binding: PackageBinding) -> Result<Answer, Refusal> {
        let package = binding.package;
        let request = Request::BindPackage { binding };
        if self.association.check(&request)? == Novelty::New {
            self.make_durable(&request)?;
            self.association.apply(&request);
            if let Some(mut n4) = self.n4.take() {
                let naming = n4.naming(&package);
                n4.recompile(self, &naming);
                self.n4 = Some(n4);
            }
        }
        Ok(Answer::PackageBound { package })
    }

    fn unbind_package(&mut self, package: PackageId) -> Result<Answer, Refusal> {
        let naming = self.n4.as_deref().map(|n4| n4.naming(&package));
        if naming.is_some_and(|sessions| !sessions.is_empty()) {
            let detail = "a PFCP session names it";
            return Err(Refusal::new(Cause::ContentInUse, detail));
        }
        let request = Request::UnbindPackage { package };
        if self.association.check(&request)? == Novelty::New {
            self.make_durable(&request)?;
            self.association.apply(&request);
        }
        Ok(Answer::PackageUnbound { package })
    }

    fn establish(&mut self, rules: SessionRules, now_ns: u64) -> Result<Answer, Refusal> {
        let session = rules.session;
        let asked = Request::Establish { rules };
        let novelty = self.association.check(&asked)?;
        let Request::Establish { rules } = asked else {
            return Err(Refusal::new(Cause::SystemFailure, "not an establish"));
        };
        if novelty == Novelty::Repeated {
            let standing = self.association.session(&session);
            return standing
                .and_then(|rules| rules.teid)
                .map(|teid| self.established(session, teid))
                .ok_or_else(|| Refusal::new(Cause::SessionUnknown, &session.to_string()));
        }
        self.check_places(&rules)?;
        let (place, own) = self.allocate(now_ns)?;
        let teid = rules.teid.unwrap_or(own);
        let rules = SessionRules {
            teid: Some(teid),
            ..rules
        };
        let command = Command::Establish {
            slot: place.slot,
            rules: Box::new(rules.clone()),
            copies: copies_of(&rules, &self.copies),
        };
        if let Err(refusal) = self.run(place, command) {
            self.release(place, now_ns);
            return Err(refusal);
        }
        let request = Request::Establish { rules };
        if let Err(refusal) = self.make_durable(&request) {
            let slot = place.slot;
            let _ = self.run(place, Command::Delete { slot });
            self.release(place, now_ns);
            return Err(refusal);
        }
        if let Request::Establish { rules } = &request {
            self.announce(place, rules, Command::AddRoute);
        }
        self.association.apply(&request);
        self.places.insert(session, place);
        Ok(self.established(session, teid))
    }

    /// What a session of PFCP has cannot be a gateway's too.
    fn check_places(&self, rules: &SessionRules) -> Result<(), Refusal> {
        let Some(n4) = self.n4.as_deref() else {
            return Ok(());
        };
        if n4.has_ue(rules.ue) {
            return Err(Refusal::new(Cause::UeAddressInUse, "a PFCP session has it"));
        }
        match rules.teid {
            Some(teid) if n4.has(Endpoint::Tunnel(teid)) => {
                Err(Refusal::new(Cause::TeidInUse, "a PFCP session has it"))
            }
            _ => Ok(()),
        }
    }

    fn allocate(&mut self, now_ns: u64) -> Result<(Place, Teid), Refusal> {
        let (association, n4) = (&self.association, &self.n4);
        let taken = |teid| {
            let by_rules = |n4: &N4| n4.has(Endpoint::Tunnel(teid));
            association.is_teid_taken(teid) || n4.as_deref().is_some_and(by_rules)
        };
        allocate_in(&mut self.shards, now_ns, &taken)
            .ok_or_else(|| Refusal::new(Cause::NoResources, "no rested session slot"))
    }

    fn release(&mut self, place: Place, now_ns: u64) {
        if let Some(shard) = self.shards.get_mut(usize::from(place.shard)) {
            shard.release(place.slot, now_ns);
        }
    }

    /// Has the worker of `place` do something.
    pub(crate) fn run(&self, place: Place, command: Command) -> Result<Outcome, Refusal> {
        self.shards
            .get(usize::from(place.shard))
            .ok_or_else(|| Refusal::new(Cause::SystemFailure, "no such worker"))?
            .worker
            .run(command)
    }

    /// Tells all other workers of a session's route.
    fn announce(&self, place: Place, rules: &SessionRules, command: fn(Route) -> Command) {
        let routes = Route::to(place, rules);
        self.tell_others(place, &routes.into_iter().map(command));
    }

    /// Has every worker but that of `place` do something. One that does not answer is only slower
    /// to know: until then it drops what is not its own.
    pub(crate) fn tell_others(
        &self,
        place: Place,
        commands: &(impl Iterator<Item = Command> + Clone),
    ) {
        for (number, shard) in (0_u8..).zip(&self.shards) {
            if number == place.shard {
                continue;
            }
            for command in commands.clone() {
                if let Err(refusal) = shard.worker.run(command) {
                    tracing::warn!(worker = number, %refusal, "a route could not be announced");
                }
            }
        }
    }

    /// A BaseStation in the tunnel sends to our tunnel address, any other to N3.
    fn established(&self, session: SessionId, teid: Teid) -> Answer {
        let rules = self.association.session(&session);
        let peer = rules.map(|rules| rules.path.peer.ip());
        let tunnel = self.tunnel.as_ref().filter(|tunnel| {
            let network = tunnel.settings.address;
            peer.is_some_and(|peer| network.contains(peer))
        });
        Answer::Established {
            session,
            teid,
            n3: TunnelAddress(tunnel.map_or(self.info.n3, |tunnel| tunnel.gtpu)),
        }
    }

    /// The journal comes first: new limits that the worker knows but a restart forgets would let
    /// bytes pass that nobody reserved.
    fn modify(&mut self, session: SessionId, request: &Request) -> Result<Answer, Refusal> {
        let mut before = None;
        if self.association.check(request)? == Novelty::New {
            self.make_durable(request)?;
            before = self.association.session(&session).cloned();
            self.association.apply(request);
        }
        let place = self.place(session)?;
        let rules = self.association.session(&session).cloned();
        let rules = rules.ok_or_else(|| Refusal::new(Cause::SessionUnknown, ""))?;
        if let Some(before) = before {
            self.announce(place, &before, Command::RemoveRoute);
            self.announce(place, &rules, Command::AddRoute);
        }
        let (slot, rules) = (place.slot, Box::new(rules));
        self.run(place, Command::Modify { slot, rules })?;
        Ok(Answer::Modified { session })
    }

    fn delete(&mut self, session: SessionId, now_ns: u64) -> Result<Answer, Refusal> {
        let request = Request::Delete { session };
        if let Err(refusal) = self.association.check(&request) {
            return self.deleted_before(session).ok_or(refusal);
        }
        let place = self.place(session)?;
        let slot = place.slot;
        let usage = match self.ended.get(&session) {
            Some(usage) => usage.clone(),
            None => match self.run(place, Command::Delete { slot })? {
                Outcome::Usage(usage) => *usage,
                Outcome::Done | Outcome::Reports(_) => SessionUsage::default(),
            },
        };
        self.ended.insert(session, usage.clone());
        self.make_durable(&request)?;
        self.ended.remove(&session);
        if let Some(rules) = self.association.session(&session) {
            self.announce(place, rules, Command::RemoveRoute);
        }
        self.traces.stop(&session);
        self.association.apply(&request);
        self.places.remove(&session);
        self.release(place, now_ns);
        Ok(Answer::Deleted { session, usage })
    }

    /// A repeated delete gets the same counters as long as the slot rests.
    fn deleted_before(&self, session: SessionId) -> Option<Answer> {
        let mut shards = self.shards.iter();
        let found = shards.find_map(|shard| shard.reader.session(&session))?;
        (!found.is_live()).then_some(Answer::Deleted {
            session,
            usage: found.usage,
        })
    }

    pub(crate) fn place(&self, session: SessionId) -> Result<Place, Refusal> {
        self.places
            .get(&session)
            .copied()
            .ok_or_else(|| Refusal::new(Cause::SessionUnknown, &session.to_string()))
    }

    /// Journals `request`, which is not applied yet: the association is what the journal holds.
    pub(crate) fn make_durable(&mut self, request: &Request) -> Result<(), Refusal> {
        if self.journal.is_overgrown()
            && let Err(error) = self.journal.rewrite(requests_of(&self.association))
        {
            tracing::error!(%error, "the control journal cannot be rewritten");
            self.metrics.control.journal_failed(JournalName::Control);
        }
        let written = self.journal.append(std::slice::from_ref(request));
        self.metrics.standing.control_journal(written.is_err());
        written.map_err(|error| {
            tracing::error!(%error, "the control journal cannot be written");
            self.metrics.control.journal_failed(JournalName::Control);
            Refusal::new(Cause::SystemFailure, &format!("journal: {error}"))
        })
    }
}

/// Maps a content's file and checks that its bytes are the content.
pub(crate) fn open_copy(binding: &ContentBinding) -> Result<Copy, Refusal> {
    let file = map_copy(binding)?;
    check_copy(binding, file)
}

/// Maps a content's file, which has the content's length.
pub(crate) fn map_copy(binding: &ContentBinding) -> Result<FileMap, Refusal> {
    let path = binding.path.as_str();
    let file = FileMap::open(path)
        .map_err(|error| Refusal::new(Cause::ContentUnreadable, &format!("{path}: {error}")))?;
    let size = file.as_slice().len() as u64;
    if size != binding.size.get() {
        let detail = format!("{path} has {size} bytes, not {}", binding.size);
        return Err(Refusal::new(Cause::ContentMismatch, &detail));
    }
    Ok(file)
}

/// Reads the bytes of a mapped file: they are the content.
pub(crate) fn check_copy(binding: &ContentBinding, file: FileMap) -> Result<Copy, Refusal> {
    verify_copy(file.as_slice(), &binding.content)
        .map_err(|wrong| Refusal::new(Cause::ContentMismatch, &wrong.to_string()))?;
    Ok(Copy::Mapped(Arc::new(file)))
}

/// The copies of a session's contents in the order of its sponsor's list.
pub(crate) fn copies_of(
    rules: &SessionRules,
    copies: &BTreeMap<ContentId, Copy>,
) -> Vec<(ContentId, Copy)> {
    let named = rules.sponsor.iter().flat_map(|sponsor| &sponsor.contents);
    named
        .map(|content| {
            let copy = copies.get(content).cloned().unwrap_or(Copy::Missing);
            (*content, copy)
        })
        .collect()
}

#[cfg(test)]
#[path = "control_tests.rs"]
pub(crate) mod tests;
