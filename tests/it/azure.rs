//! Azure OpenAI: a host of one's own, models behind deployments, money by their tokens.

use serde_json::{Value, json};

use crate::harness::{Answer, Rig, cat};

pub(crate) const HOST: &str = "contoso-img.openai.azure.com";
const VERSION: &str = "api-version=2025-04-01-preview";

/// A pixtoll whose user has a resource at Azure.
pub(crate) async fn rig(lua: Option<&str>) -> Rig {
    rig_with(&[], lua).await
}

/// The same, who has said which model each deployment is.
async fn rig_with(deployments: &[(&str, &str)], lua: Option<&str>) -> Rig {
    let file = tempfile::Builder::new().suffix(".lua").tempfile().unwrap();
    std::fs::write(file.path(), lua.unwrap_or("return {}")).unwrap();
    Rig::with(|settings| {
        let mut azure = settings.providers.get("azure").unwrap().clone();
        azure.hosts.push(HOST.to_owned());
        let named = |(name, model): &(&str, &str)| ((*name).to_owned(), (*model).to_owned());
        azure.deployments = deployments.iter().map(named).collect();
        settings.providers.put(azure);
        let path = file.path().to_str().unwrap();
        if lua.is_some() {
            let entry = pixtoll::config::PluginEntry::named(path);
            settings.plugins.push(entry);
        }
    })
    .await
}

async fn generate(rig: &Rig, path: &str, body: &Value) -> Answer {
    let key = [("api-key", "azure-canary")];
    rig.call(HOST, path, &key, "application/json", &body.to_string())
        .await
}

pub(crate) fn deployment(name: &str) -> String {
    format!("/openai/deployments/{name}/images/generations?{VERSION}")
}

/// The body of the older form: the model is in the path.
fn boat() -> Value {
    json!({"prompt": "a boat", "size": "1024x1024", "quality": "low", "n": 1})
}

#[tokio::test]
async fn a_deployment_named_after_its_model_is_charged_and_repeated_from_memory() {
    let rig = rig(None).await;
    let path = deployment("gpt-image-2.5-flare");
    let first = generate(&rig, &path, &boat()).await;
    assert_eq!(first.status(), 200, "{}", first.text());
    assert_eq!(first.header("x-ms-region"), Some("East US 2"));
    let second = generate(&rig, &path, &boat()).await;
    assert!(second.header("cache-status").unwrap().contains("hit"));
    // The version of the API draws no other picture.
    let newer = path.replace("2025-04-01-preview", "preview");
    let third = generate(&rig, &newer, &boat()).await;
    assert!(third.header("cache-status").unwrap().contains("hit"));
    let bills = rig.sim().bills();
    assert_eq!((bills.len(), bills[0].provider), (1, "azure"));
    assert_eq!(rig.billed(), rig.booked().await);
    let decision = &rig.decisions(3).await[0];
    assert_eq!(decision["dialect"], "azure");
    assert_eq!(decision["asked"]["model"], "azure/gpt-image-2.5-flare");
    assert_eq!(decision["attempts"][0]["charge_from"], "usage");
}

#[tokio::test]
async fn a_model_that_the_app_names_prices_its_deployment() {
    let rig = rig(None).await;
    let mut body = boat();
    body["model"] = json!("gpt-image-2.5-flare");
    let answer = generate(&rig, &deployment("img25"), &body).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    assert!(rig.billed() > 0);
    assert_eq!(rig.billed(), rig.booked().await);
}

#[tokio::test]
async fn a_deployment_that_the_book_does_not_know_is_unpriced_and_not_free() {
    let rig = rig(None).await;
    for (path, body) in [
        (deployment("img25"), boat()),
        ("/openai/v1/images/generations".to_owned(), {
            let mut body = boat();
            body["model"] = json!("img25");
            body["prompt"] = json!("another boat");
            body
        }),
    ] {
        let answer = generate(&rig, &path, &body).await;
        assert_eq!(answer.status(), 200, "{}", answer.text());
    }
    for decision in rig.decisions(2).await {
        assert_eq!(decision["asked"]["model"], "azure/img25");
        let attempt = &decision["attempts"][0];
        assert_eq!(attempt["charge_from"], "unpriced");
        assert_eq!(attempt["charge"], Value::Null);
    }
}

#[tokio::test]
async fn failures_are_of_their_kind_and_reach_the_app_in_azures_words() {
    let rig = rig(None).await;
    let path = deployment("gpt-image-2.5-flare");
    for (at, (behaviour, status, kind, code)) in [
        ("safety", 400, "safety", "content_policy_violation"),
        (
            "rate_limited retry_after=0",
            429,
            "rate_limited",
            "RateLimitReached",
        ),
        ("auth", 401, "auth", "401"),
        ("retired", 404, "retired", "DeploymentNotFound"),
    ]
    .into_iter()
    .enumerate()
    {
        rig.script("azure", &[behaviour]);
        let mut body = boat();
        body["prompt"] = json!(behaviour);
        let answer = generate(&rig, &path, &body).await;
        assert_eq!(answer.status(), status, "{}", answer.text());
        assert_eq!(answer.json()["error"]["code"], code);
        let decision = &rig.decisions(at + 1).await[at];
        assert_eq!(decision["attempts"][0]["failure"]["kind"], kind);
    }
    assert_eq!(rig.booked().await, 0);
}

#[tokio::test]
async fn a_call_of_azure_is_drawn_by_openai_and_one_of_openai_by_azure() {
    let lua = r#"return { on_request = function(call)
        if call.dialect == "openai" then return call:route("azure/gpt-image-2.5-flare") end
        return call:route("openai/gpt-image-2")
    end }"#;
    let rig = rig(Some(lua)).await;
    let answer = generate(&rig, &deployment("img25"), &boat()).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    let decision = &rig.decisions(1).await[0];
    let route = answer.header("x-pixtoll-route");
    assert_eq!(route, Some("openai/gpt-image-2"), "{decision}");
    let answer = rig.generate(&cat("a boat")).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    let seen = rig.sim().requests();
    let targets: Vec<&str> = seen.iter().map(|seen| seen.target.as_str()).collect();
    assert_eq!(
        targets,
        ["/v1/images/generations", "/openai/v1/images/generations"]
    );
    assert!(seen[0].header("api-key").is_none() && seen[0].header("authorization").is_some());
    assert!(seen[1].header("api-key").is_some() && seen[1].header("authorization").is_none());
    assert_eq!(rig.billed(), rig.booked().await);
}

#[tokio::test]
async fn a_deployment_whose_model_is_configured_is_priced_by_it_in_both_forms() {
    let rig = rig_with(&[("img25", "gpt-image-2.5-flare")], None).await;
    let answer = generate(&rig, &deployment("img25"), &boat()).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    let mut body = boat();
    body["model"] = json!("img25");
    body["prompt"] = json!("another boat");
    let answer = generate(&rig, "/openai/v1/images/generations", &body).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    for decision in rig.decisions(2).await {
        assert_eq!(decision["asked"]["model"], "azure/gpt-image-2.5-flare");
        assert!(decision["asked"]["quote"].is_number(), "{decision}");
        assert_eq!(decision["attempts"][0]["charge_from"], "usage");
        assert_eq!(decision["lost"], json!([]));
    }
    // The app's own bytes went out: the deployment is still called by its name.
    let seen = rig.sim().requests();
    assert!(seen[0].target.starts_with("/openai/deployments/img25/"));
}

#[tokio::test]
async fn a_route_to_a_model_finds_its_deployment_and_a_failure_names_it() {
    let lua = r#"return { on_request = function(call)
        return call:route("azure/gpt-image-2.5-flare", { reason = "ours" })
    end }"#;
    let deployments = [("img2", "gpt-image-2"), ("img25", "gpt-image-2.5-flare")];
    let rig = rig_with(&deployments, Some(lua)).await;
    let answer = rig.generate(&cat("a boat")).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    // An app of Azure's that called another deployment is moved to it as well.
    let answer = generate(&rig, &deployment("img2"), &boat()).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    let seen = rig.sim().requests();
    assert_eq!(seen[0].target, "/openai/v1/images/generations");
    assert!(
        seen[1].target.contains("/deployments/img25/"),
        "{}",
        seen[1].target
    );
    rig.script("azure", &["retired"]);
    let answer = rig.generate(&cat("a hut")).await;
    assert_eq!(answer.status(), 404);
    let message = answer.json()["error"]["message"].to_string();
    assert!(message.contains("deployment `img25`"), "{message}");
}
