//! Flow descriptions: the text of a filter and the rule that it states.
//!
//! ```text
//! permit out 17 from 192.0.2.0/24 80,8000-8080 to assigned
//! ```
//!
//! `out` is the direction to the subscriber, so `from` is the remote side; `in` swaps the sides.
//! What we do not match (`deny`, `!`, options behind the sides) is refused, not left out.
//!
//! Source: RFC 6733 §4.3.1; TS 29.212 §5.4.2.

use std::fmt::Write as _;
use std::net::IpAddr;

use super::defect::Fault;
use super::ie::{Octets, Value, Writer};
use super::values::flag;
use crate::model::{SdfFilter, SdfRule};

/// Longest flow description in bytes (chosen: 16 ranges on each side fit).
pub(super) const MAX_FLOW_BYTES: usize = 512;

/// Most port ranges on one side.
const MAX_RANGES: usize = 16;

/// The rule that a flow description states; `None` when it is none that we match.
#[must_use]
pub fn parse_flow(text: &str) -> Option<SdfRule> {
    let mut words = text.split_ascii_whitespace().peekable();
    if words.next()? != "permit" {
        return None;
    }
    let outward = match words.next()? {
        "out" => true,
        "in" => false,
        _ => return None,
    };
    let protocol = match words.next()? {
        "ip" => None,
        "icmp" => Some(1),
        "tcp" => Some(6),
        "udp" => Some(17),
        number => Some(number.parse().ok()?),
    };
    if words.next()? != "from" {
        return None;
    }
    let from = parse_address(words.next()?)?;
    let from_ports = match words.next_if(|word| *word != "to") {
        Some(ports) => parse_ports(ports)?,
        None => Vec::new(),
    };
    if words.next()? != "to" {
        return None;
    }
    let to = parse_address(words.next()?)?;
    let to_ports = words.next().map_or(Some(Vec::new()), parse_ports)?;
    let mixed = from
        .zip(to)
        .is_some_and(|((from, _), (to, _))| from.is_ipv4() != to.is_ipv4());
    if mixed || words.next().is_some() {
        return None;
    }
    let ((remote, remote_ports), (local, local_ports)) = if outward {
        ((from, from_ports), (to, to_ports))
    } else {
        ((to, to_ports), (from, from_ports))
    };
    Some(SdfRule {
        protocol,
        remote,
        remote_ports,
        local,
        local_ports,
    })
}

/// The outer `Option` is the refusal, the inner one "any".
#[expect(clippy::option_option, reason = "refusal and absence are two things")]
fn parse_address(word: &str) -> Option<Option<(IpAddr, u8)>> {
    if matches!(word, "any" | "assigned") {
        return Some(None);
    }
    let (address, bits) = match word.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (word, None),
    };
    let address: IpAddr = address.parse().ok()?;
    let full = full_length(address);
    let bits = bits.map_or(Some(full), |bits| bits.parse().ok())?;
    (bits <= full).then_some(Some((address, bits)))
}

const fn full_length(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

fn parse_ports(word: &str) -> Option<Vec<(u16, u16)>> {
    let mut ranges = Vec::new();
    for range in word.split(',') {
        let (low, high) = range.split_once('-').unwrap_or((range, range));
        let (low, high) = (low.parse().ok()?, high.parse().ok()?);
        if low > high || ranges.len() == MAX_RANGES {
            return None;
        }
        ranges.push((low, high));
    }
    Some(ranges)
}

/// The canonical text of a rule.
#[must_use]
pub fn format_flow(rule: &SdfRule) -> String {
    let mut text = String::from("permit out ");
    match rule.protocol {
        Some(protocol) => {
            let _ = write!(text, "{protocol}");
        }
        None => text.push_str("ip"),
    }
    text.push_str(" from ");
    format_side(&mut text, "any", rule.remote, &rule.remote_ports);
    text.push_str(" to ");
    format_side(&mut text, "assigned", rule.local, &rule.local_ports);
    text
}

fn format_side(text: &mut String, any: &str, address: Option<(IpAddr, u8)>, ports: &[(u16, u16)]) {
    // Writing to a string does not fail.
    match address {
        None => text.push_str(any),
        Some((address, bits)) if bits == full_length(address) => {
            let _ = write!(text, "{address}");
        }
        Some((address, bits)) => {
            let _ = write!(text, "{address}/{bits}");
        }
    }
    for (index, (low, high)) in ports.iter().enumerate() {
        text.push(if index == 0 { ' ' } else { ',' });
        let _ = if low == high {
            write!(text, "{low}")
        } else {
            write!(text, "{low}-{high}")
        };
    }
}

/// A counted flow description with its rule.
pub(super) fn read_flow(octets: &mut Octets<'_>) -> Result<(SdfRule, String), Fault> {
    let bytes = octets.counted()?;
    // Some encoders count a C string's end.
    let bytes = bytes.strip_suffix(&[0]).unwrap_or(bytes);
    if bytes.len() > MAX_FLOW_BYTES {
        return Err(Fault::Incorrect);
    }
    let text = std::str::from_utf8(bytes).map_err(|_| Fault::Incorrect)?;
    let rule = parse_flow(text).ok_or(Fault::Incorrect)?;
    Ok((rule, text.to_owned()))
}

/// The text as it came, or the rule's own; the text has to state the rule.
pub(super) fn write_flow(rule: &SdfRule, text: &str, out: &mut Writer) {
    let own = text.is_empty().then(|| format_flow(rule));
    let text = own.as_deref().unwrap_or(text);
    if text.len() > MAX_FLOW_BYTES || parse_flow(text).as_ref() != Some(rule) {
        out.fail();
    }
    out.counted(|out| out.bytes(text.as_bytes()));
}

impl Value for SdfFilter {
    fn read(octets: &mut Octets<'_>) -> Result<Self, Fault> {
        let flags = octets.u8()?;
        octets.u8()?;
        let flow = octets.when(flags & 0x01, read_flow)?;
        let tos = octets.when(flags & 0x02, <(u8, u8)>::read)?;
        let spi = octets.when(flags & 0x04, Octets::u32)?;
        let flow_label = octets.when(flags & 0x08, Octets::array)?;
        let id = octets.when(flags & 0x10, Octets::u32)?;
        if flags & 0x1f == 0 {
            return Err(Fault::Incorrect);
        }
        let (rule, text) = flow.unzip();
        Ok(Self {
            rule,
            tos,
            spi,
            flow_label: flow_label.map(|[a, b, c]| u32::from_be_bytes([0, a & 0x0f, b, c])),
            id,
            text: text.unwrap_or_default(),
        })
    }
    fn write(&self, out: &mut Writer) {
        let flags = flag(1, self.rule.is_some())
            | flag(2, self.tos.is_some())
            | flag(3, self.spi.is_some())
            | flag(4, self.flow_label.is_some())
            | flag(5, self.id.is_some());
        let stray_text = self.rule.is_none() && !self.text.is_empty();
        if flags == 0 || stray_text || self.flow_label.is_some_and(|label| label > 0x000f_ffff) {
            out.fail();
        }
        out.u8(flags);
        out.u8(0);
        if let Some(rule) = &self.rule {
            write_flow(rule, &self.text, out);
        }
        if let Some(tos) = self.tos {
            tos.write(out);
        }
        if let Some(spi) = self.spi {
            out.u32(spi);
        }
        if let Some(label) = self.flow_label {
            out.low::<3>(label.into());
        }
        if let Some(id) = self.id {
            out.u32(id);
        }
    }
}
