//! The arguments of a `docker` source.

use kiln_core::{Field, FieldType, Schema};
use kiln_registry::EcrOptions;

use crate::hosts::PLATFORM_HOSTS;

/// `ecr_login` and its company.
const ECR: &[Field] = EcrOptions::FIELDS;

const BUILD: Schema = Schema {
    kind: "build",
    title: "a `build` block",
    doc: "Builds the base image from a Dockerfile.",
    fields: &[
        Field::string("path", "The Dockerfile, relative to the working directory.").required(),
        Field::string("build_dir", "The build's context.").default("."),
        Field::map("arguments", "Values of the Dockerfile's `ARG`s."),
        Field::bool("pull", "Look for newer versions of the images in `FROM`.").default("true"),
        Field::bool("compress", "Send the context gzipped."),
    ],
    example: "",
};

/// Options of other communicators, which templates carry along: accepted, without effect.
const fn other(name: &'static str) -> Field {
    Field::new(name, FieldType::Any, "Accepted for templates that serve several sources; without effect here.")
}

/// All arguments.
pub(crate) const DOCKER: Schema = Schema {
    kind: "docker",
    title: "a `docker` source",
    doc: "Starts a container, lets the provisioners change it, and commits it as an image, exports it or throws it away.",
    fields: &[
        Field::string("image", "The base image. Either this or `build`."),
        Field::new(
            "build",
            FieldType::Block(&BUILD),
            "Builds the base image from a Dockerfile. Either this or `image`.",
        ),
        Field::bool("commit", "Commit the container as an image. Exactly one of `commit`, `discard`, `export_path`."),
        Field::bool("discard", "Throw the container away."),
        Field::string("export_path", "Write the container's file system to this tar file."),
        Field::new(
            "pull",
            FieldType::BoolOr(&["always", "missing", "never"]),
            "Pull the base image: `true` or `always`, only when it is `missing`, or `false` or `never`.",
        )
        .default("true"),
        Field::strings(
            "changes",
            "Dockerfile instructions for the committed image: CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, \
             STOPSIGNAL, USER, VOLUME, WORKDIR. What they do not name stays as in the base image; `ENTRYPOINT []` and \
             `CMD []` take it away.",
        ),
        Field::string("author", "Author of the committed image."),
        Field::string("message", "Comment of the committed image."),
        Field::strings(
            "run_command",
            "Flags of `docker run`, then `{{.Image}}`, then a command. What `-e` and `--label` set ends up in the \
             committed image, as with `docker commit`.",
        )
        .default("[\"-d\", \"-i\", \"-t\", \"--entrypoint=/bin/sh\", \"--\", \"{{.Image}}\"]")
        .deferred(),
        Field::map("volumes", "Host paths (`~/` is the home) or volume names to paths in the container."),
        Field::strings("tmpfs", "Paths in the container that are held in memory."),
        Field::strings("device", "Devices of the host, as `/dev/x[:/dev/y[:rwm]]`."),
        Field::strings("cap_add", "Capabilities to add."),
        Field::strings("cap_drop", "Capabilities to take away."),
        Field::bool("privileged", "All capabilities and devices."),
        Field::string("runtime", "The engine's runtime, such as `runsc`."),
        Field::string("platform", "Platform of the base image, such as `linux/arm64`."),
        PLATFORM_HOSTS,
        Field::string(
            "network",
            "Network of the container: `bridge`, `host`, `none`, a name, `container:NAME`. How services are reached in each, \
             the [guide](../guide/services-and-tests.md) tells.",
        ),
        Field::bool(
            "share_network",
            "Let services run in the container's own network: all are at 127.0.0.1, under every name. Beyond Packer.",
        ),
        kiln_services::SERVICES,
        Field::string(
            "container_dir",
            "Where Packer mounts a directory. kiln needs none, and makes none unless this is set.",
        ),
        Field::string("exec_user", "User that commands run as; the image's `USER` where absent."),
        Field::bool(
            "pty",
            "Run commands on a pseudo terminal; what they write to stderr then comes with their output.",
        ),
        Field::bool("fix_upload_owner", "Give uploads to the image's `USER`; else numeric owners of this host stay.")
            .default("true"),
        Field::bool(
            "kiln_labels",
            "Label container and image with `kiln.run`, `kiln.build` and where the template comes from by git (`org.opencontainers.image.revision`, `.source`, and `.version` where the commit is tagged). Without, no trace of kiln is in the image.",
        )
        .default("true"),
        Field::bool("login", "Use `login_*` for the base image's registry. No file outside of this run is touched."),
        Field::string("login_server", "The registry of the login.").default("docker.io"),
        Field::string("login_username", "User of the login."),
        Field::string("login_password", "Password or token of the login."),
        ECR[0],
        ECR[1],
        ECR[2],
        ECR[3],
        ECR[4],
        ECR[5],
        Field::string("docker_path", "The `docker` program. Without effect: kiln speaks to the engine itself."),
        Field::bool("windows_container", "Windows containers (not available)."),
        Field::string("communicator", "How commands reach the container.").default("docker"),
        other("pause_before_connecting"),
        other("ssh_host"),
        other("ssh_port"),
        other("ssh_username"),
        other("ssh_password"),
        other("ssh_keypair_name"),
        other("temporary_key_pair_name"),
        other("temporary_key_pair_type"),
        other("temporary_key_pair_bits"),
        other("ssh_ciphers"),
        other("ssh_clear_authorized_keys"),
        other("ssh_key_exchange_algorithms"),
        other("ssh_private_key_file"),
        other("ssh_certificate_file"),
        other("ssh_pty"),
        other("ssh_timeout"),
        other("ssh_wait_timeout"),
        other("ssh_agent_auth"),
        other("ssh_disable_agent_forwarding"),
        other("ssh_handshake_attempts"),
        other("ssh_bastion_host"),
        other("ssh_bastion_port"),
        other("ssh_bastion_agent_auth"),
        other("ssh_bastion_username"),
        other("ssh_bastion_password"),
        other("ssh_bastion_interactive"),
        other("ssh_bastion_private_key_file"),
        other("ssh_bastion_certificate_file"),
        other("ssh_file_transfer_method"),
        other("ssh_proxy_host"),
        other("ssh_proxy_port"),
        other("ssh_proxy_username"),
        other("ssh_proxy_password"),
        other("ssh_keep_alive_interval"),
        other("ssh_read_write_timeout"),
        other("ssh_remote_tunnels"),
        other("ssh_local_tunnels"),
        other("ssh_public_key"),
        other("ssh_private_key"),
        other("winrm_username"),
        other("winrm_password"),
        other("winrm_host"),
        other("winrm_no_proxy"),
        other("winrm_port"),
        other("winrm_timeout"),
        other("winrm_use_ssl"),
        other("winrm_insecure"),
        other("winrm_use_ntlm"),
    ],
    example: "source \"docker\" \"worker\" {\n  image   = \"debian:bookworm\"\n  commit  = true\n  changes = [\"USER app\", \"CMD [\\\"serve\\\"]\"]\n}",
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart() {
        let mut names: Vec<&str> = DOCKER.fields.iter().map(|field| field.name).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
