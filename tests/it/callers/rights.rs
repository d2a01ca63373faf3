//! Tokens of one user: those of other devices and renewed ones share what is stored, those with other rights do not, and those
//! that were withdrawn get nothing.

use serde_json::{Value, json};

use super::{SECRET, token};
use crate::support::{Answer, Issuer, Larder, Received, Reply, START, Scratch, Upstream};

fn start() -> (Upstream, Larder) {
    let upstream = Upstream::start();
    let yaml = format!(
        "callers: {{app: {{jwt: {{secret: '{SECRET}'}}}}}}
defaults: {{ttl: 60s, callers: app}}
routes:
  - {{path: /sub, per: jwt.sub}}
  - {{path: /name, per: identity}}
  - {{path: /user, per: jwt.user_id}}
  - {{path: /mail, per: jwt.email}}
  - {{path: /cohort, per: jwt.tenant}}
"
    );
    for path in ["/sub", "/name", "/user", "/mail", "/cohort"] {
        upstream.on(path, |request: &Received| Answer::ok(format!("#{}", request.nth)));
    }
    let larder = Larder::with(&yaml, &upstream);
    (upstream, larder)
}

async fn get(larder: &Larder, path: &str, token: &str) -> Reply {
    larder.get(path).header("authorization", &format!("Bearer {token}")).await
}

/// A user's token with these claims besides.
fn token_with(user: &str, more: Value) -> String {
    let mut claims = json!({"sub": user, "user_id": user, "email": user, "tenant": "t"});
    claims.as_object_mut().expect("claims").extend(more.as_object().expect("claims").clone());
    token(&claims.to_string())
}

#[tokio::test]
async fn tokens_with_other_rights_share_nothing_of_their_user() {
    let (_upstream, larder) = start();
    let pairs = [
        json!([{"roles": ["admin"]}, {"roles": ["user"]}]),
        json!([{"orgId": 1}, {"orgId": 2}]),
        json!([{"tenantId": 1}, {"tenantId": 2}]),
        json!([{"o": {"id": "A"}}, {"o": {"id": "B"}}]),
        json!([{"cognito:groups": ["admin"]}, {"cognito:groups": []}]),
        json!([{"https://x/roles": ["admin"]}, {"https://x/roles": []}]),
        json!([{"app_metadata": {"role": "admin"}}, {"app_metadata": {}}]),
        json!([{"is_admin": true}, {"is_admin": false}]),
        json!([{"2fa": true}, {}]),
        json!([{"iss": "x"}, {"iss": "y"}]),
    ];
    for (number, pair) in pairs.iter().enumerate() {
        let user = format!("user-{number}");
        for path in ["/sub", "/name", "/user", "/mail"] {
            let [one, other] = [0, 1].map(|at| token_with(&user, pair[at].clone()));
            get(&larder, path, &one).await.assert_stored();
            get(&larder, path, &other).await.assert_stored();
            get(&larder, path, &one).await.assert_hit();
        }
    }
    // Those of whom several share a response may differ.
    get(&larder, "/cohort", &token_with("ann", json!({"orgId": 1}))).await.assert_stored();
    get(&larder, "/cohort", &token_with("bob", json!({"orgId": 2}))).await.assert_hit();
}

/// The hits of a user's requests, one every 7 seconds, in percent.
async fn hit_rate(devices: u64, renewed_every: u64) -> f64 {
    const REQUESTS: u64 = 400;
    let (upstream, larder) = start();
    for number in 0..REQUESTS {
        let (device, now) = (number % devices, START.as_secs() + 7 * number);
        let issued_at = now - number * 7 % renewed_every;
        let claims = json!({
            "name": "Ann", "email_verified": true, "roles": ["user"],
            "iat": issued_at, "nbf": issued_at, "exp": issued_at + 2 * renewed_every,
            "jti": format!("{device}-{issued_at}"), "sid": device, "session_id": device,
            "auth_time": START.as_secs() - device, "nonce": device, "at_hash": issued_at, "device_id": device,
        });
        get(&larder, "/sub", &token_with("ann", claims)).await.assert_status(200);
        larder.after(7);
    }
    let misses = upstream.count("/sub");
    (1.0 - misses as f64 / REQUESTS as f64) * 100.0
}

#[tokio::test]
async fn devices_and_renewed_tokens_cost_no_hits() {
    let one = hit_rate(1, 1_000_000).await;
    assert!(one > 80.0, "{one}");
    for (devices, renewed_every) in [(3, 1_000_000), (1, 120), (3, 120)] {
        let rate = hit_rate(devices, renewed_every).await;
        assert!(one - rate <= 2.0, "{rate} % with {devices} devices, {one} % with one");
    }
}

/// The API's 401 counts at whatever path it comes.
#[tokio::test]
async fn a_token_that_the_api_refuses_elsewhere_gets_no_hit() {
    let (upstream, larder) = start();
    let [laptop, phone] = ["laptop", "phone"].map(|device| token_with("ann", json!({"jti": device})));
    get(&larder, "/sub", &phone).await.assert_stored();
    get(&larder, "/sub", &laptop).await.assert_hit();
    upstream.on("/elsewhere", Answer::status(401));
    get(&larder, "/elsewhere", &laptop).await.assert_status(401);
    get(&larder, "/sub", &laptop).await.assert_detail("refused-caller");
    get(&larder, "/sub", &phone).await.assert_hit();
}

#[tokio::test]
async fn keys_that_are_withdrawn_from_a_file_count_no_more() {
    let (first, second) = (Issuer::new("a"), Issuer::new("b"));
    let scratch = Scratch::new();
    let write = |keys: &str| scratch.file("keys.json", keys).display().to_string();
    let yaml = format!(
        "callers: {{app: {{jwt: {{keys: {}}}}}}}\n\
         routes: [{{path: /mine, ttl: 60s, callers: app, per: jwt.sub}}]",
        write(&Issuer::key_set(&[&first, &second]))
    );
    let upstream = Upstream::start();
    let larder = Larder::with(&yaml, &upstream);
    let [ann, bob] = [&first, &second].map(|issuer| issuer.token(&json!({"sub": "ann"})));
    get(&larder, "/mine", &ann).await.assert_stored();
    get(&larder, "/mine", &bob).await.assert_hit();
    write(&Issuer::key_set(&[&second]));
    larder.reconfigure(&yaml).await;
    get(&larder, "/mine", &ann).await.assert_detail("unverified-caller");
    get(&larder, "/mine", &bob).await.assert_hit();
    // A file that can't be read withdraws nothing, and a set without keys all.
    write("{");
    larder.reconfigure(&yaml).await;
    get(&larder, "/mine", &bob).await.assert_hit();
    write("{\"keys\": [{\"kty\": \"EC\", \"crv\": \"P-521\"}]}");
    larder.reconfigure(&yaml).await;
    get(&larder, "/mine", &bob).await.assert_detail("unverified-caller");
}
