//! A data plane process: worker threads, each on a port towards BaseStations and one towards origins,
//! and one control thread.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam::channel::bounded;
use qlink_io::arena::ArenaError;
use qlink_io::handover::{Bell, bell};
use qlink_io::interfaces::own_addresses;
use qlink_io::seqpacket::{SeqError, SeqListener};
use qlink_io::tun::{TunConfig, TunError, TunPort};
use qlink_io::udp::{Steering, UdpOptions, UdpPort};
use qlink_io::{IoError, PacketPort};
use qlink_meter::{ArenaReader, ReaderError, SetupError, process_secret, shard_path};
use qlink_pfcp::DataPlaneInfo;
use qlink_pfcp::node::RestoreError;
use qlink_types::codec::{DecodeError, Text};
use qlink_wire::LinkType;

use crate::config::{ConfigError, DataplaneConfig, N6};
use crate::control::Control;
use crate::export::{Exporter, IpfixConfig};
use crate::journal::JournalError;
use crate::n4::{N4, N4Start, restore};
use crate::ruled::EventLine;
use crate::serve::serve;
use crate::shard::connect;
use crate::start::Start;
use crate::trace::Traces;
use crate::worker::Worker;

/// How long a thread sleeps when nothing happens (chosen: a stop is seen this late at most).
pub(crate) const IDLE: Duration = Duration::from_millis(100);

/// Events of workers that wait for the control thread; more wait at the workers.
const EVENTS_MAX: usize = 4096;

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
    /// An arena of one worker was made at another time than the first one.
    #[error("the arena of worker {shard} is not of the same start as that of worker 0")]
    ShardMismatch {
        /// The worker.
        shard: u8,
    },
    /// The journal is not usable.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A record of the PFCP node is not one that this release knows; exit code 64.
    #[error("the journal of the PFCP node cannot be read")]
    NodeRecord(#[source] DecodeError),
    /// A session of the PFCP node's journal cannot stand.
    #[error("the PFCP node cannot be restored")]
    NodeRestore(#[from] RestoreError),
    /// A port cannot be used.
    #[error("a packet port failed")]
    Port(#[from] IoError),
    /// The interface towards origins cannot be used.
    #[error("the interface towards origins cannot be used")]
    Interface(#[from] TunError),
    /// The control socket cannot be used.
    #[error("the control socket failed")]
    Control(#[from] SeqError),
    /// The system refused a thread, a socket or a wait.
    #[error("the system refused")]
    System(#[from] std::io::Error),
    /// The arena's path does not fit a message.
    #[error("the arena's path is not UTF-8 or too long")]
    ArenaPath,
    /// A worker ended by a panic.
    #[error("a worker ended unexpectedly")]
    WorkerPanic,
}

impl DataplaneError {
    /// Whether the configuration or a format is to blame: exit code 64 at the shell.
    #[must_use]
    pub const fn is_bad_configuration(&self) -> bool {
        match self {
            Self::Config(_)
            | Self::ArenaPath
            | Self::ShardMismatch { .. }
            | Self::NodeRecord(_) => true,
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
    let start = Start::new(config)?;
    match config.n6()? {
        N6::Udp { local, peer } => {
            let n6 = bind(config, local, Steering::Flow)?;
            let address = n6.first().map_or(local, UdpPort::local_addr);
            let own = vec![local.ip(), peer.ip()];
            run_on(config, start, (n6, address, own), ready, shutdown)
        }
        N6::Tun(tun) => run_on(config, start, open_tun(config, &tun)?, ready, shutdown),
    }
}

/// Ports towards origins, one for each worker, their address, and the addresses that no subscriber
/// may send to because of them.
type Origins<P> = (Vec<P>, SocketAddr, Vec<IpAddr>);

/// The interface, and the addresses that the machine has now.
fn open_tun(config: &DataplaneConfig, tun: &TunConfig) -> Result<Origins<TunPort>, DataplaneError> {
    let port = TunPort::open(tun)?;
    let ip = tun.address.map_or(Ipv4Addr::UNSPECIFIED, |own| own.ip());
    tracing::info!(interface = port.name(), "packets go through the kernel");
    let mut ports = Vec::new();
    for _ in 1..config.workers {
        ports.push(port.share()?);
    }
    ports.push(port);
    Ok((ports, SocketAddr::from((ip, 0)), own_addresses()?))
}

/// A port for each worker on one address: the kernel spreads packets over them, and who gets one
/// that is not his hands it over.
fn bind(
    config: &DataplaneConfig,
    address: SocketAddr,
    steering: Steering,
) -> Result<Vec<UdpPort>, DataplaneError> {
    let options = UdpOptions {
        offload: config.udp_offload.into(),
        ..UdpOptions::default()
    };
    let group = (config.workers, steering);
    Ok(UdpPort::bind_group(
        address,
        LinkType::RawIp,
        group,
        options,
    )?)
}

/// [`run`] with the ports towards origins.
fn run_on<P: PacketPort + Send>(
    config: &DataplaneConfig,
    start: Start,
    origins: Origins<P>,
    ready: impl FnOnce(&DataPlaneInfo),
    shutdown: &AtomicBool,
) -> Result<(), DataplaneError> {
    let listener = SeqListener::bind(&config.control_socket)?;
    let (bell, sleeper) = bell()?;
    let (mut control, workers) = assemble(config, start, origins, &bell)?;
    let exporters = exporters(config)?;
    let stop = AtomicBool::new(false);
    let stopped = || stop.load(Ordering::Relaxed) || shutdown.load(Ordering::Relaxed);
    // Workers go on until the control thread, which may wait for one of them, has ended.
    let ended = || stop.load(Ordering::Relaxed);
    std::thread::scope(|scope| {
        let mut running = Vec::new();
        for (number, worker) in workers.into_iter().enumerate() {
            let (stop, ended) = (&stop, &ended);
            let thread = std::thread::Builder::new().name(format!("qlink-worker-{number}"));
            running.push(thread.spawn_scoped(scope, move || {
                let result = worker.run(ended);
                stop.store(true, Ordering::Relaxed);
                result
            }));
        }
        let exporting = exporters.into_iter().try_for_each(|exporter| {
            let thread = std::thread::Builder::new().name("qlink-ipfix".into());
            thread
                .spawn_scoped(scope, || exporter.run(&stopped))
                .map(drop)
        });
        // Without all of its threads it does not serve: those that run are told to stop.
        let mut result = match exporting {
            Ok(()) if running.iter().all(Result::is_ok) => {
                ready(&control.info);
                serve(&listener, &sleeper, &mut control, &stopped)
            }
            refused => refused.map_err(DataplaneError::from),
        };
        stop.store(true, Ordering::Relaxed);
        for shard in &control.shards {
            shard.worker.wake();
        }
        for thread in running {
            let worked = match thread {
                Ok(thread) => thread.join().map_err(|_| DataplaneError::WorkerPanic),
                Err(error) => Err(error.into()),
            };
            result = worked.and_then(|worked| worked).and(result);
        }
        result
    })
}

/// The control state and the workers that belong to it.
fn assemble<P>(
    config: &DataplaneConfig,
    mut start: Start,
    (n6, n6_address, own): Origins<P>,
    bell: &Bell,
) -> Result<(Control, Vec<Worker<P>>), DataplaneError> {
    let n4 = open_n4(config, &mut start, bell)?;
    start.discard_orphans();
    let bells: Vec<Bell> = start.ends.iter().map(|end| end.bell.clone()).collect();
    let ways = connect(&bells, config.max_sessions, process_secret());
    let n3 = bind(config, config.n3, Steering::Teid)?;
    let arena = config
        .arena
        .to_str()
        .and_then(|path| Text::try_from(path).ok())
        .ok_or(DataplaneError::ArenaPath)?;
    let incarnation = start
        .planes
        .first()
        .map(|plane| plane.arena().incarnation());
    let info = DataPlaneInfo {
        incarnation: incarnation.unwrap_or_default(),
        n3: n3.first().map_or(config.n3, UdpPort::local_addr),
        n6: n6_address,
        arena,
    };
    let own = infrastructure(config, &info, own);
    let mut routes = start.routes();
    routes.extend(
        n4.iter()
            .flat_map(|n4| n4.routes.values().flatten().copied()),
    );
    let mut workers = Vec::new();
    let ends = start.planes.into_iter().zip(start.ends).zip(ways);
    let parts = (0_u8..).zip(ends.zip(n3.into_iter().zip(n6)));
    for (shard, (((mut plane, end), (others, inboxes)), (n3, n6))) in parts {
        plane.neighbours.own.clone_from(&own);
        plane.neighbours.n3 = Some(info.n3.ip());
        plane.others = others;
        for route in routes.iter().filter(|route| route.shard != shard) {
            plane.others.add(route);
        }
        workers.push(Worker {
            plane,
            n3,
            n6,
            inboxes,
            orders: end.orders,
            sleeper: end.sleeper,
        });
    }
    let control = Control {
        association: start.association,
        places: start.places,
        ended: BTreeMap::new(),
        copies: start.copies,
        shards: start.shards,
        journal: start.journal,
        traces: Traces::new(info.n3),
        info,
        n4,
    };
    Ok((control, workers))
}

/// An exporter for each worker, where a collector is configured: each is an observation domain.
fn exporters(config: &DataplaneConfig) -> Result<Vec<Exporter>, DataplaneError> {
    let Some(ipfix) = config.ipfix else {
        return Ok(Vec::new());
    };
    let exporter = |shard: u8| {
        let reader = ArenaReader::open(shard_path(&config.arena, shard))?;
        let domain = ipfix.observation_domain;
        let of_worker = IpfixConfig {
            observation_domain: domain.saturating_add(shard.into()),
            ..ipfix
        };
        Ok(Exporter::new(of_worker, shard, reader)?)
    };
    (0..config.workers).map(exporter).collect()
}

/// The PFCP node with its sessions in the workers, where one is configured.
fn open_n4(
    config: &DataplaneConfig,
    start: &mut Start,
    bell: &Bell,
) -> Result<Option<Box<N4>>, DataplaneError> {
    let Some(pfcp) = &config.pfcp else {
        return Ok(None);
    };
    let (events, heard) = bounded(EVENTS_MAX);
    for plane in &mut start.planes {
        plane
            .ruled
            .connect(EventLine::new(events.clone(), bell.clone()));
    }
    let of = N4Start {
        config: pfcp,
        n3: config.n3.ip(),
        events: heard,
    };
    restore(start, of).map(|n4| Some(Box::new(n4)))
}

/// Every address that no subscriber may send to.
fn infrastructure(config: &DataplaneConfig, info: &DataPlaneInfo, own: Vec<IpAddr>) -> Vec<IpAddr> {
    let own = own.into_iter().chain([info.n3.ip(), info.n6.ip()]);
    let mut own: Vec<IpAddr> = own.chain(config.own.iter().copied()).collect();
    own.sort_unstable();
    own.dedup();
    own
}
