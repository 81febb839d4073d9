//! Every input that the fuzzer has found to lead somewhere new, for each decoder.

#![allow(clippy::unwrap_used)]

// The fuzz targets see it as a library.
#[allow(unreachable_pub)]
#[path = "../../fuzz/src/lib.rs"]
mod checks;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

fn fuzz_directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz")
}

/// The names of a directory's files, without their ends.
fn stems(directory: &str) -> BTreeSet<String> {
    let files = fs::read_dir(fuzz_directory().join(directory)).unwrap();
    files
        .map(|file| file.unwrap().path())
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect()
}

#[test]
fn no_input_of_the_corpus_harms_a_decoder() {
    for (name, check) in checks::ALL {
        let path = fuzz_directory().join(format!("corpus/{name}.tar"));
        let archive = File::open(&path)
            .unwrap_or_else(|error| panic!("{}: {error}: see scripts/fuzz.sh", path.display()));
        let mut inputs = 0;
        for input in tar::Archive::new(archive).entries().unwrap() {
            let mut bytes = Vec::new();
            input.unwrap().read_to_end(&mut bytes).unwrap();
            check(&bytes);
            inputs += 1;
        }
        assert!(inputs > 0, "no inputs in {}", path.display());
    }
}

#[test]
fn each_fuzz_target_has_a_check_and_a_corpus() {
    let checked: BTreeSet<_> = checks::ALL
        .iter()
        .map(|(name, _)| (*name).to_owned())
        .collect();
    assert_eq!(stems("fuzz_targets"), checked);
    assert_eq!(stems("corpus"), checked);
}
