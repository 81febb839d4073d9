//! Every input that the fuzzer has found to lead somewhere new, for each decoder.

#![allow(clippy::unwrap_used)]

// The fuzz targets see it as a library.
#[allow(unreachable_pub)]
#[path = "../fuzz/src/lib.rs"]
mod checks;

use std::fs;
use std::path::Path;

#[test]
fn no_input_of_the_corpus_harms_a_decoder() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for (name, check) in checks::ALL {
        let mut inputs = 0;
        for input in fs::read_dir(corpus.join(name)).unwrap() {
            check(&fs::read(input.unwrap().path()).unwrap());
            inputs += 1;
        }
        assert!(inputs > 0, "no inputs for {name}");
    }
}
