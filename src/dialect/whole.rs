//! Answers that are one JSON text and say only as a whole what they are: a job, a picture, a
//! failure.

use super::{Next, Progress, Reader, head};
use crate::image::{Billed, Failure, FailureKind, Format, Image, ImageRequest, ModelId, Picture};
use crate::wire::json::{Node, NotJson, Scanner};
use crate::wire::{ReplyHead, Rope};

use super::picture;

/// What is known of an answer before its body.
pub(super) struct Answer {
    pub(super) model: ModelId,
    pub(super) head: ReplyHead,
}

/// What a dialect makes of a text that is whole.
pub(super) type Conclude = fn(Answer, &Node, &Rope) -> Next;
/// What it makes of an error status; there is no node where the body is no JSON.
pub(super) type Refused = fn(&Answer, Option<&Node>, &Rope) -> Failure;

/// A reader for the answer to `request` that begins with `head`.
pub(super) fn reader(
    request: &ImageRequest,
    head: &ReplyHead,
    conclude: Conclude,
    refused: Refused,
) -> Box<dyn Reader> {
    Box::new(WholeReader {
        answer: Answer {
            model: request.model.clone(),
            head: head.clone(),
        },
        scanner: Ok(Scanner::new(0)),
        conclude,
        refused,
    })
}

struct WholeReader {
    answer: Answer,
    scanner: Result<Scanner, NotJson>,
    conclude: Conclude,
    refused: Refused,
}

impl Reader for WholeReader {
    fn feed(&mut self, chunk: &[u8]) -> Progress {
        if let Ok(scanner) = &mut self.scanner
            && let Err(error) = scanner.feed(chunk)
        {
            self.scanner = Err(error);
        }
        if self.scanner.is_ok() && self.answer.head.status.is_success() {
            Progress::Wait
        } else {
            Progress::Failed
        }
    }

    fn finish(self: Box<Self>, body: &Rope) -> Next {
        let node = self.scanner.and_then(Scanner::finish);
        if !self.answer.head.status.is_success() {
            let failure = (self.refused)(&self.answer, node.ok().as_ref(), body);
            return Next::Failed(Box::new(failure));
        }
        match node {
            Ok(node) => (self.conclude)(self.answer, &node, body),
            Err(_) if body.is_empty() => failed(self.answer.no_image()),
            Err(error) => failed(self.answer.spoilt(&format!("is not whole JSON: {error}"))),
        }
    }
}

pub(super) fn failed(failure: Failure) -> Next {
    Next::Failed(Box::new(failure))
}

impl Answer {
    pub(super) fn status(&self) -> u16 {
        self.head.status.as_u16()
    }

    pub(super) fn no_image(&self) -> Failure {
        let message = "the provider answered without a picture";
        Failure::answered(
            FailureKind::NoImage,
            self.status(),
            Billed::Unknown,
            message,
        )
    }

    /// A success that cannot be read: work may have been done, and nobody can tell what it cost.
    pub(super) fn spoilt(&self, why: &str) -> Failure {
        let message = format!("the provider's answer {why}");
        Failure::answered(FailureKind::Server, self.status(), Billed::Unknown, message)
    }

    /// What an error that is no JSON says.
    pub(super) fn unexplained(&self, body: &Rope) -> String {
        head::unexplained(&self.head, body)
    }
}

/// A picture at a URL, or in a data URL, whose format its name may tell.
pub(super) fn at_url(node: &Node, body: &Rope) -> Option<Image> {
    let picture = picture::at_url(node, body)?;
    let named = match &picture {
        Picture::Url(url) => format_of_name(url),
        _ => Format::Unknown,
    };
    picture::image(picture, named)
}

/// The format that the end of a URL's path names.
fn format_of_name(url: &str) -> Format {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    path.rsplit_once('.')
        .map_or(Format::Unknown, |(_, end)| Format::from_media_type(end))
}

/// The text of `detail`, or its list of mistakes with the place of each.
pub(super) fn detail(detail: &Node) -> Option<String> {
    if let Some(text) = detail.text() {
        return Some(text.to_owned());
    }
    let mistakes: Vec<String> = detail.items().iter().filter_map(mistake).collect();
    (!mistakes.is_empty()).then(|| mistakes.join("; "))
}

fn mistake(item: &Node) -> Option<String> {
    let text = item.get("msg")?.text()?;
    let place = item.get("loc").map_or(&[][..], Node::items);
    let steps: Vec<&str> = place
        .iter()
        .filter_map(Node::scalar)
        .skip_while(|step| *step == "body")
        .collect();
    Some(if steps.is_empty() {
        text.to_owned()
    } else {
        format!("{}: {text}", steps.join("."))
    })
}
