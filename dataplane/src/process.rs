//! A data plane process: worker threads, each on a port towards BaseStations and one towards origins,
//! and one control thread.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam::channel::bounded;
use qlink_io::arena::ArenaError;
use qlink_io::handover::{Bell, Sleeper, bell};
use qlink_io::packet::PacketTap;
use qlink_io::probe::BackEnd;
use qlink_io::seqpacket::{SeqError, SeqListener};
use qlink_io::tun::TunError;
use qlink_io::udp::UdpPort;
#[cfg(feature = "uring")]
use qlink_io::uring::UringPort;
use qlink_io::xdp::XdpError;
use qlink_io::{IoError, PacketPort};
use qlink_meter::{ArenaReader, ArenaSet, ReaderError, SetupError, process_secret, shard_path};
use qlink_pfcp::DataPlaneInfo;
use qlink_pfcp::node::RestoreError;
use qlink_serve::ServeError;
use qlink_tunnel::KeyFileError;
use qlink_types::codec::{DecodeError, Text};

use crate::config::{ConfigError, DataplaneConfig, N6};
use crate::control::{Control, open_copy};
use crate::export::{Exporter, IpfixConfig};
use crate::forwarding::{BlockWay, ForwardingError, ForwardingSetup, LedgerError, block_ways};
use crate::journal::JournalError;
use crate::metrics::{ControlMetrics, Phase};
use crate::n4::{N4, N4Start, restore};
use crate::paths::PathWatch;
#[cfg(feature = "dpdk")]
use crate::ports::dpdk;
use crate::ports::{Neighbourhood, Opened, XdpSettings, choose, tun, udp, xdp};
use crate::ruled::{EventLine, KeptFlowsError};
use crate::serve::{CONNECTIONS_MAX, serve};
use crate::shard::connect;
use crate::start::Start;
use crate::tap::{Learner, PacketSettings, TapWorker, learner};
use crate::trace::Traces;
use crate::tunnel::{N3Port, Tunnel, TunnelThread};
use crate::verifier::Verifier;
use crate::worker::{Seat, Work, Worker};

/// How long a thread sleeps when nothing happens (chosen: a stop is seen this late at most).
pub(crate) const IDLE: Duration = Duration::from_millis(100);

/// Events of workers that wait for the control thread; more wait at the workers.
const EVENTS_MAX: usize = 4096;

/// Answers of GTP-U peers that wait for the control thread; one that finds no room counts as none.
const ANSWERS_MAX: usize = 1024;

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
    /// The file of redirected flows is not usable.
    #[error(transparent)]
    KeptFlows(#[from] KeptFlowsError),
    /// A session of the PFCP node's journal cannot stand.
    #[error("the PFCP node cannot be restored")]
    NodeRestore(#[from] RestoreError),
    /// The tunnel's private key cannot be used.
    #[error("tunnel.key_file cannot be used")]
    TunnelKey(#[from] KeyFileError),
    /// A port cannot be used.
    #[error("a packet port failed")]
    Port(#[from] IoError),
    /// DPDK cannot be used.
    #[cfg(feature = "dpdk")]
    #[error("DPDK cannot be used")]
    Dpdk(#[from] qlink_io::dpdk::DpdkError),
    /// AF_XDP cannot be used.
    #[error("AF_XDP cannot be used")]
    Xdp(#[from] XdpError),
    /// The interface towards origins cannot be used.
    #[error("the interface towards origins cannot be used")]
    Interface(#[from] TunError),
    /// Forwarding cannot be set up.
    #[error(transparent)]
    Forwarding(#[from] ForwardingError),
    /// The control socket cannot be used.
    #[error("the control socket failed")]
    Control(#[from] SeqError),
    /// The system refused a thread, a socket or a wait.
    #[error("the system refused")]
    System(#[from] std::io::Error),
    /// Metrics cannot be served.
    #[error("metrics cannot be served")]
    Metrics(#[from] ServeError),
    /// A metric was registered twice.
    #[error("metrics cannot be registered")]
    Registry(#[from] prometheus::Error),
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
            | Self::TunnelKey(_)
            | Self::Forwarding(
                ForwardingError::Config(_)
                | ForwardingError::Blocks(LedgerError::NewerLayout { .. }),
            )
            | Self::KeptFlows(KeptFlowsError::Newer { .. })
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
    let choice = choose(config)?;
    tracing::info!(backend = choice.backend.name(), %choice, "N3");
    let mut start = Start::new(config)?;
    let n6 = config.n6()?.back_end();
    start.metrics.control.carried_by(choice.backend, n6);
    let (bell, sleeper) = bell()?;
    // Sessions stand before the first port opens: no packet of theirs finds nobody.
    let n4 = open_n4(config, &mut start, &bell)?;
    start.discard_orphans();
    let process = Process {
        config,
        start,
        n4,
        bells: (bell, sleeper),
        ready,
        shutdown,
    };
    match (choice.backend, &config.xdp, &config.packet) {
        #[cfg(feature = "uring")]
        (BackEnd::Uring, ..) => process.with_n3(udp::open_n3(config, UringPort::bind_group)?),
        (BackEnd::Xdp, Some(settings), _) => process.with_xdp(settings),
        (BackEnd::Packet, _, Some(settings)) => process.watch(settings),
        #[cfg(feature = "dpdk")]
        (BackEnd::Dpdk, ..) => process.with_dpdk(),
        _ => process.with_n3(udp::open_n3(config, UdpPort::bind_group)?),
    }
}

/// A process before its ports are open.
struct Process<'a, R> {
    config: &'a DataplaneConfig,
    start: Start,
    n4: Option<Box<N4>>,
    /// What wakes the control thread.
    bells: (Bell, Sleeper),
    ready: R,
    shutdown: &'a AtomicBool,
}

impl<R: FnOnce(&DataPlaneInfo)> Process<'_, R> {
    /// Opens the ports towards origins and works.
    fn with_n3<A: PacketPort + Send>(self, n3: Opened<A>) -> Result<(), DataplaneError> {
        let config = self.config;
        match config.n6()? {
            N6::Udp { local, peer } => self.run(n3, udp::open_n6(config, (local, peer))?),
            N6::Tun(tun) => self.run(n3, tun::open_n6(config.workers, &tun)?),
            N6::Xdp(..) => Err(ConfigError::N6Alone { back_end: "xdp" }.into()),
            N6::Dpdk(_) => Err(ConfigError::N6Alone { back_end: "dpdk" }.into()),
            N6::Nowhere => Err(ConfigError::N6.into()),
        }
    }

    /// N3 through AF_XDP, and perhaps N6.
    fn with_xdp(self, settings: &XdpSettings) -> Result<(), DataplaneError> {
        let config = self.config;
        let n3 = xdp::open_n3(config, settings)?;
        match config.n6()? {
            N6::Xdp(settings, n6) => self.run(n3, xdp::open_n6(config, &settings, &n6)?),
            _ => self.with_n3(n3),
        }
    }

    /// N3 through DPDK, which is started once for both sides.
    #[cfg(feature = "dpdk")]
    fn with_dpdk(self) -> Result<(), DataplaneError> {
        let config = self.config;
        let table = ConfigError::Table { table: "dpdk" };
        let settings = config.dpdk.as_ref().ok_or(table)?;
        let eal = dpdk::start(settings)?;
        let n3 = dpdk::open_n3(&eal, config.n3, settings)?;
        match &settings.n6 {
            Some(n6) => {
                let n6 = dpdk::open_n6(&eal, settings, n6)?;
                self.run(n3, n6)
            }
            None => self.with_n3(n3),
        }
    }

    /// Meters what a mirror shows, and forwards nothing.
    fn watch(self, settings: &PacketSettings) -> Result<(), DataplaneError> {
        let tap = PacketTap::open(&settings.tap())?;
        tracing::info!(
            interface = settings.interface.as_str(),
            "a tap: nothing is forwarded"
        );
        let config = self.config;
        let (line, learner) = learner(
            config.control_socket.clone(),
            config.arena.clone(),
            settings.idle.0,
        );
        let line = settings.learn.then_some(line);
        let site = Site {
            n3: config.n3,
            n6: SocketAddr::new(config.n3.ip(), 0),
            own: Vec::new(),
            neighbourhoods: Vec::new(),
            learner: Some(learner),
        };
        let gateway = config.n3.ip();
        self.serve(site, |seats| {
            let seats = seats.into_iter().zip([(tap, line)]);
            let worker = |(seat, (tap, line))| TapWorker::new(seat, tap, gateway, line);
            seats.map(worker).collect()
        })
    }

    /// Works on the ports of both sides.
    fn run<A, B>(self, n3: Opened<A>, n6: Opened<B>) -> Result<(), DataplaneError>
    where
        A: PacketPort + Send,
        B: PacketPort + Send,
    {
        let mut site = Site {
            n3: n3.address,
            n6: n6.address,
            own: n3.own,
            neighbourhoods: n3.neighbourhoods,
            learner: None,
        };
        site.own.extend(n6.own);
        site.neighbourhoods.extend(n6.neighbourhoods);
        let ports = n3.ports.into_iter().zip(n6.ports);
        self.serve(site, |seats| {
            let seated = seats.into_iter().zip(ports);
            let worker = |(mut seat, (n3, n6)): (Seat, _)| {
                let n3 = N3Port::new(n3, seat.entrance.take());
                Worker::new(seat, n3, n6)
            };
            seated.map(worker).collect()
        })
    }

    /// Works at a site with the workers that `employ` makes of the seats.
    fn serve<W: Work + Send>(
        self,
        mut site: Site,
        employ: impl FnOnce(Vec<Seat>) -> Vec<W>,
    ) -> Result<(), DataplaneError> {
        let config = self.config;
        let listener = SeqListener::bind(&config.control_socket)?;
        let (bell, sleeper) = self.bells;
        let ways_of_blocks = block_ways(config);
        let neighbourhoods = std::mem::take(&mut site.neighbourhoods);
        let learner = site.learner.take();
        let (mut control, seats, tunnel) =
            assemble(config, (self.start, self.n4), site, &ways_of_blocks)?;
        let threads = Threads {
            workers: employ(seats),
            tunnel,
            exporters: exporters(config, &ways_of_blocks, &control.metrics.control)?,
            neighbourhoods,
            learner,
        };
        let arenas = ArenaSet::open(&config.arena)?;
        let verifier = Verifier::start(bell, CONNECTIONS_MAX, open_copy)?;
        let (ready, shutdown) = (self.ready, self.shutdown);
        threads.run(shutdown, &mut control, |control, stopped| {
            let handles = control.shards.iter().map(|shard| shard.worker.clone());
            control.metrics.standing.serves(arenas, handles.collect());
            ready(&control.info);
            serve(&listener, &sleeper, control, &verifier, stopped)
        })
    }
}

/// Where a data plane stands in its networks.
struct Site {
    n3: SocketAddr,
    n6: SocketAddr,
    /// Addresses that no subscriber may send to because of its ports.
    own: Vec<IpAddr>,
    neighbourhoods: Vec<Neighbourhood>,
    /// Where sessions are learned.
    learner: Option<Learner>,
}

/// What runs beside the control thread.
struct Threads<W> {
    workers: Vec<W>,
    tunnel: Option<TunnelThread>,
    exporters: Vec<Exporter>,
    neighbourhoods: Vec<Neighbourhood>,
    /// Where sessions are learned.
    learner: Option<Learner>,
}

impl<W: Work + Send> Threads<W> {
    /// Runs all of them while `serve` does, which is called with the question whether to stop.
    fn run(
        self,
        shutdown: &AtomicBool,
        control: &mut Control,
        serve: impl FnOnce(&mut Control, &dyn Fn() -> bool) -> Result<(), DataplaneError>,
    ) -> Result<(), DataplaneError> {
        let stop = AtomicBool::new(false);
        let stopped = || stop.load(Ordering::Relaxed) || shutdown.load(Ordering::Relaxed);
        // Workers go on until the control thread, which may wait for one of them, has ended.
        let ended = || stop.load(Ordering::Relaxed);
        std::thread::scope(|scope| {
            let mut running = Vec::new();
            for (number, worker) in self.workers.into_iter().enumerate() {
                let (stop, ended) = (&stop, &ended);
                let thread = std::thread::Builder::new().name(format!("qlink-worker-{number}"));
                running.push(thread.spawn_scoped(scope, move || {
                    let result = worker.work(ended);
                    stop.store(true, Ordering::Relaxed);
                    result
                }));
            }
            if let Some(tunnel) = self.tunnel {
                let (stop, ended) = (&stop, &ended);
                let thread = std::thread::Builder::new().name("qlink-tunnel".into());
                running.push(thread.spawn_scoped(scope, move || {
                    let result = tunnel.run(ended);
                    stop.store(true, Ordering::Relaxed);
                    result
                }));
            }
            let mut helping = Ok(());
            for exporter in self.exporters {
                let thread = std::thread::Builder::new().name("qlink-ipfix".into());
                let spawned = thread.spawn_scoped(scope, || exporter.run(&stopped));
                helping = helping.and_then(|()| spawned.map(drop));
            }
            for neighbourhood in self.neighbourhoods {
                let thread = std::thread::Builder::new().name("qlink-next-hops".into());
                let spawned = thread.spawn_scoped(scope, || neighbourhood.run(&stopped));
                helping = helping.and_then(|()| spawned.map(drop));
            }
            if let Some(learner) = self.learner {
                let thread = std::thread::Builder::new().name("qlink-learner".into());
                let spawned = thread.spawn_scoped(scope, || learner.run(&stopped));
                helping = helping.and_then(|()| spawned.map(drop));
            }
            // Without all of its threads it does not serve: those that run are told to stop.
            let mut result = match helping {
                Ok(()) if running.iter().all(Result::is_ok) => serve(control, &stopped),
                refused => refused.map_err(DataplaneError::from),
            };
            control.metrics.standing.enter(Phase::Stopping);
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
}

/// The control state, the workers that belong to it, and the tunnel beside N3.
fn assemble(
    config: &DataplaneConfig,
    (start, mut n4): (Start, Option<Box<N4>>),
    mut site: Site,
    ways_of_blocks: &[BlockWay],
) -> Result<(Control, Vec<Seat>, Option<TunnelThread>), DataplaneError> {
    let bells: Vec<Bell> = start.ends.iter().map(|end| end.bell.clone()).collect();
    let mut ways = connect(&bells, config.max_sessions, process_secret());
    let beside = (ways.as_mut_slice(), &mut site.own);
    let tunnel = Tunnel::open(config, &start, &bells, beside)?;
    let info = info(config, &start, &site)?;
    let (told, answers) = bounded(ANSWERS_MAX);
    let own = infrastructure(config, site.own);
    if let Some(n4) = &mut n4 {
        n4.own.clone_from(&own);
    }
    let mut routes = start.routes();
    routes.extend(
        n4.iter()
            .flat_map(|n4| n4.routes.values().flatten().copied()),
    );
    let mut seats = Vec::new();
    let ends = start.planes.into_iter().zip(start.ends).zip(ways);
    for (shard, ((mut plane, end), (others, inboxes))) in (0_u8..).zip(ends) {
        plane.neighbours.own.clone_from(&own);
        let second = config.n3_v6.map(|n3| IpAddr::V6(*n3.ip()));
        plane.neighbours.n3 = [info.n3.ip()].into_iter().chain(second).collect();
        plane.others = others;
        let way = ways_of_blocks.get(usize::from(shard));
        if let Some(setup) = ForwardingSetup::of(config, info.n3.ip(), shard, way) {
            plane.set_forwarding(&setup)?;
        }
        plane.answers.connect(told.clone());
        for route in routes.iter().filter(|route| route.shard != shard) {
            plane.others.add(route);
        }
        seats.push(Seat {
            plane,
            inboxes,
            entrance: tunnel.entrance.clone(),
            orders: end.orders,
            sleeper: end.sleeper,
        });
    }
    let control = Control {
        association: start.association,
        places: start.places,
        ended: BTreeMap::new(),
        copies: start.copies,
        checked: start.checked,
        shards: start.shards,
        journal: start.journal,
        traces: Traces::new(info.n3),
        info,
        n4,
        paths: Some(Box::new(PathWatch::new(
            config.paths,
            answers,
            start.metrics.control.paths.clone(),
        ))),
        metrics: start.metrics,
        tunnel: tunnel.handle,
    };
    Ok((control, seats, tunnel.thread))
}

/// What a gateway is told of this process.
fn info(
    config: &DataplaneConfig,
    start: &Start,
    site: &Site,
) -> Result<DataPlaneInfo, DataplaneError> {
    let arena = config
        .arena
        .to_str()
        .and_then(|path| Text::try_from(path).ok())
        .ok_or(DataplaneError::ArenaPath)?;
    let incarnation = start
        .planes
        .first()
        .map(|plane| plane.arena().incarnation());
    Ok(DataPlaneInfo {
        incarnation: incarnation.unwrap_or_default(),
        n3: site.n3,
        n6: site.n6,
        arena,
    })
}

/// An exporter for each worker, where a collector is configured: each is an observation domain.
fn exporters(
    config: &DataplaneConfig,
    ways_of_blocks: &[BlockWay],
    metrics: &ControlMetrics,
) -> Result<Vec<Exporter>, DataplaneError> {
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
        let blocks = ways_of_blocks.get(usize::from(shard));
        let blocks = blocks.map(|(_, received)| received.clone());
        Ok(Exporter::new(of_worker, shard, reader, blocks, metrics)?)
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
    start.keep_redirects(&config.arena)?;
    restore(start, of).map(|n4| Some(Box::new(n4)))
}

/// Every address that no subscriber may send to.
fn infrastructure(config: &DataplaneConfig, mut own: Vec<IpAddr>) -> Vec<IpAddr> {
    own.extend(&config.own);
    own.sort_unstable();
    own.dedup();
    own
}
