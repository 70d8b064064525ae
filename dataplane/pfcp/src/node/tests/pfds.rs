use qlink_types::ids::ContentId;

use super::rig::*;
use crate::model::*;
use crate::node::*;
use crate::sim::Happened;
use crate::wire::*;

fn named(name: &str, pfds: Vec<Pfd>) -> ApplicationPfds {
    ApplicationPfds {
        application: ApplicationId(name.as_bytes().to_vec()),
        pfds,
    }
}

fn content(number: u8) -> Pfd {
    Pfd {
        custom: Some(CustomPfd::Contents(
            vec![ContentId::new([number; 32])].into(),
        )),
        ..Pfd::default()
    }
}

fn domain(length: usize) -> Pfd {
    Pfd {
        domain: Some(vec![b'a'; length]),
        ..Pfd::default()
    }
}

fn state(rig: &mut Rig, applications: Vec<ApplicationPfds>) -> Vec<Happened> {
    let mut smf = smf_at(SMF, 1000);
    // Another number for each request.
    rig.now += std::time::Duration::from_secs(40);
    smf.state_applications(rig.now, applications);
    rig.talk(&mut smf, SMF)
}

const DONE: Happened = Happened::Done(MessageType::PFD_MANAGEMENT_REQUEST);

fn names(rig: &Rig) -> Vec<String> {
    let names = rig.node.applications().keys();
    names
        .map(|name| String::from_utf8(name.0.clone()).unwrap())
        .collect()
}

#[test]
fn applications_are_replaced_one_by_one_and_taken_away_together() {
    let (mut rig, _) = associated();

    let first = state(
        &mut rig,
        vec![
            named("film", vec![content(1)]),
            named("news", vec![domain(5)]),
        ],
    );
    assert_eq!(first, [DONE]);
    assert_eq!(names(&rig), ["film", "news"]);
    state(
        &mut rig,
        vec![named("news", Vec::new()), named("film", vec![content(2)])],
    );
    assert_eq!(names(&rig), ["film"]);
    let film = ApplicationId(b"film".to_vec());
    assert_eq!(rig.node.applications()[&film], [content(2)]);
    state(&mut rig, Vec::new());
    assert!(names(&rig).is_empty());
}

#[test]
fn sessions_that_name_an_application_are_compiled_again() {
    let (mut rig, mut smf) = associated();
    state(&mut rig, vec![named("film", vec![content(1)])]);
    let mut rules = plan(1).rules();
    rules.create_pdrs[1].pdi.application = Some(ApplicationId(b"film".to_vec()));
    smf.establish(rig.now, rules);
    smf.establish(rig.now, plan(2).rules());
    rig.talk(&mut smf, SMF);
    rig.other.clear();

    state(&mut rig, vec![named("film", Vec::new())]);

    let [Effect::Applications { changed, sessions }] = &rig.other[..] else {
        panic!("{:?}", rig.other);
    };
    assert_eq!(changed.len(), 1);
    let film: Vec<Seid> = rig
        .node
        .sessions()
        .filter(|(_, model)| model.pdrs.values().any(|pdr| pdr.pdi.application.is_some()))
        .map(|(seid, _)| seid)
        .collect();
    assert_eq!(*sessions, film);
    assert_eq!(film.len(), 1);
}

#[test]
fn filters_are_bounded_and_refused_as_a_whole() {
    let mut bounded = config();
    bounded.limits.pfd_bytes = 500;
    let (mut rig, _) = associated_by(bounded);
    state(&mut rig, vec![named("news", vec![domain(300)])]);

    let happened = state(
        &mut rig,
        vec![
            named("film", vec![content(1)]),
            named("game", vec![domain(300)]),
        ],
    );

    let [Happened::Refused { cause, .. }] = &happened[..] else {
        panic!("{happened:?}");
    };
    assert_eq!(*cause, CauseCode::NO_RESOURCES_AVAILABLE);
    assert_eq!(names(&rig), ["news"]);
    let replaced = state(&mut rig, vec![named("news", vec![domain(310)])]);
    assert_eq!(replaced, [DONE]);
}
