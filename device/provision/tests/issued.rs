//! What `rollcall devices issue` prints, and what it never would.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use rollcall_provision::issued;

#[test]
fn what_is_issued_fits_a_board() {
    // The longest id, and a password as long as each that is issued.
    let (id, password) = ("a".repeat(32), "0".repeat(64));
    let text = format!("{id},{password}\n\nporch,with, a comma\r\n");
    let found: Vec<_> = issued(&text).map(Result::unwrap).collect();
    let [(long, long_login), (porch, porch_login)] = &found[..] else { panic!("{}", found.len()) };
    assert_eq!((long.as_str(), long_login.user()), (id.as_str(), id.as_str()));
    assert_eq!(long_login.password(), password.as_bytes());
    assert_eq!((porch.as_str(), porch_login.password()), ("porch", &b"with, a comma"[..]));
}

#[test]
fn a_line_that_is_none_is_named_and_not_quoted() {
    for line in [
        "porch",
        "porch,",
        ",secret",
        "Porch,secret",
        "# porch,secret",
        &format!("porch,{}", "x".repeat(129)),
    ] {
        let text = format!("attic,good\n{line}\n");
        let error = issued(&text).last().unwrap().unwrap_err();
        assert_eq!(error.line, 2, "{line}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}
