//! A stream without a socket: a consumer that forwards, and the feed at the other end.

use ringbell_ring::{Consumer, Entry, Fault, Feed, Overflow, Read, Report, Start};

use super::{Got, Memory, got, join, join_as};

pub struct Stream {
    pub consumer: Consumer,
    pub feed: Feed,
}

impl Stream {
    pub fn open(memory: &Memory, slot: usize, overflow: Overflow, start: Start) -> Self {
        let consumer = join(memory, slot, overflow, start).unwrap();
        let feed = feed(memory, &consumer, overflow);
        Self { consumer, feed }
    }

    /// The subscriber has a durable name.
    pub fn open_as(memory: &Memory, name: u64, start: Start) -> Self {
        let consumer = join_as(memory, name, start).unwrap();
        let mut feed = feed(memory, &consumer, Overflow::Block);
        feed.keep(consumer.wanted_from(), consumer.redelivered_below());
        Self { consumer, feed }
    }

    /// Forwards one stretch of at most `most` bytes. False: there is nothing to forward.
    pub fn pass(&mut self, most: usize) -> bool {
        let piece = self.consumer.forward(self.feed.space(most)).unwrap();
        if piece.length > 0 {
            self.feed.fed(piece.position, piece.length).unwrap();
            self.consumer.forwarded(piece);
        }
        piece.length > 0
    }

    /// One read. Forwards until a message is whole, and reports as a subscriber does.
    pub fn read(&mut self, most: usize, room: usize, entries: usize) -> (Read, Vec<Got>) {
        let mut slab = vec![0xa5; room];
        let mut table = vec![Entry::default(); entries];
        loop {
            let read = self.feed.read(&mut slab, 8, &mut table).unwrap();
            let none = matches!(read, Read::Empty | Read::Messages { count: 0, .. });
            if none && self.pass(most) {
                continue;
            }
            self.report().unwrap();
            return (read, got(read, &table, |at, len| slab[at..at + len].to_vec()));
        }
    }

    pub fn report(&mut self) -> Result<bool, Fault> {
        self.consumer.report(Report { wakeups: 7, ..self.feed.report() })
    }

    /// True: the publisher must be rung.
    pub fn acknowledge_below(&mut self, sequence: u64) -> bool {
        self.feed.acknowledge_below(sequence);
        self.report().unwrap()
    }
}

fn feed(memory: &Memory, consumer: &Consumer, overflow: Overflow) -> Feed {
    let (position, joined) = (consumer.forwarded_to(), consumer.joined());
    Feed::new(memory.view.capacity(), overflow, position, joined, consumer.next_sequence()).unwrap()
}
