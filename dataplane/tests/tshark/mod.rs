//! What several test binaries share.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

/// Packets and inner bytes by (outer destination, TEID).
pub(crate) type Tunnels = BTreeMap<(String, u32), (u64, u64)>;

/// The folder of captures, or a note why there is none.
pub(crate) fn captures() -> Option<PathBuf> {
    let folder = std::env::var_os("QLINK_CAPTURES").map(PathBuf::from);
    if folder.is_none() {
        eprintln!("skipped: QLINK_CAPTURES is not set");
    }
    folder
}

/// Whether `tshark` runs, or a note why not.
pub(crate) fn has_tshark() -> bool {
    let runs = Command::new("tshark").arg("--version").output().is_ok();
    if !runs {
        eprintln!("skipped: tshark is not installed");
    }
    runs
}

/// Lets a script of `tests` that uses scapy write into `folder`; `false` with a note where scapy is
/// not there.
pub(crate) fn scapy_wrote(script: &str, folder: &Path, seed: &str) -> bool {
    // Debian's scapy belongs to Debian's Python, which may not be the first one in PATH.
    let system = Path::new("/usr/bin/python3");
    let python = if system.exists() {
        system
    } else {
        Path::new("python3")
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests")
        .join(script);
    let made = Command::new(python)
        .arg(script)
        .arg(folder)
        .arg(seed)
        .output();
    let made = made.unwrap();
    let notes = String::from_utf8_lossy(&made.stderr).into_owned();
    if notes.contains("No module named 'scapy'") {
        eprintln!("skipped: scapy is not installed");
        return false;
    }
    assert!(made.status.success(), "{notes}");
    true
}

/// Fields of the frames of a capture that `filter` shows, one line for each frame, `|` between fields
/// and `,` between the values of one; `preferences` are tshark's. With it whether tshark read all of
/// the capture.
pub(crate) fn tshark_fields(
    capture: &Path,
    filter: &str,
    preferences: &[&str],
    fields: &[&str],
) -> (String, ExitStatus) {
    let mut command = Command::new("tshark");
    command.arg("-n").arg("-r").arg(capture);
    for preference in preferences {
        command.args(["-o", preference]);
    }
    command.args(["-Y", filter, "-T", "fields"]);
    command.args(["-E", "separator=|", "-E", "occurrence=a"]);
    for field in fields {
        command.args(["-e", field]);
    }
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (text, output.status)
}

/// What tshark counts in a capture: the first GTP-U layer of each frame that is not quoted in an
/// ICMP error, its TEID, the outer destination and the length that the inner IP header states.
/// Datagrams whose outer fragments contradict each other are nobody's.
pub(crate) fn tshark_tunnels(capture: &Path) -> Tunnels {
    let fields = [
        "frame.protocols",
        "gtp.message",
        "gtp.teid",
        "ip.dst",
        "ip.len",
        "ipv6.dst",
        "ipv6.plen",
        "ip.fragment.overlap.conflict",
        "ipv6.fragment.overlap.conflict",
    ];
    let (text, _) = tshark_fields(capture, "gtp", &[], &fields);
    let mut tunnels = Tunnels::new();
    for line in text.lines() {
        let columns: Vec<&str> = line.split('|').collect();
        if let Some((key, length)) = tunnel_of(&columns) {
            let entry = tunnels.entry(key).or_default();
            entry.0 += 1;
            entry.1 += length;
        }
    }
    tunnels
}

fn tunnel_of(columns: &[&str]) -> Option<((String, u32), u64)> {
    if !columns[7].is_empty() || !columns[8].is_empty() {
        return None;
    }
    let list = |index: usize| -> Vec<&str> { columns[index].split(',').collect() };
    let (v4_dst, v4_len) = (list(3), list(4));
    let (v6_dst, v6_len) = (list(5), list(6));
    let (mut v4, mut v6) = (0, 0);
    let (mut outer, mut seen_gtp) = (None, false);
    for protocol in columns[0].split(':') {
        match protocol {
            "icmp" | "icmpv6" if !seen_gtp => return None,
            "gtp" => seen_gtp = true,
            "ip" | "ipv6" => {
                let (dst, length) = if protocol == "ip" {
                    v4 += 1;
                    (
                        v4_dst.get(v4 - 1)?,
                        v4_len.get(v4 - 1)?.parse::<u64>().ok()?,
                    )
                } else {
                    v6 += 1;
                    let payload: u64 = v6_len.get(v6 - 1)?.parse().ok()?;
                    (v6_dst.get(v6 - 1)?, payload + 40)
                };
                if !seen_gtp {
                    outer = Some((*dst).to_owned());
                    continue;
                }
                let message = list(1)[0].trim_start_matches("0x");
                let teid = list(2)[0].trim_start_matches("0x");
                let is_gpdu = u32::from_str_radix(message, 16) == Ok(255);
                let teid = u32::from_str_radix(teid, 16).ok()?;
                return is_gpdu.then_some(((outer?, teid), length));
            }
            _ => {}
        }
    }
    None
}
