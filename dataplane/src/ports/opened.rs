//! The ports of one side.

use std::net::{IpAddr, SocketAddr};

use super::neighbours::Neighbourhood;

/// Ports of all workers towards one side.
#[derive(Debug)]
pub(crate) struct Opened<P> {
    /// One for each worker, in their order.
    pub(crate) ports: Vec<P>,
    /// Where the other side finds us.
    pub(crate) address: SocketAddr,
    /// Addresses that no subscriber may send to because of these ports.
    pub(crate) own: Vec<IpAddr>,
    /// Next hops to be kept up to date meanwhile.
    pub(crate) neighbourhoods: Vec<Neighbourhood>,
}
