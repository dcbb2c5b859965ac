//! What pixtoll's own thinking costs a call, without sockets: recognise, read, quote, one hook, key.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use http::{HeaderMap, Method};
use pixtoll::action::{CallView, Headers, Via, World};
use pixtoll::bill::Quote;
use pixtoll::cache::{Around, Key, Partition};
use pixtoll::dialect;
use pixtoll::image::{ImageRequest, ModelId, Operation};
use pixtoll::money::Usd;
use pixtoll::plugin::{Entry, PluginSource, Plugins, Prices, Search, Successor};
use pixtoll::price::Book;
use pixtoll::wire::RequestHead;

/// As the program has it: half of what a hook takes would be the system's allocator.
#[global_allocator]
static ALLOCATOR: snmalloc_rs::SnMalloc = snmalloc_rs::SnMalloc;

struct FromBook;

impl Prices for FromBook {
    fn quote(&self, request: &ImageRequest) -> Option<Quote> {
        Book::embedded().quote(request)
    }
    fn supports(&self, _: &ModelId, _: &ImageRequest, _: jiff::Timestamp) -> Result<(), String> {
        Ok(())
    }
    fn cheapest(&self, _: &ImageRequest, _: &Search<'_>) -> Option<(ModelId, Quote)> {
        None
    }
    fn successor(&self, _: &ModelId, _: jiff::Timestamp) -> Option<Successor> {
        None
    }
    fn knows(&self, model: &ModelId) -> bool {
        Book::embedded().model(model).is_some()
    }
}

/// A request of about a kilobyte.
fn message() -> (RequestHead, bytes::Bytes) {
    let prompt = "a brass compass on a linen cloth, morning light, ".repeat(18);
    let body = serde_json::json!({"model": "gpt-image-2", "prompt": prompt, "size": "1024x1024", "quality": "medium"});
    let head = RequestHead {
        method: Method::POST,
        host: "api.openai.com".to_owned(),
        target: "/v1/images/generations".parse().expect("a path"),
        headers: HeaderMap::from_iter([(
            http::header::CONTENT_TYPE,
            "application/json".parse().expect("a value"),
        )]),
    };
    (head, body.to_string().into())
}

fn view(
    head: &Arc<RequestHead>,
    request: Arc<ImageRequest>,
    quote: Option<Arc<Quote>>,
    share_seed: u64,
) -> CallView {
    CallView {
        app: "bench".into(),
        tags: Vec::new(),
        user: None,
        credential: None,
        headers: Headers::of(Arc::clone(head)),
        at: jiff::Timestamp::UNIX_EPOCH,
        deadline: None,
        max_cost: None,
        via: Via::Intercept,
        dialect: "openai",
        sdk_retry: 0,
        asked: Arc::clone(&request),
        asked_quote: quote.clone(),
        asked_pixels: (1024, 1024),
        request,
        quote,
        pixels: (1024, 1024),
        attempts: 0,
        spent: Usd::ZERO,
        share_seed,
        world: Arc::new(World::default()),
    }
}

/// A hook that looks for twenty words in turn, of which the last is there.
fn twenty_rules() -> Plugins {
    let words = [
        "icon", "logo", "glyph", "badge", "avatar", "banner", "hero", "poster", "sketch", "draft",
        "pixel", "sprite", "texture", "pattern", "sticker", "emoji", "cover", "flyer", "mascot",
    ];
    let rule =
        |word: &str| format!("if call:mentions(\"{word}\") then return call:tag(\"{word}\") end\n");
    let rules: String = words
        .iter()
        .chain(&["compass"])
        .map(|word| rule(word))
        .collect();
    let file = std::env::temp_dir().join(format!("pixtoll-bench-{}.lua", std::process::id()));
    let text = format!("return {{ on_request = function(call, options)\n{rules}end }}");
    std::fs::write(&file, text).expect("a temporary file");
    let entry = Entry::new(PluginSource::File(file.clone()));
    let plugins = Plugins::load(&[entry], Arc::new(FromBook), &BTreeMap::new());
    let _ = std::fs::remove_file(file);
    plugins.unwrap_or_default()
}

fn journey(criterion: &mut Criterion) {
    let openai = dialect::by_name("openai").expect("it is shipped");
    let book = Book::embedded();
    let icons = Entry::new(PluginSource::Shipped("icons_to_cheap".to_owned()));
    let plugins = Plugins::load(&[icons], Arc::new(FromBook), &BTreeMap::new()).unwrap_or_default();
    let plugin = plugins.iter().next().expect("one plugin is loaded");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let (head, body) = message();
    let head = Arc::new(head);
    let read = || {
        let operation = openai.claims(&head).unwrap_or(Operation::Generate);
        openai
            .read_request("openai", operation, &head, &body)
            .expect("it is an image call")
    };
    let request = Arc::new(read());
    let around = Around {
        partition: &Partition::Everyone,
        query: None,
        variant: 0,
        inert: openai.inert(),
    };
    let mut group = criterion.benchmark_group("journey");
    group.bench_function("recognise and read", |b| b.iter(|| black_box(read())));
    group.bench_function("quote", |b| b.iter(|| black_box(book.quote(&request))));
    group.bench_function("key", |b| b.iter(|| black_box(Key::of(&request, &around))));
    group.bench_function("one hook", |b| {
        let quote = book.quote(&request).map(Arc::new);
        let view = Arc::new(view(&head, Arc::clone(&request), quote, 1));
        b.iter(|| runtime.block_on(plugin.on_request(Arc::clone(&view))));
    });
    group.bench_function("one hook of twenty string rules", |b| {
        let quote = book.quote(&request).map(Arc::new);
        let view = Arc::new(view(&head, Arc::clone(&request), quote, 1));
        let twenty = twenty_rules();
        let plugin = twenty.iter().next().expect("one plugin is loaded");
        let asked = || runtime.block_on(plugin.on_request(Arc::clone(&view)));
        assert_eq!(asked().made.len(), 1, "the last rule speaks");
        b.iter(asked);
    });
    group.bench_function("all of it", |b| {
        b.iter(|| {
            let request = Arc::new(read());
            let quote = book.quote(&request).map(Arc::new);
            let key = Key::of(&request, &around);
            let view = Arc::new(view(&head, request, quote, key.seed()));
            black_box(runtime.block_on(plugin.on_request(view)))
        });
    });
    group.finish();
}

criterion_group!(benches, journey);
criterion_main!(benches);
