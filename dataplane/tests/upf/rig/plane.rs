//! The data plane as a process of its own: this test's program once more, until it is killed.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use qlink_dataplane::{DataplaneConfig, run};
use qlink_io::seqpacket::SeqConn;

use super::{GATEWAY, Names, WITHIN};

/// Its configuration, to the process.
const CONFIG: &str = "QLINK_UPF_CONFIG";

/// Workers of the data plane, 1 unless set: the same scenarios for several.
const WORKERS: &str = "QLINK_UPF_WORKERS";

/// What a scenario starts from.
pub(super) fn configuration(folder: &Path) -> DataplaneConfig {
    let path = |name: &str| folder.join(name);
    let workers = std::env::var(WORKERS).map_or(1, |workers| workers.parse().unwrap());
    let text = serde_json::json!({
        "n3": SocketAddr::new(GATEWAY, 2152),
        "n6_tun": {"name": "n6"},
        "control_socket": path("control"), "arena": path("arena"), "journal": path("journal"),
        "workers": workers, "max_sessions": 64, "max_flows": 8, "max_views": 8, "max_contents": 2,
        "pfcp": {
            "listen": SocketAddr::new(GATEWAY, 8805), "peers": ["192.168.3.0/24"],
            "journal": path("node"), "ue_v4": "10.60.0.0/16", "ue_v6": "2001:db8:60::/48",
            "max_urrs": 256, "requests_to": "source",
        },
    });
    serde_json::from_value(text).unwrap()
}

/// Starts it in its namespace and waits until it answers.
pub(super) fn start(names: &Names, config: &DataplaneConfig) -> Child {
    let program = std::env::current_exe().unwrap();
    let arguments = [program.to_str().unwrap(), "a_data_plane_runs", "--exact"];
    let child = names
        .inside("gw", &arguments)
        .env(CONFIG, serde_json::to_string(config).unwrap())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + WITHIN;
    while SeqConn::connect(&config.control_socket).is_err() {
        assert!(Instant::now() < deadline, "the data plane does not answer");
        std::thread::sleep(Duration::from_millis(5));
    }
    child
}

/// The process itself; returns at once in every other one.
pub(crate) fn run_plane() {
    let Ok(config) = std::env::var(CONFIG) else {
        return;
    };
    let config: DataplaneConfig = serde_json::from_str(&config).unwrap();
    run(&config, |_| {}, &AtomicBool::new(false)).unwrap();
}
