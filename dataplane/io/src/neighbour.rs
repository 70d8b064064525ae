//! Where a packet goes next: from an address to the card that takes it.
//!
//! An immutable [`NeighbourTable`] per interface is made off the packet path by a
//! [`NeighbourKeeper`] from fixed entries and the kernel's routes and neighbours, and published to
//! any number of [`NeighbourReader`]s. A reader looks for a newer table once per burst and never
//! waits. A packet whose next hop is unknown is refused, and its address reported to the keeper,
//! which lets the kernel resolve it at its next refresh.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use crate::frame::MacAddress;
use crate::netlink::{Netlink, Question, attributes, push_attribute, word};

/// Most routes of one interface (chosen: they are searched one after another).
pub const ROUTES_MAX: usize = 64;
/// Most neighbours of one interface (chosen: above the kernel's default limit of 1024 per family).
pub const NEIGHBOURS_MAX: usize = 4096;
/// Most addresses that wait for the next refresh.
const REPORTS_MAX: usize = 64;
/// Most addresses that the kernel is asked to keep resolved.
const WANTED_MAX: usize = 1024;

/// A network and how to reach it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Any address of the network.
    pub network: IpAddr,
    /// Leading bits that count: 0 to 32, or to 128.
    pub prefix_len: u8,
    /// The router; `None` when the network is on the link itself.
    pub gateway: Option<IpAddr>,
    /// The smaller wins among routes to the same network.
    pub metric: u32,
}

impl Route {
    fn covers(&self, address: IpAddr) -> bool {
        match (self.network, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let mask = u32::MAX
                    .checked_shl(32_u32.saturating_sub(self.prefix_len.into()))
                    .unwrap_or(0);
                (network.to_bits() ^ address.to_bits()) & mask == 0
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let mask = u128::MAX
                    .checked_shl(128_u32.saturating_sub(self.prefix_len.into()))
                    .unwrap_or(0);
                (network.to_bits() ^ address.to_bits()) & mask == 0
            }
            _ => false,
        }
    }
}

/// Next hops of one interface.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NeighbourTable {
    /// The longest prefix first, then the smallest metric.
    routes: Vec<Route>,
    /// Sorted by address.
    neighbours: Vec<(IpAddr, MacAddress)>,
    left_out: usize,
}

impl NeighbourTable {
    /// A table of these routes and neighbours. Beyond [`ROUTES_MAX`] and [`NEIGHBOURS_MAX`] the
    /// shortest prefixes and the last neighbours are left out; of two entries for an address the
    /// first counts.
    #[must_use]
    pub fn new(mut routes: Vec<Route>, mut neighbours: Vec<(IpAddr, MacAddress)>) -> Self {
        routes.sort_by_key(|route| (u8::MAX.saturating_sub(route.prefix_len), route.metric));
        let left_out = routes
            .len()
            .saturating_sub(ROUTES_MAX)
            .saturating_add(neighbours.len().saturating_sub(NEIGHBOURS_MAX));
        routes.truncate(ROUTES_MAX);
        neighbours.truncate(NEIGHBOURS_MAX);
        neighbours.sort_by_key(|(address, _)| *address);
        neighbours.dedup_by_key(|(address, _)| *address);
        Self {
            routes,
            neighbours,
            left_out,
        }
    }

    /// The card that takes packets to `address`: its own when it is a neighbour, else that of the
    /// router of the longest matching route. `None` when there is no such route, or its router is
    /// not known.
    #[must_use]
    #[inline]
    pub fn next_hop(&self, address: IpAddr) -> Option<MacAddress> {
        self.neighbour(address).or_else(|| {
            let route = self.routes.iter().find(|route| route.covers(address))?;
            self.neighbour(route.gateway?)
        })
    }

    /// The routers of all routes.
    pub fn gateways(&self) -> impl Iterator<Item = IpAddr> {
        self.routes.iter().filter_map(|route| route.gateway)
    }

    /// Routes and neighbours that did not fit; to be shown as a metric.
    #[must_use]
    pub const fn left_out(&self) -> usize {
        self.left_out
    }

    /// Number of neighbours known.
    #[must_use]
    pub const fn neighbours(&self) -> usize {
        self.neighbours.len()
    }

    fn neighbour(&self, address: IpAddr) -> Option<MacAddress> {
        let place = self
            .neighbours
            .binary_search_by_key(&address, |(address, _)| *address);
        self.neighbours.get(place.ok()?).map(|(_, mac)| *mac)
    }
}

/// What a keeper and its readers share.
#[derive(Debug)]
struct Published {
    /// Grows with every table.
    generation: AtomicU64,
    table: Mutex<Arc<NeighbourTable>>,
}

/// Makes and publishes the table of one interface; belongs to the control thread.
#[derive(Debug)]
pub struct NeighbourKeeper {
    interface: u32,
    fixed: Vec<(IpAddr, MacAddress)>,
    netlink: Netlink,
    published: Arc<Published>,
    reporter: SyncSender<IpAddr>,
    reports: Receiver<IpAddr>,
    /// Addresses that packets could not be sent to.
    wanted: BTreeSet<IpAddr>,
}

impl NeighbourKeeper {
    /// A keeper for the interface with this number in this thread's network namespace. `fixed`
    /// entries count before what the kernel knows. The first table holds them alone.
    ///
    /// # Errors
    ///
    /// The system's reason when it gives no netlink socket.
    pub fn new(interface: u32, fixed: Vec<(IpAddr, MacAddress)>) -> io::Result<Self> {
        let (reporter, reports) = sync_channel(REPORTS_MAX);
        let table = NeighbourTable::new(Vec::new(), fixed.clone());
        let published = Published {
            generation: AtomicU64::new(1),
            table: Mutex::new(Arc::new(table)),
        };
        Ok(Self {
            interface,
            fixed,
            netlink: Netlink::route()?,
            published: Arc::new(published),
            reporter,
            reports,
            wanted: BTreeSet::new(),
        })
    }

    /// A reader for one port.
    #[must_use]
    pub fn reader(&self) -> NeighbourReader {
        NeighbourReader {
            published: Arc::clone(&self.published),
            seen: 0,
            table: Arc::default(),
            reporter: self.reporter.clone(),
        }
    }

    /// Whether a port has reported an address without a next hop since the last
    /// [`refresh`](Self::refresh).
    pub fn is_asked(&mut self) -> bool {
        let known = self.wanted.len();
        self.take_reports();
        self.wanted.len() > known
    }

    fn take_reports(&mut self) {
        while let Ok(address) = self.reports.try_recv() {
            if self.wanted.len() < WANTED_MAX {
                self.wanted.insert(address);
            }
        }
    }

    /// Reads the kernel's routes and neighbours, publishes a new table if anything changed, and
    /// lets the kernel resolve gateways, `peers` and reported addresses that it does not know or
    /// has not confirmed for long; their answers are in a later table. Call it about once a second.
    ///
    /// It reads the main routing table. A route with several routers (multipath) is not read: a
    /// packet to it is refused unless a fixed entry or another route serves it.
    ///
    /// # Errors
    ///
    /// The system's reason; the old table stays.
    pub fn refresh(&mut self, peers: &[IpAddr]) -> io::Result<Arc<NeighbourTable>> {
        self.take_reports();
        let mut neighbours = self.fixed.clone();
        neighbours.extend(read_neighbours(&mut self.netlink, self.interface)?);
        let routes = read_routes(&mut self.netlink, self.interface)?;
        let table = NeighbourTable::new(routes, neighbours);
        let on_link = |address: &IpAddr| {
            let route = table.routes.iter().find(|route| route.covers(*address));
            route.is_some_and(|route| route.gateway.is_none())
        };
        let mut wanted: BTreeSet<IpAddr> = table.gateways().collect();
        wanted.extend(peers.iter().chain(&self.wanted).copied().filter(on_link));
        for address in wanted.into_iter().take(WANTED_MAX) {
            if self.fixed.iter().all(|(fixed, _)| *fixed != address) {
                // One that cannot be resolved must not keep the others from it.
                let _ = resolve(&mut self.netlink, self.interface, address);
            }
        }
        self.wanted
            .retain(|address| table.next_hop(*address).is_none());
        Ok(self.publish(table))
    }

    fn publish(&self, table: NeighbourTable) -> Arc<NeighbourTable> {
        let mut current = self
            .published
            .table
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if **current != table {
            *current = Arc::new(table);
            // Pairs with the reader's acquire; the lock orders the table itself.
            self.published.generation.fetch_add(1, Ordering::Release);
        }
        Arc::clone(&current)
    }
}

/// One port's view of the table.
#[derive(Debug)]
pub struct NeighbourReader {
    published: Arc<Published>,
    seen: u64,
    table: Arc<NeighbourTable>,
    reporter: SyncSender<IpAddr>,
}

impl NeighbourReader {
    /// A reader of a table that never changes, for an interface that the kernel does not know.
    #[must_use]
    pub fn fixed(table: NeighbourTable) -> Self {
        let table = Arc::new(table);
        // Nobody reads reports.
        let (reporter, _) = sync_channel(0);
        Self {
            published: Arc::new(Published {
                generation: AtomicU64::new(0),
                table: Mutex::new(Arc::clone(&table)),
            }),
            seen: 0,
            table,
            reporter,
        }
    }

    /// Takes over a newer table if there is one and it can be had without waiting.
    #[inline]
    pub fn update(&mut self) {
        let generation = self.published.generation.load(Ordering::Acquire);
        if generation != self.seen
            && let Ok(current) = self.published.table.try_lock()
        {
            self.table = Arc::clone(&current);
            self.seen = generation;
        }
    }

    /// The table as of the last [`update`](Self::update).
    #[must_use]
    pub fn table(&self) -> &NeighbourTable {
        &self.table
    }

    /// Tells the keeper of an address without a next hop; forgotten when too many wait.
    pub fn report(&self, address: IpAddr) {
        let _ = self.reporter.try_send(address);
    }
}

const NEW_NEIGHBOUR: u16 = 28;
const GET_NEIGHBOUR: u16 = 30;
const NEW_ROUTE: u16 = 24;
const GET_ROUTE: u16 = 26;

/// Entry states in which the address may be used: reachable, stale, delay, probe, no-ARP,
/// permanent.
const USABLE: u16 = 0x02 | 0x04 | 0x08 | 0x10 | 0x40 | 0x80;
/// Asks the kernel to resolve an entry as if it were about to send to it.
const FLAG_USE: u8 = 1;
/// Bytes of `struct ndmsg` and of `struct rtmsg`.
const HEADER_BYTES: usize = 12;
/// Routes to hosts and networks; not the machine's own addresses, broadcast or black holes.
const ROUTE_UNICAST: u8 = 1;

fn read_neighbours(netlink: &mut Netlink, interface: u32) -> io::Result<Vec<(IpAddr, MacAddress)>> {
    let mut found = Vec::new();
    netlink.ask(
        GET_NEIGHBOUR,
        Question::Dump,
        &[0; HEADER_BYTES],
        |kind, payload| {
            if kind == NEW_NEIGHBOUR
                && let Some(entry) = parse_neighbour(payload, interface)
            {
                found.push(entry);
            }
        },
    )?;
    Ok(found)
}

/// An entry of `interface` that can be used.
fn parse_neighbour(payload: &[u8], interface: u32) -> Option<(IpAddr, MacAddress)> {
    let (header, rest) = payload.split_at_checked(HEADER_BYTES)?;
    let state = u16::from_ne_bytes(*header.get(8..)?.first_chunk::<2>()?);
    if word(header.get(4..)?)? != interface || state & USABLE == 0 {
        return None;
    }
    let value = |wanted| attributes(rest).find(|(kind, _)| *kind == wanted);
    let address = parse_address(value(libc::NDA_DST)?.1)?;
    let mac = <[u8; 6]>::try_from(value(libc::NDA_LLADDR)?.1).ok()?;
    Some((address, MacAddress::new(mac)))
}

fn read_routes(netlink: &mut Netlink, interface: u32) -> io::Result<Vec<Route>> {
    let mut found = Vec::new();
    netlink.ask(
        GET_ROUTE,
        Question::Dump,
        &[0; HEADER_BYTES],
        |kind, payload| {
            if kind == NEW_ROUTE
                && let Some(route) = parse_route(payload, interface)
            {
                found.push(route);
            }
        },
    )?;
    Ok(found)
}

/// A unicast route of the main table over `interface`.
fn parse_route(payload: &[u8], interface: u32) -> Option<Route> {
    let (header, rest) = payload.split_at_checked(HEADER_BYTES)?;
    let [family, prefix_len, _, _, table, _, _, kind, ..] = *header.first_chunk::<12>()?;
    let value = |wanted| {
        attributes(rest)
            .find(|(kind, _)| *kind == wanted)
            .map(|(_, value)| value)
    };
    let out = value(libc::RTA_OIF).and_then(word);
    if kind != ROUTE_UNICAST || table != libc::RT_TABLE_MAIN || out != Some(interface) {
        return None;
    }
    let everything = match libc::c_int::from(family) {
        libc::AF_INET => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        libc::AF_INET6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => return None,
    };
    let network = match value(libc::RTA_DST) {
        Some(address) => parse_address(address)?,
        None => everything,
    };
    let gateway = match value(libc::RTA_GATEWAY) {
        Some(address) => Some(parse_address(address)?),
        // An IPv4 network behind an IPv6 router: family u16, then the address.
        None => match value(libc::RTA_VIA) {
            Some(via) => Some(parse_address(via.get(2..)?)?),
            None => None,
        },
    };
    Some(Route {
        network,
        prefix_len,
        gateway,
        metric: value(libc::RTA_PRIORITY).and_then(word).unwrap_or(0),
    })
}

fn parse_address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from);
    v4.or_else(|| <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from))
}

/// Lets the kernel find a neighbour's card.
fn resolve(netlink: &mut Netlink, interface: u32, address: IpAddr) -> io::Result<()> {
    let (family, octets) = match address {
        IpAddr::V4(address) => (libc::AF_INET, address.octets().to_vec()),
        IpAddr::V6(address) => (libc::AF_INET6, address.octets().to_vec()),
    };
    let mut payload = vec![u8::try_from(family).unwrap_or(0), 0, 0, 0];
    payload.extend_from_slice(&interface.to_ne_bytes());
    payload.extend_from_slice(&[0, 0, FLAG_USE, 0]);
    push_attribute(&mut payload, libc::NDA_DST, &octets);
    netlink.ask(NEW_NEIGHBOUR, Question::Create, &payload, |_, _| ())
}

#[cfg(test)]
#[path = "neighbour_tests.rs"]
mod tests;
