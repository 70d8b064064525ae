use std::net::Ipv4Addr;

use proptest::collection::vec;
use proptest::prelude::*;
use qlink_types::ids::{ContentId, Teid};

use crate::cause::Cause;
use crate::model::*;
use crate::testing::*;
use crate::wire::IeType;

const SESSION: Seid = Seid::new(7);
const UE: Ipv4Addr = Ipv4Addr::new(10, 60, 9, 9);

fn change_with(
    model: &SessionModel,
    change: &SessionChange,
    pool: &mut Pool,
) -> Result<(SessionModel, Resolution), Rejection> {
    changed(SESSION, model, change, (pool, &Networks::Any))
}

fn standing() -> (SessionModel, Pool) {
    let mut pool = Pool::new(100);
    let (model, _) = change_with(&SessionModel::default(), &usual_session(UE), &mut pool).unwrap();
    (model, pool)
}

/// What the change is refused with; nothing was taken.
fn refusal(change: &SessionChange) -> Rejection {
    let (model, mut pool) = standing();
    let before = pool.clone();
    let rejection = change_with(&model, change, &mut pool).unwrap_err();
    assert_eq!(pool, before);
    rejection
}

fn failed(rule: FailedRule) -> Rejection {
    Rejection::rule(rule)
}

#[test]
fn a_usual_session_gets_its_endpoint() {
    let (model, pool) = standing();

    let LocalFTeid::Fixed(fteid) = model.pdrs[&PdrId::new(1)].pdi.local_fteid.unwrap() else {
        panic!("left to choose");
    };
    assert_eq!(fteid.v4, Some(Pool::address()));
    assert_eq!(pool.of(SESSION), model.endpoints());
}

#[test]
fn rules_with_one_choose_id_share_one_endpoint() {
    let mut pool = Pool::new(10);
    let change = SessionChange {
        create_pdrs: vec![
            uplink(1, 1, Some(5)),
            uplink(2, 1, Some(5)),
            uplink(3, 1, Some(6)),
            uplink(4, 1, None),
        ],
        create_fars: vec![to_core(1)],
        ..SessionChange::default()
    };

    let (_, resolution) = change_with(&SessionModel::default(), &change, &mut pool).unwrap();

    let teids: Vec<u32> = resolution
        .created
        .iter()
        .map(|created| created.local_fteid.unwrap().teid.get())
        .collect();
    assert_eq!(teids, [1, 1, 2, 3]);
}

#[test]
fn both_rules_of_a_session_get_the_same_chosen_address() {
    let mut pool = Pool::new(10);
    let mut change = usual_session(UE);
    for pdr in &mut change.create_pdrs {
        pdr.pdi.ue = Some(UeAddress {
            role: UeRole::Source,
            v4: None,
            v6: None,
            choose_v4: true,
            choose_v6: true,
        });
    }

    let (_, resolution) = change_with(&SessionModel::default(), &change, &mut pool).unwrap();

    let chosen: Vec<UeAddress> = resolution.created.iter().filter_map(|c| c.ue).collect();
    assert_eq!(chosen.len(), 2);
    assert_eq!(chosen[0].v4, chosen[1].v4);
    assert_eq!(chosen[0].v6, chosen[1].v6);
    assert!(chosen[0].v4.is_some() && chosen[0].v6.is_some());
    assert!(!chosen[0].choose_v4 && !chosen[0].choose_v6);
}

#[test]
fn an_exhausted_pool_gives_back_what_the_change_took() {
    let mut pool = Pool::new(2);
    let change = SessionChange {
        create_pdrs: vec![uplink(1, 1, None), uplink(2, 1, None), uplink(3, 1, None)],
        create_fars: vec![to_core(1)],
        ..SessionChange::default()
    };

    let rejection = change_with(&SessionModel::default(), &change, &mut pool).unwrap_err();

    assert_eq!(rejection.cause, Cause::NoResources);
    assert!(pool.taken.is_empty());
}

#[test]
fn without_a_free_subscriber_address_the_cause_says_so() {
    let mut pool = Pool::new(0);
    let mut pdr = downlink(2, 1, UE);
    pdr.pdi.ue = Some(UeAddress {
        role: UeRole::Destination,
        v4: None,
        v6: None,
        choose_v4: true,
        choose_v6: false,
    });
    let change = SessionChange {
        create_pdrs: vec![pdr],
        create_fars: vec![to_core(1)],
        ..SessionChange::default()
    };

    let rejection = change_with(&SessionModel::default(), &change, &mut pool).unwrap_err();

    assert_eq!(rejection.cause, Cause::UeAddressesExhausted);
}

#[test]
fn an_endpoint_of_another_session_is_denied() {
    let (model, mut pool) = standing();
    let theirs = Endpoint::Tunnel(Teid::new(50));
    pool.taken.insert(theirs, Seid::new(8));
    let mut pdr = uplink(9, 1, None);
    pdr.pdi.local_fteid = Some(LocalFTeid::Fixed(FTeid {
        teid: Teid::new(50),
        v4: Some(Pool::address()),
        v6: None,
    }));
    let change = SessionChange {
        create_pdrs: vec![pdr],
        ..SessionChange::default()
    };

    let rejection = change_with(&model, &change, &mut pool).unwrap_err();

    assert_eq!(rejection.offending, Some(IeType::F_TEID));
    assert_eq!(rejection.failed_rule, Some(FailedRule::Pdr(PdrId::new(9))));
    assert_eq!(pool.taken[&theirs], Seid::new(8));
}

#[test]
fn a_subscriber_address_of_another_session_is_denied() {
    let mut pool = Pool::new(10);
    pool.taken.insert(Endpoint::UeV4(UE), Seid::new(8));

    let rejection =
        change_with(&SessionModel::default(), &usual_session(UE), &mut pool).unwrap_err();

    assert_eq!(rejection.offending, Some(IeType::UE_IP_ADDRESS));
    assert_eq!(pool.taken.len(), 1);
}

#[test]
fn endpoints_of_removed_rules_are_lost_once_none_uses_them() {
    let (model, mut pool) = standing();
    let LocalFTeid::Fixed(fteid) = model.pdrs[&PdrId::new(1)].pdi.local_fteid.unwrap() else {
        panic!("left to choose");
    };
    let mut second = uplink(3, 1, None);
    second.pdi.local_fteid = Some(LocalFTeid::Fixed(fteid));
    let add = SessionChange {
        create_pdrs: vec![second],
        ..SessionChange::default()
    };
    let remove = |id| SessionChange {
        remove_pdrs: vec![PdrId::new(id)],
        ..SessionChange::default()
    };

    let (model, _) = change_with(&model, &add, &mut pool).unwrap();
    let (model, first) = change_with(&model, &remove(1), &mut pool).unwrap();
    let (_, last) = change_with(&model, &remove(3), &mut pool).unwrap();

    assert_eq!(first.lost, []);
    assert_eq!(last.lost, [Endpoint::Tunnel(fteid.teid)]);
    assert!(
        pool.taken.contains_key(&Endpoint::Tunnel(fteid.teid)),
        "until it is kept"
    );
}

#[test]
fn a_rule_that_stands_is_not_created_again() {
    let change = SessionChange {
        create_fars: vec![to_core(1)],
        ..SessionChange::default()
    };

    assert_eq!(refusal(&change), failed(FailedRule::Far(FarId::new(1))));
}

#[test]
fn an_unknown_rule_is_neither_changed_nor_removed() {
    let update = SessionChange {
        update_qers: vec![QerChanges {
            id: QerId::new(9),
            ..QerChanges::default()
        }],
        ..SessionChange::default()
    };
    let remove = SessionChange {
        remove_bars: vec![BarId::new(3)],
        ..SessionChange::default()
    };

    assert_eq!(refusal(&update), failed(FailedRule::Qer(QerId::new(9))));
    assert_eq!(refusal(&remove), failed(FailedRule::Bar(BarId::new(3))));
}

#[test]
fn a_rule_that_others_name_is_not_removed() {
    let far = SessionChange {
        remove_fars: vec![FarId::new(2)],
        ..SessionChange::default()
    };
    let urr = SessionChange {
        remove_urrs: vec![UrrId::new(1)],
        ..SessionChange::default()
    };

    assert_eq!(refusal(&far), failed(FailedRule::Far(FarId::new(2))));
    assert_eq!(refusal(&urr), failed(FailedRule::Urr(UrrId::new(1))));
}

#[test]
fn a_rule_that_names_an_unknown_one_is_at_fault() {
    let mut urr = volume_urr(5, 1);
    urr.linked = vec![UrrId::new(44)];
    let linked = SessionChange {
        create_urrs: vec![urr],
        ..SessionChange::default()
    };
    let far = SessionChange {
        create_pdrs: vec![uplink(3, 99, None)],
        ..SessionChange::default()
    };

    assert_eq!(refusal(&linked), failed(FailedRule::Urr(UrrId::new(5))));
    assert_eq!(refusal(&far), failed(FailedRule::Pdr(PdrId::new(3))));
}

#[test]
fn a_detection_rule_without_forwarding_names_contents() {
    let mut pdr = uplink(3, 1, None);
    pdr.far = None;
    let mut change = SessionChange {
        create_pdrs: vec![pdr],
        ..SessionChange::default()
    };
    assert_eq!(refusal(&change).offending, Some(IeType::FAR_ID));

    change.create_pdrs[0].pdi.contents = vec![ContentId::new([1; 32])];
    let (model, mut pool) = standing();
    assert!(change_with(&model, &change, &mut pool).is_ok());
}

#[test]
fn packets_have_to_be_found_by_tunnel_or_subscriber() {
    let of = |source| SessionChange {
        create_pdrs: vec![pdr(3, pdi(source), 1)],
        ..SessionChange::default()
    };

    assert_eq!(
        refusal(&of(Interface::Access)).offending,
        Some(IeType::F_TEID)
    );
    assert_eq!(
        refusal(&of(Interface::Core)).offending,
        Some(IeType::UE_IP_ADDRESS)
    );
    assert_eq!(
        refusal(&of(Interface::Core)).cause,
        Cause::ConditionalMissing
    );
}

#[test]
fn impossible_addresses_are_refused() {
    for address in [
        Ipv4Addr::UNSPECIFIED,
        Ipv4Addr::BROADCAST,
        Ipv4Addr::new(224, 0, 0, 1),
    ] {
        let change = SessionChange {
            create_pdrs: vec![downlink(3, 1, address)],
            ..SessionChange::default()
        };
        assert_eq!(refusal(&change).offending, Some(IeType::UE_IP_ADDRESS));
    }
    let mut nowhere = uplink(3, 1, None);
    nowhere.pdi.local_fteid = Some(LocalFTeid::Choose {
        v4: false,
        v6: false,
        choose_id: None,
    });
    let change = SessionChange {
        create_pdrs: vec![nowhere],
        ..SessionChange::default()
    };
    assert_eq!(refusal(&change).cause, Cause::TeidChoiceInvalid);
}

#[test]
fn an_unknown_application_is_refused_with_its_own_cause() {
    let of = |name: &[u8]| {
        let mut pdr = downlink(3, 1, UE);
        pdr.pdi.application = Some(ApplicationId(name.to_vec()));
        SessionChange {
            create_pdrs: vec![pdr],
            ..SessionChange::default()
        }
    };

    assert_eq!(refusal(&of(b"game")).cause, Cause::ApplicationUnknown);
    let (model, mut pool) = standing();
    assert!(change_with(&model, &of(b"film"), &mut pool).is_ok());
}

#[test]
fn forwarding_without_parameters_is_refused() {
    let mut far = to_core(3);
    far.forwarding = None;
    let create = SessionChange {
        create_fars: vec![far.clone()],
        ..SessionChange::default()
    };
    assert_eq!(
        refusal(&create).offending,
        Some(IeType::FORWARDING_PARAMETERS)
    );

    far.action = ApplyAction::Drop { duplicate: false };
    let half = SessionChange {
        create_fars: vec![far],
        update_fars: vec![FarChanges {
            id: FarId::new(3),
            transport_marking: Some((1, 1)),
            ..FarChanges::default()
        }],
        ..SessionChange::default()
    };
    assert_eq!(
        refusal(&half).offending,
        Some(IeType::DESTINATION_INTERFACE)
    );
}

#[test]
fn copies_need_somewhere_to_go_and_are_bounded() {
    let far = Far {
        action: ApplyAction::Drop { duplicate: true },
        ..to_core(3)
    };
    let created = |far: &Far| SessionChange {
        create_fars: vec![far.clone()],
        ..SessionChange::default()
    };
    let nowhere = refusal(&created(&far));
    assert_eq!(nowhere.cause, Cause::ConditionalMissing);
    assert_eq!(nowhere.offending, Some(IeType::DUPLICATING_PARAMETERS));

    let copy = Duplication {
        destination: Interface::LiFunction,
        outer: None,
        transport_marking: None,
    };
    let many = Far {
        duplicating: vec![copy; MAX_DUPLICATIONS + 1],
        ..far
    };
    assert_eq!(refusal(&created(&many)).cause, Cause::NoResources);
    // Nothing but copies goes there.
    let mut intercepted = to_core(3);
    let forwarding = intercepted.forwarding.as_mut().unwrap();
    forwarding.destination = Interface::LiFunction;
    let refused = refusal(&created(&intercepted));
    assert_eq!(refused.offending, Some(IeType::DESTINATION_INTERFACE));
}

#[test]
fn an_update_changes_copies_in_their_order_and_adds_further_ones() {
    let wanted = |destination, marking| DuplicationChanges {
        destination,
        outer: None,
        transport_marking: Some((marking, 1)),
    };
    let change = |duplicating| SessionChange {
        create_fars: vec![to_core(3)],
        update_fars: vec![FarChanges {
            id: FarId::new(3),
            duplicating,
            ..FarChanges::default()
        }],
        ..SessionChange::default()
    };
    let core = Some(Interface::Core);

    let added = change(vec![wanted(core, 1), wanted(core, 2)]);
    let (model, mut pool) = standing();
    let (model, resolution) = change_with(&model, &added, &mut pool).unwrap();
    drop(resolution);
    let next = SessionChange {
        create_fars: Vec::new(),
        ..change(vec![wanted(None, 3)])
    };
    let (model, _) = change_with(&model, &next, &mut pool).unwrap();

    let copies = &model.fars[&FarId::new(3)].duplicating;
    let markings: Vec<_> = copies.iter().map(|copy| copy.transport_marking).collect();
    assert_eq!(markings, [Some((3, 1)), Some((2, 1))]);
    let half = change(vec![wanted(None, 1)]);
    let missing = Some(IeType::DESTINATION_INTERFACE);
    assert_eq!(refusal(&half).offending, missing);
}

#[test]
fn tables_are_bounded() {
    let many = SessionChange {
        create_qers: (100..100 + u32::try_from(MAX_QERS).unwrap())
            .map(open_qer)
            .collect(),
        ..SessionChange::default()
    };
    let mut wide = downlink(3, 1, UE);
    wide.pdi.filters = vec![SdfFilter::default(); MAX_FILTERS + 1];
    let filters = SessionChange {
        create_pdrs: vec![wide],
        ..SessionChange::default()
    };

    assert_eq!(refusal(&many).cause, Cause::NoResources);
    assert_eq!(refusal(&filters).cause, Cause::NoResources);
    assert_eq!(
        refusal(&filters).failed_rule,
        Some(FailedRule::Pdr(PdrId::new(3)))
    );
}

#[test]
fn a_handover_asks_for_an_end_marker_on_the_old_tunnel() {
    let (model, mut pool) = standing();
    let new = OuterHeaderCreation::Gtpu {
        teid: Teid::new(88),
        v4: Some(Ipv4Addr::new(10, 0, 0, 8)),
        v6: None,
    };
    let change = SessionChange {
        update_fars: vec![FarChanges {
            id: FarId::new(2),
            outer: Some(new),
            send_end_marker: true,
            ..FarChanges::default()
        }],
        ..SessionChange::default()
    };

    let (next, resolution) = change_with(&model, &change, &mut pool).unwrap();

    assert_eq!(resolution.end_markers, [model.fars[&FarId::new(2)].clone()]);
    let far = &next.fars[&FarId::new(2)];
    assert_eq!(far.forwarding.as_ref().unwrap().outer, Some(new));
}

#[test]
fn a_usage_rule_that_loses_its_last_detection_rule_is_reported() {
    let (model, mut pool) = standing();
    let change = SessionChange {
        update_pdrs: [1, 2]
            .map(|id| PdrChanges {
                id: PdrId::new(id),
                urrs: Some(Vec::new()),
                ..PdrChanges::default()
            })
            .to_vec(),
        ..SessionChange::default()
    };

    let (_, resolution) = change_with(&model, &change, &mut pool).unwrap();

    assert_eq!(resolution.dissociated_urrs, [UrrId::new(1)]);
    assert_eq!(resolution.ended_urrs, []);
}

#[test]
fn equal_precedence_is_ordered_by_id() {
    let (model, mut pool) = standing();
    let mut first = downlink(9, 1, UE);
    first.precedence = Precedence::new(1);
    let change = SessionChange {
        create_pdrs: vec![first, downlink(3, 1, UE)],
        ..SessionChange::default()
    };

    let (model, _) = change_with(&model, &change, &mut pool).unwrap();

    let order: Vec<u16> = model
        .pdrs_in_order()
        .iter()
        .map(|pdr| pdr.id.get())
        .collect();
    assert_eq!(order, [9, 1, 2, 3]);
}

/// A change out of few ids, so that much of it fails and some does not.
fn any_change() -> impl Strategy<Value = SessionChange> {
    let ids = || prop_oneof![4 => Just(Vec::new()), 1 => vec(1..6_u16, 1)];
    (
        (ids(), ids(), ids(), ids(), ids()),
        (ids(), ids(), ids(), ids(), ids()),
        (ids(), 1..6_u32, 0..3_u8),
    )
        .prop_map(|(removed, created, (updated, far, flavour))| {
            let big = |ids: Vec<u16>| ids.into_iter().map(u32::from);
            let small = |ids: Vec<u16>| ids.into_iter().map(|id| u8::try_from(id).unwrap());
            let pdr_of = |id: u16| match flavour {
                0 => uplink(id, far, None),
                1 => uplink(id, far, Some(1)),
                _ => {
                    let mut pdr = downlink(id, far, UE);
                    pdr.urrs = vec![UrrId::new(far)];
                    pdr
                }
            };
            SessionChange {
                remove_pdrs: removed.0.into_iter().map(PdrId::new).collect(),
                remove_fars: big(removed.1).map(FarId::new).collect(),
                remove_urrs: big(removed.2).map(UrrId::new).collect(),
                remove_qers: big(removed.3).map(QerId::new).collect(),
                remove_bars: small(removed.4).map(BarId::new).collect(),
                create_pdrs: created.0.into_iter().map(pdr_of).collect(),
                create_fars: big(created.1).map(to_core).collect(),
                create_urrs: big(created.2).map(|id| volume_urr(id, 5)).collect(),
                create_qers: big(created.3).map(open_qer).collect(),
                create_bars: small(created.4)
                    .map(|id| Bar {
                        id: BarId::new(id),
                        buffering: Buffering::default(),
                    })
                    .collect(),
                update_pdrs: updated
                    .into_iter()
                    .map(|id| PdrChanges {
                        id: PdrId::new(id),
                        far: Some(FarId::new(far)),
                        ..PdrChanges::default()
                    })
                    .collect(),
                ..SessionChange::default()
            }
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// 25 changes a case, 10^4 in all.
    #[test]
    fn every_change_takes_effect_as_a_whole_or_not_at_all(changes in vec(any_change(), 25)) {
        let mut pool = Pool::new(4);
        let mut model = SessionModel::default();

        for change in &changes {
            let before = (model.clone(), pool.clone());
            match change_with(&model, change, &mut pool) {
                Ok((next, resolution)) => {
                    resolution.keep(SESSION, &mut pool);
                    model = next;
                }
                Err(_) => prop_assert_eq!(&(model.clone(), pool.clone()), &before),
            }
            prop_assert_eq!(model.check(&ModelLimits::default()), Ok(()));
            prop_assert_eq!(pool.of(SESSION), model.endpoints());
        }
    }

    #[test]
    fn a_discarded_change_leaves_the_pool_as_it_was(change in any_change()) {
        let (model, mut pool) = standing();
        let before = pool.clone();

        if let Ok((_, resolution)) = change_with(&model, &change, &mut pool) {
            resolution.discard(SESSION, &mut pool);
        }

        prop_assert_eq!(pool, before);
    }

    #[test]
    fn a_model_is_made_again_from_its_own_change(changes in vec(any_change(), 10)) {
        let mut pool = Pool::new(100);
        let mut model = SessionModel::default();
        for change in &changes {
            if let Ok((next, resolution)) = change_with(&model, change, &mut pool) {
                resolution.keep(SESSION, &mut pool);
                model = next;
            }
        }

        let again = change_with(&SessionModel::default(), &model.to_change(), &mut pool);

        prop_assert_eq!(again.map(|(again, _)| again), Ok(model));
    }
}
