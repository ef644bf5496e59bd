//! Any text is a DSN or an error. What is a DSN is fit for an address and a header, shows no key,
//! and means the same when it is put together again.
#![no_main]

use hotspan::Dsn;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(dsn) = text.parse::<Dsn>() else { return };
    let url = dsn.envelope_url();
    let header = dsn.auth_header("fuzz/1");
    assert!(url.bytes().all(|byte| byte.is_ascii_graphic()), "{url}");
    assert!(header.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' '), "{header}");
    assert!(url.starts_with(dsn.scheme()) && url.contains(dsn.host()));
    assert!(url.ends_with(&format!("/api/{}/envelope/", dsn.project_id())), "{url}");
    assert!(!url.contains(['?', '#']) && dsn.port() > 0);
    // Only the separators of the header itself: nothing can be slipped in through the key.
    let members = if header.contains(", sentry_secret=") { 4 } else { 3 };
    assert_eq!(header.split(',').count(), members, "{header}");

    let shown = dsn.to_string();
    assert!(shown.contains("://***@"), "{shown}");
    let again: Dsn = shown.replacen("***", dsn.public_key(), 1).parse().expect("it was one before");
    assert_eq!(again.envelope_url(), url);
    assert_eq!((again.public_key(), again.org_id()), (dsn.public_key(), dsn.org_id()));
});
