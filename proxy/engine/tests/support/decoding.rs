//! What the other side of a content coding reads, by decoders that others wrote.

use std::io::Read as _;

use zlib_rs::{Inflate, InflateFlush, Status};
use zstd_safe::{DCtx, InBuffer, OutBuffer};

/// Longer than any body of a test.
const BODY_BYTES_MAX: usize = 4 << 20;

/// What has come of a body so far, and whether that is all of it.
pub fn decoded(coding: &str, packed: &[u8]) -> (Vec<u8>, bool) {
    match coding {
        "gzip" => gunzipped(packed),
        "zstd" => {
            let (mut context, mut out) = (DCtx::create(), Vec::with_capacity(BODY_BYTES_MAX));
            let (mut input, mut left) = (InBuffer::around(packed), 1);
            while input.pos() < packed.len() {
                let start = out.len();
                let mut output = OutBuffer::around_pos(&mut out, start);
                left = context
                    .decompress_stream(&mut output, &mut input)
                    .expect("a frame");
            }
            (out, left == 0)
        }
        "br" => {
            let (mut out, mut piece) = (Vec::new(), [0; 4096]);
            let mut reader = brotli::Decompressor::new(packed, piece.len());
            loop {
                match reader.read(&mut piece) {
                    Ok(0) => return (out, true),
                    Ok(count) => out.extend_from_slice(&piece[..count]),
                    Err(_) => return (out, false),
                }
            }
        }
        _ => (packed.to_vec(), true),
    }
}

fn gunzipped(packed: &[u8]) -> (Vec<u8>, bool) {
    let mut inflate = Inflate::new(true, 16 + 15);
    let mut out = vec![0; BODY_BYTES_MAX];
    let status = inflate.decompress(packed, &mut out, InflateFlush::NoFlush);
    let is_all = status == Ok(Status::StreamEnd);
    assert!(status.is_ok(), "{status:?}");
    assert!(!is_all || inflate.total_in() == packed.len() as u64);
    out.truncate(inflate.total_out() as usize);
    (out, is_all)
}
