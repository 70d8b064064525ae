//! Killing processes during the traffic.

use std::time::Duration;

use qlink_localnet::FetchResult;
use tokio::task::JoinHandle;

use super::Options;
use super::network::Network;

/// Kills and restarts what the options say, at instants spread by the seed, while `traffic` runs.
pub(crate) async fn disturb(
    options: &Options,
    network: &mut Network,
    traffic: &JoinHandle<anyhow::Result<Vec<FetchResult>>>,
) -> anyhow::Result<()> {
    let mut victims = vec!["gateway"; usize::try_from(options.kill_gateway)?];
    victims.extend(vec!["dataplane"; usize::try_from(options.kill_dataplane)?]);
    for (index, victim) in victims.into_iter().enumerate() {
        let pause = pause_of(options.seed, index);
        tokio::time::sleep(pause).await;
        if traffic.is_finished() {
            tracing::warn!(index, "the traffic ended before every kill was done");
            return Ok(());
        }
        network.kill_and_restart(victim).await?;
        tracing::info!(victim, index, "killed and restarted");
    }
    Ok(())
}

/// 10 to 137 ms, by the seed.
fn pause_of(seed: u64, index: usize) -> Duration {
    let mut hasher = blake3::Hasher::new_derive_key("qlink demo kill instants");
    hasher.update(&seed.to_be_bytes());
    hasher.update(&index.to_be_bytes());
    let [first, ..] = *hasher.finalize().as_bytes();
    Duration::from_millis(10_u64.saturating_add(u64::from(first) / 2))
}
