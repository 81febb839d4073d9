//! Makes sealed layers survive a crash, one after the other, on a thread of its own.
//!
//! A sealed layer is served from the moment its digest was compared. Recording that costs the
//! disk four flushes, which no caller waits for: a crash before them costs a download. The thread
//! also notes now and then when layers were last used.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;

use super::StoredLayer;
use super::inventory::Inventory;

/// A crash forgets the uses since then; they matter for the order of eviction only.
const RECORD_USES_INTERVAL: Duration = Duration::from_secs(60);

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
    pub(super) fn start(layers: Arc<Mutex<Inventory>>) -> std::io::Result<Self> {
        let (sender, jobs) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("layer recorder".to_owned())
            .spawn(move || work(&jobs, &layers))?;
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

fn work(jobs: &Receiver<Job>, layers: &Mutex<Inventory>) {
    loop {
        match jobs.recv_timeout(RECORD_USES_INTERVAL) {
            Ok(Job::Record(layer)) => record(&layer, layers),
            Err(RecvTimeoutError::Timeout) => persist_last_uses(layers),
            Ok(Job::Stop) | Err(RecvTimeoutError::Disconnected) => {
                return persist_last_uses(layers);
            }
        }
    }
}

fn record(layer: &Arc<StoredLayer>, layers: &Mutex<Inventory>) {
    // The directory of one that was evicted meanwhile may be another's.
    let is_here = {
        let inventory = layers.lock();
        inventory.layers.has(layer)
    };
    if is_here && let Err(error) = layer.record() {
        tracing::warn!(%error, "complete layer not recorded, a restart fetches it again");
    }
}

fn persist_last_uses(layers: &Mutex<Inventory>) {
    let mut inventory = layers.lock();
    inventory.packs.persist_last_uses();
    let all: Vec<_> = inventory.layers.values().cloned().collect();
    drop(inventory);
    for layer in all {
        layer.persist_last_used();
    }
}
