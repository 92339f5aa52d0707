//! Response heads under libFuzzer; see `kakehi_engine_fuzz::target::h1_response` for what must hold.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    kakehi_engine_fuzz::target::h1_response::check(input);
});
