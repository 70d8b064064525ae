//! An AF_XDP socket and its four rings.
//!
//! Source: the kernel's `Documentation/networking/af_xdp.rst` and `include/uapi/linux/if_xdp.h`.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::AtomicU64;

use super::error::XdpError;
use super::ring::{FrameEntry, Ring, RingEntry};
use super::steering::{Steering, retry_while_busy};
use super::umem::Umem;
use crate::sys;

/// How packets cross between the card and this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyMode {
    /// The card reads and writes our packet memory.
    ZeroCopy,
    /// The kernel copies every packet.
    Copy,
}

/// Which mode to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CopyChoice {
    /// Zero copy, and copying where the driver cannot.
    #[default]
    Best,
    /// This one or none.
    Only(CopyMode),
}

/// A bound socket.
#[derive(Debug)]
pub(super) struct XdpSocket {
    descriptor: OwnedFd,
    pub(super) mode: CopyMode,
    pub(super) fill: Ring<AtomicU64>,
    pub(super) completion: Ring<AtomicU64>,
    pub(super) receive: Ring<FrameEntry>,
    pub(super) transmit: Ring<FrameEntry>,
}

impl XdpSocket {
    /// Makes a socket over `umem`, with `entries` places in each ring, and binds it to `queue`.
    pub(super) fn bind(
        steering: &Steering,
        queue: u32,
        umem: &Umem,
        entries: u32,
        choice: CopyChoice,
    ) -> Result<Self, XdpError> {
        let name = &steering.interface().name;
        let failed = |operation| move |source| XdpError::of(operation, name, source);
        let descriptor = open().map_err(failed("opening an AF_XDP socket"))?;
        let socket = descriptor.as_fd();
        register(socket, umem, name)?;
        for option in [
            libc::XDP_UMEM_FILL_RING,
            libc::XDP_UMEM_COMPLETION_RING,
            libc::XDP_RX_RING,
            libc::XDP_TX_RING,
        ] {
            set(socket, option, &entries).map_err(failed("making a ring"))?;
        }
        let offsets: libc::xdp_mmap_offsets =
            get(socket, libc::XDP_MMAP_OFFSETS).map_err(failed("asking for ring offsets"))?;
        let rings = Rings::map(socket, &offsets, entries).map_err(failed("mapping a ring"))?;
        bind_to(socket, steering.interface().index, queue, choice).map_err(
            |source| match source.raw_os_error() {
                Some(libc::EBUSY) => XdpError::QueueBusy {
                    interface: name.clone(),
                    queue,
                    source,
                },
                _ => XdpError::of("binding an AF_XDP socket", name, source),
            },
        )?;
        let options: libc::xdp_options =
            get(socket, libc::XDP_OPTIONS).map_err(failed("asking for the copy mode"))?;
        let mode = if options.flags & libc::XDP_OPTIONS_ZEROCOPY == 0 {
            CopyMode::Copy
        } else {
            CopyMode::ZeroCopy
        };
        Ok(Self {
            descriptor,
            mode,
            fill: rings.fill,
            completion: rings.completion,
            receive: rings.receive,
            transmit: rings.transmit,
        })
    }

    /// Lets the kernel send what is in the transmit ring, 32 packets at most in copy mode.
    pub(super) fn wake_transmit(&self) -> io::Result<()> {
        // SAFETY: a null buffer of length 0 and no address are allowed; nothing is accessed.
        let sent = unsafe {
            libc::sendto(
                self.descriptor.as_raw_fd(),
                std::ptr::null(),
                0,
                libc::MSG_DONTWAIT,
                std::ptr::null(),
                0,
            )
        };
        outcome(sent)
    }

    /// Lets a zero-copy driver go on receiving.
    pub(super) fn wake_receive(&self) -> io::Result<()> {
        // SAFETY: a null buffer of length 0 and no address are allowed; nothing is accessed.
        let received = unsafe {
            libc::recvfrom(
                self.descriptor.as_raw_fd(),
                std::ptr::null_mut(),
                0,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
                std::ptr::null_mut(),
            )
        };
        outcome(received)
    }

    /// The kernel's counters of this socket.
    pub(super) fn statistics(&self) -> io::Result<libc::xdp_statistics> {
        get(self.descriptor.as_fd(), libc::XDP_STATISTICS)
    }
}

impl AsFd for XdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// The rings of a socket before it is bound.
struct Rings {
    fill: Ring<AtomicU64>,
    completion: Ring<AtomicU64>,
    receive: Ring<FrameEntry>,
    transmit: Ring<FrameEntry>,
}

impl Rings {
    fn map(
        socket: BorrowedFd<'_>,
        offsets: &libc::xdp_mmap_offsets,
        entries: u32,
    ) -> io::Result<Self> {
        let wide = |offset: libc::c_ulonglong| libc::off_t::try_from(offset).unwrap_or(-1);
        Ok(Self {
            fill: one(
                socket,
                &offsets.fr,
                wide(libc::XDP_UMEM_PGOFF_FILL_RING),
                entries,
            )?,
            completion: one(
                socket,
                &offsets.cr,
                wide(libc::XDP_UMEM_PGOFF_COMPLETION_RING),
                entries,
            )?,
            receive: one(socket, &offsets.rx, libc::XDP_PGOFF_RX_RING, entries)?,
            transmit: one(socket, &offsets.tx, libc::XDP_PGOFF_TX_RING, entries)?,
        })
    }
}

fn one<T: RingEntry>(
    socket: BorrowedFd<'_>,
    offsets: &libc::xdp_ring_offset,
    page_offset: libc::off_t,
    entries: u32,
) -> io::Result<Ring<T>> {
    Ring::map(socket, offsets, page_offset, entries)
}

/// An unbound socket.
fn open() -> io::Result<OwnedFd> {
    // SAFETY: `socket` takes no address.
    let descriptor = unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just created and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Whether this process may open a socket and lock `umem`; nothing is left behind.
pub(super) fn try_register(umem: &Umem, interface: &str) -> Result<(), XdpError> {
    let socket =
        open().map_err(|source| XdpError::of("opening an AF_XDP socket", interface, source))?;
    register(socket.as_fd(), umem, interface)
}

fn register(socket: BorrowedFd<'_>, umem: &Umem, interface: &str) -> Result<(), XdpError> {
    set(socket, libc::XDP_UMEM_REG, &umem.registration()).map_err(|source| {
        match source.raw_os_error() {
            Some(libc::ENOBUFS | libc::ENOMEM) => XdpError::LockedMemory {
                bytes: umem.len(),
                limit: locked_memory_limit(),
                source,
            },
            _ => XdpError::of("registering packet memory", interface, source),
        }
    })
}

fn bind_to(
    socket: BorrowedFd<'_>,
    interface: u32,
    queue: u32,
    choice: CopyChoice,
) -> io::Result<()> {
    let try_mode = |mode| {
        let flag = match mode {
            CopyMode::Copy => libc::XDP_COPY,
            CopyMode::ZeroCopy => libc::XDP_ZEROCOPY,
        };
        retry_while_busy(|| bind_once(socket, interface, queue, flag))
    };
    match choice {
        CopyChoice::Only(mode) => try_mode(mode),
        CopyChoice::Best => match try_mode(CopyMode::ZeroCopy) {
            Err(error) if error.raw_os_error() != Some(libc::EBUSY) => try_mode(CopyMode::Copy),
            result => result,
        },
    }
}

fn bind_once(socket: BorrowedFd<'_>, interface: u32, queue: u32, mode_flag: u16) -> io::Result<()> {
    let address = libc::sockaddr_xdp {
        sxdp_family: sys::family(libc::AF_XDP),
        sxdp_flags: mode_flag | libc::XDP_USE_NEED_WAKEUP,
        sxdp_ifindex: interface,
        sxdp_queue_id: queue,
        sxdp_shared_umem_fd: 0,
    };
    let length = sys::length_of::<libc::sockaddr_xdp>();
    // SAFETY: `address` is a live structure of exactly `length` bytes.
    let status = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
    outcome(status as isize)
}

/// The bytes that this process may lock at most.
pub(super) fn locked_memory_limit() -> u64 {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is a writable structure of the type that the call fills.
    let status = unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit) };
    if status == 0 { limit.rlim_cur } else { 0 }
}

fn set<T>(socket: BorrowedFd<'_>, option: libc::c_int, value: &T) -> io::Result<()> {
    let length = sys::length_of::<T>();
    // SAFETY: the descriptor is open while it is borrowed, and the value is live and of exactly
    // `length` bytes.
    let status = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_XDP,
            option,
            std::ptr::from_ref(value).cast(),
            length,
        )
    };
    outcome(status as isize)
}

/// The structures that the kernel fills: plain integers, for which every bit pattern is valid.
trait Answer {
    fn zeroed() -> Self;
}

impl Answer for libc::xdp_mmap_offsets {
    fn zeroed() -> Self {
        let ring = || libc::xdp_ring_offset {
            producer: 0,
            consumer: 0,
            desc: 0,
            flags: 0,
        };
        Self {
            rx: ring(),
            tx: ring(),
            fr: ring(),
            cr: ring(),
        }
    }
}

impl Answer for libc::xdp_options {
    fn zeroed() -> Self {
        Self { flags: 0 }
    }
}

impl Answer for libc::xdp_statistics {
    fn zeroed() -> Self {
        Self {
            rx_dropped: 0,
            rx_invalid_descs: 0,
            tx_invalid_descs: 0,
            rx_ring_full: 0,
            rx_fill_ring_empty_descs: 0,
            tx_ring_empty_descs: 0,
        }
    }
}

fn get<T: Answer>(socket: BorrowedFd<'_>, option: libc::c_int) -> io::Result<T> {
    let mut value = T::zeroed();
    let mut length = sys::length_of::<T>();
    // SAFETY: the descriptor is open while it is borrowed; `value` is writable for `length` bytes
    // and `length` itself is writable.
    let status = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_XDP,
            option,
            (&raw mut value).cast(),
            &raw mut length,
        )
    };
    outcome(status as isize).map(|()| value)
}

/// The error behind a negative result.
fn outcome(result: isize) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
