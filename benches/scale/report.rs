//! What was measured, as Markdown to read and as JSON to draw from.

use serde_json::{Value, json};

/// Tables so far.
#[derive(Default)]
pub(crate) struct Report {
    tables: Vec<Value>,
}

impl Report {
    /// Prints a table and keeps it. Numbers are kept whole and shown short.
    pub(crate) fn table(
        &mut self,
        section: &str,
        title: &str,
        columns: &[&str],
        rows: &[Vec<Value>],
    ) {
        println!("\n### {title}\n");
        println!("| {} |", columns.join(" | "));
        println!("|{}", "---|".repeat(columns.len()));
        for row in rows {
            let cells: Vec<String> = row.iter().map(cell).collect();
            println!("| {} |", cells.join(" | "));
        }
        self.tables.push(json!({
            "section": section,
            "title": title,
            "columns": columns,
            "rows": rows,
        }));
    }

    /// All tables, with what is known of the machine.
    pub(crate) fn json(&self) -> Value {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpuinfo
            .lines()
            .find_map(|line| line.strip_prefix("model name"));
        let model = model.map_or("", |text| text.trim_start_matches([' ', '\t', ':']));
        json!({"cores": cores, "processor": model, "unix_time": crate::lab::now(), "tables": self.tables})
    }
}

fn cell(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => match (number.as_u64(), number.as_f64()) {
            (Some(whole), _) => grouped(whole),
            (None, Some(number)) if number.abs() < 10.0 => format!("{number:.2}"),
            (None, Some(number)) if number.abs() < 1000.0 => format!("{number:.1}"),
            (None, number) => grouped(number.unwrap_or_default().round() as u64),
        },
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    }
}

/// 1234567 as 1,234,567.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let first = digits.len() % 3;
    let mut text = digits[..first].to_owned();
    for chunk in digits.as_bytes()[first..].chunks(3) {
        if !text.is_empty() {
            text.push(',');
        }
        text.extend(chunk.iter().copied().map(char::from));
    }
    text
}
