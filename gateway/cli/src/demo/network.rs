//! The local network: processes on loopback, parties registered on its chain.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use qlink_client::ChainClient;
use qlink_client::rpc::TransactionAnswer;
use qlink_types::ids::{AccountId, BaseStationId, GatewayId, Hash32, OperatorId};
use qlink_types::signature::{ChainId, SecretKey};
use qlink_types::transaction::{Party, PartyKind, TxBody};
use qlink_types::units::{Nonce, TimeMs, UNITS_PER_QLC, Units};
use serde::Serialize;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use super::places::Addresses;
use super::radio::Control;
use super::wallets::Wallets;
use crate::{keys, party};

/// Inner address of the origin.
pub(crate) const ORIGIN: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);

/// First inner address of subscribers.
const FIRST_UE: Ipv4Addr = Ipv4Addr::new(10, 45, 0, 1);

/// How long a process may take until it is ready.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// How long a process may take to end by itself.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// What a network is to be.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Where it keeps everything.
    pub(crate) folder: PathBuf,
    /// Decides keys, losses and sequence numbers.
    pub(crate) seed: u64,
    /// Loss on the radio link, each direction.
    pub(crate) loss_ppm: u32,
    /// Where captures go.
    pub(crate) capture: Option<PathBuf>,
    /// Subscribers at a time.
    pub(crate) sessions: u32,
}

/// Parties registered on the chain.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parties {
    /// The mobile operator.
    pub(crate) operator: OperatorId,
    /// The gateway.
    pub(crate) gateway: GatewayId,
    /// The BaseStation.
    pub(crate) basestation: BaseStationId,
    /// The BaseStation's asset in the local registry.
    pub(crate) asset: Hash32,
}

struct Process {
    child: Child,
    arguments: Vec<String>,
}

/// A running network.
pub(crate) struct Network {
    /// Its plan.
    pub(crate) plan: Plan,
    /// Its keys.
    pub(crate) wallets: Wallets,
    /// Its addresses.
    pub(crate) addresses: Addresses,
    /// Its node.
    pub(crate) node: ChainClient,
    /// Its chain.
    pub(crate) chain: ChainId,
    /// Its parties.
    pub(crate) parties: Parties,
    processes: BTreeMap<&'static str, Process>,
    gateway_api: String,
    operator: SocketAddr,
}

impl Network {
    /// Starts everything and registers the parties.
    pub(crate) async fn start(plan: &Plan) -> anyhow::Result<Self> {
        for folder in ["logs", "keys", "config", "sockets"] {
            std::fs::create_dir_all(plan.folder.join(folder))?;
        }
        if let Some(folder) = &plan.capture {
            std::fs::create_dir_all(folder)
                .with_context(|| format!("cannot make folder {}", folder.display()))?;
        }
        let wallets = Wallets::new(plan.seed);
        let mut processes = BTreeMap::new();
        let node_config = node_config(plan, wallets)?;
        let address = spawn(plan, &mut processes, "node", &["node"], &node_config, &[]).await?;
        let node = ChainClient::new(&format!("http://{address}"));
        let chain = node.status().await?.chain_id;
        let mut network = Self {
            plan: plan.clone(),
            wallets,
            addresses: Addresses::find()?,
            node,
            chain,
            parties: Parties {
                operator: OperatorId::ZERO,
                gateway: GatewayId::ZERO,
                basestation: BaseStationId::ZERO,
                asset: Hash32::ZERO,
            },
            processes,
            gateway_api: String::new(),
            operator: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        };
        network
            .register_parties()
            .await
            .context("parties could not be registered")?;
        network.start_processes().await?;
        Ok(network)
    }

    /// The REST API's address.
    pub(crate) fn api_base(&self) -> &str {
        &self.gateway_api
    }

    /// The simulated operator's address.
    pub(crate) const fn operator_address(&self) -> SocketAddr {
        self.operator
    }

    /// Process ids by name.
    pub(crate) fn pids(&self) -> BTreeMap<&'static str, u32> {
        let pid = |process: &Process| process.child.id().unwrap_or_default();
        self.processes
            .iter()
            .map(|(name, process)| (*name, pid(process)))
            .collect()
    }

    /// File of the control socket `name`.
    pub(crate) fn socket(&self, name: &str) -> PathBuf {
        self.plan.folder.join("sockets").join(name)
    }

    /// A control connection to the process behind socket `name`.
    pub(crate) async fn control(&self, name: &str) -> anyhow::Result<Control> {
        Control::connect(&self.socket(name)).await
    }

    /// The data plane's counters.
    pub(crate) fn arena(&self) -> PathBuf {
        self.plan.folder.join("dataplane").join("arena")
    }

    /// Kills a process without warning and starts it again.
    pub(crate) async fn kill_and_restart(&mut self, name: &'static str) -> anyhow::Result<()> {
        let Some(mut process) = self.processes.remove(name) else {
            bail!("there is no process {name}");
        };
        process
            .child
            .kill()
            .await
            .with_context(|| format!("{name} could not be killed"))?;
        let (child, _address) = launch(&self.plan, name, &process.arguments).await?;
        self.processes.insert(
            name,
            Process {
                child,
                arguments: process.arguments,
            },
        );
        Ok(())
    }

    /// Ends every process, those that feed others first.
    pub(crate) async fn stop(&mut self) {
        for name in [
            "viewers",
            "origin",
            "basestation",
            "gateway",
            "dataplane",
            "opsim",
            "node",
        ] {
            let Some(mut process) = self.processes.remove(name) else {
                continue;
            };
            if let Some(pid) = process.child.id() {
                let pid = pid.to_string();
                // A process that has ended already needs no signal.
                let _ended = Command::new("kill").args(["-TERM", &pid]).status().await;
            }
            if tokio::time::timeout(STOP_WITHIN, process.child.wait())
                .await
                .is_err()
            {
                tracing::warn!(name, "a process did not end in time and is killed");
                let _ended = process.child.kill().await;
            }
        }
    }

    /// Signs and submits a transaction of `key`'s account and waits until it is final.
    pub(crate) async fn perform(
        &self,
        key: &SecretKey,
        body: TxBody,
    ) -> anyhow::Result<TransactionAnswer> {
        let account = AccountId::from(key.public());
        let nonce = self.node.account(&account).await?.nonce;
        party::perform(&self.node, self.chain, key, nonce, body).await
    }

    /// Pays development units out of the treasury.
    pub(crate) async fn fund(&self, name: &str, units: Units) -> anyhow::Result<()> {
        let to = self.wallets.account(name);
        let key = self.wallets.key("treasury");
        self.perform(&key, TxBody::Transfer { to, amount: units })
            .await?;
        Ok(())
    }

    async fn register_parties(&mut self) -> anyhow::Result<()> {
        let owners = [
            ("operator", PartyKind::Operator),
            ("gateway", PartyKind::Gateway),
            ("basestation", PartyKind::BaseStation),
        ];
        for (name, kind) in owners {
            let owner = format!("{name} owner");
            self.fund(&owner, Units::new(UNITS_PER_QLC)).await?;
            let asset = match kind {
                PartyKind::BaseStation => self.register_asset(&owner)?,
                PartyKind::Gateway | PartyKind::Operator => Hash32::ZERO,
            };
            let owner_key = self.wallets.key(&owner);
            let account = AccountId::from(owner_key.public());
            let key = self.wallets.key(name);
            let body = party::registration(kind, &key, &self.chain, &account, asset, name)?;
            self.perform(&owner_key, body)
                .await
                .with_context(|| format!("registering {name}"))?;
            match kind.derive(&account, Nonce::ZERO) {
                Party::Operator { operator } => self.parties.operator = operator,
                Party::Gateway { gateway } => self.parties.gateway = gateway,
                Party::BaseStation { basestation } => self.parties.basestation = basestation,
            }
            let file = self.plan.folder.join("keys").join(name);
            keys::write(&file, &self.wallets.seed_of(name))?;
        }
        Ok(())
    }

    /// The BaseStation's asset stands in a local registry, behind the same trait as NEO's later.
    fn register_asset(&mut self, owner: &str) -> anyhow::Result<Hash32> {
        let path = self.plan.folder.join("assets.jsonl");
        let identity = self.wallets.key("basestation").public();
        let asset = party::register_asset(&path, identity, self.wallets.account(owner))?;
        self.parties.asset = asset;
        Ok(asset)
    }

    async fn start_processes(&mut self) -> anyhow::Result<()> {
        let plan = self.plan.clone();
        let key_path = plan.folder.join("keys").join("operator-shared");
        keys::write(&key_path, &self.wallets.seed_of("operator shared key"))?;
        let config = self.opsim_config(key_path);
        let address = spawn(
            &plan,
            &mut self.processes,
            "opsim",
            &["opsim"],
            &config,
            &[],
        )
        .await?;
        self.operator = address.parse()?;

        let config = self.dataplane_config()?;
        spawn(
            &plan,
            &mut self.processes,
            "dataplane",
            &["dataplane"],
            &config,
            &[],
        )
        .await?;

        let mut config = self.gateway_config();
        let address = spawn(
            &plan,
            &mut self.processes,
            "gateway",
            &["gateway"],
            &config,
            &[],
        )
        .await?;
        self.gateway_api = format!("http://{address}");
        // A restarted gateway must be found where it was.
        config.listen = address.parse()?;
        write_config(&plan, "gateway", &config)?;

        self.start_access(&plan).await
    }

    /// BaseStation, viewers and origin: everything that meets the gateway from outside.
    async fn start_access(&mut self, plan: &Plan) -> anyhow::Result<()> {
        let tap = plan.capture.as_ref().map(|folder| folder.join("n3.pcapng"));
        let tap = tap
            .map(|file| file.display().to_string())
            .unwrap_or_default();
        let tap = format!("--sim-tap={tap}");
        let config = self.basestation_config();
        let name = ["basestation"];
        spawn(
            plan,
            &mut self.processes,
            "basestation",
            &name,
            &config,
            &[&tap],
        )
        .await?;

        let config = self.origin_config();
        spawn(
            plan,
            &mut self.processes,
            "origin",
            &["sim", "origin"],
            &config,
            &[],
        )
        .await?;
        let config = self.viewers_config()?;
        spawn(
            plan,
            &mut self.processes,
            "viewers",
            &["sim", "viewers"],
            &config,
            &[],
        )
        .await?;
        Ok(())
    }

    fn opsim_config(&self, key_path: PathBuf) -> opsim::Config {
        opsim::Config {
            key_path,
            dir: Some(self.plan.folder.join("opsim")),
            step_ms: 10,
            balance: super::settlement::operator_balance(),
            ..opsim::Config::default()
        }
    }

    fn dataplane_config(&self) -> anyhow::Result<qlink_dataplane::DataplaneConfig> {
        let folder = self.plan.folder.join("dataplane");
        std::fs::create_dir_all(&folder)?;
        Ok(qlink_dataplane::DataplaneConfig {
            n3: self.addresses.n3,
            n6_local: Some(self.addresses.n6),
            n6_peer: Some(self.addresses.origin_n6),
            n6_tun: None,
            pfcp: None,
            udp_offload: qlink_dataplane::UdpOffload::default(),
            own: Vec::new(),
            control_socket: self.socket("dataplane"),
            arena: self.arena(),
            journal: folder.join("control.journal"),
            workers: 1,
            max_sessions: self.plan.sessions.max(64),
            max_flows: self.plan.sessions.max(64).saturating_mul(4),
            max_views: self.plan.sessions.max(64).saturating_mul(2),
            max_contents: 64,
            mtu: None,
            nat: None,
            ipfix: None,
            metrics: None,
            paths: qlink_dataplane::PathsConfig::default(),
            backend: qlink_dataplane::N3Backend::default(),
            xdp: None,
            dpdk: None,
            n3_v6: None,
            packet: None,
            tunnel: None,
        })
    }

    fn gateway_config(&self) -> qlink_gateway::GatewayConfig {
        qlink_gateway::GatewayConfig {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            node: self.node.base().to_owned(),
            dataplane: self.socket("dataplane"),
            directory: self.plan.folder.join("gateway"),
            key_file: self.plan.folder.join("keys").join("gateway"),
            gateway: self.parties.gateway,
            operator: self.parties.operator,
            ue_base: FIRST_UE,
            ue_count: self.plan.sessions.max(64),
            origins: vec![SocketAddr::from((ORIGIN, 80))],
            upload_bytes_max: 4 << 30,
            settle_every_ms: 200,
            tunnel: None,
        }
    }

    fn basestation_config(&self) -> qlink_basestation::Config {
        qlink_basestation::Config {
            chain: self.chain,
            basestation: self.parties.basestation,
            gateway: self.parties.gateway,
            api: self.gateway_api.clone(),
            key_file: self.plan.folder.join("keys").join("basestation"),
            radio: qlink_basestation::Radio::Udp(self.addresses.station_radio),
            n3: Some(self.addresses.station_n3),
            trusted_gateways: vec![self.addresses.n3],
            control: self.socket("basestation"),
            tunnel: None,
            sessions_max: usize::try_from(self.plan.sessions.max(64)).unwrap_or(64),
        }
    }

    fn origin_config(&self) -> qlink_localnet::OriginServiceConfig {
        qlink_localnet::OriginServiceConfig {
            n6: self.addresses.origin_n6,
            gateway: self.addresses.n6,
            control: self.socket("origin"),
            address: ORIGIN,
            port: 80,
            files: BTreeMap::new(),
            capture: self
                .plan
                .capture
                .as_ref()
                .map(|folder| folder.join("n6.pcapng")),
            seed: self.plan.seed,
            mtu: 1400,
            speed: qlink_localnet::STACK_SPEED,
        }
    }

    fn viewers_config(&self) -> anyhow::Result<qlink_localnet::ViewersConfig> {
        Ok(qlink_localnet::ViewersConfig {
            radio: self.addresses.viewers_radio,
            basestation: self.addresses.station_radio,
            control: self.socket("viewers"),
            loss_ppm: qlink_localnet::LossPpm::try_new(self.plan.loss_ppm)?,
            seed: self.plan.seed,
            mtu: 1400,
            window: 128 * 1024,
            speed: qlink_localnet::STACK_SPEED,
        })
    }
}

fn node_config(plan: &Plan, wallets: Wallets) -> anyhow::Result<qlink_chain::NodeConfig> {
    let genesis = qlink_ledger::Genesis::try_new(
        "qlink-local",
        TimeMs::ZERO,
        vec![(
            wallets.account("treasury"),
            Units::new(1_000_000 * UNITS_PER_QLC),
        )],
        qlink_ledger::Params::default(),
    )?;
    let file = plan.folder.join("config").join("genesis.json");
    std::fs::write(&file, serde_json::to_vec_pretty(&genesis)?)?;
    let key_file = plan.folder.join("keys").join("node");
    keys::write(&key_file, &wallets.seed_of("node"))?;
    Ok(qlink_chain::NodeConfig {
        genesis: file,
        data_dir: plan.folder.join("node"),
        seat_key: key_file,
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        ..qlink_chain::NodeConfig::default()
    })
}

fn write_config(plan: &Plan, name: &str, config: &impl Serialize) -> anyhow::Result<PathBuf> {
    let file = plan.folder.join("config").join(format!("{name}.toml"));
    std::fs::write(&file, toml::to_string(config)?)?;
    Ok(file)
}

async fn spawn(
    plan: &Plan,
    processes: &mut BTreeMap<&'static str, Process>,
    name: &'static str,
    command: &[&str],
    config: &impl Serialize,
    more: &[&str],
) -> anyhow::Result<String> {
    let file = write_config(plan, name, config)?;
    let mut arguments: Vec<String> = command.iter().map(|word| (*word).to_owned()).collect();
    arguments.push("--config".to_owned());
    arguments.push(file.display().to_string());
    arguments.extend(more.iter().map(|word| (*word).to_owned()));
    let (child, address) = launch(plan, name, &arguments).await?;
    processes.insert(name, Process { child, arguments });
    Ok(address)
}

/// Starts a process and waits until it says where it listens.
async fn launch(plan: &Plan, name: &str, arguments: &[String]) -> anyhow::Result<(Child, String)> {
    let log_path = plan.folder.join("logs").join(format!("{name}.log"));
    let log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(&log_path)?;
    let mut child = Command::new(std::env::current_exe()?)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("{name} could not be started"))?;
    let out = child.stdout.take().context("no pipe")?;
    let mut lines = BufReader::new(out).lines();
    let first = tokio::time::timeout(READY_WITHIN, lines.next_line()).await;
    let line = match first {
        Ok(Ok(Some(line))) => line,
        Ok(_) => bail!(
            "{name} ended before it was ready: {}",
            last_words(&log_path)
        ),
        Err(_) => bail!("{name} is not ready after {} s", READY_WITHIN.as_secs()),
    };
    // The pipe stays open: a process that writes once more must not die of it.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    let ready: serde_json::Value = serde_json::from_str(&line)?;
    let address = ready
        .get("ready")
        .and_then(serde_json::Value::as_str)
        .unwrap_or_default();
    Ok((child, address.to_owned()))
}

fn last_words(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    text.lines().last().unwrap_or("its log is empty").to_owned()
}
