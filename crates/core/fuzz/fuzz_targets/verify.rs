//! Feeds arbitrary requests to every way to verify.

#![no_main]

mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::run(data));
