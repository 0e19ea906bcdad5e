//! VRRP in its checked form: instances, sync groups, and what they track and tell.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::health::Account;

/// `[[vrrp]]`
#[derive(Debug, Clone, PartialEq)]
pub struct Vrrp {
    /// Unique.
    pub name: String,
    /// Index into [`super::Config::ports`].
    pub port: usize,
    /// VRID: 1 to 255, unique per port and address family.
    pub virtual_router_id: u8,
    /// Protocol version: 2 or 3.
    pub version: u8,
    /// 1 to 255; 255: address owner.
    pub priority: u8,
    /// Version 2: whole seconds, 1 to 255. Version 3: hundredths, 0.01 to 40.95 s.
    pub advertisement_interval: Duration,
    /// A higher priority takes over from a lower one.
    pub preempt: bool,
    /// From the first advertisement of a lower priority until this router takes over.
    pub preempt_delay: Duration,
    /// For how long it listens at least, from its start and from when its link came, before it becomes master.
    pub startup_delay: Duration,
    /// 00:00:5e:00:01:{VRID} (or -02-) instead of the port's MAC.
    pub virtual_mac: bool,
    /// The virtual addresses: those that are advertised, then those that are not.
    pub addresses: Vec<IpAddr>,
    /// How many of them are not.
    pub excluded: usize,
    /// Where advertisements come from; `None`: where the port's addresses say.
    pub source_address: Option<IpAddr>,
    /// Advertisements go to these instead of the multicast group.
    pub unicast_peers: Vec<IpAddr>,
    /// The least TTL or hop limit of what they send, 0 to 255.
    pub ttl_min: u8,
    /// The largest, not less than [`Vrrp::ttl_min`].
    pub ttl_max: u8,
    /// As master, the addresses themselves answer (ping, and what their host would). Virtual servers are served anyway.
    pub accept: bool,
    /// Instances with the same name here are master together or not at all.
    pub sync_group: Option<String>,
    /// Version 3 over IPv4: sum up the message alone, without a pseudo-header.
    pub v3_checksum_as_v2: bool,
    /// Announcements of the addresses.
    pub garp: VrrpGarp,
    /// What else its right to be master hangs on.
    pub track: Vec<VrrpTrack>,
    /// Programs that are told of its states.
    pub hooks: Arc<VrrpHooks>,
    /// Version 2 only.
    pub authentication: Option<VrrpAuthentication>,
    /// The trailer behind advertisements.
    pub auth_hmac: Option<Arc<VrrpHmac>>,
    /// With an authentication header: where its number is kept over a restart.
    pub sequence_file: Option<PathBuf>,
}

/// `[[vrrp_sync_group]]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VrrpGroup {
    /// What `sync_group` of its members says.
    pub name: String,
    /// Programs that are told of its states.
    pub hooks: Arc<VrrpHooks>,
}

/// Programs that are told of the states of an instance or a sync group; an empty one is none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VrrpHooks {
    /// It became master.
    pub master: Arc<[String]>,
    /// It became backup.
    pub backup: Arc<[String]>,
    /// It is in fault.
    pub fault: Arc<[String]>,
    /// It stopped.
    pub stop: Arc<[String]>,
    /// Any of that; it gets four arguments more.
    pub any: Arc<[String]>,
}

impl VrrpHooks {
    /// All that are there.
    pub fn all(&self) -> impl Iterator<Item = &Arc<[String]>> {
        let Self { master, backup, fault, stop, any } = self;
        [master, backup, fault, stop, any].into_iter().filter(|hook| !hook.is_empty())
    }
}

/// The keys `garp_*` of `[[vrrp]]`: gratuitous ARP, and unsolicited neighbour advertisements of IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VrrpGarp {
    /// From becoming master to the second burst, up to 1000 s; zero: there is none.
    pub master_delay: Duration,
    /// Announcements of each address in a burst, up to 60.
    pub master_repeat: u8,
    /// Between later announcements, up to 86,400 s; zero: there are none.
    pub master_refresh: Duration,
    /// Announcements of each address at each of those, 1 to 60.
    pub master_refresh_repeat: u8,
    /// As `master_delay`, after a master of lower priority was heard.
    pub lower_prio_delay: Duration,
    /// As `master_repeat`, after that.
    pub lower_prio_repeat: u8,
    /// Between two announcements, up to 60 s; zero: none but what a ring needs.
    pub interval: Duration,
}

/// `[[vrrp.track]]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VrrpTrack {
    /// What is looked at.
    pub what: VrrpTracked,
    /// -253 to 253, not 0. `None`: while it is down the instance must not be master.
    pub weight: Option<i16>,
}

/// What an instance of VRRP tracks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VrrpTracked {
    /// The link of [`super::Config::ports`] at this index.
    Port(usize),
    /// Whether the virtual server of this name has a usable real server.
    VirtualServer(String),
    /// The number in a file.
    File(PathBuf),
    /// Whether a program ends with status 0.
    Script(Arc<VrrpScript>),
    /// Whether so many processes of a name run, zombies not counted.
    Process {
        /// Its name, as `ps -e` shows it.
        name: String,
        /// At least 1.
        quorum: u32,
    },
}

/// `script` of `[[vrrp.track]]` with what belongs to it. Equal ones are run once, however many instances have them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VrrpScript {
    /// Unique among those that are not equal. What logs and metrics call it: its arguments may be secrets.
    pub name: String,
    /// The program, by its absolute path, and its arguments. No shell is involved.
    pub command: Vec<String>,
    /// From the start of one run to the start of the next.
    pub interval: Duration,
    /// How long a run may take.
    pub timeout: Duration,
    /// Successes in a row that make it up after it was down: at least 1.
    pub rise: u32,
    /// Failures in a row that make it down after it was up: at least 1.
    pub fall: u32,
    /// It is down until it has succeeded `rise` times, instead of not being known until its first run.
    pub init_fail: bool,
    /// The user that it runs as instead of [`super::health::Health::script_user`].
    pub user: Option<String>,
    /// The group; `None`: that user's own.
    pub group: Option<String>,
    /// The numbers of both, once they were looked up.
    pub account: Option<Account>,
}

/// `[vrrp.auth_hmac]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VrrpHmac {
    /// What is done without it.
    pub mode: VrrpHmacMode,
    /// Those that are believed, at least one, each with an id of its own.
    pub keys: Vec<VrrpHmacKey>,
    /// The id of the one that is sent.
    pub active_key: u8,
    /// How far the clocks of senders may be from ours; `None`: numbers only have to grow.
    pub time_window: Option<Duration>,
}

/// What becomes of advertisements without a trailer, and whether ours have one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VrrpHmacMode {
    /// Ours have none, others' need none.
    ReceiveOnly,
    /// Ours have one, others' need none.
    Permissive,
    /// All have one.
    Enforce,
}

impl VrrpHmacMode {
    /// Its word in the file.
    pub fn name(self) -> &'static str {
        match self {
            VrrpHmacMode::ReceiveOnly => "receive-only",
            VrrpHmacMode::Permissive => "permissive",
            VrrpHmacMode::Enforce => "enforce",
        }
    }
}

/// A key of `[vrrp.auth_hmac]`.
#[derive(Clone, PartialEq, Eq)]
pub struct VrrpHmacKey {
    /// 1 to 255.
    pub id: u8,
    /// 32 to 64 bytes.
    pub secret: Vec<u8>,
}

impl std::fmt::Debug for VrrpHmacKey {
    // A secret has no business in a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "VrrpHmacKey({}, ..)", self.id)
    }
}

/// `[vrrp.authentication]`
#[derive(Clone, PartialEq, Eq)]
pub enum VrrpAuthentication {
    /// Simple text password of 1 to 8 bytes.
    Pass(String),
    /// IP authentication header with HMAC-MD5, password of 1 to 8 bytes (RFC 2338 section 5.3.6).
    Ah(String),
}

impl std::fmt::Debug for VrrpAuthentication {
    // A password has no business in a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            VrrpAuthentication::Pass(_) => "Pass(..)",
            VrrpAuthentication::Ah(_) => "Ah(..)",
        })
    }
}
