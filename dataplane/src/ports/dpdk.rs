//! N3 and N6 through DPDK: queue 0 of a device each, without the kernel.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use qlink_io::RawEndpoint;
use qlink_io::dpdk::{DpdkConfig, DpdkError, DpdkPort, Eal, EalConfig, Idle, Memory};
use qlink_io::frame::{Envelope, Ipv4Checksum};
use qlink_io::neighbour::{NeighbourReader, NeighbourTable};

use super::{DpdkN6, DpdkSettings, Opened};

/// Starts DPDK, which a process can do once.
pub(crate) fn start(settings: &DpdkSettings) -> Result<Arc<Eal>, DpdkError> {
    let memory = if settings.huge_pages {
        Memory::HugePages(settings.memory_mib)
    } else {
        Memory::Ordinary(settings.memory_mib)
    };
    let eal = Eal::start(&EalConfig {
        memory,
        virtual_devices: settings.devices.clone(),
        cards: settings.cards.clone(),
    })?;
    tracing::info!(version = Eal::version(), devices = ?eal.devices(), "DPDK drives N3");
    Ok(eal)
}

/// N3: datagrams of our endpoint, fragments put together here.
pub(crate) fn open_n3(
    eal: &Arc<Eal>,
    local: SocketAddr,
    settings: &DpdkSettings,
) -> Result<Opened<RawEndpoint<DpdkPort>>, DpdkError> {
    let envelope = Envelope::Udp {
        local,
        checksum: Ipv4Checksum::Computed,
    };
    let port = open(eal, &settings.n3, envelope, settings)?;
    Ok(Opened {
        ports: vec![RawEndpoint::new(port, local)],
        address: local,
        own: vec![local.ip()],
        neighbourhoods: Vec::new(),
    })
}

/// N6: plain packets, all to one router.
pub(crate) fn open_n6(
    eal: &Arc<Eal>,
    settings: &DpdkSettings,
    n6: &DpdkN6,
) -> Result<Opened<DpdkPort>, DpdkError> {
    let port = open(eal, &n6.device, Envelope::Ethernet, settings)?;
    Ok(Opened {
        ports: vec![port],
        address: SocketAddr::new(n6.next_hop, 0),
        own: vec![n6.next_hop],
        neighbourhoods: Vec::new(),
    })
}

fn open(
    eal: &Arc<Eal>,
    device: &str,
    envelope: Envelope,
    settings: &DpdkSettings,
) -> Result<DpdkPort, DpdkError> {
    let known = settings.neighbours.iter();
    let known = known.map(|neighbour| (neighbour.address, neighbour.mac.0));
    let table = NeighbourTable::new(Vec::new(), known.collect());
    let idle = match settings.idle_us {
        0 => Idle::Spin,
        microseconds => Idle::Sleep(Duration::from_micros(microseconds.into())),
    };
    let config = DpdkConfig {
        idle,
        ..DpdkConfig::new(envelope)
    };
    DpdkPort::open(eal, device, &config, NeighbourReader::fixed(table))
}
