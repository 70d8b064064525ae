//! Traffic endpoints over sockets.

use qlink_pfcp::model::{
    Interface, LocalFTeid, Pdi, SessionChange, TrafficEndpoint, TrafficEndpointChanges,
    TrafficEndpointId, UeAddress, UeRole,
};
use qlink_pfcp::sim::Happened;
use qlink_types::ids::Teid;

use super::network::{Network, UE, volume};

const ACCESS: TrafficEndpointId = TrafficEndpointId::new(1);
const CORE: TrafficEndpointId = TrafficEndpointId::new(2);

fn choose() -> Option<LocalFTeid> {
    Some(LocalFTeid::Choose {
        v4: true,
        v6: false,
        choose_id: None,
    })
}

/// The plan's rules by two traffic endpoints.
fn rules(network: &Network) -> SessionChange {
    let mut rules = network.plan().rules();
    for (pdr, id) in rules.create_pdrs.iter_mut().zip([ACCESS, CORE]) {
        let source = pdr.pdi.source;
        pdr.pdi = Pdi {
            endpoint: Some(id),
            local_fteid: None,
            ue: None,
            source,
            ..pdr.pdi.clone()
        };
    }
    let ue = Some(UeAddress {
        role: UeRole::Source,
        v4: Some(UE),
        v6: None,
        choose_v4: false,
        choose_v6: false,
    });
    let endpoint = |id, local_fteid| TrafficEndpoint {
        id,
        local_fteid,
        network_instance: None,
        ue,
    };
    assert_eq!(rules.create_pdrs[0].pdi.source, Interface::Access);
    rules.create_endpoints = vec![endpoint(ACCESS, choose()), endpoint(CORE, None)];
    rules
}

/// Our tunnel endpoint that an answer tells.
fn told(network: &mut Network) -> (qlink_pfcp::model::Seid, Teid) {
    network.until(|happened| match happened {
        Happened::Established {
            session, endpoints, ..
        }
        | Happened::Modified {
            session, endpoints, ..
        } => {
            let [endpoint] = endpoints[..] else {
                panic!("{happened:?}");
            };
            assert_eq!(endpoint.id, ACCESS);
            Some((*session, endpoint.local_fteid.unwrap().teid))
        }
        Happened::Refused { .. } => panic!("{happened:?}"),
        _ => None,
    })
}

#[test]
fn a_session_by_traffic_endpoints_carries_packets_moves_and_outlives_the_process() {
    let mut network = Network::new(32);
    let running = network.start();
    network.associate();
    let asked = rules(&network);
    let now = network.now();
    network.smf.establish(now, asked);
    let (session, first) = told(&mut network);
    network.uplink(&running, first, 100);
    network.downlink(&running, 100);

    let request = super::network::modification(SessionChange {
        update_endpoints: vec![TrafficEndpointChanges {
            id: ACCESS,
            local_fteid: choose(),
            ..TrafficEndpointChanges::default()
        }],
        ..SessionChange::default()
    });
    let now = network.now();
    network.smf.modify(now, session, request);
    let (_, second) = told(&mut network);
    assert_ne!(first, second);
    network.uplink(&running, second, 100);
    running.stop();
    let running = network.start();
    network.uplink(&running, second, 100);
    network.downlink(&running, 100);

    assert_eq!(volume(&network.delete(session)), (3 * 128, 2 * 128));
    running.stop();
}
