//! A port, as far as VRRP needs it.

use std::sync::Arc;

use dpdk::port::PortError;
use weir_config::model::MacAddress;
use weir_dataplane::snapshot::virtual_router::Fence;
use weir_vrrp::settings::Mac;

/// See the module.
pub(crate) struct PortEnd {
    /// Its name in the file.
    pub(crate) name: String,
    /// Its Ethernet address.
    pub(crate) mac: MacAddress,
    /// Makes it receive one more Ethernet address: [`dpdk::port::PortFilter::receive_for`].
    pub(crate) receive: Box<dyn Fn(Mac) -> Result<bool, PortError> + Send + Sync>,
    /// Its virtual routers' leases.
    pub(crate) fence: Arc<Fence>,
}
