//! Packets that nobody should send.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use qlink_types::ids::Teid;
use qlink_wire::build::udp_packet;
use qlink_wire::{GTPU_PORT, gpdu_header};

use crate::rig::{
    Bearer, Framing, GATEWAY, Heard, Lab, ORIGIN_V4, ORIGIN_V6, SMFS, Subscriber, full_counts,
    scenario,
};

/// How long error indications are held back after a start, because sessions may be on their way.
const HELD_BACK: Duration = Duration::from_secs(31);

#[test]
fn corrupt_messages_are_dropped_and_counted_and_nothing_else_is() {
    scenario(|lab| {
        let one = Subscriber::new(9);
        let opened = lab.open(&one, one.rules());
        let before = lab.n6();

        lab.radio.frame(Framing::Corrupt { every: 5 });
        lab.fetch(&one, ORIGIN_V4[0], 400_000);
        lab.fetch(&one, ORIGIN_V6[0], 100_000);
        lab.radio.frame(Framing::Plain);
        assert_eq!(lab.echo((&one, ORIGIN_V4[0]), 10, 100), 10);

        let after = lab.settled();
        let corrupt = lab.radio.corrupt();
        assert!(corrupt >= 3, "{corrupt}");
        assert_eq!(lab.drops("gtpu_extension_length"), corrupt);
        let forwarded = after.rx_packets - before.rx_packets;
        assert_eq!(forwarded, lab.radio.uplink() - corrupt);
        lab.end_exactly(opened.session, before);
    });
}

/// Bytes from a fixed seed.
fn noise(seed: u64) -> impl FnMut() -> u8 {
    let mut state = seed;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    }
}

#[test]
fn noise_on_both_interfaces_to_the_core_moves_nothing() {
    scenario(|lab| {
        let one = Subscriber::new(9);
        let opened = lab.open(&one, one.rules());
        let before = lab.n6();
        let mut next = noise(0x9e37_79b9_7f4a_7c15);
        let n4 = UdpSocket::bind((SMFS[1], 0)).unwrap();

        for number in 0..500_usize {
            let mut message: Vec<u8> = (0..number % 120).map(|_| next()).collect();
            if let Some(first) = message.first_mut() {
                *first = if number % 2 == 0 { 0x30 } else { 0x34 };
            }
            if message.len() >= 8 && number % 3 == 0 {
                // The right tunnel, and what it carries is no packet.
                message[1] = 255;
                message[4..8].copy_from_slice(&opened.uplink().teid.get().to_be_bytes());
            }
            lab.radio.send(0, message.clone());
            if let Some(first) = message.first_mut() {
                *first = 0x20 | u8::from(number % 2 == 0);
            }
            n4.send_to(&message, (GATEWAY, 8805)).unwrap();
        }

        assert_eq!(lab.settled().rx, before.rx);
        assert_eq!(lab.echo((&one, ORIGIN_V4[0]), 10, 100), 10);
        lab.end_exactly(opened.session, before);
    });
}

fn stray(lab: &Lab, teid: u32) {
    let mut message = gpdu_header(teid, 20).to_vec();
    message.extend([
        0x45, 0, 0, 20, 0, 0, 0, 0, 64, 17, 0, 0, 10, 60, 0, 9, 198, 18, 0, 1,
    ]);
    lab.radio.send(0, message);
}

#[test]
fn packets_through_tunnels_that_nobody_has_are_counted_and_later_answered() {
    scenario(|lab| {
        let one = Subscriber::new(9);
        let opened = lab.open(&one, one.rules());
        let before = lab.n6();
        let unknown = opened.uplink().teid.get() ^ 0x55;

        stray(lab, unknown);
        lab.until_dropped("teid_unknown", 1);
        assert_eq!(lab.echo((&one, ORIGIN_V4[0]), 5, 100), 5);
        assert!(lab.radio.heard().is_empty());
        if full_counts() {
            lab.smf.pump(HELD_BACK);
            stray(lab, unknown);
            let heard = lab
                .radio
                .until(|heard| matches!(heard, Heard::ErrorIndication(_)));
            let Heard::ErrorIndication(indicated) = heard else {
                unreachable!("that was waited for");
            };
            assert_eq!((indicated.teid, indicated.peer), (unknown, GATEWAY));
        }

        lab.end_exactly(opened.session, before);
    });
}

#[test]
fn a_subscriber_cannot_borrow_an_address() {
    scenario(|lab| {
        let (one, victim) = (Subscriber::new(9), Subscriber::new(10));
        let opened = lab.open(&one, one.rules());
        let of_victim = lab.open(&victim, victim.rules());
        let before = lab.n6();
        // The second subscriber's packets go through the first one's tunnel.
        let own: Vec<IpAddr> = victim.bearer(&of_victim).own;
        lab.radio.attach(Bearer {
            own,
            uplink: opened.uplink().teid,
            downlink: Teid::new(1),
            station: 0,
        });

        lab.send((&victim, ORIGIN_V4[0]), 5);
        lab.send((&victim, ORIGIN_V6[0]), 5);

        lab.until_dropped("source_spoofed", 10);
        assert_eq!(lab.n6().rx, before.rx);
        assert_eq!(lab.echo((&one, ORIGIN_V4[0]), 5, 100), 5);
        lab.smf.delete(of_victim.session);
        lab.end_exactly(opened.session, before);
    });
}

#[test]
fn a_tunnel_is_its_base_stations_alone() {
    scenario(|lab| {
        let one = Subscriber::new(9);
        let opened = lab.open(&one, one.rules());
        let before = lab.n6();
        let mut bearer = one.bearer(&opened);
        bearer.station = 1;

        lab.radio.attach(bearer);
        lab.send((&one, ORIGIN_V4[0]), 5);

        lab.until_dropped("peer_mismatch", 5);
        assert_eq!(lab.n6().rx, before.rx);
        lab.radio.attach(one.bearer(&opened));
        assert_eq!(lab.echo((&one, ORIGIN_V4[0]), 5, 100), 5);
        lab.end_exactly(opened.session, before);
    });
}

/// From a host of the radio network that is nobody's BaseStation: every other packet names the right
/// tunnel.
#[test]
fn a_sweep_of_guessed_tunnels_moves_nothing() {
    let packets: u32 = if full_counts() { 1_000_000 } else { 20_000 };
    scenario(|lab| {
        let one = Subscriber::new(9);
        let opened = lab.open(&one, one.rules());
        let before = lab.n6();
        let right = opened.uplink().teid.get();
        let from = SocketAddr::new(one.like(ORIGIN_V4[0]), 4_000);
        let inner = udp_packet(from, (ORIGIN_V4[0], 5_000).into(), &[7; 100]).unwrap();
        let mut message = gpdu_header(right, u16::try_from(inner.len()).unwrap()).to_vec();
        message.extend(&inner);
        let stranger = UdpSocket::bind((SMFS[1], GTPU_PORT)).unwrap();
        let reasons = ["peer_mismatch", "teid_unknown", "receive_full"];
        let dropped = |lab: &Lab| reasons.map(|reason| lab.drops(reason));

        for number in 1..=packets {
            let guess = number.wrapping_mul(0x9e37_79b1) ^ right;
            let teid = if number % 2 == 0 { right } else { guess };
            message[4..8].copy_from_slice(&teid.to_be_bytes());
            stranger.send_to(&message, (GATEWAY, GTPU_PORT)).unwrap();
            // No faster than they are counted: what the kernel loses tells nothing.
            let deadline = Instant::now() + Duration::from_secs(20);
            while number % 100 == 0 && dropped(lab).iter().sum::<u64>() < number.into() {
                assert!(Instant::now() < deadline, "{number}: {:?}", dropped(lab));
                lab.smf.pump(Duration::from_micros(100));
            }
        }

        let half = u64::from(packets / 2);
        assert_eq!(dropped(lab), [half, half, 0]);
        assert_eq!(lab.settled().rx, before.rx);
        assert!(lab.radio.heard().is_empty());
        assert_eq!(lab.echo((&one, ORIGIN_V4[0]), 5, 100), 5);
        lab.end_exactly(opened.session, before);
    });
}

#[test]
fn subscribers_reach_none_of_the_gateways_own_addresses() {
    scenario(|lab| {
        let one = Subscriber::new(9);
        let opened = lab.open(&one, one.rules());
        let before = lab.n6();

        for own in [GATEWAY, IpAddr::from([198, 18, 0, 254])] {
            lab.send((&one, own), 3);
        }

        lab.until_dropped("to_infrastructure", 6);
        assert_eq!(lab.n6().rx, before.rx);
        lab.end_exactly(opened.session, before);
    });
}
