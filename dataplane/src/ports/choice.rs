//! Which back end carries N3.

use std::fmt;
use std::str::FromStr;

use qlink_io::probe::{Availability, BackEnd};
use qlink_io::xdp::available;
use qlink_wire::GTPU_PORT;
use serde::{Deserialize, Serialize};

use crate::config::{ConfigError, DataplaneConfig};

/// What carries N3, as configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum N3Backend {
    /// The fastest one that works here and now, of those that are configured.
    #[default]
    Auto,
    /// A UDP socket by system calls; needs no privilege.
    Udp,
    /// A UDP socket by io_uring; no faster than `udp`, so only who names it gets it.
    Uring,
    /// AF_XDP on the interface of the table `xdp`.
    Xdp,
    /// DPDK on a device of the table `dpdk`.
    Dpdk,
    /// A passive tap on the interface of the table `packet`: another gateway's N3 is metered, and
    /// nothing forwarded.
    Packet,
}

/// A word that names no back end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no back end for N3: auto, udp, uring, xdp, dpdk or packet")]
pub struct N3BackendError(String);

impl FromStr for N3Backend {
    type Err = N3BackendError;

    fn from_str(text: &str) -> Result<Self, N3BackendError> {
        Self::ALL
            .into_iter()
            .find(|backend| backend.name() == text)
            .ok_or_else(|| N3BackendError(text.to_owned()))
    }
}

impl N3Backend {
    /// Every word.
    pub const ALL: [Self; 6] = [
        Self::Auto,
        Self::Udp,
        Self::Uring,
        Self::Xdp,
        Self::Dpdk,
        Self::Packet,
    ];

    /// The word in configuration and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Udp => BackEnd::Udp.name(),
            Self::Uring => BackEnd::Uring.name(),
            Self::Xdp => BackEnd::Xdp.name(),
            Self::Dpdk => BackEnd::Dpdk.name(),
            Self::Packet => BackEnd::Packet.name(),
        }
    }
}

/// The back end that carries N3, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// Which.
    pub backend: BackEnd,
    /// Faster ones that were not taken, the fastest first; empty where the configuration names one.
    pub passed_over: Vec<PassedOver>,
}

/// A faster back end that was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PassedOver {
    /// Which.
    pub backend: BackEnd,
    /// Why, for example `no table xdp in the configuration`.
    pub why: String,
}

impl fmt::Display for Choice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.backend.name())?;
        for (number, PassedOver { backend, why }) in self.passed_over.iter().enumerate() {
            let separator = if number == 0 { "; not " } else { ", not " };
            write!(formatter, "{separator}{}: {why}", backend.name())?;
        }
        Ok(())
    }
}

/// The back end that a configuration gets here and now. Probing touches no packet and leaves
/// nothing behind.
///
/// # Errors
///
/// The [`ConfigError`] of a back end that the configuration names and that this program does not
/// have.
pub fn choose(config: &DataplaneConfig) -> Result<Choice, ConfigError> {
    let named = |backend| Choice {
        backend,
        passed_over: Vec::new(),
    };
    match config.backend {
        N3Backend::Auto => Ok(fastest(config)),
        N3Backend::Udp => Ok(named(BackEnd::Udp)),
        N3Backend::Xdp => Ok(named(BackEnd::Xdp)),
        N3Backend::Packet => Ok(named(BackEnd::Packet)),
        N3Backend::Uring if cfg!(feature = "uring") => Ok(named(BackEnd::Uring)),
        N3Backend::Dpdk if cfg!(feature = "dpdk") => Ok(named(BackEnd::Dpdk)),
        N3Backend::Uring | N3Backend::Dpdk => Err(ConfigError::NotBuilt {
            backend: config.backend.name(),
        }),
    }
}

/// Why a back end cannot carry N3, if it cannot.
type Obstacle = fn(&DataplaneConfig) -> Option<String>;

/// The fastest one without an obstacle. `uring` is not among them: it is no faster than `udp`,
/// which runs everywhere.
fn fastest(config: &DataplaneConfig) -> Choice {
    let mut passed_over = Vec::new();
    let candidates: [(BackEnd, Obstacle); 2] =
        [(BackEnd::Dpdk, dpdk_obstacle), (BackEnd::Xdp, xdp_obstacle)];
    for (backend, obstacle) in candidates {
        match obstacle(config) {
            None => {
                return Choice {
                    backend,
                    passed_over,
                };
            }
            Some(why) => passed_over.push(PassedOver { backend, why }),
        }
    }
    Choice {
        backend: BackEnd::Udp,
        passed_over,
    }
}

/// Why DPDK cannot carry N3.
fn dpdk_obstacle(config: &DataplaneConfig) -> Option<String> {
    let Some(settings) = &config.dpdk else {
        return Some("no table dpdk in the configuration".to_owned());
    };
    if !cfg!(feature = "dpdk") {
        return Some("this program was built without it".to_owned());
    }
    if config.workers > 1 {
        return Some(format!("it serves one worker, not {}", config.workers));
    }
    if config.n3_v6.is_some() {
        return Some("it serves one endpoint, and n3_v6 is a second".to_owned());
    }
    if settings.cards.is_empty() {
        return None;
    }
    match BackEnd::Dpdk.probe() {
        Availability::Usable => None,
        Availability::Unusable(obstacle) => Some(obstacle.to_string()),
    }
}

/// Why AF_XDP cannot carry N3.
fn xdp_obstacle(config: &DataplaneConfig) -> Option<String> {
    let Some(settings) = &config.xdp else {
        return Some("no table xdp in the configuration".to_owned());
    };
    if config.n3.port() != GTPU_PORT {
        return Some(format!(
            "n3 is {}, and only port 2152 is steered",
            config.n3
        ));
    }
    let found = match available(settings.interface.as_str(), settings.frames) {
        Ok(found) => found.interface,
        Err(error) => return Some(error.to_string()),
    };
    if found.has_program {
        return Some(format!("{} has an XDP program already", found.name));
    }
    if found.rx_queues < config.workers.into() {
        let (queues, workers) = (found.rx_queues, config.workers);
        return Some(format!(
            "{} has {queues} receive queues for {workers} workers",
            found.name
        ));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_on_the_command_line_are_those_of_the_configuration() {
        for backend in N3Backend::ALL {
            let word = serde_json::to_value(backend).unwrap();
            assert_eq!(word.as_str().unwrap().parse(), Ok(backend));
        }
        assert!("UDP".parse::<N3Backend>().is_err());
    }

    fn config(changes: &serde_json::Value) -> DataplaneConfig {
        let mut value = serde_json::json!({
            "n3": "127.0.0.1:2152", "n6_local": "127.0.0.1:0", "n6_peer": "127.0.0.3:5000",
            "control_socket": "control", "arena": "arena", "journal": "journal",
        });
        for (key, change) in changes.as_object().unwrap() {
            value[key] = change.clone();
        }
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn auto_falls_back_to_a_socket_and_says_why_of_every_faster_one() {
        let xdp = serde_json::json!({"interface": "nosuch0"});

        let nothing = choose(&config(&serde_json::json!({}))).unwrap();
        let absent = choose(&config(&serde_json::json!({"xdp": xdp}))).unwrap();
        let elsewhere = serde_json::json!({"xdp": xdp, "n3": "127.0.0.1:0"});
        let elsewhere = choose(&config(&elsewhere)).unwrap();

        assert_eq!(nothing.backend, BackEnd::Udp);
        assert_eq!(
            nothing.to_string(),
            "udp; not dpdk: no table dpdk in the configuration, not xdp: no table xdp in the \
             configuration"
        );
        assert!(
            absent
                .to_string()
                .contains("no network interface named nosuch0")
        );
        assert!(elsewhere.to_string().contains("only port 2152 is steered"));
    }

    #[test]
    fn a_back_end_is_described_before_it_is_named() {
        for (name, table) in [("xdp", "xdp"), ("dpdk", "dpdk"), ("packet", "packet")] {
            let mut config = config(&serde_json::json!({"backend": name}));
            if config.backend == N3Backend::Packet {
                (config.n6_local, config.n6_peer) = (None, None);
            }
            assert_eq!(config.validate().err(), Some(ConfigError::Table { table }));
        }
    }

    #[test]
    fn a_tap_with_a_way_to_origins_is_refused() {
        let packet = serde_json::json!({"interface": "eth2"});
        let tap = config(&serde_json::json!({"backend": "packet", "packet": packet}));

        assert_eq!(tap.validate().err(), Some(ConfigError::TapForwards));
    }

    #[test]
    fn a_tap_takes_no_table_of_what_forwards() {
        let tap = |table: &str, value: serde_json::Value| {
            let mut changes =
                serde_json::json!({"backend": "packet", "packet": {"interface": "lo"}});
            changes[table] = value;
            let mut config = config(&changes);
            (config.n6_local, config.n6_peer) = (None, None);
            config.validate().err()
        };

        let nothing = tap("own", serde_json::json!([]));
        let mtu = tap("mtu", serde_json::json!({"n6": 1400}));

        assert_eq!(nothing, None);
        assert!(
            matches!(mtu, Some(ConfigError::Key { key: "mtu", .. })),
            "{mtu:?}"
        );
    }
}
