//! Feeds arbitrary expressions and bodies to filters.

#![no_main]

mod filter_body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| filter_body::run(data));
