//! Changes a configuration file as its author could, who writes TOML and knows the keys: what a mutator of bytes makes
//! is mostly no TOML.

use std::sync::OnceLock;

use toml::{Table, Value};

/// The first `size` bytes of `data` are a file. What it becomes has `most` bytes at most, and its length is returned.
pub fn configuration(data: &mut [u8], size: usize, most: usize, seed: u32) -> usize {
    let mut random = Random(u64::from(seed) + 1);
    // Not always: the form of a file is worth a look too, and bytes change it best.
    if random.below(4) > 0
        && let Some(text) = changed(&data[..size], &mut random)
        && text.len() <= most
    {
        data[..text.len()].copy_from_slice(text.as_bytes());
        return text.len();
    }
    libfuzzer_sys::fuzzer_mutate(data, size, most)
}

fn changed(text: &[u8], random: &mut Random) -> Option<String> {
    let mut file: Table = std::str::from_utf8(text).ok()?.parse().ok()?;
    for _ in 0..=random.below(3) {
        let spare = spare(&file, random);
        let mut place = random.below(tables(&file));
        at(&mut file, &mut place, &mut |table| {
            change(table, spare.clone(), random)
        });
    }
    toml::to_string(&file).ok()
}

fn change(table: &mut Table, (key, value): (String, Value), random: &mut Random) {
    let Some(own) = table.keys().nth(random.below(table.len())).cloned() else {
        table.insert(key, value);
        return;
    };
    match random.below(6) {
        0 => {
            table.remove(&own);
        }
        1 | 2 => {
            table.insert(key, value);
        }
        3 => {
            table.insert(own, value);
        }
        4 => {
            let moved = table.remove(&own);
            table.extend(moved.map(|moved| (key, moved)));
        }
        _ => match table.get_mut(&own) {
            Some(Value::Array(list)) if !list.is_empty() => {
                let one = random.below(list.len());
                match random.below(3) {
                    0 => drop(list.remove(one)),
                    1 => list.push(list[one].clone()),
                    _ => list[one] = value,
                }
            }
            Some(other) => *other = Value::Array(vec![other.clone()]),
            None => {}
        },
    }
}

/// A key and a value for some place of the file.
fn spare(file: &Table, random: &mut Random) -> (String, Value) {
    let (keys, values) = words();
    let key = keys[random.below(keys.len())].clone();
    let value = match random.below(8) {
        0 => Value::Boolean(random.below(2) == 0),
        1 => Value::Integer([-1, 0, 1, 65_536, i64::MAX][random.below(5)]),
        2 => Value::Array(Vec::new()),
        3 => values[random.below(values.len())].clone(),
        // What stands elsewhere, here or in another file, with its own key or with any.
        choice => {
            let others = others();
            let from = if choice == 4 {
                file
            } else {
                &others[random.below(others.len())]
            };
            let mut entries = Vec::new();
            all(from, &mut entries);
            let Some((own, value)) = entries.get(random.below(entries.len())) else {
                return (key, Value::Table(Table::new()));
            };
            return (
                if choice == 5 { key } else { (*own).clone() },
                (*value).clone(),
            );
        }
    };
    (key, value)
}

/// Every entry of the file, in whatever table.
fn all<'f>(table: &'f Table, entries: &mut Vec<(&'f String, &'f Value)>) {
    for (key, value) in table {
        entries.push((key, value));
        inside(value).for_each(|table| all(table, entries));
    }
}

fn inside(value: &Value) -> impl Iterator<Item = &Table> {
    let list = value.as_array().into_iter().flatten();
    value
        .as_table()
        .into_iter()
        .chain(list.filter_map(Value::as_table))
}

fn tables(table: &Table) -> usize {
    let inside = table.values().flat_map(inside);
    1 + inside.map(tables).sum::<usize>()
}

/// Does something at one of the tables, counted as they come.
fn at(table: &mut Table, place: &mut usize, act: &mut dyn FnMut(&mut Table)) -> bool {
    if *place == 0 {
        act(table);
        return true;
    }
    *place -= 1;
    table.iter_mut().any(|(_, value)| match value {
        Value::Table(table) => at(table, place, act),
        Value::Array(list) => list
            .iter_mut()
            .filter_map(Value::as_table_mut)
            .any(|table| at(table, place, act)),
        _ => false,
    })
}

/// Keys, and values, of the dictionary.
fn words() -> &'static (Vec<String>, Vec<Value>) {
    static WORDS: OnceLock<(Vec<String>, Vec<Value>)> = OnceLock::new();
    WORDS.get_or_init(|| {
        let entries = include_str!("toml.dict").lines().filter_map(|line| {
            let entry = line.strip_prefix('"')?.strip_suffix('"')?;
            Some(entry.replace("\\\"", "\""))
        });
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        for entry in entries {
            if let Some(key) = entry.strip_suffix(" = ") {
                keys.push(key.to_owned());
            } else if let Ok(Some(value)) = format!("a {entry}")
                .parse::<Table>()
                .map(|mut one| one.remove("a"))
            {
                values.push(value);
            }
        }
        (keys, values)
    })
}

/// Files with tables and keys that the one at hand may lack.
fn others() -> &'static [Table] {
    static OTHERS: OnceLock<Vec<Table>> = OnceLock::new();
    OTHERS.get_or_init(|| {
        let texts = [
            include_str!("../tests/config/kit/pep.toml"),
            include_str!("../tests/config/reports.toml"),
            include_str!("../tests/config/bad/audit.toml"),
            include_str!("../tests/config/bad/authorization.toml"),
            include_str!("../tests/config/bad/authorization-meanings.toml"),
            include_str!("../tests/config/bad/body.toml"),
            include_str!("../tests/config/bad/dpop.toml"),
            include_str!("../tests/config/bad/error-format.toml"),
            include_str!("../tests/config/bad/forward.toml"),
            include_str!("../tests/config/bad/front.toml"),
            include_str!("../tests/config/bad/introspection.toml"),
            include_str!("../tests/config/bad/policy-shapes.toml"),
            include_str!("../tests/config/bad/revocation.toml"),
            include_str!("../tests/config/bad/upstreams.toml"),
            include_str!("../policies/fapi1-baseline.toml"),
            include_str!("../policies/fapi2.toml"),
            include_str!("../policies/examples/payments.toml"),
            include_str!("../policies/examples/uk-open-banking-errors.toml"),
        ];
        texts.iter().filter_map(|text| text.parse().ok()).collect()
    })
}

/// Xorshift (Marsaglia): the mutation depends on the seed alone, so that a run can be repeated.
struct Random(u64);

impl Random {
    /// 0 where there is nothing to choose from.
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 11)
            .unwrap_or(0)
            .checked_rem(bound)
            .unwrap_or(0)
    }
}
