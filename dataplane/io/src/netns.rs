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
            stay_on_one_core();
            ip("link set lo up");
            Some(work())
        });
        running
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Keeps this thread on the core it is on. Frames over veth and loopback wait in a queue per core,
/// so that a sender that moves can overtake itself.
fn stay_on_one_core() {
    // SAFETY: no arguments.
    let core = unsafe { libc::sched_getcpu() };
    // SAFETY: a set of bits, for which all zero is valid.
    let mut cores: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set is live; the system has given the number.
    unsafe { libc::CPU_SET(core.try_into().unwrap(), &mut cores) };
    // SAFETY: thread 0 is the caller, and the set a live object of the size given.
    let status = unsafe { libc::sched_setaffinity(0, size_of_val(&cores), &raw const cores) };
    assert_eq!(status, 0, "{}", io::Error::last_os_error());
}

/// Runs `ip` with `arguments` in this thread's namespace.
pub(crate) fn ip(arguments: &str) {
    let status = Command::new("ip")
        .args(arguments.split_whitespace())
        .status()
        .unwrap();
    assert!(status.success(), "ip {arguments}: {status}");
}
