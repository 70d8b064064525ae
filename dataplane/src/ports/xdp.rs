//! N3 and N6 through AF_XDP: a queue for each worker.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use qlink_io::interfaces::own_addresses;
use qlink_io::udp::UdpPort;
use qlink_io::xdp::frame::{Envelope, Ipv4Checksum};
use qlink_io::xdp::{NeighbourKeeper, Steering, SteeringRule, XdpConfig, XdpEndpoint, XdpPort};

use super::neighbours::Neighbourhood;
use super::{Opened, XdpN6, XdpSettings, udp};
use crate::config::DataplaneConfig;
use crate::process::DataplaneError;

/// How long a next hop is waited for at the start (chosen: a router answers within milliseconds;
/// without an answer packets are dropped and counted until it is there).
const RESOLVE_PATIENCE: u32 = 50;
const RESOLVE_PAUSE: Duration = Duration::from_millis(20);

/// N3: a queue of the interface for each worker, with the kernel's socket beside each.
pub(crate) fn open_n3(
    config: &DataplaneConfig,
    settings: &XdpSettings,
) -> Result<Opened<XdpEndpoint>, DataplaneError> {
    let beside = udp::open_n3(config, UdpPort::bind_group)?;
    let rule = SteeringRule::N3 {
        endpoints: beside.own.clone(),
    };
    let envelope = Envelope::Udp {
        local: beside.address,
        checksum: Ipv4Checksum::Computed,
    };
    let interface = Interface {
        name: settings.interface.as_str(),
        rule,
        envelope,
        peers: Vec::new(),
    };
    let (ports, neighbourhood) = interface.open(config.workers, settings)?;
    let endpoints = ports.into_iter().zip(beside.ports);
    Ok(Opened {
        ports: endpoints
            .map(|(xdp, udp)| XdpEndpoint::new(xdp, udp))
            .collect(),
        address: beside.address,
        own: beside.own,
        neighbourhoods: vec![neighbourhood],
    })
}

/// N6: packets to subscribers come from the interface, and all from them go to its router.
pub(crate) fn open_n6(
    config: &DataplaneConfig,
    settings: &XdpSettings,
    n6: &XdpN6,
) -> Result<Opened<XdpPort>, DataplaneError> {
    let subscribers = n6.subscribers.iter();
    let rule = SteeringRule::N6 {
        prefixes: subscribers
            .map(|network| (network.address, network.prefix_len))
            .collect(),
    };
    let interface = Interface {
        name: n6.interface.as_str(),
        rule,
        envelope: Envelope::Ethernet,
        peers: vec![n6.next_hop],
    };
    let (ports, neighbourhood) = interface.open(config.workers, settings)?;
    let mut own = own_addresses()?;
    own.push(n6.next_hop);
    Ok(Opened {
        ports,
        address: SocketAddr::new(n6.next_hop, 0),
        own,
        neighbourhoods: vec![neighbourhood],
    })
}

/// One side's interface.
struct Interface<'a> {
    name: &'a str,
    rule: SteeringRule,
    envelope: Envelope,
    /// Addresses to be resolved before packets run.
    peers: Vec<IpAddr>,
}

impl Interface<'_> {
    fn open(
        self,
        workers: u8,
        settings: &XdpSettings,
    ) -> Result<(Vec<XdpPort>, Neighbourhood), DataplaneError> {
        let steering = Steering::attach(self.name, &self.rule, settings.mode.into())?;
        let queues = steering.interface().rx_queues;
        let keeper = NeighbourKeeper::new(steering.interface().index, Vec::new())?;
        let mut neighbourhood = Neighbourhood::new(keeper, self.peers);
        for _ in 0..RESOLVE_PATIENCE {
            if neighbourhood.refresh()? {
                break;
            }
            std::thread::sleep(RESOLVE_PAUSE);
        }
        let config = XdpConfig {
            frames: settings.frames,
            frame_size: settings.frame_bytes.into(),
            copy: settings.copy.into(),
            ..XdpConfig::new(self.envelope)
        };
        let mut ports = Vec::new();
        for queue in 0..workers.into() {
            let reader = neighbourhood.reader();
            ports.push(XdpPort::open(&steering, queue, &config, reader)?);
        }
        tracing::info!(
            interface = self.name,
            mode = ?steering.mode(),
            copy = ?ports.first().map(XdpPort::copy_mode),
            workers,
            queues,
            "packets come through AF_XDP"
        );
        if queues > workers.into() {
            tracing::warn!(
                interface = self.name,
                workers,
                queues,
                "queues without a worker stay with the kernel: as many of both are faster"
            );
        }
        Ok((ports, neighbourhood))
    }
}
