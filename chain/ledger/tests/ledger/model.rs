//! An independent model of the ledger's money, written from the rules and not from the code:
//! plain maps, 128-bit integers, no caches, everything computed anew.

use std::collections::{BTreeMap, BTreeSet};

use qlink_ledger::{ModuleAccount, Params};
use qlink_types::ids::{AccountId, PackageId};
use qlink_types::outcome::Status;
use qlink_types::package::PackageState;

use crate::world::{
    account, basestation, basestation_owner, gateway, gateway_owner, operator, operator_owner,
    poor_owner, provider, viewer, wallet,
};

/// `floor(total * part / whole)`.
fn owed(total: u64, part: u64, whole: u64) -> u64 {
    u64::try_from(u128::from(total) * u128::from(part) / u128::from(whole)).unwrap()
}

/// Shares in the order operator, BaseStation, gateway.
pub(crate) type Shares = [u64; 3];

/// A counter of a gateway: number and incarnation.
pub(crate) type Counter = (usize, u64);

/// A path: counter, operator number, BaseStation number.
pub(crate) type Path = (Counter, usize, usize);

/// A ratio record without its units.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row {
    pub(crate) package: usize,
    pub(crate) epoch: u32,
    pub(crate) viewer: usize,
    pub(crate) incarnation: u64,
    pub(crate) bytes: u64,
}

/// A carriage record.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Carried {
    pub(crate) package: usize,
    pub(crate) epoch: u32,
    pub(crate) incarnation: u64,
    pub(crate) operator: usize,
    pub(crate) basestation: usize,
    pub(crate) bytes: u64,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Added {
    pub(crate) bytes: u64,
    pub(crate) reward: u64,
    pub(crate) carriage: Shares,
    pub(crate) valid_until: u64,
}

#[derive(Debug, Clone)]
pub(crate) struct Terms {
    pub(crate) bytes: u64,
    pub(crate) reward: u64,
    pub(crate) carriage: Shares,
    pub(crate) cap: u64,
    pub(crate) gateways: Vec<usize>,
    pub(crate) valid_until: u64,
    /// Scope `any`: a top-up raises the cap.
    pub(crate) personal: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct ModelPackage {
    pub(crate) id: PackageId,
    pub(crate) terms: Terms,
    pub(crate) state: PackageState,
    pub(crate) expired: bool,
    pub(crate) epoch: u32,
    /// Of the running terms: B, Q, C.
    pub(crate) bytes: u64,
    pub(crate) reward: u64,
    pub(crate) carriage: Shares,
    pub(crate) deadline: u64,
    finals: BTreeSet<usize>,
    top_up: Option<Added>,
    pub(crate) counters: BTreeMap<(usize, Counter), u64>,
    pub(crate) paths: BTreeMap<Path, u64>,
    pub(crate) settled_bytes: BTreeMap<usize, u64>,
    pub(crate) settled_units: BTreeMap<usize, u64>,
    pub(crate) claimed: BTreeMap<usize, u64>,
    pub(crate) settled_carriage: Shares,
    pub(crate) deposit: u64,
    pub(crate) refund: u64,
    pub(crate) dust: u64,
}

impl ModelPackage {
    /// Bytes per viewer under the running terms.
    pub(crate) fn viewers(&self) -> BTreeMap<usize, u64> {
        let mut bytes = BTreeMap::new();
        for ((viewer, _), count) in &self.counters {
            *bytes.entry(*viewer).or_insert(0) += count;
        }
        bytes
    }

    pub(crate) fn used(&self) -> u64 {
        self.counters.values().sum()
    }

    /// Everything a viewer has earned.
    pub(crate) fn earned(&self, viewer: usize) -> u64 {
        let bytes = self.viewers().get(&viewer).copied().unwrap_or(0);
        self.settled_units.get(&viewer).unwrap_or(&0) + owed(self.reward, bytes, self.bytes)
    }

    pub(crate) fn all_viewers(&self) -> BTreeSet<usize> {
        let running = self.viewers().into_keys();
        running.chain(self.settled_units.keys().copied()).collect()
    }

    /// Bytes per payee of a share; payee 0 of the first two shares is nobody.
    fn payees(&self, share: usize) -> BTreeMap<usize, u64> {
        let mut bytes = BTreeMap::new();
        for ((counter, operator, basestation), count) in &self.paths {
            let payee = [*operator, *basestation, counter.0][share];
            *bytes.entry(payee).or_insert(0) += count;
        }
        bytes
    }

    fn is_nobody(share: usize, payee: usize) -> bool {
        share != 2 && payee == 0
    }

    /// Units of a share paid under the running terms, by payee.
    fn carriage_paid(&self, share: usize) -> BTreeMap<usize, u64> {
        self.payees(share)
            .into_iter()
            .filter(|(payee, _)| !Self::is_nobody(share, *payee))
            .map(|(payee, bytes)| (payee, owed(self.carriage[share], bytes, self.bytes)))
            .collect()
    }

    pub(crate) fn carriage_paid_total(&self, share: usize) -> u64 {
        self.settled_carriage[share] + self.carriage_paid(share).values().sum::<u64>()
    }

    /// Law 5, solved for the escrow.
    pub(crate) fn escrow(&self) -> u64 {
        let rewards: u64 = self.all_viewers().iter().map(|n| self.earned(*n)).sum();
        let carriage: u64 = (0..3).map(|share| self.carriage_paid_total(share)).sum();
        let held_back = if self.state == PackageState::Closed {
            self.refund - self.earned(0)
        } else {
            0
        };
        self.deposit - rewards - carriage - held_back
    }

    fn is_carried(&self, gateway: usize) -> bool {
        let mut difference: BTreeMap<u64, i128> = BTreeMap::new();
        for ((_, counter), bytes) in &self.counters {
            if counter.0 == gateway {
                *difference.entry(counter.1).or_insert(0) += i128::from(*bytes);
            }
        }
        for ((counter, _, _), bytes) in &self.paths {
            if counter.0 == gateway {
                *difference.entry(counter.1).or_insert(0) -= i128::from(*bytes);
            }
        }
        difference.values().all(|difference| *difference == 0)
    }

    fn merge(&mut self, gateway: usize, row: &Row) -> Result<(), Status> {
        if row.epoch != self.epoch {
            return Err(Status::WrongPackageEpoch);
        }
        if row.bytes > self.bytes {
            return Err(Status::PackageExhausted);
        }
        let key = (row.viewer, (gateway, row.incarnation));
        let before = self.counters.get(&key).copied().unwrap_or(0);
        if row.bytes <= before {
            return Ok(());
        }
        let delta = u128::from(row.bytes - before);
        let running = self.viewers().get(&row.viewer).copied().unwrap_or(0);
        let settled = self.settled_bytes.get(&row.viewer).copied().unwrap_or(0);
        let viewer = u128::from(running) + u128::from(settled) + delta;
        if row.viewer != 0 && viewer > u128::from(self.terms.cap) {
            return Err(Status::ViewerCapExceeded);
        }
        if u128::from(self.used()) + delta > u128::from(self.bytes) {
            return Err(Status::PackageExhausted);
        }
        self.counters.insert(key, row.bytes);
        Ok(())
    }

    fn carry(&mut self, gateway: usize, record: &Carried) -> Result<(), Status> {
        if record.epoch != self.epoch {
            return Err(Status::WrongPackageEpoch);
        }
        let counter = (gateway, record.incarnation);
        let key = (counter, record.operator, record.basestation);
        if record.bytes == 0 {
            return Ok(());
        }
        let bytes = self.paths.entry(key).or_insert(0);
        *bytes = record.bytes.max(*bytes);
        Ok(())
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Model {
    pub(crate) now: u64,
    pub(crate) params: Params,
    pub(crate) balances: BTreeMap<AccountId, u64>,
    pub(crate) packages: Vec<ModelPackage>,
    due: BTreeSet<(u64, PackageId)>,
}

/// The owner who is paid for a payee of a share.
fn payee_owner(share: usize, payee: usize) -> AccountId {
    account(&match (share, payee) {
        (0, _) => operator_owner(),
        (1, _) => basestation_owner(),
        (_, 2) => poor_owner(),
        _ => gateway_owner(),
    })
}

fn payee_id(share: usize, payee: usize) -> [u8; 16] {
    match share {
        0 => *operator(payee).as_bytes(),
        1 => *basestation(payee).as_bytes(),
        _ => *gateway(payee).as_bytes(),
    }
}

/// One unit after the other to whoever is furthest below its exact share, ties to the smaller key.
fn hand_out<K: Ord>(
    total: u64,
    whole: u64,
    bytes: &BTreeMap<usize, u64>,
    key: impl Fn(usize) -> K,
) -> BTreeMap<usize, u64> {
    let used = bytes.values().sum();
    let mut paid: BTreeMap<usize, u64> = bytes
        .iter()
        .map(|(payee, bytes)| (*payee, owed(total, *bytes, whole)))
        .collect();
    while paid.values().sum::<u64>() < owed(total, used, whole) {
        let deficit = |payee: usize| {
            let exact = u128::from(total) * u128::from(bytes[&payee]);
            i128::try_from(exact).unwrap()
                - i128::try_from(u128::from(paid[&payee]) * u128::from(whole)).unwrap()
        };
        let next = paid
            .keys()
            .copied()
            .max_by(|left, right| {
                let smaller_key_first = key(*right).cmp(&key(*left));
                deficit(*left).cmp(&deficit(*right)).then(smaller_key_first)
            })
            .unwrap();
        *paid.get_mut(&next).unwrap() += 1;
    }
    paid
}

impl Model {
    pub(crate) fn new(now: u64, params: Params, balances: BTreeMap<AccountId, u64>) -> Self {
        Self {
            now,
            params,
            balances,
            packages: Vec::new(),
            due: BTreeSet::new(),
        }
    }

    fn credit(&mut self, account: AccountId, units: u64) {
        *self.balances.entry(account).or_insert(0) += units;
    }

    fn spend(&mut self, account: AccountId, fee: u64, units: u64) -> Result<(), Status> {
        let balance = self.balances.get_mut(&account).unwrap();
        let sum = u128::from(fee) + u128::from(units);
        let left = u128::from(*balance).checked_sub(sum);
        *balance = u64::try_from(left.ok_or(Status::InsufficientFunds)?).unwrap();
        self.credit(ModuleAccount::Community.id(), fee);
        Ok(())
    }

    /// Moves time to that of the next block and does what is due.
    pub(crate) fn begin_block(&mut self, now: u64) {
        self.now = now;
        let due: Vec<_> = self
            .due
            .range(..=(now, PackageId::new([0xff; 16])))
            .copied()
            .collect();
        for entry in due {
            self.due.remove(&entry);
            let index = self.packages.iter().position(|p| p.id == entry.1).unwrap();
            let package = &self.packages[index];
            match package.state {
                PackageState::Open if package.terms.valid_until <= now => {
                    self.end(index, PackageState::Closing);
                    self.packages[index].expired = true;
                }
                PackageState::RollingOver | PackageState::Closing if package.deadline <= now => {
                    self.settle(index);
                }
                _ => {}
            }
        }
    }

    fn end(&mut self, index: usize, state: PackageState) {
        let deadline = self.now + self.params.closing_ms;
        let package = &mut self.packages[index];
        package.state = state;
        package.deadline = deadline;
        package.finals.clear();
        self.due.insert((deadline, package.id));
    }

    pub(crate) fn buy(&mut self, id: PackageId, terms: Terms) -> Result<(), Status> {
        let deposit = terms.reward + terms.carriage.iter().sum::<u64>();
        let fee = self.params.buy_package_fee.get();
        self.spend(account(&provider()), fee, deposit)?;
        self.due.insert((terms.valid_until, id));
        self.packages.push(ModelPackage {
            id,
            state: PackageState::Open,
            expired: false,
            epoch: 0,
            bytes: terms.bytes,
            reward: terms.reward,
            carriage: terms.carriage,
            terms,
            deadline: 0,
            finals: BTreeSet::new(),
            top_up: None,
            counters: BTreeMap::new(),
            paths: BTreeMap::new(),
            settled_bytes: BTreeMap::new(),
            settled_units: BTreeMap::new(),
            claimed: BTreeMap::new(),
            settled_carriage: [0; 3],
            deposit,
            refund: 0,
            dust: 0,
        });
        Ok(())
    }

    fn check_open(&self, index: usize) -> Result<(), Status> {
        let package = &self.packages[index];
        match package.state {
            PackageState::Open => Ok(()),
            PackageState::Closed => Err(Status::PackageClosed),
            PackageState::Closing if package.expired => Err(Status::PackageExpired),
            PackageState::Closing | PackageState::RollingOver => Err(Status::PackageClosing),
        }
    }

    pub(crate) fn close(&mut self, index: usize) -> Result<(), Status> {
        self.check_open(index)?;
        self.spend(account(&provider()), self.params.close_fee.get(), 0)?;
        self.end(index, PackageState::Closing);
        Ok(())
    }

    pub(crate) fn top_up(&mut self, index: usize, added: Added) -> Result<(), Status> {
        self.check_open(index)?;
        if self.now >= self.packages[index].terms.valid_until {
            return Err(Status::PackageExpired);
        }
        if added.bytes == 0 {
            return Err(Status::AmountZero);
        }
        let deposit = added.reward + added.carriage.iter().sum::<u64>();
        let fee = self.params.top_up_fee.get();
        self.spend(account(&provider()), fee, deposit)?;
        self.packages[index].deposit += deposit;
        self.packages[index].top_up = Some(added);
        self.end(index, PackageState::RollingOver);
        Ok(())
    }

    pub(crate) fn claim(&mut self, index: usize, viewer: usize, total: u64) -> Result<(), Status> {
        let package = &mut self.packages[index];
        let claimed = package.claimed.get(&viewer).copied().unwrap_or(0);
        if total <= claimed {
            return Err(Status::NothingToClaim);
        }
        if total > package.earned(viewer) {
            return Err(Status::ClaimExceedsReward);
        }
        package.claimed.insert(viewer, total);
        self.credit(wallet(), total - claimed);
        Ok(())
    }

    /// Refused leaves, or the status of the whole batch.
    pub(crate) fn batch(
        &mut self,
        gateway: usize,
        rows: &[Row],
        carried: &[Carried],
        finals: &[(usize, u32)],
    ) -> Result<Vec<(usize, Status)>, Status> {
        let mut next = self.clone();
        let mut refused = Vec::new();
        let mut own = 0;
        for index in 0..next.packages.len() {
            own += next.merge_package(index, gateway, (rows, carried), &mut refused);
        }
        let records = u64::try_from(rows.len() + carried.len()).unwrap();
        let fee = self.params.batch_fee.get() + records * self.params.record_fee.get();
        let owner = payee_owner(2, gateway);
        if self.balances[&owner] + own < fee {
            return Err(Status::InsufficientFunds);
        }
        next.spend(owner, fee, 0)?;
        for (index, epoch) in finals {
            next.take_final(*index, *epoch, gateway);
        }
        *self = next;
        refused.sort_unstable();
        Ok(refused)
    }

    /// Merges one package's records; returns what its gateway share paid.
    fn merge_package(
        &mut self,
        index: usize,
        gateway: usize,
        (rows, carried): (&[Row], &[Carried]),
        refused: &mut Vec<(usize, Status)>,
    ) -> u64 {
        let before = self.packages[index].clone();
        let mut after = before.clone();
        let mut taken = Vec::new();
        let mut judge = |leaf: usize, result: Result<(), Status>| match result {
            Ok(()) => taken.push(leaf),
            Err(status) => refused.push((leaf, status)),
        };
        let is_over = before.state == PackageState::Closed;
        for (leaf, row) in rows
            .iter()
            .enumerate()
            .filter(|(_, row)| row.package == index)
        {
            let over = Err(Status::PackageClosed);
            judge(
                leaf,
                if is_over {
                    over
                } else {
                    after.merge(gateway, row)
                },
            );
        }
        for (leaf, record) in carried.iter().enumerate() {
            if record.package == index {
                let over = Err(Status::PackageClosed);
                let result = if is_over {
                    over
                } else {
                    after.carry(gateway, record)
                };
                judge(rows.len() + leaf, result);
            }
        }
        if !after.is_carried(gateway) {
            refused.extend(
                taken
                    .into_iter()
                    .map(|leaf| (leaf, Status::CarriageMismatch)),
            );
            return 0;
        }
        let mut own = 0;
        for share in 0..3 {
            let paid_before = before.carriage_paid(share);
            for (payee, paid) in after.carriage_paid(share) {
                let units = paid - paid_before.get(&payee).unwrap_or(&0);
                self.credit(payee_owner(share, payee), units);
                if share == 2 {
                    own += units;
                }
            }
        }
        self.packages[index] = after;
        own
    }

    fn take_final(&mut self, index: usize, epoch: u32, gateway: usize) {
        let package = &mut self.packages[index];
        let is_ending = matches!(
            package.state,
            PackageState::RollingOver | PackageState::Closing
        );
        if is_ending && package.epoch == epoch && package.terms.gateways.contains(&gateway) {
            package.finals.insert(gateway);
            if package.finals.len() == package.terms.gateways.len() {
                self.settle(index);
            }
        }
    }

    /// Ends the running terms by largest remainder.
    fn settle(&mut self, index: usize) {
        let mut package = self.packages[index].clone();
        let used = package.used();
        let bytes = package.viewers();
        let floors: u64 = bytes
            .values()
            .map(|bytes| owed(package.reward, *bytes, package.bytes))
            .sum();
        package.dust += owed(package.reward, used, package.bytes) - floors;
        for (n, units) in hand_out(package.reward, package.bytes, &bytes, viewer) {
            *package.settled_units.entry(n).or_insert(0) += units;
            *package.settled_bytes.entry(n).or_insert(0) += bytes[&n];
        }
        for share in 0..3 {
            let payees = package.payees(share);
            let total = package.carriage[share];
            let paid_before = package.carriage_paid(share);
            for (payee, units) in hand_out(total, package.bytes, &payees, |n| payee_id(share, n)) {
                if !ModelPackage::is_nobody(share, payee) {
                    package.settled_carriage[share] += units;
                    self.credit(payee_owner(share, payee), units - paid_before[&payee]);
                }
            }
        }
        package.counters.clear();
        package.paths.clear();
        match package.top_up.take() {
            Some(added) => self.open_next(&mut package, used, added),
            None => {
                package.state = PackageState::Closed;
                package.refund = package.escrow_before_refund() + package.earned(0);
                self.credit(account(&provider()), package.refund);
            }
        }
        self.packages[index] = package;
    }

    fn open_next(&mut self, package: &mut ModelPackage, used: u64, added: Added) {
        package.reward = package.reward - owed(package.reward, used, package.bytes) + added.reward;
        for share in 0..3 {
            let total = package.carriage[share];
            let left = total - owed(total, used, package.bytes);
            package.carriage[share] = left + added.carriage[share];
        }
        package.bytes = package.bytes - used + added.bytes;
        if package.terms.personal {
            package.terms.cap += added.bytes;
        }
        package.terms.valid_until = added.valid_until;
        package.epoch += 1;
        package.state = PackageState::Open;
        self.due.insert((added.valid_until, package.id));
    }
}

impl ModelPackage {
    fn escrow_before_refund(&self) -> u64 {
        let rewards: u64 = self.settled_units.values().sum();
        self.deposit - rewards - self.settled_carriage.iter().sum::<u64>()
    }
}
