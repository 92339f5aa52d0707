//! A client of HTTP/2 under libFuzzer; see `kakehi_engine_fuzz::target::front_h2` for what must hold.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    kakehi_engine_fuzz::target::front_h2::check(input);
});
