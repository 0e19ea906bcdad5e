//! What packages bring along: completions and manual pages, made of the command line's own description.

use std::io;
use std::path::Path;

use clap::CommandFactory as _;

use crate::cli::{Cli, Command};

/// Writes a page for weirctl and for each of its commands, those below others included.
///
/// # Errors
/// The file system's.
pub(crate) fn write_pages(directory: &Path) -> io::Result<()> {
    clap_mangen::generate_to(Cli::command(), directory)
}

/// The text of `completions` and `man`; `None`: it is another command.
pub(crate) fn text(command: &Command) -> Option<String> {
    let mut made = Vec::new();
    match command {
        Command::Completions { shell } => {
            clap_complete::generate(*shell, &mut Cli::command(), "weirctl", &mut made);
        }
        Command::Man { command, directory: None } => {
            let mut all = Cli::command();
            all.build();
            let page = match command {
                None => all,
                Some(name) => match all.find_subcommand(name) {
                    Some(found) => {
                        let name = format!("weirctl-{}", found.get_name());
                        found.clone().name(name.clone()).display_name(name)
                    }
                    None => {
                        let problem = format!("weirctl has no command {name}");
                        Cli::command().error(clap::error::ErrorKind::InvalidSubcommand, problem).exit()
                    }
                },
            };
            // Writing to memory can't fail.
            let _ = clap_mangen::Man::new(page).render(&mut made);
        }
        _ => return None,
    }
    Some(String::from_utf8_lossy(&made).into_owned())
}

#[cfg(test)]
mod tests {
    use clap_complete::Shell;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn completions_and_pages_name_every_command() {
        let names: Vec<String> =
            Cli::command().get_subcommands().map(|it| it.get_name().to_owned()).collect();
        assert!(names.len() > 15);
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = text(&Command::Completions { shell }).unwrap();
            assert!(names.iter().all(|name| script.contains(name.as_str())), "{shell}");
        }
        let page = text(&Command::Man { command: None, directory: None }).unwrap();
        assert!(page.contains(".TH weirctl 1"), "{page}");
        assert!(names.iter().all(|name| page.contains(&name.replace('-', "\\-"))));
        let of_one = text(&Command::Man { command: Some("connections".to_owned()), directory: None });
        let of_one = of_one.unwrap();
        assert!(of_one.contains("\\-\\-real\\-server"), "{of_one}");
    }
}
