//! Bytes as lower-case hexadecimal.

use std::fmt::Write;

/// The bytes as lower-case hexadecimal, two digits each.
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        write!(text, "{byte:02x}").expect("writing to a string cannot fail");
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn bytes_have_two_digits_each() {
        assert_eq!(super::hex(&[0, 7, 0xa0, 0xff]), "0007a0ff");
        assert_eq!(super::hex(&[]), "");
    }
}
