//! `platforms` of a source: one build for each, and one that joins their images to an index.
//!
//! ```text
//!   source "docker" "app" { platforms = ["linux/amd64", "linux/arm64"] }
//!
//!   docker.app@linux/amd64 ──┐
//!                            ├──► docker.app   the index: names, pushes, what post-processors do
//!   docker.app@linux/arm64 ──┘
//! ```

use kiln_core::{Diagnostic, Diagnostics, PLATFORMS, Platform, Span, VariantSpec, suggest};
use kiln_language::syntax::{Attribute, Body, ExpressionKind};

use super::builds::{BuildReader, part};
use super::dynamic::ExpandedBlock;
use super::repetition;
use super::scope::{Bindings, Overlay};
use super::steps::Arguments;
use super::uses::SourceUse;

/// The argument of a source that says it.
pub(crate) const ARGUMENT: &str = "platforms";

/// What a source's machines are for, where `platforms` does not say it.
const PLATFORM: &str = "platform";

/// Engines by platform.
const HOSTS: &str = "platform_hosts";

/// What stands between the name of a build and its platform. No other part of a name has it.
const MARK: char = '@';

/// What a build is among those that `platforms` makes of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Role {
    /// The only one: the source has no `platforms`. Of builds that have, it takes the images for this platform.
    Plain(Platform),
    /// The one for this platform.
    Variant(Platform),
    /// The one that joins the others.
    Index(Vec<VariantSpec>),
}

impl Role {
    /// The platform whose images of other builds it takes.
    pub(crate) fn wanted(&self) -> Platform {
        match self {
            Role::Plain(platform) | Role::Variant(platform) => platform.clone(),
            Role::Index(_) => Platform::host(),
        }
    }

    /// `source.platform`.
    pub(crate) fn own(&self) -> Option<&Platform> {
        match self {
            Role::Variant(platform) => Some(platform),
            _ => None,
        }
    }
}

/// The name of the build for a platform.
pub(crate) fn variant_name(build: &str, platform: &Platform) -> String {
    format!("{build}{MARK}{platform}")
}

impl BuildReader<'_, '_> {
    /// What `platforms` of a source asks for, where it has any; and where that is said.
    pub(crate) fn platforms(&mut self, used: &SourceUse) -> Option<(Vec<Platform>, Span)> {
        let (attribute, block) = source_argument(used, ARGUMENT)?;
        let scope = Overlay { values: &self.shared.values, bindings: &block.bindings };
        // Mistakes are told when it is read as texts.
        if scope.evaluate(&attribute.value, &mut Diagnostics::new()).is_unknown() {
            repetition::report_unknown(attribute, &scope, self.diagnostics);
            return None;
        }
        let texts = Arguments::new(&block, &self.shared.values, self.diagnostics).texts(ARGUMENT)?;
        let mut asked: Vec<(Platform, Span)> = Vec::new();
        for (text, span) in texts {
            let platform = match Platform::known(&text) {
                Ok(platform) => platform,
                Err(meant) => {
                    self.diagnostics.push(unknown_platform(&text, span, meant));
                    continue;
                }
            };
            match asked.iter().find(|(known, _)| *known == platform) {
                Some((_, first)) => {
                    let title = format!("`platforms` has {platform} twice");
                    self.diagnostics
                        .push(Diagnostic::error("duplicate-platform", span, title).also(*first, "first here"));
                }
                None => asked.push((platform, span)),
            }
        }
        if let Some((platform, _)) = source_argument(used, PLATFORM)
            && !asked.is_empty()
        {
            let title = "`platform` and `platforms` exclude each other";
            self.diagnostics.push(
                Diagnostic::error("platform-and-platforms", platform.name.span, title)
                    .also(attribute.name.span, "`platforms` is here")
                    .help("`platforms` gives each of its builds a `platform`"),
            );
        }
        self.check_hosts(used, &asked, attribute.name.span);
        let asked: Vec<Platform> = asked.into_iter().map(|(platform, _)| platform).collect();
        (!asked.is_empty()).then_some((asked, attribute.name.span))
    }

    /// Engines of platforms that `platforms` does not have: nothing would be built there.
    fn check_hosts(&mut self, used: &SourceUse, asked: &[(Platform, Span)], platforms: Span) {
        let Some((attribute, block)) = source_argument(used, HOSTS).filter(|_| !asked.is_empty()) else { return };
        let scope = Overlay { values: &self.shared.values, bindings: &block.bindings };
        // What is wrong with it is told when the source is evaluated.
        let value = scope.evaluate(&attribute.value, &mut Diagnostics::new());
        for name in value.as_entries().into_iter().flatten().map(|(name, _)| name) {
            let Ok(platform) = Platform::known(name) else { continue };
            if asked.iter().any(|(known, _)| known.is(&platform)) {
                continue;
            }
            let place = match &attribute.value.kind {
                ExpressionKind::Object(items) => items
                    .iter()
                    .map(|(key, _)| key)
                    .find(|key| scope.evaluate(key, &mut Diagnostics::new()).as_str() == Some(name)),
                _ => None,
            };
            let place = place.map_or(attribute.name.span, |key| key.span);
            let title = format!("`{HOSTS}` has an engine for {platform}, and `{ARGUMENT}` does not ask for that");
            let diagnostic = Diagnostic::error("unused-platform-host", place, title);
            self.diagnostics.push(diagnostic.also(platforms, "the platforms are here"));
        }
    }

    /// What a source without `platforms` is built for: its `platform`, or this host's.
    pub(crate) fn plain_platform(&self, used: &SourceUse) -> Platform {
        let written = source_argument(used, PLATFORM).and_then(|(attribute, block)| {
            let scope = Overlay { values: &self.shared.values, bindings: &block.bindings };
            // What is wrong with it is told when the source is evaluated.
            let value = scope.evaluate(&attribute.value, &mut Diagnostics::new());
            Platform::parse(value.as_str()?)
        });
        written.unwrap_or_else(Platform::host)
    }
}

/// One build of a source.
pub(crate) struct Part {
    pub(crate) name: String,
    /// What `-only` may call it.
    pub(crate) names: Vec<String>,
    pub(crate) role: Role,
}

impl BuildReader<'_, '_> {
    /// The builds of a source, those that are joined before what joins them. `names` are what `-only` may call all of them.
    pub(crate) fn parts(
        &self,
        used: &SourceUse,
        name: String,
        names: Vec<String>,
        platforms: Option<Vec<Platform>>,
    ) -> Vec<Part> {
        let Some(platforms) = platforms else {
            return vec![Part { name, names, role: Role::Plain(self.plain_platform(used)) }];
        };
        let variants = platforms
            .iter()
            .map(|platform| VariantSpec { build: variant_name(&name, platform).into(), platform: platform.clone() });
        let index = Role::Index(variants.collect());
        let part = |platform: Platform| {
            let own = names.iter().map(|name| variant_name(name, &platform));
            Part {
                name: variant_name(&name, &platform),
                names: own.chain(names.iter().cloned()).collect(),
                role: Role::Variant(platform),
            }
        };
        let mut parts: Vec<Part> = platforms.into_iter().map(part).collect();
        parts.push(Part { name, names, role: index });
        parts
    }
}

/// An argument of a source, or of what a build adds to it, with the block that it stands in.
fn source_argument<'a>(used: &'a SourceUse, name: &str) -> Option<(&'a Attribute, ExpandedBlock<'a>)> {
    let declaration = &used.instance.declaration;
    let own = (&*declaration.body, used.instance.bindings());
    let added = used.added.as_ref().map(|added| (&*added.body, added.bindings.clone()));
    let find = |(body, bindings): (&'a Body, Bindings)| {
        let block = ExpandedBlock { bindings, ..part(declaration.header, body) };
        Some((body.attribute(name)?, block))
    };
    [Some(own), added].into_iter().flatten().find_map(find)
}

fn unknown_platform(text: &str, span: Span, meant: Option<&'static str>) -> Diagnostic {
    let diagnostic = Diagnostic::error("unknown-platform", span, format!("`{text}` is no platform that kiln knows"));
    match meant {
        Some(meant) => diagnostic.rename(span, meant, format!("did you mean `{meant}`?")),
        None => diagnostic.help(format!("the platforms are {}", suggest::enumerate(PLATFORMS))),
    }
}
