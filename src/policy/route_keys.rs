//! The keys of a route in `proxy.yaml`, each declared once.
//!
//! `policy/route.rs` makes the fields of `Route` from the table; `config/route_fields.rs` makes the reader, the merge of a
//! route with `defaults`, and the key's documentation. The head of `config/keys.rs` explains the notation. In addition:
//!
//! - `inherited`: the key has no default in the table; `config/routes.rs` derives one.
//! - `as Vec<Located<Template>>`: the type before the merge, with the location of each item.
//! - `cache_only`: the key has no effect on a route whose GETs are not cached; `larder lint` warns there.
//!
//! The readers are names of constants in `config/route_fields.rs`.

/// Passes the table to the macro `$generate`.
macro_rules! route_keys {
    ($generate:ident) => {
        $generate! {
            /// `on`; `observe`: forward everything and report in `Cache-Status` what would have happened; `off`: forward
            /// everything.
            mode: RouteMode = MODE, default "on";

            /// The lifetime of responses without an explicit one. A duration; `upstream`: store only responses with a lifetime
            /// of their own; `none`: store until purged (7 days at most); `never`: do not cache GETs. A route with `purges`
            /// and neither `ttl` nor `tags` of its own has `never`.
            ttl: Ttl = TTL, default "upstream";

            /// A time in the response that bounds its lifetime, such as the expiry of a signed URL in it. A response without a
            /// readable time is not stored.
            ttl_from: Option<TtlFrom> = TTL_FROM, default "none", cache_only;

            /// Shorten each lifetime by a random share up to this one, so that entries stored together do not expire
            /// together: `10%`, at most `50%`.
            jitter: u8 = JITTER, default "0%", cache_only;

            /// Tags of the route's responses; a write to the route purges them. With `{id}` of the path, `{query.x}`,
            /// `{header.x}`, `{cookie.x}`, `{jwt.sub}`, `{response.header.x}`, `{response.json:$.items[*].id}` (a tag for each
            /// value).
            tags: Vec<Template> as Vec<Located<Template>> = TAGS, default "[]";

            /// More tags that a write to the route purges; also with `{request.json:/id}`, `{request.json:$.ids[*]}` and
            /// `{request.form:name}`. `[]`: a write purges nothing.
            /// An entry may be a mapping with `tag`, `at_most_every`, `soft` and `otherwise`.
            purges: Vec<PurgeRule> as Vec<Located<PurgeRule>> = PURGES, optional;

            /// Maximum number of tags that the values of one write name. Beyond it, as for a missing value, the stored
            /// responses of the write's own route are purged instead.
            max_targets: usize = COUNT, default "64";

            /// Statuses after which a write purges all that it names: `204`, `2xx`. After any other 2xx or 3xx it purges
            /// its own URL only, after the rest nothing.
            purge_on: Vec<StatusPattern> = PURGE_ON, default "[2xx, 303, 500, 506, 507, 508, 510, 511]";

            /// Ends after which a write may still happen: its targets are purged, and nothing fetched within
            /// `upstream.response_timeout` is stored. Statuses; `unassigned` (524 and the like); `cut`: no answer;
            /// `partial`: the upstream acts on a request whose content it never had whole. Default: `[502, 504, unassigned,
            /// cut]`, and 503 on a route with `guard`.
            unclear: Vec<UnclearEnd> = UNCLEAR, optional;

            /// The responses of its own URL that a write purges: `all`, or on a route with `per` those of its `caller`.
            own_url: OwnUrl = OWN_URL, default "all", cache_only;

            /// Query parameters that are part of the key and sent on: `all` as they come, a list of names, a mapping of names
            /// to defaults, or `{ignore: ["utm_*"]}`.
            query: QueryRule = QUERY, default "all", cache_only;

            /// Obey `No-Vary-Search` of responses: one response answers all queries that differ only in parameters that it
            /// names. Those are not sent to the upstream once it has named them.
            no_vary_search: bool = BOOLEAN, default "false", cache_only;

            /// The methods by which the route is read: GET with HEAD, and `QUERY` (RFC 10008) or `POST`, whose content is
            /// then part of the key: JSON and forms by what they mean, all else byte for byte. Such a POST is no write and
            /// purges nothing. Content above 64 KiB, or without a length, is forwarded and not looked up.
            methods: ReadMethods = READ_METHODS, default "[GET]", cache_only;

            /// Parts of the content of a QUERY or POST that are not in the key, and are sent on: `$.requestId`, `/trace/id`,
            /// and names of form fields, which may end in `*`.
            ignore: IgnoredContent = IGNORED_CONTENT, default "[]", cache_only;

            /// Serve one response to all callers, even if they send credentials. With `callers`, only known ones get it;
            /// `signed-in`: known callers share one response, and anonymous ones another.
            shared: Shared = SHARED, default "false", cache_only;

            /// Store one response for each credential: `authorization`, `cookie.NAME` or `header.NAME`, or
            /// `authorization | cookie.NAME` where callers send one or the other; or with `callers` for each known caller:
            /// `jwt.CLAIM`, a list of claims (callers with the same ones share), or `identity`. A request without it is not
            /// cached. `none`: the key has no credential.
            per: Option<Credential> = PER, default "none", cache_only;

            /// The entry of `callers` that knows the route's callers. Only a caller who is known is answered from the cache,
            /// and not after the token's `exp`; a request with a credential that is not accepted is forwarded uncached.
            /// `none`: callers are not verified.
            callers: Option<CallerSource> as Option<String> = CALLERS, default "none";

            /// On a route with `callers`, requests without a credential: `pass` forwards them uncached, `share` serves them
            /// one response of their own.
            anonymous: Anonymous = ANONYMOUS, default "pass", cache_only;

            /// Additions for each caller to the items of a response that all share: `{from: /api/me/enrollments, each:
            /// "$.enrollments[*].courseId", into: "$.courses[*]", by: id, set: {isEnrolled: true}, default: {isEnrolled:
            /// false}}`. The route's own response is fetched without the caller's credentials and stored once; `from` is the
            /// path of a route with `per`, which is stored for each caller.
            overlay: Vec<Overlay> as Vec<Located<Overlay>> = OVERLAY, default "[]", cache_only;

            /// On a route with `overlay`, as whom larder fetches the part that all callers share: `anonymous`, without any
            /// credential, or `background`, with `background.headers`. The latter needs `callers`.
            overlay_as: OverlayAs = OVERLAY_AS, default "anonymous", cache_only;

            /// More request fields in the key.
            headers: Vec<HeaderName> = KEY_HEADERS, default "[]", cache_only;

            /// The languages that the API answers in: `[en, de]`. A request's `Accept-Language` is replaced by the one that it
            /// likes best, the first of equals, and that is in the key; without any of them by none.
            languages: Vec<String> = LANGUAGES, default "[]", cache_only;

            /// More cookies in the key.
            cookies: Vec<String> = COOKIES, default "[]", cache_only;

            /// Statuses to store besides 200, 203, 204, 301 and 308, each with its lifetime: `{404: 10s}`.
            status: BTreeMap<u16, Duration> = STATUSES, default "{}", cache_only;

            /// How long a stale response is served while a new one is fetched (RFC 5861), where it does not say itself. Also
            /// applies to responses with `s-maxage`, which alone forbids stale responses; not to those whose own lifetime is
            /// zero (`max-age=0`).
            stale_while_revalidate: Duration = DURATION, default "0s", cache_only;

            /// How long a stale response is served if the upstream fails (RFC 5861).
            stale_if_error: Duration = DURATION, default "0s", cache_only;

            /// A hit with less than this lifetime left (and less than half of it) is also fetched anew in the background.
            /// `0s`: never before it expires.
            refresh_ahead: Duration = DURATION, default "0s", cache_only;

            /// Maximum size of a stored body.
            max_size: u64 = POSITIVE_SIZE, default "8MiB", cache_only;

            /// Maximum decoded size of a body that `{request.json…}`, `{request.form…}` and `{response.json…}` are read from. A
            /// larger response is not stored; a larger write counts as one whose values are missing.
            max_json: u64 = POSITIVE_SIZE, default "1MiB";

            /// Timeout of a whole request, from its header section to the last byte of the response: answered 504 before the
            /// response has begun, aborted after. `none`: only the timeouts of upstream and clients apply.
            timeout: Option<Duration> = TIMEOUT, default "none";

            /// Time from the end of the request to the response's header section. `none`: `timeout`, else
            /// `upstream.response_timeout`.
            response_timeout: Option<Duration> = TIMEOUT, default "none";

            /// Time between two reads of the response's body. `none`: `timeout`, else `upstream.response_timeout`; for event
            /// streams and gRPC `limits.tunnel_idle`.
            idle_timeout: Option<Duration> = TIMEOUT, default "none";

            /// The answer to `Expect: 100-continue`, where it differs from `upstream.expect`: `answer`: larder's; `forward`: the
            /// upstream's, over HTTP/1.1.
            forwards_expect as "expect": bool = EXPECT, optional;

            /// How often a caller may ask: `{limit: 100/m, by: client}`. Beyond it a request is answered 429. `off`: as often as
            /// it likes.
            rate: Option<RateLimit> = RATE, default "off";

            /// Whether concurrent requests for one key wait for a single fetch: `true` at this replica, `replicas` at all
            /// replicas that share a Redis, `false` not at all.
            collapse: Collapse = COLLAPSE, default "true";

            /// With `collapse: replicas`: how long a replica waits for another's fetch before it fetches itself.
            collapse_wait: Duration = POSITIVE_DURATION, default "5s";

            /// How long requests wait for another's fetch before one more request goes to the upstream. Default: a fifth of
            /// `response_timeout`, at most 5 s.
            collapse_timeout: Duration = POSITIVE_DURATION, inherited;

            /// The upstream's cache directives that the route overrides: `lifetime`, `private`, `no-cache`, and
            /// `s-maxage-revalidation`: `s-maxage` does not forbid stale responses.
            overrides as "override": Overrides = OVERRIDES, default "[]", cache_only;

            /// Codings that larder gives to text that comes without one, for clients that accept them, the preferred first:
            /// `[zstd, br, gzip]`. Each is stored beside the others, with an `ETag` of its own. Where tags or `ttl_from` read
            /// the content, gzip alone is given.
            compress: Vec<ResponseCoding> = COMPRESS, default "[]", cache_only;

            /// Whether the route's responses in Redis are encrypted, where that differs from the others: `true`, or `false`: they
            /// are signed, so that others can read but not forge them. Both use the keys of `store.encrypt` or `store.sign`.
            encrypt: bool = BOOLEAN, optional, cache_only;

            /// Response fields that are not stored, because they are one caller's; the client whose request was forwarded
            /// gets them. `{also: [Set-Cookie], not: ["X-RateLimit-*"]}` changes the default list (sessions, tokens and rate
            /// limits), a list replaces it. A response with `Set-Cookie` is stored only if that is dropped.
            drop_response: DroppedFields = DROP_RESPONSE, default "{}", cache_only;

            /// Request fields that identify nobody on this route, although `credentials` counts them: `{not: [X-CSRF-Token]}`.
            exempt as "credentials": Vec<HeaderName> = EXEMPT, default "{}", cache_only;

            /// Request fields that select no variant on this route, although `Vary` of the response names them: `[Cookie]`.
            /// Clients and other caches still see the API's `Vary`.
            ignore_vary: Vec<HeaderName> = IGNORE_VARY, default "[]", cache_only;

            /// Response fields that replace `Cache-Control` (RFC 9213, and `Surrogate-Control`); the first one that is present and valid is used. `[]`:
            /// none.
            targeted: Vec<HeaderName> = TARGETED, default "[Larder-Cache-Control]";

            /// If neither the response nor `ttl` gives a lifetime: use a tenth of the time since `Last-Modified`, at most a day
            /// (RFC 9111 §4.2.2).
            heuristic: bool = BOOLEAN, default "false";

            /// Store a response with an explicit lifetime whatever its status, including 5xx and unknown ones.
            any_status: bool = BOOLEAN, default "false";

            /// Obey `Cache-Control` and `Pragma` of requests (RFC 9111 §5.2.1). Callers can then force requests to the
            /// upstream.
            request_directives: bool = BOOLEAN, default "false";

            /// Remove fields meant for caches from responses: those that list tags (`Surrogate-Key`, `Cache-Tag` …),
            /// `Cache-Groups`, `Cache-Group-Invalidation` and those in `targeted`.
            hide_tags: bool = BOOLEAN, default "false";

            /// Response fields in which larder lists the tags of a response, for a CDN or another cache in front of it:
            /// `[Surrogate-Key]` (Fastly), `[Cache-Tag]` (Cloudflare), `[Edge-Cache-Tag]` (Akamai), `[xkey]` (Varnish). A
            /// response whose tags are not all known, take more than 16 KiB, or have values of the caller lists none, and is
            /// for no shared cache.
            list_tags: Vec<HeaderName> = LIST_TAGS, default "[]", cache_only;

            /// The `Cache-Control` of what clients get from the cache, in place of the API's: `{max_age: 30s, s_maxage: 10m}`.
            /// How long larder stores it stays the same. `none`: the API's.
            downstream: Option<Downstream> = DOWNSTREAM, default "none", cache_only;

            /// The purges that end a `ttl: none`. `rules`: those of a write or an event, which `larder check` then
            /// requires; `admin`: PURGE, the admin listener, or tags in response fields.
            purged_by: PurgedBy = PURGED_BY, default "rules";

            /// Forward a write only once Redis has a record of what it will purge; refuse it with 503 if that fails. Default:
            /// true if `max_lag` is 0s.
            guard: bool = BOOLEAN, inherited;

            /// For an upstream that reads from lagging replicas: do not store what was fetched this soon after a purge that
            /// names it.
            settle: Duration = DURATION, default "0s";

            /// How long a write that the upstream answers with 202 may still take effect: what it purges stays in doubt.
            accepted_settle: Duration = DURATION, default "10s";

            /// Answer a request that brings the `Larder-Position` of a write with nothing from before that write.
            read_your_writes: bool = BOOLEAN, default "true";
        }
    };
}

pub(crate) use route_keys;
