//! Encodings, networks, times, files.

use super::*;

#[test]
fn encodings() {
    gives(&[
        ("base64encode", r#"["héllo"]"#, r#""aMOpbGxv""#),
        ("base64decode", r#"["aMOp\nbGxv"]"#, r#""héllo""#),
        ("urlencode", r#"["a b&c=d/é~*'()-_.!"]"#, r#""a+b%26c%3Dd%2F%C3%A9~%2A%27%28%29-_.%21""#),
        ("textencodebase64", r#"["é", "ISO-8859-1"]"#, r#""6Q==""#),
        ("textencodebase64", r#"["é", "UTF-16BE"]"#, r#""AOk=""#),
        ("textdecodebase64", r#"["6Q==", "ISO-8859-1"]"#, r#""é""#),
        ("csvdecode", r#"["a,b\n\n1,2\n3,\"x,y\""]"#, r#"[{ a = "1", b = "2" }, { a = "3", b = "x,y" }]"#),
        ("csvdecode", r#"["a,b"]"#, "[]"),
        ("md5", r#"["é"]"#, r#""66ddcd97cfdeabb2f6fb8a999b4bc76f""#),
        ("sha1", r#"["a"]"#, r#""86f7e437faa5a7fce15d1ddcb9eaeaea377667b8""#),
        ("sha256", r#"["a"]"#, r#""ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb""#),
        ("uuidv5", r#"["x500", "a"]"#, r#""54a0a790-c611-5b5b-b50e-ff01490ecdfa""#),
        (
            "uuidv5",
            r#"["6ba7b810-9dad-11d1-80b4-00c04fd430c8", "a.example"]"#,
            r#""05149b90-bca9-5cf7-9708-f45959ecfde6""#,
        ),
    ]);
    fails(&[
        ("base64decode", r#"["aMOpbGx"]"#, Some(0), "not valid base64"),
        ("base64decode", r#"["/w=="]"#, Some(0), "not UTF-8"),
        ("textencodebase64", r#"["€", "x-none"]"#, Some(1), "no encoding"),
        ("textencodebase64", r#"["ж", "ISO-8859-1"]"#, Some(0), "has not"),
        ("csvdecode", r#"["a,a\n1,2"]"#, Some(0), "two columns `a`"),
        ("csvdecode", r#"["a,b\n1"]"#, Some(0), "line 2 has 1 fields"),
        ("csvdecode", r#"[""]"#, Some(0), "header line"),
        ("csvdecode", r#"["a,b\n1,\"2"]"#, Some(0), "not closed"),
        ("bcrypt", r#"["a", 99]"#, Some(1), "up to 31"),
        ("bcrypt", r#"["a", 4, 5]"#, None, "one or two"),
        ("uuidv5", r#"["foo", "a"]"#, Some(0), "namespace"),
        ("vault", r#"["a", "b"]"#, None, "vault kv get"),
        ("aws_secretsmanager", r#"["a", "b"]"#, None, "get-secret-value"),
        ("aws_secretsmanager_raw", r#"["a"]"#, None, "get-secret-value"),
        ("consul_key", r#"["a"]"#, None, "consul kv get"),
    ]);
    let hash = call("bcrypt", r#"["a", 4]"#).unwrap();
    let hash = hash.as_str().unwrap();
    assert!(hash.starts_with("$2a$04$") && bcrypt::verify("a", hash).unwrap(), "{hash}");
    let long = format!("[\"{}\", 4]", "x".repeat(73));
    assert!(call("bcrypt", &long).unwrap_err().message.contains("72 bytes"));
}

#[test]
fn gzip_can_be_undone() {
    use base64::Engine;
    use std::io::Read;
    let encoded = call("base64gzip", r#"["héllo"]"#).unwrap();
    let bytes = base64::engine::general_purpose::STANDARD.decode(encoded.as_str().unwrap()).unwrap();
    let mut text = String::new();
    flate2::read::GzDecoder::new(&bytes[..]).read_to_string(&mut text).unwrap();
    assert_eq!(text, "héllo");
}

#[test]
fn networks() {
    gives(&[
        ("cidrhost", r#"["10.12.113.5/20", 1]"#, r#""10.12.112.1""#),
        ("cidrhost", r#"["10.12.112.0/20", -1]"#, r#""10.12.127.255""#),
        ("cidrhost", r#"["10.12.112.0/20", -4096]"#, r#""10.12.112.0""#),
        ("cidrhost", r#"["fd00:fd12:3456:7890:00a2::/72", 34]"#, r#""fd00:fd12:3456:7890::22""#),
        ("cidrhost", r#"["10.0.0.0/0", 4294967295]"#, r#""255.255.255.255""#),
        ("cidrhost", r#"["10.0.0.0/32", 0]"#, r#""10.0.0.0""#),
        ("cidrhost", r#"["::/0", -1]"#, r#""ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff""#),
        ("cidrnetmask", r#"["10.0.0.0/0"]"#, r#""0.0.0.0""#),
        ("cidrnetmask", r#"["10.0.0.1/32"]"#, r#""255.255.255.255""#),
        ("cidrnetmask", r#"["fd00::/8"]"#, r#""ff00::""#),
        ("cidrsubnet", r#"["10.1.2.0/24", 4, 15]"#, r#""10.1.2.240/28""#),
        ("cidrsubnet", r#"["10.0.0.0/8", 0, 0]"#, r#""10.0.0.0/8""#),
        ("cidrsubnet", r#"["fd00:fd12:3456:7890::/56", 16, 162]"#, r#""fd00:fd12:3456:7800:a200::/72""#),
        (
            "cidrsubnets",
            r#"["10.1.0.0/16", 4, 4, 8, 4]"#,
            r#"["10.1.0.0/20", "10.1.16.0/20", "10.1.32.0/24", "10.1.48.0/20"]"#,
        ),
        ("cidrsubnets", r#"["fd00::/16", 4, 8]"#, r#"["fd00::/20", "fd00:1000::/24"]"#),
        ("cidrsubnets", r#"["255.255.255.0/24", 1, 1]"#, r#"["255.255.255.0/25", "255.255.255.128/25"]"#),
        ("cidrsubnets", r#"["10.0.0.0/8"]"#, "[]"),
    ]);
    fails(&[
        ("cidrhost", r#"["10.12.112.0/20", 4096]"#, Some(1), "no host 4096"),
        ("cidrhost", r#"["10.12.112.0/20", -4097]"#, Some(1), "no host -4097"),
        ("cidrhost", r#"["10.0.0.0/8", 1.5]"#, Some(1), "whole number"),
        ("cidrhost", r#"["10.0.0.0", 1]"#, Some(0), "no network"),
        ("cidrhost", r#"["010.0.0.0/8", 1]"#, Some(0), "no network"),
        ("cidrhost", r#"["10.0.0.0/33", 1]"#, Some(0), "no network"),
        ("cidrhost", r#"["10.0.0.0/+8", 1]"#, Some(0), "no network"),
        ("cidrsubnet", r#"["10.1.2.0/24", 4, 16]"#, Some(2), "no network number 16"),
        ("cidrsubnet", r#"["10.1.2.0/24", 9, 0]"#, Some(1), "cannot be extended by 9"),
        ("cidrsubnet", r#"["10.1.2.0/24", -1, 0]"#, Some(1), "at least 0"),
        ("cidrsubnet", r#"["10.1.2.0/24", 4, -1]"#, Some(2), "no network number -1"),
        ("cidrsubnet", r#"["fd00::/16", 33, 1]"#, Some(1), "at most 32"),
        ("cidrsubnets", r#"["10.0.0.0/24", 0]"#, Some(1), "at least 1"),
        ("cidrsubnets", r#"["10.0.0.0/24", 1, 1, 1]"#, Some(3), "no room is left"),
        ("cidrsubnets", r#"["255.255.255.0/24", 1, 1, 1]"#, Some(3), "no room is left"),
    ]);
}

#[test]
fn times() {
    let long = "D M MM MMMM H HH h hh AA aa m mm s ss Z ZZZZ ZZZZZ 'at' ''";
    gives(&[
        (
            "formatdate",
            r#"["EEE, DD MMM YYYY hh:mm:ss ZZZ", "2018-01-02T23:12:01-08:00"]"#,
            r#""Tue, 02 Jan 2018 23:12:01 -0800""#,
        ),
        (
            "formatdate",
            r#"["EEEE, DD-MMM-YY hh:mm:ss ZZZ", "2018-01-02T23:12:01Z"]"#,
            r#""Tuesday, 02-Jan-18 23:12:01 UTC""#,
        ),
        (
            "formatdate",
            &format!(r#"["{long}", "2018-01-02T23:12:01+05:30"]"#),
            r#""2 1 01 January 11 11 23 23 PM pm 12 12 1 01 +05:30 +0530 +05:30 at '""#,
        ),
        ("formatdate", r#"["HH aa Z ZZZZ ZZZZZ", "2018-01-02T00:12:01.5Z"]"#, r#""12 am Z +0000 +00:00""#),
        ("formatdate", r#"["YYYY年 'it''s'", "2018-01-02T00:12:01Z"]"#, r#""2018年 it's""#),
        ("timeadd", r#"["2017-11-22T00:00:00+02:00", "-1h30m"]"#, r#""2017-11-21T22:30:00+02:00""#),
        ("timeadd", r#"["2017-11-22T00:00:00.25Z", "1.5s"]"#, r#""2017-11-22T00:00:01Z""#),
        ("timeadd", r#"["2017-11-22T00:00:00Z", "+.5h"]"#, r#""2017-11-22T00:30:00Z""#),
        ("legacy_isotime", "[]", r#""2026-11-23T00:37:16Z""#),
        ("legacy_isotime", r#"["Jan 2006"]"#, r#""Nov 2026""#),
        ("legacy_strftime", r#"["%Y-%j"]"#, r#""2026-327""#),
        (
            "rfc3339_parse",
            r#"["2023-07-25 23:43:16.5+02:00"]"#,
            r#"{ day = 25, hour = 23, iso_week = 30, iso_year = 2023, minute = 43, month = 7, month_name = "July", second = 16, unix = 1690321396, weekday = 2, weekday_name = "Tuesday", year = 2023, year_day = 206 }"#,
        ),
    ]);
    fails(&[
        (
            "formatdate",
            r#"["YYY", "2018-01-02T00:12:01Z"]"#,
            Some(0),
            "`YYY` is no part of a date; write `YY` or `YYYY`",
        ),
        ("formatdate", r#"["T", "2018-01-02T00:12:01Z"]"#, Some(0), "single quotes"),
        ("formatdate", r#"["'x", "2018-01-02T00:12:01Z"]"#, Some(0), "not closed"),
        ("formatdate", r#"["E", "2018-01-02T00:12:01Z"]"#, Some(0), "`EEE` or `EEEE`"),
        ("formatdate", r#"["YYYY", "2018-01-02"]"#, Some(1), "`T` before the time"),
        ("formatdate", r#"["YYYY", "2018-01-02 00:12:01Z"]"#, Some(1), "`T` before the time"),
        ("formatdate", r#"["YYYY", "2018-02-30T00:00:00Z"]"#, Some(1), "out of range"),
        ("formatdate", r#"["YYYY", "2018-01-02T23:12:01z"]"#, Some(1), "zone"),
        ("formatdate", r#"["YYYY", "2018-01-02T23:12:01.Z"]"#, Some(1), "digits"),
        ("formatdate", r#"["YYYY", "é"]"#, Some(1), "date is missing"),
        ("timeadd", r#"["2017-11-22T00:00:00Z", "1d"]"#, Some(1), "unknown unit"),
        ("timeadd", r#"["2017-11-22T00:00:00Z", ""]"#, Some(1), "empty"),
        ("legacy_isotime", r#"["a", "b"]"#, None, "at most one"),
    ]);
}

#[test]
fn paths() {
    gives(&[
        ("abspath", r#"["a/../b"]"#, r#""/work/b""#),
        ("abspath", r#"[""]"#, r#""/work""#),
        ("basename", r#"["/a/b/"]"#, r#""b""#),
        ("basename", r#"[""]"#, r#"".""#),
        ("basename", r#"["/"]"#, r#""/""#),
        ("dirname", r#"["/a/b/"]"#, r#""/a/b""#),
        ("dirname", r#"["/a/b"]"#, r#""/a""#),
        ("dirname", r#"["a"]"#, r#"".""#),
        ("dirname", r#"["/"]"#, r#""/""#),
        ("dirname", r#"["a/./../b//c"]"#, r#""b""#),
        ("dirname", r#"["../../a"]"#, r#""../..""#),
        ("pathexpand", r#"["~"]"#, r#""/home/user""#),
        ("pathexpand", r#"["~/x/../y"]"#, r#""/home/user/y""#),
        ("pathexpand", r#"["/a//b/"]"#, r#""/a//b/""#),
    ]);
    fails(&[
        ("pathexpand", r#"["~root/x"]"#, Some(0), "named user"),
        ("file", r#"["nope"]"#, Some(0), "there is no file /work/templates/nope"),
    ]);
}

#[test]
fn files_start_from_the_right_directory() {
    let root = tempfile::tempdir().unwrap();
    let context = FunctionContext { working_dir: root.path().to_path_buf(), ..context() };
    let templates = root.path().join("templates");
    for directory in ["sub/deep", ".hidden"] {
        std::fs::create_dir_all(templates.join(directory)).unwrap();
    }
    for (name, content) in [("a.txt", "kiln"), ("sub/b.txt", ""), ("sub/deep/c.sh", ""), (".hidden/d.txt", "")] {
        std::fs::write(templates.join(name), content).unwrap();
    }
    std::fs::write(templates.join("binary"), [0xff]).unwrap();
    std::fs::write(root.path().join("beside"), "x").unwrap();
    std::os::unix::fs::symlink("..", templates.join("sub/loop")).unwrap();
    let call = |name: &str, arguments: &[&str]| {
        let arguments: Vec<Value> = arguments.iter().map(|argument| Value::string(*argument)).collect();
        call_in(name, &arguments, &context)
    };
    assert_eq!(call("file", &["a.txt"]), Ok(Value::string("kiln")));
    assert_eq!(call("filebase64", &["templates/a.txt"]), Ok(Value::string("a2lsbg==")));
    assert_eq!(call("filebase64", &["beside"]), Ok(Value::string("eA==")));
    assert_eq!(call("fileexists", &["a.txt"]), Ok(Value::bool(true)));
    assert_eq!(call("fileexists", &["beside"]), Ok(Value::bool(false)));
    assert_eq!(call("fileexists", &["a.txt/x"]), Ok(Value::bool(false)));
    assert!(call("fileexists", &["sub"]).unwrap_err().message.ends_with("is a directory, not a file"));
    assert!(call("file", &["binary"]).unwrap_err().message.contains("is not UTF-8 text"));
    assert!(call("file", &["sub"]).unwrap_err().message.contains("is a directory"));
    let found = |path: &str, pattern: &str| one_line(&call("fileset", &[path, pattern]).unwrap());
    assert_eq!(found(".", "*.txt"), r#"["a.txt"]"#);
    assert_eq!(found(".", "**/*.txt"), r#"[".hidden/d.txt", "a.txt", "sub/b.txt"]"#);
    assert_eq!(found("sub", "**"), r#"["b.txt", "deep/c.sh"]"#);
    assert_eq!(found(".", "sub/{b,x}.*"), r#"["sub/b.txt"]"#);
    assert_eq!(found("sub", "../a.*"), r#"["../a.txt"]"#);
    assert_eq!(found("sub", "../*/b.txt"), r#"["b.txt"]"#);
    assert_eq!(found("nope", "*"), "[]");
    assert_eq!(call("fileset", &[".", "["]).unwrap_err().argument, Some(1));
}

#[test]
fn env_is_for_defaults_only() {
    // What the process holds and was not handed in is not there.
    let absent = r#""""#;
    gives(&[("env", r#"["KILN_EXAMPLE"]"#, r#""given""#), ("env", r#"["PATH"]"#, absent)]);
    let elsewhere = FunctionContext { allow_env: false, ..context() };
    let error = call_in("env", &[Value::string("HOME")], &elsewhere).unwrap_err();
    assert!(error.message.contains("only allowed in the default of a variable"), "{}", error.message);
}

#[test]
fn rsa() {
    let encrypted = Value::string(include_str!("keys/kiln.encrypted"));
    let keys = [include_str!("keys/pkcs1.pem"), include_str!("keys/pkcs8.pem")];
    for key in keys {
        let clear = call_in("rsadecrypt", &[encrypted.clone(), Value::string(key)], &context());
        assert_eq!(clear, Ok(Value::string("kiln")));
    }
    let failure = |text: &str, key: &str, argument: usize, part: &str| {
        let error = call_in("rsadecrypt", &[Value::string(text), Value::string(key)], &context()).unwrap_err();
        assert_eq!(error.argument, Some(argument), "{}", error.message);
        assert!(error.message.contains(part), "{}", error.message);
    };
    failure("?", keys[0], 0, "not valid base64");
    failure("a2lsbg==", keys[0], 0, "cannot be decrypted");
    failure("a2lsbg==", "-----BEGIN OPENSSH PRIVATE KEY-----", 1, "no RSA key");
}
