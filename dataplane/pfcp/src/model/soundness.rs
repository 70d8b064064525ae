//! Whether the rules of a session refer to each other soundly and within bounds.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::forwarding::{ApplyAction, Far};
use super::limits::{MAX_DUPLICATIONS, MAX_LINKED, MAX_RULES_OF_PDR, ModelLimits};
use super::packet::{Interface, LocalFTeid, Pdi, Pdr, UeAddress};
use super::rejection::{FailedRule, Rejection};
use super::session::{SessionChange, SessionModel};
use super::usage_rule::{MeasurementMethod, Urr};
use crate::cause::Cause;
use crate::wire::{IeType, MAX_QFIS};

impl SessionModel {
    /// Whether these rules can stand together.
    ///
    /// # Errors
    ///
    /// A [`Rejection`] with the first rule that cannot.
    pub fn check(&self, limits: &ModelLimits) -> Result<(), Rejection> {
        self.check_references(&SessionChange::default())?;
        bounded(self.pdrs.len(), limits.pdrs)?;
        bounded(self.fars.len(), limits.fars)?;
        bounded(self.urrs.len(), limits.urrs)?;
        bounded(self.qers.len(), limits.qers)?;
        bounded(self.bars.len(), limits.bars)?;
        for pdr in self.pdrs.values() {
            check_pdr(pdr, limits).map_err(|wrong| wrong.of(FailedRule::Pdr(pdr.id)))?;
        }
        for far in self.fars.values() {
            check_far(far)?;
        }
        for urr in self.urrs.values() {
            check_urr(urr, limits).map_err(|wrong| wrong.of(FailedRule::Urr(urr.id)))?;
        }
        Ok(())
    }

    /// Every rule that a rule names stands. Where `change` removed one that others still name, the
    /// removed one is at fault, else the one that names it.
    pub(super) fn check_references(&self, change: &SessionChange) -> Result<(), Rejection> {
        let dangling = self.references().find(|(_, named)| !self.has(*named));
        match dangling {
            None => Ok(()),
            Some((_, named)) if removes(change, named) => Err(Rejection::rule(named)),
            Some((holder, _)) => Err(Rejection::rule(holder)),
        }
    }

    /// Which rule names which.
    fn references(&self) -> impl Iterator<Item = (FailedRule, FailedRule)> {
        let of_pdrs = self.pdrs.values().flat_map(|pdr| {
            let fars = pdr.far.iter().copied().map(FailedRule::Far);
            let urrs = pdr.urrs.iter().copied().map(FailedRule::Urr);
            let qers = pdr.qers.iter().copied().map(FailedRule::Qer);
            let named = fars.chain(urrs).chain(qers);
            named.map(|named| (FailedRule::Pdr(pdr.id), named))
        });
        let of_fars = self.fars.values().flat_map(|far| {
            let bars = far.bar.iter().copied().map(FailedRule::Bar);
            bars.map(|named| (FailedRule::Far(far.id), named))
        });
        let of_urrs = self.urrs.values().flat_map(|urr| {
            let linked = urr.linked.iter().copied().map(FailedRule::Urr);
            let actions = urr.quota_action.iter().copied().map(FailedRule::Far);
            let named = linked.chain(actions);
            named.map(|named| (FailedRule::Urr(urr.id), named))
        });
        of_pdrs.chain(of_fars).chain(of_urrs)
    }

    fn has(&self, rule: FailedRule) -> bool {
        match rule {
            FailedRule::Pdr(id) => self.pdrs.contains_key(&id),
            FailedRule::Far(id) => self.fars.contains_key(&id),
            FailedRule::Qer(id) => self.qers.contains_key(&id),
            FailedRule::Urr(id) => self.urrs.contains_key(&id),
            FailedRule::Bar(id) => self.bars.contains_key(&id),
        }
    }
}

fn removes(change: &SessionChange, rule: FailedRule) -> bool {
    match rule {
        FailedRule::Pdr(id) => change.remove_pdrs.contains(&id),
        FailedRule::Far(id) => change.remove_fars.contains(&id),
        FailedRule::Qer(id) => change.remove_qers.contains(&id),
        FailedRule::Urr(id) => change.remove_urrs.contains(&id),
        FailedRule::Bar(id) => change.remove_bars.contains(&id),
    }
}

fn bounded(count: usize, limit: usize) -> Result<(), Rejection> {
    if count <= limit {
        Ok(())
    } else {
        Err(Rejection::new(Cause::NoResources))
    }
}

const INVALID: Rejection = Rejection::new(Cause::RuleInvalid);

/// An information element that the rule as it is cannot do without.
fn needed(element: IeType) -> Result<(), Rejection> {
    Err(Rejection::new(Cause::ConditionalMissing).about(element))
}

fn check_pdr(pdr: &Pdr, limits: &ModelLimits) -> Result<(), Rejection> {
    bounded(pdr.urrs.len(), MAX_RULES_OF_PDR)?;
    bounded(pdr.qers.len(), MAX_RULES_OF_PDR)?;
    bounded(pdr.pdi.filters.len(), limits.filters)?;
    bounded(pdr.pdi.qfis.len(), MAX_QFIS)?;
    bounded(pdr.pdi.contents.len(), limits.contents)?;
    bounded(pdr.pdi.packages.len(), limits.contents)?;
    if pdr.far.is_none() && !pdr.pdi.names_contents() {
        return needed(IeType::FAR_ID);
    }
    if let Some(local) = &pdr.pdi.local_fteid {
        check_local(local)?;
    }
    if let Some(ue) = &pdr.pdi.ue {
        check_ue(ue)?;
    }
    check_addressed(pdr)
}

/// A packet is found by its tunnel or by its subscriber, or the rule only measures contents in
/// packets that another rule of the session found.
fn check_addressed(pdr: &Pdr) -> Result<(), Rejection> {
    let Pdi {
        source,
        local_fteid,
        ue,
        ..
    } = &pdr.pdi;
    if local_fteid.is_some() || pdr.far.is_none() {
        return Ok(());
    }
    match source {
        Interface::Access | Interface::ControlPlane => needed(IeType::F_TEID),
        Interface::Core | Interface::SgiLan if ue.is_none() => needed(IeType::UE_IP_ADDRESS),
        Interface::Core | Interface::SgiLan => Ok(()),
        // Nothing comes from there.
        Interface::LiFunction => Err(INVALID.about(IeType::SOURCE_INTERFACE)),
    }
}

fn check_local(local: &LocalFTeid) -> Result<(), Rejection> {
    let has_address = match local {
        LocalFTeid::Choose {
            v4: false,
            v6: false,
            ..
        } => {
            return Err(Rejection::new(Cause::TeidChoiceInvalid).about(IeType::F_TEID));
        }
        LocalFTeid::Choose { .. } => return Ok(()),
        LocalFTeid::Fixed(fteid) if fteid.teid.get() == 0 => false,
        LocalFTeid::Fixed(fteid) => fteid.v4.is_some() || fteid.v6.is_some(),
    };
    if has_address {
        Ok(())
    } else {
        Err(INVALID.about(IeType::F_TEID))
    }
}

fn check_ue(ue: &UeAddress) -> Result<(), Rejection> {
    let named = ue.v4.is_some() || ue.v6.is_some() || ue.choose_v4 || ue.choose_v6;
    let twice = ue.v4.is_some() && ue.choose_v4 || ue.v6.is_some() && ue.choose_v6;
    let host = ue.v4.is_none_or(is_host_v4) && ue.v6.is_none_or(is_host_v6);
    if named && host && !twice {
        Ok(())
    } else {
        Err(INVALID.about(IeType::UE_IP_ADDRESS))
    }
}

const fn is_host_v4(address: Ipv4Addr) -> bool {
    !address.is_unspecified() && !address.is_multicast() && !address.is_broadcast()
}

fn is_host_v6((address, length): (Ipv6Addr, u8)) -> bool {
    (1..=128).contains(&length) && !address.is_unspecified() && !address.is_multicast()
}

fn check_far(far: &Far) -> Result<(), Rejection> {
    let rule = FailedRule::Far(far.id);
    bounded(far.duplicating.len(), MAX_DUPLICATIONS).map_err(|wrong| wrong.of(rule))?;
    if far.action.duplicates() && far.duplicating.is_empty() {
        return Err(Rejection::missing(IeType::DUPLICATING_PARAMETERS, rule));
    }
    match &far.forwarding {
        None if matches!(far.action, ApplyAction::Forward { .. }) => {
            Err(Rejection::missing(IeType::FORWARDING_PARAMETERS, rule))
        }
        // Only copies go there.
        Some(to) if to.destination == Interface::LiFunction => {
            Err(INVALID.about(IeType::DESTINATION_INTERFACE).of(rule))
        }
        Some(_) | None => Ok(()),
    }
}

fn check_urr(urr: &Urr, limits: &ModelLimits) -> Result<(), Rejection> {
    bounded(urr.monitoring.len(), limits.splits)?;
    bounded(urr.linked.len(), MAX_LINKED)?;
    if urr.method == MeasurementMethod::default() {
        return Err(INVALID.about(IeType::MEASUREMENT_METHOD));
    }
    let times = urr.monitoring.iter().map(|split| split.at);
    if urr.linked.contains(&urr.id) || !times.is_sorted_by(|earlier, later| earlier < later) {
        return Err(INVALID);
    }
    Ok(())
}
