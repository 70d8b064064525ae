//! The node as it stood when the process ended, and its sessions in the workers.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use crossbeam::channel::Receiver;
use qlink_io::{IoError, clock};
use qlink_meter::{Recovered, SessionState};
use qlink_pfcp::model::{NodeId, Seid, Time};
use qlink_pfcp::node::{FEATURES, Node, NodeConfig, NodeLimits, Record, SeidKey, Timers};
use qlink_pfcp::wire::{Codec, UpFeatures};
use qlink_types::codec::DecodeError;
use qlink_types::ids::SessionId;

use super::compile::{Applications, RuleCompiler};
use super::config::PfcpConfig;
use super::endpoint::{N4, NodeRecord, TurnState};
use super::naming::Naming;
use super::pool::{Pool, PoolView};
use crate::journal::Journal;
use crate::process::DataplaneError;
use crate::ruled::RuledEvent;
use crate::shard::{Place, Route};
use crate::start::Start;

/// What a restart needs besides the configuration.
pub(crate) struct N4Start<'a> {
    pub(crate) config: &'a PfcpConfig,
    pub(crate) n3: IpAddr,
    pub(crate) events: Receiver<RuledEvent>,
}

/// Brings node, journal and workers together, before a port opens.
///
/// # Errors
///
/// [`DataplaneError`] when the journal is not usable or its sessions cannot stand.
pub(crate) fn restore(start: &mut Start, of: N4Start<'_>) -> Result<N4, DataplaneError> {
    let config = of.config;
    let codec = Codec::new(config.enterprise);
    let (journal, records) = Journal::<NodeRecord>::open(&config.journal)?;
    let records = records
        .iter()
        .map(|record| Record::from_bytes(&record.0, &codec))
        .collect::<Result<Vec<Record>, DecodeError>>()
        .map_err(DataplaneError::NodeRecord)?;
    let (v4, v6) = config.pools().map_err(crate::ConfigError::from)?;
    let mut pool = Pool::new(v4, v6, of.n3);
    let standing = seats(&start.recovered);
    for (seid, (place, teid)) in &standing {
        if start.claim(*place) {
            pool.reseat(*seid, *place, *teid);
        }
    }
    let now_ns = clock::now_ns();
    let node_config = node_config(config, start)?;
    let mut shards = start.take_shards();
    let mut view = PoolView {
        pool: &mut pool,
        shards: &mut shards,
        association: &start.association,
        now_ns,
    };
    let now = Duration::from_nanos(now_ns);
    let node = Node::restore(node_config, records, now, &mut view)?;
    start.shards = shards;
    let applications = Applications::new(node.applications());
    let routes = seat_sessions((&node, &mut pool, &applications), start, &standing, now_ns);
    tracing::info!(sessions = routes.len(), listen = %config.listen, "PFCP node restored");
    Ok(N4 {
        applications,
        naming: Naming::new(node.sessions()),
        own: Vec::new(),
        node,
        codec,
        pool,
        journal,
        // Only now can anybody ask about the sessions.
        socket: bind(config.listen)?,
        events: of.events,
        routes,
        metrics: start.metrics.control.pfcp.clone(),
        newcomers: Vec::new(),
        turn: TurnState::default(),
    })
}

fn bind(address: SocketAddr) -> Result<UdpSocket, IoError> {
    let bound = UdpSocket::bind(address);
    let ready = bound.and_then(|socket| socket.set_nonblocking(true).map(|()| socket));
    ready.map_err(|source| IoError::Socket {
        operation: "bind PFCP",
        address,
        source,
    })
}

/// Sessions that the node knows go on; those of the arenas that it does not know are gone. The ways
/// to those that go on.
fn seat_sessions(
    (node, pool, applications): (&Node, &mut Pool, &Applications),
    start: &mut Start,
    standing: &BTreeMap<Seid, (Place, qlink_types::ids::Teid)>,
    now_ns: u64,
) -> BTreeMap<Seid, Vec<Route>> {
    let mut routes = BTreeMap::new();
    for (seid, model) in node.sessions() {
        let mut view = PoolView {
            pool,
            shards: &mut start.shards,
            association: &start.association,
            now_ns,
        };
        let Some(seat) = view.sit(seid) else {
            tracing::error!(?seid, "no place for a session of the journal");
            continue;
        };
        let compiler = RuleCompiler {
            applications,
            copies: &start.copies,
            packages: start.association.packages(),
            // What was taken then is not refused now; packets are looked at one by one.
            own: &[],
        };
        let setup = match compiler.setup(seid, &seat, model, node.inactivity(seid)) {
            Ok(setup) => setup,
            Err(rejection) => {
                tracing::error!(?seid, %rejection, "a session cannot be restored");
                continue;
            }
        };
        let known = standing.get(&seid).map(|(place, _)| *place);
        let shard = usize::from(seat.place.shard);
        let recovered = start.recovered.get(shard);
        let recovered = recovered.filter(|_| known == Some(seat.place));
        if let Some(plane) = start.planes.get_mut(shard) {
            match plane.establish_ruled(seat.place.slot, setup, recovered) {
                Ok(()) => pool.set_stands(seid, true),
                Err(refusal) => tracing::error!(?seid, %refusal, "a session is not restored"),
            }
        }
        routes.insert(seid, Route::all(seat.place, seat.teid, model));
    }
    for seid in standing.keys() {
        if node.session(*seid).is_none() {
            let mut view = PoolView {
                pool,
                shards: &mut start.shards,
                association: &start.association,
                now_ns,
            };
            view.stand_up(*seid);
        }
    }
    routes
}

/// Where the arenas say that sessions of PFCP are.
fn seats(recovered: &[Recovered]) -> BTreeMap<Seid, (Place, qlink_types::ids::Teid)> {
    let mut seats = BTreeMap::new();
    for (shard, of) in (0_u8..).zip(recovered) {
        for (slot, identity) in &of.sessions {
            if identity.state == SessionState::Live
                && let Some(seid) = seid_of(&identity.session)
            {
                let place = Place { shard, slot: *slot };
                seats.insert(seid, (place, identity.teid));
            }
        }
    }
    seats
}

/// Inverse of [`super::compile::session_id`].
fn seid_of(session: &SessionId) -> Option<Seid> {
    let number = session.as_bytes().strip_prefix(b"pfcp\0\0\0\0")?;
    let number = number.first_chunk::<8>()?;
    Some(Seid::new(u64::from_be_bytes(*number)))
}

fn node_config(config: &PfcpConfig, start: &Start) -> Result<NodeConfig, DataplaneError> {
    let address = config.listen.ip();
    let (v4, v6) = match address {
        IpAddr::V4(v4) => (Some(v4), None),
        IpAddr::V6(v6) => (None, Some(v6)),
    };
    let incarnation = start
        .planes
        .first()
        .map(|plane| plane.arena().incarnation());
    let incarnation = incarnation.unwrap_or_default().get();
    let mut features = FEATURES
        // Prefixes of other lengths and delayed notifications are not done.
        .without(UpFeatures::IP6PL)
        .without(UpFeatures::DDND);
    if config.ue_v4.is_none() && config.ue_v6.is_none() {
        features = features.without(UpFeatures::UEIP);
    }
    Ok(NodeConfig {
        node: match address {
            IpAddr::V4(v4) => NodeId::V4(v4),
            IpAddr::V6(v6) => NodeId::V6(v6),
        },
        v4,
        v6,
        // The counters' start: sessions are kept as long as they are.
        recovery: Time::new(incarnation.wrapping_div(1000)),
        start: clock::unix_ns(),
        key: seid_key(),
        peers: config.peers().map_err(crate::ConfigError::from)?,
        request_port: config.requests_to.into(),
        networks: config.networks(),
        features,
        enterprise: config.enterprise,
        limits: NodeLimits::default(),
        timers: Timers {
            heartbeat: config.heartbeat.0,
            keep_sessions: config.keep_sessions.0,
            ..Timers::default()
        },
    })
}

fn seid_key() -> SeidKey {
    let mut key = [0; 32];
    for chunk in key.chunks_mut(8) {
        let random = qlink_meter::process_secret().to_le_bytes();
        chunk.copy_from_slice(random.get(..chunk.len()).unwrap_or_default());
    }
    SeidKey::new(key)
}
