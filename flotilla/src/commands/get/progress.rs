//! Shows what a `get` does: bars on a terminal, lines elsewhere, JSON for scripts.

use std::collections::HashMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use flotilla_get::{GetEvent, Observer, Progress, share};
use indicatif::{
    BinaryBytes, HumanDuration, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle,
};
use parking_lot::Mutex;

use crate::sanitize::Sanitized;

/// How often a line about progress is written where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(5);
const BAR: &str = "{prefix:.bold} {bar:24} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {msg} {eta}";
const SPINNER: &str = "{prefix:.bold} {spinner} {binary_bytes} {binary_bytes_per_sec} {msg}";

/// How it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Display {
    /// Failures alone.
    Quiet,
    /// One event a line on stdout.
    Json,
    /// On a terminal's stderr.
    Bars,
    /// On stderr.
    Lines,
}

/// Where events go.
pub(crate) fn observer(display: Display, prints_failures: bool) -> Observer {
    match display {
        Display::Json => Arc::new(write_json),
        Display::Quiet => Arc::new(move |file: &Path, event: &GetEvent| {
            if let (GetEvent::Failed { error }, true) = (event, prints_failures) {
                eprintln!("flotilla: {}: {}", named(file), Sanitized(error));
            }
        }),
        Display::Bars | Display::Lines => {
            let board = Board {
                bars: MultiProgress::with_draw_target(match display {
                    Display::Bars => ProgressDrawTarget::stderr(),
                    _ => ProgressDrawTarget::hidden(),
                }),
                has_bars: display == Display::Bars,
                prints_failures,
                files: Mutex::default(),
            };
            Arc::new(move |file: &Path, event: &GetEvent| board.show(file, event))
        }
    }
}

fn write_json(file: &Path, event: &GetEvent) {
    #[derive(serde::Serialize)]
    struct Line<'a> {
        #[serde(flatten)]
        event: &'a GetEvent,
        file: std::borrow::Cow<'a, str>,
    }
    let line = Line {
        event,
        file: file.to_string_lossy(),
    };
    let Ok(mut text) = serde_json::to_string(&line) else {
        return;
    };
    text.push('\n');
    let mut out = std::io::stdout().lock();
    // A closed output does not stop the download.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

struct Board {
    bars: MultiProgress,
    has_bars: bool,
    prints_failures: bool,
    files: Mutex<HashMap<PathBuf, FileOnBoard>>,
}

/// What is shown of one file.
struct FileOnBoard {
    bar: ProgressBar,
    /// When the last line was written, and how many bytes there were.
    line: (Instant, u64),
}

impl Board {
    fn show(&self, file: &Path, event: &GetEvent) {
        match event {
            GetEvent::Progress(progress) => self.progress(file, progress),
            GetEvent::Failed { .. } if !self.prints_failures => self.forget(file),
            event => {
                if matches!(event, GetEvent::Completed { .. } | GetEvent::Failed { .. }) {
                    self.forget(file);
                }
                if let Some(line) = line_of(event) {
                    self.say(&format!("{}: {line}", named(file)));
                }
            }
        }
    }

    fn progress(&self, file: &Path, progress: &Progress) {
        let mut files = self.files.lock();
        let shown = files.entry(file.to_owned()).or_insert_with(|| FileOnBoard {
            bar: self.new_bar(file),
            line: (Instant::now(), progress.bytes),
        });
        let peers = peers_of(progress);
        if self.has_bars {
            if let Some(length) = progress.length
                && shown.bar.length() != Some(length)
            {
                shown.bar.set_style(style(BAR));
                shown.bar.set_length(length);
            }
            shown.bar.set_position(progress.bytes);
            shown.bar.set_message(peers);
            return;
        }
        let (since, before) = shown.line;
        let elapsed = since.elapsed();
        if elapsed < LINE_INTERVAL {
            return;
        }
        shown.line = (Instant::now(), progress.bytes);
        drop(files);
        let come = progress.bytes.saturating_sub(before);
        let millis = elapsed.as_millis().max(1);
        let rate = u64::try_from(u128::from(come) * 1000 / millis).unwrap_or(u64::MAX);
        let line = line_of_progress(progress, rate);
        self.say(&format!("{}: {line}{peers}", named(file)));
    }

    fn new_bar(&self, file: &Path) -> ProgressBar {
        let bar = ProgressBar::no_length().with_style(style(SPINNER));
        bar.set_prefix(named(file));
        self.bars.add(bar)
    }

    fn forget(&self, file: &Path) {
        let mut files = self.files.lock();
        if let Some(shown) = files.remove(file) {
            shown.bar.finish_and_clear();
            self.bars.remove(&shown.bar);
        }
    }

    fn say(&self, line: &str) {
        // Above the bars, not through them.
        self.bars.suspend(|| eprintln!("flotilla: {line}"));
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn named(file: &Path) -> String {
    Sanitized(&file.display().to_string()).to_string()
}

fn peers_of(progress: &Progress) -> String {
    if progress.peers == 0 {
        return String::new();
    }
    let share = share(progress.from_peers, progress.bytes) * 100.0;
    format!(" {} peers, {share:.0} % from peers", progress.peers)
}

fn line_of_progress(progress: &Progress, rate: u64) -> String {
    let bytes = BinaryBytes(progress.bytes);
    let rate_shown = BinaryBytes(rate);
    match progress.length {
        Some(length) => {
            let left = length.saturating_sub(progress.bytes).checked_div(rate);
            let left =
                left.map(|left| format!(", {} left", HumanDuration(Duration::from_secs(left))));
            format!(
                "{bytes} of {} ({:.0} %), {rate_shown}/s{}",
                BinaryBytes(length),
                share(progress.bytes, length) * 100.0,
                left.unwrap_or_default()
            )
        }
        None => format!("{bytes}, {rate_shown}/s"),
    }
}

/// The line about an event; none about its beginning.
fn line_of(event: &GetEvent) -> Option<String> {
    Some(match event {
        GetEvent::Resumed { bytes } => format!("resuming after {}", BinaryBytes(*bytes)),
        GetEvent::Restarted { reason } => format!("starting over: {}", Sanitized(reason)),
        GetEvent::Retrying { reason, seconds } => {
            format!("{}; retrying in {seconds:.1} s", Sanitized(reason))
        }
        GetEvent::SourceSwitch { reason, bytes } => format!(
            "continuing directly from the source after {}: {}",
            BinaryBytes(*bytes),
            Sanitized(reason)
        ),
        GetEvent::Completed {
            bytes,
            share_from_peers,
            seconds,
            ..
        } => {
            let share = share_from_peers * 100.0;
            format!(
                "complete: {} in {seconds:.1} s, {share:.0} % from peers",
                BinaryBytes(*bytes)
            )
        }
        GetEvent::Seeding { seconds } => match seconds {
            Some(seconds) => format!("seeding for {seconds:.0} s"),
            None => "seeding".to_owned(),
        },
        GetEvent::Failed { error } => Sanitized(error).to_string(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_rate_share_and_time_left() {
        let progress = Progress {
            bytes: 50 << 20,
            length: Some(100 << 20),
            from_peers: 25 << 20,
            peers: 3,
        };
        let line = line_of_progress(&progress, 10 << 20) + &peers_of(&progress);
        for part in [
            "50.00 MiB of 100.00 MiB",
            "50 %",
            "10.00 MiB/s",
            "5 seconds left",
            "3 peers",
        ] {
            assert!(line.contains(part), "{part} is missing in {line}");
        }
    }

    #[test]
    fn what_a_source_says_cannot_control_the_terminal() {
        let event = GetEvent::Failed {
            error: "\u{1b}[2J".to_owned(),
        };
        assert!(!line_of(&event).unwrap().contains('\u{1b}'));
    }
}
