use std::net::Ipv4Addr;

use crate::cause::Cause;
use crate::model::*;
use crate::testing::*;
use crate::wire::IeType;

const SESSION: Seid = Seid::new(7);
const UE: Ipv4Addr = Ipv4Addr::new(10, 60, 9, 9);
const UP: TrafficEndpointId = TrafficEndpointId::new(1);
const DOWN: TrafficEndpointId = TrafficEndpointId::new(2);

fn change_with(
    model: &SessionModel,
    change: &SessionChange,
    pool: &mut Pool,
) -> Result<(SessionModel, Resolution), Rejection> {
    let networks = Networks::named([(Port::Plain, NetworkInstance(b"internet".to_vec()))]);
    changed(SESSION, model, change, (pool, &networks))
}

fn endpoint(id: TrafficEndpointId) -> TrafficEndpoint {
    TrafficEndpoint {
        id,
        local_fteid: None,
        network_instance: None,
        ue: Some(ue(UeRole::Source, UE)),
    }
}

fn choose() -> Option<LocalFTeid> {
    Some(LocalFTeid::Choose {
        v4: true,
        v6: false,
        choose_id: None,
    })
}

/// Two rules from subscribers and one to them, by two traffic endpoints.
fn session() -> SessionChange {
    let of = |source, endpoint| Pdi {
        endpoint: Some(endpoint),
        ..pdi(source)
    };
    SessionChange {
        create_endpoints: vec![
            TrafficEndpoint {
                local_fteid: choose(),
                ..endpoint(UP)
            },
            endpoint(DOWN),
        ],
        create_pdrs: vec![
            pdr(1, of(Interface::Access, UP), 1),
            pdr(2, of(Interface::Access, UP), 1),
            pdr(3, of(Interface::Core, DOWN), 2),
        ],
        create_fars: vec![to_core(1), to_access(2, 77, Ipv4Addr::new(10, 0, 0, 9))],
        ..SessionChange::default()
    }
}

fn standing() -> (SessionModel, Resolution, Pool) {
    let mut pool = Pool::new(100);
    let (model, resolution) = change_with(&SessionModel::default(), &session(), &mut pool).unwrap();
    (model, resolution, pool)
}

fn refusal(change: &SessionChange) -> Rejection {
    let (model, _, mut pool) = standing();
    let before = pool.clone();
    let rejection = change_with(&model, change, &mut pool).unwrap_err();
    assert_eq!(pool, before);
    rejection
}

#[test]
fn rules_of_a_traffic_endpoint_have_its_tunnel_and_address() {
    let (model, resolution, pool) = standing();

    assert!(resolution.created.is_empty());
    let [created] = resolution.created_endpoints[..] else {
        panic!("{resolution:?}");
    };
    assert_eq!((created.id, created.ue), (UP, None));
    let fteid = created.local_fteid.map(LocalFTeid::Fixed);
    let pdis: Vec<&Pdi> = model.pdrs.values().map(|pdr| &pdr.pdi).collect();
    assert_eq!(pdis[0].local_fteid, fteid);
    assert_eq!(pdis[1].local_fteid, fteid);
    let roles: Vec<UeRole> = pdis.iter().map(|pdi| pdi.ue.unwrap().role).collect();
    assert_eq!(roles, [UeRole::Source, UeRole::Source, UeRole::Destination]);
    assert_eq!(pool.of(SESSION), model.endpoints());
    assert_eq!(pool.taken.len(), 2);
}

#[test]
fn the_model_stated_as_creations_is_the_model() {
    let (model, ..) = standing();

    let (again, resolution) = change_with(
        &SessionModel::default(),
        &model.to_change(),
        &mut Pool::new(100),
    )
    .unwrap();

    assert_eq!(again, model);
    assert!(resolution.created_endpoints.is_empty());
}

#[test]
fn an_update_moves_every_rule_and_gives_the_old_endpoint_back() {
    let (model, first, mut pool) = standing();
    let change = SessionChange {
        update_endpoints: vec![TrafficEndpointChanges {
            id: UP,
            local_fteid: choose(),
            ..TrafficEndpointChanges::default()
        }],
        ..SessionChange::default()
    };

    let (next, resolution) = change_with(&model, &change, &mut pool).unwrap();
    resolution.keep(SESSION, &mut pool);

    let (old, new) = (first.created_endpoints[0], resolution.created_endpoints[0]);
    assert_ne!(old.local_fteid, new.local_fteid);
    let fteid = new.local_fteid.map(LocalFTeid::Fixed);
    assert!(
        next.pdrs
            .values()
            .take(2)
            .all(|pdr| pdr.pdi.local_fteid == fteid)
    );
    assert_eq!(pool.of(SESSION), next.endpoints());
}

#[test]
fn rules_go_with_their_traffic_endpoint() {
    let (model, _, mut pool) = standing();
    let change = SessionChange {
        remove_endpoints: vec![UP],
        ..SessionChange::default()
    };

    let (next, resolution) = change_with(&model, &change, &mut pool).unwrap();
    resolution.keep(SESSION, &mut pool);

    assert_eq!(next.pdrs.keys().map(|id| id.get()).collect::<Vec<_>>(), [3]);
    assert_eq!(pool.taken.len(), 1);
}

#[test]
fn a_traffic_endpoint_that_is_not_there_or_there_already_is_refused() {
    let unknown = SessionChange {
        create_pdrs: vec![pdr(
            9,
            Pdi {
                endpoint: Some(TrafficEndpointId::new(9)),
                ..pdi(Interface::Access)
            },
            1,
        )],
        ..SessionChange::default()
    };
    let twice = SessionChange {
        create_endpoints: vec![endpoint(UP)],
        ..SessionChange::default()
    };
    let gone = SessionChange {
        remove_endpoints: vec![TrafficEndpointId::new(9)],
        ..SessionChange::default()
    };

    for change in [unknown, twice, gone] {
        let rejection = refusal(&change);
        assert_eq!(rejection.cause, Cause::RuleInvalid);
        assert_eq!(rejection.offending, Some(IeType::TRAFFIC_ENDPOINT_ID));
    }
}

#[test]
fn the_network_of_a_traffic_endpoint_is_that_of_its_rules() {
    let named = |id, name: &str| SessionChange {
        update_endpoints: vec![TrafficEndpointChanges {
            id,
            network_instance: Some(NetworkInstance(name.as_bytes().to_vec())),
            ..TrafficEndpointChanges::default()
        }],
        ..SessionChange::default()
    };
    let (model, _, mut pool) = standing();

    assert!(change_with(&model, &named(DOWN, "internet"), &mut pool).is_ok());
    let elsewhere = refusal(&named(DOWN, "ims"));
    assert_eq!(elsewhere.offending, Some(IeType::NETWORK_INSTANCE));
    assert_eq!(elsewhere.failed_rule, Some(FailedRule::Pdr(PdrId::new(3))));
}

#[test]
fn traffic_endpoints_are_bounded() {
    let many = (10..).take(MAX_TRAFFIC_ENDPOINTS);
    let change = SessionChange {
        create_endpoints: many
            .map(|id| endpoint(TrafficEndpointId::new(id)))
            .collect(),
        ..SessionChange::default()
    };

    assert_eq!(refusal(&change).cause, Cause::NoResources);
}
