use super::*;

fn name(text: &str) -> HeaderName {
    HeaderName::try_from(text).expect("a name")
}

#[test]
fn a_usual_field_counts_where_it_is_named() {
    let usual = name("x-request-id");
    assert!(!CallerFields::default().identify(&usual));
    assert!(CallerFields::recognised(vec![usual.clone()], Vec::new()).identify(&usual));
    assert!(CallerFields::only(vec![usual.clone()]).identify(&usual));
}

#[test]
fn a_filter_tells_requests_without_callers_apart() {
    let names = |texts: &[&str]| {
        let names: Vec<_> = texts.iter().map(|text| name(text)).collect();
        HeaderNameFilter::from_names(names.iter())
    };
    let all = CallerFields::default();
    assert!(!all.may_be_in(names(&[])) && !all.may_be_in(names(&["host", "x-request-id", "via"])));
    for credential in ["authorization", "cookie", "x-api-key", "x-user", "x-anything-else"] {
        assert!(all.may_be_in(names(&["host", credential, "via"])), "{credential}");
    }
    let usual = CallerFields::recognised(vec![name("x-request-id")], Vec::new());
    assert!(usual.may_be_in(names(&["host"])));
}

#[test]
fn names_of_credentials_are_recognised() {
    let fields = CallerFields::default();
    for text in [
        "Authorization",
        "Cookie",
        "AccessKey",
        "AppKey",
        "LicenseKey",
        "X-ServiceKey",
        "X-CompanyId",
        "X-ShopId",
        "X-BlogId",
        "X-LocationIds",
        "X-PatientId",
        "X-PlayerNo",
        "X-ActAs",
        "X-AssumeRole",
        "From",
        "X-API-Key",
        "X-Auth-Token",
        "Access-Token",
        "X-Access-Token",
        "Api-Key",
        "apikey",
        "X-Session-Token",
        "X-Session-Id",
        "Private-Token",
        "Ocp-Apim-Subscription-Key",
        "X-Amz-Security-Token",
        "X-Vault-Token",
        "X-Shopify-Access-Token",
        "X-Forwarded-User",
        "X-Forwarded-Email",
        "X-Auth-Request-User",
        "Remote-User",
        "Remote-Groups",
        "X-Remote-User",
        "X-Goog-IAP-JWT-Assertion",
        "Cf-Access-Jwt-Assertion",
        "X-MS-Client-Principal",
        "X-Amzn-Oidc-Data",
        "X-Consumer-Username",
        "X-Forwarded-Client-Cert",
        "X-SSL-Client-S-DN",
        "X-Hasura-Role",
        "X-Tenant-ID",
        "X-Org-Id",
        "X-UID",
        "X-Forwarded-Access-Token",
        "X-Auth-Request-Access-Token",
        "X-User-Id",
        "X-Api-Token",
        "X-JWT",
        "X-ID-Token",
        "X-Consumer-ID",
        "X-MSISDN",
        "X-Nokia-IMSI",
        "X-Up-Calling-Line-Id",
        "eppn",
        "X-Subscriber-Id",
        "X-OpenID",
        "X-Passphrase",
        "Sudo",
        "X-WSSE",
        "X-WX-UNIONID",
        "persistent-id",
        "iv-creds",
        "MSCRMCallerID",
        "CallerObjectId",
        "X-Telegram-Init-Data",
        "X-SPIFFE-ID",
        "X-Peer-Certificate",
        "X-SSL-CN",
        "X-PHPSESSID",
        "X-NITRO-PASS",
        "X-TOTP",
        "X-Company-Id",
        "X-Store-Id",
        "X-CSRF-Token",
        "DD-APPLICATION-KEY",
        "X-Plex-Token",
        "X-Authenticated-Userid",
        "X-Device-Id",
        "DPoP",
        "X-Webauth-Name",
        "X-Signature",
        "X-Customer-Number",
        "X-Frappe-Site-Name",
        "X-Odoo-Database",
        "X-Vault-Namespace",
        "X-Act-As",
        "X-Schema",
        "X-Database",
        "X-Realm",
        "X-Subdomain",
        "X-Domain",
        "X-Shop",
        "X-Shop-Domain",
        "X-Project-Id",
        "OpenAI-Project",
        "Store",
        "X-Firebase-AppCheck",
        "ProjectID",
        "X-RunAs",
        "X-Run-As",
        "X-Delegate",
        "X-Delegated-By",
        "X-AnchorMailbox",
        "X-Mailbox",
        "Dropbox-API-Select-Admin",
        "Dropbox-API-Path-Root",
        "X-Trino-Catalog",
        "X-Is-Admin",
        "X-Admin",
        "X-Privilege",
        "X-Clearance",
        "X-Access-Level",
        "X-Claims",
        "X-Plan",
        "X-Tier",
        "X-Seller-Id",
        "X-Phone-Number",
        "X-School",
        "X-Amzn-Requestcontext",
        "PSU-ID",
        "Consent-ID",
        "X-Behalf-Of",
        "X-Masquerade",
        "X-Zitadel-Orgid",
        "X-Tenancy",
        "X-Business-Unit",
        "Zuora-Entity-Ids",
        "sap-client",
        "X-Partner",
        "X-Vendor-Name",
        "X-Branch",
        "X-Site",
        "X-Person-Id",
        "X-Hotel_ID",
        "X-Legal-Entity",
    ] {
        assert!(fields.identify(&name(text)), "{text}");
    }
}

#[test]
fn usual_fields_identify_nobody() {
    let fields = CallerFields::default();
    for text in [
        "Host",
        "User-Agent",
        "Accept",
        "Accept-Language",
        "Sec-Fetch-User",
        "Sec-CH-UA-Platform",
        "X-Request-Id",
        "X-Forwarded-For",
        "X-Correlation-Id",
        "X-B3-TraceId",
        "Save-Data",
        "X-Requested-With",
        "If-None-Match",
        "X-Client-Version",
        "X-Amzn-Trace-Id",
        "Content-Type",
        "Range",
        "X-Locale",
        "X-Country",
        "X-Projection",
        "X-Explain-Plans",
        "X-Run-Id",
        "X-Request-Context",
        "X-Log-Level",
        "X-Frontend-Tiering",
        "Proxy-Authorization",
        "Sec-Fetch-Site",
        "X-Client-Name",
        "X-Ms-Client-Request-Id",
        "X-Datadog-Parent-Id",
        "X-FAPI-Interaction-Id",
        "X-Amz-Cf-Id",
        "X-Idle",
        "X-SITE-DEPLOYMENT-ID",
        "X-B3-ParentSpanId",
        "X-RequestId",
        "Test-ID",
        "X-ClientRequestId",
        "IdempotencyKey",
        "X-Android",
        "X-Grid-View",
        "X-NewRelic-ID",
    ] {
        assert!(!fields.identify(&name(text)), "{text}");
    }
}

#[test]
fn a_list_replaces_the_names_and_exempt_ones_do_not_count() {
    let only = CallerFields::only(vec![name("x-who")]);
    assert!(only.identify(&name("x-who")) && !only.identify(&name("authorization")));
    let exempt = CallerFields::recognised(vec![name("x-shop")], vec![name("x-csrf-token"), name("cookie")]);
    assert!(exempt.identify(&name("x-shop")) && exempt.identify(&name("authorization")));
    assert!(!exempt.identify(&name("x-csrf-token")) && !exempt.identify(&name("cookie")));
}

#[test]
fn what_was_decided_otherwise_is_described_otherwise() {
    let all = [
        CallerFields::default(),
        CallerFields::only(vec![AUTHORIZATION, COOKIE, X_API_KEY]),
        CallerFields::recognised(Vec::new(), vec![name("x-csrf-token")]),
        CallerFields::recognised(vec![name("x-csrf-token")], Vec::new()),
    ];
    let described: std::collections::HashSet<Vec<&[u8]>> =
        all.iter().map(|fields| fields.describe().collect()).collect();
    assert_eq!(described.len(), all.len());
}
