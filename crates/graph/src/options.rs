//! Options of the graph: the extent and age of what it remembers.

use serde::{Deserialize, Serialize};

pub use leadpulse_schema::units::DAY_MS;
use leadpulse_schema::units::as_span;
use leadpulse_schema::{Catalog, DataType, DayCounter, Field, Meaning, Table};

use crate::who::domains::{Domains, registrable_domain};

/// The value of `match_by` by which a shared domain leads to the topmost root.
pub(crate) const ULTIMATE_PARENT: &str = "ultimate_parent";

/// The field of a root that names its parent: the first reference to its own table.
pub(crate) fn parent_field(root: &Table) -> Option<&Field> {
    let mut fields = root.fields.iter();
    fields.find(|field| {
        field.data_type == DataType::Text
            && field
                .reference
                .is_some_and(|r| r.table == root.id && r.meaning == Meaning::Related)
    })
}

/// The field of a table by which members and roots of a domain agree, if it is text.
pub(crate) fn agreeing_field<'t>(table: &'t Table, name: &str) -> Option<&'t Field> {
    let field = table.field(name)?;
    matches!(field.data_type, DataType::Text | DataType::Symbol(_)).then_some(field)
}

/// The extent of accumulated state. Together with the catalog the options decide the meaning of
/// state, which never depends on a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GraphOptions {
    /// Half-lives of the decayed sums, days, ascending.
    #[serde(
        rename = "half_lives",
        alias = "half_lives_days",
        with = "as_span::list_of_days"
    )]
    pub half_lives_days: Vec<f64>,
    /// Slots for the values of a category that its schema does not declare.
    pub hashed_buckets: u16,
    /// The number of an entity's newest active days kept per event table.
    pub rhythm_days: usize,
    /// The number of an entity's newest staged events kept per event table.
    pub staged_events: usize,
    /// The time within which a stage must follow the one before it, days.
    #[serde(
        rename = "order_window",
        alias = "order_window_days",
        with = "as_span::days"
    )]
    pub order_window_days: f64,
    /// Windows of activity, days, ascending: members with an event within one are counted.
    #[serde(with = "as_span::list_of_days")]
    pub active_windows: Vec<f64>,
    /// The grid of `as_of` on which hub sums are published, milliseconds.
    #[serde(
        rename = "board_period",
        alias = "board_period_ms",
        with = "as_span::ms"
    )]
    pub board_period_ms: i64,
    /// Events older than their partition's newest by more than this are late, milliseconds.
    /// Duplicates are recognised for as long.
    #[serde(
        rename = "late_horizon",
        alias = "late_horizon_ms",
        with = "as_span::ms"
    )]
    pub late_horizon_ms: i64,
    /// Events further than this ahead of their known time, or of a clock reading, are refused,
    /// milliseconds.
    #[serde(
        rename = "future_tolerance",
        alias = "future_tolerance_ms",
        with = "as_span::ms"
    )]
    pub future_tolerance_ms: i64,
    /// A board makes a cell soft-dirty when the mean log-change of its hubs exceeds this.
    pub board_epsilon: f64,
    /// The number of shards that cells are spread over.
    pub shards: usize,
    /// Domains of free e-mail providers besides the known ones: they match no member to a root.
    pub free_mail_domains: Vec<String>,
    /// The way to the right one of several roots that name one domain: `ultimate_parent`, or the
    /// name of a field that member and root must agree in. Without it the smallest key decides.
    pub match_by: Option<String>,
    /// Keeps how long each event table has brought nothing new: models then tell customers who fell
    /// silent from a source that stopped.
    pub source_ages: bool,
    /// Registrable domains of the firm that runs Leadpulse: members with an address of one count
    /// nowhere.
    pub own_domains: Vec<String>,
    /// Registrable domains of competitors, with the same effect as [`Self::own_domains`].
    pub competitor_domains: Vec<String>,
    /// This many events of one campaign and one mail domain within ten seconds are a scanner's, in
    /// tables with `bursts`: none of them counts as engagement. 0 for no such rule.
    pub burst_events: usize,
    /// The values counted per entity and day, for the windows that population filters name. Filled
    /// from the tasks, not from configuration.
    #[serde(skip)]
    pub day_counters: Vec<DayCounter>,
}

impl Default for GraphOptions {
    fn default() -> Self {
        Self {
            half_lives_days: vec![2.0, 14.0, 90.0],
            hashed_buckets: 8,
            rhythm_days: 32,
            staged_events: 32,
            order_window_days: 90.0,
            active_windows: vec![14.0, 45.0],
            board_period_ms: 3_600_000,
            late_horizon_ms: 7 * DAY_MS,
            future_tolerance_ms: 300_000,
            board_epsilon: 0.2,
            shards: 16,
            free_mail_domains: Vec::new(),
            match_by: None,
            source_ages: false,
            own_domains: Vec::new(),
            competitor_domains: Vec::new(),
            burst_events: 10,
            day_counters: Vec::new(),
        }
    }
}

/// An option out of range.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("graph.{field}: {message}")]
pub struct GraphOptionsError {
    field: &'static str,
    message: String,
}

impl GraphOptions {
    /// Checks that the fields which the options name are those of a catalog.
    ///
    /// # Errors
    /// The root or every member that is matched lacks the field of `match_by`, or its text; or the
    /// root has no reference to its parent.
    pub fn fits(&self, catalog: &Catalog) -> Result<(), GraphOptionsError> {
        let Some(name) = &self.match_by else {
            return Ok(());
        };
        let root = catalog.root();
        let message = if name == ULTIMATE_PARENT {
            let has_parent = parent_field(root).is_some();
            (!has_parent).then(|| {
                format!(
                    "'{}' has no reference to its parent; mark a field of it with \"ref\": \"{}\"",
                    root.name, root.name
                )
            })
        } else {
            let mut members = catalog
                .members()
                .filter(|table| table.fields.iter().any(|field| field.match_by.is_some()));
            let fits = agreeing_field(root, name).is_some()
                && members.any(|table| agreeing_field(table, name).is_some());
            (!fits).then(|| {
                format!(
                    "'{name}' is no text of '{}' and of a member with an address; name a field that \
                     both have, or \"{ULTIMATE_PARENT}\"",
                    root.name
                )
            })
        };
        message.map_or(Ok(()), |message| {
            Err(GraphOptionsError {
                field: "match_by",
                message,
            })
        })
    }

    /// Checks that the domains left out are those of firms.
    fn check_domains(&self) -> Result<(), GraphOptionsError> {
        let domains = Domains::new(&self.free_mail_domains);
        for (field, list) in [
            ("own_domains", &self.own_domains),
            ("competitor_domains", &self.competitor_domains),
        ] {
            if let Some(domain) = list.iter().find(|d| domains.company(d).is_none()) {
                let message = format!(
                    "'{domain}' is no domain of a firm; write domains as in \"acme.com\", none of a \
                     free e-mail provider"
                );
                return Err(GraphOptionsError { field, message });
            }
        }
        Ok(())
    }

    /// Checks ranges; the graph asserts that this was called.
    pub fn validated(self) -> Result<Self, GraphOptionsError> {
        let refuse = |field, message: &str| {
            Err(GraphOptionsError {
                field,
                message: message.into(),
            })
        };
        if self.half_lives_days.is_empty() || self.half_lives_days.len() > 6 {
            return refuse("half_lives", "give 1 to 6 half-lives");
        }
        if self
            .half_lives_days
            .iter()
            .any(|h| !(*h >= 0.05 && *h <= 3650.0))
            || !self.half_lives_days.is_sorted()
        {
            return refuse("half_lives", "each lies in 72m … 3650d, in ascending order");
        }
        if self.active_windows.len() > 6
            || self
                .active_windows
                .iter()
                .any(|days| !(*days >= 0.05 && *days <= 3650.0))
            || !self.active_windows.is_sorted()
        {
            return refuse(
                "active_windows",
                "give up to 6, each in 72m … 3650d, in ascending order",
            );
        }
        if !(1..=256).contains(&self.hashed_buckets) {
            return refuse("hashed_buckets", "lies in 1 … 256");
        }
        if !(4..=366).contains(&self.rhythm_days) {
            return refuse("rhythm_days", "lies in 4 … 366");
        }
        if !(4..=256).contains(&self.staged_events) {
            return refuse("staged_events", "lies in 4 … 256");
        }
        if !(self.order_window_days > 0.0 && self.order_window_days <= 3650.0) {
            return refuse("order_window", "lies above 0 and up to 3650d");
        }
        if !(self.board_epsilon >= 0.0 && self.board_epsilon.is_finite()) {
            return refuse("board_epsilon", "is a number from 0");
        }
        if let Some(domain) = self
            .free_mail_domains
            .iter()
            .find(|d| registrable_domain(d).is_none())
        {
            return refuse(
                "free_mail_domains",
                &format!("'{domain}' is no domain; write domains as in \"mail.example\""),
            );
        }
        self.check_domains()?;
        if self.burst_events == 1 {
            return refuse("burst_events", "is 0 for no bursts, or at least 2 events");
        }
        if self.board_period_ms < 60_000 || DAY_MS % self.board_period_ms != 0 {
            return refuse("board_period", "is at least a minute and divides a day");
        }
        if self.late_horizon_ms < 0 || self.future_tolerance_ms < 0 {
            return refuse("late_horizon", "horizons are not negative");
        }
        if !(1..=1024).contains(&self.shards) {
            return refuse("shards", "lies in 1 … 1024");
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonsense_is_refused_by_the_name_of_its_field() {
        let field = |change: fn(&mut GraphOptions)| {
            let mut options = GraphOptions::default();
            change(&mut options);
            options.validated().err().map(|refused| refused.field)
        };
        assert_eq!(field(|_| {}), None);
        assert_eq!(
            field(|o| o.free_mail_domains = vec!["isp.example".into()]),
            None
        );
        assert_eq!(field(|o| o.order_window_days = 0.0), Some("order_window"));
        assert_eq!(
            field(|o| o.order_window_days = f64::NAN),
            Some("order_window")
        );
        assert_eq!(field(|o| o.order_window_days = 1e9), Some("order_window"));
        assert_eq!(field(|o| o.board_epsilon = -0.1), Some("board_epsilon"));
        assert_eq!(
            field(|o| o.board_epsilon = f64::INFINITY),
            Some("board_epsilon")
        );
        assert_eq!(
            field(|o| o.free_mail_domains = vec!["isp".into()]),
            Some("free_mail_domains")
        );
        let mail = ["acme", "gmail.com", "isp.example"];
        for domain in mail {
            let options = || GraphOptions {
                free_mail_domains: vec!["isp.example".into()],
                ..GraphOptions::default()
            };
            let own = GraphOptions {
                own_domains: vec![domain.into()],
                ..options()
            };
            let competitors = GraphOptions {
                competitor_domains: vec!["rival.example".into(), domain.into()],
                ..options()
            };
            let refused = |options: GraphOptions| options.validated().unwrap_err().field;
            assert_eq!(refused(own), "own_domains", "{domain}");
            assert_eq!(refused(competitors), "competitor_domains", "{domain}");
        }
        assert_eq!(
            field(|o| o.half_lives_days = vec![3.0, 2.0]),
            Some("half_lives")
        );
        assert_eq!(field(|o| o.active_windows = Vec::new()), None);
        assert_eq!(
            field(|o| o.active_windows = vec![45.0, 14.0]),
            Some("active_windows")
        );
        assert_eq!(field(|o| o.burst_events = 0), None);
        assert_eq!(field(|o| o.burst_events = 1), Some("burst_events"));
        assert_eq!(field(|o| o.shards = 0), Some("shards"));
    }
}
