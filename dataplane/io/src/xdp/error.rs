//! Why XDP cannot be used, with what to do about it.

use std::io;

/// The three capabilities that AF_XDP with its own steering program needs (measured on
/// Linux 6.18: each one is necessary, no other is).
const CAPABILITIES: &str = "CAP_NET_RAW, CAP_NET_ADMIN and CAP_BPF";

/// Why an XDP back end could not be set up or go on.
#[derive(Debug, thiserror::Error)]
pub enum XdpError {
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
    /// There is no such interface in this network namespace.
    #[error("there is no network interface named {interface} here")]
    NoInterface {
        /// The name given.
        interface: String,
    },
    /// The process lacks a privilege.
    #[error("{operation} needs {CAPABILITIES}: run as root or give the service these three")]
    Privilege {
        /// What was tried.
        operation: &'static str,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// The kernel was built without a part, or is too old.
    #[error(
        "this kernel cannot {operation}: XDP needs Linux 5.9 or later with CONFIG_BPF_SYSCALL \
         and CONFIG_XDP_SOCKETS"
    )]
    Kernel {
        /// What was tried.
        operation: &'static str,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// The packet memory may not be locked.
    #[error(
        "{bytes} bytes of packet memory exceed what this user may lock (RLIMIT_MEMLOCK is \
         {limit} bytes, all ports together): raise LimitMEMLOCK= of the service, give it \
         CAP_IPC_LOCK, or use fewer frames"
    )]
    LockedMemory {
        /// Bytes of this port's packet memory.
        bytes: usize,
        /// The limit in force, bytes.
        limit: u64,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// The verifier refused the steering program.
    #[error("the kernel refused the steering program; its verifier says: {log}")]
    Program {
        /// The verifier's words; empty when it did not come to speak.
        log: String,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// Another program is attached to the interface.
    #[error(
        "another XDP program is attached to {interface}: stop its process, or remove it with \
         `ip link set dev {interface} xdp off`"
    )]
    Occupied {
        /// The interface.
        interface: String,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// The driver has no XDP and the generic mode failed too.
    #[error("neither native ({native}) nor generic XDP attaches to {interface}")]
    Attach {
        /// The interface.
        interface: String,
        /// Why native failed.
        native: io::Error,
        /// Why generic failed.
        #[source]
        source: io::Error,
    },
    /// Another socket serves the queue.
    #[error("queue {queue} of {interface} is served by another AF_XDP socket")]
    QueueBusy {
        /// The interface.
        interface: String,
        /// The queue, from 0.
        queue: u32,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// Any other refusal.
    #[error("{operation} failed on {interface}")]
    System {
        /// What was tried.
        operation: &'static str,
        /// The interface.
        interface: String,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
}

impl XdpError {
    /// Sorts a refusal by what can be done about it.
    pub(super) fn of(operation: &'static str, interface: &str, source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Self::Privilege { operation, source },
            Some(libc::ENOSYS | libc::EAFNOSUPPORT | libc::ENOPROTOOPT) => {
                Self::Kernel { operation, source }
            }
            _ => Self::System {
                operation,
                interface: interface.to_owned(),
                source,
            },
        }
    }
}
