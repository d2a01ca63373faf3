//! The names of what `larder lint` finds. A finding has one of these, so that each can be allowed.

macro_rules! finding_names {
    ($($variant:ident = $name:literal,)+) => {
        /// The kind of a finding.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum FindingName {
            $(#[doc = $name] $variant,)+
        }

        impl FindingName {
            /// All names, as in the documentation.
            pub(crate) const ALL: &[FindingName] = &[$(FindingName::$variant,)+];

            pub(crate) const fn as_str(self) -> &'static str {
                match self {
                    $(FindingName::$variant => $name,)+
                }
            }
        }
    };
}

finding_names! {
    Advice = "advice",
    DefaultLikeAType = "default-like-a-type",
    FrameworkCookie = "framework-cookie",
    ListNotPurged = "list-not-purged",
    NeverCached = "never-cached",
    NoEffect = "no-effect",
    SMaxageForbidsStale = "s-maxage-forbids-stale",
    SharedCaller = "shared-caller",
    StoredLogin = "stored-login",
    TagNeverCarried = "tag-never-carried",
    TagNeverPurged = "tag-never-purged",
    TagNeverResolves = "tag-never-resolves",
    UnknownCredential = "unknown-credential",
    UnverifiedClaim = "unverified-claim",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_is_documented() {
        let page = include_str!("../../docs/explain.md");
        for name in FindingName::ALL {
            let row = format!("\n| `{}` |", name.as_str());
            assert!(page.contains(&row), "{}", name.as_str());
        }
    }
}
