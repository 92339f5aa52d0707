//! Users and the hashes of their passwords, as `htpasswd` writes them.
//!
//! Rule: what looks a password up takes as long as the hash is slow, so that it is called by a thread of its own
//! (`session/exchange/auth/verifying`) and never by the loop. Somebody who is not there costs as much as one who is: as
//! one of them, always the same for a name, where their hashes are of several kinds.

use std::collections::BTreeMap;

use argon2::{Argon2, Params, PasswordHash};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use md5::{Digest as _, Md5};
use sha_crypt::{PasswordVerifier as _, ShaCrypt};
use sha2::Sha256;

/// Users by name, and the hash of each one's password.
#[derive(Default, PartialEq, Eq)]
pub struct Book {
    users: BTreeMap<Box<[u8]>, Hash>,
    /// Of all of them: what nobody knows who is not in it, and every worker alike.
    sum: [u8; 32],
}

impl std::fmt::Debug for Book {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Book of {} users", self.users.len())
    }
}

#[derive(PartialEq, Eq)]
enum Hash {
    Argon2(Box<str>),
    Bcrypt(Box<str>),
    ShaCrypt(Box<str>),
    /// Salt and sum.
    Apr1(Box<str>, Box<str>),
}

impl Book {
    /// Reads a file. Lines that begin with `#` say nothing.
    ///
    /// # Errors
    /// What is wrong with a line; never a hash.
    pub fn parse(content: &[u8]) -> Result<Self, String> {
        let mut book = Self::default();
        let mut sum = Sha256::new();
        for (number, line) in content.split(|byte| *byte == b'\n').enumerate() {
            let line = line.trim_ascii();
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            sum.update(line);
            let wrong = |what: &str| format!("line {}: {what}", number + 1);
            let at = memchr::memchr(b':', line).ok_or_else(|| wrong("expected USER:HASH"))?;
            let (user, hash) = (&line[..at], &line[at + 1..]);
            let hash = std::str::from_utf8(hash).map_err(|_| wrong("it is no hash"))?;
            let hash = Hash::parse(hash).map_err(wrong)?;
            if user.is_empty() || book.users.insert(user.into(), hash).is_some() {
                return Err(wrong("expected a name, once"));
            }
        }
        book.sum = sum.finalize().into();
        // Without users nobody gets in, which does no harm.
        match book.users.len() {
            0..=USERS_MAX => Ok(book),
            count => Err(format!("there are {count} users, at most {USERS_MAX}")),
        }
    }

    /// Whether a password is that of a user. Slow.
    #[must_use]
    pub fn knows(&self, user: &[u8], password: &[u8]) -> bool {
        let found = self.users.get(user);
        // Of who is not there the time must not tell.
        let hash = found.or_else(|| self.hash_in_place_of(user));
        let fits =
            password.len() <= PASSWORD_BYTES_MAX && hash.is_some_and(|hash| hash.is_of(password));
        fits && found.is_some()
    }

    /// That of somebody, whom a name alone decides.
    fn hash_in_place_of(&self, user: &[u8]) -> Option<&Hash> {
        let drawn = Sha256::new()
            .chain_update(self.sum)
            .chain_update(user)
            .finalize();
        let drawn = drawn
            .iter()
            .take(8)
            .fold(0_u64, |number, &byte| number << 8 | u64::from(byte));
        let at = drawn.checked_rem(self.users.len() as u64)?;
        self.users.values().nth(at as usize)
    }
}

impl Hash {
    fn parse(text: &str) -> Result<Self, &'static str> {
        let fields: Vec<&str> = text.split('$').collect();
        match fields.as_slice() {
            ["", "2a" | "2b" | "2y", cost, rest] if rest.len() == BCRYPT_DIGITS => {
                let is_known = rest.bytes().all(is_digit);
                match cost.parse::<u8>() {
                    Ok(4..=BCRYPT_COST_MAX) if is_known => Ok(Self::Bcrypt(text.into())),
                    Ok(_) if is_known => Err("its bcrypt takes too long"),
                    _ => Err("it is no hash of bcrypt"),
                }
            }
            ["", "argon2d" | "argon2i" | "argon2id", ..] => {
                let hash = PasswordHash::new(text).map_err(|_| "it is no hash of argon2")?;
                let params = Params::try_from(&hash).map_err(|_| "it is no hash of argon2")?;
                let work = u64::from(params.m_cost()) * u64::from(params.t_cost());
                match params.m_cost() <= ARGON2_KIB_MAX && work <= ARGON2_WORK_MAX {
                    true if hash.hash.is_some() => Ok(Self::Argon2(text.into())),
                    true => Err("it is no hash of argon2"),
                    false => Err("its argon2 takes too long, or too much memory"),
                }
            }
            ["", id @ ("5" | "6"), salt, sum]
                if !salt.starts_with("rounds=") && is_sum(id, sum) =>
            {
                Ok(Self::ShaCrypt(text.into()))
            }
            ["", id @ ("5" | "6"), rounds, _, sum] if is_sum(id, sum) => {
                let rounds = rounds.strip_prefix("rounds=").unwrap_or_default();
                match rounds.parse::<u32>() {
                    Ok(1000..=SHA_ROUNDS_MAX) => Ok(Self::ShaCrypt(text.into())),
                    Ok(_) => Err("its SHA-crypt takes too long, or is too quick"),
                    Err(_) => Err("it is no hash of SHA-crypt"),
                }
            }
            ["", "apr1", salt, sum] if salt.len() <= 8 && sum.len() == 22 => {
                Ok(Self::Apr1((*salt).into(), (*sum).into()))
            }
            _ => Err("it is no hash of argon2, bcrypt, SHA-crypt or apr1"),
        }
    }

    fn is_of(&self, password: &[u8]) -> bool {
        match self {
            Self::Argon2(text) => Argon2::default().verify_password(password, &**text).is_ok(),
            Self::Bcrypt(text) => bcrypt::verify(password, text).unwrap_or(false),
            Self::ShaCrypt(text) => ShaCrypt::SHA512.verify_password(password, &**text).is_ok(),
            Self::Apr1(salt, sum) => {
                let made = apr1(password, salt.as_bytes());
                verify_slices_are_equal(made.as_bytes(), sum.as_bytes()).is_ok()
            }
        }
    }
}

/// Whether a text is the sum of SHA-256-crypt (5) or SHA-512-crypt.
fn is_sum(id: &str, sum: &str) -> bool {
    sum.len() == if id == "5" { 43 } else { 86 } && sum.bytes().all(is_digit)
}

fn is_digit(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'/')
}

/// Apache's MD5, a thousand times over: what `htpasswd` writes if nothing else is asked for.
fn apr1(password: &[u8], salt: &[u8]) -> String {
    let of = |parts: &[&[u8]]| -> [u8; 16] {
        let mut sum = Md5::new();
        parts.iter().for_each(|part| sum.update(part));
        sum.finalize().into()
    };
    let inner = of(&[password, salt, password]);
    let mut begin: Vec<u8> = [password, b"$apr1$", salt].concat();
    begin.extend(inner.iter().cycle().take(password.len()));
    let mut length = password.len();
    while length > 0 {
        begin.push(if length & 1 == 1 { 0 } else { password[0] });
        length >>= 1;
    }
    let mut sum = of(&[&begin]);
    for round in 0..1000 {
        let is_odd = round % 2 == 1;
        let none: &[u8] = &[];
        sum = of(&[
            if is_odd { password } else { &sum },
            if round % 3 == 0 { none } else { salt },
            if round % 7 == 0 { none } else { password },
            if is_odd { &sum } else { password },
        ]);
    }
    let group = |a: usize, b: usize, c: usize| {
        u32::from(sum[a]) << 16 | u32::from(sum[b]) << 8 | u32::from(sum[c])
    };
    let mut out = String::with_capacity(22);
    for (at, bits) in [
        group(0, 6, 12),
        group(1, 7, 13),
        group(2, 8, 14),
        group(3, 9, 15),
        group(4, 10, 5),
        u32::from(sum[11]),
    ]
    .into_iter()
    .enumerate()
    {
        for digit in 0..if at == 5 { 2 } else { 4 } {
            out.push(char::from(DIGITS[(bits >> (6 * digit) & 63) as usize]));
        }
    }
    out
}

const DIGITS: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Salt and sum.
const BCRYPT_DIGITS: usize = 53;
/// A quarter of a second.
const BCRYPT_COST_MAX: u8 = 12;
/// One password at a time takes so much memory.
const ARGON2_KIB_MAX: u32 = 65_536;
/// KiB times passes: a fifth of a second.
const ARGON2_WORK_MAX: u64 = 4 * ARGON2_KIB_MAX as u64;
/// As of bcrypt.
const SHA_ROUNDS_MAX: u32 = 200_000;
/// Some hashes take longer for longer ones.
const PASSWORD_BYTES_MAX: usize = 512;
/// Users of one file.
const USERS_MAX: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by others: crypt(3) and OpenSSL.
    const OF_OTHERS: &str = "\
argon2:$argon2id$v=19$m=64,t=2,p=1$YWJjZGVmZ2hpamtsbW5vcA$wzXqI0+MZm8tULXm5YNy8Rb0PI7R+XD/RGoGDemb1sE
# by crypt(3)
bcrypt:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a
sha512:$6$abcdefgh$ltjgWl6579NluT/Vi1nwEvcil.G5Nbc4NiXZaNGStk8PSwGfQv72N2CKPPrVACtLtip/cZ/1GM/O6IND4WQhG.

sha256:$5$abcdefgh$gruCpC7VkOTspMQTTSAR8mtlO9Upms.fwqE5y16JVM.
apr1:$apr1$abcdefgh$h9FWgUz3n9YxylKLlR5SQ/
";

    /// Who is not there takes the time of one who is, so that a slow hash tells nobody's name.
    #[test]
    fn in_place_of_who_is_not_there_each_hash_comes_up_and_by_the_name_alone() {
        let book = Book::parse(OF_OTHERS.as_bytes()).unwrap();
        let again = Book::parse(format!("# moved\n{OF_OTHERS}").as_bytes()).unwrap();
        let mut drawn = BTreeMap::new();
        for number in 0..100 {
            let name = format!("nobody-{number}");
            let hash = book.hash_in_place_of(name.as_bytes()).unwrap();
            assert!(again.hash_in_place_of(name.as_bytes()).unwrap() == hash);
            let user = book.users.iter().find(|(_, known)| *known == hash);
            *drawn.entry(user.unwrap().0).or_insert(0) += 1;
        }
        assert_eq!(drawn.len(), book.users.len());
        assert!(drawn.values().all(|times| *times > 5));
        assert!(Book::default().hash_in_place_of(b"nobody").is_none());
    }

    #[test]
    fn passwords_are_those_that_others_have_hashed() {
        let book = Book::parse(OF_OTHERS.as_bytes()).unwrap();
        for user in ["argon2", "bcrypt", "sha512", "sha256", "apr1"] {
            assert!(book.knows(user.as_bytes(), b"secret"), "{user}");
            assert!(!book.knows(user.as_bytes(), b"Secret"), "{user}");
            assert!(!book.knows(user.as_bytes(), b""), "{user}");
        }
        assert!(!book.knows(b"nobody", b"secret"));
        assert!(!book.knows(b"apr1", &[b'x'; PASSWORD_BYTES_MAX + 1]));
    }

    #[test]
    fn what_is_no_hash_or_takes_too_long_is_refused() {
        assert!(!Book::parse(b"").unwrap().knows(b"user", b""));
        for line in [
            "user",
            "user:",
            "user:secret",
            ":$apr1$abcdefgh$h9FWgUz3n9YxylKLlR5SQ/",
            "user:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=",
            "user:$2b$13$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a",
            "user:$2b$05$short",
            "user:$5$abcdefgh$aa",
            "user:$5$rounds=999999$abcdefgh$gruCpC7VkOTspMQTTSAR8mtlO9Upms.fwqE5y16JVM.",
            "user:$5$rounds=1$abcdefgh$gruCpC7VkOTspMQTTSAR8mtlO9Upms.fwqE5y16JVM.",
            "user:$apr1$abcdefgh$short",
            "user:$argon2id$v=19$m=1,t=1,p=1$a$b",
            "user:$argon2id$v=19$m=64,t=2,p=1$YWJjZGVmZ2hpamtsbW5vcA",
            "user:$argon2id$v=19$m=65537,t=1,p=1$YWJjZGVmZ2hpamtsbW5vcA$wzXqI0+MZm8tULXm5YNy8Rb0PI7R+XD/RGoGDemb1sE",
            "user:$argon2id$v=19$m=65536,t=5,p=1$YWJjZGVmZ2hpamtsbW5vcA$wzXqI0+MZm8tULXm5YNy8Rb0PI7R+XD/RGoGDemb1sE",
        ] {
            let refused = Book::parse(line.as_bytes()).unwrap_err();
            assert!(!refused.contains("abcdefgh"), "{refused}");
        }
        let twice = "a:$apr1$abcdefgh$h9FWgUz3n9YxylKLlR5SQ/\n".repeat(2);
        assert!(
            Book::parse(twice.as_bytes())
                .unwrap_err()
                .starts_with("line 2")
        );
    }
}
