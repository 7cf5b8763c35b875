//! Safe reading of a librdkafka message.

use std::panic::{AssertUnwindSafe, catch_unwind};

use rdkafka::message::{BorrowedMessage, Headers, Message};

/// The Kafka timestamp, milliseconds; −1 where the log has none (message formats before 0.10).
pub(crate) fn timestamp_ms(message: &BorrowedMessage<'_>) -> i64 {
    message.timestamp().to_millis().unwrap_or(-1)
}

/// Hands name and value of each header to `each`, in order; a null value is `None`.
///
/// rdkafka panics on a header name that is not UTF-8. No record may stop a partition, so such a
/// header is left out and logged.
pub(crate) fn for_each_header<'m>(
    message: &'m BorrowedMessage<'_>,
    mut each: impl FnMut(&'m str, Option<&'m [u8]>),
) {
    let Some(headers) = message.headers() else {
        return;
    };
    for index in 0..headers.count() {
        match catch_unwind(AssertUnwindSafe(|| headers.try_get(index))) {
            Ok(Some(header)) => each(header.key, header.value),
            Ok(None) => {}
            Err(_) => tracing::warn!(
                topic = message.topic(),
                partition = message.partition(),
                offset = message.offset(),
                "left out a header whose name is not UTF-8"
            ),
        }
    }
}
