//! The table `dpdk` of a configuration.

use std::net::IpAddr;

use qlink_io::frame::MacAddress;
use serde::{Deserialize, Serialize};

use crate::config::ConfigError;

/// DPDK drives the cards, without the kernel: one worker, queue 0 of a device each way. The program
/// needs its feature `dpdk` (`cargo build --features dpdk`, with libdpdk-dev).
///
/// **Virtual devices** need no privilege: leave out `cards` and `huge_pages`. DPDK wants a directory
/// for its state, `RUNTIME_DIRECTORY` or `XDG_RUNTIME_DIR`.
///
/// **Cards** need, once per machine: huge pages (`sysctl vm.nr_hugepages=512`); the IOMMU on
/// (`intel_iommu=on` or `amd_iommu=on` on the kernel's command line); `modprobe vfio-pci` and
/// `dpdk-devbind.py -b vfio-pci 0000:01:00.0`, which takes the card from the kernel; for the
/// service's user the right to open `/dev/vfio/*` and `LimitMEMLOCK=infinity`. `qlink doctor` says
/// which of these is missing.
///
/// The kernel does not know a card that DPDK drives: nobody answers ARP there, so every next hop
/// stands in `neighbours`, and routers need a fixed entry for our endpoint with the card's address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DpdkSettings {
    /// Virtual devices, each a name that begins with `net_` and its arguments, for example
    /// `["net_af_packet0,iface=eth0"]` or `["net_pcap0,rx_pcap=in.pcap,tx_pcap=out.pcap"]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<String>,
    /// Cards by PCI address, for example `["0000:01:00.0"]`; no other card is touched.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cards: Vec<String>,
    /// Memory of packets and queues, MiB, 32 to 1048576.
    #[serde(default = "default_memory_mib")]
    pub memory_mib: u32,
    /// Whether the memory is huge pages; cards need them.
    #[serde(default)]
    pub huge_pages: bool,
    /// The device of N3, a name of `devices` without its arguments or one of `cards`, for example
    /// `net_af_packet0`.
    pub n3: String,
    /// How long a worker sleeps while nothing arrives, microseconds, up to 1000000; 0: it never
    /// sleeps and keeps a processor to itself.
    #[serde(default = "default_idle_us")]
    pub idle_us: u32,
    /// Next hops: the BaseStations' or their router's addresses, and the hardware address that takes
    /// packets to each. At most 4096.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub neighbours: Vec<DpdkNeighbour>,
    /// N6 through DPDK as well; a table, in place of `n6_tun` and of `n6_local` and `n6_peer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n6: Option<DpdkN6>,
}

/// N6 through DPDK.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DpdkN6 {
    /// The device towards origins, another one than N3's.
    pub device: String,
    /// The router that takes every uplink packet; it stands in `neighbours` too.
    pub next_hop: IpAddr,
}

/// A next hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DpdkNeighbour {
    /// An address, for example `10.0.3.7`.
    pub address: IpAddr,
    /// The hardware address that takes packets to it, for example `02:00:5e:10:00:01`.
    pub mac: HardwareAddress,
}

/// A hardware address as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HardwareAddress(pub MacAddress);

impl TryFrom<String> for HardwareAddress {
    type Error = qlink_io::frame::MacAddressError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse().map(Self)
    }
}

impl From<HardwareAddress> for String {
    fn from(address: HardwareAddress) -> Self {
        address.0.to_string()
    }
}

/// Most next hops: what the table of a port holds.
const NEIGHBOURS_MAX: usize = qlink_io::neighbour::NEIGHBOURS_MAX;

const fn default_memory_mib() -> u32 {
    256
}

const fn default_idle_us() -> u32 {
    50
}

impl DpdkSettings {
    /// Whether every key is usable, as far as DPDK does not say itself when it starts.
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        if self.idle_us > 1_000_000 {
            return Err(ConfigError::Range {
                key: "dpdk.idle_us",
                value: self.idle_us,
                min: 0,
                max: 1_000_000,
            });
        }
        if self.neighbours.len() > NEIGHBOURS_MAX {
            return Err(ConfigError::Key {
                key: "dpdk.neighbours",
                value: format!("a list of {}", self.neighbours.len()),
                allowed: "at most 4096",
            });
        }
        let Some(n6) = &self.n6 else { return Ok(()) };
        if n6.device == self.n3 {
            return Err(ConfigError::Key {
                key: "dpdk.n6.device",
                value: n6.device.clone(),
                allowed: "another device than dpdk.n3",
            });
        }
        let known = |neighbour: &DpdkNeighbour| neighbour.address == n6.next_hop;
        if !self.neighbours.iter().any(known) {
            return Err(ConfigError::Key {
                key: "dpdk.n6.next_hop",
                value: n6.next_hop.to_string(),
                allowed: "an address of dpdk.neighbours",
            });
        }
        Ok(())
    }
}
