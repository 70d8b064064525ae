//! `qlink tunnel`: which BaseStations may come through the tunnel of a data plane, and whom a gateway
//! denies.

use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::bail;
use clap::{Args, Subcommand};
use qlink_pfcp::{Answer, Request, TunnelMember};
use qlink_tunnel::PublicKey;
use qlink_types::ids::Hash32;
use qlink_types::ruling::DenyReason;
use serde_json::json;

use crate::link::Link;
use crate::output;
use crate::ruling::{self, Gateway, Whom};

/// What can be done with a tunnel's BaseStations.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Let a BaseStation in by hand, now and after restarts; prints what its configuration needs.
    Add {
        #[command(flatten)]
        member: Member,
        /// Its address in the tunnel, for example 10.99.0.2.
        address: IpAddr,
    },
    /// Take a key out of the data plane. One that enrols at a gateway comes back: `deny` it there.
    Remove {
        #[command(flatten)]
        member: Member,
    },
    /// Deny a BaseStation or a tunnel key at a gateway, until it is allowed again: its tunnel and its
    /// sessions end, and it neither enrols nor opens sessions.
    Deny {
        #[command(flatten)]
        gateway: Gateway,
        #[command(flatten)]
        whom: Whom,
        /// Why: unstated, lost, compromised, misuse or retired. Its BaseStation is told.
        #[arg(long, default_value = "unstated")]
        reason: DenyReason,
    },
    /// Allow again what was denied at a gateway.
    Allow {
        #[command(flatten)]
        gateway: Gateway,
        #[command(flatten)]
        whom: Whom,
    },
    /// Show who is enrolled at a gateway and who is denied there, a line each.
    List {
        #[command(flatten)]
        gateway: Gateway,
    },
}

/// Where, and which.
#[derive(Debug, Args)]
pub(crate) struct Member {
    /// Control socket of the running data plane.
    #[arg(long, value_name = "SOCKET")]
    dataplane: PathBuf,
    /// Its public tunnel key, as `qlink key tunnel` or `wg pubkey` prints it.
    key: PublicKey,
}

/// Runs a tunnel command.
pub(crate) fn run(command: &Command) -> anyhow::Result<()> {
    let line = match command {
        Command::Add { member, address } => {
            let request = Request::AddTunnelMember {
                member: TunnelMember {
                    key: member.key_bytes(),
                    address: *address,
                },
            };
            let Answer::TunnelMemberAdded { end } = member.ask(&request)? else {
                bail!("the data plane answers something else");
            };
            let gateway_key = PublicKey::from_bytes(*end.key.as_bytes())?;
            json!({ "gateway_key": gateway_key, "endpoint": end.listen, "gtpu": end.gtpu })
        }
        Command::Remove { member } => {
            let key = member.key_bytes();
            member.ask(&Request::RemoveTunnelMember { key })?;
            json!({ "removed": member.key })
        }
        Command::Deny {
            gateway,
            whom,
            reason,
        } => json!(ruling::rule(gateway, whom, Some(*reason))?),
        Command::Allow { gateway, whom } => json!(ruling::rule(gateway, whom, None)?),
        Command::List { gateway } => {
            for line in ruling::list(gateway)? {
                output::line(&line.to_string());
            }
            return Ok(());
        }
    };
    output::line(&line.to_string());
    Ok(())
}

impl Member {
    const fn key_bytes(&self) -> Hash32 {
        Hash32::new(self.key.to_bytes())
    }

    fn ask(&self, request: &Request) -> anyhow::Result<Answer> {
        let mut link = Link::connect(&self.dataplane)?;
        link.ask(&Request::Hello)?;
        link.ask(request)
    }
}
