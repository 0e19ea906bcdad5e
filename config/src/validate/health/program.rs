//! Programs that checks and hooks run.

use std::path::PathBuf;
use std::sync::Arc;

use toml::Spanned;

use super::texts;
use crate::report::{Need, Problem};
use crate::schema::{Field, List, Text};
use crate::validate::table::{Table, as_words};

/// Programs and hooks have so many arguments at most.
const ARGUMENTS_MAX: usize = 64;

/// A program with its arguments. `None`: not written, or not one.
pub(crate) fn command(field: &Field<List<Text>>, table: &mut Table<'_>) -> Option<Spanned<Vec<String>>> {
    command_of(field, None, table)
}

/// A program that is told of something; an empty one is none.
pub(crate) fn hook(field: &Field<List<Text>>, table: &mut Table<'_>) -> Arc<[String]> {
    command(field, table).map(|words| words.into_inner().into()).unwrap_or_default()
}

/// The same for a program that runs as this user and group instead of those of `[health]`.
pub(crate) fn command_of(
    field: &Field<List<Text>>,
    account: Option<(&str, Option<&str>)>,
    table: &mut Table<'_>,
) -> Option<Spanned<Vec<String>>> {
    let (list, at) = table.value(field)?;
    let help = "write the program's absolute path and its arguments: [\"/usr/lib/site/check\", \"-q\"]";
    if list.0.is_empty() || list.0.len() > ARGUMENTS_MAX {
        let label = format!("1 to {ARGUMENTS_MAX} words are needed");
        table.report(Problem::error("not a command").at(at, label).help(help));
        return None;
    }
    let words = table.list(field, texts::argument);
    let program = words.first().filter(|_| words.len() == list.0.len())?;
    if let (true, [alone]) = (program.get_ref().contains(' '), &words[..]) {
        let problem = Problem::warning("a program with a blank in its name")
            .at(alone.span(), "no shell takes this apart")
            .help(format!("write {}", as_words(alone.get_ref())));
        table.report(problem);
    }
    if !program.get_ref().starts_with('/') {
        let label = "the path must be absolute; no shell looks for it";
        table.report(Problem::error("not a program").at(program.span(), label).help(help));
        return None;
    }
    let path = PathBuf::from(program.get_ref());
    let problem = match account {
        None => Need::Program(path)
            .at(program.span())
            .help("programs are started as `script_user` of [health], without a shell"),
        Some((user, group)) => Need::ProgramOf(path, user.to_owned(), group.map(str::to_owned))
            .at(program.span())
            .help("it is started as `user`, without a shell"),
    };
    table.report(problem);
    Some(Spanned::new(at, words.into_iter().map(Spanned::into_inner).collect()))
}
