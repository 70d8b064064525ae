//! Where the network lives: a folder, and loopback addresses that nobody else uses.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

/// UDP port of GTP-U. Source: TS 29.281 §4.4.2.3.
const GTPU: u16 = 2152;

/// UDP port of the raw IP links of the simulated network.
const RAW: u16 = 2153;

/// Addresses of a local network: one /24 of 127.0.0.0/8.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Addresses {
    /// The data plane towards BaseStations.
    pub(crate) n3: SocketAddr,
    /// The data plane towards origins.
    pub(crate) n6: SocketAddr,
    /// The BaseStation towards the data plane.
    pub(crate) station_n3: SocketAddr,
    /// The BaseStation towards viewers.
    pub(crate) station_radio: SocketAddr,
    /// The viewers.
    pub(crate) viewers_radio: SocketAddr,
    /// The origin.
    pub(crate) origin_n6: SocketAddr,
}

impl Addresses {
    fn of(second: u8, third: u8) -> Self {
        let at =
            |host: u8, port: u16| SocketAddr::from((Ipv4Addr::new(127, second, third, host), port));
        Self {
            n3: at(1, GTPU),
            n6: at(1, RAW),
            station_n3: at(2, GTPU),
            station_radio: at(2, RAW),
            origin_n6: at(3, RAW),
            viewers_radio: at(4, RAW),
        }
    }

    /// Finds addresses that are free now, starting at a place that depends on this process.
    pub(crate) fn find() -> anyhow::Result<Self> {
        let start = std::process::id();
        for attempt in 0..1000u32 {
            let place = start
                .wrapping_mul(2_654_435_761)
                .wrapping_add(attempt.wrapping_mul(97));
            let [second, third, ..] = place.to_be_bytes();
            // 127.0.0.0/16 holds the addresses that everybody uses.
            let candidate = Self::of(second.max(1), third);
            if candidate.is_free() {
                return Ok(candidate);
            }
        }
        bail!("no free loopback addresses for UDP ports {GTPU} and {RAW}")
    }

    fn is_free(&self) -> bool {
        [
            self.n3,
            self.n6,
            self.station_n3,
            self.station_radio,
            self.origin_n6,
            self.viewers_radio,
        ]
        .iter()
        .all(|address| UdpSocket::bind(address).is_ok())
    }
}

/// The folder to work in, and what removes it at the end when it is a temporary one.
pub(crate) fn folder(given: Option<&Path>) -> anyhow::Result<(PathBuf, Option<Temporary>)> {
    if let Some(folder) = given {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make folder {}", folder.display()))?;
        if std::fs::read_dir(folder)?.next().is_some() {
            bail!("folder {} is not empty; name another one", folder.display());
        }
        return Ok((std::fs::canonicalize(folder)?, None));
    }
    let name = format!(
        "qlink-{}-{}",
        std::process::id(),
        qlink_io::clock::unix_ns()
    );
    let folder = std::env::temp_dir().join(name);
    std::fs::create_dir(&folder)
        .with_context(|| format!("cannot make folder {}", folder.display()))?;
    Ok((folder.clone(), Some(Temporary(folder))))
}

/// Removes its folder when dropped.
#[derive(Debug)]
pub(crate) struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(%error, folder = %self.0.display(), "temporary folder stays");
        }
    }
}
