//! A plain HTTP file server (nginx) that counts what it sends.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::network::host::Host;
use crate::processes::process::Process;

const PORT: u16 = 80;
const READY_TIMEOUT: Duration = Duration::from_secs(20);
const SETTLE_TIMEOUT: Duration = Duration::from_secs(30);

/// What the server has sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OriginTraffic {
    /// Body bytes of all responses to `GET`.
    pub bytes: u64,
    /// `GET` requests that were answered with more than one byte: those that move the file, not
    /// the probes.
    pub transfers: u64,
    /// All requests.
    pub requests: u64,
}

/// A running nginx that serves the files of its directory.
#[derive(Debug)]
pub struct NginxOrigin {
    host: Host,
    files: PathBuf,
    log: PathBuf,
    _process: Process,
}

impl NginxOrigin {
    /// Starts the server on `host`.
    ///
    /// # Errors
    /// `nginx` is missing or does not start.
    pub fn start(host: &Host) -> Result<Self> {
        let directory = host.directory().join("nginx");
        let files = directory.join("files");
        fs::create_dir_all(&files).context("cannot create nginx's directory")?;
        let log = directory.join("access.log");
        let id = directory.join("nginx.pid");
        let (address, directory) = (host.address(), directory.display());
        // `user root`: the scratch directory is not open to nginx's own user.
        let configuration = format!(
            "daemon off; user root; worker_processes 1; pid {directory}/nginx.pid;\n\
             error_log {directory}/error.log;\n\
             events {{ worker_connections 1024; }}\n\
             http {{\n\
               log_format traffic '$request_method $status $body_bytes_sent $uri';\n\
               access_log {directory}/access.log traffic;\n\
               client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy;\n\
               fastcgi_temp_path {directory}/fastcgi; uwsgi_temp_path {directory}/uwsgi;\n\
               scgi_temp_path {directory}/scgi;\n\
               sendfile on; keepalive_timeout 1s;\n\
               server {{ listen {address}:{PORT}; root {directory}/files; }}\n\
             }}\n"
        );
        let file = host.directory().join("nginx/nginx.conf");
        fs::write(&file, configuration).context("cannot write nginx.conf")?;
        let mut command = host.service("nginx");
        command
            .arg("-e")
            .arg(host.directory().join("nginx/error.log"));
        command.arg("-c").arg(&file);
        let mut process = Process::start("nginx", host.directory(), command)?;
        process.wait_ready(READY_TIMEOUT, |_| id.exists())?;
        Ok(Self {
            host: host.clone(),
            files,
            log,
            _process: process,
        })
    }

    /// Where to put the files it serves.
    pub fn files(&self) -> &std::path::Path {
        &self.files
    }

    /// The address of one of its files.
    pub fn url(&self, file: &str) -> String {
        format!("http://{}/{file}", self.host.address())
    }

    /// What it has sent, once no client is connected any more: nginx logs a response when it ends,
    /// and closes a connection that has been idle for a second.
    ///
    /// # Errors
    /// It is still sending after half a minute.
    pub fn traffic(&self) -> Result<OriginTraffic> {
        self.host.wait_disconnected(PORT, SETTLE_TIMEOUT)?;
        let log = fs::read_to_string(&self.log).context("cannot read nginx's log")?;
        Ok(count(&log))
    }
}

fn count(log: &str) -> OriginTraffic {
    let mut traffic = OriginTraffic::default();
    for line in log.lines() {
        let mut fields = line.split(' ');
        let method = fields.next();
        let sent = fields.nth(1).and_then(|bytes| bytes.parse::<u64>().ok());
        traffic.requests += 1;
        if let (Some("GET"), Some(sent)) = (method, sent) {
            traffic.bytes += sent;
            traffic.transfers += u64::from(sent > 1);
        }
    }
    traffic
}

#[cfg(test)]
mod tests {
    use super::count;

    #[test]
    fn a_probe_of_one_byte_is_a_request_but_no_transfer() {
        let traffic = count("GET 206 1 /f\nHEAD 200 0 /f\nGET 200 500 /f\nGET 206 250 /f\n");
        assert_eq!(traffic.bytes, 751);
        assert_eq!((traffic.transfers, traffic.requests), (2, 4));
    }
}
