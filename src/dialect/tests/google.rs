//! Google's two dialects beyond the recorded messages.

use super::*;

/// Whether a `generateContent` call is one of ours.
fn asks_for_picture(model: &str, body: &str) -> bool {
    let head = RequestHead {
        method: Method::POST,
        host: "h".to_owned(),
        target: format!("/v1beta/models/{model}:generateContent")
            .parse()
            .unwrap(),
        headers: HeaderMap::new(),
    };
    let gemini = by_name("gemini").unwrap();
    gemini.claims(&head).is_some()
        && gemini.asks_for_picture(&head, &Bytes::copy_from_slice(body.as_bytes()))
}

#[test]
fn a_conversation_is_an_image_call_when_it_asks_for_pictures_and_by_its_model_when_it_says_nothing()
{
    let text = r#"{"generationConfig":{"responseModalities":["TEXT"]}}"#;
    let both = r#"{"generation_config":{"response_modalities":["Text","Image"]}}"#;
    for drawing in ["gemini-3-pro-image", "gemini-nano-banana-2.1"] {
        assert!(asks_for_picture(drawing, r#"{"contents":[]}"#));
        assert!(asks_for_picture(drawing, both));
        assert!(!asks_for_picture(drawing, text));
        assert!(asks_for_picture(drawing, "modalities of no JSON"));
    }
    assert!(!asks_for_picture("gemini-2.5-flash", r#"{"contents":[]}"#));
    assert!(asks_for_picture("gemini-2.0-flash-exp", both));
    assert!(!asks_for_picture("gemini-2.5-flash", text));
    assert!(!asks_for_picture(
        "gemini-2.5-flash",
        "modalities of no JSON"
    ));
}

#[test]
fn a_request_from_elsewhere_asks_google_for_a_picture_alone() {
    let mut request = asked("google");
    request.size = Size::parse("1536x1024").unwrap();
    let gemini = by_name("gemini").unwrap();
    let sent = gemini.write_request(&request).unwrap();
    assert_eq!(sent.target, "/v1beta/models/gpt-image-2:generateContent");
    let body: Value = serde_json::from_slice(&sent.body.to_bytes()).unwrap();
    assert_eq!(
        body,
        json!({
            "contents": [{"role": "user", "parts": [{"text": "x"}]}],
            "generationConfig": {"responseModalities": ["IMAGE"], "imageConfig": {"aspectRatio": "3:2"}},
        })
    );
    let imagen = by_name("imagen").unwrap();
    request.size = Size::parse("2048x2048").unwrap();
    let sent = imagen.write_request(&request).unwrap();
    let body: Value = serde_json::from_slice(&sent.body.to_bytes()).unwrap();
    assert_eq!(
        body,
        json!({
            "instances": [{"prompt": "x"}],
            "parameters": {"sampleCount": 1, "aspectRatio": "1:1", "sampleImageSize": "2K"},
        })
    );
}

#[test]
fn what_gemini_cannot_do_is_said_before_it_is_asked() {
    let field = |change: fn(&mut ImageRequest)| {
        let mut request = asked("google");
        change(&mut request);
        let worded = by_name("gemini").unwrap().write_request(&request);
        worded.map_err(|error| error.field).err()
    };
    assert_eq!(field(|_| ()), None);
    assert_eq!(field(|r| r.n = 2), Some("n"));
    assert_eq!(
        field(|r| r.negative_prompt = Some("fog".into())),
        Some("negative_prompt")
    );
    assert_eq!(field(|r| r.quality = Some(Quality::High)), Some("quality"));
    assert_eq!(
        field(|r| r.format = Some(crate::image::Format::Webp)),
        Some("format")
    );
    assert_eq!(field(|r| r.tier = Tier::Batch), Some("tier"));
    assert_eq!(
        field(|r| r.operation = crate::image::Operation::Upscale),
        Some("operation")
    );
    assert_eq!(
        field(|r| r.size = Size::parse("1000x900").unwrap()),
        Some("size")
    );
}

#[test]
fn a_changed_prompt_takes_the_place_of_the_old_one_within_its_conversation() {
    let case = cases()
        .into_iter()
        .find(|case| case.name == "gemini/conversation")
        .unwrap();
    let mut request = case.request();
    assert_eq!(request.prompt, "now blue,\nlike this");
    request.prompt = "now green".to_owned();
    let sent = case.dialect.write_request(&request).unwrap();
    let body: Value = serde_json::from_slice(&sent.body.to_bytes()).unwrap();
    let turns = body["contents"].as_array().unwrap();
    assert_eq!(turns[0]["parts"][0]["text"], "a red boat");
    assert_eq!(turns[1]["parts"][0]["thoughtSignature"], "c2lnbmF0dXJl");
    assert_eq!(turns[2]["parts"][0], json!({"text": "now green"}));
    assert_eq!(turns[2]["parts"].as_array().unwrap().len(), 2);
}

#[test]
fn a_key_in_the_query_is_a_credential_and_no_part_of_the_request() {
    let case = cases()
        .into_iter()
        .find(|case| case.name == "gemini/key-in-the-query")
        .unwrap();
    assert_eq!(case.dialect.credential(&case.head), Some("TEST_KEY"));
    assert!(!format!("{:?}", case.request()).contains("TEST_KEY"));
    let sent = case.dialect.write_request(&case.request()).unwrap();
    assert_eq!(sent.target.query(), None);
}

#[test]
fn what_a_block_counts_is_kept_for_its_charge() {
    let failure = |name: &str| {
        let case = cases().into_iter().find(|case| case.name == name).unwrap();
        match case.next(usize::MAX).1 {
            Next::Failed(failure) => failure,
            other => panic!("{other:?}"),
        }
    };
    let blocked = failure("gemini/picture-withheld");
    assert_eq!(blocked.usage.text_in, Some(15));
    assert_eq!(blocked.usage.text_out, Some(180));
    assert!(!blocked.may_pay_twice());
    assert!(
        !failure("gemini/prompt-blocked-and-nothing-counted")
            .usage
            .has_tokens()
    );
}

#[test]
fn a_large_picture_passes_as_soon_as_it_has_begun_unless_it_may_be_a_draft() {
    let text = picture::encode(&large_picture().into()).to_bytes();
    let thoughts = json!({"thinkingConfig": {"includeThoughts": true}});
    for (name, stream, drafts) in [
        ("gemini", false, false),
        ("gemini", true, false),
        ("gemini", false, true),
        ("imagen", false, false),
    ] {
        let dialect = by_name(name).unwrap();
        let mut asked = asked("google");
        asked.stream = stream;
        if drafts {
            let config = thoughts.clone();
            asked.extra.insert("generationConfig".to_owned(), config);
        }
        let response = one_picture(Picture::Base64(text.clone().into()));
        let reply = dialect.write_response(&asked, &response).unwrap();
        // Worded: the very bytes that arrived are a piece of the answer.
        let shared = |piece: &Bytes| piece.as_ptr() == text.as_ptr() && piece.len() == text.len();
        assert!(reply.body.pieces().iter().any(shared), "{name}");
        // Read: the picture is a slice of the body.
        let body = reply.body.to_bytes();
        let mut reader = dialect.reader(&asked, &reply.head);
        assert_eq!(reader.feed(&body[..60]), Progress::Wait);
        let begun = if drafts {
            Progress::Wait
        } else {
            Progress::Pass
        };
        assert_eq!(reader.feed(&body[60..10_000]), begun, "{name}");
        reader.feed(&body[10_000..]);
        let Next::Done(got) = reader.finish(&Rope::from(body.clone())) else {
            panic!("no picture")
        };
        let Picture::Base64(rope) = &got.images[0].picture else {
            panic!("not in base64")
        };
        assert!(body.as_ptr_range().contains(&rope.pieces()[0].as_ptr()));
        assert_eq!(got.images[0].width, Some(1024));
    }
}

/// The usage of an answer of Gemini that counts so, read whole.
fn usage(counts: Value, parts: Value) -> Usage {
    let body = json!({
        "candidates": [{"content": {"parts": parts}, "finishReason": "STOP"}],
        "usageMetadata": counts,
    });
    let head = ReplyHead::new(StatusCode::OK, "application/json");
    let gemini = by_name("gemini").unwrap();
    match read(
        gemini,
        &asked("google"),
        &head,
        &body.to_string().into(),
        99,
    )
    .1
    {
        Next::Done(response) => response.usage,
        Next::Failed(failure) => failure.usage,
        Next::Ask { .. } => panic!("gemini asks for nothing"),
    }
}

#[test]
fn counts_are_told_apart_as_far_as_the_answer_does() {
    let picture = json!([{"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo="}}]);
    let words = json!([{"text": "no"}]);
    let counts = json!({"promptTokenCount": 5, "toolUsePromptTokenCount": 2, "cachedContentTokenCount": 3,
        "candidatesTokenCount": 1129, "thoughtsTokenCount": 40});
    let told = |usage: &Usage| {
        (
            usage.text_in,
            usage.cached_text_in,
            usage.text_out,
            usage.image_out,
        )
    };
    let drawn = usage(counts.clone(), picture.clone());
    assert_eq!(told(&drawn), (Some(7), Some(3), Some(40), None));
    let refused = usage(counts, words);
    assert_eq!(told(&refused), (Some(7), Some(3), Some(1169), Some(0)));
    // What was paid for beforehand costs nothing more.
    let paid = usage(
        json!({"promptTokenCount": 5, "trafficType": "PROVISIONED_THROUGHPUT"}),
        picture,
    );
    assert_eq!(paid.reported, Some(crate::money::Usd::ZERO));
}

/// Safety is the caller's wish in one word, and each format's own words for it.
#[test]
fn a_degree_of_moderation_is_worded_for_each_of_the_two_apis() {
    use crate::image::Safety;
    let imagen = by_name("imagen").unwrap();
    let worded = |place: &str, safety| {
        let mut request = ImageRequest::new(ModelId::new("google", "imagen-4.0-generate-001"), "a");
        request.extra.insert(PLACE.to_owned(), place.into());
        request.safety = Some(safety);
        let message = imagen.write_request(&request).map_err(|why| why.field)?;
        let body: Value = serde_json::from_slice(&message.body.to_bytes()).unwrap();
        Ok::<_, &str>(body["parameters"]["safetySetting"].clone())
    };
    let vertex = "/v1/projects/p/locations/us-central1/publishers/google";
    for (place, safety, expected) in [
        (vertex, Safety::Strict, Ok(json!("block_low_and_above"))),
        (vertex, Safety::Default, Ok(json!("block_medium_and_above"))),
        (vertex, Safety::Relaxed, Ok(json!("block_only_high"))),
        ("/v1beta", Safety::Strict, Ok(json!("block_low_and_above"))),
        ("/v1beta", Safety::Default, Ok(Value::Null)),
        ("/v1beta", Safety::Relaxed, Err("safety")),
    ] {
        assert_eq!(worded(place, safety), expected, "{place} {safety:?}");
    }
}
