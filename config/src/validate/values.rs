//! Strings of the file that stand for something: addresses, names, paths, durations.

mod addresses;
mod durations;
mod names;
mod places;

pub(crate) use addresses::{
    address, address_and_port, family, host, is_anycast, is_everything, is_link_local_v6, network,
    not_a_host, not_a_host_within, prefix, prefix_length, routable_host, station,
};
pub(crate) use durations::{is_in_seconds, seconds};
pub(crate) use names::{device, host_name, interface, is_interface_of_the_kernel, name, pci_address};
pub(crate) use places::{crash_directory, listen, path, proc_directory, socket_path};

/// Types of health checks.
pub(crate) const CHECKS: [&str; 8] = ["tcp", "http", "https", "udp", "dns", "smtp", "ping", "exec"];
