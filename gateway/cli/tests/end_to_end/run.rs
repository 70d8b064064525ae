//! Starting the binary, bounded in time, and what it left behind.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::report::Report;

/// How long any run may take (chosen: ten times what the longest takes, 200 kills on a 60 MB film).
const WITHIN: Duration = Duration::from_secs(400);

/// Whether the full counts are asked for.
pub(crate) fn is_long() -> bool {
    std::env::var_os("QLINK_LONG").is_some_and(|value| value == "1")
}

/// The binary under test.
pub(crate) fn qlink() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_qlink"));
    command.stdin(Stdio::null());
    command
}

/// A short command and all that it says.
pub(crate) fn output(arguments: &[&str]) -> Output {
    qlink().args(arguments).output().unwrap()
}

/// Bytes that no compression shortens, the same for the same name.
pub(crate) fn film(size: usize, name: &str) -> Vec<u8> {
    let mut bytes = vec![0; size];
    blake3::Hasher::new()
        .update(name.as_bytes())
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

/// A running process that ends with the test.
pub(crate) struct Running {
    child: Child,
}

impl Running {
    /// Starts the binary with its output in files `out` and `err` of `folder`.
    pub(crate) fn start(folder: &Path, arguments: &[&str]) -> Self {
        let child = qlink()
            .args(arguments)
            .stdout(File::create(folder.join("out")).unwrap())
            .stderr(File::create(folder.join("err")).unwrap())
            .current_dir(folder)
            .spawn()
            .unwrap();
        Self { child }
    }

    /// Waits until it ends; its exit code.
    pub(crate) fn wait(&mut self) -> i32 {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code().unwrap_or(-1);
            }
            assert!(started.elapsed() < WITHIN, "the process does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Asks it to end, which gives it the time to end its own children; its exit code.
    pub(crate) fn stop(&mut self) -> i32 {
        self.terminate();
        self.wait()
    }

    fn terminate(&mut self) {
        let pid = self.child.id().to_string();
        let _ended = Command::new("kill").args(["-TERM", &pid]).status();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        self.terminate();
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(10) {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// A finished demo.
pub(crate) struct Demo {
    /// What it printed.
    pub(crate) report: Report,
    /// Its log.
    pub(crate) log: String,
    folder: TempDir,
}

impl Demo {
    /// Plays `qlink demo --json` with `arguments`; `film`: of another film than the default one.
    pub(crate) fn play(film: Option<&[u8]>, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let network = folder.path().join("network");
        let mut all = vec!["demo", "--json", "--dir", network.to_str().unwrap()];
        if let Some(film) = film {
            fs::create_dir(folder.path().join("films")).unwrap();
            fs::write(folder.path().join("films/film"), film).unwrap();
            all.extend(["--content", "films/film"]);
        }
        all.extend(arguments);

        let code = Running::start(folder.path(), &all).wait();

        let log = fs::read_to_string(folder.path().join("err")).unwrap();
        let out = fs::read_to_string(folder.path().join("out")).unwrap();
        assert_eq!(code, 0, "{all:?}: {}", last_lines(&log));
        assert_eq!(out.lines().count(), 1, "exactly one object: {out}");
        let report = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"));
        Self {
            report,
            log,
            folder,
        }
    }

    /// Something in its folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// How often something was killed.
    pub(crate) fn kills(&self) -> usize {
        self.log.matches("killed and restarted").count()
    }
}

/// The end of a log.
pub(crate) fn last_lines(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(5)..].join("\n")
}
