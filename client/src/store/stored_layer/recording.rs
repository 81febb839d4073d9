//! When a layer's pieces and record reach the disk.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::sync::atomic::Ordering;

use flotilla_torrents::Digest;

use super::StoredLayer;
use crate::store::layer_record::{self, LayerRecord};

impl StoredLayer {
    /// Bytes written since the last [`sync`](Self::sync).
    pub fn unsynced_bytes(&self) -> u64 {
        self.lock().unsynced.len() as u64 * u64::from(self.geometry.piece_length())
    }

    /// Makes the written pieces durable: first the data, then their records.
    ///
    /// # Errors
    /// The disk refused.
    pub fn sync(&self) -> io::Result<()> {
        self.record_pieces(|| self.write_record(false))
    }

    /// `beforehand` is done between the data and the journal's entries, if there are any.
    fn record_pieces(&self, beforehand: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let mut journal = self.journal.lock();
        let written = std::mem::take(&mut self.lock().unsynced);
        if written.is_empty() {
            return Ok(());
        }
        let recorded = self.data.sync_data();
        let recorded = recorded.and_then(|()| beforehand());
        let recorded = recorded.and_then(|()| journal.append(&written));
        if recorded.is_err() {
            self.lock().unsynced.extend(written);
            return recorded;
        }
        // A piece that comes now is among the unsynced before it is noted: it may be noted twice, but
        // is not left out.
        match self.unsynced_journal().as_mut() {
            Some(journal) => {
                let unsynced = self.lock().unsynced.clone();
                journal.replace(&unsynced)
            }
            None => Ok(()),
        }
    }

    /// Writes the record for the case that the process is killed before the first sync.
    pub(super) fn write_first_record(&self) -> io::Result<()> {
        if self.is_removed.load(Ordering::Relaxed)
            || self.record_exists.swap(true, Ordering::Relaxed)
        {
            return Ok(());
        }
        let record = self.dir.join(layer_record::RECORD);
        match File::create_new(record) {
            Ok(mut file) => file.write_all(&serde_json::to_vec(&self.layer_record(None))?),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn layer_record(&self, sealed: Option<Digest>) -> LayerRecord {
        let written = self.sealed_mtime.load(Ordering::Relaxed);
        LayerRecord {
            content: self.content.clone(),
            origin: self.origin.clone(),
            length: self.geometry.length(),
            piece_length: self.geometry.piece_length(),
            url: self.url.get().cloned(),
            written: sealed.is_some().then_some(written).filter(|at| *at > 0),
            sealed,
            pinned: self.is_pinned(),
        }
    }

    /// Records everything that is not on the disk yet.
    pub(in crate::store) fn record(&self) -> io::Result<()> {
        // The record that counts is the one below.
        self.record_pieces(|| Ok(()))?;
        self.adopt_mtime_of_system();
        self.write_record(true)
    }

    /// Some file systems settle the time of the last change when the data reaches the disk. While
    /// the file has no further name, no other process has changed it.
    fn adopt_mtime_of_system(&self) {
        if self.sealed().is_some()
            && self.data.metadata().is_ok_and(|data| data.nlink() == 1)
            && let Ok(written) = self.mtime()
        {
            self.sealed_mtime.store(written, Ordering::Relaxed);
        }
    }

    /// Writes the record, unless it is known to survive a crash already; `anew` writes it in any case.
    pub(super) fn write_record(&self, anew: bool) -> io::Result<()> {
        let mut record_is_durable = self.record_is_durable.lock();
        if self.is_removed.load(Ordering::Relaxed) {
            return Ok(());
        }
        if anew || !*record_is_durable {
            *record_is_durable = false;
            let last_used = self.last_used();
            let record = self.layer_record(self.sealed());
            record.write(&self.dir, last_used)?;
            self.record_exists.store(true, Ordering::Relaxed);
            self.persisted_last_used.store(last_used, Ordering::Relaxed);
            *record_is_durable = true;
        }
        Ok(())
    }

    /// Lets the disk know of the last use, for the order of eviction after a restart.
    pub(in crate::store) fn persist_last_used(&self) {
        let last_used = self.last_used();
        if self.persisted_last_used.swap(last_used, Ordering::Relaxed) != last_used {
            // One that has no record, or no directory any more, has nothing to be remembered.
            let _ = layer_record::persist_last_used(&self.dir, last_used);
        }
    }

    pub(in crate::store) fn record_pin(&self) -> io::Result<()> {
        self.write_record(true)
    }
}
