//! Stability's older dialect beyond the recorded messages.

use super::*;

#[test]
fn an_engine_of_v1_is_worded_in_v1_and_every_other_model_is_not() {
    let worded_by = |model: &str| {
        let model = ModelId::new("stability", model);
        let speaks = ["stability_v1", "stability"].map(|name| by_name(name).unwrap());
        let served = speaks.into_iter().find(|dialect| dialect.serves(&model));
        served.unwrap().name()
    };
    assert_eq!(worded_by("stable-diffusion-xl-1024-v1-0"), "stability_v1");
    assert_eq!(worded_by("sd3.5-large"), "stability");
    assert_eq!(worded_by("stable-image-core"), "stability");
}

#[test]
fn weights_stand_as_long_as_the_prompt_they_belong_to() {
    let case = cases()
        .into_iter()
        .find(|case| case.name == "stability_v1/weighted-prompts")
        .unwrap();
    let prompts = |request: &ImageRequest| {
        let sent = case.dialect.write_request(request).unwrap();
        let sent: Value = serde_json::from_slice(&sent.body.to_bytes()).unwrap();
        sent["text_prompts"].clone()
    };
    let mut request = case.request();
    assert_eq!(request.prompt, "a red paper boat, a grey pond");
    assert_eq!(prompts(&request)[0]["weight"], json!(0.7));
    request.prompt = "a cat".to_owned();
    assert_eq!(
        prompts(&request),
        json!([{"text": "a cat", "weight": 1}, {"text": "fog", "weight": -1}])
    );
}

#[test]
fn a_mask_by_transparency_is_not_taken_for_one_in_black_and_white() {
    let case = cases()
        .into_iter()
        .find(|case| case.name == "stability_v1/masking")
        .unwrap();
    let mut request = case.request();
    assert!(case.dialect.write_request(&request).is_ok());
    request.extra.clear();
    let error = case.dialect.write_request(&request).unwrap_err();
    assert_eq!(error.field, "mask");
}
