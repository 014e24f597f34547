//! Who asks: keys, profiles, roles, second factors, regions.

use std::path::Path;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use kiln_builder_amazon_ebs::cloud::{Access, AssumeRole, Cloud, Clouds};
use kiln_core::{Failure, FailureClass, Prompt, Secret};

use super::support::{Reply, Service, aws, ec2, keys};
use crate::{Aws, AwsSettings};

fn assumed() -> Reply {
    Reply::Answer(
        200,
        "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult><Credentials>\
         <AccessKeyId>ASIAROLE</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>role-token</SessionToken>\
         <Expiration>2199-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>"
            .to_owned(),
    )
}

fn regions() -> Reply {
    ec2("DescribeRegions", "<regionInfo><item><regionName>eu-central-1</regionName></item></regionInfo>")
}

/// A home with these files below `.aws`.
fn home(config: &str, credentials: &str) -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join(".aws")).unwrap();
    std::fs::write(home.path().join(".aws/config"), config).unwrap();
    std::fs::write(home.path().join(".aws/credentials"), credentials).unwrap();
    home
}

fn at(home: &Path, environment: &[(&str, &str)]) -> Aws {
    let entries = [&[("HOME", home.to_str().unwrap())], environment].concat();
    aws(&entries)
}

async fn refused(aws: &Aws, access: &Access) -> Failure {
    match aws.cloud(access, None).await {
        Ok(_) => panic!("access was found"),
        Err(failure) => failure,
    }
}

/// With whose key a call was signed.
async fn signer(cloud: Arc<dyn Cloud>, service: &Service) -> String {
    cloud.describe_regions().await.unwrap();
    let last = service.requests().last().unwrap().clone();
    let (_, rest) = last.header("authorization").unwrap().split_once("Credential=").unwrap();
    rest.split('/').next().unwrap().to_owned()
}

#[tokio::test]
async fn nothing_to_be_found_is_told_with_where_it_was_looked_for() {
    let failure = refused(&aws(&[]), &Access { region: Some("eu-central-1".into()), ..Access::default() }).await;
    assert_eq!(failure.class, FailureClass::Environment);
    assert!(failure.to_string().starts_with("no AWS credentials were found"), "{failure}");
    assert!(failure.hints[0].contains("AWS_WEB_IDENTITY_TOKEN_FILE"));
}

#[tokio::test]
async fn a_region_comes_from_the_template_the_environment_or_the_profile() {
    let home = home("[profile ci]\nregion = eu-west-3\naws_access_key_id = A\naws_secret_access_key = b\n", "");
    let of =
        |aws: Aws, access: Access| async move { aws.cloud(&access, None).await.map(|cloud| cloud.region().to_owned()) };
    let none = Access { region: None, ..keys() };
    let failure = of(aws(&[]), none.clone()).await.unwrap_err();
    assert_eq!(failure.to_string(), "no AWS region is set");
    assert_eq!(of(aws(&[("AWS_REGION", "eu-west-1")]), none.clone()).await.unwrap(), "eu-west-1");
    assert_eq!(of(aws(&[("AWS_REGION", "eu-west-1")]), keys()).await.unwrap(), "eu-central-1");
    let profile = Access { profile: Some("ci".into()), ..Access::default() };
    assert_eq!(of(at(home.path(), &[]), profile).await.unwrap(), "eu-west-3");
    // A source without a region does not take that of another with the same keys.
    let both = aws(&[("AWS_REGION", "eu-west-1")]);
    both.cloud(&keys(), None).await.unwrap();
    assert_eq!(of(both, none).await.unwrap(), "eu-west-1");
}

#[tokio::test]
async fn a_profile_that_the_template_names_goes_before_keys_of_the_environment() {
    let home = home("", "[ci]\naws_access_key_id = AKIDPROFILE\naws_secret_access_key = s\n");
    let service = Service::start([regions()]).await;
    let variables = [("AWS_ACCESS_KEY_ID", "AKIDVARIABLE"), ("AWS_SECRET_ACCESS_KEY", "s")];
    let access = Access { region: Some("eu-west-1".into()), endpoint: Some(service.url.clone()), ..Access::default() };
    let cloud = at(home.path(), &variables).cloud(&access, None).await.unwrap();
    assert_eq!(signer(cloud, &service).await, "AKIDVARIABLE");
    let access = Access { profile: Some("ci".into()), ..access };
    let cloud = at(home.path(), &variables).cloud(&access, None).await.unwrap();
    assert_eq!(signer(cloud, &service).await, "AKIDPROFILE");
    let elsewhere = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(elsewhere.path(), "[ci]\naws_access_key_id = AKIDELSEWHERE\naws_secret_access_key = s\n").unwrap();
    let access = Access { shared_credentials_file: Some(elsewhere.path().display().to_string()), ..access };
    let cloud = at(home.path(), &variables).cloud(&access, None).await.unwrap();
    assert_eq!(signer(cloud, &service).await, "AKIDELSEWHERE");
}

#[tokio::test]
async fn a_profile_that_is_not_there_has_its_nearest_named() {
    let home = home("[profile production]\nregion = x\n", "");
    let failure =
        refused(&at(home.path(), &[]), &Access { profile: Some("prodution".into()), ..Access::default() }).await;
    assert_eq!(failure.to_string(), "AWS's configuration files have no profile `prodution`");
    assert_eq!(failure.hints, ["did you mean `production`?"]);
}

#[tokio::test]
async fn half_a_key_is_refused() {
    let failure = refused(&aws(&[]), &Access { secret_key: None, ..keys() }).await;
    assert_eq!(failure.to_string(), "`access_key` and `secret_key` go together");
}

#[tokio::test]
async fn a_role_is_assumed_with_all_that_narrows_it() {
    let service = Service::start([assumed(), regions()]).await;
    let role = AssumeRole {
        role_arn: "arn:aws:iam::1:role/build".into(),
        session_name: Some("kiln".into()),
        duration_seconds: Some(900),
        external_id: Some("x".into()),
        policy: Some("{}".into()),
        policy_arns: vec!["arn:p".into()],
        tags: [("team".to_owned(), "images".to_owned())].into(),
        transitive_tag_keys: vec!["team".into()],
    };
    let access = Access { assume_role: Some(role), ..keys() };
    let cloud = aws(&[("AWS_ENDPOINT_URL", &service.url)]).cloud(&access, None).await.unwrap();
    assert_eq!(signer(cloud, &service).await, "ASIAROLE");
    let requests = service.requests();
    assert_eq!(requests[1].header("x-amz-security-token"), Some("role-token"));
    let sent = requests[0].forms();
    insta::assert_debug_snapshot!(sent);
}

#[tokio::test]
async fn a_role_that_may_not_be_assumed_says_what_sts_says() {
    let body = "<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>not yours</Message></Error>\
                <RequestId>r</RequestId></ErrorResponse>";
    let service = Service::start([Reply::Answer(403, body.into())]).await;
    let role = AssumeRole { role_arn: "arn:aws:iam::1:role/x".into(), ..AssumeRole::default() };
    let access = Access { assume_role: Some(role), ..keys() };
    let failure = refused(&aws(&[("AWS_ENDPOINT_URL", &service.url)]), &access).await;
    assert_eq!(
        failure.to_string(),
        "cannot get the AWS credentials of the role arn:aws:iam::1:role/x: STS answers AccessDenied: not yours"
    );
}

/// Types a code, and counts how often it was asked.
struct Person(Mutex<Vec<String>>);

#[async_trait]
impl Prompt for Person {
    async fn ask(&self, _build: &str, question: &str) -> Option<String> {
        self.0.lock().unwrap().push(question.to_owned());
        Some(" 123456 ".to_owned())
    }
}

const MFA: &str = "[profile base]\naws_access_key_id = AKIDBASE\naws_secret_access_key = s\n\
                   [profile admin]\nrole_arn = arn:aws:iam::1:role/admin\nsource_profile = base\n\
                   mfa_serial = arn:aws:iam::1:mfa/me\nregion = eu-west-1\n";

#[tokio::test]
async fn a_profile_with_a_second_factor_asks_once_for_all_regions() {
    let home = home(MFA, "");
    let service = Service::start([assumed(), regions(), regions()]).await;
    let person = Arc::new(Person(Mutex::default()));
    let environment = [
        ("HOME", home.path().to_str().unwrap()),
        ("AWS_ENDPOINT_URL", &service.url),
        ("AWS_EC2_METADATA_DISABLED", "true"),
    ];
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let aws = Aws::new(AwsSettings { environment, prompt: Some(person.clone()) });
    let access = Access { profile: Some("admin".into()), ..Access::default() };
    let other = Access { region: Some("us-east-1".into()), ..access.clone() };
    let (one, two) = tokio::join!(aws.cloud(&access, None), aws.cloud(&other, None));
    assert_eq!(signer(one.unwrap(), &service).await, "ASIAROLE");
    assert_eq!(signer(two.unwrap(), &service).await, "ASIAROLE");
    assert_eq!(*person.0.lock().unwrap(), ["code of the MFA device arn:aws:iam::1:mfa/me:"]);
    let asked = service.requests()[0].clone();
    assert_eq!(asked.form("SerialNumber").as_deref(), Some("arn:aws:iam::1:mfa/me"));
    assert_eq!(asked.form("TokenCode").as_deref(), Some("123456"));
    assert!(asked.header("authorization").unwrap().contains("AKIDBASE"));
}

#[tokio::test]
async fn without_a_person_the_code_has_to_be_given() {
    let home = home(MFA, "");
    let service = Service::start([assumed()]).await;
    let aws = at(home.path(), &[("AWS_ENDPOINT_URL", &service.url)]);
    let access = Access { profile: Some("admin".into()), ..Access::default() };
    let failure = refused(&aws, &access).await;
    assert!(failure.to_string().contains("nobody is there to type it; set `mfa_code`"), "{failure}");
    let access = Access { mfa_code: Some(Secret::new("654321")), ..access };
    aws.cloud(&access, None).await.unwrap();
    assert_eq!(service.requests()[0].form("TokenCode").as_deref(), Some("654321"));
}

#[tokio::test]
async fn a_program_that_gives_credentials_is_run_once() {
    let count = tempfile::NamedTempFile::new().unwrap();
    let program = format!(
        "sh -c \"echo x >> {}; echo '{{\\\"Version\\\": 1, \\\"AccessKeyId\\\": \\\"AKIDPROCESS\\\", \\\"SecretAccessKey\\\": \\\"s\\\"}}'\"",
        count.path().display()
    );
    let home = home(&format!("[default]\nregion = eu-west-1\ncredential_process = {program}\n"), "");
    let service = Service::start([regions()]).await;
    let aws = at(home.path(), &[("AWS_ENDPOINT_URL", &service.url)]);
    for _ in 0..2 {
        let cloud = aws.cloud(&Access::default(), None).await.unwrap();
        assert_eq!(signer(cloud, &service).await, "AKIDPROCESS");
    }
    assert_eq!(std::fs::read_to_string(count.path()).unwrap(), "x\n");
}
