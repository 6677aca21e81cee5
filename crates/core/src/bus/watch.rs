//! A watch: registry events in a queue, for any thread, with a descriptor to wait on.
//!
//! Invariant: the eventfd is readable while the queue is not empty or the watch has ended. A failure to read the
//! directory makes it readable once, until the next look. A slow consumer costs memory for the differences only, not
//! for each event: a long queue is folded, service by service.

use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::Bus;
use super::event::{ServiceEvent, Sink};
use super::registry::SinkGuard;
use crate::error::{Error, Result};
use crate::reactor::Thread;
use crate::sys::eventfd::EventFd;

/// A queue longer than this is folded. The next fold happens when it is twice as long again.
const LONG: usize = 16 * 1024;

/// A stream of services that come, change and go. Every present instance comes first, as `Added`; then the changes
/// follow.
///
/// `as_fd` becomes readable when there is an event, for use in an event loop.
pub struct Watch {
    queue: Arc<Queue>,
    // Declared before `bus`, so that the sink is dropped before the thread ends.
    _guard: SinkGuard,
    _bus: Bus,
}

struct Queue {
    state: Mutex<State>,
    bell: EventFd,
}

#[derive(Default)]
struct State {
    events: VecDeque<ServiceEvent>,
    fold_at: usize,
    ended: bool,
    /// What hides a part of the directory, until `next` returns it.
    unreadable: Option<Error>,
}

impl Watch {
    pub(super) fn open(
        bus: &Bus,
        subscribe: impl FnOnce(Box<dyn Sink>) -> Result<SinkGuard>,
    ) -> Result<Watch> {
        let state = Mutex::new(State { fold_at: LONG, ..State::default() });
        let queue = Arc::new(Queue { state, bell: EventFd::new()? });
        let guard = subscribe(Box::new(Feeder(Arc::clone(&queue))))?;
        Ok(Watch { queue, _guard: guard, _bus: bus.clone() })
    }

    /// The next event, if one is in the queue.
    pub fn try_next(&mut self) -> Option<ServiceEvent> {
        let mut state = self.queue.lock();
        let event = state.events.pop_front();
        if state.events.is_empty() && !state.ended {
            self.queue.bell.drain();
        }
        event
    }

    /// Waits for the next event. `None` when the time is over. Without a timeout there is no limit.
    ///
    /// Fails with `ERR_RINGBELL_CLOSED` when the bus was closed and every event was taken. Fails once with the reason when
    /// the directory, or the record of a chosen service, cannot be read for some time, for example because descriptors
    /// ran out. Then events may be missing; they come once it can be read again, so the watch can still be used.
    pub fn next(&mut self, timeout: Option<Duration>) -> Result<Option<ServiceEvent>> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            if let Some(event) = self.try_next() {
                return Ok(Some(event));
            }
            if self.has_ended() {
                return Err(Error::Closed { what: "watch" });
            }
            if let Some(error) = self.queue.lock().unreadable.take() {
                return Err(error);
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return Ok(None);
            }
            wait_readable(self.as_fd(), left)?;
        }
    }

    /// Whether the bus was closed. No event follows those in the queue.
    pub fn has_ended(&self) -> bool {
        let state = self.queue.lock();
        state.ended && state.events.is_empty()
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.queue.bell.as_fd()
    }
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Watch").field("queued", &self.queue.lock().events.len()).finish()
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The bus thread's end of the queue.
struct Feeder(Arc<Queue>);

impl Sink for Feeder {
    fn event(&mut self, event: &ServiceEvent, _thread: &mut Thread<'_>) {
        let mut state = self.0.lock();
        state.events.push_back(event.clone());
        if state.events.len() >= state.fold_at {
            fold(&mut state.events);
            state.fold_at = LONG.max(state.events.len() * 2);
        }
        // Under the lock, so that a consumer that drains has seen this event.
        if state.events.len() == 1 {
            self.0.bell.ring();
        }
    }

    fn unreadable(&mut self, error: &Error) {
        let mut state = self.0.lock();
        state.unreadable = Some(error.clone());
        self.0.bell.ring();
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        self.0.lock().ended = true;
        self.0.bell.ring();
    }
}

/// Keeps only the events that make a difference. An instance that came and went before the consumer looked gives no
/// event.
fn fold(events: &mut VecDeque<ServiceEvent>) {
    let mut kept: Vec<Option<ServiceEvent>> = Vec::with_capacity(events.len());
    let mut last: HashMap<String, usize> = HashMap::new();
    for event in events.drain(..) {
        let id = event.record().id.clone();
        let earlier = last.get(&id).copied().and_then(|at| Some((at, kept.get_mut(at)?.take()?)));
        let (at, folded) = match (earlier, event) {
            (Some((at, ServiceEvent::Added(_))), ServiceEvent::Updated(record)) => {
                (Some(at), Some(ServiceEvent::Added(record)))
            }
            (Some((_, ServiceEvent::Added(_))), ServiceEvent::Removed(_)) => (None, None),
            (Some((at, ServiceEvent::Updated(_))), ServiceEvent::Updated(record)) => {
                (Some(at), Some(ServiceEvent::Updated(record)))
            }
            (Some((at, ServiceEvent::Updated(_))), ServiceEvent::Removed(record)) => {
                (Some(at), Some(ServiceEvent::Removed(record)))
            }
            (Some((_, ServiceEvent::Removed(_))), ServiceEvent::Added(record)) => {
                (None, Some(ServiceEvent::Updated(record)))
            }
            (Some((at, other)), event) => {
                kept[at] = Some(other);
                (None, Some(event))
            }
            (None, event) => (None, Some(event)),
        };
        let Some(folded) = folded else {
            last.remove(&id);
            continue;
        };
        let at = at.unwrap_or(kept.len());
        if at == kept.len() {
            kept.push(Some(folded));
        } else {
            kept[at] = Some(folded);
        }
        last.insert(id, at);
    }
    events.extend(kept.into_iter().flatten());
}

/// Waits until the descriptor is readable or the time is over. An interrupting signal ends the wait as well.
pub(super) fn wait_readable(fd: BorrowedFd<'_>, timeout: Option<Duration>) -> Result<()> {
    let milliseconds = timeout.map(|timeout| timeout.saturating_add(Duration::from_micros(999)).as_millis());
    let timeout = milliseconds.map_or(PollTimeout::NONE, |left| {
        PollTimeout::try_from(i32::try_from(left).unwrap_or(i32::MAX)).unwrap_or(PollTimeout::MAX)
    });
    match poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], timeout) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(errno) => Err(Error::os("poll", errno, "cannot wait for events")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Record;
    use proptest::prelude::*;

    fn record(instance: u8, version: u32) -> Arc<Record> {
        let mut record: Record = serde_json::from_value(serde_json::json!({
            "schema": 1, "service": "s", "id": format!("{instance:032x}"), "kind": "service",
            "pid": 1, "uid": 0, "protocol": 1,
        }))
        .unwrap();
        record.start_time = u64::from(version);
        Arc::new(record)
    }

    /// What a consumer knows after these events. Panics when the order of the events is impossible.
    fn play(view: &mut HashMap<String, u64>, events: &VecDeque<ServiceEvent>) {
        for event in events {
            let (id, version) = (event.record().id.clone(), event.record().start_time);
            match event {
                ServiceEvent::Added(_) => assert_eq!(view.insert(id, version), None, "added twice"),
                ServiceEvent::Updated(_) => {
                    assert!(view.insert(id, version).is_some(), "updated before added")
                }
                ServiceEvent::Removed(_) => assert!(view.remove(&id).is_some(), "removed twice"),
            }
        }
    }

    proptest! {
        #[test]
        fn folding_keeps_what_makes_a_difference(steps in prop::collection::vec((0u8..4, any::<bool>()), 0..60), taken in 0usize..20) {
            let mut alive = std::collections::HashSet::new();
            let mut events: VecDeque<ServiceEvent> = VecDeque::new();
            for (version, (instance, change)) in (0u32..).zip(&steps) {
                let record = record(*instance, version);
                events.push_back(match (alive.contains(instance), change) {
                    (false, _) => { alive.insert(*instance); ServiceEvent::Added(record) }
                    (true, true) => ServiceEvent::Updated(record),
                    (true, false) => { alive.remove(instance); ServiceEvent::Removed(record) }
                });
            }
            // The consumer has taken some events already. The rest is folded.
            let mut folded = events.split_off(taken.min(events.len()));
            let (mut expected, mut view) = (HashMap::new(), HashMap::new());
            play(&mut expected, &events);
            play(&mut view, &events);
            play(&mut expected, &folded);
            fold(&mut folded);
            play(&mut view, &folded);
            prop_assert_eq!(view, expected);
            prop_assert!(folded.len() <= 4 * 2);
        }
    }
}
