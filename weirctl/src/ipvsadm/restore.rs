//! `-R` and `ipvsadm-restore`: rules from stdin, a command a line, as `-S` prints them.

use std::io;

use weir_api::edits::{Edit, Refusal as Refused};

use super::command::Command;
use super::parse::{Refusal, parse};
use super::{Ipvsadm, REFUSED, Stop, edits, unreachable};
use crate::weir::Problem;

/// Letters of a rule that are shown.
const TOLD_MAX: usize = 200;

/// How a rule ended: the program goes on with the next one, or ends.
enum End {
    Status(u8),
    Exit(u8),
}

/// A rule and where it stands.
struct Rule {
    number: usize,
    words: Vec<String>,
}

/// What has become of the others when one is refused.
enum Others {
    /// So many were carried out before it, and whether the lines behind it are tried.
    One { done: usize, goes_on: bool },
    /// None, and none is.
    All,
}

impl Ipvsadm<'_> {
    /// `-R`: one rule after the other. One that is refused does not keep the next from being tried, one that is no command does; the
    /// status is that of the last.
    pub(super) fn restore(&mut self) -> u8 {
        let (mut status, mut done, mut number) = (0, 0, 0);
        loop {
            let rule = match self.next_rule(&mut number, false) {
                Ok(Some(rule)) => rule,
                Ok(None) => return status,
                Err(problem) => return self.unreadable(number, &problem),
            };
            let (ended, goes_on) = match self.carry_out(&rule) {
                End::Status(status) => (status, true),
                End::Exit(status) => (status, false),
            };
            status = ended;
            if status == 0 {
                done += 1;
            } else {
                self.say_where(&rule, &Others::One { done, goes_on });
            }
            if !goes_on {
                return status;
            }
        }
    }

    fn carry_out(&mut self, rule: &Rule) -> End {
        match parse(&rule.words, self.names) {
            // As ipvsadm, which would go on for ever.
            Ok(Command::Restore) => {
                let Refusal { status, text, .. } = Refusal::try_help();
                End::Exit(self.complain(&text, status))
            }
            Ok(command) => match self.ended(command) {
                (status, true) => End::Exit(status),
                (status, false) => End::Status(status),
            },
            Err(Refusal { status, text, is_final }) => {
                self.complain(&text, status);
                if is_final { End::Exit(status) } else { End::Status(status) }
            }
        }
    }

    /// As the script `ipvsadm-restore`: the rules in the place of everything, with comments left out. Unlike there it is done at once, all
    /// of it or nothing, and no client meets an empty table.
    pub fn replace_all(&mut self) -> u8 {
        let (mut wanted, mut origins, mut number) = (vec![Edit::Clear], Vec::new(), 0);
        loop {
            let rule = match self.next_rule(&mut number, true) {
                Ok(Some(rule)) => rule,
                Ok(None) => break,
                Err(problem) => return self.unreadable(number, &problem),
            };
            match edit_of(&rule, self.names) {
                Ok((edit, command)) => {
                    wanted.push(edit);
                    origins.push((rule, command));
                }
                Err((text, status)) => {
                    self.complain(&text, status);
                    self.say_where(&rule, &Others::All);
                    return status;
                }
            }
        }
        match self.weir.edit(wanted) {
            Ok(_) => 0,
            Err(Problem::Refused(refusal)) => {
                // The first edit is none of the rules.
                let place = refusal.edit.and_then(|place| place.checked_sub(1));
                let origin = place.and_then(|place| origins.get(place));
                self.none_of_all(&refusal, origin)
            }
            Err(problem) => match unreachable(problem) {
                Stop::Message(text, status) => self.complain(&format!("{text}\n"), status),
                Stop::Unread => 1,
            },
        }
    }

    fn none_of_all(&mut self, refusal: &Refused, origin: Option<&(Rule, Command)>) -> u8 {
        match origin {
            Some((rule, command)) => {
                self.complain(&format!("{}\n", edits::words(command, refusal)), REFUSED);
                self.say_where(rule, &Others::All);
            }
            None => {
                self.complain(&format!("{}; nothing has changed\n", refusal.text), REFUSED);
            }
        }
        REFUSED
    }

    /// The next line that holds anything; `number` counts lines. The name of the program may stand before a rule.
    fn next_rule(&mut self, number: &mut usize, has_comments: bool) -> io::Result<Option<Rule>> {
        let mut line = String::new();
        loop {
            *number += 1;
            line.clear();
            if self.input.read_line(&mut line)? == 0 {
                return Ok(None);
            }
            let words = line.split_ascii_whitespace().skip_while(|word| *word == "ipvsadm");
            let words: Vec<String> = words.map(str::to_owned).collect();
            if !(words.is_empty() || has_comments && line.starts_with('#')) {
                return Ok(Some(Rule { number: *number, words }));
            }
        }
    }

    fn unreadable(&mut self, number: usize, problem: &io::Error) -> u8 {
        self.complain(&format!("ipvsadm: line {number} of the rules can't be read: {problem}\n"), 1)
    }

    /// Behind what ipvsadm says of a rule: which it was.
    fn say_where(&mut self, rule: &Rule, others: &Others) {
        let others = match others {
            Others::One { done, goes_on: true } => {
                format!("carried out before it: {done}; the lines behind it were tried")
            }
            Others::One { done, .. } => format!("carried out before it: {done}; nothing behind it was tried"),
            Others::All => "nothing has changed".to_owned(),
        };
        let Rule { number, words } = rule;
        let text = format!("ipvsadm: that was line {number} of the rules, `{}`; {others}\n", told(words));
        self.complain(&text, 0);
    }
}

/// A rule for a terminal, which would obey what a file holds by mistake.
fn told(words: &[String]) -> String {
    let rule = words.join(" ");
    let mut told: String = rule
        .chars()
        .take(TOLD_MAX)
        .flat_map(|it| match it.is_control() {
            true => it.escape_default().collect::<Vec<_>>(),
            false => vec![it],
        })
        .collect();
    if rule.chars().nth(TOLD_MAX).is_some() {
        told += "...";
    }
    told
}

/// A rule as an edit. Or what is wrong with it, and the status.
fn edit_of(rule: &Rule, names: &dyn super::names::Names) -> Result<(Edit, Command), (String, u8)> {
    let command = parse(&rule.words, names).map_err(|refusal| (refusal.text, refusal.status))?;
    match edits::edit(&command) {
        Ok(Some(edit)) => Ok((edit, command)),
        Ok(None) => Err(("such a command is no rule\n".to_owned(), 2)),
        Err(text) => Err((format!("{text}\n"), REFUSED)),
    }
}
