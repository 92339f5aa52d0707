//! Texts with values in braces under libFuzzer; see `kakehi_engine_fuzz::target::template` for what must hold.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    kakehi_engine_fuzz::target::template::check(input);
});
