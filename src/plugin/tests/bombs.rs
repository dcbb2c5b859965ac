//! Rules that would take the proxy with them. Each ends within its limits, and the next call is
//! served as though nothing had been.

use std::time::{Duration, Instant};

use super::*;
use crate::plugin::meter::thread_cpu;

/// Runs a bomb for a call with a tag and a plain answer for one without.
#[track_caller]
fn explode(bomb: &str) -> (String, Plugins) {
    let plugins = rule(&format!(
        "if not call:tagged(\"bomb\") then return call:tag(\"fine\") end\n{bomb}"
    ));
    let began = Instant::now();
    let outcome = ask(&plugins, call("a cat", &["bomb"]));
    assert!(began.elapsed() < Duration::from_secs(20), "{bomb}");
    assert_eq!(outcome.made, [], "{bomb}");
    let error = outcome
        .error
        .unwrap_or_else(|| panic!("{bomb} went through"));
    let fine = Action::Tag {
        names: vec!["fine".into()],
    };
    assert_eq!(actions(ask(&plugins, call("a cat", &[]))), [fine], "{bomb}");
    (error.message, plugins)
}

#[test]
fn endless_work_is_stopped_whatever_it_catches() {
    for bomb in [
        "while true do end",
        "while true do pcall(error) end",
        "while true do pcall(function() while true do end end) end",
        "pcall(function() while true do end end) return call:tag(\"through\")",
        "local function f() return xpcall(f, f) end while true do f() end",
        "local function f() xpcall(f, f) f() end f() while true do end",
        "local t = setmetatable({}, {}) getmetatable(t).__index = function(t, k) return t[k .. \"x\"] end while true do pcall(function() return t.x end) end",
        "local o = setmetatable({}, { __tostring = function(o) while true do end end }) return tostring(o)",
        "local s = (\"a\"):rep(30000) return s:find((\".-\"):rep(20) .. \"b\")",
        "local s = (\"a\"):rep(50000) return s:match(\".-.-.-.-b\")",
        "for _ in (\"a\"):rep(60000):gmatch(\"(.-)(.-)(.-)b\") do end",
        "while true do local t = table.create(50000, 1) table.sort(t) end",
        "local s = (\"a\"):rep(1000000) while true do s:find(\"aaaaaaaaaaaaaaab\", 1, true) end",
        "while true do coroutine.wrap(function() end) end",
        "local t = setmetatable({}, { __index = function(t, k) return t[k + 1] end }) while true do pcall(function() return t[1] end) end",
        "local t = {} for i = 1, 90000 do t[i] = -i end while true do table.sort(t, function(a, b) return a < b end) end",
        "for i = 1, 1e9 do string.format((\"%s\"):rep(200), table.unpack(table.create(200, \"x\"))) end",
        "local s = (\"a\"):rep(60000) while true do s:upper():reverse():lower() end",
        "local s = (\"a,\"):rep(40000) while true do s:split(\",\") end",
        "local s = (\"a\"):rep(60000) while true do s:byte(1, 5000) utf8.len(s) end",
        "local t = table.create(90000, 1) while true do table.clone(t) table.move(t, 1, 90000, 2) end",
        "local o = setmetatable({}, { __eq = function() while true do end end }) return o == setmetatable({}, getmetatable(o))",
        "local o = setmetatable({}, { __call = function(o) return o() end }) while true do pcall(o) end",
        "return call:tag(call.request.prompt:gsub(\".\", function() while true do end end))",
    ] {
        let (message, _) = explode(bomb);
        // Whether time or memory is gone first is for the collector to say.
        let known = ["50 ms of CPU", "too many coroutines", "16 MiB of memory"];
        assert!(
            known.iter().any(|words| message.contains(words)),
            "{bomb}: {message}"
        );
    }
}

#[test]
fn a_runaway_uses_no_more_than_its_cpu_time() {
    let plugins = rule("while true do end");
    let script = &only(&plugins).script;
    let subject = crate::plugin::Subject::Request(Arc::new(call("a cat", &[])));
    for limit in [
        crate::plugin::meter::IN_PLACE,
        crate::plugin::meter::ON_THREADS,
    ] {
        let began = thread_cpu();
        let end = script.run(&subject, limit);
        let used = thread_cpu() - began;
        assert!(matches!(end, crate::plugin::engine::End::Slow(Some(_))));
        // The second run also makes itself a VM.
        assert!(
            used < limit * 2 + Duration::from_millis(100),
            "{used:?} of {limit:?}"
        );
    }
}

#[test]
fn memory_has_an_end() {
    for bomb in [
        "local t = {} for i = 1, 1e9 do t[i] = i end",
        "local t = {} while true do t[#t + 1] = (\"a\"):rep(100000) .. #t end",
        "local s = \"a\" while true do s = s .. s end",
        "local t = {} while true do t = { t, {}, {}, {} } end",
        "local t = {} while true do pcall(function() t[#t + 1] = (\"a\"):rep(1000000) .. #t end) end",
        "error((\"a\"):rep(1000000):rep(1))",
    ] {
        explode(bomb);
    }
}

#[test]
fn library_functions_that_nothing_interrupts_are_bounded() {
    for (bomb, words) in [
        (
            "return (\"a\"):rep(1e9)",
            "string.rep: more than 1048576 bytes",
        ),
        ("return (\"\"):rep(2e9)", "string.rep"),
        ("return (5):rep(2e9)", "index"),
        ("return string.rep(5, \"2e9\")", "string.rep"),
        (
            "return table.create(1e8)",
            "table.create: more than 100000 items",
        ),
        ("return table.move({}, 1, 2^31 - 1, 2)", "table.move"),
        ("return table.concat({}, \"\", 1, 2^31 - 1)", "table.concat"),
        (
            "return (\"a\"):rep(100000):find(\"a-b\")",
            "string.find: the text has 100000 bytes",
        ),
        (
            "return (\"a\"):rep(100000):gsub(\"a\", \"b\")",
            "string.gsub",
        ),
        (
            "return (\"a\"):rep(5000):find((\"a\"):rep(2000) .. \"b\")",
            "string.find: the pattern has 2001 bytes",
        ),
        ("return table.unpack({}, 1, 1e8)", "too many results"),
        (
            "local function f() return f() + 1 end return f()",
            "stack overflow",
        ),
        (
            "local t = {} for i = 1, 65 do t[i] = coroutine.create(print) end",
            "too many coroutines",
        ),
        (
            "local function nest(n) return coroutine.wrap(function() return nest(n + 1) end)() end return nest(1)",
            "too many coroutines",
        ),
        ("coroutine.yield()", "yield"),
        (
            "local t = {} for i = 1, 200 do local up = t t = coroutine.wrap(function() return up end) end",
            "too many coroutines",
        ),
        (
            "return (\"a\"):rep(1e4):find((\"a\"):rep(5e3) .. \"b\", 1, true) == nil and (\"x\"):rep(2^30)",
            "string.rep",
        ),
        (
            "local t = {} table.sort(table.create(1e6, 1))",
            "table.create",
        ),
    ] {
        let (message, plugins) = explode(bomb);
        assert!(message.contains(words), "{bomb}: {message}");
        assert!(
            !only(&plugins).is_slow() || message.contains("stack overflow"),
            "{bomb}"
        );
    }
}

/// What a hook takes while others run wild is a matter of the VM threads, not of its own thread.
#[test]
fn other_traffic_is_not_slower_at_the_end_of_its_distribution() {
    let bomb = rule("while true do end");
    let plain = rule("return call:mentions(options.word) and call:tag(\"icon\")");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap();
    let slowest = |samples: usize| {
        let mut took: Vec<Duration> = (0..samples)
            .map(|_| {
                let began = thread_cpu();
                block_on(only(&plain).on_request(Arc::new(call("an icon", &[]))));
                thread_cpu() - began
            })
            .collect();
        took.sort_unstable();
        took[samples * 99 / 100]
    };
    slowest(200);
    let quiet = slowest(500);
    let bomb = Arc::new(bomb);
    // From the second on the runaway is on the VM threads, all of which it keeps busy.
    let run = |bomb: Arc<Plugins>| async move {
        only(&bomb).on_request(Arc::new(call("a cat", &[]))).await
    };
    runtime.block_on(run(Arc::clone(&bomb)));
    let running: Vec<_> = (0..16)
        .map(|_| runtime.spawn(run(Arc::clone(&bomb))))
        .collect();
    let busy = slowest(500);
    for one in running {
        let outcome = runtime.block_on(one).unwrap();
        assert!(outcome.error.is_some());
    }
    assert!(
        busy < quiet * 20 + Duration::from_micros(200),
        "{busy:?} beside runaways, {quiet:?} without"
    );
}

#[test]
fn a_source_of_a_mebibyte_is_not_even_compiled() {
    let source = format!("return {}1{}", "(".repeat(1 << 19), ")".repeat(1 << 19));
    let problems = load_with(&source, Value::Null).err().unwrap();
    assert!(
        all(&problems).contains("262144 is the most"),
        "{}",
        all(&problems)
    );
}

#[test]
fn a_large_plain_search_is_linear() {
    let plugins = rule(
        "local s = (\"a\"):rep(1000000)
         local from, to = s:find((\"a\"):rep(500000) .. \"b\", 1, true)
         local hit, last = (s .. \"xyz\"):find(\"xyz\", -3, true)
         return call:tag(tostring(from), tostring(hit), tostring(last))",
    );
    let names = vec!["nil".into(), "1000001".into(), "1000003".into()];
    assert_eq!(
        actions(ask(&plugins, call("a cat", &[]))),
        [Action::Tag { names }]
    );
}

#[test]
fn a_slow_hook_moves_to_the_vm_threads_and_acts_once() {
    let plugins = rule(
        "local sum = 0 for i = 1, 100000 do sum += i % 7 end
         return call:tag(\"slow\")",
    );
    let slow = Action::Tag {
        names: vec!["slow".into()],
    };
    assert!(!only(&plugins).is_slow());
    assert_eq!(
        actions(ask(&plugins, call("a cat", &[]))),
        std::slice::from_ref(&slow)
    );
    assert!(only(&plugins).is_slow());
    assert_eq!(actions(ask(&plugins, call("a cat", &[]))), [slow]);
}

#[test]
fn a_runaway_does_not_hold_up_other_hooks() {
    let plugins = rule(
        "if call:tagged(\"bomb\") then while true do end end
         return call:tag(\"fine\")",
    );
    let plugin = only(&plugins);
    let runs = (0..12).map(|i| {
        let tags: &[&str] = if i % 2 == 0 { &["bomb"] } else { &[] };
        plugin.on_request(Arc::new(call("a cat", tags)))
    });
    let outcomes = block_on(futures_util::future::join_all(runs));
    for (i, outcome) in outcomes.iter().enumerate() {
        assert_eq!(outcome.error.is_some(), i % 2 == 0, "{i}: {outcome:?}");
        assert_eq!(outcome.made.is_empty(), i % 2 == 0, "{i}");
    }
}
