//! Next hops of interfaces that the kernel does not send through.

use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use qlink_io::xdp::{NeighbourKeeper, NeighbourReader};

use crate::process::IDLE;

/// How often the kernel's tables are read (chosen: routes and neighbours change by hand or by a
/// failover of some seconds; unknown next hops are asked for at once).
const EVERY: Duration = Duration::from_secs(1);

/// The next hops of one interface, kept up to date beside the workers.
#[derive(Debug)]
pub(crate) struct Neighbourhood {
    keeper: NeighbourKeeper,
    /// Addresses that always have to be known.
    peers: Vec<IpAddr>,
}

impl Neighbourhood {
    pub(crate) const fn new(keeper: NeighbourKeeper, peers: Vec<IpAddr>) -> Self {
        Self { keeper, peers }
    }

    /// For one port.
    pub(crate) fn reader(&self) -> NeighbourReader {
        self.keeper.reader()
    }

    /// Reads the kernel's tables; whether every peer has a next hop.
    pub(crate) fn refresh(&mut self) -> io::Result<bool> {
        let table = self.keeper.refresh(&self.peers)?;
        Ok(self
            .peers
            .iter()
            .all(|peer| table.next_hop(*peer).is_some()))
    }

    /// Keeps the table up to date until told to stop.
    pub(crate) fn run(mut self, stopped: &impl Fn() -> bool) {
        let mut read = Instant::now();
        while !stopped() {
            if self.keeper.is_asked() || read.elapsed() >= EVERY {
                read = Instant::now();
                if let Err(error) = self.refresh() {
                    tracing::warn!(%error, "next hops could not be read; the old ones stand");
                }
            }
            std::thread::sleep(IDLE);
        }
    }
}
