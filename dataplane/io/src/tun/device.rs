//! The character device and the few settings of its interface, by `ioctl`.

use std::fs::{File, OpenOptions};
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::time::Duration;

use super::config::{TunAddress, TunConfig, TunMtu};
use crate::sys::family;

/// Where the kernel gives out TUN interfaces. Source: networking/tuntap of the kernel's guide.
const DEVICE: &str = "/dev/net/tun";

/// Packets that may wait for us in the interface's queue, where that may be set (chosen: 4 MB of
/// 1 KB packets; the kernel's 500 overflow on one burst of a fast sender).
const QUEUE_PACKETS: libc::c_int = 4096;

/// Attempts to take a name, and the pause between them. A name stays taken for some 10 ms after the
/// process that had it ended (measured), so a restart finds it free within these 2 s (chosen).
const TAKE_ATTEMPTS: u32 = 40;
const TAKE_PAUSE: Duration = Duration::from_millis(50);

/// Why an interface could not be opened or set up.
#[derive(Debug, thiserror::Error)]
pub enum TunError {
    /// The kernel has no TUN driver, or the container has no device node.
    #[error("{DEVICE} is missing: load the kernel module tun or pass the device in")]
    NoDriver(#[source] io::Error),
    /// The process lacks `CAP_NET_ADMIN` or may not open the device.
    #[error("{operation} is not permitted: it needs CAP_NET_ADMIN and {DEVICE}")]
    NotPermitted {
        /// What was tried.
        operation: &'static str,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// Another process has the interface.
    #[error("interface {name} is in use by another process")]
    Busy {
        /// Its name.
        name: String,
    },
    /// Anything else, for example a name that another kind of interface has.
    #[error("{operation} failed for interface {name}")]
    Setup {
        /// What was tried.
        operation: &'static str,
        /// The interface.
        name: String,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
}

impl TunError {
    pub(super) fn of(operation: &'static str, name: &str, source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Self::NotPermitted { operation, source },
            Some(libc::EBUSY) => Self::Busy {
                name: name.to_owned(),
            },
            _ => Self::Setup {
                operation,
                name: name.to_owned(),
                source,
            },
        }
    }
}

/// `struct ifreq`: a name and a value whose kind belongs to the request. Source: netdevice(7).
#[repr(C)]
#[derive(Clone, Copy)]
struct InterfaceRequest {
    name: [u8; libc::IFNAMSIZ],
    /// As long as the longest kind of value, a `struct ifmap`, on 64-bit systems.
    value: [u8; 24],
}

impl InterfaceRequest {
    fn new(name: &str) -> Self {
        let mut request = Self {
            name: [0; libc::IFNAMSIZ],
            value: [0; 24],
        };
        // The last byte stays zero.
        let places = request.name.iter_mut().take(libc::IFNAMSIZ - 1);
        for (place, byte) in places.zip(name.bytes()) {
            *place = byte;
        }
        request
    }

    fn with(mut self, value: &[u8]) -> Self {
        for (place, byte) in self.value.iter_mut().zip(value) {
            *place = *byte;
        }
        self
    }

    fn flags(&self) -> libc::c_short {
        let [first, second, ..] = self.value;
        libc::c_short::from_ne_bytes([first, second])
    }

    fn name(&self) -> String {
        let name = self.name.split(|byte| *byte == 0).next();
        String::from_utf8_lossy(name.unwrap_or_default()).into_owned()
    }
}

/// Opens the device and attaches it to the interface of `config`, which is made if it is not there;
/// the name that it has comes back.
pub(super) fn open(config: &TunConfig) -> Result<(File, String), TunError> {
    let device = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(DEVICE)
        .map_err(|error| match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENXIO | libc::ENODEV) => TunError::NoDriver(error),
            _ => TunError::of("opening the device", config.name.as_str(), error),
        })?;
    let name = attach(&device, config.name.as_str())?;
    if let Some((mtu, address)) = config.setup() {
        set_up(&name, mtu, address)?;
    }
    Ok((device, name))
}

fn attach(device: &File, name: &str) -> Result<String, TunError> {
    let flags = libc::IFF_TUN | libc::IFF_NO_PI;
    let wanted = InterfaceRequest::new(name).with(&flags.to_ne_bytes());
    let mut attempts = 1;
    loop {
        let mut request = wanted;
        match ioctl(device.as_raw_fd(), libc::TUNSETIFF, &mut request) {
            Ok(()) => return Ok(request.name()),
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) && attempts < TAKE_ATTEMPTS => {
                attempts = attempts.saturating_add(1);
                std::thread::sleep(TAKE_PAUSE);
            }
            Err(error) => return Err(TunError::of("taking the interface", name, error)),
        }
    }
}

/// Sets MTU, queue length and address, and brings the interface up.
fn set_up(name: &str, mtu: TunMtu, address: Option<TunAddress>) -> Result<(), TunError> {
    let failed =
        |operation: &'static str| move |error: io::Error| TunError::of(operation, name, error);
    // Any socket will do: interface requests are answered by the socket's network namespace.
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).map_err(failed("opening a socket"))?;
    let set = |operation: &'static str, number: libc::Ioctl, value: &[u8]| {
        let mut request = InterfaceRequest::new(name).with(value);
        ioctl(socket.as_raw_fd(), number, &mut request).map_err(failed(operation))?;
        Ok(request)
    };
    let bytes = libc::c_int::from(mtu.get()).to_ne_bytes();
    set("setting the MTU", libc::SIOCSIFMTU, &bytes)?;
    // Not allowed in a user namespace; the kernel's own length works too.
    let packets = QUEUE_PACKETS.to_ne_bytes();
    let _ = set("setting the queue length", libc::SIOCSIFTXQLEN, &packets);
    if let Some(address) = address {
        let (own, mask) = (socket_address(address.ip()), socket_address(address.mask()));
        set("setting the address", libc::SIOCSIFADDR, &own)?;
        set("setting the prefix", libc::SIOCSIFNETMASK, &mask)?;
    }
    let flags = set("reading the flags", libc::SIOCGIFFLAGS, &[])?.flags();
    let up = libc::c_short::try_from(libc::IFF_UP).unwrap_or_default();
    let flags = (flags | up).to_ne_bytes();
    set("bringing up", libc::SIOCSIFFLAGS, &flags).map(drop)
}

/// A `struct sockaddr_in` without a port.
fn socket_address(address: Ipv4Addr) -> [u8; 8] {
    let [first, second] = family(libc::AF_INET).to_ne_bytes();
    let [a, b, c, d] = address.octets();
    [first, second, 0, 0, a, b, c, d]
}

fn ioctl(
    descriptor: libc::c_int,
    number: libc::Ioctl,
    request: &mut InterfaceRequest,
) -> io::Result<()> {
    // SAFETY: every number passed in this module takes a pointer to a `struct ifreq`; `request` has
    // its layout and at least its length, is fully initialised and borrowed mutably for the call.
    let status = unsafe { libc::ioctl(descriptor, number, std::ptr::from_mut(request)) };
    if status < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// One `writev` of head and body: one packet. Bytes taken.
pub(super) fn write_packet(device: BorrowedFd<'_>, head: &[u8], body: &[u8]) -> io::Result<usize> {
    let vector = |bytes: &[u8]| libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    let vectors = [vector(head), vector(body)];
    // SAFETY: both vectors describe borrowed bytes that live during the call, which only reads
    // them; the count is that of the array; the descriptor is open while it is borrowed.
    let written = unsafe { libc::writev(device.as_raw_fd(), vectors.as_ptr(), 2) };
    usize::try_from(written).map_err(|_| io::Error::last_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_errors_become_the_cause_that_helps() {
        let of =
            |number| TunError::of("trying", "q0", io::Error::from_raw_os_error(number)).to_string();

        assert!(of(libc::EPERM).contains("CAP_NET_ADMIN"));
        assert!(of(libc::EACCES).contains("CAP_NET_ADMIN"));
        assert_eq!(of(libc::EBUSY), "interface q0 is in use by another process");
        assert_eq!(of(libc::EINVAL), "trying failed for interface q0");
    }

    #[test]
    fn a_request_has_the_systems_layout() {
        assert_eq!(
            size_of::<InterfaceRequest>(),
            size_of::<libc::ifreq>().max(40)
        );
        assert_eq!(
            InterfaceRequest::new("a name that is too long")
                .name()
                .len(),
            15
        );
    }
}
