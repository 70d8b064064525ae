//! The two simulator processes: a loop over a UDP port and a control socket, on one thread.
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use qlink_io::IoError;
use serde::{Deserialize, Serialize};

use crate::capture::{CaptureError, N6Capture};
use crate::catalog::{Catalog, CatalogError, Film};
use crate::cheat::{CheatMeter, CheatReport, Direction};
use crate::control::{Caller, ControlError, ControlServer};
use crate::loss::{LossCount, LossyLink};
use crate::origin::{Origin, OriginConfig, OriginCount};
use crate::packet::addresses;
use crate::port::{Port, PortCount};
use crate::script::{FetchScript, LossPpm};
use crate::stack::{SocketSize, StackClock};
use crate::viewer::{JobId, Viewer};

/// Longest sleep: how long a stop flag may go unseen.
const SLEEP_MAX: Duration = Duration::from_millis(100);

/// Viewers that one process simulates at most.
const VIEWERS_MAX: usize = 4096;

/// Why a simulator process ended.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The packet port failed.
    #[error("packet port")]
    Port(#[from] IoError),
    /// The control socket failed.
    #[error("control socket")]
    Control(#[from] ControlError),
    /// Sleeping failed.
    #[error("waiting for packets")]
    Wait(#[source] std::io::Error),
    /// A served file cannot be read.
    #[error("catalogue")]
    Catalog(#[from] CatalogError),
    /// The capture file cannot be written.
    #[error("capture")]
    Capture(#[from] CaptureError),
}

/// How the viewers process is set up.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ViewersConfig {
    /// Own end of the radio link.
    pub radio: SocketAddr,
    /// The BaseStation's end.
    pub basestation: SocketAddr,
    /// Control socket.
    pub control: PathBuf,
    /// Loss in each direction of the radio link.
    #[serde(default)]
    pub loss_ppm: LossPpm,
    /// Decides losses and sequence numbers.
    #[serde(default)]
    pub seed: u64,
    /// Largest inner packet, in bytes.
    #[serde(default = "mtu")]
    pub mtu: usize,
    /// Receive window per connection, in bytes.
    #[serde(default = "window")]
    pub window: usize,
    /// Stack seconds per second.
    #[serde(default = "speed")]
    pub speed: u32,
}

/// How the origin process is set up.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OriginServiceConfig {
    /// Own end of N6.
    pub n6: SocketAddr,
    /// The data plane's end.
    pub gateway: SocketAddr,
    /// Control socket.
    pub control: PathBuf,
    /// Inner address of the server.
    pub address: Ipv4Addr,
    /// TCP port served.
    #[serde(default = "http_port")]
    pub port: u16,
    /// Files by path.
    #[serde(default)]
    pub files: BTreeMap<String, PathBuf>,
    /// Where to write the N6 capture.
    #[serde(default)]
    pub capture: Option<PathBuf>,
    /// Decides the initial sequence numbers.
    #[serde(default)]
    pub seed: u64,
    /// Largest inner packet, in bytes.
    #[serde(default = "mtu")]
    pub mtu: usize,
    /// Stack seconds per second.
    #[serde(default = "speed")]
    pub speed: u32,
}

const fn mtu() -> usize {
    1400
}

const fn window() -> usize {
    128 * 1024
}

const fn http_port() -> u16 {
    80
}

const fn speed() -> u32 {
    crate::STACK_SPEED
}

/// What the viewers process can be asked.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum ViewersRequest {
    /// Adds a device; answered with `{}`.
    Add {
        /// Its inner address.
        viewer: Ipv4Addr,
    },
    /// Runs a job; answered with a [`crate::FetchResult`] when it has ended.
    Fetch {
        /// What to do.
        script: FetchScript,
    },
    /// Answered with [`ViewersCount`].
    Count {},
    /// Ends the process; answered with `{}`.
    Stop {},
}

/// What the origin process can be asked.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum OriginRequest {
    /// Serves a file under a path; answered with `{}`.
    Serve {
        /// The path.
        path: String,
        /// The file.
        file: PathBuf,
    },
    /// Accounts a viewer's flows from now on; answered with `{}`.
    Watch {
        /// The viewer's inner address.
        viewer: Ipv4Addr,
    },
    /// Answered with the [`CheatReport`] of this side.
    Report {},
    /// Answered with [`OriginServiceCount`].
    Count {},
    /// Ends the process; answered with `{}`.
    Stop {},
}

/// What the viewers process did so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewersCount {
    /// The radio port.
    pub port: PortCount,
    /// The link from the viewers.
    pub uplink: LossCount,
    /// The link to the viewers.
    pub downlink: LossCount,
    /// Packets for nobody here.
    pub strangers: u64,
}

/// What the origin process did so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OriginServiceCount {
    /// The N6 port.
    pub port: PortCount,
    /// The server.
    pub origin: OriginCount,
    /// Packets from elsewhere than the gateway.
    pub strangers: u64,
}

/// The answer to a request that has nothing to tell.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Done {}

/// Whether the loop goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    On,
    Stop,
}

fn sleep(port: &Port, control: &ControlServer, delay: Duration) -> Result<(), ServiceError> {
    let mut descriptors = vec![port.as_fd()];
    descriptors.extend(control.descriptors());
    qlink_io::wait::wait(&descriptors, Some(delay.min(SLEEP_MAX))).map_err(ServiceError::Wait)?;
    Ok(())
}

struct Device {
    viewer: Viewer,
    due: Option<Instant>,
}

struct ViewersService {
    port: Port,
    control: ControlServer,
    uplink: LossyLink,
    downlink: LossyLink,
    devices: BTreeMap<Ipv4Addr, Device>,
    jobs: BTreeMap<JobId, Caller>,
    next_job: u64,
    strangers: u64,
    config: ViewersConfig,
    clock: StackClock,
}

/// Runs the viewers process until `stop` is set or it is told to stop.
///
/// # Errors
///
/// [`ServiceError`] when the port or the control socket fails.
pub fn run_viewers(
    config: &ViewersConfig,
    stop: &AtomicBool,
) -> Result<ViewersCount, ServiceError> {
    let mut service = ViewersService {
        port: Port::bind(config.radio)?,
        control: ControlServer::bind(&config.control)?,
        uplink: LossyLink::new(config.loss_ppm, config.seed.wrapping_mul(2)),
        downlink: LossyLink::new(config.loss_ppm, config.seed.wrapping_mul(2).wrapping_add(1)),
        devices: BTreeMap::new(),
        jobs: BTreeMap::new(),
        next_job: 0,
        strangers: 0,
        config: config.clone(),
        clock: StackClock::new(config.speed),
    };
    while !stop.load(Ordering::Relaxed) {
        service.receive()?;
        if service.serve() == Turn::Stop {
            break;
        }
        let delay = service.work();
        service.port.flush(config.basestation);
        service.control.flush();
        sleep(&service.port, &service.control, delay)?;
    }
    Ok(service.count())
}

impl ViewersService {
    fn receive(&mut self) -> Result<(), ServiceError> {
        let Self {
            port,
            downlink,
            devices,
            strangers,
            config,
            ..
        } = self;
        port.drain(|packet, peer| {
            let device = addresses(packet).and_then(|(_, to)| devices.get_mut(&to));
            match device.filter(|_| peer == config.basestation) {
                Some(device) if downlink.passes() => {
                    device.viewer.push(packet);
                    device.due = None;
                }
                Some(_) => {}
                None => *strangers = strangers.saturating_add(1),
            }
        })?;
        Ok(())
    }

    fn serve(&mut self) -> Turn {
        for (caller, request) in self.control.requests() {
            match request {
                ViewersRequest::Add { viewer } => {
                    let added = self.add(viewer);
                    self.control
                        .answer(&caller, added.as_ref().map_err(|&reason| reason.to_owned()));
                }
                ViewersRequest::Fetch { script } => self.fetch(caller, script),
                ViewersRequest::Count {} => {
                    let count = self.count();
                    self.control.answer(&caller, Ok(&count));
                }
                ViewersRequest::Stop {} => {
                    self.control.answer(&caller, Ok(&Done {}));
                    return Turn::Stop;
                }
            }
        }
        Turn::On
    }

    fn add(&mut self, address: Ipv4Addr) -> Result<Done, &'static str> {
        if self.devices.contains_key(&address) {
            return Err("viewer exists");
        }
        if self.devices.len() >= VIEWERS_MAX {
            return Err("too many viewers");
        }
        let size = SocketSize {
            receive: self.config.window,
            transmit: 16 * 1024,
        };
        let seed = self.config.seed ^ u64::from(u32::from(address)).rotate_left(20);
        let viewer = Viewer::new(address, self.config.mtu, seed, size, self.clock);
        self.devices.insert(address, Device { viewer, due: None });
        Ok(Done {})
    }

    fn fetch(&mut self, caller: Caller, script: FetchScript) {
        let job = JobId(self.next_job);
        let address = script.viewer;
        let refused = match self.devices.get_mut(&address) {
            None => Some(format!("no viewer at {address}")),
            Some(device) => {
                device.due = None;
                device
                    .viewer
                    .start(job, script)
                    .err()
                    .map(|error| error.to_string())
            }
        };
        match refused {
            Some(reason) => self.control.answer::<Done>(&caller, Err(reason)),
            None => {
                self.next_job = self.next_job.wrapping_add(1);
                self.jobs.insert(job, caller);
            }
        }
    }

    /// Moves on every device that has something to do; returns how long nobody has.
    fn work(&mut self) -> Duration {
        let now = Instant::now();
        let mut earliest = SLEEP_MAX;
        for device in self.devices.values_mut() {
            if device.due.is_none_or(|due| due <= now) {
                for (job, result) in device.viewer.poll(now) {
                    if let Some(caller) = self.jobs.remove(&job) {
                        self.control.answer(&caller, Ok(&result));
                    }
                }
                while let Some(packet) = device.viewer.pop() {
                    if self.uplink.passes() {
                        self.port.queue(packet);
                    }
                }
                let delay = device.viewer.poll_delay().unwrap_or(Duration::MAX);
                device.due = Some(
                    now.checked_add(delay.min(Duration::from_secs(3600)))
                        .unwrap_or(now),
                );
            }
            let until = device
                .due
                .map_or(Duration::ZERO, |due| due.saturating_duration_since(now));
            earliest = earliest.min(until);
        }
        earliest
    }

    fn count(&self) -> ViewersCount {
        ViewersCount {
            port: self.port.count(),
            uplink: self.uplink.count(),
            downlink: self.downlink.count(),
            strangers: self.strangers,
        }
    }
}

struct OriginService {
    port: Port,
    control: ControlServer,
    origin: Origin,
    meter: CheatMeter,
    capture: Option<N6Capture>,
    gateway: SocketAddr,
    strangers: u64,
}

/// Runs the origin process until `stop` is set or it is told to stop.
///
/// # Errors
///
/// [`ServiceError`] when a file, the port, the control socket or the capture fails.
pub fn run_origin(
    config: &OriginServiceConfig,
    stop: &AtomicBool,
) -> Result<OriginServiceCount, ServiceError> {
    let catalog = Catalog::open(&config.files)?;
    let origin = OriginConfig {
        address: config.address,
        port: config.port,
        mtu: config.mtu,
        seed: config.seed,
        speed: config.speed,
        ..OriginConfig::default()
    };
    let mut service = OriginService {
        port: Port::bind(config.n6)?,
        control: ControlServer::bind(&config.control)?,
        meter: CheatMeter::new(catalog.clone()),
        origin: Origin::new(origin, catalog),
        capture: config
            .capture
            .as_deref()
            .map(N6Capture::create)
            .transpose()?,
        gateway: config.gateway,
        strangers: 0,
    };
    while !stop.load(Ordering::Relaxed) {
        service.receive()?;
        if service.serve()? == Turn::Stop {
            break;
        }
        service.send()?;
        service.control.flush();
        let delay = service.origin.poll_delay().unwrap_or(SLEEP_MAX);
        sleep(&service.port, &service.control, delay)?;
    }
    if let Some(capture) = &mut service.capture {
        capture.flush()?;
    }
    Ok(service.count())
}

impl OriginService {
    fn receive(&mut self) -> Result<(), ServiceError> {
        let Self {
            port,
            origin,
            meter,
            capture,
            gateway,
            strangers,
            ..
        } = self;
        let mut captured = Ok(());
        port.drain(|packet, peer| {
            if peer != *gateway {
                *strangers = strangers.saturating_add(1);
                return;
            }
            if let Some(capture) = capture.as_mut().filter(|_| captured.is_ok()) {
                captured = capture.record(packet);
            }
            meter.observe(Direction::Uplink, packet);
            origin.push(packet);
        })?;
        Ok(captured?)
    }

    fn send(&mut self) -> Result<(), ServiceError> {
        self.origin.poll();
        while let Some(packet) = self.origin.pop() {
            if let Some(capture) = &mut self.capture {
                capture.record(&packet)?;
            }
            self.meter.observe(Direction::Downlink, &packet);
            self.port.queue(packet);
        }
        self.port.flush(self.gateway);
        Ok(())
    }

    fn serve(&mut self) -> Result<Turn, ServiceError> {
        for (caller, request) in self.control.requests() {
            match request {
                OriginRequest::Serve { path, file } => {
                    let served = self.add_film(path, &file);
                    self.control
                        .answer(&caller, served.as_ref().map_err(ToString::to_string));
                }
                OriginRequest::Watch { viewer } => {
                    self.meter.watch(viewer);
                    self.control.answer(&caller, Ok(&Done {}));
                }
                OriginRequest::Report {} => {
                    let report: CheatReport = self.meter.report();
                    self.control.answer(&caller, Ok(&report));
                }
                OriginRequest::Count {} => {
                    if let Some(capture) = &mut self.capture {
                        capture.flush()?;
                    }
                    let count = self.count();
                    self.control.answer(&caller, Ok(&count));
                }
                OriginRequest::Stop {} => {
                    self.control.answer(&caller, Ok(&Done {}));
                    return Ok(Turn::Stop);
                }
            }
        }
        Ok(Turn::On)
    }

    fn add_film(&mut self, path: String, file: &Path) -> Result<Done, CatalogError> {
        let bytes = std::fs::read(file).map_err(|source| CatalogError {
            path: file.to_owned(),
            source,
        })?;
        let film = Film::new(bytes);
        self.meter.catalog_mut().insert(path.clone(), film.clone());
        self.origin.catalog_mut().insert(path, film);
        Ok(Done {})
    }

    fn count(&self) -> OriginServiceCount {
        OriginServiceCount {
            port: self.port.count(),
            origin: self.origin.count(),
            strangers: self.strangers,
        }
    }
}
