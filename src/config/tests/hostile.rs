//! No text, however strange, does more than give errors.

use proptest::prelude::*;

use super::{parse, wrong};
use crate::config::{Config, SettingOverrides};

/// Pieces that a configuration is made of, to be put together wrongly.
const PIECES: [&str; 40] = [
    "upstream: ",
    "http://a",
    "routes:",
    "\n",
    "\n  - ",
    "\n    ",
    "path: ",
    "/a/{id}",
    "ttl: ",
    "30s",
    "tags: ",
    "[",
    "]",
    "{",
    "}",
    ", ",
    ": ",
    "\"",
    "'",
    "#",
    "&a ",
    "*a",
    "<<: ",
    "${X}",
    "${",
    "$${",
    "status: ",
    "404",
    "query: ",
    "ignore: ",
    "per: ",
    "cookie.",
    "é\u{301}",
    "\u{feff}",
    "\t",
    "\r",
    "\0",
    "- ",
    "|\n",
    "? ",
];

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

    #[test]
    fn any_text_gives_a_configuration_or_errors_that_can_be_shown(text in "\\PC{0,200}") {
        check(&text)?;
    }

    #[test]
    fn so_does_any_heap_of_pieces(pieces in proptest::collection::vec(proptest::sample::select(&PIECES[..]), 0..40)) {
        check(&pieces.concat())?;
    }

    #[test]
    fn so_does_the_reference_with_a_part_replaced(
        at in any::<proptest::sample::Index>(), length in 0_usize..40, piece in "\\PC{0,12}",
    ) {
        let reference = include_str!("../../../proxy.yaml");
        let mut chars: Vec<char> = reference.chars().collect();
        let at = at.index(chars.len());
        let end = (at + length).min(chars.len());
        chars.splice(at..end, piece.chars());
        check(&chars.into_iter().collect::<String>())?;
    }
}

fn check(text: &str) -> Result<(), TestCaseError> {
    let environment = |name: &str| (name.len() == 1).then(|| format!("{name}: [{{x}}]\n"));
    if let Err(errors) = Config::parse(text, "proxy.yaml", &environment, &SettingOverrides::default()) {
        prop_assert!(!errors.diagnostics().is_empty(), "refused without a reason: {text:?}");
        prop_assert!(errors.to_string().contains("error: "));
    }
    Ok(())
}

#[test]
fn aliases_of_aliases_end_in_an_error() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let items = vec![format!("*a{}", level - 1); 10].join(", ");
        text.push_str(&format!("a{level}: &a{level} [{items}]\n"));
    }
    let found = wrong(&text);
    assert!(found.len() == 1 && found[0].contains("the file exceeds a limit"), "{found:?}");
    assert!(!found[0].contains("in quotes"), "{found:?}");
}

#[test]
fn deep_and_large_files_end_in_an_error() {
    for text in
        ["[".repeat(5000), "{a: ".repeat(5000), "- ".repeat(5000), format!("a: {}", "x".repeat(5 << 20))]
    {
        let found = wrong(&text);
        assert_eq!(found.len(), 1, "{}", &text[..10]);
    }
}

#[test]
fn thousands_of_errors_are_shown_in_part() {
    let text = format!("routes:\n{}", "  - {pth: /a}\n".repeat(3000));
    let errors = parse(&text).expect_err("all are wrong");
    assert!(errors.diagnostics().len() > 3000);
    assert!(errors.to_string().contains("… and "));
}
