//! What a pattern means, straight from the definition: slow, without a parser, to compare with.

/// Whether the pattern, which is one, matches.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    let (mut pattern_rest, mut text_rest) = (pattern.chars(), text.chars());
    let mut one = |wanted: Option<char>| match (text_rest.next(), wanted) {
        (None, _) => false,
        (Some(_), None) => true,
        (Some(char), wanted) => Some(char) == wanted,
    };
    match pattern_rest.next() {
        None => text.is_empty(),
        Some('*') => {
            matches(pattern_rest.as_str(), text)
                || (one(None) && matches(pattern, text_rest.as_str()))
        }
        Some('?') => one(None) && matches(pattern_rest.as_str(), text_rest.as_str()),
        Some('\\') => {
            one(pattern_rest.next()) && matches(pattern_rest.as_str(), text_rest.as_str())
        }
        Some(char) => one(Some(char)) && matches(pattern_rest.as_str(), text_rest.as_str()),
    }
}
