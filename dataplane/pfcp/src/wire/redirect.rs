//! Where packets are redirected to. Source: TS 29.244 §8.2.20.

use std::net::IpAddr;

use super::defect::Fault;
use super::ie::{Octets, Value, Writer};
use crate::model::{Destination, Redirect};

/// Longest address of a redirection in bytes (chosen: what browsers take).
const MAX_URL: usize = 2048;

/// What the types of a redirection state besides an address of the web: IPv4, IPv6, port.
const REDIRECTIONS: [(u8, [bool; 3]); 7] = [
    (0, [true, false, false]),
    (1, [false, true, false]),
    (4, [true, true, false]),
    (5, [false, false, true]),
    (6, [true, false, true]),
    (7, [false, true, true]),
    (8, [true, true, true]),
];

/// SIP is refused.
impl Value for Redirect {
    fn read(octets: &mut Octets<'_>) -> Result<Self, Fault> {
        let kind = octets.u8()? & 0x0f;
        if kind == 2 {
            let text = redirect_text(octets)?;
            return match text.len() {
                1..=MAX_URL => Ok(Self::Url(text.to_owned())),
                _ => Err(Fault::Incorrect),
            };
        }
        let stated = REDIRECTIONS.iter().find(|(of, _)| *of == kind);
        let (_, [v4, v6, port]) = *stated.ok_or(Fault::Unsupported)?;
        let mut to = Destination::default();
        for _ in 0..usize::from(v4).saturating_add(usize::from(v6)) {
            match redirect_text(octets)?.parse() {
                Ok(IpAddr::V4(address)) => to.v4 = Some(address),
                Ok(IpAddr::V6(address)) => to.v6 = Some(address),
                Err(_) => return Err(Fault::Incorrect),
            }
        }
        if port {
            let mut stated = octets.u16()?;
            // Some write the length of an address where there is none.
            if stated == 0 && !octets.is_empty() {
                stated = octets.u16()?;
            }
            to.port = Some(stated).filter(|port| *port != 0);
        }
        let found = [to.v4.is_some(), to.v6.is_some(), to.port.is_some()];
        if found == [v4, v6, port] {
            Ok(Self::To(to))
        } else {
            Err(Fault::Incorrect)
        }
    }
    fn write(&self, out: &mut Writer) {
        let to = match self {
            Self::Url(url) => {
                if url.is_empty() || url.len() > MAX_URL {
                    out.fail();
                }
                out.u8(2);
                out.counted(|out| out.bytes(url.as_bytes()));
                return;
            }
            Self::To(to) => to,
        };
        let stated = [to.v4.is_some(), to.v6.is_some(), to.port.is_some()];
        match REDIRECTIONS.iter().find(|(_, of)| *of == stated) {
            Some((kind, _)) if to.port != Some(0) => out.u8(*kind),
            _ => out.fail(),
        }
        for address in to.addresses() {
            out.counted(|out| out.bytes(address.to_string().as_bytes()));
        }
        if let Some(port) = to.port {
            out.u16(port);
        }
    }
}

fn redirect_text<'a>(octets: &mut Octets<'a>) -> Result<&'a str, Fault> {
    std::str::from_utf8(octets.counted()?).map_err(|_| Fault::Incorrect)
}
