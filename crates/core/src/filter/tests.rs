use std::fmt::Write as _;
use std::sync::atomic::{AtomicU32, Ordering};

use proptest::prelude::*;

use super::*;

fn filter(expression: &str) -> Filter {
    Filter { expression: Some(expression.to_owned()), ..Filter::default() }
}

fn compiled(expression: &str) -> Compiled {
    Compiled::new(&filter(expression)).unwrap_or_else(|invalid| panic!("{expression}: {invalid}"))
}

/// The message for an expression that is refused.
fn refused(expression: &str) -> String {
    let invalid = filter(expression).check().expect_err(expression);
    assert_eq!(invalid.field, "expression");
    invalid.message
}

fn headers() -> http::HeaderMap {
    let mut headers = http::HeaderMap::new();
    for (name, value) in
        [("x-region", "eu"), ("x-tag", "a"), ("x-tag", "b"), ("content-type", "application/json")]
    {
        headers.append(name, http::HeaderValue::from_static(value));
    }
    headers
}

fn ask_with(expression: &str, body: &[u8], out_of_time: &(dyn Fn() -> bool + Sync)) -> Result<bool, Failed> {
    let facts = Facts {
        event_type: "invoice.paid",
        headers: &headers(),
        body,
        endpoint_id: "0199e5a0-0000-7000-8000-000000000001",
        endpoint_name: "Billing",
    };
    compiled(expression).ask(&facts, out_of_time)
}

fn ask(expression: &str, body: &str) -> Result<bool, Failed> {
    ask_with(expression, body.as_bytes(), &|| false)
}

const INVOICE: &str = r#"{"amount": 1200, "rate": 1.5, "paid": true, "note": null, "id": 18446744073709551615,
    "customer": {"name": "Zoë \"Z\"", "tags": ["vip", "eu"]},
    "lines": [{"sku": "a-1", "price": 10}, {"sku": "b-2", "price": 30}, {"sku": "b-3", "price": 5}]}"#;

#[test]
fn what_expressions_can_ask() {
    for (expression, answer) in [
        ("true", true),
        ("type == 'invoice.paid'", true),
        ("type in ['invoice.paid', 'invoice.voided']", true),
        ("type.startsWith('customer.')", false),
        ("type.matches('^invoice[.](paid|voided)$')", true),
        ("headers['x-region'] == 'eu'", true),
        ("headers['x-tag'] == 'a, b'", true),
        ("'x-missing' in headers", false),
        ("has(headers.host)", false),
        ("endpoint.name == 'Billing' && endpoint.id.endsWith('1')", true),
        ("body.amount > 1000 && body.paid", true),
        ("body.amount > 1000.5", true),
        ("body.rate * 2.0 == 3.0", true),
        ("body.id == 18446744073709551615u", true),
        ("body.note == null", true),
        ("has(body.customer.name) && !has(body.customer.email)", true),
        ("body.customer.name == 'Zo\\u00eb \"Z\"' && size(body.customer.name) == 7", true),
        ("'vip' in body.customer.tags", true),
        ("body['customer']['tags'][1] == 'eu'", true),
        ("body.lines.exists(line, line.sku.startsWith('b') && line.price > 20)", true),
        ("body.lines.all(line, line.price >= 10)", false),
        ("body.lines.exists_one(line, line.price == 5)", true),
        ("size(body.lines.filter(line, line.price > 5)) == 2", true),
        ("body.lines.filter(line, line.price > 5).all(line, line.sku != 'b-3')", true),
        ("body.lines.exists(line, body.customer.tags.exists(tag, line.sku == tag))", false),
        ("['a-1', 'x'].exists(sku, body.lines.exists(line, line.sku == sku))", true),
        ("headers.exists(name, name == 'x-region')", true),
        ("type(body.amount) == int && string(body.amount) == '1200'", true),
        ("int(body.rate) == 1 && double(body.amount) == 1200.0", true),
        ("body.paid ? type == 'invoice.paid' : body.missing", true),
        ("body.missing == 1 || type == 'invoice.paid'", true),
        ("false && body.missing", false),
        ("!(body.amount % 7 == 4) && -body.amount < 0 && body.amount / 2 - 100 == 500", true),
        ("body.customer.name + type == 'x'", false),
        ("type // a comment\n  == 'invoice.paid'", true),
    ] {
        assert_eq!(ask(expression, INVOICE), Ok(answer), "{expression}");
    }
}

#[test]
fn what_a_body_is() {
    for (body, expression) in [
        (b"a=1&b=2".as_slice(), "body.contains('b=2')"),
        (b"", "body == ''"),
        (b"12", "body == 12"),
        (b"\"x\"", "body == 'x'"),
        (b" [1, 2] ", "size(body) == 2"),
        (b"{\"a\": 1} and more", "body.startsWith('{')"),
        (b"{\"a\": 1, \"a\": 2}", "body.a == 2"),
        (b"\x1f\x8b\xff", "body == null"),
        (b"{\"\\u0061\": \"\\n\"}", "body.a == '\\n'"),
    ] {
        let body_text = String::from_utf8_lossy(body);
        assert_eq!(ask_with(expression, body, &|| false), Ok(true), "{expression} of {body_text}");
    }
}

#[test]
fn what_fails_says_why_and_shows_little() {
    for (expression, message) in [
        ("body.missing == 1", "No such key: missing"),
        ("body.amount", "it gives neither true nor false, but: int"),
        ("body.paid > 1", "found no matching overload for '_>_' applied to '(bool, int)'"),
        ("body.amount / 0 == 1", "Division by zero"),
        ("body.amount % 0 == 1", "Remainder by zero"),
        ("body.amount * 9223372036854775807 > 0", "Overflow from binary operator 'mul': int, int"),
        ("body.lines[7].price == 1", "Index out of bounds"),
        ("body.lines[body.rate].price == 1", "Cannot use double to index list"),
        ("body.customer.name - body.rate == 0.0", "Unsupported binary operator 'sub': string, double"),
        ("headers['x-missing'] == 'a'", "No such key: x-missing"),
        ("headers[body.customer.tags[0]] == 'a'", "No such key"),
        (
            "int(body.customer.name) == 1",
            "Error executing function 'int': string parse error: invalid digit found in string",
        ),
        ("body.amount.matches('1')", "Error executing function 'matches': it is for texts"),
    ] {
        assert_eq!(ask(expression, INVOICE), Err(Failed::Expression(message.to_owned())), "{expression}");
    }
    let long = format!("body['{}'] == 1", "x".repeat(1_000));
    let Err(Failed::Expression(text)) = ask(&long, INVOICE) else { panic!("there is no such key") };
    assert!(text.starts_with("No such key: xxx") && text.len() <= 304 && text.ends_with('…'), "{text}");
}

#[test]
fn what_is_refused_is_told_where() {
    for (expression, message) in [
        ("", "line 1, column 1: mismatched input '<EOF>' expecting expression"),
        ("type ==", "line 1, column 8: mismatched input '<EOF>' expecting expression"),
        ("type == 'a' &&\n  body.x ==== 1", "line 2, column 12: unexpected token"),
        (
            "'ö' == kind || typ == 'b'",
            "line 1, column 8: unknown name `kind`: there are type, headers, body and endpoint",
        ),
        ("'who' == who", "line 1, column 10: unknown name `who`: there are type, headers, body and endpoint"),
        ("body.x.lower() == 'a'", "line 1, column 8: unknown function `lower`"),
        ("body.x.size(1) == 1", "line 1, column 8: `size` is not called so"),
        (
            "body.items.all(1)",
            "line 1, column 12: `all` takes a name and a condition, as in `body.items.all(item, item.price > 10)`",
        ),
        (
            "body.x.map(x, x + 1) == []",
            "line 1, column 8: `map` is not there: a filter only asks, with all, exists, exists_one or filter",
        ),
        (
            "body.x.map(x, x > 1, x + 1) == []",
            "line 1, column 8: `map` is not there: a filter only asks, with all, exists, exists_one or filter",
        ),
        (
            "[body, body].exists(x, x == 1)",
            "line 1, column 21: all, exists, exists_one and filter go over a part of the event, such as body.items, or over a list of constants",
        ),
        ("body.x.all(type, true)", "line 1, column 1: `type` is taken, choose another name"),
        ("body.x.matches(body.y)", "line 1, column 8: `matches` takes one regular expression in quotes"),
        ("body.x.matches('a(')", "line 1, column 8: not a regular expression: unclosed group"),
        (
            "body.x.matches('(a{1000}){1000}')",
            "line 1, column 8: the regular expression is too large when it is compiled",
        ),
        ("{'a': 1}[type] == 1", "a map can't be written here"),
        ("Thing{a: 1} == 1", "line 1, column 1: a message can't be written here"),
        ("timestamp('2026-01-01T00:00:00Z') > 1", "line 1, column 1: unknown function `timestamp`"),
        ("body.?x == 1", "line 1, column 5: unsupported syntax '.?'"),
    ] {
        let expected = message.replace("column 1: `type` is taken", "column 12: `type` is taken");
        assert_eq!(refused(expression), expected, "{expression}");
    }
}

/// Each of these would take gigabytes, hours, or more stack than there is.
#[test]
fn what_would_run_away_is_refused() {
    let nested = |depth: usize| {
        (0..depth).fold("true".to_owned(), |inner, level| format!("body.x.all(v{level}, {inner})"))
    };
    assert!(filter(&nested(2)).check().is_ok());
    assert!(refused(&nested(3)).contains("nest at most 2 deep"));
    let side_by_side = ["body.x.all(x, true)"; 9].join(" && ");
    assert!(refused(&side_by_side).contains("at most 8 of all"));
    assert!(refused(&["body.x"; 10].join(" + ")).contains("at most 8 operations that copy"));
    assert!(refused(&format!("[{}] == 1", ["body"; 9].join(","))).contains("at most 8 operations that copy"));
    for (open, close) in [("(", ")"), ("[", "]"), ("body[", "]"), ("!(", ")"), ("{1:", "}")] {
        let deep = format!("{}1{}", open.repeat(300), close.repeat(300));
        assert!(refused(&deep).contains("brackets open at once"), "{open}");
        refused(&open.repeat(400));
    }
    assert!(refused(&"true ? true : ".repeat(100)).contains("at most 16 conditionals"));
    assert!(refused(&format!("{}1", "1 - ".repeat(180))).contains("nested too deeply"));
    assert!(refused(&format!("body[0]{} == 1", ".x".repeat(150))).contains("nested too deeply"));
    assert!(refused(&"!-".repeat(190)).contains("column"));
    assert!(refused(&"1 ".repeat(600)).contains("at most 400 words and signs"));
    assert!(refused(&"x".repeat(3_000)).contains("at most 2048 bytes"));
    let pattern = format!("body.x.matches('{}')", "a?".repeat(200));
    assert!(refused(&pattern).contains("at most 256 bytes"));
}

/// What is light is asked on the worker's own threads, which have 2 MiB; the rest where there is [`STACK`].
#[test]
fn a_small_stack_is_enough_for_the_deepest_expression_and_body() {
    let light = [
        format!("{}body == body{}", "!(".repeat(7), ")".repeat(7)),
        format!("{}true", "type == 'a' ? false : ".repeat(6)),
        format!("body{} == 1", ".x".repeat(150)),
        format!("body.x{} == 1", "[0]".repeat(3)),
    ];
    let any = [
        format!("body.all(k, body[k].all(x, {}x == x && body == body{}))", "!(".repeat(10), ")".repeat(10)),
        format!("{}body == body{}", "!(".repeat(15), ")".repeat(15)),
        format!("{}true", "type == 'a' ? false : ".repeat(16)),
        format!("{}1 != 0", "1 - ".repeat(16)),
        format!("body.x{} == 1", "[0]".repeat(16)),
    ];
    let body = format!("{{\"x\": {}{}}}", "[".repeat(63), "]".repeat(63));
    for expression in &light {
        assert!(compiled(expression).is_light(100), "{expression}");
    }
    let run = |expressions: Vec<String>, stack: usize| {
        let body = body.clone();
        let run = move || {
            for expression in &expressions {
                // Whether it has an answer is another question: it comes back.
                let _ = ask(expression, &body);
            }
            assert_eq!(ask("body == body", &body), Ok(true));
            let deeper = format!("[{body}]").replace("[]", "[[]]");
            assert!(matches!(ask("body == body", &deeper), Err(Failed::Body(_))));
        };
        std::thread::Builder::new().stack_size(stack).spawn(run).unwrap().join().unwrap();
    };
    run(light.to_vec(), 1_024 * 1_024);
    run(any.to_vec(), STACK / 2);
}

#[test]
fn steps_are_counted_and_time_is_asked_for() {
    let numbers: Vec<u32> = (0..8_000).collect();
    let body = serde_json::json!({ "a": numbers }).to_string();
    assert!(body.len() > 16 * 1_024);
    assert_eq!(ask("body.a.all(x, x >= 0)", &body), Ok(true));
    let quadratic = "body.a.all(x, body.a.exists(y, x == y + 1 || x == 0))";
    assert_eq!(ask(quadratic, &body), Err(Failed::Steps));
    let looks = AtomicU32::new(0);
    let late = || looks.fetch_add(1, Ordering::Relaxed) == 10;
    assert_eq!(ask_with(quadratic, body.as_bytes(), &late), Err(Failed::Time));
    assert_eq!(looks.load(Ordering::Relaxed), 11, "nothing went on after the time was over");
    // Without any loop, too.
    let straight = ["body == body"; 40].join(" && ");
    assert_eq!(ask_with(&straight, body.as_bytes(), &|| true), Err(Failed::Time));
}

#[test]
fn a_match_looks_at_the_time_before_and_after() {
    let matched = |late_at: u32| {
        let looks = AtomicU32::new(0);
        let late = || looks.fetch_add(1, Ordering::Relaxed) + 1 == late_at;
        (ask_with("type.matches('^invoice')", b"", &late), looks.load(Ordering::Relaxed))
    };
    assert_eq!(matched(0), (Ok(true), 2));
    assert_eq!(matched(1), (Err(Failed::Time), 1));
    assert_eq!(matched(2), (Err(Failed::Time), 2));
}

#[test]
fn a_match_takes_steps_by_the_length_of_its_text() {
    let numbers: Vec<u32> = (0..200).collect();
    for (length, answer) in [(10, Ok(false)), (16_000, Err(Failed::Steps))] {
        let texts = vec!["x".repeat(length); 8];
        let body = serde_json::json!({ "numbers": numbers, "texts": texts }).to_string();
        let asked = "body.numbers.exists(n, body.texts.exists(text, text.matches('^a') || n < 0))";
        assert_eq!(ask(asked, &body), answer, "{length}");
    }
}

#[test]
fn a_text_that_is_too_long_is_not_matched() {
    let text = |length: usize| "x".repeat(length);
    assert_eq!(ask("body.matches('x$')", &text(16_384)), Ok(true));
    let message = "Error executing function 'matches': it is for texts of up to 16384 bytes".to_owned();
    assert_eq!(ask("body.matches('x$')", &text(16_385)), Err(Failed::Expression(message)));
    assert_eq!(ask("body.matches('x$') || type == 'invoice.paid'", &text(16_385)), Ok(true));
}

#[test]
fn ordinary_patterns_are_accepted() {
    for pattern in [
        r"^order\.(created|updated)$",
        r"^[^@\s]+@[^@\s]+$",
        r"^\d{4}-\d{2}-\d{2}",
        r"^\w+$",
        r"(?i)^(urgent|p[0-2])\b",
        r"^https?://[a-z0-9.-]+/.+$",
    ] {
        let checked = filter(&format!("type.matches(r'{pattern}')")).check();
        assert_eq!(checked, Ok(()), "{pattern}");
    }
}

#[test]
fn a_body_that_is_too_large_fails_only_what_looks_at_it() {
    let many = format!("[{}1]", "1,".repeat(60_000));
    let large = format!("\"{}\"", "x".repeat(MAX_BODY));
    for (body, bound) in
        [(&many, "the body has more than 50000 values"), (&large, "the body is larger than 262144 bytes")]
    {
        assert_eq!(ask("body == 1", body), Err(Failed::Body(bound.to_owned())));
        assert_eq!(ask("type == 'x' && body == 1", body), Ok(false));
        assert_eq!(ask("body == 1 || type == 'invoice.paid'", body), Ok(true));
    }
}

#[test]
fn what_is_light_and_what_reads_the_body() {
    for (expression, reads_body, light) in [
        ("type == 'a'", false, true),
        ("body.a == 1 && headers['x'] == 'y'", true, true),
        ("headers.exists(body1, body1 == 'x')", false, false),
        ("body.a.exists(x, x == 1)", true, false),
        ("type.matches('a+')", false, false),
        (&["body.a == body.b"; 9].join(" || "), true, false),
    ] {
        let compiled = compiled(expression);
        assert_eq!((compiled.reads_body(), compiled.is_light(100)), (reads_body, light), "{expression}");
    }
    assert!(!compiled("body.a == 1").is_light(LIGHT_BODY + 1));
    assert!(compiled("type == 'a'").is_light(LIGHT_BODY + 1));
}

#[test]
fn types_are_one_thing_and_the_expression_another() {
    let types = |globs: &[&str]| Filter {
        event_types: globs.iter().map(|glob| Glob::new(*glob)).collect(),
        ..Filter::default()
    };
    assert!(Filter::default().is_empty() && Filter::default().wants_type(""));
    let some = types(&["invoice.*", "push"]);
    assert!(
        some.wants_type("push")
            && some.wants_type("invoice.paid")
            && !some.wants_type("")
            && !some.is_empty()
    );
    assert_eq!(types(&["a"; 51]).check().unwrap_err().field, "event_types");
    assert_eq!(types(&["a", ""]).check().unwrap_err().to_string(), "event_types[1]: 1 to 200 bytes");
    let json = serde_json::json!({ "event_types": ["a.*"], "expression": "true" });
    let read: Filter = serde_json::from_value(json.clone()).unwrap();
    assert_eq!(serde_json::to_value(&read).unwrap(), json);
    assert_eq!(serde_json::to_value(Filter::default()).unwrap(), serde_json::json!({}));
    assert!(serde_json::from_str::<Filter>(r#"{"expresion": "x"}"#).is_err());
}

/// Pieces that an expression is made of; put together at random, some make sense.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "type",
        "body",
        "headers",
        "endpoint",
        ".a",
        "['a']",
        "[0]",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        " == ",
        " != ",
        " < ",
        " && ",
        " || ",
        "!",
        "-",
        " + ",
        " * ",
        " / ",
        " % ",
        " in ",
        " ? ",
        " : ",
        ",",
        "1",
        "0",
        "1.5",
        "2u",
        "'a'",
        "b'\\xff'",
        "null",
        "true",
        "x",
        ".all(x, ",
        ".exists(x, ",
        ".filter(x, ",
        ".exists_one(x, ",
        ".size()",
        ".matches('a*')",
        ".contains('a')",
        "has(body.a)",
        "string(",
        "int(",
        "9223372036854775807",
        "@result",
        "\"",
        "'",
        "\\",
        "//",
        "\n",
        "é",
        "`a`",
        ".?a",
        "18446744073709551615u",
        "-9223372036854775808",
    ]);
    prop::collection::vec(piece, 1..24).prop_map(|pieces| pieces.concat())
}

fn json() -> impl Strategy<Value = String> {
    let leaf =
        prop::sample::select(vec!["1", "-1", "1.5", "\"a\"", "\"\\u00e9\"", "null", "true", "1e400", "x"]);
    leaf.prop_map(str::to_owned).prop_recursive(4, 24, 4, |inner| {
        let list =
            prop::collection::vec(inner.clone(), 0..4).prop_map(|list| format!("[{}]", list.join(",")));
        let map = prop::collection::vec(("[ab]", inner), 0..4).prop_map(|entries| {
            let mut text = String::new();
            for (index, (name, value)) in entries.iter().enumerate() {
                let comma = if index == 0 { "" } else { "," };
                write!(text, "{comma}\"{name}\":{value}").unwrap();
            }
            format!("{{{text}}}")
        });
        prop_oneof![list, map]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Whatever is written, compiling ends; and what compiles gives an answer or an error, never a panic.
    #[test]
    fn nothing_panics(expression in pieces(), body in json()) {
        if let Ok(compiled) = Compiled::new(&filter(&expression)) {
            let headers = headers();
            let facts = Facts { event_type: "a", headers: &headers, body: body.as_bytes(), endpoint_id: "", endpoint_name: "" };
            prop_assert_ne!(compiled.ask(&facts, &|| false), Err(Failed::Panic), "{}", expression);
        }
    }

    #[test]
    fn any_text_is_checked(expression in ".{0,200}") {
        let _ = filter(&expression).check();
    }
}
