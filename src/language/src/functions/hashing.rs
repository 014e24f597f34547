//! Digests, passwords, UUIDs.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bcrypt::Version;
use md5::Md5;
use rsa::pkcs1::DecodeRsaPrivateKey;
use rsa::pkcs8::DecodePrivateKey;
use rsa::{Pkcs1v15Encrypt, RsaPrivateKey};
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha512};
use uuid::Uuid;

use super::{
    Function, FunctionContext, Outcome, define, fail, fail_at, integer_argument, number, string_argument, text,
};
use crate::value::{Type, Value};

/// Go's default cost, also taken for a cost that is too low.
const DEFAULT_COST: u32 = 10;
const MAX_COST: i64 = 31;

/// bcrypt reads no further; Go refuses longer passwords rather than to cut them silently.
const MAX_PASSWORD: usize = 72;

pub(super) fn functions() -> Vec<Function> {
    vec![
        define(
            "bcrypt",
            vec![text("password")],
            Type::String,
            "A password's bcrypt hash (`$2a$`), with a new salt each time; the cost is 10 unless given.",
            bcrypt_hash,
        )
        .variadic(number("cost"))
        .example(r#"length(bcrypt("secret", 4))"#, "60"),
        digest("md5", "The MD5 digest of a text, in hexadecimal.", |arguments, _| hex::<Md5>(arguments))
            .example(r#"md5("a")"#, r#""0cc175b9c0f1b6a831c399e269772661""#),
        define(
            "rsadecrypt",
            vec![text("ciphertext"), text("private_key")],
            Type::String,
            "Decrypts base64 text that was encrypted with RSA (PKCS #1 v1.5) for a private key in PEM form.",
            rsadecrypt,
        )
        .example(r#"can(rsadecrypt("", ""))"#, "false"),
        digest("sha1", "The SHA-1 digest of a text, in hexadecimal.", |arguments, _| hex::<Sha1>(arguments))
            .example(r#"sha1("a")"#, r#""86f7e437faa5a7fce15d1ddcb9eaeaea377667b8""#),
        digest("sha256", "The SHA-256 digest of a text, in hexadecimal.", |arguments, _| hex::<Sha256>(arguments))
            .example(r#"substr(sha256("a"), 0, 8)"#, r#""ca978112""#),
        digest("sha512", "The SHA-512 digest of a text, in hexadecimal.", |arguments, _| hex::<Sha512>(arguments))
            .example(r#"substr(sha512("a"), 0, 8)"#, r#""1f40fc92""#),
        define("uuidv4", vec![], Type::String, "A new random UUID.", |_, _| {
            Ok(Value::string(Uuid::new_v4().to_string()))
        })
        .example("length(uuidv4())", "36"),
        define(
            "uuidv5",
            vec![text("namespace"), text("name")],
            Type::String,
            "The UUID of a name in a namespace: `dns`, `url`, `oid`, `x500` or a UUID.",
            |arguments, _| {
                let namespace = match string_argument(arguments, 0) {
                    "dns" => Uuid::NAMESPACE_DNS,
                    "url" => Uuid::NAMESPACE_URL,
                    "oid" => Uuid::NAMESPACE_OID,
                    "x500" => Uuid::NAMESPACE_X500,
                    other => match Uuid::parse_str(other) {
                        Ok(namespace) => namespace,
                        Err(_) => return fail_at(0, "a namespace is `dns`, `url`, `oid`, `x500` or a UUID"),
                    },
                };
                Ok(Value::string(Uuid::new_v5(&namespace, string_argument(arguments, 1).as_bytes()).to_string()))
            },
        )
        .example(r#"uuidv5("dns", "a.example")"#, r#""05149b90-bca9-5cf7-9708-f45959ecfde6""#),
    ]
}

fn rsadecrypt(arguments: &[Value], _: &FunctionContext) -> Outcome {
    // Neither the text nor the key is told: both tend to be secret.
    let Ok(ciphertext) = STANDARD.decode(string_argument(arguments, 0).replace(['\n', '\r'], "")) else {
        return fail_at(0, "the encrypted text is not valid base64");
    };
    let pem = string_argument(arguments, 1).trim();
    let key = RsaPrivateKey::from_pkcs1_pem(pem).ok().or_else(|| RsaPrivateKey::from_pkcs8_pem(pem).ok());
    let Some(key) = key else {
        return fail_at(
            1,
            "this is no RSA key in PEM form (`BEGIN RSA PRIVATE KEY` or `BEGIN PRIVATE KEY`), or it has a passphrase",
        );
    };
    let Ok(clear) = key.decrypt(Pkcs1v15Encrypt, &ciphertext) else {
        return fail_at(0, "the text cannot be decrypted with this key");
    };
    match String::from_utf8(clear) {
        Ok(text) => Ok(Value::string(text)),
        Err(_) => fail_at(0, "the decrypted bytes are not UTF-8 text"),
    }
}

fn digest(name: &'static str, doc: &'static str, call: super::Call) -> Function {
    define(name, vec![text("text")], Type::String, doc, call)
}

fn hex<D: Digest>(arguments: &[Value]) -> Outcome {
    let digest = D::digest(string_argument(arguments, 0).as_bytes());
    Ok(Value::string(digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>()))
}

fn bcrypt_hash(arguments: &[Value], _: &FunctionContext) -> Outcome {
    let cost = match arguments.len() {
        1 => DEFAULT_COST,
        2 => match integer_argument(arguments, 1)? {
            cost @ 4..=MAX_COST => u32::try_from(cost).unwrap_or(DEFAULT_COST),
            cost if cost < 4 => DEFAULT_COST,
            _ => return fail_at(1, format!("the cost goes up to {MAX_COST}")),
        },
        _ => return fail("one or two arguments are required"),
    };
    let password = string_argument(arguments, 0);
    if password.len() > MAX_PASSWORD {
        return fail_at(0, format!("bcrypt takes passwords of at most {MAX_PASSWORD} bytes"));
    }
    match bcrypt::hash_with_result(password, cost) {
        Ok(hash) => Ok(Value::string(hash.format_for_version(Version::TwoA))),
        Err(error) => fail(format!("cannot hash the password: {error}")),
    }
}
