//! Figures and ids as people read them. Integers only.

use qlink_types::units::{Bytes, TimeMs, Units};

/// Characters of an id that are shown before and behind the gap of its short form.
const SHORT_HEAD: usize = 6;
const SHORT_TAIL: usize = 4;

/// `70000000` as `70,000,000`.
pub(super) fn grouped(number: u64) -> String {
    group(&number.to_string())
}

/// An amount in QLC with all its decimals, its whole part grouped.
pub(super) fn qlc(units: Units) -> String {
    let text = crate::http::qlc(units);
    match text.split_once('.') {
        Some((whole, decimals)) => format!("{}.{decimals}", group(whole)),
        None => text,
    }
}

fn group(digits: &str) -> String {
    let mut text = String::with_capacity(digits.len().saturating_mul(2));
    for (place, digit) in digits.chars().enumerate() {
        let left = digits.len().saturating_sub(place);
        if place > 0 && left.is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes, grouped.
pub(super) fn bytes(bytes: Bytes) -> String {
    grouped(bytes.get())
}

/// A count with its noun: `1 viewer`, `7 viewers`.
pub(super) fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{} {}", grouped(count), if count == 1 { one } else { many })
}

/// `part` of `whole` in per cent with two decimals, rounded down; of nothing: `0.00 %`.
pub(super) fn percent(part: u64, whole: u64) -> String {
    let hundredths = u128::from(part)
        .saturating_mul(10_000)
        .checked_div(u128::from(whole))
        .unwrap_or(0);
    let (full, rest) = (hundredths / 100, hundredths % 100);
    format!("{full}.{rest:02} %")
}

/// An id with its prefix, its first and its last characters; the whole id stands in the title.
pub(super) fn short(id: &str) -> String {
    let at = id.find(['_', ':']).map_or(0, |at| at.saturating_add(1));
    let (prefix, rest) = id.split_at_checked(at).unwrap_or(("", id));
    let head = rest.get(..SHORT_HEAD);
    let tail = rest.len().checked_sub(SHORT_TAIL);
    match (head, tail.and_then(|from| rest.get(from..))) {
        (Some(head), Some(tail)) if rest.len() > SHORT_HEAD.saturating_add(SHORT_TAIL) => {
            format!("{prefix}{head}…{tail}")
        }
        _ => id.to_owned(),
    }
}

/// Ledger time as `2026-11-20 08:01:02.345 UTC`.
///
/// Source: H. Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`; all terms
/// are positive here.
pub(super) fn time(at: TimeMs) -> String {
    let (seconds, millis) = (at.get() / 1000, at.get() % 1000);
    let (days, second_of_day) = (seconds / 86_400, seconds % 86_400);
    let shifted = days.saturating_add(719_468);
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let leaps = (day_of_era / 1_460)
        .saturating_add(day_of_era / 146_096)
        .saturating_sub(day_of_era / 36_524);
    let year_of_era = day_of_era.saturating_sub(leaps) / 365;
    let year_start = year_of_era
        .saturating_mul(365)
        .saturating_add(year_of_era / 4)
        .saturating_sub(year_of_era / 100);
    let day_of_year = day_of_era.saturating_sub(year_start);
    let month_index = day_of_year.saturating_mul(5).saturating_add(2) / 153;
    let month_start = month_index.saturating_mul(153).saturating_add(2) / 5;
    let day = day_of_year.saturating_sub(month_start).saturating_add(1);
    let (month, carry) = if month_index < 10 {
        (month_index.saturating_add(3), 0)
    } else {
        (month_index.saturating_sub(9), 1)
    };
    let year = era
        .saturating_mul(400)
        .saturating_add(year_of_era)
        .saturating_add(carry);
    let (hour, minute) = (second_of_day / 3600, second_of_day / 60 % 60);
    let second = second_of_day % 60;
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{millis:03} UTC")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_stand_in_groups_of_three() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_000), "1,000");
        assert_eq!(grouped(70_000_000), "70,000,000");
        assert_eq!(grouped(u64::MAX), "18,446,744,073,709,551,615");
    }

    #[test]
    fn the_whole_supply_is_legible() {
        assert_eq!(
            qlc(qlink_types::units::SUPPLY_UNITS),
            "600,000,000.00000000"
        );
        assert_eq!(qlc(Units::new(1)), "0.00000001");
    }

    #[test]
    fn per_cent_is_exact_at_both_ends_and_rounds_down_between() {
        assert_eq!(percent(0, 0), "0.00 %");
        assert_eq!(percent(70_000_000, 100_000_000), "70.00 %");
        assert_eq!(percent(99_999_999, 100_000_000), "99.99 %");
        assert_eq!(percent(u64::MAX, u64::MAX), "100.00 %");
    }

    #[test]
    fn short_ids_keep_their_prefix_and_short_texts_stay_whole() {
        assert_eq!(short("pkg_01ARZ3NDEKTSV4RRFFQ69G5FAV"), "pkg_01ARZ3…5FAV");
        assert_eq!(short("b3:00112233445566778899"), "b3:001122…8899");
        assert_eq!(short("pkg_01"), "pkg_01");
        assert_eq!(short("äöüäöüäöü"), "äöü…öü");
    }

    #[test]
    fn ledger_time_is_shown_as_utc() {
        assert_eq!(time(TimeMs::ZERO), "1970-01-01 00:00:00.000 UTC");
        assert_eq!(
            time(TimeMs::new(1_582_934_400_001)),
            "2020-02-29 00:00:00.001 UTC"
        );
        assert_eq!(
            time(TimeMs::new(1_795_163_025_000)),
            "2026-11-20 08:23:45.000 UTC"
        );
    }
}
