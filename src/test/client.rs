//! The library running for captures: started by the first, ended by the last, for the process.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::error::ConfigError;
use crate::flush::client::Client;
use crate::guard;

use super::running::Sorter;

static SHARED: Mutex<Shared> = Mutex::new(Shared { users: 0, client: None });

struct Shared {
    users: usize,
    client: Option<Arc<Client>>,
}

/// Far beyond what a look at the rings takes on a busy machine.
const LONG: Duration = Duration::from_secs(60);

/// The right to have the library run.
#[derive(Debug)]
pub(super) struct InUse {
    client: Arc<Client>,
}

impl InUse {
    /// Starts the library if nobody has.
    pub(super) fn begin() -> Result<Self, ConfigError> {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        let client = match &shared.client {
            Some(client) => Arc::clone(client),
            None => guard::start_keeping(Arc::new(Sorter))?,
        };
        shared.client = Some(Arc::clone(&client));
        shared.users += 1;
        Ok(Self { client })
    }

    /// Has everything that was published handed on; false if that is not to be had.
    pub(super) fn flush(&self) -> bool {
        self.client.flush(LONG) && !self.client.is_dead()
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.users -= 1;
        if shared.users == 0
            && let Some(client) = shared.client.take()
        {
            // With the lock: whoever begins meanwhile starts anew after it.
            guard::stop_keeping(&client, LONG);
        }
    }
}
