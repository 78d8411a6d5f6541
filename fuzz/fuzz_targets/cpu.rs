//! Arbitrary bytes as a program, in every mode: see `aero_cpu_test::bytes`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    aero_cpu_test::bytes::run(input);
});
