//! SIGINT, SIGTERM and SIGHUP: clear the testbeds of this process, then exit.

use std::process::ExitCode;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use parking_lot::Mutex;
use tokio::signal::unix::{SignalKind, signal};

use crate::sweep::sweep;

static ACTIVE: Mutex<Vec<String>> = Mutex::new(Vec::new());
static INTERRUPTED: AtomicBool = AtomicBool::new(false);
static WATCH: Once = Once::new();
const SIGNAL_EXIT_BASE: i32 = 128;

/// Whether a signal is ending this process: errors from now on are its consequence.
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Acquire)
}

/// Ends a command-line program: its error printed once, exit code 1; after a signal the exit code
/// is left to the code that clears up.
pub fn conclude(outcome: anyhow::Result<()>) -> ExitCode {
    while interrupted() {
        thread::park();
    }
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// From now on a signal clears `testbed` before the process exits.
pub(crate) fn protect(testbed: &str) {
    active(|names| names.push(testbed.to_owned()));
    WATCH.call_once(|| {
        thread::spawn(watch);
    });
}

/// The testbed is cleared, or is to stay.
pub(crate) fn release(testbed: &str) {
    active(|names| names.retain(|name| name != testbed));
}

fn active<T>(change: impl FnOnce(&mut Vec<String>) -> T) -> T {
    change(&mut ACTIVE.lock())
}

fn watch() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let Ok(runtime) = runtime else { return };
    let Some(number) = runtime.block_on(next_signal()) else {
        return;
    };
    INTERRUPTED.store(true, Ordering::Release);
    eprintln!("\nstopping: ending what was started");
    for testbed in active(|names| names.clone()) {
        if let Err(error) = sweep(&testbed) {
            eprintln!("{testbed}: {error:#}");
        }
    }
    std::process::exit(SIGNAL_EXIT_BASE + number);
}

async fn next_signal() -> Option<i32> {
    let mut interrupt = signal(SignalKind::interrupt()).ok()?;
    let mut terminate = signal(SignalKind::terminate()).ok()?;
    let mut hangup = signal(SignalKind::hangup()).ok()?;
    let kind = tokio::select! {
        _ = interrupt.recv() => SignalKind::interrupt(),
        _ = terminate.recv() => SignalKind::terminate(),
        _ = hangup.recv() => SignalKind::hangup(),
    };
    Some(kind.as_raw_value())
}
