//! Addresses and names.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use qlink_pfcp::model::*;
use qlink_types::ids::Teid;

use super::Source;

pub(super) fn v4(s: &mut Source<'_>) -> Ipv4Addr {
    s.u32().into()
}

pub(super) fn v6(s: &mut Source<'_>) -> Ipv6Addr {
    (u128::from(s.u64()) << 64 | u128::from(s.u64())).into()
}

pub(super) fn ip(s: &mut Source<'_>) -> IpAddr {
    if s.coin() { v4(s).into() } else { v6(s).into() }
}

/// At least one address.
pub(super) fn addresses(s: &mut Source<'_>) -> (Option<Ipv4Addr>, Option<Ipv6Addr>) {
    match s.below(3) {
        0 => (Some(v4(s)), None),
        1 => (None, Some(v6(s))),
        _ => (Some(v4(s)), Some(v6(s))),
    }
}

pub(super) fn teid(s: &mut Source<'_>) -> Teid {
    Teid::new(s.u32().max(1))
}

pub(super) fn fteid(s: &mut Source<'_>) -> FTeid {
    let (v4, v6) = addresses(s);
    FTeid {
        teid: teid(s),
        v4,
        v6,
    }
}

pub(super) fn local_fteid(s: &mut Source<'_>) -> LocalFTeid {
    if s.coin() {
        return LocalFTeid::Fixed(fteid(s));
    }
    let kinds = s.below(3);
    LocalFTeid::Choose {
        v4: kinds != 1,
        v6: kinds != 0,
        choose_id: s.maybe(Source::u8),
    }
}

pub(super) fn fseid(s: &mut Source<'_>) -> FSeid {
    let (v4, v6) = addresses(s);
    FSeid {
        seid: Seid::new(s.u64()),
        v4,
        v6,
    }
}

pub(super) fn smf_set(s: &mut Source<'_>) -> SmfSetId {
    SmfSetId(["set", "x-1.smf", "a.b.c"][usize::from(s.u8() % 3)].to_owned())
}

pub(super) fn node(s: &mut Source<'_>) -> NodeId {
    match s.below(3) {
        0 => NodeId::V4(v4(s)),
        1 => NodeId::V6(v6(s)),
        _ => {
            let labels = s.some(3, |s| String::from_utf8(s.bytes(9)).unwrap_or_default());
            NodeId::Fqdn(labels.join("."))
        }
    }
}

pub(super) fn time(s: &mut Source<'_>) -> Time {
    Time::new(s.u32().into())
}

pub(super) fn interface(s: &mut Source<'_>) -> Interface {
    match s.below(4) {
        0 => Interface::Access,
        1 => Interface::Core,
        2 => Interface::SgiLan,
        _ => Interface::ControlPlane,
    }
}

pub(super) fn instance(s: &mut Source<'_>) -> NetworkInstance {
    NetworkInstance(s.bytes(40))
}

pub(super) fn qfi(s: &mut Source<'_>) -> Qfi {
    Qfi::new(s.below(64))
}

pub(super) fn ue_address(s: &mut Source<'_>) -> UeAddress {
    let (v4, v6) = match s.below(4) {
        0 => (None, None),
        _ => addresses(s),
    };
    UeAddress {
        role: match s.coin() {
            true => UeRole::Source,
            false => UeRole::Destination,
        },
        v4,
        v6: v6.map(|prefix| (prefix, s.below(128) + 1)),
        choose_v4: v4.is_none() && (v6.is_none() || s.coin()),
        choose_v6: v6.is_none() && s.coin(),
    }
}
