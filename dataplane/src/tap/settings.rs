//! The table `packet` of a configuration.

use std::time::Duration;

use qlink_io::packet::{
    BLOCK_BYTES_MAX, BLOCK_BYTES_MIN, BLOCKS_MAX, OutgoingFrames, Promiscuous, TapConfig,
};
use qlink_io::tun::TunName;
use serde::{Deserialize, Serialize};

use crate::config::ConfigError;
use crate::export::Span;

/// Longest `idle`: a week.
const IDLE_MAX_S: u32 = 7 * 24 * 3600;

/// A passive tap: `backend = "packet"`, one worker, and no way to origins. `n3` is the endpoint of
/// the gateway that is watched: packets to it are uplink, packets from it downlink. It needs
/// CAP_NET_RAW.
///
/// Turn off on the interface what joins packets: `ethtool -K eth2 gro off lro off`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PacketSettings {
    /// The interface at which the mirror arrives, for example `eth2`.
    pub interface: TunName,
    /// Which frames count: `received`, what arrives, as on a mirror port, where the interface
    /// listens to frames for any card; `both`, what the machine itself sends too, where it watches
    /// a gateway of its own.
    #[serde(default)]
    pub frames: TapFrames,
    /// Whether sessions that nobody told of are learned from their uplink packets. At most
    /// `max_sessions`; packets of further ones are dropped under `teid_unknown`.
    #[serde(default = "default_learn")]
    pub learn: bool,
    /// How long a learned session lives without a packet, 1 s to 7 days; told ones end only when
    /// that is told. `"60min"`.
    #[serde(default = "default_idle")]
    pub idle: Span,
    /// Blocks in the ring that the kernel fills, 2 to 8192.
    #[serde(default = "default_blocks")]
    pub blocks: u32,
    /// Bytes of a block, a power of two from 131072 to 4194304.
    #[serde(default = "default_block_bytes")]
    pub block_bytes: u32,
}

/// Which frames of an interface count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TapFrames {
    /// Those that arrive, for whomever.
    #[default]
    Received,
    /// Those that the machine sends too.
    Both,
}

const fn default_learn() -> bool {
    true
}

const fn default_idle() -> Span {
    Span(Duration::from_hours(1))
}

const fn default_blocks() -> u32 {
    32
}

const fn default_block_bytes() -> u32 {
    256 << 10
}

impl PacketSettings {
    /// Whether every key is usable.
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        if !(2..=BLOCKS_MAX).contains(&self.blocks) {
            return Err(ConfigError::Range {
                key: "packet.blocks",
                value: self.blocks,
                min: 2,
                max: BLOCKS_MAX,
            });
        }
        let idle = u32::try_from(self.idle.0.as_secs()).unwrap_or(u32::MAX);
        if !(1..=IDLE_MAX_S).contains(&idle) {
            return Err(ConfigError::Range {
                key: "packet.idle in s",
                value: idle,
                min: 1,
                max: IDLE_MAX_S,
            });
        }
        let sizes = BLOCK_BYTES_MIN..=BLOCK_BYTES_MAX;
        if !sizes.contains(&self.block_bytes) || !self.block_bytes.is_power_of_two() {
            return Err(ConfigError::Key {
                key: "packet.block_bytes",
                value: self.block_bytes.to_string(),
                allowed: "a power of two from 131072 to 4194304",
            });
        }
        Ok(())
    }

    /// What the back end is opened with.
    pub(crate) fn tap(&self) -> TapConfig {
        let (promiscuous, outgoing) = match self.frames {
            TapFrames::Received => (Promiscuous::On, OutgoingFrames::Skipped),
            TapFrames::Both => (Promiscuous::Off, OutgoingFrames::Seen),
        };
        TapConfig {
            promiscuous,
            outgoing,
            blocks: self.blocks,
            block_bytes: self.block_bytes,
            ..TapConfig::new(self.interface.as_str())
        }
    }
}
