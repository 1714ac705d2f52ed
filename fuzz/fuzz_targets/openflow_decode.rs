#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| openflow::fuzz_decode(data));
