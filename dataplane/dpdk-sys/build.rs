//! Compiles the shim against the system's libdpdk when the feature `link` is on.

#[cfg(not(feature = "link"))]
const fn main() {}

#[cfg(feature = "link")]
fn main() {
    if let Err(reason) = link::build() {
        // The one channel on which cargo shows a build script's words.
        println!("cargo::error={reason}");
    }
}

#[cfg(feature = "link")]
mod link {
    use std::process::Command;

    /// DPDK's interfaces that the shim uses are stable from here on.
    const OLDEST: &str = "21.11";

    /// Finds the library, has it linked, and compiles the shim with the flags that its headers ask
    /// for: its inline functions need the instruction set that it was itself compiled for.
    pub(super) fn build() -> Result<(), String> {
        println!("cargo::rerun-if-changed=shim.c");
        let library = pkg_config::Config::new()
            .atleast_version(OLDEST)
            .probe("libdpdk")
            .map_err(|error| {
                let error = error.to_string().replace('\n', " ");
                format!(
                    "feature `dpdk` needs DPDK {OLDEST} or later: install libdpdk-dev and \
                     pkg-config, or build without the feature ({error})"
                )
            })?;
        let mut shim = cc::Build::new();
        shim.file("shim.c")
            .includes(&library.include_paths)
            .opt_level(3)
            .warnings_into_errors(false);
        for flag in compiler_flags()? {
            shim.flag(flag);
        }
        shim.try_compile("qlink_dpdk")
            .map_err(|error| format!("the shim does not compile: {error}").replace('\n', " "))
    }

    /// What pkg-config says besides include paths: `-include rte_config.h -march=...`.
    fn compiler_flags() -> Result<Vec<String>, String> {
        let tool = std::env::var_os("PKG_CONFIG").unwrap_or_else(|| "pkg-config".into());
        let answer = Command::new(tool)
            .args(["--cflags-only-other", "libdpdk"])
            .output()
            .map_err(|error| format!("pkg-config cannot be run: {error}"))?;
        let text = String::from_utf8_lossy(&answer.stdout);
        Ok(text.split_whitespace().map(str::to_owned).collect())
    }
}
