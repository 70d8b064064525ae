//! N3 and N6 through UDP sockets, by system calls or by io_uring.

use std::net::{IpAddr, SocketAddr};

use qlink_io::udp::{Port, Steering, UdpOptions, UdpPort};
use qlink_io::{Families, IoError};
use qlink_wire::LinkType;

use super::Opened;
use crate::config::DataplaneConfig;

/// How a back end binds the ports of a group, one for each worker, on one address.
type Bind<T> =
    fn(SocketAddr, LinkType, (u8, Steering), UdpOptions) -> Result<Vec<Port<T>>, IoError>;

/// N3: the kernel gives a packet to the worker that its TEID names; who gets one of another worker
/// hands it over.
pub(crate) fn open_n3<T>(
    config: &DataplaneConfig,
    bind: Bind<T>,
) -> Result<Opened<Families<Port<T>>>, IoError> {
    let open = |address| {
        let group = (config.workers, Steering::Teid);
        bind(address, LinkType::RawIp, group, options(config))
    };
    let first = open(config.n3)?;
    let address = first.first().map_or(config.n3, Port::local_addr);
    let mut second: Vec<Option<Port<T>>> = match config.n3_v6 {
        Some(address) => open(address.into())?.into_iter().map(Some).collect(),
        None => Vec::new(),
    };
    second.resize_with(first.len(), || None);
    let families = first.into_iter().zip(second);
    let other = config.n3_v6.map(|other| IpAddr::V6(*other.ip()));
    Ok(Opened {
        ports: families
            .map(|(first, second)| Families::new(first, address, second))
            .collect(),
        address,
        own: [address.ip()].into_iter().chain(other).collect(),
        neighbourhoods: Vec::new(),
    })
}

/// N6 to another process of ours, which takes raw IP in datagrams.
pub(crate) fn open_n6(
    config: &DataplaneConfig,
    (local, peer): (SocketAddr, SocketAddr),
) -> Result<Opened<UdpPort>, IoError> {
    let group = (config.workers, Steering::Flow);
    let ports = UdpPort::bind_group(local, LinkType::RawIp, group, options(config))?;
    let address = ports.first().map_or(local, Port::local_addr);
    Ok(Opened {
        ports,
        address,
        own: vec![address.ip(), peer.ip()],
        neighbourhoods: Vec::new(),
    })
}

fn options(config: &DataplaneConfig) -> UdpOptions {
    UdpOptions {
        offload: config.udp_offload.into(),
        ..UdpOptions::default()
    }
}
