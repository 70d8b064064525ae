//! What stands when a process starts: journal and arenas are brought together before a port opens.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use crossbeam::channel::Receiver;
use qlink_io::arena::ArenaError;
use qlink_io::handover::{Bell, Sleeper, bell};
use qlink_io::{Outgoing, clock};
use qlink_meter::{
    ArenaReader, ArenaSetup, CounterArena, Recovered, SessionState, SetupError, TeidAllocator,
    process_secret, shard_path,
};
use qlink_pfcp::{Association, AssociationLimits, Refusal, Request, SessionRules};
use qlink_types::ids::{ContentId, SessionId, Teid};
use qlink_types::units::Incarnation;

use crate::checked::{CheckedCopies, checked_path};
use crate::config::{ConfigError, DataplaneConfig};
use crate::contents::Copy;
use crate::control::{Order, Shard, WorkerHandle, allocate_in, copies_of};
use crate::journal::{Journal, requests_of};
use crate::metrics::MetricsEndpoint;
use crate::plane::{Neighbours, Plane};
use crate::process::DataplaneError;
use crate::ruled::KeptFlowsError;
use crate::shard::{Place, Route, shard_of};

/// How often, and how far apart, a locked arena is tried: one second in all (chosen: a killed
/// process is gone within some milliseconds, on a busy machine some ten times that).
const LOCK_TRIES: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// State of all shards and of the control plane.
pub(crate) struct Start {
    /// By shard.
    pub(crate) planes: Vec<Plane>,
    pub(crate) association: Association,
    pub(crate) places: BTreeMap<SessionId, Place>,
    pub(crate) copies: BTreeMap<ContentId, Copy>,
    pub(crate) checked: CheckedCopies,
    /// By shard: what the control thread needs of each worker ...
    pub(crate) shards: Vec<Shard>,
    /// ... and the workers' ends of it.
    pub(crate) ends: Vec<WorkerEnd>,
    pub(crate) journal: Journal<Request>,
    /// What stood in the arenas, by shard.
    pub(crate) recovered: Vec<Recovered>,
    /// What is told over HTTP; it says that the rest is not there yet.
    pub(crate) metrics: MetricsEndpoint,
}

/// A worker's end of the control thread's handle.
pub(crate) struct WorkerEnd {
    pub(crate) orders: Receiver<Order>,
    pub(crate) sleeper: Sleeper,
    pub(crate) bell: Bell,
}

impl Start {
    /// Reads journal and arenas.
    pub(crate) fn new(config: &DataplaneConfig) -> Result<Self, DataplaneError> {
        let limits = config.validate()?;
        let metrics = MetricsEndpoint::open(config.metrics)?;
        let neighbours = Neighbours {
            own: Vec::new(),
            // An interface has no peer: the packets' own addresses decide.
            n6_peer: config.next_hop().unwrap_or(Outgoing::EMPTY.to),
            n3: Vec::new(),
            access: config
                .pfcp
                .as_ref()
                .map(crate::PfcpConfig::access)
                .transpose()
                .map_err(ConfigError::from)?
                .unwrap_or_default(),
        };
        // The arenas first: their locks keep a second process off the journal too.
        let mut incarnation = Incarnation::new(clock::unix_ns().wrapping_div(1_000_000));
        let (mut planes, mut recovered) = (Vec::new(), Vec::new());
        let (mut shards, mut ends) = (Vec::new(), Vec::new());
        for shard in 0..config.workers {
            let setup = ArenaSetup {
                layout: limits.layout(),
                incarnation,
                shards: config.workers,
            };
            let (arena, found) = open_arena(&shard_path(&config.arena, shard), setup)?;
            if shard > 0 && arena.incarnation() != incarnation {
                return Err(DataplaneError::ShardMismatch { shard });
            }
            incarnation = arena.incarnation();
            planes.push(Plane::new(limits, arena, neighbours.clone()));
            recovered.push(found);
            let allocator = TeidAllocator::new(shard, limits.sessions, process_secret());
            let (bell, sleeper) = bell()?;
            let (worker, orders) = WorkerHandle::pair(bell.clone());
            shards.push(Shard {
                allocator,
                worker,
                reader: ArenaReader::open(shard_path(&config.arena, shard))?,
                sessions: 0,
            });
            ends.push(WorkerEnd {
                orders,
                sleeper,
                bell,
            });
        }
        let (journal, requests) = Journal::open(&config.journal)?;
        let mut association = Association::new(AssociationLimits {
            sessions: config.max_sessions as usize,
            contents: config.max_contents as usize,
        });
        for request in &requests {
            association.apply(request);
        }
        let mut checked = CheckedCopies::open(&checked_path(&config.journal))?;
        let mut start = Self {
            planes,
            copies: checked.open_bound(&association),
            checked,
            association,
            places: BTreeMap::new(),
            shards,
            ends,
            journal,
            recovered,
            metrics,
        };
        start.resume(&requests);
        let requests = requests_of(&start.association);
        start.journal.rewrite(requests)?;
        Ok(start)
    }

    /// Gives each worker the file of its redirected flows.
    pub(crate) fn keep_redirects(&mut self, arena: &Path) -> Result<(), KeptFlowsError> {
        let mut planes = (0..).zip(&mut self.planes);
        planes.try_for_each(|(shard, plane)| plane.keep_redirects(&shard_path(arena, shard)))
    }

    /// The ways to all sessions that stand.
    pub(crate) fn routes(&self) -> Vec<Route> {
        let sessions = self.association.sessions();
        sessions
            .filter_map(|rules| Route::to(*self.places.get(&rules.session)?, rules))
            .collect()
    }

    fn resume(&mut self, requests: &[Request]) {
        let recovered = std::mem::take(&mut self.recovered);
        self.resume_sessions(requests, &recovered);
        self.recovered = recovered;
    }

    /// Closes what stands in the arenas without a session.
    pub(crate) fn discard_orphans(&mut self) {
        for (plane, recovered) in self.planes.iter_mut().zip(&self.recovered) {
            plane.discard_orphans(recovered);
        }
    }

    fn resume_sessions(&mut self, requests: &[Request], recovered: &[Recovered]) {
        let now_ns = clock::now_ns();
        let sessions: Vec<SessionRules> = self.association.sessions().cloned().collect();
        let standing = standing(recovered);
        let mut fresh = Vec::new();
        for rules in &sessions {
            match standing.get(&rules.session).copied() {
                Some(place) if self.claim(place) => self.resume_session(rules, place, recovered),
                _ if self.finish_delete(rules, recovered, now_ns) => {}
                _ => fresh.push(rules),
            }
        }
        tracing::info!(
            sessions = sessions.len(),
            standing = standing.len(),
            fresh = fresh.len(),
            open_flows = self.planes.iter().map(Plane::open_flows).sum::<usize>(),
            uncertain_bytes = recovered.iter().map(|of| of.uncertain_bytes).sum::<u64>(),
            "state resumed"
        );
        for rules in fresh {
            self.establish_again(rules, now_ns);
        }
        // Slots of sessions deleted shortly before rest from now on.
        for request in requests {
            let Request::Establish { rules } = request else {
                continue;
            };
            if let Some(place) = rules.teid.map(own_place)
                && self.claim(place)
            {
                self.release(place, now_ns);
            }
        }
    }

    pub(crate) fn claim(&mut self, place: Place) -> bool {
        let Some(shard) = self.shards.get_mut(usize::from(place.shard)) else {
            return false;
        };
        let claimed = shard.allocator.claim(place.slot);
        if claimed {
            shard.sessions = shard.sessions.saturating_add(1);
        }
        claimed
    }

    fn release(&mut self, place: Place, now_ns: u64) {
        if let Some(shard) = self.shards.get_mut(usize::from(place.shard)) {
            shard.release(place.slot, now_ns);
        }
    }

    /// The shards, to be given back.
    pub(crate) fn take_shards(&mut self) -> Vec<Shard> {
        std::mem::take(&mut self.shards)
    }

    fn resume_session(&mut self, rules: &SessionRules, place: Place, recovered: &[Recovered]) {
        let shard = usize::from(place.shard);
        let copies = copies_of(rules, &self.copies);
        if let (Some(plane), Some(recovered)) = (self.planes.get_mut(shard), recovered.get(shard)) {
            let resumed = plane.resume(place.slot, rules, copies, recovered);
            self.settled(rules, place, resumed);
        }
    }

    /// Journaled, but the process died before the worker knew: the session starts at zero.
    fn establish_again(&mut self, rules: &SessionRules, now_ns: u64) {
        let own = rules.teid.map(own_place);
        let place = match own {
            Some(place) if self.claim(place) => Some(place),
            _ => self.any_place(now_ns),
        };
        let Some(place) = place else { return };
        let copies = copies_of(rules, &self.copies);
        if let Some(plane) = self.planes.get_mut(usize::from(place.shard)) {
            let established = plane.establish(place.slot, rules, copies);
            self.settled(rules, place, established);
        }
    }

    fn any_place(&mut self, now_ns: u64) -> Option<Place> {
        allocate_in(&mut self.shards, now_ns, &|_| false).map(|(place, _)| place)
    }

    /// A session that the worker closed before the process died is deleted: its counters stand in
    /// the arena for the gateway, which had no answer and asks again.
    fn finish_delete(
        &mut self,
        rules: &SessionRules,
        recovered: &[Recovered],
        now_ns: u64,
    ) -> bool {
        let mut sessions = sessions_in(recovered);
        let closed = sessions.find(|(_, identity)| {
            identity.state == SessionState::Closed
                && identity.session == rules.session
                && Some(identity.teid) == rules.teid
        });
        let Some((place, _)) = closed else {
            return false;
        };
        let session = rules.session;
        self.association.apply(&Request::Delete { session });
        if self.claim(place) {
            self.release(place, now_ns);
        }
        tracing::info!(%session, "a delete that a kill cut short is finished");
        true
    }

    fn settled(&mut self, rules: &SessionRules, place: Place, result: Result<(), Refusal>) {
        self.places.insert(rules.session, place);
        if let Err(refusal) = result {
            tracing::error!(session = %rules.session, %refusal, "a session could not be resumed");
        }
    }
}

/// Opens an arena. A process that was killed a moment ago still holds its lock while the system
/// takes its memory back, and whoever starts the next one does not wait for that.
fn open_arena(path: &Path, setup: ArenaSetup) -> Result<(CounterArena, Recovered), SetupError> {
    let mut tries = LOCK_TRIES;
    loop {
        tries = tries.saturating_sub(1);
        match CounterArena::open(path, setup) {
            Err(SetupError::Arena(ArenaError::InUse { .. })) if tries > 0 => {
                std::thread::sleep(LOCK_PAUSE);
            }
            opened => return opened,
        }
    }
}

/// The place that a TEID of ours names.
const fn own_place(teid: Teid) -> Place {
    Place {
        shard: shard_of(teid),
        slot: TeidAllocator::slot_of(teid),
    }
}

/// Every session of every arena with its place.
fn sessions_in(
    recovered: &[Recovered],
) -> impl Iterator<Item = (Place, &qlink_meter::SessionIdentity)> {
    (0_u8..).zip(recovered).flat_map(|(shard, of)| {
        of.sessions
            .iter()
            .map(move |(slot, identity)| (Place { shard, slot: *slot }, identity))
    })
}

/// Places of live sessions.
fn standing(recovered: &[Recovered]) -> BTreeMap<SessionId, Place> {
    sessions_in(recovered)
        .filter(|(_, identity)| identity.state == SessionState::Live)
        .map(|(place, identity)| (identity.session, place))
        .collect()
}
