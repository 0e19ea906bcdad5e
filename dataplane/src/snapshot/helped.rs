//! Virtual servers of FTP through NAT, and where their data connections are told from other packets.

use weir_config::model::{Protocol, VirtualServer};

use super::{Ends, Snapshot, Target};
use crate::conn::record::ServiceId;

/// FTP's data port, from which servers connect to clients.
pub const FTP_DATA: u16 = 20;
/// No data connection is made to a port below, that one aside: a server has none of its own there.
pub const PORT_MIN: u16 = 1_024;

/// Whether a helper looks after the connections that a virtual server's NAT real servers have.
pub(super) fn is_helped(virtual_server: &VirtualServer) -> bool {
    virtual_server.is_ftp()
}

impl Snapshot {
    /// Whether any virtual server has a helper.
    #[inline]
    pub fn has_helpers(&self) -> bool {
        !self.helped_vips.is_empty()
    }

    /// What a packet that asks for no virtual server may be a data connection's by: to an address of ours that has a virtual server with a
    /// helper. Of IPv6 as of IPv4, by numbers.
    #[cold]
    pub fn data_target(&self, ends: &Ends) -> Option<Target> {
        let &Ends { destination, destination_port: port, protocol, .. } = ends;
        let may_be_data = protocol == Protocol::Tcp.number() && (port >= PORT_MIN || port == FTP_DATA);
        if !may_be_data || !self.helped_vips.contains(&destination) || self.local(destination).is_none() {
            return None;
        }
        let vip = self.vips.own_number(destination)?;
        Some(Target { service: ServiceId::NONE, vip, any_port: false, is_helped: true })
    }
}
