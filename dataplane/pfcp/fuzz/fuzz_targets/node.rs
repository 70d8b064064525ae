//! Conversations with a node: what a control plane says in order, what it should not say, datagrams
//! of any message about sessions that stand, restarts, time, and a data plane that refuses. After
//! each step node, data plane and endpoint pool agree, and what is journalled can be written.
#![no_main]

#[path = "../../tests/wire/arbitrary/mod.rs"]
mod arbitrary;

use std::collections::{BTreeMap, VecDeque};
use std::net::Ipv4Addr;
use std::time::Duration;

use arbitrary::{Source, message};
use libfuzzer_sys::fuzz_target;
use qlink_pfcp::Cause;
use qlink_pfcp::model::*;
use qlink_pfcp::node::*;
use qlink_pfcp::sim::{Smf, SmfConfig};
use qlink_pfcp::testing::{
    Pool, SMF, UPF, node_config, open_qer, uplink, usual_session, volume_urr,
};
use qlink_pfcp::wire::*;

/// Steps of a conversation.
const STEPS: usize = 48;

struct Rig {
    node: Node,
    pool: Pool,
    now: Duration,
    plane: BTreeMap<Seid, SessionModel>,
    sent: Vec<Vec<u8>>,
    /// Whether the data plane refuses.
    broken: bool,
}

impl Rig {
    fn new() -> Self {
        let config = NodeConfig {
            limits: NodeLimits {
                sessions: 6,
                ..NodeLimits::default()
            },
            ..node_config()
        };
        Self {
            node: Node::new(config),
            pool: Pool::new(40),
            now: Duration::ZERO,
            plane: BTreeMap::new(),
            sent: Vec::new(),
            broken: false,
        }
    }

    fn event(&mut self, event: Event<'_>) {
        let mut effects = VecDeque::from(self.node.handle(self.now, event, &mut self.pool));
        while let Some(effect) = effects.pop_front() {
            match effect {
                Effect::Send { bytes, .. } => self.sent.push(bytes),
                Effect::Persist(record) => {
                    record
                        .to_bytes(&Codec::default())
                        .expect("it is journalled");
                }
                Effect::Command {
                    token,
                    session,
                    command,
                } => {
                    let result = self.command(session, *command);
                    let outcome = Event::Outcome { token, result };
                    effects.extend(self.node.handle(self.now, outcome, &mut self.pool));
                }
                _ => {}
            }
        }
    }

    fn command(&mut self, seid: Seid, command: Command) -> Result<Vec<UsageReport>, Rejection> {
        if self.broken {
            return Err(Rejection::new(Cause::SystemFailure));
        }
        match command {
            Command::Establish { model, .. } => {
                assert!(
                    self.plane.insert(seid, model).is_none(),
                    "established twice"
                );
            }
            Command::Modify { model, .. } => {
                assert!(self.plane.insert(seid, model).is_some(), "not established");
            }
            Command::Delete => assert!(self.plane.remove(&seid).is_some(), "deleted twice"),
        }
        Ok(Vec::new())
    }

    fn hear(&mut self, bytes: &[u8]) {
        self.event(Event::Datagram { from: SMF, bytes });
    }

    /// Lets datagrams go to and fro until none is left.
    fn talk(&mut self, smf: &mut Smf) {
        for _ in 0..100 {
            let datagrams = smf.take_datagrams();
            if datagrams.is_empty() && self.sent.is_empty() {
                return;
            }
            for bytes in datagrams {
                self.hear(&bytes);
            }
            for bytes in std::mem::take(&mut self.sent) {
                let _ = smf.datagram(self.now, &bytes);
            }
        }
    }

    fn assert_sound(&self) {
        let standing: BTreeMap<Seid, SessionModel> = self
            .node
            .sessions()
            .map(|(seid, model)| (seid, model.clone()))
            .collect();
        assert!(standing == self.plane);
        assert!(standing.len() <= 12);
        for (seid, model) in &standing {
            assert_eq!(model.check(&ModelLimits::default()), Ok(()));
            assert_eq!(self.pool.of(*seid), model.endpoints());
        }
        let endpoints: usize = standing.values().map(|model| model.endpoints().len()).sum();
        assert_eq!(self.pool.taken.len(), endpoints);
    }
}

fn smf(recovery: u64) -> Smf {
    Smf::new(SmfConfig {
        node: NodeId::Fqdn("smf".to_owned()),
        address: SMF.ip(),
        recovery: Time::new(recovery),
        peer: UPF,
        timers: Timers::default(),
        enterprise: ENTERPRISE_ID,
    })
}

/// A change of rules out of few ids: some fit, some do not.
fn change(s: &mut Source<'_>) -> SessionChange {
    let id = u16::from(s.below(6));
    let mut change = SessionChange::default();
    match s.below(6) {
        0 => change.remove_qers = vec![QerId::new(id.into())],
        1 => change.create_pdrs = vec![uplink(id, 1, s.maybe(Source::u8))],
        2 => change.remove_pdrs = vec![PdrId::new(id)],
        3 => change.create_urrs = vec![volume_urr(id.into(), 1_000)],
        4 => change.remove_urrs = vec![UrrId::new(id.into())],
        _ => change.create_qers = vec![open_qer(id.into())],
    }
    change
}

fn modification(change: SessionChange) -> SessionModificationRequest {
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

/// Any message; about a session that stands, if it is about one.
fn any_datagram(s: &mut Source<'_>, rig: &Rig) -> Vec<u8> {
    let (mut header, message) = message(s);
    let standing: Vec<Seid> = rig.plane.keys().copied().collect();
    if header.seid.is_some() && !standing.is_empty() && s.below(8) > 0 {
        header.seid = Some(standing[usize::from(s.u8()) % standing.len()]);
    }
    Codec::default()
        .encode(&header, &message)
        .unwrap_or_default()
}

fn step(s: &mut Source<'_>, rig: &mut Rig, smf: &mut Smf, recovery: u64) {
    let standing: Vec<Seid> = smf.sessions().collect();
    let pick = |s: &mut Source<'_>| {
        let count = standing.len().max(1);
        standing.get(usize::from(s.u8()) % count).copied()
    };
    match s.below(11) {
        10 if rig.broken => {
            rig.broken = false;
            // What it refused to end is ended now.
            rig.now += Duration::from_secs(3);
            rig.event(Event::Timer);
        }
        10 => rig.broken = true,
        0 | 1 => {
            let ue = Ipv4Addr::new(10, 60, 0, s.below(16));
            smf.establish(rig.now, usual_session(ue));
        }
        2 | 3 => {
            if let Some(session) = pick(s) {
                smf.modify(rig.now, session, modification(change(s)));
            }
        }
        4 => {
            if let Some(session) = pick(s) {
                smf.delete(rig.now, session);
            }
        }
        5..=7 => {
            let mut bytes = any_datagram(s, rig);
            if let Some(at) = bytes.len().checked_sub(1) {
                // Now and then not what was meant.
                if s.below(4) == 0 {
                    bytes[usize::from(s.u16()) % (at + 1)] = s.u8();
                }
            }
            rig.hear(&bytes);
        }
        8 => {
            rig.now += Duration::from_secs(u64::from(s.below(30)));
            rig.event(Event::Timer);
        }
        _ => {
            *smf = self::smf(recovery);
            smf.associate(rig.now);
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let s = &mut Source::new(data);
    let (mut rig, mut smf) = (Rig::new(), smf(1_000));
    smf.associate(rig.now);
    rig.talk(&mut smf);
    for number in 0..STEPS {
        step(s, &mut rig, &mut smf, 2_000 + number as u64);
        rig.talk(&mut smf);
        if !rig.broken {
            rig.assert_sound();
        }
    }
});
