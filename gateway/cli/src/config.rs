//! Reading configuration files: TOML, unknown keys refused, overridden by the environment.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::{Subcommand, ValueEnum};
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use crate::output::{self, BadConfiguration};

/// Environment variables that override keys: `QLINK__SECTION__KEY`.
const PREFIX: &str = "QLINK__";

/// What can be done with configuration files.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Check a configuration without starting anything.
    Check {
        /// Whose configuration it is.
        component: Component,
        /// The file.
        file: PathBuf,
    },
}

/// Components with a configuration file.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Component {
    /// The node.
    Node,
    /// The gateway.
    Gateway,
    /// The data plane.
    Dataplane,
    /// The BaseStation.
    Basestation,
    /// The simulated operator.
    Opsim,
}

/// Runs a configuration command.
pub(crate) fn run(command: &Command) -> anyhow::Result<()> {
    let Command::Check { component, file } = command;
    match component {
        Component::Node => drop(read::<qlink_chain::NodeConfig>(file)?),
        Component::Gateway => {
            let config: qlink_gateway::GatewayConfig = read(file)?;
            config
                .check()
                .map_err(|error| BadConfiguration(error.into()))?;
        }
        Component::Dataplane => {
            let config: qlink_dataplane::DataplaneConfig = read(file)?;
            config
                .validate()
                .map_err(|error| BadConfiguration(error.into()))?;
        }
        Component::Basestation => {
            let config: qlink_basestation::Config = read(file)?;
            config
                .validate()
                .map_err(|error| BadConfiguration(error.into()))?;
        }
        Component::Opsim => drop(read::<opsim::Config>(file)?),
    }
    output::line("ok");
    Ok(())
}

/// Reads a configuration file.
pub(crate) fn read<T: DeserializeOwned>(file: &Path) -> anyhow::Result<T> {
    parse(file).map_err(|error| BadConfiguration(error).into())
}

fn parse<T: DeserializeOwned>(file: &Path) -> anyhow::Result<T> {
    let text =
        std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let mut table: Table = text
        .parse()
        .with_context(|| format!("{} is not TOML", file.display()))?;
    for (name, value) in std::env::vars() {
        if let Some(path) = name.strip_prefix(PREFIX) {
            override_key(&mut table, path, &value)
                .with_context(|| format!("environment variable {name}"))?;
        }
    }
    table
        .try_into()
        .with_context(|| format!("{} is not a usable configuration", file.display()))
}

/// Sets `SECTION__KEY` (any case) to `value`, read as TOML where it is TOML and as text otherwise.
fn override_key(table: &mut Table, path: &str, value: &str) -> anyhow::Result<()> {
    let mut parts: Vec<String> = path.split("__").map(str::to_lowercase).collect();
    let Some(key) = parts.pop().filter(|key| !key.is_empty()) else {
        bail!("names no key");
    };
    let mut section = table;
    for part in parts {
        let entry = section
            .entry(part.clone())
            .or_insert_with(|| Value::Table(Table::new()));
        section = entry
            .as_table_mut()
            .with_context(|| format!("'{part}' is not a section"))?;
    }
    let parsed = format!("value = {value}").parse::<Table>().ok();
    let parsed = parsed.and_then(|mut table| table.remove("value"));
    section.insert(
        key,
        parsed.unwrap_or_else(|| Value::String(value.to_owned())),
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_overrides_a_key_and_keeps_its_type() {
        let mut table: Table = "a = 1\n[b]\nc = \"x\"".parse().unwrap();

        override_key(&mut table, "A", "2").unwrap();
        override_key(&mut table, "B__C", "127.0.0.1:1").unwrap();

        assert_eq!(table["a"].as_integer(), Some(2));
        assert_eq!(table["b"]["c"].as_str(), Some("127.0.0.1:1"));
        assert!(override_key(&mut table, "A__D", "1").is_err());
    }
}
