//! The arguments of a `dockerfile` source.

use kiln_builder_docker::PLATFORM_HOSTS;
use kiln_core::{Field, FieldType, Schema};
use kiln_registry::EcrOptions;

/// `ecr_login` and its company.
const ECR: &[Field] = EcrOptions::FIELDS;

const OWN: &[Field] = &[
    Field::string(
        "context",
        "What the Dockerfile may copy from: a directory, relative to the template; a clean checkout of git, as \
         `git::URL?ref=REF` or `URL.git#REF:DIRECTORY`; a tar file, plain or compressed.",
    )
    .default("."),
    Field::string(
        "dockerfile",
        "The Dockerfile, relative to the template, or else to the context. A file `NAME.dockerignore` beside it goes before \
         the context's `.dockerignore`.",
    )
    .default("Dockerfile"),
    Field::string("dockerfile_inline", "The Dockerfile's text itself, instead of `dockerfile`."),
    Field::map("build_args", "Values of the Dockerfile's `ARG`s. They show in the image's history: secrets belong to `secrets`."),
    Field::string("target", "The stage to build; the last one where absent."),
    Field::map("labels", "Labels of the image."),
    Field::bool(
        "kiln_labels",
        "Label the image with `kiln.build` and where the template comes from by git (`org.opencontainers.image.revision`, `.source`, and `.version` where the commit is tagged). What \
         changes with each run is no label: an image that is built again unchanged has the same id.",
    )
    .default("true"),
    Field::map("secrets", "Secrets for `RUN --mount=type=secret`, by id. They are in no layer, log or history."),
    Field::map("secret_files", "The same from files, relative to the template."),
    Field::map("secret_env", "The same from variables of the environment."),
    Field::strings(
        "ssh",
        "SSH agents for `RUN --mount=type=ssh`: `default` is the one of `SSH_AUTH_SOCK`; `ID=SOCKET` names another.",
    ),
    Field::map(
        "contexts",
        "What a name in `FROM`, `COPY --from=` and `RUN --mount=from=` means: an image, the image of another build \
         (`artifact.base.image`, which makes it a parent), or a directory, relative to the template.",
    ),
    Field::strings("cache_from", "Caches to look into: an image's name, or `type=registry,ref=NAME` and the like."),
    Field::strings(
        "cache_to",
        "Caches to fill: `type=inline`; where the engine has containerd's image store, and with `buildkitd`, also \
         `type=registry,ref=NAME,mode=max`. Directories (`type=local`) are none.",
    ),
    Field::string("platform", "Platform of the image, such as `linux/arm64`."),
    PLATFORM_HOSTS,
    Field::new("network", FieldType::OneOf(&["default", "none", "host"]), "Network of `RUN`.").default("default"),
    Field::bool("no_cache", "Take nothing from BuildKit's cache."),
    Field::new(
        "pull",
        FieldType::BoolOr(&["always", "missing", "never"]),
        "Pull the images in `FROM`: `true` or `always`, only those that are `missing`, or `false` or `never`.",
    )
    .default("missing"),
    Field::strings("extra_hosts", "Lines for `/etc/hosts` of `RUN`: `NAME:ADDRESS`."),
    Field::string("shm_size", "Size of `/dev/shm` of `RUN`, such as `128m`."),
    Field::strings("ulimit", "Limits of `RUN`: `nofile=1024:2048`."),
    Field::string(
        "buildkitd",
        "A BuildKit daemon, as `unix:///run/buildkit/buildkitd.sock` or `tcp://HOST:1234`, instead of the Docker engine. The \
         image lands in kiln's store, as those of `oci` sources.",
    ),
    Field::string("buildkitd_ca", "Who may have signed that daemon's certificate (PEM); TLS is spoken where this is set."),
    Field::string("buildkitd_cert", "This side's certificate for it (PEM)."),
    Field::string("buildkitd_key", "The certificate's key (PEM)."),
    Field::bool("login", "Use `login_*` for the registry of base images. No file outside of this run is touched."),
    Field::string("login_server", "The registry of the login.").default("docker.io"),
    Field::string("login_username", "User of the login."),
    Field::string("login_password", "Password or token of the login."),
];

/// Of the container that steps run in; without steps they have no effect.
const MACHINE: &[Field] = &[
    Field::strings(
        "changes",
        "With steps: Dockerfile instructions for the committed image, as those of [`docker`](docker.md) sources.",
    ),
    Field::string("author", "With steps: author of the committed image."),
    Field::string("message", "With steps: comment of the committed image."),
    Field::map("volumes", "With steps: host paths or volume names to paths in the container."),
    Field::strings("tmpfs", "With steps: paths in the container that are held in memory."),
    Field::strings("device", "With steps: devices of the host."),
    Field::strings("cap_add", "With steps: capabilities to add."),
    Field::strings("cap_drop", "With steps: capabilities to take away."),
    Field::bool("privileged", "With steps: all capabilities and devices."),
    Field::string("runtime", "With steps: the engine's runtime."),
    Field::string("exec_user", "With steps: user that commands run as; the image's `USER` where absent."),
    Field::bool("pty", "With steps: run commands on a pseudo terminal."),
];

const FIELDS: [Field; OWN.len() + ECR.len() + MACHINE.len()] = Field::joined(&[OWN, ECR, MACHINE]);

/// All arguments.
pub(crate) const DOCKERFILE: Schema = Schema {
    kind: "dockerfile",
    title: "a `dockerfile` source",
    doc: "Builds an image from a Dockerfile: by the BuildKit of the Docker engine, by a BuildKit daemon, or by the engine's own \
          builder where it has no BuildKit. Steps, where there are any, go on in a container of that image.",
    fields: &FIELDS,
    example: r#"source "dockerfile" "worker" {
  context    = "."
  dockerfile = "docker/worker.Dockerfile"
  target     = "http"
  build_args = { UID = "1000" }
  contexts   = { base = artifact.base.image }
}"#,
};

/// Names of the arguments that are for the container of the steps.
pub(crate) fn machine_arguments() -> impl Iterator<Item = &'static str> {
    MACHINE.iter().map(|field| field.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart() {
        let mut names: Vec<&str> = DOCKERFILE.fields.iter().map(|field| field.name).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
