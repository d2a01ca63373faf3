#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| _ = larder_fuzz::readers(data));
