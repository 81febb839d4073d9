//! `flotilla top`: a supernode's statistics, live in a terminal.
//!
//! A thread reads keys, a thread draws, a task polls. A supernode that hangs does not block the keys,
//! nor does a terminal that accepts no output block the polling. [`State`] is what is drawn; answers
//! and keys change it. It has no clock, terminal or socket.

mod cell_text;
mod columns;
mod drawing;
mod event;
mod listing;
mod poller;
mod state;
mod terminal;

use std::io::{self, IsTerminal as _};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::Args;
use flotilla_cluster::statistics_client::StatisticsClient;
use ratatui::crossterm::event::{self as crossterm_event, Event as TerminalEvent};
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use self::event::Event;
use self::listing::Query;
use self::state::State;
use self::terminal::Screen;
use crate::commands::status;
use crate::config::ConfigErrors;
use crate::config::units::Time;

const TOP_EXAMPLES: &str = "\
Examples:
  flotilla top
  flotilla top --supernode http://10.0.0.1:8001,http://10.0.0.2:8001 --stats-token-file stats-token

Keys:
  1, 2, Tab          swarms, nodes, switch between them
  n                  the next supernode
  Up, Down           previous row, next row
  PageUp, PageDown   previous page, next page
  Home, End          first page, last page
  s, r               sort by the next column, reverse the order
  /                  search names, digests, addresses; Enter keeps the search, Esc ends it
  q, Esc, Ctrl-C     quit";

#[derive(Debug, Args)]
#[command(after_help = TOP_EXAMPLES)]
pub(crate) struct TopArgs {
    /// Supernodes, separated by commas [default: the configuration's]
    ///
    /// The screen shows one of them; press n for the next.
    #[arg(long, value_name = "URL", value_delimiter = ',')]
    pub(crate) supernode: Vec<String>,
    /// File with the statistics token [default: none]
    ///
    /// The environment variable FLOTILLA_STATS_TOKEN can hold the token itself. Without a statistics
    /// token the join token is sent.
    #[arg(long, value_name = "FILE")]
    pub(crate) stats_token_file: Option<PathBuf>,
    /// Polling interval, from 500ms to 1h
    #[arg(long, value_name = "TIME", default_value = "1s")]
    pub(crate) interval: Time,
}

/// Faster than this nothing changes at the supernode; slower is no live view.
const INTERVALS: RangeInclusive<Duration> = Duration::from_millis(500)..=Duration::from_secs(3600);
/// Keys and answers that wait to be drawn. An answer too many is dropped: the next one is newer.
const MAX_QUEUED: usize = 64;
/// How often threads look whether to end, and the time that is shown moves on.
const TICK_INTERVAL: Duration = Duration::from_millis(200);
/// For the terminal to take what restores it.
const RESTORE_TIMEOUT: Duration = Duration::from_secs(2);

/// Shows supernodes until a key or a signal ends it.
pub(crate) async fn run(args: TopArgs, shutdown: CancellationToken) -> anyhow::Result<()> {
    let interval = args.interval.0;
    if !INTERVALS.contains(&interval) {
        let given = humantime::format_duration(interval);
        let error = format!("--interval {given}: expected 500ms to 1h");
        return Err(ConfigErrors(vec![error]).into());
    }
    let (supernodes, token) = status::asked(&args.supernode, args.stats_token_file.as_deref())?;
    if !(io::stdin().is_terminal() && io::stdout().is_terminal()) {
        bail!("top needs a terminal; `flotilla status` prints the same once");
    }
    let clients = supernodes
        .iter()
        .map(|supernode| StatisticsClient::new(supernode, token.as_deref()));
    let clients = clients.collect::<Result<Vec<_>, _>>()?;
    let state = State::new(supernodes.iter().map(flotilla_cluster::redacted).collect());

    // Ends everything that was started here, also when this future is dropped.
    let ended = shutdown.child_token();
    let _end = ended.clone().drop_guard();
    let (events, waiting) = mpsc::sync_channel(MAX_QUEUED);
    let (ask, asked) = watch::channel(state.query());
    tokio::spawn(ended.clone().run_until_cancelled_owned(poller::ask(
        clients,
        asked,
        interval,
        events.clone(),
    )));
    let keys_end = ended.clone();
    spawn("keys", move || read_keys(&events, &keys_end))?;
    let (done, drawn) = oneshot::channel();
    let drawing_end = ended.clone();
    spawn("drawing", move || {
        let _ = done.send(show(state, &waiting, &ask, &drawing_end));
    })?;
    let stopped = async {
        ended.cancelled().await;
        tokio::time::sleep(RESTORE_TIMEOUT).await;
    };
    tokio::select! {
        shown = drawn => shown.context("the display stopped unexpectedly; please report the message above")?,
        () = stopped => bail!("the terminal accepts no output; run `reset` if it stays unusable"),
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> anyhow::Result<()> {
    let thread = std::thread::Builder::new().name(name.to_owned());
    thread.spawn(work).context("cannot start a thread")?;
    Ok(())
}

/// Reads keys until `end`.
fn read_keys(events: &SyncSender<Event>, end: &CancellationToken) {
    while !end.is_cancelled() {
        let read = match crossterm_event::poll(TICK_INTERVAL) {
            Ok(false) => continue,
            Ok(true) => crossterm_event::read(),
            Err(error) => Err(error),
        };
        let ends = read.is_err();
        let event = read.map_or_else(Event::Gone, Event::Terminal);
        // Keys wait for the drawing thread; without it there is nothing left to do.
        if events.send(event).is_err() || ends {
            return;
        }
    }
}

/// Draws until a key or `end` ends it.
fn show(
    mut state: State,
    events: &Receiver<Event>,
    ask: &watch::Sender<Query>,
    end: &CancellationToken,
) -> anyhow::Result<()> {
    let mut screen = Screen::open().context("cannot draw on the terminal")?;
    while !end.is_cancelled() {
        // The size of the terminal says how many rows to ask for.
        let room = screen.size().map(drawing::rows_in);
        state.handle_room(room.context("cannot read the size of the terminal")?);
        screen
            .draw(|frame| drawing::draw(frame, &state, Instant::now()))
            .context("cannot draw on the terminal")?;
        let query = state.query();
        ask.send_if_modified(|asked| {
            let differs = *asked != query;
            if differs {
                *asked = query;
            }
            differs
        });
        let first = match events.recv_timeout(TICK_INTERVAL) {
            Ok(event) => event,
            Err(RecvTimeoutError::Timeout) => continue,
            // The others may see the end first.
            Err(RecvTimeoutError::Disconnected) if end.is_cancelled() => break,
            Err(RecvTimeoutError::Disconnected) => bail!("the keyboard is not read any more"),
        };
        // A held key draws once for all that has come meanwhile.
        for event in std::iter::once(first).chain(events.try_iter().take(MAX_QUEUED)) {
            match event {
                Event::Answer(answer) => state.handle_answer(*answer, Instant::now()),
                Event::Terminal(TerminalEvent::Key(key)) => {
                    if state.handle_key(key).is_break() {
                        return Ok(());
                    }
                }
                // A new size is seen by the next drawing.
                Event::Terminal(_) => {}
                Event::Gone(error) => {
                    return Err(error).context("cannot read the terminal");
                }
            }
        }
    }
    Ok(())
}
