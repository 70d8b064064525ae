//! The `[mtu]` table of the configuration.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use qlink_forward::mtu::{Encapsulation, GtpuHeader, OuterFamily, Path};
use serde::{Deserialize, Serialize};

use crate::config::ConfigError;

/// Most answers per second.
const ICMP_MAX: u32 = 100_000;

/// Longest packet that links here carry.
const MTU_MAX: u16 = 9216;

/// Where an IPv4 answer comes from when nothing else is known. Source: RFC 7600 §4.8, which
/// reserved it for answers of routers without an IPv4 address.
pub(super) const IPV4_DUMMY: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 8);

/// Where an IPv6 answer comes from when nothing else is known: the link's router.
const IPV6_ROUTER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// How long packets may be on both sides, and what is done with longer ones: fragments where their
/// sender allows them, else an ICMP error to the sender. A table `[mtu]` without keys is enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MtuConfig {
    /// MTU of the links to BaseStations in bytes, the tunnel's own headers included, 640 to 9216.
    /// Default `1500`: inner packets of up to 1464 bytes, 1456 with a PDU session container, 20
    /// fewer over IPv6.
    #[serde(default = "default_mtu")]
    pub n3: u16,
    /// MTU of the way to origins in bytes, 576 to 9216. Default `1500`; with `n6_tun` take the
    /// interface's.
    #[serde(default = "default_mtu")]
    pub n6: u16,
    /// Whether TCP peers are told to send segments that fit both ways: `lower` (the default)
    /// lowers the option in SYN segments, `leave` does not.
    #[serde(default)]
    pub mss: MssPolicy,
    /// Most ICMP errors of one worker to each side, per second, 1 to 100000. Default `100`.
    #[serde(default = "default_icmp")]
    pub icmp_per_second: u32,
    /// Where ICMP errors come from. Default: the address of `n3` when that is IPv4; with `n6_tun`,
    /// whose kernel refuses packets under addresses of its own, and else 192.0.0.8. About packets
    /// to addresses of `nat` they come from those. `"198.51.100.1"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway_v4: Option<Ipv4Addr>,
    /// Where `ICMPv6` errors come from. Default: the address of `n3` when that is IPv6, else fe80::1,
    /// which subscribers take and origins beyond the next router do not. `"2001:db8::1"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway_v6: Option<Ipv6Addr>,
}

/// What becomes of the segment sizes that TCP peers announce.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MssPolicy {
    /// Lowered to what fits.
    #[default]
    Lower,
    /// Left alone.
    Leave,
}

impl Default for MtuConfig {
    fn default() -> Self {
        Self {
            n3: default_mtu(),
            n6: default_mtu(),
            mss: MssPolicy::default(),
            icmp_per_second: default_icmp(),
            gateway_v4: None,
            gateway_v6: None,
        }
    }
}

const fn default_mtu() -> u16 {
    1500
}

const fn default_icmp() -> u32 {
    100
}

/// Paths of one worker.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Paths {
    /// Our GTP-U address: other user planes and BaseStations have the same family.
    n3: IpAddr,
    /// Towards origins.
    pub(super) n6: Path,
    /// Tunnels over IPv4: without and with a container.
    v4: [Path; 2],
    /// Tunnels over IPv6.
    v6: [Path; 2],
}

impl Paths {
    /// The path of a tunnel to `peer` whose G-PDUs have a head of `head` bytes.
    #[inline]
    pub(super) fn tunnel(&self, peer: IpAddr, head: usize) -> &Path {
        let [plain, container] = match peer {
            IpAddr::V4(_) => &self.v4,
            IpAddr::V6(_) => &self.v6,
        };
        if head > 8 { container } else { plain }
    }

    /// A tunnel of ours with all headers that one may have.
    pub(super) fn narrowest_tunnel(&self) -> &Path {
        self.tunnel(self.n3, 16)
    }

    /// Longest inner packet that fits every path of this gateway.
    pub(super) fn inner_mtu_min(&self) -> u16 {
        let tunnel = self.narrowest_tunnel().inner_mtu();
        tunnel.min(self.n6.inner_mtu())
    }
}

impl MtuConfig {
    /// # Errors
    ///
    /// The first [`ConfigError`].
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        let ranges = [
            ("mtu.n3", u32::from(self.n3), 640, MTU_MAX.into()),
            ("mtu.n6", u32::from(self.n6), 576, MTU_MAX.into()),
            ("mtu.icmp_per_second", self.icmp_per_second, 1, ICMP_MAX),
        ];
        for (key, value, min, max) in ranges {
            if value < min || value > max {
                return Err(ConfigError::Range {
                    key,
                    value,
                    min,
                    max,
                });
            }
        }
        Ok(())
    }

    /// The paths of a gateway whose own address is `n3`.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Range`] when a path is too narrow.
    pub(crate) fn paths(&self, n3: IpAddr) -> Result<Paths, ConfigError> {
        self.validate()?;
        let (own_v4, own_v6) = match n3 {
            IpAddr::V4(own) => (own, IPV6_ROUTER),
            IpAddr::V6(own) => (IPV4_DUMMY, own),
        };
        let v4 = self.gateway_v4.unwrap_or(own_v4);
        let v6 = self.gateway_v6.unwrap_or(own_v6);
        let path = |key, mtu, around| {
            Path::try_new(mtu, around, v4, v6).map_err(|_| ConfigError::Range {
                key,
                value: mtu.into(),
                min: 640,
                max: MTU_MAX.into(),
            })
        };
        let tunnels = |outer| {
            let tunnel = |header| path("mtu.n3", self.n3, Encapsulation::Gtpu { outer, header });
            Ok::<_, ConfigError>([
                tunnel(GtpuHeader::Plain)?,
                tunnel(GtpuHeader::PduSessionContainer)?,
            ])
        };
        Ok(Paths {
            n3,
            n6: path("mtu.n6", self.n6, Encapsulation::Plain)?,
            v4: tunnels(OuterFamily::Ipv4)?,
            v6: tunnels(OuterFamily::Ipv6)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(value: &serde_json::Value) -> MtuConfig {
        serde_json::from_value(value.clone()).unwrap()
    }

    #[test]
    fn a_table_without_keys_is_that_of_ethernet() {
        let paths = config(&serde_json::json!({}))
            .paths("10.0.0.1".parse().unwrap())
            .unwrap();

        let v4 = "10.0.0.2".parse().unwrap();
        let v6 = "2001:db8::2".parse().unwrap();
        assert_eq!(paths.tunnel(v4, 8).inner_mtu(), 1464);
        assert_eq!(paths.tunnel(v4, 16).inner_mtu(), 1456);
        assert_eq!(paths.tunnel(v6, 8).inner_mtu(), 1444);
        assert_eq!(paths.tunnel(v6, 16).inner_mtu(), 1436);
        assert_eq!(paths.n6.inner_mtu(), 1500);
        assert_eq!(paths.inner_mtu_min(), 1456);
    }

    #[test]
    fn a_path_too_narrow_for_any_host_is_refused_with_key_and_value() {
        let narrow = config(&serde_json::json!({ "n3": 639 }));
        assert_eq!(
            narrow.validate().unwrap_err().to_string(),
            "mtu.n3 is 639, allowed is 640 to 9216"
        );
        let least = config(&serde_json::json!({ "n3": 640, "n6": 576 }));
        assert!(least.validate().is_ok());
        assert!(least.paths("::1".parse().unwrap()).is_ok());
    }
}
