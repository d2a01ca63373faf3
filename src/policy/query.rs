//! Which parameters of the query make the key. What is dropped from the key is not forwarded either.

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum QueryRule {
    /// The query as it came.
    #[default]
    All,
    /// Only these, sorted; with a default where the request leaves one out.
    Only(Vec<(String, Option<String>)>),
    /// All but these; a pattern may end in `*`. The rest is sorted.
    Ignore(Vec<String>),
}

impl QueryRule {
    /// The query that stands in the key and goes to the upstream.
    pub fn select<'q>(&self, _query: Option<&'q str>) -> Option<std::borrow::Cow<'q, str>> {
        todo!()
    }
}
