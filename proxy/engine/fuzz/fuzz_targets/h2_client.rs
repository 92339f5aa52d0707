//! HTTP/2 as a client under libFuzzer; see `kakehi_engine_fuzz::target::h2_client` for what must hold.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    kakehi_engine_fuzz::target::h2_client::check(input);
});
