//! Scripts that drive a real browser with Playwright's library.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};

/// Runs until it ends by itself, or this is dropped: the script ends, and its browser with it, when
/// its standard input is closed, also when the test is killed.
pub struct Script {
    child: Child,
    input: Option<ChildStdin>,
    out: BufReader<ChildStdout>,
    err: ChildStderr,
}

impl Script {
    /// Starts a script of this directory at the page of `supernode`; `profile` is a directory for the
    /// browser.
    pub fn start(name: &str, supernode: &str, profile: &Path) -> Self {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser");
        assert!(
            dir.join("node_modules/playwright-core").exists(),
            "Playwright's library is missing: run `make setup`"
        );
        let mut command = Command::new("node");
        command.arg(dir.join(name)).arg(supernode).arg(profile);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let child = command.stderr(Stdio::piped()).spawn();
        let mut child = child.expect("cannot run node: run `make setup`");
        Self {
            input: child.stdin.take(),
            out: BufReader::new(child.stdout.take().unwrap()),
            err: child.stderr.take().unwrap(),
            child,
        }
    }

    /// Calls `on_line` with each line that the script prints, to its end.
    ///
    /// # Panics
    /// The script has failed.
    pub fn finish(mut self, mut on_line: impl FnMut(&str)) {
        let mut line = String::new();
        while self.out.read_line(&mut line).unwrap() > 0 {
            on_line(line.trim_end());
            line.clear();
        }
        let mut complaint = String::new();
        self.err.read_to_string(&mut complaint).unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}\n{complaint}");
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        self.input = None;
        let _ = self.child.wait();
    }
}
