//! The arguments of a `service` block.

use kiln_core::health::HEALTH_CHECK;
use kiln_core::{Field, FieldType, Schema};

/// A service.
pub const SERVICE: Schema = Schema {
    kind: "service",
    title: "a `service` block",
    doc: "A side-car: it is started before the first step that runs, and removed after the build, with all it wrote. The \
          machine reaches it by its name and its `aliases`. Beyond Packer.",
    fields: &[
        Field::string("image", "The image it runs; `artifact.NAME.image` is one that another build makes.").required(),
        Field::new(
            "pull",
            FieldType::BoolOr(&["always", "missing", "never"]),
            "When its image is pulled: `true` or `always`, only when it is `missing`, or `false` or `never`.",
        )
        .default("missing"),
        Field::new(
            "command",
            FieldType::Any,
            "Instead of the image's `CMD`: a list of words, or a text for `/bin/sh -c`.",
        ),
        Field::new("entrypoint", FieldType::Any, "Instead of the image's `ENTRYPOINT`; `[]` takes it away."),
        Field::map("environment", "Environment variables, over those of the image."),
        Field::map("env", "The same as `environment`."),
        Field::string("user", "The user it runs as; the image's `USER` where absent."),
        Field::string("workdir", "The directory it runs in; the image's `WORKDIR` where absent."),
        Field::new(
            "tmpfs",
            FieldType::Any,
            "Paths in it that are held in memory: a list of `PATH[:OPTIONS]`, or a map from path to options.",
        ),
        Field::map("volumes", "Host paths (`~/` is the home) or volume names to paths in the service."),
        Field::strings("aliases", "Names that it is reached by, beside its own."),
        Field::strings(
            "ports",
            "Ports of it that this host has too, as `[[ADDRESS:]PORT:]PORT[/udp]`; at 127.0.0.1 where no address stands, \
             at any free port where none stands.",
        ),
        Field::new("health_check", FieldType::Block(&HEALTH_CHECK), HEALTH_CHECK.doc),
        Field::new(
            "wait",
            FieldType::OneOf(&["healthy", "started", "completed"]),
            "What steps wait for: that its health check succeeds, that it runs, or that it ended with status 0.",
        )
        .default("`healthy` where it or its image has a health check, else `started`"),
        Field::duration("wait_timeout", "How long that is waited for.").default("2m"),
        Field::strings("after", "Services that must be ready before this one starts."),
        Field::string("shm_size", "Size of its `/dev/shm`, such as `256m`."),
        Field::strings("cap_add", "Capabilities to add."),
        Field::bool("privileged", "All capabilities and devices."),
    ],
    example: "service \"db\" {\n  image       = \"postgres:17\"\n  tmpfs       = [\"/var/lib/postgresql/data\"]\n  environment = { POSTGRES_PASSWORD = \"test\" }\n  health_check {\n    command = [\"pg_isready\", \"-U\", \"postgres\"]\n  }\n}",
};

/// The field of a source that has services.
pub const SERVICES: Field = Field::new("service", FieldType::NamedBlocks(&SERVICE), SERVICE.doc);
