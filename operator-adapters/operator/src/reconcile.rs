//! The three-way join of our meter, the operator's statement and the chain.
//!
//! The chain says what moved; meter and statement only decide whether a line is paid now or held.
//! Tolerance never changes a sum. Every line ends in exactly one [`LineState`].

use std::collections::{BTreeMap, BTreeSet};

use qlink_types::ids::Hash32;
use qlink_types::merkle;
use serde::{Deserialize, Serialize};

use crate::adapter::StatementLine;

/// Reference of the line that stands for a stated total that is not the sum of its lines.
pub const STATEMENT_TOTAL: &str = "statement-total";

/// One line of any of the three sources.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// What lines are joined by: a package id for carriage.
    pub reference: String,
    /// Bytes.
    #[serde(with = "qlink_types::text")]
    pub bytes: u64,
    /// Units (10^-8 QLC).
    #[serde(with = "qlink_types::text")]
    pub units: u64,
    /// When it was recorded, milliseconds since 1970.
    #[serde(with = "qlink_types::text")]
    pub time_ms: u64,
}

impl From<StatementLine> for Line {
    fn from(line: StatementLine) -> Self {
        let StatementLine {
            reference,
            bytes,
            units,
            time_ms,
        } = line;
        Self {
            reference,
            bytes,
            units,
            time_ms,
        }
    }
}

/// The operator's statement for a period.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    /// Its lines.
    pub lines: Vec<Line>,
    /// Sum of units as the operator states it.
    #[serde(with = "qlink_types::text")]
    pub stated_units: u64,
}

/// How far two amounts may differ and still count as agreement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tolerance {
    /// Bytes per line.
    #[serde(with = "qlink_types::text")]
    pub bytes: u64,
    /// Units per line.
    #[serde(with = "qlink_types::text")]
    pub units: u64,
}

/// How a line ended. Closed: the same words in journal, metrics, API and console.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum LineState {
    /// All three agree to the byte and unit. Paid.
    Matched = 1,
    /// They differ within the tolerance. Paid as the chain says.
    InTolerance = 2,
    /// The operator has it, our meter or the chain has not. Held.
    MissingOurs = 3,
    /// We have it, the statement has not. Held.
    MissingTheirs = 4,
    /// They differ by more than the tolerance. Held.
    AmountDiff = 5,
    /// One source has it twice. Held.
    Duplicate = 6,
    /// Recorded after the cut-off: belongs to the next period.
    Late = 7,
    /// A person objected. Held.
    Disputed = 8,
}

impl LineState {
    /// Whether the line is paid now.
    #[must_use]
    pub const fn is_payable(self) -> bool {
        matches!(self, Self::Matched | Self::InTolerance)
    }
}

/// What one source says about a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Amounts {
    /// Bytes.
    #[serde(with = "qlink_types::text")]
    pub bytes: u64,
    /// Units.
    #[serde(with = "qlink_types::text")]
    pub units: u64,
}

/// A line with what each source says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReconciledLine {
    /// What the sources were joined by.
    pub reference: String,
    /// How it ended.
    pub state: LineState,
    /// Our meter.
    pub meter: Option<Amounts>,
    /// The operator's statement.
    pub statement: Option<Amounts>,
    /// The chain.
    pub chain: Option<Amounts>,
}

impl ReconciledLine {
    /// The bytes that stand in the Merkle tree:
    /// `u32 length | reference | state u8 | 3 x (present u8 | bytes u64 | units u64)`, big-endian,
    /// in the order meter, statement, chain.
    #[must_use]
    pub fn leaf(&self) -> Vec<u8> {
        let length = u32::try_from(self.reference.len()).unwrap_or(u32::MAX);
        let mut leaf = length.to_be_bytes().to_vec();
        leaf.extend_from_slice(self.reference.as_bytes());
        leaf.push(self.state as u8);
        for source in [self.meter, self.statement, self.chain] {
            let amounts = source.unwrap_or(Amounts { bytes: 0, units: 0 });
            leaf.push(u8::from(source.is_some()));
            leaf.extend_from_slice(&amounts.bytes.to_be_bytes());
            leaf.extend_from_slice(&amounts.units.to_be_bytes());
        }
        leaf
    }
}

/// The result of a join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reconciliation {
    /// Every line, by reference.
    pub lines: Vec<ReconciledLine>,
    /// Units of the chain on lines that are paid.
    pub payable_units: u128,
    /// Units of the chain on lines that are held for this or the next period.
    pub held_units: u128,
    /// Root over the lines' leaves; binds their number. RFC 6962 shape, BLAKE3.
    pub root: Hash32,
}

impl Reconciliation {
    /// Lines that are not paid.
    pub fn held(&self) -> impl Iterator<Item = &ReconciledLine> {
        self.lines.iter().filter(|line| !line.state.is_payable())
    }

    /// Proof that a line stands under the root.
    #[must_use]
    pub fn prove(&self, reference: &str) -> Option<merkle::InclusionProof> {
        let index = self
            .lines
            .iter()
            .position(|line| line.reference == reference)?;
        let leaves: Vec<_> = self.lines.iter().map(ReconciledLine::leaf).collect();
        merkle::prove(leaves.iter().map(Vec::as_slice), index)
    }
}

#[derive(Debug, Default)]
struct Joined<'a> {
    sources: [Option<&'a Line>; 3],
    repeated: bool,
    late: bool,
}

const METER: usize = 0;
const STATEMENT: usize = 1;
const CHAIN: usize = 2;

/// Joins the three sources of a period that ends before `until_ms`; `disputed` names lines that a
/// person objects to.
#[must_use]
pub fn reconcile(
    meter: &[Line],
    statement: &Statement,
    chain: &[Line],
    until_ms: u64,
    tolerance: Tolerance,
    disputed: &BTreeSet<String>,
) -> Reconciliation {
    let mut joined: BTreeMap<&str, Joined<'_>> = BTreeMap::new();
    for (source, lines) in [
        (METER, meter),
        (STATEMENT, &statement.lines),
        (CHAIN, chain),
    ] {
        for line in lines {
            let row = joined.entry(&line.reference).or_default();
            row.late |= line.time_ms >= until_ms;
            if let Some(place) = row.sources.get_mut(source) {
                row.repeated |= place.is_some();
                place.get_or_insert(line);
            }
        }
    }
    let mut lines: Vec<_> = joined
        .into_iter()
        .map(|(reference, row)| {
            let amounts = |line: &Line| Amounts {
                bytes: line.bytes,
                units: line.units,
            };
            let [meter, theirs, chain] = row.sources.map(|line| line.map(amounts));
            let state = judge(&row, disputed.contains(reference), tolerance);
            ReconciledLine {
                reference: reference.to_owned(),
                state,
                meter,
                statement: theirs,
                chain,
            }
        })
        .collect();
    if let Some(line) = wrong_total(statement) {
        lines.push(line);
        lines.sort_by(|left, right| left.reference.cmp(&right.reference));
    }
    let sum = |payable: bool| {
        let of = |line: &ReconciledLine| line.chain.map_or(0, |amounts| u128::from(amounts.units));
        let counted = |line: &&ReconciledLine| {
            line.state.is_payable() == payable && line.reference != STATEMENT_TOTAL
        };
        lines.iter().filter(counted).map(of).sum()
    };
    let (payable_units, held_units) = (sum(true), sum(false));
    let leaves: Vec<_> = lines.iter().map(ReconciledLine::leaf).collect();
    let root = merkle::root(leaves.iter().map(Vec::as_slice));
    Reconciliation {
        lines,
        payable_units,
        held_units,
        root,
    }
}

fn judge(row: &Joined<'_>, disputed: bool, tolerance: Tolerance) -> LineState {
    if disputed {
        return LineState::Disputed;
    }
    if row.repeated {
        return LineState::Duplicate;
    }
    if row.late {
        return LineState::Late;
    }
    let (meter, theirs, chain) = match row.sources {
        [Some(meter), Some(theirs), Some(chain)] => (meter, theirs, chain),
        [_, None, _] => return LineState::MissingTheirs,
        _ => return LineState::MissingOurs,
    };
    let bytes = [meter.bytes, theirs.bytes, chain.bytes];
    let units = [meter.units, theirs.units, chain.units];
    match spread(bytes).max(spread(units)) {
        0 => LineState::Matched,
        _ if spread(bytes) <= tolerance.bytes && spread(units) <= tolerance.units => {
            LineState::InTolerance
        }
        _ => LineState::AmountDiff,
    }
}

fn spread([a, b, c]: [u64; 3]) -> u64 {
    a.max(b).max(c).abs_diff(a.min(b).min(c))
}

/// A line of its own for a stated total that is not the sum of the statement's lines; it holds
/// nothing back, the lines themselves agree or not.
fn wrong_total(statement: &Statement) -> Option<ReconciledLine> {
    let sum: u128 = statement
        .lines
        .iter()
        .map(|line| u128::from(line.units))
        .sum();
    (sum != u128::from(statement.stated_units)).then(|| ReconciledLine {
        reference: STATEMENT_TOTAL.to_owned(),
        state: LineState::AmountDiff,
        meter: None,
        statement: Some(Amounts {
            bytes: 0,
            units: statement.stated_units,
        }),
        chain: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(reference: &str, bytes: u64, units: u64, time_ms: u64) -> Line {
        Line {
            reference: reference.into(),
            bytes,
            units,
            time_ms,
        }
    }

    fn statement(lines: Vec<Line>) -> Statement {
        let stated_units = lines.iter().map(|line| line.units).sum();
        Statement {
            lines,
            stated_units,
        }
    }

    #[test]
    fn every_line_ends_in_its_state_and_only_agreement_is_paid() {
        let meter = [
            line("a", 10, 1, 5),
            line("b", 10, 1, 5),
            line("c", 10, 1, 5),
            line("e", 10, 1, 5),
            line("f", 10, 1, 5),
            line("g", 10, 1, 5),
            line("h", 10, 1, 5),
        ];
        let theirs = statement(vec![
            line("a", 10, 1, 5),
            line("b", 11, 1, 5),
            line("c", 99, 1, 5),
            line("d", 10, 1, 5),
            line("f", 10, 1, 5),
            line("f", 10, 1, 5),
            line("g", 10, 1, 100),
            line("h", 10, 1, 5),
        ]);
        let disputed = BTreeSet::from(["h".to_owned()]);
        let tolerance = Tolerance { bytes: 2, units: 0 };

        let result = reconcile(&meter, &theirs, &meter, 100, tolerance, &disputed);

        let states: Vec<_> = result
            .lines
            .iter()
            .map(|line| (line.reference.as_str(), line.state))
            .collect();
        assert_eq!(
            states,
            [
                ("a", LineState::Matched),
                ("b", LineState::InTolerance),
                ("c", LineState::AmountDiff),
                ("d", LineState::MissingOurs),
                ("e", LineState::MissingTheirs),
                ("f", LineState::Duplicate),
                ("g", LineState::Late),
                ("h", LineState::Disputed),
            ]
        );
        assert_eq!((result.payable_units, result.held_units), (2, 5));
        let proof = result.prove("c").unwrap();
        let leaf = result.lines.get(2).unwrap().leaf();
        assert!(proof.verify(&result.root, &leaf));
    }

    #[test]
    fn tolerance_decides_whether_and_never_how_much_is_paid() {
        let ours = [line("a", 10, 100, 0)];
        let theirs = statement(vec![line("a", 10, 103, 0)]);
        let tolerance = Tolerance { bytes: 0, units: 5 };

        let result = reconcile(&ours, &theirs, &ours, 1, tolerance, &BTreeSet::new());

        assert_eq!(result.payable_units, 100);
    }

    #[test]
    fn a_wrong_stated_total_is_a_line_of_its_own_and_holds_nothing_back() {
        let ours = [line("a", 10, 100, 0)];
        let mut theirs = statement(ours.to_vec());
        theirs.stated_units = 150;

        let result = reconcile(
            &ours,
            &theirs,
            &ours,
            1,
            Tolerance::default(),
            &BTreeSet::new(),
        );

        assert_eq!((result.payable_units, result.held_units), (100, 0));
        let held: Vec<_> = result.held().map(|line| line.reference.as_str()).collect();
        assert_eq!(held, [STATEMENT_TOTAL]);
    }

    #[test]
    fn the_order_of_lines_does_not_change_the_root() {
        let ours = [line("a", 1, 1, 0), line("b", 2, 2, 0)];
        let turned = [line("b", 2, 2, 0), line("a", 1, 1, 0)];
        let join = |lines: &[Line]| {
            let theirs = statement(lines.to_vec());
            reconcile(
                lines,
                &theirs,
                lines,
                1,
                Tolerance::default(),
                &BTreeSet::new(),
            )
            .root
        };

        assert_eq!(join(&ours), join(&turned));
        assert_ne!(join(&ours), join(&ours[..1]));
    }
}
