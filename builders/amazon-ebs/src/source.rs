//! The AMI to start from, and what texts of the template say with it.

use std::collections::BTreeMap;

use kiln_core::{BuildContext, Failure, FailureClass};
use kiln_gotemplate::{Data, Rendered, Scope, render_with_report};

use crate::cloud::{Cloud, ErrorKind, Filter, ImageInfo, ImageQuery, Tags};
use crate::config::{Config, Filtered, Tag};
use crate::error::{failure, wrong};

/// Values of `build.*` beyond the common ones.
pub(crate) const FACTS: &[&str] =
    &["SourceAMI", "SourceAMIName", "SourceAMICreationDate", "SourceAMIOwner", "SourceAMIOwnerName", "BuildRegion"];

/// Finds it.
pub(crate) async fn find(config: &Config, cloud: &dyn Cloud) -> Result<ImageInfo, Failure> {
    let query = query(config);
    let found = cloud.describe_images(&query).await;
    let action = "look up the source AMI";
    let mut images = match found {
        Ok(images) => images,
        Err(error) if error.kind == ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(failure(action, error)),
    };
    let is_filter = config.source_ami_filter.is_some();
    let most_recent = config.source_ami_filter.as_ref().is_some_and(|filter| filter.most_recent);
    images.sort_by(|one, other| other.creation_date.cmp(&one.creation_date));
    let region = cloud.region();
    if images.len() > 1 && !most_recent {
        let mut ids: Vec<String> =
            images.iter().take(3).map(|image| format!("{} ({})", image.id, image.name)).collect();
        if images.len() > ids.len() {
            ids.push(format!("{} more", images.len() - ids.len()));
        }
        let text = format!("{} AMIs in {region} match `source_ami_filter`: {}", images.len(), ids.join(", "));
        return Err(wrong(text).hint("set `most_recent = true` to take the newest, or narrow the filter"));
    }
    let Some(image) = images.into_iter().next() else {
        let text = match &config.source_ami {
            Some(id) if !is_filter => format!("there is no AMI {id} in {region}, or this account may not use it"),
            _ => format!("no AMI in {region} matches `source_ami_filter`: {}", shown(&query)),
        };
        return Err(
            wrong(text).hint("AMIs have another id in each region; deprecated ones need `include_deprecated = true`")
        );
    };
    check(config, image)
}

/// What EC2 would refuse only after much else was made.
fn check(config: &Config, image: ImageInfo) -> Result<ImageInfo, Failure> {
    if let Some(kind) = image.root_device_type.as_deref().filter(|kind| *kind != "ebs") {
        let text = format!("the root device of {} is of type {kind}; `amazon-ebs` needs one on EBS", image.id);
        return Err(wrong(text));
    }
    let wanted = config.ami_virtualization_type.as_deref().filter(|kind| !kind.is_empty());
    if let (Some(wanted), Some(is)) = (wanted, image.virtualization_type.as_deref())
        && wanted != is
    {
        return Err(wrong(format!(
            "{} is of the virtualization type {is}, and `ami_virtualization_type` is {wanted}",
            image.id
        )));
    }
    if config.ena_support == Some(true) && image.virtualization_type.as_deref() == Some("paravirtual") {
        return Err(wrong(format!("`ena_support` needs hardware virtualization, and {} is paravirtual", image.id)));
    }
    Ok(image)
}

fn query(config: &Config) -> ImageQuery {
    let ids = config.source_ami.iter().filter(|id| !id.is_empty()).cloned().collect();
    let Some(filter) = &config.source_ami_filter else {
        return ImageQuery { ids, include_deprecated: true, ..ImageQuery::default() };
    };
    let mut filters = filters(&filter.by);
    if let Some(kind) = config.ami_virtualization_type.as_deref().filter(|kind| !kind.is_empty()) {
        filters.push(Filter::new("virtualization-type", kind));
    }
    ImageQuery { ids, owners: filter.owners.clone(), filters, include_deprecated: filter.include_deprecated }
}

/// As EC2 wants them. As in Packer, a comma separates values.
pub(crate) fn filters(filter: &Filtered) -> Vec<Filter> {
    let mut named = filter.filters.clone();
    for more in &filter.filter {
        let name = more.name.as_ref().or(more.key.as_ref()).cloned().unwrap_or_default();
        named.insert(name, more.value.clone());
    }
    let values = |text: &str| text.split(',').map(str::to_owned).collect();
    named.into_iter().map(|(name, text)| Filter { values: values(&text), name }).collect()
}

fn shown(query: &ImageQuery) -> String {
    let filters = query.filters.iter().map(|filter| format!("{} = {}", filter.name, filter.values.join(",")));
    let owners = format!("owners = {}", query.owners.join(","));
    filters.chain([owners]).collect::<Vec<_>>().join("; ")
}

/// What texts may use, and some of `build.*`.
pub(crate) fn facts(image: &ImageInfo, region: &str) -> Vec<(&'static str, String)> {
    vec![
        ("SourceAMI", image.id.clone()),
        ("SourceAMIName", image.name.clone()),
        ("SourceAMICreationDate", image.creation_date.clone()),
        ("SourceAMIOwner", image.owner.clone()),
        ("SourceAMIOwnerName", image.owner_alias.clone().unwrap_or_default()),
        ("BuildRegion", region.to_owned()),
    ]
}

/// Renders texts that speak of the source AMI.
pub(crate) struct Texts<'a> {
    context: &'a BuildContext,
    data: BTreeMap<String, Data>,
}

impl<'a> Texts<'a> {
    pub(crate) fn new(context: &'a BuildContext, image: &ImageInfo, region: &str) -> Texts<'a> {
        let mut data: BTreeMap<String, Data> =
            facts(image, region).into_iter().map(|(name, value)| (name.to_owned(), Data::Text(value))).collect();
        let tags = image.tags.iter().map(|(key, value)| (key.clone(), Data::Text(value.clone()))).collect();
        data.insert("SourceAMITags".to_owned(), Data::Map(tags));
        Texts { context, data }
    }

    /// A text; `name` is its argument.
    pub(crate) fn text(&self, name: &str, text: &str) -> Result<String, Failure> {
        if !text.contains("{{") {
            return Ok(text.to_owned());
        }
        let scope = Scope {
            text: &self.context.text_scope,
            build_name: Some(&self.context.build_name),
            build_type: Some(&self.context.builder_kind),
            build: None,
            allow_env: false,
        };
        let template = |text: String| Failure::new(FailureClass::Template, text);
        let report =
            render_with_report(text, &scope, &self.data).map_err(|error| template(format!("`{name}`: {error}")))?;
        for field in report.missing_fields {
            self.context.events.warn(format!("`{name}`: there is no {}; the text shows `<no value>`", field.path));
        }
        match report.rendered {
            Rendered::Text(text) => Ok(text),
            Rendered::Unknown => Err(template(format!("`{name}` depends on the instance that it is for"))),
        }
    }

    /// Tags of a map and of blocks, which win.
    pub(crate) fn tags(&self, name: &str, map: &BTreeMap<String, String>, blocks: &[Tag]) -> Result<Tags, Failure> {
        let mut tags = Tags::new();
        for (key, value) in map {
            tags.insert(self.text(name, key)?, self.text(name, value)?);
        }
        for block in blocks {
            tags.insert(self.text(name, block.key())?, self.text(name, &block.value)?);
        }
        Ok(tags)
    }
}
