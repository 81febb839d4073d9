//! One file for each job, whole or not at all.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::record::{JobId, JobRecord};

/// A job has 256 images at most, few outcomes, and 10,000 nodes whose names have up to 255 bytes.
const MAX_BYTES: u64 = 8 * 1024 * 1024;
const ENDING: &str = "json";

/// The directory of all jobs. Everything here blocks on the disk.
#[derive(Clone, Debug)]
pub(super) struct JobFiles {
    dir: PathBuf,
}

impl JobFiles {
    /// Makes the directory if it is missing; the jobs in it. A file that is not understood is left
    /// alone, and reported.
    ///
    /// # Errors
    /// The directory cannot be made or read.
    pub(super) fn open(dir: PathBuf) -> io::Result<(Self, Vec<JobRecord>)> {
        DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
        let mut records = Vec::new();
        for entry in fs::read_dir(&dir)? {
            let path = entry?.path();
            if path.extension() != Some(OsStr::new(ENDING)) {
                // Half a file of an earlier run.
                let _ = fs::remove_file(&path);
                continue;
            }
            match read(&path) {
                Ok(record) => records.push(record),
                Err(error) => {
                    let path = path.display();
                    tracing::warn!(%path, %error, "preheat job lost: its file is malformed");
                }
            }
        }
        Ok((Self { dir }, records))
    }

    /// Returns once it is on the disk.
    pub(super) fn save(&self, record: &JobRecord) -> io::Result<()> {
        let mut file = NamedTempFile::new_in(&self.dir)?;
        file.write_all(&serde_json::to_vec(record)?)?;
        file.as_file().sync_all()?;
        file.persist(self.path(record.id))?;
        File::open(&self.dir)?.sync_all()
    }

    pub(super) fn remove(&self, id: JobId) -> io::Result<()> {
        match fs::remove_file(self.path(id)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn path(&self, id: JobId) -> PathBuf {
        self.dir.join(format!("{id}.{ENDING}"))
    }
}

fn read(path: &Path) -> io::Result<JobRecord> {
    let mut text = Vec::new();
    File::open(path)?.take(MAX_BYTES).read_to_end(&mut text)?;
    let record: JobRecord = serde_json::from_slice(&text)?;
    let stem = path.file_stem().and_then(OsStr::to_str);
    if stem == Some(record.id.to_string().as_str()) {
        Ok(record)
    } else {
        Err(io::Error::other("it is another job's"))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use flotilla_cluster::messages::preheats::PreheatRequest;

    use super::*;

    fn record(id: u64) -> JobRecord {
        let request = PreheatRequest {
            images: vec!["reg.test/a:1".to_owned()],
            ..PreheatRequest::default()
        };
        JobRecord::new(JobId(id), request, Some("Bearer secret".to_owned()), 5)
    }

    #[test]
    fn jobs_are_found_again_and_others_cannot_read_them() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("jobs");
        let (files, found) = JobFiles::open(path.clone()).unwrap();
        assert!(found.is_empty());
        for id in [7, 8, 9] {
            files.save(&record(id)).unwrap();
        }
        files.remove(JobId(8)).unwrap();
        files.remove(JobId(8)).unwrap();
        let (_, mut found) = JobFiles::open(path.clone()).unwrap();
        found.sort_by_key(|record| record.id);
        assert_eq!(found, [record(7), record(9)]);
        for path in [path.join("7.json"), path] {
            let mode = fs::metadata(path).unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0, "{mode:o}");
        }
    }

    #[test]
    fn half_a_file_and_a_foreign_one_do_not_stop_the_others() {
        let dir = tempfile::tempdir().unwrap();
        let (files, _) = JobFiles::open(dir.path().to_owned()).unwrap();
        files.save(&record(7)).unwrap();
        fs::copy(dir.path().join("7.json"), dir.path().join("8.json")).unwrap();
        fs::write(dir.path().join("9.json"), b"{\"id\":9").unwrap();
        fs::write(dir.path().join(".tmp1234"), b"{").unwrap();
        let (_, found) = JobFiles::open(dir.path().to_owned()).unwrap();
        assert_eq!(found, [record(7)]);
        assert!(!dir.path().join(".tmp1234").exists());
        assert!(dir.path().join("9.json").exists());
    }
}
