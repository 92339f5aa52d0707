//! The decoder of transactions under libFuzzer; see `kakehi_engine_fuzz::target::ops_decoder` for what must hold.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    kakehi_engine_fuzz::target::ops_decoder::check(input);
});
