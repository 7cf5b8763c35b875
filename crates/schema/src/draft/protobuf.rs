//! The leaves of a Protobuf file's first message.

use prost_reflect::{Kind, MessageDescriptor};
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver};

use super::{DraftError, DraftType, Leaf, Leaves, MAX_DEPTH, UNKNOWN_UNIT, is_named_like_time};

/// The name under which the compiler knows the text.
const FILE: &str = "schema.proto";

/// One file that exists only in memory.
struct Text(String);

impl FileResolver for Text {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        if name == FILE {
            File::from_source(name, &self.0)
        } else {
            Err(protox::Error::file_not_found(name))
        }
    }
}

pub(super) fn leaves(text: &str) -> Result<Leaves, DraftError> {
    let unreadable = |error: String| DraftError::Unreadable {
        language: "Protobuf",
        why: error,
    };
    let mut files = ChainFileResolver::new();
    files.add(Text(text.to_owned()));
    files.add(GoogleFileResolver::new());
    let mut compiler = protox::Compiler::with_file_resolver(files);
    compiler.include_imports(true);
    compiler
        .open_file(FILE)
        .map_err(|error| unreadable(error.to_string()))?;
    let pool = compiler.descriptor_pool();
    let file = pool
        .get_file_by_name(FILE)
        .ok_or_else(|| unreadable("the file is empty".into()))?;
    let message = file.messages().next().ok_or(DraftError::NotARecord)?;
    let mut leaves = Leaves {
        name: message.name().to_owned(),
        ..Leaves::default()
    };
    collect(&message, &mut Vec::new(), &mut leaves);
    Ok(leaves)
}

fn collect(message: &MessageDescriptor, path: &mut Vec<String>, leaves: &mut Leaves) {
    for field in message.fields() {
        path.push(field.name().to_owned());
        let inner = match field.kind() {
            Kind::Message(inner) if !field.is_list() && !field.is_map() => Some(inner),
            _ => None,
        };
        let kind = if field.is_map() {
            None
        } else if field.is_list() {
            matches!(field.kind(), Kind::String | Kind::Enum(_)).then_some(DraftType::Texts)
        } else {
            kind(&field.kind(), field.name())
        };
        match (kind, inner) {
            (Some(kind), _) => leaves.found.push(Leaf {
                path: path.clone(),
                kind,
                doc: None,
            }),
            (None, Some(inner)) if path.len() < MAX_DEPTH => collect(&inner, path, leaves),
            _ => leaves.remarks.push(format!(
                "left out: {} (its type is none of a column)",
                path.join(".")
            )),
        }
        path.pop();
    }
}

/// The column type of a field that stands alone; `None` for messages that are not well known, and bytes.
fn kind(kind: &Kind, name: &str) -> Option<DraftType> {
    Some(match kind {
        Kind::Bool => DraftType::Bool,
        Kind::String | Kind::Enum(_) => DraftType::Text,
        Kind::Float | Kind::Double => DraftType::Double,
        Kind::Bytes => return None,
        Kind::Message(message) => match message.full_name() {
            "google.protobuf.Timestamp" => DraftType::Time(None),
            "google.protobuf.BoolValue" => DraftType::Bool,
            "google.protobuf.StringValue" => DraftType::Text,
            "google.protobuf.FloatValue" | "google.protobuf.DoubleValue" => DraftType::Double,
            "google.protobuf.Int32Value"
            | "google.protobuf.Int64Value"
            | "google.protobuf.UInt32Value"
            | "google.protobuf.UInt64Value" => DraftType::Long,
            _ => return None,
        },
        _ if is_named_like_time(name) => DraftType::Time(Some(UNKNOWN_UNIT)),
        _ => DraftType::Long,
    })
}
