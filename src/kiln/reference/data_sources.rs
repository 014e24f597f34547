//! The page of data sources: what each takes and gives.

use std::fmt::Write;

use super::{cell, check, table};

const HEAD: &str = "# Data sources

A data source asks the outside for values before anything is built. Other expressions use them as `data.TYPE.NAME.OUTPUT`:

```hcl
data \"http\" \"release\" {
  url = \"https://example.com/release.txt\"
}

locals {
  release = trimspace(data.http.release.body)
}
```

- Locals and data sources may refer to each other in any order, but not in a circle. Data sources that do not need each other
  are read side by side.
- `kiln build` reads those that the selected builds need, directly or through locals: with `-only` those of the other builds
  are left alone, and one that nothing refers to is checked and not read.
- `kiln validate`, `inspect` and `console` read nothing: outputs are unknown values of their types (but that of `null`, which
  asks nobody), and everything around them is checked as far as that goes. `kiln validate -evaluate-datasources` reads.
- When an argument is sensitive, all outputs are.
- A data source that cannot be read is told at its block; if nothing else is wrong, the exit code is 4. Addresses are shown
  without user, query and fragment. After three seconds without an answer, kiln says which data sources it waits for.
- Types that kiln does not have (`hcp-packer-version`, `vault`, ...) are an error, and the rest of the template is checked all
  the same; `validate --allow-unknown-kinds` accepts them, their outputs unknown.
";

#[test]
fn data_sources_are_documented() {
    let kinds = crate::kinds::data_sources(&crate::settings::Settings::for_tests());
    let mut page = HEAD.to_owned();
    for name in kinds.data_source_names() {
        let kind = kinds.data_source(name).unwrap();
        let schema = kind.schema();
        write!(page, "\n## `{name}`\n\n{}\n\n```hcl\n{}\n```\n\n", schema.doc, schema.example).unwrap();
        table(&mut page, schema);
        page.push_str("\n| output | type | |\n|---|---|---|\n");
        for output in kind.outputs() {
            writeln!(page, "| `{}` | {} | {} |", output.name, output.kind.name(), cell(output.doc)).unwrap();
        }
    }
    page.push_str(
        "\nThose of AWS need credentials, as [the variables of AWS](environment.md#aws) and its configuration files give them, or \
         the access\noptions above. They are found once in a run, also for `amazon-ebs` sources; a code of a second factor is asked \
         for once. Calls are tried\nup to ten times.\n\nProxies and certificates come from the [environment](environment.md#data-sources). A server has 10 seconds to \
         take a connection,\n30 seconds between two pieces of its answer and 5 minutes in all. `GET`, `HEAD` and `OPTIONS` \
         requests are tried up to three\ntimes when there is no answer, or 429, 502, 503 or 504; `Retry-After` is heeded.\n",
    );
    check("data-sources.md", &page);
}
