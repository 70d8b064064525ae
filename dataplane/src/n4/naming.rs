//! Which sessions name which contents and packages, found without a walk over all of them.
//!
//! A session with no such name, as most are, takes no memory here. Names that come by an application
//! are looked up through it when they are asked for, so that new filters change nothing here.
//!
//! Invariant: a session is under a name exactly when a rule of it has that name.

use std::collections::{BTreeMap, BTreeSet};

use qlink_pfcp::Packages;
use qlink_pfcp::model::{ApplicationId, Seid, SessionModel};
use qlink_types::ids::{ContentId, PackageId};

use super::compile::Applications;

/// Sessions by one kind of name.
#[derive(Debug)]
struct By<Name>(BTreeMap<Name, BTreeSet<Seid>>);

impl<Name> Default for By<Name> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<Name: Ord + Clone> By<Name> {
    fn add(&mut self, names: &[Name], seid: Seid) {
        for name in names {
            self.0.entry(name.clone()).or_default().insert(seid);
        }
    }

    fn remove(&mut self, names: &[Name], seid: Seid) {
        for name in names {
            if let Some(sessions) = self.0.get_mut(name) {
                sessions.remove(&seid);
                if sessions.is_empty() {
                    self.0.remove(name);
                }
            }
        }
    }

    fn of(&self, name: &Name) -> impl Iterator<Item = Seid> {
        self.0.get(name).into_iter().flatten().copied()
    }
}

/// What one session names.
#[derive(Debug, Default)]
struct Names {
    contents: Vec<ContentId>,
    packages: Vec<PackageId>,
    applications: Vec<ApplicationId>,
}

impl Names {
    fn of(model: &SessionModel) -> Self {
        let mut names = Self::default();
        for pdr in model.pdrs.values() {
            names.contents.extend_from_slice(&pdr.pdi.contents);
            names.packages.extend_from_slice(&pdr.pdi.packages);
            names.applications.extend(pdr.pdi.application.clone());
        }
        names
    }

    const fn is_empty(&self) -> bool {
        self.contents.is_empty() && self.packages.is_empty() && self.applications.is_empty()
    }
}

/// Sessions by what they name.
#[derive(Debug, Default)]
pub(crate) struct Naming {
    sessions: BTreeMap<Seid, Names>,
    contents: By<ContentId>,
    packages: By<PackageId>,
    applications: By<ApplicationId>,
}

impl Naming {
    /// The names of sessions that stand.
    pub(crate) fn new<'a>(sessions: impl Iterator<Item = (Seid, &'a SessionModel)>) -> Self {
        let mut naming = Self::default();
        for (seid, model) in sessions {
            naming.set(seid, model);
        }
        naming
    }

    /// A session has these rules now.
    pub(crate) fn set(&mut self, seid: Seid, model: &SessionModel) {
        self.remove(seid);
        let names = Names::of(model);
        if names.is_empty() {
            return;
        }
        self.contents.add(&names.contents, seid);
        self.packages.add(&names.packages, seid);
        self.applications.add(&names.applications, seid);
        self.sessions.insert(seid, names);
    }

    /// A session is gone.
    pub(crate) fn remove(&mut self, seid: Seid) {
        if let Some(names) = self.sessions.remove(&seid) {
            self.contents.remove(&names.contents, seid);
            self.packages.remove(&names.packages, seid);
            self.applications.remove(&names.applications, seid);
        }
    }

    /// Sessions whose rules name a package, in the order of their numbers.
    pub(crate) fn of_package(&self, package: &PackageId, known: &Applications) -> Vec<Seid> {
        let through = known.that_name(|_, packages| packages.contains(package));
        let through = through.flat_map(|application| self.applications.of(application));
        let all: BTreeSet<Seid> = self.packages.of(package).chain(through).collect();
        all.into_iter().collect()
    }

    /// Whether a rule of any session measures a content; `packages` are what they consist of.
    pub(crate) fn measures(
        &self,
        content: &ContentId,
        packages: &Packages,
        known: &Applications,
    ) -> bool {
        let holding = || {
            let all = packages.iter();
            all.filter(|(_, contents)| contents.contains(content))
                .map(|(package, _)| package)
        };
        let mut through = known.that_name(|contents, named| {
            contents.contains(content) || holding().any(|package| named.contains(package))
        });
        self.contents.of(content).next().is_some()
            || holding().any(|package| self.packages.of(package).next().is_some())
            || through.any(|application| self.applications.of(application).next().is_some())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use qlink_pfcp::sim::SessionPlan;
    use qlink_pfcp::wire::{ApplicationPfds, CustomPfd, NamedContents, Pfd};

    use super::*;

    fn content(number: u8) -> ContentId {
        ContentId::new([number; 32])
    }

    fn package(number: u8) -> PackageId {
        PackageId::new([number; 16])
    }

    fn application(number: u8) -> ApplicationId {
        ApplicationId(vec![number])
    }

    /// Application 1 is content 1 and package 1; packages `n` hold content `n`.
    fn known() -> (Applications, Packages) {
        let pfds = ApplicationPfds {
            application: application(1),
            pfds: vec![Pfd {
                custom: Some(CustomPfd::Contents(NamedContents {
                    contents: vec![content(1)],
                    packages: vec![package(1)],
                })),
                ..Pfd::default()
            }],
        };
        let table = BTreeMap::from([(pfds.application, pfds.pfds)]);
        let packages = (0..3).map(|number| {
            let contents = vec![content(number)].try_into().unwrap();
            (package(number), contents)
        });
        (Applications::new(&table), packages.collect())
    }

    fn model(contents: &[u8], packages: &[u8], of: Option<u8>) -> SessionModel {
        let plan = SessionPlan {
            ue: None,
            gnb: [192, 0, 2, 1].into(),
            gnb_teid: qlink_types::ids::Teid::new(1),
            threshold: None,
            quota: None,
            mbr: None,
            qfi: None,
            contents: contents.iter().copied().map(content).collect(),
            packages: packages.iter().copied().map(package).collect(),
        };
        let rules = plan.rules();
        let mut model = SessionModel::default();
        for mut pdr in rules.create_pdrs {
            pdr.pdi.application = of.map(application);
            model.pdrs.insert(pdr.id, pdr);
        }
        model
    }

    /// What a walk over all sessions finds.
    fn walked(models: &BTreeMap<Seid, SessionModel>, wanted: &PackageId) -> Vec<Seid> {
        let (known, _) = known();
        let naming = models.iter().filter(|(_, model)| {
            let mut named = known.named_in(model);
            named.any(|(_, packages)| packages.contains(wanted))
        });
        naming.map(|(seid, _)| *seid).collect()
    }

    fn measured(models: &BTreeMap<Seid, SessionModel>, wanted: &ContentId) -> bool {
        let (known, packages) = known();
        models.values().any(|model| {
            let mut named = known.named_in(model);
            named.any(|(contents, of)| {
                let mut of = of.iter().filter_map(|package| packages.get(package));
                contents.contains(wanted) || of.any(|contents| contents.contains(wanted))
            })
        })
    }

    proptest! {
        #[test]
        fn the_index_finds_what_a_walk_finds(
            steps in prop::collection::vec(
                (0..4_u64, any::<bool>(), prop::collection::vec(0..3_u8, 0..3),
                 prop::collection::vec(0..3_u8, 0..2), prop::option::of(0..2_u8)),
                0..20,
            ),
        ) {
            let (known, packages) = known();
            let (mut naming, mut models) = (Naming::default(), BTreeMap::new());
            for (number, stays, contents, of, through) in steps {
                let seid = Seid::new(number);
                if stays {
                    let model = model(&contents, &of, through);
                    naming.set(seid, &model);
                    models.insert(seid, model);
                } else {
                    naming.remove(seid);
                    models.remove(&seid);
                }
                for number in 0..3 {
                    let package = package(number);
                    prop_assert_eq!(naming.of_package(&package, &known), walked(&models, &package));
                    let content = content(number);
                    let found = naming.measures(&content, &packages, &known);
                    prop_assert_eq!(found, measured(&models, &content));
                }
            }
        }
    }
}
