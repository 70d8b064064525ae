use super::*;

const WELL: Sight = Sight {
    unanswered: 0,
    beside: None,
};

const LOST: Sight = Sight {
    unanswered: UNANSWERED_LOST,
    beside: None,
};

const SCHEDULE: Schedule = Schedule {
    refresh: Duration::from_secs(600),
    rotate: Some(Duration::from_secs(3600)),
};

const fn s(seconds: u64) -> u64 {
    seconds * SECOND_NS
}

fn beside(beside: Beside) -> Sight {
    Sight {
        beside: Some(beside),
        ..WELL
    }
}

#[test]
fn nothing_is_done_while_all_is_well_and_a_refresh_follows_another() {
    let mut renewal = Renewal::new(SCHEDULE, 0);
    // The first one tells a gateway that our key is in use.
    for due in [s(15), s(615), s(1215)] {
        assert_eq!(renewal.step(due - 1, WELL), Deed::Wait);
        assert_eq!(renewal.step(due, WELL), Deed::Enrol);
        renewal.done(due, Deed::Enrol, Outcome::Unchanged, 0);
    }
}

#[test]
fn two_lost_calls_are_no_lost_gateway_and_three_are() {
    let mut renewal = Renewal::new(SCHEDULE, 0);
    let two = Sight {
        unanswered: 2,
        ..WELL
    };

    assert_eq!(renewal.step(s(1), two), Deed::Wait);
    assert_eq!(renewal.step(s(1), LOST), Deed::Enrol);
}

#[test]
fn attempts_go_on_with_pauses_that_double_up_to_a_bound_and_begin_anew_when_it_is_heard() {
    let mut renewal = Renewal::new(SCHEDULE, 0);
    let mut now = 0;
    let mut pauses = Vec::new();
    for attempt in 0..8 {
        assert_eq!(renewal.step(now, LOST), Deed::Enrol);
        // That a gateway answers as before helps as little as no answer.
        let outcome = [Outcome::Failed, Outcome::Unchanged][attempt % 2];
        renewal.done(now, Deed::Enrol, outcome, 0);
        let pause = (0..)
            .find(|second| renewal.step(now + s(*second), LOST) == Deed::Enrol)
            .unwrap();
        pauses.push(pause);
        now += s(pause);
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30, 30]);

    assert_eq!(renewal.step(now, WELL), Deed::Wait);
    renewal.done(now, Deed::Enrol, Outcome::Failed, 1023);

    assert_eq!(renewal.step(now + s(1), LOST), Deed::Wait);
    assert_eq!(renewal.step(now + s(3) / 2, LOST), Deed::Enrol);
}

#[test]
fn a_new_key_is_confirmed_after_the_overlap_and_the_next_one_is_an_interval_away() {
    let seldom = Schedule {
        refresh: Duration::from_secs(86_400),
        ..SCHEDULE
    };
    let mut renewal = Renewal::new(seldom, 0);
    renewal.done(s(15), Deed::Enrol, Outcome::Unchanged, 0);
    assert_eq!(renewal.step(s(3600) - 1, WELL), Deed::Wait);
    assert_eq!(renewal.step(s(3600), WELL), Deed::Rotate);
    renewal.done(s(3600), Deed::Rotate, Outcome::Begun, 0);

    let upcoming = beside(Beside::Upcoming);
    assert_eq!(renewal.step(s(3601), upcoming), Deed::Wait);
    let previous = beside(Beside::Previous);
    assert_eq!(renewal.step(s(3602), previous), Deed::Wait);
    assert_eq!(renewal.step(s(3612) - 1, previous), Deed::Wait);
    assert_eq!(renewal.step(s(3612), previous), Deed::Confirm);

    // The confirmation is repeated until it is heard.
    renewal.done(s(3612), Deed::Confirm, Outcome::Failed, 0);
    assert_eq!(renewal.step(s(3612), previous), Deed::Wait);
    assert_eq!(renewal.step(s(3614), previous), Deed::Confirm);
    renewal.done(s(3614), Deed::Confirm, Outcome::Unchanged, 0);

    assert_eq!(renewal.step(s(7200) - 1, WELL), Deed::Wait);
    assert_eq!(renewal.step(s(7200), WELL), Deed::Rotate);
}

#[test]
fn an_end_that_gets_no_keys_is_abandoned_and_the_old_one_stays() {
    let mut renewal = Renewal::new(SCHEDULE, 0);
    renewal.done(s(1), Deed::Enrol, Outcome::Begun, 0);
    let upcoming = beside(Beside::Upcoming);

    assert_eq!(renewal.step(s(61) - 1, upcoming), Deed::Wait);
    assert_eq!(renewal.step(s(61), upcoming), Deed::Abandon);
    renewal.done(s(61), Deed::Abandon, Outcome::Failed, 0);

    // The gateway hears that the old one goes on.
    assert_eq!(renewal.step(s(62) - 1, WELL), Deed::Wait);
    assert_eq!(renewal.step(s(62), WELL), Deed::Enrol);
}

#[test]
fn a_denied_key_is_rotated_only_where_rotation_is_configured() {
    for (rotate, deed) in [(SCHEDULE.rotate, Deed::Rotate), (None, Deed::Enrol)] {
        let mut renewal = Renewal::new(Schedule { rotate, ..SCHEDULE }, 0);
        renewal.done(s(1), Deed::Enrol, Outcome::KeyDenied, 0);

        assert_eq!(renewal.step(s(2) - 1, LOST), Deed::Wait);
        assert_eq!(renewal.step(s(2), LOST), deed);
    }
}
