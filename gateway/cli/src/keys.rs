//! Key files: 64 hexadecimal digits, readable by their owner only.

use std::fs::OpenOptions;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Subcommand;
use qlink_types::ids::AccountId;
use qlink_types::signature::SecretKey;
use serde_json::json;

use crate::output;

/// What can be done with key files.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a new key in a file that does not exist yet.
    New {
        /// The file.
        file: PathBuf,
    },
    /// Show the public key and account of a key file.
    Show {
        /// The file.
        file: PathBuf,
    },
    /// Show the public key that a key file has as one end of a tunnel (X25519). A tunnel key is a file
    /// of its own, never a device key's.
    Tunnel {
        /// The file, of `qlink key new` or `wg genkey`.
        file: PathBuf,
    },
}

/// Runs a key command.
pub(crate) fn run(command: &Command) -> anyhow::Result<()> {
    match command {
        Command::New { file } => {
            let mut seed = [0; 32];
            std::fs::File::open("/dev/urandom")
                .and_then(|mut source| source.read_exact(&mut seed))
                .context("no random bytes")?;
            write(file, &seed)?;
            show(file)
        }
        Command::Show { file } => show(file),
        Command::Tunnel { file } => {
            let public = qlink_tunnel::read_key_file(file)?.public();
            output::line(&json!({ "key": public }).to_string());
            Ok(())
        }
    }
}

fn show(file: &Path) -> anyhow::Result<()> {
    let public = read(file)?.public();
    let account = AccountId::from(public);
    output::line(&json!({ "key": public, "account": account }).to_string());
    Ok(())
}

/// Writes a seed into a new file with mode 0600.
pub(crate) fn write(file: &Path, seed: &[u8; 32]) -> anyhow::Result<()> {
    let mut out = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)
        .with_context(|| format!("key file {}", file.display()))?;
    writeln!(out, "{}", hex::encode(seed))?;
    out.sync_all()?;
    Ok(())
}

/// Reads a key file.
pub(crate) fn read(file: &Path) -> anyhow::Result<SecretKey> {
    Ok(qlink_gateway::read_key(file)?)
}
