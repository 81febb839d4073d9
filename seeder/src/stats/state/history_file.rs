//! The traffic of the last hour, day and week on the disk, so that a restart does not forget it.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::traffic::PastTraffic;

/// Some 430 slots of four numbers.
const MAX_BYTES: u64 = 1024 * 1024;

/// Where it is kept. Everything here blocks on the disk.
#[derive(Clone, Debug)]
pub(crate) struct HistoryFile(PathBuf);

#[derive(Serialize, Deserialize)]
struct Saved {
    /// Seconds since 1970.
    at: u64,
    traffic: PastTraffic,
}

impl HistoryFile {
    pub(crate) fn in_dir(data_dir: &Path) -> Self {
        Self(data_dir.join("traffic-history.json"))
    }

    /// What was saved, and how long ago by the clock; none when there is nothing that is understood.
    pub(in crate::stats) fn load(&self, unix_now: u64) -> Option<(PastTraffic, Duration)> {
        let read = || -> io::Result<Saved> {
            let file = BufReader::new(File::open(&self.0)?.take(MAX_BYTES));
            Ok(serde_json::from_reader(file)?)
        };
        match read() {
            Ok(saved) => {
                let ago = Duration::from_secs(unix_now.saturating_sub(saved.at));
                Some((saved.traffic, ago))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                let path = self.0.display();
                tracing::warn!(%path, %error, "traffic history not read: the charts begin with this start");
                None
            }
        }
    }

    /// Replaces what was saved, whole or not at all.
    pub(in crate::stats) fn save(&self, unix_now: u64, traffic: PastTraffic) -> io::Result<()> {
        // The directory is this process's own.
        let new = self.0.with_extension("json.new");
        let mut file = File::create(&new)?;
        let saved = Saved {
            at: unix_now,
            traffic,
        };
        let mut text = BufWriter::new(&mut file);
        serde_json::to_writer(&mut text, &saved)?;
        text.flush()?;
        drop(text);
        file.sync_data()?;
        fs::rename(new, &self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::stats::state::traffic::{History, Traffic};

    #[test]
    fn what_is_saved_is_there_again_and_what_is_not_understood_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let file = HistoryFile::in_dir(dir.path());
        assert_eq!(file.load(1000), None);
        let now = Instant::now();
        let mut history = History::new(now);
        let traffic = Traffic {
            ingested: 1,
            bypassed: 2,
            from_supernode: 3,
            from_peers: u64::MAX,
        };
        history.add(now, &traffic);
        let past = history.remember(now);
        file.save(1000, past.clone()).unwrap();
        let minute = Duration::from_secs(60);
        assert_eq!(file.load(1060), Some((past.clone(), minute)));
        // A clock that was put back.
        assert_eq!(file.load(900), Some((past, Duration::ZERO)));
        fs::write(dir.path().join("traffic-history.json"), "{\"at\":1").unwrap();
        assert_eq!(file.load(1060), None);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
