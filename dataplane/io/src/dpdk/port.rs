//! Queue 0 of a device as a packet source and sink.

use std::cell::RefCell;
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use qlink_wire::LinkType;

use super::eal::Eal;
use super::error::DpdkError;
use super::idle::{Idle, IdleTimer};
use super::packets::{Device, Packets};
use super::transmit::{SendStats, Transmit};
use crate::burst::BURST_MAX;
use crate::frame::{Envelope, Framer};
use crate::neighbour::NeighbourReader;
use crate::{
    Burst, Descriptor, IoError, Losses, Outgoing, PacketPort, PacketSink, PacketSource, clock,
};

/// Fewest and most packets of a pool.
const PACKETS: RangeInclusive<u32> = 512..=1 << 20;
/// Fewest and most places of a queue.
const QUEUE: RangeInclusive<u16> = 32..=8192;
/// Shortest and longest packet of a pool, bytes.
const PACKET_BYTES: RangeInclusive<u16> = 256..=16_384;
/// Longest sleep of an idle worker.
const SLEEP_MAX: Duration = Duration::from_secs(1);
/// Ethernet with a VLAN tag.
const LINK_BYTES: usize = 18;
/// Bits of a descriptor's offset that say which packet of the burst it is.
const PLACE_BITS: u32 = BURST_MAX.trailing_zeros();

/// Which frames a device takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DestinationFilter {
    /// Those for its own address, and to all.
    #[default]
    Own,
    /// All, as a passive tap needs; a device that cannot choose takes all anyway.
    Any,
}

/// How a port is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DpdkConfig {
    /// Packets of the pool, 512 to 2^20, all queues and the current burst together; one less than
    /// a power of two wastes no memory.
    pub packets: u32,
    /// Bytes of one packet, 256 to 16,384; at least the device's MTU and 18.
    pub packet_bytes: u16,
    /// Places of the receive queue, 32 to 8192; the device may round them.
    pub receive_queue: u16,
    /// Places of the send queue, 32 to 8192; the device may round them.
    pub send_queue: u16,
    /// Which frames the device takes.
    pub filter: DestinationFilter,
    /// What a worker does while nothing arrives.
    pub idle: Idle,
    /// What is written in front of packets sent.
    pub envelope: Envelope,
    /// VLAN that sent packets are tagged with, 1 to 4094.
    pub vlan: Option<u16>,
}

impl DpdkConfig {
    /// 8191 packets of 2 KiB (20 MiB with DPDK's own data), queues of 1024, short sleeps, no VLAN.
    #[must_use]
    pub fn new(envelope: Envelope) -> Self {
        Self {
            packets: 8191,
            packet_bytes: 2048,
            receive_queue: 1024,
            send_queue: 1024,
            filter: DestinationFilter::default(),
            idle: Idle::default(),
            envelope,
            vlan: None,
        }
    }

    fn check(&self) -> Result<(), DpdkError> {
        let wrong = DpdkError::setting;
        if !PACKETS.contains(&self.packets) {
            return Err(wrong("packets", &self.packets, "512 to 1048576"));
        }
        if !PACKET_BYTES.contains(&self.packet_bytes) {
            return Err(wrong("packet bytes", &self.packet_bytes, "256 to 16384"));
        }
        for queue in [self.receive_queue, self.send_queue] {
            if !QUEUE.contains(&queue) {
                return Err(wrong("queue", &queue, "32 to 8192 places"));
            }
        }
        // Full queues must leave packets for a burst being read and one being sent.
        let queued = u32::from(self.receive_queue).saturating_add(self.send_queue.into());
        if queued.saturating_add(128) > self.packets {
            let allowed = "at least 128 more than both queues hold";
            return Err(wrong("packets", &self.packets, allowed));
        }
        if let Idle::Sleep(time) = self.idle
            && !(Duration::from_micros(1)..=SLEEP_MAX).contains(&time)
        {
            let allowed = "1 µs to 1 s";
            return Err(wrong("idle sleep", &time.as_nanos(), allowed));
        }
        if let Some(vlan) = self.vlan
            && !(1..=4094).contains(&vlan)
        {
            return Err(wrong("vlan", &vlan, "1 to 4094"));
        }
        Ok(())
    }
}

/// What a port has done. Counters since it was opened; of a card, as far as its driver counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DpdkStats {
    /// Packets received.
    pub received: u64,
    /// Their bytes.
    pub received_bytes: u64,
    /// Dropped by the device because the receive queue was full: the worker is too slow.
    pub missed: u64,
    /// Dropped by the device as damaged.
    pub damaged: u64,
    /// Dropped because the pool had no packet for them.
    pub no_packet: u64,
    /// Received in several pieces, longer than a packet of the pool, and dropped.
    pub in_pieces: u64,
    /// Packets that the device sent.
    pub sent: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Taken for sending, and dropped by the device.
    pub not_sent: u64,
    /// What happened to packets that were to be sent.
    pub send: SendStats,
}

/// A started device with its own packets. One port belongs to one worker.
///
/// Fields are dropped in this order: packets go back before the device stops, and it stops before
/// the pool is freed.
#[derive(Debug)]
pub struct DpdkPort {
    received: Packets,
    /// Sending borrows the port shared, because the burst being forwarded borrows it too.
    transmit: RefCell<Transmit>,
    device: Device,
    timer: IdleTimer,
    /// Number of the burst: descriptors of an older one have no frame.
    generation: usize,
    in_pieces: u64,
}

impl DpdkPort {
    /// Starts the device named, for example `net_pcap0`, and opens its queue 0. A device can be
    /// opened once in the life of a process.
    ///
    /// # Errors
    ///
    /// [`DpdkError::Setting`], [`DpdkError::NoDevice`], [`DpdkError::Taken`], [`DpdkError::Pool`],
    /// [`DpdkError::Device`], [`DpdkError::System`].
    pub fn open(
        eal: &Arc<Eal>,
        device: &str,
        config: &DpdkConfig,
        neighbours: NeighbourReader,
    ) -> Result<Self, DpdkError> {
        config.check()?;
        let timer = IdleTimer::new(config.idle).map_err(|source| DpdkError::System {
            operation: "making a timer",
            source,
        })?;
        let device = Device::start(eal, device, config)?;
        let (source, mtu) = device.facts()?;
        if mtu.saturating_add(LINK_BYTES) > config.packet_bytes.into() {
            let allowed = "at least 18 more than the device's MTU";
            return Err(DpdkError::setting(
                "packet bytes",
                &config.packet_bytes,
                allowed,
            ));
        }
        let framer = Framer {
            envelope: config.envelope,
            source,
            vlan: config.vlan,
            mtu,
        };
        Ok(Self {
            received: Packets::new(),
            transmit: RefCell::new(Transmit::new(framer, neighbours)),
            device,
            timer,
            generation: 0,
            in_pieces: 0,
        })
    }

    /// The device's name.
    #[must_use]
    pub fn device(&self) -> &str {
        &self.device.name
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
        transmit.send(&self.device, items).map_err(|source| {
            let first = items.first().copied().unwrap_or(Outgoing::EMPTY);
            IoError::Refused {
                len: first.len(),
                to: first.to,
                source,
            }
        })
    }

    /// Counters since the port was opened.
    ///
    /// # Errors
    ///
    /// [`DpdkError::Device`].
    pub fn stats(&self) -> Result<DpdkStats, DpdkError> {
        let [
            received,
            received_bytes,
            missed,
            damaged,
            no_packet,
            sent,
            sent_bytes,
            not_sent,
        ] = self.device.stats()?;
        Ok(DpdkStats {
            received,
            received_bytes,
            missed,
            damaged,
            no_packet,
            in_pieces: self.in_pieces,
            sent,
            sent_bytes,
            not_sent,
            send: self
                .transmit
                .try_borrow()
                .map(|transmit| transmit.stats())
                .unwrap_or_default(),
        })
    }

    /// Packets outside the pool: in the current burst, in the device's queues, or waiting there to
    /// be sent.
    #[must_use]
    pub fn packets_in_use(&self) -> u32 {
        self.device.packets_in_use()
    }

    /// Which of the current burst's packets the descriptor means, if it is of this burst.
    #[inline]
    const fn place(&self, descriptor: &Descriptor) -> Option<usize> {
        let place = descriptor.offset & (BURST_MAX - 1);
        if descriptor.offset == offset(self.generation, place) {
            Some(place)
        } else {
            None
        }
    }
}

/// Names a packet of a burst.
const fn offset(generation: usize, place: usize) -> usize {
    (generation << PLACE_BITS) | place
}

impl PacketSource for DpdkPort {
    #[inline]
    fn recv_burst(&mut self, burst: &mut Burst) -> Result<usize, IoError> {
        burst.clear();
        self.generation = self.generation.wrapping_add(1);
        self.received.receive(&mut self.device);
        if self.received.views().is_empty() {
            self.timer
                .nothing_received()
                .map_err(|source| IoError::Device {
                    operation: "setting the timer",
                    name: self.device.name.clone(),
                    source,
                })?;
            return Ok(0);
        }
        let timestamp_ns = clock::now_ns();
        for (place, view) in self.received.views().iter().enumerate() {
            if view.len != view.whole {
                self.in_pieces = self.in_pieces.saturating_add(1);
                continue;
            }
            burst.push(Descriptor {
                offset: offset(self.generation, place),
                len: view.len,
                orig_len: view.len,
                timestamp_ns,
                peer: None,
                link: LinkType::Ethernet,
            });
        }
        Ok(burst.len())
    }

    #[inline]
    fn frame(&self, descriptor: &Descriptor) -> &[u8] {
        self.place(descriptor)
            .map_or(&[], |place| self.received.bytes(place, descriptor.len))
    }
}

impl PacketSink for DpdkPort {
    #[inline]
    fn send_burst(&mut self, items: &[Outgoing<'_>]) -> Result<usize, IoError> {
        self.send(items)
    }
}

impl PacketPort for DpdkPort {
    #[inline]
    fn send(&self, items: &[Outgoing<'_>]) -> Result<usize, IoError> {
        self.send(items)
    }

    fn losses(&mut self) -> Losses {
        let stats = self.stats().unwrap_or_default();
        let full = stats.missed.saturating_add(stats.no_packet);
        Losses {
            full: full.saturating_add(stats.in_pieces),
            ..Losses::default()
        }
    }
}

impl AsFd for DpdkPort {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_bounded() {
        let good = DpdkConfig::new(Envelope::Ethernet);
        assert!(good.check().is_ok());
        let nanosecond = Duration::from_nanos(1);
        for (bad, named) in [
            (
                DpdkConfig {
                    packets: 511,
                    ..good
                },
                "packets",
            ),
            (
                DpdkConfig {
                    packets: 2175,
                    ..good
                },
                "packets",
            ),
            (
                DpdkConfig {
                    packet_bytes: 255,
                    ..good
                },
                "packet bytes",
            ),
            (
                DpdkConfig {
                    receive_queue: 31,
                    ..good
                },
                "queue",
            ),
            (
                DpdkConfig {
                    send_queue: 8193,
                    ..good
                },
                "queue",
            ),
            (
                DpdkConfig {
                    idle: Idle::Sleep(nanosecond),
                    ..good
                },
                "idle sleep",
            ),
            (
                DpdkConfig {
                    vlan: Some(4095),
                    ..good
                },
                "vlan",
            ),
        ] {
            match bad.check() {
                Err(DpdkError::Setting { setting, .. }) => assert_eq!(setting, named),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_port_can_move_to_its_worker() {
        const fn moves<T: Send>() {}

        moves::<DpdkPort>();
    }
}
