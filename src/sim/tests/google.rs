//! Google, asked through real sockets.

use super::*;

const NANO_BANANA: &str = "/google/v1beta/models/gemini-nano-banana-2.1";
const IMAGEN: &str = "/google/v1/projects/p/locations/us-central1/publishers/google/models/imagen-4.0-generate-001:predict";

fn drawing(config: Value) -> Value {
    json!({"contents": [{"role": "user", "parts": [{"text": "A brass compass"}]}], "generationConfig": config})
}

fn part(answer: &Value, at: usize) -> &Value {
    &answer["candidates"][0]["content"]["parts"][at]
}

#[tokio::test]
async fn gemini_draws_each_shape_and_step_and_its_usage_is_its_bill() {
    let sim = start().await;
    let path = format!("{NANO_BANANA}:generateContent");
    let config = json!({"responseModalities": ["IMAGE"], "imageConfig": {"aspectRatio": "16:9", "imageSize": "2K"}});
    let got = send(&sim, post(&path, &drawing(config)))
        .await
        .unwrap()
        .json();
    let file = decode(&part(&got, 0)["inlineData"]["data"]);
    assert_eq!(pixels(&file), (2752, 1536));
    let usage = &got["usageMetadata"];
    assert_eq!(
        usage["candidatesTokensDetails"],
        json!([{"modality": "IMAGE", "tokenCount": 1680}])
    );
    assert_eq!(
        (&usage["promptTokenCount"], &usage["thoughtsTokenCount"]),
        (&json!(7), &json!(95))
    );
    // Words are drawn from the same purse, and half of it in no hurry.
    let mut flex = drawing(json!({}));
    flex["serviceTier"] = "flex".into();
    let got = send(&sim, post(&path, &flex)).await.unwrap().json();
    assert!(part(&got, 0)["text"].is_string() && part(&got, 1)["inlineData"].is_object());
    let whole = 7 * 1_500 + 95 * 7_500 + 1680 * 30_000;
    let half = (7 * 1_500 + (95 + 8) * 7_500 + 1120 * 30_000) / 2;
    let bills: Vec<i64> = sim.bills().iter().map(|bill| bill.nano_usd).collect();
    assert_eq!(bills, [whole, half]);
}

#[tokio::test]
async fn gemini_streams_its_picture_whole_and_text_costs_nothing_here() {
    let sim = start().await;
    let path = format!("{NANO_BANANA}:streamGenerateContent?alt=sse");
    let events = send(&sim, post(&path, &drawing(json!({}))))
        .await
        .unwrap()
        .events();
    let chunks: Vec<Value> = events.into_iter().map(|(_, data)| data).collect();
    assert_eq!(chunks.len(), 3);
    assert!(part(&chunks[0], 0)["text"].is_string());
    assert_eq!(
        pixels(&decode(&part(&chunks[1], 0)["inlineData"]["data"])),
        (1024, 1024)
    );
    assert_eq!(chunks[2]["candidates"][0]["finishReason"], "STOP");
    let text = drawing(json!({"responseModalities": ["TEXT"]}));
    for path in [
        format!("{NANO_BANANA}:generateContent"),
        "/google/v1beta/models/gemini-2.5-flash:generateContent".to_owned(),
    ] {
        let got = send(&sim, post(&path, &text)).await.unwrap().json();
        assert!(part(&got, 0)["text"].is_string());
    }
    assert_eq!(sim.bills().len(), 1);
}

#[tokio::test]
async fn imagen_is_gone_unless_asked_for_and_charges_by_picture() {
    let ask = json!({"instances": [{"prompt": "a boat"}], "parameters":
        {"sampleCount": 2, "aspectRatio": "9:16", "sampleImageSize": "2K", "seed": 7, "addWatermark": false}});
    let gone = send(&start().await, post(IMAGEN, &ask)).await.unwrap();
    assert_eq!(
        (gone.status.as_u16(), &gone.json()["error"]["status"]),
        (404, &json!("NOT_FOUND"))
    );
    let sim = start_with(SimOptions {
        retired_ok: true,
        ..SimOptions::default()
    })
    .await;
    let got = send(&sim, post(IMAGEN, &ask)).await.unwrap().json();
    let files = [0, 1].map(|at| decode(&got["predictions"][at]["bytesBase64Encoded"]));
    assert_eq!(pixels(&files[0]), (1536, 2816));
    assert_ne!(files[0], files[1]);
    let again = send(&sim, post(IMAGEN, &ask)).await.unwrap().json();
    assert_eq!(
        decode(&again["predictions"][0]["bytesBase64Encoded"]),
        files[0]
    );
    assert_eq!(sim.billed().nano(), 160_000_000);
    // The Gemini API has no word for a seed.
    let refused = send(
        &sim,
        post(
            "/google/v1beta/models/imagen-4.0-generate-001:predict",
            &ask,
        ),
    )
    .await
    .unwrap();
    assert_eq!(refused.status, 400);
}

#[tokio::test]
async fn faults_of_google_come_in_its_own_form() {
    let sim = start().await;
    let path = format!("{NANO_BANANA}:generateContent");
    let ask = drawing(json!({"responseModalities": ["IMAGE"]}));
    let faults = [
        ("auth", 400, "INVALID_ARGUMENT"),
        ("permission", 403, "PERMISSION_DENIED"),
        ("retired", 404, "NOT_FOUND"),
        ("rate_limited retry_after=2", 429, "RESOURCE_EXHAUSTED"),
        ("quota", 429, "RESOURCE_EXHAUSTED"),
        ("server", 500, "INTERNAL"),
        ("overloaded", 503, "UNAVAILABLE"),
    ];
    for (words, status, word) in faults {
        sim.script("google", [words.parse::<Behaviour>().unwrap()]);
        let got = send(&sim, post(&path, &ask)).await.unwrap();
        assert_eq!(got.status, status, "{words}");
        assert_eq!(got.json()["error"]["status"], word, "{words}");
    }
    assert!(sim.bills().is_empty());
    let quiet = [
        (
            "safety",
            "/promptFeedback/blockReason",
            "PROHIBITED_CONTENT",
            7 * 1_500,
        ),
        (
            "safety_output",
            "/candidates/0/finishReason",
            "IMAGE_SAFETY",
            7 * 1_500 + 95 * 7_500,
        ),
        (
            "no_image",
            "/candidates/0/finishReason",
            "NO_IMAGE",
            7 * 1_500 + 95 * 7_500,
        ),
    ];
    for (words, place, says, cost) in quiet {
        sim.reset();
        sim.script("google", [words.parse::<Behaviour>().unwrap()]);
        let got = send(&sim, post(&path, &ask)).await.unwrap();
        assert_eq!(
            (got.status.as_u16(), got.json().pointer(place).unwrap()),
            (200, &json!(says))
        );
        assert_eq!(sim.billed().nano(), cost, "{words}");
    }
}

#[tokio::test]
async fn google_refuses_what_is_wrong_and_a_key_is_recorded_as_its_digest() {
    let sim = start().await;
    let path = format!("{NANO_BANANA}:generateContent");
    let refused = async |config: Value| {
        let got = send(&sim, post(&path, &drawing(config))).await.unwrap();
        got.json()["error"]["message"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    assert!(
        refused(json!({"imageConfig": {"aspectRatio": "7:5"}}))
            .await
            .contains("7:5")
    );
    assert!(
        refused(json!({"imageConfig": {"imageSize": "8K"}}))
            .await
            .contains("8K")
    );
    assert!(
        refused(json!({"candidateCount": 2}))
            .await
            .contains("candidates")
    );
    assert!(refused(json!({"sampler": "x"})).await.contains("sampler"));
    assert!(
        refused(json!({"imageConfig": {"personGeneration": "ALLOW_ALL"}}))
            .await
            .contains("personGeneration")
    );
    for (field, word) in [
        ("category", "HARM_CATEGORY_RUDE"),
        ("threshold", "BLOCK_SOME"),
    ] {
        let setting =
            json!({"category": "HARM_CATEGORY_HARASSMENT", "threshold": "OFF", field: word});
        let mut ask = drawing(json!({}));
        ask["safetySettings"] = json!([setting]);
        let got = send(&sim, post(&path, &ask)).await.unwrap();
        assert_eq!(got.status, 400);
        assert!(got.json().to_string().contains(word), "{}", got.json());
    }
    let keyed = |path: String| {
        Request::post(path)
            .header("host", "generativelanguage.googleapis.com")
            .body(drawing(json!({})).to_string().into())
            .unwrap()
    };
    let rest = "/v1beta/models/gemini-nano-banana-2.1:generateContent";
    assert_eq!(
        send(&sim, keyed(rest.to_owned())).await.unwrap().status,
        403
    );
    let got = send(&sim, keyed(format!("{rest}?key=AIza-canary&x=1")))
        .await
        .unwrap();
    assert_eq!(got.status, 200);
    let seen = sim.requests().pop().unwrap();
    assert!(
        !seen.target.contains("canary") && seen.target.ends_with("&x=1"),
        "{}",
        seen.target
    );
}
