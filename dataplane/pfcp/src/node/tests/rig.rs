//! A node with a data plane that does what it is told, a journal and one control plane.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use qlink_types::ids::Teid;

use crate::cause::Cause;
use crate::model::*;
use crate::node::*;
use crate::sim::{Happened, SessionPlan, Smf, SmfConfig};
use crate::testing::Pool;
pub(super) use crate::testing::{SMF, UPF, node_config as config};
use crate::wire::*;

pub(super) const OTHER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 1, 2)), 8805);

pub(super) fn smf_at(address: SocketAddr, recovery: u64) -> Smf {
    let name = NodeId::Fqdn(format!("smf-{}", address.ip()));
    smf_named(name, address, recovery)
}

pub(super) fn smf_named(node: NodeId, address: SocketAddr, recovery: u64) -> Smf {
    Smf::new(SmfConfig {
        node,
        address: address.ip(),
        recovery: Time::new(recovery),
        peer: UPF,
        timers: Timers::default(),
        enterprise: ENTERPRISE_ID,
    })
}

pub(super) fn plan(number: u8) -> SessionPlan {
    SessionPlan {
        ue: Some(Ipv4Addr::new(10, 60, 1, number)),
        gnb: Ipv4Addr::new(10, 0, 2, 1),
        gnb_teid: Teid::new(500),
        threshold: Some(1000),
        quota: None,
        mbr: None,
        qfi: None,
        contents: Vec::new(),
        packages: Vec::new(),
    }
}

pub(super) fn report(urr: UrrId, sequence: u32) -> UsageReport {
    UsageReport {
        urr,
        sequence,
        triggers: Triggers::NONE.with(Trigger::VolumeThreshold),
        start: None,
        end: None,
        volume: Some(Volume {
            uplink: 10,
            downlink: 20,
            packets: None,
        }),
        duration: None,
        first_packet: None,
        last_packet: None,
        split: None,
    }
}

/// What a data plane does with the next commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mood {
    Willing,
    /// It answers nothing until it is asked to.
    Slow,
    /// It refuses.
    Broken,
}

#[derive(Debug)]
pub(super) struct Rig {
    pub(super) node: Node,
    pub(super) pool: Pool,
    pub(super) now: Duration,
    pub(super) mood: Mood,
    pub(super) plane: BTreeMap<Seid, SessionModel>,
    pub(super) commands: VecDeque<(Token, Seid, Command)>,
    pub(super) done: usize,
    pub(super) journal: Vec<Vec<u8>>,
    pub(super) sent: Vec<(SocketAddr, Vec<u8>)>,
    pub(super) notes: Vec<Note>,
    pub(super) other: Vec<Effect>,
}

impl Rig {
    pub(super) fn new(config: NodeConfig) -> Self {
        Self {
            node: Node::new(config),
            pool: Pool::new(1000),
            now: Duration::ZERO,
            mood: Mood::Willing,
            plane: BTreeMap::new(),
            commands: VecDeque::new(),
            done: 0,
            journal: Vec::new(),
            sent: Vec::new(),
            notes: Vec::new(),
            other: Vec::new(),
        }
    }

    pub(super) fn event(&mut self, event: Event<'_>) {
        for effect in self.node.handle(self.now, event, &mut self.pool) {
            match effect {
                Effect::Send { to, bytes } => self.sent.push((to, bytes)),
                Effect::Command {
                    token,
                    session,
                    command,
                } => self.commands.push_back((token, session, *command)),
                Effect::Persist(record) => {
                    let codec = Codec::new(ENTERPRISE_ID);
                    self.journal.push(record.to_bytes(&codec).unwrap());
                }
                Effect::Note(note) => self.notes.push(note),
                other => self.other.push(other),
            }
        }
        while self.mood != Mood::Slow && !self.commands.is_empty() {
            self.run_one();
        }
    }

    /// The data plane does the command that waits longest.
    pub(super) fn run_one(&mut self) {
        let (token, seid, command) = self.commands.pop_front().unwrap();
        let result = if self.mood == Mood::Broken {
            Err(Rejection::new(Cause::SystemFailure))
        } else {
            self.done += 1;
            Ok(self.apply(seid, command))
        };
        self.event(Event::Outcome { token, result });
    }

    fn apply(&mut self, seid: Seid, command: Command) -> Vec<UsageReport> {
        let last = |urrs: Vec<UrrId>| urrs.into_iter().map(|urr| report(urr, 99)).collect();
        match command {
            Command::Establish { model, .. } => {
                assert!(
                    self.plane.insert(seid, model).is_none(),
                    "established twice"
                );
                Vec::new()
            }
            Command::Modify {
                model,
                resolution,
                query,
                ..
            } => {
                let all = model.urrs.keys().copied().collect();
                assert!(self.plane.insert(seid, model).is_some(), "not established");
                match query {
                    Query::All => last(all),
                    Query::Some(urrs) => last(urrs),
                    Query::Ended => last(resolution.ended_urrs),
                }
            }
            Command::Delete => {
                let model = self.plane.remove(&seid).expect("deleted twice");
                last(model.urrs.into_keys().collect())
            }
        }
    }

    /// Sends a message and takes what leaves.
    pub(super) fn say(
        &mut self,
        from: SocketAddr,
        header: Header,
        message: impl Into<Message>,
    ) -> Vec<(Header, Message)> {
        let bytes = encode(&header, &message.into());
        self.say_bytes(from, &bytes)
    }

    pub(super) fn say_bytes(&mut self, from: SocketAddr, bytes: &[u8]) -> Vec<(Header, Message)> {
        self.event(Event::Datagram { from, bytes });
        self.take_messages()
    }

    pub(super) fn take_messages(&mut self) -> Vec<(Header, Message)> {
        let sent = std::mem::take(&mut self.sent);
        sent.iter().map(|(_, bytes)| decode(bytes)).collect()
    }

    /// Lets datagrams go to and fro until none is left; what `smf` at `address` heard.
    pub(super) fn talk(&mut self, smf: &mut Smf, address: SocketAddr) -> Vec<Happened> {
        let mut happened = Vec::new();
        for _ in 0..1000 {
            let datagrams = smf.take_datagrams();
            if datagrams.is_empty() && self.sent.is_empty() {
                return happened;
            }
            for bytes in datagrams {
                self.event(Event::Datagram {
                    from: address,
                    bytes: &bytes,
                });
            }
            for (to, bytes) in std::mem::take(&mut self.sent) {
                if to == address {
                    happened.extend(smf.datagram(self.now, &bytes));
                }
            }
        }
        panic!("they do not stop talking");
    }

    /// Time passes while nobody hears the node.
    pub(super) fn wait_alone(&mut self, seconds: u64) {
        let until = self.now + Duration::from_secs(seconds);
        while let Some(due) = self.node.next_deadline().filter(|due| *due <= until) {
            self.now = due;
            self.event(Event::Timer);
        }
        self.now = until;
    }

    /// Time passes while both talk.
    pub(super) fn wait_with(
        &mut self,
        smf: &mut Smf,
        address: SocketAddr,
        seconds: u64,
    ) -> Vec<Happened> {
        let until = self.now + Duration::from_secs(seconds);
        let mut happened = Vec::new();
        while let Some(due) = self.node.next_deadline().filter(|due| *due <= until) {
            self.now = due;
            self.event(Event::Timer);
            happened.extend(self.talk(smf, address));
        }
        self.now = until;
        happened
    }

    pub(super) fn noted(&self, name: &str) -> usize {
        self.notes.iter().filter(|note| note.name() == name).count()
    }

    /// Everything that belongs together does.
    pub(super) fn assert_sound(&self) {
        let standing: BTreeMap<Seid, SessionModel> = self
            .node
            .sessions()
            .map(|(seid, model)| (seid, model.clone()))
            .collect();
        assert!(
            standing == self.plane,
            "{:?} {:?}",
            standing.keys(),
            self.plane.keys()
        );
        let endpoints: usize = standing.values().map(|model| model.endpoints().len()).sum();
        assert_eq!(self.pool.taken.len(), endpoints);
        for (seid, model) in &standing {
            assert_eq!(model.check(&ModelLimits::default()), Ok(()));
            assert_eq!(self.pool.of(*seid), model.endpoints());
        }
    }
}

pub(super) fn encode(header: &Header, message: &Message) -> Vec<u8> {
    Codec::default().encode(header, message).unwrap()
}

pub(super) fn decode(bytes: &[u8]) -> (Header, Message) {
    Codec::default().decode(bytes).unwrap()
}

/// A node with an association.
pub(super) fn associated() -> (Rig, Smf) {
    associated_by(config())
}

pub(super) fn associated_by(config: NodeConfig) -> (Rig, Smf) {
    let mut rig = Rig::new(config);
    let mut smf = smf_at(SMF, 1000);
    smf.associate(rig.now);
    rig.talk(&mut smf, SMF);
    (rig, smf)
}

/// A node with one session, and its number at the control plane and here.
pub(super) fn established() -> (Rig, Smf, Seid, Seid) {
    let (mut rig, mut smf) = associated();
    let cp = smf.establish(rig.now, plan(1).rules());
    rig.talk(&mut smf, SMF);
    let (up, _) = rig.node.sessions().next().unwrap();
    (rig, smf, cp, up)
}

pub(super) fn change(change: SessionChange) -> SessionModificationRequest {
    SessionModificationRequest {
        node: None,
        cp: None,
        change,
        flags: ModificationFlags::default(),
        query: Vec::new(),
        inactivity_timer: None,
        query_reference: None,
        sets: SessionSets::default(),
    }
}
