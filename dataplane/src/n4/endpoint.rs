//! The PFCP node's effects on sockets, workers and journal.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use crossbeam::channel::Receiver;
use qlink_meter::prefix_of;
use qlink_pfcp::model::{
    Endpoint, FTeid, NodeId, Rejection, Resolution, Seid, SessionModel, UsageReport,
};
use qlink_pfcp::node::{Command as NodeCommand, Effect, Event, Kept, Node, Note, Query, Record};
use qlink_pfcp::wire::{Codec, DownlinkDataReport, RemotePeer};
use qlink_pfcp::{Cause, Packages, Refusal};
use qlink_types::ids::{ContentId, PackageId};

use super::compile::{Applications, RuleCompiler};
use super::naming::Naming;
use super::pool::{Pool, PoolView, Seat};
use crate::control::{Command, Control, Outcome};
use crate::journal::{Entry, Journal};
use crate::metrics::{ControlMetrics, JournalName, PfcpMetrics};
use crate::ruled::{RuledChange, RuledEvent, RuledNews};
use crate::shard::Route;

/// Datagrams and events taken in before what they changed is made durable (chosen: one sync of the
/// journal for up to so many requests).
const TURN_MAX: usize = 64;

/// Longest datagram of PFCP.
const DATAGRAM_MAX: usize = 65_535;

/// A record of the node as the journal holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NodeRecord(pub(crate) Vec<u8>);

impl Entry for NodeRecord {
    const MAGIC: [u8; 8] = *b"QLPFCP\0\0";

    fn to_bytes(&self) -> io::Result<Vec<u8>> {
        Ok(self.0.clone())
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        (!bytes.is_empty()).then(|| Self(bytes.to_vec()))
    }
}

/// What waits for the end of a turn.
#[derive(Debug, Default)]
struct Turn {
    records: Vec<NodeRecord>,
    /// Sessions that are gone once the records are durable.
    gone: Vec<Seid>,
    answers: Vec<(SocketAddr, Vec<u8>)>,
    acknowledged: Vec<(Seid, Vec<(qlink_pfcp::model::UrrId, u32)>)>,
    /// The records could not be made durable: everything waits until they are.
    held: bool,
}

/// The node with everything that its effects need.
#[derive(Debug)]
pub(crate) struct N4 {
    pub(crate) node: Node,
    pub(crate) codec: Codec,
    pub(crate) pool: Pool,
    pub(crate) applications: Applications,
    /// Sessions by what they name.
    pub(crate) naming: Naming,
    /// Addresses of our own network.
    pub(crate) own: Vec<IpAddr>,
    pub(crate) journal: Journal<NodeRecord>,
    pub(crate) socket: UdpSocket,
    pub(crate) events: Receiver<RuledEvent>,
    /// Routes that other workers know, by session.
    pub(crate) routes: BTreeMap<Seid, Vec<Route>>,
    pub(crate) metrics: PfcpMetrics,
    /// Control planes that opened an association and were not told of paths yet.
    pub(crate) newcomers: Vec<NodeId>,
    pub(crate) turn: TurnState,
}

/// Kept between the steps of a turn.
#[derive(Debug, Default)]
pub(crate) struct TurnState(Turn);

impl AsFd for N4 {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl N4 {
    /// Whether a session of the node has this endpoint or address.
    pub(crate) fn has(&self, endpoint: Endpoint) -> bool {
        self.pool.has(endpoint)
    }

    /// Whether a session of the node has this subscriber's address.
    pub(crate) fn has_ue(&self, ue: IpAddr) -> bool {
        match ue {
            IpAddr::V4(ue) => self.pool.has(Endpoint::UeV4(ue)),
            IpAddr::V6(ue) => {
                self.pool.has(Endpoint::UeV6(ue, 128))
                    || self.pool.has(Endpoint::UeV6(prefix_of(ue), 64))
            }
        }
    }

    /// Whether a rule of the node's sessions measures this content; `packages` are what they
    /// consist of.
    pub(crate) fn measures(&self, content: &ContentId, packages: &Packages) -> bool {
        self.naming.measures(content, packages, &self.applications)
    }

    /// Sessions whose rules name a package.
    pub(crate) fn naming(&self, package: &PackageId) -> Vec<Seid> {
        self.naming.of_package(package, &self.applications)
    }

    /// Whether no worker has told anything that can be taken in.
    pub(crate) fn is_idle(&self) -> bool {
        self.turn.0.held || self.events.is_empty()
    }

    /// When the node has to be called again at the latest, as monotonic time.
    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        let due = self.node.next_deadline();
        due.filter(|_| !self.turn.0.held)
    }

    /// Takes in what came and carries out what follows; `now_ns` is monotonic.
    pub(crate) fn turn(&mut self, control: &mut Control, now_ns: u64) {
        if self.turn.0.held {
            self.end_turn(control, now_ns);
        }
        let held = self.turn.0.held;
        let now = Duration::from_nanos(now_ns);
        let mut buffer = vec![0; DATAGRAM_MAX];
        for _ in 0..TURN_MAX {
            // An error of an earlier datagram ("connection refused") is no reason to stop.
            match self.socket.recv_from(&mut buffer) {
                // Nothing new is begun that could not be promised; peers ask again.
                Ok(_) if held => {}
                Ok((length, from)) => {
                    let bytes = buffer.get(..length).unwrap_or_default();
                    self.metrics.received(bytes);
                    self.handle(control, now_ns, Event::Datagram { from, bytes });
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => {}
            }
        }
        if held {
            return;
        }
        self.hear(control, now_ns);
        if self.node.next_deadline().is_some_and(|due| due <= now) {
            self.handle(control, now_ns, Event::Timer);
        }
        self.end_turn(control, now_ns);
    }

    /// Takes in what workers have told until now.
    fn hear(&mut self, control: &mut Control, now_ns: u64) {
        for _ in 0..self.events.len() {
            let Ok(event) = self.events.try_recv() else {
                break;
            };
            self.handle(control, now_ns, heard(event));
        }
    }

    /// GTP-U peers stopped answering, or answer again: control planes are told.
    pub(crate) fn paths(
        &mut self,
        control: &mut Control,
        now_ns: u64,
        failures: Vec<RemotePeer>,
        recoveries: Vec<RemotePeer>,
    ) {
        let event = Event::Paths {
            failures,
            recoveries,
        };
        self.handle(control, now_ns, event);
        self.end_turn(control, now_ns);
    }

    /// Control planes that opened an association since this was asked last.
    pub(crate) fn take_newcomers(&mut self) -> Vec<NodeId> {
        std::mem::take(&mut self.newcomers)
    }

    /// Control planes that came are told of paths that had failed before.
    pub(crate) fn paths_known(
        &mut self,
        control: &mut Control,
        now_ns: u64,
        newcomers: Vec<NodeId>,
        failed: &[RemotePeer],
    ) {
        if failed.is_empty() {
            return;
        }
        for node in newcomers {
            let failures = failed.to_vec();
            self.handle(control, now_ns, Event::PathsKnown { node, failures });
        }
        self.end_turn(control, now_ns);
    }

    fn handle(&mut self, control: &mut Control, now_ns: u64, event: Event<'_>) {
        let mut events = vec![self.ask(control, now_ns, event)];
        // Outcomes of commands come back as events, whose effects follow.
        while let Some(effects) = events.pop() {
            for effect in effects {
                if let Some((token, result)) = self.carry_out(control, now_ns, effect) {
                    // What the worker told before it did this comes before it: behind the end of
                    // a session its reports would be nobody's.
                    self.hear(control, now_ns);
                    let outcome = Event::Outcome { token, result };
                    let effects = self.ask(control, now_ns, outcome);
                    events.push(effects);
                }
            }
        }
    }

    fn ask(&mut self, control: &mut Control, now_ns: u64, event: Event<'_>) -> Vec<Effect> {
        let mut view = PoolView {
            pool: &mut self.pool,
            shards: &mut control.shards,
            association: &control.association,
            now_ns,
        };
        self.node
            .handle(Duration::from_nanos(now_ns), event, &mut view)
    }

    fn carry_out(
        &mut self,
        control: &mut Control,
        now_ns: u64,
        effect: Effect,
    ) -> Option<(qlink_pfcp::node::Token, Result<Vec<UsageReport>, Rejection>)> {
        let turn = &mut self.turn.0;
        match effect {
            Effect::Send { to, bytes } => turn.answers.push((to, bytes)),
            Effect::Persist(record) => {
                if let Record::SessionGone(seid) | Record::Ended(seid, _) = record {
                    turn.gone.push(seid);
                }
                match record.to_bytes(&self.codec) {
                    Ok(bytes) => turn.records.push(NodeRecord(bytes)),
                    Err(error) => tracing::error!(%error, "a record of the node is not writable"),
                }
            }
            Effect::Acknowledged { session, reports } => {
                turn.acknowledged.push((session, reports));
            }
            Effect::Command {
                token,
                session,
                command,
            } => {
                let result = self.command(control, now_ns, session, *command);
                return Some((token, result));
            }
            Effect::Applications { sessions, .. } => self.recompile(control, &sessions),
            Effect::Buffering { session, kept, .. } => {
                if let Some(seat) = self.pool.seat(session) {
                    let slot = seat.place.slot;
                    // The worker answers nothing to this.
                    let _ = control.run(seat.place, Command::RuledKept { slot, kept });
                }
            }
            Effect::Note(note) => self.note(&note),
        }
        None
    }

    fn note(&mut self, note: &Note) {
        if let Note::AssociationUp(node) = note {
            self.newcomers.push(node.clone());
        }
        self.metrics.noted(note);
        tracing::debug!(?note, "pfcp");
    }

    fn command(
        &mut self,
        control: &mut Control,
        now_ns: u64,
        seid: Seid,
        command: NodeCommand,
    ) -> Result<Vec<UsageReport>, Rejection> {
        match command {
            NodeCommand::Establish {
                model,
                inactivity_s,
            } => {
                let done = self.establish(control, now_ns, seid, &model, inactivity_s);
                self.pool.set_stands(seid, done.is_ok());
                if done.is_ok() {
                    self.naming.set(seid, &model);
                }
                done.map(|()| Vec::new())
            }
            NodeCommand::Modify {
                model,
                resolution,
                query,
                kept,
                inactivity_s,
            } => {
                let change = (resolution, query, kept);
                let done = self.modify(control, seid, (&model, inactivity_s), change);
                if done.is_ok() {
                    self.naming.set(seid, &model);
                }
                done
            }
            NodeCommand::Delete => {
                let seat = self.seat(seid)?;
                let slot = seat.place.slot;
                let outcome = control.run(seat.place, Command::RuledDelete { slot });
                let outcome = outcome.map_err(|refusal| rejected(&refusal))?;
                self.announce(control, seid, &seat, &[]);
                self.naming.remove(seid);
                Ok(outcome.into_reports())
            }
        }
    }

    fn establish(
        &mut self,
        control: &mut Control,
        now_ns: u64,
        seid: Seid,
        model: &SessionModel,
        inactivity_s: Option<u32>,
    ) -> Result<(), Rejection> {
        let mut view = PoolView {
            pool: &mut self.pool,
            shards: &mut control.shards,
            association: &control.association,
            now_ns,
        };
        let seat = view.sit(seid).ok_or(Rejection::new(Cause::NoResources))?;
        let compiler = RuleCompiler {
            applications: &self.applications,
            copies: &control.copies,
            packages: control.association.packages(),
            own: &self.own,
        };
        let setup = compiler.setup(seid, &seat, model, inactivity_s)?;
        let slot = seat.place.slot;
        let setup = Box::new(setup);
        control
            .run(seat.place, Command::RuledEstablish { slot, setup })
            .map_err(|refusal| rejected(&refusal))?;
        let routes = Route::all(seat.place, seat.teid, model);
        self.announce(control, seid, &seat, &routes);
        Ok(())
    }

    fn modify(
        &mut self,
        control: &mut Control,
        seid: Seid,
        (model, inactivity_s): (&SessionModel, Option<u32>),
        (resolution, query, kept): (Resolution, Query, Kept),
    ) -> Result<Vec<UsageReport>, Rejection> {
        let seat = self.seat(seid)?;
        let compiler = RuleCompiler {
            applications: &self.applications,
            copies: &control.copies,
            packages: control.association.packages(),
            own: &self.own,
        };
        let setup = compiler.setup(seid, &seat, model, inactivity_s)?;
        let slot = seat.place.slot;
        let change = Box::new(RuledChange {
            setup,
            resolution,
            query,
            kept,
        });
        let outcome = control
            .run(seat.place, Command::RuledModify { slot, change })
            .map_err(|refusal| rejected(&refusal))?;
        let routes = Route::all(seat.place, seat.teid, model);
        self.announce(control, seid, &seat, &routes);
        Ok(outcome.into_reports())
    }

    fn seat(&self, seid: Seid) -> Result<Seat, Rejection> {
        let seat = self.pool.seat(seid).cloned();
        seat.ok_or(Rejection::new(Cause::SessionUnknown))
    }

    /// Tells the other workers where a session is from now on.
    fn announce(&mut self, control: &Control, seid: Seid, seat: &Seat, routes: &[Route]) {
        if control.shards.len() < 2 {
            return;
        }
        let before = self.routes.remove(&seid).unwrap_or_default();
        if before != routes {
            let gone = before.iter().map(|route| Command::RemoveRoute(*route));
            control.tell_others(seat.place, &gone);
            let come = routes.iter().map(|route| Command::AddRoute(*route));
            control.tell_others(seat.place, &come);
        }
        if !routes.is_empty() {
            self.routes.insert(seid, routes.to_vec());
        }
    }

    /// Sessions follow what their applications and packages are made of now.
    pub(crate) fn recompile(&mut self, control: &Control, sessions: &[Seid]) {
        self.applications = Applications::new(self.node.applications());
        let compiler = RuleCompiler {
            applications: &self.applications,
            copies: &control.copies,
            packages: control.association.packages(),
            own: &self.own,
        };
        for seid in sessions {
            let (Some(seat), Some((model, ..))) = (self.pool.seat(*seid), self.node.session(*seid))
            else {
                continue;
            };
            let slot = seat.place.slot;
            match compiler.setup(*seid, seat, model, self.node.inactivity(*seid)) {
                Ok(setup) => {
                    let setup = Box::new(setup);
                    if let Err(refusal) =
                        control.run(seat.place, Command::RuledRecompile { slot, setup })
                    {
                        tracing::warn!(?seid, %refusal, "filters could not be replaced");
                    }
                }
                Err(rejection) => tracing::warn!(?seid, %rejection, "filters are not usable"),
            }
        }
    }

    /// Records first, then everything that may be seen outside.
    fn end_turn(&mut self, control: &mut Control, now_ns: u64) {
        let mut turn = std::mem::take(&mut self.turn.0);
        if !turn.records.is_empty() {
            if !turn.held {
                self.shorten(&control.metrics.control);
            }
            if let Err(error) = self.journal.append(&turn.records) {
                if !turn.held {
                    tracing::error!(%error, "the node's journal cannot be written: no answer leaves");
                }
                // The node has decided and would repeat its answers, so nothing passes by the
                // records. The answers themselves are not kept: peers ask again.
                turn.answers.clear();
                turn.held = true;
                self.turn.0 = turn;
                control.metrics.control.journal_failed(JournalName::Pfcp);
                control.metrics.standing.hold_pfcp(true);
                return;
            }
        }
        if turn.held {
            control.metrics.standing.hold_pfcp(false);
        }
        self.metrics.stands(&self.node);
        for (to, bytes) in &turn.answers {
            self.metrics.sent(bytes);
            if let Err(error) = self.socket.send_to(bytes, to) {
                tracing::debug!(%error, %to, "a PFCP message could not be sent");
            }
        }
        for (seid, reports) in turn.acknowledged {
            if let Some(seat) = self.pool.seat(seid) {
                let slot = seat.place.slot;
                // A session that went meanwhile has nothing to forget.
                let _ = control.run(seat.place, Command::RuledAcknowledge { slot, reports });
            }
        }
        for seid in turn.gone {
            let Some(seat) = self.pool.seat(seid).cloned() else {
                continue;
            };
            let slot = seat.place.slot;
            // The rows of a worker that does not answer are closed at its next start.
            let _ = control.run(seat.place, Command::RuledClose { slot });
            let mut view = PoolView {
                pool: &mut self.pool,
                shards: &mut control.shards,
                association: &control.association,
                now_ns,
            };
            view.stand_up(seid);
        }
    }

    fn shorten(&mut self, metrics: &ControlMetrics) {
        if !self.journal.is_overgrown() {
            return;
        }
        let records = self.node.snapshot();
        let records = records
            .iter()
            .filter_map(|record| record.to_bytes(&self.codec).ok().map(NodeRecord));
        if let Err(error) = self.journal.rewrite(records) {
            tracing::error!(%error, "the node's journal cannot be rewritten");
            metrics.journal_failed(JournalName::Pfcp);
        }
    }
}

/// What a worker tells, as the node hears it.
fn heard(event: RuledEvent) -> Event<'static> {
    let session = event.seid;
    match event.news {
        RuledNews::Usage(reports) => Event::Usage { session, reports },
        RuledNews::DownlinkData(pdr) => Event::DownlinkData {
            session,
            report: DownlinkDataReport {
                pdrs: vec![pdr],
                service: None,
            },
        },
        RuledNews::ErrorIndication(peer, teid) => {
            let (v4, v6) = match peer {
                IpAddr::V4(v4) => (Some(v4), None),
                IpAddr::V6(v6) => (None, Some(v6)),
            };
            Event::ErrorIndication {
                session,
                endpoints: vec![FTeid { teid, v4, v6 }],
            }
        }
        RuledNews::Inactive => Event::Inactive { session },
    }
}

fn rejected(refusal: &Refusal) -> Rejection {
    tracing::warn!(%refusal, "a worker refused a session's rules");
    Rejection::new(refusal.cause)
}

impl Outcome {
    fn into_reports(self) -> Vec<UsageReport> {
        match self {
            Self::Reports(reports) => reports,
            Self::Done | Self::Usage(_) => Vec::new(),
        }
    }
}

#[cfg(test)]
#[path = "endpoint_tests.rs"]
mod tests;
