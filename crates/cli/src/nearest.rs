//! Names that were nearly met: the known name that a misspelt one is closest to.

/// Least similarity of a name that is proposed: 1 is equal, 0 has nothing in common.
const LEAST_SIMILARITY: f64 = 0.7;

/// The known name closest to one that is not known; `None` where none is close.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = name.to_lowercase();
    let mut best: Option<(f64, &str)> = None;
    for candidate in known {
        let similarity = strsim::normalized_damerau_levenshtein(&wanted, &candidate.to_lowercase());
        let is_part = wanted.len() >= 4 && candidate.to_lowercase().starts_with(&wanted);
        let similarity = if is_part { 1.0 } else { similarity };
        if similarity >= LEAST_SIMILARITY && best.is_none_or(|(most, _)| similarity > most) {
            best = Some((similarity, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// The end of an error about an unknown name: the name that was meant, or all that are known.
pub fn known_names<'a>(name: &str, known: impl IntoIterator<Item = &'a str> + Clone) -> String {
    match nearest(name, known.clone()) {
        Some(meant) => format!("did you mean {meant}?"),
        None => {
            let all: Vec<&str> = known.into_iter().collect();
            match all.is_empty() {
                true => "there is none".into(),
                false => format!("there is: {}", all.join(", ")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_miss_proposes_the_name_and_a_far_one_lists_all() {
        let tasks = ["account-wins-90d", "lead-converts-30d", "contact-replies"];
        let check = |name: &str, expected: &str| assert_eq!(known_names(name, tasks), expected);
        check("account-win-90d", "did you mean account-wins-90d?");
        check("acount-wins-90d", "did you mean account-wins-90d?");
        check("Account-Wins-30d", "did you mean account-wins-90d?");
        check("lead", "did you mean lead-converts-30d?");
        check(
            "churn",
            "there is: account-wins-90d, lead-converts-30d, contact-replies",
        );
        assert_eq!(nearest("x", []), None);
        assert_eq!(known_names("x", []), "there is none");
    }
}
