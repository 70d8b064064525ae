//! Long datagrams, many connections, and a radio network that loses packets.

use crate::rig::{Lab, ORIGIN_V4, ORIGIN_V6, Subscriber, full_counts, scenario};

/// 8,000 bytes are one packet on links of 9,000 and, around it, fragments on N3; 10,000 are two.
#[test]
fn datagrams_of_8000_and_10000_bytes_pass_and_are_measured() {
    scenario(|lab| {
        lab.set_origin_mtu(9000);
        let one = Subscriber::new(9);
        let opened = lab.open(&one, one.rules());
        let before = lab.n6();

        for origin in [ORIGIN_V4[0], ORIGIN_V6[0]] {
            for size in [8000, 10_000] {
                assert_eq!(lab.echo((&one, origin), 10, size), 10, "{size} to {origin}");
            }
        }

        let packets = lab.settled().rx_packets - before.rx_packets;
        assert_eq!(packets, 2 * (10 + 20));
        lab.end_exactly(opened.session, before);
    });
}

/// Behind the gateway the path is of 1,500 bytes: its kernel says so to the subscriber's.
#[test]
fn a_subscriber_learns_the_mtu_of_the_path() {
    scenario(|lab| {
        let one = Subscriber::new(9);
        let opened = lab.open(&one, one.rules());
        let before = lab.n6();

        for origin in [ORIGIN_V4[0], ORIGIN_V6[0]] {
            assert!(lab.echo((&one, origin), 2, 4000) < 2, "nothing to learn");
            assert_eq!(lab.echo((&one, origin), 10, 4000), 10, "{origin}");
        }

        lab.end_exactly(opened.session, before);
    });
}

fn many_connections(lab: &mut Lab, percent_lost: u8) {
    let connections: u64 = if full_counts() { 400 } else { 100 };
    let one = Subscriber::new(9);
    let opened = lab.open(&one, one.rules());
    let before = lab.n6();

    lab.lose(percent_lost);
    let text = connections.to_string();
    let got = lab.agent(&["flood", "198.18.0.1", &text, "20000"]);

    assert_eq!(got.parse(), Ok(connections * 20_000));
    lab.end_exactly(opened.session, before);
}

#[test]
fn many_connections_at_once_all_come_to_their_end() {
    scenario(|lab| many_connections(lab, 0));
}

#[test]
fn many_connections_at_once_come_to_their_end_over_a_network_that_loses_packets() {
    scenario(|lab| many_connections(lab, 5));
}
