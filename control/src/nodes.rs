//! What EAL and drivers need of a NUMA node before weir can ask for anything: some huge pages where the first lcore and
//! each device is. Without them EAL ends the process, or a device is missing, with a message that does not say why; so
//! it is said before EAL starts.

use std::path::Path;

use crate::memory::free_huge_pages;

/// One sentence for each node that lacks what EAL needs there. `arguments` are EAL's, `devices` the ports' in the file;
/// `system` is `/sys`. Nothing is said where no node has free huge pages, which EAL does itself, or with `--no-huge`.
pub(crate) fn bare(arguments: &[String], devices: &[&str], system: &Path) -> Vec<String> {
    let nodes = system.join("devices/system/node");
    let free = free_huge_pages(&nodes);
    let is_bare = |node: u16| free.iter().any(|&(number, octets)| number == node && octets == 0);
    if free.iter().all(|&(_, octets)| octets == 0) || arguments.iter().any(|word| word == "--no-huge") {
        return Vec::new();
    }
    let remedy = |node| format!("reserve a few in {}", nodes.join(format!("node{node}/hugepages")).display());
    let mut sentences = Vec::new();
    if let Some((lcore, node)) =
        first_lcore(arguments).and_then(|lcore| Some((lcore, node_of_cpu(lcore, system)?)))
        && is_bare(node)
    {
        sentences.push(format!(
            "NUMA node {node} has no free hugepages, and lcore {lcore}, the first, is there, for which EAL needs some: {}, \
             or take a first lcore of another node (-l)",
            remedy(node)
        ));
    }
    for device in devices {
        if let Some(node) = node_of_device(device, system).filter(|&node| is_bare(node)) {
            sentences.push(format!(
                "NUMA node {node} has no free hugepages, and device {device} is there, whose driver needs some: {}",
                remedy(node)
            ));
        }
    }
    sentences
}

/// The main lcore by EAL's arguments: the one named so, else the lowest. `None` where they do not say, or say which CPUs
/// an lcore is on (`--lcores`).
fn first_lcore(arguments: &[String]) -> Option<u32> {
    let value = |option: &str| {
        let mut words = arguments.iter();
        let is_long = option.starts_with("--");
        while let Some(word) = words.next() {
            match word.strip_prefix(option) {
                Some("") => return words.next().map(String::as_str),
                Some(rest) if is_long => {
                    if let Some(rest) = rest.strip_prefix('=') {
                        return Some(rest);
                    }
                }
                Some(rest) => return Some(rest),
                None => {}
            }
        }
        None
    };
    if let Some(main) = value("--main-lcore") {
        return main.parse().ok();
    }
    if let Some(list) = value("-l") {
        return list.split([',', '-']).filter_map(|number| number.trim().parse().ok()).min();
    }
    let mask = value("-c")?;
    let mask = u128::from_str_radix(mask.trim_start_matches("0x"), 16).ok()?;
    (mask != 0).then(|| mask.trailing_zeros())
}

fn node_of_cpu(cpu: u32, system: &Path) -> Option<u16> {
    let entries = std::fs::read_dir(system.join(format!("devices/system/cpu/cpu{cpu}"))).ok()?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.into_iter().find_map(|name| name.strip_prefix("node")?.parse().ok())
}

/// Of a PCI device, by its address with or without domain.
fn node_of_device(device: &str, system: &Path) -> Option<u16> {
    let devices = system.join("bus/pci/devices");
    let folder = [device.to_owned(), format!("0000:{device}")].into_iter().map(|name| devices.join(name));
    let text = folder.filter_map(|folder| std::fs::read_to_string(folder.join("numa_node")).ok()).next()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn arguments(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn the_first_lcore_is_the_lowest_or_the_one_named_main() {
        for (line, first) in [
            ("-l 2,3", Some(2)),
            ("-l3,1-2", Some(1)),
            ("-a 0000:81:00.0 -c 0x0c", Some(2)),
            ("-c f0", Some(4)),
            ("-l 2,3 --main-lcore 3", Some(3)),
            ("-l 2,3 --main-lcore=3", Some(3)),
            ("--lcores 0@2,1@3", None),
            ("--log-level 8", None),
            ("-l", None),
            ("-c 0", None),
            ("-l x", None),
        ] {
            assert_eq!(first_lcore(&arguments(line)), first, "{line}");
        }
    }

    /// A `/sys` of two nodes with so many free huge pages, CPUs 0 and 1 on the first, 2 on the second, and a device there.
    fn system(name: &str, free: [u32; 2]) -> std::path::PathBuf {
        let root = std::env::temp_dir().join(format!("weir-bare-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        for (node, free) in free.into_iter().enumerate() {
            let pool = root.join(format!("devices/system/node/node{node}/hugepages/hugepages-2048kB"));
            fs::create_dir_all(&pool).unwrap();
            fs::write(pool.join("free_hugepages"), format!("{free}\n")).unwrap();
        }
        for (cpu, node) in [(0, 0), (1, 0), (2, 1)] {
            fs::create_dir_all(root.join(format!("devices/system/cpu/cpu{cpu}/node{node}"))).unwrap();
        }
        for (device, node) in [("0000:81:00.0", "1\n"), ("0000:00:02.0", "-1\n")] {
            let folder = root.join("bus/pci/devices").join(device);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("numa_node"), node).unwrap();
        }
        root
    }

    #[test]
    fn nodes_without_hugepages_that_are_needed_are_named() {
        let root = system("named", [8, 0]);
        let devices = ["0000:81:00.0", "81:00.0", "0000:00:02.0", "net_af_packet0"];
        let said = bare(&arguments("-l 2"), &devices, &root);
        let quiet = bare(&arguments("-l 0,2"), &devices[2..], &root);
        let without = bare(&arguments("-l 2 --no-huge"), &devices, &root);
        fs::remove_dir_all(&root).unwrap();
        let place = root.join("devices/system/node/node1/hugepages");
        let start = "NUMA node 1 has no free hugepages, and";
        assert_eq!(
            said,
            [
                format!(
                    "{start} lcore 2, the first, is there, for which EAL needs some: reserve a few in {0}, or take a first lcore \
                     of another node (-l)",
                    place.display()
                ),
                format!(
                    "{start} device 0000:81:00.0 is there, whose driver needs some: reserve a few in {}",
                    place.display()
                ),
                format!(
                    "{start} device 81:00.0 is there, whose driver needs some: reserve a few in {}",
                    place.display()
                ),
            ]
        );
        assert!(quiet.is_empty() && without.is_empty(), "{quiet:?} {without:?}");
    }

    #[test]
    fn nothing_is_said_where_no_node_has_any_or_all_have_some() {
        for (name, free) in [("none", [0, 0]), ("some", [1, 1])] {
            let root = system(name, free);
            let said = bare(&arguments("-l 2"), &["0000:81:00.0"], &root);
            fs::remove_dir_all(&root).unwrap();
            assert!(said.is_empty(), "{said:?}");
        }
        assert!(bare(&arguments("-l 2"), &["0000:81:00.0"], Path::new("/nowhere")).is_empty());
    }
}
