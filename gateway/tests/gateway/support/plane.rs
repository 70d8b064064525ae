//! `sim`: a peer at the control socket that speaks `qlink-pfcp` and keeps real counters.
//!
//! It is the data plane's control side without its packets: requests go through the same
//! [`Association`] and counters live in the same arena file, which the gateway reads as it reads
//! the real one's. What a subscriber would have received is written into the counters by the test.
//! Packets, proofs and limits are tested in `dataplane` and by `qlink demo`.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use qlink_io::seqpacket::{SeqConn, SeqListener};
use qlink_meter::{
    ArenaLayout, ArenaSetup, BurstDelta, CounterArena, Proven, SessionIdentity, SessionSlot, Usage,
};
use qlink_pfcp::{
    Answer, Association, AssociationLimits, Cause, DataPlaneInfo, MAX_MESSAGE_BYTES, Novelty,
    Refusal, Request, SessionRules, TunnelAddress, TunnelEnd, TunnelMember, decode_request,
    encode_answer,
};
use qlink_types::codec::Text;
use qlink_types::ids::{Hash32, SessionId, Teid};
use qlink_types::units::Incarnation;

/// Start of the counters.
pub(crate) const INCARNATION: Incarnation = Incarnation::new(1);

/// Where uplink packets would go.
const N3: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::new(127, 9, 9, 1)), 2152);

/// Its end of the tunnel.
pub(crate) const TUNNEL_END: TunnelEnd = TunnelEnd {
    key: Hash32::new([0x77; 32]),
    listen: N3,
    gtpu: SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::new(10, 99, 0, 1)), 2152),
};

const SESSIONS: usize = 64;

struct State {
    arena: CounterArena,
    association: Association,
    slots: BTreeMap<SessionId, SessionSlot>,
    next: u32,
    /// A tunnel key that it does not let in.
    refused: Hash32,
    /// Whether it takes no key out.
    holds: bool,
}

/// The peer; its threads end when it is dropped.
pub(crate) struct SimPlane {
    socket: PathBuf,
    state: Arc<Mutex<State>>,
    stop: Arc<AtomicBool>,
    /// A connection lives as long as this stays the same.
    generation: Arc<AtomicU32>,
}

impl SimPlane {
    pub(crate) fn start(folder: &Path) -> Self {
        let socket = folder.join("sim.sock");
        let path = folder.join("sim.arena");
        let setup = ArenaSetup {
            layout: ArenaLayout {
                sessions: SESSIONS,
                views: 1,
                flows: 1,
                view_words: 16,
                flow_words: 16,
                head_words: 16,
                urrs: 0,
            },
            incarnation: INCARNATION,
            shards: 1,
        };
        let (arena, _) = CounterArena::open(&path, setup).unwrap();
        let state = Arc::new(Mutex::new(State {
            arena,
            association: Association::new(AssociationLimits {
                sessions: SESSIONS,
                contents: 16,
            }),
            slots: BTreeMap::new(),
            next: 0,
            refused: Hash32::ZERO,
            holds: false,
        }));
        let stop = Arc::new(AtomicBool::new(false));
        let listener = SeqListener::bind(&socket).unwrap();
        let info = DataPlaneInfo {
            incarnation: INCARNATION,
            n3: N3,
            n6: N3,
            arena: Text::try_from(path.to_str().unwrap()).unwrap(),
        };
        let generation = Arc::new(AtomicU32::new(0));
        let (shared, ended) = (Arc::clone(&state), Arc::clone(&stop));
        let current = Arc::clone(&generation);
        thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                let tick = Some(Duration::from_millis(50));
                if let Ok(Some(connection)) = listener.accept(tick) {
                    let born = current.load(Ordering::Relaxed);
                    let over =
                        || ended.load(Ordering::Relaxed) || current.load(Ordering::Relaxed) != born;
                    serve(&connection, &info, &shared, over);
                }
            }
        });
        Self {
            socket,
            state,
            stop,
            generation,
        }
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// What the session has used from now on, all of it.
    pub(crate) fn set(&self, session: SessionId, usage: Usage) {
        let mut state = self.state.lock().unwrap();
        let slot = *state.slots.get(&session).expect("an established session");
        let before = state.arena.usage(slot);
        let traffic = BurstDelta {
            uplink_bytes: usage.uplink_bytes - before.uplink_bytes,
            uplink_packets: usage.uplink_packets - before.uplink_packets,
            downlink_bytes: usage.downlink_bytes - before.downlink_bytes,
            downlink_packets: usage.downlink_packets - before.downlink_packets,
            ..BurstDelta::default()
        };
        let burst = [(slot, traffic)];
        state.arena.note_burst(&burst);
        state.arena.commit_burst(&burst);
        let mut update = state.arena.update();
        update.proven(
            slot,
            Proven {
                wire_payload: usage.wire_payload,
                verified_unique: usage.verified_unique,
                retransmit: usage.retransmit,
                verified_repeat: usage.verified_repeat,
                overhead_allowed: usage.overhead_allowed,
                undelivered: usage.undelivered,
                user_charged: usage.user_charged,
                pending: usage.pending,
                personal: usage.personal,
                violations: usage.violations,
            },
        );
        update.commit();
    }

    /// A viewer that received `bytes` of the content, as a subscriber would over a lossy link.
    pub(crate) fn deliver(&self, session: SessionId, bytes: u64) {
        let retransmit = bytes / 33;
        self.set(
            session,
            Usage {
                uplink_bytes: bytes / 40,
                uplink_packets: bytes / 2_000,
                downlink_bytes: bytes + bytes / 25 + retransmit,
                downlink_packets: bytes / 1_000,
                wire_payload: bytes + retransmit + 412,
                verified_unique: bytes,
                retransmit,
                overhead_allowed: 412,
                ..Usage::default()
            },
        );
    }

    /// Keys and addresses that may come through the tunnel.
    pub(crate) fn members(&self) -> Vec<(Hash32, IpAddr)> {
        let state = self.state.lock().unwrap();
        let members = state.association.tunnel_members().iter();
        members.map(|member| (member.key, member.address)).collect()
    }

    /// This tunnel key is not let in from now on.
    pub(crate) fn refuse(&self, key: Hash32) {
        self.state.lock().unwrap().refused = key;
    }

    /// Whether it refuses to take keys out from now on.
    pub(crate) fn hold(&self, holds: bool) {
        self.state.lock().unwrap().holds = holds;
    }

    /// It loses every key, as without its journal.
    pub(crate) fn forget_members(&self) {
        let mut state = self.state.lock().unwrap();
        let keys: Vec<Hash32> = state
            .association
            .tunnel_members()
            .iter()
            .map(|m| m.key)
            .collect();
        for key in keys {
            state
                .association
                .apply(&Request::RemoveTunnelMember { key });
        }
    }

    /// A key comes in that nobody asked for.
    pub(crate) fn add_member(&self, key: Hash32, address: IpAddr) {
        let member = TunnelMember { key, address };
        let mut state = self.state.lock().unwrap();
        state
            .association
            .apply(&Request::AddTunnelMember { member });
    }

    /// Ends every connection, as a restart does.
    pub(crate) fn hang_up(&self) {
        self.generation.fetch_add(1, Ordering::Relaxed);
    }

    /// The rules that stand for a session.
    pub(crate) fn rules(&self, session: SessionId) -> Option<SessionRules> {
        let state = self.state.lock().unwrap();
        state.association.session(&session).cloned()
    }

    /// How many sessions stand.
    pub(crate) fn sessions(&self) -> usize {
        self.state.lock().unwrap().association.sessions().len()
    }
}

impl Drop for SimPlane {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn serve(
    connection: &SeqConn,
    info: &DataPlaneInfo,
    state: &Mutex<State>,
    over: impl Fn() -> bool,
) {
    let mut buffer = vec![0; MAX_MESSAGE_BYTES];
    while !over() {
        let Ok(received) = connection.recv(&mut buffer, Some(Duration::from_millis(50))) else {
            return;
        };
        let Some(length) = received else { continue };
        let (sequence, request) = decode_request(&buffer[..length]).unwrap();
        let answer = state.lock().unwrap().answer(request, info);
        let message = encode_answer(sequence, &answer).unwrap();
        if connection.send(&message).is_err() {
            return;
        }
    }
}

impl State {
    fn answer(&mut self, request: Request, info: &DataPlaneInfo) -> Answer {
        let novelty = match self.association.check(&request) {
            Ok(novelty) => novelty,
            Err(refusal) => return Answer::Refused { refusal },
        };
        match request {
            Request::Hello => Answer::Hello { info: info.clone() },
            Request::BindContent { binding } => {
                let content = binding.content;
                self.association.apply(&Request::BindContent { binding });
                Answer::Bound { content }
            }
            Request::UnbindContent { content } => {
                self.association.apply(&Request::UnbindContent { content });
                Answer::Unbound { content }
            }
            Request::BindPackage { binding } => {
                let package = binding.package;
                self.association.apply(&Request::BindPackage { binding });
                Answer::PackageBound { package }
            }
            Request::Establish { rules } => self.establish(rules, novelty),
            Request::Modify { session, changes } => {
                self.association
                    .apply(&Request::Modify { session, changes });
                Answer::Modified { session }
            }
            Request::Delete { session } => {
                self.association.apply(&Request::Delete { session });
                let slot = self.slots.remove(&session).unwrap();
                let usage = self.arena.usage(slot).to_session_usage();
                self.arena.close_session(slot);
                Answer::Deleted { session, usage }
            }
            // No gateway asks for these; an operator's command does.
            Request::Trace { .. }
            | Request::TraceProgress { .. }
            | Request::Charges { .. }
            | Request::TunnelFigures
            | Request::UnbindPackage { .. } => {
                let refusal = Refusal::new(Cause::ServiceUnsupported, "not simulated");
                Answer::Refused { refusal }
            }
            Request::AddTunnelMember { member } | Request::RenewTunnelMember { member, .. }
                if member.key == self.refused =>
            {
                let refusal = Refusal::new(Cause::RuleInvalid, "of the configuration");
                Answer::Refused { refusal }
            }
            Request::AddTunnelMember { .. } | Request::RenewTunnelMember { .. } => {
                self.association.apply(&request);
                Answer::TunnelMemberAdded { end: TUNNEL_END }
            }
            Request::RemoveTunnelMember { .. } if self.holds => {
                let refusal = Refusal::new(Cause::Busy, "not now");
                Answer::Refused { refusal }
            }
            Request::RemoveTunnelMember { key } => {
                self.association.apply(&request);
                Answer::TunnelMemberRemoved { key }
            }
            Request::List { after } => {
                let (page, more) = self.association.page(after);
                Answer::Sessions {
                    sessions: page.try_into().unwrap(),
                    more,
                }
            }
        }
    }

    fn establish(&mut self, rules: SessionRules, novelty: Novelty) -> Answer {
        let session = rules.session;
        if novelty == Novelty::New {
            let slot = SessionSlot::new(self.next);
            self.next += 1;
            let rules = SessionRules {
                teid: Some(Teid::new(0x1000 + self.next)),
                ..rules
            };
            let identity = SessionIdentity::from_rules(&rules).unwrap();
            self.arena.establish(slot, &identity);
            self.slots.insert(session, slot);
            self.association.apply(&Request::Establish { rules });
        }
        let standing = self.association.session(&session).unwrap();
        Answer::Established {
            session,
            teid: standing.teid.unwrap(),
            n3: TunnelAddress(N3),
        }
    }
}
