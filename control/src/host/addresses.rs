//! The addresses of another configuration, in two steps.
//!
//! [`HostControl::prepare`] has the interfaces take the addresses that are new, and waits for that, since the kernel may refuse
//! one. [`Prepared::commit`] has them give the former ones back; a [`Prepared`] that is dropped takes the new ones away again. An
//! address that the kernel had already is the operator's, and stays.
//!
//! What is asked goes in order, so an answer that comes too late to be waited for is undone as well.

use std::sync::mpsc::{self, Receiver, Sender, SyncSender, sync_channel};
use std::time::Duration;

use ipnet::IpNet;
use weir_config::model::Config;

use super::interface::{Interface, Kernel};

/// How long control waits for the thread, which waits for the kernel.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// By port number.
type Addresses = Vec<Vec<IpNet>>;

/// What control asks of the host's thread.
pub(super) enum Request {
    /// Have these as well, and say whether that went well. If not, nothing has changed.
    Add(Addresses, SyncSender<Result<(), String>>),
    /// Have those alone that were added last.
    Settle,
    /// Be as before the last `Add`.
    Undo,
}

/// Why the host interfaces can't have the addresses of a configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HostRefusal {
    /// The thread does not run.
    #[error("their thread has not answered for {} s", ANSWER_MAX.as_secs())]
    Hangs,
    /// There is nobody to ask.
    #[error("their thread has ended")]
    Ended,
    /// What the kernel says.
    #[error("{0}")]
    Kernel(String),
}

/// Control's hold on the host's thread.
pub(crate) struct HostControl {
    requests: Sender<Request>,
    answer_max: Duration,
}

impl HostControl {
    /// With what the thread is asked.
    pub(super) fn new() -> (Self, Receiver<Request>) {
        let (requests, asked) = mpsc::channel();
        (Self { requests, answer_max: ANSWER_MAX }, asked)
    }

    /// Gives the interfaces what `next` has and `former` had not. `None`: the addresses are the same. May wait.
    ///
    /// # Errors
    /// Nothing has changed then, or is going to be as it was.
    pub(crate) fn prepare(&self, former: &Config, next: &Config) -> Result<Option<Prepared>, HostRefusal> {
        if addresses(former) == addresses(next) {
            return Ok(None);
        }
        let (answer, wait) = sync_channel(1);
        self.requests.send(Request::Add(addresses(next), answer)).map_err(|_| HostRefusal::Ended)?;
        let prepared = Prepared(Some(self.requests.clone()));
        match wait.recv_timeout(self.answer_max) {
            Ok(Ok(())) => Ok(Some(prepared)),
            Ok(Err(why)) => Err(HostRefusal::Kernel(why)),
            Err(mpsc::RecvTimeoutError::Timeout) => Err(HostRefusal::Hangs),
            Err(mpsc::RecvTimeoutError::Disconnected) => Err(HostRefusal::Ended),
        }
    }
}

fn addresses(config: &Config) -> Addresses {
    config.ports.iter().map(|port| port.addresses.clone()).collect()
}

/// The interfaces have what they had and what is new.
#[must_use]
pub(crate) struct Prepared(Option<Sender<Request>>);

impl Prepared {
    /// What they had goes. Can't fail: an address that the kernel does not give back is logged.
    pub(crate) fn commit(mut self) {
        if let Some(requests) = self.0.take() {
            // The thread ends with the process alone; then nobody needs addresses any more.
            let _ = requests.send(Request::Settle);
        }
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        if let Some(requests) = self.0.take() {
            let _ = requests.send(Request::Undo);
        }
    }
}

/// Does what control asks.
pub(super) fn serve(request: Request, interfaces: &mut [Interface], kernel: Kernel<'_>) {
    match request {
        Request::Add(wanted, answer) => {
            let done = interfaces.iter_mut().try_for_each(|interface| match wanted.get(interface.port) {
                Some(wanted) => interface.add(kernel, wanted),
                None => Ok(()),
            });
            if done.is_err() {
                undo(interfaces, kernel);
            }
            let _ = answer.send(done);
        }
        Request::Settle => interfaces.iter_mut().for_each(|interface| interface.settle(kernel)),
        Request::Undo => undo(interfaces, kernel),
    }
}

fn undo(interfaces: &mut [Interface], kernel: Kernel<'_>) {
    interfaces.iter_mut().for_each(|interface| interface.undo(kernel));
}

/// The host's thread, as a test plays it.
#[cfg(test)]
pub(crate) mod played {
    use super::*;

    /// What the thread was asked, in order.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) enum Asked {
        Add,
        Settle,
        Undo,
    }

    /// Answers each `Add` with `answer`; `None`: never. Returns what it was asked, once control's end is dropped.
    pub(crate) fn host(
        answer: impl Fn() -> Option<Result<(), String>> + Send + 'static,
    ) -> (HostControl, std::thread::JoinHandle<Vec<Asked>>) {
        let (control, requests) = HostControl::new();
        let play = move || {
            let mut unanswered = Vec::new();
            let ask = |request| match request {
                Request::Add(_, to) => {
                    match answer() {
                        Some(answer) => to.send(answer).unwrap(),
                        None => unanswered.push(to),
                    }
                    Asked::Add
                }
                Request::Settle => Asked::Settle,
                Request::Undo => Asked::Undo,
            };
            requests.into_iter().map(ask).collect()
        };
        (HostControl { answer_max: Duration::from_millis(50), ..control }, std::thread::spawn(play))
    }
}

#[cfg(test)]
mod tests {
    use super::played::{Asked, host};
    use super::*;

    fn config(addresses: &str) -> Config {
        let text = format!("[[port]]\nname = \"lan\"\ndevice = \"x\"\naddresses = [{addresses}]\n");
        weir_config::parse("test", &text).unwrap_or_else(|report| panic!("{report}")).config
    }

    const ONE: &str = "\"10.0.0.2/24\"";
    const TWO: &str = "\"10.0.0.2/24\", \"10.0.0.3/24\"";

    #[test]
    fn what_is_prepared_is_settled_or_undone_and_what_stays_is_not_asked_for() {
        let (control, thread) = host(|| Some(Ok(())));
        assert!(control.prepare(&config(ONE), &config(ONE)).unwrap().is_none());
        control.prepare(&config(ONE), &config(TWO)).unwrap().unwrap().commit();
        drop(control.prepare(&config(TWO), &config(ONE)).unwrap());
        drop(control);
        assert_eq!(thread.join().unwrap(), [Asked::Add, Asked::Settle, Asked::Add, Asked::Undo]);
    }

    #[test]
    fn a_thread_that_hangs_is_not_waited_for_and_does_nothing_later() {
        let (control, thread) = host(|| None);
        assert_eq!(control.prepare(&config(ONE), &config(TWO)).err(), Some(HostRefusal::Hangs));
        drop(control);
        assert_eq!(thread.join().unwrap(), [Asked::Add, Asked::Undo]);
    }

    #[test]
    fn without_a_thread_new_addresses_are_refused() {
        let (control, requests) = HostControl::new();
        drop(requests);
        assert_eq!(control.prepare(&config(ONE), &config(TWO)).err(), Some(HostRefusal::Ended));
    }
}
