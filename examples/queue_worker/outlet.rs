//! Where the envelopes go: to a DSN's server, or into a folder of this run's own.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use hotspan::transport::{File, Http, HttpOptions};
use hotspan::{Config, Delivery, Dsn};

use crate::tee::{Board, Tee};

/// Each run gets a folder of its own in here, named by the second it started in and its process.
const FOLDER: &str = "target/hotspan";

pub(crate) enum Outlet {
    /// As the user reads it, and with all links resolved.
    Folder {
        shown: PathBuf,
        resolved: PathBuf,
    },
    Server {
        shown: String,
        options: HttpOptions,
    },
}

impl Outlet {
    pub(crate) fn open(dsn: Option<&str>) -> Result<Self, String> {
        if let Some(dsn) = dsn {
            let config = Config { dsn: Some(dsn.to_owned()), ..Config::default() };
            let options = HttpOptions::for_config(&config).map_err(|error| error.to_string())?;
            if let (Some(options), Ok(dsn)) = (options, dsn.parse::<Dsn>()) {
                return Ok(Self::Server {
                    shown: format!("{}:{}", dsn.host(), dsn.port()),
                    options,
                });
            }
        }
        let shown = Path::new(FOLDER).join(format!("{}-{}", unix_seconds(), process::id()));
        fs::create_dir_all(&shown)
            .and_then(|()| shown.canonicalize())
            .map(|resolved| Self::Folder { shown: shown.clone(), resolved })
            .map_err(|error| {
                format!(
                    "the folder for the envelopes, {}, cannot be made: {error}; start this where you \
                     may write, or give --dsn",
                    shown.display()
                )
            })
    }

    /// The folder that this run writes to, with all links resolved.
    pub(crate) fn folder(&self) -> Option<&Path> {
        match self {
            Self::Folder { resolved, .. } => Some(resolved),
            Self::Server { .. } => None,
        }
    }

    /// Envelopes that may wait, in bytes. Two workers make them faster than a disk takes them, file
    /// by file: for a folder there is room for a burst. A server that hangs must not cost that
    /// much.
    pub(crate) fn queue_bytes(&self) -> usize {
        match self {
            Self::Folder { .. } => 256 << 20,
            Self::Server { .. } => Config::default().queue_bytes,
        }
    }

    /// Takes the folder away again, if nothing is in it.
    pub(crate) fn discard(&self) {
        if let Some(folder) = self.folder() {
            drop(fs::remove_dir(folder));
        }
    }

    /// The library's own transport for it, inside a [`Tee`] that writes on `board` what it
    /// delivers.
    pub(crate) fn delivery(&self, board: &Arc<Mutex<Board>>) -> Delivery {
        let board = Arc::clone(board);
        match self {
            Self::Folder { resolved, .. } => {
                let folder = resolved.clone();
                Delivery::Custom(Arc::new(move || {
                    Box::new(Tee::new(File::new(&folder), Arc::clone(&board)))
                }))
            }
            Self::Server { options, .. } => {
                let options = options.clone();
                Delivery::Custom(Arc::new(move || {
                    Box::new(Tee::new(Http::new(options.clone()), Arc::clone(&board)))
                }))
            }
        }
    }
}

impl fmt::Display for Outlet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder { shown, .. } => shown.display().fmt(f),
            Self::Server { shown, .. } => shown.fmt(f),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "an application has no clock seam")]
fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
