//! The path of the items in a shared part: a JSONPath of names and `[*]` alone, which a stream can follow.

use std::fmt;

use serde_json::Value;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ItemsPath {
    text: String,
    steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The member of an object.
    Name(String),
    /// All items of an array.
    Each,
}

/// The steps of a path.
const MAX_STEPS: usize = 16;

impl ItemsPath {
    /// # Errors
    /// Says what is wrong and, after a semicolon, what to write.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let Some(mut rest) = text.strip_prefix('$') else {
            return Err(format!(
                "`{text}` does not begin with `$`; write `$.items[*]`, or `$` for the object itself"
            ));
        };
        let mut steps = Vec::new();
        while !rest.is_empty() {
            let (step, after) = next_step(rest).ok_or_else(|| {
                format!(
                    "`{rest}` can't be followed while the response is read; write names and `[*]` alone: \
                     `$.data.items[*]`, `$['my items'][*]`"
                )
            })?;
            steps.push(step);
            rest = after;
        }
        match steps.len() {
            0..=MAX_STEPS => Ok(Self { text: text.to_owned(), steps }),
            steps => Err(format!("`{text}` has {steps} steps; at most {MAX_STEPS} are followed")),
        }
    }

    pub(super) fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Whether each step leads to a value. `null` in place of a list or an object has none below it, as an empty list has.
    pub(super) fn has_values(&self, document: &Value) -> bool {
        let in_items = self.steps.contains(&Step::Each);
        let mut values = vec![document];
        for step in &self.steps {
            values.retain(|value| !value.is_null());
            let mut below = Vec::new();
            for value in values {
                match (step, value) {
                    (Step::Name(name), Value::Object(members)) => match members.get(name) {
                        Some(value) => below.push(value),
                        None => return false,
                    },
                    (Step::Each, Value::Array(items)) => below.extend(items),
                    (Step::Each, Value::Object(members)) => below.extend(members.values()),
                    _ => return false,
                }
            }
            values = below;
        }
        // An item that names nothing is none that can be compared.
        let is_list = self.steps.last() == Some(&Step::Each);
        !in_items || is_list || values.iter().all(|value| !value.is_null())
    }
}

impl fmt::Display for ItemsPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn next_step(text: &str) -> Option<(Step, &str)> {
    if let Some(rest) = text.strip_prefix("[*]") {
        return Some((Step::Each, rest));
    }
    if let Some(rest) = text.strip_prefix('.') {
        let end = rest.find(['.', '[']).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        let is_plain = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
        let is_name = !name.is_empty() && name.chars().all(is_plain);
        return is_name.then(|| (Step::Name(name.to_owned()), after));
    }
    let quoted = text.strip_prefix('[')?;
    let quote = quoted.chars().next().filter(|c| ['\'', '"'].contains(c))?;
    let (name, after) = quoted[1..].split_once(quote)?;
    let after = after.strip_prefix(']')?;
    (!name.contains('\\')).then(|| (Step::Name(name.to_owned()), after))
}
