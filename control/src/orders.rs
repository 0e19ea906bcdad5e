//! What clients of the control socket ask of control, and its answers.

use tokio::sync::{mpsc, oneshot};
use weir_api::edits::{Applied, Kind, Refusal, Reload, Reloaded};
use weir_config::edit::{self, Edit, Shown};

/// Orders that wait for control: more than clients there can be.
const ORDERS_MAX: usize = 256;

/// Where an answer goes. Whoever does not wait for it any more has dropped its end.
pub(crate) type Answer<T> = oneshot::Sender<Result<T, Refusal>>;

/// Edits to be made.
pub(crate) struct EditOrder {
    pub(crate) edits: Vec<Edit>,
    pub(crate) is_dry_run: bool,
    pub(crate) answer: Answer<Applied>,
}

/// The file is to be read again.
pub(crate) struct ReloadOrder {
    pub(crate) wanted: Reload,
    /// `None`: a signal asked, which waits for nothing.
    pub(crate) answer: Option<Answer<Reloaded>>,
}

/// See the module.
pub(crate) enum Order {
    Edit(EditOrder),
    Reload(ReloadOrder),
    /// What is desired now.
    Desired(oneshot::Sender<Shown>),
}

/// The clients' end.
pub(crate) type Orders = mpsc::Sender<Order>;

/// Both ends.
pub(crate) fn channel() -> (Orders, mpsc::Receiver<Order>) {
    mpsc::channel(ORDERS_MAX)
}

/// A refusal that is about no single edit.
pub(crate) fn refusal(kind: Kind, text: impl Into<String>) -> Refusal {
    Refusal { edit: None, kind, text: text.into(), report: None }
}

/// A refusal by the checks of the file.
pub(crate) fn of_edit(edit::Refusal { edit, kind, text }: edit::Refusal) -> Refusal {
    let kind = match kind {
        edit::Kind::Exists => Kind::Exists,
        edit::Kind::UnknownVirtualServer => Kind::UnknownVirtualServer,
        edit::Kind::UnknownRealServer => Kind::UnknownRealServer,
        edit::Kind::Invalid => Kind::Invalid,
    };
    Refusal { edit: Some(edit), kind, text, report: None }
}
