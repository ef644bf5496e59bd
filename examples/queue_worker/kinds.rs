//! Kinds of files: the transactions' names. A short list, whatever the folder holds, because Sentry
//! groups by name.

/// The kind of a file, by its extension in lower case.
pub(crate) fn kind(extension: &str) -> &'static str {
    match extension {
        "rs" => "rust source",
        "c" | "h" | "cc" | "cpp" | "cxx" | "hpp" => "c source",
        "py" | "pyi" => "python source",
        "js" | "mjs" | "cjs" | "jsx" | "ts" | "tsx" => "javascript source",
        "go" => "go source",
        "java" | "kt" | "scala" => "jvm source",
        "sh" | "bash" | "zsh" | "fish" => "shell script",
        "json" => "json",
        "toml" | "yaml" | "yml" | "ini" | "cfg" | "conf" | "lock" => "configuration",
        "md" | "markdown" | "rst" | "adoc" => "markdown",
        "html" | "htm" | "css" | "scss" | "xml" | "svg" => "markup",
        "csv" | "tsv" | "sql" | "ndjson" | "jsonl" => "table",
        "txt" | "text" | "log" => "plain text",
        "envelope" => "envelope",
        "png" | "jpg" | "jpeg" | "gif" | "webp" | "ico" | "bmp" => "image",
        "gz" | "zip" | "xz" | "zst" | "bz2" | "tar" | "7z" | "jar" | "whl" => "archive",
        "o" | "a" | "so" | "d" | "rlib" | "rmeta" | "dll" | "exe" | "pyc" | "class" => {
            "build output"
        }
        "none" => "file without extension",
        _ => "other file",
    }
}

#[cfg(test)]
mod tests {
    use super::kind;

    #[test]
    fn unknown_extensions_share_a_name() {
        assert_eq!(kind("rs"), "rust source");
        assert_eq!(kind("8f3a"), kind("9c1d"));
    }
}
