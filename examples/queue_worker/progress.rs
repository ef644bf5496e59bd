//! What a person sees while it runs. When stderr is no terminal, nothing.

use std::fmt::Write;
use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use crate::files::Source;
use crate::worker::Tally;

const STYLE: &str = "{bar:20} {human_pos} of {human_len} files, {rate} a second  {wide_msg}";

#[derive(Clone)]
pub(crate) struct Progress(ProgressBar);

impl Progress {
    pub(crate) fn new() -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template(STYLE) {
            bar.set_style(style.with_key("rate", rate));
        }
        Self(bar)
    }

    /// Whether anybody looks.
    pub(crate) fn is_shown(&self) -> bool {
        !self.0.is_hidden()
    }

    /// Walks ahead of the producer, to say how much there is to do.
    pub(crate) fn count(&self, source: &Source, stop: &AtomicBool) {
        let tally = Tally::default();
        let files = source.files(&tally).take_while(|_| !stop.load(Ordering::Relaxed)).count();
        self.0.set_length(files as u64);
    }

    pub(crate) fn show(&self, tally: &Tally) {
        let [items, ..] = tally.read();
        self.0.set_position(items);
        self.0.set_message(longest_open());
    }

    /// Writes to stderr without writing into the bar.
    pub(crate) fn aside(&self, write: impl FnOnce()) {
        self.0.suspend(write);
    }

    /// After the work: what is still to be delivered.
    pub(crate) fn show_rest(&self, transactions: u64) {
        self.0.set_message(format!("delivering {transactions}"));
    }

    /// Clears the line: the summary says it better.
    pub(crate) fn finish(&self) {
        self.0.finish_and_clear();
    }
}

/// What the worker that has been at its item the longest is doing right now.
fn longest_open() -> String {
    let open = hotspan::inflight().into_iter().max_by_key(|open| open.age);
    open.map_or_else(String::new, |open| {
        let thread = open.thread_name.unwrap_or_default();
        format!("{thread}: {} ({})", open.span_op, open.name)
    })
}

fn rate(state: &ProgressState, text: &mut dyn Write) {
    // What a bar cannot show is not shown.
    let _ = write!(text, "{:.0}", state.per_sec());
}
