//! A list of definitions becomes metrics.
//!
//! Each crate that counts has one constant list. Its instruments are made from the list by name, so a
//! metric without a definition, or a definition that nothing counts, ends the start. The table in
//! docs/metrics.md, the alerting rules and the dashboards are checked against the lists of all
//! crates.

use std::cell::RefCell;
use std::collections::BTreeSet;

use prometheus::core::Collector;
use prometheus::{
    Error, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry,
};

/// Prometheus' kind of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Only grows while the process runs.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Observations in buckets, with `_bucket`, `_sum` and `_count`.
    Histogram,
}

impl MetricKind {
    /// The word in Prometheus' text format.
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One metric: everything about it but its values.
#[derive(Clone, Copy, Debug)]
pub struct MetricDefinition {
    pub name: &'static str,
    pub kind: MetricKind,
    /// Names of the labels; empty for a single series.
    pub labels: &'static [&'static str],
    /// One sentence, with the values of the labels where they are a closed set.
    pub help: &'static str,
    /// Upper bounds of a histogram's buckets, in the metric's unit; empty for the other kinds.
    pub buckets: &'static [f64],
}

impl MetricDefinition {
    /// A counter; the name ends in `_total`.
    pub const fn counter(
        name: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
    ) -> Self {
        Self {
            name,
            kind: MetricKind::Counter,
            labels,
            help,
            buckets: &[],
        }
    }

    /// A gauge.
    pub const fn gauge(
        name: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
    ) -> Self {
        Self {
            name,
            kind: MetricKind::Gauge,
            labels,
            help,
            buckets: &[],
        }
    }

    /// A histogram with these upper bounds.
    pub const fn histogram(
        name: &'static str,
        labels: &'static [&'static str],
        buckets: &'static [f64],
        help: &'static str,
    ) -> Self {
        Self {
            name,
            kind: MetricKind::Histogram,
            labels,
            help,
            buckets,
        }
    }
}

/// The instruments of a list, made and registered one by one.
///
/// Every error is a mistake in the program: a name that the list lacks or that is taken, an
/// instrument of another kind or with other labels, a definition without an instrument.
pub struct Instruments<'a> {
    registry: &'a Registry,
    definitions: &'static [MetricDefinition],
    made: RefCell<BTreeSet<&'static str>>,
}

impl<'a> Instruments<'a> {
    /// Makes instruments of `definitions` in `registry`.
    pub fn new(registry: &'a Registry, definitions: &'static [MetricDefinition]) -> Self {
        Self {
            registry,
            definitions,
            made: RefCell::default(),
        }
    }

    /// Makes a counter without labels.
    ///
    /// # Errors
    /// See [`Instruments`].
    pub fn counter(&self, name: &str) -> Result<IntCounter, Error> {
        let found = self.find(name, MetricKind::Counter, false)?;
        self.registered(IntCounter::with_opts(Opts::new(found.name, found.help))?)
    }

    /// Makes a counter with labels.
    ///
    /// # Errors
    /// See [`Instruments`].
    pub fn counters(&self, name: &str) -> Result<IntCounterVec, Error> {
        let found = self.find(name, MetricKind::Counter, true)?;
        let options = Opts::new(found.name, found.help);
        self.registered(IntCounterVec::new(options, found.labels)?)
    }

    /// Makes a gauge of whole numbers without labels.
    ///
    /// # Errors
    /// See [`Instruments`].
    pub fn gauge(&self, name: &str) -> Result<IntGauge, Error> {
        let found = self.find(name, MetricKind::Gauge, false)?;
        self.registered(IntGauge::with_opts(Opts::new(found.name, found.help))?)
    }

    /// Makes a gauge of whole numbers with labels.
    ///
    /// # Errors
    /// See [`Instruments`].
    pub fn gauges(&self, name: &str) -> Result<IntGaugeVec, Error> {
        let found = self.find(name, MetricKind::Gauge, true)?;
        let options = Opts::new(found.name, found.help);
        self.registered(IntGaugeVec::new(options, found.labels)?)
    }

    /// Makes a gauge of fractions with labels.
    ///
    /// # Errors
    /// See [`Instruments`].
    pub fn fractions(&self, name: &str) -> Result<GaugeVec, Error> {
        let found = self.find(name, MetricKind::Gauge, true)?;
        let options = Opts::new(found.name, found.help);
        self.registered(GaugeVec::new(options, found.labels)?)
    }

    /// Makes a histogram without labels.
    ///
    /// # Errors
    /// See [`Instruments`].
    pub fn histogram(&self, name: &str) -> Result<Histogram, Error> {
        let found = self.find(name, MetricKind::Histogram, false)?;
        let options = HistogramOpts::new(found.name, found.help).buckets(found.buckets.to_vec());
        self.registered(Histogram::with_opts(options)?)
    }

    /// Makes a histogram with labels.
    ///
    /// # Errors
    /// See [`Instruments`].
    pub fn histograms(&self, name: &str) -> Result<HistogramVec, Error> {
        let found = self.find(name, MetricKind::Histogram, true)?;
        let options = HistogramOpts::new(found.name, found.help).buckets(found.buckets.to_vec());
        self.registered(HistogramVec::new(options, found.labels)?)
    }

    /// Ends the list.
    ///
    /// # Errors
    /// A definition without an instrument.
    pub fn finish(self) -> Result<(), Error> {
        let made = self.made.into_inner();
        match self.definitions.iter().find(|d| !made.contains(d.name)) {
            Some(definition) => Err(Error::Msg(format!(
                "{} is defined, and nothing counts it: make its instrument",
                definition.name
            ))),
            None => Ok(()),
        }
    }

    fn find(
        &self,
        name: &str,
        kind: MetricKind,
        is_labelled: bool,
    ) -> Result<&'static MetricDefinition, Error> {
        let found = self.definitions.iter().find(|d| d.name == name);
        let fitting = found.filter(|d| d.kind == kind && d.labels.is_empty() != is_labelled);
        let Some(definition) = fitting else {
            let kind = kind.name();
            return Err(Error::Msg(format!(
                "{name} is not in the list as a {kind} with labels: {is_labelled}; correct its definition"
            )));
        };
        self.made.borrow_mut().insert(definition.name);
        Ok(definition)
    }

    fn registered<C: Collector + Clone + 'static>(&self, instrument: C) -> Result<C, Error> {
        self.registry.register(Box::new(instrument.clone()))?;
        Ok(instrument)
    }
}
