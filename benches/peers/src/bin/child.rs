//! One peer in one mode: `child PEER MODE`, requests on standard input.

use hotspan_peers::{Result, peers};

fn main() -> Result<()> {
    peers::serve_arguments(None)
}
