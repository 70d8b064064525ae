//! Requests about who may come through the tunnel.

use qlink_pfcp::{Answer, Cause, Novelty, Refusal, Request, TunnelEnd, TunnelMember};
use qlink_tunnel::{PeerError, PublicKey};
use qlink_types::ids::Hash32;

use super::TunnelPeer;
use super::thread::{Newcomer, TunnelEnds, TunnelGone, TunnelHandle};
use crate::control::Control;

impl Control {
    /// Lets a BaseStation come through the tunnel, now and after a restart: a new one, or one with a
    /// new key.
    pub(crate) fn admit_member(&mut self, request: &Request) -> Result<Answer, Refusal> {
        let novelty = self.association.check(request)?;
        let tunnel = self.tunnel()?;
        let end = end_of(tunnel);
        if novelty == Novelty::New {
            let newcomer = newcomer_of(tunnel, request)?;
            tunnel.admit(newcomer)?.map_err(refused)?;
            if let Err(refusal) = self.make_durable(request) {
                // After a restart it would be unknown, so it is now.
                let _ = self.tunnel()?.remove(newcomer.peer.key);
                return Err(refusal);
            }
            self.association.apply(request);
        }
        Ok(Answer::TunnelMemberAdded { end })
    }

    /// Ends a BaseStation's tunnel; one of the configuration stays.
    pub(crate) fn remove_member(&mut self, key: Hash32) -> Result<Answer, Refusal> {
        let request = Request::RemoveTunnelMember { key };
        if self.association.check(&request)? == Novelty::New {
            self.make_durable(&request)?;
            self.association.apply(&request);
            if let Ok(key) = PublicKey::from_bytes(*key.as_bytes()) {
                self.tunnel()?.remove(key)?;
            }
        }
        Ok(Answer::TunnelMemberRemoved { key })
    }

    /// What the tunnel did, as of its last report.
    pub(crate) fn tunnel_figures(&self) -> Result<Answer, Refusal> {
        self.tunnel()?;
        let figures = self.metrics.control.tunnel.figures();
        Ok(Answer::TunnelFigures { figures })
    }

    fn tunnel(&self) -> Result<&TunnelHandle, Refusal> {
        let missing = || Refusal::new(Cause::ServiceUnsupported, "no tunnel is configured");
        self.tunnel.as_ref().ok_or_else(missing)
    }
}

impl From<TunnelGone> for Refusal {
    fn from(gone: TunnelGone) -> Self {
        Self::new(Cause::Busy, &gone.to_string())
    }
}

impl TunnelEnds {
    /// Knows a BaseStation again that a request let in before the restart.
    pub(crate) fn restore(&mut self, request: &Request) -> Result<(), Refusal> {
        let newcomer = newcomer_of(&self.handle, request)?;
        self.thread.restore(newcomer).map_err(refused)
    }
}

fn refused(error: PeerError) -> Refusal {
    let cause = match error {
        PeerError::Full { .. } => Cause::NoResources,
        PeerError::KeyTaken(_) | PeerError::AddressTaken(_) => Cause::RuleInvalid,
    };
    Refusal::new(cause, &error.to_string())
}

fn end_of(tunnel: &TunnelHandle) -> TunnelEnd {
    TunnelEnd {
        key: Hash32::new(tunnel.key.to_bytes()),
        listen: tunnel.listen,
        gtpu: tunnel.gtpu,
    }
}

/// Whom a request lets in.
fn newcomer_of(tunnel: &TunnelHandle, request: &Request) -> Result<Newcomer, Refusal> {
    let (member, old) = match request {
        Request::AddTunnelMember { member } => (member, None),
        Request::RenewTunnelMember { member, old } => (member, Some(old)),
        _ => return Err(Refusal::new(Cause::SystemFailure, "lets nobody in")),
    };
    Ok(Newcomer {
        peer: peer_of(tunnel, member)?,
        // A key that is none stands for nobody, so nothing is in its place.
        old: old.and_then(|old| PublicKey::from_bytes(*old.as_bytes()).ok()),
    })
}

fn peer_of(tunnel: &TunnelHandle, member: &TunnelMember) -> Result<TunnelPeer, Refusal> {
    let invalid = |detail: &str| Refusal::new(Cause::RuleInvalid, detail);
    let key = PublicKey::from_bytes(*member.key.as_bytes());
    let key = key.map_err(|error| invalid(&error.to_string()))?;
    let address = member.address;
    if !tunnel.settings.admits(address) {
        let network = String::from(tunnel.settings.address);
        let detail = format!("tunnel address {address} is no BaseStation's in {network}");
        return Err(invalid(&detail));
    }
    Ok(TunnelPeer { key, address })
}
