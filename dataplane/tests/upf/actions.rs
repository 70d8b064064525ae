//! What forwarding rules say: forward, drop, keep until the subscriber is there again.

use std::time::Instant;

use qlink_pfcp::model::{
    ApplyAction, BitRate, FarChanges, Gate, QerChanges, QerId, SessionChange, UrrId,
};
use qlink_pfcp::sim::SessionPlan;

use crate::rig::{Lab, ORIGIN_V4, Opened, Subscriber, scenario};

fn act(lab: &mut Lab, opened: &Opened, rule: usize, action: ApplyAction) {
    lab.smf.forward(
        opened.session,
        FarChanges {
            id: SessionPlan::FARS[rule],
            action: Some(action),
            ..FarChanges::default()
        },
    );
}

const DROP: ApplyAction = ApplyAction::Drop { duplicate: false };
const FORWARD: ApplyAction = ApplyAction::Forward { duplicate: false };
const BUFFER: ApplyAction = ApplyAction::Buffer {
    notify: true,
    duplicate: false,
};

#[test]
fn a_rule_that_drops_stops_packets_and_their_usage_until_it_forwards_again() {
    scenario(|lab| {
        let one = Subscriber::new(9);
        let opened = lab.open(&one, one.rules());
        let before = lab.n6();
        assert_eq!(lab.echo((&one, ORIGIN_V4[0]), 5, 100), 5);

        act(lab, &opened, 0, DROP);
        lab.send((&one, ORIGIN_V4[0]), 5);
        lab.until_dropped("far_drop", 5);
        assert_eq!(lab.n6().rx - before.rx, 5 * 128);
        act(lab, &opened, 0, FORWARD);
        assert_eq!(lab.echo((&one, ORIGIN_V4[0]), 5, 100), 5);

        assert_eq!(lab.n6().rx - before.rx, 10 * 128);
        lab.end_exactly(opened.session, before);
    });
}

#[test]
fn packets_wait_while_the_subscriber_is_away_and_the_smf_is_told() {
    scenario(|lab| {
        let one = Subscriber::new(9);
        let opened = lab.open(&one, one.rules());
        let (before, delivered) = (lab.n6(), lab.ue0());
        let own = one.like(ORIGIN_V4[0]).to_string();
        let push = ["push", "198.18.0.1", own.as_str(), "5", "200", "1000"];
        // What his kernel says to nobody's datagrams is not of interest here.
        act(lab, &opened, 0, DROP);

        act(lab, &opened, 1, BUFFER);
        lab.origin_agent(&push);
        let told = lab.smf.told(opened.session);
        assert_eq!(told.downlink_data.unwrap().pdrs, [SessionPlan::PDRS[1]]);
        lab.settled();
        assert_eq!(lab.ue0().rx, delivered.rx);
        act(lab, &opened, 1, FORWARD);
        lab.settled();
        assert_eq!(lab.ue0().rx - delivered.rx, 5 * 228);
        act(lab, &opened, 1, DROP);
        lab.origin_agent(&push);
        lab.settled();
        act(lab, &opened, 1, FORWARD);
        lab.origin_agent(&push);

        lab.settled();
        assert_eq!(lab.ue0().rx - delivered.rx, 10 * 228);
        assert_eq!(lab.n6().tx - before.tx, 15 * 228);
        lab.smf.delete(opened.session);
        let reported = lab.smf.volume(opened.session, UrrId::new(1));
        assert_eq!(reported, (0, 10 * 228));
    });
}

#[test]
fn a_gate_closes_one_direction_and_opens_again() {
    scenario(|lab| {
        let one = Subscriber::new(9);
        let opened = lab.open(&one, one.rules());
        let before = lab.n6();
        let gates = |uplink, downlink| SessionChange {
            update_qers: vec![QerChanges {
                id: QerId::new(1),
                gates: Some((uplink, downlink)),
                ..QerChanges::default()
            }],
            ..SessionChange::default()
        };

        lab.smf
            .modify(opened.session, gates(Gate::Closed, Gate::Open));
        lab.send((&one, ORIGIN_V4[0]), 5);
        lab.until_dropped("gate_closed", 5);
        assert_eq!(lab.n6().rx, before.rx);
        lab.smf
            .modify(opened.session, gates(Gate::Open, Gate::Open));
        assert_eq!(lab.echo((&one, ORIGIN_V4[0]), 5, 100), 5);

        lab.end_exactly(opened.session, before);
    });
}

#[test]
fn a_bit_rate_is_never_exceeded_and_what_it_lets_pass_is_measured() {
    scenario(|lab| {
        let one = Subscriber::new(9);
        let mut plan = one.plan();
        plan.mbr = Some(BitRate {
            uplink_kbps: 8_000,
            downlink_kbps: 8_000,
        });
        let opened = lab.open(&one, one.rules_of(&plan));
        let before = lab.n6();
        let own = one.like(ORIGIN_V4[0]).to_string();

        let started = Instant::now();
        lab.agent(&["push", &own, "198.18.0.1", "2000", "1000", "100"]);
        let carried = lab.settled().rx - before.rx;
        let elapsed = started.elapsed();

        // 1,000 bytes each millisecond, 10 ms at once, and the packet that found room.
        let most = u64::try_from(elapsed.as_millis()).unwrap() * 1000 + 10_000 + 2 * 1028;
        assert!(carried <= most, "{carried} bytes in {elapsed:?}");
        assert!(lab.drops("rate_exceeded") > 0);
        lab.end_exactly(opened.session, before);
    });
}
