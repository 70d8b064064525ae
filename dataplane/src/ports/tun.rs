//! N6 through the machine's own kernel.

use std::net::{Ipv4Addr, SocketAddr};

use qlink_io::interfaces::own_addresses;
use qlink_io::tun::{TunConfig, TunPort};

use super::Opened;
use crate::process::DataplaneError;

/// The interface, and the addresses that the machine has now.
pub(crate) fn open_n6(workers: u8, tun: &TunConfig) -> Result<Opened<TunPort>, DataplaneError> {
    let port = TunPort::open(tun)?;
    let ip = tun.address.map_or(Ipv4Addr::UNSPECIFIED, |own| own.ip());
    tracing::info!(interface = port.name(), "packets go through the kernel");
    let mut ports = Vec::new();
    for _ in 1..workers {
        ports.push(port.share()?);
    }
    ports.push(port);
    Ok(Opened {
        ports,
        address: SocketAddr::from((ip, 0)),
        own: own_addresses()?,
        neighbourhoods: Vec::new(),
    })
}
