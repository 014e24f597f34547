//! What each variable of the environment does.

/// Groups of variables: title, then name and effect of each.
pub(super) const GROUPS: &[(&str, &[(&str, &str)])] = &[
    (
        "Templates",
        &[
            (
                "KILN_VAR_name",
                "Value of the HCL2 variable `name`. Goes before `PKR_VAR_name`; var files and `-var` go before both.",
            ),
            ("PKR_VAR_name", "The same, as Packer spells it."),
            ("any", "What a template itself reads: `env(\"NAME\")` in HCL2, ``{{env `NAME`}}`` in legacy JSON."),
        ],
    ),
    (
        "Directories",
        &[
            (
                "KILN_STATE_DIR",
                "Where cleanup journals and the history of `kiln console` are kept. Default: `$XDG_STATE_HOME/kiln`, or else `~/.local/state/kiln`; without a home `kiln-state-UID` in the temporary directory.",
            ),
            (
                "KILN_CACHE_DIR",
                "Where states after steps, layers and images are kept. Default: `$XDG_CACHE_HOME/kiln`, or else `~/.cache/kiln`; without a home `kiln-cache-UID` in the temporary directory. See the [guide to the cache](../guide/cache.md).",
            ),
            (
                "KILN_CACHE_MAX_SIZE",
                "What the cache may grow to (`500MB`, `40GiB`), or `unlimited`. Default: 20 GiB or a tenth of the disk, whichever is less.",
            ),
            (
                "KILN_TMP_DIR",
                "Where the scratch directory of a run is made. Default: `PACKER_TMP_DIR`, `TMPDIR`, `/tmp`.",
            ),
            ("PACKER_TMP_DIR", "As `KILN_TMP_DIR`, which goes before it."),
            ("TMPDIR", "The temporary directory where neither of the two is set."),
            ("HOME", "The home: `~/` in templates, journals, docker's and podman's configuration, certificates."),
            ("XDG_STATE_HOME", "See `KILN_STATE_DIR`."),
            ("XDG_CACHE_HOME", "See `KILN_CACHE_DIR`."),
            (
                "PATH",
                "Where `git`, `ssh` (for `DOCKER_HOST=ssh://`), Ansible and docker's credential helpers are looked for.",
            ),
        ],
    ),
    (
        "Output",
        &[
            ("NO_COLOR", "No colours, whatever its value. `-color` goes before it."),
            ("PACKER_NO_COLOR", "The same."),
            ("TERM", "`dumb`: no colours, no bars."),
            ("CI", "Set: no bars, as in a pipe."),
            ("RUST_BACKTRACE", "Set and not `0`: an internal error of kiln shows where it came from."),
        ],
    ),
    (
        "Connections",
        &[
            (
                "SSH_AUTH_SOCK",
                "The socket of an SSH agent: for `ssh_agent_auth` and `ssh_agent_forwarding`, and where a key needs no passphrase then.",
            ),
            (
                "GIT_CONFIG_COUNT",
                "git's own: how much configuration it is given with `GIT_CONFIG_KEY_0` and so on. The login in the URL of a context comes after that.",
            ),
            (
                "USER",
                "The user who runs kiln: whom an `ssh_config_file` that names nobody logs in as, and what `%u` in it means.",
            ),
            ("LOGNAME", "The same, where `USER` is not set."),
            (
                "HTTPS_PROXY",
                "The proxy for `https://` addresses of `http` data sources, and for registries that kiln itself speaks to. \
                 Also in lower case, which goes first.",
            ),
            ("HTTP_PROXY", "The same for `http://` addresses. Also for `mmdebstrap`."),
            ("NO_PROXY", "Hosts that are asked directly, separated by commas. Also in lower case."),
            ("SSL_CERT_FILE", "A file of certificates (PEM) to trust instead of the system's."),
        ],
    ),
    (
        "`git.branch` and `git.tag`",
        &[
            (
                "CI_COMMIT_BRANCH",
                "The branch, where git itself knows none (CI checks out a commit). The first of these that is set counts.",
            ),
            ("CI_MERGE_REQUEST_SOURCE_BRANCH_NAME", "The same."),
            ("GITHUB_HEAD_REF", "The same."),
            ("GITHUB_REF_NAME", "The same, or the tag: see `GITHUB_REF_TYPE`."),
            ("GITHUB_REF_TYPE", "`tag`: `GITHUB_REF_NAME` is a tag."),
            ("BITBUCKET_BRANCH", "The branch."),
            ("CIRCLE_BRANCH", "The same."),
            ("BUILDKITE_BRANCH", "The same."),
            ("BRANCH_NAME", "The same."),
            ("CI_COMMIT_TAG", "The tag that is built."),
        ],
    ),
    (
        "Docker engine",
        &[
            (
                "KILN_DOCKER_AS",
                "`oci`: kiln runs `docker` sources itself, without an engine; `docker`: on the engine, which is the default. `-docker-as` goes before it.",
            ),
            (
                "DOCKER_HOST",
                "The engine, for `build` (`cleanup` goes to the engine that the journal names): `unix:///path`, `tcp://host:port`, `http://`, `https://` or `ssh://user@host`. Default: `unix:///var/run/docker.sock`.",
            ),
            ("DOCKER_TLS_VERIFY", "Set: TLS over `tcp://`."),
            ("DOCKER_CERT_PATH", "Directory of `ca.pem`, `cert.pem` and `key.pem` for TLS. Default: `~/.docker`."),
        ],
    ),
    (
        "AWS",
        &[
            ("AWS_ACCESS_KEY_ID", "The key, where the template names neither keys nor a profile."),
            ("AWS_SECRET_ACCESS_KEY", "Its secret."),
            ("AWS_SESSION_TOKEN", "The token of temporary keys."),
            ("AWS_PROFILE", "The profile of `~/.aws/config` and `~/.aws/credentials`, where the template names none."),
            ("AWS_CONFIG_FILE", "A file in place of `~/.aws/config`."),
            (
                "AWS_SHARED_CREDENTIALS_FILE",
                "A file in place of `~/.aws/credentials`; `shared_credentials_file` goes before it.",
            ),
            ("AWS_REGION", "The region, where the template names none."),
            ("AWS_DEFAULT_REGION", "The same, where `AWS_REGION` is not set."),
            ("AWS_WEB_IDENTITY_TOKEN_FILE", "The file of an identity token, as GitLab and GitHub give them to jobs."),
            ("AWS_ROLE_ARN", "The role that the token is for."),
            ("AWS_ROLE_SESSION_NAME", "The name of its session."),
            (
                "AWS_CONTAINER_CREDENTIALS_FULL_URI",
                "Where a container of AWS's is given credentials; also `AWS_CONTAINER_CREDENTIALS_RELATIVE_URI`, with `AWS_CONTAINER_AUTHORIZATION_TOKEN` or `..._TOKEN_FILE`.",
            ),
            (
                "AWS_EC2_METADATA_DISABLED",
                "`true`: the metadata service of EC2 is never asked. Else it is asked last, for credentials and the region.",
            ),
            (
                "AWS_ENDPOINT_URL",
                "Address of all services; `AWS_ENDPOINT_URL_EC2`, `_STS`, `_IAM`, `_SSM`, `_SECRETS_MANAGER`, `_ECR`, `_ECR_PUBLIC` of one. `custom_endpoint_ec2` goes before it.",
            ),
            ("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "`true`: those, and those of profiles, do not count."),
            ("AWS_USE_FIPS_ENDPOINT", "`true`: addresses of that kind are used."),
        ],
    ),
    (
        "Images without a daemon",
        &[(
            "SOURCE_DATE_EPOCH",
            "Seconds since 1970: when an image was made, as it says itself, and the latest time of files in it. Without it, the time of the newest file.",
        )],
    ),
    (
        "Registries",
        &[
            (
                "DOCKER_AUTH_CONFIG",
                "Docker's configuration as a text; looked at first. See the [guide to registries](../guide/registries.md).",
            ),
            ("REGISTRY_AUTH_FILE", "A file of logins in podman's form."),
            ("DOCKER_CONFIG", "Directory of docker's `config.json`. Default: `~/.docker`."),
            ("XDG_RUNTIME_DIR", "`containers/auth.json` in it: podman's logins."),
            ("XDG_CONFIG_HOME", "`containers/auth.json` in it: podman's logins. Default: `~/.config`."),
            ("CI_REGISTRY", "GitLab's registry, to which the next five belong."),
            ("CI_REGISTRY_USER", "User of the job."),
            ("CI_REGISTRY_PASSWORD", "Its password."),
            ("CI_JOB_TOKEN", "The job's token; used with the user `gitlab-ci-token` where the two above are not set."),
            ("CI_DEPLOY_USER", "User of a deploy token; used where none of the above is set."),
            ("CI_DEPLOY_PASSWORD", "Its password."),
            (
                "CI_DEPENDENCY_PROXY_SERVER",
                "GitLab's proxy for images of other registries, to which the next two belong.",
            ),
            ("CI_DEPENDENCY_PROXY_USER", "User of the proxy."),
            ("CI_DEPENDENCY_PROXY_PASSWORD", "Its password."),
        ],
    ),
    (
        "Ansible",
        &[
            (
                "ANSIBLE_name",
                "Ansible's own variables; playbooks get them all. See the [guide](../guide/ansible.md#what-is-configured) for those that kiln sets.",
            ),
            ("ANSIBLE_CONFIG", "The configuration whose directories of plug-ins and roles kiln adds its own to."),
            ("ANSIBLE_NOCOLOR", "Ansible's output is not coloured."),
            ("ANSIBLE_SSH_COMMON_ARGS", "Arguments for `ssh`; those that kiln needs go before them."),
        ],
    ),
    (
        "Local refresh",
        &[
            (
                "COMPOSE_FILE",
                "Compose files that `kiln refresh` reads, with `:` between them, as compose does. See the [guide](../guide/refresh.md).",
            ),
            ("COMPOSE_PATH_SEPARATOR", "What stands between them instead."),
            ("COMPOSE_ENV_FILES", "Files of variables instead of `.env`, with commas between them."),
            ("COMPOSE_PROJECT_NAME", "Compose's name of the project; `-p` goes before it."),
            (
                "COMPOSE_PROFILES",
                "Profiles that are on, with commas between them; `kiln refresh -start` starts no service whose profiles are off.",
            ),
        ],
    ),
];
