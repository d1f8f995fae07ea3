//! What the types forbid: programs that must not compile, each with the message that says so.

#[test]
fn a_permit_cannot_be_made_copied_or_used_twice() {
    let programs = trybuild::TestCases::new();
    programs.compile_fail("tests/compile_fail/*.rs");
}
