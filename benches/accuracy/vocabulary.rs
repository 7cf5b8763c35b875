//! Vocabulary of the shipped CRM for the baselines: kinds of events, stages, seniorities. Shares
//! nothing with the product.

/// Kinds of events: (table, value of its kind field, how far along a buyer who does it usually is,
/// whether it shows high intent).
pub const KINDS: [(&str, &str, u8, bool); 35] = [
    ("activities", "ad_click", 1, false),
    ("activities", "email_open", 1, false),
    ("activities", "email_click", 1, false),
    ("activities", "email_reply", 5, true),
    ("activities", "web_visit", 1, false),
    ("activities", "pricing_page_view", 5, true),
    ("activities", "form_fill", 2, false),
    ("activities", "webinar", 2, false),
    ("activities", "event", 2, false),
    ("activities", "call", 6, true),
    ("activities", "meeting", 7, true),
    ("activities", "trial_signup", 5, true),
    ("activities", "demo_request", 6, true),
    ("content_views", "blog", 1, false),
    ("content_views", "ebook", 2, false),
    ("content_views", "whitepaper", 2, false),
    ("content_views", "video", 2, false),
    ("content_views", "case_study", 3, true),
    ("content_views", "docs", 4, true),
    ("content_views", "security", 5, true),
    ("content_views", "pricing", 5, true),
    ("content_views", "calculator", 5, true),
    ("product_usage", "signup", 4, true),
    ("product_usage", "login", 4, false),
    ("product_usage", "feature_used", 4, false),
    ("product_usage", "limit_hit", 5, true),
    ("product_usage", "invite", 5, true),
    ("product_usage", "integration", 5, true),
    ("product_usage", "export", 4, false),
    ("opportunity_stage_changes", "Discovery", 6, true),
    ("opportunity_stage_changes", "Qualification", 7, true),
    ("opportunity_stage_changes", "Proposal", 7, true),
    ("opportunity_stage_changes", "Negotiation", 7, true),
    ("opportunity_stage_changes", "Closed Won", 0, false),
    ("opportunity_stage_changes", "Closed Lost", 0, false),
];
/// Event tables, and the field that holds their kind.
pub const EVENT_TABLES: [(&str, &str); 4] = [
    ("activities", "type"),
    ("content_views", "content_type"),
    ("product_usage", "kind"),
    ("opportunity_stage_changes", "to_stage"),
];
pub const WON: &str = "Closed Won";
pub const LOST: &str = "Closed Lost";
/// Stages of an open opportunity, in order.
pub const OPEN_STAGES: [&str; 4] = ["Discovery", "Qualification", "Proposal", "Negotiation"];
pub const SENIORITIES: [&str; 5] = ["IC", "Manager", "Director", "VP", "C-Level"];
/// From here on [`SENIORITIES`] are executives.
pub const EXECUTIVE: u8 = 3;
/// Statuses of a lead that tell most.
pub const LEAD_STATUSES: [&str; 6] = ["Open", "MQL", "SQL", "Converted", "Nurture", "No reply"];
/// Half the order of a purchase: the last levels of its four steps (see [`KINDS`]).
pub const STEPS: [u8; 4] = [2, 4, 5, 7];

/// Index of a kind in [`KINDS`].
pub fn kind(table: &str, value: &str) -> Option<usize> {
    KINDS
        .iter()
        .position(|(t, v, ..)| *t == table && *v == value)
}

/// The step of a level, 0 to 3; `None` for what is no step.
pub fn step(level: u8) -> Option<usize> {
    (level > 0)
        .then(|| STEPS.iter().position(|last| level <= *last))
        .flatten()
}
