//! Data sources and logins at registries.

use std::collections::BTreeMap;

use kiln_core::{DataOutputs, Failure, FailureClass, Kinds};
use kiln_registry::{EcrLogins, EcrOptions, EcrRegistry};
use kiln_testkit::Arguments;
use serde_json::{Value, json};

use super::support::{Reply, Service, aws, ec2};
use crate::{Aws, register};

const KEYS: [(&str, &str); 3] =
    [("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"), ("AWS_SECRET_ACCESS_KEY", "s"), ("AWS_REGION", "eu-central-1")];

fn at(service: &Service) -> Aws {
    let entries = [&KEYS[..], &[("AWS_ENDPOINT_URL", service.url.as_str())]].concat();
    aws(&entries)
}

async fn read(aws: &Aws, kind: &str, arguments: Value) -> Result<DataOutputs, Failure> {
    let mut kinds = Kinds::new();
    register(&mut kinds, aws);
    let kind = kinds.data_source(kind).unwrap();
    let (decoded, mut diagnostics) = Arguments::new(arguments).decode(kind.schema());
    let source = kind.prepare(&decoded, &mut diagnostics);
    assert!(!diagnostics.has_errors(), "{diagnostics:?}");
    source.unwrap().read().await
}

#[tokio::test]
async fn a_secret_is_read() {
    let body = json!({ "SecretString": "{\"user\":\"u\",\"password\":\"p\"}", "VersionId": "v-1" });
    let service = Service::start([Reply::Answer(200, body.to_string())]).await;
    let found =
        read(&at(&service), "amazon-secretsmanager", json!({ "name": "ci/x", "key": "password" })).await.unwrap();
    assert_eq!((&found["value"], &found["version_id"]), (&json!("p"), &json!("v-1")));
    let request = &service.requests()[0];
    assert_eq!(request.header("x-amz-target"), Some("secretsmanager.GetSecretValue"));
    assert_eq!(request.body, r#"{"SecretId":"ci/x","VersionStage":"AWSCURRENT"}"#);
    assert!(request.header("authorization").unwrap().contains("/eu-central-1/secretsmanager/aws4_request"));
}

#[tokio::test]
async fn a_secret_that_is_not_there_is_told() {
    let body =
        json!({ "__type": "com.amazonaws.secretsmanager#ResourceNotFoundException", "Message": "can't find it" });
    let service = Service::start([Reply::Answer(400, body.to_string())]).await;
    let failure = read(&at(&service), "amazon-secretsmanager", json!({ "name": "x" })).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::Environment);
    assert_eq!(failure.chain(), "GetSecretValue: ResourceNotFoundException: can't find it");
    assert_eq!(service.requests().len(), 1);
}

#[tokio::test]
async fn a_parameter_is_read() {
    let body = json!({ "Parameter": { "Value": "v", "Version": 3, "ARN": "arn:aws:ssm:x" } });
    let service = Service::start([Reply::Answer(200, body.to_string())]).await;
    let arguments = json!({ "name": "/a/b", "with_decryption": true });
    let found = read(&at(&service), "amazon-parameterstore", arguments).await.unwrap();
    assert_eq!(Value::Object(found), json!({ "value": "v", "version": "3", "arn": "arn:aws:ssm:x" }));
    assert_eq!(service.requests()[0].body, r#"{"Name":"/a/b","WithDecryption":true}"#);
}

fn images(images: &[(&str, &str)]) -> Reply {
    let items: String = images
        .iter()
        .map(|(id, date)| {
            format!(
                "<item><imageId>{id}</imageId><name>n-{id}</name><creationDate>{date}</creationDate><imageOwnerId>1</imageOwnerId>\
                 <tagSet><item><key>k</key><value>v</value></item></tagSet></item>"
            )
        })
        .collect();
    ec2("DescribeImages", &format!("<imagesSet>{items}</imagesSet>"))
}

#[tokio::test]
async fn the_newest_ami_is_taken_where_that_is_asked_for() {
    let found = || images(&[("ami-1", "2025-01-01T00:00:00.000Z"), ("ami-2", "2026-01-01T00:00:00.000Z")]);
    let service = Service::start([found()]).await;
    let arguments = |newest: bool| json!({ "owners": ["self"], "filters": { "name": "x*" }, "most_recent": newest });
    let ami = read(&at(&service), "amazon-ami", arguments(true)).await.unwrap();
    assert_eq!((&ami["id"], &ami["owner"], &ami["tags"]), (&json!("ami-2"), &json!("1"), &json!({ "k": "v" })));
    let failure = read(&at(&service), "amazon-ami", arguments(false)).await.unwrap_err();
    assert_eq!(failure.to_string(), "2 AMIs in eu-central-1 match the filters: n-ami-2, n-ami-1");
    let service = Service::start([images(&[])]).await;
    let failure = read(&at(&service), "amazon-ami", arguments(true)).await.unwrap_err();
    assert_eq!(failure.to_string(), "no AMI in eu-central-1 matches the filters");
}

#[test]
fn an_ami_of_anybody_is_refused() {
    let mut kinds = Kinds::new();
    register(&mut kinds, &aws(&[]));
    let kind = kinds.data_source("amazon-ami").unwrap();
    let arguments = Arguments::new(json!({ "owners": [], "filters": { "name": "x" } }));
    let (decoded, mut diagnostics) = arguments.decode(kind.schema());
    assert!(kind.prepare(&decoded, &mut diagnostics).is_none());
    assert!(format!("{diagnostics:?}").contains("`owners` is empty: anybody may publish an AMI under any name"));
}

#[test]
fn values_of_secrets_are_shown_nowhere() {
    let mut kinds = Kinds::new();
    register(&mut kinds, &aws(&[]));
    let secret: BTreeMap<&str, Vec<&str>> = kinds
        .data_source_names()
        .into_iter()
        .map(|name| {
            let outputs = kinds.data_source(name).unwrap().outputs();
            (name, outputs.iter().filter(|output| output.sensitive).map(|output| output.name).collect())
        })
        .collect();
    assert_eq!(secret["amazon-secretsmanager"], ["value", "secret_string", "secret_binary"]);
    assert_eq!(secret["amazon-parameterstore"], ["value"]);
}

#[tokio::test]
async fn a_login_at_a_registry_is_asked_for_once() {
    // `AWS:password`
    let private = json!({ "authorizationData": [{ "authorizationToken": "QVdTOnBhc3N3b3Jk" }] });
    let service = Service::start([Reply::Answer(200, private.to_string())]).await;
    let aws = at(&service);
    let registry = EcrRegistry::Private { region: "us-west-2".to_owned() };
    for _ in 0..2 {
        let login = aws.login(&registry, &EcrOptions::default()).await.unwrap();
        assert_eq!((login.username.as_str(), login.password.expose()), ("AWS", "password"));
    }
    let requests = service.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].header("x-amz-target"), Some("AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken"));
    assert!(requests[0].header("authorization").unwrap().contains("/us-west-2/ecr/aws4_request"));
}

#[tokio::test]
async fn the_public_registry_has_a_service_of_its_own() {
    let public = json!({ "authorizationData": { "authorizationToken": "QVdTOnBhc3N3b3Jk" } });
    let service = Service::start([Reply::Answer(200, public.to_string())]).await;
    let login = at(&service).login(&EcrRegistry::Public, &EcrOptions::default()).await.unwrap();
    assert_eq!(login.password.expose(), "password");
    assert!(service.requests()[0].header("authorization").unwrap().contains("/us-east-1/ecr-public/aws4_request"));
}
