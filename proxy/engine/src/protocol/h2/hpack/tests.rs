//! Blocks as a whole: the examples of RFC 7541, appendix C, and encoder against decoder.

use proptest::prelude::*;

use super::*;

fn decode(decoder: &mut Decoder, mut block: &[u8]) -> Result<String, HpackError> {
    let mut text = Vec::new();
    decoder.begin();
    while let Some(line) = decoder.next(&mut block, &mut text)? {
        assert_eq!(&text[line.name_end..line.value_start()], b": ");
        assert_eq!(&text[line.value_end..], b"\r\n");
    }
    Ok(String::from_utf8(text).unwrap())
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text
        .chars()
        .filter_map(|digit| digit.to_digit(16))
        .collect();
    digits
        .chunks(2)
        .map(|pair| (pair[0] << 4 | pair[1]) as u8)
        .collect()
}

#[test]
fn c_2_single_fields() {
    let mut decoder = Decoder::default();
    for (block, text) in [
        (
            "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572",
            "custom-key: custom-header\r\n",
        ),
        (
            "040c 2f73 616d 706c 652f 7061 7468",
            ":path: /sample/path\r\n",
        ),
        (
            "1008 7061 7373 776f 7264 0673 6563 7265 74",
            "password: secret\r\n",
        ),
        ("82", ":method: GET\r\n"),
        ("be", "custom-key: custom-header\r\n"),
    ] {
        assert_eq!(decode(&mut decoder, &hex(block)).unwrap(), text);
    }
}

const REQUESTS: [&str; 3] = [
    ":method: GET\r\n:scheme: http\r\n:path: /\r\n:authority: www.example.com\r\n",
    ":method: GET\r\n:scheme: http\r\n:path: /\r\n:authority: www.example.com\r\n\
     cache-control: no-cache\r\n",
    ":method: GET\r\n:scheme: https\r\n:path: /index.html\r\n:authority: www.example.com\r\n\
     custom-key: custom-value\r\n",
];

#[test]
fn c_3_and_c_4_requests() {
    for blocks in [
        [
            "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
            "8286 84be 5808 6e6f 2d63 6163 6865",
            "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
        ],
        [
            "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
            "8286 84be 5886 a8eb 1064 9cbf",
            "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
        ],
    ] {
        let mut decoder = Decoder::default();
        for (block, text) in blocks.iter().zip(REQUESTS) {
            assert_eq!(decode(&mut decoder, &hex(block)).unwrap(), text);
        }
    }
}

#[test]
fn c_6_responses_with_huffman_coding_and_eviction() {
    let mut decoder = Decoder::default();
    // The table of the examples has 256 bytes.
    let blocks = [
        "3fe1 01 4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 \
         2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
        "4883 640e ffc1 c0bf",
        "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad \
         94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 \
         65c0 03ed 4ee5 b106 3d50 07",
    ];
    let date = "date: Mon, 21 Oct 2013 20:13:21 GMT\r\n";
    let location = "location: https://www.example.com\r\n";
    let texts = [
        format!(":status: 302\r\ncache-control: private\r\n{date}{location}"),
        format!(":status: 307\r\ncache-control: private\r\n{date}{location}"),
        format!(
            ":status: 200\r\ncache-control: private\r\n\
             date: Mon, 21 Oct 2013 20:13:22 GMT\r\n{location}content-encoding: gzip\r\n\
             set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1\r\n"
        ),
    ];
    for (block, text) in blocks.iter().zip(texts) {
        assert_eq!(decode(&mut decoder, &hex(block)).unwrap(), text);
    }
}

#[test]
fn t05_what_is_malformed_is_refused() {
    for (block, error) in [
        ("80", HpackError::InvalidIndex),
        ("be", HpackError::InvalidIndex),
        ("ff ff ff ff 7f", HpackError::InvalidIndex),
        ("ff ff ff ff ff ff", HpackError::IntegerTooLarge),
        ("7f 00", HpackError::InvalidIndex),
        ("40", HpackError::Truncated),
        ("40 05 6162", HpackError::Truncated),
        ("40 01 61", HpackError::Truncated),
        ("40 01 61 7f ff ff 7f", HpackError::Truncated),
        ("00 81 ff 00", HpackError::InvalidHuffman),
        // A size above the limit, one after a field, and the third one.
        ("3f e2 1f", HpackError::UnexpectedSizeUpdate),
        ("82 20", HpackError::UnexpectedSizeUpdate),
        ("20 20 20", HpackError::UnexpectedSizeUpdate),
    ] {
        let verdict = decode(&mut Decoder::default(), &hex(block));
        assert_eq!(verdict, Err(error), "{block}");
    }
    assert_eq!(
        decode(&mut Decoder::default(), &hex("20 3fe1 1f")),
        Ok(String::new())
    );
}

fn encode(encoder: &mut Encoder, fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    encoder.begin(&mut block);
    for (name, value) in fields {
        encoder.field(
            &mut block,
            name.as_bytes(),
            value.as_bytes(),
            Policy::Repeated,
        );
    }
    block
}

#[test]
fn what_is_repeated_becomes_a_byte() {
    let fields = [
        ("server", "kakehi"),
        ("x-frame-options", "DENY"),
        ("content-type", "text/html"),
    ];
    let mut encoder = Encoder::default();
    let lengths = [0; 4].map(|_| encode(&mut encoder, &fields).len());
    assert_eq!(lengths, [36, 34, 3, 3]);
}

#[test]
fn a_secret_is_never_indexed() {
    let fields = [("authorization", "Basic YQ=="), ("set-cookie", "a=b")];
    let mut encoder = Encoder::default();
    for _ in 0..3 {
        let block = encode(&mut encoder, &fields);
        assert_eq!(block[0..2], [0x1f, 0x08]);
    }
}

#[test]
fn a_smaller_table_is_announced() {
    let mut encoder = Encoder::default();
    encoder.set_peer_size_max(1 << 20);
    assert_eq!(encode(&mut encoder, &[]), b"");
    encoder.set_peer_size_max(0);
    encoder.set_peer_size_max(100);
    assert_eq!(encode(&mut encoder, &[]), hex("20 3f45"));
    encoder.set_peer_size_max(0);
    assert_eq!(encode(&mut encoder, &[("a", "b")])[0], 0x20);
    for _ in 0..3 {
        assert!(encode(&mut encoder, &[("a", "b")]).len() >= 5);
    }
}

fn field() -> impl Strategy<Value = (String, String)> {
    let name = prop_oneof![
        Just("content-type".to_owned()),
        Just("set-cookie".to_owned()),
        Just("x-a".to_owned()),
        "[a-z-]{1,20}",
    ];
    let value = prop_oneof![Just("same".to_owned()), "[ -~]{0,40}", "[ -~]{0,900}"];
    (name, value)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_encoded_is_decoded(
        blocks in proptest::collection::vec(proptest::collection::vec(field(), 0..12), 1..20),
        sizes in proptest::collection::vec(0usize..5000, 20),
    ) {
        let mut encoder = Encoder::default();
        let mut decoder = Decoder::default();
        for (fields, size) in blocks.iter().zip(sizes) {
            if size % 4 == 0 {
                encoder.set_peer_size_max(size);
            }
            let mut block = Vec::new();
            encoder.begin(&mut block);
            let mut text = String::new();
            for (name, value) in fields {
                let policy = if size % 3 == 0 { Policy::Once } else { Policy::Repeated };
                encoder.field(&mut block, name.as_bytes(), value.as_bytes(), policy);
                text.push_str(&format!("{name}: {value}\r\n"));
            }
            prop_assert_eq!(decode(&mut decoder, &block).unwrap(), text);
        }
    }

    #[test]
    fn t05_random_bytes_do_no_harm(
        blocks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..60), 1..8),
    ) {
        let mut decoder = Decoder::default();
        let mut text = Vec::new();
        for block in &blocks {
            let mut rest = block.as_slice();
            decoder.begin();
            while let Ok(Some(line)) = decoder.next(&mut rest, &mut text) {
                prop_assert!(line.name_end <= line.value_end && line.value_end + 2 == text.len());
            }
        }
    }
}
