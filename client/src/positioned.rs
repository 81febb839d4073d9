//! Reads and writes at an offset of a file, with few system calls and without a copy.

use std::fs::File;
use std::io::{self, IoSlice};

use bytes::Bytes;
use rustix::buffer::spare_capacity;
use rustix::io::Errno;

use crate::piece_data::PieceData;

/// Slices that one call takes; Linux has 1024 (`IOV_MAX`).
const MAX_SLICES: usize = 1024;

/// Writes all of `data` at `offset`.
pub(crate) fn write_all(file: &File, data: &PieceData, mut offset: u64) -> io::Result<()> {
    let mut slices = data.io_slices();
    let mut rest = slices.as_mut_slice();
    while !rest.is_empty() {
        let some = rest.get(..MAX_SLICES).unwrap_or(rest);
        match rustix::io::pwritev(file, some, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                offset = offset.saturating_add(written as u64);
                IoSlice::advance_slices(&mut rest, written);
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Reads exactly `length` bytes at `offset`, into memory that was not zeroed before.
pub(crate) fn read_exact(file: &File, offset: u64, length: usize) -> io::Result<Bytes> {
    let mut buffer = Vec::with_capacity(length);
    while buffer.len() < length {
        let at = offset.saturating_add(buffer.len() as u64);
        match rustix::io::pread(file, spare_capacity(&mut buffer), at) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    // An allocator may give more than it was asked for.
    buffer.truncate(length);
    Ok(buffer.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_parts_than_one_call_takes_are_written_and_read_back() {
        let file = tempfile::tempfile().unwrap();
        let mut data = PieceData::default();
        for part in 0..3 * MAX_SLICES {
            data.push(vec![part as u8; 1 + part % 5].into());
        }
        write_all(&file, &data, 7).unwrap();
        let read = read_exact(&file, 7, data.len()).unwrap();
        assert_eq!(read, data.parts().concat());
        assert_eq!(read_exact(&file, 0, 7).unwrap(), [0; 7][..]);
        let end = read_exact(&file, 8, data.len());
        assert_eq!(end.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
