//! Where control's questions to one worker and its answers lie. Neither side ever waits, and nothing is allocated.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use crossbeam::queue::ArrayQueue;

use super::{Explanation, Question};

/// Tells an answer from those to former questions.
pub type Number = u64;

/// Questions that lie there at most, and answers: a question that pushes another one out is the one that somebody still waits
/// for.
const ROOM: usize = 4;

/// See the module.
pub struct Questions {
    numbers: AtomicU64,
    questions: ArrayQueue<(Number, Question)>,
    answers: ArrayQueue<(Number, Explanation)>,
}

impl Default for Questions {
    fn default() -> Self {
        Self { numbers: AtomicU64::new(0), questions: ArrayQueue::new(ROOM), answers: ArrayQueue::new(ROOM) }
    }
}

impl Questions {
    /// Asks. One thread at a time asks and reads until it has its answer, or has given up: control sees to that.
    pub fn ask(&self, question: Question) -> Number {
        let number = self.numbers.fetch_add(1, Relaxed);
        self.questions.force_push((number, question));
        number
    }

    /// The answer to the question with this number, if it is there. Answers to others, which nobody waits for, go.
    pub fn answer(&self, number: Number) -> Option<Explanation> {
        std::iter::from_fn(|| self.answers.pop()).find(|(of, _)| *of == number).map(|(_, answer)| answer)
    }

    /// Whether nobody asks.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.questions.is_empty()
    }

    /// The next question.
    pub(super) fn take(&self) -> Option<(Number, Question)> {
        self.questions.pop()
    }

    /// Answers it.
    pub(super) fn put(&self, number: Number, explanation: Explanation) {
        self.answers.force_push((number, explanation));
    }
}
