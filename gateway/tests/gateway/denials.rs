//! Denials: who is denied neither enrols nor opens sessions, what it had ends with a reason, and none
//! of it is undone by a restart of anybody.

use qlink_types::ids::{GatewayId, Hash32};
use qlink_types::ruling::{DenyReason, Subject, TunnelRuling};
use qlink_types::signature::SecretKey;
use qlink_types::units::TimeMs;
use serde_json::{Value, json};

use crate::support::client::Answer;
use crate::support::{GATEWAY, STATION, World, key, now, until};

impl World {
    fn station_subject(&self) -> Subject {
        Subject::BaseStation {
            basestation: self.basestation,
        }
    }

    fn ruling(&self, subject: Subject, denied: Option<DenyReason>) -> TunnelRuling {
        TunnelRuling {
            gateway: self.gateway,
            subject,
            denied,
            signed_at: now(),
        }
    }

    async fn send_ruling(&self, ruling: TunnelRuling, by: &SecretKey) -> Answer {
        let signature = ruling.sign(by, &self.chain);
        let body = json!({"ruling": ruling, "signature": signature});
        self.http.post("/v1/tunnel/rulings", &body).await
    }

    /// Denies or allows, which must be taken.
    async fn rule(&self, subject: Subject, denied: Option<DenyReason>) -> Value {
        // Two rulings of one millisecond are one.
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        let answer = self
            .send_ruling(self.ruling(subject, denied), &key(GATEWAY))
            .await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.json()
    }

    async fn denials(&self) -> Vec<Value> {
        let answer = self.http.get("/v1/tunnel/rulings").await.json();
        answer["data"].as_array().unwrap().clone()
    }

    /// A statement of tunnel key `n`.
    async fn states(&self, n: u8) -> Answer {
        let statement = self.says(n, now());
        let body = self.signed(statement, &key(STATION));
        self.put(self.basestation, &body).await
    }

    async fn metric(&self, name: &str) -> String {
        let text = self.http.get("/metrics").await.text;
        let line = text
            .lines()
            .find(|line| line.starts_with(&format!("{name} ")));
        line.unwrap_or_default().to_owned()
    }
}

fn code(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_denied_basestation_is_out_its_sessions_end_with_the_reason_and_what_was_proven_is_paid()
{
    let world = World::start().await;
    let content = world.film(&[7; 100]).await;
    let package = world.buy(&world.terms(content, 1_000, 1_000, 100)).await;
    let session = world.open(package, 1).await;
    assert_eq!(world.states(1).await.status, 200);
    world.plane.deliver(session, 100);

    let ruled = world
        .rule(world.station_subject(), Some(DenyReason::Lost))
        .await;

    assert_eq!(ruled["state"], "in_effect");
    assert_eq!(ruled["sessions_ended"], "1");
    assert!(world.plane.members().is_empty());
    assert_eq!(world.plane.sessions(), 0);
    let shown = world.http.get(&format!("/v1/sessions/{session}")).await;
    let shown = shown.json();
    assert_eq!(shown["state"], "closed");
    assert_eq!(shown["ended_by"], "basestation_denied");
    world.settled(package, 100).await;

    // It neither enrols, with whatever key, nor opens sessions, nor is a repeated request answered.
    for n in [1, 2] {
        let refused = world.states(n).await;
        assert!(refused.text.contains("lost"), "{}", refused.text);
        assert_eq!(refused.refusal(), code(403, "basestation_denied"));
    }
    for n in [1, 2] {
        let request = serde_json::to_value(world.open_request(package, n)).unwrap();
        let refused = world.http.post("/v1/sessions", &request).await.refusal();
        assert_eq!(refused, code(403, "basestation_denied"));
    }
    assert!(world.plane.members().is_empty());
    assert_eq!(world.plane.sessions(), 0);
    // Its own close comes too late and changes nothing.
    let closed = world.close(session).await;
    assert_eq!(closed.json()["ended_by"], "basestation_denied");
    let enrolled = world.http.get("/v1/tunnel/basestations").await.json();
    assert_eq!(enrolled["data"][0]["denied"], "lost");
    assert_eq!(
        world.metric("qlink_gateway_enrolments_denied_total").await,
        "qlink_gateway_enrolments_denied_total 2"
    );
    assert_eq!(
        world.metric("qlink_gateway_tunnel_denials").await,
        "qlink_gateway_tunnel_denials 1"
    );

    // Allowed again, it is in with the key that it had, and enrols.
    world.rule(world.station_subject(), None).await;
    assert_eq!(world.plane.members().len(), 1);
    assert!(world.denials().await.is_empty());
    assert_eq!(world.states(2).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_denied_tunnel_key_is_out_whoever_states_it_and_its_basestation_goes_on_with_another() {
    let world = World::start().await;
    assert_eq!(world.states(1).await.status, 200);
    let leaked = Subject::TunnelKey {
        key: Hash32::new([1; 32]),
    };

    world.rule(leaked, Some(DenyReason::Compromised)).await;

    assert!(world.plane.members().is_empty());
    assert_eq!(
        world.states(1).await.refusal(),
        code(403, "tunnel_key_denied")
    );
    assert_eq!(world.states(2).await.status, 200);
    assert_eq!(world.plane.members().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_denial_that_a_restart_cuts_off_takes_effect_afterwards() {
    let mut world = World::start().await;
    let content = world.film(&[7; 100]).await;
    let package = world.buy(&world.terms(content, 1_000, 1_000, 100)).await;
    let session = world.open(package, 1).await;
    assert_eq!(world.states(1).await.status, 200);
    // The ruling is durable, and nothing of its effect has happened.
    world.plane.hold(true);
    let ruled = world
        .rule(world.station_subject(), Some(DenyReason::Misuse))
        .await;
    assert_eq!(ruled["state"], "pending");
    assert_eq!(
        (world.plane.members().len(), world.plane.sessions()),
        (1, 1)
    );

    world.restart_gateway().await;

    let refused = world.states(1).await.refusal();
    assert_eq!(refused, code(403, "basestation_denied"));
    assert_eq!(world.denials().await[0]["state"], "pending");
    world.plane.hold(false);
    until("the denial is in effect", async || {
        world.denials().await[0]["state"] == "in_effect"
    })
    .await;
    assert_eq!(
        (world.plane.members().len(), world.plane.sessions()),
        (0, 0)
    );
    let shown = world.http.get(&format!("/v1/sessions/{session}")).await;
    assert_eq!(shown.json()["ended_by"], "basestation_denied");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_data_plane_that_comes_back_hears_who_may_come_and_who_may_not() {
    let world = World::start().await;
    assert_eq!(world.states(1).await.status, 200);

    // It has lost what it knew.
    world.plane.forget_members();
    world.plane.hang_up();
    until("it knows the key again", async || {
        world.plane.members().len() == 1
    })
    .await;

    // It has kept what it should not have: somebody put its journal back.
    world
        .rule(world.station_subject(), Some(DenyReason::Retired))
        .await;
    world
        .plane
        .add_member(Hash32::new([1; 32]), [10, 99, 0, 2].into());
    world.plane.hang_up();
    until("the key is out again", async || {
        world.plane.members().is_empty()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ruling_that_does_not_hold_is_refused_with_its_reason_and_changes_nothing() {
    let world = World::start().await;
    assert_eq!(world.states(1).await.status, 200);
    let good = world.ruling(world.station_subject(), Some(DenyReason::Lost));
    let by = key(GATEWAY);

    // Nobody else may deny: not even the BaseStation itself.
    let stranger = world.send_ruling(good, &key(STATION)).await;
    assert_eq!(stranger.refusal(), code(403, "bad_signature"));
    let elsewhere = TunnelRuling {
        gateway: GatewayId::new([9; 16]),
        ..good
    };
    let elsewhere = world.send_ruling(elsewhere, &by).await;
    assert_eq!(elsewhere.refusal(), code(409, "wrong_gateway"));
    let old = TunnelRuling {
        signed_at: TimeMs::new(1),
        ..good
    };
    let old = world.send_ruling(old, &by).await;
    assert_eq!(old.refusal(), code(409, "clocks_apart"));
    assert_eq!(world.plane.members().len(), 1);
    assert!(world.denials().await.is_empty());

    // Who has seen a denial cannot repeat it after the pardon.
    assert_eq!(world.send_ruling(good, &by).await.status, 200);
    world.rule(world.station_subject(), None).await;
    let again = world.send_ruling(good, &by).await;
    assert_eq!(again.refusal(), code(409, "statement_outdated"));
    assert_eq!(world.plane.members().len(), 1);
}
