//! Samples of a metrics page in Prometheus' text format.

use std::collections::BTreeMap;

/// Samples of one page: values of series by name, with their labels.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Samples(BTreeMap<String, Vec<Sample>>);

/// One series at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    labels: BTreeMap<String, String>,
    pub value: f64,
}

impl Sample {
    /// The value of a label; empty for a series without it.
    pub fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }
}

impl Samples {
    /// Reads a page. Comments, and lines that are no sample, are passed over.
    pub fn read(page: &str) -> Self {
        let mut samples = Self::default();
        for line in page.lines() {
            if let Some((name, sample)) = sample(line.trim()) {
                samples.0.entry(name).or_default().push(sample);
            }
        }
        samples
    }

    /// The series of a name.
    pub fn series(&self, name: &str) -> &[Sample] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    /// Sum over the series of a name; 0 without any.
    pub fn sum(&self, name: &str) -> f64 {
        // Not `sum`, whose neutral element is −0.
        let values = self.series(name).iter().map(|one| one.value);
        values.fold(0.0, |sum, value| sum + value)
    }
}

/// `name{label="value",…} value`, perhaps with a timestamp behind.
fn sample(line: &str) -> Option<(String, Sample)> {
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let end = line.find(['{', ' '])?;
    let (name, rest) = line.split_at(end);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (BTreeMap::new(), rest),
    };
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some((name.to_owned(), Sample { labels, value }))
}

/// Labels up to the closing brace, and the text behind it.
fn labels(text: &str) -> Option<(BTreeMap<String, String>, &str)> {
    let mut labels = BTreeMap::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(behind) = rest.strip_prefix('}') {
            return Some((labels, behind));
        }
        let (name, quoted) = rest.split_once("=\"")?;
        let mut value = String::new();
        let mut characters = quoted.char_indices();
        let end = loop {
            match characters.next()? {
                (at, '"') => break at,
                (_, '\\') => match characters.next()?.1 {
                    'n' => value.push('\n'),
                    other => value.push(other),
                },
                (_, other) => value.push(other),
            }
        };
        labels.insert(name.to_owned(), value);
        rest = &quoted[end + 1..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_read_with_their_labels_and_other_lines_passed_over() {
        let page = "# HELP a_total Text with {braces} 7.\n# TYPE a_total counter\na_total 7\n\
            b{topic=\"crm, \\\"x\\\" {y}\",other=\"\"} 1.5e3 1760486400000\nb{topic=\"z\"} 0.5\n\n\
            broken{topic=\"z 3\nno_number x\nnan_gauge NaN\n";
        let samples = Samples::read(page);
        assert_eq!(samples.sum("a_total"), 7.0);
        assert_eq!(samples.sum("b"), 1500.5);
        let topics: Vec<&str> = samples
            .series("b")
            .iter()
            .map(|s| s.label("topic"))
            .collect();
        assert_eq!(topics, ["crm, \"x\" {y}", "z"]);
        assert_eq!(samples.series("b")[0].label("other"), "");
        assert!(samples.series("broken").is_empty() && samples.series("no_number").is_empty());
        assert!(samples.sum("nan_gauge").is_nan());
        assert!(samples.sum("unknown").is_sign_positive());
    }
}
