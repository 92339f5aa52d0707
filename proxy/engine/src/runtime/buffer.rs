//! Buffers that a connection borrows only while bytes wait in it.
//!
//! An idle connection holds an empty [`ByteQueue`] (32 bytes) and no memory behind it. What queues hold
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
    queued: usize,
    /// Pipes, which count when bytes wait in them.
    pub pipes: Pipes,
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
}

/// Bytes waiting for a socket, or for the rest of a message.
#[derive(Default)]
pub struct ByteQueue {
    bytes: Vec<u8>,
    start: usize,
}

impl ByteQueue {
    /// Bytes that wait.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// Bytes that wait, to be changed in place.
    #[must_use]
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..]
    }

    /// Number of bytes that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// Whether none wait.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.start == self.bytes.len()
    }

    /// Adds bytes at the end.
    pub fn push(&mut self, pool: &mut BufferPool, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let before = self.bytes.capacity();
        if before == 0 {
            self.bytes = pool.take();
        }
        // A queue that is never quite empty must not grow for ever.
        if self.start > self.len() {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        self.bytes.extend_from_slice(bytes);
        pool.queued += self.bytes.capacity() - before;
    }

    /// Replaces everything by `bytes`.
    pub fn replace(&mut self, pool: &mut BufferPool, bytes: &[u8]) {
        if bytes.is_empty() {
            self.clear(pool);
            return;
        }
        self.start = 0;
        self.bytes.clear();
        self.push(pool, bytes);
    }

    /// Drops `count` bytes from the front, or all if there are fewer; the memory goes back to the pool
    /// with the last one.
    pub fn consume(&mut self, pool: &mut BufferPool, count: usize) {
        self.start = self.start.saturating_add(count);
        if self.start >= self.bytes.len() {
            self.clear(pool);
        }
    }

    /// Drops everything.
    pub fn clear(&mut self, pool: &mut BufferPool) {
        self.start = 0;
        pool.queued -= self.bytes.capacity();
        pool.give(std::mem::take(&mut self.bytes));
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
        assert!(queue.bytes.capacity() < 1000);
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
        assert_eq!(queue.bytes.capacity(), 0);
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
            let held: usize = queues.iter().map(|queue| queue.bytes.capacity()).sum();
            assert_eq!(pool.queued_bytes(), held);
            queues[0].replace(&mut pool, &[2; 10]);
        }
        for queue in &mut queues {
            queue.clear(&mut pool);
        }
        assert_eq!(pool.queued_bytes(), 0);
    }
}
