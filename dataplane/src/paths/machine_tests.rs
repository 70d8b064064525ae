//! Peers that answer, fall silent, come back, lie and change, at every time.

use proptest::prelude::*;

use super::*;
use crate::export::Span;

const INTERVAL: Duration = Duration::from_secs(60);
const T3: Duration = Duration::from_secs(3);

fn paths(max_peers: u32) -> Paths {
    let config = PathsConfig {
        interval: Span(INTERVAL),
        t3: Span(T3),
        n3: 3,
        max_peers,
    };
    Paths::new(config, [7; 32])
}

fn peer(host: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, host], 2152))
}

/// Lets time pass until something happens.
fn next(paths: &mut Paths) -> (Duration, Vec<PathEffect>) {
    let due = paths.due.first().unwrap().0;
    (due, paths.timer(due))
}

#[test]
fn a_path_has_failed_once_three_requests_in_a_row_are_not_answered_and_not_before() {
    let mut paths = paths(8);
    paths.watch(Duration::ZERO, &BTreeSet::from([peer(1)]));

    let (first, asked) = next(&mut paths);
    let [PathEffect::Ask(expected)] = asked[..] else {
        panic!("{asked:?}");
    };
    assert!(first >= INTERVAL && first < 2 * INTERVAL);
    assert_eq!(next(&mut paths), (first + T3, asked.clone()));
    assert_eq!(next(&mut paths), (first + 2 * T3, asked));
    assert_eq!(paths.standing(), (1, 0));
    let gone = vec![PathEffect::Failed(peer(1))];
    assert_eq!(next(&mut paths), (first + 3 * T3, gone));
    assert_eq!(paths.standing(), (0, 1));
    // Too late, and of no request that stands.
    assert_eq!(paths.answered(first + 3 * T3, expected), None);
    assert_eq!(paths.counts().stray, 1);

    let (again, asked) = next(&mut paths);
    assert_eq!(again, first + 3 * T3 + INTERVAL);
    let [PathEffect::Ask(expected)] = asked[..] else {
        panic!("{asked:?}");
    };
    let back = paths.answered(again, expected);
    assert_eq!(back, Some(PathEffect::Recovered(peer(1))));
    assert_eq!(paths.standing(), (1, 0));
    assert_eq!(next(&mut paths).0, again + INTERVAL);
}

#[test]
fn peers_found_together_are_not_asked_together() {
    let mut paths = paths(256);
    let peers: BTreeSet<SocketAddr> = (0..=255).map(peer).collect();

    paths.watch(Duration::ZERO, &peers);

    let (first, last) = (paths.due.first().unwrap().0, paths.due.last().unwrap().0);
    assert!(last - first > INTERVAL / 2, "{first:?} {last:?}");
    assert_eq!(paths.timer(2 * INTERVAL).len(), ASKS_MAX);
}

/// What happens to the machine.
#[derive(Debug, Clone)]
enum Step {
    Watch(BTreeSet<u8>),
    Wait(u64),
    /// The peer answers its last request.
    Answer(u8),
    /// Somebody answers for it with another number, or from another port.
    Lie(u8, u16),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => prop::collection::btree_set(0_u8..6, 0..6).prop_map(Step::Watch),
        6 => (1_u64..20_000).prop_map(Step::Wait),
        3 => (0_u8..6).prop_map(Step::Answer),
        2 => (0_u8..6, any::<u16>()).prop_map(|(host, number)| Step::Lie(host, number)),
    ]
}

/// What an onlooker knows of a peer.
#[derive(Debug, Default, Clone, Copy)]
struct Seen {
    failed: bool,
    unanswered: u32,
    asked: Option<(Duration, u16)>,
}

proptest! {
    #[test]
    fn verdicts_alternate_follow_three_misses_and_no_lie_changes_anything(
        steps in prop::collection::vec(step(), 1..200)
    ) {
        let mut paths = paths(4);
        let mut now = Duration::ZERO;
        let mut seen: BTreeMap<SocketAddr, Seen> = BTreeMap::new();
        for step in steps {
            let mut effects = Vec::new();
            match step {
                Step::Watch(hosts) => {
                    paths.watch(now, &hosts.iter().copied().map(peer).collect());
                    seen.retain(|peer, _| paths.knows(peer));
                }
                Step::Wait(millis) => {
                    now += Duration::from_millis(millis);
                    effects = paths.timer(now);
                }
                Step::Answer(host) => {
                    let known = seen.get_mut(&peer(host));
                    if let Some((known, (_, number))) = known.and_then(|k| Some((k.asked?, k)).map(|(a, k)| (k, a))) {
                        let expected = paths.expected().contains(&(peer(host), number));
                        effects.extend(paths.answered(now, (peer(host), number)));
                        if expected {
                            prop_assert_eq!(known.failed, !effects.is_empty());
                            *known = Seen { failed: known.failed, ..Seen::default() };
                        }
                    }
                }
                Step::Lie(host, number) => {
                    let before = paths.expected();
                    let truth = before.contains(&(peer(host), number));
                    let elsewhere = SocketAddr::new(peer(host).ip(), 9);
                    prop_assert_eq!(paths.answered(now, (elsewhere, number)), None);
                    if !truth {
                        prop_assert_eq!(paths.answered(now, (peer(host), number)), None);
                    }
                    prop_assert_eq!(paths.expected(), before);
                }
            }
            for effect in effects {
                match effect {
                    PathEffect::Ask((to, number)) => {
                        let known = seen.entry(to).or_default();
                        if let Some((at, before)) = known.asked {
                            let pause = if before == number { T3 } else { INTERVAL };
                            prop_assert!(now >= at + pause.min(T3));
                        }
                        known.asked = Some((now, number));
                        known.unanswered += 1;
                    }
                    PathEffect::Failed(of) => {
                        let known = seen.entry(of).or_default();
                        prop_assert!(!known.failed && known.unanswered >= 3, "{:?}", known);
                        known.failed = true;
                    }
                    PathEffect::Recovered(of) => {
                        let known = seen.entry(of).or_default();
                        prop_assert!(known.failed);
                        known.failed = false;
                    }
                }
            }
            prop_assert!(paths.paths.len() <= 4);
            prop_assert_eq!(paths.paths.len(), paths.due.len());
        }
    }
}
