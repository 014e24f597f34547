//! Whether a reference page and a schema say the same.

use kiln_core::Schema;

/// What a page lacks of a schema: the kind's section (``## `KIND` ``), and in it one table row for each field, with its
/// type, and its default or `required`. Rows for arguments that do not exist are told too. Empty when all is well.
pub fn undocumented(schema: &Schema, page: &str) -> Vec<String> {
    let heading = format!("## `{}`\n", schema.kind);
    let Some(start) = page.find(&heading) else { return vec![format!("no section `{}`", schema.kind)] };
    let section = &page[start + heading.len()..];
    let section = section.find("\n## ").map_or(section, |end| &section[..end]);
    let mut lacking = Vec::new();
    for field in schema.fields {
        // A bar inside a cell would end it.
        let kind = field.kind.name().replace('|', "\\|");
        let default = match (field.required, field.default) {
            (true, _) => "required".to_owned(),
            (false, Some(text)) => format!("`{text}`"),
            (false, None) => String::new(),
        };
        let row = format!("| `{}` | {kind} | {default}{}|", field.name, if default.is_empty() { "" } else { " " });
        if !section.contains(&row) {
            lacking.push(format!("no row `{row}`"));
        }
    }
    let table = section.split("\n| argument | type |").nth(1).unwrap_or_default();
    for line in table.lines().take_while(|line| !line.is_empty()) {
        let name = line.strip_prefix("| `").and_then(|rest| rest.split_once('`')).map(|(name, _)| name);
        if let Some(name) = name.filter(|name| schema.field(name).is_none()) {
            lacking.push(format!("`{name}` is no argument"));
        }
    }
    lacking
}

#[cfg(test)]
mod tests {
    use kiln_core::Field;

    use super::*;

    const SCHEMA: Schema = Schema {
        kind: "x",
        title: "",
        doc: "",
        fields: &[Field::string("a", "").required(), Field::bool("b", "").default("false")],
        example: "",
    };

    #[test]
    fn each_lack_is_told() {
        let table = "| argument | type | default | |\n|---|---|---|---|\n";
        let rows = "| `a` | string | required | A. |\n| `b` | bool | `false` | B. |\n";
        assert_eq!(undocumented(&SCHEMA, &format!("## `x`\n\n{table}{rows}\n## `y`\n")), Vec::<String>::new());
        assert_eq!(undocumented(&SCHEMA, "## `y`\n"), ["no section `x`"]);
        let wrong = format!("## `x`\n\n{table}| `a` | string | | A. |\n| `c` | bool | | C. |\n\n## `y`\n{rows}");
        assert_eq!(
            undocumented(&SCHEMA, &wrong),
            ["no row `| `a` | string | required |`", "no row `| `b` | bool | `false` |`", "`c` is no argument"]
        );
    }
}
