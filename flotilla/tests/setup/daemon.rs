//! A role of flotilla that runs beside a test.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::place::JOIN_TOKEN;

/// Runs until it is dropped.
pub struct Daemon {
    child: Child,
    /// What it said when it was ready.
    ready: String,
    /// Open as long as it runs.
    _out: BufReader<ChildStdout>,
}

impl Daemon {
    /// Starts `command`, and waits for a line with `sign` in it.
    pub fn start(mut command: Command, sign: &str) -> Self {
        let command = command.stdout(Stdio::piped()).env("FLOTILLA_LOG", "error");
        let mut child = command.spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut ready = String::new();
        while !ready.contains(sign) {
            ready.clear();
            assert_ne!(out.read_line(&mut ready).unwrap(), 0, "it did not start");
        }
        Self {
            child,
            ready,
            _out: out,
        }
    }

    pub fn ready_line(&self) -> &str {
        &self.ready
    }

    /// Where its API is.
    pub fn url(&self) -> &str {
        let mut words = self.ready.split_whitespace();
        words.find(|word| word.starts_with("http://")).unwrap()
    }

    /// Bytes that it has sent to peers until now. The statistics are a second old at most: two
    /// equal ones that are further apart hold for the moment of the call.
    pub fn uploaded(&self) -> u64 {
        let mut before = self.uploaded_lately();
        loop {
            std::thread::sleep(Duration::from_millis(1500));
            let now = self.uploaded_lately();
            if now == before {
                return now;
            }
            before = now;
        }
    }

    fn uploaded_lately(&self) -> u64 {
        let address = self.url().trim_start_matches("http://");
        let mut stream = TcpStream::connect(address).unwrap();
        let login = format!("authorization: Bearer {JOIN_TOKEN}");
        let path = "/api/v1/cluster";
        let request = format!("GET {path} HTTP/1.0\r\nhost: {address}\r\n{login}\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        let body = reply.split("\r\n\r\n").nth(1).unwrap();
        let cluster: serde_json::Value = serde_json::from_str(body).unwrap();
        cluster["uploaded_bytes"].as_u64().unwrap()
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Sends `signal` and waits for the end.
    pub fn stop(mut self, signal: Signal) {
        self.signal(signal);
        self.child.wait().unwrap();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
