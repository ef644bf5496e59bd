//! What a person sees while it runs. When stderr is no terminal, nothing.

use std::fmt::Write;
use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use crate::files::Source;
use crate::worker::Tally;

const STYLE: &str = "{bar:32} {human_pos} of {human_len} files, {rate} a second  {wide_msg}";

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
    }

    /// Clears the line: the summary says it better.
    pub(crate) fn finish(&self) {
        self.0.finish_and_clear();
    }
}

fn rate(state: &ProgressState, text: &mut dyn Write) {
    // What a bar cannot show is not shown.
    let _ = write!(text, "{:.0}", state.per_sec());
}
