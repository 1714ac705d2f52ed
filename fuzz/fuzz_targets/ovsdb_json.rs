#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| ovsdb::fuzz_json(data));
