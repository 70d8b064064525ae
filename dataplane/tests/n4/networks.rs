//! Network instances over sockets.

use qlink_dataplane::ServedNetwork;
use qlink_pfcp::model::{FailedRule, NetworkInstance, SessionChange};
use qlink_pfcp::sim::SessionPlan;
use qlink_pfcp::wire::{CauseCode, IeType};

use super::network::Network;

fn served(networks: &str) -> Option<Vec<ServedNetwork>> {
    Some(serde_json::from_str(networks).unwrap())
}

/// The plan's rules with the names of their networks: detection towards subscribers and towards the
/// network, forwarding likewise.
fn named(network: &Network, pdis: [&str; 2], fars: [&str; 2]) -> SessionChange {
    let instance = |name: &str| Some(NetworkInstance(name.as_bytes().to_vec()));
    let mut rules = network.plan().rules();
    for (pdr, name) in rules.create_pdrs.iter_mut().zip(pdis) {
        pdr.pdi.network_instance = instance(name);
    }
    for (far, name) in rules.create_fars.iter_mut().zip(fars) {
        let forwarding = far.forwarding.as_mut().unwrap();
        forwarding.network_instance = instance(name);
    }
    rules
}

#[test]
fn rules_of_one_session_lie_in_different_network_instances_and_an_unknown_one_is_refused() {
    let mut network = Network::new(20);
    let networks = r#"[{ "name": "access", "port": "n3" }, { "name": "internet", "port": "n6" }]"#;
    network.config.pfcp.as_mut().unwrap().networks = served(networks);
    let running = network.start();
    network.associate();

    let elsewhere = named(&network, ["access", "internet"], ["ims", "access"]);
    let refused = network.refusal(elsewhere);
    // The name is known, but not where these packets come from.
    let swapped = named(&network, ["internet", "internet"], ["internet", "access"]);
    let misplaced = network.refusal(swapped);
    let rules = named(&network, ["access", "Internet"], ["internet", "access"]);
    let (_, fteid) = network.establish_rules(rules);

    let [up, _] = SessionPlan::FARS;
    let [first, _] = SessionPlan::PDRS;
    let at = |rule| {
        let cause = CauseCode::RULE_FAILURE;
        (cause, Some(IeType::NETWORK_INSTANCE), Some(rule))
    };
    assert_eq!(refused, at(FailedRule::Far(up)));
    assert_eq!(misplaced, at(FailedRule::Pdr(first)));
    network.uplink(&running, fteid.teid, 100);
    network.downlink(&running, 100);
    running.stop();
}

#[test]
fn a_session_outlives_the_name_of_its_network_in_the_configuration() {
    let mut network = Network::new(21);
    let running = network.start();
    network.associate();
    let rules = named(&network, ["access", "internet"], ["internet", "access"]);
    let (_, fteid) = network.establish_rules(rules);
    running.stop();

    network.config.pfcp.as_mut().unwrap().networks = served("[]");
    let running = network.start();

    network.uplink(&running, fteid.teid, 100);
    running.stop();
}
