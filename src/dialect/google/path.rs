//! Where a call goes: `PLACE/models/MODEL:METHOD`.
//!
//! The place is a version of the Gemini API, or a project and a location of Vertex AI. It belongs to
//! the caller's account and says nothing of the picture.

use http::uri::PathAndQuery;
use serde_json::Value;

use super::super::{PLACE, Unsupported, query};
use super::{INERT_QUERY, QUERY, unsupported};
use crate::image::ImageRequest;
use crate::wire::RequestHead;

/// The place of a call that nobody addressed.
const USUAL: &str = "/v1beta";
const MODELS: &str = "/models/";
/// With this a place is one of Vertex AI.
const PUBLISHER: &str = "/publishers/google";

/// A path of a model's method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Path<'a> {
    pub(super) place: &'a str,
    pub(super) model: &'a str,
    pub(super) method: &'a str,
}

impl<'a> Path<'a> {
    /// Reads a path of either API; `None` when it is another.
    pub(super) fn read(head: &'a RequestHead) -> Option<Path<'a>> {
        let (rest, method) = head.path().rsplit_once(':')?;
        let (place, model) = rest.split_once(MODELS)?;
        (is_place(place) && !model.is_empty() && !model.contains('/')).then_some(Path {
            place,
            model,
            method,
        })
    }

    /// The model's name: an `@` before a version may have been escaped.
    pub(super) fn model_name(&self) -> String {
        self.model.replace("%40", "@")
    }

    /// Keeps place and query for a request that is worded again.
    pub(super) fn keep(&self, request: &mut ImageRequest, head: &RequestHead) {
        request.extra.insert(PLACE.to_owned(), self.place.into());
        let left = head
            .target
            .query()
            .and_then(|q| query::without(q, INERT_QUERY));
        if let Some(left) = left {
            request.extra.insert(QUERY.to_owned(), left.into());
        }
    }
}

fn is_place(place: &str) -> bool {
    let Some(version) = place.strip_prefix("/v1") else {
        return false;
    };
    let (version, rest) = match version.find('/') {
        Some(slash) => version.split_at(slash),
        None => (version, ""),
    };
    let known = ["", "beta", "alpha", "beta1"].contains(&version);
    let steps: Vec<&str> = rest.split('/').collect();
    let vertex = match steps.as_slice() {
        ["", "publishers", "google"] => true,
        [
            "",
            "projects",
            project,
            "locations",
            location,
            "publishers",
            "google",
        ] => !project.is_empty() && !location.is_empty(),
        _ => false,
    };
    known && (rest.is_empty() || vertex)
}

fn place(request: &ImageRequest) -> &str {
    request
        .extra
        .get(PLACE)
        .and_then(Value::as_str)
        .unwrap_or(USUAL)
}

/// Whether the request goes to Vertex AI, which takes fields that the Gemini API refuses.
pub(super) fn is_vertex(request: &ImageRequest) -> bool {
    place(request).ends_with(PUBLISHER)
}

/// Where `request` goes. `more` is a parameter of ours.
pub(super) fn target(
    request: &ImageRequest,
    method: &str,
    more: Option<&str>,
) -> Result<PathAndQuery, Unsupported> {
    let (place, model) = (place(request), request.model.model());
    let kept = request.extra.get(QUERY).and_then(Value::as_str);
    let query: Vec<&str> = more.into_iter().chain(kept).collect();
    let mut target = format!("{place}{MODELS}{model}:{method}");
    if !query.is_empty() {
        target = format!("{target}?{}", query.join("&"));
    }
    let odd = model.contains(['/', ':', '?', '#']);
    target
        .parse()
        .ok()
        .filter(|_| !odd)
        .ok_or_else(|| unsupported("model", "its name cannot stand in a path"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderMap, Method};

    #[track_caller]
    fn check(target: &str, expected: Option<(&str, &str, &str)>) {
        let head = RequestHead {
            method: Method::POST,
            host: "h".to_owned(),
            target: target.parse().unwrap(),
            headers: HeaderMap::new(),
        };
        let read = Path::read(&head).map(|path| (path.place, path.model, path.method));
        assert_eq!(read, expected, "{target}");
    }

    #[test]
    fn places_of_both_apis_are_read_and_no_others() {
        let vertex = "/v1/projects/demo/locations/us-central1/publishers/google";
        check(
            "/v1beta/models/gemini-3-pro-image:generateContent?key=x",
            Some(("/v1beta", "gemini-3-pro-image", "generateContent")),
        );
        check(
            &format!("{vertex}/models/imagegeneration%40006:predict"),
            Some((vertex, "imagegeneration%40006", "predict")),
        );
        check(
            "/v1beta1/publishers/google/models/m:predict",
            Some(("/v1beta1/publishers/google", "m", "predict")),
        );
        for other in [
            "/v2/models/m:predict",
            "/v1/models/m",
            "/v1/models/a/b:predict",
            "/v1/models/:predict",
            "/v1/projects//locations/l/publishers/google/models/m:predict",
            "/v1/projects/p/locations/l/publishers/anthropic/models/m:predict",
            "/v1beta/tunedModels/m:generateContent",
        ] {
            check(other, None);
        }
    }
}
