//! Before an attempt goes out: its turn at the provider, and who is told of how it went.

use std::time::{Duration, Instant};

use super::Pipeline;
use super::call::Call;
use super::chain::Got;
use super::door::Door;
use super::plan::Plan;
use super::rescue::Rescued;
use crate::bill::Charge;
use crate::health::Ended;
use crate::image::{Failure, FailureKind};
use crate::record::{AttemptRecord, Mode};
use crate::upstream::limits::Pass;

/// What is left of a deadline for the answer that nothing came.
const MOMENT: Duration = Duration::from_millis(100);

/// Why an attempt does not go out.
pub(super) enum NotNow {
    /// Not in time: as a failure that the rules may answer.
    Full(Box<Failure>),
    /// Nobody waits for it any more, and nothing was sent.
    Left,
}

impl Pipeline {
    /// Waits until the provider's limits let the attempt of `plan` through. `None` where it has
    /// none.
    pub(super) async fn turn(
        &self,
        call: &mut Call,
        plan: &Plan,
        door: &mut Door,
    ) -> Result<Option<Pass>, NotNow> {
        if call.is_late() {
            let why = "the caller's deadline (x-pixtoll-deadline) has passed, so nothing was sent";
            let failure = Failure::not_sent(FailureKind::Timeout, why);
            return Err(NotNow::Full(Box::new(failure)));
        }
        let Some(gate) = &plan.provider.gate else {
            return Ok(None);
        };
        if self.policy.mode == Mode::Observe {
            return Ok(None);
        }
        let began = Instant::now();
        let patience = plan.timeout.unwrap_or(self.upstream.patience().head);
        let mut until = began + patience;
        if let (Some(deadline), Some(left)) = (call.deadline, call.time_left()) {
            // A moment before, so that there is time to say so.
            until = until.min(deadline - MOMENT.min(left / 10));
        }
        let passed = tokio::select! {
            biased;
            passed = gate.enter(&call.decision.app, until.into()) => passed,
            () = door.left() => return Err(NotNow::Left),
        };
        call.upstream += began.elapsed();
        passed.map(Some).map_err(|turned| {
            let kind = FailureKind::RateLimited;
            let mut failure = Failure::not_sent(kind, turned.why);
            failure.retry_after = Some(turned.retry_after);
            NotNow::Full(Box::new(failure))
        })
    }

    /// The end of an attempt that did not go out.
    pub(super) fn not_now(&self, call: &mut Call, mut record: AttemptRecord, why: NotNow) -> Got {
        let NotNow::Full(failure) = why else {
            call.attempts -= 1;
            let why = "the caller left while the call waited for its turn; nothing was sent";
            let remedy = "raise providers.NAME.limits, or let the app wait longer";
            return Got::Refused(Rescued::ours(503, FailureKind::Timeout, why, remedy));
        };
        let prompt = &call.asked.prompt;
        record.fail(&failure, Charge::NONE, prompt, self.policy.prompts);
        call.decision.attempted(record);
        self.failed(call, *failure, None, None)
    }

    /// Tells the board how an attempt went.
    pub(super) fn note_health(&self, plan: &Plan, got: &Got, took: Duration) {
        let ended = match got {
            Got::Served(_) => Ended::Well(took),
            Got::Failed(failed) => Ended::of(&failed.failure),
            Got::Refused(_) | Got::Over(_) | Got::TooDear(_) => Ended::Neither,
        };
        let request = &plan.request;
        let now = Instant::now();
        self.world
            .health
            .ended(&request.model, request.tier, ended, now);
    }
}
