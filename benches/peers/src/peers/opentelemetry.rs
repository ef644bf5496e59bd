//! OpenTelemetry's SDK: `in_span`, which makes a span current for a closure, and the batch
//! processor. Its queue is larger than by default (2,048), which a batch here would overflow.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use opentelemetry::KeyValue;
use opentelemetry::global::{self, BoxedTracer};
use opentelemetry::trace::Tracer;
use opentelemetry_otlp::{Protocol, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider, SpanData, SpanExporter,
};

use crate::Result;
use crate::peer::{Absent, Mode, Peer};
use crate::work::{DEPTH, Shape, Work, names};

/// Spans that may wait for the exporter.
const QUEUE: usize = 65_536;

pub struct Opentelemetry {
    provider: Option<Provider>,
    tracer: BoxedTracer,
}

impl Peer for Opentelemetry {
    fn start(mode: Mode) -> Result<Self, Absent> {
        let provider = if mode == Mode::Off { None } else { Some(Provider::start(mode)?) };
        if let Some(provider) = &provider {
            global::set_tracer_provider(provider.provider.clone());
        }
        Ok(Self { provider, tracer: global::tracer("peers") })
    }

    fn item(&self, work: Work, n: u64) {
        let mut root = self.tracer.span_builder(names::ROOT);
        if work.attributes {
            root = root.with_attributes([
                KeyValue::new(names::QUEUE, names::QUEUE_VALUE),
                KeyValue::new(names::ATTEMPT, n as i64),
            ]);
        }
        self.tracer.in_span_with_builder(root, |_| match work.shape {
            Shape::Nested => self.nest(DEPTH),
            Shape::Flat(children) => {
                for child in 0..children {
                    self.child(work, child);
                }
            }
        });
    }

    fn settle(&self) {
        if let Some(provider) = &self.provider {
            provider.settle();
        }
    }

    fn delivered(&self) -> Option<u64> {
        self.provider.as_ref().map(Provider::delivered)
    }
}

impl Opentelemetry {
    fn child(&self, work: Work, child: u64) {
        if !work.attributes {
            return self.tracer.in_span(names::CHILD, |context| drop(black_box(context)));
        }
        let attribute = match child % 2 {
            0 => KeyValue::new(names::TABLE, names::TABLE_VALUE),
            _ => KeyValue::new(names::ROWS, child as i64),
        };
        let span = self.tracer.span_builder(names::CHILD).with_attributes([attribute]);
        self.tracer.in_span_with_builder(span, |context| drop(black_box(context)));
    }

    fn nest(&self, left: u64) {
        if left > 0 {
            self.tracer.in_span(names::CHILD, |_| self.nest(black_box(left - 1)));
        }
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
