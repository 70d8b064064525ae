use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;
use qlink_pfcp::model::{
    ApplicationId, ApplyAction, FTeid, Far, FarId, Forwarding, Interface, LocalFTeid,
    OuterHeaderCreation, Pdi, Pdr, PdrId, Precedence, Qfi, SdfFilter, SdfRule, SessionModel,
    UeAddress, UeRole,
};
use qlink_types::ids::{ContentId, Teid};

use super::*;

const UE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);
const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 80);

fn pdi(source: Interface) -> Pdi {
    Pdi {
        source,
        endpoint: None,
        network_instance: None,
        local_fteid: None,
        ue: None,
        filters: Vec::new(),
        application: None,
        qfis: Vec::new(),
        contents: Vec::new(),
        packages: Vec::new(),
    }
}

fn pdr(id: u16, precedence: u32, pdi: Pdi) -> Pdr {
    Pdr {
        id: PdrId::new(id),
        precedence: Precedence::new(precedence),
        pdi,
        removal: None,
        far: Some(FarId::new(1)),
        urrs: Vec::new(),
        qers: Vec::new(),
    }
}

fn session(pdrs: Vec<Pdr>) -> SessionModel {
    let far = Far {
        id: FarId::new(1),
        action: ApplyAction::Forward { duplicate: false },
        forwarding: Some(Forwarding {
            destination: Interface::Core,
            network_instance: None,
            outer: None,
            redirect: None,
            transport_marking: None,
        }),
        duplicating: Vec::new(),
        bar: None,
    };
    SessionModel {
        pdrs: pdrs.into_iter().map(|pdr| (pdr.id, pdr)).collect(),
        fars: BTreeMap::from([(far.id, far)]),
        ..SessionModel::default()
    }
}

fn rule() -> SdfRule {
    SdfRule {
        protocol: None,
        remote: None,
        remote_ports: Vec::new(),
        local: None,
        local_ports: Vec::new(),
    }
}

fn filter(rule: SdfRule) -> SdfFilter {
    SdfFilter {
        rule: Some(rule),
        ..SdfFilter::default()
    }
}

fn downlink() -> PacketMeta {
    PacketMeta {
        source: Interface::Core,
        teid: None,
        src: IpAddr::V4(SERVER),
        dst: IpAddr::V4(UE),
        protocol: 6,
        src_port: 80,
        dst_port: 40_000,
        tos: 0,
        flow_label: 0,
        spi: 0,
        qfi: None,
    }
}

fn uplink() -> PacketMeta {
    PacketMeta {
        source: Interface::Access,
        teid: Some(Teid::new(7)),
        src: IpAddr::V4(UE),
        dst: IpAddr::V4(SERVER),
        src_port: 40_000,
        dst_port: 80,
        ..downlink()
    }
}

fn found(model: &SessionModel, meta: &PacketMeta) -> Option<u16> {
    let block = RuleBlock::compile(model, &NoApplications).unwrap();
    block.classify(meta).map(|pdr| pdr.id.get())
}

#[test]
fn the_lowest_precedence_then_the_lowest_id_wins() {
    let model = session(vec![
        pdr(1, 200, pdi(Interface::Core)),
        pdr(3, 100, pdi(Interface::Core)),
        pdr(2, 100, pdi(Interface::Core)),
    ]);

    assert_eq!(found(&model, &downlink()), Some(2));
    assert_eq!(found(&model, &uplink()), None);
}

#[test]
fn a_filter_for_one_direction_is_met_by_the_other_with_its_ends_swapped() {
    let to_server = filter(SdfRule {
        protocol: Some(6),
        remote: Some((IpAddr::V4(SERVER), 24)),
        remote_ports: vec![(80, 80)],
        ..rule()
    });
    let of = |source| Pdi {
        filters: vec![to_server.clone()],
        ..pdi(source)
    };
    let model = session(vec![
        pdr(1, 1, of(Interface::Access)),
        pdr(2, 1, of(Interface::Core)),
    ]);

    assert_eq!(found(&model, &uplink()), Some(1));
    assert_eq!(found(&model, &downlink()), Some(2));
    let swapped = PacketMeta {
        src: IpAddr::V4(SERVER),
        dst: IpAddr::V4(UE),
        ..uplink()
    };
    assert_eq!(found(&model, &swapped), None);
    let other_port = PacketMeta {
        dst_port: 443,
        ..uplink()
    };
    assert_eq!(found(&model, &other_port), None);
}

#[test]
fn port_ranges_include_both_ends() {
    let ports = filter(SdfRule {
        remote_ports: vec![(10, 20), (443, 443)],
        ..rule()
    });
    let model = session(vec![pdr(
        1,
        1,
        Pdi {
            filters: vec![ports],
            ..pdi(Interface::Core)
        },
    )]);
    let at = |src_port| {
        let meta = PacketMeta {
            src_port,
            ..downlink()
        };
        found(&model, &meta).is_some()
    };

    let matched: Vec<u16> = (0..500).filter(|port| at(*port)).collect();

    let expected: Vec<u16> = (10..=20).chain([443]).collect();
    assert_eq!(matched, expected);
}

#[test]
fn an_ipv6_subscriber_is_matched_by_prefix_and_never_by_an_ipv4_packet() {
    let model = session(vec![pdr(
        1,
        1,
        Pdi {
            ue: Some(UeAddress {
                role: UeRole::Destination,
                v4: None,
                v6: Some(("2001:db8:1:2::".parse().unwrap(), 64)),
                choose_v4: false,
                choose_v6: false,
            }),
            ..pdi(Interface::Core)
        },
    )]);
    let to = |dst: &str| {
        let meta = PacketMeta {
            src: "2001:db8::80".parse().unwrap(),
            dst: dst.parse().unwrap(),
            ..downlink()
        };
        found(&model, &meta)
    };

    assert_eq!(to("2001:db8:1:2:ffff::1"), Some(1));
    assert_eq!(to("2001:db8:1:3::1"), None);
    assert_eq!(found(&model, &downlink()), None);
}

#[test]
fn tunnel_endpoint_qfi_tos_spi_and_flow_label_must_all_match() {
    let mut filter = SdfFilter {
        tos: Some((0x20, 0xfc)),
        spi: Some(77),
        flow_label: Some(5),
        ..SdfFilter::default()
    };
    filter.id = Some(1);
    let model = session(vec![pdr(
        1,
        1,
        Pdi {
            local_fteid: Some(LocalFTeid::Fixed(FTeid {
                teid: Teid::new(7),
                v4: None,
                v6: None,
            })),
            qfis: vec![Qfi::new(9), Qfi::new(63)],
            filters: vec![filter],
            ..pdi(Interface::Access)
        },
    )]);
    let sound = PacketMeta {
        qfi: Some(Qfi::new(63)),
        tos: 0x23,
        spi: 77,
        flow_label: 5,
        ..uplink()
    };

    assert_eq!(found(&model, &sound), Some(1));
    for broken in [
        PacketMeta {
            teid: Some(Teid::new(8)),
            ..sound
        },
        PacketMeta {
            qfi: Some(Qfi::new(8)),
            ..sound
        },
        PacketMeta { qfi: None, ..sound },
        PacketMeta { tos: 0x24, ..sound },
        PacketMeta { spi: 78, ..sound },
        PacketMeta {
            flow_label: 6,
            ..sound
        },
    ] {
        assert_eq!(found(&model, &broken), None, "{broken:?}");
    }
}

#[test]
fn a_filter_named_by_its_number_is_the_one_of_the_other_rule() {
    let whole = SdfFilter {
        id: Some(4),
        ..filter(SdfRule {
            protocol: Some(17),
            ..rule()
        })
    };
    let reference = SdfFilter {
        id: Some(4),
        ..SdfFilter::default()
    };
    let with = |filter: &SdfFilter, source| Pdi {
        filters: vec![filter.clone()],
        ..pdi(source)
    };
    let model = session(vec![
        pdr(1, 1, with(&whole, Interface::Access)),
        pdr(2, 1, with(&reference, Interface::Core)),
    ]);
    let udp = PacketMeta {
        protocol: 17,
        ..downlink()
    };

    assert_eq!(found(&model, &udp), Some(2));
    assert_eq!(found(&model, &downlink()), None);
    let alone = session(vec![pdr(2, 1, with(&reference, Interface::Core))]);
    assert_eq!(
        RuleBlock::compile(&alone, &NoApplications),
        Err(CompileError::FilterUnknown(PdrId::new(2)))
    );
}

#[test]
fn an_application_is_the_filters_that_are_known_for_it() {
    let application = ApplicationId(b"films".to_vec());
    let model = session(vec![pdr(
        1,
        1,
        Pdi {
            application: Some(application.clone()),
            ..pdi(Interface::Core)
        },
    )]);
    let mut known = BTreeMap::from([(application.clone(), Vec::new())]);
    let classify = |known: &BTreeMap<_, _>| {
        let block = RuleBlock::compile(&model, known).unwrap();
        block.classify(&downlink()).is_some()
    };

    assert!(!classify(&known));
    known.insert(
        application,
        vec![filter(SdfRule {
            remote: Some((IpAddr::V4(SERVER), 32)),
            ..rule()
        })],
    );
    assert!(classify(&known));
    assert_eq!(
        RuleBlock::compile(&model, &NoApplications),
        Err(CompileError::ApplicationUnknown(PdrId::new(1)))
    );
}

#[test]
fn a_rule_with_contents_detects_no_packet_and_is_listed() {
    let content = ContentId::new([3; 32]);
    let model = session(vec![pdr(
        1,
        1,
        Pdi {
            contents: vec![content],
            ..pdi(Interface::Core)
        },
    )]);

    let block = RuleBlock::compile(&model, &NoApplications).unwrap();

    assert!(block.classify(&downlink()).is_none());
    assert_eq!(*block.proof_rules()[0].contents, [content]);
}

#[test]
fn a_tunnel_without_an_address_is_refused() {
    let mut model = session(vec![pdr(1, 1, pdi(Interface::Core))]);
    let far = model.fars.get_mut(&FarId::new(1)).unwrap();
    far.forwarding.as_mut().unwrap().outer = Some(OuterHeaderCreation::Gtpu {
        teid: Teid::new(1),
        v4: None,
        v6: None,
    });

    assert_eq!(
        RuleBlock::compile(&model, &NoApplications),
        Err(CompileError::FarIncomplete(FarId::new(1)))
    );
}

/// What a rule says, without masks, groups or hashes.
fn meets(pdi: &Pdi, meta: &PacketMeta) -> bool {
    let (remote, local, remote_port, local_port) = match meta.source {
        Interface::Access => (meta.dst, meta.src, meta.dst_port, meta.src_port),
        _ => (meta.src, meta.dst, meta.src_port, meta.dst_port),
    };
    let inside = |prefix: Option<(IpAddr, u8)>, address: IpAddr| match (prefix, address) {
        (None, _) => true,
        (Some((IpAddr::V4(net), bits)), IpAddr::V4(address)) => {
            let shift = 32 - u32::from(bits);
            u64::from(net.to_bits()) >> shift == u64::from(address.to_bits()) >> shift
        }
        _ => false,
    };
    let ports = |set: &[(u16, u16)], port: u16| {
        set.is_empty() || set.iter().any(|(low, high)| (low..=high).contains(&&port))
    };
    let any = pdi.filters.iter().any(|filter| {
        let rule = filter.rule.as_ref().unwrap();
        rule.protocol
            .is_none_or(|protocol| protocol == meta.protocol)
            && inside(rule.remote, remote)
            && inside(rule.local, local)
            && ports(&rule.remote_ports, remote_port)
            && ports(&rule.local_ports, local_port)
    });
    pdi.source == meta.source && (pdi.filters.is_empty() || any)
}

fn small_rule() -> impl Strategy<Value = SdfRule> {
    let side = || prop::option::of((0..4u8, 24..33u8));
    let ports = || prop::collection::vec((0..4u16, 0..3u16), 0..3);
    (prop::option::of(6..8u8), side(), side(), ports(), ports()).prop_map(
        |(protocol, remote, local, remote_ports, local_ports)| {
            let net = |(host, bits): (u8, u8)| (IpAddr::from([10, 0, 0, host]), bits);
            let range = |(low, more): (u16, u16)| (low, low + more);
            SdfRule {
                protocol,
                remote: remote.map(net),
                remote_ports: remote_ports.into_iter().map(range).collect(),
                local: local.map(net),
                local_ports: local_ports.into_iter().map(range).collect(),
            }
        },
    )
}

proptest! {
    #[test]
    fn the_search_finds_what_a_scan_of_the_rules_finds(
        rules in prop::collection::vec(
            (0..3u32, any::<bool>(), prop::collection::vec(small_rule(), 0..4)), 1..40,
        ),
        packets in prop::collection::vec((any::<bool>(), 0..4u8, 0..4u8, 6..8u8, 0..6u16, 0..6u16), 20),
    ) {
        let side = |up| if up { Interface::Access } else { Interface::Core };
        let pdrs = rules.into_iter().zip(1..).map(|((precedence, up, filters), id)| {
            let filters = filters.into_iter().map(filter).collect();
            pdr(id, precedence, Pdi { filters, ..pdi(side(up)) })
        });
        let model = session(pdrs.collect());
        let block = RuleBlock::compile(&model, &NoApplications).unwrap();
        for (up, src, dst, protocol, src_port, dst_port) in packets {
            let meta = PacketMeta {
                source: side(up),
                src: IpAddr::from([10, 0, 0, src]),
                dst: IpAddr::from([10, 0, 0, dst]),
                protocol, src_port, dst_port,
                ..downlink()
            };
            let best = model.pdrs.values().filter(|pdr| meets(&pdr.pdi, &meta))
                .min_by_key(|pdr| (pdr.precedence, pdr.id)).map(|pdr| pdr.id);
            prop_assert_eq!(block.classify(&meta).map(|pdr| pdr.id), best);
        }
    }
}
