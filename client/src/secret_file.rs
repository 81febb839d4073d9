//! Files of a secret that a process makes on its first start and keeps.

use std::io::{self, Write as _};
use std::path::Path;

/// Lets the file appear, whole and on the disk, with mode 0600; false: one is there already and stays
/// as it is. Blocks on the disk.
///
/// A crash leaves no file or a whole one. Half a secret would be one that can be guessed, or none.
///
/// # Errors
/// The directory cannot be written.
pub fn create(path: &Path, secret: &[u8]) -> io::Result<bool> {
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    // Mode 0600 is what this crate gives to all its files.
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(secret)?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(path) {
        Ok(_) => std::fs::File::open(directory)?.sync_all().map(|()| true),
        Err(refused) if refused.error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(refused) => Err(refused.error),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn processes_that_start_at_the_same_moment_share_one_secret() {
        const STARTS: u8 = 16;
        let dir = tempfile::tempdir().unwrap();
        for round in 0..20 {
            let path = dir.path().join(format!("secret {round}"));
            let start = std::sync::Barrier::new(usize::from(STARTS));
            let read: Vec<Vec<u8>> = std::thread::scope(|scope| {
                let begin = |number: u8| {
                    start.wait();
                    let is_mine = create(&path, &[number; 64]).unwrap();
                    let read = fs::read(&path).unwrap();
                    assert_eq!(is_mine, read[0] == number);
                    read
                };
                let begun: Vec<_> = (0..STARTS)
                    .map(|it| scope.spawn(move || begin(it)))
                    .collect();
                begun.into_iter().map(|it| it.join().unwrap()).collect()
            });
            assert!(read.iter().all(|secret| *secret == read[0]));
            assert!(read[0].len() == 64 && read[0].iter().all(|byte| *byte == read[0][0]));
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        // Nothing else is left.
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 20);
    }
}
