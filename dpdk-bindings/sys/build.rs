//! Finds libdpdk with pkg-config, generates the bindings, compiles `csrc/shim.c`.
//!
//! Linking is dynamic and names only the libraries the bindings call. Drivers are not linked: a shared EAL opens
//! every `librte_net_*.so` of its plug-in directory when it starts.

use std::env;
use std::path::PathBuf;
use std::process::Command;

/// First release that has every function used, and the first release nobody has tried.
const OLDEST: &str = "22.11";
const TOO_NEW: &str = "24.12";

const LIBRARIES: [&str; 4] = ["rte_eal", "rte_ethdev", "rte_mbuf", "rte_mempool"];

const FUNCTIONS: [&str; 57] = [
    "rte_version",
    "rte_strerror",
    "rte_eal_init",
    "rte_eal_cleanup",
    "rte_eal_has_hugepages",
    "rte_eal_alarm_set",
    "rte_eal_remote_launch",
    "rte_eal_get_lcore_state",
    "rte_get_main_lcore",
    "rte_get_next_lcore",
    "rte_lcore_to_cpu_id",
    "rte_lcore_to_socket_id",
    "rte_get_tsc_hz",
    "rte_zmalloc_socket",
    "rte_free",
    "rte_mempool_free",
    "rte_mempool_avail_count",
    "rte_pktmbuf_pool_create",
    "rte_pktmbuf_free_bulk",
    "rte_dev_name",
    "rte_eth_find_next_owned_by",
    "rte_eth_dev_get_name_by_port",
    "rte_eth_dev_socket_id",
    "rte_eth_dev_info_get",
    "rte_eth_dev_configure",
    "rte_eth_dev_adjust_nb_rx_tx_desc",
    "rte_eth_rx_queue_setup",
    "rte_eth_tx_queue_setup",
    "rte_eth_dev_start",
    "rte_eth_dev_stop",
    "rte_eth_dev_close",
    "rte_eth_dev_set_mtu",
    "rte_eth_dev_get_mtu",
    "rte_eth_macaddr_get",
    "rte_eth_dev_default_mac_addr_set",
    "rte_eth_dev_mac_addr_add",
    "rte_eth_promiscuous_enable",
    "rte_eth_promiscuous_get",
    "rte_eth_allmulticast_enable",
    "rte_eth_allmulticast_get",
    "rte_eth_dev_rss_hash_conf_get",
    "rte_eth_dev_rss_reta_query",
    "rte_eth_dev_rss_reta_update",
    "rte_eth_stats_get",
    "rte_eth_dev_rx_intr_enable",
    "rte_eth_dev_rx_intr_disable",
    "rte_eth_dev_rx_intr_ctl_q_get_fd",
    "rte_log_cur_msg_loglevel",
    "weir_errno",
    "weir_lcore_id",
    "weir_socket_id_any",
    "weir_rdtsc",
    "weir_prefetch0",
    "weir_mbuf_.*",
    "weir_[rt]x_burst",
    "weir_log_(open|take_streams)",
    "weir_(link_get_nowait|mempool_size|softrss|rx_intr_watch|rx_intr_wait)",
];

/// Types whose members Rust never reads, or whose layout (bit fields, packed unions) bindgen cannot express.
const OPAQUE: [&str; 6] =
    ["rte_mbuf", "rte_mempool", "rte_device", "rte_eth_rxseg.*", "rte_eth_fc_conf", "rte_eth_link"];

fn main() {
    println!("cargo::rerun-if-changed=csrc");
    println!("cargo::rerun-if-changed=build.rs");

    let dpdk = pkg_config::Config::new()
        .cargo_metadata(false)
        .range_version(OLDEST..TOO_NEW)
        .probe("libdpdk")
        .unwrap_or_else(|error| {
            panic!(
                "\n\nlibdpdk {OLDEST} or newer (before {TOO_NEW}) was not found by pkg-config.\n\
                 On Debian and Ubuntu: apt-get install libdpdk-dev pkg-config libclang-dev\n\
                 With a DPDK of your own: set PKG_CONFIG_PATH to the directory that holds libdpdk.pc\n\n{error}\n"
            )
        });
    for path in &dpdk.link_paths {
        println!("cargo::rustc-link-search=native={}", path.display());
    }
    let missing: Vec<_> = LIBRARIES.iter().filter(|name| !dpdk.libs.iter().any(|lib| lib == *name)).collect();
    assert!(missing.is_empty(), "libdpdk.pc does not list {missing:?}: this libdpdk was built without them");

    let flags = c_flags();
    compile_shim(&dpdk, &flags);
    // After the shim, which calls into them: linkers resolve from left to right.
    for library in LIBRARIES {
        println!("cargo::rustc-link-lib=dylib={library}");
    }
    generate_bindings(&dpdk, &flags);
    println!("cargo::metadata=version={}", dpdk.version);
}

/// The flags beside include paths that DPDK's headers want, such as `-march=corei7`.
fn c_flags() -> Vec<String> {
    let pkg_config = env::var("PKG_CONFIG").unwrap_or_else(|_| "pkg-config".into());
    let output = Command::new(&pkg_config)
        .args(["--cflags-only-other", "libdpdk"])
        .output()
        .unwrap_or_else(|error| panic!("cannot run {pkg_config}: {error}"));
    let text = String::from_utf8(output.stdout).expect("pkg-config prints UTF-8");
    let mut words = text.split_whitespace();
    let mut flags = Vec::new();
    while let Some(word) = words.next() {
        match word {
            // wrapper.h includes rte_config.h itself.
            "-include" => drop(words.next()),
            flag => flags.push(flag.to_owned()),
        }
    }
    flags
}

fn compile_shim(dpdk: &pkg_config::Library, flags: &[String]) {
    let mut build = cc::Build::new();
    // DPDK's headers hold shifts and casts that -Wextra dislikes; ours is checked with the rest of -Wall.
    build
        .file("csrc/shim.c")
        .warnings(true)
        .extra_warnings(false)
        .flag_if_supported("-Wno-deprecated-declarations");
    for path in &dpdk.include_paths {
        build.flag("-isystem").flag(path.to_str().expect("include paths are UTF-8"));
    }
    for flag in flags {
        build.flag(flag);
    }
    build.compile("weir_dpdk_shim");
}

fn generate_bindings(dpdk: &pkg_config::Library, flags: &[String]) {
    let mut builder = bindgen::Builder::default()
        .header("csrc/wrapper.h")
        .use_core()
        .generate_comments(false)
        .prepend_enum_name(false)
        .derive_default(true)
        .layout_tests(true)
        .allowlist_var("weir_.*")
        .allowlist_type("rte_eth_rx_mq_mode|rte_lcore_state_t|rte_eth_rss_reta_entry64")
        .blocklist_type("rte_mbuf__bindgen.*")
        .parse_callbacks(Box::new(bindgen::CargoCallbacks::new()))
        .clang_args(dpdk.include_paths.iter().map(|path| format!("-I{}", path.display())))
        .clang_args(flags);
    for function in FUNCTIONS {
        builder = builder.allowlist_function(function);
    }
    for name in OPAQUE {
        builder = builder.opaque_type(name);
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("bindings.rs");
    builder
        .generate()
        .expect("bindgen reads csrc/wrapper.h (libclang-dev installed?)")
        .write_to_file(&out)
        .unwrap_or_else(|error| panic!("cannot write {}: {error}", out.display()));
}
