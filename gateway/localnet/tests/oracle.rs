//! The account against the gateway's own proof: two machines without common code see the same
//! packets, one of them in the gateway's place, and must agree to the byte.
#![expect(clippy::unwrap_used, reason = "test code")]

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use qlink_content::{
    Candidate, CloseReason, Context, FlowProof, HEAD_WORDS, LimitReason, Policy, Segment, Verdict,
    View,
};
use qlink_localnet::{
    Catalog, CheatMeter, CheatMode, Direction, Film, JobId, LossPpm, LossyLink, Origin,
    OriginConfig, SocketSize, StackClock, Viewer, foreign_bytes,
};
use qlink_types::ids::ContentId;
use qlink_types::units::Bytes;
use qlink_wire::{parse_ip, parse_tcp};

const VIEWER: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 7);
const FILM_BYTES: usize = 1_200_000;
const LOSS_PPM: u32 = 30_000;

/// Faster than demo time: only the order of packets matters here.
const SPEED: u32 = 400;

/// The proof where the data plane has it, with live traffic's drops.
struct Gateway<'a> {
    contents: Vec<Candidate<'a>>,
    views: Vec<View>,
    flows: HashMap<u16, (FlowProof, Vec<u64>)>,
    charged: u64,
}

impl Gateway<'_> {
    fn passes(&mut self, direction: qlink_content::Direction, packet: &[u8]) -> bool {
        let tcp = parse_tcp(parse_ip(packet).unwrap().payload).unwrap();
        let viewer_port = match direction {
            qlink_content::Direction::Uplink => tcp.src_port,
            qlink_content::Direction::Downlink => tcp.dst_port,
        };
        let new = || (FlowProof::new(0), vec![0; HEAD_WORDS]);
        let (flow, heads) = self.flows.entry(viewer_port).or_insert_with(new);
        let mut context = Context {
            contents: &self.contents,
            views: &mut self.views,
            heads,
            now_ns: 0,
            policy: Policy::Live,
        };
        let segment = Segment {
            seq: tcp.seq,
            ack: tcp.ack,
            flags: tcp.flags.bits(),
            payload: tcp.payload,
            payload_len: u32::try_from(tcp.payload.len()).unwrap(),
        };
        match flow.segment(&mut context, direction, &segment) {
            Verdict::Forward(deltas) => {
                self.charged += deltas.user_charged;
                true
            }
            Verdict::Drop(_) => false,
        }
    }

    fn close(mut self) -> u64 {
        for (flow, _) in self.flows.values_mut() {
            let deltas = flow.close(&mut self.views, CloseReason::SessionEnd);
            self.charged += deltas.user_charged;
        }
        self.charged
    }
}

/// Plays a cheat; the bytes that the gateway charged and those that the account calls foreign.
fn play(mode: CheatMode, seed: u64, film: &[u8]) -> (u64, u64) {
    let catalog = Catalog::new([("/film".to_owned(), Film::new(film.to_vec()))]);
    let size = SocketSize {
        receive: 128 * 1024,
        transmit: 16 * 1024,
    };
    let mut viewer = Viewer::new(VIEWER, 1400, seed, size, StackClock::new(SPEED));
    let config = OriginConfig {
        seed,
        speed: SPEED,
        ..OriginConfig::default()
    };
    let mut origin = Origin::new(config, catalog.clone());
    let loss = LossPpm::try_new(LOSS_PPM).unwrap();
    let mut links = [
        LossyLink::new(loss, seed * 2),
        LossyLink::new(loss, seed * 2 + 1),
    ];
    let mut observers = [CheatMeter::new(catalog.clone()), CheatMeter::new(catalog)];
    observers
        .iter_mut()
        .for_each(|observer| observer.watch(VIEWER));
    let [at_station, at_origin] = &mut observers;
    let mut gateway = Gateway {
        contents: vec![Candidate {
            id: ContentId::new([1; 32]),
            bytes: film,
        }],
        views: vec![View::new(Bytes::new(1 << 40), LimitReason::Cap)],
        flows: HashMap::new(),
        charged: 0,
    };
    let server = SocketAddrV4::new(config.address, config.port);
    let script = mode.script(VIEWER, server, "/film", film.len() as u64);
    viewer.start(JobId(1), script).unwrap();

    let started = Instant::now();
    while viewer.poll(Instant::now()).is_empty() {
        assert!(
            started.elapsed() < Duration::from_secs(60),
            "{mode:?} does not end"
        );
        while let Some(packet) = viewer.pop() {
            if links[0].passes() {
                at_station.observe(Direction::Uplink, &packet);
                if gateway.passes(qlink_content::Direction::Uplink, &packet) {
                    at_origin.observe(Direction::Uplink, &packet);
                    origin.push(&packet);
                }
            }
        }
        origin.poll();
        while let Some(packet) = origin.pop() {
            at_origin.observe(Direction::Downlink, &packet);
            if gateway.passes(qlink_content::Direction::Downlink, &packet) {
                at_station.observe(Direction::Downlink, &packet);
                if links[1].passes() {
                    viewer.push(&packet);
                }
            }
        }
    }
    let count = foreign_bytes(&at_station.report(), &at_origin.report(), VIEWER);
    assert_eq!(count.undecided_bytes, 0, "{mode:?}, seed {seed}");
    (gateway.close(), count.foreign_bytes)
}

#[test]
fn gateways_proof_charges_exactly_the_foreign_bytes_of_every_cheat() {
    let mut film = vec![0; FILM_BYTES];
    blake3::Hasher::new().finalize_xof().fill(&mut film);

    for seed in 0..3 {
        for mode in CheatMode::ALL {
            let (charged, foreign) = play(mode, seed, &film);

            assert_eq!(charged, foreign, "{mode:?}, seed {seed}");
            assert!(foreign > 100_000, "{mode:?}, seed {seed}");
        }
    }
}
