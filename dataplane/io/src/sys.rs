//! The system calls that several modules share, as safe functions.

use std::io;
use std::mem::size_of;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;
use std::time::Duration;

/// Waits for events; a signal ends the wait like a timeout. Returns how many entries are ready.
pub(crate) fn poll(
    polled: &mut [libc::pollfd],
    timeout: Option<Duration>,
) -> io::Result<libc::c_int> {
    let limit = timeout.map(|timeout| libc::timespec {
        tv_sec: libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    });
    let limit = limit.as_ref().map_or(ptr::null(), ptr::from_ref);
    let count = polled.len() as libc::nfds_t;
    // SAFETY: `polled` is a writable array of `count` entries, `limit` is null or points to a
    // timespec that lives until the end of this function, and a null signal mask changes none.
    let ready = unsafe { libc::ppoll(polled.as_mut_ptr(), count, limit, ptr::null()) };
    match ready {
        0.. => Ok(ready),
        _ => match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::Interrupted => Ok(0),
            error => Err(error),
        },
    }
}

/// Size of a socket structure in the system's type.
#[expect(
    clippy::cast_possible_truncation,
    reason = "socket structures have some 100 bytes"
)]
pub(crate) const fn length_of<T>() -> libc::socklen_t {
    size_of::<T>() as libc::socklen_t
}

/// An address family in the type that addresses use.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "address families are small positive constants"
)]
pub(crate) const fn family(constant: libc::c_int) -> libc::sa_family_t {
    constant as libc::sa_family_t
}

/// Sets an integer option of the socket level.
pub(crate) fn set_option(
    socket: BorrowedFd<'_>,
    option: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    set_option_at(socket, libc::SOL_SOCKET, option, &value)
}

/// Sets an option of any level; `value` has the type that the option's documentation names.
pub(crate) fn set_option_at<T: Copy>(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    option: libc::c_int,
    value: &T,
) -> io::Result<()> {
    let length = length_of::<T>();
    // SAFETY: the descriptor is open while it is borrowed, and the value is a live object of
    // exactly `length` bytes, which the system only reads.
    let status = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            ptr::from_ref(value).cast(),
            length,
        )
    };
    if status == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Reads an integer option of the socket level.
pub(crate) fn get_option(socket: BorrowedFd<'_>, option: libc::c_int) -> io::Result<libc::c_int> {
    let [value] = get_integers(socket, libc::SOL_SOCKET, option, [0_u32])?;
    Ok(value.cast_signed())
}

/// Reads an option that consists of `N` 32-bit integers; what the system does not write stays as
/// in `values`.
pub(crate) fn get_integers<const N: usize>(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    option: libc::c_int,
    mut values: [u32; N],
) -> io::Result<[u32; N]> {
    let mut length = length_of::<[u32; N]>();
    // SAFETY: the descriptor is open while it is borrowed; `values` is writable for `length` bytes
    // and any of them are valid integers; `length` itself is writable.
    let status = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            level,
            option,
            values.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if status == 0 {
        Ok(values)
    } else {
        Err(io::Error::last_os_error())
    }
}

/// An IP socket address in the system's layout; large enough for IPv6.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) union RawAddress {
    v4: libc::sockaddr_in,
    pub(crate) v6: libc::sockaddr_in6,
}

impl RawAddress {
    /// Bytes that the system may write.
    pub(crate) const CAPACITY: libc::socklen_t = length_of::<Self>();

    /// All zero: family 0, which is no address.
    pub(crate) const EMPTY: Self = Self {
        v6: libc::sockaddr_in6 {
            sin6_family: 0,
            sin6_port: 0,
            sin6_flowinfo: 0,
            sin6_addr: libc::in6_addr { s6_addr: [0; 16] },
            sin6_scope_id: 0,
        },
    };

    /// The system's form of `address` and its length in bytes.
    pub(crate) fn new(address: &SocketAddr) -> (Self, libc::socklen_t) {
        match address {
            SocketAddr::V4(address) => (Self::from_v4(address), length_of::<libc::sockaddr_in>()),
            SocketAddr::V6(address) => (Self::from_v6(address), length_of::<libc::sockaddr_in6>()),
        }
    }

    fn from_v4(address: &SocketAddrV4) -> Self {
        let mut raw = Self::EMPTY;
        raw.v4 = libc::sockaddr_in {
            sin_family: family(libc::AF_INET),
            sin_port: address.port().to_be(),
            sin_addr: libc::in_addr {
                s_addr: u32::from_ne_bytes(address.ip().octets()),
            },
            sin_zero: [0; 8],
        };
        raw
    }

    fn from_v6(address: &SocketAddrV6) -> Self {
        Self {
            v6: libc::sockaddr_in6 {
                sin6_family: family(libc::AF_INET6),
                sin6_port: address.port().to_be(),
                sin6_flowinfo: address.flowinfo(),
                sin6_addr: libc::in6_addr {
                    s6_addr: address.ip().octets(),
                },
                sin6_scope_id: address.scope_id(),
            },
        }
    }

    /// The address in `bytes`, which the system wrote; what is cut off is 0.
    #[cfg(feature = "uring")]
    pub(crate) fn from_bytes(bytes: &[u8]) -> Self {
        let mut whole = [0; size_of::<Self>()];
        for (place, byte) in whole.iter_mut().zip(bytes) {
            *place = *byte;
        }
        // SAFETY: both variants consist of integers without padding between or behind them, so
        // every bit pattern of the same size is valid.
        unsafe { std::mem::transmute::<[u8; size_of::<Self>()], Self>(whole) }
    }

    /// The address, IPv4-mapped IPv6 as IPv4; `None` for another family.
    pub(crate) fn to_socket_addr(self) -> Option<SocketAddr> {
        // SAFETY: every bit pattern is a valid `sockaddr_in6` (plain integers), the whole union is
        // initialised, and the family stands at the same place in both variants.
        let v6 = unsafe { self.v6 };
        match libc::c_int::from(v6.sin6_family) {
            libc::AF_INET => {
                // SAFETY: every bit pattern is a valid `sockaddr_in`, all integers.
                let v4 = unsafe { self.v4 };
                let ip = Ipv4Addr::from(v4.sin_addr.s_addr.to_ne_bytes());
                Some(SocketAddr::from((ip, u16::from_be(v4.sin_port))))
            }
            libc::AF_INET6 => {
                let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
                let port = u16::from_be(v6.sin6_port);
                Some(ip.to_ipv4_mapped().map_or_else(
                    || SocketAddrV6::new(ip, port, v6.sin6_flowinfo, v6.sin6_scope_id).into(),
                    |ip| SocketAddr::from((ip, port)),
                ))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_the_system_layout() {
        for text in ["127.1.2.3:2152", "[2001:db8::1]:8805", "[fe80::1%3]:9"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(RawAddress::new(&address).0.to_socket_addr(), Some(address));
        }
    }

    #[test]
    fn a_mapped_address_becomes_ipv4() {
        let mapped: SocketAddr = "[::ffff:10.0.0.1]:53".parse().unwrap();

        let plain = RawAddress::new(&mapped).0.to_socket_addr();

        assert_eq!(plain, Some("10.0.0.1:53".parse().unwrap()));
        assert_eq!(RawAddress::EMPTY.to_socket_addr(), None);
    }
}
