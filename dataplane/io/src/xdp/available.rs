//! Whether XDP can be used here, found out without disturbing the interface.

use super::error::XdpError;
use super::interface::{DriverFeatures, Interface};
use super::port::check_frames;
use super::program;
use super::socket::{locked_memory_limit, try_register};
use super::steering::load;
use super::umem::{FrameSize, Umem};

/// What an interface offers. The better ones come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    /// The driver runs programs and shares memory with sockets.
    NativeZeroCopy,
    /// The driver runs programs; packets are copied to sockets.
    Native,
    /// Programs run in the kernel's core; packets are copied.
    Generic,
    /// The kernel does not tell (before Linux 6.3); attaching will.
    Unknown,
}

/// What was found out about an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Availability {
    /// The interface.
    pub interface: Interface,
    /// What it offers.
    pub support: Support,
    /// What this process may lock, bytes, without CAP_IPC_LOCK (`u64::MAX` = no limit).
    pub locked_memory_limit: u64,
}

/// Says what XDP can do on an interface of this thread's network namespace, for this process.
///
/// It looks the interface up, loads an empty program without attaching it, opens a socket and
/// registers the packet memory of `frames` frames of 2 KiB, and asks the driver for its features:
/// no packet is touched and nothing stays behind. A program of someone else on the interface is
/// no error here, see [`Interface::has_program`].
///
/// # Errors
///
/// What [`Steering::attach`](super::Steering::attach) or
/// [`XdpPort::open`](super::XdpPort::open) would fail with; each message names the fix.
pub fn available(interface: &str, frames: u32) -> Result<Availability, XdpError> {
    check_frames(frames)?;
    let interface = Interface::find(interface)?;
    let name = &interface.name;
    load(name, &program::pass_all())?;
    let umem = Umem::new(frames, FrameSize::Two)
        .map_err(|source| XdpError::of("allocating packet memory", name, source))?;
    try_register(&umem, name)?;
    let features = DriverFeatures::read(interface.index)
        .map_err(|source| XdpError::of("asking for the driver's features", name, source))?;
    let support = match features {
        None => Support::Unknown,
        Some(DriverFeatures { native: false, .. }) => Support::Generic,
        Some(DriverFeatures {
            zero_copy: true, ..
        }) => Support::NativeZeroCopy,
        Some(_) => Support::Native,
    };
    Ok(Availability {
        support,
        locked_memory_limit: locked_memory_limit(),
        interface,
    })
}
