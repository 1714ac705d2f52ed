#![no_main]
libfuzzer_sys::fuzz_target!(|data: &str| openflow::fuzz_text(data));
