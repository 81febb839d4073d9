//! Logs go to stderr, spans of traces to a tracer.

use std::io::IsTerminal as _;

use flotilla_cluster::trace;
use opentelemetry_sdk::trace::SdkTracer;
use tracing::level_filters::LevelFilter;
use tracing::{Subscriber, subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, registry};

const VARIABLE: &str = "FLOTILLA_LOG";

/// Logs to stderr what [`VARIABLE`] asks for, else `default`. Spans of traces go to `tracer`.
pub(crate) fn start(default: &str, tracer: Option<SdkTracer>) {
    let filter = std::env::var(VARIABLE).unwrap_or_else(|_| default.to_owned());
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new(default));
    let to_terminal = std::io::stderr().is_terminal();
    let subscriber = of(filter, to_terminal, std::io::stderr, tracer);
    // Only fails when it was set before.
    let _ = subscriber::set_global_default(subscriber);
}

fn of(
    filter: EnvFilter,
    with_colours: bool,
    writer: impl for<'a> MakeWriter<'a> + Send + Sync + 'static,
    tracer: Option<SdkTracer>,
) -> Box<dyn Subscriber + Send + Sync> {
    // Spans of traces are no context of log lines, and without a tracer nothing at all.
    let filter = match format!("{}=off", trace::TARGET).parse() {
        Ok(off) => filter.add_directive(off),
        Err(_) => filter,
    };
    let logs = tracing_subscriber::fmt::layer()
        .with_ansi(with_colours)
        .with_writer(writer)
        .with_filter(filter);
    let subscriber = registry().with(logs);
    let Some(tracer) = tracer else {
        return Box::new(subscriber);
    };
    let spans = tracing_opentelemetry::layer()
        .with_tracer(tracer)
        .with_location(false)
        .with_threads(false)
        .with_tracked_inactivity(false)
        .with_target(false)
        .with_level(false)
        .with_filter(Targets::new().with_target(trace::TARGET, LevelFilter::INFO));
    Box::new(subscriber.with(spans))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::Command;
    use std::sync::{Arc, Mutex};

    use opentelemetry::trace::TracerProvider as _;
    use opentelemetry_sdk::trace::SdkTracerProvider;

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// The log lines of a request, and whether its span of the trace was made.
    fn logged(filter: &str, tracer: Option<SdkTracer>) -> (String, bool) {
        let written = Written::default();
        let writer = written.clone();
        let subscriber = of(
            EnvFilter::new(filter),
            false,
            move || writer.clone(),
            tracer,
        );
        let is_traced = subscriber::with_default(subscriber, || {
            let traced = tracing::info_span!(target: trace::TARGET, "GET", secret_of_traces = 1);
            let _entered = traced.enter();
            let request = tracing::info_span!("request", digest = "d");
            request.in_scope(|| tracing::info!("layer opened"));
            !traced.is_disabled()
        });
        let bytes = written.0.lock().unwrap().clone();
        (String::from_utf8(bytes).unwrap(), is_traced)
    }

    const ALONE: &str = "FLOTILLA_TEST_ALONE";

    /// Runs `test`, which is the test `name` of this module, in a process of its own: `tracing`
    /// caches for the whole process what subscribers want of a callsite, so that beside another
    /// test's subscriber a span may be made or left out.
    fn alone(name: &str, test: impl FnOnce()) {
        let name = format!("logging::tests::{name}");
        if std::env::var_os(ALONE).is_some_and(|alone| alone == name.as_str()) {
            return test();
        }
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture", &name])
            .env(ALONE, &name)
            .output()
            .unwrap();
        let out = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && out.contains("1 passed"),
            "{out}{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    #[test]
    fn without_a_tracer_no_span_of_a_trace_is_made_whatever_is_logged() {
        alone(
            "without_a_tracer_no_span_of_a_trace_is_made_whatever_is_logged",
            || {
                for filter in ["off", "info", "trace"] {
                    assert!(!logged(filter, None).1, "{filter}");
                }
            },
        );
    }

    #[test]
    fn logs_are_the_same_with_a_tracer_and_a_filter_of_logs_does_not_filter_traces() {
        alone(
            "logs_are_the_same_with_a_tracer_and_a_filter_of_logs_does_not_filter_traces",
            || {
                let provider = SdkTracerProvider::builder().build();
                let (lines, is_traced) = logged("info", Some(provider.tracer("test")));
                assert!(is_traced);
                assert!(
                    lines.contains("request{digest=\"d\"}") && lines.contains("layer opened"),
                    "{lines}"
                );
                assert!(!lines.contains("secret_of_traces"), "{lines}");
                let (lines, is_traced) = logged("off", Some(provider.tracer("test")));
                assert!(is_traced && lines.is_empty(), "{lines}");
            },
        );
    }
}
