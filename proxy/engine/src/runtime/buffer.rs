//! Buffers that a connection borrows only while bytes wait in it.
//!
//! An idle connection holds an empty [`ByteQueue`] (8 bytes) and no memory behind it. What queues hold
//! is counted where it is allocated, so that all of it has one bound; `session` asks for it.

use super::pipe::Pipes;

/// Buffers kept for reuse; more are given back to the allocator.
const SPARE_BUFFERS_MAX: usize = 256;
/// A larger buffer is not kept: one slow peer must not pin memory for ever.
const SPARE_BUFFER_BYTES_MAX: usize = 64 * 1024;

/// Spare buffers of one engine thread.
#[derive(Default)]
pub struct BufferPool {
    spare: Vec<Vec<u8>>,
    /// What queues lie in that have something, without a buffer.
    #[allow(clippy::vec_box, reason = "a queue that is empty is to be one pointer")]
    spare_queues: Vec<Box<Queued>>,
    queued: usize,
    /// Pipes, which count when bytes wait in them.
    pub pipes: Pipes,
}

/// A queue that has something.
#[derive(Default)]
struct Queued {
    bytes: Vec<u8>,
    /// Those before it have gone.
    start: usize,
}

impl BufferPool {
    /// An empty buffer, with memory behind it when one was spare.
    pub fn take(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_default()
    }

    /// Counts memory that somebody holds beside the queues, until [`BufferPool::release`].
    pub fn hold(&mut self, bytes: usize) {
        self.queued += bytes;
    }

    /// See [`BufferPool::hold`].
    pub fn release(&mut self, bytes: usize) {
        self.queued -= bytes;
    }

    /// Bytes of memory behind all queues, and what is held beside them.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.queued
    }

    /// Gives a buffer back.
    pub fn give(&mut self, mut buffer: Vec<u8>) {
        let keep = buffer.capacity() > 0
            && buffer.capacity() <= SPARE_BUFFER_BYTES_MAX
            && self.spare.len() < SPARE_BUFFERS_MAX;
        if keep {
            buffer.clear();
            self.spare.push(buffer);
        }
    }

    fn take_queue(&mut self) -> Box<Queued> {
        let mut queue = self.spare_queues.pop().unwrap_or_default();
        queue.bytes = self.take();
        self.queued += queue.bytes.capacity();
        queue
    }

    fn give_queue(&mut self, mut queue: Box<Queued>) {
        self.queued -= queue.bytes.capacity();
        self.give(std::mem::take(&mut queue.bytes));
        if self.spare_queues.len() < SPARE_BUFFERS_MAX {
            queue.start = 0;
            self.spare_queues.push(queue);
        }
    }
}

/// Bytes waiting for a socket, or for the rest of a message.
///
/// Whoever waits for nothing has a pointer to nothing: most connections, most of the time.
#[derive(Default)]
pub struct ByteQueue(Option<Box<Queued>>);

impl ByteQueue {
    /// Bytes that wait.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        self.0
            .as_ref()
            .map_or(&[], |queue| &queue.bytes[queue.start..])
    }

    /// Bytes that wait, to be changed in place.
    #[must_use]
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        self.0
            .as_mut()
            .map_or(&mut [], |queue| &mut queue.bytes[queue.start..])
    }

    /// Number of bytes that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.as_slice().len()
    }

    /// Whether none wait: then there is no queue.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Adds bytes at the end.
    pub fn push(&mut self, pool: &mut BufferPool, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let queue = self.0.get_or_insert_with(|| pool.take_queue());
        let before = queue.bytes.capacity();
        // A queue that is never quite empty must not grow for ever.
        if queue.start > queue.bytes.len() - queue.start {
            queue.bytes.drain(..queue.start);
            queue.start = 0;
        }
        queue.bytes.extend_from_slice(bytes);
        pool.queued += queue.bytes.capacity() - before;
    }

    /// Replaces everything by `bytes`.
    pub fn replace(&mut self, pool: &mut BufferPool, bytes: &[u8]) {
        if bytes.is_empty() {
            self.clear(pool);
            return;
        }
        if let Some(queue) = &mut self.0 {
            queue.start = 0;
            queue.bytes.clear();
        }
        self.push(pool, bytes);
    }

    /// Drops `count` bytes from the front, or all if there are fewer; the memory goes back to the pool
    /// with the last one.
    pub fn consume(&mut self, pool: &mut BufferPool, count: usize) {
        let Some(queue) = &mut self.0 else {
            return;
        };
        queue.start = queue.start.saturating_add(count);
        if queue.start >= queue.bytes.len() {
            self.clear(pool);
        }
    }

    /// Drops everything.
    pub fn clear(&mut self, pool: &mut BufferPool) {
        if let Some(queue) = self.0.take() {
            pool.give_queue(queue);
        }
    }

    #[cfg(test)]
    fn capacity(&self) -> usize {
        self.0.as_ref().map_or(0, |queue| queue.bytes.capacity())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_that_is_never_empty_stays_small() {
        let mut pool = BufferPool::default();
        let mut queue = ByteQueue::default();
        queue.push(&mut pool, &[1; 10]);
        for _ in 0..10_000 {
            queue.push(&mut pool, &[2; 100]);
            queue.consume(&mut pool, 100);
        }
        assert_eq!(queue.len(), 10);
        assert!(queue.capacity() < 1000);
    }

    #[test]
    fn an_empty_queue_holds_no_memory() {
        let mut pool = BufferPool::default();
        let mut queue = ByteQueue::default();
        queue.push(&mut pool, b"abc");
        queue.push(&mut pool, b"def");
        queue.consume(&mut pool, 2);
        assert_eq!(queue.as_slice(), b"cdef");
        queue.consume(&mut pool, 4);
        assert!(queue.is_empty());
        assert_eq!(queue.capacity(), 0);
        assert_eq!(pool.spare.len(), 1);
    }

    #[test]
    fn the_memory_behind_all_queues_is_counted() {
        let mut pool = BufferPool::default();
        let mut queues: [ByteQueue; 3] = Default::default();
        for round in 1..100 {
            for queue in &mut queues {
                queue.push(&mut pool, &vec![1; 100 * round]);
                queue.consume(&mut pool, 50);
            }
            let held: usize = queues.iter().map(|queue| queue.capacity()).sum();
            assert_eq!(pool.queued_bytes(), held);
            queues[0].replace(&mut pool, &[2; 10]);
        }
        for queue in &mut queues {
            queue.clear(&mut pool);
        }
        assert_eq!(pool.queued_bytes(), 0);
    }
}
