//! Reads the lists that `from` names: one response, or all pages up to the last.

use std::collections::HashSet;

use http::{HeaderMap, StatusCode, Uri};

use super::Warming;
use crate::config::WarmList;
use crate::policy::content::Content;
use crate::policy::next_page::find_next_page;
use crate::policy::url_template::{MAX_URLS, PAGE_NUMBER, PlaceholderValues};
use crate::stored_response::SampleRequest;

/// Maximum size of a response read for `each`.
const MAX_LIST_BYTES: usize = 8 * 1024 * 1024;

/// Maximum number of pages read of one list.
const MAX_PAGES: usize = 1000;

/// The content of a list, as far as it could be read.
#[derive(Debug, Default)]
pub(super) struct ListContents {
    /// Distinct values of `each`, in the order of the list.
    pub values: Vec<String>,
    /// The pages of a list that is read to its last.
    pub pages: Vec<Uri>,
    /// Why the rest was not read.
    pub failure: Option<String>,
}

/// One page of a list.
struct ListPage {
    values: Vec<String>,
    next: Result<Option<Uri>, String>,
}

impl Warming {
    pub(super) async fn read_list(&self, list: &WarmList, headers: &HeaderMap) -> ListContents {
        let mut contents = ListContents::default();
        let mut seen = HashSet::new();
        let (mut next, mut before) = (numbered_page(list, 1), None);
        while let Some(url) = next.take() {
            if contents.pages.len() >= MAX_PAGES {
                contents.failure = Some(format!("the list has more than {MAX_PAGES} pages"));
                break;
            }
            let is_repeated = contents.pages.contains(&url);
            if is_repeated || self.live.load().tasks.is_closed() {
                break;
            }
            let page = match self.read_page(list, &url, headers, contents.pages.len()).await {
                Ok(Some(page)) => page,
                Ok(None) => break,
                Err(error) => {
                    contents.failure = Some(format!("cannot read {url}: {error}"));
                    break;
                }
            };
            let is_numbered = list.is_numbered();
            if is_numbered && page.values.is_empty() {
                break;
            }
            // Many APIs answer a number beyond the end with the last page again.
            if is_numbered && before.as_ref() == Some(&page.values) {
                break;
            }
            before = Some(page.values.clone());
            let room = MAX_URLS.saturating_sub(contents.values.len());
            let new = page.values.into_iter().filter(|value| !value.is_empty() && seen.insert(value.clone()));
            contents.values.extend(new.take(room));
            if list.pages.is_none() {
                break;
            }
            contents.pages.push(url);
            next = match page.next {
                _ if is_numbered => numbered_page(list, contents.pages.len() + 1),
                Ok(found) => found,
                Err(error) => {
                    contents.failure = Some(error);
                    None
                }
            };
        }
        contents
    }

    /// Fetches a page through the cache. `None`: it is behind the last one. `before`: the number of pages before it.
    async fn read_page(
        &self,
        list: &WarmList,
        url: &Uri,
        headers: &HeaderMap,
        before: usize,
    ) -> Result<Option<ListPage>, String> {
        let sample = SampleRequest { uri: url.clone(), headers: headers.clone() };
        let _permit = self.budget.acquire(&self.handle, &self.live).await;
        let worker = self.handle.worker().clone();
        let (status, fields, body) = worker.fetch_content(&sample, MAX_LIST_BYTES).await?;
        match status {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND if list.is_numbered() && before > 0 => return Ok(None),
            status => return Err(format!("it was answered {status}")),
        }
        let content = Content::parse_response(&fields, &body, MAX_LIST_BYTES as u64)
            .map_err(|unreadable| unreadable.as_not_stored().as_str().to_owned())?;
        let values = content.extract_texts(&list.query, MAX_URLS).map_err(|_| {
            "`each` selects lists, objects or numbers with decimals; expected text or whole numbers"
                .to_owned()
        })?;
        let next = match &list.pages {
            Some(walk) if !list.is_numbered() => {
                find_next_page(url, headers, &fields, &content, walk.next.as_ref())
            }
            _ => Ok(None),
        };
        Ok(Some(ListPage { values, next }))
    }
}

impl WarmList {
    /// Whether pages are found by their numbers.
    fn is_numbered(&self) -> bool {
        self.pages.is_some() && self.url.placeholders().next().is_some()
    }
}

/// The URL of a page by its number; the same for all where the URL has none.
fn numbered_page(list: &WarmList, number: usize) -> Option<Uri> {
    let values = PlaceholderValues::from([(PAGE_NUMBER.to_owned(), vec![number.to_string()])]);
    list.url.expand(&values).pop()
}
