#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| datapath::fuzz_geneve(data));
