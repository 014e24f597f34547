//! The own parser against `hcl-edit`: the same arguments and blocks at the same places.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed test is meant to panic")]

use hcl_edit::Span as _;
use hcl_edit::structure::{Body as OtherBody, Structure};
use kiln_core::{Diagnostics, SourceId};
use kiln_language::syntax::{Body, Item, parse_body};

/// One line for each argument and block: depth, name, labels, range of the value.
fn own(body: &Body, depth: usize, out: &mut Vec<String>) {
    for item in &body.items {
        match item {
            Item::Attribute(attribute) => {
                out.push(format!("{depth} {} {:?}", attribute.name.text, attribute.value.span.range()));
            }
            Item::Block(block) => {
                let labels: Vec<&str> = block.labels.iter().map(|label| label.text.as_str()).collect();
                out.push(format!("{depth} {} {labels:?} {:?}", block.kind.text, block.span.range()));
                own(&block.body, depth + 1, out);
            }
        }
    }
}

fn other(body: &OtherBody, depth: usize, out: &mut Vec<String>) {
    for structure in body {
        match structure {
            Structure::Attribute(attribute) => {
                out.push(format!("{depth} {} {:?}", attribute.key.as_str(), attribute.value.span().unwrap()));
            }
            Structure::Block(block) => {
                let labels: Vec<&str> = block.labels.iter().map(|label| label.as_str()).collect();
                out.push(format!("{depth} {} {labels:?} {:?}", block.ident.as_str(), block.span().unwrap()));
                other(&block.body, depth + 1, out);
            }
        }
    }
}

/// Both readings; `None` where a parser finds a mistake.
fn readings(text: &str) -> (Option<Vec<String>>, Option<Vec<String>>) {
    let mut diagnostics = Diagnostics::new();
    let body = parse_body(SourceId(0), text, &mut diagnostics);
    let own_reading = diagnostics.is_empty().then(|| {
        let mut lines = Vec::new();
        own(&body, 0, &mut lines);
        lines
    });
    let other_reading = hcl_edit::parser::parse_body(text).ok().map(|body| {
        let mut lines = Vec::new();
        other(&body, 0, &mut lines);
        lines
    });
    (own_reading, other_reading)
}

const TEXT: &str = r#"
# Every construct that both parsers take.
packer {
  required_plugins { docker = { version = ">= 1.0.0", source = "github.com/hashicorp/docker" } }
}

variable "release" {
  type        = string
  default     = "bookworm" // trailing
  description = "say \"hello\" \u00e9 $${x} %%{y}"
}

locals { stamp = "${formatdate("YYYY", timestamp())}-${var.release}" }

source "docker" worker {
  image   = var.release == "x" ? "debian:${var.release}" : "debian"
  changes = ["USER ${local.user}", "ENV A=%{if true}1%{else}2%{endif}",]
  numbers = [1, -2, 3.5, 1e3, !true, (1 + 2) * 3 % 4]
  map     = { a = 1, "b c" = 2, (var.k) = 3, d : 4 }
  lines = {
    a = 1
    b = { c = [] }
  }
  all  = local.people[*].names[0].x
  old  = local.people.*.name
  pick = local.list[length(local.list) - 1].id.0
  each = [for k, v in var.map : upper(k) if v != null]
  both = { for v in var.list : v.id => v... }
  call = merge({ a = 1 }, local.extra...)
  doc  = <<EOT
plain ${var.release}
 "quotes" \n
EOT
  other = <<-EOT
    %{for x in [1]~}
      ${x}
    %{endfor}
  EOT
  long = (
    1 # one
    + 2
  )
}
"#;

#[test]
fn both_parsers_read_the_same() {
    for text in [TEXT, &TEXT.replace("release", "veröffentlichung")] {
        let (own, other) = readings(text);
        assert!(own.as_ref().is_some_and(|lines| lines.len() > 20));
        assert_eq!(own, other);
    }
}

/// Each character taken away in turn: where both accept the rest they read the same.
#[test]
fn both_parsers_read_the_same_of_damaged_texts() {
    let (mut compared, mut differing) = (0, Vec::new());
    for (at, character) in TEXT.char_indices() {
        // Packer refuses a keyword without a blank behind it, and ends a heredoc at an indented tag; `hcl-edit` does not.
        let known = [("if", ' '), ("in", ' '), ("for", ' '), ("\\n\nEOT", '\n')];
        if known.iter().any(|(before, removed)| TEXT[..at].ends_with(before) && character == *removed) {
            continue;
        }
        let text = format!("{}{}", &TEXT[..at], &TEXT[at + character.len_utf8()..]);
        let (own, other) = readings(&text);
        match (own, other) {
            (Some(own), Some(other)) => {
                compared += 1;
                if own != other {
                    differing.push((at, text[at.saturating_sub(20)..(at + 20).min(text.len())].to_owned()));
                }
            }
            (None, None) => compared += 1,
            (own, other) => {
                let verdict = format!("own {} other {}", own.is_some(), other.is_some());
                differing.push((at, format!("{verdict}: {}", &text[at.saturating_sub(20)..(at + 20).min(text.len())])));
            }
        }
    }
    assert!(compared > 1_000, "{compared}");
    assert!(differing.is_empty(), "{differing:#?}");
}
