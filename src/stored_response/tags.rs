//! The tags of a stored response in words, side by side in one piece of memory.

/// Each is ended by a line feed: no tag holds one, for templates refuse it, or encode it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredTags(Box<str>);

impl StoredTags {
    pub fn new(tags: &[impl AsRef<str>]) -> Self {
        let mut text = String::with_capacity(tags.iter().map(|tag| tag.as_ref().len() + 1).sum());
        for tag in tags {
            text.push_str(tag.as_ref());
            text.push('\n');
        }
        Self(text.into())
    }

    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.split_terminator('\n')
    }

    /// Bytes that they keep in memory beside their own.
    pub fn weight(&self) -> usize {
        self.0.len()
    }

    /// As [`StoredTags::read`] takes it.
    pub fn written(&self) -> &str {
        &self.0
    }

    /// Out of what [`StoredTags::written`] gave. `None` if it can't be that.
    pub fn read(written: &str) -> Option<Self> {
        (written.is_empty() || written.ends_with('\n')).then(|| Self(written.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_told_apart() {
        for tags in [&[][..], &[""], &["a"], &["a", "", "b:1"]] {
            let stored = StoredTags::new(tags);
            assert_eq!(stored.iter().collect::<Vec<_>>(), tags);
            assert_eq!(StoredTags::read(stored.written()), Some(stored));
        }
        assert_eq!(StoredTags::read("a"), None);
    }
}
