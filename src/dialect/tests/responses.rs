//! The Responses API beyond the recorded messages.

use super::*;

fn read_body(body: &Value) -> ImageRequest {
    let head = recorded("responses/forced").head;
    let operation = crate::image::Operation::Generate;
    let body = body.to_string().into();
    let responses = by_name("responses").unwrap();
    responses
        .read_request("openai", operation, &head, &body)
        .unwrap()
}

fn recorded(name: &str) -> Case {
    cases().into_iter().find(|case| case.name == name).unwrap()
}

fn plain() -> Value {
    serde_json::from_slice(&recorded("responses/forced").body).unwrap()
}

#[test]
fn only_what_is_given_the_tool_is_an_image_call() {
    let asks = |body: &str| {
        let body = Bytes::copy_from_slice(body.as_bytes());
        let case = recorded("responses/forced");
        case.dialect.asks_for_picture(&case.head, &body)
    };
    assert!(asks(&plain().to_string()));
    assert!(!asks(
        r#"{"model":"gpt-5.2","input":"what is image_generation?"}"#
    ));
    assert!(!asks(
        r#"{"tools":[{"type":"web_search"}],"input":"image_generation"}"#
    ));
    assert!(!asks(
        r#"{"tools":[{"type":"image_generation"}],"background":true}"#
    ));
    assert!(!asks("image_generation of no JSON"));
}

#[test]
fn only_a_forced_call_of_one_prompt_may_be_moved() {
    let stays = |change: fn(&mut Value)| {
        let mut body = plain();
        change(&mut body);
        let request = read_body(&body);
        by_name("responses").unwrap().stays(&request).is_some()
    };
    assert!(!stays(|_| ()));
    assert!(!stays(|body| body["store"] = json!(false)));
    assert!(!stays(
        |body| body["input"] = json!([{"role": "user", "content": "x"}])
    ));
    assert!(stays(|body| body["tool_choice"] = json!("auto")));
    assert!(stays(
        |body| body["tools"] = json!([{"type": "image_generation"}, {"type": "web_search"}])
    ));
    assert!(stays(|body| body["instructions"] = json!("be kind")));
    assert!(stays(|body| body["previous_response_id"] = json!("resp_1")));
    assert!(stays(|body| body["tools"][0]["action"] = json!("edit")));
    assert!(stays(|body| body["input"] = json!([
        {"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}
    ])));
}

#[test]
fn what_a_rule_changes_stands_in_the_tool_and_nothing_else_changes() {
    let mut request = read_body(&plain());
    request.prompt = "a red boat".to_owned();
    request.quality = Some(Quality::High);
    request.model = ModelId::new("openai", "gpt-image-2");
    let sent = by_name("responses")
        .unwrap()
        .write_request(&request)
        .unwrap();
    let sent: Value = serde_json::from_slice(&sent.body.to_bytes()).unwrap();
    let mut expected = plain();
    expected["input"] = json!("a red boat");
    expected["tools"][0]["quality"] = json!("high");
    expected["tools"][0]["model"] = json!("gpt-image-2");
    assert_eq!(sent, expected);
}

#[test]
fn what_cannot_be_said_of_a_conversation_is_said_before_it_is_asked() {
    let field = |change: fn(&mut ImageRequest)| {
        let mut request = recorded("responses/conversation").request();
        change(&mut request);
        let worded = by_name("responses").unwrap().write_request(&request);
        worded.map_err(|error| error.field).err()
    };
    assert_eq!(field(|_| ()), None);
    assert_eq!(
        field(|request| request.prompt = "another".to_owned()),
        Some("prompt")
    );
    assert_eq!(field(|request| request.n = 2), Some("n"));
    assert_eq!(field(|request| request.extra.clear()), Some("operation"));
}

#[test]
fn a_large_picture_passes_as_soon_as_it_has_begun_and_is_never_copied() {
    let text = picture::encode(&large_picture().into()).to_bytes();
    let response = one_picture(Picture::Base64(text.clone().into()));
    for name in ["responses/forced", "responses/stream"] {
        let (case, asked) = (recorded(name), recorded(name).request());
        let reply = case.dialect.write_response(&asked, &response).unwrap();
        let shared = |piece: &Bytes| piece.as_ptr() == text.as_ptr();
        assert!(reply.body.pieces().iter().any(shared), "{name}");
        let body = reply.body.to_bytes();
        let mut reader = case.dialect.reader(&asked, &reply.head);
        assert_eq!(reader.feed(&body[..200]), Progress::Wait);
        assert_eq!(reader.feed(&body[200..20_000]), Progress::Pass);
        reader.feed(&body[20_000..]);
        let Next::Done(got) = reader.finish(&Rope::from(body)) else {
            panic!("{name}")
        };
        assert_eq!(got.images[0].width, Some(1024));
    }
}
