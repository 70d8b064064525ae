use std::sync::Mutex;

use qlink_api::session::{CloseSessionRequest, OpenSessionRequest, OpenedSession};
use qlink_tunnel::PrivateKey;
use qlink_types::ids::{BaseStationId, SessionId};
use qlink_types::tunnel::{EndpointText, TunnelGrant};
use serde_json::json;

use super::*;

/// A gateway that makes of each request what `answer` does.
struct FakeGateway<F> {
    answer: F,
    seen: Mutex<Vec<EnrolTunnelRequest>>,
}

impl<F: Fn(&EnrolTunnelRequest) -> EnrolledTunnel + Send + Sync> GatewayApi for FakeGateway<F> {
    fn open(&self, _: &str, _: &OpenSessionRequest) -> Result<OpenedSession, GatewayError> {
        Err(GatewayError::Unreachable("no sessions here".to_owned()))
    }

    fn close(
        &self,
        _: &str,
        _: SessionId,
        _: &CloseSessionRequest,
    ) -> Result<serde_json::Value, GatewayError> {
        Err(GatewayError::Unreachable("no sessions here".to_owned()))
    }

    fn enrol(
        &self,
        basestation: BaseStationId,
        request: &EnrolTunnelRequest,
    ) -> Result<EnrolledTunnel, GatewayError> {
        assert_eq!(basestation, request.statement.basestation);
        self.seen.lock().unwrap().push(request.clone());
        Ok((self.answer)(request))
    }
}

fn key(n: u8) -> SecretKey {
    SecretKey::from_seed([n; 32])
}

fn config() -> Config {
    serde_json::from_value(json!({
        "chain": Hash32::new([9; 32]), "basestation": BaseStationId::new([1; 16]),
        "gateway": qlink_types::ids::GatewayId::new([2; 16]), "api": "http://127.0.0.1:1",
        "key_file": "device.key", "radio": "127.0.0.1:2153", "control": "control",
        "tunnel": {"key_file": "tunnel.key", "gateway_device_key": key(8).public()},
    }))
    .unwrap()
}

fn text(text: &str) -> EndpointText {
    EndpointText::try_from(text).unwrap()
}

fn grant(request: &EnrolTunnelRequest) -> TunnelGrant {
    TunnelGrant {
        asked: request.statement,
        gateway_key: Hash32::new(PrivateKey::from_bytes([5; 32]).public().to_bytes()),
        endpoint: text("198.51.100.1:51820"),
        gtpu: text("10.99.0.1:2152"),
        address: text("10.99.0.7"),
    }
}

fn signed(grant: TunnelGrant, by: &SecretKey) -> EnrolledTunnel {
    EnrolledTunnel {
        signature: grant.sign(by, &config().chain),
        grant,
    }
}

/// One attempt at a gateway that answers so, after its request was found to be right.
fn attempt(
    answer: impl Fn(&EnrolTunnelRequest) -> EnrolledTunnel + Send + Sync,
) -> Result<Granted, EnrolError> {
    let (config, device, gateway) = (config(), key(7), key(8).public());
    let api = FakeGateway {
        answer,
        seen: Mutex::default(),
    };
    let tunnel_key = PrivateKey::from_bytes([4; 32]).public();
    let enrolment = Enrolment {
        config: &config,
        key: &device,
        tunnel_key,
        gateway_key: &gateway,
        api: &api,
        may_change_key: false,
    };
    let result = enrolment.attempt();
    let seen = api.seen.lock().unwrap();
    let request = seen.first().unwrap();
    assert_eq!(*request.statement.key.as_bytes(), tunnel_key.to_bytes());
    let holds = request
        .statement
        .verify(&device.public(), &config.chain, &request.signature);
    assert_eq!(holds, Ok(()));
    result
}

#[test]
fn what_the_gateways_device_key_signed_is_taken() {
    let granted = attempt(|request| signed(grant(request), &key(8))).unwrap();

    let expected = Granted {
        gateway_key: PrivateKey::from_bytes([5; 32]).public(),
        endpoint: "198.51.100.1:51820".parse().unwrap(),
        gtpu: "10.99.0.1:2152".parse().unwrap(),
        n3: "10.99.0.7:2152".parse().unwrap(),
    };
    assert_eq!(granted, expected);
}

#[test]
fn what_somebody_on_the_way_answers_or_changes_is_refused() {
    let stranger = attempt(|request| signed(grant(request), &key(3)));
    assert!(matches!(stranger, Err(EnrolError::Signature(_))));

    let changed = attempt(|request| {
        let mut answer = signed(grant(request), &key(8));
        answer.grant.endpoint = text("203.0.113.9:51820");
        answer
    });
    assert!(matches!(changed, Err(EnrolError::Signature(_))));

    let replayed = attempt(|request| {
        let mut old = grant(request);
        old.asked.signed_at = qlink_types::units::TimeMs::new(1);
        signed(old, &key(8))
    });
    assert!(matches!(replayed, Err(EnrolError::OtherStatement)));
}

#[test]
fn an_answer_that_leads_nowhere_is_refused_with_what_is_wrong() {
    for what in ["gtpu", "address", "endpoint", "gateway_key"] {
        let refused = attempt(|request| {
            let mut grant = grant(request);
            match what {
                "gtpu" => grant.gtpu = text("here"),
                "address" => grant.address = text("10.99.0.7:1"),
                "endpoint" => grant.endpoint = text("198.51.100.1"),
                _ => grant.gateway_key = Hash32::ZERO,
            }
            signed(grant, &key(8))
        });

        assert!(refused.unwrap_err().to_string().contains(what), "{what}");
    }
}
