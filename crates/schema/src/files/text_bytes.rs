//! The bytes of a text file as UTF-8: byte order marks, and encodings that a source declares.

use std::io::{self, Cursor, Read};

use encoding_rs::{Decoder, DecoderResult, Encoding, UTF_8, UTF_16BE, UTF_16LE};

use super::{FileContext, FileError};

/// The bytes at the beginning of a file in which zero bytes betray UTF-16.
const HEAD_BYTES: usize = 64;
/// The bytes that are decoded at a time.
const CHUNK_BYTES: usize = 8192;

/// A file's text: UTF-8, without a byte order mark. Where no encoding, or UTF-8, is declared the
/// bytes pass as they are.
///
/// # Errors
/// The file is UTF-16 and its source does not say so, or the mark contradicts the source.
pub(super) fn utf8(
    mut bytes: Box<dyn Read + Send>,
    context: &FileContext,
) -> Result<Box<dyn Read + Send>, FileError> {
    let mut head = Vec::with_capacity(HEAD_BYTES);
    let limited = (&mut bytes).take(HEAD_BYTES as u64).read_to_end(&mut head);
    limited.map_err(|error| context.damaged(1, error))?;
    let (marked, mark_bytes) = match Encoding::for_bom(&head) {
        Some((encoding, length)) => (Some(encoding), length),
        None => (None, 0),
    };
    let encoding = match (context.plan.text.encoding, marked) {
        (Some(declared), Some(marked)) if declared != marked => {
            let why = format!(
                "its byte order mark says {}, its source {}",
                marked.name(),
                declared.name()
            );
            return Err(context.misencoded(1, why, label(marked)));
        }
        (Some(declared), _) => declared,
        (None, Some(marked)) if marked != UTF_8 => {
            let why = format!("its byte order mark says {}, not UTF-8", marked.name());
            return Err(context.misencoded(1, why, label(marked)));
        }
        (None, None) if head.contains(&0) => {
            let likely = if head[0] == 0 { UTF_16BE } else { UTF_16LE };
            let why = format!("it has zero bytes, as {} has", likely.name());
            return Err(context.misencoded(1, why, label(likely)));
        }
        (None, _) => UTF_8,
    };
    head.drain(..mark_bytes);
    let whole = Cursor::new(head).chain(bytes);
    if encoding == UTF_8 {
        return Ok(Box::new(whole));
    }
    Ok(Box::new(Transcoded {
        bytes: whole,
        decoder: encoding.new_decoder_without_bom_handling(),
        text: Cursor::new(Vec::new()),
        is_over: false,
    }))
}

/// The name by which a source declares an encoding.
fn label(encoding: &'static Encoding) -> String {
    encoding.name().to_lowercase()
}

/// Text that is decoded as it is read.
struct Transcoded<R> {
    bytes: R,
    decoder: Decoder,
    /// Decoded text that was not taken yet.
    text: Cursor<Vec<u8>>,
    is_over: bool,
}

impl<R: Read> Transcoded<R> {
    /// Decodes the next bytes.
    fn fill(&mut self) -> io::Result<()> {
        let mut chunk = [0; CHUNK_BYTES];
        let count = self.bytes.read(&mut chunk)?;
        self.is_over = count == 0;
        let most = self
            .decoder
            .max_utf8_buffer_length_without_replacement(count);
        let mut text = vec![0; most.expect("a chunk is small")];
        let (result, _, written) = self.decoder.decode_to_utf8_without_replacement(
            &chunk[..count],
            &mut text,
            self.is_over,
        );
        match result {
            DecoderResult::InputEmpty => {}
            DecoderResult::OutputFull => unreachable!("the buffer has the largest length"),
            DecoderResult::Malformed(..) => {
                let name = self.decoder.encoding().name();
                let why = format!("bytes that are not {name}; correct text.encoding of its source");
                return Err(io::Error::new(io::ErrorKind::InvalidData, why));
            }
        }
        text.truncate(written);
        self.text = Cursor::new(text);
        Ok(())
    }
}

impl<R: Read> Read for Transcoded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = self.text.read(buffer)?;
            // At the end `fill` may have left a last character.
            if count > 0 || self.is_over || buffer.is_empty() {
                return Ok(count);
            }
            self.fill()?;
        }
    }
}
