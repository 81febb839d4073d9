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
    use std::process::{Command, Stdio};

    use super::*;

    const IN_A_TERMINAL: &str = "FLOTILLA_TEST_IN_A_TERMINAL";
    const NAME: &str =
        "commands::top::terminal::tests::a_panic_restores_the_terminal_before_its_message";

    #[test]
    fn a_panic_restores_the_terminal_before_its_message() {
        if std::env::var_os(IN_A_TERMINAL).is_some() {
            let _screen = Screen::open().unwrap();
            panic!("a broken picture");
        }
        // This test once more, in a terminal that script (util-linux) opens.
        let program = std::env::current_exe().unwrap();
        let again = format!(
            "echo before=$(stty -g); {IN_A_TERMINAL}=1 {} --exact --nocapture {NAME}; \
             echo code=$?; echo after=$(stty -g)",
            program.display()
        );
        let output = Command::new("script")
            .args(["--quiet", "--return", "--command", &again, "/dev/null"])
            .stdin(Stdio::null())
            .output()
            .expect("script, of util-linux");
        let out = String::from_utf8_lossy(&output.stdout).into_owned();
        let value = |name: &str| {
            let mut lines = out
                .lines()
                .filter_map(|line| line.trim().strip_prefix(name));
            lines.next_back().map(ToOwned::to_owned)
        };
        assert_eq!(value("code=").as_deref(), Some("101"), "{out}");
        assert!(value("before=").is_some_and(|settings| !settings.is_empty()));
        assert_eq!(value("before="), value("after="), "{out}");
        // Alternate screen on, off, cursor shown, and then the message.
        let places = [
            "\u{1b}[?1049h",
            "\u{1b}[?1049l",
            "\u{1b}[?25h",
            "a broken picture",
        ]
        .map(|part| out.find(part));
        assert!(
            places.iter().all(Option::is_some) && places.is_sorted(),
            "{out:?}"
        );
    }
}
