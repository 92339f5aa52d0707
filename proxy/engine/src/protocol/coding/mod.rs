//! Content codings (RFC 9110 §8.4.1): bodies made shorter, piece by piece, sans-I/O.
//!
//! Rule: whoever has an [`Encoder`] has memory of a fixed size, which [`pool`] bounds; what it is given is worked on
//! at once, so that the caller bounds the work by the length of a piece. What is written so far can be read by the
//! other side when it was flushed. Called by `session/exchange`.

pub mod pool;

use std::ops::RangeInclusive;

use brotli::enc::StandardAlloc;
use brotli::enc::encode::BrotliEncoderStateStruct;
use brotli::enc::encode::{BrotliEncoderOperation, BrotliEncoderParameter};
use zlib_rs::{Deflate, DeflateFlush, Status};
use zstd_safe::zstd_sys::ZSTD_EndDirective;
use zstd_safe::{CCtx, CParameter, InBuffer, OutBuffer, ResetDirective};

/// A content coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Coding {
    /// Brotli (RFC 7932).
    Brotli,
    /// Deflate with a checksum (RFC 1952).
    Gzip,
    /// Zstandard (RFC 8878).
    Zstd,
}

impl Coding {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Brotli, Self::Gzip, Self::Zstd];

    /// Its name in `Content-Encoding`, and in the language.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    /// The one of a name, in any case; gzip has two (RFC 9110 §8.4.1.3).
    #[must_use]
    pub fn of(name: &[u8]) -> Option<Self> {
        let is = |coding: &Self| name.eq_ignore_ascii_case(coding.as_str().as_bytes());
        match name.eq_ignore_ascii_case(b"x-gzip") {
            true => Some(Self::Gzip),
            false => Self::ALL.into_iter().find(is),
        }
    }

    /// The levels that it may have here: beyond them a body waits for its encoder.
    #[must_use]
    pub fn levels(self) -> RangeInclusive<u8> {
        match self {
            Self::Brotli => 1..=6,
            Self::Gzip => 1..=9,
            Self::Zstd => 1..=12,
        }
    }

    /// As hard as it tries where nobody says more.
    #[must_use]
    pub fn usual(self) -> Strength {
        let level = match self {
            Self::Brotli => BROTLI_LEVEL,
            Self::Gzip => GZIP_LEVEL,
            Self::Zstd => ZSTD_LEVEL,
        };
        Strength {
            coding: self,
            level,
        }
    }
}

/// A coding, and how hard it tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Strength {
    /// The coding.
    pub coding: Coding,
    /// One of its levels.
    pub level: u8,
}

impl Strength {
    /// The memory that an encoder takes, at most.
    #[must_use]
    pub fn weight(self) -> usize {
        match (self.coding, self.level) {
            (Coding::Brotli, ..=1) => 512 * 1024,
            (Coding::Brotli, 2..=3) => 2560 * 1024,
            (Coding::Brotli, 4..=5) => 4 * 1024 * 1024,
            (Coding::Brotli, _) => 6 * 1024 * 1024,
            (Coding::Gzip, _) => 384 * 1024,
            (Coding::Zstd, _) => 1536 * 1024,
        }
    }

    /// By how much a byte takes longer than at the usual level where it takes longest, which is a text with few
    /// letters in no order.
    #[must_use]
    pub fn cost(self) -> usize {
        match (self.coding, self.level) {
            (Coding::Gzip, ..=3) | (Coding::Brotli | Coding::Zstd, ..=4) => 1,
            (Coding::Zstd, 5..=9) => 2,
            (Coding::Gzip, 4..=6) | (Coding::Brotli | Coding::Zstd, _) => 4,
            (Coding::Gzip, 7) => 8,
            (Coding::Gzip, _) => 64,
        }
    }
}

/// What is to be done with what an encoder still holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// It waits for more.
    Wait,
    /// It leaves: the other side can read all that was given so far.
    Flush,
    /// It leaves, and nothing follows.
    End,
}

/// What makes one body shorter.
pub struct Encoder {
    strength: Strength,
    state: State,
}

enum State {
    Brotli(Box<BrotliEncoderStateStruct<StandardAlloc>>),
    Gzip(Box<Deflate>),
    Zstd(CCtx<'static>),
}

impl Encoder {
    /// A fresh one; none where there is no memory for it.
    #[must_use]
    pub fn new(strength: Strength) -> Option<Self> {
        let level = i32::from(strength.level);
        let state = match strength.coding {
            Coding::Brotli => State::Brotli(brotli(strength.level)),
            Coding::Gzip => State::Gzip(Box::new(Deflate::new(level, true, GZIP_WINDOW_BITS))),
            Coding::Zstd => {
                let mut context = CCtx::try_create()?;
                for parameter in [
                    CParameter::CompressionLevel(level),
                    CParameter::WindowLog(ZSTD_WINDOW_LOG),
                    CParameter::HashLog(ZSTD_TABLES_LOG),
                    CParameter::ChainLog(ZSTD_TABLES_LOG),
                ] {
                    context.set_parameter(parameter).ok()?;
                }
                State::Zstd(context)
            }
        };
        Some(Self { strength, state })
    }

    /// Which coding it has, and how hard it tries.
    #[must_use]
    pub fn strength(&self) -> Strength {
        self.strength
    }

    /// Makes it as good as new, whatever it was in the midst of; `false` for one that cannot be.
    fn reset(&mut self) -> bool {
        match &mut self.state {
            State::Brotli(state) => *state = brotli(self.strength.level),
            State::Gzip(deflate) => deflate.reset(),
            State::Zstd(context) => return context.reset(ResetDirective::SessionOnly).is_ok(),
        }
        true
    }

    /// Takes the next piece, and appends what has come of it to `out`.
    ///
    /// # Panics
    /// When the encoder fails, which is a fault of ours.
    pub fn write(&mut self, input: &[u8], then: Then, out: &mut Vec<u8>) {
        if input.is_empty() && then == Then::Wait {
            return;
        }
        match &mut self.state {
            State::Brotli(state) => write_brotli(state, input, then, out),
            State::Gzip(deflate) => write_gzip(deflate, input, then, out),
            State::Zstd(context) => write_zstd(context, input, then, out),
        }
    }
}

fn brotli(level: u8) -> Box<BrotliEncoderStateStruct<StandardAlloc>> {
    let mut state = BrotliEncoderStateStruct::new(StandardAlloc::default());
    state.set_parameter(
        BrotliEncoderParameter::BROTLI_PARAM_QUALITY,
        u32::from(level),
    );
    state.set_parameter(
        BrotliEncoderParameter::BROTLI_PARAM_LGWIN,
        BROTLI_WINDOW_LOG,
    );
    Box::new(state)
}

fn write_brotli(
    state: &mut BrotliEncoderStateStruct<StandardAlloc>,
    input: &[u8],
    then: Then,
    out: &mut Vec<u8>,
) {
    let operation = match then {
        Then::Wait => BrotliEncoderOperation::BROTLI_OPERATION_PROCESS,
        Then::Flush => BrotliEncoderOperation::BROTLI_OPERATION_FLUSH,
        Then::End => BrotliEncoderOperation::BROTLI_OPERATION_FINISH,
    };
    let (mut left, mut at) = (input.len(), 0);
    loop {
        // Without room it keeps what it makes, and hands it out below.
        let works = state.compress_stream(
            operation,
            &mut left,
            input,
            &mut at,
            &mut 0,
            &mut [],
            &mut 0,
            &mut None,
            &mut |_, _, _, _| (),
        );
        assert!(works, "brotli has failed");
        let has_output = state.has_more_output();
        while state.has_more_output() {
            // So much of what it hands out counts.
            let mut length = 0;
            let start = out.len();
            out.extend_from_slice(state.take_output(&mut length));
            out.truncate(start + length);
        }
        let is_over = match then {
            Then::End => state.is_finished(),
            Then::Wait | Then::Flush => !has_output,
        };
        if left == 0 && is_over {
            return;
        }
    }
}

fn write_gzip(deflate: &mut Deflate, input: &[u8], then: Then, out: &mut Vec<u8>) {
    let flush = match then {
        Then::Wait => DeflateFlush::NoFlush,
        Then::Flush => DeflateFlush::SyncFlush,
        Then::End => DeflateFlush::Finish,
    };
    let mut rest = input;
    loop {
        let (start, before) = (out.len(), (deflate.total_in(), deflate.total_out()));
        out.resize(start + OUT_BYTES, 0);
        let status = deflate.compress(rest, &mut out[start..], flush);
        let taken = (deflate.total_in() - before.0) as usize;
        let made = (deflate.total_out() - before.1) as usize;
        out.truncate(start + made);
        rest = &rest[taken..];
        match status {
            Ok(Status::StreamEnd) => return,
            // With room left over there is nothing else to come.
            Ok(Status::Ok | Status::BufError)
                if rest.is_empty() && made < OUT_BYTES && then != Then::End =>
            {
                return;
            }
            Ok(Status::Ok) => {}
            Ok(Status::BufError) => assert!(taken > 0 || made > 0, "gzip stands still"),
            Err(error) => panic!("gzip: {}", error.as_str()),
        }
    }
}

fn write_zstd(context: &mut CCtx<'_>, input: &[u8], then: Then, out: &mut Vec<u8>) {
    let directive = match then {
        Then::Wait => ZSTD_EndDirective::ZSTD_e_continue,
        Then::Flush => ZSTD_EndDirective::ZSTD_e_flush,
        Then::End => ZSTD_EndDirective::ZSTD_e_end,
    };
    let mut input = InBuffer::around(input);
    loop {
        let start = out.len();
        out.reserve(OUT_BYTES);
        let mut output = OutBuffer::around_pos(out, start);
        let left = context
            .compress_stream2(&mut output, &mut input, directive)
            .unwrap_or_else(|code| failed(code));
        let is_taken = input.pos() == input.src.len();
        if is_taken && (left == 0 || then == Then::Wait) {
            return;
        }
    }
}

#[cold]
fn failed(code: usize) -> ! {
    panic!("zstd: {}", zstd_safe::get_error_name(code))
}

/// Room that is made for what comes out, at a time.
const OUT_BYTES: usize = 16 * 1024;

/// Of 9: a little denser than the first, which most servers have by default, at the same cost.
const GZIP_LEVEL: u8 = 3;
/// 32 KiB, with the frame of gzip around it.
const GZIP_WINDOW_BITS: u8 = 16 + 15;
/// Of 22; that of the tool.
const ZSTD_LEVEL: u8 = 3;
/// 128 KiB: a larger one takes memory for less than a hundredth of what is saved.
const ZSTD_WINDOW_LOG: u32 = 17;
/// Two tables of 256 KiB, which a processor has at hand.
const ZSTD_TABLES_LOG: u32 = 16;
/// Of 11.
const BROTLI_LEVEL: u8 = 4;
/// 256 KiB.
const BROTLI_WINDOW_LOG: u32 = 18;

#[cfg(test)]
mod tests;
