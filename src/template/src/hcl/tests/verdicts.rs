//! What Packer 1.6.6 accepts and what it makes of variables, case by case, in `verdicts.txt`:
//!
//! ```text
//! ## name
//! packer: accepts | rejects            its verdict (`packer validate`)
//! kiln: accepts | rejects: reason      where ours is another one
//! var: "..."                           -var a=...
//! env: "..."                           PKR_VAR_a
//! v.pkrvars.hcl: "..."                 a file for -var-file
//! value: "..."                         what `packer inspect` shows for var.a
//! --
//! template, without sources and builds
//! ```
//!
//! With `KILN_TEST_PACKER=1` the record is compared with the packer of this machine.

use std::collections::BTreeMap;

use super::{Fixture, oracle, report};

const RECORD: &str = include_str!("verdicts.txt");

/// What makes a template of each case.
const BUILD: &str = "source \"null\" \"x\" {\n communicator = \"none\"\n}\nbuild {\n sources = [\"null.x\"]\n}\n";

struct Case {
    name: &'static str,
    head: BTreeMap<&'static str, &'static str>,
    template: String,
}

impl Case {
    fn text(&self, key: &str) -> Option<String> {
        self.head.get(key).map(|value| serde_json::from_str(value).unwrap())
    }

    fn files(&self) -> Vec<(&'static str, String)> {
        let var_files =
            ["v.pkrvars.hcl", "v.pkrvars.json"].into_iter().filter_map(|name| Some((name, self.text(name)?)));
        [("t.pkr.hcl", self.template.clone())].into_iter().chain(var_files).collect()
    }

    fn packer_accepts(&self) -> bool {
        match self.head["packer"] {
            "accepts" => true,
            "rejects" => false,
            other => panic!("{}: {other}", self.name),
        }
    }

    fn kiln_accepts(&self) -> bool {
        self.head.get("kiln").map_or(self.packer_accepts(), |verdict| verdict.starts_with("accepts: "))
    }

    fn fixture(&self) -> Fixture {
        let files = self.files();
        let borrowed: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
        let mut fixture = Fixture::directory(&borrowed);
        fixture.options.variable_files = files.iter().skip(1).map(|(name, _)| name.into()).collect();
        if let Some(value) = self.text("var") {
            fixture = fixture.var("a", &value);
        }
        match self.text("env") {
            Some(value) => fixture.env("PKR_VAR_a", &value),
            None => fixture,
        }
    }
}

fn cases() -> Vec<Case> {
    let blocks = RECORD.strip_prefix("## ").unwrap().split("\n## ");
    blocks
        .map(|block| {
            let (head, template) = block.split_once("\n--\n").unwrap();
            let (name, head) = head.split_once('\n').unwrap();
            let head = head.lines().map(|line| line.split_once(": ").unwrap()).collect();
            Case { name, head, template: format!("{}\n{BUILD}", template.trim_end()) }
        })
        .collect()
}

#[test]
fn verdicts_and_values_are_those_of_packer() {
    let cases = cases();
    assert!(cases.len() > 450, "{}", cases.len());
    let mut wrong = Vec::new();
    for case in &cases {
        let mut fixture = case.fixture();
        let loaded = fixture.load();
        if loaded.diagnostics.has_errors() == case.kiln_accepts() {
            wrong.push(format!("{}: {}", case.name, report(&loaded, &loaded.diagnostics)));
        }
        let Some(expected) = case.text("value") else { continue };
        fixture.options.allow_unset = true;
        let loaded = fixture.load();
        let found = loaded.plan.iter().flat_map(|plan| &plan.variables).find(|variable| variable.name == "a");
        let found = found.map(|variable| variable.shown.as_str());
        if found != Some(&expected) {
            wrong.push(format!("{}: {found:?} and not {expected:?}", case.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn the_record_is_that_of_packer() {
    let Some(packer) = oracle::packer() else { return };
    for case in cases() {
        let fixture = case.fixture();
        let told = packer.run(&fixture, "validate");
        assert_eq!(told.is_some(), case.packer_accepts(), "{}", case.name);
        let Some(expected) = case.text("value") else { continue };
        let shown = packer.run(&fixture, "inspect").unwrap_or_default();
        let line = format!("var.a: {}", serde_json::to_string(&expected).unwrap());
        assert!(shown.lines().any(|shown| shown == line), "{}: {line} in\n{shown}", case.name);
    }
}
