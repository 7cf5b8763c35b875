//! Words of the world: industries, technologies, departments, names, titles.

/// Industries, the most common first.
pub(crate) const INDUSTRIES: [&str; 12] = [
    "Technology",
    "Finance",
    "Healthcare",
    "Retail",
    "Manufacturing",
    "Logistics",
    "Insurance",
    "Media",
    "Energy",
    "Education",
    "Travel",
    "Public Sector",
];
/// Weights of [`INDUSTRIES`], about rank^−0.7.
pub(crate) const INDUSTRY_WEIGHTS: [f64; 12] = [
    0.20, 0.13, 0.10, 0.08, 0.07, 0.07, 0.06, 0.06, 0.06, 0.06, 0.06, 0.05,
];
/// Industries our product was made for, as indices of [`INDUSTRIES`].
pub(crate) const HOME_INDUSTRIES: [usize; 3] = [0, 1, 3];

/// Regions; the first is the home region.
pub(crate) const REGIONS: [&str; 4] = ["North America", "EMEA", "APAC", "LATAM"];
/// Weights of [`REGIONS`].
pub(crate) const REGION_WEIGHTS: [f64; 4] = [0.42, 0.32, 0.18, 0.08];
/// Countries of a region.
pub(crate) const COUNTRIES: [[&str; 3]; 4] = [
    ["US", "US", "CA"],
    ["GB", "DE", "FR"],
    ["JP", "AU", "SG"],
    ["BR", "MX", "CL"],
];

/// Technologies, each with the share of accounts that use it and the effect on fit.
pub(crate) const TECHNOLOGIES: [(&str, f64, Compatibility); 12] = [
    ("AWS", 0.45, Compatibility::Neutral),
    ("Azure", 0.33, Compatibility::Neutral),
    ("Google Cloud", 0.20, Compatibility::Neutral),
    ("Snowflake", 0.24, Compatibility::Friendly),
    ("Databricks", 0.18, Compatibility::Friendly),
    ("PostgreSQL", 0.40, Compatibility::Neutral),
    ("Oracle", 0.26, Compatibility::Hostile),
    ("SAP", 0.22, Compatibility::Neutral),
    ("Salesforce", 0.38, Compatibility::Neutral),
    ("Kafka", 0.21, Compatibility::Friendly),
    ("Kubernetes", 0.30, Compatibility::Neutral),
    ("Mainframe", 0.10, Compatibility::Hostile),
];

/// The effect of a technology on fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compatibility {
    Friendly,
    Neutral,
    Hostile,
}

/// Departments, in the order in which they join a purchase.
pub(crate) const DEPARTMENTS: [&str; 10] = [
    "Engineering",
    "Data",
    "Product",
    "IT",
    "Operations",
    "Security",
    "Finance",
    "Procurement",
    "Marketing",
    "Sales",
];
/// Weights of [`DEPARTMENTS`].
pub(crate) const DEPARTMENT_WEIGHTS: [f64; 10] =
    [0.20, 0.13, 0.10, 0.14, 0.11, 0.06, 0.08, 0.05, 0.08, 0.05];
/// True for each technical one of [`DEPARTMENTS`].
pub(crate) const TECHNICAL: [bool; 10] = [
    true, true, true, true, false, true, false, false, false, false,
];

/// Seniorities, the lowest first.
pub(crate) const SENIORITIES: [&str; 5] = ["IC", "Manager", "Director", "VP", "C-Level"];
/// Index of the lowest executive of [`SENIORITIES`].
pub(crate) const EXECUTIVE: usize = 3;

/// The job title for a department and a seniority.
pub(crate) fn title(department: usize, seniority: usize) -> String {
    const SPECIALISTS: [&str; 10] = [
        "Software Engineer",
        "Data Scientist",
        "Product Analyst",
        "Systems Administrator",
        "Operations Analyst",
        "Security Engineer",
        "Financial Analyst",
        "Buyer",
        "Marketing Specialist",
        "Account Executive",
    ];
    const CHIEFS: [&str; 10] = [
        "CTO",
        "Chief Data Officer",
        "Chief Product Officer",
        "CIO",
        "COO",
        "CISO",
        "CFO",
        "Chief Procurement Officer",
        "CMO",
        "Chief Revenue Officer",
    ];
    let department_name = DEPARTMENTS[department];
    match seniority {
        0 => SPECIALISTS[department].to_owned(),
        1 => format!("{department_name} Manager"),
        2 => format!("Director of {department_name}"),
        3 => format!("VP {department_name}"),
        _ => CHIEFS[department].to_owned(),
    }
}

/// The name of the account with this number: no two numbers share one.
pub(crate) fn company_name(number: usize) -> String {
    const FIRST: [&str; 32] = [
        "Vertex", "Orbit", "Helix", "Nova", "Granite", "Cobalt", "Summit", "Harbor", "Lumen",
        "Atlas", "Beacon", "Cedar", "Delta", "Ember", "Falcon", "Garnet", "Indigo", "Juniper",
        "Keystone", "Laurel", "Meridian", "Nimbus", "Onyx", "Pioneer", "Quartz", "Redwood",
        "Sierra", "Tundra", "Umbra", "Vista", "Willow", "Zephyr",
    ];
    const SECOND: [&str; 24] = [
        "Analytics",
        "Freight",
        "Foods",
        "Motors",
        "Health",
        "Capital",
        "Media",
        "Energy",
        "Retail",
        "Software",
        "Robotics",
        "Insurance",
        "Textiles",
        "Airways",
        "Networks",
        "Chemicals",
        "Learning",
        "Logistics",
        "Materials",
        "Pharma",
        "Payments",
        "Security",
        "Systems",
        "Ventures",
    ];
    const THIRD: [&str; 16] = [
        "",
        " Group",
        " Labs",
        " Partners",
        " Holdings",
        " Works",
        " International",
        " Collective",
        " Industries",
        " Solutions",
        " Brothers",
        " Union",
        " Digital",
        " Global",
        " One",
        " Europe",
    ];
    const COMBINATIONS: usize = 32 * 24 * 16;
    // Coprime to the number of combinations: visits each once before repeating.
    const STRIDE: usize = 5_003;
    let spread = (number % COMBINATIONS) * STRIDE % COMBINATIONS;
    let name = format!(
        "{} {}{}",
        FIRST[spread % 32],
        SECOND[spread / 32 % 24],
        THIRD[spread / (32 * 24)]
    );
    match number / COMBINATIONS {
        0 => name,
        round => format!("{name} {}", round + 1),
    }
}

/// The domain of a company of this name.
pub(crate) fn domain(company: &str) -> String {
    let slug: String = company
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|c| c.to_ascii_lowercase())
        .collect();
    format!("{slug}.example")
}

/// First names of people.
pub(crate) const FIRST_NAMES: [&str; 24] = [
    "Sam", "Jordan", "Taylor", "Alex", "Robin", "Kim", "Noor", "Mina", "Luca", "Elif", "Jonas",
    "Priya", "Wei", "Sofia", "Omar", "Ines", "Tomas", "Yuki", "Amara", "Nils", "Leila", "Pavel",
    "Chloe", "Diego",
];
/// Family names of people.
pub(crate) const FAMILY_NAMES: [&str; 24] = [
    "Rivera", "Lee", "Chen", "Okafor", "Novak", "Schmidt", "Tanaka", "Haddad", "Silva", "Larsen",
    "Kowalski", "Moreau", "Singh", "Costa", "Weber", "Ahmed", "Nguyen", "Rossi", "Brandt",
    "Ivanova", "Mensah", "Olsen", "Castro", "Dubois",
];

/// Mail providers for private people.
pub(crate) const FREE_MAIL: [&str; 5] = [
    "gmail.com",
    "outlook.com",
    "yahoo.com",
    "hotmail.com",
    "icloud.com",
];

/// Topics that content views are about.
pub(crate) const TOPICS: [&str; 6] = [
    "getting started",
    "architecture",
    "integration",
    "governance",
    "cost",
    "machine learning",
];
/// Names of our products.
pub(crate) const PRODUCTS: [&str; 3] = ["Studio", "Pipeline", "Gateway"];
/// Features of the products.
pub(crate) const PRODUCT_FEATURES: [&str; 5] =
    ["dashboards", "connectors", "scheduling", "api", "alerts"];
/// Sources of leads, with weights.
pub(crate) const LEAD_SOURCES: [(&str, f64); 7] = [
    ("Organic", 0.27),
    ("Webinar", 0.17),
    ("Google Ads", 0.16),
    ("Content DL", 0.16),
    ("Event", 0.09),
    ("Referral", 0.08),
    ("Outbound", 0.07),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn company_names_and_domains_are_unique() {
        let names: HashSet<String> = (0..30_000).map(company_name).collect();
        assert_eq!(names.len(), 30_000);
        let domains: HashSet<String> = names.iter().map(|name| domain(name)).collect();
        assert_eq!(domains.len(), 30_000);
    }
}
