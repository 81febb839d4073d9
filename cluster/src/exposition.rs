//! Prometheus' text format, version 0.0.4.
//!
//! Written here and not by a library: those for Rust either write OpenMetrics, whose counters
//! `promtool check metrics` takes for untyped, or bring protocol buffers along.

use std::fmt::Write as _;

/// The format's media type.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only grows; its name ends in `_total`.
    Counter,
    /// It goes up and down.
    Gauge,
}

/// Metrics as text. Names and label names are constants of the program; values are escaped.
#[derive(Debug, Default)]
pub struct Exposition(String);

impl Exposition {
    /// Adds a metric without labels.
    pub fn single(&mut self, kind: Kind, name: &'static str, help: &'static str, value: u64) {
        self.labelled(kind, name, help, [("", "", value)]);
    }

    /// Adds a metric with one label: `(label, its value, the number)` each.
    pub fn labelled<'a>(
        &mut self,
        kind: Kind,
        name: &'static str,
        help: &'static str,
        values: impl IntoIterator<Item = (&'static str, &'a str, u64)>,
    ) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        // Writing to a string does not fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (label, of, value) in values {
            let _ = if label.is_empty() {
                writeln!(self.0, "{name} {value}")
            } else {
                writeln!(self.0, "{name}{{{label}=\"{}\"}} {value}", escaped(of))
            };
        }
    }

    /// The text.
    pub fn into_text(self) -> String {
        self.0
    }
}

fn escaped(value: &str) -> String {
    value
        .replace('\\', r"\\")
        .replace('"', "\\\"")
        .replace('\n', r"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_described_once_and_its_labels_are_escaped() {
        let mut metrics = Exposition::default();
        metrics.single(Kind::Gauge, "a", "Help.", 1);
        let values = [("l", "x", 2), ("l", "q\"\\\n", 3)];
        metrics.labelled(Kind::Counter, "b_total", "More.", values);
        let expected = "# HELP a Help.\n# TYPE a gauge\na 1\n\
                        # HELP b_total More.\n# TYPE b_total counter\n\
                        b_total{l=\"x\"} 2\nb_total{l=\"q\\\"\\\\\\n\"} 3\n";
        assert_eq!(metrics.into_text(), expected);
    }
}
