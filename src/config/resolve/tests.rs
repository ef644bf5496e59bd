use super::*;

const DSN: &str = "https://k3y:s3cret@host/1";

/// Resolves with these variables and no others.
fn resolve(config: Config, variables: &[(&str, &str)]) -> Result<Resolved, ConfigError> {
    config.resolve(&|name| {
        variables
            .iter()
            .find(|(variable, _)| *variable == name)
            .map(|(_, value)| (*value).to_owned())
    })
}

#[track_caller]
fn good(config: Config, variables: &[(&str, &str)]) -> Resolved {
    resolve(config, variables).unwrap()
}

/// The field and the variable that are blamed.
#[track_caller]
fn blamed(
    config: Config,
    variables: &[(&str, &str)],
) -> (Option<&'static str>, Option<&'static str>) {
    let error = resolve(config, variables).unwrap_err();
    let shown = format!("{error} {error:?}");
    for secret in ["k3y", "s3cret", "passw0rd"] {
        assert!(!shown.contains(secret), "{shown}");
    }
    assert!(shown.contains(error.field().unwrap()), "{shown}");
    (error.field(), error.variable())
}

fn config() -> Config {
    Config::default()
}

#[test]
fn defaults_are_good_and_send_nothing() {
    let resolved = good(config(), &[]);
    assert!(resolved.dsn.is_none() && resolved.proxy.is_none() && !resolved.debug);
    assert_eq!(resolved.sampling.rate, None);
    assert_eq!((resolved.release, resolved.dist), (None, None));
    let expected = if cfg!(debug_assertions) { "development" } else { "production" };
    assert_eq!(resolved.environment.as_deref(), Some(expected));
    #[cfg(target_os = "linux")]
    {
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        assert_eq!(resolved.server_name.as_deref(), Some(name.trim()));
    }
}

#[test]
#[cfg(feature = "http")]
fn explicit_beats_environment() {
    let variables = [
        ("SENTRY_DSN", "http://env@env/2"),
        ("SENTRY_RELEASE", "env"),
        ("SENTRY_ENVIRONMENT", "env"),
        ("SENTRY_DEBUG", "yes"),
        ("SENTRY_TRACES_SAMPLE_RATE", "0.5"),
    ];
    let from_environment = good(config(), &variables);
    assert_eq!(from_environment.dsn.unwrap().host(), "env");
    assert_eq!(from_environment.release.as_deref(), Some("env"));
    assert_eq!(from_environment.environment.as_deref(), Some("env"));
    assert!(from_environment.debug);
    assert_eq!(from_environment.sampling.rate, Some(500_000));

    let set = |text: &str| Some(text.to_owned());
    let explicit = good(
        Config {
            dsn: set("http://own@own/1"),
            release: set("own"),
            environment: set("own"),
            debug: Some(false),
            traces_sample_rate: Some(0.0),
            ..config()
        },
        &variables,
    );
    assert_eq!(explicit.dsn.unwrap().host(), "own");
    assert_eq!(explicit.release.as_deref(), Some("own"));
    assert_eq!(explicit.environment.as_deref(), Some("own"));
    assert!(!explicit.debug);
    assert_eq!(explicit.sampling.rate, Some(0));

    let none = good(
        Config {
            dsn: set(""),
            release: set(""),
            environment: set(""),
            server_name: set(""),
            ..config()
        },
        &variables,
    );
    assert!(none.dsn.is_none());
    assert_eq!((none.release, none.environment, none.server_name), (None, None, None));
}

#[test]
fn empty_variables_are_absent() {
    let variables = [
        ("SENTRY_DSN", " "),
        ("SENTRY_RELEASE", ""),
        ("SENTRY_ENVIRONMENT", ""),
        ("SENTRY_DEBUG", ""),
        ("SENTRY_TRACES_SAMPLE_RATE", ""),
    ];
    let resolved = good(config(), &variables);
    assert!(resolved.dsn.is_none() && resolved.release.is_none() && !resolved.debug);
    assert!(resolved.environment.is_some() && resolved.sampling.rate.is_none());
}

#[test]
fn what_is_wrong_in_the_environment_is_named() {
    for (variable, value, field) in [
        ("SENTRY_DSN", "https://k3y:s3cret@host/x", "dsn"),
        ("SENTRY_DSN", "ftp://k3y:s3cret@host/1", "dsn"),
        ("SENTRY_TRACES_SAMPLE_RATE", "1.01", "traces_sample_rate"),
        ("SENTRY_TRACES_SAMPLE_RATE", "nan", "traces_sample_rate"),
        ("SENTRY_TRACES_SAMPLE_RATE", "1%", "traces_sample_rate"),
        ("SENTRY_TRACES_SAMPLE_RATE", "https://k3y:s3cret@host/1", "traces_sample_rate"),
        ("SENTRY_DEBUG", "k3y", "debug"),
        ("SENTRY_RELEASE", "k3y\n", "release"),
        ("SENTRY_ENVIRONMENT", "k3y/", "environment"),
    ] {
        assert_eq!(
            blamed(config(), &[(variable, value)]),
            (Some(field), Some(variable)),
            "{value}"
        );
    }
    let error = resolve(config(), &[("SENTRY_DSN", "https://k3y@host/x")]).unwrap_err();
    assert!(error.is_dsn());
    let error = resolve(config(), &[("SENTRY_TRACES_SAMPLE_RATE", "2")]).unwrap_err();
    assert!(error.is_out_of_range());
    let error = resolve(config(), &[("SENTRY_TRACES_SAMPLE_RATE", "x")]).unwrap_err();
    assert!(error.is_malformed());
}

#[test]
fn a_bad_dsn_is_an_error_whatever_the_transport() {
    let config = || Config { dsn: Some("https://k3y@host/x".into()), ..config() };
    assert_eq!(blamed(config(), &[]), (Some("dsn"), None));
    let config = Config { transport: Delivery::Null, ..config() };
    assert_eq!(blamed(config, &[]), (Some("dsn"), None));
}

#[test]
#[cfg(not(feature = "http"))]
fn a_dsn_needs_http_unless_something_else_delivers() {
    let config = || Config { dsn: Some(DSN.into()), ..config() };
    let error = resolve(config(), &[]).unwrap_err();
    assert!(error.is_unsupported() && error.field() == Some("dsn"));
    assert!(good(Config { transport: Delivery::Null, ..config() }, &[]).dsn.is_some());
}

#[test]
fn http_2_needs_its_feature() {
    let http_version = HttpVersion::Http2;
    match resolve(Config { http_version, ..config() }, &[]) {
        Ok(resolved) => {
            assert!(cfg!(feature = "http2") && resolved.http_version == HttpVersion::Http2);
        }
        Err(error) => {
            assert!(!cfg!(feature = "http2") && error.is_unsupported());
            assert_eq!(error.field(), Some("http_version"));
        }
    }
}

#[test]
fn a_compression_needs_its_feature() {
    let with = |compression| resolve(Config { compression, ..config() }, &[]);
    assert_eq!(with(Compression::None).unwrap().compression, Compression::None);
    match with(Compression::Zstd) {
        Ok(resolved) => {
            assert!(cfg!(feature = "zstd") && resolved.compression == Compression::Zstd);
        }
        Err(error) => {
            assert!(!cfg!(feature = "zstd") && error.is_unsupported(), "{error}");
            assert_eq!(error.field(), Some("compression"));
        }
    }
}

#[test]
#[cfg(all(feature = "http", not(feature = "rustls")))]
fn https_needs_tls_unless_something_else_delivers() {
    let dsn = |scheme: &str| Some(format!("{scheme}://k3y@host/1"));
    let error = resolve(Config { dsn: dsn("https"), ..config() }, &[]).unwrap_err();
    assert!(error.is_unsupported() && error.to_string().contains("`rustls`"), "{error}");
    let from_variable = [("SENTRY_DSN", "https://k3y@host/1")];
    assert_eq!(blamed(config(), &from_variable), (Some("dsn"), Some("SENTRY_DSN")));
    good(Config { dsn: dsn("https"), transport: Delivery::Null, ..config() }, &[]);
    good(Config { dsn: dsn("http"), ..config() }, &[]);
    let proxy = [("http_proxy", "https://user:passw0rd@proxy")];
    let blame = blamed(Config { dsn: dsn("http"), ..config() }, &proxy);
    assert_eq!(blame, (Some("http_proxy"), Some("http_proxy")));
}

#[test]
#[cfg(feature = "rustls")]
fn certificates_come_from_the_environment_where_tls_is_used() {
    let env = [("SSL_CERT_FILE", "ca.pem")];
    let with = |scheme: &str, ca_certs: Option<&str>| Config {
        dsn: Some(format!("{scheme}://k3y@host/1")),
        ca_certs: ca_certs.map(PathBuf::from),
        ..config()
    };
    let chosen = |config: Config, variables: &[(&str, &str)]| {
        let resolved = good(config, variables);
        let file = resolved.ca_certs.map(|file| file.to_string_lossy().into_owned());
        (file.unwrap_or_default(), resolved.ca_certs_variable)
    };
    let nothing = (String::new(), None);
    // The system's own verifier reads the variable itself.
    let from_variable = match cfg!(feature = "platform-verifier") {
        true => nothing.clone(),
        false => ("ca.pem".to_owned(), Some("SSL_CERT_FILE")),
    };
    assert_eq!(chosen(with("https", None), &env), from_variable);
    assert_eq!(chosen(with("https", None), &[]), nothing);
    assert_eq!(chosen(with("https", Some("own.pem")), &env), ("own.pem".to_owned(), None));
    assert_eq!(chosen(with("https", Some("")), &env), nothing, "an empty text says: none");
    assert_eq!(chosen(with("http", None), &env), nothing);
    let over_tls = [env[0], ("http_proxy", "https://proxy")];
    assert_eq!(chosen(with("http", None), &over_tls), from_variable);
    assert_eq!(chosen(Config { transport: Delivery::Null, ..config() }, &env), nothing);
}

#[test]
fn rates_become_millionths() {
    for (rate, expected) in [
        (0.0, Some(0)),
        (-0.0, Some(0)),
        (1.0, Some(1_000_000)),
        (0.1, Some(100_000)),
        (0.07, Some(70_000)),
        (0.000_001, Some(1)),
        (0.999_999, Some(999_999)),
        (0.999_999_9, Some(1_000_000)),
        (0.1 + f64::EPSILON, Some(100_001)),
        (0.123_456_7, Some(123_457)),
        (1.0 / 3.0, Some(333_334)),
        (1e-9, Some(1)),
        (f64::MIN_POSITIVE, Some(1)),
        (5e-324, Some(1)),
        (1.0 - f64::EPSILON / 2.0, Some(1_000_000)),
        (1.0 + f64::EPSILON, None),
        (-5e-324, None),
        (-0.5, None),
        (100.0, None),
        (f64::NAN, None),
        (f64::INFINITY, None),
        (f64::NEG_INFINITY, None),
    ] {
        assert_eq!(millionths(rate), expected, "{rate}");
        let config = Config { traces_sample_rate: Some(rate), ..config() };
        match resolve(config, &[]) {
            Ok(resolved) => assert_eq!(resolved.sampling.rate, expected, "{rate}"),
            Err(error) => {
                assert!(expected.is_none() && error.is_out_of_range());
                assert_eq!(error.field(), Some("traces_sample_rate"));
            }
        }
    }
}

#[test]
fn every_rate_of_six_decimals_is_exact() {
    for n in 0..=1_000_000_u32 {
        let text = format!("{}.{:06}", n / 1_000_000, n % 1_000_000);
        assert_eq!(millionths(text.parse().unwrap()), Some(n), "{text}");
    }
}

/// A change to the configuration.
type Change = fn(&mut Config);

/// A way to one field.
type Access<T> = fn(&mut Config) -> &mut T;

/// The field that is blamed after a change, if one is.
fn verdict(change: Change) -> Option<&'static str> {
    let mut config = config();
    change(&mut config);
    resolve(config, &[]).err().map(|error| {
        assert!(error.is_out_of_range() || error.is_malformed(), "{error}");
        error.field().unwrap()
    })
}

#[test]
fn numbers_are_bounded() {
    let table: &[(Change, Option<&str>)] = &[
        (|c| c.max_spans = 0, Some("max_spans")),
        (|c| c.max_spans = 1, None),
        (|c| c.max_spans = 100_000, None),
        (|c| c.max_spans = 100_001, Some("max_spans")),
        (|c| c.ring_slots = 0, Some("ring_slots")),
        (|c| c.ring_slots = 63, Some("ring_slots")),
        (|c| c.ring_slots = 64, None),
        (|c| c.ring_slots = 262_144, None),
        (|c| c.ring_slots = 262_145, Some("ring_slots")),
        (|c| c.ring_slots = usize::MAX, Some("ring_slots")),
        (|c| c.ring_bytes = 0, Some("ring_bytes")),
        (|c| c.ring_bytes = 4095, Some("ring_bytes")),
        (|c| c.ring_bytes = 4096, Some("ring_slots")),
        (|c| (c.ring_bytes, c.ring_slots) = (4096, 64), None),
        (|c| (c.ring_bytes, c.ring_slots) = (4159, 65), Some("ring_slots")),
        (|c| c.ring_bytes = RING_BYTES_MAX, None),
        (|c| c.ring_bytes = RING_BYTES_MAX + 1, Some("ring_bytes")),
        (|c| c.ring_bytes = usize::MAX, Some("ring_bytes")),
        (|c| c.queue_bytes = 0, Some("queue_bytes")),
        (|c| c.queue_bytes = 1, None),
        (|c| c.queue_bytes = usize::MAX, Some("queue_bytes")),
        (|c| c.open_transactions = 0, Some("open_transactions")),
        (|c| c.open_transactions = OPEN_MAX, None),
        (|c| c.open_transactions = OPEN_MAX + 1, Some("open_transactions")),
        (|c| c.open_slots = 0, Some("open_slots")),
        (|c| c.open_slots = usize::MAX, Some("open_slots")),
        (|c| c.compression = Compression::None, None),
    ];
    for (line, (change, expected)) in table.iter().enumerate() {
        assert_eq!(verdict(*change), *expected, "line {line}");
    }
}

#[test]
fn durations_are_bounded() {
    let fields: [(&str, Access<Duration>); 6] = [
        ("request_timeout", |c| &mut c.request_timeout),
        ("connect_timeout", |c| &mut c.connect_timeout),
        ("flush_interval", |c| &mut c.flush_interval),
        ("open_age", |c| &mut c.open_age),
        ("stuck_after", |c| c.stuck_after.get_or_insert_default()),
        ("shutdown_timeout", |c| &mut c.shutdown_timeout),
    ];
    for (field, of) in fields {
        for (value, is_good) in [
            // Not to wait at the end is a choice; the others would spin or never work.
            (Duration::ZERO, field == "shutdown_timeout"),
            (Duration::from_micros(999), field == "shutdown_timeout"),
            (Duration::from_millis(1), true),
            (DAY, true),
            (DAY + Duration::from_nanos(1), false),
            (Duration::MAX, false),
        ] {
            let mut config = config();
            *of(&mut config) = value;
            match resolve(config, &[]) {
                Ok(_) => assert!(is_good, "{field} {value:?}"),
                Err(error) => {
                    assert!(!is_good && error.is_out_of_range(), "{error} {value:?}");
                    assert_eq!(error.field(), Some(field));
                }
            }
        }
    }
}

#[test]
fn texts_follow_the_servers_rules() {
    let fields: [(&str, Access<Option<String>>, usize); 4] = [
        ("release", |c| &mut c.release, 200),
        ("environment", |c| &mut c.environment, 64),
        ("dist", |c| &mut c.dist, 64),
        ("server_name", |c| &mut c.server_name, 256),
    ];
    for (field, of, chars_max) in fields {
        let longest = "ü".repeat(chars_max);
        let too_long = "ü".repeat(chars_max + 1);
        let only_release_minds = field != "release";
        for (text, is_good) in [
            ("app@1.0+2", true),
            (longest.as_str(), true),
            (too_long.as_str(), false),
            ("a\nb", false),
            ("a\tb", false),
            ("a\0b", false),
            ("\u{7f}", false),
            (" ", false),
            ("\u{a0} ", false),
            (" a ", true),
            (".", only_release_minds),
            ("..", only_release_minds),
            ("...", true),
            ("a/b", field != "environment"),
            ("//", field == "dist" || field == "server_name"),
        ] {
            let mut config = Config { release: Some("release".into()), ..config() };
            *of(&mut config) = Some(text.to_owned());
            match resolve(config, &[]) {
                Ok(_) => assert!(is_good, "{field} {text:?}"),
                Err(error) => {
                    assert!(!is_good && error.is_malformed(), "{error} {text:?}");
                    assert_eq!(error.field(), Some(field));
                }
            }
        }
    }
}

#[test]
fn a_dist_needs_a_release() {
    let config = || Config { dist: Some("7".into()), ..config() };
    assert_eq!(blamed(config(), &[]), (Some("dist"), None));
    assert_eq!(good(config(), &[("SENTRY_RELEASE", "1")]).dist.as_deref(), Some("7"));
}

#[cfg(feature = "rustls")]
mod proxies {
    use super::*;

    /// The proxy for a DSN of this scheme; options as (http_proxy, https_proxy, no_proxy).
    #[track_caller]
    fn chosen(
        scheme: &str,
        options: (Option<&str>, Option<&str>, Option<&str>),
        variables: &[(&str, &str)],
    ) -> Option<String> {
        let config = Config {
            dsn: Some(format!("{scheme}://k3y@host.example/1")),
            http_proxy: options.0.map(str::to_owned),
            https_proxy: options.1.map(str::to_owned),
            no_proxy: options.2.map(str::to_owned),
            ..config()
        };
        good(config, variables).proxy.map(|proxy| proxy.url().to_owned())
    }

    const NONE: (Option<&str>, Option<&str>, Option<&str>) = (None, None, None);

    #[test]
    fn variables_are_asked_in_order() {
        let all = [
            ("https_proxy", "a:1"),
            ("HTTPS_PROXY", "b:1"),
            ("http_proxy", "c:1"),
            ("HTTP_PROXY", "d:1"),
        ];
        for (skip, https, http) in [
            (0, Some("http://a:1"), Some("http://c:1")),
            (1, Some("http://b:1"), Some("http://c:1")),
            (2, Some("http://c:1"), Some("http://c:1")),
            (3, Some("http://d:1"), Some("http://d:1")),
            (4, None, None),
        ] {
            assert_eq!(chosen("https", NONE, &all[skip..]).as_deref(), https);
            assert_eq!(chosen("http", NONE, &all[skip..]).as_deref(), http);
        }
        let cgi = [("HTTP_PROXY", "evil:1"), ("REQUEST_METHOD", "GET")];
        assert_eq!(chosen("http", NONE, &cgi), None);
        let cgi = [("http_proxy", "own:1"), ("REQUEST_METHOD", "GET")];
        assert_eq!(chosen("http", NONE, &cgi).as_deref(), Some("http://own:1"));
    }

    #[test]
    fn explicit_proxies_beat_the_environment() {
        let env = [("https_proxy", "a:1"), ("http_proxy", "b:1")];
        let own = (None, Some("https://user:passw0rd@own"), None);
        assert_eq!(chosen("https", own, &env).as_deref(), Some("https://user:passw0rd@own:443"));
        assert_eq!(chosen("http", own, &env).as_deref(), Some("http://b:1"));
        assert_eq!(chosen("https", (None, Some(""), None), &env), None);
        assert_eq!(chosen("http", (Some(""), None, None), &env), None);
        assert_eq!(
            chosen("https", (Some("own"), None, None), &[]).as_deref(),
            Some("http://own:80")
        );
    }

    #[test]
    fn exceptions_concern_proxies_of_their_own_rank() {
        let env = [("https_proxy", "a:1"), ("no_proxy", "example")];
        let own = Some("own:1");
        assert_eq!(chosen("https", NONE, &env), None);
        assert_eq!(chosen("https", (None, own, None), &env).as_deref(), Some("http://own:1"));
        assert_eq!(chosen("https", (None, own, Some("example")), &env), None);
        assert_eq!(chosen("https", (None, None, Some("")), &env).as_deref(), Some("http://a:1"));
        let upper = [("https_proxy", "a:1"), ("NO_PROXY", "host.example:443")];
        assert_eq!(chosen("https", NONE, &upper), None);
    }

    #[test]
    fn a_bad_proxy_is_blamed_where_it_came_from_if_it_is_used() {
        let bad = "socks5://user:passw0rd@proxy";
        let with_dsn = || Config { dsn: Some(DSN.into()), ..config() };
        let own = Config { https_proxy: Some(bad.into()), ..with_dsn() };
        assert_eq!(blamed(own, &[]), (Some("https_proxy"), None));
        assert_eq!(
            blamed(with_dsn(), &[("HTTP_PROXY", bad)]),
            (Some("http_proxy"), Some("HTTP_PROXY"))
        );
        good(with_dsn(), &[("HTTP_PROXY", bad), ("NO_PROXY", "host")]);
        good(config(), &[("HTTP_PROXY", bad)]);
        good(Config { transport: Delivery::Null, ..with_dsn() }, &[("HTTP_PROXY", bad)]);
    }

    #[test]
    fn nothing_secret_is_in_what_debug_shows() {
        let config = Config {
            dsn: Some(DSN.into()),
            https_proxy: Some("http://user:passw0rd@proxy".into()),
            ..config()
        };
        let shown = format!("{config:?} {:?}", good(config.clone(), &[]));
        for secret in ["k3y", "s3cret", "passw0rd", "user"] {
            assert!(!shown.contains(secret), "{shown}");
        }
        assert!(shown.contains("Proxy(http://proxy:80)"), "{shown}");
    }
}
