//! The pages of sources that make no image of a container, and that of the options of SSH, which several of them have.

use kiln_core::Schema;

use super::{check, table, tables, wrapped};

/// A source's page: what it is for, an example, `about`, its arguments.
fn page(kind: &str, about: &str) -> String {
    let kinds = crate::kinds::offline(&crate::settings::Settings::for_tests()).unwrap();
    let schema = kinds.builder(kind).unwrap().schema();
    let mut page = format!("# The `{kind}` source\n\n{}\n\n```hcl\n{}\n```\n\n", wrapped(schema.doc), schema.example);
    page.push_str(about);
    tables(&mut page, schema);
    page
}

const FILE: &str = "\
The file is written before the steps run, whole or not at all. With `content` it is readable by its owner alone, with `source` by
everybody, less the umask; an older file keeps its permissions. It is the artifact: post-processors such as `checksum` and
`compress` work on it, and one that does not keep its input removes it.

There is no machine: steps of the kinds `shell-local`, `sleep` and `breakpoint` run, and others fail. Packer pretends that they
did their work.

";

#[test]
fn the_file_source_is_documented() {
    check("file.md", &page("file", FILE));
}

const NULL: &str = "\
The arguments are those of [SSH](ssh.md); `ssh_host`, `ssh_username` and a way to log in are needed. With `communicator = \"none\"`
nothing is: steps of the kinds `shell-local`, `sleep` and `breakpoint` run, and others fail.

The machine belongs to somebody else: what the steps did to it stays, also when the build fails, and nothing of it is kept in the
[cache](../guide/cache.md). The artifact is empty; its id is `Null`, as in Packer. `build.ID` is `Null` too, `build.Host`,
`build.Port`, `build.User`, `build.Password` and `build.ConnType` are those of the login.
";

#[test]
fn the_null_source_is_documented() {
    let kinds = crate::kinds::offline(&crate::settings::Settings::for_tests()).unwrap();
    let schema = kinds.builder("null").unwrap().schema();
    let (doc, example) = (wrapped(schema.doc), schema.example);
    check("null.md", &format!("# The `null` source\n\n{doc}\n\n```hcl\n{example}\n```\n\n{NULL}"));
}

const SSH: &str = "\
# Options of SSH

Of the sources that are reached over SSH: [`null`](null.md), [`amazon-ebs`](amazon-ebs.md). What they are for, and how host keys are
checked, is told in the [guide](../guide/ssh.md).

";

#[test]
fn the_options_of_ssh_are_documented() {
    let is_winrm = |name: &str| name.starts_with("winrm_");
    let mut page = SSH.to_owned();
    let fields: Vec<_> = kiln_ssh::FIELDS.iter().copied().filter(|field| !is_winrm(field.name)).collect();
    let fields: &'static [_] = fields.leak();
    table(&mut page, &Schema { kind: "ssh", title: "", doc: "", fields, example: "" });
    page.push_str(
        "\n## Of Windows machines\n\nkiln has no `winrm`. Accepted for templates that serve several sources:\n",
    );
    let others = kiln_ssh::FIELDS.iter().filter(|field| is_winrm(field.name));
    let names: Vec<String> = others.map(|field| format!("`{}`", field.name)).collect();
    page.push_str(&wrapped(&names.join(", ")));
    page.push_str(".\n");
    assert!(kiln_ssh::FIELDS.iter().all(|field| field.kind.block().is_none()));
    check("ssh.md", &page);
}

#[cfg(feature = "aws")]
const AMAZON: &str = "\
What happens, in which order, and what it takes: the [guide on AMIs](../guide/amazon.md). The arguments of [SSH](ssh.md) are taken
too; `ssh_username` is needed.

Tags and `ami_description` may say `{{ .SourceAMI }}`, `{{ .SourceAMIName }}`, `{{ .SourceAMICreationDate }}`, `{{ .SourceAMIOwner }}`,
`{{ .SourceAMIOwnerName }}`, `{{ .SourceAMITags.KEY }}` and `{{ .BuildRegion }}`. Steps have the first five and the last as
`build.SourceAMI` and so on; `build.ID` is the instance, `build.Host` the address it is reached by, `build.SSHPublicKey` and
`build.SSHPrivateKey` the key of the build.

The artifact's id is `REGION:AMI`, one for each region, with commas between them.

";

#[cfg(feature = "aws")]
#[test]
fn the_amazon_source_is_documented() {
    let kinds = crate::kinds::offline(&crate::settings::Settings::for_tests()).unwrap();
    let schema = kinds.builder("amazon-ebs").unwrap().schema();
    let is_ssh = |name: &str| kiln_ssh::FIELDS.iter().any(|field| field.name == name);
    let own: Vec<_> = schema.fields.iter().copied().filter(|field| !is_ssh(field.name)).collect();
    let own = Schema { fields: own.leak(), ..*schema };
    let mut page =
        format!("# The `amazon-ebs` source\n\n{}\n\n```hcl\n{}\n```\n\n{AMAZON}", wrapped(schema.doc), schema.example);
    tables(&mut page, &own);
    check("amazon-ebs.md", &page);
}
