//! Filters of applications. Source: TS 29.244 §6.2.5.

use std::collections::{BTreeMap, BTreeSet};

use super::event::Effect;
use super::machine::{Node, Turn};
use super::receive::Origin;
use super::record::Record;
use crate::cause::Cause;
use crate::model::{ApplicationId, Seid, SessionModel};
use crate::wire::{ApplicationPfds, CauseCode, Pfd, PfdManagementResponse};

impl Node {
    /// Replaces the filters of the applications that are named, or takes all away.
    pub(super) fn pfd_management(
        &mut self,
        turn: &mut Turn<'_>,
        origin: &Origin,
        request: Vec<ApplicationPfds>,
    ) {
        let changed: BTreeMap<ApplicationId, Vec<Pfd>> = if request.is_empty() {
            let standing = self.applications.keys().cloned();
            standing
                .map(|application| (application, Vec::new()))
                .collect()
        } else {
            let named = request.into_iter();
            named.map(|named| (named.application, named.pfds)).collect()
        };
        if !self.fits(&changed) {
            return self.refuse(turn, origin, Seid::default(), Cause::NoResources);
        }
        for (application, pfds) in &changed {
            if pfds.is_empty() {
                self.applications.remove(application);
            } else {
                self.applications.insert(application.clone(), pfds.clone());
            }
            let record = record(application, pfds);
            turn.effects.push(Effect::Persist(record));
        }
        let named = changed.keys().collect();
        let sessions = self.sessions.iter();
        let sessions = sessions.filter(|(_, session)| names(&session.model, &named));
        turn.effects.push(Effect::Applications {
            sessions: sessions.map(|(seid, _)| *seid).collect(),
            changed: changed.into_iter().collect(),
        });
        let answer = PfdManagementResponse {
            cause: CauseCode::REQUEST_ACCEPTED,
            offending: None,
        };
        self.answer(turn, origin, Seid::default(), &answer.into());
    }

    /// Whether the whole table is within its bound after the change.
    fn fits(&self, changed: &BTreeMap<ApplicationId, Vec<Pfd>>) -> bool {
        let standing = self.applications.iter();
        let standing = standing.filter(|(application, _)| !changed.contains_key(*application));
        let sizes = standing.chain(changed).map(|(application, pfds)| {
            let bytes = record(application, pfds).to_bytes(&self.codec).ok()?;
            Some(bytes.len())
        });
        let total = sizes.sum::<Option<usize>>();
        total.is_some_and(|total| total <= self.config.limits.pfd_bytes)
    }
}

fn record(application: &ApplicationId, pfds: &[Pfd]) -> Record {
    Record::Application(ApplicationPfds {
        application: application.clone(),
        pfds: pfds.to_vec(),
    })
}

fn names(model: &SessionModel, applications: &BTreeSet<&ApplicationId>) -> bool {
    let mut named = model
        .pdrs
        .values()
        .filter_map(|pdr| pdr.pdi.application.as_ref());
    named.any(|application| applications.contains(application))
}
