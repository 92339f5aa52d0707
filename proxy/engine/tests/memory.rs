//! What entities cost a worker in memory, counted at the allocator: so that no machine, and nobody who
//! computes beside it, changes the figure. Counters are shared memory, and are not in it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};

use _engine::protocol::coding::{Coding, Encoder, Strength, Then};
use _engine::state::digest::Digest;
use _engine::state::ledger::Ledger;
use _engine::state::tables::Tables;
use _engine::telemetry::counters::Metrics;
use _engine::tls::certificates::load;
use _engine::tls::policy::Tls;
use rcgen::{CertificateParams, KeyPair};

/// The system's allocator, which counts what it has given out as the system does: by the room that each
/// piece takes, its own header with it.
struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

/// What the allocator keeps before each piece.
const HEADER_BYTES: usize = 8;

fn room(pointer: *mut u8) -> usize {
    // SAFETY: the allocator has just returned this pointer, or is about to take it back.
    unsafe { libc::malloc_usable_size(pointer.cast()) + HEADER_BYTES }
}

fn taken(pointer: *mut u8) -> *mut u8 {
    if !pointer.is_null() {
        let held = HELD.fetch_add(room(pointer), Ordering::Relaxed) + room(pointer);
        MOST.fetch_max(held, Ordering::Relaxed);
    }
    pointer
}

// SAFETY: everything is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        taken(unsafe { System.alloc(layout) })
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(room(pointer), Ordering::Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        HELD.fetch_sub(room(pointer), Ordering::Relaxed);
        taken(unsafe { System.realloc(pointer, layout, size) })
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn put(kind: &str, name: &str, value: &str) -> String {
    format!(r#"{{"kind":"{kind}","name":"{name}","value":{value}}}"#)
}

/// As many as the reconciler sends at once.
const TENANTS_PER_CHUNK: usize = 125;

fn tenant(number: usize) -> [String; 4] {
    let name = format!("tenant-{number:05}");
    let backend = |index: usize| {
        let name = format!("{name}/backend-{index}");
        let value = format!(
            r#"{{"address":"10.{}.{}.{index}:8080"}}"#,
            number / 256,
            number % 256,
        );
        put("backend", &name, &value)
    };
    let frontend =
        format!(r#"{{"cluster":"{name}","hostname":"{name}.example.com","listeners":["public"]}}"#);
    [
        put("cluster", &name, "{}"),
        backend(1),
        backend(2),
        put("frontend", &name, &frontend),
    ]
}

/// A ledger and tables that hold so many tenants, brought there as a worker is; and what that took at
/// most on the way.
fn loaded(tenants: usize) -> (Ledger, Tables, usize) {
    let tls = Tls::default();
    let metrics = Rc::new(Metrics::create(0).unwrap());
    let mut tables = Tables::new(tls.certificates.clone(), metrics);
    let mut ledger = Ledger::new(tls);
    let before = held();
    MOST.store(before, Ordering::Relaxed);
    let listener = put("listener", "public", r#"{"address":"127.0.0.1:8080"}"#);
    let mut stage = |number: u64, puts: &[String]| {
        let ops = format!(r#"{{"puts":[{}],"removes":[]}}"#, puts.join(","));
        let none = HashMap::new();
        ledger.stage(1, number, ops.as_bytes(), &none).unwrap();
    };
    stage(0, &[listener]);
    let mut chunks = 1;
    for first in (0..tenants).step_by(TENANTS_PER_CHUNK) {
        let part = first..tenants.min(first + TENANTS_PER_CHUNK);
        stage(chunks, &part.flat_map(tenant).collect::<Vec<_>>());
        chunks += 1;
    }
    ledger
        .prepare(1, (0, Digest::default()), "", chunks, HashMap::new())
        .unwrap();
    let staged = ledger.take_staged(1).unwrap();
    tables.apply(staged);
    (ledger, tables, MOST.load(Ordering::Relaxed) - before)
}

fn held() -> usize {
    HELD.load(Ordering::Relaxed)
}

/// One test, since the allocator counts for the whole process.
#[test]
fn entities_cost_little() {
    a_frontend_its_cluster_and_two_backends_cost_little();
    chains_have_their_intermediates_in_common();
    encoders_weigh_no_more_than_is_said();
}

/// What zstd takes is not counted here, but by its own tests.
fn encoders_weigh_no_more_than_is_said() {
    let body: Vec<u8> = (0..300_000_u32)
        .map(|n| b'a' + (n.wrapping_mul(2_654_435_761) >> 28) as u8)
        .collect();
    for coding in [Coding::Brotli, Coding::Gzip] {
        for level in coding.levels() {
            let strength = Strength { coding, level };
            let mut out = Vec::with_capacity(body.len());
            let before = held();
            MOST.store(before, Ordering::Relaxed);
            let mut encoder = Encoder::new(strength).unwrap();
            for piece in body.chunks(32 * 1024) {
                encoder.write(piece, Then::Wait, &mut out);
            }
            encoder.write(&[], Then::End, &mut out);
            let most = MOST.load(Ordering::Relaxed) - before;
            println!("{coding:?} {level}: {} KiB", most / 1024);
            assert!(most <= strength.weight(), "{strength:?}: {most} bytes");
        }
    }
}

fn chains_have_their_intermediates_in_common() {
    let pem = |name: &str| {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    };
    let (leaf, key) = pem("shop.test");
    let chain = [&*leaf, &pem("one.test").0, &pem("two.test").0].concat();
    let tls = Tls::default();
    let each = |chain: &str| {
        let load = || load(chain.as_bytes(), key.as_bytes(), &tls.provider).unwrap();
        // What is kept for good, or comes with the first, is no part of it.
        let first = load();
        let before = held();
        let more: Vec<_> = (0..200).map(|_| load()).collect();
        let each = (held() - before) / more.len();
        drop((first, more));
        each
    };
    let (alone, whole) = (each(&leaf), each(&chain));
    println!("a certificate: {alone} bytes, with two intermediates {whole}");
    assert!(whole < alone + 150, "{alone} and {whole} bytes");
}

fn a_frontend_its_cluster_and_two_backends_cost_little() {
    // The second is where the tables have just grown, and are emptiest.
    for tenants in [10_000, 14_337] {
        let before = held();
        let (ledger, tables, most) = loaded(tenants);
        let each = (held() - before) as f64 / tenants as f64;
        let most = most as f64 / tenants as f64;
        drop(ledger);
        let tables_alone = (held() - before) as f64 / tenants as f64;
        println!(
            "{tenants} tenants: {each:.0} bytes each, {most:.0} at most while they come in, \
             {tables_alone:.0} without the ledger"
        );
        assert!(each <= 1200.0, "{each:.0} bytes");
        assert!(most <= 1450.0, "{most:.0} bytes at most");
        drop(tables);
        let left = held().saturating_sub(before) / tenants;
        assert!(left < 2, "{left} bytes each are left behind");
    }
}
