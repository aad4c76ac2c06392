//! The formats of answer files.

/// How the values of a file are written, and what its result is held against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::boot) enum Format {
    /// cloud-config, NoCloud, Butane.
    Yaml,
    /// Ignition.
    Json,
    /// Proxmox.
    Toml,
    /// AutoYaST, Windows.
    Xml,
    /// Commands, and sections that are shell scripts.
    Kickstart,
    /// A question a line; some answers are shell commands.
    Preseed,
    /// A shell script.
    Shell,
    /// Anything else: a value keeps to its line.
    Lines,
}

impl Format {
    /// By the file's name, and by its first words where the name says nothing.
    pub(in crate::boot) fn of(name: &str, text: &str) -> Self {
        let file = name.rsplit('/').next().unwrap_or(name);
        let suffix = file.rsplit_once('.').map_or("", |(_, suffix)| suffix).to_ascii_lowercase();
        let begins = |words: &[&str]| words.iter().any(|word| text.starts_with(word));
        // cloud-init's own templates are no YAML before it has rendered them.
        if begins(&["## template:"]) {
            return Self::Lines;
        }
        if let Some(interpreter) = text.lines().next().and_then(|line| line.strip_prefix("#!")) {
            return if is_shell(interpreter) { Self::Shell } else { Self::Lines };
        }
        match suffix.as_str() {
            "yaml" | "yml" | "bu" => Self::Yaml,
            "json" | "ign" => Self::Json,
            "toml" => Self::Toml,
            "xml" => Self::Xml,
            "ks" => Self::Kickstart,
            "sh" => Self::Shell,
            _ if begins(&["#cloud-config"]) => Self::Yaml,
            // What cloud-init takes for user-data beside its configuration (cloudinit/user_data.py).
            _ if begins(&["#include", "#part-handler", "#cloud-boothook", "Content-Type:", "MIME-Version:"]) => {
                Self::Lines
            }
            _ if ["user-data", "meta-data", "vendor-data", "network-config"].contains(&file) => Self::Yaml,
            _ if text.lines().any(|line| line.starts_with("%packages") || line.starts_with("%post")) => Self::Kickstart,
            _ if text.lines().any(|line| line.starts_with("d-i ")) => Self::Preseed,
            _ => Self::Lines,
        }
    }
}

/// Whether an interpreter is a shell, by its path or behind `env`.
pub(super) fn is_shell(interpreter: &str) -> bool {
    let mut words = interpreter.split_whitespace().map(|word| word.rsplit('/').next().unwrap_or(word));
    let first = words.next().unwrap_or_default();
    let shell = if first == "env" { words.next().unwrap_or_default() } else { first };
    ["sh", "bash", "dash", "ash", "ksh", "zsh"].contains(&shell)
}
