//! Requests with an element missing or twice, with numbers that no session has, and more sessions
//! than a node takes: each gets a cause that tells the truth, and the node stays sound.

use super::rig::*;
use crate::model::*;
use crate::sim::Happened;
use crate::wire::*;

/// Bytes in front of a session request's elements. Source: TS 29.244 §7.2.2.3.
const HEADER: usize = 16;
/// Create PDR, PDI, Create FAR, forwarding parameters, Create URR, Create QER: elements that hold
/// others. Source: TS 29.244 §8.1.2.
const GROUPS: [u16; 6] = [1, 2, 3, 4, 6, 7];

/// An element's place: its first byte, its end, and the groups around it, outermost first.
#[derive(Debug, Clone)]
struct Element {
    kind: u16,
    start: usize,
    end: usize,
    around: Vec<usize>,
}

fn number(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// Every element of a request, those in groups too.
fn elements(bytes: &[u8]) -> Vec<Element> {
    let mut found = Vec::new();
    walk(bytes, HEADER, bytes.len(), &[], &mut found);
    found
}

fn walk(bytes: &[u8], mut at: usize, end: usize, around: &[usize], found: &mut Vec<Element>) {
    while at < end {
        let kind = number(bytes, at);
        let stop = at + 4 + usize::from(number(bytes, at + 2));
        found.push(Element {
            kind,
            start: at,
            end: stop,
            around: around.to_vec(),
        });
        if GROUPS.contains(&kind) {
            walk(bytes, at + 4, stop, &[around, &[at]].concat(), found);
        }
        at = stop;
    }
}

/// The request with `instead` in place of an element; lengths follow.
fn replaced(bytes: &[u8], element: &Element, instead: &[u8]) -> Vec<u8> {
    let mut changed = bytes.to_vec();
    for at in element.around.iter().map(|at| at + 2).chain([2]) {
        let length = usize::from(number(bytes, at)) + instead.len();
        let length = u16::try_from(length - (element.end - element.start)).unwrap();
        changed[at..at + 2].copy_from_slice(&length.to_be_bytes());
    }
    changed.splice(element.start..element.end, instead.iter().copied());
    changed
}

/// A request for a session with all that the plan can hold.
fn request() -> Vec<u8> {
    let (rig, mut smf) = associated();
    let mut plan = plan(1);
    plan.quota = Some(5000);
    smf.establish(rig.now, plan.rules());
    smf.take_datagrams().remove(0)
}

/// What a fresh node says to a request, and whether a session stands then.
fn said(bytes: &[u8]) -> (CauseCode, Option<IeType>, bool) {
    let (mut rig, _) = associated();
    let answers = rig.say_bytes(SMF, bytes);
    rig.assert_sound();
    let [(_, Message::SessionEstablishmentResponse(answer))] = &answers[..] else {
        panic!("{answers:?}");
    };
    let stands = !rig.plane.is_empty();
    assert_eq!(answer.cause.is_accepted(), stands, "{answer:?}");
    (answer.cause, answer.offending, stands)
}

/// Elements that TS 29.244 tables 7.5.2.1-1 to 7.5.2.5-1 call mandatory, by type and by the group
/// they stand in (0: none). Precedence is not among them here: a rule without is looked at last.
const MANDATORY: [(u16, u16); 12] = [
    (0, 60),  // Node ID
    (0, 57),  // CP F-SEID
    (0, 1),   // Create PDR
    (0, 3),   // Create FAR
    (1, 56),  // PDR ID
    (1, 2),   // PDI
    (2, 20),  // Source Interface
    (3, 108), // FAR ID
    (3, 44),  // Apply Action
    (6, 81),  // URR ID
    (6, 62),  // Measurement Method
    (6, 37),  // Reporting Triggers
];

#[test]
fn a_request_without_a_mandatory_element_is_refused_and_names_it() {
    let whole = request();
    let all = elements(&whole);
    assert!(said(&whole).2);
    let mut missed = Vec::new();

    for element in &all {
        let group = element.around.last().map_or(0, |at| number(&whole, *at));
        let place = (group, element.kind);
        let others = all
            .iter()
            .filter(|other| other.kind == element.kind && other.around == element.around);
        let (cause, offending, stands) = said(&replaced(&whole, element, &[]));
        // One of several PDRs or FARs may be missing, but not without those that name it.
        if MANDATORY.contains(&place) && others.count() == 1 {
            assert_eq!(cause, CauseCode::MANDATORY_IE_MISSING, "{element:?}");
            assert_eq!(
                offending.map(IeType::get),
                Some(element.kind),
                "{element:?}"
            );
            missed.push(place);
        } else if !stands {
            assert!(cause.get() > 64, "{element:?}: {cause:?}");
        }
    }

    // Two PDRs and two FARs: neither is the only one of its kind.
    missed.sort_unstable();
    missed.dedup();
    let once = MANDATORY.into_iter();
    let mut once: Vec<_> = once.filter(|place| !matches!(place, (0, 1 | 3))).collect();
    once.sort_unstable();
    assert_eq!(missed, once);
}

#[test]
fn an_element_that_stands_twice_is_taken_once_or_refused() {
    let whole = request();

    for element in elements(&whole) {
        let twice = [&whole[element.start..element.end]; 2].concat();
        let (cause, _, stands) = said(&replaced(&whole, &element, &twice));
        // Rules of one id twice contradict each other; of anything else the first is taken.
        let is_rule = matches!(element.kind, 1 | 3 | 6 | 7);
        assert_eq!(stands, !is_rule, "{element:?}: {cause:?}");
    }
}

#[test]
fn numbers_that_no_session_has_are_not_found_with_65_and_change_nothing() {
    let (mut rig, ..) = established();
    let standing = rig.plane.clone();

    let numbers = [0, 1, 2, u64::MAX / 2, u64::MAX - 1, u64::MAX];
    for (sequence, seid) in (700..).step_by(2).zip(numbers) {
        let header = Header::session(Seid::new(seid), Sequence::new(sequence));
        let mut change = encode(&header, &change(SessionChange::default()).into());
        let answers = rig.say_bytes(SMF, &change);
        let [(header, Message::SessionModificationResponse(answer))] = &answers[..] else {
            panic!("{answers:?}");
        };
        assert_eq!(answer.cause, CauseCode::SESSION_CONTEXT_NOT_FOUND, "{seid}");
        assert_eq!(header.seid, Some(Seid::new(0)), "{seid}");

        // The same as a deletion, whose body is empty.
        change.truncate(HEADER);
        change[1] = 54;
        change[2..4].copy_from_slice(&12_u16.to_be_bytes());
        // Another request: its number is the next one.
        change[14] |= 1;
        let answers = rig.say_bytes(SMF, &change);
        let [(_, Message::SessionDeletionResponse(answer))] = &answers[..] else {
            panic!("{answers:?}");
        };
        assert_eq!(answer.cause, CauseCode::SESSION_CONTEXT_NOT_FOUND, "{seid}");
    }

    assert!(rig.plane == standing);
    rig.assert_sound();
}

#[test]
fn a_flood_of_sessions_beyond_the_bound_is_refused_and_takes_no_room() {
    let flood: u32 = if std::env::var_os("QLINK_LONG").is_some() {
        1_000_000
    } else {
        20_000
    };
    let mut bounded = config();
    bounded.limits.sessions = 100;
    let (mut rig, mut smf) = associated_by(bounded);
    let (mut stand, mut refused) = (0, 0);

    for number in 0..flood {
        let mut plan = plan(1);
        plan.ue = Some((0x0a3c_0000 | number & 0xffff).into());
        smf.establish(rig.now, plan.rules());
        for happened in rig.talk(&mut smf, SMF) {
            match happened {
                Happened::Established { .. } => stand += 1,
                Happened::Refused { cause, .. } => {
                    assert_eq!(cause, CauseCode::NO_RESOURCES_AVAILABLE);
                    refused += 1;
                }
                other => panic!("{other:?}"),
            }
        }
        // What is journalled and noted is kept elsewhere; answers are forgotten in time.
        rig.notes.clear();
        if number % 1_000 == 0 {
            rig.wait_with(&mut smf, SMF, 30);
        }
    }

    assert_eq!((stand, refused), (100, flood - 100));
    assert_eq!(rig.plane.len(), 100);
    rig.assert_sound();
    // Who comes back with nothing that he knew has the room again.
    let mut again = smf_at(SMF, 2_000);
    again.associate(rig.now);
    rig.talk(&mut again, SMF);
    assert!(rig.plane.is_empty());
    again.establish(rig.now, plan(1).rules());
    rig.talk(&mut again, SMF);
    assert_eq!(rig.plane.len(), 1);
    rig.assert_sound();
}
