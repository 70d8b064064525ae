//! Which packet back ends this process could use here, and what to do about the others.
//!
//! [`Facts::gather`] asks the system without changing anything, [`Facts::backends`] judges. The
//! JSON of a [`Backend`] is described by `doctor.schema.json`.

use std::fs::{self, OpenOptions};
use std::net::{Ipv4Addr, UdpSocket};

use serde::Serialize;

/// Source: linux/capability.h.
const CAP_NET_ADMIN: u32 = 12;
const CAP_NET_RAW: u32 = 13;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_BPF: u32 = 39;

/// One back end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Backend {
    /// Its name.
    pub backend: &'static str,
    /// Whether a data plane could use it here and now.
    pub usable: bool,
    /// Why, or why not.
    pub why: String,
    /// What would make it usable; `None` where nothing is to do.
    pub fix: Option<&'static str>,
}

/// What the system says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Effective capabilities of this process.
    pub capabilities: u64,
    /// The kernel's version.
    pub kernel: (u32, u32),
    /// Why the TUN device cannot be opened.
    pub tun: Option<String>,
    /// Why no UDP socket can be bound.
    pub udp: Option<String>,
    /// Why no io_uring can be made.
    pub uring: Option<String>,
}

impl Facts {
    /// Asks the system.
    #[must_use]
    pub fn gather() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let mut device = OpenOptions::new();
        let tun = device.read(true).write(true).open("/dev/net/tun");
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0));
        let uring = tokio_uring::Runtime::new(tokio_uring::builder().entries(8));
        Self {
            capabilities: capabilities(&status),
            kernel: version(&release),
            tun: tun.err().map(|error| error.to_string()),
            udp: udp.err().map(|error| error.to_string()),
            uring: uring.err().map(|error| error.to_string()),
        }
    }

    const fn can(&self, capability: u32) -> bool {
        self.capabilities >> capability & 1 == 1
    }

    /// Every back end, the unprivileged ones first.
    #[must_use]
    pub fn backends(&self) -> Vec<Backend> {
        vec![
            usable("mem", "frames from memory; for benches and tests"),
            usable("pcap", "capture files (`qlink replay`)"),
            self.udp(),
            self.tun(),
            self.packet(),
            self.xdp(),
            self.uring(),
            refused(
                "dpdk",
                "this binary is built without DPDK".to_owned(),
                "build with the feature `dpdk` on a machine with libdpdk-dev",
            ),
        ]
    }

    fn udp(&self) -> Backend {
        match &self.udp {
            None => usable("udp", "a GTP-U endpoint needs no privilege (port 2152)"),
            Some(error) => refused(
                "udp",
                error.clone(),
                "allow sockets: seccomp or the service's RestrictAddressFamilies forbids them",
            ),
        }
    }

    fn tun(&self) -> Backend {
        match &self.tun {
            Some(error) => refused(
                "tun",
                format!("/dev/net/tun: {error}"),
                "modprobe tun, and give the process /dev/net/tun (DeviceAllow=/dev/net/tun rw)",
            ),
            None if !self.can(CAP_NET_ADMIN) => refused(
                "tun",
                "CAP_NET_ADMIN is missing".to_owned(),
                "setcap cap_net_admin+ep qlink, or AmbientCapabilities=CAP_NET_ADMIN in the unit",
            ),
            None => usable("tun", "/dev/net/tun opens and CAP_NET_ADMIN is there"),
        }
    }

    fn packet(&self) -> Backend {
        if self.can(CAP_NET_RAW) {
            return usable("packet", "CAP_NET_RAW is there; a passive tap");
        }
        refused(
            "packet",
            "CAP_NET_RAW is missing".to_owned(),
            "setcap cap_net_raw+ep qlink, or AmbientCapabilities=CAP_NET_RAW in the unit",
        )
    }

    fn xdp(&self) -> Backend {
        let needed = [
            (CAP_NET_ADMIN, "CAP_NET_ADMIN"),
            (CAP_NET_RAW, "CAP_NET_RAW"),
            (CAP_BPF, "CAP_BPF"),
        ];
        let missing: Vec<&str> = needed
            .iter()
            .filter(|(capability, _)| {
                let stands_in = *capability == CAP_BPF && self.can(CAP_SYS_ADMIN);
                !self.can(*capability) && !stands_in
            })
            .map(|(_, name)| *name)
            .collect();
        if !missing.is_empty() {
            return refused(
                "xdp",
                format!("missing: {}", missing.join(", ")),
                "setcap cap_net_admin,cap_net_raw,cap_bpf+ep qlink, or AmbientCapabilities= in the \
                 unit",
            );
        }
        let (major, minor) = self.kernel;
        if self.kernel < (5, 11) {
            return refused(
                "xdp",
                format!("kernel {major}.{minor} charges its memory to RLIMIT_MEMLOCK"),
                "run a kernel from 5.11 on, or raise LimitMEMLOCK= in the unit",
            );
        }
        usable(
            "xdp",
            "every capability is there; the interface decides on zero-copy",
        )
    }

    fn uring(&self) -> Backend {
        let (major, minor) = self.kernel;
        match &self.uring {
            Some(error) => refused(
                "uring",
                error.clone(),
                "sysctl kernel.io_uring_disabled=0, and let seccomp pass io_uring_setup",
            ),
            None if self.kernel < (6, 0) => refused(
                "uring",
                format!("kernel {major}.{minor} has no multishot receive"),
                "run a kernel from 6.0 on; traces use plain io_uring meanwhile",
            ),
            None => usable("uring", "io_uring opens"),
        }
    }
}

fn usable(backend: &'static str, why: &str) -> Backend {
    Backend {
        backend,
        usable: true,
        why: why.to_owned(),
        fix: None,
    }
}

fn refused(backend: &'static str, why: String, fix: &'static str) -> Backend {
    Backend {
        backend,
        usable: false,
        why,
        fix: Some(fix),
    }
}

/// The line `CapEff` of `/proc/self/status`; none when it is not there.
fn capabilities(status: &str) -> u64 {
    let mut lines = status.lines();
    let line = lines.find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok())
        .unwrap_or(0)
}

/// Major and minor number of a release such as `6.18.44-fc`; zeros when it has none.
fn version(release: &str) -> (u32, u32) {
    let mut numbers = release
        .split(|character: char| !character.is_ascii_digit())
        .filter_map(|digits| digits.parse().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: u64 = (1 << 41) - 1;

    fn facts(capabilities: u64) -> Facts {
        Facts {
            capabilities,
            kernel: (6, 18),
            tun: None,
            udp: None,
            uring: None,
        }
    }

    fn unusable(facts: &Facts) -> Vec<&'static str> {
        let backends = facts.backends().into_iter();
        backends
            .filter(|backend| !backend.usable)
            .map(|backend| {
                assert!(backend.fix.is_some(), "{}", backend.backend);
                backend.backend
            })
            .collect()
    }

    #[test]
    fn without_capabilities_only_unprivileged_back_ends_are_usable() {
        assert_eq!(unusable(&facts(0)), ["tun", "packet", "xdp", "dpdk"]);
        assert_eq!(unusable(&facts(ALL)), ["dpdk"]);
        // Before CAP_BPF there was CAP_SYS_ADMIN.
        assert_eq!(unusable(&facts(ALL & !(1 << CAP_BPF))), ["dpdk"]);
    }

    #[test]
    fn what_the_system_refuses_is_said_in_its_words() {
        let mut facts = facts(ALL);
        facts.tun = Some("No such file or directory".to_owned());
        facts.uring = Some("Operation not permitted".to_owned());

        let backends = facts.backends();

        assert!(backends[3].why.contains("No such file"));
        assert!(backends[6].why.contains("not permitted"));
        assert_eq!(unusable(&facts), ["tun", "uring", "dpdk"]);
    }

    #[test]
    fn status_and_release_are_read_and_nonsense_is_nothing() {
        let status = "Name:\tqlink\nCapEff:\t000001ffffffffff\nCapBnd:\t0\n";
        assert_eq!(capabilities(status), 0x1ff_ffff_ffff);
        assert_eq!(capabilities("CapEff:\tzz"), 0);
        assert_eq!(version("6.18.44-fc-v657\n"), (6, 18));
        assert_eq!(version("none"), (0, 0));
    }
}
