//! `qlink tunnel`: which BaseStations may come through a data plane's tunnel.

use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::bail;
use clap::{Args, Subcommand};
use qlink_pfcp::{Answer, Request, TunnelMember};
use qlink_tunnel::PublicKey;
use qlink_types::ids::Hash32;
use serde_json::json;

use crate::link::Link;
use crate::output;

/// What can be done with a tunnel's BaseStations.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Let a BaseStation in, now and after restarts; prints what its configuration needs.
    Add {
        #[command(flatten)]
        member: Member,
        /// Its address in the tunnel, for example 10.99.0.2.
        address: IpAddr,
    },
    /// Shut a BaseStation out that was let in by `add`.
    Remove {
        #[command(flatten)]
        member: Member,
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
