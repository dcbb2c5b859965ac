//! Reads the request that an app would send out of a file: a whole HTTP message, or a body alone.
//!
//! A body alone does not say where it goes. Its model names the provider, else every dialect is
//! tried, each with the paths it would send to itself; the reading that leaves least unexplained
//! is taken.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use crate::config::{Problem, Settings};
use crate::dialect::{self, Dialect};
use crate::image::{Format, ImageRequest, Input, InputRole, InputSource, ModelId, Operation};
use crate::price::Book;
use crate::wire::{RequestHead, multipart};

/// What is known of a request besides its bytes.
#[derive(Debug)]
pub(super) struct Told<'a> {
    /// A URL or a path.
    pub(super) url: Option<&'a str>,
    pub(super) dialect: Option<&'a str>,
    /// For bodies whose model stands in the path.
    pub(super) model: Option<ModelId>,
}

/// Reads a request, and which other model is paid for with it.
///
/// # Errors
/// Why it is none, and what would help.
pub(super) fn read(
    bytes: &[u8],
    told: &Told<'_>,
    settings: &Settings,
    book: &Book,
) -> Result<(ImageRequest, Option<String>), Problem> {
    let mut sent = Sent::of(bytes);
    if let Some(url) = told.url {
        sent.address(url)?;
    }
    let dialects = dialects(told, &sent, settings)?;
    let guess = Guess {
        sent: &sent,
        settings,
        book,
        model: sent
            .model()
            .or_else(|| told.model.as_ref().map(|id| id.model().to_owned())),
    };
    let mut readings: Vec<Reading> = Vec::new();
    let mut why = None;
    for dialect in dialects {
        for reading in guess.with(dialect) {
            match reading {
                Ok(reading) => readings.push(reading),
                // A reading that lacks nothing but a name came nearest.
                Err(problem) if problem.code == NO_MODEL => why = Some(problem),
                Err(problem) => {
                    why.get_or_insert(problem);
                }
            }
        }
    }
    let best = readings.into_iter().min_by_key(Reading::unexplained);
    let whole = |reading: Reading| (reading.request, reading.beside);
    best.map(whole).ok_or_else(|| {
        why.unwrap_or_else(|| unclear("no dialect of this release knows such a request"))
    })
}

const NO_MODEL: &str = "no_model";
/// Stands where a path wants a model and nobody has named one.
const UNNAMED: &str = "unnamed";

fn nameless(dialect: &dyn Dialect) -> Problem {
    let message = format!(
        "as {}: the model stands in the path, not in the body",
        dialect.name()
    );
    Problem::anywhere(NO_MODEL, message).remedy(
        "name the model beside the file, like `pixtoll price --like FILE gemini-2.5-flash-image`, or its URL with --url",
    )
}

fn unclear(message: impl Into<String>) -> Problem {
    let names: Vec<&str> = dialect::ALL.iter().map(|dialect| dialect.name()).collect();
    Problem::anywhere("unreadable", message).remedy(format!(
        "say where the app sends it (--url https://api.openai.com/v1/images/generations), or which of {} it is (--dialect)",
        names.join(", ")
    ))
}

/// What may be meant: the dialect that was named, that of the host, else all.
fn dialects(
    told: &Told<'_>,
    sent: &Sent,
    settings: &Settings,
) -> Result<Vec<&'static dyn Dialect>, Problem> {
    if let Some(name) = told.dialect {
        return match dialect::by_name(name) {
            Some(dialect) => Ok(vec![dialect]),
            None => Err(unclear(format!("`{name}` is no dialect of this release"))),
        };
    }
    let of_host: Vec<_> = settings
        .provider_of_host(&sent.host)
        .into_iter()
        .flat_map(|provider| &provider.dialects)
        .filter_map(|name| dialect::by_name(name))
        .collect();
    Ok(if of_host.is_empty() {
        dialect::ALL.to_vec()
    } else {
        of_host
    })
}

/// A request as it was read.
struct Reading {
    request: ImageRequest,
    /// The other model that is paid for with it.
    beside: Option<String>,
}

impl Reading {
    /// Fields that nobody understood, and whether pictures came where none are wanted.
    fn unexplained(&self) -> (usize, bool) {
        let request = &self.request;
        let odd = request.operation == Operation::Generate && !request.inputs.is_empty();
        (super::own_fields(request).count(), odd)
    }
}

struct Guess<'a> {
    sent: &'a Sent,
    settings: &'a Settings,
    book: &'a Book,
    /// As the body has it.
    model: Option<String>,
}

impl Guess<'_> {
    /// Every reading in this dialect.
    fn with(&self, dialect: &'static dyn Dialect) -> Vec<Result<Reading, Problem>> {
        let provider = self.provider(dialect);
        let read = |operation, target: PathAndQuery| {
            let head = self.sent.head(target);
            let operation = dialect.claims(&head).unwrap_or(operation);
            let read = dialect
                .read_request(&provider, operation, &head, &self.sent.body)
                .map_err(|why| unclear(format!("as {}: {why}", dialect.name())))?;
            match read.model.model() {
                "" | UNNAMED => Err(nameless(dialect)),
                _ => Ok(Reading {
                    beside: dialect.paid_beside(&read),
                    request: read,
                }),
            }
        };
        if let Some(target) = self.sent.target_without(&provider) {
            let claimed = dialect.claims(&self.sent.head(target.clone()));
            return claimed
                .into_iter()
                .map(|operation| read(operation, target.clone()))
                .collect();
        }
        Operation::ALL
            .iter()
            .filter_map(|&operation| {
                Some(read(operation, self.path(dialect, &provider, operation)?))
            })
            .collect()
    }

    /// Whose model it is: the host's, the path's, the book's, else whoever speaks the dialect.
    fn provider(&self, dialect: &dyn Dialect) -> String {
        let speaks = |name: &str| {
            let provider = self.settings.provider(name);
            provider.is_some_and(|provider| provider.dialects.contains(&dialect.name()))
        };
        let of_host = self.settings.provider_of_host(&self.sent.host);
        let of_path = || self.sent.first_segment().filter(|name| speaks(name));
        // OpenAI's dialect is spoken by many, and first by whoever it is named after.
        let by_dialect = || {
            let mut all = self
                .settings
                .providers
                .iter()
                .map(|known| known.name.as_str());
            Some(dialect.name())
                .filter(|name| speaks(name))
                .or_else(|| all.find(|name| speaks(name)))
        };
        let of_book = || {
            let row = self.book.find(self.model.as_deref()?).ok()?;
            Some(row.id.provider()).filter(|name| speaks(name))
        };
        of_host
            .map(|provider| provider.name.as_str())
            .or_else(of_path)
            .or_else(of_book)
            .or_else(by_dialect)
            .unwrap_or(dialect.name())
            .to_owned()
    }

    /// Where this dialect would send such a request.
    fn path(
        &self,
        dialect: &dyn Dialect,
        provider: &str,
        operation: Operation,
    ) -> Option<PathAndQuery> {
        let model = ModelId::new(provider, self.model.as_deref().unwrap_or(UNNAMED));
        let mut request = ImageRequest::new(model, "any");
        request.operation = operation;
        if operation != Operation::Generate {
            request.inputs.push(Input {
                role: InputRole::Image,
                source: InputSource::Bytes(Bytes::from_static(b"any")),
                name: None,
                format: Format::Png,
            });
        }
        match dialect.write_request(&request) {
            Ok(message) => Some(message.target),
            Err(_) => dialect.usual_path()?.parse().ok(),
        }
    }
}

/// The bytes of a file, taken apart.
#[derive(Debug)]
struct Sent {
    host: String,
    target: Option<PathAndQuery>,
    headers: HeaderMap,
    body: Bytes,
}

impl Sent {
    fn of(bytes: &[u8]) -> Sent {
        let mut sent = whole(bytes).unwrap_or_else(|| Sent {
            host: String::new(),
            target: None,
            headers: HeaderMap::new(),
            body: Bytes::copy_from_slice(bytes.trim_ascii_start()),
        });
        if !sent.headers.contains_key(CONTENT_TYPE)
            && let Ok(kind) = HeaderValue::from_str(&content_type(&sent.body))
        {
            sent.headers.insert(CONTENT_TYPE, kind);
        }
        sent
    }

    /// Where it goes, as the command line says.
    fn address(&mut self, url: &str) -> Result<(), Problem> {
        let bare = url.split_once("://").map(|(_, rest)| rest);
        let (host, path) = match bare {
            Some(rest) => rest.split_at(rest.find('/').unwrap_or(rest.len())),
            None => ("", url),
        };
        let path = if path.is_empty() { "/" } else { path };
        let target = path.parse().ok().filter(|_| path.starts_with('/'));
        self.target = Some(target.ok_or_else(|| {
            Problem::anywhere("usage", format!("--url {url}: neither a URL nor a path"))
                .remedy("write it like https://api.openai.com/v1/images/generations")
        })?);
        self.host = host_name(host);
        Ok(())
    }

    fn head(&self, target: PathAndQuery) -> RequestHead {
        RequestHead {
            method: Method::POST,
            host: self.host.clone(),
            target,
            headers: self.headers.clone(),
        }
    }

    fn first_segment(&self) -> Option<&str> {
        self.target.as_ref()?.path().split('/').nth(1)
    }

    /// The target without the provider's name, which a base URL of ours begins with.
    fn target_without(&self, provider: &str) -> Option<PathAndQuery> {
        let target = self.target.as_ref()?;
        let own = target
            .as_str()
            .strip_prefix('/')
            .and_then(|rest| rest.strip_prefix(provider));
        let rest = own.filter(|rest| rest.starts_with('/'));
        Some(
            rest.and_then(|rest| rest.parse().ok())
                .unwrap_or_else(|| target.clone()),
        )
    }

    /// The model that the body names.
    fn model(&self) -> Option<String> {
        let kind = self.headers.get(CONTENT_TYPE)?.to_str().ok()?;
        if kind.starts_with("multipart/") {
            let parts = multipart::read(kind, &self.body).ok()?;
            let part = parts.iter().find(|part| part.name == "model")?;
            return part.as_text().map(str::to_owned);
        }
        let value: serde_json::Value = serde_json::from_slice(&self.body).ok()?;
        value.get("model")?.as_str().map(str::to_owned)
    }
}

/// A whole HTTP/1.1 message; `None` where the bytes begin as none.
fn whole(bytes: &[u8]) -> Option<Sent> {
    let end = memchr::memmem::find(bytes, b"\r\n\r\n").map(|at| (at, at + 4));
    let bare = memchr::memmem::find(bytes, b"\n\n").map(|at| (at, at + 2));
    // Files that a person wrote have bare line ends.
    let (end, begins) = [end, bare].into_iter().flatten().min()?;
    let mut lines = std::str::from_utf8(&bytes[..end]).ok()?.lines();
    let mut first = lines.next()?.split(' ');
    let (_, target, version) = (first.next()?, first.next()?, first.next()?);
    if !version.starts_with("HTTP/") {
        return None;
    }
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(':')?;
        let name = HeaderName::try_from(name.trim()).ok()?;
        headers.append(name, HeaderValue::from_str(value.trim()).ok()?);
    }
    let host = headers.get("host").and_then(|host| host.to_str().ok());
    let mut sent = Sent {
        host: host_name(host.unwrap_or_default()),
        target: None,
        headers,
        body: Bytes::copy_from_slice(&bytes[begins..]),
    };
    if target.contains("://") {
        sent.address(target).ok()?;
    } else {
        sent.target = target.parse().ok();
    }
    Some(sent)
}

/// Without port, lower case.
fn host_name(authority: &str) -> String {
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    let host = host.split_once(':').map_or(host, |(host, _)| host);
    host.to_ascii_lowercase()
}

/// What a body without a head looks like.
fn content_type(body: &[u8]) -> String {
    let first = body.split(|byte| matches!(byte, b'\r' | b'\n')).next();
    let boundary = first
        .and_then(|line| std::str::from_utf8(line).ok())
        .and_then(|line| line.strip_prefix("--"));
    match boundary.filter(|boundary| !boundary.is_empty()) {
        Some(boundary) => format!("multipart/form-data; boundary=\"{boundary}\""),
        None => "application/json".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told<'a>(url: Option<&'a str>, dialect: Option<&'a str>) -> Told<'a> {
        Told {
            url,
            dialect,
            model: None,
        }
    }

    fn like(text: &str, told: &Told) -> Result<ImageRequest, Problem> {
        let settings = Settings::defaults("/nowhere".into());
        read(text.as_bytes(), told, &settings, Book::embedded()).map(|(request, _)| request)
    }

    fn form(fields: &[(&str, &str)]) -> String {
        let part = |(name, value): &(&str, &str)| {
            let file = if *name == "image" {
                "; filename=\"a.png\"\r\nContent-Type: image/png"
            } else {
                ""
            };
            format!(
                "--xyz\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n\r\n{value}\r\n"
            )
        };
        let parts: String = fields.iter().map(part).collect();
        format!("{parts}--xyz--\r\n")
    }

    const BODY: &str = r#"{"model": "gpt-image-2", "prompt": "a fox", "n": 2, "quality": "low"}"#;

    #[test]
    fn a_body_alone_is_known_by_its_model_and_its_fields() {
        let read = like(BODY, &told(None, None)).unwrap();
        assert_eq!((read.model.as_str(), read.n), ("openai/gpt-image-2", 2));
        assert_eq!(read.operation, Operation::Generate);
        assert!(read.extra.is_empty());

        let edit = r#"{"model": "gpt-image-2", "prompt": "a fox", "images": [{"file_id": "f"}]}"#;
        let read = like(edit, &told(None, None)).unwrap();
        assert_eq!((read.operation, read.inputs.len()), (Operation::Edit, 1));

        let edit = form(&[
            ("model", "gpt-image-1.5"),
            ("prompt", "a fox"),
            ("image", "png"),
        ]);
        let read = like(&edit, &told(None, None)).unwrap();
        assert_eq!(read.operation, Operation::Edit);
        assert_eq!(read.model.as_str(), "openai/gpt-image-1.5");

        let sd = form(&[
            ("model", "sd3.5-medium"),
            ("prompt", "a fox"),
            ("aspect_ratio", "16:9"),
        ]);
        let read = like(&sd, &told(None, None)).unwrap();
        assert_eq!(read.model.as_str(), "stability/sd3.5-medium");
        assert_eq!(read.size.to_string(), "16:9");
    }

    #[test]
    fn a_forced_picture_says_which_text_model_is_paid_for_with_it() {
        let forced = r#"{"model": "gpt-5.2", "input": "a fox", "tools": [{"type": "image_generation", "model": "gpt-image-2"}], "tool_choice": {"type": "image_generation"}}"#;
        let settings = Settings::defaults("/nowhere".into());
        let book = Book::embedded();
        let (request, beside) =
            read(forced.as_bytes(), &told(None, None), &settings, book).unwrap();
        assert_eq!(request.model.as_str(), "openai/gpt-image-2");
        assert_eq!(beside.as_deref(), Some("gpt-5.2"));
        let (_, beside) = read(BODY.as_bytes(), &told(None, None), &settings, book).unwrap();
        assert_eq!(beside, None);
    }

    #[test]
    fn a_whole_message_says_where_it_goes() {
        let message = format!(
            "POST /v1/images/generations HTTP/1.1\r\nHost: api.openai.com\r\nContent-Type: application/json\r\n\r\n{BODY}"
        );
        let read = like(&message, &told(None, None)).unwrap();
        assert_eq!((read.model.as_str(), read.n), ("openai/gpt-image-2", 2));
    }

    /// Every request of the dialects' own examples, with what it must be read as.
    fn examples() -> Vec<(Vec<u8>, serde_json::Value)> {
        let folder = |path: &std::path::Path| -> Vec<std::path::PathBuf> {
            let entries = std::fs::read_dir(path).unwrap();
            let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
            paths.retain(|path| path.is_dir());
            paths.sort();
            paths
        };
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/dialect");
        let cases = folder(&root)
            .into_iter()
            .flat_map(|dialect| folder(&dialect));
        cases
            .filter_map(|case| {
                let request = std::fs::read(case.join("request.http")).ok()?;
                let expected = std::fs::read_to_string(case.join("expect.json")).unwrap();
                let mut expected: serde_json::Value = serde_json::from_str(&expected).unwrap();
                Some((request, expected["request"].take()))
            })
            .filter(|(_, expected)| expected.is_object())
            .collect()
    }

    #[test]
    fn every_recorded_message_is_read_as_what_it_is() {
        let mut settings = Settings::defaults("/nowhere".into());
        // Of Azure every customer has a host of their own.
        let mut azure = settings.providers.get("azure").unwrap().clone();
        azure.hosts.push("contoso-img.openai.azure.com".to_owned());
        settings.providers.put(azure);
        let examples = examples();
        assert!(examples.len() > 50);
        for (request, expected) in examples {
            let (read, _) = read(&request, &told(None, None), &settings, Book::embedded()).unwrap();
            assert_eq!(read.model.as_str(), expected["model"]);
            assert_eq!(read.operation.as_str(), expected["operation"]);
            assert_eq!(read.n, expected["n"]);
        }
    }

    #[test]
    fn a_body_whose_model_stands_in_the_path_needs_it_named() {
        let settings = Settings::defaults("/nowhere".into());
        let body = br#"{"contents": [{"parts": [{"text": "a fox"}]}]}"#;
        let named = |model: Option<&str>| {
            let told = Told {
                model: model.map(|model| ModelId::new("google", model)),
                ..told(None, None)
            };
            read(body, &told, &settings, Book::embedded()).map(|(request, _)| request)
        };
        let read = named(Some("gemini-2.5-flash-image")).unwrap();
        assert_eq!(read.model.as_str(), "google/gemini-2.5-flash-image");
        assert_eq!(read.prompt, "a fox");
        let why = named(None).unwrap_err().to_string();
        assert!(why.contains("name the model"), "{why}");
    }

    #[test]
    fn a_url_names_provider_and_route() {
        let core = form(&[("prompt", "a fox")]);
        for url in [
            "https://api.stability.ai/v2beta/stable-image/generate/core",
            "/v2beta/stable-image/generate/core",
            "http://127.0.0.1:8484/stability/v2beta/stable-image/generate/core",
        ] {
            let read = like(&core, &told(Some(url), None)).unwrap();
            assert_eq!(read.model.as_str(), "stability/stable-image-core", "{url}");
        }
    }

    #[test]
    fn what_cannot_be_read_says_what_would_help() {
        let check = |text: &str, told: Told, says: &str| {
            let problem = like(text, &told).unwrap_err().to_string();
            assert!(problem.contains(says), "{problem}");
        };
        check("{\"model\": 5}", told(None, Some("openai")), "as openai: ");
        check("not json", told(None, None), "--dialect");
        check(BODY, told(None, Some("klingon")), "`klingon` is no dialect");
        check(
            BODY,
            told(Some("nowhere"), None),
            "neither a URL nor a path",
        );
        check(
            BODY,
            told(Some("/v9/else"), None),
            "no dialect of this release",
        );
    }
}
