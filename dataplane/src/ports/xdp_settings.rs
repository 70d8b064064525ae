//! The table `xdp` of a configuration.

use std::net::IpAddr;

use qlink_io::tun::TunName;
use qlink_io::xdp::{AttachChoice, AttachMode, CopyChoice, CopyMode, FrameSize};
use serde::{Deserialize, Serialize};

use crate::config::ConfigError;

/// AF_XDP: a queue of an interface for each worker, steered by a program of ours. It needs
/// CAP_NET_RAW, CAP_NET_ADMIN and CAP_BPF, and N3 on port 2152.
///
/// Turn off on the interface what joins packets (`ethtool -K eth0 gro off lro off`), and give it as
/// many queues as there are workers (`ethtool -L eth0 combined 2`): queues beyond those of workers
/// stay with the kernel, which is slower and loses nothing. Fragments, and packets above the
/// interface's MTU, go through the kernel too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct XdpSettings {
    /// The interface that N3's address is on, for example `eth0`. No other XDP program may be on
    /// it.
    pub interface: TunName,
    /// Where the program runs: `best`, in the driver and where that cannot in the kernel's core;
    /// `native`, in the driver or not at all; `generic`, in the kernel's core.
    #[serde(default)]
    pub mode: XdpMode,
    /// Whether the card may use our packet memory itself: `best`, where it can; `zero_copy`, or not
    /// at all; `copy`, never.
    #[serde(default)]
    pub copy: XdpCopy,
    /// Frames of packet memory of one queue, a power of two from 256 to 65536, half to receive and
    /// half to send. They are locked memory: 2048 of 2 KiB are 4 MiB.
    #[serde(default = "default_frames")]
    pub frames: u32,
    /// Bytes of one frame: 2048 for an MTU up to 1774, 4096 up to 3822.
    #[serde(default)]
    pub frame_bytes: XdpFrameBytes,
    /// N6 through AF_XDP as well; a table, in place of `n6_tun` and of `n6_local` and `n6_peer`. There
    /// is no other way then: `auto` falls back to nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n6: Option<XdpN6>,
}

/// N6 through AF_XDP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct XdpN6 {
    /// The interface towards origins, another one than N3's, for example `eth1`.
    pub interface: TunName,
    /// The router that takes every uplink packet, an address on that interface's link, for example
    /// `10.0.6.1`.
    pub next_hop: IpAddr,
    /// The subscribers' networks: packets to them are taken from the interface, all others stay
    /// with the kernel. 1 to 256, for example `["10.45.0.0/16"]`.
    pub subscribers: Vec<Network>,
}

/// A network as `address/prefix length`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network {
    /// An address in it.
    pub address: IpAddr,
    /// Leading bits that count: 0 to 32, or to 128.
    pub prefix_len: u8,
}

/// A text that is no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("network {0:?} must be like 10.45.0.0/16 or 2001:db8::/32")]
pub struct NetworkError(String);

impl Network {
    /// Whether `address` lies in it.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let left = |bits: u32| bits.saturating_sub(self.prefix_len.into());
        match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let differing = own.to_bits() ^ other.to_bits();
                differing.checked_shr(left(32)).unwrap_or(0) == 0
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let differing = own.to_bits() ^ other.to_bits();
                differing.checked_shr(left(128)).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

impl TryFrom<String> for Network {
    type Error = NetworkError;

    fn try_from(text: String) -> Result<Self, NetworkError> {
        let parsed = text.split_once('/').and_then(|(address, prefix_len)| {
            let network = Self {
                address: address.parse().ok()?,
                prefix_len: prefix_len.parse().ok()?,
            };
            let bits = if network.address.is_ipv4() { 32 } else { 128 };
            (network.prefix_len <= bits).then_some(network)
        });
        parsed.ok_or(NetworkError(text))
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        format!("{}/{}", network.address, network.prefix_len)
    }
}

/// Where the steering program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum XdpMode {
    /// In the driver, and where that cannot in the kernel's core.
    #[default]
    Best,
    /// In the driver or not at all.
    Native,
    /// In the kernel's core.
    Generic,
}

impl From<XdpMode> for AttachChoice {
    fn from(mode: XdpMode) -> Self {
        match mode {
            XdpMode::Best => Self::Best,
            XdpMode::Native => Self::Only(AttachMode::Native),
            XdpMode::Generic => Self::Only(AttachMode::Generic),
        }
    }
}

/// Whether the card may use our packet memory itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum XdpCopy {
    /// Where it can.
    #[default]
    Best,
    /// Or not at all.
    ZeroCopy,
    /// Never.
    Copy,
}

impl From<XdpCopy> for CopyChoice {
    fn from(copy: XdpCopy) -> Self {
        match copy {
            XdpCopy::Best => Self::Best,
            XdpCopy::ZeroCopy => Self::Only(CopyMode::ZeroCopy),
            XdpCopy::Copy => Self::Only(CopyMode::Copy),
        }
    }
}

/// Bytes of one frame of packet memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub enum XdpFrameBytes {
    /// 2048.
    #[default]
    Two,
    /// 4096.
    Four,
}

/// A number that is no frame size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("frame_bytes is {0}, allowed are 2048 and 4096")]
pub struct XdpFrameBytesError(u32);

impl TryFrom<u32> for XdpFrameBytes {
    type Error = XdpFrameBytesError;

    fn try_from(bytes: u32) -> Result<Self, XdpFrameBytesError> {
        match bytes {
            2048 => Ok(Self::Two),
            4096 => Ok(Self::Four),
            other => Err(XdpFrameBytesError(other)),
        }
    }
}

impl From<XdpFrameBytes> for u32 {
    fn from(bytes: XdpFrameBytes) -> Self {
        match bytes {
            XdpFrameBytes::Two => 2048,
            XdpFrameBytes::Four => 4096,
        }
    }
}

impl From<XdpFrameBytes> for FrameSize {
    fn from(bytes: XdpFrameBytes) -> Self {
        match bytes {
            XdpFrameBytes::Two => Self::Two,
            XdpFrameBytes::Four => Self::Four,
        }
    }
}

/// Most networks of subscribers (chosen: a site has some).
const SUBSCRIBERS_MAX: usize = 256;

const fn default_frames() -> u32 {
    2048
}

impl XdpSettings {
    /// Whether every key is usable.
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        if !qlink_io::xdp::FRAMES_RANGE.contains(&self.frames) || !self.frames.is_power_of_two() {
            return Err(ConfigError::Key {
                key: "xdp.frames",
                value: self.frames.to_string(),
                allowed: "a power of two from 256 to 65536",
            });
        }
        let Some(n6) = &self.n6 else { return Ok(()) };
        if n6.interface == self.interface {
            return Err(ConfigError::Key {
                key: "xdp.n6.interface",
                value: n6.interface.to_string(),
                allowed: "another interface than xdp.interface: one program has one interface",
            });
        }
        if !(1..=SUBSCRIBERS_MAX).contains(&n6.subscribers.len()) {
            return Err(ConfigError::Key {
                key: "xdp.n6.subscribers",
                value: format!("a list of {}", n6.subscribers.len()),
                allowed: "1 to 256 networks",
            });
        }
        if n6.next_hop.is_unspecified() || n6.next_hop.is_multicast() {
            return Err(ConfigError::Key {
                key: "xdp.n6.next_hop",
                value: n6.next_hop.to_string(),
                allowed: "the address of one router",
            });
        }
        Ok(())
    }
}
