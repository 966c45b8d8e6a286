//! The publishes of a connection that are not answered yet, in their order (MQTT-4.6.0-2).

use std::collections::VecDeque;
use std::num::NonZeroU16;

use tokio::sync::oneshot;

use super::protocol::Answer;
use crate::model::Verdict;
use crate::source::gate::Unsettled;

/// See the module.
#[derive(Default)]
pub(super) struct Unanswered(VecDeque<Pending>);

struct Pending {
    packet_id: NonZeroU16,
    answer: Awaited,
}

enum Awaited {
    /// By the ingest loop.
    Verdict(oneshot::Receiver<Verdict>, Unsettled),
    Known(Answer),
}

/// What is to be said of the publish that waits for the longest. It is unsettled as long as this value lives.
pub(super) struct Settled {
    pub(super) packet_id: NonZeroU16,
    pub(super) answer: Answer,
    _unsettled: Option<Unsettled>,
}

/// The message may not be stored, so it must not be acknowledged, and its connection cannot go on.
pub(super) struct NotStored;

impl Unanswered {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn holds(&self, packet_id: NonZeroU16) -> bool {
        self.0.iter().any(|pending| pending.packet_id == packet_id)
    }

    /// One more, which the ingest loop will settle.
    pub(super) fn await_verdict(
        &mut self,
        packet_id: NonZeroU16,
        verdict: oneshot::Receiver<Verdict>,
        unsettled: Unsettled,
    ) {
        self.0.push_back(Pending { packet_id, answer: Awaited::Verdict(verdict, unsettled) });
    }

    /// One more, whose answer is known and has to wait for those before it.
    pub(super) fn await_turn(&mut self, packet_id: NonZeroU16, answer: Answer) {
        self.0.push_back(Pending { packet_id, answer: Awaited::Known(answer) });
    }

    /// Waits until the first can be answered; for ever when there is none.
    pub(super) async fn settled(&mut self) -> Result<Settled, NotStored> {
        let answer = match self.0.front_mut().map(|pending| &mut pending.answer) {
            Some(Awaited::Verdict(verdict, _)) => verdict.await.map(answer_of).map_err(|_| NotStored),
            Some(Awaited::Known(answer)) => Ok(*answer),
            None => std::future::pending().await,
        };
        self.take(answer)
    }

    /// The first, if it can be answered by now.
    pub(super) fn settled_by_now(&mut self) -> Option<Result<Settled, NotStored>> {
        let answer = match &mut self.0.front_mut()?.answer {
            Awaited::Known(answer) => Ok(*answer),
            Awaited::Verdict(verdict, _) => match verdict.try_recv() {
                Ok(verdict) => Ok(answer_of(verdict)),
                Err(oneshot::error::TryRecvError::Empty) => return None,
                Err(oneshot::error::TryRecvError::Closed) => Err(NotStored),
            },
        };
        Some(self.take(answer))
    }

    fn take(&mut self, answer: Result<Answer, NotStored>) -> Result<Settled, NotStored> {
        let Pending { packet_id, answer: awaited } = self.0.pop_front().ok_or(NotStored)?;
        if self.0.is_empty() {
            self.0 = VecDeque::new();
        }
        let unsettled = match awaited {
            Awaited::Verdict(_, unsettled) => Some(unsettled),
            Awaited::Known(_) => None,
        };
        Ok(Settled { packet_id, answer: answer?, _unsettled: unsettled })
    }
}

fn answer_of(verdict: Verdict) -> Answer {
    match verdict {
        Verdict::Accepted | Verdict::Duplicate | Verdict::Undecided => Answer::Success,
        Verdict::Rejected(rejection) => Answer::Rejected(rejection),
    }
}
