//! A call as it came.

/// The system that calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum IngestSource {
    /// Segment's webhooks.
    Segment,
    /// HubSpot's webhooks.
    Hubspot,
    /// Marketo's webhooks.
    Marketo,
    /// Programs of one's own.
    Json,
}

impl IngestSource {
    /// Every source.
    pub const ALL: [Self; 4] = [Self::Segment, Self::Hubspot, Self::Marketo, Self::Json];

    /// The name in paths, settings and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Segment => "segment",
            Self::Hubspot => "hubspot",
            Self::Marketo => "marketo",
            Self::Json => "json",
        }
    }

    /// The source of a name.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|source| source.name() == name)
    }
}

/// A call: a `POST` whose body was read within its limits.
#[derive(Clone, Debug)]
pub struct IngestCall {
    /// The system that calls.
    pub source: IngestSource,
    /// Path and query as they came.
    pub path_and_query: String,
    /// Headers; names in lower case.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Vec<u8>,
}

impl IngestCall {
    /// The value of a header. `None` if it is absent or comes twice: one of two signatures could be
    /// anybody's.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(header, _)| header == name);
        let value = found.next()?.1.as_str();
        found.next().is_none().then_some(value)
    }

    /// The value of a parameter of the query, as it stands; `None` if it is absent.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        let (_, query) = self.path_and_query.split_once('?')?;
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs
            .filter(|(found, _)| *found == name)
            .map(|(_, value)| value)
            .next()
    }
}
