//! What is asked, and what is read from answers.

use std::collections::BTreeMap;

use kiln_builder_amazon_ebs::cloud::{
    BlockDevice, Ebs, ErrorKind, Filter, FleetRequest, ImageChange, ImageQuery, ImageShare, Ingress,
    LaunchTemplateRequest, MetadataOptions, RunRequest, SpotOptions, TagSpec, Tags,
};
use serde_json::json;

use super::support::{Reply, Request, Service, aws, ec2, ec2_error, keys};
use kiln_builder_amazon_ebs::cloud::Clouds;

fn tags() -> Tags {
    BTreeMap::from([("kiln.build".to_owned(), "amazon-ebs.x".to_owned())])
}

fn run() -> RunRequest {
    RunRequest {
        image: "ami-1".into(),
        instance_type: Some("t3.micro".into()),
        client_token: "token-1".into(),
        key_name: Some("kiln-1".into()),
        subnet: Some("subnet-1".into()),
        security_groups: vec!["sg-1".into()],
        shutdown_behavior: Some("stop".into()),
        metadata: MetadataOptions { http_tokens: Some("required".into()), ..MetadataOptions::default() },
        block_devices: vec![
            BlockDevice {
                device_name: "/dev/sda1".into(),
                ebs: Some(Ebs { size: Some(8), volume_type: Some("gp3".into()), ..Ebs::default() }),
                ..BlockDevice::default()
            },
            BlockDevice { device_name: "/dev/sdb".into(), no_device: true, ..BlockDevice::default() },
        ],
        tags: vec![
            TagSpec { resource: "instance".into(), tags: tags() },
            TagSpec { resource: "volume".into(), tags: Tags::new() },
        ],
        ..RunRequest::default()
    }
}

/// All that was sent, but for what every call has.
fn sent(request: &Request) -> String {
    let forms = request.forms();
    let own = forms.iter().filter(|(name, _)| !matches!(name.as_str(), "Action" | "Version"));
    own.map(|(name, value)| format!("{name}={value}\n")).collect()
}

#[tokio::test]
async fn an_instance_is_asked_for_with_all_that_it_gets() {
    let answer = "<ownerId>111122223333</ownerId>\
                  <instancesSet><item><instanceId>i-1</instanceId><instanceState><name>pending</name></instanceState>\
                  <clientToken>token-1</clientToken><tagSet><item><key>a</key><value>b</value></item></tagSet>\
                  <ipAddress></ipAddress></item></instancesSet>";
    let service = Service::start([ec2("RunInstances", answer)]).await;
    let instance = service.cloud().await.run_instance(&run()).await.unwrap();
    assert_eq!((instance.id.as_str(), instance.state.as_str()), ("i-1", "pending"));
    assert_eq!(instance.owner.as_deref(), Some("111122223333"));
    assert_eq!((instance.client_token.as_deref(), instance.public_ip), (Some("token-1"), None));
    assert_eq!(instance.tags["a"], "b");
    let request = &service.requests()[0];
    assert!(request.header("user-agent").unwrap().contains("app/kiln-"), "{}", request.head);
    insta::assert_snapshot!(sent(request));
}

#[tokio::test]
async fn with_a_public_address_the_network_goes_into_an_interface() {
    let service = Service::start([ec2("RunInstances", "<instancesSet><item/></instancesSet>")]).await;
    let request = RunRequest { associate_public_ip: Some(true), ..run() };
    service.cloud().await.run_instance(&request).await.unwrap();
    let forms = service.requests()[0].forms();
    let interface = |name: &str| forms.get(&format!("NetworkInterface.1.{name}")).map(String::as_str);
    assert_eq!(interface("AssociatePublicIpAddress"), Some("true"));
    assert_eq!((interface("SubnetId"), interface("SecurityGroupId.1")), (Some("subnet-1"), Some("sg-1")));
    assert!(!forms.contains_key("SubnetId") && !forms.contains_key("SecurityGroupId.1"));
}

#[tokio::test]
async fn a_fleet_of_one_comes_from_a_launch_template() {
    let template = "<launchTemplate><launchTemplateId>lt-1</launchTemplateId></launchTemplate>";
    let fleet = "<fleetId>fleet-1</fleetId><fleetInstanceSet/><errorSet><item><errorCode>InsufficientInstanceCapacity</errorCode>\
                 <errorMessage>none left</errorMessage></item></errorSet>";
    let service = Service::start([ec2("CreateLaunchTemplate", template), ec2("CreateFleet", fleet)]).await;
    let cloud = service.cloud().await;
    let request = LaunchTemplateRequest {
        name: "kiln-1".into(),
        client_token: "t-1".into(),
        run: RunRequest { instance_type: None, ..run() },
        spot: Some(SpotOptions { max_price: Some("0.1".into()), ..SpotOptions::default() }),
        tags: tags(),
    };
    assert_eq!(cloud.create_launch_template(&request).await.unwrap(), "lt-1");
    let request = FleetRequest {
        client_token: "t-2".into(),
        launch_template: "lt-1".into(),
        instance_types: vec!["t3.micro".into(), "t3a.micro".into()],
        subnet: Some("subnet-1".into()),
        ..FleetRequest::default()
    };
    let fleet = cloud.create_fleet(&request).await.unwrap();
    assert!(fleet.instances.is_empty());
    assert_eq!(fleet.errors, ["InsufficientInstanceCapacity: none left"]);
    let requests = service.requests();
    insta::assert_snapshot!(format!("{}\n{}", sent(&requests[0]), sent(&requests[1])));
}

#[tokio::test]
async fn images_are_found_over_pages() {
    let page = |id: &str, next: &str| {
        ec2(
            "DescribeImages",
            &format!(
                "<imagesSet><item><imageId>{id}</imageId><imageState>available</imageState>\
            <blockDeviceMapping><item><deviceName>/dev/sda1</deviceName><ebs><snapshotId>snap-1</snapshotId></ebs></item>\
            </blockDeviceMapping></item></imagesSet>{next}"
            ),
        )
    };
    let service = Service::start([page("ami-1", "<nextToken>n</nextToken>"), page("ami-2", "")]).await;
    let query = ImageQuery {
        owners: vec!["self".into()],
        filters: vec![Filter { name: "name".into(), values: vec!["a*".into(), "b*".into()] }],
        ..ImageQuery::default()
    };
    let images = service.cloud().await.describe_images(&query).await.unwrap();
    let ids: Vec<&str> = images.iter().map(|image| image.id.as_str()).collect();
    assert_eq!(ids, ["ami-1", "ami-2"]);
    assert_eq!(images[0].block_devices[0].ebs.as_ref().unwrap().snapshot.as_deref(), Some("snap-1"));
    let first = service.requests()[0].forms();
    let given = |name: &str| first.get(name).map(String::as_str);
    assert_eq!((given("Filter.1.Name"), given("Filter.1.Value.2")), (Some("name"), Some("b*")));
    assert_eq!(given("Owner.1"), Some("self"));
    assert!(given("IncludeDeprecated").is_none() && given("ImageId.1").is_none());
}

#[tokio::test]
async fn networks_of_both_kinds_are_let_in() {
    let service = Service::start([ec2("AuthorizeSecurityGroupIngress", "<return>true</return>")]).await;
    let ingress = Ingress { port: 22, cidrs: vec!["192.0.2.1/32".into(), "2001:db8::1/128".into()] };
    service.cloud().await.authorize_ingress("sg-1", &ingress).await.unwrap();
    insta::assert_snapshot!(sent(&service.requests()[0]));
}

#[tokio::test]
async fn an_image_is_shared_with_all_that_are_named() {
    let service = Service::start([ec2("ModifyImageAttribute", "<return>true</return>")]).await;
    let share = ImageShare {
        users: vec!["123456789012".into()],
        groups: vec!["all".into()],
        organizations: vec!["arn:org".into()],
        units: vec!["arn:ou".into()],
    };
    service.cloud().await.modify_image("ami-1", &ImageChange::Share(share)).await.unwrap();
    insta::assert_snapshot!(sent(&service.requests()[0]));
}

#[tokio::test]
async fn the_console_is_decoded() {
    let output = |text: &str| ec2("GetConsoleOutput", &format!("<instanceId>i-1</instanceId><output>{text}</output>"));
    let service = Service::start([output(""), output("aGVsbG8K\naG9zdA==")]).await;
    let cloud = service.cloud().await;
    assert_eq!(cloud.console_output("i-1").await.unwrap(), None);
    // EC2 breaks the lines of the base64 text.
    let service = Service::start([output("aGVsbG8K\n")]).await;
    assert_eq!(service.cloud().await.console_output("i-1").await.unwrap().as_deref(), Some("hello\n"));
}

#[tokio::test]
async fn a_key_pair_that_is_gone_already_is_no_error() {
    let gone = ec2_error(400, "InvalidKeyPair.NotFound", "The key pair does not exist");
    let service = Service::start([gone]).await;
    service.cloud().await.delete_key_pair("kiln-1").await.unwrap();
}

#[tokio::test]
async fn iam_is_asked_by_its_own_calls() {
    let error = "<ErrorResponse><Error><Type>Sender</Type><Code>EntityAlreadyExists</Code><Message>Role with name a&amp;b \
                 exists.</Message></Error><RequestId>r</RequestId></ErrorResponse>";
    let service =
        Service::start([Reply::Answer(200, "<CreateRoleResponse/>".into()), Reply::Answer(409, error.into())]).await;
    let cloud = aws(&[("AWS_ENDPOINT_URL_IAM", &service.url)]).cloud(&keys(), None).await.unwrap();
    cloud.create_role("kiln-1", "of a build", &tags()).await.unwrap();
    let error = cloud.create_instance_profile("kiln-1", &Tags::new()).await.unwrap_err();
    assert_eq!((error.kind, error.code.as_str()), (ErrorKind::Duplicate, "EntityAlreadyExists"));
    assert_eq!(error.message, "Role with name a&b exists.");
    let requests = service.requests();
    // It is one service for all regions.
    assert!(requests[0].header("authorization").unwrap().contains("/us-east-1/iam/aws4_request"));
    insta::assert_snapshot!(sent(&requests[0]));
}

#[tokio::test]
async fn a_session_of_systems_manager_is_opened() {
    let body = json!({ "SessionId": "s-1", "StreamUrl": "wss://x", "TokenValue": "t" });
    let service = Service::start([Reply::Answer(200, body.to_string())]).await;
    let cloud = aws(&[("AWS_ENDPOINT_URL", &service.url)]).cloud(&keys(), None).await.unwrap();
    let request =
        kiln_builder_amazon_ebs::cloud::SessionRequest { instance: "i-1".into(), remote_port: 22, local_port: 9000 };
    let session = cloud.start_session(&request).await.unwrap();
    assert_eq!((session.id.as_str(), session.token.expose(), session.endpoint), ("s-1", "t", service.url.clone()));
    let request = &service.requests()[0];
    assert_eq!(request.header("x-amz-target"), Some("AmazonSSM.StartSession"));
    assert!(request.body.contains(r#""localPortNumber":["9000"]"#), "{}", request.body);
}

#[tokio::test]
async fn our_own_address_is_that_of_the_way_to_an_endpoint_of_ones_own() {
    let service = Service::start([Reply::Hang]).await;
    let address = aws(&[]).caller_address(&service.access()).await.unwrap();
    assert_eq!(address.to_string(), "127.0.0.1");
}
