//! What clients say that they take, and which answers are left alone.

use proptest::prelude::*;

use super::*;

fn compression(encodings: &[Coding]) -> Compression {
    Compression {
        encodings: encodings.iter().map(|coding| coding.usual()).collect(),
        min_bytes: 100,
        private: false,
        types: ["text/", "application/json"].map(Into::into).into(),
    }
}

fn chosen(lines: &[&str]) -> Option<Coding> {
    let ours = compression(&[Coding::Zstd, Coding::Brotli, Coding::Gzip]);
    let ours = ours.chosen(lines.iter().map(|line| line.as_bytes()));
    ours.map(|it| it.coding)
}

#[test]
fn the_best_liked_is_chosen_and_of_equals_the_first_of_ours() {
    for (lines, wanted) in [
        (&["gzip"][..], Some(Coding::Gzip)),
        (&["GZIP"], Some(Coding::Gzip)),
        (&["x-gzip"], Some(Coding::Gzip)),
        (&["gzip, deflate, br, zstd"], Some(Coding::Zstd)),
        (&["gzip", "br"], Some(Coding::Brotli)),
        (
            &["zstd;q=0.5, br;q=0.8, gzip;q=0.799"],
            Some(Coding::Brotli),
        ),
        (&["zstd;q=0.001"], Some(Coding::Zstd)),
        (&["zstd ; q=1.000"], Some(Coding::Zstd)),
        (&["*"], Some(Coding::Zstd)),
        (&["*;q=0.5, gzip"], Some(Coding::Gzip)),
        (&["*, zstd;q=0"], Some(Coding::Brotli)),
        (&["gzip, identity;q=0"], Some(Coding::Gzip)),
        (&["gzip;q=0.5, identity;q=0.5"], Some(Coding::Gzip)),
        (&["gzip;q=0.5, identity"], None),
        (&["gzip;q=0"], None),
        (&["gzip;q=0, *;q=0"], None),
        (&["*;q=0"], None),
        (&["identity;q=0"], None),
        (&["identity"], None),
        (&[""], None),
        (&[], None),
        (&["deflate, compress"], None),
        // What cannot be read is not taken.
        (&["gzip;q=2"], None),
        (&["gzip;q=1.001"], None),
        (&["gzip;q=0.1234"], None),
        (&["gzip;q=.5"], None),
        (&["gzip;q="], None),
        (&["gzip;level=9"], None),
        (&["gzip q=1"], None),
        (&["gzip;q=-1, br"], Some(Coding::Brotli)),
        (&["gzip;q=1, gzip;q=0"], None),
    ] {
        assert_eq!(chosen(lines), wanted, "{lines:?}");
    }
}

fn verdict(
    ours: &Compression,
    status: u16,
    length: Option<u64>,
    fields: &[(&str, &str)],
) -> Result<(), Reason> {
    let any_value = |name: &str, test: &mut dyn FnMut(&[u8]) -> bool| {
        let mut found = fields.iter().filter(|(other, _)| *other == name);
        found.any(|(_, value)| test(value.as_bytes()))
    };
    ours.may_compress(&Answered {
        status,
        length,
        any_value: &any_value,
    })
}

const HTML: (&str, &str) = ("content-type", "Text/HTML; charset=utf-8");

#[test]
fn what_is_left_alone_and_why() {
    let ours = compression(&[Coding::Gzip]);
    let of = |fields: &[(&str, &str)]| verdict(&ours, 200, Some(100), fields);
    assert_eq!(of(&[HTML]), Ok(()));
    assert_eq!(of(&[("content-type", "application/json")]), Ok(()));
    assert_eq!(
        of(&[("content-type", "application/json2")]),
        Err(Reason::Type)
    );
    assert_eq!(of(&[("content-type", "image/png")]), Err(Reason::Type));
    assert_eq!(of(&[("content-type", "text")]), Err(Reason::Type));
    assert_eq!(of(&[]), Err(Reason::Type));
    for (name, value, why) in [
        ("content-encoding", "br", Some(Reason::Encoded)),
        ("content-encoding", "identity", None),
        ("set-cookie", "a=b", Some(Reason::Private)),
        ("cache-control", "max-age=1, Private", Some(Reason::Private)),
        ("cache-control", "private=\"x\"", Some(Reason::Private)),
        (
            "cache-control",
            "public, No-Transform",
            Some(Reason::Forbidden),
        ),
        ("cache-control", "public, max-age=1", None),
        ("content-md5", "x", Some(Reason::Forbidden)),
        ("repr-digest", "x", Some(Reason::Forbidden)),
        ("content-range", "bytes 0-1/2", Some(Reason::NoBody)),
    ] {
        let verdict = of(&[HTML, (name, value)]);
        assert_eq!(verdict, why.map_or(Ok(()), Err), "{name}: {value}");
    }
    for (status, why) in [
        (200, None),
        (404, None),
        (101, Some(Reason::NoBody)),
        (204, Some(Reason::NoBody)),
        (206, Some(Reason::NoBody)),
        (304, Some(Reason::NoBody)),
    ] {
        let verdict = verdict(&ours, status, None, &[HTML]);
        assert_eq!(verdict, why.map_or(Ok(()), Err), "{status}");
    }
    assert_eq!(verdict(&ours, 200, Some(99), &[HTML]), Err(Reason::Short));
}

#[test]
fn what_is_private_is_compressed_when_that_is_asked_for() {
    let ours = Compression {
        private: true,
        ..compression(&[Coding::Gzip])
    };
    let fields = [HTML, ("set-cookie", "a=b"), ("cache-control", "private")];
    assert_eq!(verdict(&ours, 200, None, &fields), Ok(()));
}

#[test]
fn calls_of_grpc_are_never_compressed() {
    let ours = Compression {
        types: ["application/".into()].into(),
        ..compression(&[Coding::Gzip])
    };
    for value in ["application/grpc", "application/gRPC+proto"] {
        let verdict = verdict(&ours, 200, None, &[("content-type", value)]);
        assert_eq!(verdict, Err(Reason::Type));
    }
}

proptest! {
    /// Nobody gets a coding that his own words, read in the simplest way, do not name or allow.
    #[test]
    fn no_one_gets_what_he_has_not_named(line in "[a-z*;=, .0-9-]{0,60}") {
        let coding = chosen(&[&line]);
        if let Some(coding) = coding {
            prop_assert!(line.contains(coding.as_str()) || line.contains('*'), "{}", line);
        }
    }

    /// Of what is written in order, the weights decide.
    #[test]
    fn weights_decide(
        weights in prop::collection::vec(0..=1000_u16, 3),
        identity in prop::option::of(0..=1000_u16),
    ) {
        let write = |name: &str, weight: u16| format!("{name};q={}.{:03}", weight / 1000, weight % 1000);
        let ours = [Coding::Zstd, Coding::Brotli, Coding::Gzip];
        let mut members: Vec<_> = ours.iter().zip(&weights).map(|(it, weight)| write(it.as_str(), *weight)).collect();
        members.extend(identity.map(|weight| write("identity", weight)));
        let most = weights.iter().copied().max().unwrap_or(0);
        let first = ours.iter().zip(&weights).find(|(_, weight)| **weight == most).map(|(it, _)| *it);
        let wanted = first.filter(|_| most > 0 && most >= identity.unwrap_or(0));
        prop_assert_eq!(chosen(&[&members.join(" ,")]), wanted);
    }

    /// Whatever bytes come.
    #[test]
    fn any_bytes_are_read(line in prop::collection::vec(any::<u8>(), 0..80)) {
        let ours = compression(&[Coding::Gzip]);
        let _ = ours.chosen(std::iter::once(&line[..]));
    }
}
