//! The older routes of Stability, asked through real sockets.

use super::*;

const ENGINE: &str = "/stability/v1/generation/stable-diffusion-xl-1024-v1-0";

#[tokio::test]
async fn the_older_routes_of_stability_charge_by_steps_and_samples() {
    let sim = start().await;
    let body = |steps: u64, samples: u64| {
        json!({"text_prompts": [{"text": "a boat", "weight": 1}, {"text": "fog", "weight": -1}],
            "width": 1216, "height": 832, "steps": steps, "samples": samples, "seed": 77})
    };
    let path = format!("{ENGINE}/text-to-image");
    let got = send(&sim, post(&path, &body(50, 2))).await.unwrap().json();
    let files = [0, 1].map(|at| decode(&got["artifacts"][at]["base64"]));
    assert_eq!(pixels(&files[0]), (1216, 832));
    assert_ne!(files[0], files[1]);
    assert_eq!(got["artifacts"][1]["seed"], 78);
    let again = send(&sim, post(&path, &body(50, 1))).await.unwrap().json();
    assert_eq!(decode(&again["artifacts"][0]["base64"]), files[0]);
    send(&sim, post(&path, &body(10, 1))).await.unwrap();
    let bills: Vec<i64> = sim.bills().iter().map(|bill| bill.nano_usd).collect();
    assert_eq!(bills, [30_000_000, 15_000_000, 9_000_000]);
}

#[tokio::test]
async fn the_older_routes_take_uploads_and_refuse_what_is_wrong() {
    let sim = start().await;
    let text = |name: &str, value: &str| Part::text(name, value);
    let parts = [
        text("text_prompts[0][text]", "a boat"),
        text("text_prompts[0][weight]", "0.5"),
        text("mask_source", "MASK_IMAGE_WHITE"),
        file("init_image", painted(640, 512)),
        file("mask_image", painted(640, 512)),
    ];
    let path = format!("{ENGINE}/image-to-image/masking");
    let got = send(&sim, posted_form(&path, "image/png", &parts))
        .await
        .unwrap();
    assert_eq!((got.status.as_u16(), pixels(&got.body)), (200, (640, 512)));
    assert_eq!(got.header("finish-reason"), "SUCCESS");
    let maskless = posted_form(&path, "image/png", &parts[..4]);
    assert_eq!(send(&sim, maskless).await.unwrap().status, 400);
    let wrong = async |path: &str, change: Value| {
        let mut ask = json!({"text_prompts": [{"text": "a boat"}]});
        ask.as_object_mut()
            .unwrap()
            .extend(change.as_object().unwrap().clone());
        let got = send(&sim, post(path, &ask)).await.unwrap();
        (
            got.status.as_u16(),
            got.json()["name"].as_str().unwrap().to_owned(),
        )
    };
    let drawn = format!("{ENGINE}/text-to-image");
    let size = wrong(&drawn, json!({"width": 1000})).await;
    assert_eq!(size, (400, "invalid_height_or_width".to_owned()));
    let steps = wrong(&drawn, json!({"steps": 51})).await;
    assert_eq!(steps, (400, "bad_request".to_owned()));
    let gone = wrong("/stability/v1/generation/sd-9/text-to-image", json!({})).await;
    assert_eq!(gone, (404, "not_found".to_owned()));
    assert_eq!(sim.bills().len(), 1);
}

#[tokio::test]
async fn faults_of_the_older_routes_are_told_in_their_own_form() {
    let sim = start().await;
    let path = format!("{ENGINE}/text-to-image");
    let ask = json!({"text_prompts": [{"text": "a boat"}], "samples": 2});
    let faults = [
        ("safety", 400, "invalid_prompts"),
        ("quota", 402, "payment_required"),
        ("rate_limited", 429, "rate_limit_exceeded"),
        ("overloaded", 503, "server_error"),
        ("retired", 404, "not_found"),
    ];
    for (words, status, name) in faults {
        sim.script("stability", [words.parse::<Behaviour>().unwrap()]);
        let got = send(&sim, post(&path, &ask)).await.unwrap();
        let told = (got.status.as_u16(), got.json());
        assert_eq!((told.0, told.1["name"].as_str()), (status, Some(name)));
        assert!(told.1["message"].is_string(), "{words}");
    }
    assert!(sim.bills().is_empty());
    sim.script("stability", ["safety_output".parse::<Behaviour>().unwrap()]);
    let got = send(&sim, post(&path, &ask)).await.unwrap().json();
    assert_eq!(got["artifacts"][1]["finishReason"], "CONTENT_FILTERED");
    assert_eq!(sim.billed().nano(), 18_000_000);
}
