//! Files that do not load say where and why; files that do are what was digested.

use super::*;

#[track_caller]
fn refused(source: &str, options: Value) -> LoadProblem {
    let mut problems = load_with(source, options).expect_err("should not load");
    assert_eq!(problems.len(), 1, "{}", all(&problems));
    problems.remove(0)
}

#[test]
fn mistakes_in_a_file_have_a_line_and_a_remedy() {
    for (source, line, column, words) in [
        (
            "return {\n  on_request = function(call\n}",
            Some(3),
            None,
            "Expected ')'",
        ),
        ("local a = 1\nerror(\"mine\")", Some(2), None, "mine"),
        (
            "return 5",
            None,
            None,
            "returns number, not a table of hooks",
        ),
        (
            "return {}",
            None,
            None,
            "has no hook: there are on_request, on_budget, on_failure, on_response, on_decision",
        ),
        (
            "return {\n  on_reqest = function() end }",
            Some(2),
            Some(3),
            "did you mean `on_request`?",
        ),
        (
            "return { on_request = 5 }",
            Some(1),
            Some(10),
            "`on_request` must be a function, it is a number",
        ),
        (
            "return { options = 5, on_request = print }",
            Some(1),
            Some(10),
            "`options` must be a table",
        ),
        (
            "return {\n on_request = print,\n on_response = true }",
            Some(3),
            Some(2),
            "`on_response` must be a function, it is a boolean",
        ),
        (
            "return { on_request = print, holds = true }",
            Some(1),
            Some(30),
            "`holds` is about on_response, and there is none",
        ),
        (
            "return { on_response = print, holds = 1 }",
            Some(1),
            Some(31),
            "`holds` must be a boolean, it is a number",
        ),
        (
            "return {\n on_request = function(call, failure, options) end }",
            Some(2),
            Some(2),
            "`on_request` has 3 parameters, it is called with (call, options)",
        ),
        (
            "return { on_decision = function(call, decision, options) end }",
            Some(1),
            Some(10),
            "it is called with (decision, options)",
        ),
        ("return { print }", None, None, "an entry without a name"),
        (
            "local c = pixtoll.clock()",
            Some(1),
            None,
            "use it within a hook",
        ),
        (
            "return { options = { a = pixtoll.needs \"modle\" }, on_request = print }",
            Some(1),
            None,
            "did you mean `model`?",
        ),
        ("while true do end", Some(1), None, "250 ms of CPU"),
    ] {
        let problem = refused(source, Value::Null);
        assert!(problem.message.contains(words), "{source}\ngave: {problem}");
        assert_eq!(
            (problem.line, problem.column),
            (line, column),
            "{source}\ngave: {problem}"
        );
        assert!(problem.file.ends_with("rule.lua") && !problem.remedy.is_empty());
    }
}

#[test]
fn a_file_that_is_not_there_or_no_text_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let file = |path: &Path| {
        load_entry(Entry::new(PluginSource::File(path.to_path_buf())))
            .err()
            .unwrap()
    };
    let problems = file(&folder.path().join("none.lua"));
    assert!(
        problems[0].message.contains("cannot be read"),
        "{}",
        all(&problems)
    );
    let path = folder.path().join("bytes.lua");
    std::fs::write(&path, b"\x06\x00\xff\xfe").unwrap();
    assert!(file(&path)[0].message.contains("UTF-8"));
    std::fs::write(&path, vec![b' '; 300_000]).unwrap();
    assert!(file(&path)[0].message.contains("262144 is the most"));
    assert!(file(folder.path())[0].message.contains("is no file"));
}

#[test]
fn compiled_code_is_not_taken() {
    // The version byte of bytecode is valid UTF-8, and no Lua.
    assert!(refused("\u{6}\u{3}return", Value::Null).line.is_some());
}

#[test]
fn a_source_that_is_hard_to_compile_is_given_up_on() {
    let depth = 100_000;
    for source in [
        format!("return {}1{}", "(".repeat(depth), ")".repeat(depth)),
        format!("return {}1{}", "{".repeat(depth), "}".repeat(depth)),
        format!("return {} 1", "not ".repeat(60_000)),
        format!("return {}", "1 .. ".repeat(50_000) + "1"),
    ] {
        let problem = refused(&source, Value::Null);
        assert!(!problem.message.is_empty() && problem.message.len() < 500);
    }
}

#[test]
fn every_mistake_of_every_file_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("two.lua");
    std::fs::write(&path, "return { a = 1,\nb = 2 }").unwrap();
    let entries = [
        Entry::new(PluginSource::Shipped("nothing".into())),
        Entry::new(PluginSource::File(path)),
    ];
    let problems = Plugins::load(&entries, Arc::new(Book), &classes())
        .err()
        .unwrap();
    assert_eq!(problems.len(), 3, "{}", all(&problems));
}

const OPTIONS: &str = "return {
  options = { side = 512, word = \"icon\", on = true, to = { \"a/b\" }, most = usd(0.02),
              deep = { x = 1 }, open = {}, must = pixtoll.needs \"model\" },
  on_request = function(call, options)
    local all = { options.side, options.word, tostring(options.on), #options.to, options.to[1],
                  tostring(options.most), options.deep.x, options.must, tostring(options.open.any) }
    return call:tag(table.concat(all, \" \"))
  end }";

#[test]
fn given_options_are_laid_over_the_defaults() {
    let tagged = |options: Value| {
        let plugins =
            load_with(OPTIONS, options).unwrap_or_else(|problems| panic!("{}", all(&problems)));
        match actions(ask(&plugins, call("a cat", &[]))).as_slice() {
            [Action::Tag { names }] => names[0].clone(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(
        tagged(json!({"must": "openai/gpt-image-2"})),
        "512 icon true 1 a/b $0.02 1 openai/gpt-image-2 nil"
    );
    let given = json!({"must": "class:draft", "side": 1.5, "word": "x", "on": false, "to": ["c/d", "e/f"],
        "most": "0.10", "deep": {"x": 2}, "open": {"any": "thing"}});
    assert_eq!(tagged(given), "1.5 x false 2 c/d $0.10 2 class:draft thing");
}

#[test]
fn options_of_another_kind_or_name_are_refused() {
    let model = "openai/gpt-image-2";
    for (options, words) in [
        (json!({}), "the option `must` (model) must be given"),
        (
            json!({"must": "nobody/model"}),
            "the price book has no model",
        ),
        (json!({"must": 5}), "must be a model like"),
        (json!({"must": model, "sied": 5}), "did you mean `side`?"),
        (
            json!({"must": model, "side": "5"}),
            "`side` must be a number, like its default 512; it is \"5\"",
        ),
        (json!({"must": model, "word": 5}), "`word` must be a text"),
        (
            json!({"must": model, "on": "yes"}),
            "`on` must be true or false",
        ),
        (json!({"must": model, "to": "a/b"}), "`to` must be a list"),
        (json!({"must": model, "to": [5]}), "`to` must be a text"),
        (json!({"must": model, "most": "much"}), "not an amount"),
        (json!({"must": model, "deep": {"y": 1}}), "no such option"),
        (json!([1]), "must be a table of options"),
    ] {
        let problem = refused(OPTIONS, options);
        assert!(problem.message.contains(words), "{problem}");
        assert!(!problem.remedy.is_empty());
    }
    let problem = refused("return { on_request = print }", json!({"a": 1}));
    assert!(problem.message.contains("has no options"), "{problem}");
}

#[test]
fn a_plugin_tells_its_name_digest_and_hooks() {
    let folder = tempfile::tempdir().unwrap();
    let load = |source: &str| load_in(folder.path(), source, Value::Null).unwrap();
    let (one, same, other) = (
        load("return { on_request = print }"),
        load("return { on_request = print }"),
        load("return { on_failure = print }"),
    );
    assert_eq!(only(&one).name(), "rule");
    assert_eq!(only(&one).digest(), only(&same).digest());
    assert_ne!(only(&one).digest(), only(&other).digest());
    assert!(
        only(&one).digest().len() == 8
            && only(&one).digest().bytes().all(|b| b.is_ascii_hexdigit())
    );
    assert!(only(&one).has_on_request() && !only(&one).has_on_failure());
    assert!(!only(&other).has_on_request() && only(&other).has_on_failure());
    assert_eq!(ask(&other, call("a cat", &[])), HookOutcome::default());
}

#[test]
fn the_entry_says_what_becomes_of_errors_and_actions() {
    let entry = Entry {
        on_error: OnError::Refuse,
        observe: true,
        ..Entry::new(PluginSource::Shipped("cap_resolution".into()))
    };
    let plugins = load_entry(entry).unwrap();
    assert_eq!(only(&plugins).on_error(), OnError::Refuse);
    assert!(only(&plugins).observe());
}

/// A folder with a rule in it and a secret outside of it.
struct House(tempfile::TempDir);

impl House {
    fn new() -> House {
        let house = House(tempfile::tempdir().unwrap());
        std::fs::create_dir_all(house.rules().join("lib")).unwrap();
        std::fs::write(house.0.path().join("secret.lua"), "return \"secret\"").unwrap();
        house
    }

    fn rules(&self) -> std::path::PathBuf {
        self.0.path().join("rules")
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.rules().join(name), text).unwrap();
    }

    fn load(&self, source: &str) -> Result<Plugins, Vec<LoadProblem>> {
        load_in(&self.rules(), source, Value::Null)
    }
}

#[test]
fn require_reaches_the_plugins_own_folder() {
    let house = House::new();
    house.write(
        "lib/names.lua",
        "loads = (loads or 0) + 1\nreturn { tag = \"mine\", loads = loads }",
    );
    let source = "local names, again = require \"lib/names\", require(\"./lib/names.lua\")\n
        return { on_request = function(call) return call:tag(names.tag, tostring(names == again)) end }";
    let plugins = house
        .load(source)
        .unwrap_or_else(|problems| panic!("{}", all(&problems)));
    let names = vec!["mine".to_owned(), "true".to_owned()];
    assert_eq!(
        actions(ask(&plugins, call("a cat", &[]))),
        [Action::Tag { names }]
    );
    house.write("lib/names.lua", "return { tag = \"other\" }");
    let changed = house.load(source).unwrap();
    assert_ne!(
        only(&plugins).digest(),
        only(&changed).digest(),
        "a module is part of the digest"
    );
}

#[test]
fn require_reaches_nothing_else() {
    let house = House::new();
    std::os::unix::fs::symlink(
        house.0.path().join("secret.lua"),
        house.rules().join("link.lua"),
    )
    .unwrap();
    house.write("bad.lua", "return {\n");
    house.write("a.lua", "return require \"b\"");
    house.write("b.lua", "return require \"a\"");
    for (name, words) in [
        ("../secret", "in the plugin's own folder"),
        ("lib/../../secret", "in the plugin's own folder"),
        ("/etc/passwd", "in the plugin's own folder"),
        ("", "in the plugin's own folder"),
        ("a\\0b", "in the plugin's own folder"),
        ("link", "a link to outside"),
        ("none", "there is no"),
        ("bad", "bad.lua:2"),
        ("a", "the files require each other"),
    ] {
        let problems = house
            .load(&format!("return require \"{name}\""))
            .err()
            .unwrap();
        assert!(
            problems[0].message.contains(words),
            "{name}: {}",
            all(&problems)
        );
    }
}

#[test]
fn a_hook_reads_no_files() {
    let house = House::new();
    house.write("late.lua", "return 1");
    let plugins = house
        .load("return { on_request = function()\nrequire \"late\" end }")
        .unwrap();
    let (message, line) = fault(ask(&plugins, call("a cat", &[])));
    assert!(message.contains("at the top of the file"), "{message}");
    assert_eq!(line, "2");
}
