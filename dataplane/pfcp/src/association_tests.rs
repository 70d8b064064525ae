use qlink_types::codec::Text;
use qlink_types::ids::{Hash32, PackageId, ViewerKey};
use qlink_types::package::RepeatPolicy;
use qlink_types::units::{Bytes, PackageEpoch};

use super::*;
use crate::rules::{DownlinkPath, SessionChanges, Sponsor};
use crate::tunnel::TunnelMember;

const CONTENT: ContentId = ContentId::new([1; 32]);

fn association() -> Association {
    Association::new(AssociationLimits {
        sessions: 2,
        contents: 1,
    })
}

fn bind() -> Request {
    Request::BindContent {
        binding: ContentBinding {
            content: CONTENT,
            size: Bytes::new(100),
            path: Text::try_from("film").unwrap(),
        },
    }
}

fn rules(number: u8) -> SessionRules {
    SessionRules {
        session: SessionId::new([number; 16]),
        teid: Some(Teid::new(number.into())),
        ue: IpAddr::from([10, 0, 0, number]),
        path: DownlinkPath {
            peer: "127.0.0.2:2152".parse().unwrap(),
            downlink_teid: Teid::new(9),
        },
        basestation: None,
        sponsor: None,
        payer: Payer::Operator,
    }
}

fn sponsored(number: u8) -> SessionRules {
    SessionRules {
        sponsor: Some(Sponsor {
            package: PackageId::new([1; 16]),
            package_epoch: PackageEpoch::ZERO,
            viewer: ViewerKey::ZERO,
            contents: vec![CONTENT].try_into().unwrap(),
            origins: Vec::new().try_into().unwrap(),
            limit: Bytes::new(100),
            repeat: RepeatPolicy::ChargeUser,
        }),
        ..rules(number)
    }
}

fn establish(rules: SessionRules) -> Request {
    Request::Establish { rules }
}

fn cause(association: &Association, request: &Request) -> Option<Cause> {
    association
        .check(request)
        .err()
        .map(|refusal| refusal.cause)
}

#[test]
fn a_repeated_establish_is_told_from_a_conflicting_one() {
    let mut association = association();
    association.apply(&establish(rules(1)));

    let same = SessionRules {
        teid: None,
        ..rules(1)
    };
    let other = SessionRules {
        payer: Payer::Block,
        ..rules(1)
    };

    assert_eq!(association.check(&establish(same)), Ok(Novelty::Repeated));
    assert_eq!(
        cause(&association, &establish(other)),
        Some(Cause::SessionExists)
    );
}

#[test]
fn a_session_cannot_take_the_address_or_the_teid_of_another() {
    let mut association = association();
    association.apply(&establish(rules(1)));

    let ue = SessionRules {
        ue: rules(1).ue,
        ..rules(2)
    };
    let teid = SessionRules {
        teid: rules(1).teid,
        ..rules(2)
    };

    assert_eq!(
        cause(&association, &establish(ue)),
        Some(Cause::UeAddressInUse)
    );
    assert_eq!(
        cause(&association, &establish(teid)),
        Some(Cause::TeidInUse)
    );
}

#[test]
fn a_sponsored_content_must_be_bound_and_stays_bound() {
    let mut association = association();
    let unbind = Request::UnbindContent { content: CONTENT };

    assert_eq!(
        cause(&association, &establish(sponsored(1))),
        Some(Cause::ContentUnknown)
    );
    association.apply(&bind());
    assert_eq!(
        association.check(&establish(sponsored(1))),
        Ok(Novelty::New)
    );
    association.apply(&establish(sponsored(1)));
    assert_eq!(cause(&association, &unbind), Some(Cause::ContentInUse));
    association.apply(&Request::Delete {
        session: sponsored(1).session,
    });
    assert_eq!(association.check(&unbind), Ok(Novelty::New));
}

#[test]
fn full_tables_refuse() {
    let mut association = association();
    association.apply(&bind());
    association.apply(&establish(rules(1)));
    association.apply(&establish(rules(2)));

    let second = Request::BindContent {
        binding: ContentBinding {
            content: ContentId::new([2; 32]),
            size: Bytes::new(1),
            path: Text::default(),
        },
    };

    assert_eq!(
        cause(&association, &establish(rules(3))),
        Some(Cause::NoResources)
    );
    assert_eq!(cause(&association, &second), Some(Cause::NoResources));
}

#[test]
fn a_limit_that_the_session_has_not_cannot_change() {
    let mut association = association();
    association.apply(&establish(rules(1)));
    let modify = Request::Modify {
        session: rules(1).session,
        changes: SessionChanges {
            personal_limit: Some(Bytes::new(5)),
            ..SessionChanges::default()
        },
    };

    assert_eq!(cause(&association, &modify), Some(Cause::RuleInvalid));
}

#[test]
fn an_address_is_free_after_delete() {
    let mut association = association();
    association.apply(&establish(rules(1)));
    association.apply(&Request::Delete {
        session: rules(1).session,
    });
    let heir = SessionRules {
        session: SessionId::new([7; 16]),
        ..rules(1)
    };

    assert_eq!(association.check(&establish(heir)), Ok(Novelty::New));
    assert_eq!(
        cause(
            &association,
            &Request::Delete {
                session: rules(1).session
            }
        ),
        Some(Cause::SessionUnknown)
    );
}

#[test]
fn pages_cover_every_session_once() {
    let mut association = Association::new(AssociationLimits {
        sessions: 40,
        contents: 0,
    });
    for number in 1..=40 {
        association.apply(&establish(rules(number)));
    }
    let (mut seen, mut after) = (Vec::new(), None);

    loop {
        let (page, more) = association.page(after);
        after = page.last().map(|rules| rules.session);
        seen.extend(page.into_iter().map(|rules| rules.session));
        if !more {
            break;
        }
    }

    let all: Vec<SessionId> = association.sessions().map(|rules| rules.session).collect();
    assert_eq!(seen, all);
}

#[test]
fn a_key_and_a_tunnel_address_belong_to_each_other() {
    let mut association = association();
    let add = |key: u8, last: u8| Request::AddTunnelMember {
        member: TunnelMember {
            key: Hash32::new([key; 32]),
            address: [10, 99, 0, last].into(),
        },
    };
    assert_eq!(association.check(&add(1, 2)), Ok(Novelty::New));
    association.apply(&add(1, 2));

    assert_eq!(association.check(&add(1, 2)), Ok(Novelty::Repeated));
    for other in [add(1, 3), add(2, 2)] {
        let refusal = association.check(&other).unwrap_err();
        assert_eq!(refusal.cause, Cause::RuleInvalid);
    }

    let key = Hash32::new([1; 32]);
    association.apply(&Request::RemoveTunnelMember { key });
    assert_eq!(association.check(&add(2, 2)), Ok(Novelty::New));
    assert_eq!(association.tunnel_members().len(), 0);
}
