//! Tokens and sets of keys under libFuzzer; see `kakehi_engine_fuzz::target::token` for what must hold.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    kakehi_engine_fuzz::target::token::check(input);
});
