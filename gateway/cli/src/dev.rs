//! `qlink dev`: the local network, empty, staying up, with a guide of copyable commands.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use qlink_types::units::{UNITS_PER_QLC, Units};
use serde_json::json;

use crate::demo::network::{Network, Plan};
use crate::demo::{LossPercent, folder, parse_loss};
use crate::{keys, output, process};

/// Options of `qlink dev`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Keep everything under this folder; default: a temporary one that is removed.
    #[arg(long, value_name = "PATH")]
    dir: Option<PathBuf>,
    /// Decides keys, losses and sequence numbers.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Loss between gateway and viewers, each direction, in per cent (0 to 50).
    #[arg(long, default_value = "0", value_parser = parse_loss)]
    loss: LossPercent,
    /// Print one JSON object instead of the guide.
    #[arg(long)]
    json: bool,
}

/// Runs the network until interrupted.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let (place, _temporary) = folder(options.dir.as_deref())?;
    process::runtime()?.block_on(stay(options, place))
}

async fn stay(options: &Options, place: PathBuf) -> anyhow::Result<()> {
    let mut network = Network::start(&Plan {
        folder: place,
        seed: options.seed,
        loss_ppm: options.loss.0,
        capture: None,
        sessions: 256,
    })
    .await
    .context("the local network did not start")?;
    for name in ["provider", "wallet"] {
        let file = network.plan.folder.join("keys").join(name);
        keys::write(&file, &network.wallets.seed_of(name))?;
        network
            .fund(name, Units::new(1_000 * UNITS_PER_QLC))
            .await?;
    }
    if options.json {
        let pids = network.pids();
        let node = pids.get("node").copied().unwrap_or_default();
        let object = json!({
            "gateway": { "api": network.api_base(), "id": network.parties.gateway },
            "chain": { "nodes": [{ "rpc": network.node.base(), "pid": node.to_string() }] },
            "folder": network.plan.folder,
            "pids": pids
                .iter()
                .map(|(name, pid)| ((*name).to_owned(), json!(pid.to_string())))
                .collect::<serde_json::Map<_, _>>(),
        });
        output::line(&object.to_string());
    } else {
        for text in guide(&network) {
            output::line(&text);
        }
    }
    process::terminated().await;
    network.stop().await;
    Ok(())
}

/// Commands to copy, in the order in which they make sense.
fn guide(network: &Network) -> Vec<String> {
    let api = network.api_base();
    let folder = network.plan.folder.display();
    let provider = network.wallets.account("provider");
    let wallet = network.wallets.account("wallet");
    let gateway = network.parties.gateway;
    let radio = network.addresses.viewers_radio;
    let station = network.socket("basestation").display().to_string();
    let viewers = network.socket("viewers").display().to_string();
    let origin = network.socket("origin").display().to_string();
    let until = crate::demo::now_ms().saturating_add(24 * 60 * 60 * 1000);
    let text = format!(
        r#"Qlink development network: API {api}, console {api}/console, node {node}, folder {folder}
The treasury is development money of this chain only. Stop with Ctrl-C.

# 0. names used below (needs curl, jq, and `qlink` on the path); `final` waits until a transaction is final
final() {{ TX=$(jq -r .transaction); for TRY in $(seq 100); do STATE=$(curl -sS $API/v1/transactions/$TX | jq -c '{{state,status}}'); case $STATE in *final*) break;; esac; sleep 0.1; done; echo "$TX $STATE"; }}
API={api}; KEYS={folder}/keys; PROVIDER={provider}; WALLET={wallet}; GATEWAY={gateway}
head -c 1000000 /dev/urandom > film.bin
CONTENT=$(qlink content hash film.bin | jq -r .content)
SIZE=$(stat -c %s film.bin)

# 1. register the film: upload, quote, sign, submit
curl -sS -T film.bin -H 'content-type: application/octet-stream' $API/v1/contents/$CONTENT/bytes
QUOTE=$(curl -sS $API/v1/contents/quote -H 'content-type: application/json' -d "{{\"account\":\"$PROVIDER\",\"content\":\"$CONTENT\"}}")
echo "$QUOTE" | jq -r .unsigned_transaction | qlink tx sign --key $KEYS/provider | curl -sS $API/v1/contents -H 'content-type: application/json' -d @- | final

# 2. buy a package for ten views, 1 QLC reward
TERMS="{{\"scope\":{{\"kind\":\"contents\",\"contents\":[\"$CONTENT\"]}},\"bytes\":\"$((SIZE*10))\",\"reward\":\"100000000\",\"carriage\":{{\"operator\":\"5000\",\"basestation\":\"3000\",\"gateway\":\"2000\"}},\"valid_from\":\"0\",\"valid_until\":\"{until}\",\"audience\":{{\"kind\":\"open\"}},\"viewer_cap\":\"$SIZE\",\"repeat\":\"charge_user\",\"gateways\":[\"$GATEWAY\"]}}"
QUOTE=$(curl -sS $API/v1/packages/quote -H 'content-type: application/json' -d "{{\"account\":\"$PROVIDER\",\"terms\":$TERMS}}")
PACKAGE=$(echo "$QUOTE" | jq -r .package)
echo "$QUOTE" | jq -r .unsigned_transaction | qlink tx sign --key $KEYS/provider | curl -sS $API/v1/packages -H 'content-type: application/json' -d @- | final

# 3. open a session: the viewer accepts, the BaseStation asks
ACCEPT=$(qlink tx accept --key $KEYS/wallet --package $PACKAGE --gateway $GATEWAY --chain {chain})
OPENED=$(qlink sim call {station} "{{\"op\":\"open\",\"request\":{{\"radio\":\"{radio}\",\"acceptance\":$ACCEPT}}}}")
SESSION=$(echo "$OPENED" | jq -r .session); UE=$(echo "$OPENED" | jq -r .ue_address)

# 4. fetch the film from the simulated origin through GTP-U
qlink sim call {origin} "{{\"op\":\"serve\",\"path\":\"/film\",\"file\":\"$PWD/film.bin\"}}"
qlink sim call {viewers} "{{\"op\":\"add\",\"viewer\":\"$UE\"}}"
qlink sim call {viewers} "{{\"op\":\"fetch\",\"script\":{{\"viewer\":\"$UE\",\"origin\":\"198.18.0.1:80\",\"host\":\"origin\",\"connections\":[{{\"requests\":[{{\"path\":\"/film\"}}]}}]}}}}"

# 5. watch
curl -sS $API/v1/sessions/$SESSION | jq .reasons
curl -sS $API/v1/packages/$PACKAGE/ratio | jq -r .equation
timeout 2 curl -sSN $API/v1/events/stream | head -n 20

# 6. end the session and claim the reward
qlink sim call {station} "{{\"op\":\"close\",\"session\":\"$SESSION\"}}" > /dev/null
for TRY in $(seq 100); do [ "$(curl -sS $API/v1/packages/$PACKAGE | jq -r .used_bytes)" = "$SIZE" ] && break; sleep 0.1; done
VIEWER=$(qlink tx viewer --key $KEYS/wallet --package $PACKAGE | jq -r .viewer)
QUOTE=$(curl -sS $API/v1/claims/quote -H 'content-type: application/json' -d "{{\"package\":\"$PACKAGE\",\"viewer\":\"$VIEWER\",\"to\":\"$WALLET\"}}")
echo "$QUOTE" | jq -r .unsigned_transaction | qlink tx sign --key $KEYS/wallet --viewer-of $PACKAGE | curl -sS $API/v1/claims -H 'content-type: application/json' -d @- | final

# 7. close the package; what is left returns to the provider
QUOTE=$(curl -sS $API/v1/packages/$PACKAGE/close/quote -H 'content-type: application/json' -d "{{\"account\":\"$PROVIDER\"}}")
echo "$QUOTE" | jq -r .unsigned_transaction | qlink tx sign --key $KEYS/provider | curl -sS $API/v1/packages/$PACKAGE/close -H 'content-type: application/json' -d @- | final
for TRY in $(seq 100); do [ "$(curl -sS $API/v1/packages/$PACKAGE | jq -r .state)" = closed ] && break; sleep 0.1; done
curl -sS $API/v1/packages/$PACKAGE | jq -c '{{state,used_bytes,moved,refund}}'
curl -sS $API/v1/accounts/$WALLET | jq -c .
"#,
        node = network.node.base(),
        chain = network.chain,
    );
    text.lines().map(str::to_owned).collect()
}
