//! Line numbers of a delimited file, and a bound on its rows.

use std::collections::VecDeque;
use std::io::Read;

use super::MAX_ROW_BYTES;

/// Bytes that are counted in lines as they are read. Refuses to read on when a row does not end:
/// an open quote would take the whole file for one cell.
///
/// The numbers of the `csv` crate are of no use here: a record begins, for that crate, at the second
/// byte of the line break before it, or at the empty lines before it.
pub(super) struct CountedLines {
    bytes: Box<dyn Read + Send>,
    /// Bytes read for the current row and buffered after it.
    row_bytes: u64,
    /// The offset of the next byte.
    offset: u64,
    line: u64,
    /// The byte before.
    last: u8,
    /// Offsets and numbers of lines that are not empty, from the current row on.
    starts: VecDeque<(u64, u64)>,
}

impl CountedLines {
    pub(super) fn new(bytes: Box<dyn Read + Send>) -> Self {
        CountedLines {
            bytes,
            row_bytes: 0,
            offset: 0,
            line: 1,
            last: b'\n',
            starts: VecDeque::new(),
        }
    }

    /// Begins to count the bytes of a row.
    pub(super) fn start_row(&mut self) {
        self.row_bytes = 0;
    }

    /// The line of a record that begins at an offset, or after the line breaks there.
    pub(super) fn line_at(&mut self, offset: u64) -> u64 {
        while self
            .starts
            .front()
            .is_some_and(|(start, _)| *start < offset)
        {
            self.starts.pop_front();
        }
        self.starts.front().map_or(self.line, |(_, line)| *line)
    }

    fn count(&mut self, bytes: &[u8]) {
        for byte in bytes {
            match (self.last, byte) {
                (b'\r', b'\n') => {}
                (_, b'\r' | b'\n') => self.line += 1,
                (b'\r' | b'\n', _) => self.starts.push_back((self.offset, self.line)),
                _ => {}
            }
            self.last = *byte;
            self.offset += 1;
        }
    }
}

impl Read for CountedLines {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.bytes.read(buffer)?;
        self.count(&buffer[..count]);
        self.row_bytes += count as u64;
        if self.row_bytes > MAX_ROW_BYTES {
            return Err(std::io::Error::other(format!(
                "a row is longer than {MAX_ROW_BYTES} bytes; perhaps a quote is not closed"
            )));
        }
        Ok(count)
    }
}
