use std::time::Duration;

use super::*;

const ROOM: Room = Room {
    requests: 3,
    bytes: 100,
};

const LIFE: Duration = Duration::from_secs(30);

fn judge(inbox: &mut Inbox, number: u32, digest: u64, at_s: u64) -> Verdict {
    let now = Duration::from_secs(at_s);
    inbox.forget(now, LIFE);
    inbox.judge(
        Sequence::new(number),
        Digest(digest),
        Age::Matters,
        now,
        ROOM,
    )
}

fn answer(inbox: &mut Inbox, number: u32, digest: u64) {
    let _ = inbox.answer(
        Sequence::new(number),
        Digest(digest),
        &[7],
        Duration::ZERO,
        ROOM,
    );
}

#[test]
fn a_request_sent_again_gets_the_answer_it_got() {
    let mut inbox = Inbox::default();

    assert_eq!(judge(&mut inbox, 1, 1, 0), Verdict::New);
    assert_eq!(judge(&mut inbox, 1, 1, 1), Verdict::InWork);
    answer(&mut inbox, 1, 1);
    assert_eq!(judge(&mut inbox, 1, 1, 2), Verdict::Answered(vec![7]));
}

#[test]
fn a_number_used_for_other_bytes_is_another_request() {
    let mut inbox = Inbox::default();
    judge(&mut inbox, 1, 1, 0);
    answer(&mut inbox, 1, 1);

    assert_eq!(judge(&mut inbox, 1, 2, 1), Verdict::New);
    answer(&mut inbox, 1, 1);
    assert_eq!(
        judge(&mut inbox, 1, 2, 2),
        Verdict::InWork,
        "not the old answer"
    );
}

#[test]
fn answers_are_forgotten_by_time_but_not_requests_in_work() {
    let mut inbox = Inbox::default();
    judge(&mut inbox, 1, 1, 0);
    judge(&mut inbox, 2, 2, 0);
    answer(&mut inbox, 2, 2);

    assert_eq!(judge(&mut inbox, 1, 1, 31), Verdict::InWork);
    assert_eq!(judge(&mut inbox, 2, 2, 31), Verdict::New);
}

#[test]
fn too_many_requests_in_work_are_refused() {
    let mut inbox = Inbox::default();
    for number in 1..=3 {
        judge(&mut inbox, number, 0, 0);
    }

    assert_eq!(judge(&mut inbox, 4, 0, 1), Verdict::Full);
    answer(&mut inbox, 2, 0);
    assert_eq!(judge(&mut inbox, 4, 0, 1), Verdict::New);
}

#[test]
fn what_may_be_forgotten_is_not_done_again() {
    let mut inbox = Inbox::default();
    for number in 1..=4 {
        judge(&mut inbox, number, 0, 0);
        answer(&mut inbox, number, 0);
    }

    assert_eq!(judge(&mut inbox, 1, 0, 1), Verdict::TooOld);
    assert_eq!(
        judge(&mut inbox, 0x00ff_fff0, 0, 1),
        Verdict::TooOld,
        "numbers go round"
    );
    assert_eq!(judge(&mut inbox, 5, 0, 1), Verdict::New);
    let setup = inbox.judge(
        Sequence::new(1),
        Digest(9),
        Age::Ignored,
        Duration::from_secs(1),
        ROOM,
    );
    assert_eq!(setup, Verdict::New);
}

#[test]
fn the_floor_goes_with_the_answers() {
    let mut inbox = Inbox::default();
    for number in 10..=13 {
        judge(&mut inbox, number, 0, 0);
        answer(&mut inbox, number, 0);
    }

    assert_eq!(judge(&mut inbox, 10, 0, 29), Verdict::TooOld);
    assert_eq!(judge(&mut inbox, 10, 0, 31), Verdict::New);
    assert_eq!(inbox.entries.len(), 1);
}

#[test]
fn answers_take_so_many_bytes_and_no_more() {
    let mut inbox = Inbox::default();
    for number in 1..=3 {
        judge(&mut inbox, number, 0, 0);
        let sequence = Sequence::new(number);
        let _ = inbox.answer(sequence, Digest(0), &[0; 40], Duration::ZERO, ROOM);
    }

    assert_eq!(inbox.bytes, 80);
    assert_eq!(judge(&mut inbox, 1, 0, 1), Verdict::TooOld);
    assert!(matches!(judge(&mut inbox, 2, 0, 1), Verdict::Answered(_)));
    inbox.start_anew(Some(Sequence::new(3)));
    assert_eq!(inbox.bytes, 40);
    inbox.forget(LIFE, LIFE);
    assert_eq!(inbox.bytes, 0);
}
