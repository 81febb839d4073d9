//! Each mark is set where its scenario says, is on the log, and is explained in `docs/marks.md`.
//!
//! A new mark needs an arm in [`scenario`], or this does not compile.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

#[path = "../fakes/mod.rs"]
mod fakes;

mod layers;
mod log;
mod logins;
mod pushes;
mod requests;
mod tunnels;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use flotilla_proxy::{Mark, ProxyStats};

/// Of real time, also where the scenario's clock runs ahead.
const DEADLINE: Duration = Duration::from_secs(60);
/// Scenarios at the same time.
const AT_ONCE: usize = 4;

/// Brings `mark` about.
async fn scenario(mark: Mark) {
    match mark {
        Mark::CallerRefused => layers::caller_refused().await,
        Mark::CallerUnchecked => layers::caller_unchecked().await,
        Mark::CredentialsUnclear => layers::credentials_unclear().await,
        Mark::UrlNotUnderstood => layers::url_not_understood().await,
        Mark::LayerUnswarmable => layers::layer_unswarmable().await,
        Mark::SupernodeUnreachable => layers::supernode_unreachable().await,
        Mark::SupernodeRefusesNode => layers::supernode_answers(mark, 401, "no").await,
        Mark::SupernodeAnswerWrong => layers::supernode_answers(mark, 200, "nonsense").await,
        Mark::SupernodesCannot => {
            let elsewhere = r#"{"outcome":"elsewhere","reason":"disk full","seconds":9}"#;
            layers::supernode_answers(mark, 200, elsewhere).await;
        }
        Mark::NodeCannotStore => layers::node_cannot_store().await,
        Mark::OpenTimedOut => layers::open_timed_out().await,
        Mark::SwarmStalled | Mark::SwarmVoid | Mark::CacheUnreadable | Mark::LayerWrong => {
            layers::swarm_fails(mark, fakes::swarm::Then::Fails(mark)).await;
        }
        Mark::SwarmSlow => layers::swarm_slow(mark, u32::MAX).await,
        Mark::RegistrySlower => layers::swarm_slow(mark, 1).await,
        Mark::SwarmSilent => layers::swarm_fails(mark, fakes::swarm::Then::Hangs).await,
        Mark::SwarmShort => layers::swarm_fails(mark, fakes::swarm::Then::Ends).await,
        Mark::LazyRange => layers::lazy_range(mark, false).await,
        Mark::LazyRangeWaits => layers::lazy_range(mark, true).await,
        Mark::RegistryUnreachable => layers::registry_unreachable().await,
        Mark::RegistryRefuses => layers::registry_refuses().await,
        Mark::RegistryRedirect => layers::registry_answers(mark, layers::REDIRECT).await,
        Mark::RegistryWrongBytes => layers::registry_answers(mark, layers::OTHER_LENGTH).await,
        Mark::RegistryBrokeOff | Mark::LayerLost => layers::registry_breaks_off(mark).await,
        Mark::RangeUnsatisfiable => layers::range_unsatisfiable().await,
        Mark::RequestRepeated => requests::request_repeated().await,
        Mark::TargetMalformed => requests::target_malformed().await,
        Mark::RegistryUnnamed => requests::registry_unnamed().await,
        Mark::HostNotMirrored => requests::host_not_mirrored().await,
        Mark::RequestLoop => requests::request_loop().await,
        Mark::LinkLocalRefused => requests::link_local_refused().await,
        Mark::ServerUnreachable => requests::server_unreachable().await,
        Mark::ServerTimedOut => requests::server_timed_out().await,
        Mark::ServerBrokeOff => requests::server_broke_off().await,
        Mark::AnswerStalled => requests::answer_stalled().await,
        Mark::HeadTooLarge => requests::head_too_large().await,
        Mark::RequestMalformed => requests::request_malformed().await,
        Mark::ConnectionIdle => requests::connection_idle().await,
        Mark::DrainTimedOut => requests::drain_timed_out().await,
        Mark::AcceptFailed => requests::accept_failed().await,
        Mark::ConnectionsFull => requests::connections_full().await,
        Mark::ExpectationIgnored => requests::expectation_ignored().await,
        Mark::RangeAnswerReplaced => requests::range_answer_replaced().await,
        Mark::ManifestsBusy => requests::manifests_busy().await,
        Mark::ManifestUnreadable => requests::manifest_unreadable().await,
        Mark::LoginRequested => logins::login_requested().await,
        Mark::LoginMissing => logins::login_missing().await,
        Mark::LoginUnbound => logins::login_unbound().await,
        Mark::TokenMethodRefused => logins::token_method_refused().await,
        Mark::TokenScopeRefused => logins::token_scope_refused().await,
        Mark::TokenMisused => logins::token_misused().await,
        Mark::ChallengeMalformed => logins::challenge_malformed().await,
        Mark::TunnelIdle => tunnels::tunnel_idle().await,
        Mark::TunnelMisused => tunnels::tunnel_misused().await,
        Mark::HandshakeFailed => tunnels::handshake_failed().await,
        Mark::HandshakeTimedOut => tunnels::handshake_timed_out().await,
        Mark::HandshakeNameUnlisted => tunnels::handshake_name_unlisted().await,
        Mark::CaCertificateMade => tunnels::ca_certificate_made().await,
        Mark::UploadNotKept => pushes::upload_not_kept().await,
        Mark::UploadsFull => pushes::uploads_full().await,
        Mark::UploadOutOfStep => pushes::upload_out_of_step().await,
        Mark::UploadAbandoned => pushes::upload_abandoned().await,
        Mark::PushReadBack | Mark::PushNotSeeded => pushes::push_not_kept(mark).await,
        // 64 MiB that wait for a disk: `more_than_the_disk_takes_is_not_kept` in
        // `src/pushes/tee.rs`.
        Mark::UploadsBacklogged => {
            let source = include_str!("../../src/pushes/tee.rs");
            assert!(source.contains("async fn more_than_the_disk_takes_is_not_kept()"));
            assert!(source.contains("assert_eq!(stats.marked(Mark::UploadsBacklogged), 1);"));
            log::skip(mark);
        }
    }
}

/// Whether the scenario takes minutes or hours, which its clock jumps over.
fn takes_long(mark: Mark) -> bool {
    matches!(
        mark,
        Mark::OpenTimedOut
            | Mark::SwarmSilent
            | Mark::SwarmSlow
            | Mark::RegistrySlower
            | Mark::RegistryUnreachable
            | Mark::LayerLost
            | Mark::ServerTimedOut
            | Mark::AnswerStalled
            | Mark::ConnectionIdle
            | Mark::DrainTimedOut
            | Mark::TunnelIdle
            | Mark::HandshakeTimedOut
            | Mark::UploadAbandoned
    )
}

/// Waits until `mark` is set; it was not when the proxy of `stats` started.
async fn until_marked(stats: &ProxyStats, mark: Mark) {
    let began = Instant::now();
    while stats.marked(mark) == 0 {
        assert!(began.elapsed() < DEADLINE, "{mark:?} is not set");
        let step = if takes_long(mark) { 1000 } else { 10 };
        tokio::time::sleep(Duration::from_millis(step)).await;
    }
}

fn run(mark: Mark) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(takes_long(mark))
        .build()
        .unwrap();
    runtime.block_on(scenario(mark));
    // What still waits for a server is not waited for.
    runtime.shutdown_background();
}

#[test]
fn each_mark_is_set_by_its_scenario_and_is_on_the_log() {
    log::install();
    let mut failed = Vec::new();
    for marks in Mark::ALL.chunks(AT_ONCE) {
        let running = marks.iter().map(|mark| {
            let mark = *mark;
            (mark, std::thread::spawn(move || run(mark)))
        });
        let running: Vec<_> = running.collect();
        let ended = running.into_iter().map(|(mark, run)| (mark, run.join()));
        failed.extend(ended.filter_map(|(mark, ended)| ended.is_err().then_some(mark)));
    }
    assert!(failed.is_empty(), "the scenarios of {failed:?} fail");
    let missing: Vec<_> = Mark::ALL.iter().filter(|mark| !log::has(**mark)).collect();
    assert!(missing.is_empty(), "{missing:?} are not on the log");
}

#[test]
fn each_mark_is_explained_in_the_documentation() {
    let text = include_str!("../../../docs/marks.md");
    let rows = text.lines().filter_map(|line| {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let name = cells.get(1)?.strip_prefix('`')?.strip_suffix('`')?;
        Some((name, cells))
    });
    let rows: Vec<_> = rows.collect();
    let names: Vec<_> = rows.iter().map(|(name, _)| *name).collect();
    let expected: Vec<_> = Mark::ALL.iter().map(|mark| mark.name()).collect();
    assert_eq!(
        names, expected,
        "docs/marks.md lists all marks in the order of `Mark::ALL`"
    );
    let rows: HashMap<_, _> = rows.into_iter().collect();
    for mark in Mark::ALL {
        // Name, kind, level, message, and what to do.
        let cells = &rows[mark.name()];
        assert_eq!(cells.len(), 7, "{mark:?}");
        let level = mark.level().as_str().to_ascii_lowercase();
        let expected = [mark.kind().name(), level.as_str(), mark.message()];
        assert_eq!(cells[2..5], expected, "{mark:?}");
        assert!(
            cells[5].len() > 20,
            "{mark:?} says what it means and what to do"
        );
    }
}
