//! Locals and data sources: which are evaluated and read, in which order, and what their values are.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use kiln_core::data::Done;
use kiln_core::{
    DataOutputs, DataReader, DataSource, DataSourceKind, Decoded, Diagnostics, Failure, Field, FieldType, Kinds,
    Output, Schema,
};
use serde_json::json;

use super::{Fixture, plan, report};
use crate::load::{Loaded, UnknownKinds};

const STORE: Schema = Schema {
    kind: "store",
    title: "a `store` data source",
    doc: "",
    fields: &[
        Field::string("key", "what to look up").required(),
        Field::strings("tags", ""),
        Field::new("filter", FieldType::Blocks(&FILTER), ""),
    ],
    example: "",
};

const FILTER: Schema = Schema {
    kind: "filter",
    title: "a `filter` block",
    doc: "",
    fields: &[Field::string("name", "").required()],
    example: "",
};

const OUTPUTS: &[Output] = &[
    Output::new("value", FieldType::String, ""),
    Output::new("number", FieldType::Integer, ""),
    Output::new("labels", FieldType::StringMap, ""),
    Output::new("absent", FieldType::StringList, ""),
    Output::new("secret", FieldType::String, "").sensitive(),
];

/// A kind that remembers what was read.
#[derive(Debug, Clone, Default)]
struct Store(Arc<Mutex<Vec<String>>>);

struct Lookup {
    store: Store,
    key: String,
}

impl DataSourceKind for Store {
    fn schema(&self) -> &'static Schema {
        &STORE
    }

    fn outputs(&self) -> &'static [Output] {
        OUTPUTS
    }

    fn prepare(&self, config: &Decoded, _: &mut Diagnostics) -> Option<Arc<dyn DataSource>> {
        let key = config.values().get("key")?.as_str()?.to_owned();
        Some(Arc::new(Lookup { store: self.clone(), key }))
    }
}

#[async_trait]
impl DataSource for Lookup {
    async fn read(&self) -> Result<DataOutputs, Failure> {
        self.store.0.lock().unwrap().push(self.key.clone());
        if self.key == "wrong" {
            return Err(Failure::environment("no such key").hint("look again"));
        }
        let value = json!({
            "value": format!("<{}>", self.key), "number": 7, "labels": { "a": "b" }, "secret": "hunter2-of-store",
        });
        Ok(value.as_object().unwrap().clone())
    }
}

/// Reads each in a thread of its own, after a while.
#[derive(Debug)]
struct Threads(Duration);

impl DataReader for Threads {
    fn start(&self, source: Arc<dyn DataSource>, done: Done) {
        let pause = self.0;
        std::thread::spawn(move || {
            std::thread::sleep(pause);
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            // Nothing in it waits.
            if let std::task::Poll::Ready(outcome) = source.read().as_mut().poll(&mut context) {
                done(outcome);
            }
        });
    }

    fn patience(&self) -> Duration {
        Duration::MAX
    }

    fn waiting(&self, names: &[String]) {
        panic!("{names:?} were not given their time");
    }
}

/// Readings that are answered when the loader says that it waits: the first time one of them, then all.
#[derive(Default)]
struct Late {
    told: Mutex<Vec<String>>,
    held: Mutex<Vec<Done>>,
}

impl std::fmt::Debug for Late {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Late").finish_non_exhaustive()
    }
}

impl DataReader for Late {
    fn start(&self, _: Arc<dyn DataSource>, done: Done) {
        self.held.lock().unwrap().push(done);
    }

    fn patience(&self) -> Duration {
        Duration::from_millis(1)
    }

    fn waiting(&self, names: &[String]) {
        let mut told = self.told.lock().unwrap();
        told.push(names.join(" "));
        let mut held = self.held.lock().unwrap();
        let answered = if told.len() == 1 { 1 } else { held.len() };
        for done in held.drain(..answered) {
            done(Ok(json!({ "value": "late" }).as_object().unwrap().clone()));
        }
    }
}

/// Readings come to nothing.
#[derive(Debug)]
struct Nobody;

impl DataReader for Nobody {
    fn start(&self, _: Arc<dyn DataSource>, done: Done) {
        drop(done);
    }
}

/// A template with the kind `store`, read as `kiln build` does.
fn with_store(text: &str) -> (Fixture, Store) {
    let store = Store::default();
    let mut fixture = Fixture::file(text);
    let mut kinds = Kinds::new();
    kiln_data::register(&mut kinds, kiln_data::DataSettings::default());
    kinds.add_data_source(Arc::new(store.clone()));
    fixture.options.data.kinds = Arc::new(kinds);
    fixture.options.data.reader = Some(Arc::new(Threads(Duration::ZERO)));
    (fixture, store)
}

fn local(loaded: &Loaded, name: &str) -> String {
    let found = plan(loaded).locals.iter().find(|local| local.name == name);
    found.map(|local| local.value.clone()).unwrap_or_default()
}

fn read_keys(store: &Store) -> Vec<String> {
    let mut keys = store.0.lock().unwrap().clone();
    keys.sort();
    keys
}

const TWO_BUILDS: &str = r#"
data "store" "a" {
  key = "a"
}
data "store" "b" {
  key = local.key
  dynamic "filter" {
    for_each = [data.store.a.value]
    content {
      name = filter.value
    }
  }
}
data "store" "unused" {
  key = "unused"
}
locals {
  key    = "b of ${data.store.a.value}"
  both   = "${data.store.a.value} ${data.store.b.value}"
  broken = file("missing")
}
source "docker" "one" {
  image = data.store.a.value
}
source "docker" "two" {
  image = "x"
}
build {
  sources = ["docker.one"]
  provisioner "shell" {
    inline = ["true"]
  }
}
build {
  name    = "second"
  sources = ["docker.two"]
  provisioner "shell" {
    except = ["docker.two"]
    inline = [local.broken]
  }
  provisioner "shell" {
    inline = [local.both]
  }
}
"#;

#[test]
fn only_what_selected_builds_need_is_read() {
    let (fixture, store) = with_store(TWO_BUILDS);
    let loaded = fixture.only(&["docker.one"]).load();
    assert_eq!(read_keys(&store), ["a"]);
    assert_eq!(local(&loaded, "both"), "<unknown>");

    let (fixture, store) = with_store(TWO_BUILDS);
    let loaded = fixture.except(&["docker.one"]).load();
    assert_eq!(read_keys(&store), ["a", "b of <a>"]);
    assert_eq!(local(&loaded, "both"), "\"<a> <b of <a>>\"");
}

#[test]
fn everything_is_checked_where_all_builds_run_and_what_nothing_needs_is_not_read() {
    let (fixture, store) = with_store(TWO_BUILDS);
    let loaded = fixture.load();
    let text = report(&loaded, &loaded.diagnostics);
    assert!(text.starts_with("error: `file` failed"), "{text}");
    assert_eq!(read_keys(&store), ["a", "b of <a>"]);

    let (fixture, _) = with_store("data \"store\" \"unused\" {\n  tags = true\n}\nbuild {\n  sources = []\n}\n");
    insta::assert_snapshot!(fixture.report());
}

#[test]
fn without_a_reader_outputs_are_unknown_of_their_types() {
    let text = r#"
data "store" "a" {
  key = "a"
}
locals {
  fine   = upper(data.store.a.value)
  listed = [for name in data.store.a.absent : upper(name)]
}
locals {
  wrong = data.store.a.number.x
  other = data.store.a.valeu
}
build {
  sources = []
}
"#;
    let (mut fixture, store) = with_store(text);
    fixture.options.data.reader = None;
    insta::assert_snapshot!(fixture.report());
    assert_eq!(read_keys(&store), Vec::<String>::new());
}

#[test]
fn outputs_have_their_types_and_marks() {
    let text = r#"
variable "token" {
  default   = "hunter2"
  sensitive = true
}
data "store" "a" {
  key = "{{ upper `a` }}"
}
data "store" "marked" {
  key = "x"
  dynamic "filter" {
    for_each = [1]
    content {
      name = var.token
    }
  }
}
locals {
  all     = data.store.a
  derived = data.store.marked.value
}
build {
  sources = []
  name    = "${local.all.number}${local.derived}"
}
"#;
    let (fixture, _) = with_store(text);
    let loaded = fixture.load();
    insta::assert_snapshot!(local(&loaded, "all"));
    assert_eq!(local(&loaded, "derived"), "<sensitive>");
    assert!(plan(&loaded).secrets.iter().any(|secret| secret == "<x>"));
    assert!(plan(&loaded).secrets.iter().any(|secret| secret == "hunter2-of-store"));
}

#[test]
fn a_failed_reading_is_told_once_at_its_block() {
    let text = r#"
data "store" "a" {
  key = "wrong"
}
data "store" "b" {
  key = data.store.a.value
}
build {
  name    = "${data.store.a.value}${data.store.b.value}"
  sources = []
}
"#;
    let (mut fixture, _) = with_store(text);
    insta::assert_snapshot!(fixture.report());
    fixture.options.data.reader = Some(Arc::new(Nobody));
    assert_eq!(fixture.report(), "error: reading `data.store.a` came to nothing");
}

#[test]
fn independent_data_sources_are_read_side_by_side() {
    use std::fmt::Write as _;
    let mut text = String::new();
    for index in 0..12 {
        let _ = writeln!(text, "data \"store\" \"d{index}\" {{\n  key = \"{index}\"\n}}");
    }
    text.push_str("locals {\n  all = data.store\n}\nbuild {\n  name = length(local.all)\n  sources = []\n}\n");
    let (mut fixture, store) = with_store(&text);
    fixture.options.data.reader = Some(Arc::new(Threads(Duration::from_millis(200))));
    let start = Instant::now();
    let loaded = fixture.load();
    assert!(plan(&loaded).builds.is_empty());
    assert_eq!(read_keys(&store).len(), 12);
    assert!(start.elapsed() < Duration::from_millis(1_200), "{:?}", start.elapsed());
}

#[test]
fn a_long_wait_is_told_once_a_reading() {
    let text = r#"
data "store" "a" {
  key = "a"
}
data "store" "b" {
  key = "b"
}
data "store" "after" {
  key = data.store.a.value
}
locals {
  all = "${data.store.after.value} ${data.store.b.value}"
}
build {
  name    = local.all
  sources = []
}
"#;
    let (mut fixture, _) = with_store(text);
    let reader = Arc::new(Late::default());
    fixture.options.data.reader = Some(reader.clone());
    assert_eq!(local(&fixture.load(), "all"), "\"late late\"");
    assert_eq!(*reader.told.lock().unwrap(), ["data.store.a data.store.b", "data.store.after"]);
}

#[test]
fn unknown_kinds_and_names_are_told_with_the_nearest() {
    let text = r#"
data "sotre" "a" {
  key = var.undeclared
}
data "amazon-ami" "base" {
  filters = { name = "x" }
}
data "git-repository" "here" {}
locals {
  a = data.amazon-ami.base.id
  b = data.amazon-ami.bsae.id
  c = data.store.missing
}
build {
  sources = []
}
"#;
    let (mut fixture, _) = with_store(text);
    insta::assert_snapshot!("refused", fixture.report());
    let text = text.replace("var.undeclared", "1").replace("bsae", "base").replace("data.store.missing", "1");
    fixture.write("t.pkr.hcl", &text);
    fixture.options.data.unknown_kinds = UnknownKinds::Warn;
    insta::assert_snapshot!("warned", fixture.report());
    fixture.options.data.unknown_kinds = UnknownKinds::Accept;
    assert_eq!(fixture.report(), "");
}

#[test]
fn a_circle_is_reported_whole_through_data_sources_too() {
    let text = r#"
data "store" "a" {
  key = local.b
}
locals {
  b    = [for x in [1] : data.store.a.value]
  self = local.self
  fine = local.b
}
data "store" "c" {
  key = source.name
}
build {
  sources = []
}
"#;
    let (fixture, _) = with_store(text);
    insta::assert_snapshot!(fixture.report());
}

#[test]
fn long_chains_are_evaluated_in_linear_time() {
    use std::fmt::Write as _;
    let mut text = String::from("locals {\n  v0 = 0\n");
    for index in 1..20_000 {
        let _ = writeln!(text, "  v{index} = local.v{} + 1", index - 1);
    }
    text.push_str("}\nbuild {\n  sources = []\n}\n");
    let start = Instant::now();
    let loaded = Fixture::file(&text).load();
    assert_eq!(local(&loaded, "v19999"), "19999");
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}
