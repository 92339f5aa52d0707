//! HTTP/2 as a server under libFuzzer; see `kakehi_engine_fuzz::target::h2_server` for what must hold.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    kakehi_engine_fuzz::target::h2_server::check(input);
});
