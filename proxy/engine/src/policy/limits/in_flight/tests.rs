//! Requests in flight of several workers, each with the file opened for itself.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use super::*;
use crate::policy::limits::columns::WORDS;

/// A file that workers have in common, gone with this.
struct Host(PathBuf);

impl Host {
    fn new() -> Self {
        static SERIAL: AtomicU32 = AtomicU32::new(0);
        let (process, serial) = (std::process::id(), SERIAL.fetch_add(1, SeqCst));
        let path = std::env::temp_dir().join(format!("kakehi-in-flight-{process}-{serial}"));
        File::create_new(&path)
            .unwrap()
            .set_len(8 * WORDS as u64)
            .unwrap();
        Self(path)
    }

    fn opened(&self) -> File {
        File::options()
            .read(true)
            .write(true)
            .open(&self.0)
            .unwrap()
    }

    fn worker(&self) -> InFlight {
        let mut worker = InFlight::default();
        let file = self.opened();
        worker.share(CommonFile::of(file.as_raw_fd()).unwrap());
        worker
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).unwrap();
    }
}

fn keys(keys: &[u64]) -> Keys {
    let all = keys.iter().map(|&key| Counted {
        key: Key(key),
        who: Who::Nobody,
    });
    all.collect()
}

fn counts<const N: usize>(of: &InFlight, keys: [u64; N]) -> [u64; N] {
    keys.map(|key| of.of(Key(key)))
}

#[test]
fn who_has_left_leaves_nothing_behind() {
    let host = Host::new();
    for in_flight in [InFlight::default(), host.worker()] {
        let (one, both) = (keys(&[1]), keys(&[1, 2]));
        in_flight.enter(&one);
        in_flight.enter(&both);
        assert_eq!(counts(&in_flight, [1, 2, 3]), [2, 1, 0]);
        in_flight.leave(&one);
        assert_eq!(counts(&in_flight, [1, 2]), [1, 1]);
        in_flight.leave(&both);
        assert_eq!(counts(&in_flight, [1, 2, 3]), [0; 3]);
        assert!(in_flight.own.borrow().is_empty());
        assert!(in_flight.columns().is_none_or(|it| it.all().count() == 0));
    }
}

#[test]
fn what_is_kept_is_counted_once_and_given_up_whole() {
    let host = Host::new();
    let (in_flight, other) = (host.worker(), host.worker());
    assert!(in_flight.reserve(Key(1), 1) && in_flight.reserve(Key(2), 1));
    assert!(!other.reserve(Key(1), 1));
    in_flight.enter(&keys(&[1]));
    assert_eq!(counts(&other, [1, 2]), [1, 1]);
    in_flight.give_up();
    assert_eq!(counts(&other, [1, 2]), [1, 0]);
    in_flight.leave(&keys(&[1]));
    assert!(other.reserve(Key(1), 1));
}

#[test]
fn one_that_counts_nothing_takes_no_column() {
    let host = Host::new();
    let workers = [host.worker(), host.worker()];
    workers[0].give_up();
    assert_eq!(host.opened().metadata().map(|it| blocks(&it)).unwrap(), 0);
    assert!(workers[1].reserve(Key(1), 1));
    let taken = host.opened().metadata().map(|it| blocks(&it)).unwrap();
    assert!((256..600).contains(&taken), "{taken} half kilobytes");
}

fn blocks(of: &std::fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::blocks(of)
}

#[test]
fn all_workers_together_let_in_what_one_would() {
    const MOST: u32 = 3;
    let host = Host::new();
    let (inside, had) = (AtomicU32::new(0), AtomicU32::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let in_flight = host.worker();
                let keys = keys(&[7]);
                for _ in 0..5000 {
                    if in_flight.reserve(Key(7), MOST) {
                        in_flight.enter(&keys);
                        assert!(inside.fetch_add(1, SeqCst) < MOST);
                        had.fetch_add(1, SeqCst);
                        std::hint::spin_loop();
                        inside.fetch_sub(1, SeqCst);
                        in_flight.leave(&keys);
                    }
                }
            });
        }
    });
    assert!(had.load(SeqCst) > 5000, "{had:?}");
    assert_eq!(host.worker().of(Key(7)), 0);
}

#[test]
fn the_words_of_one_that_was_killed_are_dropped() {
    let host = Host::new();
    let survivor = host.worker();
    survivor.enter(&keys(&[5]));
    let killed = host.worker();
    killed.enter(&keys(&[7, 7, 9]));
    assert!(!survivor.reserve(Key(7), 2), "it lives");
    // What it has written stays, and its lock goes.
    let mut left = vec![0; 8 * WORDS];
    host.opened().read_exact_at(&mut left, 0).unwrap();
    drop(killed);
    host.opened().write_all_at(&left, 0).unwrap();
    assert_eq!(counts(&survivor, [5, 7, 9]), [1, 2, 1]);
    assert!(survivor.reserve(Key(7), 2));
    assert_eq!(
        counts(&survivor, [5, 7, 9]),
        [1, 1, 0],
        "with all that it had"
    );
    // Nor does its successor find any of it.
    host.opened().write_all_at(&left, 0).unwrap();
    let successor = host.worker();
    assert!(successor.reserve(Key(9), 1));
    assert_eq!(counts(&successor, [5, 7, 9]), [1, 0, 1]);
}

#[test]
fn what_finds_no_room_is_counted_by_its_worker() {
    let host = Host::new();
    let (one, other) = (host.worker(), host.worker());
    let all: Vec<u64> = (1..=20).map(|number| number * 1024).collect();
    for key in &all {
        assert!(one.reserve(Key(*key), 1));
        assert!(!one.reserve(Key(*key), 1));
    }
    assert_eq!(one.own.borrow().len(), 12);
    let seen = all.iter().filter(|key| other.of(Key(**key)) == 1).count();
    assert_eq!(seen, 8);
    one.give_up();
    assert!(one.own.borrow().is_empty());
    assert!(all.iter().all(|key| other.of(Key(*key)) == 0));
}

#[test]
fn those_who_are_there_stay_counted_in_another_file() {
    let (host, next) = (Host::new(), Host::new());
    let (mut one, other) = (host.worker(), host.worker());
    one.enter(&keys(&[7, 7]));
    let file = next.opened();
    one.share(CommonFile::of(file.as_raw_fd()).unwrap());
    assert_eq!(one.of(Key(7)), 2);
    assert_eq!(other.of(Key(7)), 0, "it has left");
    one.leave(&keys(&[7, 7]));
    assert!(one.own.borrow().is_empty());
    one.enter(&keys(&[8]));
    assert_eq!(next.worker().of(Key(8)), 1);
}

#[test]
fn any_file_is_safe() {
    let host = Host::new();
    let length = host.opened().metadata().unwrap().len();
    host.opened()
        .write_all_at(&vec![0xff; length as usize], 0)
        .unwrap();
    let worker = host.worker();
    worker.enter(&keys(&[1]));
    assert!(!worker.reserve(Key(u64::MAX), 1) || worker.of(Key(u64::MAX)) == 1);
    worker.leave(&keys(&[1]));
    let short = Host::new();
    short.opened().set_len(4096).unwrap();
    let worker = short.worker();
    assert!(worker.reserve(Key(1), 1) && !worker.reserve(Key(1), 1));
}
