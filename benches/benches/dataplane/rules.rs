//! The search of a packet's detection rule.

use std::hint::black_box;
use std::net::IpAddr;

use criterion::{BenchmarkId, Criterion, Throughput};
use qlink_meter::{NoApplications, PacketMeta, RuleBlock};
use qlink_pfcp::model::{
    ApplyAction, Far, FarId, Forwarding, Interface, Pdi, Pdr, PdrId, Precedence, SdfFilter,
    SessionModel,
};
use qlink_pfcp::wire::parse_flow;

const BURST: u16 = 32;

/// Forwarding rule 1.
fn far() -> Far {
    Far {
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
    }
}

fn server(number: u16) -> IpAddr {
    let [high, low] = number.to_be_bytes();
    [198, 18, high, low].into()
}

/// Uplink rules, each of one server: patterns with one mask.
fn block(rules: u16) -> RuleBlock {
    let mut model = SessionModel::default();
    model.fars.insert(FarId::new(1), far());
    for number in 0..rules {
        let id = PdrId::new(number);
        let text = format!("permit out ip from {} to assigned", server(number));
        let filter = SdfFilter {
            rule: Some(parse_flow(&text).unwrap()),
            text,
            ..SdfFilter::default()
        };
        let pdr = Pdr {
            id,
            precedence: Precedence::new(number.into()),
            pdi: Pdi {
                source: Interface::Access,
                network_instance: None,
                endpoint: None,
                local_fteid: None,
                ue: None,
                filters: vec![filter],
                application: None,
                qfis: Vec::new(),
                contents: Vec::new(),
                packages: Vec::new(),
            },
            removal: None,
            far: Some(FarId::new(1)),
            urrs: Vec::new(),
            qers: Vec::new(),
        };
        model.pdrs.insert(id, pdr);
    }
    RuleBlock::compile(&model, &NoApplications).unwrap()
}

/// A packet of the subscriber's to a server.
fn packet(number: u16, port: u16) -> PacketMeta {
    PacketMeta {
        source: Interface::Access,
        teid: None,
        src: [10, 60, 0, 9].into(),
        dst: server(number),
        protocol: 6,
        src_port: port,
        dst_port: 443,
        tos: 0,
        flow_label: 0,
        spi: 0,
        qfi: None,
    }
}

/// The rule of a packet that the last of them detects, a burst of 32 at once.
pub(crate) fn rule_search(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("rules::search");
    group.throughput(Throughput::Elements(BURST.into()));
    for rules in [4, 16, 1024] {
        let block = block(rules);
        let last = rules.saturating_sub(1);
        let packets: Vec<PacketMeta> = (0..BURST).map(|port| packet(last, port)).collect();
        for packet in &packets {
            let found = block.classify(packet).map(|pdr| pdr.id);
            assert_eq!(found, Some(PdrId::new(last)), "the last rule is found");
        }
        let id = BenchmarkId::from_parameter(format!("rules={rules} masks=1"));
        group.bench_function(id, |bencher| {
            bencher.iter(|| {
                let found = packets
                    .iter()
                    .filter_map(|packet| block.classify(black_box(packet)));
                found.fold(0_u16, |sum, pdr| sum ^ pdr.id.get())
            });
        });
    }
    group.finish();
}
