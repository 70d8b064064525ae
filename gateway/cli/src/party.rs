//! Registering gateways, BaseStations and operators on a chain, before any of them runs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use qlink_client::ChainClient;
use qlink_client::asset::{AssetKind, AssetRegistration, AssetRegistry as _, AssetState};
use qlink_client::rpc::TransactionAnswer;
use qlink_types::codec::Text;
use qlink_types::ids::{AccountId, Hash32};
use qlink_types::outcome::Status;
use qlink_types::signature::{ChainId, PublicKey, SecretKey};
use qlink_types::transaction::{Party, PartyKind, Sender, Transaction, TxBody, prove_key};
use qlink_types::units::{Nonce, TimeMs, UNITS_PER_QLC, Units};
use serde_json::json;

use crate::{keys, output, process};

/// How long a transaction may take to become final.
const FINAL_WITHIN: Duration = Duration::from_secs(20);

/// What a party is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// A gateway.
    Gateway,
    /// A BaseStation.
    Basestation,
    /// A mobile operator.
    Operator,
}

/// Options of `qlink tx register`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// What is registered.
    kind: Kind,
    /// The node that takes the transaction, for example http://127.0.0.1:7001.
    #[arg(long, value_name = "URL")]
    node: String,
    /// Key file of the owner, who pays the fee.
    #[arg(long, value_name = "FILE")]
    owner: PathBuf,
    /// Key file of the party itself.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Name for people.
    #[arg(long)]
    name: String,
    /// BaseStation only: the local asset registry that it is entered into.
    #[arg(long, value_name = "FILE")]
    assets: Option<PathBuf>,
}

/// Registers a party, waits until that is final and prints its id.
pub(crate) fn register(options: &Options) -> anyhow::Result<()> {
    let (owner, key) = (keys::read(&options.owner)?, keys::read(&options.key)?);
    let account = AccountId::from(owner.public());
    let asset = match (options.kind, &options.assets) {
        (Kind::Basestation, Some(file)) => register_asset(file, key.public(), account)?,
        (_, None) => Hash32::ZERO,
        (_, Some(_)) => bail!("only a BaseStation is an asset: leave --assets out"),
    };
    let kind = match options.kind {
        Kind::Gateway => PartyKind::Gateway,
        Kind::Basestation => PartyKind::BaseStation,
        Kind::Operator => PartyKind::Operator,
    };
    process::runtime()?.block_on(async {
        let node = ChainClient::new(&options.node);
        let chain = node.status().await?.chain_id;
        let nonce = node.account(&account).await?.nonce;
        let body = registration(kind, &key, &chain, &account, asset, &options.name)?;
        let answer = perform(&node, chain, &owner, nonce, body).await?;
        let id = match kind.derive(&account, nonce) {
            Party::Gateway { gateway } => gateway.to_string(),
            Party::BaseStation { basestation } => basestation.to_string(),
            Party::Operator { operator } => operator.to_string(),
        };
        let line = json!({ "id": id, "transaction": answer.id, "asset": asset });
        output::line(&line.to_string());
        Ok(())
    })
}

/// The body of a registration: the party's key proves that it belongs to the owner.
pub(crate) fn registration(
    kind: PartyKind,
    key: &SecretKey,
    chain: &ChainId,
    owner: &AccountId,
    asset: Hash32,
    name: &str,
) -> anyhow::Result<TxBody> {
    Ok(TxBody::RegisterParty {
        party_kind: kind,
        key: key.public(),
        key_proof: prove_key(key, chain, owner),
        asset,
        name: Text::try_from(name)?,
    })
}

/// Enters a BaseStation into a local registry, which stands behind the same trait as NEO's later.
pub(crate) fn register_asset(
    file: &Path,
    identity: PublicKey,
    owner: AccountId,
) -> anyhow::Result<Hash32> {
    let mut registry = qlink_bridge::LocalRegistry::open(file)?;
    let asset = registry.register(&AssetRegistration {
        kind: AssetKind::Basestation,
        identity: Hash32::new(*identity.as_bytes()),
        owner,
        configuration: Hash32::ZERO,
    })?;
    let active = registry.activate(&asset.token)?;
    if active.state != AssetState::Active {
        bail!("the BaseStation's asset did not become active");
    }
    Ok(asset.token)
}

/// Signs and submits a transaction of `key`'s account and waits until it is final and accepted.
pub(crate) async fn perform(
    node: &ChainClient,
    chain: ChainId,
    key: &SecretKey,
    nonce: Nonce,
    body: TxBody,
) -> anyhow::Result<TransactionAnswer> {
    let transaction = Transaction {
        chain,
        sender: Sender::Account {
            account: AccountId::from(key.public()),
        },
        nonce,
        max_fee: Units::new(UNITS_PER_QLC),
        valid_until: TimeMs::ZERO,
        body,
    };
    let signed = transaction.sign(key);
    let answer = node
        .submit_and_wait_final(&signed, FINAL_WITHIN)
        .await
        .context("the node did not take the transaction")?;
    match answer.receipt.as_ref().map(|receipt| receipt.status) {
        Some(Status::Accepted) => Ok(answer),
        other => bail!("a transaction ended as {other:?}"),
    }
}
