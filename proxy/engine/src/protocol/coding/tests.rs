//! What comes out is what went in, for any body and any pieces; and what was flushed can be read.

use proptest::prelude::*;

use super::*;

#[path = "../../../tests/support/decoding.rs"]
mod decoding;

fn decoded(coding: Coding, packed: &[u8]) -> (Vec<u8>, bool) {
    decoding::decoded(coding.as_str(), packed)
}

fn bodies() -> impl Strategy<Value = Vec<u8>> {
    let words = prop::collection::vec(
        prop::sample::select(vec!["the ", "<td>", "\n", "42", "é"]),
        0..3000,
    );
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..60_000),
        words.prop_map(|words| words.concat().into_bytes()),
        (0..300_000_usize).prop_map(|length| vec![b'x'; length]),
    ]
}

fn strengths() -> impl Strategy<Value = Strength> {
    let coding = prop::sample::select(Coding::ALL.to_vec());
    coding.prop_flat_map(|coding| {
        let levels = coding.levels();
        levels.prop_map(move |level| Strength { coding, level })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_comes_out_is_what_went_in(
        body in bodies(),
        cuts in prop::collection::vec((1..40_000_usize, any::<bool>()), 1..12),
        strength in strengths(),
    ) {
        let coding = strength.coding;
        let mut encoder = Encoder::new(strength).unwrap();
        let mut packed = Vec::new();
        let mut at = 0;
        for (length, flushes) in cuts.into_iter().cycle() {
            let end = body.len().min(at + length);
            let then = if flushes { Then::Flush } else { Then::Wait };
            encoder.write(&body[at..end], then, &mut packed);
            at = end;
            if flushes {
                prop_assert_eq!(&decoded(coding, &packed).0, &body[..at]);
            }
            if at == body.len() {
                break;
            }
        }
        encoder.write(&[], Then::End, &mut packed);
        prop_assert_eq!(decoded(coding, &packed), (body, true));
    }
}

#[test]
fn a_flush_of_nothing_is_harmless() {
    for coding in Coding::ALL {
        let mut encoder = Encoder::new(coding.usual()).unwrap();
        let mut packed = Vec::new();
        for _ in 0..3 {
            encoder.write(&[], Then::Flush, &mut packed);
        }
        encoder.write(b"a", Then::Flush, &mut packed);
        encoder.write(&[], Then::Flush, &mut packed);
        encoder.write(&[], Then::End, &mut packed);
        assert_eq!(
            decoded(coding, &packed),
            (b"a".to_vec(), true),
            "{coding:?}"
        );
    }
}

#[test]
fn names_are_read_in_any_case() {
    for coding in Coding::ALL {
        assert_eq!(
            Coding::of(coding.as_str().to_uppercase().as_bytes()),
            Some(coding)
        );
    }
    assert_eq!(Coding::of(b"X-Gzip"), Some(Coding::Gzip));
    assert_eq!(Coding::of(b"deflate"), None);
}

#[test]
fn a_higher_level_is_denser() {
    let body: Vec<u8> = (0..40_000_u32)
        .flat_map(|n| format!("<td>{}</td>", n.wrapping_mul(2_654_435_761) >> 25).into_bytes())
        .collect();
    for coding in Coding::ALL {
        let [low, high] = [*coding.levels().start(), *coding.levels().end()].map(|level| {
            let mut out = Vec::new();
            let mut encoder = Encoder::new(Strength { coding, level }).unwrap();
            encoder.write(&body, Then::End, &mut out);
            out.len()
        });
        assert!(high < low, "{coding:?}: {high} and {low}");
        assert!(coding.levels().contains(&coding.usual().level));
    }
}

/// Of the others `tests/memory.rs` says so: zstd's memory is its library's.
#[test]
fn an_encoder_of_zstd_weighs_no_more_than_is_said() {
    let coding = Coding::Zstd;
    let body: Vec<u8> = (0..300_000_u32)
        .map(|n| (n.wrapping_mul(n) >> 7) as u8)
        .collect();
    for level in coding.levels() {
        let strength = Strength { coding, level };
        let mut encoder = Encoder::new(strength).unwrap();
        encoder.write(&body, Then::End, &mut Vec::new());
        let State::Zstd(context) = &encoder.state else {
            unreachable!();
        };
        let weight = context.sizeof();
        assert!(weight <= strength.weight(), "{weight} at {level}");
    }
}
