//! Where a request ends, and what it waits for.

use super::*;

#[test]
fn t09_a_length_beside_a_coding_is_refused() {
    for lines in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "transfer-encoding: x\r\ncontent-length: 5\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: bad\r\n",
    ] {
        assert_eq!(refuse(post(lines)), Reject::LengthAndCoding, "{lines:?}");
    }
}

#[test]
fn t10_there_is_one_plain_length_at_most() {
    for (lines, reject) in [
        (
            "Content-Length: 5\r\nContent-Length: 5\r\n",
            Reject::DuplicateContentLength,
        ),
        (
            "Content-Length: 5\r\ncontent-length: 6\r\n",
            Reject::DuplicateContentLength,
        ),
        ("Content-Length: 5, 5\r\n", Reject::InvalidContentLength),
        ("Content-Length: +5\r\n", Reject::InvalidContentLength),
        ("Content-Length: -5\r\n", Reject::InvalidContentLength),
        ("Content-Length: 0x5\r\n", Reject::InvalidContentLength),
        ("Content-Length:\r\n", Reject::InvalidContentLength),
        ("Content-Length: 5 5\r\n", Reject::InvalidContentLength),
        (
            "Content-Length: 18446744073709551617\r\n",
            Reject::InvalidContentLength,
        ),
        (
            "Content-Length: 5\x0b\r\n",
            Reject::Field(FieldFault::InvalidValue),
        ),
        (
            "Content-Length : 5\r\n",
            Reject::Field(FieldFault::InvalidName),
        ),
    ] {
        assert_eq!(refuse(post(lines)), reject, "{lines:?}");
        assert_eq!(reject.status(), 400);
    }
    assert_eq!(
        accept(&post("Content-Length: 5\r\n")).head.body,
        RequestBody::Length(5)
    );
    assert_eq!(
        accept(&post("Content-Length: \t0 \t\r\n")).head.body,
        RequestBody::Length(0)
    );
    assert_eq!(
        accept(&get("Content-Length: 5\r\n")).head.body,
        RequestBody::Length(5)
    );
    // An alias is no length, and does not reach a backend that would take it for one (T21).
    assert_eq!(
        accept(&post("Content_Length: 5\r\n")).head.body,
        RequestBody::Length(0)
    );
}

#[test]
fn t11_only_plain_chunked_is_a_coding() {
    for value in ["chunked", "Chunked", " chunked\t", "\tchunked"] {
        let parsed = accept(&post(&format!("Transfer-Encoding:{value}\r\n")));
        assert_eq!(parsed.head.body, RequestBody::Chunked);
    }
    for (value, status) in [
        ("gzip, chunked", 501),
        ("identity, Chunked", 501),
        ("gzip", 400),
        ("x", 400),
        ("identity", 400),
        ("chunked, identity", 400),
        (",chunked", 400),
        ("chunked,chunked", 400),
        ("chunked,", 400),
        ("chunked;x=y", 400),
        ("\x0bchunked", 400),
        ("chunked\x0c", 400),
        ("\"chunked\"", 400),
        ("chun\tked", 400),
        ("", 400),
    ] {
        let reject = refuse(post(&format!("Transfer-Encoding: {value}\r\n")));
        assert_eq!(reject.status(), status, "{value:?}");
    }
    let twice = "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n";
    assert_eq!(refuse(post(twice)), Reject::DuplicateTransferEncoding);
    let old = "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(refuse(old), Reject::TransferEncodingInHttp10);
    let spaced = "Transfer-Encoding : chunked\r\n";
    assert_eq!(refuse(post(spaced)), Reject::Field(FieldFault::InvalidName));
}

#[test]
fn t28_only_100_continue_is_expected() {
    let with = |value: &str| post(&format!("Content-Length: 1\r\nExpect: {value}\r\n"));
    assert!(accept(&with("100-continue")).head.expect_continue);
    assert!(accept(&with("100-Continue")).head.expect_continue);
    for junk in [
        "",
        "100-continue, 100-continue",
        "200-ok",
        "100-continue; x",
        "100",
    ] {
        let reject = refuse(with(junk));
        assert_eq!(reject, Reject::Expectation, "{junk:?}");
        assert_eq!(reject.status(), 417);
    }
    assert_eq!(
        refuse(with("100-continue\r\nExpect: 100-continue")),
        Reject::Expectation
    );
    assert!(
        !accept(&with("100-continue").replace("1.1", "1.0"))
            .head
            .expect_continue
    );
    assert!(
        !accept(&get("Expect: 100-continue\r\n"))
            .head
            .expect_continue
    );
}
