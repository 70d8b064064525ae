//! Changes of a session's rules as a whole.

use std::collections::{BTreeMap, BTreeSet};

use super::endpoint::{Environment, resolve};
use super::forwarding::{
    Bar, BarChanges, Duplication, Far, FarChanges, Forwarding, OuterHeaderCreation,
};
use super::ids::UrrId;
use super::limits::ModelLimits;
use super::networks::Port;
use super::packet::{NetworkInstance, Pdr, PdrChanges};
use super::quality::{Qer, QerChanges};
use super::rejection::{FailedRule, Rejection};
use super::session::{Resolution, SessionChange, SessionModel};
use super::usage_rule::{Urr, UrrChanges};
use crate::cause::Cause;
use crate::wire::IeType;

impl SessionModel {
    /// The rules after `change`, and what is left to do.
    ///
    /// Removals come first, then creations, then updates; whether rules refer to each other soundly
    /// is judged at the end. The endpoints that the change takes are the caller's to
    /// [`keep`](Resolution::keep) or to [`discard`](Resolution::discard).
    ///
    /// # Errors
    ///
    /// A [`Rejection`] with the first thing that is wrong; nothing was taken from the environment.
    pub fn changed(
        &self,
        change: &SessionChange,
        limits: &ModelLimits,
        environment: &mut Environment<'_>,
    ) -> Result<(Self, Resolution), Rejection> {
        let mut next = self.clone();
        next.remove(change)?;
        next.create(change)?;
        let end_markers = next.update(change)?;
        next.check_traffic()?;
        next.fill_in();
        next.check_references(change)?;
        next.check(limits)?;
        check_applications(change, environment)?;
        next.check_networks(change, environment)?;
        let mut resolution = Resolution {
            ended_urrs: change.remove_urrs.clone(),
            dissociated_urrs: dissociated(self, &next),
            changed_urrs: change.update_urrs.clone(),
            end_markers,
            ..Resolution::default()
        };
        resolve(self, &mut next, environment, &mut resolution)?;
        Ok((next, resolution))
    }

    /// A network instance that a rule names anew must be served where its packets pass.
    fn check_networks(
        &self,
        change: &SessionChange,
        environment: &Environment<'_>,
    ) -> Result<(), Rejection> {
        let created = change.create_pdrs.iter().map(|pdr| pdr.id);
        let updated = change.update_pdrs.iter().map(|pdr| pdr.id);
        let moved = self.pdrs.values().filter(|pdr| {
            let mut moved = change.update_endpoints.iter();
            moved.any(|endpoint| pdr.pdi.endpoint == Some(endpoint.id))
        });
        let pdrs = created.chain(updated).filter_map(|id| self.pdrs.get(&id));
        let pdrs = pdrs.chain(moved);
        let pdrs = pdrs.map(|pdr| {
            let port = Port::of_pdi(&pdr.pdi);
            let instance = pdr.pdi.network_instance.as_ref();
            (FailedRule::Pdr(pdr.id), port, instance)
        });
        let created = change.create_fars.iter().map(|far| far.id);
        let updated = change.update_fars.iter().map(|far| far.id);
        let fars = created.chain(updated).filter_map(|id| self.fars.get(&id));
        let fars = fars.filter_map(|far| {
            let forwarding = far.forwarding.as_ref()?;
            let port = Port::of_forwarding(forwarding);
            let instance = forwarding.network_instance.as_ref();
            Some((FailedRule::Far(far.id), port, instance))
        });
        let serves = |port, instance: Option<&NetworkInstance>| {
            instance.is_none_or(|instance| environment.networks.serves(port, instance))
        };
        let mut named = pdrs.chain(fars);
        match named.find(|(_, port, instance)| !serves(*port, *instance)) {
            Some((rule, ..)) => Err(Rejection::rule(rule).about(IeType::NETWORK_INSTANCE)),
            None => Ok(()),
        }
    }

    fn remove(&mut self, change: &SessionChange) -> Result<(), Rejection> {
        remove(&mut self.pdrs, &change.remove_pdrs, FailedRule::Pdr)?;
        self.change_traffic(change)?;
        remove(&mut self.fars, &change.remove_fars, FailedRule::Far)?;
        remove(&mut self.urrs, &change.remove_urrs, FailedRule::Urr)?;
        remove(&mut self.qers, &change.remove_qers, FailedRule::Qer)?;
        remove(&mut self.bars, &change.remove_bars, FailedRule::Bar)
    }

    fn create(&mut self, change: &SessionChange) -> Result<(), Rejection> {
        create(&mut self.pdrs, &change.create_pdrs, |pdr: &Pdr| {
            (pdr.id, FailedRule::Pdr(pdr.id))
        })?;
        create(&mut self.fars, &change.create_fars, |far: &Far| {
            (far.id, FailedRule::Far(far.id))
        })?;
        create(&mut self.urrs, &change.create_urrs, |urr: &Urr| {
            (urr.id, FailedRule::Urr(urr.id))
        })?;
        create(&mut self.qers, &change.create_qers, |qer: &Qer| {
            (qer.id, FailedRule::Qer(qer.id))
        })?;
        create(&mut self.bars, &change.create_bars, |bar: &Bar| {
            (bar.id, FailedRule::Bar(bar.id))
        })
    }

    /// Updates, and the forwarding rules as they were that want an end marker.
    fn update(&mut self, change: &SessionChange) -> Result<Vec<Far>, Rejection> {
        for wanted in &change.update_pdrs {
            update_pdr(
                standing(&mut self.pdrs, wanted.id, FailedRule::Pdr)?,
                wanted,
            );
        }
        let mut end_markers = Vec::new();
        for wanted in &change.update_fars {
            let far = standing(&mut self.fars, wanted.id, FailedRule::Far)?;
            if wanted.send_end_marker && has_tunnel(far) {
                end_markers.push(far.clone());
            }
            update_far(far, wanted)?;
        }
        for wanted in &change.update_urrs {
            update_urr(
                standing(&mut self.urrs, wanted.id, FailedRule::Urr)?,
                wanted,
            );
        }
        for wanted in &change.update_qers {
            update_qer(
                standing(&mut self.qers, wanted.id, FailedRule::Qer)?,
                wanted,
            );
        }
        for wanted in &change.update_bars {
            update_bar(
                standing(&mut self.bars, wanted.id, FailedRule::Bar)?,
                wanted,
            );
        }
        Ok(end_markers)
    }
}

fn remove<K: Ord + Copy, V>(
    rules: &mut BTreeMap<K, V>,
    ids: &[K],
    failed: fn(K) -> FailedRule,
) -> Result<(), Rejection> {
    for id in ids {
        if rules.remove(id).is_none() {
            return Err(Rejection::rule(failed(*id)));
        }
    }
    Ok(())
}

fn create<K: Ord, V: Clone>(
    rules: &mut BTreeMap<K, V>,
    wanted: &[V],
    named: fn(&V) -> (K, FailedRule),
) -> Result<(), Rejection> {
    for rule in wanted {
        let (id, failed) = named(rule);
        if rules.insert(id, rule.clone()).is_some() {
            return Err(Rejection::rule(failed));
        }
    }
    Ok(())
}

fn standing<K: Ord + Copy, V>(
    rules: &mut BTreeMap<K, V>,
    id: K,
    failed: fn(K) -> FailedRule,
) -> Result<&mut V, Rejection> {
    rules
        .get_mut(&id)
        .ok_or_else(|| Rejection::rule(failed(id)))
}

/// Puts each part that is present in the place of the rule's part.
macro_rules! replace {
    ($rule:ident, $wanted:ident: $($field:ident),*) => {
        $(if let Some(new) = &$wanted.$field {
            $rule.$field.clone_from(new);
        })*
    };
}

/// As [`replace`], where the rule need not have the part.
macro_rules! put {
    ($rule:ident, $wanted:expr; $($field:ident),*) => {
        $(if $wanted.$field.is_some() {
            $rule.$field.clone_from(&$wanted.$field);
        })*
    };
}

fn update_pdr(pdr: &mut Pdr, wanted: &PdrChanges) {
    replace!(pdr, wanted: precedence, pdi, urrs, qers);
    put!(pdr, wanted; removal, far);
}

fn update_far(far: &mut Far, wanted: &FarChanges) -> Result<(), Rejection> {
    replace!(far, wanted: action);
    put!(far, wanted; bar);
    update_duplications(far, wanted)?;
    let touched = wanted.destination.is_some()
        || wanted.network_instance.is_some()
        || wanted.outer.is_some()
        || wanted.redirect.is_some()
        || wanted.transport_marking.is_some();
    if !touched {
        return Ok(());
    }
    let mut forwarding = match (far.forwarding.take(), wanted.destination) {
        (Some(forwarding), _) => forwarding,
        (None, Some(destination)) => Forwarding {
            destination,
            network_instance: None,
            outer: None,
            redirect: None,
            transport_marking: None,
        },
        (None, None) => {
            return Err(Rejection::missing(
                IeType::DESTINATION_INTERFACE,
                FailedRule::Far(far.id),
            ));
        }
    };
    replace!(forwarding, wanted: destination);
    put!(forwarding, wanted; network_instance, outer, redirect, transport_marking);
    far.forwarding = Some(forwarding);
    Ok(())
}

fn update_duplications(far: &mut Far, wanted: &FarChanges) -> Result<(), Rejection> {
    for (place, wanted) in wanted.duplicating.iter().enumerate() {
        if let Some(duplication) = far.duplicating.get_mut(place) {
            replace!(duplication, wanted: destination);
            put!(duplication, wanted; outer, transport_marking);
            continue;
        }
        let rule = FailedRule::Far(far.id);
        let missing = || Rejection::missing(IeType::DESTINATION_INTERFACE, rule);
        far.duplicating.push(Duplication {
            destination: wanted.destination.ok_or_else(missing)?,
            outer: wanted.outer,
            transport_marking: wanted.transport_marking,
        });
    }
    Ok(())
}

fn update_urr(urr: &mut Urr, wanted: &UrrChanges) {
    replace!(urr, wanted: method, volume_kind, triggers, monitoring, linked);
    put!(urr, wanted; period, volume_threshold, volume_quota, time_threshold, time_quota);
    put!(urr, wanted; event_threshold, event_quota, quota_holding, quota_validity);
    put!(urr, wanted; inactivity, dropped_threshold, quota_action);
    if let Some(information) = wanted.measurement_information {
        urr.before_enforcement = information.before_enforcement;
        urr.inactive = information.inactive;
        urr.packets = information.packets;
    }
}

fn update_qer(qer: &mut Qer, wanted: &QerChanges) {
    put!(qer, wanted; correlation, mbr, gbr, qfi);
    if let Some((uplink, downlink)) = wanted.gates {
        qer.uplink = uplink;
        qer.downlink = downlink;
    }
}

fn update_bar(bar: &mut Bar, wanted: &BarChanges) {
    let buffering = &mut bar.buffering;
    put!(buffering, wanted.buffering; packets, notification_delay_ms);
}

/// An end marker goes through a tunnel only.
const fn has_tunnel(far: &Far) -> bool {
    match &far.forwarding {
        Some(forwarding) => matches!(forwarding.outer, Some(OuterHeaderCreation::Gtpu { .. })),
        None => false,
    }
}

/// Usage rules that stay, but that lost their last detection rule.
fn dissociated(before: &SessionModel, after: &SessionModel) -> Vec<UrrId> {
    let named = |model: &SessionModel| -> BTreeSet<UrrId> {
        let of_rules = model.pdrs.values().flat_map(|pdr| &pdr.urrs);
        of_rules.copied().collect()
    };
    let (had, has) = (named(before), named(after));
    had.difference(&has)
        .filter(|id| after.urrs.contains_key(id))
        .copied()
        .collect()
}

/// An application that a rule names anew must be known; one that became unknown since does not
/// stand in the way of other changes.
fn check_applications(
    change: &SessionChange,
    environment: &Environment<'_>,
) -> Result<(), Rejection> {
    let created = change.create_pdrs.iter().map(|pdr| (pdr.id, &pdr.pdi));
    let updated = change.update_pdrs.iter();
    let updated = updated.filter_map(|pdr| Some((pdr.id, pdr.pdi.as_ref()?)));
    for (id, pdi) in created.chain(updated) {
        let Some(application) = &pdi.application else {
            continue;
        };
        if !(environment.knows_application)(application) {
            return Err(Rejection::new(Cause::ApplicationUnknown)
                .about(IeType::APPLICATION_ID)
                .of(FailedRule::Pdr(id)));
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "change_tests.rs"]
mod tests;
