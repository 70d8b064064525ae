//! Scenarios of a user plane function between real kernels: a subscriber's, a radio network's, the
//! gateway's and an origin's, each in a network namespace of its own; see [`rig`].
//!
//! The list is that of UPG's end-to-end suite (travelping/upg-vpp, `test/e2e/upg_e2e.go` and
//! `ipfix_e2e.go`), each of its modes and address versions in one test of ours, and what mobile cores
//! ask for beyond it. In every scenario what usage rules report is compared with the kernels' counters
//! to the byte.
//!
//! | UPG's scenario | Here |
//! |---|---|
//! | *session measurement:* plain HTTP | `measured::http_both_ways_is_measured_over_ipv4`, `.._ipv6` |
//! | UDP | `measured::datagrams_are_measured_over_both_versions` |
//! | ICMP echo | `measured::echo_requests_of_icmp_are_measured_over_both_versions` |
//! | *IP rules:* HTTP and UDP with a hit, HTTP without | `applications::an_application_by_address_..`, `.._by_port_..`, `filters_in_a_rule_..` |
//! | *proxy:* HTTP with a hit by host name, and without | `applications::a_url_alone_detects_nothing_..`: a label moves no usage; contents are measured by proof (`tests/n4`) |
//! | many HTTP connections at once, flows gone afterwards | `sizes::many_connections_at_once_all_come_to_their_end` |
//! | the same with netem | `sizes::many_connections_at_once_come_to_their_end_over_a_network_that_loses_packets` |
//! | session creation and deletion loop under traffic | `sessions::sessions_come_and_go_under_traffic_without_growth` |
//! | *proxy bypass:* by port, by address, with and without a hit | `applications::a_rule_of_higher_precedence_takes_its_packets_before_an_application_does` |
//! | *redirects:* counted, under replacement, on and off | `redirects::a_browser_is_redirected_..` (two), `a_redirection_comes_and_goes_..`: ours are nobody's usage |
//! | *PDR replacement:* HTTP, UDP | `replacement::http_is_measured_exactly_..`, `datagrams_are_measured_exactly_..` |
//! | the same with the application rule on and off | `replacement::an_application_that_comes_and_goes_..`, `applications::an_application_changes_for_sessions_that_stand` |
//! | *GTP-U extensions:* handled, corrupt | `measured::headers_of_the_radio_network_are_nobodys_usage`, `hostile::corrupt_messages_..` |
//! | *binary API:* policies, network instances, endpoint, heartbeats | does not apply: these are the configuration file's, checked when it is read (`src/config.rs`, `src/n4/config.rs`) |
//! | *clearing the message queue* during session deletion | `reporting::usage_that_is_asked_for_again_and_again_adds_up`, `restarts::a_session_that_ends_under_traffic_..` |
//! | the same when associations time out | in the node without I/O and with a simulated clock (`pfcp/src/node/tests`): sessions of a silent peer stay for ten minutes |
//! | *reporting:* quota validity time | `quotas::a_quota_that_is_no_longer_valid_is_reported_..` |
//! | monitoring time split | `reporting::usage_is_split_..`, `periodic_reports_add_up_with_a_split_between_them` |
//! | monitoring time changed while a split waits | `reporting::a_monitoring_time_that_is_changed_keeps_the_split_that_waits` |
//! | second split that waits ends the session | the same test: ours keeps both |
//! | quota used up, then other rules | `quotas::rules_without_a_quota_take_over_..`, `redirects::who_has_used_up_a_quota_is_redirected_..` |
//! | *many sessions:* no leak | `sessions::sessions_come_and_go_under_traffic_without_growth` |
//! | conflict of subscriber addresses, with and without usage rules | `sessions::a_subscribers_address_is_given_to_one_session`, `.._also_without_usage_rules`: the older one stays |
//! | conflict of SEIDs | `sessions::two_smfs_use_the_same_numbers_for_different_sessions`: an SMF's numbers are its own |
//! | conflict of GTP-U tunnels | `sessions::a_tunnel_that_an_smf_chose_is_given_to_one_session` |
//! | *MTU:* datagrams of 8,000 and 10,000 bytes | `sizes::datagrams_of_8000_and_10000_bytes_..`, `a_subscriber_learns_the_mtu_of_the_path` |
//! | *GTP proxy* | `mobility::a_user_plane_between_two_tunnels_..`; extension headers end at each of our tunnels' ends |
//! | *NAT* of proxied traffic and not | `forwarding::http_and_datagrams_through_nat44_..`, `an_ipv6_subscriber_fetches_.._through_nat64` |
//! | *routing policy* | does not apply: the kernel behind `n6` routes |
//! | *IPFIX*, nine contexts | `tests/ipfix.rs`, with nfdump as the collector |
//!
//! Beyond it: quotas under load that does not wait, in both directions and with two workers, and a
//! new grant (`quotas`); time thresholds and quotas; linked usage and start of traffic (`reporting`);
//! drop, buffering, gates and rates (`actions`); N3 over IPv6, addresses that the gateway chose
//! (`measured`); handover, error indication (`mobility`); spoofing, foreign
//! tunnels, own addresses, noise (`hostile`); release, an SMF that hands its sessions
//! over, restart of an SMF and of the gateway (`restarts`).
//!
//! `QLINK_LONG=1` runs the full counts, `QLINK_UPF_WORKERS=2` all scenarios with two workers.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::exit,
    reason = "test code"
)]

mod actions;
mod applications;
mod forwarding;
mod hostile;
mod measured;
mod mobility;
mod quotas;
mod redirects;
mod replacement;
mod reporting;
mod restarts;
mod rig;
mod sessions;
mod sizes;

/// Not a scenario: the data plane of one.
#[test]
fn a_data_plane_runs() {
    rig::run_plane();
}

/// Not a scenario: a program of one's subscriber or origin.
#[test]
fn an_agent_runs() {
    rig::run_agent();
}
