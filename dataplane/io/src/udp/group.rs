//! Several UDP ports on one address, one for each worker.
//!
//! The kernel spreads datagrams over the sockets of an address; for GTP-U a classic BPF program of
//! four instructions has it choose by the TEID's upper four bits, which name the worker that owns
//! the session. No privilege is needed.

use std::io;
use std::mem::size_of;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use qlink_wire::LinkType;

use super::endpoint::Endpoint;
use super::options::UdpOptions;
use super::port::{Port, Transport};
use crate::IoError;
use crate::sys::{self, RawAddress};

/// How the kernel chooses the socket of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Steering {
    /// By the upper four bits of the TEID of a GTP-U packet, modulo the group's size.
    Teid,
    /// By addresses and ports.
    Flow,
}

#[expect(private_bounds, reason = "only this crate's transports are ports")]
impl<T: Transport> Port<T> {
    /// Binds `count` ports (at least one) to `address`; port 0 chooses one for all.
    ///
    /// # Errors
    ///
    /// [`IoError::Socket`] when the address cannot be bound or the steering is refused.
    pub fn bind_group(
        address: SocketAddr,
        link: LinkType,
        (count, steering): (u8, Steering),
        options: UdpOptions,
    ) -> Result<Vec<Self>, IoError> {
        if count <= 1 {
            return Ok(vec![Self::bind_with(address, link, options)?]);
        }
        let mut address = address;
        let mut ports = Vec::with_capacity(count.into());
        for _ in 0..count {
            let socket = shared_socket(&address).map_err(|source| IoError::Socket {
                operation: "bind",
                address,
                source,
            })?;
            let port = Self::on(Endpoint::on(socket, address, options)?, link)?;
            address = port.local_addr();
            ports.push(port);
        }
        if let (Steering::Teid, Some(port)) = (steering, ports.first()) {
            steer_by_teid(port.as_fd(), count).map_err(|source| IoError::Socket {
                operation: "steer by TEID",
                address,
                source,
            })?;
        }
        Ok(ports)
    }
}

/// A bound socket that lets others of this user bind to its address too.
fn shared_socket(address: &SocketAddr) -> io::Result<UdpSocket> {
    let family = match address {
        SocketAddr::V4(_) => libc::AF_INET,
        SocketAddr::V6(_) => libc::AF_INET6,
    };
    // SAFETY: a call without pointers.
    let raw = unsafe { libc::socket(family, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if raw < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made and belongs to nobody else.
    let socket = unsafe { OwnedFd::from_raw_fd(raw) };
    sys::set_option(socket.as_fd(), libc::SO_REUSEPORT, 1)?;
    let (raw_address, length) = RawAddress::new(address);
    let pointer = (&raw const raw_address).cast::<libc::sockaddr>();
    // SAFETY: `pointer` leads to a live address of `length` bytes, which the call only reads.
    let status = unsafe { libc::bind(socket.as_raw_fd(), pointer, length) };
    if status != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(UdpSocket::from(socket))
}

/// An instruction of classic BPF.
fn instruction(code: u32, k: u32) -> libc::sock_filter {
    libc::sock_filter {
        code: u16::try_from(code).unwrap_or(0),
        jt: 0,
        jf: 0,
        k,
    }
}

/// Loads the word at byte 4 of the UDP payload, the TEID; its upper four bits modulo `count` are
/// the socket's number. A shorter payload goes to socket 0.
fn steer_by_teid(socket: BorrowedFd<'_>, count: u8) -> io::Result<()> {
    let program = [
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 4),
        instruction(libc::BPF_ALU | libc::BPF_RSH | libc::BPF_K, 28),
        instruction(libc::BPF_ALU | libc::BPF_MOD | libc::BPF_K, count.into()),
        instruction(libc::BPF_RET | BPF_A, 0),
    ];
    let filter = libc::sock_fprog {
        len: u16::try_from(program.len()).unwrap_or(0),
        filter: program.as_ptr().cast_mut(),
    };
    let length = libc::socklen_t::try_from(size_of::<libc::sock_fprog>()).unwrap_or(0);
    // SAFETY: the option's value is a program header of `length` bytes that points to
    // `program.len()` live instructions; the kernel copies both and writes to neither.
    let status = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            (&raw const filter).cast(),
            length,
        )
    };
    if status == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Return the accumulator. Source: linux/filter.h.
const BPF_A: u32 = 0x10;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::udp::UdpPort;
    use crate::{Burst, PacketSource as _};

    #[test]
    fn a_tunnel_packet_reaches_the_worker_that_its_teid_names() {
        let address = "127.0.0.1:0".parse().unwrap();
        let options = UdpOptions::default();
        let mut group =
            UdpPort::bind_group(address, LinkType::RawIp, (3, Steering::Teid), options).unwrap();
        let to = group[0].local_addr();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();

        for shard in [0_u8, 1, 2, 4, 1] {
            sender
                .send_to(&[0x30, 255, 0, 0, shard << 4, 0, 0, 9], to)
                .unwrap();
        }
        sender.send_to(&[1, 2, 3], to).unwrap();

        let mut burst = Burst::new();
        for (port, expected) in group.iter_mut().zip([2, 3, 1]) {
            let mut seen = 0;
            while port.poll(Some(Duration::from_millis(200))).unwrap() {
                seen += port.recv_burst(&mut burst).unwrap();
            }
            assert_eq!(seen, expected);
        }
    }
}
