//! The tunnel: who may enrol, what a refused statement leaves behind (nothing), and where the sessions
//! of an enrolled BaseStation may go.

use std::net::IpAddr;

use qlink_types::ids::{BaseStationId, GatewayId, Hash32};
use qlink_types::signature::SecretKey;
use qlink_types::tunnel::{TunnelGrant, TunnelKey};
use qlink_types::units::TimeMs;
use serde_json::{Value, json};

use crate::support::client::Answer;
use crate::support::plane::TUNNEL_END;
use crate::support::{GATEWAY, PROVIDER, STATION, World, key, now, until};

/// Device key of another BaseStation.
const OTHER: u8 = 9;

fn tunnel_key(n: u8) -> Hash32 {
    Hash32::new([n; 32])
}

fn address(last: u8) -> IpAddr {
    IpAddr::from([10, 99, 0, last])
}

impl World {
    /// The BaseStation's statement of its tunnel key.
    pub(crate) fn says(&self, key: u8, signed_at: TimeMs) -> TunnelKey {
        TunnelKey {
            basestation: self.basestation,
            gateway: self.gateway,
            key: tunnel_key(key),
            signed_at,
        }
    }

    pub(crate) fn signed(&self, statement: TunnelKey, key: &SecretKey) -> Value {
        let signature = statement.sign(key, &self.chain);
        json!({"statement": statement, "signature": signature})
    }

    pub(crate) async fn put(&self, basestation: BaseStationId, body: &Value) -> Answer {
        let path = format!("/v1/basestations/{basestation}/tunnel");
        let headers = [("content-type", "application/json")];
        let body = body.to_string();
        self.http
            .call("PUT", &path, &headers, body.as_bytes())
            .await
    }

    /// Enrols, which must be granted.
    async fn enrol(&self, statement: TunnelKey, key: &SecretKey) -> TunnelGrant {
        let body = self.signed(statement, key);
        let answer = self.put(statement.basestation, &body).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let answer = answer.json();
        let grant: TunnelGrant = serde_json::from_value(answer["grant"].clone()).unwrap();
        let signature = serde_json::from_value(answer["signature"].clone()).unwrap();
        let gateway = crate::support::key(GATEWAY).public();
        assert_eq!(grant.verify(&gateway, &self.chain, &signature), Ok(()));
        assert_eq!(grant.asked, statement);
        grant
    }

    async fn refused(&self, basestation: BaseStationId, body: &Value) -> (u16, String) {
        let before = self.plane.members();
        let refusal = self.put(basestation, body).await.refusal();
        assert_eq!(
            self.plane.members(),
            before,
            "{refusal:?} changed the tunnel"
        );
        refusal
    }
}

fn code(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_basestation_enrols_with_the_key_that_its_device_key_signed() {
    let world = World::start().await;
    let first = world.says(1, now());

    let grant = world.enrol(first, &key(STATION)).await;
    let again = world.enrol(first, &key(STATION)).await;

    assert_eq!(again, grant);
    assert_eq!(grant.gateway_key, TUNNEL_END.key);
    assert_eq!(grant.endpoint.as_str(), "198.51.100.1:51820");
    assert_eq!(grant.gtpu.as_str(), "10.99.0.1:2152");
    assert_eq!(grant.address.as_str(), "10.99.0.2");
    assert_eq!(world.plane.members(), [(tunnel_key(1), address(2))]);

    // A new key takes the old one's place and address: both come through until the new one is said
    // to be in use.
    let later = |more| TimeMs::new(first.signed_at.get() + more);
    let renewed = world.enrol(world.says(2, later(1)), &key(STATION)).await;

    assert_eq!(renewed.address, grant.address);
    let both = [(tunnel_key(1), address(2)), (tunnel_key(2), address(2))];
    assert_eq!(world.plane.members(), both);

    world.enrol(world.says(2, later(2)), &key(STATION)).await;
    assert_eq!(world.plane.members(), [(tunnel_key(2), address(2))]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_replaced_twice_is_out_also_after_a_restart() {
    let mut world = World::start().await;
    let time = |back: u64| TimeMs::new(now().get() - back);
    world
        .enrol(world.says(1, time(50_000)), &key(STATION))
        .await;
    world
        .enrol(world.says(2, time(40_000)), &key(STATION))
        .await;
    world
        .enrol(world.says(3, time(30_000)), &key(STATION))
        .await;
    let both = [(tunnel_key(2), address(2)), (tunnel_key(3), address(2))];
    assert_eq!(world.plane.members(), both);

    // A data plane that has lost them gets the newest alone.
    world.plane.forget_members();
    world.restart_gateway().await;
    until("the newest key is in again", async || {
        !world.plane.members().is_empty()
    })
    .await;
    assert_eq!(world.plane.members(), [(tunnel_key(3), address(2))]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_that_does_not_hold_is_refused_with_its_reason() {
    let world = World::start().await;
    let other = world.station(OTHER).await;
    let (own, time) = (world.basestation, now());
    let good = world.says(1, time);

    let stranger = world.signed(good, &key(PROVIDER));
    assert_eq!(
        world.refused(own, &stranger).await,
        code(403, "bad_signature")
    );
    let others = world.signed(good, &key(OTHER));
    assert_eq!(
        world.refused(own, &others).await,
        code(403, "bad_signature")
    );
    let mut altered = world.signed(good, &key(STATION));
    altered["statement"]["key"] = json!(tunnel_key(2));
    assert_eq!(
        world.refused(own, &altered).await,
        code(403, "bad_signature")
    );
    let unknown = TunnelKey {
        basestation: BaseStationId::new([9; 16]),
        ..good
    };
    let body = world.signed(unknown, &key(STATION));
    assert_eq!(
        world.refused(unknown.basestation, &body).await,
        code(404, "unknown_basestation")
    );
    let body = world.signed(good, &key(STATION));
    assert_eq!(
        world.refused(other, &body).await,
        code(400, "basestation_mismatch")
    );
    let elsewhere = TunnelKey {
        gateway: GatewayId::new([9; 16]),
        ..good
    };
    let body = world.signed(elsewhere, &key(STATION));
    assert_eq!(world.refused(own, &body).await, code(409, "wrong_gateway"));
    let body = world.signed(world.says(1, TimeMs::new(1)), &key(STATION));
    assert_eq!(world.refused(own, &body).await, code(409, "clocks_apart"));
    assert!(world.plane.members().is_empty());

    // What stands is not undone by an earlier statement, nor is its key given to another.
    world.enrol(good, &key(STATION)).await;
    let earlier = world.says(3, TimeMs::new(time.get() - 1));
    let body = world.signed(earlier, &key(STATION));
    assert_eq!(
        world.refused(own, &body).await,
        code(409, "statement_outdated")
    );
    let stolen = TunnelKey {
        basestation: other,
        ..good
    };
    let body = world.signed(stolen, &key(OTHER));
    assert_eq!(
        world.refused(other, &body).await,
        code(409, "tunnel_key_taken")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_data_plane_refuses_changes_nothing() {
    let world = World::start().await;
    let first = world.says(1, now());
    world.enrol(first, &key(STATION)).await;
    world.plane.refuse(tunnel_key(2));

    let later = TimeMs::new(first.signed_at.get() + 1);
    let body = world.signed(world.says(2, later), &key(STATION));
    assert_eq!(
        world.refused(world.basestation, &body).await.0,
        503,
        "of the data plane"
    );

    // The earlier statement still stands, so it may be said again.
    world.enrol(first, &key(STATION)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_go_to_the_tunnel_address_of_their_basestation_alone() {
    let world = World::start().await;
    let content = world.film(&[7; 100]).await;
    let package = world.buy(&world.terms(content, 1_000, 1_000, 100)).await;
    let to = |n: u8, peer: &str| {
        let mut request = world.open_request(package, n);
        request.peer = peer.to_owned();
        serde_json::to_value(request).unwrap()
    };
    let refused = async |request: &Value| {
        let before = world.plane.sessions();
        let refusal = world.http.post("/v1/sessions", request).await.refusal();
        assert_eq!(world.plane.sessions(), before);
        refusal
    };

    // Not enrolled: the tunnel's addresses are others'.
    assert_eq!(
        refused(&to(1, "10.99.0.2:2152")).await,
        code(409, "peer_reserved")
    );

    world.enrol(world.says(1, now()), &key(STATION)).await;

    for peer in ["10.99.0.3:2152", "127.9.9.2:2152"] {
        assert_eq!(refused(&to(2, peer)).await, code(409, "peer_not_tunnel"));
    }
    let opened = world
        .http
        .post("/v1/sessions", &to(3, "10.99.0.2:2152"))
        .await;
    assert_eq!(opened.status, 201, "{}", opened.text);
}
