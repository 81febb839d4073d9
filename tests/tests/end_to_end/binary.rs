//! The binary itself.

use anyhow::{Context, Result, ensure};
use flotilla_testbed::Flotilla;

/// A program header that names the loader of shared libraries.
const PT_INTERP: usize = 3;

/// Whether the program (ELF, 64 bits, little endian) needs a loader, and with it shared libraries.
fn needs_loader(program: &[u8]) -> Result<bool> {
    ensure!(
        program.starts_with(b"\x7fELF\x02\x01"),
        "not such a program"
    );
    let number = |at: usize, length: usize| -> Result<usize> {
        let bytes = program.get(at..at + length).context("too short")?;
        let digits = bytes.iter().rev();
        Ok(digits.fold(0, |number, byte| number << 8 | usize::from(*byte)))
    };
    let (headers, size, count) = (number(0x20, 8)?, number(0x36, 2)?, number(0x38, 2)?);
    for header in 0..count {
        if number(headers + header * size, 4)? == PT_INTERP {
            return Ok(true);
        }
    }
    Ok(false)
}

#[test]
fn the_binary_is_static_where_the_target_is_and_this_test_can_tell() -> Result<()> {
    let flotilla = std::fs::read(Flotilla::find()?.binary())?;
    assert_eq!(needs_loader(&flotilla)?, cfg!(not(target_env = "musl")));
    // Debian's are all linked to its C library.
    assert!(needs_loader(&std::fs::read("/usr/bin/env")?)?);
    Ok(())
}
