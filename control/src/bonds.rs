//! Devices that are one by DPDK's bonding driver, as EAL's arguments say. A member of one is no port: the bond polls its queues, and two
//! must not.

use weir_config::model::Config;

/// Why a port can't be, in a sentence: its device is a member of a bond. `arguments` are EAL's.
pub(crate) fn member_as_port(arguments: &[String], config: &Config) -> Option<String> {
    let port_of = |member: &str| {
        let is_its = |device: &str| without_domain(device) == without_domain(member);
        config.ports.iter().find(|port| is_its(&port.device))
    };
    bonds(arguments).find_map(|bond| {
        let (name, keys) = bond.split_once(',')?;
        let members = keys.split(',').filter_map(|key| key.split_once('='));
        let mut members = members.filter(|(key, _)| matches!(*key, "slave" | "member"));
        members.find_map(|(_, member)| {
            let port = &port_of(member)?.name;
            Some(format!(
                "port {port}: device {member} is a member of {name}, which receives and sends by it: take one of the two out, or write \
                 `device = \"{name}\"`"
            ))
        })
    })
}

/// The arguments of each `--vdev` that is a bond.
fn bonds(arguments: &[String]) -> impl Iterator<Item = &str> {
    let after = arguments.iter().skip(1).map(String::as_str);
    let apart = arguments.iter().zip(after).filter(|(word, _)| *word == "--vdev").map(|(_, value)| value);
    let joined = arguments.iter().filter_map(|word| word.strip_prefix("--vdev="));
    apart.chain(joined).filter(|value| value.starts_with("net_bonding"))
}

/// The PCI address of a device as it may be written in short; other names as they are.
fn without_domain(device: &str) -> &str {
    device.strip_prefix("0000:").unwrap_or(device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_of_a_bond_is_no_port() {
        let text = "[[port]]\nname = \"lan\"\ndevice = \"0000:03:00.1\"\n[[port]]\nname = \"bond\"\ndevice = \"net_bonding0\"\n";
        let config = weir_config::parse("test", text).unwrap_or_else(|report| panic!("{report}")).config;
        let said = |arguments: &[&str]| {
            member_as_port(&arguments.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>(), &config)
        };
        let bond = "net_bonding0,mode=1,slave=0000:03:00.0,slave=03:00.1";
        for arguments in [
            &["-l", "0,1", "--vdev", bond][..],
            &[&format!("--vdev={bond}")],
            &["--vdev", &bond.replace("slave", "member")],
        ] {
            let said = said(arguments).expect("it is one");
            assert!(said.starts_with("port lan: device 03:00.1 is a member of net_bonding0"), "{said}");
        }
        for arguments in [
            &["--vdev", "net_bonding0,mode=1,slave=0000:03:00.0"][..],
            &["--vdev", "net_bonding0"],
            &["--vdev", "net_ring0,slave=0000:03:00.1"],
            &["--vdev"],
            &[],
        ] {
            assert_eq!(said(arguments), None);
        }
    }
}
