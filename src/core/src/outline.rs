//! What a template declares, for those who look at it: everything, whatever is selected and whether it could be built.

use crate::source::Span;

/// The outline of a template of either form.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outline {
    /// HCL2: the `build` blocks, in order.
    pub builds: Vec<BuildOutline>,
    /// HCL2: the `data` blocks, by their full name.
    pub data_sources: Vec<DataOutline>,
    /// HCL2: the modules, each after the one that it is in.
    pub modules: Vec<ModuleOutline>,
    /// Legacy JSON, which has no build blocks.
    pub legacy: Option<LegacyOutline>,
}

/// A `build` block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildOutline {
    /// Its name, where it has one.
    pub name: Option<String>,
    /// Its description, where it has one.
    pub description: Option<String>,
    /// Where it begins.
    pub span: Span,
    /// `type.name` of its sources: first those it lists, then those of its `source` blocks.
    pub sources: Vec<String>,
    /// Its provisioners.
    pub steps: Vec<ComponentOutline>,
    /// What runs when a step fails.
    pub error_cleanup: Option<ComponentOutline>,
    /// Its chains of post-processors.
    pub post_processors: Vec<Vec<ComponentOutline>>,
}

/// A provisioner or post-processor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComponentOutline {
    /// Its type.
    pub kind: String,
    /// Its name, where it has one.
    pub name: Option<String>,
    /// Where it begins.
    pub span: Span,
}

/// A use of a module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModuleOutline {
    /// `module.NAME`, with those around in front.
    pub name: String,
    /// The directory of its template.
    pub directory: String,
    /// The names of its outputs.
    pub outputs: Vec<String>,
    /// Where the block begins.
    pub span: Span,
}

/// A `data` block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataOutline {
    /// `data.type.name`.
    pub name: String,
    /// Where it begins.
    pub span: Span,
}

/// What a legacy JSON template lists, as it is written: no template action is rendered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LegacyOutline {
    /// Variables and their defaults, by name; without one, a value is required.
    pub variables: Vec<LegacyVariable>,
    /// Names and types of the builders, by name.
    pub builders: Vec<(String, String)>,
    /// Types of the provisioners, in order.
    pub provisioners: Vec<String>,
}

/// A line of a legacy template's `variables`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LegacyVariable {
    /// Its name.
    pub name: String,
    /// Its default; `None` makes it required.
    pub default: Option<String>,
    /// Whether `sensitive-variables` names it.
    pub sensitive: bool,
}
