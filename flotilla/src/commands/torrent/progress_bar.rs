//! Progress of hashing.

use std::io::IsTerminal as _;

use indicatif::{ProgressBar, ProgressStyle};

/// Hidden when stderr is not a terminal.
pub(super) fn progress_bar(bytes: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = "{bar:32} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
    ProgressBar::new(bytes).with_style(
        ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()),
    )
}
