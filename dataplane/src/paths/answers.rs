//! The workers' part: which echo responses the control thread waits for.

use std::net::SocketAddr;
use std::sync::Arc;

use crossbeam::channel::Sender;

/// A response that is waited for: from where, and its sequence number.
pub(crate) type Expected = (SocketAddr, u16);

/// A response that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answered {
    /// The control thread is told.
    Told,
    /// Nobody waits for it, or there is no room to tell.
    Refused,
}

/// What one worker lets through.
#[derive(Debug)]
pub(crate) struct AnswersIn {
    /// Sorted.
    expected: Arc<[Expected]>,
    line: Option<Sender<Expected>>,
}

impl AnswersIn {
    /// Nobody waits for anything.
    pub(crate) fn none() -> Self {
        Self {
            expected: Arc::new([]),
            line: None,
        }
    }

    /// Answers go to `line`.
    pub(crate) fn connect(&mut self, line: Sender<Expected>) {
        self.line = Some(line);
    }

    /// These are waited for from now on; sorted.
    pub(crate) fn expect(&mut self, expected: Arc<[Expected]>) {
        self.expected = expected;
    }

    /// Takes a response.
    pub(crate) fn take(&self, answer: Expected) -> Answered {
        let told = self.expected.binary_search(&answer).is_ok()
            && self
                .line
                .as_ref()
                .is_some_and(|line| line.try_send(answer).is_ok());
        if told {
            Answered::Told
        } else {
            Answered::Refused
        }
    }
}

#[cfg(test)]
mod tests {
    use crossbeam::channel::bounded;

    use super::*;

    #[test]
    fn only_an_answer_from_the_peer_with_its_number_gets_through_and_never_more_than_fit() {
        let peer = |host: u8| SocketAddr::from(([10, 0, 0, host], 2152));
        let (line, heard) = bounded(1);
        let mut answers = AnswersIn::none();
        answers.connect(line);
        answers.expect(Arc::new([(peer(1), 7), (peer(2), 8)]));

        assert_eq!(answers.take((peer(2), 7)), Answered::Refused);
        assert_eq!(answers.take((peer(3), 7)), Answered::Refused);
        let other_port = SocketAddr::new(peer(2).ip(), 2153);
        assert_eq!(answers.take((other_port, 8)), Answered::Refused);
        assert_eq!(answers.take((peer(2), 8)), Answered::Told);
        assert_eq!(answers.take((peer(1), 7)), Answered::Refused);
        assert_eq!(heard.try_iter().collect::<Vec<_>>(), [(peer(2), 8)]);
    }
}
