//! Rating the exported blocks again, with nothing but their JSON and integer arithmetic: no code of
//! the system takes part.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

use crate::run::{Demo, film, qlink};

/// A package as its purchase states it, and what its records have moved.
#[derive(Debug, Default)]
pub(crate) struct Package {
    bytes: u128,
    reward: u128,
    /// Operator, BaseStation, gateway.
    carriage: [u128; 3],
    /// Highest cumulative bytes by viewer and counter start.
    viewers: BTreeMap<String, BTreeMap<String, u128>>,
    /// Highest cumulative bytes by counter start and carriers.
    carried: BTreeMap<String, u128>,
    carriage_paid: [u128; 3],
    claimed: BTreeMap<String, u128>,
    closed: Option<Value>,
    records: usize,
}

/// What the blocks say about one package, all of it computed here.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Settled {
    /// Bytes and units by viewer key, leftover units of the close included.
    pub(crate) viewers: BTreeMap<String, (u64, u64)>,
    /// All bytes.
    pub(crate) bytes: u64,
    /// Units of reward moved.
    pub(crate) reward: u64,
    /// Leftover units among them.
    pub(crate) dust: u64,
    /// Units moved to operator, BaseStation and gateway.
    pub(crate) carriage: [u64; 3],
    /// Records that were rated.
    pub(crate) records: usize,
}

/// Rates every record in the data folder of a node that has ended; packages by id.
pub(crate) fn rate_again(node: &Path) -> BTreeMap<String, Package> {
    rate_blocks(&export(node))
}

/// The blocks in the data folder of a node that has ended, one a line.
pub(crate) fn export(node: &Path) -> String {
    let directory = node.to_str().unwrap();
    let out = qlink()
        .args(["chain", "export", "--json", "--dir", directory])
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(out.status.success());
    String::from_utf8(out.stdout).unwrap()
}

fn rate_blocks(export: &str) -> BTreeMap<String, Package> {
    let mut packages = BTreeMap::new();
    for (height, line) in export.lines().enumerate() {
        let block: Value = serde_json::from_str(line).unwrap();
        assert_eq!(number(&block["header"]["height"]), height as u128);
        let transactions = block["transactions"].as_array().unwrap();
        let receipts = block["receipts"].as_array().unwrap();
        assert_eq!(transactions.len(), receipts.len());
        for (transaction, receipt) in transactions.iter().zip(receipts) {
            if receipt["status"] == "accepted" {
                take(&mut packages, &transaction["transaction"]["body"], receipt);
            }
        }
    }
    packages
}

fn take(packages: &mut BTreeMap<String, Package>, body: &Value, receipt: &Value) {
    let events = receipt["events"].as_array().unwrap();
    if body["type"] == "buy_package" {
        let terms = &body["terms"];
        let shares = ["operator", "basestation", "gateway"];
        let package = Package {
            bytes: number(&terms["bytes"]),
            reward: number(&terms["reward"]),
            carriage: shares.map(|share| number(&terms["carriage"][share])),
            ..Package::default()
        };
        packages.insert(text(&events[0]["package"]), package);
    }
    if body["type"] == "settle_batch" {
        take_batch(packages, &body["batch"], receipt);
    }
    for event in events {
        let Some(package) = event["package"]
            .as_str()
            .and_then(|id| packages.get_mut(id))
        else {
            continue;
        };
        match event["type"].as_str().unwrap() {
            "carriage_paid" => {
                let share = ["operator", "base_station", "gateway"]
                    .iter()
                    .position(|share| event["share"] == *share)
                    .unwrap();
                package.carriage_paid[share] += number(&event["units"]);
            }
            "claimed" => {
                let claimed = package.claimed.entry(text(&event["viewer"])).or_default();
                *claimed += number(&event["units"]);
            }
            "package_closed" => package.closed = Some(event.clone()),
            _ => {}
        }
    }
}

fn take_batch(packages: &mut BTreeMap<String, Package>, batch: &Value, receipt: &Value) {
    let refused: Vec<u128> = receipt["refused"]
        .as_array()
        .unwrap()
        .iter()
        .map(|refused| number(&refused["index"]))
        .collect();
    let empty = Vec::new();
    let ratio = batch["ratio"].as_array().unwrap_or(&empty);
    let carriage = batch["carriage"].as_array().unwrap_or(&empty);
    for (index, record) in ratio.iter().chain(carriage).enumerate() {
        if refused.contains(&(index as u128)) {
            continue;
        }
        let key = &record["key"];
        let package = packages
            .get_mut(key["package"].as_str().unwrap())
            .expect("a record of a package that was bought");
        let start = format!("{} {}", key["gateway"], key["incarnation"]);
        if index < ratio.len() {
            let grades = ["verified", "edge", "receipt"];
            let bytes: u128 = grades
                .iter()
                .map(|grade| number(&record["bytes"][grade]))
                .sum();
            let owed = package.reward * bytes / package.bytes;
            assert_eq!(number(&record["units"]), owed, "{record}");
            let viewer = package.viewers.entry(text(&key["viewer"])).or_default();
            let highest = viewer.entry(start).or_default();
            *highest = bytes.max(*highest);
            package.records += 1;
        } else {
            let carriers = format!("{start} {} {}", key["operator"], key["basestation"]);
            let highest = package.carried.entry(carriers).or_default();
            *highest = number(&record["bytes"]).max(*highest);
        }
    }
}

impl Package {
    /// The figures of a closed package, each compared with what the chain says.
    pub(crate) fn closed(&self) -> Settled {
        let closed = self.closed.as_ref().expect("the package closed");
        let used: BTreeMap<&String, u128> = self
            .viewers
            .iter()
            .map(|(viewer, starts)| (viewer, starts.values().sum()))
            .collect();
        let bytes: u128 = used.values().sum();
        let total = self.reward * bytes / self.bytes;
        let floors: u128 = used.values().map(|x| self.reward * x / self.bytes).sum();
        let dust = total - floors;
        // Largest remainder first, the smaller key first where they are equal.
        let mut order: Vec<(u128, &String)> = used
            .iter()
            .map(|(viewer, x)| (self.reward * x % self.bytes, *viewer))
            .collect();
        order.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(b.1)));
        let lucky: Vec<&String> = order
            .iter()
            .take(usize::try_from(dust).unwrap())
            .map(|(_, viewer)| *viewer)
            .collect();
        let mut viewers = BTreeMap::new();
        for (viewer, x) in &used {
            let units = self.reward * x / self.bytes + u128::from(lucky.contains(viewer));
            assert_eq!(
                self.claimed.get(*viewer).copied().unwrap_or(0),
                units,
                "claimed by {viewer}"
            );
            viewers.insert((*viewer).clone(), (small(*x), small(units)));
        }
        assert_eq!(self.carried.values().sum::<u128>(), bytes, "carried bytes");
        let carriage = self.carriage.map(|share| share * bytes / self.bytes);
        assert_eq!(self.carriage_paid, carriage, "carriage paid");

        let deposit = self.reward + self.carriage.iter().sum::<u128>();
        let moved = total + carriage.iter().sum::<u128>();
        assert_eq!(number(&closed["used_bytes"]), bytes);
        assert_eq!(number(&closed["reward_units"]), total);
        assert_eq!(number(&closed["unclaimed_units"]), 0);
        assert_eq!(number(&closed["dust_units"]), dust);
        assert_eq!(number(&closed["carriage_units"]), carriage.iter().sum());
        assert_eq!(number(&closed["refund_units"]), deposit - moved);
        Settled {
            viewers,
            bytes: small(bytes),
            reward: small(total),
            dust: small(dust),
            carriage: carriage.map(small),
            records: self.records,
        }
    }

    /// Bytes and carriage of a package that is still open, a personal one.
    pub(crate) fn open(&self) -> (u64, u64) {
        let bytes: u128 = self.viewers.values().flat_map(BTreeMap::values).sum();
        let carriage = self.carriage.map(|share| share * bytes / self.bytes);
        assert_eq!(self.carriage_paid, carriage, "carriage paid");
        (small(bytes), small(carriage.iter().sum()))
    }
}

fn number(value: &Value) -> u128 {
    let text = value.as_str().unwrap_or_else(|| panic!("{value}"));
    text.parse().unwrap()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn small(number: u128) -> u64 {
    u64::try_from(number).unwrap()
}

/// One unit more in one record of real blocks must not go unnoticed.
#[test]
fn a_record_of_one_unit_more_is_noticed() {
    let film = film(200_000, "tampered");
    let demo = Demo::play(Some(&film), &["--viewers", "1", "--cheaters", "0"]);
    let sound = export(&demo.path("network/node"));
    let units = format!(r#""units":"{}""#, demo.report.totals.reward_units.0);
    let more = format!(r#""units":"{}""#, demo.report.totals.reward_units.0 + 1);
    let record = format!(r#"{units},"lease""#);
    assert!(sound.contains(&record));

    let tampered = sound.replace(&record, &format!(r#"{more},"lease""#));

    rate_blocks(&sound);
    assert!(std::panic::catch_unwind(|| rate_blocks(&tampered)).is_err());
}
