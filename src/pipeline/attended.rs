//! A call travels in the task of its caller for as long as the caller waits there.
//!
//! Most calls are over by then, and a task of their own would cost each of them a wake-up there and
//! one back. A call goes on in a task of its own when its caller hangs up, which cancels nothing
//! that may already be paid for, and when it has begun to read what is still arriving.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use http::Response;

use super::body::Body;
use super::door::Opened;
use crate::task::Tasks;

/// The way of a call, and the caller who waits for its answer.
pub(super) struct Attended {
    /// `None` once the call has come to its end or goes on by itself.
    journey: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    opened: Opened,
    tasks: Tasks,
}

impl Attended {
    /// Attends the journey that `begin` begins. It is begun in the box that it stays in: copied
    /// there, all its room would be copied with the little that stands in it.
    pub(super) fn new<F>(begin: impl FnOnce() -> F, opened: Opened, tasks: Tasks) -> Attended
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let journey = Box::write(Box::new_uninit(), begin());
        Attended {
            journey: Some(Box::into_pin(journey)),
            opened,
            tasks,
        }
    }

    fn go_on(&mut self) {
        if let Some(journey) = self.journey.take() {
            self.tasks.go_on(journey);
        }
    }
}

impl Future for Attended {
    type Output = Response<Body>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Response<Body>> {
        if let Some(journey) = &mut self.journey {
            // A defect in one call must not take the connection's others along.
            let polled = catch_unwind(AssertUnwindSafe(|| journey.as_mut().poll(cx)));
            if !matches!(polled, Ok(Poll::Pending)) {
                self.journey = None;
            }
        }
        // Only the journey opens the door, so that no other word of it need be waited for.
        let over = self.journey.is_none();
        match self.opened.answer(over) {
            Some(answer) => {
                self.go_on();
                Poll::Ready(answer)
            }
            None => Poll::Pending,
        }
    }
}

impl Drop for Attended {
    fn drop(&mut self) {
        self.go_on();
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::sync::Arc;

    use super::super::Pipeline;
    use super::super::call::Arrived;
    use super::super::door::Door;

    /// What every call needs, whatever becomes of it: what seldom happens on the way is boxed where
    /// it begins.
    #[test]
    fn the_way_of_a_call_is_not_large() {
        fn bytes<F: Future>(_: impl FnOnce(Arc<Pipeline>, Arrived, Door) -> F) -> usize {
            size_of::<F>()
        }
        let bytes = bytes(Pipeline::travel);
        assert!(bytes < 12 << 10, "{bytes}");
    }
}
