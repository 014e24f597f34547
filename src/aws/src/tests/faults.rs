//! What goes wrong on the way, and how it is told.

use std::time::{Duration, Instant};

use kiln_builder_amazon_ebs::cloud::{Access, Clouds, ErrorKind, ImageRequest, RunRequest, Tags};

use super::support::{Reply, Service, aws, ec2, ec2_error, keys};

fn run() -> RunRequest {
    RunRequest { image: "ami-1".into(), client_token: "token-1".into(), ..RunRequest::default() }
}

fn impatient(service: &Service) -> Access {
    Access { max_retries: Some(1), ..service.access() }
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_again_with_the_same_token() {
    let instance = "<instancesSet><item><instanceId>i-1</instanceId></item></instancesSet>";
    let service = Service::start([Reply::Hang, Reply::Hang, ec2("RunInstances", instance)]).await;
    assert_eq!(service.cloud().await.run_instance(&run()).await.unwrap().id, "i-1");
    let tokens: Vec<_> = service.requests().iter().map(|request| request.form("ClientToken")).collect();
    assert_eq!(tokens, vec![Some("token-1".to_owned()); 3]);
}

#[tokio::test]
async fn an_answer_that_stays_lost_may_have_been_carried_out() {
    let service = Service::start([Reply::Hang]).await;
    let cloud = aws(&[]).cloud(&impatient(&service), None).await.unwrap();
    let error = cloud.create_image(&ImageRequest::default()).await.unwrap_err();
    assert_eq!((error.kind, error.action.as_str()), (ErrorKind::Lost, "CreateImage"));
    assert!(error.to_string().starts_with("CreateImage: no good answer came: "), "{error}");
    assert_eq!(service.requests().len(), 2);
}

/// The first try made the image, but its answer was lost.
#[tokio::test]
async fn a_name_that_the_first_try_took_is_a_duplicate() {
    let taken = ec2_error(400, "InvalidAMIName.Duplicate", "AMI name x is already in use by AMI ami-1");
    let service = Service::start([Reply::Hang, taken]).await;
    let error = service.cloud().await.create_image(&ImageRequest::default()).await.unwrap_err();
    assert_eq!((error.kind, error.code.as_str()), (ErrorKind::Duplicate, "InvalidAMIName.Duplicate"));
    assert_eq!(error.request_id.as_deref(), Some("r-2"));
    assert!(!error.is_refusal);
}

#[tokio::test]
async fn a_refusal_is_one_where_no_try_can_have_been_carried_out() {
    let refused = || ec2_error(400, "InvalidInstanceType.NotFound", "x");
    let unauthorized = || ec2_error(403, "UnauthorizedOperation", "x");
    let internal = || ec2_error(500, "InternalError", "x");
    for (replies, expected) in [
        (vec![refused()], true),
        (vec![unauthorized()], true),
        (vec![ec2_error(503, "RequestLimitExceeded", "x"), refused()], true),
        (vec![ec2_error(500, "InsufficientInstanceCapacity", "x")], false),
        (vec![Reply::Hang, refused()], false),
        (vec![internal(), unauthorized()], false),
    ] {
        let service = Service::start(replies).await;
        let error = service.cloud().await.run_instance(&run()).await.unwrap_err();
        assert_eq!(error.is_refusal, expected, "{error}");
    }
}

#[tokio::test]
async fn an_answer_that_was_lost_counts_whatever_comes_after_it() {
    let throttled = ec2_error(503, "RequestLimitExceeded", "Request limit exceeded.");
    let service = Service::start([Reply::Hang, throttled]).await;
    let cloud = aws(&[]).cloud(&impatient(&service), None).await.unwrap();
    let error = cloud.import_key_pair("kiln-1", "ssh-ed25519 AAAA", &Tags::new()).await.unwrap_err();
    assert_eq!((error.kind, error.code.as_str()), (ErrorKind::Lost, "RequestLimitExceeded"));
}

#[tokio::test]
async fn an_internal_error_may_have_been_carried_out_and_throttling_was_not() {
    for (status, code, expected) in [
        (500, "InternalError", ErrorKind::Lost),
        (503, "RequestLimitExceeded", ErrorKind::Throttled),
        (503, "Unavailable", ErrorKind::Other),
    ] {
        let service = Service::start([ec2_error(status, code, "x")]).await;
        let cloud = aws(&[]).cloud(&impatient(&service), None).await.unwrap();
        let error = cloud.run_instance(&run()).await.unwrap_err();
        assert_eq!((error.kind, service.requests().len()), (expected, 2), "{code}");
    }
}

#[tokio::test]
async fn throttling_passes_in_a_few_seconds() {
    let throttled = || ec2_error(503, "RequestLimitExceeded", "Request limit exceeded.");
    let last = ec2("StopInstances", "<instancesSet/>");
    let service = Service::start([throttled(), throttled(), throttled(), last]).await;
    let since = Instant::now();
    service.cloud().await.stop_instance("i-1").await.unwrap();
    assert!(since.elapsed() < Duration::from_secs(8), "{:?}", since.elapsed());
    assert_eq!(service.actions(), ["StopInstances"; 4]);
}

#[tokio::test]
async fn a_service_that_is_not_there_was_not_asked() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let access = Access { endpoint: Some(endpoint.clone()), max_retries: Some(1), ..keys() };
    let cloud = aws(&[]).cloud(&access, None).await.unwrap();
    let error = cloud.run_instance(&run()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unreachable);
    assert!(error.to_string().starts_with("RunInstances: the service cannot be reached: "), "{error}");
}

#[tokio::test]
async fn without_capacity_there_is_no_second_try() {
    let service = Service::start([ec2_error(500, "InsufficientInstanceCapacity", "We do not have capacity.")]).await;
    let error = service.cloud().await.run_instance(&run()).await.unwrap_err();
    assert_eq!((error.kind, service.requests().len()), (ErrorKind::Capacity, 1), "{error}");
}

#[tokio::test]
async fn a_refusal_is_not_tried_again() {
    let service = Service::start([ec2_error(403, "UnauthorizedOperation", "You are not authorized.")]).await;
    let error = service.cloud().await.describe_regions().await.unwrap_err();
    assert_eq!((error.kind, service.requests().len()), (ErrorKind::Unauthorized, 1));
    assert_eq!(error.to_string(), "DescribeRegions: UnauthorizedOperation: You are not authorized.");
}

#[tokio::test]
async fn what_a_refusal_says_is_read_out_where_that_is_asked_for() {
    let refused =
        ec2_error(403, "UnauthorizedOperation", "You are not authorized. Encoded authorization failure message: abc");
    let decoded = "<DecodeAuthorizationMessageResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
                   <DecodeAuthorizationMessageResult><DecodedMessage>{}</DecodedMessage></DecodeAuthorizationMessageResult>\
                   </DecodeAuthorizationMessageResponse>";
    let service = Service::start([refused, Reply::Answer(200, decoded.to_owned())]).await;
    let access = Access { decode_authorization_messages: true, endpoint: None, ..service.access() };
    let cloud = aws(&[("AWS_ENDPOINT_URL", &service.url)]).cloud(&access, None).await.unwrap();
    let error = cloud.describe_regions().await.unwrap_err();
    assert_eq!(error.message, "You are not authorized. {}");
    assert_eq!(service.actions(), ["DescribeRegions", "DecodeAuthorizationMessage"]);
}

#[tokio::test]
async fn iams_answers_are_asked_for_again_too() {
    let busy =
        || Reply::Answer(503, "<ErrorResponse><Error><Code>ServiceUnavailable</Code></Error></ErrorResponse>".into());
    let done = Reply::Answer(200, "<DeleteRoleResponse/>".into());
    let service = Service::start([busy(), Reply::Hang, done]).await;
    let cloud = aws(&[("AWS_ENDPOINT_URL", &service.url)]).cloud(&keys(), None).await.unwrap();
    cloud.delete_role("kiln-1").await.unwrap();
    assert_eq!(service.actions(), ["DeleteRole"; 3]);
}
