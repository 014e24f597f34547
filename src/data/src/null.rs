//! `null`: gives its input back.

use std::sync::Arc;

use async_trait::async_trait;
use kiln_core::{DataOutputs, DataSource, DataSourceKind, Decoded, Diagnostics, Failure, Field, FieldType};
use kiln_core::{Output, Schema};

const SCHEMA: Schema = Schema {
    kind: "null",
    title: "a `null` data source",
    doc: "Gives its input back. For trying out templates.",
    fields: &[Field::string("input", "The text to give back.")],
    example: "data \"null\" \"greeting\" {\n  input = \"hello\"\n}",
};

const OUTPUTS: &[Output] = &[Output::new("output", FieldType::String, "The input.")];

/// The kind `null`.
#[derive(Debug, Clone, Copy, Default)]
pub struct NullKind;

#[derive(Debug)]
struct Null {
    output: Option<serde_json::Value>,
}

impl DataSourceKind for NullKind {
    fn schema(&self) -> &'static Schema {
        &SCHEMA
    }

    fn outputs(&self) -> &'static [Output] {
        OUTPUTS
    }

    fn prepare(&self, config: &Decoded, _: &mut Diagnostics) -> Option<Arc<dyn DataSource>> {
        Some(Arc::new(Null { output: config.values().get("input").cloned() }))
    }
}

impl Null {
    fn outputs(&self) -> DataOutputs {
        self.output.iter().map(|output| ("output".to_owned(), output.clone())).collect()
    }
}

#[async_trait]
impl DataSource for Null {
    fn known(&self) -> Option<DataOutputs> {
        Some(self.outputs())
    }

    async fn read(&self) -> Result<DataOutputs, Failure> {
        Ok(self.outputs())
    }
}
