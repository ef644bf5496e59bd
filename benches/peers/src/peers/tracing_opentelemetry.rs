//! tracing's spans, recorded by OpenTelemetry's SDK: the usual way from tracing to a collector.

use opentelemetry::trace::TracerProvider;
use tracing::subscriber::set_global_default;
use tracing_subscriber::Registry;
use tracing_subscriber::layer::SubscriberExt;

use super::opentelemetry::Provider;
use super::tracing::item;
use crate::peer::{Absent, Mode, Peer};
use crate::work::Work;

pub struct Layered(Provider);

impl Peer for Layered {
    fn start(mode: Mode) -> Result<Self, Absent> {
        if mode == Mode::Off {
            return Err(Absent::NotOffered("that is tracing's row"));
        }
        let provider = Provider::start(mode)?;
        let tracer = provider.provider.tracer("peers");
        let layer = tracing_opentelemetry::layer().with_tracer(tracer);
        set_global_default(Registry::default().with(layer))?;
        Ok(Self(provider))
    }

    fn item(&self, work: Work, n: u64) {
        item(work, n);
    }

    fn settle(&self) {
        self.0.settle();
    }

    fn delivered(&self) -> Option<u64> {
        Some(self.0.delivered())
    }
}
