//! A shell in a real terminal, of tmux.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::wait::until;

/// Ends with the test.
pub struct Pane {
    socket: PathBuf,
}

impl Pane {
    /// `sh` in a terminal of 130 columns and 30 lines, with tmux's socket in `dir`.
    pub fn open(dir: &Path) -> Self {
        let pane = Self {
            socket: dir.join("tmux"),
        };
        let sizes = ["-x", "130", "-y", "30"];
        pane.tmux(
            &[
                &["-f", "/dev/null", "new-session", "-d"],
                &sizes[..],
                &["sh"],
            ]
            .concat(),
        );
        pane.enter("PS1='$ '");
        pane
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("tmux");
        command.arg("-u").arg("-S").arg(&self.socket);
        command.env_remove("TMUX").env("LC_ALL", "C.UTF-8");
        let output = command.args(arguments).output();
        let output = output.expect("tmux, of the package of that name");
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Presses keys, by tmux's names or as text.
    pub fn press(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    /// Gives the shell a line.
    pub fn enter(&self, line: &str) {
        self.tmux(&["send-keys", "-l", line]);
        self.press(&["Enter"]);
    }

    /// What is to be seen.
    pub fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    /// Waits until what is to be seen is as it should be; the screen.
    #[track_caller]
    pub fn wait_for(&self, is_it: impl Fn(&str) -> bool) -> String {
        until(
            || format!("another screen than\n{}", self.screen()),
            || Some(self.screen()).filter(|screen| is_it(screen)),
        )
    }

    /// The settings of the terminal, as the shell reads them into a file.
    #[track_caller]
    pub fn settings(&self, file: &Path) -> String {
        self.enter(&format!(
            "stty -a > {0}.new; mv {0}.new {0}",
            file.display()
        ));
        until(
            || format!("the shell\n{}", self.screen()),
            || file.exists().then_some(()),
        );
        let settings = std::fs::read_to_string(file).unwrap();
        std::fs::remove_file(file).unwrap();
        settings
    }

    /// Whether the alternate screen is shown, and the cursor.
    pub fn modes(&self) -> (bool, bool) {
        let modes = self.tmux(&["display", "-p", "#{alternate_on} #{cursor_flag}"]);
        let modes = modes.trim().split_once(' ').unwrap();
        (modes.0 == "1", modes.1 == "1")
    }
}

impl Drop for Pane {
    fn drop(&mut self) {
        self.tmux(&["kill-server"]);
    }
}
