//! Maps, programs and links of the kernel's BPF machine, as owning descriptors.
//!
//! Source: the kernel's `include/uapi/linux/bpf.h`; each structure below is the part of
//! `union bpf_attr` that its command reads.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

const MAP_CREATE: libc::c_long = 0;
const MAP_UPDATE: libc::c_long = 2;
const MAP_DELETE: libc::c_long = 3;
const PROGRAM_LOAD: libc::c_long = 5;
const LINK_CREATE: libc::c_long = 28;

const PROGRAM_TYPE_XDP: u32 = 6;
const ATTACH_TYPE_XDP: u32 = 37;

/// Bytes kept of what the verifier says (chosen: its last words stand at the end, and a program
/// of some 60 instructions fills a quarter of it).
const LOG_BYTES: usize = 64 << 10;

/// The licence stated to the kernel; no helper used here asks for another.
const LICENCE: &std::ffi::CStr = c"Apache-2.0";

/// Kinds of maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MapKind {
    /// Longest-prefix match; allocates its entries one by one.
    Prefixes,
    /// Queue number to AF_XDP socket.
    Sockets,
}

impl MapKind {
    /// The kernel's number and the flags that the kind needs.
    const fn numbers(self) -> (u32, u32) {
        match self {
            // BPF_F_NO_PREALLOC, which the kernel demands of this kind.
            Self::Prefixes => (11, 1),
            Self::Sockets => (17, 0),
        }
    }
}

/// How an XDP program is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AttachFlag {
    Generic = 2,
    Native = 4,
}

/// A program that the kernel refused.
#[derive(Debug)]
pub(super) struct LoadError {
    pub(super) source: io::Error,
    /// The verifier's words; empty when it did not come to speak.
    pub(super) log: String,
}

#[repr(C)]
struct MapCreate {
    kind: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
}

#[repr(C)]
struct MapElement {
    map: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct ProgramLoad {
    kind: u32,
    instruction_count: u32,
    instructions: u64,
    licence: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
}

#[repr(C)]
struct LinkCreate {
    program: u32,
    interface: u32,
    attach_type: u32,
    flags: u32,
}

/// Calls `bpf(2)`.
///
/// # Safety
///
/// Every address inside `attributes` must be valid, for as long as the call lasts, for what
/// `command` does with it.
unsafe fn bpf<T>(command: libc::c_long, attributes: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: `attributes` is writable for the stated size; what it points to is the caller's
    // promise.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attributes),
            size_of::<T>(),
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// Takes over the descriptor that a successful call returned.
fn owned(result: libc::c_long) -> io::Result<OwnedFd> {
    let descriptor =
        libc::c_int::try_from(result).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    // SAFETY: the kernel has just created this descriptor for us and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// A descriptor in the kernel's unsigned field.
fn number(descriptor: BorrowedFd<'_>) -> u32 {
    u32::try_from(descriptor.as_raw_fd()).unwrap_or(u32::MAX)
}

/// The address of something in the kernel's 64-bit field.
fn address<T>(pointer: *const T) -> u64 {
    pointer.addr() as u64
}

/// A map of the kernel.
#[derive(Debug)]
pub(super) struct BpfMap {
    descriptor: OwnedFd,
    key_size: usize,
}

impl BpfMap {
    /// A map with 4-byte values; it vanishes with its last descriptor or program.
    pub(super) fn new(kind: MapKind, key_size: u32, max_entries: u32) -> io::Result<Self> {
        let (kind, flags) = kind.numbers();
        let mut attributes = MapCreate {
            kind,
            key_size,
            value_size: 4,
            max_entries,
            flags,
        };
        // SAFETY: the structure holds no address.
        let result = unsafe { bpf(MAP_CREATE, &mut attributes) }?;
        Ok(Self {
            descriptor: owned(result)?,
            key_size: usize::try_from(key_size).unwrap_or(usize::MAX),
        })
    }

    /// The descriptor as an instruction holds it.
    pub(super) fn as_immediate(&self) -> i32 {
        self.descriptor.as_raw_fd()
    }

    /// Sets the value of a key.
    pub(super) fn insert(&self, key: &[u8], value: u32) -> io::Result<()> {
        let mut attributes = self.element(key, &raw const value)?;
        // SAFETY: the kernel reads `key_size` bytes at `key`, which `element` has checked, and 4
        // at `value`; both live until the call returns.
        unsafe { bpf(MAP_UPDATE, &mut attributes) }.map(drop)
    }

    /// Removes a key.
    pub(super) fn remove(&self, key: &[u8]) -> io::Result<()> {
        let mut attributes = self.element(key, std::ptr::null())?;
        // SAFETY: the kernel reads `key_size` bytes at `key`, which `element` has checked.
        unsafe { bpf(MAP_DELETE, &mut attributes) }.map(drop)
    }

    fn element(&self, key: &[u8], value: *const u32) -> io::Result<MapElement> {
        if key.len() != self.key_size {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok(MapElement {
            map: number(self.descriptor.as_fd()),
            padding: 0,
            key: address(key.as_ptr()),
            value: address(value),
            flags: 0,
        })
    }
}

/// Loads an XDP program. The verifier is asked for its words only after a refusal.
pub(super) fn load_program(name: &str, code: &[u64]) -> Result<OwnedFd, LoadError> {
    let quiet = |source| LoadError {
        source,
        log: String::new(),
    };
    let mut attributes = ProgramLoad {
        kind: PROGRAM_TYPE_XDP,
        instruction_count: u32::try_from(code.len()).unwrap_or(u32::MAX),
        instructions: address(code.as_ptr()),
        licence: address(LICENCE.as_ptr()),
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
        name: [0; 16],
    };
    // The last byte stays zero.
    for (place, byte) in attributes.name.iter_mut().take(15).zip(name.bytes()) {
        *place = byte;
    }
    // SAFETY: `code` holds as many instructions as stated and the licence ends with a zero; both
    // outlive the call; there is no log.
    let first = unsafe { bpf(PROGRAM_LOAD, &mut attributes) };
    let source = match first {
        Ok(result) => return owned(result).map_err(quiet),
        Err(source) if source.kind() == io::ErrorKind::PermissionDenied => {
            // EPERM comes before, EACCES from the verifier.
            if source.raw_os_error() == Some(libc::EPERM) {
                return Err(quiet(source));
            }
            source
        }
        Err(source) => source,
    };
    let mut log = vec![0_u8; LOG_BYTES];
    attributes.log_level = 1;
    attributes.log_size = u32::try_from(log.len()).unwrap_or(0);
    attributes.log = address(log.as_mut_ptr());
    // SAFETY: as above, and `log` is writable for `log_size` bytes.
    match unsafe { bpf(PROGRAM_LOAD, &mut attributes) } {
        Ok(result) => owned(result).map_err(quiet),
        Err(_) => {
            let end = log.iter().position(|byte| *byte == 0).unwrap_or(log.len());
            let words = String::from_utf8_lossy(log.get(..end).unwrap_or_default());
            Err(LoadError {
                source,
                log: words.trim_end().to_owned(),
            })
        }
    }
}

/// Attaches a program to an interface until the returned descriptor is closed, which the kernel
/// does itself when the process dies.
pub(super) fn attach(
    program: BorrowedFd<'_>,
    interface: u32,
    flag: AttachFlag,
) -> io::Result<OwnedFd> {
    let mut attributes = LinkCreate {
        program: number(program),
        interface,
        attach_type: ATTACH_TYPE_XDP,
        flags: flag as u32,
    };
    // SAFETY: the structure holds no address.
    owned(unsafe { bpf(LINK_CREATE, &mut attributes) }?)
}

/// Runs a program once over `packet` and returns its verdict.
#[cfg(test)]
pub(super) fn test_run(program: BorrowedFd<'_>, packet: &[u8]) -> io::Result<u32> {
    #[repr(C)]
    struct TestRun {
        program: u32,
        verdict: u32,
        size_in: u32,
        size_out: u32,
        data_in: u64,
        data_out: u64,
        repeat: u32,
        duration: u32,
    }
    const PROGRAM_TEST_RUN: libc::c_long = 10;
    let mut attributes = TestRun {
        program: number(program),
        verdict: 0,
        size_in: u32::try_from(packet.len()).unwrap(),
        size_out: 0,
        data_in: address(packet.as_ptr()),
        data_out: 0,
        repeat: 1,
        duration: 0,
    };
    // SAFETY: the packet is readable for `size_in` bytes; no output is asked for.
    unsafe { bpf(PROGRAM_TEST_RUN, &mut attributes) }?;
    Ok(attributes.verdict)
}
