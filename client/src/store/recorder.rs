//! Makes sealed layers survive a crash, one after the other, on a thread of its own.
//!
//! A sealed layer is served from the moment its digest was compared. Recording that costs the
//! disk four flushes, which nobody waits for: a crash before them costs a download.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;

use super::StoredLayer;

/// The thread; it ends with what it was given when this is dropped.
#[derive(Debug)]
pub(super) struct Recorder {
    sender: Sender<Job>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
enum Job {
    Record(Arc<StoredLayer>),
    Stop,
}

impl Recorder {
    pub(super) fn start() -> std::io::Result<Self> {
        let (sender, jobs) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("layer recorder".to_owned())
            .spawn(move || work(&jobs))?;
        Ok(Self {
            sender,
            thread: Some(thread),
        })
    }

    pub(super) fn record(&self, layer: Arc<StoredLayer>) {
        // The thread ends only after this.
        let _ = self.sender.send(Job::Record(layer));
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let _ = self.sender.send(Job::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn work(jobs: &Receiver<Job>) {
    while let Ok(Job::Record(layer)) = jobs.recv() {
        // One that was evicted meanwhile has no directory any more.
        if layer.dir().exists()
            && let Err(error) = layer.record()
        {
            tracing::warn!(%error, "a complete layer will be fetched again after a restart");
        }
    }
}
