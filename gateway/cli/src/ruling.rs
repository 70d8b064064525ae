//! Rulings on who may come through a gateway's tunnel: signed with the gateway's own key, on its
//! machine, from its own configuration.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use qlink_api::list::Page;
use qlink_api::tunnel::{RuleTunnelRequest, RulingView, TunnelMemberView};
use qlink_client::ChainClient;
use qlink_client::http::JsonClient;
use qlink_gateway::GatewayConfig;
use qlink_tunnel::PublicKey;
use qlink_types::ids::{BaseStationId, Hash32};
use qlink_types::ruling::{DenyReason, Subject, TunnelRuling};
use qlink_types::units::TimeMs;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::{config, keys, process};

/// How long the gateway may take: it asks its data plane, ten seconds if need be.
const PATIENCE: Duration = Duration::from_secs(30);

/// Which gateway.
#[derive(Debug, Args)]
pub(crate) struct Gateway {
    /// Configuration file of the running gateway: it names address, node and key.
    #[arg(long = "gateway", value_name = "FILE")]
    config: PathBuf,
}

/// Whom a ruling is about.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Whom {
    /// A BaseStation, whatever its tunnel key.
    #[arg(long, value_name = "ID")]
    basestation: Option<BaseStationId>,
    /// A tunnel key, whoever states it: its BaseStation may go on with another.
    #[arg(long, value_name = "KEY")]
    tunnel_key: Option<PublicKey>,
}

impl Whom {
    fn subject(&self) -> anyhow::Result<Subject> {
        let by_id = self
            .basestation
            .map(|basestation| Subject::BaseStation { basestation });
        let by_key = self.tunnel_key.map(|key| Subject::TunnelKey {
            key: Hash32::new(key.to_bytes()),
        });
        by_id
            .or(by_key)
            .context("name --basestation ID or --tunnel-key KEY")
    }
}

impl Gateway {
    fn open(&self) -> anyhow::Result<(GatewayConfig, JsonClient)> {
        let config: GatewayConfig = config::read(&self.config)?;
        let at = format!("http://{}", reachable(config.listen));
        Ok((config, JsonClient::new(&at, PATIENCE)))
    }
}

/// Where a gateway that listens everywhere is reached on its own machine.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// Signs a ruling and hands it to the gateway.
pub(crate) fn rule(
    gateway: &Gateway,
    whom: &Whom,
    denied: Option<DenyReason>,
) -> anyhow::Result<RulingView> {
    let subject = whom.subject()?;
    let (config, api) = gateway.open()?;
    let key = keys::read(&config.key_file)?;
    process::runtime()?.block_on(async {
        let chain = ChainClient::new(&config.node).status().await?.chain_id;
        let ruling = TunnelRuling {
            gateway: config.gateway,
            subject,
            denied,
            signed_at: TimeMs::new(qlink_io::clock::unix_ns() / 1_000_000),
        };
        let request = RuleTunnelRequest {
            signature: ruling.sign(&key, &chain),
            ruling,
        };
        let repeated = format!("ruling-{}", ruling.signed_at.get());
        Ok(api
            .post("/v1/tunnel/rulings", &request, Some(&repeated))
            .await?)
    })
}

/// Who is enrolled, then who is denied.
pub(crate) fn list(gateway: &Gateway) -> anyhow::Result<Vec<Value>> {
    let (_, api) = gateway.open()?;
    process::runtime()?.block_on(async {
        let mut lines = Vec::new();
        let members: Vec<TunnelMemberView> = all(&api, "/v1/tunnel/basestations").await?;
        for member in members {
            lines.push(json!({ "enrolled": member }));
        }
        let denials: Vec<RulingView> = all(&api, "/v1/tunnel/rulings").await?;
        for denial in denials {
            lines.push(json!({
                "denied": {
                    "subject": denial.subject, "reason": denial.denied,
                    "since": denial.since, "state": denial.state,
                },
            }));
        }
        Ok(lines)
    })
}

/// Every row of a list.
async fn all<T: DeserializeOwned>(api: &JsonClient, path: &str) -> anyhow::Result<Vec<T>> {
    let mut rows = Vec::new();
    let mut after = String::new();
    loop {
        let page: Page<T> = api.get(&format!("{path}?limit=100{after}")).await?;
        rows.extend(page.data);
        match page.next.filter(|_| page.has_more) {
            Some(next) => after = format!("&after={next}"),
            None => return Ok(rows),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_that_listens_everywhere_is_asked_on_its_own_machine() {
        for (listen, at) in [
            ("0.0.0.0:8080", "127.0.0.1:8080"),
            ("[::]:8080", "[::1]:8080"),
            ("10.47.0.1:8080", "10.47.0.1:8080"),
        ] {
            assert_eq!(reachable(listen.parse().unwrap()).to_string(), at);
        }
    }
}
