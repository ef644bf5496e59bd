//! The same with an allocator that counts. A binary of its own: times are taken with the system's.

use hotspan_peers::{Result, peers};

fn main() -> Result<()> {
    peers::serve_arguments(Some(|run| {
        let info = allocation_counter::measure(run);
        (info.count_total, info.bytes_total)
    }))
}
