//! What the bus thread reports: publishers that come, go, are lost, or cannot be attached. It becomes [`Notice`]s.
//!
//! Invariant: the flag of the inbox is read before every batch, so news is taken while messages flow. Every check of the
//! sources begins here.

use super::Subscriber;
use crate::error::{Error, Result};
use crate::port::WriterState;
use crate::topic::follower::PublisherEvent;
use crate::topic::notice::Notice;
use crate::topic::source::Source;

impl Subscriber {
    /// Takes what the bus thread has reported.
    #[inline]
    pub(super) fn take_news(&mut self) -> Result<()> {
        if self.home.is_foreign() {
            return Err(Error::Closed { what: "subscriber" });
        }
        if self.inbox.has_news() {
            self.take_arrivals();
        }
        Ok(())
    }

    #[cold]
    fn take_arrivals(&mut self) {
        for arrival in self.inbox.take() {
            match arrival {
                PublisherEvent::Joined(joined) => {
                    let number = self.next_number;
                    self.next_number += 1;
                    self.notices.push_back(Notice::Attached {
                        source: number,
                        record: joined.record.clone(),
                        rung: joined.rung,
                        fallbacks: joined.fallbacks.clone(),
                        position: joined.position(),
                        redelivered_below: joined.redelivered_below(),
                    });
                    self.sources.push(Source::new(joined, number));
                }
                PublisherEvent::Role(id, group) => self.role_changed(&id, group),
                PublisherEvent::Gone(id) => {
                    // A lost stream whose end was not reported yet may be there beside the one that replaced it.
                    let last = self.sources.iter_mut().rfind(|source| source.record().id == id);
                    if let Some(source) = last.filter(|source| source.writer != WriterState::Unreachable) {
                        source.writer = WriterState::Gone;
                    }
                }
                PublisherEvent::Lost(id) => {
                    let last = self.sources.iter_mut().rfind(|source| source.record().id == id);
                    if let Some(source) = last {
                        source.writer = WriterState::Unreachable;
                    }
                }
                PublisherEvent::GivenUp(record, tries, error) => {
                    self.notices.push_back(Notice::GivenUp { record, tries, error });
                }
                PublisherEvent::Failed(record, error) => {
                    self.notices.push_back(Notice::Failed { record, error })
                }
                PublisherEvent::Unreadable(error) => self.notices.push_back(Notice::Unreadable { error }),
                PublisherEvent::Closed => self.closed = true,
            }
        }
        self.regroup();
    }

    /// Takes all queued notices, in the order in which things happened.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use ringbell::bus::{Bus, BusOptions};
    /// use ringbell::topic::{Notice, PublisherOptions, SubscriberOptions};
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let bus = Bus::open(BusOptions { path: Some(folder.path().join("bus")), ..BusOptions::default() })?;
    /// let publisher = bus.publisher("ticks", PublisherOptions::default())?;
    /// let mut subscriber = bus.subscriber("ticks", SubscriberOptions::default())?;
    /// subscriber.wait_attached(1, Some(Duration::from_secs(30)))?;
    ///
    /// for notice in subscriber.notices() {
    ///     match notice {
    ///         Notice::Attached { record, .. } => assert_eq!(record.service, "ticks"),
    ///         other => panic!("unexpected: {other:?}"),
    ///     }
    /// }
    /// assert!(subscriber.notices().is_empty()); // each notice is told once
    /// # drop(publisher);
    /// # Ok::<(), ringbell::Error>(())
    /// ```
    pub fn notices(&mut self) -> Vec<Notice> {
        self.notices.drain(..).collect()
    }
}
