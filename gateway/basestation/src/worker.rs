//! The forwarding thread: two ports, a bounded queue of orders, no async, no lock.
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use qlink_io::tun::{TunConfig, TunError, TunPort};
use qlink_io::udp::UdpPort;
use qlink_io::wait::wait;
use qlink_io::{BURST_MAX, Burst, IoError, Outgoing, PacketPort, PacketSource as _};
use qlink_tunnel::PeerError;
use qlink_types::ids::SessionId;
use qlink_wire::LinkType;
use serde_json::Value;

use crate::forward::{
    Downlink, DropCount, DropReason, EntryIndex, Forwarder, InstallError, NetworkCount, Tunnel,
};
use crate::link::{Link, LinkSetup, TunnelSetup};
use crate::renewal::Sight;
use crate::tap::{Tap, TapDirection, TapPacket};

/// Orders that may wait for the worker.
const ORDERS_MAX: usize = 64;

/// Bursts taken from one port before the other has its turn.
const BURSTS_PER_TURN: usize = 16;

/// How often a full transmit queue is asked again, every 50 us. Chosen: half a second in all, then
/// the packet is dropped and counted.
const SEND_ATTEMPTS: u32 = 10_000;

/// What the forwarding thread did so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WorkerCount {
    /// All sessions, those removed included.
    pub network: NetworkCount,
    /// Packets dropped, by reason.
    pub drops: DropCount,
    /// Sessions installed now.
    pub sessions: usize,
    /// Echo requests answered.
    pub echoes: u64,
    /// Error indications received.
    pub error_indications: u64,
}

/// What the control side wants of the forwarding thread.
#[derive(Debug)]
enum Order {
    Install(Tunnel, SyncSender<Result<(), InstallError>>),
    Remove(SessionId, SyncSender<Option<(Tunnel, NetworkCount)>>),
    Session(SessionId, SyncSender<Option<NetworkCount>>),
    Holder(IpAddr, SyncSender<Option<SessionId>>),
    Count(SyncSender<WorkerCount>),
    Tap(Value, SyncSender<Result<Value, String>>),
    Begin(Box<TunnelSetup>, SyncSender<Result<(), WorkerError>>),
    Sight(SyncSender<Sight>),
    EndBeside(SyncSender<()>),
    Stop,
}

/// The forwarding thread is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("forwarding thread has ended")]
pub struct WorkerGone;

/// How packets reach devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RadioKind {
    /// Over UDP, to the address that a session names.
    Udp,
    /// Through an interface, by the packet's own address.
    Interface,
}

/// The control side's end.
#[derive(Debug)]
pub struct WorkerHandle {
    radio: RadioKind,
    orders: SyncSender<Order>,
    bell: UnixStream,
}

impl WorkerHandle {
    /// How packets reach devices.
    #[must_use]
    pub const fn radio(&self) -> RadioKind {
        self.radio
    }

    fn order<T>(&self, make: impl FnOnce(SyncSender<T>) -> Order) -> Result<T, WorkerGone> {
        let (sender, receiver) = sync_channel(1);
        self.orders.send(make(sender)).map_err(|_| WorkerGone)?;
        // A full bell is already ringing.
        let _ = (&self.bell).write(&[1]);
        receiver.recv().map_err(|_| WorkerGone)
    }

    /// Installs a session.
    ///
    /// # Errors
    ///
    /// [`WorkerGone`] outside, [`InstallError`] inside.
    pub fn install(&self, tunnel: Tunnel) -> Result<Result<(), InstallError>, WorkerGone> {
        self.order(|reply| Order::Install(tunnel, reply))
    }

    /// Removes a session; its final counters come back if it was there.
    ///
    /// # Errors
    ///
    /// [`WorkerGone`].
    pub fn remove(&self, session: SessionId) -> Result<Option<(Tunnel, NetworkCount)>, WorkerGone> {
        self.order(|reply| Order::Remove(session, reply))
    }

    /// A session's counters.
    ///
    /// # Errors
    ///
    /// [`WorkerGone`].
    pub fn session(&self, session: SessionId) -> Result<Option<NetworkCount>, WorkerGone> {
        self.order(|reply| Order::Session(session, reply))
    }

    /// The session with an inner address.
    pub(crate) fn holder(&self, ue: IpAddr) -> Result<Option<SessionId>, WorkerGone> {
        self.order(|reply| Order::Holder(ue, reply))
    }

    /// All counters.
    ///
    /// # Errors
    ///
    /// [`WorkerGone`].
    pub fn count(&self) -> Result<WorkerCount, WorkerGone> {
        self.order(Order::Count)
    }

    /// Asks the tap.
    ///
    /// # Errors
    ///
    /// [`WorkerGone`] outside, the tap's reason inside.
    pub fn ask_tap(&self, question: Value) -> Result<Result<Value, String>, WorkerGone> {
        self.order(|reply| Order::Tap(question, reply))
    }

    /// Brings up another end of the tunnel beside the one in use; GTP-U is taken from the gateway's
    /// address in it from now on.
    pub(crate) fn begin(&self, setup: TunnelSetup) -> Result<Result<(), WorkerError>, WorkerGone> {
        self.order(|reply| Order::Begin(Box::new(setup), reply))
    }

    /// What the tunnel looks like.
    pub(crate) fn sight(&self) -> Result<Sight, WorkerGone> {
        self.order(Order::Sight)
    }

    /// Forgets the end beside the one in use.
    pub(crate) fn end_beside(&self) -> Result<(), WorkerGone> {
        self.order(Order::EndBeside)
    }

    /// Lets the thread end after its current turn.
    pub fn stop(&self) {
        if self.orders.send(Order::Stop).is_ok() {
            let _ = (&self.bell).write(&[1]);
        }
    }
}

/// The forwarding thread's state; [`Worker::run`] is its whole life.
pub struct Worker<R> {
    radio: R,
    n3: Link,
    forwarder: Forwarder,
    tap: Box<dyn Tap>,
    orders: Receiver<Order>,
    bell: UnixStream,
    count: WorkerCount,
}

impl<R> std::fmt::Debug for Worker<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker")
            .field("forwarder", &self.forwarder)
            .finish_non_exhaustive()
    }
}

/// Why the forwarding thread could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// A port failed.
    #[error("packet port")]
    Port(#[from] IoError),
    /// The radio interface cannot be used.
    #[error("radio interface")]
    Interface(#[from] TunError),
    /// The tunnel to the gateway cannot be used.
    #[error("tunnel")]
    Tunnel(#[from] PeerError),
    /// The wake-up socket or the wait failed.
    #[error("waiting for packets")]
    Wait(#[from] std::io::Error),
}

impl Worker<UdpPort> {
    /// Binds both ports; devices are reached over UDP at `radio`.
    ///
    /// # Errors
    ///
    /// [`WorkerError`].
    pub fn bind(
        radio: SocketAddr,
        n3: impl Into<LinkSetup>,
        forwarder: Forwarder,
        tap: Box<dyn Tap>,
    ) -> Result<(Self, WorkerHandle), WorkerError> {
        let radio = UdpPort::bind(radio, LinkType::RawIp)?;
        Self::between(radio, RadioKind::Udp, n3, forwarder, tap)
    }
}

impl Worker<TunPort> {
    /// Makes the interface through which devices are reached, and binds N3.
    ///
    /// # Errors
    ///
    /// [`WorkerError`].
    pub fn attach(
        radio: &TunConfig,
        n3: impl Into<LinkSetup>,
        forwarder: Forwarder,
        tap: Box<dyn Tap>,
    ) -> Result<(Self, WorkerHandle), WorkerError> {
        let radio = TunPort::open(radio)?;
        Self::between(radio, RadioKind::Interface, n3, forwarder, tap)
    }
}

impl<R: PacketPort> Worker<R> {
    fn between(
        radio: R,
        kind: RadioKind,
        n3: impl Into<LinkSetup>,
        forwarder: Forwarder,
        tap: Box<dyn Tap>,
    ) -> Result<(Self, WorkerHandle), WorkerError> {
        let (sender, orders) = sync_channel(ORDERS_MAX);
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        theirs.set_nonblocking(true)?;
        let worker = Self {
            radio,
            n3: Link::open(n3.into())?,
            forwarder,
            tap,
            orders,
            bell: ours,
            count: WorkerCount::default(),
        };
        let handle = WorkerHandle {
            radio: kind,
            orders: sender,
            bell: theirs,
        };
        Ok((worker, handle))
    }

    /// Our N3 address: the one bound to, or the one in the tunnel.
    #[must_use]
    pub fn n3_addr(&self) -> SocketAddr {
        self.n3.local_addr()
    }

    /// Forwards until told to stop; the final counters come back.
    ///
    /// # Errors
    ///
    /// [`WorkerError`] when a port fails for good.
    pub fn run(mut self) -> Result<WorkerCount, WorkerError> {
        let mut burst = Burst::new();
        loop {
            self.n3.tick();
            let up = self.uplink_turn(&mut burst)?;
            let down = self.downlink_turn(&mut burst)?;
            if !self.orders_turn() {
                return Ok(self.counted());
            }
            if up == 0 && down == 0 && !self.n3.has_more() {
                let descriptors = [self.radio.as_fd(), self.n3.as_fd(), self.bell.as_fd()];
                wait(&descriptors, self.n3.pause())?;
            }
        }
    }

    fn uplink_turn(&mut self, burst: &mut Burst) -> Result<usize, WorkerError> {
        let mut total = 0_usize;
        for _ in 0..BURSTS_PER_TURN {
            let received = self.radio.recv_burst(burst)?;
            if received == 0 {
                break;
            }
            total = total.saturating_add(received);
            self.uplink_burst(burst);
        }
        Ok(total)
    }

    fn uplink_burst(&mut self, burst: &Burst) {
        let Self {
            radio,
            n3,
            forwarder,
            tap,
            count,
            ..
        } = self;
        let mut plans = [None; BURST_MAX];
        for (plan, descriptor) in plans.iter_mut().zip(burst) {
            let frame = radio.frame(descriptor);
            match forwarder.uplink(frame, descriptor.peer) {
                Ok(uplink) => {
                    let inner = frame
                        .get(..usize::from(uplink.inner_len))
                        .unwrap_or_default();
                    *plan = Some((uplink, inner));
                }
                Err(reason) => count.drops.add(reason),
            }
        }
        let mut items = [Outgoing::EMPTY; BURST_MAX];
        let mut entries = [None; BURST_MAX];
        let mut used = 0_usize;
        let places = items.iter_mut().zip(entries.iter_mut());
        for ((item, entry), (uplink, inner)) in places.zip(plans.iter().flatten()) {
            *item = Outgoing {
                head: &uplink.head,
                body: inner,
                to: uplink.to,
            };
            *entry = Some(uplink.entry);
            used = used.saturating_add(1);
            tap.packet(&TapPacket {
                direction: TapDirection::Uplink,
                from: n3.local_addr(),
                to: uplink.to,
                head: &uplink.head,
                inner,
            });
        }
        send_all(
            n3,
            items.get(..used).unwrap_or_default(),
            count,
            |at, body, count| {
                note(
                    forwarder,
                    entries.get(at).copied().flatten(),
                    TapDirection::Uplink,
                    body,
                    count,
                );
            },
        );
    }

    fn downlink_turn(&mut self, burst: &mut Burst) -> Result<usize, WorkerError> {
        let mut total = 0_usize;
        for _ in 0..BURSTS_PER_TURN {
            let received = self.n3.recv_burst(burst)?;
            if received == 0 {
                break;
            }
            total = total.saturating_add(received);
            self.downlink_burst(burst);
        }
        Ok(total)
    }

    fn downlink_burst(&mut self, burst: &Burst) {
        let Self {
            radio,
            n3,
            forwarder,
            tap,
            count,
            ..
        } = self;
        let mut items = [Outgoing::EMPTY; BURST_MAX];
        let mut entries = [None; BURST_MAX];
        let mut used = 0_usize;
        for descriptor in burst {
            let Some(peer) = descriptor.peer else {
                continue;
            };
            match forwarder.downlink(n3.frame(descriptor), peer) {
                Ok(Downlink::Deliver {
                    entry,
                    head,
                    inner,
                    to,
                }) => {
                    let (direction, own) = (TapDirection::Downlink, n3.local_addr());
                    tap.packet(&TapPacket {
                        direction,
                        from: peer,
                        to: own,
                        head,
                        inner,
                    });
                    if let (Some(item), Some(place)) = (items.get_mut(used), entries.get_mut(used))
                    {
                        *item = Outgoing {
                            head: &[],
                            body: inner,
                            // An interface does not look at it.
                            to: to.unwrap_or(Outgoing::EMPTY.to),
                        };
                        *place = Some(entry);
                        used = used.saturating_add(1);
                    }
                }
                Ok(Downlink::Answer(answer)) => {
                    let item = Outgoing {
                        head: &answer,
                        body: &[],
                        to: peer,
                    };
                    send_all(n3, &[item], count, |_, _, _| {});
                }
                Ok(Downlink::Noted) => {}
                Err(reason) => count.drops.add(reason),
            }
        }
        send_all(
            radio,
            items.get(..used).unwrap_or_default(),
            count,
            |at, body, count| {
                note(
                    forwarder,
                    entries.get(at).copied().flatten(),
                    TapDirection::Downlink,
                    body,
                    count,
                );
            },
        );
    }

    /// Works off waiting orders; `false` when one of them is to stop.
    fn orders_turn(&mut self) -> bool {
        let mut rung = [0; 64];
        while matches!(self.bell.read(&mut rung), Ok(len) if len == rung.len()) {}
        while let Ok(order) = self.orders.try_recv() {
            // A caller that has gone does not want its answer.
            match order {
                Order::Install(tunnel, reply) => {
                    let _ = reply.send(self.forwarder.install(tunnel));
                }
                Order::Remove(session, reply) => {
                    let _ = reply.send(self.forwarder.remove(&session));
                }
                Order::Session(session, reply) => {
                    let _ = reply.send(self.forwarder.count(&session));
                }
                Order::Holder(ue, reply) => {
                    let _ = reply.send(self.forwarder.holder(&ue));
                }
                Order::Count(reply) => {
                    let _ = reply.send(self.counted());
                }
                Order::Tap(question, reply) => {
                    let _ = reply.send(self.tap.ask(question));
                }
                Order::Begin(setup, reply) => {
                    self.forwarder.trust(SocketAddr::new(
                        setup.gateway.address,
                        self.n3.local_addr().port(),
                    ));
                    let _ = reply.send(self.n3.begin(*setup));
                }
                Order::Sight(reply) => {
                    let _ = reply.send(self.n3.sight());
                }
                Order::EndBeside(reply) => {
                    self.n3.end_beside();
                    let _ = reply.send(());
                }
                Order::Stop => return false,
            }
        }
        true
    }

    fn counted(&self) -> WorkerCount {
        WorkerCount {
            sessions: self.forwarder.len(),
            echoes: self.forwarder.echoes(),
            error_indications: self.forwarder.error_indications(),
            ..self.count
        }
    }
}

/// Sends all items, waiting for room; `sent` is called once per accepted item with its index and the
/// length of its body.
fn send_all(
    port: &impl PacketPort,
    items: &[Outgoing<'_>],
    count: &mut WorkerCount,
    mut sent: impl FnMut(usize, u64, &mut WorkerCount),
) {
    let (mut at, mut attempts) = (0_usize, 0_u32);
    while let Some(item) = items.get(at) {
        match port.send(items.get(at..).unwrap_or_default()) {
            Ok(accepted @ 1..) => {
                for item in items.iter().skip(at).take(accepted) {
                    sent(at, item.body.len() as u64, count);
                    at = at.saturating_add(1);
                }
            }
            Ok(0) if attempts < SEND_ATTEMPTS => {
                attempts = attempts.saturating_add(1);
                std::thread::sleep(Duration::from_micros(50));
            }
            // This packet is refused; the ones behind it are tried.
            Ok(_) | Err(_) => {
                tracing::debug!(to = %item.to, "packet refused by the system");
                count.drops.add(DropReason::SendRefused);
                at = at.saturating_add(1);
            }
        }
    }
}

fn note(
    forwarder: &mut Forwarder,
    entry: Option<EntryIndex>,
    direction: TapDirection,
    body: u64,
    count: &mut WorkerCount,
) {
    let Some(entry) = entry else { return };
    let network = &mut count.network;
    let (bytes, packets) = match direction {
        TapDirection::Uplink => {
            forwarder.note_uplink(entry, body);
            (&mut network.uplink_bytes, &mut network.uplink_packets)
        }
        TapDirection::Downlink => {
            forwarder.note_downlink(entry, body);
            (&mut network.downlink_bytes, &mut network.downlink_packets)
        }
    };
    *bytes = bytes.saturating_add(body);
    *packets = packets.saturating_add(1);
}
