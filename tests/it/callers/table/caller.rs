//! Those who ask, and whose response each may have.

use serde_json::json;

use crate::callers::{SECRET, token, token_signed_with};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    Ann,
    AnnsPhone,
    /// Ann's token that expires before it is used again.
    AnnsShort,
    /// In Ann's tenant.
    Bob,
    /// In another one.
    Eve,
    Forged,
    Unsigned,
    Expired,
    Stranger,
    /// A token of Ann's that the API has answered 401 to.
    Revoked,
    Anonymous,
    /// larder's own requests, in Ann's tenant.
    Larder,
}

use Caller::{
    Ann, AnnsPhone, AnnsShort, Anonymous, Bob, Eve, Expired, Forged, Larder, Revoked, Stranger, Unsigned,
};

/// All whose requests are no one's but theirs.
pub const CLIENTS: [Caller; 11] =
    [Ann, AnnsPhone, AnnsShort, Bob, Eve, Forged, Unsigned, Expired, Stranger, Revoked, Anonymous];

/// Routes of these kinds have no `callers`.
fn is_unchecked(kind: &str) -> bool {
    matches!(kind, "open" | "plain" | "field")
}

pub fn claims(sub: &str, tenant: &str, device: u64, end: u64) -> String {
    json!({"sub": sub, "tenant": tenant, "role": "member", "exp": end, "device": device}).to_string()
}

impl Caller {
    /// The value of `Authorization` at a time.
    pub fn credential(self, now: u64) -> Option<String> {
        let token = match self {
            Ann => token(&claims("ann", "t", 1, now + 1000)),
            AnnsPhone => token(&claims("ann", "t", 2, now + 1000)),
            AnnsShort => token(&claims("ann", "t", 3, now + 5)),
            Bob => token(&claims("bob", "t", 4, now + 1000)),
            Eve => token(&claims("eve", "other", 5, now + 1000)),
            Forged => token_signed_with(&SECRET.to_uppercase(), &claims("ann", "t", 1, now + 1000)),
            Unsigned => {
                let signed = token(&claims("ann", "t", 1, now + 1000));
                format!("{}.", signed.rsplit_once('.').expect("a signature").0)
            }
            Expired => token(&claims("ann", "t", 1, now)),
            Revoked => token(&claims("ann", "t", 7, now + 1000)),
            Larder => token(&claims("larder", "t", 6, now + 1_000_000)),
            Stranger => return Some("Basic YW5uOng=".to_owned()),
            Anonymous => return None,
        };
        Some(format!("Bearer {token}"))
    }

    /// Whether a response stays the caller's as long as it is stored: routes without `callers` know no `exp`.
    pub fn has_time(self, kind: &str) -> bool {
        self != AnnsShort || is_unchecked(kind)
    }

    /// The name by which the API knows the caller, and how many seconds long.
    pub fn session(self) -> Option<(&'static str, u64)> {
        match self {
            Ann | AnnsPhone => Some(("ann", 1000)),
            AnnsShort => Some(("ann", 5)),
            Bob => Some(("bob", 1000)),
            Eve => Some(("eve", 1000)),
            Larder => Some(("larder", 1_000_000)),
            Forged | Unsigned | Expired | Stranger | Revoked | Anonymous => None,
        }
    }

    fn is_known(self) -> bool {
        self.session().is_some()
    }

    fn is_ann(self) -> bool {
        matches!(self, Ann | AnnsPhone | AnnsShort)
    }

    /// Whether a response that was made for `other` may go to this caller.
    pub fn may_have(self, other: Caller, kind: &str) -> bool {
        let both_anonymous = self == Anonymous && other == Anonymous;
        let both_known = self.is_known() && other.is_known();
        match kind {
            "members" => both_known,
            "both" => both_known || both_anonymous,
            "open" => true,
            "plain" => both_anonymous,
            "field" => self == other && self != Anonymous,
            "mine" | "named" | "cookie" | "header" => {
                both_known && (self == other || self.is_ann() && other.is_ann())
            }
            "cohort" => both_known && (self == Eve) == (other == Eve) || both_anonymous,
            "token" => both_known && self == other,
            _ => false,
        }
    }
}
