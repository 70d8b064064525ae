//! A network card, or a virtual device, driven by DPDK.
//!
//! ```text
//!  card or virtual device --> receive queue --> DpdkPort --> worker
//!                             ^ the device writes into packets of the port's pool; the worker
//!                               reads them where they lie, and they go back at the next burst
//!  worker --> DpdkPort: framer + next hop, gathered once into a packet of the pool --> device
//! ```
//!
//! An [`Eal`] is DPDK's environment, one per process; a [`DpdkPort`] is queue 0 of one of its
//! devices and belongs to one worker. Which devices there are is fixed when the environment starts.
//!
//! # Devices
//!
//! Virtual devices (`net_pcap`, `net_null`, `net_ring`, `net_af_packet`, ...) with
//! [`Memory::Ordinary`] need no privilege and no setting of the system. A card needs, once:
//!
//! 1. huge pages: `sysctl vm.nr_hugepages=512` (1 GiB of 2 MiB pages);
//! 2. VFIO: the IOMMU on (`intel_iommu=on` or `amd_iommu=on` on the kernel's command line), then
//!    `modprobe vfio-pci` and `dpdk-devbind.py -b vfio-pci 0000:01:00.0`, which takes the card from
//!    the kernel; cards of Mellanox stay with the kernel and need its RDMA driver instead;
//! 3. the right to open `/dev/vfio/*`, and `LimitMEMLOCK=infinity` for the service.
//!
//! [`probe`](crate::probe) says which of these is missing.
//!
//! # Waiting
//!
//! A device driven by DPDK raises no event: whoever wants its packets asks again and again. So that
//! a worker can still wait on several ports in one call, a port has a timer as its descriptor. An
//! empty burst sets it, and it becomes readable after [`Idle::Sleep`]; with [`Idle::Spin`] it always
//! is. Bursts with packets touch it not, so that a busy port makes no system call.
//!
//! # What it does not do
//!
//! It answers neither ARP nor neighbour solicitation, and the kernel does not know the card, so next
//! hops come from a fixed table ([`NeighbourReader::fixed`](crate::neighbour::NeighbourReader::fixed))
//! and the routers need a fixed entry for us. It uses one queue of a device. It neither fragments nor
//! reassembles: a frame in several pieces is dropped and counted.
//!
//! **Invariant**: a packet of the pool has one owner: the pool, the device, the current burst, or
//! a send in progress; only that one reads or writes it ([`DpdkPort::packets_in_use`]).

mod available;
mod config;
mod eal;
mod error;
mod idle;
mod packets;
mod port;
mod transmit;

pub(crate) use available::{Missing, missing_for_cards};
pub use config::{EalConfig, Memory};
pub use eal::{Eal, WorkerThread};
pub use error::DpdkError;
pub use idle::Idle;
pub use port::{DestinationFilter, DpdkConfig, DpdkPort, DpdkStats};
pub use transmit::SendStats;
