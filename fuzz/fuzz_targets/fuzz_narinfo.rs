#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    (firn_tests_parsers::target("narinfo").feed)(input);
});
