//! The simulated providers that work on jobs.

use super::*;

const FLUX: &str = "/fal/fal-ai/flux/dev";
const PRO: &str = "/bfl/v1/flux-2-pro";
const SCHNELL: &str = "/replicate/v1/models/black-forest-labs/flux-schnell/predictions";

async fn tell(sim: &Sim, method: Method, path: &str, more: &[(&str, &str)], body: Value) -> Got {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in [("host", "127.0.0.1"), ("x-key", "k")].iter().chain(more) {
        request = request.header(*name, *value);
    }
    let auth = if path.starts_with("/fal") {
        "Key a:b"
    } else {
        "Bearer k"
    };
    let body: Bytes = match body {
        Value::Null => Bytes::new(),
        body => body.to_string().into(),
    };
    let request = request.header("authorization", auth).body(body.into());
    send(sim, request.unwrap()).await.unwrap()
}

async fn submit(sim: &Sim, path: &str, body: Value) -> Value {
    let got = tell(sim, Method::POST, path, &[], body).await;
    assert!(got.status.is_success(), "{:?}", got.body);
    got.json()
}

/// Asks again, under a provider's prefix.
async fn about(sim: &Sim, provider: &str, url: &Value) -> Got {
    let path = url.as_str().unwrap().strip_prefix(&sim.url()).unwrap();
    tell(
        sim,
        Method::GET,
        &format!("/{provider}{path}"),
        &[],
        Value::Null,
    )
    .await
}

async fn painted_at(sim: &Sim, url: &Value) -> (u32, u32) {
    let path = url.as_str().unwrap().strip_prefix(&sim.url()).unwrap();
    pixels(&get(sim, path).await.body)
}

#[tokio::test]
async fn a_job_of_fal_runs_until_it_is_released_and_tells_its_units() {
    let sim = start().await;
    sim.script("fal", ["hold".parse::<Behaviour>().unwrap()]);
    let size = json!({"width": 1280, "height": 1024});
    let ask = json!({"prompt": "a boat", "image_size": size, "num_images": 2, "seed": 5});
    let job = submit(&sim, FLUX, ask.clone()).await;
    assert_eq!(job["status"], "IN_QUEUE");
    // The part of the app that was called is no part of its jobs' place.
    assert!(
        job["status_url"]
            .as_str()
            .unwrap()
            .contains("/fal-ai/flux/requests/")
    );
    let running = about(&sim, "fal", &job["status_url"]).await;
    assert_eq!(
        (running.status.as_u16(), &running.json()["status"]),
        (202, &json!("IN_PROGRESS"))
    );
    assert_eq!(about(&sim, "fal", &job["response_url"]).await.status, 400);
    sim.release();
    let done = about(&sim, "fal", &job["status_url"]).await;
    assert_eq!(
        (done.status.as_u16(), &done.json()["status"]),
        (200, &json!("COMPLETED"))
    );
    let result = about(&sim, "fal", &job["response_url"]).await;
    assert_eq!(result.header("x-fal-billable-units"), "4");
    let images = &result.json()["images"];
    assert_ne!(images[0]["url"], images[1]["url"]);
    assert_eq!(painted_at(&sim, &images[0]["url"]).await, (1280, 1024));
    assert_eq!(sim.billed(), Usd::from_nano(100_000_000));
    let again = submit(&sim, FLUX, ask).await;
    let again = about(&sim, "fal", &again["response_url"]).await.json();
    assert_eq!(&again["images"], images);
}

#[tokio::test]
async fn fal_answers_at_once_where_that_host_is_meant() {
    let sim = start().await;
    let ask = json!({"prompt": "a boat", "sync_mode": true, "output_format": "png"});
    let meant = [("x-forwarded-host", "fal.run")];
    let got = tell(
        &sim,
        Method::POST,
        "/fal-ai/flux/schnell",
        &meant,
        ask.clone(),
    )
    .await
    .json();
    let url = got["images"][0]["url"].as_str().unwrap();
    let file = decode(&json!(url.strip_prefix("data:image/png;base64,").unwrap()));
    assert_eq!(pixels(&file), (1024, 768));
    let meant = [("x-forwarded-host", "queue.fal.run")];
    let job = tell(&sim, Method::POST, "/fal-ai/flux/schnell", &meant, ask)
        .await
        .json();
    assert!(
        job["status_url"]
            .as_str()
            .unwrap()
            .starts_with("https://queue.fal.run/fal-ai/flux/")
    );
    assert_eq!(sim.billed(), Usd::from_nano(6_000_000));
}

#[tokio::test]
async fn bfl_says_its_cost_and_charges_only_what_is_ready() {
    let sim = start().await;
    let ask = json!({"prompt": "a boat", "width": 1408, "height": 1408, "output_format": "png"});
    let job = submit(&sim, PRO, ask.clone()).await;
    assert_eq!(
        (&job["cost"], &job["output_mp"]),
        (&json!(4.5), &json!(1.89))
    );
    let ready = about(&sim, "bfl", &job["polling_url"]).await.json();
    assert_eq!(ready["status"], "Ready");
    assert_eq!(
        painted_at(&sim, &ready["result"]["sample"]).await,
        (1408, 1408)
    );
    assert_eq!(sim.billed(), Usd::from_nano(45_000_000));
    for (words, status) in [
        ("safety", "Request Moderated"),
        ("safety_output", "Content Moderated"),
        ("no_image", "Error"),
    ] {
        sim.script("bfl", [words.parse::<Behaviour>().unwrap()]);
        let job = submit(&sim, PRO, ask.clone()).await;
        let ended = about(&sim, "bfl", &job["polling_url"]).await.json();
        assert_eq!(ended["status"], status);
    }
    assert_eq!(sim.bills().len(), 1);
    let nowhere = json!(format!("{}/v1/get_result?id=no", sim.url()));
    let unknown = about(&sim, "bfl", &nowhere).await.json();
    assert_eq!(unknown["status"], "Task not found");
}

#[tokio::test]
async fn a_prediction_is_waited_for_or_asked_about_or_cancelled() {
    let sim = start().await;
    let ask =
        json!({"input": {"prompt": "a boat", "aspect_ratio": "16:9", "output_format": "png"}});
    let waits = [("prefer", "wait=5")];
    let done = tell(&sim, Method::POST, SCHNELL, &waits, ask.clone())
        .await
        .json();
    assert_eq!(done["status"], "succeeded");
    let (width, height) = painted_at(&sim, &done["output"][0]).await;
    assert!(width > height);
    assert_eq!(sim.billed(), Usd::from_nano(3_000_000));

    sim.script("replicate", ["stall".parse::<Behaviour>().unwrap()]);
    let job = submit(&sim, SCHNELL, ask.clone()).await;
    assert_eq!(
        about(&sim, "replicate", &job["urls"]["get"]).await.json()["status"],
        "processing"
    );
    let cancel = job["urls"]["cancel"].as_str().unwrap();
    let path = format!("/replicate{}", cancel.strip_prefix(&sim.url()).unwrap());
    let told = tell(&sim, Method::POST, &path, &[], Value::Null)
        .await
        .json();
    assert_eq!(told["status"], "canceled");

    let version = "39ed52f2a78e934b3ba6e2a89f5b1c712de7dfea535525255b1aa35c5565e08b";
    let by_second = json!({"version": version, "input": {"prompt": "a boat"}});
    let job = submit(&sim, "/replicate/v1/predictions", by_second).await;
    let done = about(&sim, "replicate", &job["urls"]["get"]).await.json();
    assert_eq!(done["metrics"]["predict_time"], 4.21);
    assert_eq!(sim.bills()[2].nano_usd, 4_104_750);
}

#[tokio::test]
async fn what_is_refused_is_refused_before_it_is_a_job() {
    let sim = start().await;
    let prompt = json!({"prompt": "a boat"});
    for (words, fal, bfl) in [
        ("rate_limited", 429, 429),
        ("overloaded", 503, 503),
        ("server", 500, 500),
        ("quota", 403, 402),
        ("auth", 401, 403),
        ("retired", 404, 404),
        ("html", 502, 502),
    ] {
        for (path, expected) in [(FLUX, fal), (PRO, bfl)] {
            let got = tell(
                &sim,
                Method::POST,
                path,
                &[("x-sim", words)],
                prompt.clone(),
            )
            .await;
            assert_eq!(got.status.as_u16(), expected, "{words} {path}");
        }
    }
    let wrong = tell(
        &sim,
        Method::POST,
        PRO,
        &[],
        json!({"prompt": "x", "width": 70}),
    )
    .await;
    assert_eq!(wrong.json()["detail"][0]["loc"][1], "width");
    let wrong = tell(&sim, Method::POST, FLUX, &[], json!({})).await;
    assert_eq!(wrong.json()["detail"][0]["type"], "value_error.missing");
    let gone = tell(&sim, Method::POST, "/fal/fal-ai/nothing", &[], prompt).await;
    assert_eq!(gone.status, 404);
    assert_eq!(sim.billed(), Usd::ZERO);
}
