//! The simulated Responses API with its image tool.

use super::*;

fn forced(more: Value) -> Value {
    let mut body = json!({
        "model": "gpt-5.2", "input": "a boat", "tool_choice": {"type": "image_generation"},
        "tools": [{"type": "image_generation", "model": "gpt-image-2.6-flare", "size": "1536x1024", "quality": "low"}],
    });
    if let Value::Object(more) = more {
        body.as_object_mut().unwrap().extend(more);
    }
    body
}

async fn respond(sim: &Sim, body: &Value) -> Got {
    send(sim, post("/openai/v1/responses", body)).await.unwrap()
}

#[tokio::test]
async fn a_picture_is_drawn_and_both_models_are_billed() {
    let sim = start().await;
    let told = respond(&sim, &forced(json!({}))).await.json();
    assert_eq!(told["object"], "response");
    let item = &told["output"][0];
    assert_eq!(
        (&item["type"], &item["size"]),
        (&json!("image_generation_call"), &json!("1536x1024"))
    );
    assert_eq!(pixels(&decode(&item["result"])), (1536, 1024));
    let drawn = &told["tool_usage"]["image_gen"];
    let bills = sim.bills();
    let models: Vec<&str> = bills.iter().map(|bill| bill.model.as_str()).collect();
    assert_eq!(models, ["gpt-image-2.6-flare", "gpt-5.2"]);
    let count = |usage: &Value, name: &str| usage[name].as_i64().unwrap();
    // 5 USD a million tokens in and 30 out; of the text model 1.75 and 14.
    let picture = count(drawn, "input_tokens") * 5_000 + count(drawn, "output_tokens") * 30_000;
    let words = count(&told["usage"], "input_tokens") * 1_750
        + count(&told["usage"], "output_tokens") * 14_000;
    assert_eq!((bills[0].nano_usd, bills[1].nano_usd), (picture, words));
}

#[tokio::test]
async fn a_stream_brings_its_partial_pictures_and_ends_with_the_whole() {
    let sim = start().await;
    let mut body = forced(json!({"stream": true}));
    body["tools"][0]["partial_images"] = json!(2);
    let events = respond(&sim, &body).await.events();
    let names: Vec<&str> = events.iter().map(|(name, _)| name.as_str()).collect();
    let drawing = names
        .iter()
        .filter_map(|name| name.strip_prefix("response.image_generation_call."));
    let drawing: Vec<&str> = drawing.collect();
    assert_eq!(
        drawing,
        [
            "in_progress",
            "generating",
            "partial_image",
            "partial_image",
            "completed"
        ]
    );
    assert_eq!(
        (names[0], names[names.len() - 1]),
        ("response.created", "response.completed")
    );
    for (at, (name, data)) in events.iter().enumerate() {
        assert_eq!(
            (&data["sequence_number"], &data["type"]),
            (&json!(at), &json!(name))
        );
    }
    let whole = &events.last().unwrap().1["response"];
    let done = events
        .iter()
        .find(|(name, _)| name == "response.output_item.done");
    assert_eq!(whole["output"][0], done.unwrap().1["item"]);
    assert!(whole["tool_usage"]["image_gen"]["output_tokens"].is_u64());
}

#[tokio::test]
async fn what_moderation_stops_is_a_success_with_a_failed_item() {
    for (fault, stage, models) in [
        ("safety", "input", vec!["gpt-5.2"]),
        (
            "safety_output",
            "output",
            vec!["gpt-image-2.6-flare", "gpt-5.2"],
        ),
    ] {
        let sim = start().await;
        sim.script("openai", [fault.parse::<Behaviour>().unwrap()]);
        let got = respond(&sim, &forced(json!({}))).await;
        let item = &got.json()["output"][0];
        assert_eq!(
            (got.status.as_u16(), &item["status"]),
            (200, &json!("failed"))
        );
        assert_eq!(
            item["error"]["moderation_details"]["moderation_stage"],
            stage
        );
        let bills = sim.bills();
        let billed: Vec<&str> = bills.iter().map(|bill| bill.model.as_str()).collect();
        assert_eq!(billed, models);
    }
}

#[tokio::test]
async fn words_alone_cost_no_picture_and_mistakes_are_openais() {
    let sim = start().await;
    let told = respond(&sim, &forced(json!({"tools": []}))).await.json();
    assert_eq!(
        (&told["output"][0]["type"], &told["output"][1]),
        (&json!("message"), &Value::Null)
    );
    let missing = respond(&sim, &json!({"input": "a boat"})).await;
    assert_eq!(
        (missing.status.as_u16(), &missing.json()["error"]["param"]),
        (400, &json!("model"))
    );
    let mut body = forced(json!({}));
    body["tools"][0]["size"] = json!("17x17");
    assert_eq!(respond(&sim, &body).await.json()["error"]["param"], "size");
    body["tools"][0] = json!({"type": "image_generation", "model": "no-such-model"});
    assert_eq!(respond(&sim, &body).await.status.as_u16(), 404);
    assert!(sim.bills().is_empty());
}
