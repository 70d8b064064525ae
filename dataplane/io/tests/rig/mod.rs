//! Network namespaces without names, veth pairs between them, and raw packet sockets in them.
//!
//! A namespace lives as long as its handle, so nothing is left behind however a test ends.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "test code"
)]
#![allow(
    unsafe_code,
    dead_code,
    reason = "system calls without a safe wrapper; not every user needs every part"
)]

pub(crate) mod site;

use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::Command;

use qlink_io::xdp::Interface;
use qlink_io::xdp::frame::MacAddress;

/// A network namespace of this test.
pub(crate) struct Namespace {
    handle: File,
}

impl Namespace {
    /// A fresh namespace with its loopback up; `None`, with a word, without the privilege.
    pub(crate) fn new() -> Option<Self> {
        let made = std::thread::spawn(|| {
            // SAFETY: `unshare` takes no address; it changes this short-lived thread alone.
            if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
                return Err(io::Error::last_os_error());
            }
            File::open("/proc/thread-self/ns/net")
        });
        match made.join().unwrap() {
            Ok(handle) => {
                let namespace = Self { handle };
                namespace.ip("link set lo up");
                Some(namespace)
            }
            Err(error) => {
                println!("skipped: no network namespace: {error}");
                None
            }
        }
    }

    /// Runs `work` on a thread inside the namespace.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                // SAFETY: the descriptor is open and names a network namespace; the call changes
                // this short-lived thread alone.
                let status = unsafe { libc::setns(self.handle.as_raw_fd(), libc::CLONE_NEWNET) };
                assert_eq!(status, 0, "{}", io::Error::last_os_error());
                work()
            });
            match inside.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// Runs `ip` with these words.
    pub(crate) fn ip(&self, words: &str) {
        self.command(Command::new("ip").args(words.split_whitespace()));
    }

    /// Runs a command to its success.
    pub(crate) fn command(&self, command: &mut Command) {
        let output = self.run(|| command.output().unwrap());
        assert!(output.status.success(), "{command:?}: {output:?}");
    }

    /// A path by which other processes find the namespace while this one lives.
    fn path(&self) -> String {
        format!(
            "/proc/{}/fd/{}",
            std::process::id(),
            self.handle.as_raw_fd()
        )
    }

    /// Sets addresses and brings the interface up.
    pub(crate) fn up(&self, interface: &str, addresses: &[&str]) {
        for address in addresses {
            let nodad = if address.contains(':') { "nodad" } else { "" };
            self.ip(&format!("addr add {address} dev {interface} {nodad}"));
        }
        self.ip(&format!("link set {interface} up"));
    }

    /// Switches IPv6 of an interface off ("1") or on ("0").
    pub(crate) fn ipv6(&self, interface: &str, off: &str) {
        let switch = format!("/proc/sys/net/ipv6/conf/{interface}/disable_ipv6");
        self.run(|| std::fs::write(switch, off).unwrap());
    }

    /// The interface as the kernel sees it.
    pub(crate) fn interface(&self, name: &str) -> Interface {
        self.run(|| Interface::find(name).unwrap())
    }

    /// Packets that the interface has received, as the kernel counts.
    pub(crate) fn received(&self, interface: &str) -> u64 {
        let text = self.run(|| std::fs::read_to_string("/proc/thread-self/net/dev").unwrap());
        let line = text
            .lines()
            .find_map(|line| line.trim().strip_prefix(&format!("{interface}:")))
            .expect("the interface is listed");
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// Tells the kernel a neighbour, so that no ARP mixes with the packets counted.
    pub(crate) fn neighbour(&self, interface: &str, address: IpAddr, mac: MacAddress) {
        self.ip(&format!(
            "neigh replace {address} lladdr {mac} dev {interface} nud permanent"
        ));
    }
}

/// A veth pair between two namespaces.
pub(crate) fn veth(
    (left, name): (&Namespace, &str),
    (right, peer): (&Namespace, &str),
    options: &str,
) {
    let path = right.path();
    left.ip(&format!(
        "link add {name} {options} type veth peer name {peer} {options} netns {path}"
    ));
    // No multicast reports and the like between the packets counted.
    left.ipv6(name, "1");
    right.ipv6(peer, "1");
}

/// Whole Ethernet frames in and out of an interface, beside the kernel.
pub(crate) struct RawSocket {
    descriptor: OwnedFd,
}

impl RawSocket {
    pub(crate) fn open(namespace: &Namespace, interface: &str) -> Self {
        let index = namespace.interface(interface).index;
        let everything = 0x0003_u16.to_be(); // ETH_P_ALL
        namespace.run(|| {
            // SAFETY: `socket` takes no address.
            let descriptor = unsafe {
                libc::socket(
                    libc::AF_PACKET,
                    libc::SOCK_RAW | libc::SOCK_CLOEXEC,
                    i32::from(everything),
                )
            };
            assert!(descriptor >= 0, "{}", io::Error::last_os_error());
            // SAFETY: the descriptor was just created and nobody else knows it.
            let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor) };
            let address = libc::sockaddr_ll {
                sll_family: u16::try_from(libc::AF_PACKET).unwrap(),
                sll_protocol: everything,
                sll_ifindex: i32::try_from(index).unwrap(),
                sll_hatype: 0,
                sll_pkttype: 0,
                sll_halen: 0,
                sll_addr: [0; 8],
            };
            let length = u32::try_from(size_of::<libc::sockaddr_ll>()).unwrap();
            // SAFETY: `address` is a live structure of exactly `length` bytes.
            let status =
                unsafe { libc::bind(descriptor.as_raw_fd(), (&raw const address).cast(), length) };
            assert_eq!(status, 0, "{}", io::Error::last_os_error());
            let size = 8_i32 << 20;
            // SAFETY: the value is a live integer of 4 bytes.
            unsafe {
                libc::setsockopt(
                    descriptor.as_raw_fd(),
                    libc::SOL_SOCKET,
                    libc::SO_RCVBUFFORCE,
                    (&raw const size).cast(),
                    4,
                )
            };
            Self { descriptor }
        })
    }

    pub(crate) fn send(&self, frame: &[u8]) {
        // SAFETY: `frame` is readable for its length.
        let sent = unsafe {
            libc::send(
                self.descriptor.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                0,
            )
        };
        assert_eq!(
            usize::try_from(sent),
            Ok(frame.len()),
            "{}",
            io::Error::last_os_error()
        );
    }

    /// The next frame that came in from the other side; `None` when none is there now.
    pub(crate) fn receive(&self) -> Option<Vec<u8>> {
        let mut bytes = vec![0; 65_536];
        loop {
            let mut address = libc::sockaddr_ll {
                sll_family: 0,
                sll_protocol: 0,
                sll_ifindex: 0,
                sll_hatype: 0,
                sll_pkttype: 0,
                sll_halen: 0,
                sll_addr: [0; 8],
            };
            let mut length = u32::try_from(size_of::<libc::sockaddr_ll>()).unwrap();
            // SAFETY: buffer and address are writable for their lengths.
            let received = unsafe {
                libc::recvfrom(
                    self.descriptor.as_raw_fd(),
                    bytes.as_mut_ptr().cast(),
                    bytes.len(),
                    libc::MSG_DONTWAIT,
                    (&raw mut address).cast(),
                    &raw mut length,
                )
            };
            let received = usize::try_from(received).ok()?;
            if address.sll_pkttype != libc::PACKET_OUTGOING {
                bytes.truncate(received);
                return Some(bytes);
            }
        }
    }

    /// Waits for a frame that `wanted` accepts, two seconds at most.
    pub(crate) fn receive_where(&self, wanted: impl Fn(&[u8]) -> bool) -> Option<Vec<u8>> {
        for _ in 0..2000 {
            while let Some(frame) = self.receive() {
                if wanted(&frame) {
                    return Some(frame);
                }
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        None
    }
}
