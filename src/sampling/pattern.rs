//! [`Pattern`]: what a rule's `op` and `name` are matched with.
//!
//! `*` stands for any run of characters, also none; `?` for one character; `\` takes the next one
//! as it is. Most patterns need no walk: a text without any of these is compared, one whose only
//! `*` is its last character is compared with a beginning, `*` alone matches everything.
//!
//! # Costs
//! A walk goes back to the last `*` alone, so it takes at most one step for each pair of a
//! character of the pattern and one of the text, and about one per character of the text for
//! patterns people write. Nothing is allocated.

/// Bytes a pattern may have: more than the server keeps of an op or a name.
pub(crate) const PATTERN_MAX: usize = 256;

/// A pattern, parsed. Equal patterns match the same texts; the other way round is not promised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Pattern {
    Any,
    Exact(Box<str>),
    Prefix(Box<str>),
    Glob(Box<[Token]>),
}

/// A character of a glob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    This(char),
    One,
    Run,
}

/// What a pattern has to be, for the error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mistake {
    Empty,
    TooLong,
    LoneBackslash,
}

impl Mistake {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "expected a pattern that is not empty (none matches all)",
            Self::TooLong => "expected a pattern of at most 256 bytes",
            Self::LoneBackslash => r"expected a character after the last `\`",
        }
    }
}

impl Pattern {
    pub(crate) fn parse(text: &str) -> Result<Self, Mistake> {
        if text.is_empty() {
            return Err(Mistake::Empty);
        }
        if text.len() > PATTERN_MAX {
            return Err(Mistake::TooLong);
        }
        let mut tokens = Vec::with_capacity(text.len());
        let mut chars = text.chars();
        while let Some(char) = chars.next() {
            match char {
                '\\' => tokens.push(Token::This(chars.next().ok_or(Mistake::LoneBackslash)?)),
                '*' if tokens.last() == Some(&Token::Run) => {}
                '*' => tokens.push(Token::Run),
                // `*?` is `?*`: a run comes last, so that neighbours are recognised.
                '?' if tokens.last() == Some(&Token::Run) => {
                    tokens.pop();
                    tokens.extend([Token::One, Token::Run]);
                }
                '?' => tokens.push(Token::One),
                char => tokens.push(Token::This(char)),
            }
        }
        Ok(Self::simplest(tokens))
    }

    /// The form that is matched with the least work.
    fn simplest(tokens: Vec<Token>) -> Self {
        let literal = leading(&tokens);
        match tokens.get(literal.chars().count()..) {
            Some([Token::Run]) if literal.is_empty() => Self::Any,
            Some([Token::Run]) => Self::Prefix(literal.into()),
            Some([]) => Self::Exact(literal.into()),
            _ => Self::Glob(tokens.into()),
        }
    }

    pub(crate) fn matches(&self, text: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(exact) => **exact == *text,
            Self::Prefix(prefix) => text.starts_with(&**prefix),
            Self::Glob(tokens) => walk(tokens, text, || ()),
        }
    }

    /// Whether it certainly matches whatever `other` matches. Cheap rather than complete: no glob
    /// is tried.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, _) => true,
            (Self::Prefix(prefix), Self::Exact(text) | Self::Prefix(text)) => {
                text.starts_with(&**prefix)
            }
            (Self::Prefix(prefix), Self::Glob(tokens)) => {
                let mut tokens = tokens.iter();
                prefix.chars().all(|char| tokens.next() == Some(&Token::This(char)))
            }
            _ => self == other,
        }
    }
}

/// The characters before anything that stands for others.
fn leading(tokens: &[Token]) -> String {
    let literal = |token: &Token| match token {
        Token::This(char) => Some(*char),
        Token::One | Token::Run => None,
    };
    tokens.iter().map_while(literal).collect()
}

/// Matches from left to right. A run takes nothing at first, and one character more at each
/// mismatch; an earlier run never needs to take more than it did when a later one was met, so one
/// place to return to is enough.
fn walk(tokens: &[Token], text: &str, mut step: impl FnMut()) -> bool {
    let (mut tokens, mut chars) = (tokens, text.chars());
    let mut back = None;
    loop {
        step();
        match tokens.split_first() {
            Some((Token::Run, [])) => return true,
            Some((Token::Run, after)) => {
                back = Some((after, chars.clone()));
                tokens = after;
                continue;
            }
            Some((token, after)) => match chars.next() {
                // What is left of the pattern is longer than any rest of the text.
                None => return false,
                Some(char) if *token == Token::One || *token == Token::This(char) => {
                    tokens = after;
                    continue;
                }
                Some(_) => {}
            },
            None if chars.as_str().is_empty() => return true,
            None => {}
        }
        let Some((after, from)) = &mut back else { return false };
        if from.next().is_none() {
            return false;
        }
        (tokens, chars) = (*after, from.clone());
    }
}

#[cfg(any(test, fuzzing))]
pub(crate) mod naive;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Pattern {
        Pattern::parse(text).unwrap()
    }

    #[test]
    fn patterns_take_their_simplest_form() {
        let exact = |text: &str| Pattern::Exact(text.into());
        for (text, form) in [
            ("queue.process", exact("queue.process")),
            (r"5\*", exact("5*")),
            (r"\\\?\a", exact(r"\?a")),
            ("*", Pattern::Any),
            ("***", Pattern::Any),
            ("queue.*", Pattern::Prefix("queue.".into())),
            ("queue.**", Pattern::Prefix("queue.".into())),
            (r"5\**", Pattern::Prefix("5*".into())),
        ] {
            assert_eq!(parse(text), form, "{text}");
        }
        for text in ["*.process", "a?c", "a*c", "?", "?*", "a*b*"] {
            assert!(matches!(parse(text), Pattern::Glob(_)), "{text}");
        }
        assert_eq!(parse("a*?b"), parse("a?*b"));
        assert_eq!(parse("**??*b"), parse("??*b"));
    }

    #[test]
    fn what_is_no_pattern_is_a_mistake() {
        assert_eq!(Pattern::parse(""), Err(Mistake::Empty));
        assert_eq!(Pattern::parse(r"orders\"), Err(Mistake::LoneBackslash));
        assert_eq!(Pattern::parse(r"\\\"), Err(Mistake::LoneBackslash));
        assert!(Pattern::parse(r"\\").is_ok());
        assert!(Pattern::parse(&"x".repeat(PATTERN_MAX)).is_ok());
        assert_eq!(Pattern::parse(&"x".repeat(PATTERN_MAX + 1)), Err(Mistake::TooLong));
    }

    #[test]
    fn question_marks_take_characters_and_not_bytes() {
        assert!(parse("?").matches("ä") && parse("a?c").matches("a🦀c"));
        assert!(!parse("??").matches("ä") && !parse("?").matches(""));
        assert!(parse("ä*").matches("äb") && parse("*ä").matches("bä"));
    }

    /// Steps of one walk.
    fn steps(pattern: &str, text: &str) -> (bool, usize) {
        let Pattern::Glob(tokens) = parse(pattern) else { panic!("{pattern} needs no walk") };
        let mut steps = 0;
        let found = walk(&tokens, text, || steps += 1);
        (found, steps)
    }

    #[test]
    fn many_runs_do_not_multiply_the_steps() {
        let text = "a".repeat(1000);
        let (found, count) = steps("a*a*a*a*b", &text);
        assert!(!found && count < 3 * text.len(), "{count}");
        let (found, count) = steps(&"a*".repeat(100).replace("a*a*a*b", "b"), &text);
        assert!(found && count < 3 * text.len(), "{count}");
        let (found, count) = steps(&format!("{}b", "*a?".repeat(60)), &text);
        assert!(!found && count < 3 * text.len(), "{count}");
        // The worst there is: each start fails at the end of a long part.
        let (found, count) = steps(&format!("*{}b", "a".repeat(200)), &text);
        assert!(!found && count <= 202 * text.len(), "{count}");
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

        #[test]
        fn walks_agree_with_the_definition(
            pattern in r"([ab*?]|\\[ab*?\\]){1,8}",
            text in r"[ab*?\\]{0,8}",
        ) {
            prop_assert_eq!(parse(&pattern).matches(&text), naive::matches(&pattern, &text));
        }

        #[test]
        fn walks_are_bounded_by_the_product(
            pattern in "[ab*?]{0,20}[*][ab?]", text in "[ab]{0,60}",
        ) {
            let (_, count) = steps(&pattern, &text);
            let bound = (pattern.len() + 1) * (text.len() + 1);
            prop_assert!(count <= bound, "{count} > {bound}");
        }

        #[test]
        fn what_is_covered_is_matched(
            one in r"([ab*?]|\\[*?]){1,4}",
            other in r"([ab*?]|\\[*?]){1,4}",
            text in r"[ab*?]{0,5}",
        ) {
            let (one, other) = (parse(&one), parse(&other));
            if one.covers(&other) && other.matches(&text) {
                prop_assert!(one.matches(&text), "{one:?} covers {other:?}, and not {text}");
            }
        }
    }
}
