//! The blocks of an HCL2 template and what each takes: one table for checking, "did you mean" and the reference pages.
//! What a component takes (`source`, `provisioner`, `post-processor`, `data`) is its kind's own schema; here stands what all
//! of them share. Source: Packer's documentation; what is marked "beyond Packer" is kiln's own.

use kiln_core::{Field, FieldType, Schema};

/// The blocks of a template, in the order of the reference page.
pub const BLOCKS: [&Schema; 26] = [
    &PACKER,
    &REQUIRED_PLUGINS,
    &VARIABLE,
    &VALIDATION,
    &VARIABLES,
    &LOCALS,
    &LOCAL,
    &DATA,
    &SOURCE,
    &MODULE,
    &OUTPUT,
    &STEPS,
    &BUILD,
    &BUILD_SOURCE,
    &BUILD_STEPS,
    &PROVISIONER,
    &ERROR_CLEANUP_PROVISIONER,
    &TEST,
    &POST_PROCESSOR,
    &POST_PROCESSORS,
    &ON_SUCCESS,
    &ON_FAILURE,
    &ALWAYS,
    &DYNAMIC,
    &REGISTRY,
    &COMMUNICATOR,
];

const fn any(name: &'static str, doc: &'static str) -> Field {
    Field::new(name, FieldType::Any, doc)
}

const fn blocks(schema: &'static Schema) -> Field {
    Field::new(schema.kind, FieldType::Blocks(schema), schema.doc)
}

const FOR_EACH: Field = any(
    "for_each",
    "One for each element of a map, set or list, with `each.key` and `each.value` inside. Beyond Packer.",
);
const CACHE: Field = Field::bool(
    "cache",
    "Whether what an earlier build kept may be restored instead of running it; on a source, for all its steps. Beyond Packer.",
)
.default("true");
const CACHE_TTL: Field = Field::duration(
    "cache_ttl",
    "How old what is restored may be, e.g. `24h`; on a source, for all its steps. Beyond Packer.",
);
const DEPENDS_ON: Field = Field::strings(
    "depends_on",
    "Builds that must have ended well before these begin, although none of their values is used. Beyond Packer.",
);
const PLATFORMS: Field = Field::strings(
    "platforms",
    "One build for each of these platforms, e.g. `linux/arm64`, and one that joins their images to an index; for sources that have `platform`. Beyond Packer.",
);
const ENABLED: Field = Field::bool("enabled", "Whether it is there at all. Beyond Packer.").default("true");

/// Settings of the template itself.
pub const PACKER: Schema = Schema {
    kind: "packer",
    title: "a `packer` block",
    doc: "Settings of the template itself.",
    fields: &[
        Field::string(
            "required_version",
            "Versions of Packer that the template is for; kiln answers as the version of `packer.version`.",
        ),
        blocks(&REQUIRED_PLUGINS),
    ],
    example: "packer {\n  required_version = \">= 1.7.0\"\n}",
};

/// Plug-ins that Packer would have to fetch.
pub const REQUIRED_PLUGINS: Schema = Schema {
    kind: "required_plugins",
    title: "a `required_plugins` block",
    doc: "Plug-ins that Packer would fetch, by name: `{ source = \"...\", version = \"...\" }`. kiln has everything built in; `kiln init` says what it makes of them.",
    fields: &[],
    example: "packer {\n  required_plugins {\n    docker = {\n      source  = \"github.com/hashicorp/docker\"\n      version = \">= 1.0.0\"\n    }\n  }\n}",
};

/// An input of the template.
pub const VARIABLE: Schema = Schema {
    kind: "variable",
    title: "a `variable` block",
    doc: "An input of the template, `var.NAME`. Its label is its name.",
    fields: &[
        any(
            "default",
            "The value where none is given: constant, only `env` may be called. Without it a value must be given.",
        ),
        any(
            "type",
            "A type: `string`, `number`, `bool`, `any`, `list(T)`, `set(T)`, `map(T)`, `tuple([T, ...])`, `object({ name = T, other = optional(T, DEFAULT) })`. Without it, that of the default.",
        ),
        Field::string("description", "What it is for."),
        Field::bool("sensitive", "Its value, and all that derives from it, is never shown.").default("false"),
        blocks(&VALIDATION),
    ],
    example: "variable \"release\" {\n  type        = string\n  default     = \"bookworm\"\n  description = \"the Debian release\"\n}",
};

/// A rule for a variable's value.
pub const VALIDATION: Schema = Schema {
    kind: "validation",
    title: "a `validation` block",
    doc: "A rule that the value of its variable must keep.",
    fields: &[
        Field::bool("condition", "True for a good value. It may refer to its own variable only.").required(),
        Field::string("error_message", "What is said otherwise: a whole sentence.").required(),
    ],
    example: "variable \"release\" {\n  type    = string\n  default = \"bookworm\"\n\n  validation {\n    condition     = contains([\"bookworm\", \"trixie\"], var.release)\n    error_message = \"The release must be bookworm or trixie.\"\n  }\n}",
};

/// Several variables at once.
pub const VARIABLES: Schema = Schema {
    kind: "variables",
    title: "a `variables` block",
    doc: "Several variables at once: names and defaults.",
    fields: &[],
    example: "variables {\n  release = \"bookworm\"\n  mirror  = \"http://deb.debian.org/debian\"\n}",
};

/// Values with names.
pub const LOCALS: Schema = Schema {
    kind: "locals",
    title: "a `locals` block",
    doc: "Values with names, `local.NAME`, in any order; they may refer to variables, to each other and to data sources.",
    fields: &[],
    example: "locals {\n  name = \"worker-${var.release}\"\n  tags = [local.name, \"latest\"]\n}",
};

/// One value with a name.
pub const LOCAL: Schema = Schema {
    kind: "local",
    title: "a `local` block",
    doc: "One local value. Its label is its name.",
    fields: &[
        any("expression", "The value.").required(),
        Field::bool("sensitive", "It, and all that derives from it, is never shown.").default("false"),
    ],
    example: "local \"token\" {\n  expression = base64encode(var.password)\n  sensitive  = true\n}",
};

/// A value from outside.
pub const DATA: Schema = Schema {
    kind: "data",
    title: "a `data` block",
    doc: "A value read when the template is evaluated, `data.TYPE.NAME.OUTPUT`. Its labels are its type and its name; what it takes, its type says: see [data sources](data-sources.md).",
    fields: &[],
    example: "data \"http\" \"release\" {\n  url = \"https://example.com/release.txt\"\n}\n\nlocals {\n  release = trimspace(data.http.release.body)\n}",
};

/// A configured builder.
pub const SOURCE: Schema = Schema {
    kind: "source",
    title: "a `source` block",
    doc: "A configured builder. Its labels are its type and its name; what it takes, its type says.",
    fields: &[FOR_EACH, ENABLED, PLATFORMS, DEPENDS_ON, CACHE, CACHE_TTL],
    example: "source \"docker\" \"worker\" {\n  image  = \"debian:bookworm\"\n  commit = true\n}",
};

/// A template that another one uses.
pub const MODULE: Schema = Schema {
    kind: "module",
    title: "a `module` block",
    doc: "Uses the template of a directory: its builds become builds of this template, `module.NAME.TYPE.SOURCE`, and its outputs values, `module.NAME.OUTPUT`. Its label is its name; beside these it takes values for the variables of that template. Beyond Packer; see [sharing](../guide/sharing.md#modules).",
    fields: &[
        Field::string(
            "source",
            "The directory, beginning with `./`, `../` (from the file's directory) or `/`, or one in a repository: `git::URL//DIRECTORY?ref=REF`. A text as it is.",
        )
        .required(),
        DEPENDS_ON,
        any(
            "for_each",
            "One use of the module for each element of a map, set or list, `module.NAME-KEY`, with `each.key` and `each.value` in the arguments. It may depend on variables and locals, not on data sources.",
        ),
        Field::bool("enabled", "Whether it is used at all.").default("true"),
    ],
    example: "module \"worker\" {\n  source = \"./images/worker\"\n  image  = artifact.base.image\n}",
};

/// What a template gives to those that use it.
pub const OUTPUT: Schema = Schema {
    kind: "output",
    title: "an `output` block",
    doc: "A value for those that use this template as a module, `module.NAME.OUTPUT`. Its label is its name. Beyond Packer.",
    fields: &[
        any("value", "The value. It may mention `artifact`: then it is known when the build is done.").required(),
        Field::string("description", "What it is."),
        Field::bool("sensitive", "It, and all that derives from it, is never shown.").default("false"),
    ],
    example: "output \"image\" {\n  value       = artifact.docker.app.image\n  description = \"the worker's image\"\n}",
};

/// Provisioners with a name.
pub const STEPS: Schema = Schema {
    kind: "steps",
    title: "a `steps` block",
    doc: "Provisioners that builds use by the name of the block, its label. It may use other such blocks in its turn. Beyond Packer.",
    fields: &[blocks(&PROVISIONER), blocks(&BUILD_STEPS)],
    example: "steps \"common\" {\n  provisioner \"shell\" {\n    inline = [\"apt-get update\"]\n  }\n}",
};

/// A use of provisioners with a name.
pub const BUILD_STEPS: Schema = Schema {
    kind: "steps",
    title: "a `steps` block in a build",
    doc: "In a build, or in another `steps` block: the provisioners of a `steps` block, at this place among the others. Its label is that block's name. Beyond Packer.",
    fields: &[
        Field::strings("only", "All of them only for these sources: `TYPE.NAME`."),
        Field::strings("except", "None of them for these sources."),
        FOR_EACH,
        ENABLED,
    ],
    example: "build {\n  sources = [\"source.docker.worker\"]\n\n  steps \"common\" {}\n\n  provisioner \"shell\" {\n    inline = [\"systemctl start worker\"]\n  }\n}",
};

/// Sources with steps and post-processors.
pub const BUILD: Schema = Schema {
    kind: "build",
    title: "a `build` block",
    doc: "Sources, with the steps and post-processors that each goes through. The builds of all blocks run side by side, but for those that are built upon others.",
    fields: &[
        Field::string("name", "Put in front of the names of its builds: `NAME.TYPE.SOURCE`."),
        Field::string("description", "What it is for."),
        Field::strings("sources", "The sources: `source.TYPE.NAME` or `TYPE.NAME`."),
        DEPENDS_ON,
        Field::bool(
            "require_clean",
            "Whether it is built only where all files of the git work tree around the template are committed, and none is untracked; `-no-push` builds all the same. Beyond Packer.",
        )
        .default("false"),
        FOR_EACH,
        ENABLED,
        blocks(&BUILD_SOURCE),
        blocks(&PROVISIONER),
        blocks(&BUILD_STEPS),
        Field::new(
            "error-cleanup-provisioner",
            FieldType::Block(&ERROR_CLEANUP_PROVISIONER),
            ERROR_CLEANUP_PROVISIONER.doc,
        ),
        blocks(&TEST),
        blocks(&POST_PROCESSOR),
        blocks(&POST_PROCESSORS),
        blocks(&ON_SUCCESS),
        blocks(&ON_FAILURE),
        blocks(&ALWAYS),
        blocks(&REGISTRY),
    ],
    example: "build {\n  sources = [\"source.docker.worker\"]\n\n  provisioner \"shell\" {\n    inline = [\"apt-get update\"]\n  }\n}",
};

/// A source with more arguments.
pub const BUILD_SOURCE: Schema = Schema {
    kind: "source",
    title: "a `source` block in a build",
    doc: "In a build: a source with more arguments. Its label is the source. What the source sets already cannot be set again.",
    fields: &[
        Field::string("name", "What the source is called in this build."),
        FOR_EACH,
        ENABLED,
        PLATFORMS,
        DEPENDS_ON,
        CACHE,
        CACHE_TTL,
    ],
    example: "build {\n  source \"source.docker.worker\" {\n    name   = \"signer\"\n    author = \"images@example.com\"\n  }\n}",
};

/// What every provisioner takes.
pub const PROVISIONER: Schema = Schema {
    kind: "provisioner",
    title: "a `provisioner` block",
    doc: "A step. Its label is its type; what it takes beside these, its type says: see [provisioners](provisioners.md).",
    fields: &[
        Field::string("name", "What it is called; output shows it beside the type."),
        Field::strings("only", "Only for these sources: `TYPE.NAME`."),
        Field::strings("except", "Not for these sources."),
        Field::duration("pause_before", "Wait before it."),
        Field::new("max_retries", FieldType::Integer, "How often it is tried again after a failure.").default("0"),
        Field::duration("timeout", "Bound on one try."),
        any(
            "override",
            "Other arguments for some sources: `{ SOURCE = { argument = value } }`, where SOURCE is a name, or `TYPE.NAME` (beyond Packer).",
        ),
        Field::bool("continue_on_error", "Whether the build goes on when it fails.").default("false"),
        CACHE,
        CACHE_TTL,
        Field::bool(
            "checkpoint",
            "Keep the state after it, also where the builder would find that too costly. Beyond Packer.",
        )
        .default("false"),
        Field::map(
            "secrets",
            "Files that the step finds in the directory `$KILN_SECRETS`, by name: they are held in memory while it runs, and \
             are never part of the image. What they hold is no part of the step's key. Beyond Packer.",
        ),
        FOR_EACH,
        ENABLED,
    ],
    example: "provisioner \"shell\" {\n  inline       = [\"systemctl start worker\"]\n  pause_before = \"10s\"\n  max_retries  = 3\n}",
};

/// Runs when a build failed.
pub const ERROR_CLEANUP_PROVISIONER: Schema = Schema {
    kind: "error-cleanup-provisioner",
    title: "an `error-cleanup-provisioner` block",
    doc: "At most one: a provisioner that runs on the living machine when the build has failed. Its arguments are those of a provisioner, without `for_each`.",
    fields: &[ENABLED],
    example: "error-cleanup-provisioner \"shell\" {\n  inline = [\"cat /var/log/worker.log\"]\n}",
};

/// Arguments of a test that the template's loader reads.
const TEST_META: [Field; 4] = [
    Field::strings("only", "Only for these sources: `TYPE.NAME`."),
    Field::strings("except", "Not for these sources."),
    FOR_EACH,
    ENABLED,
];

const TEST_FIELDS: [Field; kiln_core::trial::TEST.fields.len() + TEST_META.len()] =
    Field::joined(&[kiln_core::trial::TEST.fields, &TEST_META]);

/// A test of what a build seals.
pub const TEST: Schema = Schema { fields: &TEST_FIELDS, ..kiln_core::trial::TEST };

/// What every post-processor takes.
pub const POST_PROCESSOR: Schema = Schema {
    kind: "post-processor",
    title: "a `post-processor` block",
    doc: "Makes something of the artifact. Its label is its type; what it takes beside these, its type says: see [post-processors](post-processors.md). Alone it is a chain of one.",
    fields: &[
        Field::string("name", "What it is called; `-except` knows it by that."),
        Field::strings("only", "Only for these sources: `TYPE.NAME`."),
        Field::strings("except", "Not for these sources."),
        Field::bool("keep_input_artifact", "Whether what it was given is kept. The default depends on the type."),
        Field::string(
            "on_error",
            "`continue`: when it fails, that is told as a warning, the next one takes what it was given, and the build ends well. Beyond Packer.",
        )
        .default("fail"),
        FOR_EACH,
        ENABLED,
    ],
    example: "post-processor \"manifest\" {\n  output = \"manifest.json\"\n}",
};

/// A chain.
pub const POST_PROCESSORS: Schema = Schema {
    kind: "post-processors",
    title: "a `post-processors` block",
    doc: "A chain: each post-processor in it takes what the one before made.",
    fields: &[FOR_EACH, ENABLED, blocks(&POST_PROCESSOR)],
    example: "post-processors {\n  post-processor \"docker-tag\" {\n    repository = \"registry.example.com/worker\"\n    tags       = [\"1.0\"]\n  }\n  post-processor \"docker-push\" {}\n}",
};

/// What every hook takes.
const HOOK: [Field; 6] = [
    Field::string("name", "What it is called."),
    Field::strings("only", "Only for these sources: `TYPE.NAME`."),
    Field::strings("except", "Not for these sources."),
    Field::duration("timeout", "Bound on it.").default("5m"),
    FOR_EACH,
    ENABLED,
];

/// Runs after a build that ended well.
pub const ON_SUCCESS: Schema = Schema {
    kind: "on_success",
    title: "an `on_success` block",
    doc: "A script of this host that runs after each build of the block that ended well, or had nothing to do. Beside these it takes what the post-processor `shell-local` takes: see [hooks](../guide/publishing.md#hooks). Beyond Packer.",
    fields: &HOOK,
    example: "on_success {\n  inline = [\"echo $KILN_IMAGE >> built.txt\"]\n}",
};

/// Runs after a build that failed.
pub const ON_FAILURE: Schema = Schema {
    kind: "on_failure",
    title: "an `on_failure` block",
    doc: "The same after each build that failed. Beyond Packer.",
    fields: &HOOK,
    example: "on_failure {\n  inline = [\"./notify.sh \\\"$KILN_BUILD failed: $KILN_ERROR\\\"\"]\n}",
};

/// Runs after every build.
pub const ALWAYS: Schema = Schema {
    kind: "always",
    title: "an `always` block",
    doc: "The same after each build that began, whatever became of it, also when the user stopped it. Beyond Packer.",
    fields: &HOOK,
    example: "always {\n  script  = \"scripts/tidy.sh\"\n  timeout = \"30s\"\n}",
};

/// Blocks made by a value.
pub const DYNAMIC: Schema = Schema {
    kind: "dynamic",
    title: "a `dynamic` block",
    doc: "Makes blocks, one for each element. Its label is their type. It may stand wherever such a block may, in sources, builds, steps and in other `dynamic` blocks.",
    fields: &[
        any("for_each", "A map, set or list.").required(),
        any("iterator", "What the element is called inside, with `.key` and `.value`: a name.").default("the label"),
        Field::strings("labels", "Labels of the blocks made."),
        Field::new("content", FieldType::Block(&CONTENT), CONTENT.doc).required(),
    ],
    example: "dynamic \"provisioner\" {\n  for_each = [\"nginx\", \"curl\"]\n  labels   = [\"shell\"]\n  content {\n    inline = [\"apt-get install -y ${provisioner.value}\"]\n  }\n}",
};

const CONTENT: Schema =
    Schema { kind: "content", title: "a `content` block", doc: "The inside of each block.", fields: &[], example: "" };

/// Metadata for a service that kiln does not speak to.
pub const REGISTRY: Schema = Schema {
    kind: "hcp_packer_registry",
    title: "an `hcp_packer_registry` block",
    doc: "Metadata for HashiCorp's registry. kiln passes it over with a warning.",
    fields: &[],
    example: "hcp_packer_registry {\n  bucket_name = \"worker\"\n}",
};

/// Accepted and unused, as in Packer.
pub const COMMUNICATOR: Schema = Schema {
    kind: "communicator",
    title: "a `communicator` block",
    doc: "Accepted and without effect, as in Packer. Its labels are a type and a name.",
    fields: &[],
    example: "communicator \"ssh\" \"worker\" {\n  ssh_username = \"admin\"\n}",
};

/// The names of a schema's arguments, without its blocks.
pub fn arguments(schema: &Schema) -> Vec<&'static str> {
    schema.fields.iter().filter(|field| !is_block(field)).map(|field| field.name).collect()
}

/// The names of the blocks that may stand in a schema's block, `dynamic` ones included where any may.
pub fn nested(schema: &Schema) -> Vec<&'static str> {
    let mut names: Vec<&'static str> =
        schema.fields.iter().filter(|field| is_block(field)).map(|field| field.name).collect();
    if schema.kind == "build" || schema.kind == "post-processors" || schema.title == STEPS.title {
        names.push(DYNAMIC.kind);
    }
    names
}

fn is_block(field: &Field) -> bool {
    field.kind.block().is_some()
}
