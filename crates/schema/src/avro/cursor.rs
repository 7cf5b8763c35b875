//! Avro's binary primitives over a byte slice. Nothing is allocated, nothing is read past the end,
//! no length is believed before it is compared with the bytes that are left.

/// A stop in the reading; the decoder adds the table and field.
#[derive(Debug, PartialEq)]
pub(crate) enum Snag {
    Truncated,
    Length(i64),
    Number,
    Utf8,
    Branch(i64),
    Symbol(i64),
    TooDeep,
    Unreadable(String),
}

impl Snag {
    /// The reason, for people.
    pub(crate) fn words(self) -> String {
        match self {
            Snag::Truncated => {
                "the bytes end inside a value; the record is cut off, or was written under another schema"
                    .into()
            }
            Snag::Length(length) => format!("a length of {length} bytes does not fit"),
            Snag::Number => "a number is longer than its type".into(),
            Snag::Utf8 => "its text is not UTF-8".into(),
            Snag::Branch(index) => format!("a union has no branch {index}"),
            Snag::Symbol(index) => format!("an enum has no symbol number {index}"),
            Snag::TooDeep => "records nest too deep".into(),
            Snag::Unreadable(why) => why,
        }
    }
}

/// Reads from the front of a slice.
#[derive(Clone, Debug)]
pub(crate) struct AvroCursor<'a> {
    rest: &'a [u8],
}

/// The head of an array's or map's block.
pub(crate) struct ItemBlock {
    pub(crate) items: u64,
    /// The block's size, when the writer gave it: it can be skipped at once.
    pub(crate) bytes: Option<usize>,
}

impl<'a> AvroCursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        AvroCursor { rest: bytes }
    }

    pub(crate) fn remaining(&self) -> usize {
        self.rest.len()
    }

    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], Snag> {
        let (head, tail) = self.rest.split_at_checked(count).ok_or(Snag::Truncated)?;
        self.rest = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Snag> {
        let (head, tail) = self.rest.split_first_chunk::<N>().ok_or(Snag::Truncated)?;
        self.rest = tail;
        Ok(*head)
    }

    pub(crate) fn boolean(&mut self) -> Result<bool, Snag> {
        match self.array::<1>()? {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err(Snag::Number),
        }
    }

    pub(crate) fn long(&mut self) -> Result<i64, Snag> {
        // Branches of unions, symbols and most lengths take one byte.
        if let [byte @ 0..0x80, rest @ ..] = self.rest {
            self.rest = rest;
            return Ok(i64::from(byte >> 1) ^ -i64::from(byte & 1));
        }
        let mut value = 0u64;
        for (i, byte) in self.rest.iter().enumerate().take(10) {
            value |= u64::from(byte & 0x7f) << (7 * i);
            if byte & 0x80 == 0 {
                if i == 9 && *byte > 1 {
                    return Err(Snag::Number);
                }
                self.rest = &self.rest[i + 1..];
                return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
            }
        }
        Err(if self.rest.len() < 10 {
            Snag::Truncated
        } else {
            Snag::Number
        })
    }

    pub(crate) fn int(&mut self) -> Result<i64, Snag> {
        let value = self.long()?;
        i32::try_from(value)
            .map(i64::from)
            .map_err(|_| Snag::Number)
    }

    pub(crate) fn float(&mut self) -> Result<f32, Snag> {
        self.array().map(f32::from_le_bytes)
    }

    pub(crate) fn double(&mut self) -> Result<f64, Snag> {
        self.array().map(f64::from_le_bytes)
    }

    /// Reads a length, then as many bytes.
    pub(crate) fn prefixed(&mut self) -> Result<&'a [u8], Snag> {
        let length = self.long()?;
        let count = self.fitting(length)?;
        self.take(count)
    }

    pub(crate) fn text(&mut self) -> Result<&'a str, Snag> {
        std::str::from_utf8(self.prefixed()?).map_err(|_| Snag::Utf8)
    }

    /// The next block of an array or map; `None` at the end.
    pub(crate) fn block(&mut self) -> Result<Option<ItemBlock>, Snag> {
        let items = self.long()?;
        if items == 0 {
            return Ok(None);
        }
        let bytes = if items < 0 {
            let length = self.long()?;
            Some(self.fitting(length)?)
        } else {
            None
        };
        Ok(Some(ItemBlock {
            items: items.unsigned_abs(),
            bytes,
        }))
    }

    fn fitting(&self, length: i64) -> Result<usize, Snag> {
        usize::try_from(length)
            .ok()
            .filter(|l| *l <= self.rest.len())
            .ok_or(Snag::Length(length))
    }
}

/// Appends Avro's variable-length zigzag form of a number.
pub(crate) fn put_long(value: i64, out: &mut Vec<u8>) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Appends the length of `bytes`, then `bytes`.
pub(crate) fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    put_long(bytes.len() as i64, out);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_round_trip() {
        for value in [
            0,
            1,
            -1,
            63,
            64,
            -65,
            i64::from(i32::MAX),
            i64::MAX,
            i64::MIN,
        ] {
            let mut bytes = Vec::new();
            put_long(value, &mut bytes);
            let mut cursor = AvroCursor::new(&bytes);
            assert_eq!(cursor.long(), Ok(value));
            assert_eq!(cursor.remaining(), 0);
            assert_eq!(
                AvroCursor::new(&bytes[..bytes.len() - 1]).long(),
                Err(Snag::Truncated)
            );
        }
        assert_eq!(
            AvroCursor::new(&[0x80; 10]).long(),
            Err(Snag::Number),
            "no end after ten bytes"
        );
        let mut beyond_int = Vec::new();
        put_long(1 << 31, &mut beyond_int);
        assert_eq!(AvroCursor::new(&beyond_int).int(), Err(Snag::Number));
    }

    #[test]
    fn lengths_are_checked_before_they_are_believed() {
        let mut huge = Vec::new();
        put_long(1 << 40, &mut huge);
        assert_eq!(
            AvroCursor::new(&huge).prefixed(),
            Err(Snag::Length(1 << 40))
        );
        let mut negative = Vec::new();
        put_long(-5, &mut negative);
        assert_eq!(AvroCursor::new(&negative).text(), Err(Snag::Length(-5)));
        assert_eq!(AvroCursor::new(&[2, 0xff]).text(), Err(Snag::Utf8));
        assert_eq!(AvroCursor::new(&[2]).boolean(), Err(Snag::Number));
    }
}
