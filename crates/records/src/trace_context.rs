//! Trace contexts: the ids by which a record's consumer joins the trace of its epoch.
//!
//! Form: [W3C Trace Context, `traceparent`](https://www.w3.org/TR/trace-context/#traceparent-header).
//! Decisions: docs/decisions/0080-outputs-are-cloud-events.md, docs/decisions/0081-spans-of-committed-epochs.md
//! Invariant: ids of an epoch are a function of the worker's name and the epoch's number, so records
//! and spans agree without a word between them, and a replay gives the same bytes.

use leadpulse_schema::hex;
use sha2::{Digest as _, Sha256};

/// Name of the header, of inputs and outputs.
pub const TRACEPARENT: &str = "traceparent";

/// Bytes of a trace's id.
const TRACE_ID_BYTES: usize = 16;
/// Bytes of a span's id.
const SPAN_ID_BYTES: usize = 8;
/// Separates the digests of epochs from those of anything else.
const EPOCH_DOMAIN: &[u8] = b"leadpulse epoch\0";
/// Length of a header of version 00, and of the part that later versions share with it.
const TEXT_BYTES: usize = 55;

/// A place in a trace: the ids of a trace and of one of its spans.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TraceContext {
    trace_id: [u8; TRACE_ID_BYTES],
    span_id: [u8; SPAN_ID_BYTES],
}

impl TraceContext {
    /// The span of a worker's epoch, the first of its trace. Deployments of different names share no
    /// ids; one that is set up anew under the same name has those of the one before.
    pub fn of_epoch(worker: &str, epoch: u64) -> Self {
        let digest = Sha256::new()
            .chain_update(EPOCH_DOMAIN)
            .chain_update(epoch.to_be_bytes())
            .chain_update(worker)
            .finalize();
        let (mut trace_id, mut span_id) = ([0; TRACE_ID_BYTES], [0; SPAN_ID_BYTES]);
        trace_id.copy_from_slice(&digest[..TRACE_ID_BYTES]);
        span_id.copy_from_slice(&digest[TRACE_ID_BYTES..TRACE_ID_BYTES + SPAN_ID_BYTES]);
        Self { trace_id, span_id }
    }

    /// The span of a part of this span, by its place from 0, in the same trace.
    #[must_use]
    pub fn child(&self, place: u64) -> Self {
        let digest = Sha256::new()
            .chain_update(self.trace_id)
            .chain_update(self.span_id)
            .chain_update(place.to_be_bytes())
            .finalize();
        let mut span_id = [0; SPAN_ID_BYTES];
        span_id.copy_from_slice(&digest[..SPAN_ID_BYTES]);
        Self { span_id, ..*self }
    }

    /// Reads a header's value. `None` for one that the standard has readers ignore: another form,
    /// version ff, ids of zeros only. Of later versions the part that they share is read.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (head, rest) = value.split_at_checked(TEXT_BYTES)?;
        let [version, trace_id, span_id, flags] = parts(head)?;
        byte(flags)?;
        let is_known_length = match byte(version)? {
            0xff => return None,
            0 => rest.is_empty(),
            _ => rest.first().is_none_or(|next| *next == b'-'),
        };
        let context = Self {
            trace_id: bytes(trace_id)?,
            span_id: bytes(span_id)?,
        };
        let is_set = context.trace_id.iter().any(|byte| *byte != 0)
            && context.span_id.iter().any(|byte| *byte != 0);
        (is_known_length && is_set).then_some(context)
    }

    /// The value of a header of version 00. `is_sampled` says whether the spans are exported: a
    /// consumer whose sampler follows its parent records its own exactly then.
    pub fn traceparent(&self, is_sampled: bool) -> String {
        let flags = u8::from(is_sampled);
        format!("00-{}-{}-{flags:02x}", self.trace_id(), self.span_id())
    }

    /// The id of the trace, 32 hexadecimal digits.
    pub fn trace_id(&self) -> String {
        hex(&self.trace_id)
    }

    /// The id of the span, 16 hexadecimal digits.
    pub fn span_id(&self) -> String {
        hex(&self.span_id)
    }
}

/// The four fields of a header, without the dashes between them.
fn parts(head: &[u8]) -> Option<[&[u8]; 4]> {
    let mut fields = head.split(|byte| *byte == b'-');
    let found = [
        fields.next()?,
        fields.next()?,
        fields.next()?,
        fields.next()?,
    ];
    let lengths = found.map(<[u8]>::len);
    let expected = [2, 2 * TRACE_ID_BYTES, 2 * SPAN_ID_BYTES, 2];
    (fields.next().is_none() && lengths == expected).then_some(found)
}

/// Bytes of a text of twice as many digits.
fn bytes<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let mut found = [0; N];
    for (place, pair) in found.iter_mut().zip(digits.chunks_exact(2)) {
        *place = byte(pair)?;
    }
    Some(found)
}

/// The byte of two digits. Letters are small: the standard has readers ignore any other header.
fn byte(digits: &[u8]) -> Option<u8> {
    let is_digit = |digit: &u8| matches!(digit, b'0'..=b'9' | b'a'..=b'f');
    if digits.len() != 2 || !digits.iter().all(is_digit) {
        return None;
    }
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_header_of_an_epoch_has_the_form_of_the_standard() {
        let epoch = TraceContext::of_epoch("leadpulse-prod", 7);
        for (is_sampled, flags) in [(false, "00"), (true, "01")] {
            let text = epoch.traceparent(is_sampled);
            assert_eq!(
                text,
                format!("00-{}-{}-{flags}", epoch.trace_id(), epoch.span_id())
            );
            assert_eq!(text.len(), 55);
            let is_small = |c: char| c == '-' || c.is_ascii_digit() || ('a'..='f').contains(&c);
            assert!(text.chars().all(is_small), "{text}");
            assert_eq!(TraceContext::parse(text.as_bytes()), Some(epoch));
        }
        // The bytes are for ever: a consumer may have stored them.
        let expected = "00-83c280129d9209bddd4d3b7ca1ad2b74-ae85081b7e800d43-00";
        assert_eq!(epoch.traceparent(false), expected);
    }

    #[test]
    fn no_two_epochs_and_no_two_deployments_share_an_id() {
        let (mut traces, mut spans) = (BTreeSet::new(), BTreeSet::new());
        for worker in ["a", "b", "a1"] {
            for epoch in 0..200 {
                let context = TraceContext::of_epoch(worker, epoch);
                assert!(traces.insert(context.trace_id()), "{worker} {epoch}");
                assert!(spans.insert(context.span_id()), "{worker} {epoch}");
                for place in 0..8 {
                    let child = context.child(place);
                    assert_eq!(child.trace_id(), context.trace_id());
                    assert!(spans.insert(child.span_id()), "{worker} {epoch} {place}");
                }
            }
        }
    }

    #[test]
    fn headers_that_the_standard_has_readers_ignore_are_none() {
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        let span = "00f067aa0ba902b7";
        let known = format!("00-{trace}-{span}-01");
        let found = TraceContext::parse(known.as_bytes()).unwrap();
        assert_eq!(
            (found.trace_id().as_str(), found.span_id().as_str()),
            (trace, span)
        );
        let later = format!("cc-{trace}-{span}-01-what-comes-then");
        assert_eq!(TraceContext::parse(later.as_bytes()), Some(found));
        let ignored = [
            String::new(),
            known[..54].to_owned(),
            format!("{known}-more"),
            format!("cc-{trace}-{span}-01more"),
            format!("ff-{trace}-{span}-01"),
            known.to_uppercase(),
            format!("00-{}-{span}-01", "0".repeat(32)),
            format!("00-{trace}-{}-01", "0".repeat(16)),
            format!("00-{trace}-{span}-0g"),
            format!("00-{trace}_{span}-01"),
            format!("+0-{trace}-{span}-01"),
            format!("00-{trace}-{span}-+1"),
        ];
        for header in ignored {
            assert_eq!(TraceContext::parse(header.as_bytes()), None, "{header}");
        }
    }
}
