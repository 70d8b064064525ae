//! Subscribers that move, BaseStations that forget them, and user planes in a row.

use qlink_pfcp::model::{Interface, LocalFTeid, OuterHeaderRemoval, SessionChange, UrrId};
use qlink_pfcp::sim::SessionPlan;
use qlink_types::ids::Teid;

use crate::rig::{
    Heard, Mirror, ORIGIN_V4, ORIGIN_V6, STATIONS, Subscriber, downlink_far, scenario, through,
};

const URR: UrrId = UrrId::new(1);

#[test]
fn a_handover_under_traffic_ends_the_old_tunnel_with_a_marker_and_loses_no_usage() {
    scenario(|lab| {
        let one = Subscriber::new(9);
        let opened = lab.open(&one, one.rules());
        let before = lab.n6();
        let (old, new) = (one.downlink, Teid::new(0x8009));

        let download = lab.start_ue(&[
            "curl",
            "-sS",
            "-m",
            "30",
            "-o",
            "/dev/null",
            "http://198.18.0.1/20000000",
        ]);
        while lab.radio.downlink(0) < 200 {
            lab.smf.pump(std::time::Duration::from_millis(2));
        }
        let mut change = downlink_far(1, new);
        change.send_end_marker = true;
        lab.smf.forward(opened.session, change);
        let mut bearer = one.bearer(&opened);
        (bearer.station, bearer.downlink) = (1, new);
        lab.radio.attach(bearer);
        lab.end(download);

        let marker = Heard::EndMarker {
            station: 0,
            teid: old.get(),
        };
        assert_eq!(
            lab.radio
                .until(|heard| matches!(heard, Heard::EndMarker { .. })),
            marker
        );
        let at_old = lab.radio.downlink(0);
        assert_eq!(lab.echo((&one, ORIGIN_V4[0]), 20, 500), 20);
        assert_eq!(lab.radio.downlink(0), at_old);
        assert!(lab.radio.downlink(1) > 1000);
        lab.end_exactly(opened.session, before);
    });
}

#[test]
fn an_error_indication_of_the_base_station_reaches_the_smf() {
    scenario(|lab| {
        let one = Subscriber::new(9);
        let opened = lab.open(&one, one.rules());
        assert_eq!(lab.echo((&one, ORIGIN_V4[0]), 5, 100), 5);
        let own = one.like(ORIGIN_V4[0]).to_string();

        // It has restarted and says of the next packet that it does not know the tunnel.
        lab.radio.detach(one.downlink);
        lab.origin_agent(&["push", "198.18.0.1", &own, "1", "100", "0"]);
        let stray = lab
            .radio
            .until(|heard| matches!(heard, Heard::Stray { .. }));
        let Heard::Stray { station, teid } = stray else {
            unreachable!("that was waited for");
        };
        let indication = qlink_wire::error_indication(teid, STATIONS[station]);
        lab.radio.send(station, indication.to_vec());

        let told = lab.smf.told(opened.session).error_indication;
        assert_eq!(
            told.first().map(|endpoint| endpoint.teid),
            Some(one.downlink)
        );
        // The session stands until the SMF says otherwise.
        lab.radio.attach(one.bearer(&opened));
        assert_eq!(lab.echo((&one, ORIGIN_V4[0]), 5, 100), 5);
    });
}

#[test]
fn a_base_station_that_asks_whether_the_gateway_is_there_is_answered() {
    scenario(|lab| {
        let one = Subscriber::new(9);
        let opened = lab.open(&one, one.rules());
        let before = lab.n6();

        lab.radio.send(0, qlink_wire::echo_request(4711).to_vec());
        let answer = Heard::Echo {
            station: 0,
            sequence: Some(4711),
        };
        assert_eq!(
            lab.radio.until(|heard| matches!(heard, Heard::Echo { .. })),
            answer
        );

        lab.end_exactly(opened.session, before);
    });
}

/// Rules of a user plane between an access network and an anchor: a tunnel on both sides.
fn between(one: &Subscriber, anchor: Teid) -> SessionChange {
    let mut rules = one.rules();
    for pdr in &mut rules.create_pdrs {
        pdr.removal = Some(OuterHeaderRemoval::GtpuUdpIp);
    }
    let [up, down] = &mut rules.create_pdrs[..] else {
        unreachable!("there are two");
    };
    for (pdr, id) in [(up, 1), (down, 2)] {
        pdr.pdi.local_fteid = Some(LocalFTeid::Choose {
            v4: true,
            v6: false,
            choose_id: Some(id),
        });
    }
    let up = rules.create_fars[0].forwarding.as_mut().unwrap();
    up.destination = Interface::Core;
    up.outer = Some(through(1, anchor));
    rules
}

#[test]
fn a_user_plane_between_two_tunnels_passes_and_measures_both_directions() {
    scenario(|lab| {
        let one = Subscriber::new(9);
        let anchor = Teid::new(0x9001);
        let opened = lab.open(&one, between(&one, anchor));
        let [access, core] = SessionPlan::PDRS.map(|id| opened.endpoint(id));
        assert_ne!(access, core);
        lab.radio.mirror(Mirror {
            station: 1,
            from: anchor,
            to: core,
        });
        let (before, n6) = (lab.ue0(), lab.n6());

        assert_eq!(lab.echo((&one, ORIGIN_V4[0]), 100, 300), 100);
        assert_eq!(lab.echo((&one, ORIGIN_V6[0]), 50, 700), 50);
        // Longer than N3 takes in one piece.
        assert_eq!(lab.echo((&one, ORIGIN_V4[1]), 5, 3000), 5);

        lab.smf.delete(opened.session);
        let volume = lab.smf.volume(opened.session, URR);
        let carried = (lab.ue0().tx - before.tx, lab.ue0().rx - before.rx);
        assert_eq!(volume, carried);
        assert_eq!(volume.0, 100 * 328 + 50 * 748 + 5 * 3028);
        assert_eq!(lab.n6(), n6, "nothing goes past the anchor");
    });
}
