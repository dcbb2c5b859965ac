//! Which path means which model, and back.

use http::uri::PathAndQuery;
use serde_json::Value;

use crate::image::{ImageRequest, Operation, Size};

/// The extra field that says which of several routes to its model the app took.
pub(super) const TAKEN: &str = "@route";

/// Where jobs are asked about, the newer API first.
pub(super) const JOBS: [&str; 2] = ["/v2/generations/", "/v1/generations/"];

const NEWER: &str = "/v2/image/generate/";
const PRECISE_EDIT: &str = "/v2/image/precise-edit/ideogram-4-5";
const PRECISE_EDITOR: &str = "ideogram-4-5-precise-edit";
/// Before what is done, of 3.0.
const V3: &str = "/v1/ideogram-v3/";
const V4: &str = "/v1/ideogram-v4/generate";
const V4_LATER: &str = "/v1/ideogram-v4/async/generate";
const THREE: &str = "ideogram-3";
pub(super) const CHARACTER: &str = "ideogram-3-character";
const TRANSPARENT: &str = "ideogram-3-transparent";
const FOUR: &str = "ideogram-4";

/// One route of the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route<'p> {
    /// The model that it leads to, as the price book has it.
    pub(super) model: &'p str,
    pub(super) operation: Operation,
    pub(super) spelling: Spelling,
    /// Its answer names a job.
    pub(super) later: bool,
}

/// Three ways to say the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spelling {
    /// `/v2/…`
    Newer,
    /// `/v1/ideogram-v3/…`
    Three,
    /// `/v1/ideogram-v4/…`
    Four,
}

impl<'p> Route<'p> {
    /// The route of a path, if it draws pictures. A character of one's own shows in the body alone.
    pub(super) fn of(path: &'p str) -> Option<Route<'p>> {
        let path = path.strip_suffix('/').unwrap_or(path);
        let route = |model, operation, spelling| {
            Some(Route {
                model,
                operation,
                spelling,
                later: false,
            })
        };
        if path == PRECISE_EDIT {
            return route(PRECISE_EDITOR, Operation::Edit, Spelling::Newer);
        }
        if let Some(model) = path.strip_prefix(NEWER) {
            let one = !model.is_empty() && !model.contains('/');
            return route(model, Operation::Generate, Spelling::Newer).filter(|_| one);
        }
        if path == V4 || path == V4_LATER {
            return Some(Route {
                later: path == V4_LATER,
                ..route(FOUR, Operation::Generate, Spelling::Four)?
            });
        }
        match path.strip_prefix(V3)? {
            "generate" => route(THREE, Operation::Generate, Spelling::Three),
            "generate-transparent" => route(TRANSPARENT, Operation::Generate, Spelling::Three),
            "remix" | "edit" | "inpaint" | "reframe" | "replace-background" => {
                route(THREE, Operation::Edit, Spelling::Three)
            }
            _ => None,
        }
    }

    /// Whether a request for `model` may take this route.
    fn leads_to(&self, model: &str) -> bool {
        self.model == model || (self.model == THREE && model == CHARACTER)
    }
}

/// The route that a request takes when nobody says another.
pub(super) fn usual(model: &str, operation: Operation) -> String {
    match model {
        PRECISE_EDITOR => PRECISE_EDIT.to_owned(),
        CHARACTER => format!("{V3}generate"),
        TRANSPARENT => format!("{V3}generate-transparent"),
        THREE if operation == Operation::Edit => format!("{V3}remix"),
        THREE => format!("{V3}generate"),
        model => format!("{NEWER}{model}"),
    }
}

/// Whether a model is on the routes that this dialect speaks: 3.0 and what came after it.
pub(super) fn draws(model: &str) -> bool {
    let version = model.strip_prefix("ideogram-").unwrap_or_default();
    let recent = version.starts_with(|digit: char| digit.is_ascii_digit() && digit >= '3');
    recent || model.starts_with("p-image-")
}

/// Where a request goes: on the app's own route where that still says what is wanted.
pub(super) fn target(request: &ImageRequest) -> PathAndQuery {
    let model = request.model.model();
    let taken = request.extra.get(TAKEN).and_then(Value::as_str);
    let taken: Option<PathAndQuery> = taken.and_then(|taken| taken.parse().ok());
    let kept = taken.filter(|taken| {
        Route::of(taken.path()).is_some_and(|route| {
            // 4.0 on its own routes is told pixels alone.
            let shaped = matches!(request.size, Size::Aspect { .. });
            route.leads_to(model) && !(route.spelling == Spelling::Four && shaped)
        })
    });
    kept.unwrap_or_else(|| {
        let usual = usual(model, request.operation);
        let root = PathAndQuery::from_static("/");
        usual.parse().unwrap_or(root)
    })
}

/// Where a free quote for a request is asked; `None` where its model is on none of the routes that
/// give one.
pub(super) fn quoted(model: &str) -> Option<String> {
    let drawn_elsewhere = [PRECISE_EDITOR, CHARACTER, TRANSPARENT];
    (!drawn_elsewhere.contains(&model)).then(|| format!("{NEWER}{model}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_leads_to_a_model_and_back() {
        let models = [
            "ideogram-4-5",
            "ideogram-4-6",
            "ideogram-4",
            "p-image-ideogram",
            "ideogram-3",
            "ideogram-3-character",
            "ideogram-3-transparent",
            "ideogram-4-5-precise-edit",
        ];
        for model in models {
            let path = usual(model, Operation::Generate);
            let route = Route::of(&path).unwrap();
            assert!(route.leads_to(model), "{path}");
            assert!(draws(model), "{model}");
        }
        for other in ["ideogram-2a", "ideogram-1", "upscale", "describe", "op:svg"] {
            assert!(!draws(other), "{other}");
        }
        let edit = usual(THREE, Operation::Edit);
        assert_eq!(Route::of(&edit).unwrap().operation, Operation::Edit);
        for path in [
            "/v2/image/generate/",
            "/v2/image/generate/a/b",
            "/v2/image/remove-background/ideogram-1",
            "/v2/design/layerize/ideogram-3",
            "/v1/ideogram-v3/upscale",
            "/v1/ideogram-v5/generate",
            "/generate",
            "/v1/generations/x",
        ] {
            assert_eq!(Route::of(path), None, "{path}");
        }
    }
}
