#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| blixard_closure::fuzzing::narinfo(data));
