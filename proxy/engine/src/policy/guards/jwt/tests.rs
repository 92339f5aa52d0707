//! Tokens that are taken and tokens that are not; each is signed here by a key of this process.

use std::sync::LazyLock;

use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::RsaKeyPair;
use aws_lc_rs::{hmac, signature};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::policy::guards::vault::Vault;
use crate::policy::tests::Asked;

use issuer::{Pair, numbers, url};

mod issuer;

const NOW_S: u64 = 1_800_000_000;

fn claims() -> Value {
    json!({"iss": "https://id.test/", "aud": "shop", "sub": "mia", "exp": NOW_S + 300})
}

fn with(key: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[key] = value;
    claims
}

fn without(key: &str) -> Value {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove(key);
    claims
}

/// A policy that asks for tokens by these keys.
fn asking(pairs: &[&Pair], more: &Value) -> Jwt {
    let mut said = json!({
        "audiences": ["shop"],
        "issuer": "https://id.test/",
        "keys": {"path": "k", "sha256": "0".repeat(64)},
    });
    let more = more.as_object().unwrap().clone();
    said.as_object_mut().unwrap().extend(more);
    let said: entity::Jwt = serde_json::from_value(said).unwrap();
    said.check().unwrap();
    let set = json!({"keys": pairs.iter().map(|pair| &pair.jwk).collect::<Vec<_>>()}).to_string();
    said.keys.read(|_| Ok(Some(set.as_bytes()))).unwrap();
    Jwt::of(&said).unwrap()
}

/// What becomes of a request with these lines: what the backend is told, or status and reason.
fn lines(jwt: &Jwt, lines: &str, vault: &Vault) -> Result<String, (u16, Reason)> {
    let asked = Asked::by(&format!("GET / HTTP/1.1\r\nHost: a.test{lines}"));
    asked.seen(|facts| {
        let facts = Facts {
            tokens: vault,
            unix_us: NOW_S * 1_000_000,
            ..*facts
        };
        let said = jwt
            .admit(&facts)
            .map_err(|answer| (answer.status, answer.reason))?;
        let mut out = LineBuf::default();
        jwt.write(&said, |_| true, &Room::of(&facts), &mut out)
            .map_err(|_| (431, Reason::Overgrown))?;
        Ok(String::from_utf8(out.lines().to_text()).unwrap())
    })
}

fn tried(jwt: &Jwt, token: &str) -> Result<String, (u16, Reason)> {
    lines(
        jwt,
        &format!("\r\nAuthorization: Bearer {token}"),
        &Vault::default(),
    )
}

fn refused(fault: Fault) -> Result<String, (u16, Reason)> {
    Err((401, Reason::TokenRefused(fault)))
}

static PAIR: LazyLock<Pair> = LazyLock::new(|| {
    Pair::curve(
        "ES256",
        "P-256",
        &signature::ECDSA_P256_SHA256_FIXED_SIGNING,
    )
});
static USUAL: LazyLock<Jwt> = LazyLock::new(|| asking(&[&PAIR], &json!({})));

#[test]
fn tokens_of_every_algorithm_are_taken_by_their_own_key_alone() {
    let pairs = Pair::all();
    let jwt = asking(&pairs.iter().collect::<Vec<_>>(), &json!({}));
    for pair in &pairs {
        let token = pair.usual(&claims());
        assert_eq!(tried(&jwt, &token), Ok(String::new()), "{}", pair.algorithm);
        let alone = asking(&[pair], &json!({}));
        assert!(tried(&alone, &token).is_ok(), "{}", pair.algorithm);
        for other in &pairs {
            if other.algorithm == pair.algorithm {
                continue;
            }
            // By whichever name of a key: the algorithm is that of the key.
            for kid in [other.algorithm, pair.algorithm] {
                let header = json!({"alg": other.algorithm, "kid": kid});
                let forged = pair.token(&header, &claims().to_string());
                assert!(
                    tried(&jwt, &forged).is_err(),
                    "{header} by {}",
                    pair.algorithm
                );
                let alone = asking(&[other], &json!({}));
                assert!(
                    tried(&alone, &forged).is_err(),
                    "{header} by {}",
                    pair.algorithm
                );
            }
        }
    }
}

#[test]
fn no_token_chooses_how_it_is_verified() {
    let header = |header: Value| PAIR.token(&header, &claims().to_string());
    for (name, fault) in [
        ("none", Fault::Algorithm),
        ("None", Fault::Algorithm),
        ("", Fault::Algorithm),
        ("HS256", Fault::Algorithm),
        ("es256", Fault::Algorithm),
        ("RS256", Fault::Algorithm),
    ] {
        let token = header(json!({"alg": name, "kid": "ES256"}));
        assert_eq!(tried(&USUAL, &token), refused(fault), "{name}");
        let unsigned = format!("{}.", token.rsplit_once('.').unwrap().0);
        assert!(tried(&USUAL, &unsigned).is_err(), "{name}");
    }
    // The public key as a secret that both know.
    let signed = format!(
        "{}.{}",
        url(br#"{"alg":"HS256"}"#),
        url(claims().to_string().as_bytes())
    );
    for secret in [
        PAIR.jwk.to_string(),
        PAIR.jwk["x"].as_str().unwrap().to_owned(),
    ] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let forged = format!(
            "{signed}.{}",
            url(hmac::sign(&key, signed.as_bytes()).as_ref())
        );
        assert_eq!(tried(&USUAL, &forged), refused(Fault::UnknownKey));
    }
    // Keys that a token brings along, by somebody else.
    let other = Pair::curve(
        "ES256",
        "P-256",
        &signature::ECDSA_P256_SHA256_FIXED_SIGNING,
    );
    for brought in ["jwk", "jku", "x5u", "x5c"] {
        let header = json!({"alg": "ES256", brought: other.jwk, "kid": "ES256"});
        let forged = other.token(&header, &claims().to_string());
        assert_eq!(
            tried(&USUAL, &forged),
            refused(Fault::Signature),
            "{brought}"
        );
        assert!(tried(&USUAL, &PAIR.token(&header, &claims().to_string())).is_ok());
    }
    for kid in ["../../etc/passwd", "' OR 1=1", "ES256\0", ""] {
        let token = header(json!({"alg": "ES256", "kid": kid}));
        assert_eq!(tried(&USUAL, &token), refused(Fault::UnknownKey), "{kid}");
    }
    for critical in [json!(["exp"]), json!([]), json!(null)] {
        let token = header(json!({"alg": "ES256", "crit": critical}));
        assert_eq!(tried(&USUAL, &token), refused(Fault::Critical));
    }
    for kind in ["JWT", "jwt", "at+jwt", "application/at+JWT"] {
        assert!(tried(&USUAL, &header(json!({"alg": "ES256", "typ": kind}))).is_ok());
    }
    for kind in ["logout+jwt", "dpop+jwt", "JOSE", ""] {
        let token = header(json!({"alg": "ES256", "typ": kind}));
        assert_eq!(tried(&USUAL, &token), refused(Fault::Type), "{kind}");
    }
    for wrong in [
        json!({"kid": "ES256"}),
        json!({"alg": 1}),
        json!({"alg": "ES256", "kid": 1}),
    ] {
        assert_eq!(tried(&USUAL, &header(wrong)), refused(Fault::Malformed));
    }
}

#[test]
fn claims_are_of_their_types() {
    let text = json!(format!("{}", NOW_S + 300));
    for (claims, fault) in [
        (without("exp"), Fault::Expired),
        (with("exp", text.clone()), Fault::Malformed),
        (with("exp", json!(true)), Fault::Malformed),
        (with("exp", json!(null)), Fault::Malformed),
        (with("exp", json!(-1)), Fault::Malformed),
        (with("exp", json!(NOW_S - 61)), Fault::Expired),
        (with("nbf", text.clone()), Fault::Malformed),
        (with("nbf", json!(NOW_S + 61)), Fault::Early),
        (with("iat", text), Fault::Malformed),
        (with("iat", json!(NOW_S + 61)), Fault::Early),
        (without("iss"), Fault::Issuer),
        (with("iss", json!("https://id.test")), Fault::Issuer),
        (with("iss", json!(["https://id.test/"])), Fault::Malformed),
        (without("aud"), Fault::Audience),
        (with("aud", json!("Shop")), Fault::Audience),
        (with("aud", json!("shopping shop")), Fault::Audience),
        (with("aud", json!([])), Fault::Audience),
        (with("aud", json!(["a", 1, "shop"])), Fault::Malformed),
        (with("aud", json!({"shop": 1})), Fault::Malformed),
    ] {
        assert_eq!(
            tried(&USUAL, &PAIR.usual(&claims)),
            refused(fault),
            "{claims}"
        );
    }
    for claims in [
        with("exp", json!(NOW_S as f64 - 59.5)),
        with("nbf", json!(NOW_S + 59)),
        with("iat", json!(NOW_S + 59)),
        with("aud", json!(["a", "shop"])),
    ] {
        assert!(tried(&USUAL, &PAIR.usual(&claims)).is_ok(), "{claims}");
    }
    let strict = asking(&[&PAIR], &json!({"leeway": 0}));
    let late = PAIR.usual(&with("exp", json!(NOW_S)));
    assert_eq!(tried(&strict, &late), refused(Fault::Expired));
    let anybody = asking(&[&PAIR], &json!({"audiences": []}));
    assert!(tried(&anybody, &PAIR.usual(&without("aud"))).is_ok());
    assert!(tried(&anybody, &PAIR.usual(&with("aud", json!(7)))).is_err());
}

#[test]
fn what_is_there_twice_is_no_token() {
    let usual = claims().to_string();
    for more in [r#""exp":1"#, r#""sub":"root""#, r#""aud":"x""#] {
        let claims = format!("{{{more},{}", &usual[1..]);
        let token = PAIR.token(&json!({"alg": "ES256"}), &claims);
        assert_eq!(tried(&USUAL, &token), refused(Fault::Malformed), "{more}");
    }
    let header = url(br#"{"alg":"none","alg":"ES256"}"#);
    let signed = format!("{header}.{}", url(usual.as_bytes()));
    let token = format!("{signed}.{}", url(&(PAIR.sign)(signed.as_bytes())));
    assert_eq!(tried(&USUAL, &token), refused(Fault::Malformed));
    let token = PAIR.usual(&claims());
    let twice = format!("\r\nAuthorization: Bearer {token}\r\nAuthorization: Bearer {token}");
    assert_eq!(
        lines(&USUAL, &twice, &Vault::default()),
        refused(Fault::Twice)
    );
}

#[test]
fn what_is_no_token_is_none() {
    let token = PAIR.usual(&claims());
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let deep = format!(r#"{{"exp":{}1{}}}"#, "[".repeat(5000), "]".repeat(5000));
    let huge = PAIR.usual(&with("pad", json!("x".repeat(token::TOKEN_BYTES_MAX))));
    for wrong in [
        "..".to_owned(),
        "a.b".to_owned(),
        format!("{token}."),
        format!("{token}=="),
        format!(".{token}"),
        format!("{signed}.{}", signature.replace('-', "+")).replace('_', "/") + "/",
        PAIR.token(&json!({"alg": "ES256"}), "[]"),
        PAIR.token(&json!({"alg": "ES256"}), "{} {}"),
        PAIR.token(&json!({"alg": "ES256"}), &deep),
        huge,
    ] {
        assert_eq!(tried(&USUAL, &wrong), refused(Fault::Malformed), "{wrong}");
    }
    for line in [
        "",
        "\r\nAuthorization: Basic YTpi",
        "\r\nAuthorization: Bearer",
    ] {
        let missing = Err((401, Reason::TokenMissing));
        assert_eq!(lines(&USUAL, line, &Vault::default()), missing, "{line}");
    }
    let empty = format!("{signed}.");
    assert_eq!(tried(&USUAL, &empty), refused(Fault::Signature));
}

#[test]
fn a_token_stands_where_it_is_looked_for() {
    let token = PAIR.usual(&claims());
    let by_cookie = asking(&[&PAIR], &json!({"from": {"cookie": "session"}}));
    let by_header = asking(&[&PAIR], &json!({"from": {"header": "x-token"}}));
    let fresh = Vault::default;
    let cookie = format!("\r\nCookie: a=b; session={token}");
    assert!(lines(&by_cookie, &cookie, &fresh()).is_ok());
    let twice = format!("{cookie}; session=x");
    assert_eq!(lines(&by_cookie, &twice, &fresh()), refused(Fault::Twice));
    let header = format!("\r\nX-Token: {token}");
    assert!(lines(&by_header, &header, &fresh()).is_ok());
    let missing = Err((401, Reason::TokenMissing));
    for jwt in [&by_cookie, &by_header] {
        let bearer = format!("\r\nAuthorization: Bearer {token}");
        assert_eq!(lines(jwt, &bearer, &fresh()), missing);
    }
}

#[test]
fn what_backends_are_told_is_no_other_line() {
    let headers = json!({"headers": {
        "X-Groups": "groups", "X-N": "n", "X-Nothing": "nothing", "X-User": "name",
    }});
    let jwt = asking(&[&PAIR], &headers);
    let mut said = claims();
    said["name"] = json!("Zoë\r\nX-Role: root, 5% ");
    said["groups"] = json!(["a,b", "c d", 7, null, {"e": 1}, "%2C"]);
    said["n"] = json!(4.5);
    said["nothing"] = json!({"a": "b"});
    assert_eq!(
        tried(&jwt, &PAIR.usual(&said)).unwrap(),
        "X-Groups: a%2Cb,c d,7,%252C\r\nX-N: 4.5\r\n\
         X-User: Zo%C3%AB%0D%0AX-Role: root, 5%25%20\r\n"
    );
    assert_eq!(tried(&jwt, &PAIR.usual(&claims())).unwrap(), "");
}

#[test]
fn a_claim_that_goes_to_many_headers_is_not_multiplied_beyond_the_bound_of_heads() {
    let told = |headers: usize| {
        let named = (0..headers).map(|number| (format!("X-{number}"), json!("name")));
        let named: serde_json::Map<String, Value> = named.collect();
        let jwt = asking(&[&PAIR], &json!({"headers": named}));
        let name = json!("n".repeat(6000));
        tried(&jwt, &PAIR.usual(&with("name", name))).map(|lines| lines.len() > 30_000)
    };
    assert_eq!(told(5), Ok(true));
    assert_eq!(told(6), Err((431, Reason::Overgrown)));
}

#[test]
fn what_a_token_does_not_allow_is_forbidden() {
    let more = json!({"scopes": ["read", "write"], "claims": {"role": ["admin", "editor"]}});
    let jwt = asking(&[&PAIR], &more);
    let said = |scope: Value, role: Value| {
        let mut said = with("scope", scope);
        said["role"] = role;
        tried(&jwt, &PAIR.usual(&said))
    };
    for (scope, role) in [
        (json!("write other read"), json!("admin")),
        (json!(["read", "write"]), json!(["a", "editor"])),
    ] {
        assert!(said(scope, role).is_ok());
    }
    for (scope, role) in [
        (json!("read"), json!("admin")),
        (json!("readwrite"), json!("admin")),
        (json!(["read,write"]), json!("admin")),
        (json!({"read": 1, "write": 1}), json!("admin")),
        (json!("read write"), json!("Admin")),
        (json!("read write"), json!(["administrator"])),
        (json!("read write"), json!(null)),
    ] {
        let forbidden = Err((403, Reason::TokenInsufficient));
        assert_eq!(
            said(scope.clone(), role.clone()),
            forbidden,
            "{scope} {role}"
        );
    }
    let answer = jwt.insufficient();
    let line = "WWW-Authenticate: Bearer realm=\"api\", error=\"insufficient_scope\", \
                scope=\"read write\"\r\n";
    assert_eq!(answer.lines.lines().to_text(), line.as_bytes());
}

#[test]
fn keys_without_names_are_meant_where_no_other_could_be() {
    let unnamed = |mut pair: Pair| {
        pair.jwk.as_object_mut().unwrap().remove("kid");
        pair
    };
    let curve = || {
        Pair::curve(
            "ES256",
            "P-256",
            &signature::ECDSA_P256_SHA256_FIXED_SIGNING,
        )
    };
    let (one, other) = (unnamed(curve()), unnamed(curve()));
    let named = one.usual(&claims());
    let nameless = one.token(&json!({"alg": "ES256"}), &claims().to_string());
    for (keys, token, is_taken) in [
        (vec![&one], &named, true),
        (vec![&one], &nameless, true),
        (vec![&one, &other], &nameless, false),
        (vec![&one, &PAIR], &nameless, false),
        // Somebody has that name.
        (vec![&one, &PAIR], &named, false),
    ] {
        assert_eq!(tried(&asking(&keys, &json!({})), token).is_ok(), is_taken);
    }
}

#[test]
fn sets_of_keys_say_what_is_wrong_in_them() {
    let edited = |key: &str, value: Value| {
        let mut jwk = PAIR.jwk.clone();
        jwk[key] = value;
        json!({"keys": [jwk]}).to_string()
    };
    let parsed = |text: &str| Keys::parse("k", text.as_bytes()).map(drop);
    let none = "expected up to 100 keys that verify signatures";
    for (text, reason) in [
        ("[]".to_owned(), "it is no set of keys"),
        (edited("use", json!("enc")), none),
        (edited("key_ops", json!(["sign"])), none),
        (edited("alg", json!("HS256")), none),
        (edited("alg", json!("ES384")), none),
        (edited("kty", json!("oct")), none),
        (
            edited("x", json!("AA")),
            r#"key 1: its "x" is not what it should be"#,
        ),
        (
            edited("y", json!(url(&[1; 32]))),
            "key 1: it is no key of ES256",
        ),
    ] {
        assert_eq!(parsed(&text), Err(reason.to_owned()), "{text}");
    }
    // Too short to be safe.
    let short = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let n = url(&numbers(&short).0[..128]);
    let weak = json!({"keys": [{"kty": "RSA", "n": n, "e": "AQAB"}]});
    assert_eq!(parsed(&weak.to_string()), Err(none.to_owned()));
    assert_eq!(parsed(r#"{"keys":[]}"#), Ok(()), "all are taken back");
}

#[test]
fn a_signature_is_looked_at_once() {
    let vault = Vault::default();
    let line = |token: &str| format!("\r\nAuthorization: Bearer {token}");
    let (good, other) = (
        PAIR.usual(&claims()),
        PAIR.usual(&with("sub", json!("ben"))),
    );
    for _ in 0..3 {
        assert!(lines(&USUAL, &line(&good), &vault).is_ok());
    }
    assert_eq!(vault.take_count(), 1);
    assert!(lines(&USUAL, &line(&other), &vault).is_ok());
    assert_eq!(vault.take_count(), 1);
    // What a known one says is looked at each time.
    let elsewhere = asking(&[&PAIR], &json!({"issuer": "https://other.test/"}));
    assert_eq!(
        lines(&elsewhere, &line(&good), &vault),
        refused(Fault::Issuer)
    );
    assert_eq!(vault.take_count(), 0);
    let (signed, _) = good.rsplit_once('.').unwrap();
    let (_, signature) = other.rsplit_once('.').unwrap();
    let forged = line(&format!("{signed}.{signature}"));
    for _ in 0..2 {
        assert_eq!(lines(&USUAL, &forged, &vault), refused(Fault::Signature));
    }
    assert_eq!(vault.take_count(), 2);
}

#[test]
fn without_keys_nobody_passes() {
    let said = json!({
        "audiences": ["shop"],
        "issuer": "https://id.test/",
        "keys": {"url": "https://id.test/keys"},
    });
    let said: entity::Jwt = serde_json::from_value(said).unwrap();
    let jwt = Jwt::of(&said).unwrap();
    let answer = tried(&jwt, &PAIR.usual(&claims()));
    assert_eq!(answer, Err((503, Reason::TokenKeysMissing)));
}

proptest! {
    #[test]
    fn any_text_is_a_token_or_none(text in "[A-Za-z0-9_.=-]{0,60}|\\PC{0,40}") {
        prop_assert!(tried(&USUAL, &text).is_err());
        let _ = token::parse(text.as_bytes());
    }

    #[test]
    fn no_character_of_a_token_can_be_another(at in any::<prop::sample::Index>(), by in "[A-Za-z0-9_.=-]") {
        let token = PAIR.usual(&claims());
        let at = at.index(token.len());
        let changed = format!("{}{by}{}", &token[..at], &token[at + 1..]);
        prop_assert_eq!(tried(&USUAL, &changed).is_ok(), changed == token);
    }

    #[test]
    fn what_is_told_is_one_line(text in any::<String>(), all in prop::collection::vec(any::<String>(), 0..4)) {
        let jwt = asking(&[&PAIR], &json!({"headers": {"X-All": "all", "X-User": "name"}}));
        let mut said = with("name", json!(text));
        said["all"] = json!(all);
        let told = tried(&jwt, &PAIR.usual(&said)).unwrap();
        let lines: Vec<&str> = told.split_terminator("\r\n").collect();
        let is_told = |name: &str| usize::from(lines.iter().any(|line| line.starts_with(name)));
        prop_assert_eq!(lines.len(), is_told("X-All: ") + is_told("X-User: "));
        prop_assert!(lines.iter().all(|line| line.bytes().all(|byte| (b' '..=b'~').contains(&byte))));
        if let Some(value) = lines.iter().find_map(|line| line.strip_prefix("X-All: ")) {
            prop_assert_eq!(value.split(',').count(), all.len());
        }
    }
}
