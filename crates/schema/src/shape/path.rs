//! Dotted paths into a record: names of members, keys of maps and positions in arrays.

use super::data_node::DataNode;

/// A path such as `context.groupId` or `items.0.price`; the empty path is the record itself.
///
/// A member whose own name contains dots comes before a way through several members.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FieldPath(Box<str>);

impl FieldPath {
    pub(crate) fn new(text: &str) -> Self {
        Self(text.into())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The value at the path; `None` where a member is missing, or where the way leads through a
    /// value that has no members.
    pub(crate) fn find<'n, 'a>(&self, record: &'n DataNode<'a>) -> Option<&'n DataNode<'a>> {
        if self.0.is_empty() {
            return Some(record);
        }
        follow(record, &self.0)
    }
}

fn follow<'n, 'a>(node: &'n DataNode<'a>, path: &str) -> Option<&'n DataNode<'a>> {
    match node {
        DataNode::Members(_) => {
            if let Some(found) = node.member(path) {
                return Some(found);
            }
            // The longest name first, so that a name with dots wins.
            for (dot, _) in path.rmatch_indices('.') {
                let found = node.member(&path[..dot]);
                if let Some(found) = found.and_then(|inner| follow(inner, &path[dot + 1..])) {
                    return Some(found);
                }
            }
            None
        }
        DataNode::List(items) => {
            let (position, rest) = match path.split_once('.') {
                Some((position, rest)) => (position, Some(rest)),
                None => (path, None),
            };
            let item = items.get(position.parse::<usize>().ok()?)?;
            rest.map_or(Some(item), |rest| follow(item, rest))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_through_members_and_arrays_and_names_with_dots_win() {
        let record = DataNode::json(
            br#"{"a":{"b":1,"b.c":2,"c":{"d":3}},"a.b":4,"list":[{"x":5},[6]],"n":null,"a.c":{"e":7}}"#,
        )
        .unwrap();
        let cases = [
            ("a.b", Some(DataNode::Int(4))),
            ("a.b.c", Some(DataNode::Int(2))),
            ("a.c.d", Some(DataNode::Int(3))),
            ("a.c.e", Some(DataNode::Int(7))),
            ("list.0.x", Some(DataNode::Int(5))),
            ("list.1.0", Some(DataNode::Int(6))),
            ("list.2", None),
            ("list.x", None),
            ("n", Some(DataNode::Null)),
            ("n.x", None),
            ("a.b.c.d", None),
            ("", Some(record.clone())),
        ];
        for (path, expected) in cases {
            assert_eq!(
                FieldPath::new(path).find(&record),
                expected.as_ref(),
                "{path}"
            );
        }
    }
}
