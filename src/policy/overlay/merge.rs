//! Merges what concerns the caller into the text of the shared part. Items are found while the text is read; all else is
//! copied byte for byte.

use std::collections::HashSet;
use std::fmt;
use std::ops::Range;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::Overlay;
use super::items::Step;

/// Why a shared part can't be merged: it does not have the form that the configuration describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mismatch {
    /// It is not JSON.
    Malformed,
    /// A step of `into` has no such member or array.
    NoItems,
    /// An item is no object with an `on` that is text or a whole number.
    NoId,
    /// A member that counts stands twice in its object.
    Duplicate,
}

impl Mismatch {
    /// The reason in words, for logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Mismatch::Malformed => "it is not JSON",
            Mismatch::NoItems => "it has nothing at `into`",
            Mismatch::NoId => "an item has no `on` that is text or a whole number",
            Mismatch::Duplicate => "a name stands twice in an object",
        }
    }
}

/// Adds the members of `overlay` to the items of `document`. Those whose `on` is one of `selected` get `set`, all others
/// `default`.
///
/// # Errors
/// The document does not have the form that the overlay describes.
pub fn merge(document: &str, selected: &HashSet<String>, overlay: &Overlay) -> Result<String, Mismatch> {
    let mut writer = Writer {
        document,
        written: 0,
        merged: String::with_capacity(document.len() + document.len() / 4 + 64),
        mismatch: Mismatch::Malformed,
    };
    let mut reader = serde_json::Deserializer::from_str(document);
    let items = Items { steps: overlay.into.steps(), overlay, selected, writer: &mut writer };
    match items.deserialize(&mut reader).and_then(|()| reader.end()) {
        Ok(()) => Ok(writer.finish()),
        Err(_) => Err(writer.mismatch),
    }
}

/// The text so far. Edits come in the order of the document.
struct Writer<'d> {
    document: &'d str,
    /// The bytes of the document that are copied or replaced.
    written: usize,
    merged: String,
    /// The reason of the error, if there is one.
    mismatch: Mismatch,
}

impl<'d> Writer<'d> {
    /// The place of a value in the document.
    fn find_place(&self, value: &'d RawValue) -> Range<usize> {
        let start = value.get().as_ptr() as usize - self.document.as_ptr() as usize;
        start..start + value.get().len()
    }

    fn replace(&mut self, place: Range<usize>, text: &str) {
        self.copy_to(place.start);
        self.merged.push_str(text);
        self.written = place.end;
    }

    fn copy_to(&mut self, end: usize) {
        self.merged.push_str(self.document.get(self.written..end).unwrap_or_default());
        self.written = end.max(self.written);
    }

    fn finish(mut self) -> String {
        self.copy_to(self.document.len());
        self.merged
    }

    fn fail<E: Error>(&mut self, mismatch: Mismatch) -> E {
        self.mismatch = mismatch;
        E::custom(mismatch.as_str())
    }
}

/// Follows the path of the items, and merges each.
struct Items<'a, 'd> {
    steps: &'a [Step],
    overlay: &'a Overlay,
    selected: &'a HashSet<String>,
    writer: &'a mut Writer<'d>,
}

impl<'d> Items<'_, 'd> {
    fn below(&mut self) -> Items<'_, 'd> {
        let steps = self.steps.get(1..).unwrap_or_default();
        Items { steps, overlay: self.overlay, selected: self.selected, writer: self.writer }
    }
}

impl<'d> DeserializeSeed<'d> for Items<'_, 'd> {
    type Value = ();

    fn deserialize<D: Deserializer<'d>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'d> Visitor<'d> for Items<'_, 'd> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("items")
    }

    fn visit_seq<A: SeqAccess<'d>>(mut self, mut items: A) -> Result<(), A::Error> {
        if self.steps.first() != Some(&Step::Each) {
            return Err(self.wrong_kind());
        }
        while items.next_element_seed(self.below())?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'d>>(mut self, members: A) -> Result<(), A::Error> {
        match self.steps.first() {
            Some(Step::Name(name)) => self.visit_member(name, members),
            Some(Step::Each) => Err(self.wrong_kind()),
            None => self.visit_item(members),
        }
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Err(self.wrong_kind())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Err(self.wrong_kind())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        Err(self.wrong_kind())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        Err(self.wrong_kind())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        Err(self.wrong_kind())
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        Err(self.wrong_kind())
    }
}

impl<'d> Items<'_, 'd> {
    fn wrong_kind<E: Error>(self) -> E {
        let mismatch = if self.steps.is_empty() { Mismatch::NoId } else { Mismatch::NoItems };
        self.writer.fail(mismatch)
    }

    /// Follows one member, which must be there once.
    fn visit_member<A: MapAccess<'d>>(&mut self, name: &str, mut members: A) -> Result<(), A::Error> {
        let mut is_found = false;
        while let Some(at) = members.next_key_seed(Names(&|member| (member == name).then_some(0)))? {
            if at.is_none() {
                members.next_value::<IgnoredAny>()?;
            } else if std::mem::replace(&mut is_found, true) {
                return Err(self.writer.fail(Mismatch::Duplicate));
            } else {
                members.next_value_seed(self.below())?;
            }
        }
        if is_found { Ok(()) } else { Err(self.writer.fail(Mismatch::NoItems)) }
    }

    /// Reads an item, then writes its members: they can stand before its `on`.
    fn visit_item<A: MapAccess<'d>>(&mut self, mut members: A) -> Result<(), A::Error> {
        let overlay = self.overlay;
        let on = overlay.members.len();
        let position = |name: &str| match name == overlay.on {
            true => Some(on),
            false => overlay.members.iter().position(|member| member.name == name),
        };
        let (mut id, mut present, mut end) = (None, Vec::new(), 0);
        while let Some(at) = members.next_key_seed(Names(&position))? {
            let value: &'d RawValue = members.next_value()?;
            let place = self.writer.find_place(value);
            end = place.end;
            let is_duplicate = |at: usize| present.iter().any(|(other, _)| *other == at);
            match at {
                Some(at) if at == on && id.is_none() => id = Some(value),
                Some(at) if at != on && !is_duplicate(at) => present.push((at, place)),
                Some(_) => return Err(self.writer.fail(Mismatch::Duplicate)),
                None => {}
            }
        }
        let Some(is_selected) = id.and_then(|id| is_selected(id.get(), self.selected)) else {
            return Err(self.writer.fail(Mismatch::NoId));
        };
        self.write_item(is_selected, present, end);
        Ok(())
    }

    /// `present`: the places of members that the item has; `end`: that of its last value.
    fn write_item(&mut self, is_selected: bool, present: Vec<(usize, Range<usize>)>, end: usize) {
        let overlay = self.overlay;
        for (at, place) in &present {
            if let Some(value) = overlay.members.get(*at).and_then(|member| member.value(is_selected)) {
                self.writer.replace(place.clone(), value);
            }
        }
        self.writer.copy_to(end);
        let is_present = |at: usize| present.iter().any(|(other, _)| *other == at);
        for (at, member) in overlay.members.iter().enumerate() {
            if !is_present(at)
                && let Some(value) = member.value(is_selected)
            {
                self.writer.merged.push_str(&member.label);
                self.writer.merged.push_str(value);
            }
        }
    }
}

/// Whether the value of `on` is selected. `None`: it is neither text nor a whole number.
fn is_selected(id: &str, selected: &HashSet<String>) -> Option<bool> {
    if let Some(text) = id.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
        return match text.contains('\\') {
            false => Some(selected.contains(text)),
            true => Some(selected.contains(&serde_json::from_str::<String>(id).ok()?)),
        };
    }
    let digits = id.strip_prefix('-').unwrap_or(id);
    let is_whole = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_whole.then(|| selected.contains(id))
}

/// Reads a name, and finds its position.
struct Names<'a>(&'a dyn Fn(&str) -> Option<usize>);

impl<'d> DeserializeSeed<'d> for Names<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'d>>(self, deserializer: D) -> Result<Option<usize>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Names<'_> {
    type Value = Option<usize>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Option<usize>, E> {
        Ok((self.0)(name))
    }
}
