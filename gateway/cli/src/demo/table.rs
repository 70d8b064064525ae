//! The report as a table for people.

use serde_json::Value;

use super::report::Report;
use crate::output::line;
use crate::table::grouped;

fn text(value: &Value, pointer: &str) -> String {
    match value.pointer(pointer) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => "-".to_owned(),
        Some(other) => other.to_string(),
    }
}

/// Units as QLC with all decimals.
fn qlc(units: &str) -> String {
    let padded = format!("{units:0>9}");
    let (whole, rest) = padded.split_at(padded.len().saturating_sub(8));
    format!("{whole}.{rest}")
}

fn rows<'a>(json: &'a Value, name: &str) -> &'a [Value] {
    json.get(name)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// Prints the report.
pub(crate) fn print(report: &Report) {
    let json = &report.json;
    let package = |name: &str| text(json, &format!("/package/{name}"));
    line(&format!(
        "package  {}  {} B, reward {} QLC",
        package("id"),
        grouped(&package("bytes")),
        qlc(&package("reward_units"))
    ));
    line(&format!(
        "content  {}  {} B",
        package("content"),
        grouped(&package("size"))
    ));
    line("");
    line(&format!(
        "{:<8} {:<31} {:<12} {:>13} {:>12} {:>13} {:>9}",
        "viewer", "session", "address", "content B", "QLC", "retransmit B", "charged B"
    ));
    for (index, row) in rows(json, "viewers").iter().enumerate() {
        let session = match row.get("refused") {
            Some(code) => code.as_str().unwrap_or_default().to_owned(),
            None => text(row, "/session"),
        };
        line(&format!(
            "{:<8} {:<31} {:<12} {:>13} {:>12} {:>13} {:>9}",
            index.saturating_add(1),
            session,
            text(row, "/address"),
            grouped(&text(row, "/content_bytes")),
            qlc(&text(row, "/reward_units")),
            grouped(&text(row, "/retransmit_bytes")),
            grouped(&text(row, "/user_charged_bytes")),
        ));
    }
    print_cheaters(json);
    print_sums(json);
    line("");
    if report.faults.is_empty() {
        line(&format!(
            "{} B verified, {} QLC paid, {} units handed out as leftover, every figure exact",
            grouped(&text(json, "/totals/content_bytes")),
            qlc(&text(json, "/totals/reward_units")),
            text(json, "/totals/dust_units"),
        ));
    } else {
        for fault in &report.faults {
            line(&format!("NOT EXACT: {fault}"));
        }
    }
}

fn print_cheaters(json: &Value) {
    let cheaters = rows(json, "cheaters");
    if cheaters.is_empty() {
        return;
    }
    line("");
    line(&format!(
        "{:<8} {:<16} {:<12} {:>13} {:>13} {:>13} {:>13}",
        "cheater", "mode", "address", "foreign B", "charged B", "sponsored B", "paid QLC"
    ));
    for (index, row) in cheaters.iter().enumerate() {
        line(&format!(
            "{:<8} {:<16} {:<12} {:>13} {:>13} {:>13} {:>13}",
            index.saturating_add(1),
            text(row, "/mode"),
            text(row, "/address"),
            grouped(&text(row, "/foreign_bytes")),
            grouped(&text(row, "/user_charged_bytes")),
            grouped(&text(row, "/sponsored_bytes")),
            qlc(&text(row, "/charged_units")),
        ));
    }
}

fn print_sums(json: &Value) {
    let of = |pointer: &str| text(json, pointer);
    line("");
    line(&format!(
        "reward      moved {} QLC, unclaimed {}, refunded {}",
        qlc(&of("/totals/reward_units")),
        qlc(&of("/totals/unclaimed_units")),
        qlc(&of("/totals/refund_units"))
    ));
    line(&format!(
        "carriage    operator {}, BaseStation {}, gateway {} of {} QLC",
        qlc(&of("/carriage/operator_units")),
        qlc(&of("/carriage/basestation_units")),
        qlc(&of("/carriage/gateway_units")),
        qlc(&of("/carriage/deposit_units"))
    ));
    line(&format!(
        "settlement  {} {}: {} QLC, statement {}",
        of("/settlement/operator"),
        of("/settlement/state"),
        qlc(&of("/settlement/units")),
        of("/settlement/statement_root")
    ));
    line(&format!(
        "chain       {} with {} seat, height {}, supply {} QLC, root {}",
        of("/chain/orderer"),
        of("/chain/validators"),
        of("/chain/final_height"),
        qlc(&of("/chain/supply_units")),
        of("/chain/state_root")
    ));
    line(&format!(
        "data plane  {} packets, {} network bytes, {} uncertain bytes",
        grouped(&of("/dataplane/packets")),
        grouped(&of("/dataplane/network_bytes")),
        of("/totals/uncertain_bytes")
    ));
    line(&format!(
        "asset       BaseStation {} stands in the {}",
        of("/asset/basestation"),
        of("/asset/registry")
    ));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_well() {
        assert_eq!(grouped("100000000"), "100,000,000");
        assert_eq!(grouped("7"), "7");
        assert_eq!(qlc("10000000"), "0.10000000");
        assert_eq!(qlc("0"), "0.00000000");
    }
}
