//! The tap: opening it, and frames in bursts.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

use qlink_wire::LinkType;

use super::block::{Cursor, Next};
use super::ring::Ring;
use super::socket::{self, Interface};
use crate::sys;
use crate::wait::{Ready, wait};
use crate::{Burst, Descriptor, IoError, PacketSource, clock};

/// Smallest block, bytes (chosen: two frames of 64 KiB).
pub const BLOCK_BYTES_MIN: u32 = 128 << 10;

/// Largest block, bytes (specified: the kernel's largest contiguous allocation).
pub const BLOCK_BYTES_MAX: u32 = 4 << 20;

/// Most blocks of a ring (chosen: 1 GiB of the smallest blocks is more than any tap needs).
pub const BLOCKS_MAX: u32 = 8192;

/// Whether frames for other machines are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Promiscuous {
    /// Only what the interface receives anyway.
    #[default]
    Off,
    /// Every frame on the wire, while the tap is open.
    On,
}

/// What the kernel lets through to the tap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TapFilter {
    /// Every frame.
    Everything,
    /// UDP from or to port 2152 over IPv4 and IPv6, with at most two VLAN tags; later fragments
    /// of any UDP packet and IPv6 packets with extension headers too, because they do not show
    /// their ports where the filter looks.
    #[default]
    GtpU,
}

/// What happens to frames that this machine sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OutgoingFrames {
    /// They are delivered like received ones.
    Seen,
    /// They are left out, in the kernel where it can (Linux 4.20), else here.
    #[default]
    Skipped,
}

/// What to tap and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TapConfig {
    /// Name of the interface, for example `eth1`.
    pub interface: String,
    /// Frames for other machines.
    pub promiscuous: Promiscuous,
    /// The kernel's filter.
    pub filter: TapFilter,
    /// Frames of this machine.
    pub outgoing: OutgoingFrames,
    /// Blocks in the ring, 2 to [`BLOCKS_MAX`].
    pub blocks: u32,
    /// Bytes of a block, a power of two from [`BLOCK_BYTES_MIN`] to [`BLOCK_BYTES_MAX`].
    pub block_bytes: u32,
    /// Time after which a block that is not full is handed over, 1 ms to 1 s.
    pub retire: Duration,
}

impl TapConfig {
    /// A ring of 8 MiB on `interface`, GTP-U only, received frames only, not promiscuous.
    #[must_use]
    pub fn new(interface: impl Into<String>) -> Self {
        Self {
            interface: interface.into(),
            promiscuous: Promiscuous::default(),
            filter: TapFilter::default(),
            outgoing: OutgoingFrames::default(),
            blocks: 32,
            block_bytes: 256 << 10,
            retire: Duration::from_millis(10),
        }
    }
}

/// Counters of a tap since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TapStats {
    /// Frames that passed the kernel's filter, those dropped included.
    pub frames: u64,
    /// Frames that the kernel dropped because the ring was full.
    pub dropped: u64,
    /// Times that the ring was full.
    pub full: u64,
    /// Frames of this machine that were left out here.
    pub outgoing_skipped: u64,
    /// Blocks of which not every frame could be read; never on a working kernel.
    pub malformed: u64,
    /// Times that the interface went down.
    pub interface_down: u64,
}

/// A tap on one interface.
#[derive(Debug)]
pub struct PacketTap {
    // Before the socket, so that it is unmapped first.
    ring: Ring,
    socket: OwnedFd,
    interface: String,
    link: LinkType,
    outgoing: OutgoingFrames,
    cursor: Cursor,
    /// Monotonic and wall-clock nanoseconds when the held block was taken.
    taken: (u64, u64),
    stats: Cell<TapStats>,
}

impl PacketTap {
    /// Opens a tap. Needs `CAP_NET_RAW`.
    ///
    /// Frames are described as [`LinkType::Ethernet`], or as [`LinkType::RawIp`] on interfaces
    /// without a link header (TUN, tunnels, PPP).
    ///
    /// # Errors
    ///
    /// [`IoError::Device`] with the step that failed: a size out of its range, no such interface,
    /// an interface of another link type, no privilege, no memory for the ring.
    pub fn open(config: &TapConfig) -> Result<Self, IoError> {
        let failed = |operation| {
            move |source| IoError::Device {
                operation,
                name: config.interface.clone(),
                source,
            }
        };
        let request = socket::ring_request(config).map_err(failed("check ring size"))?;
        let mut socket =
            socket::open_socket(libc::SOCK_RAW).map_err(failed("open packet socket"))?;
        let sought =
            Interface::find(socket.as_fd(), &config.interface).map_err(failed("find interface"))?;
        let link = sought.link().map_err(failed("use link type"))?;
        if link == LinkType::RawIp {
            socket = socket::open_socket(libc::SOCK_DGRAM).map_err(failed("open packet socket"))?;
        }
        let ring = socket::make_ring(socket.as_fd(), &request).map_err(failed("make ring"))?;
        if config.filter == TapFilter::GtpU {
            socket::attach_gtp_u(socket.as_fd(), link).map_err(failed("attach filter"))?;
        }
        if config.outgoing == OutgoingFrames::Skipped {
            // An older kernel refuses; the frames are then left out here.
            let _ = socket::set(socket.as_fd(), libc::PACKET_IGNORE_OUTGOING, &1_i32);
        }
        if config.promiscuous == Promiscuous::On {
            socket::listen_to_all(socket.as_fd(), sought.index)
                .map_err(failed("turn on promiscuous"))?;
        }
        // Only now: with protocol 0 until here, no unfiltered frame can be in the ring.
        socket::bind(socket.as_fd(), sought.index).map_err(failed("bind"))?;
        Ok(Self {
            ring,
            socket,
            interface: config.interface.clone(),
            link,
            outgoing: config.outgoing,
            cursor: Cursor::default(),
            taken: (0, 0),
            stats: Cell::default(),
        })
    }

    /// What the first byte of every frame is.
    #[must_use]
    pub const fn link(&self) -> LinkType {
        self.link
    }

    /// Counters since opening; asks the kernel for its part, which has 32 bits between two calls.
    ///
    /// # Errors
    ///
    /// [`IoError::Device`].
    pub fn stats(&self) -> Result<TapStats, IoError> {
        // Three counters, `tpacket_stats_v3`; reading starts the kernel's anew.
        let (level, option) = (libc::SOL_PACKET, libc::PACKET_STATISTICS);
        let since = sys::get_integers(self.as_fd(), level, option, [0; 3]);
        let [frames, dropped, full] = since.map_err(self.failed("read statistics"))?;
        let mut stats = self.stats.get();
        stats.frames = stats.frames.saturating_add(frames.into());
        stats.dropped = stats.dropped.saturating_add(dropped.into());
        stats.full = stats.full.saturating_add(full.into());
        self.stats.set(stats);
        Ok(stats)
    }

    /// Sleeps until a block is there or `timeout` has passed (`None` = for ever); `true` if one
    /// is. Use [`wait()`] for several sources, after each said that it has no packets.
    ///
    /// # Errors
    ///
    /// [`IoError::Device`].
    pub fn poll(&self, timeout: Option<Duration>) -> Result<bool, IoError> {
        if !self.cursor.is_at_end() {
            return Ok(true);
        }
        wait(&[self.as_fd()], timeout)
            .map(Ready::any)
            .map_err(self.failed("poll"))
    }

    /// Moves frames of the held block into `burst`.
    fn deliver(&mut self, burst: &mut Burst) {
        while !burst.is_full() {
            let frame = match self.cursor.advance(self.ring.block()) {
                Next::Frame(frame) => frame,
                Next::End => return,
                Next::Malformed => {
                    self.count(|stats| &mut stats.malformed);
                    return;
                }
            };
            if frame.kind == libc::PACKET_OUTGOING && self.outgoing == OutgoingFrames::Skipped {
                self.count(|stats| &mut stats.outgoing_skipped);
                continue;
            }
            let frame = if frame.lacks_tag() && self.link == LinkType::Ethernet {
                frame.with_tag(self.ring.block_mut())
            } else {
                frame
            };
            let (taken_ns, taken_unix_ns) = self.taken;
            let age_ns = taken_unix_ns.saturating_sub(frame.unix_ns);
            burst.push(Descriptor {
                offset: self.ring.block_offset().saturating_add(frame.start),
                len: frame.len,
                orig_len: frame.orig_len,
                timestamp_ns: taken_ns.saturating_sub(age_ns),
                peer: None,
                link: self.link,
            });
        }
    }

    /// Takes the next block; `false` when there is none.
    fn next_block(&mut self) -> bool {
        self.ring.release();
        if !self.ring.acquire() {
            return false;
        }
        self.cursor = Cursor::new(self.ring.block());
        self.taken = (clock::now_ns(), clock::unix_ns());
        true
    }

    /// Why the socket would be readable without a block; reading clears it, so that a caller that
    /// sleeps next does sleep.
    fn pending_error(&self) -> Result<(), IoError> {
        let pending = sys::get_option(self.as_fd(), libc::SO_ERROR);
        match pending.map_err(self.failed("read pending error"))? {
            0 => Ok(()),
            libc::ENETDOWN
                if socket::is_bound(self.as_fd()).map_err(self.failed("read address"))? =>
            {
                // Frames come again once it is up.
                self.count(|stats| &mut stats.interface_down);
                Ok(())
            }
            errno => Err(self.failed("receive")(io::Error::from_raw_os_error(errno))),
        }
    }

    fn failed(&self, operation: &'static str) -> impl FnOnce(io::Error) -> IoError {
        let name = &self.interface;
        move |source| IoError::Device {
            operation,
            name: name.clone(),
            source,
        }
    }

    fn count(&self, counter: impl FnOnce(&mut TapStats) -> &mut u64) {
        let mut stats = self.stats.get();
        let value = counter(&mut stats);
        *value = value.saturating_add(1);
        self.stats.set(stats);
    }
}

impl PacketSource for PacketTap {
    fn recv_burst(&mut self, burst: &mut Burst) -> Result<usize, IoError> {
        burst.clear();
        // A block may hold nothing but skipped frames; the kernel may fill blocks as fast.
        for _ in 0..BLOCKS_MAX {
            self.deliver(burst);
            if !burst.is_empty() {
                return Ok(burst.len());
            }
            if !self.next_block() {
                break;
            }
        }
        self.pending_error()?;
        Ok(0)
    }

    fn frame(&self, descriptor: &Descriptor) -> &[u8] {
        self.ring.bytes(descriptor.offset, descriptor.len as usize)
    }
}

impl AsFd for PacketTap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for PacketTap {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}
