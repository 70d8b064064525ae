//! One queue of an interface as a packet source and sink.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use qlink_wire::LinkType;

use super::error::XdpError;
use super::interface::Interface;
use super::ring::{Consumer, Producer};
use super::socket::{CopyChoice, CopyMode, XdpSocket};
use super::steering::Steering;
use super::transmit::{SendError, Transmit, TransmitStats};
use super::umem::{FrameSize, Umem};
use crate::burst::BURST_MAX;
use crate::frame::{Envelope, Framer};
use crate::neighbour::NeighbourReader;
use crate::wait::{Ready, wait};
use crate::{
    Burst, Descriptor, IoError, Losses, Outgoing, PacketPort, PacketSink, PacketSource, clock,
};

/// Fewest and most frames of one port.
pub const FRAMES_RANGE: std::ops::RangeInclusive<u32> = 256..=65_536;

/// How a port is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct XdpConfig {
    /// Frames of packet memory, a power of two in [`FRAMES_RANGE`]; half receive, half send.
    pub frames: u32,
    /// Bytes of one frame.
    pub frame_size: FrameSize,
    /// Whether the card may use our packet memory itself.
    pub copy: CopyChoice,
    /// What is written in front of packets sent.
    pub envelope: Envelope,
    /// VLAN that sent packets are tagged with, 1 to 4094.
    pub vlan: Option<u16>,
}

impl XdpConfig {
    /// 2048 frames of 2 KiB, the best copy mode, no VLAN.
    ///
    /// Chosen: two such ports lock exactly the 8 MiB that Linux allows without privilege.
    #[must_use]
    pub const fn new(envelope: Envelope) -> Self {
        Self {
            frames: 2048,
            frame_size: FrameSize::Two,
            copy: CopyChoice::Best,
            envelope,
            vlan: None,
        }
    }

    fn check(&self, steering: &Steering, queue: u32) -> Result<(), XdpError> {
        let wrong = |setting, value: &dyn std::fmt::Debug, allowed| XdpError::Setting {
            setting,
            value: format!("{value:?}"),
            allowed,
        };
        let interface = steering.interface();
        check_frames(self.frames)?;
        if queue >= interface.rx_queues {
            let allowed = "below the interface's number of receive queues";
            return Err(wrong("queue", &queue, allowed));
        }
        // Ethernet with a VLAN tag.
        if interface.mtu.saturating_add(18) > self.frame_size.packet_max() {
            let allowed = "frames of 2 KiB up to an MTU of 1774, of 4 KiB up to 3822";
            return Err(wrong("frame size", &self.frame_size, allowed));
        }
        if self.vlan.is_some_and(|vlan| !(1..=4094).contains(&vlan)) {
            return Err(wrong("vlan", &self.vlan, "1 to 4094"));
        }
        Ok(())
    }
}

/// Whether a port can have so many frames.
pub(super) fn check_frames(frames: u32) -> Result<(), XdpError> {
    if FRAMES_RANGE.contains(&frames) && frames.is_power_of_two() {
        return Ok(());
    }
    Err(XdpError::Setting {
        setting: "frames",
        value: frames.to_string(),
        allowed: "a power of two from 256 to 65536",
    })
}

/// What a port has seen besides the packets that it delivered. Counters since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct XdpStats {
    /// Steered packets that the kernel dropped: too long for a frame, or no frame to put them in.
    pub receive_dropped: u64,
    /// Steered packets dropped because the receive ring was full: the worker is too slow.
    pub receive_ring_full: u64,
    /// Times that the kernel found no frame in the fill ring.
    pub fill_ring_empty: u64,
    /// Frames that the kernel refused to receive into; a fault of this program.
    pub receive_invalid: u64,
    /// Packets that the kernel refused to send; a fault of this program.
    pub transmit_invalid: u64,
    /// Received entries that named a frame which is not the kernel's, or bytes outside it; a fault
    /// of the kernel.
    pub foreign_frames: u64,
    /// What happened to packets that were to be sent.
    pub transmit: TransmitStats,
}

/// Where all frames of a port are, at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FrameUse {
    /// In the fill ring, waiting for a packet.
    pub waiting: usize,
    /// In the current burst.
    pub in_burst: usize,
    /// Spare: the fill ring had no room yet.
    pub spare: usize,
    /// Free to send with.
    pub free: usize,
    /// Queued for sending, or sent and not yet returned.
    pub in_flight: usize,
}

/// Who has a receive frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FrameState {
    /// The kernel: in the fill ring, in the receive ring, or between them.
    Kernel,
    /// Nobody; it waits for room in the fill ring.
    Spare,
    /// The current burst: where the packet begins and its length.
    Burst { offset: usize, len: u32 },
}

/// The receiving half.
#[derive(Debug)]
struct Receive {
    fill: Producer,
    ring: Consumer,
    /// By frame number.
    states: Box<[FrameState]>,
    /// Frame numbers, never more than there are frames.
    spare: Vec<usize>,
    /// Frames of the current burst.
    burst: [usize; BURST_MAX],
    burst_len: usize,
    foreign_frames: u64,
}

/// A bound queue with its own packet memory. One port belongs to one worker.
#[derive(Debug)]
pub struct XdpPort {
    socket: XdpSocket,
    umem: Umem,
    receive: Receive,
    /// Sending borrows the port shared, because the burst being forwarded borrows it too.
    transmit: RefCell<Transmit>,
    queue: u32,
    /// Keeps the program attached.
    steering: Arc<Steering>,
}

impl XdpPort {
    /// Opens a queue (from 0) of the steered interface and has its packets delivered here.
    ///
    /// Call it on a thread in the interface's network namespace; the port may be used on any. A
    /// queue that is still busy from a socket that has just been closed is waited for, a second at
    /// most.
    ///
    /// # Errors
    ///
    /// [`XdpError::Setting`], [`XdpError::NoInterface`], [`XdpError::LockedMemory`], [`XdpError::QueueBusy`],
    /// [`XdpError::Privilege`], [`XdpError::Kernel`], [`XdpError::System`].
    pub fn open(
        steering: &Arc<Steering>,
        queue: u32,
        config: &XdpConfig,
        neighbours: NeighbourReader,
    ) -> Result<Self, XdpError> {
        config.check(steering, queue)?;
        let interface = steering.interface();
        // An interface is known to a socket by its number, which means another one, or none, on a
        // thread of another network namespace.
        let here = Interface::find(&interface.name)?;
        if (here.index, here.mac) != (interface.index, interface.mac) {
            return Err(XdpError::NoInterface {
                interface: interface.name.clone(),
            });
        }
        let failed = |operation| move |source| XdpError::of(operation, &interface.name, source);
        let umem = Umem::new(config.frames, config.frame_size)
            .map_err(failed("allocating packet memory"))?;
        // Half of the frames receive, half send; each ring holds all that can ever be in it.
        let half = config.frames >> 1;
        let socket = XdpSocket::bind(steering, queue, &umem, half, config.copy)?;
        let framer = Framer {
            envelope: config.envelope,
            source: interface.mac,
            vlan: config.vlan,
            mtu: interface.mtu,
        };
        let count = half as usize;
        let mut port = Self {
            socket,
            umem,
            receive: Receive::new(count),
            transmit: RefCell::new(Transmit::new(
                count..count.saturating_mul(2),
                framer,
                neighbours,
            )),
            queue,
            steering: Arc::clone(steering),
        };
        port.refill();
        steering
            .serve(queue, port.socket.as_fd())
            .map_err(failed("steering to the socket"))?;
        Ok(port)
    }

    /// Whether packets are copied.
    #[must_use]
    pub const fn copy_mode(&self) -> CopyMode {
        self.socket.mode
    }

    /// The queue, from 0.
    #[must_use]
    pub const fn queue(&self) -> u32 {
        self.queue
    }

    /// The program that feeds this port.
    #[must_use]
    pub const fn steering(&self) -> &Arc<Steering> {
        &self.steering
    }

    /// Sleeps until a packet is there or `timeout` has passed (`None` = for ever); `true` if one
    /// is. Use [`wait()`] for several ports.
    ///
    /// # Errors
    ///
    /// [`IoError::Xdp`].
    pub fn poll(&self, timeout: Option<Duration>) -> Result<bool, IoError> {
        wait(&[self.as_fd()], timeout)
            .map(Ready::any)
            .map_err(|source| self.failed("polling", source))
    }

    /// [`PacketSink::send_burst`] through a shared borrow.
    ///
    /// # Errors
    ///
    /// As [`PacketSink::send_burst`].
    #[inline]
    pub fn send(&self, items: &[Outgoing<'_>]) -> Result<usize, IoError> {
        // Never taken twice: nothing below calls back.
        let Ok(mut transmit) = self.transmit.try_borrow_mut() else {
            return Ok(0);
        };
        transmit
            .send(&self.socket, &self.umem, items)
            .map_err(|error| match error {
                SendError::Refused(source) => {
                    let first = items.first().copied().unwrap_or(Outgoing::EMPTY);
                    IoError::Refused {
                        len: first.len(),
                        to: first.to,
                        source,
                    }
                }
                SendError::Broken(source) => self.failed("sending", source),
            })
    }

    /// Counters since the port was opened; one system call.
    ///
    /// # Errors
    ///
    /// [`IoError::Xdp`].
    pub fn stats(&self) -> Result<XdpStats, IoError> {
        let kernel = self
            .socket
            .statistics()
            .map_err(|source| self.failed("asking for statistics", source))?;
        Ok(XdpStats {
            receive_dropped: kernel.rx_dropped,
            receive_ring_full: kernel.rx_ring_full,
            fill_ring_empty: kernel.rx_fill_ring_empty_descs,
            receive_invalid: kernel.rx_invalid_descs,
            transmit_invalid: kernel.tx_invalid_descs,
            foreign_frames: self.receive.foreign_frames,
            transmit: self
                .transmit
                .try_borrow()
                .map(|transmit| transmit.stats())
                .unwrap_or_default(),
        })
    }

    /// Where the frames are. Those missing from a sum are with the kernel, on their way between
    /// two rings.
    pub fn frame_use(&mut self) -> FrameUse {
        let transmit = self.transmit.get_mut();
        let waiting = self.receive.fill.pending(self.socket.fill.shared());
        FrameUse {
            waiting: waiting as usize,
            in_burst: self.receive.burst_len,
            spare: self.receive.spare.len(),
            free: transmit.reap(&self.socket, &self.umem),
            in_flight: transmit.in_flight(),
        }
    }

    /// Returns the frames of the last burst to the kernel, as far as the fill ring has room.
    ///
    /// The kernel shows received packets before it shows that it took their frames from the fill
    /// ring, so there may be no room yet for what was just received.
    #[inline]
    fn refill(&mut self) {
        let Receive {
            fill,
            states,
            spare,
            burst,
            burst_len,
            ..
        } = &mut self.receive;
        for frame in burst.iter().take(*burst_len) {
            if let Some(state) = states.get_mut(*frame) {
                *state = FrameState::Spare;
                spare.push(*frame);
            }
        }
        *burst_len = 0;
        let ring = self.socket.fill.shared();
        let wanted = u32::try_from(spare.len()).unwrap_or(u32::MAX);
        for _ in 0..fill.room(ring, wanted) {
            let Some(frame) = spare.pop() else { break };
            let address = self.umem.start_of(frame) as u64;
            if let (Some(entry), Some(state)) = (fill.next(ring), states.get_mut(frame)) {
                *state = FrameState::Kernel;
                entry.store(address, Ordering::Relaxed);
            }
        }
        fill.publish(ring);
    }

    fn failed(&self, operation: &'static str, source: io::Error) -> IoError {
        let interface = &self.steering.interface().name;
        IoError::Xdp(XdpError::of(operation, interface, source))
    }
}

impl Receive {
    fn new(frames: usize) -> Self {
        Self {
            fill: Producer::default(),
            ring: Consumer::default(),
            states: vec![FrameState::Spare; frames].into_boxed_slice(),
            spare: (0..frames).collect(),
            burst: [0; BURST_MAX],
            burst_len: 0,
            foreign_frames: 0,
        }
    }

    /// Takes over a received packet and its frame. `false`: the kernel does not have the frame, or
    /// the packet leaves it; a fault of the kernel.
    #[inline]
    fn take(&mut self, umem: &Umem, offset: usize, len: u32) -> bool {
        let frame = umem.frame_of(offset);
        let state = self.states.get_mut(frame);
        let place = self.burst.get_mut(self.burst_len);
        if let (Some(state), Some(place)) = (state, place)
            && *state == FrameState::Kernel
        {
            *state = FrameState::Burst { offset, len };
            *place = frame;
            self.burst_len = self.burst_len.saturating_add(1);
            if umem.holds(offset, len as usize) {
                return true;
            }
            *state = FrameState::Burst { offset, len: 0 };
        }
        self.foreign_frames = self.foreign_frames.saturating_add(1);
        false
    }
}

impl PacketSource for XdpPort {
    #[inline]
    fn recv_burst(&mut self, burst: &mut Burst) -> Result<usize, IoError> {
        burst.clear();
        self.refill();
        let ring = self.socket.receive.shared();
        let wanted = u32::try_from(BURST_MAX).unwrap_or(0);
        let count = self.receive.ring.available(ring, wanted);
        if count == 0 {
            self.transmit.get_mut().wake(&self.socket);
            // One call when there is nothing to do: it lets a sleeping driver go on, and is the
            // only way to learn that the interface has been removed.
            return match self.socket.wake_receive() {
                Err(error) if error.raw_os_error() == Some(libc::ENXIO) => {
                    Err(self.failed("receiving", error))
                }
                // A link that is down, or a driver that cannot go on now, is asked again later.
                _ => Ok(0),
            };
        }
        let timestamp_ns = clock::now_ns();
        for _ in 0..count {
            let Some(entry) = self.receive.ring.next(ring) else {
                break;
            };
            let (address, len) = entry.read();
            let offset = usize::try_from(address).unwrap_or(usize::MAX);
            if self.receive.take(&self.umem, offset, len) {
                burst.push(Descriptor {
                    offset,
                    len,
                    orig_len: len,
                    timestamp_ns,
                    peer: None,
                    link: LinkType::Ethernet,
                });
            }
        }
        self.receive.ring.release(ring);
        Ok(burst.len())
    }

    #[inline]
    fn frame(&self, descriptor: &Descriptor) -> &[u8] {
        let frame = self.umem.frame_of(descriptor.offset);
        match self.receive.states.get(frame) {
            Some(FrameState::Burst { offset, len })
                if *offset == descriptor.offset && descriptor.len <= *len =>
            {
                // SAFETY: the state says that the kernel has handed this packet over; it is given
                // back by `refill` alone, which borrows the port mutably, so not while the result
                // is borrowed; sending writes transmit frames only.
                unsafe { self.umem.bytes(*offset, descriptor.len as usize) }
            }
            _ => &[],
        }
    }
}

impl PacketSink for XdpPort {
    #[inline]
    fn send_burst(&mut self, items: &[Outgoing<'_>]) -> Result<usize, IoError> {
        self.send(items)
    }
}

impl PacketPort for XdpPort {
    #[inline]
    fn send(&self, items: &[Outgoing<'_>]) -> Result<usize, IoError> {
        self.send(items)
    }

    fn losses(&mut self) -> Losses {
        let stats = self.stats().unwrap_or_default();
        Losses {
            full: stats
                .receive_dropped
                .saturating_add(stats.receive_ring_full),
            ..Losses::default()
        }
    }
}

impl AsFd for XdpPort {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // The kernel's half of the bookkeeping is trusted with nothing: whatever it names, a frame is
    // taken once at most and never beyond its end.
    #[test]
    fn a_frame_is_taken_once_and_only_from_the_kernel() {
        let umem = Umem::new(256, FrameSize::Two).unwrap();
        let mut receive = Receive::new(128);
        receive.states[3] = FrameState::Kernel;
        receive.states[4] = FrameState::Kernel;

        let spare = receive.take(&umem, 5 * 2048 + 256, 60);
        let transmit = receive.take(&umem, 200 * 2048, 60);
        let outside = receive.take(&umem, usize::MAX, 60);
        let first = receive.take(&umem, 3 * 2048 + 256, 1792);
        let second = receive.take(&umem, 3 * 2048 + 300, 60);
        let overrun = receive.take(&umem, 4 * 2048 + 257, 1792);

        assert_eq!(
            [spare, transmit, outside, first, second, overrun],
            [false, false, false, true, false, false]
        );
        assert_eq!(receive.foreign_frames, 5);
        // The overrunning packet's frame still goes back to the kernel, and has no bytes.
        assert_eq!(receive.burst[..receive.burst_len], [3, 4]);
    }

    #[test]
    fn frames_are_bounded() {
        for (frames, fits) in [
            (256, true),
            (65_536, true),
            (128, false),
            (3000, false),
            (u32::MAX, false),
        ] {
            assert_eq!(check_frames(frames).is_ok(), fits, "{frames}");
        }
    }
}
