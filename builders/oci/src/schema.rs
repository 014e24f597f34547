//! The arguments of an `oci` source.

use kiln_core::{Field, FieldType, Schema};
use kiln_registry::EcrOptions;

/// `ecr_login` and its company.
const ECR: &[Field] = EcrOptions::FIELDS;

/// All arguments.
pub(crate) const OCI: Schema = Schema {
    kind: "oci",
    title: "an `oci` source",
    doc: "Unpacks a base image, lets the provisioners change it in a sandbox of kiln's own, and seals it as an image. \
          Needs no daemon, and runs as root, as an ordinary user, and in an unprivileged container.",
    fields: &[
        Field::new(
            "from",
            FieldType::Any,
            "What to start from: an image reference (`\"debian:bookworm\"`), `\"scratch\"`, or one of \
             `{ oci_layout = PATH, name = NAME }`, `{ docker_archive = PATH, name = NAME }`, `{ docker_daemon = IMAGE }`, \
             `{ tar = PATH }`, `{ directory = PATH }`, `{ local = NAME }` (what an earlier build named by `tags`), \
             `{ busybox = PATH }` (a static busybox of this host; `true` finds one), \
             `{ mmdebstrap = { suite, variant, mirror, packages, components, architecture, keyring, max_age } }`.",
        ),
        Field::string("image", "The base image by its reference; the same as `from`, under the docker source's name."),
        Field::new(
            "pull",
            FieldType::BoolOr(&["always", "missing", "never"]),
            "Whether a registry is asked for the base image: `true` or `always` (one request if the image is there \
             already), only when it is `missing`, or `false` or `never`.",
        )
        .default("true"),
        Field::string("platform", "Platform of the base image, such as `linux/arm64/v8`; this host's where absent."),
        // What becomes of it.
        Field::bool("commit", "Seal an image. Holds unless `discard` or `export_path` is set."),
        Field::bool("discard", "Throw the machine away: nothing is sealed."),
        Field::string("export_path", "Write the machine's file system to this tar file."),
        Field::strings("tags", "Names of the image in kiln's store, where `from` finds it again."),
        Field::strings("push", "References to push the image to, beginning while it is still being packed; after the tests, where the build has some."),
        Field::new(
            "immutable_tags",
            FieldType::OneOf(&["refuse", "warn", "off"]),
            "What to do where a tag of `push` that looks as if it never moved (`1.2.3`, `2026-11-23`, `release-3f2a91c`) is in the registry and means another image: `refuse` to push anything, `warn` and move it, or do not ask (`off`). `-force` moves it.",
        )
        .default("refuse"),
        Field::string("oci_layout", "Write the image to this OCI layout: a directory, or a tar file if it ends with `.tar`."),
        Field::string("docker_archive", "Write the image to this file for `docker load`, under the names of `tags`."),
        Field::bool("load", "Load the image into the Docker engine, under the names of `tags`."),
        // The image.
        Field::strings(
            "changes",
            "Dockerfile instructions for the image: CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, STOPSIGNAL, \
             USER, VOLUME, WORKDIR. What they do not name stays as in the base image; `ENTRYPOINT []` and `CMD []` take \
             it away.",
        ),
        Field::map("labels", "Labels of the image."),
        Field::string("author", "Author of the image."),
        Field::string("message", "Comment of the image's last layer."),
        Field::new(
            "layers",
            FieldType::OneOf(&["squash", "per-step"]),
            "One layer for all that the steps changed, or one for each step.",
        )
        .default("squash"),
        Field::string("compression", "Of the layers: `gzip[:1-12]`, `zstd[:1-19]`, `none`.").default("gzip:1"),
        Field::new("format", FieldType::OneOf(&["oci", "docker"]), "Media types of the image.").default("oci"),
        Field::strings("exclude", "Patterns of paths that are left out of the layers: `/var/cache/**`."),
        Field::new(
            "secret_scan",
            FieldType::OneOf(&["fail", "warn", "off"]),
            "What to do when a secret of the run (8 bytes or more; also in base64 and URL form) is found in a layer.",
        )
        .default("fail"),
        Field::bool(
            "kiln_labels",
            "Label the image with `kiln.run`, `kiln.build` and where the template comes from by git (`org.opencontainers.image.revision`, `.source`, and `.version` where the commit is tagged). Each run makes another image \
             then.",
        )
        .default("false"),
        // The sandbox.
        Field::new(
            "isolation",
            FieldType::OneOf(&["ns", "userns", "chroot"]),
            "`ns` (root), `userns` (an ordinary user), `chroot` (where nothing else is possible); the best that works \
             here where absent.",
        ),
        Field::new(
            "network",
            FieldType::OneOf(&["host", "none"]),
            "`host`: steps reach what this host reaches, its own local services too; `none`: nothing.",
        )
        .default("host"),
        kiln_services::SERVICES,
        Field::map("volumes", "Host paths (`~/` is the home) to paths in the machine, with `:ro` behind for reading only."),
        Field::strings("tmpfs", "Paths in the machine that are held in memory, with mount options behind a colon."),
        Field::strings("device", "Devices of the host, as `/dev/x[:/dev/y]`."),
        Field::strings("cap_add", "Capabilities to add."),
        Field::strings("cap_drop", "Capabilities to take away."),
        Field::bool("privileged", "All capabilities and devices, no filter of system calls."),
        Field::strings("run_command", "Flags of `docker run` as a `docker` source takes them; what a sandbox knows is heeded.")
            .deferred(),
        Field::string("exec_user", "User that commands run as; the image's `USER` where absent."),
        Field::bool(
            "pty",
            "Run commands on a pseudo terminal; what they write to stderr then comes with their output.",
        ),
        Field::bool("fix_upload_owner", "Give uploads to the image's `USER`; else numeric owners of this host stay.")
            .default("true"),
        Field::string("container_dir", "For templates of `docker` sources. Without effect."),
        // Registries.
        Field::bool("login", "Use `login_*` for their registry. No file outside of this run is touched."),
        Field::string("login_server", "The registry of the login.").default("docker.io"),
        Field::string("login_username", "User of the login."),
        Field::string("login_password", "Password or token of the login."),
        ECR[0],
        ECR[1],
        ECR[2],
        ECR[3],
        ECR[4],
        ECR[5],
        Field::strings("insecure_registries", "Hosts that are spoken to by plain http or with certificates nobody checks."),
        Field::strings("registry_ca_files", "Files of certificates (PEM) that registries are trusted by."),
        Field::map("registry_mirrors", "Registries to the mirrors that are asked first: `\"docker.io\" = \"mirror.example.org\"`."),
        Field::string("communicator", "How commands reach the machine.").default("oci"),
    ],
    example: "source \"oci\" \"worker\" {\n  from    = \"debian:bookworm\"\n  tags    = [\"worker:latest\"]\n  push    = [\"registry.example.org/worker:1\"]\n  changes = [\"USER app\", \"CMD [\\\"serve\\\"]\"]\n}",
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart() {
        let mut names: Vec<&str> = OCI.fields.iter().map(|field| field.name).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
