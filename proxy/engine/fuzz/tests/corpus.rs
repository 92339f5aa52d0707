//! Every committed input keeps its target's invariant: seeds, and what once broke one.

use kakehi_engine_fuzz::Target;

#[test]
fn the_corpus_holds() {
    for target in Target::ALL {
        let corpus = target.corpus().unwrap();
        assert!(!corpus.is_empty(), "{} has no corpus", target.name);
        for input in corpus {
            (target.check)(&input);
        }
    }
}

/// The committed inputs reach what lies behind the first check, or fuzzing would begin at nothing.
#[test]
fn the_corpus_is_not_all_refused() {
    for target in Target::ALL {
        let mut behaviours = Vec::new();
        for input in target.corpus().unwrap() {
            behaviours.push((target.check)(&input));
        }
        behaviours.dedup();
        assert!(behaviours.len() > 3, "{}: {behaviours:?}", target.name);
    }
}
