//! Configurations as people write them.

use super::*;

fn host(text: &str, name: &str) -> HostConfig {
    ConfigFile::parse(text).unwrap().host(name, None, Some("me"))
}

const CONFIG: &str = r#"
# comment
User nobody-of-all   # not this one: before any section, so it holds for all

Host web web-*  !web-old
    HostName %n.example.com
    Port=2222
    IdentityFile "~/.ssh/key of web"
    IdentityFile ~/.ssh/other
    ProxyJump admin@jump:2200,second

Host *
    Port 22
    UserKnownHostsFile ~/.ssh/known /etc/known
    ServerAliveInterval 1m
    Ciphers aes128-ctr,aes256-ctr
    KexAlgorithms +diffie-hellman-group1-sha1
"#;

#[test]
fn the_first_value_holds() {
    let web = host(CONFIG, "web-1");
    assert_eq!(web.host_name.as_deref(), Some("%n.example.com"));
    assert_eq!(web.port, Some(2222));
    assert_eq!(web.user.as_deref(), Some("nobody-of-all"));
    assert_eq!(web.identity_files, ["~/.ssh/key of web", "~/.ssh/other"]);
    assert_eq!(web.proxy_jump.as_deref(), Some("admin@jump:2200,second"));
    assert_eq!(web.user_known_hosts.unwrap(), ["~/.ssh/known", "/etc/known"]);
    assert_eq!(web.alive_interval, Some(Duration::from_secs(60)));
    assert_eq!(web.ciphers.unwrap(), ["aes128-ctr", "aes256-ctr"]);
    assert_eq!(web.key_exchange.unwrap(), [""; 0]);
    let other = host(CONFIG, "web-old");
    assert_eq!((other.port, other.proxy_jump), (Some(22), None));
}

#[test]
fn match_knows_hosts_and_users() {
    let text = "Host alias\nHostName real\nMatch host real user me,you\nPort 1\nMatch originalhost alias !localuser me\nPort 2\n\
                Match all\nPort 3\nMatch exec \"true\"\nUser x\n";
    let config = host(text, "alias");
    assert_eq!((config.port, config.user), (Some(1), None));
    assert_eq!(config.warnings, ["config:9: `Match exec` is not heeded"]);
    assert_eq!(host(text, "else").port, Some(3));
}

#[test]
fn a_command_keeps_its_quotes_and_excludes_a_jump() {
    let config = host("ProxyCommand nc -x \"a b\" %h %p # x\nProxyJump j\n", "h");
    assert_eq!(config.proxy_command.as_deref(), Some("nc -x \"a b\" %h %p # x"));
    assert_eq!(config.proxy_jump, None);
}

#[test]
fn tokens_and_variables_are_resolved() {
    let process = SshProcess {
        home: Some("/home/me".into()),
        environment: [("USER".to_owned(), "me".to_owned()), ("KEYS".to_owned(), "/keys".to_owned())].into(),
    };
    let tokens = Tokens { host: "real", name: "alias", port: 2222, user: "root", process: &process };
    assert_eq!(
        expand("%h:%p %n %r %u %d 100%% %z ${KEYS}/x ${NONE} $ %", &tokens),
        "real:2222 alias root me /home/me 100% %z /keys/x ${NONE} $ %"
    );
    assert_eq!(
        files(&["~/a".to_owned(), "none".to_owned(), "${KEYS}/%h".to_owned()], &tokens),
        [PathBuf::from("/home/me/a"), PathBuf::from("/keys/real")]
    );
}

#[test]
fn includes_hold_where_they_stand() {
    let home = tempfile::tempdir().unwrap();
    let ssh = home.path().join(".ssh");
    std::fs::create_dir_all(ssh.join("conf.d")).unwrap();
    std::fs::write(ssh.join("config"), "Host a\nInclude conf.d/*.conf\nPort 1\nHost *\nPort 9\n").unwrap();
    std::fs::write(ssh.join("conf.d/1.conf"), "User one\nHost b\nUser two\n").unwrap();
    std::fs::write(ssh.join("conf.d/.2.conf"), "User hidden\n").unwrap();
    let process = SshProcess { home: Some(home.path().to_owned()), ..SshProcess::default() };
    let config = ConfigFile::read(&ssh.join("config"), &process).unwrap();
    let a = config.host("a", None, None);
    assert_eq!((a.user.as_deref(), a.port), (Some("one"), Some(1)));
    let b = config.host("b", None, None);
    assert_eq!((b.user.as_deref(), b.port), (None, Some(9)));
    std::fs::write(ssh.join("config"), "Include config\n").unwrap();
    assert!(matches!(ConfigFile::read(&ssh.join("config"), &process), Err(ConfigError::TooDeep(_))));
}

#[test]
fn broken_lines_are_told_with_their_place() {
    assert_eq!(ConfigFile::parse("Host *\nPort\n").unwrap_err().to_string(), "config:2: `port` has no value");
    assert_eq!(ConfigFile::parse("User \"x\n").unwrap_err().to_string(), "config:1: a quote is not closed");
}
