//! The API beside its description.

use std::sync::Arc;

use axum::{Extension, Router, body::Body};
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use netbootd::status::{access::Via, api};
use serde_json::Value;
use tower::ServiceExt as _;

use crate::server::{TOKEN, mac, page};

async fn asked(router: &Router, method: Method, path: &str, body: &str) -> (StatusCode, Body) {
    let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
    let request = request.body(Body::from(body.to_owned())).expect("a request");
    let answer = router.clone().oneshot(request).await.expect("an answer");
    (answer.status(), answer.into_body())
}

const ONCE: &str = r#"{"permission": "once"}"#;

#[tokio::test]
async fn a_permission_is_kept_and_shown_and_no_other_word_is_taken() {
    let (_, fake, stop) = page(Via::ControlSocket);
    let api = api::Api { live: fake.live.clone(), server: fake.clone(), token: Some(TOKEN.into()), stop };
    let router = api::router(Arc::new(api)).layer(Extension(Via::ControlSocket));
    let path = format!("/api/v1/machines/{}/permission", mac(9));
    for (word, approved) in [("once", false), ("always", true), ("no", false)] {
        let (status, body) = asked(&router, Method::PUT, &path, &format!("{{\"permission\": \"{word}\"}}")).await;
        let text = body.collect().await.expect("a body").to_bytes();
        let machine: Value = serde_json::from_slice(&text).expect("JSON");
        assert_eq!(
            (status, &machine["permission"], &machine["approved"]),
            (StatusCode::OK, &word.into(), &approved.into())
        );
    }
    let (status, body) = asked(&router, Method::PUT, &path, r#"{"permission": "maybe"}"#).await;
    let text = String::from_utf8(body.collect().await.expect("a body").to_bytes().to_vec()).expect("text");
    assert!(status == StatusCode::BAD_REQUEST && text.contains("expected one of `once`, `always`, `no`"), "{text}");
    assert!(text.contains(r#"send a body such as {\"permission\": \"once\"}"#), "{text}");
    let (status, _) = asked(&router, Method::PUT, "/api/v1/machines/k8s99/permission", ONCE).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

/// Every method that is described is answered, with a status that is described, and with JSON that has what its schema
/// requires; every other one is not allowed.
#[tokio::test]
async fn what_is_described_is_answered_and_nothing_else() {
    let (_, fake, stop) = page(Via::ControlSocket);
    let api = api::Api { live: fake.live.clone(), server: fake.clone(), token: Some(TOKEN.into()), stop };
    let router = api::router(Arc::new(api)).layer(Extension(Via::ControlSocket));
    fake.starts(1, 30, "UEFI x86_64", "debian");
    let text = asked(&router, Method::GET, "/api/v1/openapi.json", "").await.1.collect().await.expect("a body");
    let document: Value = serde_json::from_slice(&text.to_bytes()).expect("JSON");
    for (path, described) in document["paths"].as_object().expect("paths") {
        let address = path.replace("{machine}", &mac(1).to_string());
        for method in [Method::GET, Method::PUT, Method::POST, Method::DELETE, Method::PATCH] {
            let operation = &described[method.as_str().to_lowercase()];
            // This server tells no steps: of the events it is shown only that there is such a route.
            let body = if path.ends_with("/permission") { ONCE } else { r#"{"profile": "debian"}"# };
            let (status, body) = asked(&router, method.clone(), &address, body).await;
            assert_eq!(status == StatusCode::METHOD_NOT_ALLOWED, operation.is_null(), "{method} {path}: {status}");
            let answer = &operation["responses"][status.as_str()];
            assert!(operation.is_null() || answer.is_object(), "{method} {path}: {status}");
            let schema = &answer["content"]["application/json"]["schema"];
            if !schema.is_null() {
                let body = body.collect().await.expect("a body").to_bytes();
                let value = serde_json::from_slice(&body).expect("JSON");
                fits(&document, schema, &value, &format!("{method} {path}"));
            }
        }
    }
}

#[tokio::test]
async fn the_answers_to_wrong_questions_are_described() {
    let (_, fake, stop) = page(Via::ControlSocket);
    let api = api::Api { live: fake.live.clone(), server: fake.clone(), token: Some(TOKEN.into()), stop };
    let router = api::router(Arc::new(api)).layer(Extension(Via::ControlSocket));
    let text = asked(&router, Method::GET, "/api/v1/openapi.json", "").await.1.collect().await.expect("a body");
    let document: Value = serde_json::from_slice(&text.to_bytes()).expect("JSON");
    let all = ("/api/v1/machines?all=1", "/api/v1/machines");
    for (question, path) in [all, ("/api/v1/machines/%ff", "/api/v1/machines/{machine}")] {
        let (status, _) = asked(&router, Method::GET, question, "").await;
        let answer = &document["paths"][path]["get"]["responses"][status.as_str()];
        assert!(status.is_client_error() && answer.is_object(), "{question}: {status}");
    }
    let inputs = document["paths"]["/api/v1/machines"]["get"]["parameters"].as_array().expect("parameters");
    let names: Vec<&str> = inputs.iter().filter_map(|input| input["name"].as_str()).collect();
    assert_eq!(names, ["q", "all"]);
}

/// Types and required members, all the way down: as much of JSON Schema as these schemas use.
fn fits(document: &Value, schema: &Value, value: &Value, at: &str) {
    if let Some(reference) = schema["$ref"].as_str() {
        let schema = document.pointer(reference.trim_start_matches('#')).unwrap_or_else(|| panic!("{at}: {reference}"));
        fits(document, schema, value, at);
    }
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        assert!(value.get(name).is_some(), "{at}: {name} is missing in {value}");
    }
    let is = |kind: &str| match kind {
        "string" => value.is_string(),
        "integer" | "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "null" => value.is_null(),
        other => panic!("{at}: {other}"),
    };
    let kinds: Vec<&str> = match &schema["type"] {
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        kind => kind.as_str().into_iter().collect(),
    };
    assert!(kinds.is_empty() || kinds.into_iter().any(is), "{at}: {value} is not as in {schema}");
    for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
        if let Some(value) = value.get(name) {
            fits(document, schema, value, &format!("{at}/{name}"));
        }
    }
    if let (Some(values), schema @ Value::Object(_)) = (value.as_array(), &schema["items"]) {
        values.iter().for_each(|value| fits(document, schema, value, &format!("{at}/[]")));
    }
}
