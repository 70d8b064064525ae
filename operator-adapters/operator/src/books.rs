//! Double-entry books: every entry balances per asset, nothing is changed or removed.
//!
//! Amounts are whole smallest parts of an asset in `i128`; debits are positive, credits negative.
//! A correction is a new entry that inverts an old one.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Accounts of one set of books at most.
const ACCOUNTS_MAX: usize = 1 << 16;

/// What is counted: a currency or a token, with its decimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Asset {
    /// `[A-Z]{1,12}`: `QLC`, or an ISO 4217 code.
    pub code: String,
    /// Decimal digits after the point, at most 18.
    pub scale: u8,
}

/// One side of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Posting {
    /// Colon-separated path, `[a-z0-9:-]+`, such as `liabilities:payable:north`.
    pub account: String,
    /// What is counted.
    pub asset: Asset,
    /// Smallest parts: debit > 0, credit < 0.
    pub amount: i128,
}

/// Number of an entry, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct EntryNo(usize);

/// One event in money.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Unique name of the event, visible ASCII without `;`, `|` or brackets: it makes posting
    /// idempotent.
    pub reference: String,
    /// When it happened, milliseconds since 1970.
    pub time_ms: u64,
    /// Sides; they sum to zero per asset.
    pub postings: Vec<Posting>,
}

/// Why an entry was refused; the books are unchanged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BooksError {
    /// Debits and credits of an asset differ.
    #[error("entry {reference} is out of balance by {difference} of {asset}")]
    Unbalanced {
        /// The entry.
        reference: String,
        /// The asset.
        asset: String,
        /// Debits minus credits.
        difference: i128,
    },
    /// No posting, or one of zero.
    #[error("entry {reference} has no posting or one of zero")]
    Empty {
        /// The entry.
        reference: String,
    },
    /// Another entry has this reference.
    #[error("entry {reference} exists with other postings")]
    ReferenceReused {
        /// The entry.
        reference: String,
    },
    /// An account, asset or reference is not written as it must be.
    #[error("{name:?} cannot name an account, asset or entry")]
    BadName {
        /// What was given.
        name: String,
    },
    /// A sum leaves 128 bits.
    #[error("entry {reference} overflows a balance")]
    Overflow {
        /// The entry.
        reference: String,
    },
    /// No such entry.
    #[error("there is no entry {reference}")]
    Unknown {
        /// The entry.
        reference: String,
    },
    /// The table of accounts is full.
    #[error("the books hold {ACCOUNTS_MAX} accounts already")]
    Full,
}

/// The books.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Books {
    entries: Vec<Entry>,
    by_reference: BTreeMap<String, EntryNo>,
    balances: BTreeMap<(String, Asset), i128>,
}

impl Books {
    /// Empty books.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an entry. The same entry again changes nothing and gives the first one's number.
    ///
    /// # Errors
    ///
    /// [`BooksError`]; the books are unchanged.
    pub fn post(&mut self, entry: Entry) -> Result<EntryNo, BooksError> {
        if let Some(number) = self.by_reference.get(&entry.reference) {
            return if self.entry(*number) == Some(&entry) {
                Ok(*number)
            } else {
                Err(BooksError::ReferenceReused {
                    reference: entry.reference,
                })
            };
        }
        check(&entry)?;
        let changed = self.balances_after(&entry)?;
        self.balances.extend(changed);
        let number = EntryNo(self.entries.len().saturating_add(1));
        self.by_reference.insert(entry.reference.clone(), number);
        self.entries.push(entry);
        Ok(number)
    }

    /// Adds the inverse of an entry under its own reference.
    ///
    /// # Errors
    ///
    /// [`BooksError::Unknown`] when there is nothing to correct, and as [`Self::post`].
    pub fn correct(
        &mut self,
        of: &str,
        reference: String,
        time_ms: u64,
    ) -> Result<EntryNo, BooksError> {
        let original = self
            .by_reference
            .get(of)
            .and_then(|number| self.entry(*number))
            .ok_or_else(|| BooksError::Unknown {
                reference: of.to_owned(),
            })?;
        let inverse = |posting: &Posting| {
            let amount = posting.amount.checked_neg();
            amount.map(|amount| Posting {
                amount,
                ..posting.clone()
            })
        };
        let postings = original.postings.iter().map(inverse).collect::<Option<_>>();
        let postings = postings.ok_or_else(|| BooksError::Overflow {
            reference: reference.clone(),
        })?;
        self.post(Entry {
            reference,
            time_ms,
            postings,
        })
    }

    /// An entry by its number.
    #[must_use]
    pub fn entry(&self, number: EntryNo) -> Option<&Entry> {
        self.entries.get(number.0.checked_sub(1)?)
    }

    /// All entries, oldest first.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Balance of an account in an asset's smallest parts; debit > 0.
    #[must_use]
    pub fn balance(&self, account: &str, asset: &Asset) -> i128 {
        self.balances
            .get(&(account.to_owned(), asset.clone()))
            .copied()
            .unwrap_or(0)
    }

    /// Sum of all accounts per asset: zero everywhere, or the books are broken.
    #[must_use]
    pub fn trial_balance(&self) -> BTreeMap<Asset, i128> {
        let mut sums = BTreeMap::new();
        for ((_, asset), amount) in &self.balances {
            let sum: &mut i128 = sums.entry(asset.clone()).or_default();
            *sum = sum.saturating_add(*amount);
        }
        sums
    }

    /// The journal in hledger's text format, with every account and commodity declared.
    ///
    /// Source: hledger manual, "Journal".
    #[must_use]
    pub fn to_hledger(&self) -> String {
        let mut out = String::new();
        let assets: std::collections::BTreeSet<_> =
            self.balances.keys().map(|(_, asset)| asset).collect();
        for asset in assets {
            let sample = decimal(
                &Asset {
                    scale: asset.scale,
                    ..asset.clone()
                },
                0,
            );
            let point = if asset.scale == 0 { "." } else { "" };
            line(
                &mut out,
                format_args!("commodity {sample}{point} {}", asset.code),
            );
        }
        let accounts: std::collections::BTreeSet<_> =
            self.balances.keys().map(|(account, _)| account).collect();
        for account in accounts {
            line(&mut out, format_args!("account {account}"));
        }
        for entry in &self.entries {
            let (year, month, day) = civil_date(entry.time_ms);
            line(
                &mut out,
                format_args!("\n{year:04}-{month:02}-{day:02} * {}", entry.reference),
            );
            for posting in &entry.postings {
                let amount = decimal(&posting.asset, posting.amount);
                let code = &posting.asset.code;
                line(
                    &mut out,
                    format_args!("    {}  {amount} {code}", posting.account),
                );
            }
        }
        out
    }

    /// The balances that `entry` changes, as they stand after it.
    fn balances_after(&self, entry: &Entry) -> Result<BTreeMap<(String, Asset), i128>, BooksError> {
        let mut changed: BTreeMap<(String, Asset), i128> = BTreeMap::new();
        let mut opened = 0_usize;
        for posting in &entry.postings {
            let key = (posting.account.clone(), posting.asset.clone());
            let before = changed.get(&key).copied();
            if before.is_none() && !self.balances.contains_key(&key) {
                opened = opened.saturating_add(1);
            }
            let before = before
                .or_else(|| self.balances.get(&key).copied())
                .unwrap_or(0);
            let after = before
                .checked_add(posting.amount)
                .ok_or_else(|| BooksError::Overflow {
                    reference: entry.reference.clone(),
                })?;
            changed.insert(key, after);
        }
        if self.balances.len().saturating_add(opened) > ACCOUNTS_MAX {
            return Err(BooksError::Full);
        }
        Ok(changed)
    }
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing into a String has no way to fail.
    let _ = writeln!(out, "{text}");
}

fn check(entry: &Entry) -> Result<(), BooksError> {
    let reference = &entry.reference;
    if entry.postings.is_empty() || entry.postings.iter().any(|posting| posting.amount == 0) {
        return Err(BooksError::Empty {
            reference: reference.clone(),
        });
    }
    let bad = |name: &String| BooksError::BadName { name: name.clone() };
    let reference_ok = |c: u8| c.is_ascii_graphic() && !b";|()[]".contains(&c);
    if reference.is_empty() || !reference.bytes().all(reference_ok) {
        return Err(bad(reference));
    }
    let mut sums: BTreeMap<&Asset, i128> = BTreeMap::new();
    for posting in &entry.postings {
        let account_ok =
            |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b':' | b'-');
        if posting.account.is_empty() || !posting.account.bytes().all(account_ok) {
            return Err(bad(&posting.account));
        }
        let code = &posting.asset.code;
        let code_ok =
            (1..=12).contains(&code.len()) && code.bytes().all(|c| c.is_ascii_uppercase());
        if !code_ok || posting.asset.scale > 18 {
            return Err(bad(code));
        }
        let sum = sums.entry(&posting.asset).or_default();
        *sum = sum
            .checked_add(posting.amount)
            .ok_or_else(|| BooksError::Overflow {
                reference: reference.clone(),
            })?;
    }
    match sums.into_iter().find(|(_, sum)| *sum != 0) {
        Some((asset, difference)) => Err(BooksError::Unbalanced {
            reference: reference.clone(),
            asset: asset.code.clone(),
            difference,
        }),
        None => Ok(()),
    }
}

/// `-0.10000000` from -10,000,000 at scale 8.
fn decimal(asset: &Asset, amount: i128) -> String {
    let sign = if amount < 0 { "-" } else { "" };
    let scale = usize::from(asset.scale);
    let digits = format!(
        "{:0>width$}",
        amount.unsigned_abs(),
        width = scale.saturating_add(1)
    );
    let (whole, fraction) = digits.split_at(digits.len().saturating_sub(scale));
    let point = if fraction.is_empty() { "" } else { "." };
    format!("{sign}{whole}{point}{fraction}")
}

/// Year, month and day (UTC) of a time after 1970. Source: H. Hinnant, "chrono-Compatible
/// Low-Level Date Algorithms", `civil_from_days`; all terms are positive here.
fn civil_date(time_ms: u64) -> (u64, u64, u64) {
    let days = (time_ms / 86_400_000).saturating_add(719_468);
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era = day_of_era
        .saturating_sub(day_of_era / 1_460)
        .saturating_add(day_of_era / 36_524)
        .saturating_sub(day_of_era / 146_096)
        / 365;
    let before = year_of_era
        .saturating_mul(365)
        .saturating_add(year_of_era / 4);
    let day_of_year = day_of_era.saturating_sub(before.saturating_sub(year_of_era / 100));
    let shifted = day_of_year.saturating_mul(5).saturating_add(2) / 153;
    let month_start = shifted.saturating_mul(153).saturating_add(2) / 5;
    let day = day_of_year.saturating_sub(month_start).saturating_add(1);
    let month = if shifted < 10 {
        shifted.saturating_add(3)
    } else {
        shifted.saturating_sub(9)
    };
    let year = era.saturating_mul(400).saturating_add(year_of_era);
    (
        if month <= 2 {
            year.saturating_add(1)
        } else {
            year
        },
        month,
        day,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn qlc() -> Asset {
        Asset {
            code: "QLC".into(),
            scale: 8,
        }
    }

    fn posting(account: &str, amount: i128) -> Posting {
        Posting {
            account: account.into(),
            asset: qlc(),
            amount,
        }
    }

    fn entry(reference: &str, amount: i128) -> Entry {
        Entry {
            reference: reference.into(),
            time_ms: 1_795_132_800_000,
            postings: vec![
                posting("assets:prepaid", amount),
                posting("liabilities:payable", -amount),
            ],
        }
    }

    #[test]
    fn an_entry_out_of_balance_is_refused_and_changes_nothing() {
        let mut books = Books::new();
        let mut wrong = entry("a", 5);
        wrong.postings.push(posting("assets:prepaid", 1));

        assert!(matches!(
            books.post(wrong),
            Err(BooksError::Unbalanced { difference: 1, .. })
        ));
        assert_eq!(books, Books::new());
    }

    #[test]
    fn assets_do_not_balance_each_other() {
        let mut books = Books::new();
        let mut mixed = entry("a", 5);
        mixed.postings.last_mut().unwrap().asset = Asset {
            code: "EUR".into(),
            scale: 2,
        };

        assert!(matches!(
            books.post(mixed),
            Err(BooksError::Unbalanced { .. })
        ));
    }

    #[test]
    fn the_same_entry_counts_once_and_another_under_its_name_is_refused() {
        let mut books = Books::new();

        let first = books.post(entry("a", 5));
        assert_eq!(books.post(entry("a", 5)), first);
        assert!(matches!(
            books.post(entry("a", 6)),
            Err(BooksError::ReferenceReused { .. })
        ));
        assert_eq!(books.balance("assets:prepaid", &qlc()), 5);
    }

    #[test]
    fn a_correction_is_a_new_entry_that_brings_the_balance_back() {
        let mut books = Books::new();
        books.post(entry("a", 5)).unwrap();

        books.correct("a", "a-reversed".into(), 1).unwrap();
        books.correct("a", "a-reversed".into(), 1).unwrap();

        assert_eq!(books.entries().len(), 2);
        assert_eq!(books.balance("assets:prepaid", &qlc()), 0);
        assert_eq!(books.trial_balance().get(&qlc()), Some(&0));
    }

    #[test]
    fn amounts_and_dates_are_written_exactly() {
        assert_eq!(decimal(&qlc(), -10_000_000), "-0.10000000");
        assert_eq!(
            decimal(
                &Asset {
                    code: "X".into(),
                    scale: 0
                },
                7
            ),
            "7"
        );
        assert_eq!(civil_date(0), (1970, 1, 1));
        assert_eq!(civil_date(1_582_934_400_000), (2020, 2, 29));
        assert_eq!(civil_date(1_795_132_800_000), (2026, 11, 20));
    }
}
