//! Azure's addresses and keys beyond the recorded messages.

use super::*;

fn recorded(name: &str) -> Case {
    cases().into_iter().find(|case| case.name == name).unwrap()
}

fn sent(request: &ImageRequest) -> (String, Value) {
    let message = by_name("azure").unwrap().write_request(request).unwrap();
    let body = serde_json::from_slice(&message.body.to_bytes()).unwrap();
    (message.target.to_string(), body)
}

#[test]
fn both_forms_of_address_are_claimed_and_nothing_beside_them() {
    let claims = |method: Method, target: &'static str| {
        let head = RequestHead {
            method,
            host: "h".to_owned(),
            target: target.parse().unwrap(),
            headers: HeaderMap::new(),
        };
        by_name("azure").unwrap().claims(&head)
    };
    let edit = Some(crate::image::Operation::Edit);
    assert_eq!(claims(Method::POST, "/openai/v1/images/edits/"), edit);
    let deployed = "/openai/deployments/img25/images/edits?api-version=preview";
    assert_eq!(claims(Method::POST, deployed), edit);
    assert_eq!(claims(Method::GET, deployed), None);
    for target in [
        "/openai/deployments/a/b/images/edits",
        "/openai/deployments//images/edits",
        "/openai/deployments/img25/embeddings",
        "/openai/v1/images/variations",
        "/openai/v1/responses",
        "/v1/images/edits",
    ] {
        assert_eq!(claims(Method::POST, target), None, "{target}");
    }
}

#[test]
fn a_changed_call_goes_to_its_deployment_with_no_more_in_its_body_than_before() {
    let mut request = recorded("azure/a-deployment").request();
    request.prompt = "A brass lamp".to_owned();
    let (target, body) = sent(&request);
    assert_eq!(
        target,
        "/openai/deployments/img25/images/generations?api-version=2025-04-01-preview"
    );
    assert_eq!(
        body,
        json!({"prompt": "A brass lamp", "size": "1024x1024", "quality": "low", "output_format": "png"})
    );
}

#[test]
fn another_model_is_looked_for_under_its_own_name() {
    for name in ["azure/a-deployment", "azure/a-deployment-and-its-model"] {
        let mut request = recorded(name).request();
        request.model = ModelId::new("azure", "gpt-image-1-mini");
        let (target, body) = sent(&request);
        assert!(
            target.starts_with("/openai/deployments/gpt-image-1-mini/images/generations?api"),
            "{target}"
        );
        assert_eq!(body.get("model"), None);
    }
    // A call from elsewhere has no version of the API to name, and needs none in the newer form.
    let (target, body) = sent(&asked("azure"));
    assert_eq!(target, "/openai/v1/images/generations");
    assert_eq!(body["model"], "gpt-image-2");
}

#[test]
fn a_deployment_that_no_path_can_name_is_said_before_it_is_asked() {
    let mut request = recorded("azure/a-deployment").request();
    request.model = ModelId::new("azure", "img 25");
    let error = by_name("azure")
        .unwrap()
        .write_request(&request)
        .unwrap_err();
    assert_eq!(error.field, "model");
}

#[test]
fn a_body_without_a_deployment_is_refused_where_the_path_names_none_either() {
    let mut case = recorded("azure/v1");
    case.body = Bytes::from_static(br#"{"prompt":"x"}"#);
    let read = case.dialect.read_request(
        "azure",
        crate::image::Operation::Generate,
        &case.head,
        &case.body,
    );
    assert_eq!(read.unwrap_err().field, "model");
}

#[test]
fn a_token_takes_the_place_of_a_key_and_the_other_way_round() {
    let azure = by_name("azure").unwrap();
    let mut headers = HeaderMap::new();
    azure.authorize(&mut headers, "k1");
    assert_eq!(headers["api-key"], "k1");
    azure.authorize(&mut headers, "eyJ0.e30.c2ln");
    assert_eq!(headers["authorization"], "Bearer eyJ0.e30.c2ln");
    assert_eq!(headers.len(), 1);
    azure.authorize(&mut headers, "k2");
    assert_eq!(
        (headers.len(), &headers["api-key"]),
        (1, &HeaderValue::from_static("k2"))
    );
}

#[test]
fn a_refusal_is_in_azures_own_words() {
    let refusal = |kind| Refusal {
        status: 429,
        kind,
        code: None,
        message: "no".to_owned(),
        retry_after: None,
    };
    let body = |model: &str, kind| -> Value {
        let asked = ImageRequest::new(ModelId::new("azure", model), "x");
        let reply = by_name("azure")
            .unwrap()
            .write_refusal(Some(&asked), &refusal(kind));
        serde_json::from_slice(&reply.body.to_bytes()).unwrap()
    };
    let limited = body("img25", FailureKind::RateLimited);
    assert_eq!(
        limited,
        json!({"error": {"code": "RateLimitReached", "message": "no"}})
    );
    let moderated = body("dalle3", FailureKind::Safety);
    assert_eq!(moderated["error"]["code"], "content_policy_violation");
    assert_eq!(
        moderated["error"]["inner_error"]["code"],
        "ResponsibleAIPolicyViolation"
    );
    let moderated = body("img25", FailureKind::Safety);
    assert_eq!(moderated["error"]["code"], "moderation_blocked");
}
