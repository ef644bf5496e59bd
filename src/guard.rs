//! [`init`]: one running library a process, and what it is made of.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use crossbeam_utils::atomic::AtomicCell;

use crate::config::{Config, Delivery, Resolved, process_environment};
use crate::dsn::Dsn;
use crate::error::ConfigError;
use crate::flush::assemble::Bounds;
use crate::flush::client::{Client, Plan};
use crate::flush::encode::Site;
use crate::flush::keep::Keep;
use crate::flush::queue::Rules;
use crate::flush::spool::{Bounds as SpoolBounds, fingerprint};
use crate::flush::spooler::SpoolPlan;
use crate::flush::watch::Watch;
use crate::inflight;
use crate::propagate::site_members;
use crate::propagation::{Outbound, set_outbound};
use crate::running::{self, Guard, Running};
use crate::sampling::{Sampling, Table, live};
use crate::shared::arena::Arena;
use crate::shared::clock;
use crate::shared::id::WireIds;
use crate::shared::ledger;
use crate::shared::settings::SETTINGS;
use crate::shared::{names, registry, traces};
use crate::stats::stats;
use crate::transport::{File, Null, Transport};

/// The client that is running, of the process that is its [`HOLDER`].
static CLIENT: ArcSwapOption<Client> = ArcSwapOption::const_empty();

/// The process that called `init`; 0: nobody did. A fork's copy of it names the parent.
static HOLDER: AtomicCell<u32> = AtomicCell::new(0);

/// The process that makes what a process and its forks have once, and whether that was done.
static PREPARING: AtomicCell<u32> = AtomicCell::new(0);
static PREPARED: AtomicCell<bool> = AtomicCell::new(false);

/// The running client, for `stats()`. A fork's child sees none that is its parent's, whose locks
/// may have been held when it was copied.
pub(crate) fn client() -> Option<Arc<Client>> {
    if HOLDER.load() == std::process::id() { CLIENT.load_full() } else { None }
}

/// Starts recording and delivering, until the guard is dropped.
///
/// Reserves the memory of the rings (address space only), starts threads (a flusher, an uploader,
/// one for a spool; more uploaders as they are needed), and calibrates the clock, which takes up to
/// 200 ms once in a process. With no DSN and the usual transport, or with no sample rate, nothing
/// is recorded and no thread is started. Signals: block them before, the threads inherit the mask.
///
/// # Errors
/// Bad values, naming the field or the environment variable and never echoing a secret; a second
/// `init` while the first is running; no memory, thread or transport to be had. In a process that
/// was forked off, `init` starts anew; it is an error ([`ConfigError::is_thread`]) where the parent
/// was in its first `init` on another thread.
///
/// ```
/// use hotspan::{Config, Delivery};
///
/// let guard = hotspan::init(Config {
///     transport: Delivery::Null,
///     traces_sample_rate: Some(1.0),
///     ..Config::default()
/// })?;
/// drop(hotspan::start_transaction("queue.process", "orders"));
/// let report = guard.close(std::time::Duration::from_secs(2));
/// assert_eq!(report.delivered.transactions, 1);
/// # Ok::<(), hotspan::ConfigError>(())
/// ```
pub fn init(config: Config) -> Result<Guard, ConfigError> {
    let resolved = config.resolve(&process_environment)?;
    let shutdown_timeout = resolved.shutdown_timeout;
    let place = Place::take()?;
    // Without the lock: making a transport runs a stranger's code, which may ask for `stats`.
    let before = stats();
    let outbound = outbound(&resolved);
    let transports = transports(&resolved)?;
    let client = match transports.is_empty() || !resolved.is_tracing {
        true => None,
        false => Some(start(resolved, transports)?),
    };
    set_outbound(Some(outbound));
    place.keep(client.clone());
    Ok(Running::begin(client, shutdown_timeout, before))
}

/// The place of the one that is running; given up again when `init` fails.
struct Place(bool);

impl Place {
    fn take() -> Result<Self, ConfigError> {
        let process = std::process::id();
        let mut holder = HOLDER.load();
        loop {
            if holder == process {
                return Err(ConfigError::already_initialised());
            }
            match HOLDER.compare_exchange(holder, process) {
                Ok(_) => break,
                Err(other) => holder = other,
            }
        }
        let place = Self(true);
        prepare(process)?;
        if registry::belongs_to_another(process) {
            leave_to_parent();
        }
        registry::belong_to(process);
        Ok(place)
    }

    fn keep(mut self, client: Option<Arc<Client>>) {
        self.0 = false;
        CLIENT.store(client);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.0 {
            HOLDER.store(0);
        }
    }
}

/// Makes what a process and its forks have once, in some cases with a lock: so that no child finds
/// that lock held by a thread that it does not have.
fn prepare(process: u32) -> Result<(), ConfigError> {
    if PREPARED.load() {
        return Ok(());
    }
    let preparing = PREPARING.load();
    if preparing != 0 && preparing != process {
        let forked = "the process was forked while another thread was in its first `init`";
        return Err(ConfigError::thread(io::Error::other(forked)));
    }
    PREPARING.store(process);
    names::prepare();
    clock::clock();
    PREPARED.store(true);
    PREPARING.store(0);
    Ok(())
}

/// In a fork's child, at its own `init`: what there is of the parent's stays the parent's.
#[cold]
fn leave_to_parent() {
    SETTINGS.switch_off();
    // Its threads are not in this process, its sockets are the parent's.
    #[expect(clippy::mem_forget, reason = "dropping would touch what is the parent's")]
    std::mem::forget(CLIENT.swap(None));
    running::forget();
    Arena::renew();
    ledger::open_new_books();
}

fn start(
    resolved: Resolved,
    transports: Vec<Box<dyn Transport>>,
) -> Result<Arc<Client>, ConfigError> {
    Arena::global().reserve(resolved.ring_bytes).map_err(|_| ConfigError::memory())?;
    let wire = WireIds::from_os(clock::unix_nanos());
    let ring_slots = resolved.ring_slots as u64;
    let (debug, ring_bytes) = (resolved.debug, resolved.ring_bytes);
    let table = Arc::clone(&resolved.sampling);
    let plan = Plan {
        bounds: Bounds {
            transactions: resolved.open_transactions,
            slots: resolved.open_slots,
            age: resolved.open_age,
            children: resolved.max_spans,
        },
        wire,
        interval: resolved.flush_interval,
        ring_slots,
        queue: Rules {
            bytes_max: resolved.queue_bytes,
            parcels_max: resolved.queue_envelopes,
            tries_max: resolved.upload_retries.saturating_add(1),
        },
        client_reports: resolved.send_client_reports,
        debug: resolved.debug,
        spool: spool(&resolved),
        backpressure: resolved.enable_backpressure_handling,
        keep: None,
        hooks: resolved.hooks.clone(),
        watch: resolved.stuck_after.map(|after| {
            let hook = resolved.on_stuck.clone().map(|on_stuck| inflight::hook(on_stuck, wire));
            Watch::new(after, resolved.flush_interval, hook)
        }),
        site: site(resolved),
    };
    if debug {
        log::info!(
            "hotspan samples by {:?}; rings take up to {ring_bytes} bytes in all, {ring_slots} \
             slots a thread",
            table.source
        );
    }
    let client = Client::start(plan, transports, ledger::books()).map_err(ConfigError::thread)?;
    traces::clear();
    live::begin(table, |sampling| SETTINGS.switch_on(&wire, sampling, ring_slots));
    client.nudge();
    Ok(Arc::new(client))
}

/// Starts a client that gives everything to `keep`, in the place that `init` would take.
pub(crate) fn start_keeping(keep: Arc<dyn Keep>) -> Result<Arc<Client>, ConfigError> {
    let place = Place::take()?;
    let everything = Sampling { traces_sample_rate: Some(1.0), ..Sampling::default() };
    let table = Arc::new(Table::compile(everything).map_err(ConfigError::sampling)?);
    Arena::global().reserve(KEEPING_RING_BYTES).map_err(|_| ConfigError::memory())?;
    let wire = WireIds::from_os(clock::unix_nanos());
    let plan = Plan {
        bounds: Bounds {
            transactions: 1 << 16,
            slots: 1 << 22,
            age: Duration::from_secs(24 * 60 * 60),
            children: 1 << 20,
        },
        wire,
        interval: Duration::from_millis(20),
        ring_slots: KEEPING_RING_SLOTS,
        queue: Rules { bytes_max: 1, parcels_max: 1, tries_max: 1 },
        client_reports: false,
        debug: false,
        spool: None,
        backpressure: false,
        keep: Some(keep),
        hooks: None,
        watch: None,
        site: Site::default(),
    };
    let client =
        Client::start(plan, vec![Box::new(Null)], ledger::books()).map_err(ConfigError::thread)?;
    traces::clear();
    live::begin(table, |sampling| SETTINGS.switch_on(&wire, sampling, KEEPING_RING_SLOTS));
    set_outbound(Some(Outbound::default()));
    let client = Arc::new(client);
    place.keep(Some(Arc::clone(&client)));
    Ok(client)
}

/// Stops what [`start_keeping`] started.
pub(crate) fn stop_keeping(client: &Client, timeout: Duration) {
    stop(Some(client), timeout);
}

/// Address space for the rings of threads under test, and slots that one of them may hold: more
/// than tests record between two looks of the flusher.
const KEEPING_RING_BYTES: usize = 128 << 20;
const KEEPING_RING_SLOTS: u64 = 1 << 20;

/// Where envelopes wait for a server, if that is wanted.
fn spool(resolved: &Resolved) -> Option<SpoolPlan> {
    let destination = match (&resolved.transport, &resolved.dsn) {
        (Delivery::Http, Some(dsn)) => format!("{} {}", dsn.envelope_url(), dsn.public_key()),
        (transport, _) => format!("{transport:?}"),
    };
    Some(SpoolPlan {
        dir: resolved.spool_dir.clone()?,
        destination: fingerprint(&destination),
        bounds: SpoolBounds {
            bytes: resolved.spool_bytes as u64,
            envelopes: resolved.spool_envelopes,
            age: resolved.spool_age,
        },
    })
}

/// What is said of this process in trace headers.
fn outbound(resolved: &Resolved) -> Outbound {
    Outbound {
        site: site_members(
            resolved.dsn.as_ref().map(Dsn::public_key),
            resolved.release.as_deref(),
            resolved.environment.as_deref(),
            resolved.org_id.as_deref(),
        ),
        org_id: resolved.org_id.clone(),
        strict: resolved.strict_trace_continuation,
        traceparent: resolved.propagate_traceparent,
        targets: Arc::clone(&resolved.targets),
        inherited: resolved.inherited.clone(),
    }
}

fn site(resolved: Resolved) -> Site {
    let dsn = resolved.dsn.as_ref();
    Site {
        public_key: dsn.map(|dsn| dsn.public_key().to_owned()),
        org_id: resolved.org_id,
        release: resolved.release,
        environment: resolved.environment,
        dist: resolved.dist,
        server_name: resolved.server_name,
        sdk_name: "hotspan",
        sdk_version: env!("CARGO_PKG_VERSION"),
        max_spans: resolved.max_spans,
        runtime_version: None,
        os_name: Some(os_name().to_owned()),
        os_version: std::fs::read_to_string("/proc/sys/kernel/osrelease")
            .ok()
            .map(|text| text.trim().to_owned())
            .filter(|text| !text.is_empty()),
    }
}

/// The system's name as Sentry writes it.
fn os_name() -> &'static str {
    match std::env::consts::OS {
        "linux" => "Linux",
        "macos" => "macOS",
        "windows" => "Windows",
        other => other,
    }
}

/// The transports that were asked for, one for each uploader; none: there is no DSN to send to.
fn transports(resolved: &Resolved) -> Result<Vec<Box<dyn Transport>>, ConfigError> {
    let many = resolved.upload_concurrency;
    Ok(match &resolved.transport {
        Delivery::Http => match &resolved.dsn {
            Some(dsn) => http(resolved, dsn)?,
            None => Vec::new(),
        },
        Delivery::File(folder) => {
            let file = || File::new(folder.clone()).map(|file| Box::new(file) as _);
            let files: Result<_, _> = (0..many).map(|_| file()).collect();
            files.map_err(ConfigError::transport)?
        }
        Delivery::Null => (0..many).map(|_| Box::new(Null) as _).collect(),
        Delivery::Custom(make) => (0..many).map(|_| make()).collect(),
    })
}

/// They share their connections and look-ups.
#[cfg(feature = "http")]
fn http(resolved: &Resolved, dsn: &Dsn) -> Result<Vec<Box<dyn Transport>>, ConfigError> {
    use crate::transport::{Http, HttpOptions};

    let many = resolved.upload_concurrency;
    let http = Http::new(HttpOptions::resolved(resolved, dsn).connections(many));
    let http = http.map_err(|error| {
        let variable = resolved.ca_certs_variable.filter(|_| error.option() == "ca_certs");
        ConfigError::transport(error).with_variable(variable)
    })?;
    Ok((0..many).map(|_| Box::new(http.clone()) as _).collect())
}

#[cfg(not(feature = "http"))]
fn http(_: &Resolved, _: &Dsn) -> Result<Vec<Box<dyn Transport>>, ConfigError> {
    Err(ConfigError::unsupported("transport", "the feature `http`"))
}

/// Ends what [`start`] began: recording goes off, and what was recorded is delivered, within
/// `timeout`.
pub(crate) fn stop(client: Option<&Client>, timeout: Duration) {
    set_outbound(None);
    if let Some(client) = client {
        SETTINGS.switch_off();
        live::end();
        client.close(timeout);
    }
    CLIENT.store(None);
    HOLDER.store(0);
}
