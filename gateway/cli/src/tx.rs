//! Signing where the key is: the gateway quotes, the owner signs here, the gateway submits.

use std::io::Read as _;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Subcommand;
use qlink_types::codec::{Decode as _, Encode as _};
use qlink_types::ids::{AccountId, GatewayId, Hash32, PackageId, ViewerKey};
use qlink_types::signature::{ChainId, SecretKey};
use qlink_types::transaction::{Sender, SignedTransaction, Transaction};
use qlink_types::units::TimeMs;
use qlink_viewer::Pseudonym;
use serde_json::json;

use crate::{keys, output, party};

/// How long an acceptance may be used to open a session: five minutes.
const ACCEPTANCE_VALID_MS: u64 = 5 * 60 * 1000;

/// What can be done with transactions.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Sign an unsigned transaction; its text comes from --transaction or standard input.
    Sign {
        /// The sender's key file.
        #[arg(long)]
        key: PathBuf,
        /// The unsigned transaction in hexadecimal, as a quote gives it.
        #[arg(long)]
        transaction: Option<String>,
        /// Sign as the viewer that this wallet is in a package (claims).
        #[arg(long, value_name = "PACKAGE")]
        viewer_of: Option<PackageId>,
    },
    /// Register a gateway, BaseStation or operator, and wait until that is final.
    Register(party::Options),
    /// Show what a transaction says, signed or not.
    Show {
        /// The transaction in hexadecimal; absent: standard input.
        #[arg(long)]
        transaction: Option<String>,
    },
    /// Sign a viewer's acceptance of a package at a gateway, good for five minutes.
    Accept {
        /// The wallet's key file.
        #[arg(long)]
        key: PathBuf,
        /// The package.
        #[arg(long)]
        package: PackageId,
        /// The gateway.
        #[arg(long)]
        gateway: GatewayId,
        /// The chain.
        #[arg(long)]
        chain: ChainId,
    },
    /// Show the viewer key that a wallet has in a package.
    Viewer {
        /// The wallet's key file.
        #[arg(long)]
        key: PathBuf,
        /// The package.
        #[arg(long)]
        package: PackageId,
    },
}

/// Runs a transaction command.
pub(crate) fn run(command: &Command) -> anyhow::Result<()> {
    match command {
        Command::Sign {
            key,
            transaction,
            viewer_of,
        } => {
            let bytes = input(transaction.as_deref())?;
            let transaction =
                Transaction::from_bytes(&bytes).context("this is no unsigned transaction")?;
            let wallet = keys::read(key)?;
            let signed = match viewer_of {
                Some(package) => sign_as_viewer(&wallet, *package, transaction)?,
                None => sign(&wallet, transaction)?,
            };
            output::line(&json!({ "transaction": hex::encode(signed.to_bytes()) }).to_string());
        }
        Command::Register(options) => party::register(options)?,
        Command::Show { transaction } => {
            let bytes = input(transaction.as_deref())?;
            let value = match SignedTransaction::from_bytes(&bytes) {
                Ok(signed) => serde_json::to_value(signed)?,
                Err(_) => serde_json::to_value(
                    Transaction::from_bytes(&bytes).context("this is no transaction")?,
                )?,
            };
            output::line(&serde_json::to_string_pretty(&value)?);
        }
        Command::Accept {
            key,
            package,
            gateway,
            chain,
        } => {
            let pseudonym = Pseudonym::derive(&keys::read(key)?, *package);
            let now = qlink_io::clock::unix_ns();
            let until = TimeMs::new(now / 1_000_000).plus_millis(ACCEPTANCE_VALID_MS);
            let nonce = Hash32::new(*blake3::hash(&now.to_be_bytes()).as_bytes());
            let signed = pseudonym.accept(*gateway, until, nonce, chain);
            output::line(&serde_json::to_string(&signed)?);
        }
        Command::Viewer { key, package } => {
            let viewer = Pseudonym::derive(&keys::read(key)?, *package).viewer();
            output::line(&json!({ "viewer": viewer }).to_string());
        }
    }
    Ok(())
}

fn input(text: Option<&str>) -> anyhow::Result<Vec<u8>> {
    let text = match text {
        Some(text) => text.to_owned(),
        None => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text)?;
            text
        }
    };
    hex::decode(text.trim()).context("the transaction is not hexadecimal")
}

/// Signs with the key of the sender's account.
pub(crate) fn sign(key: &SecretKey, transaction: Transaction) -> anyhow::Result<SignedTransaction> {
    let own = AccountId::from(key.public());
    if let Sender::Account { account } = transaction.sender
        && account != own
    {
        bail!("the transaction is for {account}, the key is that of {own}");
    }
    Ok(transaction.sign(key))
}

fn sign_as_viewer(
    wallet: &SecretKey,
    package: PackageId,
    transaction: Transaction,
) -> anyhow::Result<SignedTransaction> {
    let pseudonym = Pseudonym::derive(wallet, package);
    let own: ViewerKey = pseudonym.viewer();
    match transaction.sender {
        Sender::Viewer { viewer } if viewer == own => Ok(pseudonym.sign_transaction(transaction)),
        _ => bail!("the transaction is not sent by {own}, which this wallet is in {package}"),
    }
}
