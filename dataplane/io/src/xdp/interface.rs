//! What the kernel says about a network interface.

use std::io;

use super::error::XdpError;
use crate::frame::MacAddress;
use crate::netlink::{Netlink, Question, attributes, push_attribute, word};

const GET_LINK: u16 = 18;
const NEW_LINK: u16 = 16;

/// Bytes of `struct ifinfomsg`.
const HEADER_BYTES: usize = 16;

const ATTRIBUTE_ADDRESS: u16 = 1;
const ATTRIBUTE_NAME: u16 = 3;
const ATTRIBUTE_MTU: u16 = 4;
const ATTRIBUTE_RX_QUEUES: u16 = 32;
const ATTRIBUTE_XDP: u16 = 43;
const XDP_ATTACHED: u16 = 2;

/// `NETDEV_XDP_ACT_*`: what a driver can do natively.
const FEATURE_BASIC: u64 = 1;
const FEATURE_REDIRECT: u64 = 1 << 1;
const FEATURE_ZERO_COPY: u64 = 1 << 3;

/// An Ethernet interface as it was when it was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// The kernel's number.
    pub index: u32,
    /// Its own address.
    pub mac: MacAddress,
    /// Longest IP packet, bytes.
    pub mtu: usize,
    /// Receive queues, at least 1.
    pub rx_queues: u32,
    /// Whether some XDP program is attached.
    pub has_program: bool,
}

impl Interface {
    /// Looks an interface of this thread's network namespace up.
    ///
    /// # Errors
    ///
    /// [`XdpError::NoInterface`]; [`XdpError::Setting`] for one that is not Ethernet;
    /// [`XdpError::System`] when the kernel does not answer.
    pub fn find(name: &str) -> Result<Self, XdpError> {
        let mut payload = vec![0; HEADER_BYTES];
        let mut text = name.as_bytes().to_vec();
        text.push(0);
        push_attribute(&mut payload, ATTRIBUTE_NAME, &text);
        let mut answer = Vec::new();
        let asked = Netlink::route().and_then(|mut netlink| {
            netlink.ask(GET_LINK, Question::One, &payload, |kind, payload| {
                if kind == NEW_LINK {
                    answer = payload.to_vec();
                }
            })
        });
        match asked.map_err(|source| (source.raw_os_error(), source)) {
            Ok(()) => {}
            Err((Some(libc::ENODEV | libc::EINVAL | libc::ERANGE), _)) => {
                return Err(XdpError::NoInterface {
                    interface: name.to_owned(),
                });
            }
            Err((_, source)) => return Err(XdpError::of("asking for the link", name, source)),
        }
        parse(name, &answer).ok_or_else(|| XdpError::Setting {
            setting: "interface",
            value: name.to_owned(),
            allowed: "an Ethernet interface",
        })
    }
}

fn parse(name: &str, answer: &[u8]) -> Option<Interface> {
    let (header, rest) = answer.split_at_checked(HEADER_BYTES)?;
    let index = word(header.get(4..)?)?;
    let mut mac = None;
    let (mut mtu, mut rx_queues, mut has_program) = (None, 1, false);
    for (kind, value) in attributes(rest) {
        match kind {
            ATTRIBUTE_ADDRESS => mac = <[u8; 6]>::try_from(value).ok().map(MacAddress::new),
            ATTRIBUTE_MTU => mtu = word(value),
            ATTRIBUTE_RX_QUEUES => rx_queues = word(value)?.max(1),
            ATTRIBUTE_XDP => {
                has_program = attributes(value)
                    .any(|(kind, value)| kind == XDP_ATTACHED && value.first() != Some(&0));
            }
            _ => {}
        }
    }
    Some(Interface {
        name: name.to_owned(),
        index,
        mac: mac?,
        mtu: usize::try_from(mtu?).ok()?,
        rx_queues,
        has_program,
    })
}

/// What an interface's driver can do, where the kernel tells (Linux 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DriverFeatures {
    /// Programs run in the driver and can redirect.
    pub(super) native: bool,
    /// Sockets can share memory with the card.
    pub(super) zero_copy: bool,
}

impl DriverFeatures {
    /// Asks the kernel's `netdev` family, which disturbs nothing; `None` when there is none.
    /// Source: the kernel's `Documentation/netlink/specs/netdev.yaml`.
    pub(super) fn read(interface: u32) -> io::Result<Option<Self>> {
        let mut netlink = Netlink::generic()?;
        let Some(family) = family_number(&mut netlink)? else {
            return Ok(None);
        };
        // Command 1 is dev-get, version 1; attribute 1 is the interface, 3 its features.
        let mut payload = vec![1, 1, 0, 0];
        push_attribute(&mut payload, 1, &interface.to_ne_bytes());
        let mut features = None;
        netlink.ask(family, Question::One, &payload, |_, payload| {
            let found = attributes(payload.get(4..).unwrap_or_default())
                .find(|(kind, _)| *kind == 3)
                .and_then(|(_, value)| value.first_chunk::<8>().copied());
            features = found.map(u64::from_ne_bytes).or(features);
        })?;
        Ok(features.map(|bits| Self {
            native: bits & FEATURE_BASIC != 0 && bits & FEATURE_REDIRECT != 0,
            zero_copy: bits & FEATURE_ZERO_COPY != 0,
        }))
    }
}

/// The number of the `netdev` family; `None` before Linux 6.3.
fn family_number(netlink: &mut Netlink) -> io::Result<Option<u16>> {
    // Family 16 is the controller; its command 3 looks a family up by attribute 2, the name.
    let mut payload = vec![3, 1, 0, 0];
    push_attribute(&mut payload, 2, b"netdev\0");
    let mut number = None;
    let asked = netlink.ask(16, Question::One, &payload, |_, payload| {
        let found = attributes(payload.get(4..).unwrap_or_default())
            .find(|(kind, _)| *kind == 1)
            .and_then(|(_, value)| value.first_chunk::<2>().copied());
        number = found.map(u16::from_ne_bytes).or(number);
    });
    match asked {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
        Ok(()) => Ok(number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_that_is_not_there_is_named() {
        let error = Interface::find("nosuch0").unwrap_err();

        assert!(
            matches!(&error, XdpError::NoInterface { interface } if interface == "nosuch0"),
            "{error}"
        );
    }

    #[test]
    fn a_name_too_long_for_the_kernel_is_no_interface() {
        let name = "x".repeat(300);

        assert!(matches!(
            Interface::find(&name),
            Err(XdpError::NoInterface { .. })
        ));
    }
}
