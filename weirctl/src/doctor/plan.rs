//! What weir is to do, as far as it says what the machine must be like: of the tables in force, or of the file.

use std::path::Path;

use serde_json::Value;
use weir_api::edits::Desired;
use weir_config::model::{Config, Forwarding};

/// A port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Port {
    /// Its name in the file.
    pub(super) name: String,
    /// DPDK's name of its device.
    pub(super) device: String,
    pub(super) mtu: u64,
    pub(super) has_host_interface: bool,
    /// It is a VLAN of a device that another port is.
    pub(super) is_vlan: bool,
}

impl Port {
    /// Its address on the PCI bus, if it has one.
    pub(super) fn pci(&self) -> Option<String> {
        let full = if self.device.matches(':').count() == 1 {
            format!("0000:{}", self.device)
        } else {
            self.device.clone()
        };
        let parts: Vec<&str> = full.split([':', '.']).collect();
        let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
        let is_hex = parts.iter().all(|part| part.bytes().all(|it| it.is_ascii_hexdigit()));
        (is_hex && lengths == [4, 2, 2, 1]).then_some(full)
    }
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) ports: Vec<Port>,
    /// Whether some real server is reached through a tunnel.
    pub(super) has_tunnels: bool,
    /// Connections of each worker.
    pub(super) capacity: u64,
}

impl Plan {
    /// Of a file; what is wrong with it otherwise, in one line.
    pub(super) fn of_file(path: &Path) -> Result<Self, String> {
        match weir_config::load(path) {
            Ok(loaded) => Ok(Self::of(&loaded.config)),
            Err(report) => {
                let text = report.render(false);
                Err(text
                    .lines()
                    .next()
                    .unwrap_or("it is not accepted")
                    .trim_start_matches("error: ")
                    .to_owned())
            }
        }
    }

    fn of(config: &Config) -> Self {
        let port = |port: &weir_config::model::Port| Port {
            name: port.name.clone(),
            device: port.device.clone(),
            mtu: port.mtu.into(),
            has_host_interface: port.host_interface.is_some(),
            is_vlan: port.vlan.is_some(),
        };
        let mut servers = config.virtual_servers.iter().flat_map(|it| &it.real_servers);
        Self {
            ports: config.ports.iter().map(port).collect(),
            has_tunnels: servers.any(|it| it.forwarding == Forwarding::Tun),
            capacity: config.connections.capacity.into(),
        }
    }

    /// Of what is in force.
    pub(super) fn of_tables(desired: &Desired) -> Self {
        let list =
            |name: &str| desired.tables.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
        let text = |table: &Value, key: &str| table[key].as_str().map(str::to_owned);
        let ports = list("port");
        let mtu_of = |table: &Value| {
            let is_its = |it: &&Value| it.get("vlan").is_none() && it["device"] == table["device"];
            let device = || ports.iter().find(is_its).and_then(|it| it["mtu"].as_u64());
            table["mtu"].as_u64().or_else(device).unwrap_or(1500)
        };
        let port = |table: &Value| Port {
            name: text(table, "name").unwrap_or_default(),
            device: text(table, "device").unwrap_or_default(),
            mtu: mtu_of(table),
            has_host_interface: table.get("host_interface").is_some(),
            is_vlan: table.get("vlan").is_some(),
        };
        let is_tunnelled = |service: &Value| {
            let of_all = text(service, "forwarding");
            let servers = service["real_server"].as_array().cloned().unwrap_or_default();
            servers.iter().any(|it| text(it, "forwarding").or(of_all.clone()).as_deref() == Some("tun"))
        };
        let services = list("virtual_server");
        let capacity = desired.tables.get("connections").and_then(|it| it["capacity"].as_u64());
        Self {
            ports: ports.iter().map(port).collect(),
            has_tunnels: services.iter().any(is_tunnelled),
            capacity: capacity.unwrap_or(1_048_576),
        }
    }
}
