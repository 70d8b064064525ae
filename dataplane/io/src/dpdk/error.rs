//! Why DPDK cannot be used, with what to do about it.

use std::{fmt, io};

/// Why DPDK's environment or one of its devices could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum DpdkError {
    /// A setting is outside its range.
    #[error("{setting} is {value}: {allowed}")]
    Setting {
        /// The setting's name.
        setting: &'static str,
        /// The value given.
        value: String,
        /// What is allowed.
        allowed: &'static str,
    },
    /// The environment was started before in this process, perhaps without success.
    #[error("DPDK starts once per process and was started already: restart the process")]
    AlreadyStarted,
    /// The process may not use what the configuration names.
    #[error(
        "DPDK may not use its devices or memory: give the user /dev/vfio/* and huge pages, \
         or use virtual devices with ordinary memory"
    )]
    Privilege(#[source] io::Error),
    /// The memory is not there.
    #[error(
        "DPDK found no {mebibytes} MiB of memory: add huge pages (sysctl vm.nr_hugepages=512), \
         ask for less, or use ordinary memory"
    )]
    Memory {
        /// What was asked for, MiB.
        mebibytes: u32,
        /// The library's reason.
        #[source]
        source: io::Error,
    },
    /// The environment did not start for another reason.
    #[error("DPDK did not start; its own words are on standard error")]
    Start(#[source] io::Error),
    /// The environment started without a device that the configuration names.
    #[error(
        "DPDK could not make {}; its own words are on standard error. A card has to be bound to \
         vfio-pci (dpdk-devbind.py --status), a virtual device to find what its arguments name",
        .devices.join(", ")
    )]
    NotMade {
        /// The devices missing.
        devices: Vec<String>,
    },
    /// There is no such device.
    #[error("DPDK has no device named {device}, it has: {}", .present.join(", "))]
    NoDevice {
        /// The name given.
        device: String,
        /// The names there are.
        present: Vec<String>,
    },
    /// The device has been opened before.
    #[error("the device {device} is, or was, used by another port of this process")]
    Taken {
        /// The device.
        device: String,
    },
    /// There is no memory for a port's packets.
    #[error(
        "no memory for {packets} packets of {device}: give the environment more memory, or the \
         port fewer packets"
    )]
    Pool {
        /// Packets asked for.
        packets: u32,
        /// The device.
        device: String,
    },
    /// The device refuses something.
    #[error("{operation} failed on {device}")]
    Device {
        /// What was tried.
        operation: &'static str,
        /// The device.
        device: String,
        /// The driver's reason.
        #[source]
        source: io::Error,
    },
    /// The system refuses something.
    #[error("{operation} failed")]
    System {
        /// What was tried.
        operation: &'static str,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
}

impl DpdkError {
    /// A setting outside its range.
    pub(super) fn setting(
        setting: &'static str,
        value: &dyn fmt::Display,
        allowed: &'static str,
    ) -> Self {
        Self::Setting {
            setting,
            value: value.to_string(),
            allowed,
        }
    }

    /// Sorts the environment's refusal by what can be done about it.
    pub(super) fn start(source: io::Error, mebibytes: u32) -> Self {
        match source.raw_os_error() {
            Some(libc::EACCES | libc::EPERM) => Self::Privilege(source),
            Some(libc::ENOMEM) => Self::Memory { mebibytes, source },
            _ => Self::Start(source),
        }
    }
}

/// A status of the shim: 0, or a negative number of the system's errors.
pub(super) fn check(status: libc::c_int) -> io::Result<()> {
    if status == 0 {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(status.saturating_neg()))
    }
}
