//! The frame around an Avro record on Kafka, as Confluent's serializers write it.
//!
//! Either `0x00`, a 4-byte big-endian schema id and the Avro body; or the bare body with the
//! schema's GUID in the record header [`SCHEMA_HEADER`]: `0x01` and 16 bytes. Both are read; the
//! first is written.

/// The record header that carries the schema's GUID.
pub const SCHEMA_HEADER: &str = "__value_schema_id";

const MAGIC_ID: u8 = 0;
const MAGIC_GUID: u8 = 1;
/// The first bytes of [Avro's single-object
/// encoding](https://avro.apache.org/docs/1.12.0/specification/#single-object-encoding).
const MAGIC_SINGLE_OBJECT: [u8; 2] = [0xc3, 0x01];

/// The name of the schema that a body was written under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SchemaRef {
    /// A registry's schema id.
    Id(u32),
    /// A schema's GUID, as the record header carries it.
    Guid([u8; 16]),
    /// CRC-64-AVRO of a schema's parsing canonical form, as Avro's single-object encoding carries
    /// it.
    Fingerprint(u64),
}

/// A record's value, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The name of the writer's schema.
    pub schema: SchemaRef,
    /// The record in Avro binary, without the frame.
    pub body: &'a [u8],
}

/// A value without a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The value has no bytes (a tombstone is no value at all, and is not parsed).
    #[error("the value has no bytes; send no value to delete, or a framed Avro record")]
    Empty,
    /// The first byte of the value, or of the schema header, is none we know.
    #[error(
        "the first byte is {0:#04x}, not that of a schema id (0x00; 0x01 in the header {SCHEMA_HEADER}); use a schema registry serializer"
    )]
    WrongMagic(u8),
    /// The value begins as JSON does.
    #[error(
        "the value looks like JSON, but its source is read as Avro; set format = \"json\" in the source"
    )]
    Json,
    /// The value, or the schema header, ends before the schema's id does.
    #[error("the bytes end within the schema's id; use a schema registry serializer")]
    TooShort,
}

impl<'a> Frame<'a> {
    /// Takes a value apart; `headers` are the record's headers by name. A header with a schema's
    /// GUID decides over the value.
    ///
    /// # Errors
    /// The value carries no schema.
    ///
    /// # Examples
    /// ```
    /// use leadpulse_schema::{Frame, SchemaRef};
    ///
    /// let frame = Frame::parse(&[0, 0, 0, 0, 7, 4, b'a', b'1'], std::iter::empty())?;
    /// assert_eq!(frame.schema, SchemaRef::Id(7));
    /// assert_eq!(frame.body, [4, b'a', b'1']);
    /// # Ok::<(), leadpulse_schema::WireError>(())
    /// ```
    pub fn parse<'h>(
        value: &'a [u8],
        headers: impl Iterator<Item = (&'h str, &'h [u8])>,
    ) -> Result<Frame<'a>, WireError> {
        if value.is_empty() {
            return Err(WireError::Empty);
        }
        for (name, header) in headers {
            if name == SCHEMA_HEADER {
                let (magic, guid) = header.split_first().ok_or(WireError::TooShort)?;
                if *magic != MAGIC_GUID {
                    return Err(WireError::WrongMagic(*magic));
                }
                // Protobuf's headers go on with the numbers of the message.
                let (guid, _) = guid.split_first_chunk().ok_or(WireError::TooShort)?;
                return Ok(Frame {
                    schema: SchemaRef::Guid(*guid),
                    body: value,
                });
            }
        }
        let (magic, rest) = value.split_first().ok_or(WireError::Empty)?;
        if *magic != MAGIC_ID {
            let single = value.strip_prefix(&MAGIC_SINGLE_OBJECT);
            if let Some((fingerprint, body)) = single.and_then(|rest| rest.split_first_chunk()) {
                return Ok(Frame {
                    schema: SchemaRef::Fingerprint(u64::from_le_bytes(*fingerprint)),
                    body,
                });
            }
            if matches!(magic, b'{' | b'[') {
                return Err(WireError::Json);
            }
            return Err(WireError::WrongMagic(*magic));
        }
        let (id, body) = rest.split_first_chunk::<4>().ok_or(WireError::TooShort)?;
        Ok(Frame {
            schema: SchemaRef::Id(u32::from_be_bytes(*id)),
            body,
        })
    }
}

/// Appends a framed record to `out`.
pub fn encode_frame(id: u32, body: &[u8], out: &mut Vec<u8>) {
    out.push(MAGIC_ID);
    out.extend_from_slice(&id.to_be_bytes());
    out.extend_from_slice(body);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(
        value: &[u8],
        headers: &[(&str, &[u8])],
        expected: Result<(SchemaRef, &[u8]), WireError>,
    ) {
        let found = Frame::parse(value, headers.iter().copied()).map(|f| (f.schema, f.body));
        assert_eq!(found, expected);
    }

    #[test]
    fn both_framings_are_read_and_everything_else_is_refused() {
        let mut framed = Vec::new();
        encode_frame(258, b"body", &mut framed);
        assert_eq!(framed, [&[0, 0, 0, 1, 2][..], b"body"].concat());
        check(&framed, &[], Ok((SchemaRef::Id(258), b"body")));
        check(
            &framed[..5],
            &[("other", b"x")],
            Ok((SchemaRef::Id(258), b"")),
        );
        check(&framed[..4], &[], Err(WireError::TooShort));
        check(b"", &[], Err(WireError::Empty));
        check(b"{}", &[], Err(WireError::Json));
        check(b"x", &[], Err(WireError::WrongMagic(b'x')));
        check(b"\xc3\x01short", &[], Err(WireError::WrongMagic(0xc3)));
        check(
            b"\xc3\x01\x02\0\0\0\0\0\0\x80body",
            &[],
            Ok((SchemaRef::Fingerprint(0x8000_0000_0000_0002), b"body")),
        );

        let guid = [7u8; 16];
        let header = [&[1u8][..], &guid].concat();
        check(
            b"body",
            &[("trace", b"1"), (SCHEMA_HEADER, &header)],
            Ok((SchemaRef::Guid(guid), b"body")),
        );
        check(
            b"body",
            &[(SCHEMA_HEADER, &header[..16])],
            Err(WireError::TooShort),
        );
        check(b"body", &[(SCHEMA_HEADER, b"")], Err(WireError::TooShort));
        check(
            b"body",
            &[(SCHEMA_HEADER, &framed)],
            Err(WireError::WrongMagic(0)),
        );
        check(b"", &[(SCHEMA_HEADER, &header)], Err(WireError::Empty));
    }
}
