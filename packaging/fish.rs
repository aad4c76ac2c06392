//! What fish completes beside options. The generated file lacks it: fish would offer files for every argument.

use std::fmt::Write as _;

use clap::{Arg, Command, ValueHint};

/// The lines for the arguments of each subcommand that are not files: their values, where they are known.
pub(crate) fn arguments(command: &Command) -> String {
    let mut lines = String::new();
    for subcommand in command.get_subcommands() {
        let arguments: Vec<&Arg> = subcommand.get_positionals().collect();
        if arguments.iter().any(|argument| is_file(argument)) {
            continue;
        }
        let begin =
            format!("complete -c netbootd -n \"__fish_netbootd_using_subcommand {}\" -f", subcommand.get_name());
        _ = writeln!(lines, "{begin}");
        for value in arguments.iter().flat_map(|argument| argument.get_possible_values()) {
            let help = value.get_help().map(|help| help.to_string().replace('\'', "\\'")).unwrap_or_default();
            _ = writeln!(lines, "{begin} -a \"{}\" -d '{help}'", value.get_name());
        }
    }
    lines
}

fn is_file(argument: &Arg) -> bool {
    matches!(argument.get_value_hint(), ValueHint::AnyPath | ValueHint::FilePath | ValueHint::DirPath)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn arguments_that_are_no_files_have_their_values() {
        let lines = arguments(&netbootd::cli::Arguments::command());
        let of = |subcommand: &str| {
            lines.lines().filter(|line| line.contains(&format!("subcommand {subcommand}\""))).count()
        };
        assert_eq!((of("up"), of("check"), of("iso")), (0, 0, 0), "files are completed");
        assert_eq!((of("assign"), of("once")), (1, 1), "no files");
        let kea =
            "complete -c netbootd -n \"__fish_netbootd_using_subcommand dhcp-snippet\" -f -a \"kea\" -d 'ISC Kea'";
        assert!(lines.contains(kea), "{lines}");
    }
}
