//! What usage rules report is what the kernels carried, to the byte.

use std::net::IpAddr;

use qlink_pfcp::model::{LocalFTeid, Qfi};

use crate::rig::{
    Framing, GATEWAY_V6, Lab, ORIGIN_V4, ORIGIN_V6, Subscriber, scenario, scenario_with, through,
};

/// Opens the usual session, runs `traffic` with the origin's address and compares.
fn measured(lab: &mut Lab, traffic: impl FnOnce(&mut Lab, &Subscriber)) {
    let subscriber = Subscriber::new(9);
    let opened = lab.open(&subscriber, subscriber.rules());
    let before = lab.n6();

    traffic(lab, &subscriber);

    lab.end_exactly(opened.session, before);
}

fn http(lab: &mut Lab, subscriber: &Subscriber, origin: IpAddr) {
    lab.fetch(subscriber, origin, 400_000);
    lab.post(subscriber, origin, 300_000);
    let carried = lab.n6();
    assert!(carried.rx > 300_000 && carried.tx > 400_000, "{carried:?}");
}

#[test]
fn http_both_ways_is_measured_over_ipv4() {
    scenario(|lab| measured(lab, |lab, one| http(lab, one, ORIGIN_V4[0])));
}

#[test]
fn http_both_ways_is_measured_over_ipv6() {
    scenario(|lab| measured(lab, |lab, one| http(lab, one, ORIGIN_V6[0])));
}

#[test]
fn datagrams_are_measured_over_both_versions() {
    scenario(|lab| {
        measured(lab, |lab, one| {
            for origin in [ORIGIN_V4[0], ORIGIN_V6[0]] {
                assert_eq!(lab.echo((one, origin), 100, 700), 100);
            }
            // 100 times 700 bytes behind headers of 28 and of 48.
            assert_eq!(lab.n6().rx, 100 * (728 + 748));
        });
    });
}

#[test]
fn echo_requests_of_icmp_are_measured_over_both_versions() {
    scenario(|lab| {
        measured(lab, |lab, one| {
            for origin in [ORIGIN_V4[0], ORIGIN_V6[0]] {
                let own = one.like(origin).to_string();
                let origin = origin.to_string();
                let words = ["ping", "-c", "10", "-i", "0.02", "-s", "100", "-W", "2"];
                let said = lab.ue(&[&words, ["-I", &own, &origin].as_slice()].concat());
                assert!(said.contains(" 10 received"), "{said}");
            }
            assert_eq!(lab.n6().rx, 10 * (128 + 148));
        });
    });
}

#[test]
fn headers_of_the_radio_network_are_nobodys_usage() {
    scenario(|lab| {
        let subscriber = Subscriber::new(9);
        let mut plan = subscriber.plan();
        plan.qfi = Some(Qfi::new(9));
        let opened = lab.open(&subscriber, subscriber.rules_of(&plan));
        let before = lab.n6();

        for framing in [
            Framing::Container { qfi: 9 },
            Framing::Extension,
            Framing::Plain,
        ] {
            lab.radio.frame(framing);
            assert_eq!(lab.echo((&subscriber, ORIGIN_V4[0]), 20, 300), 20);
        }

        assert_eq!(lab.n6().rx - before.rx, 60 * 328);
        assert_eq!(lab.radio.with_container(), 60);
        lab.end_exactly(opened.session, before);
    });
}

#[test]
fn a_radio_network_of_ipv6_carries_both_versions() {
    scenario_with(
        |config| config.n3.set_ip(GATEWAY_V6.into()),
        |lab| {
            let one = Subscriber::new(9);
            let mut rules = one.rules();
            rules.create_pdrs[0].pdi.local_fteid = Some(LocalFTeid::Choose {
                v4: false,
                v6: true,
                choose_id: None,
            });
            let down = rules.create_fars[1].forwarding.as_mut().unwrap();
            down.outer = Some(through(2, one.downlink));
            let opened = lab.smf.establish(rules);
            assert_eq!(opened.uplink().v6, Some(GATEWAY_V6));
            let mut bearer = one.bearer(&opened);
            bearer.station = 2;
            lab.attach_by(&one, bearer);
            let before = lab.n6();

            http(lab, &one, ORIGIN_V4[0]);
            lab.fetch(&one, ORIGIN_V6[0], 100_000);
            assert_eq!(lab.echo((&one, ORIGIN_V6[0]), 10, 100), 10);

            lab.end_exactly(opened.session, before);
        },
    );
}

#[test]
fn addresses_that_the_gateway_chose_carry_packets() {
    scenario(|lab| {
        let mut rules = Subscriber::new(9).rules();
        for pdr in &mut rules.create_pdrs {
            let ue = pdr.pdi.ue.as_mut().unwrap();
            (ue.v4, ue.v6) = (None, None);
            (ue.choose_v4, ue.choose_v6) = (true, true);
        }
        let opened = lab.smf.establish(rules);
        let chosen = opened.created.iter().find_map(|pdr| pdr.ue).unwrap();
        let (prefix, length) = chosen.v6.unwrap();
        assert_eq!(length, 64);
        let one = Subscriber {
            v4: chosen.v4,
            // The subscriber makes up the rest of his address himself.
            v6: Some((prefix.to_bits() | 0x1234).into()),
            ..Subscriber::new(9)
        };
        lab.attach(&one, &opened);
        let before = lab.n6();

        assert_eq!(lab.echo((&one, ORIGIN_V4[0]), 20, 100), 20);
        assert_eq!(lab.echo((&one, ORIGIN_V6[0]), 20, 100), 20);

        lab.end_exactly(opened.session, before);
    });
}
