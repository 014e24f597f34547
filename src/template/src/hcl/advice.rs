//! What to do about a mistake, where the text around it tells more than the rule that found it knew: habits of other
//! languages, names of another root, texts for the shell.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use kiln_core::{Diagnostic, Diagnostics, SourceId, SourceMap, Span, suggest};
use kiln_language::syntax::parse_body;

use super::scope::Values;

/// Names that the template declares.
#[derive(Debug, Default)]
pub(crate) struct Names {
    variables: Vec<String>,
    locals: Vec<String>,
    /// Where `file` looks.
    template_dir: PathBuf,
    /// The names of the files that are loaded.
    loaded: Vec<OsString>,
    /// The template files in that directory that are not loaded; read when somebody asks.
    siblings: OnceLock<Vec<Sibling>>,
}

/// A file beside the template, and what it declares.
#[derive(Debug)]
struct Sibling {
    name: String,
    /// `var.x`, `local.x`, `source.kind.x`.
    declared: BTreeSet<String>,
}

impl Sibling {
    fn new(name: String, text: &str) -> Sibling {
        let mut declared = BTreeSet::new();
        // What is wrong in it is told when it is loaded.
        for block in parse_body(SourceId::OWN, text, &mut Diagnostics::new()).blocks() {
            let labels: Vec<&str> = block.labels.iter().map(|label| label.text.as_str()).collect();
            let mut attributes =
                |root: &str| declared.extend(block.body.attributes().map(|one| format!("{root}.{}", one.name.text)));
            match (block.kind.text.as_str(), labels.as_slice()) {
                ("variables", []) => attributes("var"),
                ("locals", []) => attributes("local"),
                ("variable", [name]) => drop(declared.insert(format!("var.{name}"))),
                ("local", [name]) => drop(declared.insert(format!("local.{name}"))),
                ("source", [kind, name]) => drop(declared.insert(format!("source.{kind}.{name}"))),
                _ => {}
            }
        }
        Sibling { name, declared }
    }
}

/// So many files beside the template are looked at, each of so many bytes at most.
const SIBLINGS: usize = 50;
const SIBLING_SIZE: u64 = 1 << 20;

impl Names {
    pub(crate) fn of(values: &Values, sources: &SourceMap) -> Names {
        let names = |root| values.names(root).into_iter().map(str::to_owned).collect();
        let template_dir = values.functions.working_dir.join(&values.functions.template_dir);
        let paths = sources.files().filter_map(|(_, file)| file.path.as_deref().and_then(Path::file_name));
        let loaded = paths.map(OsStr::to_owned).collect();
        Names { variables: names("var"), locals: names("local"), template_dir, loaded, siblings: OnceLock::new() }
    }

    fn siblings(&self) -> &[Sibling] {
        self.siblings.get_or_init(|| siblings(&self.template_dir, &self.loaded))
    }

    /// `var.x` or `local.x`, where one is declared.
    fn reference(&self, name: &str) -> Option<String> {
        let has = |names: &[String]| names.iter().any(|known| known == name);
        match (has(&self.variables), has(&self.locals)) {
            (true, _) => Some(format!("var.{name}")),
            (false, true) => Some(format!("local.{name}")),
            (false, false) => None,
        }
    }

    fn nearest_reference(&self, name: &str) -> Option<String> {
        let nearest = |names: &[String]| suggest::nearest(name, names.iter().map(String::as_str)).map(str::to_owned);
        let variable = nearest(&self.variables).map(|name| format!("var.{name}"));
        variable.or_else(|| nearest(&self.locals).map(|name| format!("local.{name}")))
    }
}

fn siblings(directory: &Path, loaded: &[OsString]) -> Vec<Sibling> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter(|entry| !loaded.contains(&entry.file_name()))
        .filter(|entry| entry.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.len() < SIBLING_SIZE))
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.ends_with(".pkr.hcl") || name.ends_with(".kiln.hcl"))
        .collect();
    names.sort();
    names.truncate(SIBLINGS);
    let read = |name: String| std::fs::read_to_string(directory.join(&name)).ok().map(|text| Sibling::new(name, &text));
    names.into_iter().filter_map(read).collect()
}

/// Adds to the findings what the template's text tells.
pub(crate) fn refine(diagnostics: &mut Diagnostics, sources: &SourceMap, names: &Names) {
    // A heredoc that is not closed takes the brackets behind it along.
    let swallowing: Vec<Span> = diagnostics
        .items
        .iter()
        .filter(|item| item.code == "unclosed-heredoc")
        .filter_map(|item| item.primary.as_ref().map(|label| label.span))
        .collect();
    diagnostics.items.retain(|item| {
        let is_before = |heredoc: &Span| {
            item.primary
                .as_ref()
                .is_some_and(|label| label.span.source == heredoc.source && label.span.start < heredoc.start)
        };
        item.code != "unclosed-bracket" || !swallowing.iter().any(is_before)
    });
    for item in &mut diagnostics.items {
        let Some(label) = &item.primary else { continue };
        let Some(file) = sources.get(label.span.source) else { continue };
        let range = kiln_core::source::clamp(&file.text, label.span.range());
        let place = Place {
            text: &file.text[range.clone()],
            before: &file.text[..range.start],
            behind: &file.text[range.end..],
        };
        let advice = Advice { span: Span::new(label.span.source, range), place, names };
        advice.apply(item);
    }
}

/// The text at a finding, and around it.
struct Place<'a> {
    text: &'a str,
    before: &'a str,
    behind: &'a str,
}

struct Advice<'a> {
    span: Span,
    place: Place<'a>,
    names: &'a Names,
}

impl Advice<'_> {
    fn apply(&self, item: &mut Diagnostic) {
        match item.code {
            "unknown-name" if item.fix.is_none() => self.unknown_name(item),
            "unknown-variable" | "unknown-local" if item.fix.is_none() => {
                self.other_root(item);
                self.in_a_sibling(item);
            }
            "unknown-source" if item.title.ends_with("is not declared") => self.in_a_sibling(item),
            "go-template" if item.title.starts_with("`user` exists in legacy") => self.user_function(item),
            "unknown-function" => self.function(item),
            "function-failed" if item.title.starts_with("`file` failed: there is no file") => self.file(item),
            "unknown-block" if item.title.starts_with("a template has no block") => self.top_level_block(item),
            "unknown-escape" if item.fix.is_none() && self.place.text.starts_with('\\') => {
                put(item, self.span, format!("\\{}", self.place.text), "for a backslash write two");
            }
            "syntax" if item.title == "an argument's name is not quoted here" => self.map_as_block(item),
            "syntax" | "unexpected-character" if item.fix.is_none() => self.syntax(item),
            _ => {}
        }
    }

    /// A word that is no name: another language's value, a reference without its root, a text, a variable of the shell.
    fn unknown_name(&self, item: &mut Diagnostic) {
        let word = self.place.text;
        if word.is_empty() || word.contains(|c: char| !c.is_alphanumeric() && c != '_' && c != '-') {
            return;
        }
        let is_head = self.place.behind.starts_with(['.', '[', '(']);
        let is_alone = self.place.before.ends_with("${") && self.place.behind.starts_with('}');
        if let Some(reference) = self.names.reference(word) {
            item.help = None;
            return put(item, self.span, reference.clone(), format!("did you mean `{reference}`?"));
        }
        if let Some(value) = value_meant(word).filter(|_| !is_head) {
            item.help = None;
            return put(item, self.span, value, format!("did you mean `{value}`?"));
        }
        let is_upper = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
        if is_alone && word.chars().all(is_upper) {
            // Without braces the name must end where it ends.
            let is_bounded = !self.place.behind[1..].starts_with(|c: char| c.is_alphanumeric() || c == '_');
            let (shell, text) = match is_bounded {
                true => (format!("${word}"), format!("a variable of the shell is written `${word}` here")),
                false => (format!("$${{{word}}}"), format!("a variable of the shell is written `$${{{word}}}` here")),
            };
            item.help = None;
            return put(item, widened(self.span, 2, 1), shell, text);
        }
        if let Some(reference) = self.names.nearest_reference(word) {
            item.help = None;
            return put(item, self.span, reference.clone(), format!("did you mean `{reference}`?"));
        }
        if is_alone {
            item.help = Some(format!(
                "a variable of the template is written `${{var.{word}}}`, one of the shell `$${{{word}}}`"
            ));
        } else if !is_head && self.is_whole_value() {
            item.help = None;
            put(item, self.span, format!("\"{word}\""), "put quotes around a text");
        }
    }

    /// Whether nothing but the word stands behind `=`, or between `[`, `,` and `]`.
    fn is_whole_value(&self) -> bool {
        let before = self.place.before.trim_end_matches([' ', '\t', '\n', '\r']);
        let behind = self.place.behind.trim_start_matches([' ', '\t']);
        before.ends_with(['=', '[', ',']) && (behind.is_empty() || behind.starts_with(['\n', '\r', ',', ']', '}', '#']))
    }

    /// `var.x` where `local.x` is declared, and the other way round.
    fn other_root(&self, item: &mut Diagnostic) {
        let (root, other, names) = match item.code {
            "unknown-variable" => ("var.", "local", &self.names.locals),
            _ => ("local.", "var", &self.names.variables),
        };
        let word = self.place.text;
        if names.iter().any(|name| name == word) && self.place.before.ends_with(root) {
            let what = if other == "var" { "a variable" } else { "a local" };
            let text = format!("`{word}` is {what}");
            item.help = None;
            put(item, widened(self.span, root.len(), 0), format!("{other}.{word}"), text);
        }
    }

    /// What is declared in a file beside the one that was given: the directory is the template.
    fn in_a_sibling(&self, item: &mut Diagnostic) {
        let word = self.place.text.trim_matches('"');
        let declared = match item.code {
            "unknown-variable" => format!("var.{word}"),
            "unknown-local" => format!("local.{word}"),
            _ => format!("source.{}", word.strip_prefix("source.").unwrap_or(word)),
        };
        let Some(sibling) = self.names.siblings().iter().find(|sibling| sibling.declared.contains(&declared)) else {
            return;
        };
        item.fix = None;
        item.help = Some(format!(
            "`{}` declares it: give the directory in place of the file, and all its files are one template",
            sibling.name
        ));
    }

    /// ``{{user `x`}}`` in HCL2.
    fn user_function(&self, item: &mut Diagnostic) {
        let Some(action) = self.place.text.strip_prefix("{{").and_then(|rest| rest.strip_suffix("}}")) else { return };
        let action = action.trim_matches(['-', ' ']);
        let Some(name) = action.strip_prefix("user").map(str::trim) else { return };
        let name = name.trim_matches(['`', '"', '\\']);
        let variables = || self.names.variables.iter().map(String::as_str);
        let known = variables().find(|known| *known == name).or_else(|| suggest::nearest(name, variables()));
        "`user` exists in legacy JSON templates only".clone_into(&mut item.title);
        match known {
            Some(known) => put(item, self.span, format!("${{var.{known}}}"), "in HCL2 write"),
            None => item.help = Some(format!("declare `variable \"{name}\" {{}}`, and write `${{var.{name}}}`")),
        }
    }

    /// A file that is not there, and one that is.
    fn file(&self, item: &mut Diagnostic) {
        let Some(path) = self.place.text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else { return };
        if let Some(nearest) = suggest::nearest_file(&self.names.template_dir, path) {
            put(item, self.span, format!("\"{nearest}\""), format!("did you mean `{nearest}`?"));
        }
    }

    /// Functions of Terraform, and of legacy JSON templates.
    fn function(&self, item: &mut Diagnostic) {
        let advice = match self.place.text {
            "tostring" => "write `convert(value, string)`",
            "tonumber" => "write `convert(value, number)`",
            "tobool" => "write `convert(value, bool)`",
            "tolist" => "write `convert(value, list(string))`, with the type of the elements",
            "toset" => "write `convert(value, set(string))`, with the type of the elements",
            "tomap" => "write `convert(value, map(string))`, with the type of the elements",
            "uuid" => "write `uuidv4()`",
            "isotime" => "write `legacy_isotime(\"2006-01-02\")`, or `formatdate(\"YYYY-MM-DD\", timestamp())`",
            "user" => "variables are written `var.name`",
            "template_dir" => "the template's directory is `path.root`",
            "build_name" => "in provisioners and post-processors the name of the source is `source.name`",
            "clean_resource_name" | "clean_ami_name" | "clean_image_name" => {
                "this is a function of Go templates: write `{{ clean_resource_name ... }}` inside a text"
            }
            "sensitive" => "declare the variable or local with `sensitive = true`",
            "nonsensitive" | "one" | "matchkeys" | "transpose" | "filesha256" | "filemd5" | "filebase64sha256"
            | "base64sha256" | "ceiling" | "type" | "cidrcontains" | "plantimestamp" => {
                "Terraform has this function, Packer does not"
            }
            _ => return,
        };
        item.fix = None;
        item.help = Some(advice.to_owned());
    }

    /// Blocks of Terraform, of legacy JSON templates, and those that belong into another one.
    fn top_level_block(&self, item: &mut Diagnostic) {
        let word = self.place.text.trim_matches('"');
        let advice = match word {
            "provisioner" | "post-processor" | "post-processors" | "error-cleanup-provisioner" => {
                "it belongs into a `build` block"
            }
            "builders" | "provisioners" | "sensitive-variables" | "min_packer_version" => {
                "this is how legacy JSON templates are written: give the file a name that ends with `.json` alone, or \
                 convert it with `kiln upgrade`"
            }
            "required_plugins" | "required_version" => "it belongs into a `packer` block",
            "terraform" => "this is Terraform's; requirements of a template stand in a `packer` block",
            "resource" => "this is Terraform's; what is built is a `source`, and a `build` says what is done with it",
            "provider" | "moved" | "import" | "check" | "ephemeral" | "removed" => {
                "this is Terraform's; templates have no such block"
            }
            _ => return,
        };
        item.fix = None;
        item.help = Some(advice.to_owned());
    }

    /// Keys in quotes: what looks like a block is a map without its `=`.
    fn map_as_block(&self, item: &mut Diagnostic) {
        let Some(open) = unclosed_brace(self.place.before) else { return };
        let header = self.place.before[..open].rsplit('\n').next().unwrap_or_default();
        let name = header.trim();
        let is_name = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-');
        if !is_name || matches!(name, "build" | "locals" | "variables" | "packer") {
            return;
        }
        let key = self.place.text.trim_matches('"');
        let is_argument = !key.is_empty() && key.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-');
        let text = format!("write `{name} = {{ ... }}` for a map");
        if is_argument {
            item.help = Some(text);
            return;
        }
        let end = open - (header.len() - header.trim_end().len());
        put(item, Span::new(self.span.source, end..end), " =", text);
    }

    fn syntax(&self, item: &mut Diagnostic) {
        if self.place.text == "{" && self.place.before.trim().is_empty() {
            item.help =
                Some("this looks like JSON: legacy templates are named `*.json`, HCL2 in JSON `*.pkr.json`".to_owned());
            return;
        }
        if self.place.text == ";" {
            return put(item, self.span, "", "remove it");
        }
        // The shell's `${name%.*}`, `${#name}`, `${1}`: the mistake lies behind the `${` that the shell was to see.
        let line = self.place.before.rsplit('\n').next().unwrap_or_default();
        let Some(open) = line.rfind("${").filter(|open| !line[..*open].ends_with('$')) else { return };
        let inside = format!("{}{}", &line[open + 2..], self.place.text);
        if inside.contains('}') && !inside.ends_with('}') {
            return;
        }
        let whole = format!("{inside}{}", self.place.behind.lines().next().unwrap_or_default());
        if is_of_the_shell(&whole) {
            let start = self.place.before.len() - line.len() + open;
            item.help = None;
            let place = Span::new(self.span.source, start..start + 1);
            put(item, place, "$$", "to leave it to the shell, double the dollar");
        }
    }
}

/// Whether what follows `${` is a parameter of the shell with one of its operators, or a special one.
fn is_of_the_shell(text: &str) -> bool {
    let text = text.strip_prefix(['#', '!']).unwrap_or(text);
    if text.starts_with(['@', '*', '?', '$', '1', '2', '3', '4', '5', '6', '7', '8', '9', '0', '-']) {
        return true;
    }
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    end > 0 && text[end..].starts_with(['%', '#', ':', '/', '^', ',', '+', '-', '=', '?', '@', '[', '}'])
}

/// The last `{` that is open at the end of a text; quotes are not looked at.
fn unclosed_brace(text: &str) -> Option<usize> {
    let mut closed = 0_usize;
    for (position, character) in text.char_indices().rev() {
        match character {
            '}' => closed += 1,
            '{' if closed == 0 => return Some(position),
            '{' => closed -= 1,
            _ => {}
        }
    }
    None
}

/// The value that a word of another language stands for, or a misspelt one.
fn value_meant(word: &str) -> Option<&'static str> {
    match word.to_lowercase().as_str() {
        "true" | "yes" | "on" => Some("true"),
        "false" | "no" | "off" => Some("false"),
        "null" | "none" | "nil" | "undefined" => Some("null"),
        lower => ["true", "false", "null"].into_iter().find(|value| suggest::nearest(lower, [*value]).is_some()),
    }
}

fn put(item: &mut Diagnostic, span: Span, replacement: impl Into<String>, text: impl Into<String>) {
    let code = item.code;
    let taken = std::mem::replace(item, Diagnostic::new(kiln_core::Severity::Error, code, None, ""));
    *item = taken.fix(span, replacement, text);
}

fn widened(span: Span, before: usize, behind: usize) -> Span {
    let range = span.range();
    Span::new(span.source, range.start - before..range.end + behind)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The edit offered for a finding at the first place of `word`, as `from -> to`.
    fn edit(text: &str, word: &str, code: &'static str) -> Option<String> {
        let mut sources = SourceMap::new();
        let source = sources.add("t.pkr.hcl", None, text);
        let start = text.find(word).unwrap();
        let mut diagnostics = Diagnostics::new();
        diagnostics.push(Diagnostic::error(code, Span::new(source, start..start + word.len()), ""));
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let names = Names { variables: owned(&["release", "image"]), locals: owned(&["suffix"]), ..Names::default() };
        refine(&mut diagnostics, &sources, &names);
        let fix = diagnostics.items[0].fix.clone()?;
        Some(format!("{} -> {}", sources.text(fix.span), fix.replacement))
    }

    #[test]
    fn words_of_other_languages_and_bare_names() {
        let name = |text, word| edit(text, word, "unknown-name").unwrap_or_default();
        assert_eq!(name("a = tru\n", "tru"), "tru -> true");
        assert_eq!(name("a = None\n", "None"), "None -> null");
        assert_eq!(name("a = release\n", "release"), "release -> var.release");
        assert_eq!(name("a = \"${suffix}\"\n", "suffix"), "suffix -> local.suffix");
        assert_eq!(name("a = relase\n", "relase"), "relase -> var.release");
        assert_eq!(name("a = debian\n", "debian"), "debian -> \"debian\"");
        assert_eq!(name("a = debian + 1\n", "debian"), "");
    }

    #[test]
    fn variables_of_the_shell() {
        let name = |text, word| edit(text, word, "unknown-name").unwrap_or_default();
        assert_eq!(name("a = \"x ${HOME}/y\"\n", "HOME"), "${HOME} -> $HOME");
        assert_eq!(name("a = \"x ${HOME}y\"\n", "HOME"), "${HOME} -> $${HOME}");
        let syntax = |text, word| edit(text, word, "syntax").unwrap_or_default();
        assert_eq!(syntax("a = \"${name%.*}\"\n", ".*"), "$ -> $$");
        assert_eq!(syntax("a = \"${var.x} ${#name}\"\n", "#name"), "$ -> $$");
        assert_eq!(syntax("a = \"${var.x} y\" z\n", "z"), "");
        assert_eq!(syntax("a = 1;\n", ";"), "; -> ");
    }

    #[test]
    fn names_of_the_other_root() {
        assert_eq!(edit("a = var.suffix\n", "suffix", "unknown-variable").unwrap(), "var.suffix -> local.suffix");
        assert_eq!(edit("a = local.image\n", "image", "unknown-local").unwrap(), "local.image -> var.image");
        assert_eq!(edit("a = local.other\n", "other", "unknown-local"), None);
    }
}
