//! Server-sent events as they arrive, with the JSON in their `data` read around the pictures.

use memchr::memchr;

use super::json::{Node, NotJson, Scanner};

/// Longest field name, event name or non-JSON data line that is kept.
const SHORT: usize = 256;

/// One finished event.
#[derive(Debug)]
pub struct Event {
    /// Empty when the event has no name.
    pub name: String,
    /// Its data as JSON; long strings lie in the body at their spans.
    pub data: Result<Node, NotJson>,
    /// The data was `[DONE]`, with which some providers end a stream.
    pub done: bool,
}

/// An incremental reader of a `text/event-stream` body.
#[derive(Debug, Default)]
pub struct Stream {
    offset: usize,
    line: Line,
    name: String,
    data: Option<Scanner>,
    /// The first error in this event's data.
    broken: Option<NotJson>,
    /// The first bytes of the data, to know `[DONE]` by.
    start: Vec<u8>,
}

#[derive(Debug)]
enum Line {
    /// Collecting the field's name.
    Field(Vec<u8>),
    /// Within the value of a field we do not read.
    Skip,
    Name(Vec<u8>),
    Data {
        first: bool,
    },
}

impl Default for Line {
    fn default() -> Line {
        Line::Field(Vec::new())
    }
}

impl Stream {
    pub fn new() -> Stream {
        Stream::default()
    }

    /// Reads on, and returns the events that this chunk finished.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Vec<Event> {
        let mut events = Vec::new();
        while !bytes.is_empty() {
            let end = memchr(b'\n', bytes);
            let part = &bytes[..end.unwrap_or(bytes.len())];
            self.part(part);
            self.offset += part.len();
            if end.is_some() {
                events.extend(self.end_line());
                self.offset += 1;
            }
            bytes = &bytes[part.len() + usize::from(end.is_some())..];
        }
        events
    }

    /// The key under which a long string is being read right now, with the event's name.
    pub fn in_long(&self) -> Option<(&str, &str)> {
        Some((&self.name, self.data.as_ref()?.in_long()?))
    }

    /// The event that the end of the stream cut off, if it was whole but for its blank line.
    pub fn finish(mut self) -> Option<Event> {
        self.end_line();
        self.dispatch()
    }

    fn part(&mut self, part: &[u8]) {
        if let Line::Field(field) = &mut self.line {
            match memchr(b':', part) {
                None => {
                    field.extend_from_slice(&part[..part.len().min(SHORT)]);
                    if field.len() > SHORT {
                        self.line = Line::Skip;
                    }
                }
                Some(colon) => {
                    field.extend_from_slice(&part[..colon.min(SHORT)]);
                    self.line = match field.as_slice() {
                        b"data" => Line::Data { first: true },
                        b"event" => Line::Name(Vec::new()),
                        _ => Line::Skip,
                    };
                    self.offset += colon + 1;
                    self.part(&part[colon + 1..]);
                    self.offset -= colon + 1;
                }
            }
            return;
        }
        match &mut self.line {
            Line::Field(_) | Line::Skip => {}
            Line::Name(name) => {
                name.extend_from_slice(&part[..part.len().min(SHORT.saturating_sub(name.len()))])
            }
            Line::Data { first } => {
                let fresh = std::mem::replace(first, part.is_empty() && *first);
                let space = usize::from(fresh && part.first() == Some(&b' '));
                self.data_part(&part[space..], self.offset + space);
            }
        }
    }

    fn data_part(&mut self, part: &[u8], offset: usize) {
        if self.start.len() < 8 {
            self.start.extend_from_slice(&part[..part.len().min(8)]);
        }
        if self.broken.is_none() && !part.is_empty() {
            let scanner = self.data.get_or_insert_with(|| Scanner::new(offset));
            self.broken = scanner.feed_at(part, offset).err();
        }
    }

    fn end_line(&mut self) -> Option<Event> {
        match std::mem::take(&mut self.line) {
            Line::Field(field) if field.is_empty() || field == b"\r" => self.dispatch(),
            Line::Name(name) => {
                self.name = String::from_utf8_lossy(&name).trim().to_owned();
                None
            }
            _ => None,
        }
    }

    fn dispatch(&mut self) -> Option<Event> {
        let name = std::mem::take(&mut self.name);
        let start = std::mem::take(&mut self.start);
        let broken = self.broken.take();
        let scanner = self.data.take()?;
        let data = match broken {
            Some(error) => Err(error),
            None => scanner.finish(),
        };
        Some(Event {
            name,
            data,
            done: start.trim_ascii().starts_with(b"[DONE]"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str, cut: usize) -> Vec<(String, Option<String>, bool)> {
        let mut stream = Stream::new();
        let mut events: Vec<Event> = body
            .as_bytes()
            .chunks(cut)
            .flat_map(|chunk| stream.feed(chunk))
            .collect();
        events.extend(stream.finish());
        let told = |event: Event| {
            let kind = event
                .data
                .ok()
                .and_then(|data| Some(data.get("type")?.text()?.to_owned()));
            (event.name, kind, event.done)
        };
        events.into_iter().map(told).collect()
    }

    #[test]
    fn events_are_the_same_however_the_stream_is_cut() {
        let body = ": hello\n\nevent: a.partial\r\ndata: {\"type\":\"one\",\r\ndata:\"x\":\"y\"}\r\n\r\nid: 7\ndata:{\"type\":\"two\"}\n\ndata: [DONE]\n\nevent: cut\ndata: {\"type\":\"three\"}";
        let expected = vec![
            ("a.partial".to_owned(), Some("one".to_owned()), false),
            (String::new(), Some("two".to_owned()), false),
            (String::new(), None, true),
            ("cut".to_owned(), Some("three".to_owned()), false),
        ];
        for cut in 1..body.len() {
            assert_eq!(read(body, cut), expected, "in pieces of {cut}");
        }
    }

    #[test]
    fn a_picture_is_found_at_its_place_in_the_body() {
        let picture = "B".repeat(9000);
        let body = format!("event: done\ndata: {{\"b64_json\":\"{picture}\"}}\n\n");
        let mut stream = Stream::new();
        assert!(stream.feed(&body.as_bytes()[..7000]).is_empty());
        assert_eq!(stream.in_long(), Some(("done", "b64_json")));
        let events = stream.feed(&body.as_bytes()[7000..]);
        let Ok(Some(&Node::Long(span))) = events[0].data.as_ref().map(|data| data.get("b64_json"))
        else {
            panic!()
        };
        assert_eq!(&body[span.start..span.end], picture);
    }
}
