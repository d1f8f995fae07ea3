//! `/status` for people: whatever stands in it, as nested tables, so that the page never lacks
//! what the JSON has.

use serde_json::Value;

const HEAD: &str = "<!doctype html>
<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Portcullis</title><style>
body { font: 15px/1.4 system-ui, sans-serif; margin: 2rem; color: #1a1a1a; background: #fff }
table { border-collapse: collapse; margin: .2rem 0 }
th, td { text-align: left; vertical-align: top; padding: .15rem .7rem; border: 1px solid #ccc }
th { font-weight: 600; background: #f4f4f4 }
.good { color: #17692b } .bad { color: #a11212 } .warn { color: #8a5a00 }
@media (prefers-color-scheme: dark) {
body { color: #ddd; background: #16181b } th { background: #23262a } th, td { border-color: #444 }
.good { color: #6fd08c } .bad { color: #ff8d8d } .warn { color: #f0c060 } }
</style></head><body><h1>Portcullis</h1>
";

const FOOT: &str = "<p><a href=\"/status\">/status</a> <a href=\"/metrics\">/metrics</a> \
<a href=\"/readyz\">/readyz</a> <a href=\"/livez\">/livez</a></p></body></html>
";

/// The page.
pub(super) fn render(
    status: &Value,
    ready: Result<(), Vec<String>>,
    degraded: &[String],
) -> String {
    let mut page = String::with_capacity(8 * 1024);
    page.push_str(HEAD);
    match ready {
        Ok(()) => page.push_str("<p class=\"good\">ready</p>\n"),
        Err(missing) => {
            page.push_str("<p class=\"bad\">not ready</p>\n");
            list(&mut page, &missing);
        }
    }
    if !degraded.is_empty() {
        page.push_str("<p class=\"warn\">degraded</p>\n");
        list(&mut page, degraded);
    }
    value(&mut page, status, 0);
    page.push_str(FOOT);
    page
}

fn list(page: &mut String, items: &[String]) {
    page.push_str("<ul>");
    for item in items {
        page.push_str("<li>");
        escape(page, item);
        page.push_str("</li>");
    }
    page.push_str("</ul>\n");
}

/// Deeper than this nothing is nested; what is deeper stands there as JSON.
const DEEPEST: usize = 6;

fn value(page: &mut String, of: &Value, depth: usize) {
    match of {
        Value::Object(map) if depth < DEEPEST => {
            page.push_str("<table>");
            for (name, inside) in map {
                page.push_str("<tr><th>");
                escape(page, name);
                page.push_str("</th><td>");
                value(page, inside, depth + 1);
                page.push_str("</td></tr>\n");
            }
            page.push_str("</table>");
        }
        Value::Array(items) if depth < DEEPEST => {
            for item in items {
                page.push_str("<div>");
                value(page, item, depth + 1);
                page.push_str("</div>");
            }
        }
        Value::String(text) => escape(page, text),
        Value::Null => page.push('–'),
        other => escape(page, &other.to_string()),
    }
}

fn escape(page: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '&' => page.push_str("&amp;"),
            '<' => page.push_str("&lt;"),
            '>' => page.push_str("&gt;"),
            '"' => page.push_str("&quot;"),
            '\'' => page.push_str("&#39;"),
            other => page.push(other),
        }
    }
}
