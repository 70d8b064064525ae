//! The addresses that this machine has itself, in the calling thread's network namespace.

use std::io;
use std::net::IpAddr;
use std::ptr;

use crate::sys::RawAddress;

/// Most addresses given (chosen: a gateway has some ten).
pub const ADDRESSES_MAX: usize = 256;

/// The list that the system allocated; given back when dropped.
struct List(*mut libc::ifaddrs);

impl Drop for List {
    fn drop(&mut self) {
        // SAFETY: the pointer came from `getifaddrs` and is freed once, here.
        unsafe { libc::freeifaddrs(self.0) };
    }
}

/// Every address of every interface, loopback included, each once, sorted.
///
/// # Errors
///
/// The system's reason, or `OutOfMemory` for more than [`ADDRESSES_MAX`] addresses: a list that
/// leaves some out would be taken for all of them.
pub fn own_addresses() -> io::Result<Vec<IpAddr>> {
    let mut first = ptr::null_mut();
    // SAFETY: the system writes one pointer into a live pointer of the right type.
    let status = unsafe { libc::getifaddrs(&raw mut first) };
    if status != 0 {
        return Err(io::Error::last_os_error());
    }
    let list = List(first);
    let mut addresses = Vec::new();
    let mut next = list.0;
    while !next.is_null() {
        // SAFETY: a non-null link of a list from `getifaddrs` points to a valid entry until the
        // list is freed, which `list` does after this loop.
        let entry = unsafe { &*next };
        addresses.extend(ip_of(entry));
        next = entry.ifa_next;
    }
    addresses.sort_unstable();
    addresses.dedup();
    if addresses.len() > ADDRESSES_MAX {
        return Err(io::ErrorKind::OutOfMemory.into());
    }
    Ok(addresses)
}

/// The IP address of an entry; `None` for link-layer addresses and interfaces without address.
fn ip_of(entry: &libc::ifaddrs) -> Option<IpAddr> {
    let address = entry.ifa_addr;
    if address.is_null() {
        return None;
    }
    // SAFETY: a non-null address of an entry has at least a family.
    let family = libc::c_int::from(unsafe { (*address).sa_family });
    let length = match family {
        libc::AF_INET => size_of::<libc::sockaddr_in>(),
        libc::AF_INET6 => size_of::<libc::sockaddr_in6>(),
        _ => return None,
    };
    let mut raw = RawAddress::EMPTY;
    // SAFETY: an address of this family is `length` bytes long, `raw` has room for the longer of
    // the two and is another object, and every bit pattern is valid for it.
    unsafe {
        ptr::copy_nonoverlapping(address.cast::<u8>(), (&raw mut raw).cast::<u8>(), length);
    }
    raw.to_socket_addr().map(|address| address.ip())
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, UdpSocket};

    use super::*;

    #[test]
    fn every_address_given_can_be_bound_and_loopback_is_among_them() {
        let addresses = own_addresses().unwrap();

        assert!(addresses.contains(&Ipv4Addr::LOCALHOST.into()));
        for address in addresses {
            // A link-local IPv6 address needs its interface too; the rest is ours or it fails.
            let local = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
            assert!(local || UdpSocket::bind((address, 0)).is_ok(), "{address}");
        }
    }
}
