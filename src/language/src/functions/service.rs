//! Values from outside: the environment, and services that this build has no client for.

use super::{Function, FunctionContext, Outcome, define, fail, string_argument, text};
use crate::value::{Type, Value};

pub(super) fn functions() -> Vec<Function> {
    vec![
        define(
            "aws_secretsmanager",
            vec![text("secret")],
            Type::String,
            "A key of a secret in AWS Secrets Manager. Not available in this build.",
            |_, _| unavailable("aws_secretsmanager"),
        )
        .variadic(text("key"))
        .example(r#"can(aws_secretsmanager("web", "password"))"#, "false"),
        define(
            "aws_secretsmanager_raw",
            vec![text("secret")],
            Type::String,
            "A secret of AWS Secrets Manager as it is. Not available in this build.",
            |_, _| unavailable("aws_secretsmanager_raw"),
        )
        .example(r#"can(aws_secretsmanager_raw("web"))"#, "false"),
        define(
            "consul_key",
            vec![text("key")],
            Type::String,
            "A value of Consul's key-value store. Not available in this build.",
            |_, _| unavailable("consul_key"),
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
            "A secret of HashiCorp Vault. Not available in this build.",
            |_, _| unavailable("vault"),
        )
        .example(r#"can(vault("secret/web", "password"))"#, "false"),
    ]
}

fn unavailable(name: &str) -> Outcome {
    fail(format!(
        "`{name}` is not available in this build of kiln; pass the value in with `-var` or an environment variable"
    ))
}

fn env(arguments: &[Value], context: &FunctionContext) -> Outcome {
    if !context.allow_env {
        return fail("`env` is only allowed in the default of a variable; declare a variable with it and use that");
    }
    Ok(Value::string(context.environment.get(string_argument(arguments, 0)).unwrap_or_default()))
}
