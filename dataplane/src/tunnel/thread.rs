//! The thread that owns every peer's keys.

use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, bounded};
use qlink_io::handover::{Bell, Inbox, Outlet, Sleeper, bell, handover};
use qlink_io::udp::{Offload, UdpOptions, UdpPort};
use qlink_io::wait::wait;
use qlink_io::{
    BURST_MAX, Burst, Descriptor, IoError, Outgoing, PacketPort as _, PacketSource, clock,
};
use qlink_tunnel::{
    MESSAGE_MAX, PeerError, PeerSetup, PublicKey, TICK, TunnelPort, Tunnels, read_key_file,
};
use qlink_types::ids::Teid;
use qlink_wire::{GTPU_PORT, LinkType};

use super::places::{Places, Teller, places_path};
use super::port::Entrance;
use super::settings::{TunnelPeer, TunnelSettings, TunnelSettingsError};
use super::tell::{Full, Report};
use crate::config::ConfigError;
use crate::journal::JournalError;
use crate::metrics::TunnelSeries;
use crate::process::{DataplaneError, IDLE};
use crate::shard::shard_of;

/// Packets that wait for a worker, or for the thread (chosen: 16 full bursts).
const PARCELS: usize = 512;

/// Orders that wait.
const ORDERS: usize = 16;

/// How long the thread may take for an order.
const PATIENCE: Duration = Duration::from_secs(5);

/// Ticks between two reports (chosen: one second, so that a flood is a line a second in the log).
const TICKS_PER_REPORT: u64 = 4;

/// What the control thread wants.
#[derive(Debug)]
enum Order {
    Admit(Newcomer, Sender<Result<(), PeerError>>),
    Remove(PublicKey, Sender<bool>),
}

/// A BaseStation that comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Newcomer {
    pub(crate) peer: TunnelPeer,
    /// The key whose place it takes.
    pub(crate) old: Option<PublicKey>,
}

impl Newcomer {
    fn enter(self, tunnels: &mut Tunnels) -> Result<(), PeerError> {
        match &self.old {
            Some(old) => tunnels.succeed(setup(self.peer), old),
            None => tunnels.add(setup(self.peer)),
        }
    }
}

/// The thread did not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the tunnel does not answer")]
pub(crate) struct TunnelGone;

/// The control thread's end.
#[derive(Debug)]
pub(crate) struct TunnelHandle {
    /// What was configured.
    pub(crate) settings: TunnelSettings,
    /// Our public key.
    pub(crate) key: PublicKey,
    /// Where BaseStations reach us.
    pub(crate) listen: SocketAddr,
    /// Where GTP-U goes in the tunnel.
    pub(crate) gtpu: SocketAddr,
    orders: Sender<Order>,
    bell: Bell,
}

impl TunnelHandle {
    fn order<T>(&self, make: impl FnOnce(Sender<T>) -> Order) -> Result<T, TunnelGone> {
        let (result, answer) = bounded(1);
        self.orders
            .send_timeout(make(result), PATIENCE)
            .map_err(|_| TunnelGone)?;
        self.bell.ring();
        answer.recv_timeout(PATIENCE).map_err(|_| TunnelGone)
    }

    /// Lets a BaseStation in.
    pub(crate) fn admit(&self, newcomer: Newcomer) -> Result<Result<(), PeerError>, TunnelGone> {
        self.order(|result| Order::Admit(newcomer, result))
    }

    /// Removes a BaseStation.
    pub(crate) fn remove(&self, key: PublicKey) -> Result<bool, TunnelGone> {
        self.order(|result| Order::Remove(key, result))
    }
}

/// Everything that the thread owns.
#[derive(Debug)]
pub(crate) struct TunnelThread {
    port: TunnelPort<UdpPort>,
    waiting: Inbox,
    sleeper: Sleeper,
    /// By worker.
    ways: Vec<(Outlet, Bell)>,
    orders: Receiver<Order>,
    full: Full,
    report: Report,
    /// Where peers were heard last; `None`: it is kept nowhere.
    places: Option<Places>,
}

/// The tunnel, before its thread runs.
#[derive(Debug)]
pub(crate) struct TunnelEnds {
    pub(crate) thread: TunnelThread,
    pub(crate) handle: TunnelHandle,
    pub(crate) entrance: Entrance,
    /// By worker.
    pub(crate) inboxes: Vec<Inbox>,
}

/// Binds the tunnel's socket; `bells[n]` wakes worker n.
pub(crate) fn open(
    settings: &TunnelSettings,
    bells: &[Bell],
    offload: Offload,
    series: TunnelSeries,
) -> Result<TunnelEnds, DataplaneError> {
    let key = read_key_file(&settings.key_file)?;
    let public = key.public();
    let mut tunnels = Tunnels::new(key, settings.address.address, settings.limits());
    for peer in &settings.peers {
        let added = tunnels.add(setup(*peer)).map_err(TunnelSettingsError::from);
        added.map_err(ConfigError::from)?;
    }
    let options = UdpOptions {
        offload,
        ..UdpOptions::default()
    };
    let socket = UdpPort::bind_with(settings.listen, LinkType::RawIp, options)?;
    let listen = socket.local_addr();
    let (own_bell, sleeper) = bell()?;
    let (outlet, waiting) = handover(PARCELS, MESSAGE_MAX);
    let (ways, inboxes) = bells
        .iter()
        .map(|bell| {
            let (outlet, inbox) = handover(PARCELS, MESSAGE_MAX);
            ((outlet, bell.clone()), inbox)
        })
        .unzip();
    let (sender, orders) = bounded(ORDERS);
    let port = TunnelPort::new(socket, tunnels, GTPU_PORT);
    tracing::info!(%listen, key = %public, address = %port.own(), "BaseStations over WireGuard");
    Ok(TunnelEnds {
        handle: TunnelHandle {
            settings: settings.clone(),
            key: public,
            listen,
            gtpu: port.own(),
            orders: sender,
            bell: own_bell.clone(),
        },
        entrance: Entrance {
            network: settings.address,
            outlet,
            bell: own_bell,
        },
        thread: TunnelThread {
            port,
            waiting,
            sleeper,
            ways,
            orders,
            full: Full::default(),
            report: Report::new(series),
            places: None,
        },
        inboxes,
    })
}

const fn setup(peer: TunnelPeer) -> PeerSetup {
    PeerSetup {
        key: peer.key,
        address: peer.address,
        // It calls; behind a translator nobody else could.
        endpoint: None,
        keepalive_s: None,
    }
}

impl TunnelThread {
    /// Lets a BaseStation in before the thread runs.
    pub(crate) fn restore(&mut self, newcomer: Newcomer) -> Result<(), PeerError> {
        newcomer.enter(self.port.tunnels())
    }

    /// Knows where its peers were before the restart; that file belongs to `journal`.
    pub(crate) fn recall(&mut self, journal: &Path) -> Result<(), JournalError> {
        let mut places = Places::open(&places_path(journal))?;
        places.recall(self.port.tunnels())?;
        self.places = Some(places);
        Ok(())
    }

    /// Works until told to stop. Places are written by a thread of their own, for storage is slow.
    pub(crate) fn run(mut self, stopped: &impl Fn() -> bool) -> Result<(), DataplaneError> {
        let (teller, told) = Teller::new();
        let places = self.places.take();
        std::thread::scope(|scope| {
            if let Some(places) = places {
                let thread = std::thread::Builder::new().name("qlink-places".into());
                thread.spawn_scoped(scope, move || places.keep(&told))?;
            }
            self.work(stopped, teller)
        })
    }

    /// `teller` ends with it, and so does who listens.
    fn work(
        mut self,
        stopped: &impl Fn() -> bool,
        mut teller: Teller,
    ) -> Result<(), DataplaneError> {
        let mut burst = Burst::new();
        let tick_ns = u64::try_from(TICK.as_nanos()).unwrap_or(u64::MAX);
        let (mut next_tick_ns, mut ticks) = (0, 0_u64);
        while !stopped() {
            self.take_orders();
            let now_ns = clock::now_ns();
            if now_ns >= next_tick_ns {
                next_tick_ns = now_ns.saturating_add(tick_ns);
                self.port.tick();
                teller.tell(self.port.tunnels());
                ticks = ticks.wrapping_add(1);
                if ticks.is_multiple_of(TICKS_PER_REPORT) {
                    self.report.tell(self.port.tunnels(), self.full);
                }
            }
            let inward = self.port.recv_burst(&mut burst)?;
            if inward > 0 {
                self.hand_over(&burst);
            }
            let outward = self.waiting.recv_burst(&mut burst)?;
            if outward > 0 {
                self.send(&burst)?;
            }
            if inward == 0 && outward == 0 && !self.port.has_more() {
                self.sleep()?;
            }
        }
        self.report.tell(self.port.tunnels(), self.full);
        teller.tell(self.port.tunnels());
        Ok(())
    }

    fn take_orders(&mut self) {
        let tunnels = self.port.tunnels();
        while let Ok(order) = self.orders.try_recv() {
            // The control thread may have given up waiting.
            match order {
                Order::Admit(newcomer, result) => {
                    let _ = result.try_send(newcomer.enter(tunnels));
                }
                Order::Remove(key, result) => {
                    let _ = result.try_send(tunnels.remove(&key));
                }
            }
        }
    }

    /// Gives each datagram to the worker that its TEID names, as the kernel does on plain N3.
    fn hand_over(&mut self, burst: &Burst) {
        let mut rung = 0_u16;
        for descriptor in burst {
            let frame = self.port.frame(descriptor);
            let shard = usize::from(shard_of(teid_of(frame)));
            let number = shard.checked_rem(self.ways.len()).unwrap_or(0);
            let Some((outlet, _)) = self.ways.get(number) else {
                continue;
            };
            if outlet.push(descriptor, frame) {
                rung |= 1 << (number & 15);
            } else {
                self.full.handover = self.full.handover.saturating_add(1);
            }
        }
        for (number, (_, bell)) in self.ways.iter().enumerate() {
            if rung >> (number & 15) & 1 == 1 {
                bell.ring();
            }
        }
    }

    /// Sends what workers have for peers.
    fn send(&mut self, burst: &Burst) -> Result<(), DataplaneError> {
        let mut items = [Outgoing::EMPTY; BURST_MAX];
        for (item, descriptor) in items.iter_mut().zip(burst) {
            *item = to_item(&self.waiting, descriptor);
        }
        let mut rest = items.get(..burst.len()).unwrap_or_default();
        while !rest.is_empty() {
            match self.port.send(rest) {
                Ok(0) => {
                    let lost = u64::try_from(rest.len()).unwrap_or(u64::MAX);
                    self.full.transmit = self.full.transmit.saturating_add(lost);
                    break;
                }
                Ok(accepted) => rest = rest.get(accepted..).unwrap_or_default(),
                // The tunnel has counted why.
                Err(IoError::Refused { .. }) => rest = rest.get(1..).unwrap_or_default(),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn sleep(&self) -> Result<(), DataplaneError> {
        self.sleeper.prepare();
        if self.waiting.is_empty() && self.orders.is_empty() {
            let descriptors = [self.port.as_fd(), self.sleeper.as_fd()];
            wait(&descriptors, Some(IDLE))?;
        }
        self.sleeper.awake();
        Ok(())
    }
}

fn to_item<'a>(waiting: &'a Inbox, descriptor: &Descriptor) -> Outgoing<'a> {
    Outgoing {
        head: &[],
        body: waiting.frame(descriptor),
        to: descriptor.peer.unwrap_or(Outgoing::EMPTY.to),
    }
}

/// The TEID of a GTP-U message; one that has none is any worker's to refuse.
fn teid_of(frame: &[u8]) -> Teid {
    let bytes = frame.get(4..8).and_then(|bytes| bytes.try_into().ok());
    Teid::new(bytes.map_or(0, u32::from_be_bytes))
}
