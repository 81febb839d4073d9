//! The terminal, which is as it was once this is over.

use std::io::{self, Stdout};
use std::sync::Once;

use ratatui::Frame;
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use ratatui::layout::Size;

static ON_PANIC: Once = Once::new();

/// The alternate screen in raw mode. Dropping it restores the terminal, and so does a panic, before
/// its message is printed.
pub(super) struct Screen(Terminal<CrosstermBackend<Stdout>>);

impl Screen {
    /// # Errors
    /// The terminal cannot be set up; it is then restored.
    pub(super) fn open() -> io::Result<Self> {
        ON_PANIC.call_once(|| {
            let print = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                restore();
                print(panic);
            }));
        });
        let opened = enable_raw_mode()
            .and_then(|()| execute!(io::stdout(), EnterAlternateScreen))
            .and_then(|()| Terminal::new(CrosstermBackend::new(io::stdout())));
        if opened.is_err() {
            restore();
        }
        opened.map(Self)
    }

    pub(super) fn size(&self) -> io::Result<Size> {
        self.0.size()
    }

    pub(super) fn draw(&mut self, picture: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        self.0.draw(picture).map(drop)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

/// A terminal that is gone needs nothing.
fn restore() {
    let _ = execute!(io::stdout(), LeaveAlternateScreen, Show);
    let _ = disable_raw_mode();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::top::pane;

    const IN_A_TERMINAL: &str = "FLOTILLA_TEST_IN_A_TERMINAL";

    #[test]
    fn a_panic_restores_the_terminal_and_is_told_on_it() {
        if std::env::var_os(IN_A_TERMINAL).is_some() {
            let _screen = Screen::open().unwrap();
            panic!("a broken picture");
        }
        let dir = tempfile::tempdir().unwrap();
        let pane = pane::Pane::open(dir.path());
        let file = dir.path().join("settings");
        let before = pane.settings(&file);
        // This test once more, in a terminal.
        let program = std::env::current_exe().unwrap();
        let name =
            "commands::top::terminal::tests::a_panic_restores_the_terminal_and_is_told_on_it";
        pane.enter(&format!(
            "{IN_A_TERMINAL}=1 {} --exact --nocapture {name}; echo code $?",
            program.display()
        ));
        let screen = pane.wait_for(|screen| screen.contains("code 101"));
        assert!(screen.contains("a broken picture"), "{screen}");
        assert_eq!(pane.modes(), (false, true), "alternate screen, cursor");
        assert_eq!(pane.settings(&file), before);
    }
}
