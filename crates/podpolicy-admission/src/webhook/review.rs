//! One question of an API server and its answer: bytes of an AdmissionReview in, bytes of an AdmissionReview out. Pure.
//!
//! Never refuses a pod, and never holds more of it than decisions need.

use std::borrow::Cow;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use podpolicy_engine::{Pod, Program};
use serde::{Deserialize, Serialize};

use super::{safety, warnings};
use crate::Operation;

const API_VERSION: &str = "admission.k8s.io/v1";
const KIND: &str = "AdmissionReview";

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ReviewError {
    /// The body is not an AdmissionReview that could come from an API server. The asker is told; failurePolicy decides about the pod.
    #[error("the body is no AdmissionReview of {API_VERSION} with a request: {0}")]
    Malformed(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Question<'a, Object> {
    #[serde(borrow)]
    api_version: Cow<'a, str>,
    #[serde(borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    request: Request<'a, Object>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a, Object> {
    #[serde(borrow)]
    uid: Cow<'a, str>,
    #[serde(borrow)]
    resource: Resource<'a>,
    #[serde(borrow)]
    sub_resource: Option<Cow<'a, str>>,
    #[serde(borrow)]
    operation: Cow<'a, str>,
    #[serde(borrow, default)]
    namespace: Cow<'a, str>,
    object: Option<Object>,
}

#[derive(Deserialize)]
struct Resource<'a> {
    #[serde(borrow)]
    group: Cow<'a, str>,
    #[serde(borrow)]
    version: Cow<'a, str>,
    #[serde(borrow, rename = "resource")]
    plural: Cow<'a, str>,
}

/// An object that nobody looks at.
#[derive(Deserialize)]
struct Unread {}

impl<Object> Request<'_, Object> {
    fn is_creation_of_pod(&self) -> bool {
        let Resource { group, version, plural } = &self.resource;
        self.operation == "CREATE"
            && (group.as_ref(), version.as_ref(), plural.as_ref()) == ("", "v1", "pods")
            && self.sub_resource.as_deref().is_none_or(str::is_empty)
    }
}

/// Answers a question: the pod is allowed, with a patch if the program gives it something.
pub fn answer(program: &Program, body: &[u8]) -> Result<Vec<u8>, ReviewError> {
    let question = match read::<Pod>(body) {
        Ok(question) => question,
        // An object that is no pod need not look like one.
        Err(error) => {
            return match read::<Unread>(body) {
                Ok(question) if !question.request.is_creation_of_pod() => Ok(allowed(&question.request.uid, None, &[])),
                Ok(_) | Err(_) => Err(error),
            };
        }
    };
    let is_creation = question.request.is_creation_of_pod();
    let Request { uid, namespace, object, .. } = question.request;
    let Some(mut pod) = object.filter(|_| is_creation) else { return Ok(allowed(&uid, None, &[])) };
    // The pod itself may leave it to the request.
    pod.namespace = namespace.into_owned();
    let creation = program.create(&pod);
    let mut warnings = warnings::of(&creation);
    if creation.is_empty() {
        return Ok(allowed(&uid, None, &warnings));
    }
    if let Some(danger) = safety::danger(&pod, &creation) {
        warnings.insert(0, warnings::bounded(format!("the pod stays as it is, without what policies say: {danger}")));
        warnings.truncate(warnings::MOST);
        return Ok(allowed(&uid, None, &warnings));
    }
    Ok(allowed(&uid, Some(&crate::patch(&pod, &creation)), &warnings))
}

fn read<'a, Object: Deserialize<'a>>(body: &'a [u8]) -> Result<Question<'a, Object>, ReviewError> {
    // Once for the body is cheaper than for each of its strings.
    let body = str::from_utf8(body).map_err(|error| ReviewError::Malformed(error.to_string()))?;
    let question: Question<'a, Object> = serde_json::from_str(body).map_err(|error| ReviewError::Malformed(error.to_string()))?;
    if question.api_version != API_VERSION || question.kind != KIND {
        let Question { api_version, kind, .. } = question;
        return Err(ReviewError::Malformed(format!("it is a {kind:.64} of {api_version:.64}")));
    }
    Ok(question)
}

/// The answer that allows the pod.
fn allowed(uid: &str, patch: Option<&[Operation<'_>]>, warnings: &[String]) -> Vec<u8> {
    // Put together by hand: a serializer would look through the whole patch for what to escape, and base64 has nothing to.
    let mut answer = format!(r#"{{"apiVersion":"{API_VERSION}","kind":"{KIND}","response":{{"uid":{},"allowed":true"#, json(uid));
    if let Some(patch) = patch {
        answer.push_str(r#","patchType":"JSONPatch","patch":""#);
        answer.push_str(&BASE64.encode(json(patch)));
        answer.push('"');
    }
    if !warnings.is_empty() {
        answer.push_str(r#","warnings":"#);
        answer.push_str(&json(warnings));
    }
    answer.push_str("}}");
    answer.into_bytes()
}

fn json<T: Serialize + ?Sized>(value: &T) -> String {
    serde_json::to_string(value).expect("what answers are made of has only strings for keys")
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, sync::Arc};

    use podpolicy_engine::{Policy, Settings};
    use serde_json::{Value as Json, json};

    use super::*;

    fn program(spec: &Json) -> Program {
        let policy = json!({ "metadata": { "name": "web", "namespace": "shop" }, "spec": spec });
        let policy = Arc::new(Policy::from_namespaced(&serde_json::from_value(policy).unwrap()));
        Program::new([policy], HashMap::new(), Settings::default())
    }

    fn standard() -> Program {
        program(&json!({
            "selector": {},
            "labels": { "team": "shop" },
            "terminationGracePeriodSeconds": 60,
            "containers": [{ "lifecycle": { "preStop": { "sleep": { "seconds": 5 } } } }],
        }))
    }

    fn pod() -> Json {
        json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": { "generateName": "web-", "creationTimestamp": null, "managedFields": [{ "fieldsV1": { "f:spec": {} } }] },
            "spec": { "containers": [{ "name": "web", "image": "web", "env": [{ "name": "A", "value": "b" }] }], "terminationGracePeriodSeconds": 30 },
            "status": {},
        })
    }

    fn question(object: &Json) -> Json {
        json!({
            "apiVersion": "admission.k8s.io/v1",
            "kind": "AdmissionReview",
            "request": {
                "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
                "kind": { "group": "", "version": "v1", "kind": "Pod" },
                "resource": { "group": "", "version": "v1", "resource": "pods" },
                "requestKind": { "group": "", "version": "v1", "kind": "Pod" },
                "namespace": "shop",
                "operation": "CREATE",
                "userInfo": { "username": "jane", "groups": ["system:authenticated"] },
                "object": object,
                "oldObject": null,
                "dryRun": true,
                "options": { "apiVersion": "meta.k8s.io/v1", "kind": "CreateOptions" },
            },
        })
    }

    fn ask(program: &Program, question: &Json) -> Json {
        serde_json::from_slice(&answer(program, question.to_string().as_bytes()).unwrap()).unwrap()
    }

    fn patched(answer: &Json, mut pod: Json) -> Json {
        let patch = BASE64.decode(answer["response"]["patch"].as_str().unwrap()).unwrap();
        let patch: json_patch::Patch = serde_json::from_slice(&patch).unwrap();
        json_patch::patch(&mut pod, &patch).unwrap();
        pod
    }

    #[test]
    fn pod_gets_what_the_policies_of_the_requests_namespace_say() {
        let answer = ask(&standard(), &question(&pod()));
        assert_eq!(answer["apiVersion"], "admission.k8s.io/v1");
        assert_eq!(answer["kind"], "AdmissionReview");
        let response = &answer["response"];
        assert_eq!((&response["uid"], &response["allowed"]), (&"705ab4f5-6393-11e8-b7cc-42010a800002".into(), &true.into()));
        assert_eq!(response["patchType"], "JSONPatch");
        assert_eq!(response.get("warnings"), None);
        let pod = patched(&answer, pod());
        assert_eq!(pod["metadata"]["labels"], json!({ "team": "shop" }));
        assert_eq!(pod["spec"]["terminationGracePeriodSeconds"], 60);
        assert_eq!(pod["spec"]["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"], 5);
        assert!(pod["metadata"]["annotations"]["podpolicy.dev/applied"].is_string());
    }

    #[test]
    fn what_is_no_creation_of_a_pod_is_allowed_unchanged() {
        let changes: [fn(&mut Json); 6] = [
            |request| request["operation"] = "UPDATE".into(),
            |request| request["subResource"] = "eviction".into(),
            |request| request["resource"]["resource"] = "bindings".into(),
            |request| request["resource"] = json!({ "group": "apps", "version": "v1", "resource": "deployments" }),
            |request| *request = json!({ "uid": "1", "operation": "DELETE", "resource": request["resource"], "object": null }),
            |request| {
                request["resource"]["resource"] = "services".into();
                request["object"] = json!({ "metadata": { "labels": 3 }, "spec": [] });
            },
        ];
        for change in changes {
            let mut question = question(&pod());
            change(&mut question["request"]);
            let response = &ask(&standard(), &question)["response"];
            assert_eq!((&response["allowed"], response.get("patch")), (&true.into(), None), "{question}");
        }
    }

    #[test]
    fn pod_that_needs_nothing_is_allowed_without_a_patch() {
        let mut elsewhere = question(&pod());
        elsewhere["request"]["namespace"] = "bank".into();
        assert_eq!(ask(&standard(), &elsewhere)["response"].get("patch"), None);
        let once = patched(&ask(&standard(), &question(&pod())), pod());
        assert_eq!(ask(&standard(), &question(&once))["response"].get("patch"), None, "asking again changes nothing");
    }

    #[test]
    fn what_is_kept_or_refused_is_told() {
        let program = program(&json!({ "selector": {}, "labels": { "team": "shop", "pod-template-hash": "1" } }));
        let mut pod = pod();
        pod["metadata"]["labels"] = json!({ "team": "bank" });
        let answer = ask(&program, &question(&pod));
        assert_eq!(answer["response"]["allowed"], true);
        let warnings: Vec<_> = answer["response"]["warnings"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
        assert_eq!(warnings.len(), 2);
        assert!(warnings[0].starts_with("PodPolicy shop/web: labels[pod-template-hash]: pod-template-hash is generated by controllers"));
        assert!(warnings[1].starts_with("PodPolicy shop/web: labels[team]: "), "{warnings:?}");
    }

    #[test]
    fn pod_that_a_patch_could_not_make_valid_is_left_alone_with_a_warning() {
        let mut pod = pod();
        pod["spec"]["containers"] = json!([{ "name": "web" }, { "name": "web" }]);
        let answer = ask(&standard(), &question(&pod));
        assert_eq!((&answer["response"]["allowed"], answer["response"].get("patch")), (&true.into(), None));
        let warning = answer["response"]["warnings"][0].as_str().unwrap();
        assert!(warning.contains("two containers are named web"), "{warning}");
    }

    #[test]
    fn body_that_no_api_server_sends_is_an_error() {
        let mut beta = question(&pod());
        beta["apiVersion"] = "admission.k8s.io/v1beta1".into();
        let mut shapeless = question(&pod());
        shapeless["request"]["object"]["metadata"]["labels"] = json!([1]);
        let mut huge = question(&pod());
        huge["request"]["object"]["spec"]["terminationGracePeriodSeconds"] = json!(1e300);
        let deep = format!("{{\"apiVersion\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
        let bodies = [
            String::new(),
            "{}".to_owned(),
            "null".to_owned(),
            "\u{0}".to_owned(),
            json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview" }).to_string(),
            question(&pod()).to_string().replace("\"uid\"", "\"\\ud800\""),
            question(&pod()).to_string()[..200].to_owned(),
            beta.to_string(),
            shapeless.to_string(),
            huge.to_string(),
            deep,
        ];
        for body in bodies {
            let error = answer(&standard(), body.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with("the body is no AdmissionReview of admission.k8s.io/v1"), "{error}");
            assert!(error.len() < 1000, "{error}");
        }
        assert!(answer(&standard(), b"\xff\xfe").is_err());
    }

    #[test]
    fn depth_in_what_is_not_read_does_no_harm() {
        let depth = 200_000;
        let text = question(&pod()).to_string();
        let deep = text.replacen("\"f:spec\":{}", &format!("\"f:spec\":{}{}", "[".repeat(depth), "]".repeat(depth)), 1);
        assert!(deep.len() > text.len());
        assert!(answer(&standard(), deep.as_bytes()).is_ok());
    }
}
