use leadpulse_schema::units::AsOf;

use super::*;

/// A letter of a record of `topic`, refused at `as_of_ms`.
fn letter(topic: &str, reason: leadpulse_engine::Reason, as_of_ms: i64) -> WholeLetter {
    use leadpulse_engine::ports::{InputPartition, RecordBatch};
    let mut batch = RecordBatch::default();
    batch.push(0, 5, 0, None, Some(b"x"), []);
    let partition = InputPartition {
        topic: topic.to_owned(),
        partition: 0,
        tables: Vec::new(),
    };
    let as_of = AsOf::from_ms(as_of_ms);
    let record = leadpulse_engine::dead_letter(batch.record(0), &partition, reason, "no", as_of);
    let place = LetterPlace {
        partition: 0,
        offset: 0,
    };
    WholeLetter::of(place, record).unwrap()
}

#[test]
fn filters_leave_in_what_they_name() {
    use leadpulse_engine::Reason::{AvroDecode, WireFormat};
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let by_reason = LetterFilter {
        reasons: names(&["avro_decode", "validation"]),
        ..LetterFilter::default()
    };
    let by_topic = LetterFilter {
        topics: names(&["b"]),
        ..LetterFilter::default()
    };
    let by_time = LetterFilter {
        since_ms: Some(10),
        until_ms: Some(20),
        ..LetterFilter::default()
    };
    let all = LetterFilter::default();
    assert!(all.is_empty() && !by_reason.is_empty() && !by_topic.is_empty() && !by_time.is_empty());
    let letters = [
        letter("a", AvroDecode, 9),
        letter("a", WireFormat, 10),
        letter("b", WireFormat, 19),
        letter("b", AvroDecode, 20),
    ];
    let cases = [
        (&all, [true, true, true, true]),
        (&by_reason, [true, false, false, true]),
        (&by_topic, [false, false, true, true]),
        (&by_time, [false, true, true, false]),
    ];
    for (filter, expected) in cases {
        let passed: Vec<bool> = letters.iter().map(|it| filter.passes(it)).collect();
        assert_eq!(passed, expected, "{filter:?}");
    }
}
