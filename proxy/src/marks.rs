//! Marks: a name for each fallback, refusal and degradation of the proxy.
//!
//! A mark's name is the field `event` of its log line and the label of
//! `flotilla_proxy_marks_total`. `docs/marks.md` lists all of them and says what to do;
//! `tests/marks` brings each about. What peers do of their own accord, such as leaving, has no
//! mark.

use std::sync::atomic::{AtomicU64, Ordering};

use tracing::Level;

/// What a mark is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MarkKind {
    /// Something else delivers: the registry in place of the swarm, or the other way around.
    Fallback,
    /// The proxy refuses a request, or ends a connection.
    Refusal,
    /// The proxy does without something; what was asked for is not affected.
    Degradation,
}

impl MarkKind {
    /// As in `docs/marks.md`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fallback => "fallback",
            Self::Refusal => "refusal",
            Self::Degradation => "degradation",
        }
    }
}

macro_rules! marks {
    ($($name:ident $event:literal $kind:ident $level:ident $message:literal;)+) => {
        /// Something that the proxy did other than planned. Each is described in
        /// `docs/marks.md`; its message says it in brief.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Mark {
            $(#[doc = $message] $name,)+
        }

        impl Mark {
            /// All marks, in the order of `docs/marks.md`.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// The field `event` of log lines, and the label of the metric.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $event,)+
                }
            }

            /// What it is about.
            pub fn kind(self) -> MarkKind {
                match self {
                    $(Self::$name => MarkKind::$kind,)+
                }
            }

            /// The level of its log line.
            pub fn level(self) -> Level {
                match self {
                    $(Self::$name => Level::$level,)+
                }
            }

            /// The message of its log line.
            pub fn message(self) -> &'static str {
                match self {
                    $(Self::$name => $message,)+
                }
            }
        }
    };
}

marks! {
    // A layer's request passes to the registry as a whole.
    CallerRefused "caller_refused" Fallback DEBUG "registry refuses the caller, request passes through";
    CallerUnchecked "caller_unchecked" Fallback INFO "caller not checked at the registry, request passes through";
    CredentialsUnclear "credentials_unclear" Fallback DEBUG "credentials not understood, request passes through";
    UrlNotUnderstood "url_not_understood" Fallback DEBUG "layer URL not understood, request passes through";
    LayerUnswarmable "layer_unswarmable" Fallback DEBUG "layer not for the swarm, request passes through";
    SupernodeUnreachable "supernode_unreachable" Fallback WARN "supernodes not reached, request passes through";
    SupernodeRefusesNode "supernode_refuses_node" Fallback WARN "supernode refuses this node, request passes through";
    SupernodeAnswerWrong "supernode_answer_wrong" Fallback WARN "supernode answer not understood, request passes through";
    SupernodesCannot "supernodes_cannot" Fallback WARN "supernodes cannot bring the layer now, request passes through";
    NodeCannotStore "node_cannot_store" Fallback WARN "layer not stored on this node, request passes through";
    OpenTimedOut "open_timed_out" Fallback INFO "swarm not opened in time, request passes through";
    // Another source takes over within a layer's response.
    SwarmStalled "swarm_stalled" Fallback INFO "swarm stalled, registry takes over";
    SwarmVoid "swarm_void" Fallback INFO "swarm is void, registry takes over";
    SwarmSilent "swarm_silent" Fallback WARN "swarm reader is silent, registry takes over";
    SwarmShort "swarm_short" Fallback WARN "swarm ended too early, registry takes over";
    SwarmSlow "swarm_slow" Fallback INFO "swarm is slow, registry is tried";
    RegistrySlower "registry_slower" Fallback DEBUG "registry is no faster, swarm continues";
    CacheUnreadable "cache_unreadable" Fallback WARN "cached layer not read, registry takes over";
    LazyRange "lazy_range" Fallback DEBUG "lazy range not in the swarm yet, registry delivers it";
    LazyRangeWaits "lazy_range_waits" Fallback DEBUG "lazy range not delivered by the registry, response waits for the swarm";
    RegistryUnreachable "registry_unreachable" Fallback WARN "registry does not answer the fallback, swarm is tried again";
    RegistryRefuses "registry_refuses" Fallback WARN "registry refuses the fallback, swarm is tried again";
    RegistryRedirect "registry_redirect" Fallback WARN "registry redirect not followed, swarm is tried again";
    RegistryWrongBytes "registry_wrong_bytes" Fallback WARN "registry sends other bytes than asked for, swarm is tried again";
    RegistryBrokeOff "registry_broke_off" Fallback WARN "registry broke off during the fallback, swarm is tried again";
    RequestRepeated "request_repeated" Fallback DEBUG "kept connection was closed, request sent again on a new one";
    // Refused requests.
    LayerLost "layer_lost" Refusal WARN "layer given up by swarm and registry, connection closed";
    LayerWrong "layer_wrong" Refusal WARN "source gave wrong bytes of the layer, connection closed";
    RangeUnsatisfiable "range_unsatisfiable" Refusal DEBUG "range begins past the end of the layer, request refused";
    TargetMalformed "target_malformed" Refusal DEBUG "request target not understood, request refused";
    RegistryUnnamed "registry_unnamed" Refusal INFO "request names no registry, request refused";
    HostNotMirrored "host_not_mirrored" Refusal INFO "registry not among the mirrored hosts, request refused";
    TunnelMisused "tunnel_misused" Refusal INFO "request names another server than its tunnel, request refused";
    RequestLoop "request_loop" Refusal WARN "request came back to this proxy, request refused";
    LinkLocalRefused "link_local_refused" Refusal WARN "target address is link-local, request refused";
    ServerUnreachable "server_unreachable" Refusal WARN "server not reached, request failed";
    ServerTimedOut "server_timed_out" Refusal WARN "server did not answer in time, request failed";
    ServerBrokeOff "server_broke_off" Refusal WARN "server broke off before its answer, request failed";
    AnswerStalled "answer_stalled" Refusal WARN "server answer stalled, response broken off";
    LoginRequested "login_requested" Refusal DEBUG "request has no token, client asked to log in";
    LoginMissing "login_missing" Refusal INFO "registry credentials missing or wrong, token refused";
    TokenMethodRefused "token_method_refused" Refusal DEBUG "token not asked for by GET, request refused";
    TokenScopeRefused "token_scope_refused" Refusal INFO "token scope names no single mirrored registry, token refused";
    TokenMisused "token_misused" Refusal INFO "token is for another registry, request refused";
    ChallengeMalformed "challenge_malformed" Refusal WARN "registry challenge not understood, token refused";
    HeadTooLarge "head_too_large" Refusal INFO "request head too large, connection closed";
    RequestMalformed "request_malformed" Refusal INFO "request malformed, connection closed";
    ConnectionIdle "connection_idle" Refusal DEBUG "connection idle for too long, connection closed";
    TunnelIdle "tunnel_idle" Refusal DEBUG "tunnel idle for too long, tunnel closed";
    HandshakeFailed "handshake_failed" Refusal INFO "client handshake failed, request not intercepted";
    HandshakeTimedOut "handshake_timed_out" Refusal INFO "client handshake took too long, request not intercepted";
    HandshakeNameUnlisted "handshake_name_unlisted" Refusal INFO "client names a server that is not intercepted, tunnel closed";
    DrainTimedOut "drain_timed_out" Refusal WARN "connections not ended in time, closed by the shutdown";
    // The proxy does without something.
    AcceptFailed "accept_failed" Degradation WARN "client connection not accepted, trying again";
    ConnectionsFull "connections_full" Degradation WARN "client limit reached, new clients wait";
    LoginUnbound "login_unbound" Degradation DEBUG "login names no registry, credentials not checked yet";
    ExpectationIgnored "expectation_ignored" Degradation DEBUG "server ignored Expect: 100-continue, body sent without it";
    RangeAnswerReplaced "range_answer_replaced" Degradation DEBUG "registry refused a range, length of its answer corrected";
    ManifestsBusy "manifests_busy" Degradation DEBUG "too many manifests at once, image names not learnt";
    ManifestUnreadable "manifest_unreadable" Degradation DEBUG "manifest not read, image names not learnt";
    CaCertificateMade "ca_certificate_made" Degradation WARN "new CA certificate: let the engines of this node trust it for the intercepted registries";
    UploadNotKept "upload_not_kept" Degradation INFO "upload not copied to the disk, push not kept";
    UploadsBacklogged "uploads_backlogged" Degradation INFO "disk slower than the uploads, push not kept";
    UploadsFull "uploads_full" Degradation INFO "too many uploads at once, push not kept";
    UploadOutOfStep "upload_out_of_step" Degradation INFO "registry has other bytes than the copy, push not kept";
    UploadAbandoned "upload_abandoned" Degradation DEBUG "upload abandoned by its client, copy removed";
    PushReadBack "push_read_back" Degradation INFO "pushed layer not kept, supernode reads it from the registry";
    PushNotSeeded "push_not_seeded" Degradation INFO "pushed layer not opened, layer does not seed";
}

/// How often each mark was set.
#[derive(Debug)]
pub(crate) struct MarkCounts([AtomicU64; Mark::ALL.len()]);

impl Default for MarkCounts {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; Mark::ALL.len()])
    }
}

impl MarkCounts {
    pub(crate) fn add(&self, mark: Mark) {
        if let Some(count) = self.0.get(mark as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn of(&self, mark: Mark) -> u64 {
        let count = self.0.get(mark as usize);
        count.map_or(0, |count| count.load(Ordering::Relaxed))
    }
}

/// Sets a mark: counts it in `$stats`, and writes its log line with further fields.
macro_rules! set_mark {
    ($stats:expr, $mark:expr $(, $($fields:tt)+)?) => {{
        let mark: $crate::marks::Mark = $mark;
        $stats.count_mark(mark);
        let (event, message) = (mark.name(), mark.message());
        match mark.level() {
            tracing::Level::WARN => tracing::warn!(event, $($($fields)+,)? "{message}"),
            tracing::Level::INFO => tracing::info!(event, $($($fields)+,)? "{message}"),
            _ => tracing::debug!(event, $($($fields)+,)? "{message}"),
        }
    }};
}

pub(crate) use set_mark;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_unlike_and_of_lower_case_words() {
        let names: HashSet<_> = Mark::ALL.iter().map(|mark| mark.name()).collect();
        assert_eq!(names.len(), Mark::ALL.len());
        for name in names {
            assert!(
                name.bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte == b'_'),
                "{name}"
            );
        }
    }

    #[test]
    fn each_mark_is_counted_by_itself() {
        let counts = MarkCounts::default();
        counts.add(Mark::PushNotSeeded);
        counts.add(Mark::PushNotSeeded);
        for mark in Mark::ALL {
            let expected = if *mark == Mark::PushNotSeeded { 2 } else { 0 };
            assert_eq!(counts.of(*mark), expected, "{mark:?}");
        }
    }
}
