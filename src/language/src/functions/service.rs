//! Values from outside: the environment, and services that this build has no client for.

use super::{Function, FunctionContext, Outcome, define, fail, string_argument, text};
use crate::value::{Type, Value};

const AWS_PROGRAM: &str = "aws secretsmanager get-secret-value --secret-id NAME --query SecretString --output text";

pub(super) fn functions() -> Vec<Function> {
    vec![
        define(
            "aws_secretsmanager",
            vec![text("secret")],
            Type::String,
            "A key of a secret in AWS Secrets Manager. Not available: kiln has no client for it.",
            |_, _| unavailable("AWS Secrets Manager", AWS_PROGRAM),
        )
        .variadic(text("key"))
        .example(r#"can(aws_secretsmanager("web", "password"))"#, "false"),
        define(
            "aws_secretsmanager_raw",
            vec![text("secret")],
            Type::String,
            "A secret of AWS Secrets Manager as it is. Not available: kiln has no client for it.",
            |_, _| unavailable("AWS Secrets Manager", AWS_PROGRAM),
        )
        .example(r#"can(aws_secretsmanager_raw("web"))"#, "false"),
        define(
            "consul_key",
            vec![text("key")],
            Type::String,
            "A value of Consul's key-value store. Not available: kiln has no client for it.",
            |_, _| unavailable("Consul", "consul kv get KEY"),
        )
        .example(r#"can(consul_key("web"))"#, "false"),
        define(
            "env",
            vec![text("name")],
            Type::String,
            "An environment variable, an empty text where it is not set. Only in the defaults of variables.",
            env,
        )
        .example(r#"env("KILN_EXAMPLE_NOT_SET")"#, r#""""#),
        define(
            "vault",
            vec![text("path"), text("key")],
            Type::String,
            "A secret of HashiCorp Vault. Not available: kiln has no client for it.",
            |_, _| unavailable("Vault", "vault kv get -field=KEY PATH"),
        )
        .example(r#"can(vault("secret/web", "password"))"#, "false"),
    ]
}

/// Says how to get the same value otherwise; `program` prints it.
fn unavailable(service: &str, program: &str) -> Outcome {
    fail(format!(
        "kiln does not speak to {service}; declare a variable with `sensitive = true` and give it the value, for example \
         by `PKR_VAR_name=$({program})`"
    ))
}

fn env(arguments: &[Value], context: &FunctionContext) -> Outcome {
    if !context.allow_env {
        return fail("`env` is only allowed in the default of a variable; declare a variable with it and use that");
    }
    Ok(Value::string(context.environment.get(string_argument(arguments, 0)).unwrap_or_default()))
}
