//! Network namespaces for unit tests: one thread, one namespace, gone with the thread.

use std::io;
use std::process::Command;
use std::thread;

/// Runs `work` on a thread in a fresh namespace whose loopback interface is up; `None` when the
/// process may not make one.
pub(crate) fn in_namespace<R: Send>(work: impl FnOnce() -> R + Send) -> Option<R> {
    thread::scope(|scope| {
        let running = scope.spawn(|| {
            // SAFETY: without memory arguments; it moves this thread alone to a new namespace.
            if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
                println!(
                    "skipped: no network namespace: {}",
                    io::Error::last_os_error()
                );
                return None;
            }
            ip("link set lo up");
            Some(work())
        });
        running
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Runs `ip` with `arguments` in this thread's namespace.
pub(crate) fn ip(arguments: &str) {
    let status = Command::new("ip")
        .args(arguments.split_whitespace())
        .status()
        .unwrap();
    assert!(status.success(), "ip {arguments}: {status}");
}
