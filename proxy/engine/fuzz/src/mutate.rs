//! Mutations of inputs: small damage, pieces of the target's language, and pieces of other inputs.

use crate::random::Random;

/// Longest input that is made; longer ones find nothing more and cost more.
pub const INPUT_BYTES_MAX: usize = 16 << 10;

/// Changes `input` in one to eight places.
pub fn mutate(input: &mut Vec<u8>, others: &[Vec<u8>], tokens: &[&str], random: &mut Random) {
    for _ in 0..1 << random.below(4) {
        match random.below(10) {
            0 => flip_bit(input, random),
            1 => replace_byte(input, random),
            2 => cut(input, random),
            3 => repeat(input, random),
            4 => replace_number(input, random),
            5 => cross(input, others, random),
            6 => swap(input, random),
            7 => insert(input, &[random.number() as u8], random),
            _ => {
                if let Some(token) = random.choose(tokens) {
                    put_token(input, token.as_bytes(), random);
                }
            }
        }
    }
    input.truncate(INPUT_BYTES_MAX);
}

fn flip_bit(input: &mut [u8], random: &mut Random) {
    let at = random.below(input.len());
    if let Some(byte) = input.get_mut(at) {
        *byte ^= 1 << random.below(8);
    }
}

/// With bytes at which parsers decide something, mostly.
fn replace_byte(input: &mut [u8], random: &mut Random) {
    let telling = b"\0\t\n\r \"%+,-./0:;=?@A[\\]_{}\x7f\x80\xc3\xff";
    let at = random.below(input.len());
    if let Some(byte) = input.get_mut(at) {
        *byte = match random.below(3) {
            0 => random.number() as u8,
            _ => random.choose(telling).copied().unwrap_or(0),
        };
    }
}

fn cut(input: &mut Vec<u8>, random: &mut Random) {
    let (start, end) = range(input.len(), random);
    input.drain(start..end);
}

fn repeat(input: &mut Vec<u8>, random: &mut Random) {
    let (start, end) = range(input.len(), random);
    let piece = input[start..end].to_vec();
    let doublings = if random.below(8) == 0 { 8 } else { 2 };
    let times = 1 << random.below(doublings);
    let whole: Vec<u8> = std::iter::repeat_n(piece, times)
        .flatten()
        .take(INPUT_BYTES_MAX)
        .collect();
    input.splice(end..end, whole);
}

/// Puts a number at a bound of some integer type, or near one, in the place of a run of digits.
fn replace_number(input: &mut Vec<u8>, random: &mut Random) {
    let from = random.below(input.len());
    let Some(start) = input[from..]
        .iter()
        .position(u8::is_ascii_digit)
        .map(|at| from + at)
    else {
        return;
    };
    let digits = input[start..]
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    let bound = 1u128
        << *random
            .choose(&[0, 7, 8, 15, 16, 31, 32, 53, 63, 64])
            .unwrap_or(&0);
    let number = (bound + random.below(3) as u128).saturating_sub(1);
    let text = if random.below(2) == 0 {
        format!("{number}")
    } else {
        format!("{number:x}")
    };
    input.splice(start..start + digits, text.into_bytes());
}

/// Takes a piece of another input.
fn cross(input: &mut Vec<u8>, others: &[Vec<u8>], random: &mut Random) {
    if let Some(other) = random.choose(others) {
        let (from, to) = range(other.len(), random);
        let (start, end) = range(input.len(), random);
        input.splice(start..end, other[from..to].iter().copied());
    }
}

/// Exchanges two neighbouring pieces.
fn swap(input: &mut [u8], random: &mut Random) {
    let (start, end) = range(input.len(), random);
    let middle = random.below(end - start);
    input[start..end].rotate_left(middle);
}

fn insert(input: &mut Vec<u8>, piece: &[u8], random: &mut Random) {
    let at = random.below(input.len() + 1);
    input.splice(at..at, piece.iter().copied());
}

/// Inserts a token, or overwrites what stands there.
fn put_token(input: &mut Vec<u8>, token: &[u8], random: &mut Random) {
    let at = random.below(input.len() + 1);
    let end = if random.below(2) == 0 {
        at
    } else {
        input.len().min(at + token.len())
    };
    input.splice(at..end, token.iter().copied());
}

/// A piece, short ones most likely.
fn range(length: usize, random: &mut Random) -> (usize, usize) {
    let start = random.below(length + 1);
    let longest = if random.below(2) == 0 { 16 } else { length };
    (
        start,
        start + random.below((length - start).min(longest) + 1),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_inputs_again() {
        let run = || {
            let mut random = Random::new(7);
            let mut input = b"GET / HTTP/1.1\r\nContent-Length: 10\r\n\r\n".to_vec();
            for _ in 0..5000 {
                let others = [input.clone()];
                mutate(&mut input, &others, &["Host: a\r\n"], &mut random);
                assert!(input.len() <= INPUT_BYTES_MAX);
            }
            input
        };
        assert_eq!(run(), run());
    }

    #[test]
    fn an_empty_input_grows_again() {
        let mut random = Random::new(1);
        let mut input = Vec::new();
        for _ in 0..100 {
            mutate(&mut input, &[], &["a"], &mut random);
        }
        assert!(!input.is_empty());
    }
}
