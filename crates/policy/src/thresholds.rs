//! The checked thresholds of a task: named bands, and plain probabilities that alerts name.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::alerts::{AlertType, Reading, Severity};
use crate::error::PolicyError;
use crate::level::Line;
use crate::options::{BandOptions, PolicyOptions, Threshold};

/// A level counts lines in a byte, and the error texts promise a round limit.
const MAX_BANDS: usize = 32;

/// A named range of the probability.
#[derive(Clone, Debug, PartialEq)]
pub struct Band {
    /// The name in configuration and records, unique within the task.
    pub name: Arc<str>,
    /// The probability at which the band is entered.
    pub enter: f64,
    /// The probability below which the band is left.
    pub exit: f64,
    /// The urgency of alerts that enter or leave the band.
    pub severity: Severity,
}

/// All thresholds of a task, ascending, with the lines at which alerts fire.
#[derive(Clone, Debug)]
pub(crate) struct Thresholds {
    pub lines: Vec<Line>,
    /// The band that starts at each line, if one does.
    bands: Vec<Option<Band>>,
    /// Index of the line whose crossing from below fires `threshold_up`.
    pub up: Option<usize>,
    /// Index of the line whose crossing from above fires `threshold_down`.
    pub down: Option<usize>,
    /// Equal for two sets of thresholds under which a level means the same.
    pub fingerprint: u32,
}

impl Thresholds {
    /// Checks bands and thresholds; `ratio` is the hysteresis of those without an `exit`.
    pub fn checked(options: &PolicyOptions, ratio: f64) -> Result<Self, PolicyError> {
        let mut ladder = Ladder::default();
        for (index, band) in options.bands.iter().enumerate() {
            ladder.push_band(&options.bands, index, band, ratio)?;
        }
        ladder.check_ascending()?;
        for (place, threshold) in [
            ("threshold_up", &options.threshold_up),
            ("threshold_down", &options.threshold_down),
        ] {
            if let Some(Threshold::Probability(enter)) = threshold {
                ladder.insert_plain(place, *enter, ratio)?;
            }
        }
        ladder.check_ascending()?;
        let up = ladder.line_of("threshold_up", &options.threshold_up)?;
        let down = ladder.line_of("threshold_down", &options.threshold_down)?;
        let Ladder { lines, bands, .. } = ladder;
        let fingerprint = fingerprint(&lines, &bands);
        Ok(Self {
            lines,
            bands,
            up,
            down,
            fingerprint,
        })
    }

    /// Refuses more bands than a level can count. Apart from [`Self::checked`], because rules of
    /// actions are checked between the two.
    pub fn check_count(bands: &[BandOptions]) -> Result<(), PolicyError> {
        if bands.len() > MAX_BANDS {
            return Err(PolicyError::TooManyBands {
                limit: MAX_BANDS,
                found: bands.len(),
            });
        }
        Ok(())
    }

    /// The bands, lowest first.
    pub fn bands(&self) -> impl Iterator<Item = &Band> {
        self.bands.iter().flatten()
    }

    /// The band at a level: the highest one that starts at or below it.
    pub fn band_at(&self, level: u8) -> Option<&Band> {
        self.bands[..usize::from(level)]
            .iter()
            .rev()
            .flatten()
            .next()
    }

    /// The name of the band at a level.
    pub fn band_name_at(&self, level: u8) -> Option<Arc<str>> {
        self.band_at(level).map(|band| band.name.clone())
    }

    /// The side of a line that a probability is on; unmet without a line.
    pub fn reading(&self, line: Option<usize>, probability: f64) -> Reading {
        match line.map(|line| self.lines[line]) {
            Some(line) => Reading::of(probability, line.enter, line.exit),
            None => Reading::Unmet,
        }
    }

    /// The probability that an alert is about: where its line is entered (up) or left (down);
    /// `None` for types without a line.
    pub fn crossed(&self, alert_type: AlertType) -> Option<f64> {
        match alert_type {
            AlertType::ThresholdUp => self.up.map(|line| self.lines[line].enter),
            AlertType::ThresholdDown => self.down.map(|line| self.lines[line].exit),
            _ => None,
        }
    }

    /// The urgency of alerts about a level: that of its band, P3 below all bands.
    pub fn severity_at(&self, level: u8) -> Severity {
        self.band_at(level)
            .map_or(Severity::P3, |band| band.severity)
    }
}

/// Thresholds while they are read from options.
#[derive(Default)]
struct Ladder {
    /// The place of each line in the options, for messages.
    places: Vec<String>,
    lines: Vec<Line>,
    bands: Vec<Option<Band>>,
}

impl Ladder {
    fn push_band(
        &mut self,
        all: &[BandOptions],
        index: usize,
        band: &BandOptions,
        ratio: f64,
    ) -> Result<(), PolicyError> {
        if band.name.trim().is_empty() {
            return Err(PolicyError::NamelessBand { index });
        }
        if all[..index].iter().any(|other| other.name == band.name) {
            return Err(PolicyError::DuplicateBand {
                name: band.name.clone(),
            });
        }
        let place = format!("bands[{index}].enter (\"{}\")", band.name);
        let line = line(&place, band.enter, band.exit, ratio)?;
        // From the top: a task with one band has an urgent one.
        let severity = band.severity.unwrap_or(match all.len() - index {
            1 => Severity::P1,
            2 => Severity::P2,
            _ => Severity::P3,
        });
        self.places.push(place);
        self.lines.push(line);
        self.bands.push(Some(Band {
            name: Arc::from(band.name.as_str()),
            enter: line.enter,
            exit: line.exit,
            severity,
        }));
        Ok(())
    }

    /// Adds a line without a band, unless a line is entered at the same probability already.
    fn insert_plain(
        &mut self,
        place: &str,
        enter: f64,
        hysteresis_ratio: f64,
    ) -> Result<(), PolicyError> {
        let line = line(place, enter, None, hysteresis_ratio)?;
        let index = self.lines.partition_point(|other| other.enter < line.enter);
        let is_new = self
            .lines
            .get(index)
            .is_none_or(|other| other.enter != line.enter);
        if is_new {
            self.places.insert(index, place.to_owned());
            self.lines.insert(index, line);
            self.bands.insert(index, None);
        }
        Ok(())
    }

    fn check_ascending(&self) -> Result<(), PolicyError> {
        for index in 1..self.lines.len() {
            let (lower, upper) = (self.lines[index - 1], self.lines[index]);
            if lower.enter >= upper.enter || lower.exit > upper.exit {
                return Err(PolicyError::NotAscending {
                    lower: self.places[index - 1].clone(),
                    upper: self.places[index].clone(),
                    lower_enter: lower.enter,
                    upper_enter: upper.enter,
                    lower_exit: lower.exit,
                    upper_exit: upper.exit,
                });
            }
        }
        Ok(())
    }

    fn line_of(
        &self,
        place: &'static str,
        threshold: &Option<Threshold>,
    ) -> Result<Option<usize>, PolicyError> {
        let name = match threshold {
            None => return Ok(None),
            Some(Threshold::Probability(enter)) => {
                return Ok(self.lines.iter().position(|line| line.enter == *enter));
            }
            Some(Threshold::Band(name)) => name,
        };
        let is_it = |band: &Option<Band>| band.as_ref().is_some_and(|band| *band.name == **name);
        match self.bands.iter().position(is_it) {
            Some(index) => Ok(Some(index)),
            None => Err(PolicyError::UnknownBand {
                place,
                name: name.clone(),
                known: self.band_names(),
            }),
        }
    }

    fn band_names(&self) -> String {
        let names: Vec<&str> = self
            .bands
            .iter()
            .flatten()
            .map(|band| &*band.name)
            .collect();
        names.join(", ")
    }
}

fn line(
    place: &str,
    enter: f64,
    exit: Option<f64>,
    hysteresis_ratio: f64,
) -> Result<Line, PolicyError> {
    if !(enter > 0.0 && enter < 1.0) {
        return Err(PolicyError::NotAProbability {
            place: place.to_owned(),
            value: enter,
        });
    }
    let exit = exit.unwrap_or(enter * (1.0 - hysteresis_ratio));
    if !(exit >= 0.0 && exit < enter) {
        return Err(PolicyError::ExitNotBelowEnter {
            place: place.to_owned(),
            enter,
            exit,
        });
    }
    Ok(Line { enter, exit })
}

fn fingerprint(lines: &[Line], bands: &[Option<Band>]) -> u32 {
    let mut hasher = Sha256::new();
    for (line, band) in lines.iter().zip(bands) {
        hasher.update(line.enter.to_bits().to_be_bytes());
        hasher.update(line.exit.to_bits().to_be_bytes());
        let name = band.as_ref().map_or("", |band| &band.name);
        // With its length, so that no two lists of names have the same bytes.
        hasher.update((name.len() as u64).to_be_bytes());
        hasher.update(name.as_bytes());
    }
    let digest = hasher.finalize();
    u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]])
}
