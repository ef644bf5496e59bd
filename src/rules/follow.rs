//! Keeping to what a file says.
//!
//! A look that finds something new puts it in force, where sampling goes on. What is wrong is
//! remembered, and reported when the next look finds it still so; the same is not reported again
//! until something else was found.

use std::path::{Path, PathBuf};

use super::look::{Looker, Sight};
use crate::error::ConfigError;
use crate::sampling::{Edits, RuleError, Sampling, Table, live, parse};
use crate::shared::ledger;
use crate::tuning;

/// Between a file and what is in force.
#[derive(Debug)]
pub(super) struct Follower {
    path: PathBuf,
    looker: Looker,
    /// What was right last.
    edits: Edits,
    /// Where that is in force, if it is, and what of the program's it hides there.
    session: Option<u64>,
    hidden: Edits,
    /// What is wrong with the text that was read last.
    mistake: Option<String>,
    trouble: Option<Trouble>,
}

/// What the last look found wrong.
#[derive(Debug)]
struct Trouble {
    text: String,
    is_said: bool,
}

impl Follower {
    /// Reads the file for the first time, and puts it in force if anything is.
    pub(super) fn begin(path: &Path) -> Result<Self, ConfigError> {
        let mut looker = Looker::default();
        let text = match looker.look(path) {
            Sight::Text(text) => text,
            Sight::Same => Vec::new(),
            Sight::Failed(error) => return Err(ConfigError::rules_file(error)),
        };
        let mut follower = Self {
            path: path.to_owned(),
            looker,
            edits: Edits::default(),
            session: None,
            hidden: Edits::default(),
            mistake: None,
            trouble: None,
        };
        let edits = parse(&text).map_err(ConfigError::sampling)?;
        follower.put(edits).map_err(ConfigError::sampling)?;
        Ok(follower)
    }

    /// One look.
    pub(super) fn look(&mut self) {
        let trouble = match self.looker.look(&self.path) {
            Sight::Failed(error) => Some(format!("it cannot be read: {error}")),
            Sight::Text(text) => {
                let put = parse(&text).and_then(|edits| self.put(edits));
                self.mistake = put.err().map(|error| error.to_string());
                if self.mistake.is_none() {
                    let path = self.path.display();
                    log::info!(target: "hotspan", "sampling rules were read anew: {path}");
                }
                self.mistake.clone()
            }
            Sight::Same => self.mistake.clone(),
        };
        // Somebody may have begun to sample, or begun anew.
        let trouble = match live::session() == self.session {
            true => trouble,
            false => {
                let put = self.put(self.edits.clone());
                trouble.or(put.err().map(|error| error.to_string()))
            }
        };
        self.report(trouble);
    }

    /// Puts it in force, or only looks whether that could be done where nothing is.
    fn put(&mut self, edits: Edits) -> Result<(), RuleError> {
        let (mut session, mut hidden) = (None, Edits::default());
        let is_sampling = live::change_in(|number, sampling| {
            // In a new session the program has what it said, and not what the file made of it.
            let before =
                if self.session == Some(number) { &self.hidden } else { &Edits::default() };
            hidden = edits.lay(sampling, before);
            session = Some(number);
        })?;
        if is_sampling {
            ledger::books().sampling.rules_loaded();
            tuning::changed();
        } else {
            Table::compile(edits.over(&Sampling::default()))?;
            (session, hidden) = (None, Edits::default());
        }
        (self.edits, self.session, self.hidden) = (edits, session, hidden);
        Ok(())
    }

    fn report(&mut self, trouble: Option<String>) {
        let stands = |before: &&mut Trouble| Some(&before.text) == trouble.as_ref();
        match self.trouble.as_mut().filter(stands) {
            Some(before) if before.is_said => {}
            Some(before) => {
                before.is_said = true;
                ledger::books().sampling.rules_refused(before.text.clone());
                let (path, text) = (self.path.display(), &before.text);
                log::warn!(
                    target: "hotspan",
                    "the sampling rules stay as they were: {path}: {text}"
                );
            }
            None => self.trouble = trouble.map(|text| Trouble { text, is_said: false }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn follower() -> Follower {
        Follower {
            path: "rules.json".into(),
            looker: Looker::default(),
            edits: Edits::default(),
            session: None,
            hidden: Edits::default(),
            mistake: None,
            trouble: None,
        }
    }

    #[test]
    fn trouble_of_a_moment_is_not_reported() {
        let mut follower = follower();
        let is_said = |follower: &Follower| follower.trouble.as_ref().is_some_and(|it| it.is_said);
        let trouble = |text: &str| Some(text.to_owned());
        for look in [trouble("half"), None, trouble("half"), trouble("away"), trouble("half")] {
            follower.report(look);
            assert!(!is_said(&follower));
        }
        let refused = || ledger::books().sampling.rules().1;
        let before = refused();
        for _ in 0..3 {
            follower.report(trouble("half"));
            assert!(is_said(&follower));
        }
        assert_eq!(refused(), before + 1);
        follower.report(None);
        assert!(follower.trouble.is_none());
    }
}
