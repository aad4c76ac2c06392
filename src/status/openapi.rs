//! `/api/v1/openapi.json`: what programs can ask, in the words of OpenAPI 3.1, whose schemas are JSON Schema. The shapes
//! are those of the types that are answered with.

use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use super::{
    leases::Leases,
    shapes::{Loader, OneBoot, Permitted, Problem, Profile, Version, Wanted, Whole, Woken},
    view::Machine,
};

/// One thing that can be asked, or changed.
struct Operation {
    path: &'static str,
    method: &'static str,
    summary: &'static str,
    answer: Answer,
    body: Option<Shape>,
    /// What may be asked beside the path.
    inputs: &'static [Input],
    /// Those of its problems that are not everyone's.
    problems: &'static [u16],
}

/// A part of a request: its name, where it stands, its type, and what it means.
type Input = (&'static str, &'static str, &'static str, &'static str);

enum Answer {
    Json(Shape),
    /// Whose shape is described in words only.
    Free(&'static str),
}

type Shape = fn(&mut SchemaGenerator) -> Schema;

const GET: &str = "get";
const MACHINE: &str = "/api/v1/machines/{machine}";
const ASSIGNMENT: &str = "/api/v1/machines/{machine}/assignment";
const WAKE: &str = "/api/v1/machines/{machine}/wake";
const ONCE: &str = "/api/v1/machines/{machine}/once";
const LEARNED: &str = "/api/v1/machines/{machine}/learned";
const APPROVAL: &str = "/api/v1/machines/{machine}/approval";
const PERMISSION: &str = "/api/v1/machines/{machine}/permission";

/// The description, with an entry for each operation.
#[must_use]
pub(super) fn document() -> Value {
    // OpenAPI keeps its schemas elsewhere than JSON Schema does.
    let settings =
        SchemaSettings::draft2020_12().with(|settings| settings.definitions_path = "/components/schemas".into());
    let mut generator = settings.into_generator();
    let problem = generator.subschema_for::<Problem>();
    let mut paths = Map::new();
    for operation in operations() {
        let at = paths.entry(operation.path).or_insert_with(|| json!({}));
        if let Value::Object(methods) = at {
            methods.insert(operation.method.into(), operation.described(&mut generator, &problem));
        }
    }
    let about = "Reading is open to the network. Changes, and a machine's report, need the control \
                 socket, the loopback address or the token (Authorization: Bearer).";
    json!({
        "openapi": "3.1.0",
        "info": { "title": "netbootd", "version": env!("CARGO_PKG_VERSION"), "description": about, "license": { "name": "MIT", "identifier": "MIT" } },
        "paths": paths,
        "components": {
            "schemas": generator.take_definitions(true),
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
        },
    })
}

fn operations() -> Vec<Operation> {
    let get = |path, summary, answer| Operation {
        path,
        method: GET,
        summary,
        answer,
        body: None,
        inputs: &[],
        problems: &[],
    };
    let change = |path, method, summary, problems| Operation {
        path,
        method,
        summary,
        answer: json::<Machine>(),
        body: None,
        inputs: &[],
        problems,
    };
    vec![
        get("/api/v1/version", "The version of this server", json::<Version>()),
        get("/api/v1/openapi.json", "This description", Answer::Free("application/json")),
        Operation {
            inputs: &[
                ("q", "query", "string", "Only those that have all these words in their names, addresses or parts"),
                ("all", "query", "boolean", "true: also those that other appliances saw long ago"),
            ],
            problems: &[400],
            ..get(
                "/api/v1/machines",
                "All machines that were seen, named by a rule or assigned something",
                json::<Vec<Machine>>(),
            )
        },
        Operation { problems: &[404, 409], ..get(MACHINE, "A machine with its boots", json::<Whole>()) },
        Operation {
            problems: &[401, 403, 404, 409],
            ..get(
                "/api/v1/machines/{machine}/report",
                "A report for a question about its boots",
                Answer::Free("application/json"),
            )
        },
        Operation {
            body: Some(|generator| generator.subschema_for::<Wanted>()),
            ..change(ASSIGNMENT, "put", "Assign a profile to it", &[400, 401, 403, 404, 409, 422, 500])
        },
        change(ASSIGNMENT, "delete", "Remove its assignment", &[401, 403, 404, 409, 500]),
        change(APPROVAL, "put", "Approve it, where only known machines are answered", &[401, 403, 404, 409, 500]),
        Operation {
            body: Some(|generator| generator.subschema_for::<Permitted>()),
            ..change(
                PERMISSION,
                "put",
                "Say whether it may boot, where only known machines are answered: once, always (it is approved then), or no (not in this run)",
                &[400, 401, 403, 404, 409, 422, 500],
            )
        },
        change(ONCE, "put", "Serve its one-time profile again", &[401, 403, 404, 409, 500]),
        change(
            LEARNED,
            "delete",
            "Forget what was learned of its firmware: its next offer is the first one of all",
            &[401, 403, 404, 409, 500],
        ),
        change(APPROVAL, "delete", "Remove the approval", &[401, 403, 404, 409, 500]),
        Operation {
            answer: json::<Woken>(),
            ..change(WAKE, "post", "Send it a magic packet, which switches it on", &[401, 403, 404, 409, 422, 500])
        },
        get("/api/v1/boots", "All boots that are remembered, the last one first", json::<Vec<OneBoot>>()),
        get("/api/v1/leases", "The leases, where netbootd leases addresses itself", json::<Leases>()),
        get("/api/v1/profiles", "The profiles", json::<Vec<Profile>>()),
        get("/api/v1/loaders", "The iPXE binaries", json::<Vec<Loader>>()),
        Operation {
            inputs: &[(
                "Last-Event-ID",
                "header",
                "integer",
                "The last event that was received: what came after it is sent first",
            )],
            problems: &[503],
            ..get("/api/v1/events", "Each step of each boot as it happens", Answer::Free("text/event-stream"))
        },
    ]
}

fn json<T: JsonSchema>() -> Answer {
    Answer::Json(|generator| generator.subschema_for::<T>())
}

impl Operation {
    fn described(&self, generator: &mut SchemaGenerator, problem: &Schema) -> Value {
        let content = match &self.answer {
            Answer::Json(shape) => json!({ "application/json": { "schema": shape(generator) } }),
            Answer::Free(kind) => json!({ *kind: {} }),
        };
        let mut responses =
            Map::from_iter([("200".to_owned(), json!({ "description": self.summary, "content": content }))]);
        let has_machine = self.path.contains("{machine}");
        // A path that is no UTF-8.
        let wrong_path: &[u16] = if has_machine { &[400] } else { &[] };
        for status in self.problems.iter().chain(wrong_path) {
            let words = http::StatusCode::from_u16(*status).ok().and_then(|status| status.canonical_reason());
            let content = json!({ "application/problem+json": { "schema": problem } });
            responses.insert(status.to_string(), json!({ "description": words, "content": content }));
        }
        let mut described = json!({ "summary": self.summary, "responses": responses });
        let mut put = |key: &str, value: Value| {
            if let Value::Object(described) = &mut described {
                described.insert(key.into(), value);
            }
        };
        let machine = has_machine.then_some(MACHINE_INPUT);
        let inputs: Vec<Value> = machine.iter().chain(self.inputs).map(parameter).collect();
        if !inputs.is_empty() {
            put("parameters", inputs.into());
        }
        if let Some(body) = self.body {
            put(
                "requestBody",
                json!({ "required": true, "content": { "application/json": { "schema": body(generator) } } }),
            );
        }
        if self.problems.contains(&401) {
            put("security", json!([{ "token": [] }]));
        }
        described
    }
}

fn parameter((name, place, kind, words): &Input) -> Value {
    let is_required = *place == "path";
    json!({ "name": name, "in": place, "required": is_required, "description": words, "schema": { "type": kind } })
}

const MACHINE_INPUT: Input =
    ("machine", "path", "string", "Its id: a MAC address, a UUID, or the name that a rule gives it");
