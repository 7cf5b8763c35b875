//! Versions of a subject, for drafts of a table's schema.

use serde_json::Value as Json;

use crate::client::{RegistryClient, url_of};
use crate::http::HttpRegistry;
use crate::lookup::LookupError;

/// A schema as registered under a subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubjectVersion {
    /// Number of the version.
    pub version: u64,
    /// `AVRO`, `JSON` or `PROTOBUF`.
    pub language: String,
    /// The schema's text.
    pub schema: String,
    /// Names of the schemas that the text refers to and that are registered elsewhere.
    pub references: Vec<String>,
}

impl RegistryClient {
    async fn version(
        &self,
        subject: &str,
        version: Option<u64>,
    ) -> Result<SubjectVersion, LookupError> {
        let number = version.map_or("latest".to_owned(), |number| number.to_string());
        let segments = ["subjects", subject, "versions", &number];
        let what = format!("of subject {subject}, version {number}");
        let answer = self
            .ask(&what, |base| self.client.get(url_of(base, &segments)))
            .await?;
        let text = |key: &str| answer.get(key).and_then(Json::as_str);
        let lacking = || {
            LookupError::Unavailable(format!(
                "{what}: the answer of {} holds no schema",
                self.base()
            ))
        };
        let references = answer.get("references").and_then(Json::as_array);
        Ok(SubjectVersion {
            version: answer.get("version").and_then(Json::as_u64).unwrap_or(0),
            // Registries leave the type out for Avro.
            language: text("schemaType").unwrap_or("AVRO").to_owned(),
            schema: text("schema").ok_or_else(lacking)?.to_owned(),
            references: references
                .into_iter()
                .flatten()
                .filter_map(|reference| reference.get("name")?.as_str().map(str::to_owned))
                .collect(),
        })
    }
}

impl HttpRegistry {
    /// A version of a subject, the latest by default. Waits for the registry.
    ///
    /// # Errors
    /// There is no such subject or version, or nobody could be asked.
    pub fn subject(
        &self,
        subject: &str,
        version: Option<u64>,
    ) -> Result<SubjectVersion, LookupError> {
        self.runtime()
            .block_on(self.registry.version(subject, version))
    }
}
