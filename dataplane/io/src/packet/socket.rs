//! The packet socket's system calls, as safe functions.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use qlink_wire::LinkType;

use super::filter::{self, Start};
use super::ring::Ring;
use super::tap::{BLOCK_BYTES_MAX, BLOCK_BYTES_MIN, BLOCKS_MAX, TapConfig};
use crate::sys::{self, length_of};

/// An interface as the kernel knows it.
pub(super) struct Interface {
    pub(super) index: libc::c_int,
    /// `ARPHRD_*`.
    hardware: libc::sa_family_t,
}

impl Interface {
    pub(super) fn find(socket: BorrowedFd<'_>, name: &str) -> io::Result<Self> {
        let index = ask(socket, libc::SIOCGIFINDEX, name)?;
        let hardware = ask(socket, libc::SIOCGIFHWADDR, name)?;
        Ok(Self {
            // SAFETY: SIOCGIFINDEX succeeded, so this member is the one written.
            index: unsafe { index.ifr_ifru.ifru_ifindex },
            // SAFETY: SIOCGIFHWADDR succeeded, so this member is the one written.
            hardware: unsafe { hardware.ifr_ifru.ifru_hwaddr.sa_family },
        })
    }

    /// What frames of the interface begin with. Others have headers of their own (radio, ATM).
    pub(super) fn link(&self) -> io::Result<LinkType> {
        match self.hardware {
            libc::ARPHRD_ETHER | libc::ARPHRD_LOOPBACK => Ok(LinkType::Ethernet),
            libc::ARPHRD_NONE
            | ARPHRD_RAWIP
            | libc::ARPHRD_PPP
            | libc::ARPHRD_TUNNEL
            | libc::ARPHRD_TUNNEL6
            | libc::ARPHRD_SIT
            | libc::ARPHRD_IPGRE
            | ARPHRD_IP6GRE => Ok(LinkType::RawIp),
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

/// Missing from the `libc` crate; `linux/if_arp.h`.
const ARPHRD_RAWIP: libc::sa_family_t = 519;
/// Missing from the `libc` crate; `linux/if_arp.h`.
const ARPHRD_IP6GRE: libc::sa_family_t = 823;

/// Asks the kernel about the interface of this name.
fn ask(socket: BorrowedFd<'_>, what: libc::c_ulong, name: &str) -> io::Result<libc::ifreq> {
    // SAFETY: `ifreq` consists of integers, arrays and pointers, for which all zero is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // The last byte stays 0.
    if name.is_empty() || name.len() >= request.ifr_name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (place, byte) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *place = libc::c_char::from_ne_bytes([byte]);
    }
    // SAFETY: the descriptor is open while it is borrowed, and both requests used here read the
    // name from and write into a live `ifreq`.
    let status = unsafe { libc::ioctl(socket.as_raw_fd(), what, &raw mut request) };
    if status == 0 {
        Ok(request)
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Makes the smallest ring on a socket that stays unbound, for [`crate::probe`].
pub(crate) fn try_ring() -> io::Result<()> {
    let smallest = TapConfig {
        blocks: 2,
        block_bytes: BLOCK_BYTES_MIN,
        ..TapConfig::new("")
    };
    let socket = open_socket(libc::SOCK_RAW)?;
    make_ring(socket.as_fd(), &ring_request(&smallest)?).map(drop)
}

/// A packet socket that receives nothing until it is bound to a protocol.
pub(crate) fn open_socket(kind: libc::c_int) -> io::Result<OwnedFd> {
    let kind = kind | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: no memory is involved.
    let descriptor = unsafe { libc::socket(libc::AF_PACKET, kind, 0) };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just opened and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

pub(super) fn set<T: Copy>(
    socket: BorrowedFd<'_>,
    option: libc::c_int,
    value: &T,
) -> io::Result<()> {
    sys::set_option_at(socket, libc::SOL_PACKET, option, value)
}

pub(super) fn ring_request(config: &TapConfig) -> io::Result<libc::tpacket_req3> {
    let size = config.block_bytes;
    let sized = size.is_power_of_two() && (BLOCK_BYTES_MIN..=BLOCK_BYTES_MAX).contains(&size);
    let timed = (1..=1000).contains(&config.retire.as_millis());
    if !sized || !timed || !(2..=BLOCKS_MAX).contains(&config.blocks) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // The frame size only has to divide the block; frames of any length are packed.
    let frame = 2048;
    let frames = u64::from(size / frame).saturating_mul(config.blocks.into());
    Ok(libc::tpacket_req3 {
        tp_block_size: size,
        tp_block_nr: config.blocks,
        tp_frame_size: frame,
        tp_frame_nr: u32::try_from(frames).map_err(|_| io::ErrorKind::InvalidInput)?,
        tp_retire_blk_tov: u32::try_from(config.retire.as_millis()).unwrap_or(1000),
        tp_sizeof_priv: 0,
        tp_feature_req_word: 0,
    })
}

pub(super) fn make_ring(socket: BorrowedFd<'_>, request: &libc::tpacket_req3) -> io::Result<Ring> {
    let version = libc::tpacket_versions::TPACKET_V3 as libc::c_int;
    set(socket, libc::PACKET_VERSION, &version)?;
    // Room before each frame for a VLAN tag.
    set(socket, libc::PACKET_RESERVE, &4_u32)?;
    set(socket, libc::PACKET_RX_RING, request)?;
    let size = |value| usize::try_from(value).unwrap_or(usize::MAX);
    Ring::map(
        socket,
        size(request.tp_block_size),
        size(request.tp_block_nr),
    )
}

pub(super) fn attach_gtp_u(socket: BorrowedFd<'_>, link: LinkType) -> io::Result<()> {
    let start = match link {
        LinkType::Ethernet => Start::Ethernet,
        _ => Start::Ip,
    };
    let mut program = filter::gtp_u(start);
    let program = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        filter: program.as_mut_ptr(),
    };
    sys::set_option_at(socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
}

pub(super) fn listen_to_all(socket: BorrowedFd<'_>, index: libc::c_int) -> io::Result<()> {
    let membership = libc::packet_mreq {
        mr_ifindex: index,
        mr_type: u16::try_from(libc::PACKET_MR_PROMISC).unwrap_or_default(),
        mr_alen: 0,
        mr_address: [0; 8],
    };
    set(socket, libc::PACKET_ADD_MEMBERSHIP, &membership)
}

const EMPTY_ADDRESS: libc::sockaddr_ll = libc::sockaddr_ll {
    sll_family: sys::family(libc::AF_PACKET),
    sll_protocol: 0,
    sll_ifindex: 0,
    sll_hatype: 0,
    sll_pkttype: 0,
    sll_halen: 0,
    sll_addr: [0; 8],
};

/// Lets every protocol of the interface in.
pub(super) fn bind(socket: BorrowedFd<'_>, index: libc::c_int) -> io::Result<()> {
    let address = libc::sockaddr_ll {
        sll_protocol: u16::try_from(libc::ETH_P_ALL).unwrap_or_default().to_be(),
        sll_ifindex: index,
        ..EMPTY_ADDRESS
    };
    let length = length_of::<libc::sockaddr_ll>();
    // SAFETY: the descriptor is open while it is borrowed; the address is a live object of
    // `length` bytes, which the system only reads.
    let status = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
    if status == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Whether the interface still exists.
pub(super) fn is_bound(socket: BorrowedFd<'_>) -> io::Result<bool> {
    let mut address = EMPTY_ADDRESS;
    let mut length = length_of::<libc::sockaddr_ll>();
    // SAFETY: the descriptor is open while it is borrowed; `address` is writable for `length`
    // bytes, any of which are valid for its integers, and `length` is writable.
    let status = unsafe {
        libc::getsockname(
            socket.as_raw_fd(),
            (&raw mut address).cast(),
            &raw mut length,
        )
    };
    if status == 0 {
        Ok(address.sll_ifindex > 0)
    } else {
        Err(io::Error::last_os_error())
    }
}
