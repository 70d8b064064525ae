//! A data plane process: worker threads on two UDP ports, one control thread.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use qlink_io::IoError;
use qlink_io::arena::ArenaError;
use qlink_io::handover::{Bell, bell};
use qlink_io::seqpacket::{SeqError, SeqListener};
use qlink_io::udp::{Offload, Steering, UdpOptions, UdpPort};
use qlink_meter::{ArenaReader, ReaderError, SetupError, process_secret, shard_path};
use qlink_pfcp::DataPlaneInfo;
use qlink_types::codec::Text;
use qlink_wire::LinkType;

use crate::config::{ConfigError, DataplaneConfig};
use crate::control::{Control, Shard, WorkerHandle};
use crate::journal::JournalError;
use crate::serve::serve;
use crate::shard::{Route, connect};
use crate::start::Start;
use crate::worker::Worker;

/// How long a thread sleeps when nothing happens (chosen: a stop is seen this late at most).
pub(crate) const IDLE: Duration = Duration::from_millis(100);

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
    /// A port cannot be used.
    #[error("a packet port failed")]
    Port(#[from] IoError),
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
            Self::Config(_) | Self::ArenaPath | Self::ShardMismatch { .. } => true,
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
    let listener = SeqListener::bind(&config.control_socket)?;
    let (mut control, workers) = assemble(config, start)?;
    let stop = AtomicBool::new(false);
    let stopped = || stop.load(Ordering::Relaxed) || shutdown.load(Ordering::Relaxed);
    std::thread::scope(|scope| {
        let mut running = Vec::new();
        for (number, worker) in workers.into_iter().enumerate() {
            let (stop, stopped) = (&stop, &stopped);
            let thread = std::thread::Builder::new().name(format!("qlink-worker-{number}"));
            running.push(thread.spawn_scoped(scope, move || {
                let result = worker.run(stopped);
                stop.store(true, Ordering::Relaxed);
                result
            }));
        }
        ready(&control.info);
        let mut result = serve(&listener, &mut control, &stopped);
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
fn assemble(
    config: &DataplaneConfig,
    start: Start,
) -> Result<(Control, Vec<Worker>), DataplaneError> {
    let (bells, sleepers): (Vec<Bell>, Vec<_>) = (0..config.workers)
        .map(|_| bell())
        .collect::<std::io::Result<Vec<_>>>()?
        .into_iter()
        .unzip();
    let ways = connect(&bells, config.max_sessions, process_secret());
    let ports = Endpoints::bind(config)?;
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
        n3: ports.n3_address,
        n6: ports.n6_address,
        arena,
    };
    let routes: Vec<Route> = start
        .association
        .sessions()
        .filter_map(|rules| Route::to(*start.places.get(&rules.session)?, rules))
        .collect();
    let (mut shards, mut workers) = (Vec::new(), Vec::new());
    let parts = start.planes.into_iter().zip(start.allocators).zip(ways);
    let parts = parts.zip(bells).zip(sleepers).zip(ports.pairs).enumerate();
    for (number, (((((mut plane, allocator), (others, inboxes)), bell), sleeper), (n3, n6))) in
        parts
    {
        let shard = u8::try_from(number).unwrap_or(u8::MAX);
        plane.neighbours.own = vec![info.n3.ip(), info.n6.ip(), config.n6_peer.ip()];
        plane.neighbours.n3 = Some(info.n3.ip());
        plane.others = others;
        for route in routes.iter().filter(|route| route.shard != shard) {
            plane.others.add(route);
        }
        let (worker, orders) = WorkerHandle::pair(bell);
        shards.push(Shard {
            allocator,
            worker,
            reader: ArenaReader::open(shard_path(&config.arena, shard))?,
            sessions: routes.iter().filter(|route| route.shard == shard).count(),
        });
        workers.push(Worker {
            plane,
            n3,
            n6,
            inboxes,
            orders,
            sleeper,
        });
    }
    let control = Control {
        association: start.association,
        places: start.places,
        ended: BTreeMap::new(),
        copies: start.copies,
        shards,
        journal: start.journal,
        info,
    };
    Ok((control, workers))
}

/// Both ports of every worker.
struct Endpoints {
    n3_address: std::net::SocketAddr,
    n6_address: std::net::SocketAddr,
    pairs: Vec<(UdpPort, UdpPort)>,
}

impl Endpoints {
    /// All workers share the two addresses; the kernel spreads packets over them, and who gets
    /// one that is not his hands it over.
    fn bind(config: &DataplaneConfig) -> Result<Self, DataplaneError> {
        let offload = Offload::Segmentation;
        let options = UdpOptions {
            offload,
            ..UdpOptions::default()
        };
        let bind = |address, steering| {
            let group = (config.workers, steering);
            UdpPort::bind_group(address, LinkType::RawIp, group, options)
        };
        let n3 = bind(config.n3, Steering::Teid)?;
        let n6 = bind(config.n6_local, Steering::Flow)?;
        let address = |ports: &[UdpPort], wanted| ports.first().map_or(wanted, UdpPort::local_addr);
        Ok(Self {
            n3_address: address(&n3, config.n3),
            n6_address: address(&n6, config.n6_local),
            pairs: n3.into_iter().zip(n6).collect(),
        })
    }
}
