//! The variables of the environment that flotilla reads.

/// A name and what it holds.
pub(crate) const VARIABLES: [(&str, &str); 10] = [
    (
        "FLOTILLA_JOIN_TOKEN",
        "The cluster's secret. It wins over `join_token_file` of the configuration file; `--join-token-file` wins over it.",
    ),
    (
        "FLOTILLA_STATS_TOKEN",
        "A supernode's read-only statistics token; read by `supernode`, `status` and `top`.",
    ),
    (
        "FLOTILLA_PREHEAT_AUTH",
        "The lines of the file of `--preheat-auth`.",
    ),
    (
        "FLOTILLA_LOG",
        "What is logged to stderr: a level (`error`, `warn`, `info`, `debug`, `trace`, `off`) or levels by module, such as `info,flotilla_client=debug`. Default: `info` for supernode and proxy, `error` for other commands.",
    ),
    (
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "The collector of `--otlp-endpoint`. Empty: no traces.",
    ),
    (
        "OTEL_EXPORTER_OTLP_HEADERS",
        "Headers for the collector, `name=value,…`.",
    ),
    (
        "OTEL_RESOURCE_ATTRIBUTES",
        "Further attributes of the traces' resource.",
    ),
    (
        "HTTP_PROXY, HTTPS_PROXY, NO_PROXY",
        "The way of supernode and proxy to registries, where `--registry-proxy` is not given; in lower case as well. `NO_PROXY` counts beside it too.",
    ),
    (
        "http_proxy, https_proxy, all_proxy, no_proxy",
        "Proxies for downloads of `flotilla get` directly from the source.",
    ),
    (
        "NETRC",
        "The netrc file of `flotilla get`; default: `~/.netrc`.",
    ),
];
