//! `fuzz_run TARGET SECONDS [SEED]`: fuzzes one target (or `all`, each for as long, in a process of its
//! own on each core) on a stable toolchain. `fuzz_run TARGET FILE` tries one input.
//!
//! First the whole corpus, then mutations of it until the time is over; inputs that behaved in a new
//! way are mutated further. The seed is printed and gives the same inputs in the same order again.
//! An input that breaks the invariant, or takes longer than five seconds, ends up in `artifacts/TARGET/`
//! and the exit code is 1: copy it to `corpus/TARGET/` under a name that says what it was.

use std::collections::HashSet;
use std::fs;
use std::num::NonZero;
use std::panic::catch_unwind;
use std::path::PathBuf;
use std::process::Command;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use kakehi_engine_fuzz::Behaviour;
use kakehi_engine_fuzz::Target;
use kakehi_engine_fuzz::mutate::mutate;
use kakehi_engine_fuzz::random::Random;
use kakehi_engine_fuzz::root;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("fuzz_run: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<(), String> {
    let names = Target::ALL.map(|target| target.name).join("|");
    let usage = || format!("usage: fuzz_run {names}|all SECONDS|FILE [SEED]");
    let (name, what, seed) = match arguments {
        [name, what] => (name, what, DEFAULT_SEED),
        [name, what, seed] => (name, what, seed.parse().map_err(|_| usage())?),
        _ => return Err(usage()),
    };
    let targets = match Target::parse(name) {
        Some(target) => vec![target],
        None if name == "all" => Target::ALL.to_vec(),
        None => return Err(usage()),
    };
    let Ok(seconds) = what.parse() else {
        let input = fs::read(what).map_err(|error| format!("{what}: {error}"))?;
        for target in targets {
            println!("{}: {:?}", target.name, (target.check)(&input));
        }
        return Ok(());
    };
    match targets.as_slice() {
        [target] => fuzz(*target, Duration::from_secs(seconds), seed),
        all => fuzz_all(all, what, seed),
    }
}

/// What breaks one target ends none of the others.
fn fuzz_all(targets: &[Target], seconds: &str, seed: u64) -> Result<(), String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let waiting = Mutex::new(targets.iter());
    let broken = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let Some(target) = lock(&waiting).next() else {
                        break;
                    };
                    let ended = Command::new(&program)
                        .args([target.name, seconds, &seed.to_string()])
                        .status();
                    if !ended.is_ok_and(|status| status.success()) {
                        lock(&broken).push(target.name);
                    }
                }
            });
        }
    });
    let broken = broken.into_inner().unwrap_or_else(PoisonError::into_inner);
    if broken.is_empty() {
        Ok(())
    } else {
        Err(format!("broken: {}", broken.join(", ")))
    }
}

fn fuzz(target: Target, time: Duration, seed: u64) -> Result<(), String> {
    let name = target.name;
    let corpus = target
        .corpus()
        .map_err(|error| format!("the corpus of {name}: {error}"))?;
    let watch = Watch::start(name);
    let mut random = Random::new(seed);
    let mut known = HashSet::new();
    let mut pool = Vec::new();
    let start = Instant::now();
    let committed = corpus.len();
    for input in corpus {
        known.insert(try_input(target, &watch, &input)?);
        pool.push(input);
    }
    let mut inputs = committed;
    while start.elapsed() < time {
        // The clock is read now and then only.
        for _ in 0..64 {
            let mut input = random.choose(&pool).cloned().unwrap_or_default();
            mutate(&mut input, &pool, target.tokens, &mut random);
            if known.insert(try_input(target, &watch, &input)?) && pool.len() < POOL_INPUTS_MAX {
                pool.push(input);
            }
            inputs += 1;
        }
    }
    println!(
        "{name}: {inputs} inputs in {:.1} s, {committed} of the corpus, {} kinds of behaviour, seed {seed}",
        start.elapsed().as_secs_f64(),
        known.len(),
    );
    Ok(())
}

fn try_input(target: Target, watch: &Watch, input: &[u8]) -> Result<Behaviour, String> {
    watch.begin(input);
    let result = catch_unwind(|| (target.check)(input));
    watch.end();
    result.map_err(|_| {
        let smallest = shrink(target, input.to_vec());
        let place = save(target.name, "broken", &smallest);
        format!(
            "{} is broken by {} bytes: {place}",
            target.name,
            smallest.len()
        )
    })
}

/// Takes out whatever is not needed to break the invariant.
fn shrink(target: Target, mut input: Vec<u8>) -> Vec<u8> {
    // The message has been printed once, which is enough.
    std::panic::set_hook(Box::new(|_| {}));
    let mut piece = input.len() / 2;
    while piece > 0 {
        let mut at = 0;
        while at < input.len() {
            let mut without = input.clone();
            without.drain(at..input.len().min(at + piece));
            if catch_unwind(|| (target.check)(&without)).is_err() {
                input = without;
            } else {
                at += piece;
            }
        }
        piece /= 2;
    }
    let _ = std::panic::take_hook();
    input
}

fn save(target: &str, kind: &str, input: &[u8]) -> String {
    let folder = root().join("artifacts").join(target);
    let path: PathBuf = folder.join(format!("{kind}-{:016x}", hash(input)));
    match fs::create_dir_all(&folder).and_then(|()| fs::write(&path, input)) {
        Ok(()) => path.display().to_string(),
        Err(error) => format!(
            "{} ({error}): {:?}",
            path.display(),
            input.escape_ascii().to_string()
        ),
    }
}

/// FNV-1a: a name for a file needs no more.
fn hash(input: &[u8]) -> u64 {
    input.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Looks after inputs that take too long.
struct Watch(Arc<Mutex<Option<Current>>>);

/// What is being tried.
struct Current {
    begun: Instant,
    input: Vec<u8>,
}

impl Watch {
    fn start(target: &'static str) -> Self {
        let current: Arc<Mutex<Option<Current>>> = Arc::default();
        let watched = Arc::downgrade(&current);
        thread::spawn(move || {
            while let Some(current) = watched.upgrade() {
                if let Some(Current { begun, input }) = &*lock(&current) {
                    if begun.elapsed() > INPUT_TIME_MAX {
                        let place = save(target, "slow", input);
                        eprintln!("fuzz_run: {target} takes over {INPUT_TIME_MAX:?}: {place}");
                        std::process::exit(1);
                    }
                }
                drop(current);
                thread::sleep(INPUT_TIME_MAX / 4);
            }
        });
        Self(current)
    }

    fn begin(&self, input: &[u8]) {
        *lock(&self.0) = Some(Current {
            begun: Instant::now(),
            input: input.to_vec(),
        });
    }

    fn end(&self) {
        *lock(&self.0) = None;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const DEFAULT_SEED: u64 = 1;
/// Far more than any input needs, and enough for a machine that is busy.
const INPUT_TIME_MAX: Duration = Duration::from_secs(5);
const POOL_INPUTS_MAX: usize = 4096;
