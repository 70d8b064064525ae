//! IEs that hold one number, flag set or address.

use std::net::{IpAddr, Ipv6Addr};

use qlink_types::ids::Teid;

use super::defect::Fault;
use super::ie::{Octets, Value, Writer};
use super::numbers::{CauseCode, IeType};
use super::sets::GroupId;
use crate::model::{
    ApplicationId, ApplyAction, BarId, BitRate, FSeid, FTeid, FarId, Gate, Interface, LocalFTeid,
    MeasurementInformation, MeasurementMethod, NetworkInstance, NodeId, OuterHeaderCreation,
    OuterHeaderRemoval, PdrId, Precedence, QerId, Qfi, Seid, SmfSetId, SplitSide, Time,
    TrafficEndpointId, Trigger, Triggers, UeAddress, UeRole, UrrId, Volume, VolumeLimit,
};

/// Flag `bit` (1 to 8, the standard's numbering) when `set`.
pub(super) const fn flag(bit: u8, set: bool) -> u8 {
    if set { mask(bit) } else { 0 }
}

/// The mask of flag `bit`, 1 to 8.
const fn mask(bit: u8) -> u8 {
    match bit {
        1 => 0x01,
        2 => 0x02,
        3 => 0x04,
        4 => 0x08,
        5 => 0x10,
        6 => 0x20,
        7 => 0x40,
        _ => 0x80,
    }
}

impl Value for u8 {
    fn read(octets: &mut Octets<'_>) -> Result<Self, Fault> {
        octets.u8()
    }
    fn write(&self, out: &mut Writer) {
        out.u8(*self);
    }
}

impl Value for u16 {
    fn read(octets: &mut Octets<'_>) -> Result<Self, Fault> {
        octets.u16()
    }
    fn write(&self, out: &mut Writer) {
        out.u16(*self);
    }
}

impl Value for u32 {
    fn read(octets: &mut Octets<'_>) -> Result<Self, Fault> {
        octets.u32()
    }
    fn write(&self, out: &mut Writer) {
        out.u32(*self);
    }
}

macro_rules! number_values {
    ($($name:ident($inner:ty)),* $(,)?) => {
        $(impl Value for $name {
            fn read(octets: &mut Octets<'_>) -> Result<Self, Fault> {
                <$inner as Value>::read(octets).map(Self::new)
            }
            fn write(&self, out: &mut Writer) {
                self.get().write(out);
            }
        })*
    };
}

number_values! {
    PdrId(u16), FarId(u32), UrrId(u32), QerId(u32), BarId(u8), Precedence(u32), IeType(u16),
    CauseCode(u8), TrafficEndpointId(u8),
}

/// NTP's epoch before Unix's, in seconds.
const NTP_OFFSET: u32 = 2_208_988_800;

/// NTP seconds wrap in 2036; numbers before 1970 mean the years from then to 2106.
impl Value for Time {
    fn read(octets: &mut Octets<'_>) -> Result<Self, Fault> {
        let ntp = octets.u32()?;
        Ok(Self::new(ntp.wrapping_sub(NTP_OFFSET).into()))
    }
    fn write(&self, out: &mut Writer) {
        match u32::try_from(self.get()) {
            Ok(unix) => out.u32(unix.wrapping_add(NTP_OFFSET)),
            Err(_) => out.fail(),
        }
    }
}

impl Value for Qfi {
    fn read(octets: &mut Octets<'_>) -> Result<Self, Fault> {
        Ok(Self::new(octets.u8()? & 0x3f))
    }
    fn write(&self, out: &mut Writer) {
        if self.get() > 0x3f {
            out.fail();
        }
        out.u8(self.get());
    }
}

impl Value for FSeid {
    fn read(octets: &mut Octets<'_>) -> Result<Self, Fault> {
        let flags = octets.u8()?;
        let seid = Seid::new(octets.u64()?);
        let v4 = octets.when(flags & 0x02, Octets::v4)?;
        let v6 = octets.when(flags & 0x01, Octets::v6)?;
        if v4.is_none() && v6.is_none() {
            return Err(Fault::Incorrect);
        }
        Ok(Self { seid, v4, v6 })
    }
    fn write(&self, out: &mut Writer) {
        if self.v4.is_none() && self.v6.is_none() {
            out.fail();
        }
        out.u8(flag(2, self.v4.is_some()) | flag(1, self.v6.is_some()));
        out.u64(self.seid.get());
        out.v4(self.v4);
        out.v6(self.v6);
    }
}

impl Value for LocalFTeid {
    fn read(octets: &mut Octets<'_>) -> Result<Self, Fault> {
        let flags = octets.u8()?;
        let (v4, v6) = (flags & 0x01, flags & 0x02);
        if v4 == 0 && v6 == 0 {
            return Err(Fault::Incorrect);
        }
        if flags & 0x04 != 0 {
            return Ok(Self::Choose {
                v4: v4 != 0,
                v6: v6 != 0,
                choose_id: octets.when(flags & 0x08, Octets::u8)?,
            });
        }
        let teid = Teid::new(octets.u32()?);
        if teid.get() == 0 {
            return Err(Fault::Incorrect);
        }
        Ok(Self::Fixed(FTeid {
            teid,
            v4: octets.when(v4, Octets::v4)?,
            v6: octets.when(v6, Octets::v6)?,
        }))
    }
    fn write(&self, out: &mut Writer) {
        match self {
            Self::Fixed(fteid) => fteid.write(out),
            &Self::Choose { v4, v6, choose_id } => {
                if !v4 && !v6 {
                    out.fail();
                }
                let flags = flag(1, v4) | flag(2, v6) | flag(3, true);
                out.u8(flags | flag(4, choose_id.is_some()));
                if let Some(choose_id) = choose_id {
                    out.u8(choose_id);
                }
            }
        }
    }
}

impl Value for FTeid {
    fn read(octets: &mut Octets<'_>) -> Result<Self, Fault> {
        match LocalFTeid::read(octets)? {
            LocalFTeid::Fixed(fteid) => Ok(fteid),
            LocalFTeid::Choose { .. } => Err(Fault::Incorrect),
        }
    }
    fn write(&self, out: &mut Writer) {
        if (self.v4.is_none() && self.v6.is_none()) || self.teid.get() == 0 {
            out.fail();
        }
        out.u8(flag(1, self.v4.is_some()) | flag(2, self.v6.is_some()));
        out.u32(self.teid.get());
        out.v4(self.v4);
        out.v6(self.v6);
    }
}

/// Longest domain name in text form. Source: RFC 1035 §2.3.4.
const MAX_FQDN: usize = 253;

impl Value for NodeId {
    fn read(octets: &mut Octets<'_>) -> Result<Self, Fault> {
        match octets.u8()? & 0x0f {
            0 => octets.v4().map(Self::V4),
            1 => octets.v6().map(Self::V6),
            2 => read_name(octets).map(Self::Fqdn),
            _ => Err(Fault::Incorrect),
        }
    }
    fn write(&self, out: &mut Writer) {
        match self {
            Self::V4(address) => {
                out.u8(0);
                out.v4(Some(*address));
            }
            Self::V6(address) => {
                out.u8(1);
                out.v6(Some(*address));
            }
            Self::Fqdn(name) => {
                out.u8(2);
                write_name(name, out);
            }
        }
    }
}

impl Value for SmfSetId {
    fn read(octets: &mut Octets<'_>) -> Result<Self, Fault> {
        octets.u8()?;
        read_name(octets).map(Self)
    }
    fn write(&self, out: &mut Writer) {
        out.u8(0);
        write_name(&self.0, out);
    }
}

/// Labels behind their lengths.
fn write_name(name: &str, out: &mut Writer) {
    if name.is_empty() || name.len() > MAX_FQDN {
        out.fail();
    }
    for label in name.split('.') {
        match u8::try_from(label.len()) {
            Ok(length @ 1..=63) if label.bytes().all(is_name_octet) => {
                out.u8(length);
                out.bytes(label.as_bytes());
            }
            _ => out.fail(),
        }
    }
}

const fn is_name_octet(octet: u8) -> bool {
    matches!(octet, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_')
}

/// Labels behind their lengths; the root's empty label may end them.
fn read_name(octets: &mut Octets<'_>) -> Result<String, Fault> {
    let mut name = String::new();
    while !octets.is_empty() {
        let length = octets.u8()?;
        if length == 0 && octets.is_empty() {
            break;
        }
        let label = octets.take(length.into())?.to_ascii_lowercase();
        if label.is_empty() || label.len() > 63 || !label.iter().copied().all(is_name_octet) {
            return Err(Fault::Incorrect);
        }
        if !name.is_empty() {
            name.push('.');
        }
        name.extend(label.into_iter().map(char::from));
    }
    if name.is_empty() || name.len() > MAX_FQDN {
        return Err(Fault::Incorrect);
    }
    Ok(name)
}

impl Value for UeAddress {
    fn read(octets: &mut Octets<'_>) -> Result<Self, Fault> {
        let flags = octets.u8()?;
        let v4 = octets.when(flags & 0x02, Octets::v4)?;
        let v6 = octets.when(flags & 0x01, Octets::v6)?;
        // Delegation bits say how many bits above a /64 are the subscriber's to divide.
        let delegated = octets.when(flags & 0x08, Octets::u8)?;
        let stated = octets.when(flags & 0x40, Octets::u8)?;
        let length = match (stated, delegated) {
            (Some(length), _) => length,
            (None, Some(bits)) => 64_u8.checked_sub(bits).ok_or(Fault::Incorrect)?,
            (None, None) => 64,
        };
        if v6.is_some() && !(1..=128).contains(&length) {
            return Err(Fault::Incorrect);
        }
        let address = Self {
            role: if flags & 0x04 == 0 {
                UeRole::Source
            } else {
                UeRole::Destination
            },
            v4,
            v6: v6.map(|address: Ipv6Addr| (address, length)),
            choose_v4: v4.is_none() && flags & 0x10 != 0,
            choose_v6: v6.is_none() && flags & 0x20 != 0,
        };
        let empty = v4.is_none() && v6.is_none() && !address.choose_v4 && !address.choose_v6;
        if empty {
            return Err(Fault::Incorrect);
        }
        Ok(address)
    }
    fn write(&self, out: &mut Writer) {
        let length = self.v6.map(|(_, length)| length);
        let stated = length.filter(|length| *length != 64);
        let nothing = self.v4.is_none() && self.v6.is_none() && !self.choose_v4 && !self.choose_v6;
        if nothing || stated.is_some_and(|length| length == 0 || length > 128) {
            out.fail();
        }
        out.u8(flag(1, self.v6.is_some())
            | flag(2, self.v4.is_some())
            | flag(3, self.role == UeRole::Destination)
            | flag(5, self.choose_v4 && self.v4.is_none())
            | flag(6, self.choose_v6 && self.v6.is_none())
            | flag(7, stated.is_some()));
        out.v4(self.v4);
        out.v6(self.v6.map(|(address, _)| address));
        if let Some(length) = stated {
            out.u8(length);
        }
    }
}

macro_rules! names {
    ($($name:ident, $max:expr;)*) => {
        $(impl Value for $name {
            fn read(octets: &mut Octets<'_>) -> Result<Self, Fault> {
                match octets.rest() {
                    [] => Err(Fault::Length),
                    name if name.len() > $max => Err(Fault::Incorrect),
                    name => Ok(Self(name.to_vec())),
                }
            }
            fn write(&self, out: &mut Writer) {
                if self.0.is_empty() || self.0.len() > $max {
                    out.fail();
                }
                out.bytes(&self.0);
            }
        })*
    };
}

names! {
    NetworkInstance, 100;
    ApplicationId, 255;
    GroupId, 255;
}

impl Value for Interface {
    fn read(octets: &mut Octets<'_>) -> Result<Self, Fault> {
        match octets.u8()? & 0x0f {
            0 => Ok(Self::Access),
            1 => Ok(Self::Core),
            2 => Ok(Self::SgiLan),
            3 => Ok(Self::ControlPlane),
            4 => Ok(Self::LiFunction),
            _ => Err(Fault::Unsupported),
        }
    }
    fn write(&self, out: &mut Writer) {
        out.u8(match self {
            Self::Access => 0,
            Self::Core => 1,
            Self::SgiLan => 2,
            Self::ControlPlane => 3,
            Self::LiFunction => 4,
        });
    }
}

/// A second octet names extension headers to remove; ours go with the tunnel in any case.
impl Value for OuterHeaderRemoval {
    fn read(octets: &mut Octets<'_>) -> Result<Self, Fault> {
        match octets.u8()? {
            0 => Ok(Self::GtpuUdpIpv4),
            1 => Ok(Self::GtpuUdpIpv6),
            2 => Ok(Self::UdpIpv4),
            3 => Ok(Self::UdpIpv6),
            6 => Ok(Self::GtpuUdpIp),
            _ => Err(Fault::Unsupported),
        }
    }
    fn write(&self, out: &mut Writer) {
        out.u8(match self {
            Self::GtpuUdpIpv4 => 0,
            Self::GtpuUdpIpv6 => 1,
            Self::UdpIpv4 => 2,
            Self::UdpIpv6 => 3,
            Self::GtpuUdpIp => 6,
        });
    }
}

/// Actions on multicast and for redundant transmission are refused: forwarding without them
/// would be another forwarding. Notifications of dropped or kept packets (octet 6) are not sent.
impl Value for ApplyAction {
    fn read(octets: &mut Octets<'_>) -> Result<Self, Fault> {
        let flags = octets.u8()?;
        if flags & 0xe0 != 0 || octets.flags_or_none() & 0x19 != 0 {
            return Err(Fault::Unsupported);
        }
        let (notify, duplicate) = (flags & 0x08 != 0, flags & 0x10 != 0);
        match flags & 0x07 {
            0x01 => Ok(Self::Drop { duplicate }),
            0x02 => Ok(Self::Forward { duplicate }),
            0x04 => Ok(Self::Buffer { notify, duplicate }),
            _ => Err(Fault::Incorrect),
        }
    }
    fn write(&self, out: &mut Writer) {
        out.u8(match *self {
            Self::Drop { duplicate } => 0x01 | flag(5, duplicate),
            Self::Forward { duplicate } => 0x02 | flag(5, duplicate),
            Self::Buffer { notify, duplicate } => 0x04 | flag(4, notify) | flag(5, duplicate),
        });
        out.u8(0);
    }
}

impl Value for OuterHeaderCreation {
    fn read(octets: &mut Octets<'_>) -> Result<Self, Fault> {
        let flags = octets.u8()?;
        octets.u8()?;
        match flags {
            0x01..=0x03 => {
                let teid = Teid::new(octets.u32()?);
                if teid.get() == 0 {
                    return Err(Fault::Incorrect);
                }
                Ok(Self::Gtpu {
                    teid,
                    v4: octets.when(flags & 0x01, Octets::v4)?,
                    v6: octets.when(flags & 0x02, Octets::v6)?,
                })
            }
            0x04 => Ok(Self::Udp {
                to: octets.v4()?.into(),
                port: octets.u16()?,
            }),
            0x08 => Ok(Self::Udp {
                to: octets.v6()?.into(),
                port: octets.u16()?,
            }),
            0 => Err(Fault::Incorrect),
            _ => Err(Fault::Unsupported),
        }
    }
    fn write(&self, out: &mut Writer) {
        match *self {
            Self::Gtpu { teid, v4, v6 } => {
                if (v4.is_none() && v6.is_none()) || teid.get() == 0 {
                    out.fail();
                }
                out.u8(flag(1, v4.is_some()) | flag(2, v6.is_some()));
                out.u8(0);
                out.u32(teid.get());
                out.v4(v4);
                out.v6(v6);
            }
            Self::Udp { to, port } => {
                out.u8(if to.is_ipv4() { 0x04 } else { 0x08 });
                out.u8(0);
                match to {
                    IpAddr::V4(address) => out.v4(Some(address)),
                    IpAddr::V6(address) => out.v6(Some(address)),
                }
                out.u16(port);
            }
        }
    }
}

/// A value with its mask: transport level marking.
impl Value for (u8, u8) {
    fn read(octets: &mut Octets<'_>) -> Result<Self, Fault> {
        Ok((octets.u8()?, octets.u8()?))
    }
    fn write(&self, out: &mut Writer) {
        out.u8(self.0);
        out.u8(self.1);
    }
}

/// Uplink and downlink.
impl Value for (Gate, Gate) {
    fn read(octets: &mut Octets<'_>) -> Result<Self, Fault> {
        let flags = octets.u8()?;
        let gate = |code: u8| match code {
            0 => Ok(Gate::Open),
            1 => Ok(Gate::Closed),
            _ => Err(Fault::Incorrect),
        };
        Ok((gate(flags >> 2 & 0x03)?, gate(flags & 0x03)?))
    }
    fn write(&self, out: &mut Writer) {
        out.u8(flag(3, self.0 == Gate::Closed) | flag(1, self.1 == Gate::Closed));
    }
}

impl Value for BitRate {
    fn read(octets: &mut Octets<'_>) -> Result<Self, Fault> {
        let mut rate = || {
            let [a, b, c, d, e] = octets.array()?;
            Ok(u64::from_be_bytes([0, 0, 0, a, b, c, d, e]))
        };
        Ok(Self {
            uplink_kbps: rate()?,
            downlink_kbps: rate()?,
        })
    }
    fn write(&self, out: &mut Writer) {
        out.low::<5>(self.uplink_kbps);
        out.low::<5>(self.downlink_kbps);
    }
}

impl Value for MeasurementMethod {
    fn read(octets: &mut Octets<'_>) -> Result<Self, Fault> {
        let flags = octets.u8()?;
        if flags & 0x07 == 0 {
            return Err(Fault::Incorrect);
        }
        Ok(Self {
            duration: flags & 0x01 != 0,
            volume: flags & 0x02 != 0,
            event: flags & 0x04 != 0,
        })
    }
    fn write(&self, out: &mut Writer) {
        let flags = flag(1, self.duration) | flag(2, self.volume) | flag(3, self.event);
        if flags == 0 {
            out.fail();
        }
        out.u8(flags);
    }
}

/// Where triggers stand: octet, bit. A rule and a report have them in different places.
const REPORTING: &[(Trigger, usize, u8)] = &[
    (Trigger::Periodic, 0, 1),
    (Trigger::VolumeThreshold, 0, 2),
    (Trigger::TimeThreshold, 0, 3),
    (Trigger::QuotaHolding, 0, 4),
    (Trigger::Start, 0, 5),
    (Trigger::Stop, 0, 6),
    (Trigger::DroppedThreshold, 0, 7),
    (Trigger::Linked, 0, 8),
    (Trigger::VolumeQuota, 1, 1),
    (Trigger::TimeQuota, 1, 2),
    (Trigger::EventThreshold, 1, 5),
    (Trigger::EventQuota, 1, 6),
    (Trigger::QuotaValidity, 1, 8),
];

const REPORTED: &[(Trigger, usize, u8)] = &[
    (Trigger::Periodic, 0, 1),
    (Trigger::VolumeThreshold, 0, 2),
    (Trigger::TimeThreshold, 0, 3),
    (Trigger::QuotaHolding, 0, 4),
    (Trigger::Start, 0, 5),
    (Trigger::Stop, 0, 6),
    (Trigger::DroppedThreshold, 0, 7),
    (Trigger::Immediate, 0, 8),
    (Trigger::VolumeQuota, 1, 1),
    (Trigger::TimeQuota, 1, 2),
    (Trigger::Linked, 1, 3),
    (Trigger::Termination, 1, 4),
    (Trigger::MonitoringTime, 1, 5),
    (Trigger::EventThreshold, 1, 8),
    (Trigger::EventQuota, 2, 1),
    (Trigger::QuotaValidity, 2, 4),
];

const fn places(ie: IeType) -> &'static [(Trigger, usize, u8)] {
    match ie {
        IeType::USAGE_REPORT_TRIGGER => REPORTED,
        _ => REPORTING,
    }
}

/// Triggers that we do not know never fire: their bits are left out. Earlier versions have two
/// octets.
impl Value for Triggers {
    fn read(octets: &mut Octets<'_>) -> Result<Self, Fault> {
        let flags = [octets.u8()?, octets.u8()?, octets.flags_or_none()];
        let mut triggers = Self::NONE;
        for (trigger, octet, bit) in places(octets.ie()) {
            if flags
                .get(*octet)
                .is_some_and(|flags| flags & mask(*bit) != 0)
            {
                triggers = triggers.with(*trigger);
            }
        }
        Ok(triggers)
    }
    fn write(&self, out: &mut Writer) {
        let mut flags = [0_u8; 3];
        for trigger in self.iter() {
            let place = places(out.ie()).iter().find(|(of, ..)| *of == trigger);
            match place.and_then(|(_, octet, bit)| Some((flags.get_mut(*octet)?, *bit))) {
                Some((flags, bit)) => *flags |= mask(bit),
                None => out.fail(),
            }
        }
        out.bytes(&flags);
    }
}

impl Value for VolumeLimit {
    fn read(octets: &mut Octets<'_>) -> Result<Self, Fault> {
        let flags = octets.u8()?;
        Ok(Self {
            total: octets.when(flags & 0x01, Octets::u64)?,
            uplink: octets.when(flags & 0x02, Octets::u64)?,
            downlink: octets.when(flags & 0x04, Octets::u64)?,
        })
    }
    fn write(&self, out: &mut Writer) {
        let parts = [self.total, self.uplink, self.downlink];
        out.u8(flag(1, self.total.is_some())
            | flag(2, self.uplink.is_some())
            | flag(3, self.downlink.is_some()));
        for part in parts.into_iter().flatten() {
            out.u64(part);
        }
    }
}

/// Packets and bytes of the threshold of dropped downlink traffic.
impl Value for (Option<u64>, Option<u64>) {
    fn read(octets: &mut Octets<'_>) -> Result<Self, Fault> {
        let flags = octets.u8()?;
        let packets = octets.when(flags & 0x01, Octets::u64)?;
        Ok((packets, octets.when(flags & 0x02, Octets::u64)?))
    }
    fn write(&self, out: &mut Writer) {
        out.u8(flag(1, self.0.is_some()) | flag(2, self.1.is_some()));
        for part in [self.0, self.1].into_iter().flatten() {
            out.u64(part);
        }
    }
}

impl Value for MeasurementInformation {
    fn read(octets: &mut Octets<'_>) -> Result<Self, Fault> {
        let flags = octets.u8()?;
        Ok(Self {
            before_enforcement: flags & 0x01 != 0,
            inactive: flags & 0x02 != 0,
            packets: flags & 0x10 != 0,
        })
    }
    fn write(&self, out: &mut Writer) {
        out.u8(flag(1, self.before_enforcement) | flag(2, self.inactive) | flag(5, self.packets));
    }
}

/// The two directions of a measurement; one that is not stated follows from the total.
fn directions(
    total: Option<u64>,
    uplink: Option<u64>,
    downlink: Option<u64>,
) -> Result<(u64, u64), Fault> {
    let other = |known: u64| match total {
        Some(total) => total.checked_sub(known).ok_or(Fault::Incorrect),
        None => Ok(0),
    };
    match (uplink, downlink) {
        (Some(uplink), Some(downlink)) => Ok((uplink, downlink)),
        (Some(uplink), None) => Ok((uplink, other(uplink)?)),
        (None, Some(downlink)) => Ok((other(downlink)?, downlink)),
        (None, None) => match total {
            None | Some(0) => Ok((0, 0)),
            Some(_) => Err(Fault::Incorrect),
        },
    }
}

impl Value for Volume {
    fn read(octets: &mut Octets<'_>) -> Result<Self, Fault> {
        let flags = octets.u8()?;
        let mut three = |flags: u8| {
            let total = octets.when(flags & 0x01, Octets::u64)?;
            let uplink = octets.when(flags & 0x02, Octets::u64)?;
            let downlink = octets.when(flags & 0x04, Octets::u64)?;
            directions(total, uplink, downlink)
        };
        let (uplink, downlink) = three(flags)?;
        let packets = (flags & 0x38 != 0).then(|| three(flags >> 3)).transpose()?;
        Ok(Self {
            uplink,
            downlink,
            packets,
        })
    }
    fn write(&self, out: &mut Writer) {
        // A total that 64 bits do not hold is left out.
        let total = |(uplink, downlink): (u64, u64)| uplink.checked_add(downlink);
        let bytes = (self.uplink, self.downlink);
        let counts = self.packets;
        out.u8(0x06
            | flag(1, total(bytes).is_some())
            | flag(4, counts.and_then(total).is_some())
            | flag(5, counts.is_some())
            | flag(6, counts.is_some()));
        for pair in [Some(bytes), counts].into_iter().flatten() {
            if let Some(total) = total(pair) {
                out.u64(total);
            }
            out.u64(pair.0);
            out.u64(pair.1);
        }
    }
}

/// Before and after; usage after or before enforcement (UAE, UBE) is what the rule says anyway.
impl Value for Option<SplitSide> {
    fn read(octets: &mut Octets<'_>) -> Result<Self, Fault> {
        match octets.u8()? & 0x03 {
            0 => Ok(None),
            1 => Ok(Some(SplitSide::Before)),
            2 => Ok(Some(SplitSide::After)),
            _ => Err(Fault::Incorrect),
        }
    }
    fn write(&self, out: &mut Writer) {
        out.u8(match self {
            None => 0,
            Some(SplitSide::Before) => 1,
            Some(SplitSide::After) => 2,
        });
    }
}
