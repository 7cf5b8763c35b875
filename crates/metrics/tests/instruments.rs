//! Instruments against their definitions.

#![allow(clippy::unwrap_used)]

use leadpulse_metrics::{Instruments, MetricDefinition};
use prometheus::Registry;

const LIST: &[MetricDefinition] = &[
    MetricDefinition::counter("a_total", &[], "A."),
    MetricDefinition::gauge("b", &["of"], "B."),
];

#[test]
fn an_instrument_that_differs_from_its_definition_is_refused() {
    let registry = Registry::new();
    let instruments = Instruments::new(&registry, LIST);
    assert!(instruments.counter("c_total").is_err(), "not in the list");
    assert!(instruments.gauge("a_total").is_err(), "another kind");
    assert!(instruments.counters("a_total").is_err(), "no labels");
    assert!(instruments.counter("a_total").is_ok());
    assert!(instruments.counter("a_total").is_err(), "taken");
}

#[test]
fn a_definition_without_an_instrument_is_refused() {
    let registry = Registry::new();
    let instruments = Instruments::new(&registry, LIST);
    instruments.counter("a_total").unwrap();
    let error = instruments.finish().unwrap_err().to_string();
    assert!(error.contains("b is defined"), "{error}");
}
