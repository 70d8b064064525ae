//! A steering program on an interface, and the table of sockets that it steers to.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use super::bpf::{self, AttachFlag, BpfMap, LoadError, MapKind};
use super::error::XdpError;
use super::interface::Interface;
use super::program::{self, PREFIX_KEY_BYTES, ProgramMaps, Unserved};

/// Most endpoints of one N3 program (chosen: each is up to nine instructions).
pub const ENDPOINTS_MAX: usize = 32;
/// Most prefixes of one N6 program (chosen: one per session of a small site, a pool otherwise).
pub const PREFIXES_MAX: u32 = 65_536;

/// How long a queue or an interface may stay busy after its former owner is gone. The kernel tears
/// sockets and links down some 10 to 30 ms after they are closed (measured, Linux 6.18).
const BUSY_PATIENCE: u32 = 100;
/// Pause between two tries.
const BUSY_PAUSE: Duration = Duration::from_millis(10);

/// Which packets are taken from the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SteeringRule {
    /// Tunnel packets: UDP port 2152 of one of these addresses of ours, 1 to [`ENDPOINTS_MAX`].
    /// Fragments stay with the kernel, see [`xdp`](super#fragments).
    N3 {
        /// Our GTP-U addresses.
        endpoints: Vec<IpAddr>,
    },
    /// Packets to subscribers: destinations inside one of these prefixes.
    /// [`Steering::add_prefix`] adds more.
    N6 {
        /// Networks and their prefix lengths.
        prefixes: Vec<(IpAddr, u8)>,
    },
}

/// Where in the kernel a program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttachMode {
    /// In the driver, before the kernel makes a packet buffer.
    Native,
    /// In the kernel's core, for any interface; slower on a real card.
    Generic,
}

/// Which mode to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AttachChoice {
    /// Native, and generic where the driver has no native mode.
    #[default]
    Best,
    /// This one or none.
    Only(AttachMode),
}

/// An attached program. It is detached when this and every port opened on it are dropped, or when
/// the process dies in any way.
#[derive(Debug)]
pub struct Steering {
    interface: Interface,
    mode: AttachMode,
    sockets: BpfMap,
    prefixes: Option<BpfMap>,
    /// Kept open: closing it detaches the program.
    _link: OwnedFd,
}

impl Steering {
    /// Loads and attaches the program for `rule` to an interface of this thread's network
    /// namespace. Without a port on a queue the packets of that queue stay with the kernel.
    ///
    /// An interface that is still busy from a process that has just ended is waited for, a second
    /// at most.
    ///
    /// # Errors
    ///
    /// Any [`XdpError`] but [`XdpError::QueueBusy`] and [`XdpError::LockedMemory`].
    pub fn attach(
        interface: &str,
        rule: &SteeringRule,
        choice: AttachChoice,
    ) -> Result<Arc<Self>, XdpError> {
        let interface = Interface::find(interface)?;
        let map = |kind, key_size, entries| {
            BpfMap::new(kind, key_size, entries)
                .map_err(|source| XdpError::of("making a BPF map", &interface.name, source))
        };
        let sockets = map(MapKind::Sockets, 4, interface.rx_queues)?;
        let (code, prefixes) = match rule {
            SteeringRule::N3 { endpoints } => {
                check_endpoints(endpoints)?;
                let maps = ProgramMaps {
                    sockets: sockets.as_immediate(),
                    prefixes: -1,
                };
                (program::n3(endpoints, maps, Unserved::Pass), None)
            }
            SteeringRule::N6 { prefixes } => {
                // 20 bytes, see `prefix_key`.
                let key_size = u32::try_from(PREFIX_KEY_BYTES).unwrap_or(0);
                let table = map(MapKind::Prefixes, key_size, PREFIXES_MAX)?;
                for (network, prefix_len) in prefixes {
                    insert_prefix(&table, &interface.name, *network, *prefix_len)?;
                }
                let maps = ProgramMaps {
                    sockets: sockets.as_immediate(),
                    prefixes: table.as_immediate(),
                };
                (program::n6(maps, Unserved::Pass), Some(table))
            }
        };
        let program = load(&interface.name, &code)?;
        let (link, mode) = attach(program.as_fd(), &interface, choice)?;
        Ok(Arc::new(Self {
            interface,
            mode,
            sockets,
            prefixes,
            _link: link,
        }))
    }

    /// The interface as it was when the program was attached.
    #[must_use]
    pub const fn interface(&self) -> &Interface {
        &self.interface
    }

    /// The mode that was chosen.
    #[must_use]
    pub const fn mode(&self) -> AttachMode {
        self.mode
    }

    /// Steers packets to another network of subscribers from now on.
    ///
    /// # Errors
    ///
    /// [`XdpError::Setting`] for a prefix that is none, or on an N3 program;
    /// [`XdpError::System`] when there are [`PREFIXES_MAX`] already.
    pub fn add_prefix(&self, network: IpAddr, prefix_len: u8) -> Result<(), XdpError> {
        let table = self.prefix_table(network, prefix_len)?;
        insert_prefix(table, &self.interface.name, network, prefix_len)
    }

    /// Leaves packets to a network to the kernel again.
    ///
    /// # Errors
    ///
    /// As [`add_prefix`](Self::add_prefix); [`XdpError::System`] for one that was not added.
    pub fn remove_prefix(&self, network: IpAddr, prefix_len: u8) -> Result<(), XdpError> {
        let table = self.prefix_table(network, prefix_len)?;
        table
            .remove(&program::prefix_key(network, prefix_len))
            .map_err(|source| XdpError::of("removing a prefix", &self.interface.name, source))
    }

    fn prefix_table(&self, network: IpAddr, prefix_len: u8) -> Result<&BpfMap, XdpError> {
        self.prefixes.as_ref().ok_or_else(|| XdpError::Setting {
            setting: "prefix",
            value: format!("{network}/{prefix_len}"),
            allowed: "prefixes are for N6 programs",
        })
    }

    /// Steers the packets of `queue` to a bound socket until that is closed.
    pub(super) fn serve(&self, queue: u32, socket: BorrowedFd<'_>) -> io::Result<()> {
        let socket = u32::try_from(socket.as_raw_fd()).unwrap_or(u32::MAX);
        self.sockets.insert(&queue.to_ne_bytes(), socket)
    }
}

/// Tries again while the system says that something is busy.
pub(super) fn retry_while_busy<T>(mut operation: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let mut left = BUSY_PATIENCE;
    loop {
        match operation() {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) && left > 0 => {
                left = left.saturating_sub(1);
                std::thread::sleep(BUSY_PAUSE);
            }
            result => return result,
        }
    }
}

/// Loads a program for `interface`.
pub(super) fn load(interface: &str, code: &[u64]) -> Result<OwnedFd, XdpError> {
    bpf::load_program("qlink_steering", code).map_err(|LoadError { source, log }| {
        let verdict = matches!(
            source.raw_os_error(),
            Some(libc::EINVAL | libc::EACCES | libc::E2BIG)
        );
        if verdict {
            XdpError::Program { log, source }
        } else {
            XdpError::of("loading the steering program", interface, source)
        }
    })
}

fn attach(
    program: BorrowedFd<'_>,
    interface: &Interface,
    choice: AttachChoice,
) -> Result<(OwnedFd, AttachMode), XdpError> {
    let link = |flag| retry_while_busy(|| bpf::attach(program, interface.index, flag));
    let refused = |source: io::Error| match source.raw_os_error() {
        Some(libc::EBUSY | libc::EEXIST) => XdpError::Occupied {
            interface: interface.name.clone(),
            source,
        },
        _ => XdpError::of("attaching the steering program", &interface.name, source),
    };
    let native = match choice {
        AttachChoice::Only(AttachMode::Generic) => None,
        _ => match link(AttachFlag::Native) {
            Ok(link) => return Ok((link, AttachMode::Native)),
            Err(error) => Some(error),
        },
    };
    if let Some(error) = native {
        let hopeless = matches!(
            error.raw_os_error(),
            Some(libc::EBUSY | libc::EEXIST | libc::EPERM)
        );
        if hopeless || choice == AttachChoice::Only(AttachMode::Native) {
            return Err(refused(error));
        }
        return match link(AttachFlag::Generic) {
            Ok(link) => Ok((link, AttachMode::Generic)),
            Err(source) => Err(XdpError::Attach {
                interface: interface.name.clone(),
                native: error,
                source,
            }),
        };
    }
    link(AttachFlag::Generic)
        .map(|link| (link, AttachMode::Generic))
        .map_err(refused)
}

fn check_endpoints(endpoints: &[IpAddr]) -> Result<(), XdpError> {
    let usable = |address: &IpAddr| !address.is_unspecified() && !address.is_multicast();
    if (1..=ENDPOINTS_MAX).contains(&endpoints.len()) && endpoints.iter().all(usable) {
        return Ok(());
    }
    Err(XdpError::Setting {
        setting: "N3 endpoints",
        value: format!("{endpoints:?}"),
        allowed: "1 to 32 unicast addresses of this machine",
    })
}

fn insert_prefix(
    table: &BpfMap,
    interface: &str,
    network: IpAddr,
    prefix_len: u8,
) -> Result<(), XdpError> {
    // An IPv6 prefix around ::ffff:0:0/96 would cover all of IPv4 in the table.
    let fits = match network {
        IpAddr::V4(_) => prefix_len <= 32,
        IpAddr::V6(address) => {
            let mapped = 0xffff_0000_0000_u128;
            let differing = (address.to_bits() ^ mapped).leading_zeros();
            let is_mapped = address.to_ipv4_mapped().is_some();
            prefix_len <= 128 && u32::from(prefix_len) > differing && !is_mapped
        }
    };
    if !fits {
        return Err(XdpError::Setting {
            setting: "prefix",
            value: format!("{network}/{prefix_len}"),
            allowed: "0 to 32 bits of IPv4; of IPv6 up to 128, without the IPv4-mapped addresses",
        });
    }
    table
        .insert(&program::prefix_key(network, prefix_len), 1)
        .map_err(|source| XdpError::of("adding a prefix", interface, source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_is_tried_again_and_every_other_refusal_is_final() {
        let mut tries = 0;
        let busy_twice = retry_while_busy(|| {
            tries += 1;
            match tries {
                3 => Ok(tries),
                _ => Err(io::Error::from_raw_os_error(libc::EBUSY)),
            }
        });
        let mut others = 0;
        let refused = retry_while_busy(|| {
            others += 1;
            Err::<(), _>(io::Error::from_raw_os_error(libc::EINVAL))
        });

        assert_eq!(busy_twice.unwrap(), 3);
        assert_eq!((refused.is_err(), others), (true, 1));
    }

    #[test]
    fn endpoints_must_be_addresses_that_packets_can_come_from() {
        for wrong in [
            vec![],
            vec!["0.0.0.0"],
            vec!["10.0.0.1", "ff02::1"],
            vec!["1.1.1.1"; 33],
        ] {
            let endpoints: Vec<IpAddr> = wrong.iter().map(|text| text.parse().unwrap()).collect();
            assert!(check_endpoints(&endpoints).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_prefix_that_would_swallow_ipv4_is_refused() {
        let Ok(table) = BpfMap::new(MapKind::Prefixes, 20, 16) else {
            println!("skipped: this process may not make BPF maps");
            return;
        };
        let insert = |text: &str, len| insert_prefix(&table, "eth0", text.parse().unwrap(), len);

        for (network, len, fits) in [
            ("10.0.0.0", 8, true),
            ("0.0.0.0", 0, true),
            ("10.0.0.0", 33, false),
            ("::", 0, false),
            ("::", 80, false),
            ("::ffff:10.0.0.0", 104, false),
            ("2000::", 3, true),
            ("fd00::", 129, false),
        ] {
            assert_eq!(insert(network, len).is_ok(), fits, "{network}/{len}");
        }
    }
}
