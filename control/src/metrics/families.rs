//! The table of metrics: name, type, labels, meaning, and which figures of a [`Reading`] are its samples.
//!
//! Names and labels are a contract: add, never rename. `docs/metrics.md` says the same in more words, and a test
//! compares the two. Values are 64-bit floats in Prometheus, so counters are exact up to 2^53; beyond that, 9 PB or
//! 9 * 10^15 packets, steps of 2 and more appear, which rates do not notice.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering::Relaxed;

use dpdk::port::PortStats;
use prometheus::core::Desc;
use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};
use weir_dataplane::snapshot::server::Openings;
use weir_dataplane::stats::passes::BOUNDS_MICROS;
use weir_health::judge::{Outcome, ServerListing};
use weir_vrrp::discard::Discard;

use super::reading::{
    HostReading, PortReading, Reading, RealServerReading, Times, VirtualServerReading, WorkerReading,
};
use crate::reload_status::unix_seconds;
use crate::vrrp::status::InstanceStatus;

/// One metric family.
pub(crate) struct Family {
    /// Its name.
    pub(crate) name: &'static str,
    /// `COUNTER`, `GAUGE` or `HISTOGRAM`.
    pub(crate) kind: MetricType,
    /// Names of its labels, in order.
    pub(crate) labels: &'static [&'static str],
    /// One sentence.
    pub(crate) help: &'static str,
    samples: fn(&Reading, &mut Samples),
}

/// What a family's function adds its samples to.
struct Samples {
    kind: MetricType,
    labels: &'static [&'static str],
    metrics: Vec<Metric>,
}

impl Samples {
    /// One sample; `values` are those of the labels, in order.
    fn add(&mut self, values: &[&str], value: f64) {
        let mut metric = self.labelled(values);
        if self.kind == MetricType::GAUGE {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        } else {
            let mut counter = Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        }
        self.metrics.push(metric);
    }

    fn labelled(&self, values: &[&str]) -> Metric {
        debug_assert_eq!(values.len(), self.labels.len());
        let pair = |(name, value): (&&str, &&str)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value((*value).to_owned());
            pair
        };
        Metric::from_label(self.labels.iter().zip(values).map(pair).collect())
    }

    /// The histogram of a worker's passes.
    fn passes(&mut self, values: &[&str], worker: &WorkerReading, cycles_per_second: u64) {
        let mut histogram = Histogram::default();
        histogram.set_sample_count(worker.passes);
        histogram.set_sample_sum(worker.cycles() as f64 / cycles_per_second as f64);
        let bucket = |(micros, within): (&u64, u64)| {
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(*micros as f64 / 1e6);
            bucket.set_cumulative_count(within);
            bucket
        };
        histogram.set_bucket(BOUNDS_MICROS.iter().zip(worker.passes_within).map(bucket).collect());
        let mut metric = self.labelled(values);
        metric.set_histogram(histogram);
        self.metrics.push(metric);
    }

    /// One histogram; `values` are those of the labels, in order.
    fn times(&mut self, times: &Times) {
        let mut histogram = Histogram::default();
        histogram.set_sample_count(times.count);
        histogram.set_sample_sum(times.sum);
        let buckets = times.within.iter().map(|(limit, count)| {
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(*limit);
            bucket.set_cumulative_count(*count);
            bucket
        });
        histogram.set_bucket(buckets.collect());
        let mut metric = Metric::default();
        metric.set_histogram(histogram);
        self.metrics.push(metric);
    }

    /// One sample without labels, if there is a figure.
    fn known(&mut self, figure: Option<u64>) {
        if let Some(figure) = figure {
            self.count(&[], figure);
        }
    }

    /// As [`Samples::add`], for whole numbers.
    fn count(&mut self, values: &[&str], count: u64) {
        self.add(values, count as f64);
    }
}

impl Family {
    /// For a [`prometheus::Registry`].
    pub(crate) fn describe(&self) -> prometheus::Result<Desc> {
        let labels = self.labels.iter().map(|label| (*label).to_owned()).collect();
        Desc::new(self.name.to_owned(), self.help.to_owned(), labels, HashMap::new())
    }

    /// Its samples; there may be none.
    pub(crate) fn collect(&self, reading: &Reading) -> MetricFamily {
        let mut samples = Samples { kind: self.kind, labels: self.labels, metrics: Vec::new() };
        (self.samples)(reading, &mut samples);
        let mut family = MetricFamily::default();
        family.set_name(self.name.to_owned());
        family.set_help(self.help.to_owned());
        family.set_field_type(self.kind);
        family.set_metric(samples.metrics);
        family
    }
}

fn each_port(reading: &Reading, samples: &mut Samples, figure: fn(&PortReading) -> u64) {
    for port in &reading.ports {
        samples.count(&[&port.name], figure(port));
    }
}

/// Nothing for a port without host interface.
fn each_host(reading: &Reading, samples: &mut Samples, figure: fn(&HostReading) -> u64) {
    for port in &reading.ports {
        if let Some(host) = &port.host {
            samples.count(&[&port.name], figure(host));
        }
    }
}

/// Nothing for a device that keeps no counters.
fn each_device(reading: &Reading, samples: &mut Samples, figure: fn(&PortStats) -> u64) {
    for port in &reading.ports {
        if let Some(stats) = &port.device {
            samples.count(&[&port.name], figure(stats));
        }
    }
}

fn each_virtual_server(reading: &Reading, samples: &mut Samples, figure: fn(&VirtualServerReading) -> u64) {
    for virtual_server in &reading.virtual_servers {
        samples.count(&[&virtual_server.name], figure(virtual_server));
    }
}

fn each_instance(reading: &Reading, samples: &mut Samples, figure: fn(&InstanceStatus) -> f64) {
    for instance in &reading.vrrp.instances {
        samples.add(&[&instance.instance], figure(instance));
    }
}

/// With the label `direction`; the figures are those of `in` and `out`.
fn both_ways(reading: &Reading, samples: &mut Samples, figures: fn(&VirtualServerReading) -> (u64, u64)) {
    for virtual_server in &reading.virtual_servers {
        let (to_server, to_client) = figures(virtual_server);
        samples.count(&[&virtual_server.name, "in"], to_server);
        samples.count(&[&virtual_server.name, "out"], to_client);
    }
}

fn each_real_server(reading: &Reading, samples: &mut Samples, figure: fn(&RealServerReading) -> u64) {
    for virtual_server in &reading.virtual_servers {
        for real_server in &virtual_server.real_servers {
            samples.count(&[&virtual_server.name, &real_server.socket], figure(real_server));
        }
    }
}

/// As [`both_ways`], for real servers.
fn both_ways_real(reading: &Reading, samples: &mut Samples, figures: fn(&RealServerReading) -> (u64, u64)) {
    for virtual_server in &reading.virtual_servers {
        for real_server in &virtual_server.real_servers {
            let (to_server, to_client) = figures(real_server);
            samples.count(&[&virtual_server.name, &real_server.socket, "in"], to_server);
            samples.count(&[&virtual_server.name, &real_server.socket, "out"], to_client);
        }
    }
}

fn each_checked_server(reading: &Reading, samples: &mut Samples, figure: fn(&ServerListing) -> f64) {
    for service in &reading.health.services {
        for server in &service.servers {
            samples.add(&[&service.name, &server.server.to_string()], figure(server));
        }
    }
}

/// Real servers behind NAT.
fn each_opening(reading: &Reading, samples: &mut Samples, add: fn(&mut Samples, &[&str; 2], &Openings)) {
    for virtual_server in &reading.virtual_servers {
        for real_server in &virtual_server.real_servers {
            if let Some(openings) = &real_server.openings {
                add(samples, &[&virtual_server.name, &real_server.socket], openings);
            }
        }
    }
}

/// Those of the file, and those that serve without being checked: sorry servers.
fn up(reading: &Reading, samples: &mut Samples) {
    each_checked_server(reading, samples, |server| f64::from(u8::from(server.is_up)));
    let listed: HashMap<&str, HashSet<String>> = reading
        .health
        .services
        .iter()
        .map(|it| (it.name.as_str(), it.servers.iter().map(|server| server.server.to_string()).collect()))
        .collect();
    for virtual_server in &reading.virtual_servers {
        let known = listed.get(virtual_server.name.as_str());
        for real_server in &virtual_server.real_servers {
            if !known.is_some_and(|known| known.contains(&real_server.socket)) {
                samples.count(&[&virtual_server.name, &real_server.socket], 1);
            }
        }
    }
}

/// Successes always, of the other results those that there were.
fn check_results(reading: &Reading, samples: &mut Samples) {
    for service in &reading.health.services {
        for server in service.servers.iter().filter(|server| !server.checks.is_empty()) {
            let socket = server.server.to_string();
            for outcome in Outcome::ALL {
                let count: u64 = server.checks.iter().map(|check| check.counts[outcome as usize]).sum();
                if count != 0 || outcome == Outcome::Success {
                    samples.count(&[&service.name, &socket, outcome.label()], count);
                }
            }
        }
    }
}

macro_rules! families {
    ($($kind:ident $name:literal [$($label:literal),*] $help:literal $samples:expr;)*) => {
        /// Every family, in the order of the page.
        pub(crate) const FAMILIES: &[Family] = &[$(Family {
            name: $name,
            kind: MetricType::$kind,
            labels: &[$($label),*],
            help: $help,
            samples: $samples,
        },)*];
    };
}

families! {
    GAUGE "weir_build_info" ["version", "dpdk"] "Always 1; the labels are the versions of weir and DPDK."
        |it, to| to.count(&[it.version, &it.dpdk_version], 1);
    GAUGE "weir_start_time_seconds" [] "When weir was started, in seconds since 1970."
        |it, to| to.add(&[], unix_seconds(it.started));
    GAUGE "weir_config_generation" [] "Number of the configuration in force: 1 at the start, one more with each change."
        |it, to| to.count(&[], it.generation);
    GAUGE "weir_config_last_reload_successful" [] "1 if the last attempt to load the configuration succeeded, else 0."
        |it, to| to.count(&[], u64::from(it.reload_successful));
    GAUGE "weir_config_last_reload_timestamp_seconds" [] "When the last attempt to load the configuration was made, in seconds since 1970."
        |it, to| to.add(&[], it.reload_at);
    GAUGE "weir_config_reload_seconds" [] "For how long a reload has been under way; 0 when none is."
        |it, to| to.add(&[], it.reload_lasts);
    COUNTER "weir_config_reloads_refused_total" ["by"] "Reloads after which the former configuration stayed in force, by who refused the file."
        |it, to| for (by, count) in &it.reloads_refused {
            to.count(&[by.label()], *count);
        };
    COUNTER "weir_edits_total" ["result"] "Requests for edits: made, or refused as a whole."
        |it, to| for (result, count) in ["made", "refused"].iter().zip(it.edits.0) {
            to.count(&[result], count);
        };
    GAUGE "weir_edit_search_seconds" [] "For how long a program or file that an edit names has been looked for; 0 when none is."
        |it, to| to.add(&[], it.search_lasts);
    GAUGE "weir_edited_objects" [] "What was edited since the file was read: the next reload drops it unless it is told to keep it."
        |it, to| to.count(&[], it.edits.1);
    COUNTER "weir_http_refused_total" ["reason"] "Requests that the HTTP listener refused for who asked, by reason."
        |it, to| for (why, count) in &it.http_refused {
            to.count(&[why.label()], *count);
        };
    COUNTER "weir_http_handshakes_total" ["result"] "TLS handshakes at the HTTP listener, by how they ended."
        |it, to| for (how, count) in &it.http_handshakes {
            to.count(&[how.label()], *count);
        };
    GAUGE "weir_http_certificate_expiry_timestamp_seconds" [] "When the HTTP listener's certificate, or one that goes along with it, expires, in seconds since 1970; absent without TLS."
        |it, to| if let (Some(ends), _) = it.http_certificate {
            to.count(&[], ends);
        };
    GAUGE "weir_connections_kept" [] "1 if somebody keeps the connection tables for the next process, else 0."
        |it, to| to.count(&[], u64::from(it.kept.as_ref().is_some_and(|kept| kept.is_kept.load(Relaxed))));
    GAUGE "weir_connections_adopted" ["result"] "Connections of the process before: adopted, or lost, as far as they were looked at; absent if nobody is to keep connections."
        |it, to| if let Some(kept) = &it.kept {
            let [found, adopted] = kept.figures();
            to.count(&["adopted"], adopted);
            to.count(&["lost"], found.saturating_sub(adopted));
        };
    GAUGE "weir_connections_adoption_seconds" [] "How long it took at the start, before the first packet, to take over connections, or to find that there are none; absent if nobody is to keep connections."
        |it, to| if let Some(kept) = &it.kept {
            to.add(&[], kept.seconds);
        };
    GAUGE "weir_announced_routes" ["state"] "Routes that [[announce]] may have the kernel have, by state: serving and draining are there, withdrawn are not, failed are not as they are to be."
        |it, to| {
            let routes = it.announce.routes;
            to.count(&["serving"], routes.serving);
            to.count(&["draining"], routes.draining);
            to.count(&["withdrawn"], routes.withdrawn);
            to.count(&["failed"], routes.failed);
        };
    COUNTER "weir_announce_changes_total" ["change"] "Routes that were announced, withdrawn, and restored because somebody else had removed them."
        |it, to| for (change, count) in ["announced", "withdrawn", "restored"].iter().zip(it.announce.changes) {
            to.count(&[change], count);
        };
    COUNTER "weir_announce_failures_total" [] "What the kernel refused of announced routes and their device. It is asked again each second."
        |it, to| to.count(&[], it.announce.failures);
    GAUGE "weir_proc_directory_seconds" [] "For how long the write of the files in proc_directory has been under way; 0 when none is."
        |it, to| to.add(&[], it.proc_lasts);

    GAUGE "process_start_time_seconds" [] "As weir_start_time_seconds."
        |it, to| to.add(&[], unix_seconds(it.started));
    COUNTER "process_cpu_seconds_total" [] "CPU time of all of weir's threads. A worker that polls takes a second of it each second."
        |it, to| to.add(&[], it.process.cpu_seconds);
    GAUGE "process_resident_memory_bytes" [] "Memory in pages of the usual size; hugepages, which tables and packet buffers are in, do not count."
        |it, to| to.known(it.process.resident_bytes);
    GAUGE "process_virtual_memory_bytes" [] "Addresses that weir has taken, with or without memory behind them."
        |it, to| to.known(it.process.virtual_bytes);
    GAUGE "process_threads" [] "Threads of weir's."
        |it, to| to.known(it.process.threads);
    GAUGE "process_open_fds" [] "Open file descriptors."
        |it, to| to.known(it.process.open_files);
    GAUGE "process_max_fds" [] "As many as may be open; absent without a limit."
        |it, to| to.known(it.process.files_max);

    GAUGE "weir_port_up" ["port"] "1 if the port's link is up, else 0; absent if the device does not say."
        |it, to| for port in &it.ports {
            if let Some(up) = port.link_up {
                to.count(&[&port.name], u64::from(up));
            }
        };
    COUNTER "weir_port_receive_packets_total" ["port"] "Frames that workers received from the port."
        |it, to| each_port(it, to, |port| port.receive_packets);
    COUNTER "weir_port_receive_bytes_total" ["port"] "Bytes of the frames that workers received from the port, FCS aside."
        |it, to| each_port(it, to, |port| port.receive_bytes);
    COUNTER "weir_port_transmit_packets_total" ["port"] "Frames that the port's device took for sending."
        |it, to| each_port(it, to, |port| port.transmit_packets);
    COUNTER "weir_port_transmit_bytes_total" ["port"] "Bytes of the frames that the port's device took for sending, FCS aside."
        |it, to| each_port(it, to, |port| port.transmit_bytes);
    COUNTER "weir_port_receive_missed_total" ["port"] "Frames that the device lost because a receive queue was full: workers are too slow."
        |it, to| each_device(it, to, |stats| stats.imissed);
    COUNTER "weir_port_receive_errors_total" ["port"] "Frames that the device refused, such as those with a wrong FCS."
        |it, to| each_device(it, to, |stats| stats.ierrors);
    COUNTER "weir_port_receive_no_buffer_total" ["port"] "Frames that the device lost because no packet buffer was free."
        |it, to| each_device(it, to, |stats| stats.rx_nombuf);
    COUNTER "weir_port_transmit_errors_total" ["port"] "Frames that the device took and could not send."
        |it, to| each_device(it, to, |stats| stats.oerrors);

    COUNTER "weir_forwarded_packets_total" [] "Packets sent towards a real server or a client."
        |it, to| to.count(&[], it.forwarded);
    COUNTER "weir_untracked_packets_total" [] "Packets forwarded without a connection record because the table was full, or because 64 connections of the same client's port were in it."
        |it, to| to.count(&[], it.untracked);
    COUNTER "weir_templates_full_total" [] "New connections of persistent virtual servers that got no template because the table was full."
        |it, to| to.count(&[], it.templates_full);
    COUNTER "weir_mss_clamped_total" [] "SYNs whose largest segment was lowered, by `clamp_mss` of their virtual server."
        |it, to| to.count(&[], it.clamped);
    COUNTER "weir_ipv6_clients_full_total" [] "Packets of IPv6 that were forwarded without a connection record because there was no room for another client."
        |it, to| to.count(&[], it.ipv6_clients_full);
    COUNTER "weir_worker_messages_lost_total" [] "Messages between workers that were lost because the receiver had too many to read: what a packet of its connection did elsewhere, or a neighbour's MAC."
        |it, to| to.count(&[], it.messages_lost);
    COUNTER "weir_answers_total" ["kind"] "Frames that weir answered by itself."
        |it, to| it.answers.iter().for_each(|(answer, count)| to.count(&[answer.label()], *count));
    GAUGE "weir_sync_listening" [] "1 if what other directors tell of connections is heard ([sync]), else 0."
        |it, to| to.count(&[], u64::from(it.sync_listening));
    COUNTER "weir_sync_datagrams_total" [] "Datagrams in which other directors tell of connections."
        |it, to| to.count(&[], it.sync_datagrams);
    COUNTER "weir_sync_taken_total" ["kind"] "Connections and templates that other directors have told of, each as often as it was told."
        |it, to| it.sync_taken.iter().for_each(|(kind, count)| to.count(&[kind.label()], *count));
    COUNTER "weir_sync_refused_total" ["reason"] "Datagrams, and what was told in them, that were not taken, by reason."
        |it, to| it.sync_refused.iter().for_each(|(reason, count)| to.count(&[reason.label()], *count));
    GAUGE "weir_foretold_connections" [] "Connections that another director has told of, and none of whose client's packets has come yet."
        |it, to| to.count(&[], it.foretold);
    COUNTER "weir_foretold_taken_total" [] "Connections that another director has told of and that went on here."
        |it, to| to.count(&[], it.foretold_taken);
    COUNTER "weir_ftp_total" ["event"] "What was found on control connections of FTP through NAT."
        |it, to| it.helped.iter().for_each(|(what, count)| to.count(&[what.label()], *count));
    COUNTER "weir_absorbed_packets_total" [] "Frames taken in without an answer, such as ARP replies to weir."
        |it, to| to.count(&[], it.absorbed);
    COUNTER "weir_punted_packets_total" ["class"] "Frames handed over to control, by what they were taken for."
        |it, to| it.punts.iter().for_each(|(class, count, _)| to.count(&[class.label()], *count));
    COUNTER "weir_punt_drops_total" ["class"] "Frames for control that were dropped, over the class's limit in rate or with its ring full; of weir_drops_total."
        |it, to| it.punts.iter().for_each(|(class, _, lost)| to.count(&[class.label()], *lost));
    COUNTER "weir_injected_packets_total" ["owner"] "Frames that control made and a worker sent."
        |it, to| it.injected.iter().for_each(|(owner, count)| to.count(&[owner.label()], *count));
    COUNTER "weir_host_receive_packets_total" ["port"] "Frames that the kernel received through the port's host interface."
        |it, to| each_host(it, to, |host| host.receive_packets);
    COUNTER "weir_host_receive_bytes_total" ["port"] "Bytes of the frames that the kernel received through the port's host interface, FCS aside."
        |it, to| each_host(it, to, |host| host.receive_bytes);
    COUNTER "weir_host_transmit_packets_total" ["port"] "Frames that the kernel sent through the port's host interface."
        |it, to| each_host(it, to, |host| host.transmit_packets);
    COUNTER "weir_host_transmit_bytes_total" ["port"] "Bytes of the frames that the kernel sent through the port's host interface, FCS aside."
        |it, to| each_host(it, to, |host| host.transmit_bytes);
    COUNTER "weir_host_drops_total" ["port", "reason"] "Frames lost between the port and its host interface, the limits and rings of workers aside."
        |it, to| for port in &it.ports {
            for (reason, count) in port.host.iter().flat_map(|host| &host.drops) {
                to.count(&[&port.name, reason.label()], *count);
            }
        };
    COUNTER "weir_drops_total" ["reason"] "Frames that went nowhere."
        |it, to| it.drops.iter().for_each(|(reason, count)| to.count(&[reason.label()], *count));

    COUNTER "weir_captured_frames_total" [] "Frames copied for a capture (`weirctl capture`)."
        |it, to| to.count(&[], it.captured);
    COUNTER "weir_capture_lost_frames_total" [] "Frames that a capture wanted and lost: its ring was full."
        |it, to| to.count(&[], it.capture_lost);

    GAUGE "weir_neighbor_waiting_packets" [] "Packets that wait for their next hop's ARP answer."
        |it, to| to.count(&[], it.waiting);
    GAUGE "weir_fragments_waiting_packets" [] "Pieces of packets that wait for the first piece of theirs."
        |it, to| to.count(&[], it.pieces_waiting);
    COUNTER "weir_fragments_full_total" [] "Packets in pieces that were forgotten for newer ones while pieces of theirs might still come."
        |it, to| to.count(&[], it.pieces_full);
    COUNTER "weir_fragments_incomplete_total" [] "Packets in pieces that were sent on and of which pieces were missing when their time was over."
        |it, to| to.count(&[], it.pieces_incomplete);
    COUNTER "weir_arp_requests_total" [] "ARP requests sent for next hops."
        |it, to| to.count(&[], it.arp_requests);
    COUNTER "weir_nd_solicitations_total" [] "Neighbour solicitations sent for IPv6 next hops."
        |it, to| to.count(&[], it.nd_solicitations);
    COUNTER "weir_mld_reports_total" [] "Reports of multicast listener discovery sent."
        |it, to| to.count(&[], it.mld_reports);
    COUNTER "weir_mld_queries_total" [] "Valid queries of multicast listener discovery heard."
        |it, to| to.count(&[], it.mld_queries);
    COUNTER "weir_mld_unanswered_queries_total" [] "Of those, the ones that got no answer, as there were too many."
        |it, to| to.count(&[], it.mld_unanswered);
    COUNTER "weir_arp_conflicts_total" [] "ARP packets and messages of neighbour discovery in which another host claimed a VIP, an own address or a bound neighbour's address."
        |it, to| to.count(&[], it.arp_conflicts);

    GAUGE "weir_vrrp_state" ["instance"] "State of the VRRP instance: 0 initialize, 1 backup, 2 master, 3 fault."
        |it, to| each_instance(it, to, |i| f64::from(i.state_number));
    GAUGE "weir_vrrp_priority" ["instance"] "Priority of the VRRP instance with what tracking adds."
        |it, to| each_instance(it, to, |i| f64::from(i.priority));
    COUNTER "weir_vrrp_advertisements_received_total" ["instance"] "Advertisements accepted."
        |it, to| each_instance(it, to, |i| i.advertisements_received as f64);
    COUNTER "weir_vrrp_advertisements_sent_total" ["instance"] "Advertisements sent, each copy for a unicast peer."
        |it, to| each_instance(it, to, |i| i.advertisements_sent as f64);
    COUNTER "weir_vrrp_advertisements_refused_total" ["instance", "reason"] "Advertisements for the instance that broke a rule. They touch no timer."
        |it, to| for i in &it.vrrp.instances {
            for (reason, &count) in Discard::ALL.iter().zip(&i.discarded) {
                if !matches!(reason, Discard::Malformed | Discard::UnknownRouter) {
                    to.count(&[&i.instance, reason.label()], count);
                }
            }
        };
    COUNTER "weir_vrrp_unclaimed_total" ["port", "reason"] "Advertisements on the port that are too broken to belong to an instance; absent while there were none. Unknown virtual router ids are `vrrp_unknown_router` of `weir_drops_total`."
        |it, to| for unclaimed in &it.vrrp.unclaimed {
            to.count(&[&unclaimed.port, unclaimed.reason], unclaimed.count);
        };
    COUNTER "weir_vrrp_priority_zero_received_total" ["instance"] "Accepted advertisements in which a master stops."
        |it, to| each_instance(it, to, |i| i.priority_zero_received as f64);
    COUNTER "weir_vrrp_priority_zero_sent_total" ["instance"] "Sent advertisements in which the instance stops being master."
        |it, to| each_instance(it, to, |i| i.priority_zero_sent as f64);
    COUNTER "weir_vrrp_became_master_total" ["instance"] "Times that the instance became master."
        |it, to| each_instance(it, to, |i| i.became_master as f64);
    COUNTER "weir_vrrp_released_master_total" ["instance"] "Times that the instance stopped being master."
        |it, to| each_instance(it, to, |i| i.released_master as f64);
    COUNTER "weir_vrrp_advertisements_unsigned_total" ["instance"] "Accepted advertisements without a trailer, though `auth_hmac` has keys: `mode = \"enforce\"` would refuse them."
        |it, to| each_instance(it, to, |i| i.unsigned as f64);
    COUNTER "weir_vrrp_address_mismatches_total" ["instance"] "Accepted advertisements that list other addresses than ours."
        |it, to| each_instance(it, to, |i| i.address_mismatches as f64);
    COUNTER "weir_vrrp_announcements_total" ["instance"] "Gratuitous ARP requests and unsolicited neighbour advertisements sent."
        |it, to| each_instance(it, to, |i| i.announcements as f64);
    COUNTER "weir_vrrp_defences_total" ["instance"] "Of those, answers to another host that claimed an address of this master."
        |it, to| each_instance(it, to, |i| i.defences as f64);
    GAUGE "weir_vrrp_last_advertisement_age_seconds" ["instance"] "Since the last advertisement was accepted; absent before the first."
        |it, to| for i in &it.vrrp.instances {
            if let Some(heard) = &i.last_heard {
                to.add(&[&i.instance], heard.age_seconds);
            }
        };
    GAUGE "weir_vrrp_lateness_seconds" [] "By how much a timer of VRRP was late at worst in the last 10 to 20 seconds."
        |it, to| to.add(&[], it.vrrp.lateness_seconds);
    COUNTER "weir_vrrp_stalls_total" [] "Times that VRRP's thread, or the worker that sends for it, did not run for 20 ms or more."
        |it, to| to.count(&[], it.vrrp.stalls);
    GAUGE "weir_vrrp_tracked_file_seconds" [] "For how long the read of a tracked file has been under way, the longest of all; 0 when none is."
        |it, to| to.add(&[], it.tracked_lasts);
    GAUGE "weir_vrrp_script_up" ["script"] "Whether a script that VRRP tracks succeeds, by its rise and fall; absent before its first run."
        |it, to| for (name, script) in it.scripts.iter() {
            script.is_up.iter().for_each(|is_up| to.add(&[name], f64::from(u8::from(*is_up))));
        };
    COUNTER "weir_vrrp_script_runs_total" ["script", "result"] "Runs of a script that VRRP tracks: success, or failure, with those that took too long."
        |it, to| for (name, script) in it.scripts.iter() {
            to.count(&[name, "success"], script.successes);
            to.count(&[name, "failure"], script.failures);
        };
    GAUGE "weir_vrrp_processes" ["process"] "Processes of a name that VRRP tracks."
        |it, to| it.processes.iter().for_each(|(name, count)| to.add(&[name], f64::from(*count)));
    COUNTER "weir_vrrp_hooks_total" ["result"] "Programs that were told of states of VRRP, by how that went: success, failure, or dropped because too many were waiting."
        |it, to| it.health.vrrp_hooks.iter().for_each(|(result, count)| to.count(&[result], *count));
    COUNTER "weir_vrrp_fifo_lines_total" ["result"] "Lines for `vrrp_notify_fifo`: written, or lost because nobody reads or it can't be opened."
        |it, to| it.health.fifo_lines.iter().for_each(|(result, count)| to.count(&[result], *count));
    GAUGE "weir_vrrp_sequence_file_seconds" [] "For how long the write of a sequence file has been under way, the longest of all; 0 when none is."
        |it, to| to.add(&[], it.sequence_lasts);
    COUNTER "weir_vrrp_fenced_total" [] "Masters that a worker stopped serving by itself because their lease was over."
        |it, to| to.count(&[], it.vrrp_fenced);

    COUNTER "weir_worker_cycles_total" ["worker", "state"] "Cycles of the time stamp counter that a worker spent in polls that received something (busy) and in those that did not (idle)."
        |it, to| for (number, worker) in it.workers.iter().enumerate() {
            to.count(&[&number.to_string(), "busy"], worker.busy_cycles);
            to.count(&[&number.to_string(), "idle"], worker.idle_cycles);
        };
    COUNTER "weir_worker_sleep_cycles_total" ["worker"] "Of a worker's idle cycles those in which its CPU slept (idle = \"sleep\")."
        |it, to| for (number, worker) in it.workers.iter().enumerate() {
            to.count(&[&number.to_string()], worker.sleep_cycles);
        };
    GAUGE "weir_worker_cycle_frequency_hertz" [] "Cycles of the time stamp counter in a second."
        |it, to| to.count(&[], it.cycles_per_second);
    HISTOGRAM "weir_worker_pass_seconds" ["worker"] "Time of a worker's passes over its queues, with everything that happens in one."
        |it, to| for (number, worker) in it.workers.iter().enumerate() {
            to.passes(&[&number.to_string()], worker, it.cycles_per_second);
        };
    GAUGE "weir_worker_longest_pass_seconds" ["worker"] "The longest pass of the worker over its queues in the last minute."
        |it, to| for (number, worker) in it.workers.iter().enumerate() {
            to.add(&[&number.to_string()], worker.longest_cycles as f64 / it.cycles_per_second as f64);
        };
    GAUGE "weir_worker_stuck" ["worker"] "1 while the worker does not poll, else 0."
        |it, to| for (number, worker) in it.workers.iter().enumerate() {
            to.count(&[&number.to_string()], u64::from(worker.is_stuck));
        };
    COUNTER "weir_worker_late_total" ["worker"] "Times that the worker did not poll for 0.6 s because the kernel gave its core to others."
        |it, to| for (number, worker) in it.workers.iter().enumerate() {
            to.count(&[&number.to_string()], worker.late);
        };
    GAUGE "weir_thread_stuck" ["thread"] "1 while the thread of control's does not go on, else 0."
        |it, to| for thread in &it.threads {
            to.count(&[&thread.name], u64::from(thread.is_stuck));
        };
    COUNTER "weir_thread_late_total" ["thread"] "Times that the thread of control's did not go on, 3 s for weir-health and 1 s for others, because the kernel gave its core to others."
        |it, to| for thread in &it.threads {
            to.count(&[&thread.name], thread.late);
        };
    COUNTER "weir_refused_system_calls_total" [] "System calls that no thread of weir's has a use for, and that one made: they were refused."
        |it, to| to.count(&[], it.refused_calls);
    COUNTER "weir_log_missing_lines_total" ["reason"] "Lines missing in the log: lost because it could not be written or was not read, or left out because there were too many."
        |it, to| {
            to.count(&["lost"], it.log.lost);
            to.count(&["left_out"], it.log.left_out);
        };
    GAUGE "weir_worker_config_generation" ["worker"] "Number of the configuration that the worker uses; 0 before its first poll."
        |it, to| for (number, worker) in it.workers.iter().enumerate() {
            to.count(&[&number.to_string()], worker.generation);
        };
    GAUGE "weir_connections" ["worker"] "Records in the worker's connection table."
        |it, to| for (number, worker) in it.workers.iter().enumerate() {
            to.count(&[&number.to_string()], worker.connections);
        };
    GAUGE "weir_connections_capacity" ["worker"] "Records that the worker's connection table has room for."
        |it, to| for (number, worker) in it.workers.iter().enumerate() {
            to.count(&[&number.to_string()], worker.capacity);
        };
    GAUGE "weir_ipv6_clients" ["worker"] "Clients with an IPv6 address that have connections in the worker's table."
        |it, to| for (number, worker) in it.workers.iter().enumerate() {
            to.count(&[&number.to_string()], worker.ipv6_clients[0]);
        };
    GAUGE "weir_ipv6_clients_capacity" ["worker"] "Such clients that there is room for, as the file says; up to three times as many may find some."
        |it, to| for (number, worker) in it.workers.iter().enumerate() {
            to.count(&[&number.to_string()], worker.ipv6_clients[1]);
        };

    COUNTER "weir_virtual_server_connections_total" ["virtual_server"] "Connections made to the virtual server."
        |it, to| each_virtual_server(it, to, |server| server.traffic.connections);
    COUNTER "weir_virtual_server_packets_total" ["virtual_server", "direction"] "Packets of the virtual server's connections, from clients (in) and, with NAT, to clients (out)."
        |it, to| both_ways(it, to, |server| (server.traffic.in_packets, server.traffic.out_packets));
    COUNTER "weir_virtual_server_bytes_total" ["virtual_server", "direction"] "Bytes of those packets, IP header included."
        |it, to| both_ways(it, to, |server| (server.traffic.in_bytes, server.traffic.out_bytes));

    GAUGE "weir_virtual_server_connections_per_second" ["virtual_server"] "Connections made to the virtual server in a second, estimated as IPVS does."
        |it, to| each_virtual_server(it, to, |server| server.rates.connections);
    GAUGE "weir_virtual_server_packets_per_second" ["virtual_server", "direction"] "Packets of the virtual server's connections in a second, estimated as IPVS does."
        |it, to| both_ways(it, to, |server| (server.rates.in_packets, server.rates.out_packets));
    GAUGE "weir_virtual_server_bytes_per_second" ["virtual_server", "direction"] "Bytes of those packets in a second, IP header included."
        |it, to| both_ways(it, to, |server| (server.rates.in_bytes, server.rates.out_bytes));

    COUNTER "weir_real_server_connections_total" ["virtual_server", "real_server"] "Connections that the real server was picked for."
        |it, to| each_real_server(it, to, |server| server.traffic.connections);
    COUNTER "weir_real_server_packets_total" ["virtual_server", "real_server", "direction"] "Packets sent to the real server (in) and, with NAT, from it to clients (out)."
        |it, to| both_ways_real(it, to, |server| (server.traffic.in_packets, server.traffic.out_packets));
    COUNTER "weir_real_server_bytes_total" ["virtual_server", "real_server", "direction"] "Bytes of those packets, IP header included."
        |it, to| both_ways_real(it, to, |server| (server.traffic.in_bytes, server.traffic.out_bytes));
    GAUGE "weir_real_server_connections_per_second" ["virtual_server", "real_server"] "Connections that the real server was picked for in a second, estimated as IPVS does."
        |it, to| each_real_server(it, to, |server| server.rates.connections);
    GAUGE "weir_real_server_packets_per_second" ["virtual_server", "real_server", "direction"] "Packets to (in) and, with NAT, from the real server (out) in a second, estimated as IPVS does."
        |it, to| both_ways_real(it, to, |server| (server.rates.in_packets, server.rates.out_packets));
    GAUGE "weir_real_server_bytes_per_second" ["virtual_server", "real_server", "direction"] "Bytes of those packets in a second, IP header included."
        |it, to| both_ways_real(it, to, |server| (server.rates.in_bytes, server.rates.out_bytes));
    COUNTER "weir_real_server_tcp_answers_total" ["virtual_server", "real_server", "answer"] "What real servers behind NAT said to clients' SYNs: SYN-ACK (accepted, each time it is said) or RST (refused). Modulo 2^32 for each worker."
        |it, to| each_opening(it, to, |to, labels, openings| {
            to.count(&[labels[0], labels[1], "accepted"], openings.answered);
            to.count(&[labels[0], labels[1], "refused"], openings.refused);
        });
    COUNTER "weir_real_server_tcp_opened_total" ["virtual_server", "real_server"] "TCP connections through NAT that a client's SYN opened. Modulo 2^32 for each worker."
        |it, to| each_opening(it, to, |to, labels, openings| to.count(labels, openings.opened));
    GAUGE "weir_real_server_active_connections" ["virtual_server", "real_server"] "Connections of the real server in an active state, as IPVS counts them: TCP from SYN to FIN."
        |it, to| each_real_server(it, to, |server| u64::from(server.active));
    GAUGE "weir_real_server_inactive_connections" ["virtual_server", "real_server"] "Connections of the real server in any other state."
        |it, to| each_real_server(it, to, |server| u64::from(server.inactive));
    GAUGE "weir_real_server_weight" ["virtual_server", "real_server"] "Weight of the real server; 0: quiesced."
        |it, to| each_real_server(it, to, |server| u64::from(server.weight));
    GAUGE "weir_real_server_up" ["virtual_server", "real_server"] "1 if the real server is taken for healthy, else 0; without health checks it always is."
        up;

    COUNTER "weir_health_checks_total" ["virtual_server", "real_server", "result"] "Checks of the real server, its agent and its weight file. A check that several virtual servers share counts for each."
        check_results;
    GAUGE "weir_health_last_change_timestamp_seconds" ["virtual_server", "real_server"] "When the real server last went up or down, or was added, in seconds since 1970."
        |it, to| for service in &it.health.services {
            for server in &service.servers {
                let at = unix_seconds(it.health.began + server.changed_at);
                to.add(&[&service.name, &server.server.to_string()], at);
            }
        };
    GAUGE "weir_health_last_check_duration_seconds" ["virtual_server", "real_server"] "How long the last check of the real server took, the longest of several; 0 before the first."
        |it, to| for service in &it.health.services {
            for server in service.servers.iter().filter(|server| !server.checks.is_empty()) {
                let took = server.checks.iter().filter_map(|check| check.last.as_ref()).map(|last| last.took).max();
                to.add(&[&service.name, &server.server.to_string()], took.unwrap_or_default().as_secs_f64());
            }
        };
    COUNTER "weir_health_ejections_total" ["virtual_server", "real_server"] "Times that passive health took the real server out."
        |it, to| each_checked_server(it, to, |server| server.ejections as f64);
    GAUGE "weir_health_quorum" ["virtual_server"] "1 if enough of the virtual server's real servers are up, else 0."
        |it, to| for service in &it.health.services {
            to.count(&[&service.name], u64::from(service.has_quorum));
        };
    GAUGE "weir_health_weight_up" ["virtual_server"] "Sum of the weights of the virtual server's real servers that are up, which the quorum is measured by."
        |it, to| for service in &it.health.services {
            to.count(&[&service.name], service.weight);
        };
    GAUGE "weir_health_targets" [] "Things that are checked: equal checks of one address are one."
        |it, to| to.count(&[], it.health.targets);
    GAUGE "weir_health_checks_under_way" [] "Checks that have begun and not ended."
        |it, to| to.count(&[], it.health.under_way);
    COUNTER "weir_health_checks_crowded_total" [] "Times that checks had to wait because as many as may be were under way."
        |it, to| to.count(&[], it.health.crowded);
    COUNTER "weir_health_errors_total" [] "Checks that could not be made for a reason of the director's own, which change no verdict."
        |it, to| to.count(&[], it.health.errors);
    HISTOGRAM "weir_health_check_lateness_seconds" [] "From when a check was due to when it began."
        |it, to| to.times(&it.health.lateness);
    HISTOGRAM "weir_health_check_duration_seconds" [] "How long checks took."
        |it, to| to.times(&it.health.duration);
    COUNTER "weir_health_hooks_total" ["result"] "Programs that were told of changes, by how that went: success, failure, or dropped because too many were waiting."
        |it, to| it.health.hooks.iter().for_each(|(result, count)| to.count(&[result], *count));
}
