//! What a rule has to say.

use std::fmt;

/// One place that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    pub(crate) path: String,
    /// From 1.
    pub(crate) line: usize,
    pub(crate) what: String,
    /// How to mend it.
    pub(crate) mend: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            path,
            line,
            what,
            mend,
        } = self;
        write!(formatter, "{path}:{line}: {what}\n    mend: {mend}")
    }
}

/// # Panics
///
/// With all findings, if there are any.
pub(crate) fn assert_none(findings: &[Finding]) {
    let mut lines: Vec<_> = findings.iter().map(Finding::to_string).collect();
    lines.sort();
    assert!(
        findings.is_empty(),
        "{} findings\n{}\n",
        lines.len(),
        lines.join("\n")
    );
}
