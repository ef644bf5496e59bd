//! OpenTelemetry's SDK: `in_span`, which makes a span current for a closure, where there is
//! something below it, and `start` where there is nothing; and the batch processor. Its queue is
//! larger than by default (2,048), which a batch here would overflow.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use opentelemetry::KeyValue;
use opentelemetry::global::{self, BoxedTracer};
use opentelemetry::trace::{Span, Tracer, TracerProvider};
use opentelemetry_otlp::{Protocol, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracer, SdkTracerProvider, SpanData,
    SpanExporter,
};

use crate::Result;
use crate::peer::{Absent, Mode, Peer};
use crate::work::{DEPTH, Shape, Work, names};

/// Spans that may wait for the exporter.
const QUEUE: usize = 65_536;

pub struct Opentelemetry {
    /// `None`: not set up, and whatever the API has then records nothing.
    provider: Option<(Provider, SdkTracer)>,
    global: BoxedTracer,
}

impl Peer for Opentelemetry {
    fn start(mode: Mode) -> Result<Self, Absent> {
        let provider = if mode == Mode::Off { None } else { Some(Provider::start(mode)?) };
        let provider = provider.map(|provider| {
            let tracer = provider.provider.tracer("peers");
            (provider, tracer)
        });
        Ok(Self { provider, global: global::tracer("peers") })
    }

    fn item(&self, work: Work, n: u64) {
        match &self.provider {
            // The SDK's own: the global one boxes each span.
            Some((_, tracer)) => item(tracer, work, n),
            None => item(&self.global, work, n),
        }
    }

    fn settle(&self) {
        if let Some((provider, _)) = &self.provider {
            provider.settle();
        }
    }

    fn delivered(&self) -> Option<u64> {
        self.provider.as_ref().map(|(provider, _)| provider.delivered())
    }
}

fn item<T: Tracer>(tracer: &T, work: Work, n: u64)
where
    T::Span: Send + Sync + 'static,
{
    let mut root = tracer.span_builder(names::ROOT);
    if work.attributes {
        root = root.with_attributes([
            KeyValue::new(names::QUEUE, names::QUEUE_VALUE),
            KeyValue::new(names::ATTEMPT, n as i64),
        ]);
    }
    tracer.in_span_with_builder(root, |_| match work.shape {
        Shape::Nested => nest(tracer, DEPTH),
        Shape::Flat(children) => {
            for child in 0..children {
                // With no children of its own it need not be current, which costs less.
                let mut span = tracer.start(names::CHILD);
                if work.attributes {
                    span.set_attribute(match child % 2 {
                        0 => KeyValue::new(names::TABLE, names::TABLE_VALUE),
                        _ => KeyValue::new(names::ROWS, child as i64),
                    });
                }
                black_box(&span);
                span.end();
            }
        }
    });
}

fn nest<T: Tracer>(tracer: &T, left: u64)
where
    T::Span: Send + Sync + 'static,
{
    if left > 0 {
        tracer.in_span(names::CHILD, |_| nest(tracer, black_box(left - 1)));
    }
}

/// The SDK, set up; tracing's layer records into the same.
pub struct Provider {
    pub provider: SdkTracerProvider,
    exported: Arc<AtomicU64>,
}

impl Provider {
    pub fn start(mode: Mode) -> Result<Self> {
        let exported = Arc::new(AtomicU64::new(0));
        let processor = match mode {
            Mode::Send(port) => batches(otlp(port)?),
            _ => batches(Counting(Arc::clone(&exported))),
        };
        let sampler = if mode == Mode::Unsampled { Sampler::AlwaysOff } else { Sampler::AlwaysOn };
        let provider = SdkTracerProvider::builder()
            .with_resource(Resource::builder().with_service_name("peers").build())
            .with_span_processor(processor)
            .with_sampler(sampler)
            .build();
        Ok(Self { provider, exported })
    }

    pub fn settle(&self) {
        let _ = self.provider.force_flush();
    }

    pub fn delivered(&self) -> u64 {
        self.exported.load(Ordering::Relaxed)
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        let _ = self.provider.shutdown();
    }
}

fn batches(exporter: impl SpanExporter + 'static) -> BatchSpanProcessor {
    let config = BatchConfigBuilder::default().with_max_queue_size(QUEUE).build();
    BatchSpanProcessor::builder(exporter).with_batch_config(config).build()
}

/// Protobuf over HTTP, by the default client.
///
/// # Errors
/// The exporter could not be made.
pub fn otlp(port: u16) -> Result<opentelemetry_otlp::SpanExporter> {
    Ok(opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(format!("http://127.0.0.1:{port}/v1/traces"))
        .build()?)
}

#[derive(Debug)]
struct Counting(Arc<AtomicU64>);

impl SpanExporter for Counting {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.0.fetch_add(batch.len() as u64, Ordering::Relaxed);
        Ok(())
    }
}
