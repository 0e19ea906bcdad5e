//! Why a string is not what its key holds.

use crate::report::Problem;
use crate::schema::Span;

/// Why a string is not what its key holds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// What is wrong, the title of the problem: "invalid address".
    pub(crate) message: String,
    /// Why, beside the marked text.
    pub(crate) label: String,
    /// What to write instead.
    pub(crate) help: Option<String>,
}

impl Fault {
    pub(crate) fn new(message: impl Into<String>, label: impl Into<String>) -> Self {
        Self { message: message.into(), label: label.into(), help: None }
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    pub(crate) fn into_problem(self, span: Span) -> Problem {
        let problem = Problem::error(self.message).at(span, self.label);
        match self.help {
            Some(help) => problem.help(help),
            None => problem,
        }
    }
}
