//! What a host can see of the configuration: defaults, reading it from files, and what is never
//! shown.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hotspan::{Compression, Config, Delivery, Dsn, HttpVersion, ParseDsnError};

fn read(text: &str) -> Result<Config, serde_json::Error> {
    serde_json::from_str(text)
}

#[test]
fn an_empty_file_is_the_default() {
    assert_eq!(format!("{:?}", read("{}").unwrap()), format!("{:?}", Config::default()));
    let config = Config::default();
    assert_eq!(config.max_spans, 1000);
    assert_eq!(config.shutdown_timeout, Duration::from_secs(2));
    assert!(config.send_client_reports && config.dsn.is_none());
    assert!(config.traces_sample_rate.is_none());
}

#[test]
fn every_field_can_be_read() {
    let config = read(
        r#"{
            "dsn": "https://k3y@host/1", "release": "r", "environment": "e", "dist": "d",
            "server_name": "s", "debug": true, "traces_sample_rate": 0.25, "max_spans": 7,
            "send_client_reports": false, "shutdown_timeout": 0.5, "http_proxy": "http://a",
            "https_proxy": "http://b", "no_proxy": "c", "ca_certs": "/etc/ca.pem",
            "compression": "none", "http_version": "2", "request_timeout": 1, "connect_timeout": 2, "transport": {"file": "folder"},
            "ring_slots": 64, "ring_bytes": 4096, "queue_bytes": 5, "queue_envelopes": 3, "flush_interval": 0.001,
            "upload_concurrency": 6, "upload_retries": 7, "spool_dir": "spool",
            "spool_bytes": 4096, "spool_envelopes": 8, "spool_age": 9,
            "open_transactions": 6, "open_slots": 8, "open_age": 9.5,
            "stuck_after": 0.75, "rules": [{"op": "a*", "rate": 0.5}], "max_per_second": 50,
            "floor_per_second": 0.25, "enable_backpressure_handling": false,
            "trace_propagation_targets": ["internal", {"regex": "^https://a\\."}],
            "propagate_traceparent": true, "strict_trace_continuation": true, "org_id": "12"
        }"#,
    )
    .unwrap();
    // Taken apart, so that a new field has to be read here too.
    let Config {
        dsn,
        release,
        environment,
        dist,
        server_name,
        debug,
        traces_sample_rate,
        traces_sampler,
        rules,
        max_per_second,
        floor_per_second,
        enable_backpressure_handling,
        trace_propagation_targets,
        propagate_traceparent,
        strict_trace_continuation,
        org_id,
        max_spans,
        send_client_reports,
        shutdown_timeout,
        http_proxy,
        https_proxy,
        no_proxy,
        ca_certs,
        compression,
        http_version,
        request_timeout,
        connect_timeout,
        transport,
        ring_slots,
        ring_bytes,
        queue_bytes,
        queue_envelopes,
        upload_concurrency,
        upload_retries,
        spool_dir,
        spool_bytes,
        spool_envelopes,
        spool_age,
        flush_interval,
        open_transactions,
        open_slots,
        open_age,
        stuck_after,
        on_stuck,
        event_processors,
        before_send_transaction,
    } = config;
    let text = |text: &str| Some(text.to_owned());
    assert_eq!((dsn, release), (text("https://k3y@host/1"), text("r")));
    assert_eq!((environment, dist, server_name), (text("e"), text("d"), text("s")));
    assert_eq!(
        (http_proxy, https_proxy, no_proxy),
        (text("http://a"), text("http://b"), text("c"))
    );
    assert_eq!((debug, traces_sample_rate), (Some(true), Some(0.25)));
    assert_eq!((max_spans, send_client_reports), (7, false));
    assert_eq!(ca_certs, Some(PathBuf::from("/etc/ca.pem")));
    assert_eq!((compression, http_version), (Compression::None, HttpVersion::Http2));
    assert!(matches!(transport, Delivery::File(folder) if folder == Path::new("folder")));
    assert_eq!((ring_slots, ring_bytes, queue_bytes), (64, 4096, 5));
    assert_eq!(queue_envelopes, 3);
    assert_eq!((upload_concurrency, upload_retries), (6, 7));
    assert_eq!(spool_dir.as_deref(), Some(Path::new("spool")));
    assert_eq!((spool_bytes, spool_envelopes, spool_age.as_secs()), (4096, 8, 9));
    assert_eq!((open_transactions, open_slots), (6, 8));
    let millis = [shutdown_timeout, request_timeout, connect_timeout, flush_interval, open_age];
    assert_eq!(millis.map(|duration| duration.as_millis()), [500, 1000, 2000, 1, 9500]);
    assert_eq!(stuck_after, Some(Duration::from_millis(750)));
    assert!(on_stuck.is_none() && traces_sampler.is_none(), "a function comes from no file");
    assert!(event_processors.is_empty() && before_send_transaction.is_none(), "nor do these");
    assert_eq!((rules.len(), rules[0].op.as_deref(), rules[0].rate), (1, Some("a*"), Some(0.5)));
    assert_eq!((max_per_second, floor_per_second), (Some(50.0), Some(0.25)));
    assert!(!enable_backpressure_handling && propagate_traceparent && strict_trace_continuation);
    assert_eq!((trace_propagation_targets.unwrap().len(), org_id), (2, text("12")));
}

#[test]
fn null_leaves_optional_fields_open() {
    let config = read(r#"{"dsn": null, "debug": null, "traces_sample_rate": null}"#).unwrap();
    assert_eq!((config.dsn, config.debug, config.traces_sample_rate), (None, None, None));
    assert_eq!(read(r#"{"stuck_after": null}"#).unwrap().stuck_after, None);
    assert_eq!(read(r#"{"traces_sample_rate": 1}"#).unwrap().traces_sample_rate, Some(1.0));
}

#[test]
fn transports_by_name() {
    assert!(matches!(read(r#"{"transport": "http"}"#).unwrap().transport, Delivery::Http));
    assert!(matches!(read(r#"{"transport": "null"}"#).unwrap().transport, Delivery::Null));
}

#[test]
fn what_cannot_be_read_is_described_and_not_repeated() {
    const SECRET: &str = "https://k3y:s3cret@host/1";
    for (text, expected) in [
        (r#"{"sample_rate": "SECRET"}"#, "unknown field `sample_rate`, expected one of `dsn`"),
        (r#"{"dsn": 1}"#, "expected a string"),
        (r#"{"dsn": ["SECRET"]}"#, "expected a string"),
        (r#"{"debug": "SECRET"}"#, "expected true, false or null"),
        (r#"{"send_client_reports": "SECRET"}"#, "expected true or false"),
        (r#"{"send_client_reports": null}"#, "expected true or false"),
        (r#"{"traces_sample_rate": "SECRET"}"#, "expected a number or null"),
        (r#"{"max_spans": "SECRET"}"#, "expected a whole number"),
        (r#"{"max_spans": -1}"#, "expected a whole number"),
        (r#"{"max_spans": 1.5}"#, "expected a whole number"),
        (r#"{"max_spans": {}}"#, "expected a whole number"),
        (r#"{"open_age": "SECRET"}"#, "expected a number of seconds"),
        (r#"{"open_age": -1}"#, "expected a number of seconds"),
        (r#"{"open_age": -0.5}"#, "expected a number of seconds"),
        (r#"{"open_age": 1e30}"#, "expected a number of seconds"),
        (r#"{"open_age": null}"#, "expected a number of seconds"),
        (r#"{"stuck_after": "SECRET"}"#, "expected a number of seconds, not negative, or null"),
        (r#"{"on_stuck": 1}"#, "unknown field `on_stuck`"),
        (r#"{"event_processors": []}"#, "unknown field `event_processors`"),
        (r#"{"before_send_transaction": 1}"#, "unknown field `before_send_transaction`"),
        (r#"{"transport": "SECRET"}"#, "expected \"http\", \"null\" or"),
        (r#"{"transport": {"SECRET": "x"}}"#, "expected \"http\", \"null\" or"),
        (r#"{"transport": {"file": "x", "SECRET": "x"}}"#, "expected \"http\", \"null\" or"),
        (r#"{"transport": {}}"#, "expected \"http\", \"null\" or"),
        (r#"{"transport": 1}"#, "expected \"http\", \"null\" or"),
        (r#"{"dsn": "a", "dsn": "b"}"#, "duplicate field `dsn`"),
    ] {
        let error = read(&text.replace("SECRET", SECRET)).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
        assert!(!error.contains("k3y"), "{text}: {error}");
    }
}

#[test]
fn debug_hides_keys_and_passwords() {
    let config = Config {
        dsn: Some("https://k3y:s3cret@host/1".into()),
        http_proxy: Some("http://user:passw0rd@proxy".into()),
        https_proxy: Some("http://user:passw0rd@proxy".into()),
        ..Config::default()
    };
    for shown in [format!("{config:?}"), format!("{config:#?}")] {
        for secret in ["k3y", "s3cret", "user", "passw0rd"] {
            assert!(!shown.contains(secret), "{shown}");
        }
        assert!(shown.contains("***") && shown.contains("max_spans"), "{shown}");
    }
}

#[test]
fn dsns_are_public() {
    let dsn: Dsn = "http://key@localhost:9000/prefix/3".parse().unwrap();
    assert_eq!(dsn.envelope_url(), "http://localhost:9000/prefix/api/3/envelope/");
    let error = "http://localhost/3".parse::<Dsn>().unwrap_err();
    assert_eq!(error, ParseDsnError::PublicKey);
    assert_eq!(error.to_string(), "the public key is missing");
}
