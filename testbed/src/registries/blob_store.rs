//! The object store behind a registry that redirects: nginx over the registry's files. Like S3
//! it refuses requests that carry credentials beside those of the URL.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::network::host::Host;
use crate::processes::process::Process;

const PORT: u16 = 9000;
const READY_TIMEOUT: Duration = Duration::from_secs(20);

/// A running store.
#[derive(Debug)]
pub(crate) struct BlobStore {
    url: String,
    _process: Process,
}

impl BlobStore {
    pub(crate) fn start(host: &Host, files: &Path) -> Result<Self> {
        let directory = host.directory().join("store");
        fs::create_dir_all(&directory).context("cannot create the store's directory")?;
        let address = format!("{}:{PORT}", host.address());
        let (shown, files) = (directory.display(), files.display());
        // `user root`: the scratch directory is not open to nginx's own user.
        let configuration = format!(
            "daemon off; user root; worker_processes 1; pid {shown}/nginx.pid;\n\
             error_log {shown}/error.log;\n\
             events {{ worker_connections 1024; }}\n\
             http {{\n\
               access_log off; sendfile on;\n\
               client_body_temp_path {shown}/body; proxy_temp_path {shown}/proxy;\n\
               fastcgi_temp_path {shown}/fastcgi; uwsgi_temp_path {shown}/uwsgi;\n\
               scgi_temp_path {shown}/scgi;\n\
               server {{ listen {address}; root {files};\n\
                 if ($http_authorization) {{ return 400; }} }}\n\
             }}\n"
        );
        let file = directory.join("nginx.conf");
        fs::write(&file, configuration).context("cannot write nginx.conf")?;
        let mut command = host.service("nginx");
        command
            .arg("-c")
            .arg(&file)
            .arg("-e")
            .arg(directory.join("error.log"));
        let mut process = Process::start("store", host.directory(), command)?;
        let id = directory.join("nginx.pid");
        process.wait_ready(READY_TIMEOUT, |_| {
            fs::metadata(&id).is_ok_and(|file| file.len() > 0)
        })?;
        Ok(Self {
            url: format!("http://{address}/"),
            _process: process,
        })
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}
