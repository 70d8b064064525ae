//! Which packet back ends can run here and now, and if not, why and what helps.
//!
//! Every answer comes from trying the real thing in this process: the socket, the option, the
//! ring. Nothing is left behind: no interface, no file, no changed setting. An answer is about this
//! moment; the back end itself may still fail later.

use std::fmt;
use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};

use crate::packet::socket::try_ring;
use crate::udp::endpoint::{join_received, knows_trains};

/// A packet back end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum BackEnd {
    /// Datagrams through a socket, [`crate::udp`].
    Udp,
    /// A TUN interface.
    Tun,
    /// A passive tap, [`crate::packet`].
    Packet,
    /// Datagrams through io_uring.
    Uring,
    /// AF_XDP.
    Xdp,
    /// DPDK.
    Dpdk,
}

/// Whether a back end can run.
#[derive(Debug)]
pub enum Availability {
    /// It can.
    Usable,
    /// It cannot.
    Unusable(Obstacle),
}

/// Why a back end cannot run.
#[derive(Debug)]
pub struct Obstacle {
    /// What is missing, for example `no right to open packet sockets`.
    pub reason: &'static str,
    /// What the system said, where it was asked.
    pub error: Option<io::Error>,
    /// What an operator can do.
    pub fix: &'static str,
}

impl fmt::Display for Obstacle {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { reason, error, fix } = self;
        match error {
            Some(error) => write!(formatter, "{reason} ({error}): {fix}"),
            None => write!(formatter, "{reason}: {fix}"),
        }
    }
}

impl Availability {
    /// Whether the back end can run.
    #[must_use]
    pub const fn is_usable(&self) -> bool {
        matches!(self, Self::Usable)
    }

    /// `Usable` for a success; for an error, what `explain` makes of its number.
    fn of<T>(
        result: io::Result<T>,
        explain: impl FnOnce(Option<i32>) -> (&'static str, &'static str),
    ) -> Self {
        match result {
            Ok(_) => Self::Usable,
            Err(error) => {
                let (reason, fix) = explain(error.raw_os_error());
                Self::Unusable(Obstacle {
                    reason,
                    error: Some(error),
                    fix,
                })
            }
        }
    }

    /// A back end that this program was built without.
    #[cfg(not(all(feature = "uring", feature = "dpdk")))]
    const fn not_built(fix: &'static str) -> Self {
        Self::Unusable(Obstacle {
            reason: "not built in",
            error: None,
            fix,
        })
    }
}

/// Frames that a port of the data plane would take, 2 KiB each.
const XDP_FRAMES: u32 = 2048;

impl BackEnd {
    /// Every back end, the one that runs everywhere first.
    pub const ALL: [Self; 6] = [
        Self::Udp,
        Self::Tun,
        Self::Packet,
        Self::Uring,
        Self::Xdp,
        Self::Dpdk,
    ];

    /// The name in configuration and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tun => "tun",
            Self::Packet => "packet",
            Self::Uring => "uring",
            Self::Xdp => "xdp",
            Self::Dpdk => "dpdk",
        }
    }

    /// Whether the back end can run here and now.
    #[must_use]
    pub fn probe(self) -> Availability {
        match self {
            Self::Udp => udp(),
            Self::Tun => tun(),
            Self::Packet => packet(),
            Self::Uring => uring(),
            Self::Xdp => xdp(),
            Self::Dpdk => dpdk(),
        }
    }
}

/// Whether datagrams can be carried in trains ([`crate::udp::Offload::Segmentation`]); `udp` and
/// `uring` work without, at a quarter of the speed.
#[must_use]
pub fn udp_offload() -> Availability {
    let tried = open_udp().and_then(|socket| {
        join_received(socket.as_fd())?;
        knows_trains(socket.as_fd())
    });
    Availability::of(tried, |_| {
        (
            "no UDP segmentation offload (UDP_GRO, UDP_SEGMENT)",
            "use Linux 5.0 or newer",
        )
    })
}

fn udp() -> Availability {
    Availability::of(open_udp(), |errno| match errno {
        Some(libc::EMFILE | libc::ENFILE) => ("too many open files", "raise LimitNOFILE"),
        _ => (
            "no UDP socket on loopback",
            "bring the interface lo up, and allow AF_INET in the service's sandbox",
        ),
    })
}

fn open_udp() -> io::Result<UdpSocket> {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))
        .or_else(|error| UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).map_err(|_| error))
}

fn tun() -> Availability {
    let file = File::options().read(true).write(true).open("/dev/net/tun");
    let tried = file.and_then(|file| may_make_interfaces(&file));
    Availability::of(tried, |errno| match errno {
        Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => (
            "no /dev/net/tun",
            "load the module (modprobe tun), or give the container the device",
        ),
        Some(libc::EACCES | libc::EPERM) => (
            "no right to make TUN interfaces",
            "give CAP_NET_ADMIN (AmbientCapabilities=CAP_NET_ADMIN), or run in a user namespace",
        ),
        _ => ("no TUN interfaces", "use a kernel with CONFIG_TUN"),
    })
}

/// Asks for an interface that is neither TUN nor TAP. The kernel looks at the right to make one
/// before it refuses that as `EINVAL`, so that no interface comes to be.
fn may_make_interfaces(file: &File) -> io::Result<()> {
    // SAFETY: `ifreq` consists of integers, arrays and pointers, for which all zero is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // SAFETY: the file is open while it is borrowed, and the request is a live `ifreq`.
    let status = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    match io::Error::last_os_error() {
        _ if status == 0 => Ok(()),
        error if error.raw_os_error() == Some(libc::EINVAL) => Ok(()),
        error => Err(error),
    }
}

fn packet() -> Availability {
    Availability::of(try_ring(), |errno| match errno {
        Some(libc::EPERM | libc::EACCES) => (
            "no right to open packet sockets",
            "give CAP_NET_RAW (AmbientCapabilities=CAP_NET_RAW), or run in a user namespace",
        ),
        Some(libc::EAFNOSUPPORT) => (
            "no packet sockets",
            "load the module (modprobe af_packet), and allow AF_PACKET in the service's sandbox",
        ),
        Some(libc::ENOMEM | libc::ENOBUFS) => ("no memory for a ring", "free memory"),
        _ => ("no TPACKET_V3 ring", "use Linux 3.2 or newer"),
    })
}

#[cfg(feature = "uring")]
fn uring() -> Availability {
    Availability::of(crate::uring::available(), |errno| match errno {
        Some(libc::EPERM | libc::EACCES) => (
            "io_uring is forbidden",
            "set sysctl kernel.io_uring_disabled=0, and allow io_uring_setup in the seccomp profile",
        ),
        Some(libc::ENOMEM | libc::EMFILE | libc::ENFILE) => (
            "no memory or descriptor for io_uring",
            "raise LimitMEMLOCK and LimitNOFILE",
        ),
        Some(libc::ENOSYS) => ("no io_uring", "use a kernel with CONFIG_IO_URING"),
        _ => ("io_uring is too old", "use Linux 6.1 or newer"),
    })
}

#[cfg(not(feature = "uring"))]
const fn uring() -> Availability {
    Availability::not_built("build with the feature uring")
}

/// Asked on the loopback interface: what a real one supports beyond that, its driver decides.
fn xdp() -> Availability {
    let asked = crate::xdp::available("lo", XDP_FRAMES);
    Availability::of(
        asked.map_err(|error| io::Error::other(error.to_string())),
        |_| {
            (
                "AF_XDP cannot be used",
                "give CAP_NET_RAW, CAP_NET_ADMIN and CAP_BPF, and raise LimitMEMLOCK to 16 MiB",
            )
        },
    )
}

/// About cards: virtual devices run wherever the back end is built in.
#[cfg(feature = "dpdk")]
fn dpdk() -> Availability {
    use crate::dpdk::{Missing, missing_for_cards};

    let (reason, error, fix) = match missing_for_cards() {
        None => return Availability::Usable,
        Some(Missing::Vfio(error)) => (
            "no VFIO for cards",
            Some(error),
            "turn the IOMMU on, modprobe vfio-pci, give the user /dev/vfio/*; virtual devices run",
        ),
        Some(Missing::Card) => (
            "no card is bound to VFIO",
            None,
            "dpdk-devbind.py -b vfio-pci ADDRESS; virtual devices run",
        ),
        Some(Missing::HugePages) => (
            "no free huge pages for cards",
            None,
            "sysctl vm.nr_hugepages=512; virtual devices run",
        ),
    };
    Availability::Unusable(Obstacle { reason, error, fix })
}

#[cfg(not(feature = "dpdk"))]
const fn dpdk() -> Availability {
    Availability::not_built("install libdpdk-dev and build with the feature dpdk")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::{fs, ptr, thread};

    use qlink_wire::LinkType;

    use super::*;
    use crate::netns::in_namespace;
    use crate::packet::{PacketTap, TapConfig};
    use crate::udp::UdpPort;

    #[test]
    fn answers_agree_with_the_back_ends_themselves() {
        in_namespace(|| {
            let address = "127.0.0.1:0".parse().unwrap();
            let port = UdpPort::bind(address, LinkType::RawIp);
            assert_eq!(BackEnd::Udp.probe().is_usable(), port.is_ok());
            let tap = PacketTap::open(&TapConfig::new("lo"));
            assert_eq!(BackEnd::Packet.probe().is_usable(), tap.is_ok());
            assert!(udp_offload().is_usable() && BackEnd::Tun.probe().is_usable());
        });
    }

    #[cfg(feature = "uring")]
    #[test]
    fn the_answer_about_io_uring_agrees_with_the_port() {
        let address = "127.0.0.1:0".parse().unwrap();
        let port = crate::uring::UringPort::bind_with(
            address,
            LinkType::RawIp,
            crate::udp::UdpOptions::default(),
        );

        assert_eq!(BackEnd::Uring.probe().is_usable(), port.is_ok());
    }

    #[test]
    fn probing_makes_no_interface() {
        in_namespace(|| {
            let interfaces = || fs::read_to_string("/proc/thread-self/net/dev").unwrap();
            let names = |text: String| -> BTreeSet<String> {
                let name = |line: &str| line.split(':').next().unwrap().trim().to_owned();
                text.lines().skip(2).map(name).collect()
            };
            let before = names(interfaces());

            for back_end in BackEnd::ALL {
                let _ = back_end.probe();
            }
            let _ = udp_offload();

            assert_eq!(names(interfaces()), before);
        });
    }

    #[test]
    fn without_privileges_the_answer_says_which_one_is_missing() {
        let answers = thread::spawn(|| {
            give_up_capabilities();
            BackEnd::ALL.map(|back_end| (back_end, back_end.probe()))
        });

        for (back_end, answer) in answers.join().unwrap() {
            let text = match answer {
                Availability::Usable => String::new(),
                Availability::Unusable(obstacle) => obstacle.to_string(),
            };
            match back_end {
                BackEnd::Udp => assert_eq!(text, ""),
                BackEnd::Tun => assert!(text.contains("CAP_NET_ADMIN"), "{text}"),
                BackEnd::Packet => assert!(text.contains("CAP_NET_RAW"), "{text}"),
                BackEnd::Uring | BackEnd::Xdp | BackEnd::Dpdk => {}
            }
        }
    }

    /// Takes every capability from this thread.
    fn give_up_capabilities() {
        // Version 3, thread 0 = the caller; three sets of two words each, all empty.
        let header = [0x2008_0522_u32, 0];
        let sets = [0_u32; 6];
        // SAFETY: both arrays have the layouts of `capset(2)` and live during the call.
        let status = unsafe {
            libc::syscall(
                libc::SYS_capset,
                header.as_ptr(),
                sets.as_ptr(),
                ptr::null::<u8>(),
            )
        };
        assert_eq!(status, 0, "{}", io::Error::last_os_error());
    }

    #[test]
    fn names_are_unique() {
        let names: BTreeSet<&str> = BackEnd::ALL.map(BackEnd::name).into_iter().collect();

        assert_eq!(names.len(), BackEnd::ALL.len());
    }
}
