//! [`Config`] in `Debug` output: everything that can be set, and no secret.

use std::fmt;

use super::Config;

impl fmt::Debug for Config {
    /// Everything but the DSN and the proxies, which may hold secrets: these show only whether they
    /// are set.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Taken apart, so that a new field cannot be forgotten.
        let Self {
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
        } = self;
        let hidden = |text: &Option<String>| text.as_ref().map(|_| format_args!("***"));
        f.debug_struct("Config")
            .field("dsn", &hidden(dsn))
            .field("release", release)
            .field("environment", environment)
            .field("dist", dist)
            .field("server_name", server_name)
            .field("debug", debug)
            .field("traces_sample_rate", traces_sample_rate)
            .field("traces_sampler", &traces_sampler.as_ref().map(|_| format_args!("..")))
            .field("rules", rules)
            .field("max_per_second", max_per_second)
            .field("floor_per_second", floor_per_second)
            .field("enable_backpressure_handling", enable_backpressure_handling)
            .field("trace_propagation_targets", trace_propagation_targets)
            .field("propagate_traceparent", propagate_traceparent)
            .field("strict_trace_continuation", strict_trace_continuation)
            .field("org_id", org_id)
            .field("max_spans", max_spans)
            .field("send_client_reports", send_client_reports)
            .field("shutdown_timeout", shutdown_timeout)
            .field("http_proxy", &hidden(http_proxy))
            .field("https_proxy", &hidden(https_proxy))
            .field("no_proxy", no_proxy)
            .field("ca_certs", ca_certs)
            .field("compression", compression)
            .field("http_version", http_version)
            .field("request_timeout", request_timeout)
            .field("connect_timeout", connect_timeout)
            .field("transport", transport)
            .field("ring_slots", ring_slots)
            .field("ring_bytes", ring_bytes)
            .field("queue_bytes", queue_bytes)
            .field("queue_envelopes", queue_envelopes)
            .field("upload_concurrency", upload_concurrency)
            .field("upload_retries", upload_retries)
            .field("spool_dir", spool_dir)
            .field("spool_bytes", spool_bytes)
            .field("spool_envelopes", spool_envelopes)
            .field("spool_age", spool_age)
            .field("flush_interval", flush_interval)
            .field("open_transactions", open_transactions)
            .field("open_slots", open_slots)
            .field("open_age", open_age)
            .field("stuck_after", stuck_after)
            .field("on_stuck", &on_stuck.as_ref().map(|_| format_args!("..")))
            .field("event_processors", &event_processors.len())
            .field(
                "before_send_transaction",
                &before_send_transaction.as_ref().map(|_| format_args!("..")),
            )
            .finish()
    }
}
