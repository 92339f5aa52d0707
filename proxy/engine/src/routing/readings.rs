//! What servers behind us may read in a path that we read otherwise.
//!
//! For us `%2F` and `%5C` are bytes of a segment, and so is what stands behind a `;`. CGI, WSGI and PHP decode the
//! former before they split a path, servlets take the latter off: for them `/admin%2Fx` and `/admin;y/x` are
//! `/admin/x`. Called by `session/exchange`, which lets nobody get past a frontend that way, and for `explain`.

/// The paths that others may read in a normal one; nearly always none.
#[must_use]
pub fn others(path: &[u8]) -> Vec<Vec<u8>> {
    let cuts = memchr::memchr(b';', path).is_some();
    let decodes = memchr::memchr_iter(b'%', path).any(|at| is_slash(path, at));
    let mut readings = Vec::new();
    for (decoding, cutting) in [(true, false), (false, true), (true, true)] {
        if (decoding && !decodes) || (cutting && !cuts) {
            continue;
        }
        let reading = read(path, decoding, cutting);
        if reading != path && !readings.contains(&reading) {
            readings.push(reading);
        }
    }
    readings
}

fn is_slash(path: &[u8], at: usize) -> bool {
    matches!(path.get(at..at + 3), Some(b"%2F" | b"%5C"))
}

/// A path as somebody reads it who merges slashes and resolves dot segments behind that.
fn read(path: &[u8], decoding: bool, cutting: bool) -> Vec<u8> {
    let mut plain = Vec::with_capacity(path.len());
    let mut at = 0;
    while let Some(&byte) = path.get(at) {
        let is_slash = decoding && is_slash(path, at);
        plain.push(if is_slash { b'/' } else { byte });
        at += if is_slash { 3 } else { 1 };
    }
    let mut out: Vec<&[u8]> = Vec::new();
    let mut ends_open = false;
    for segment in plain.split(|&byte| byte == b'/') {
        let name = segment.split(|&byte| byte == b';').next();
        let name = name.filter(|_| cutting).unwrap_or(segment);
        ends_open = matches!(name, b"" | b"." | b"..");
        match name {
            b"" | b"." => {}
            b".." => drop(out.pop()),
            _ => out.push(name),
        }
    }
    let mut reading = Vec::with_capacity(plain.len());
    for name in &out {
        reading.push(b'/');
        reading.extend_from_slice(name);
    }
    if ends_open || out.is_empty() {
        reading.push(b'/');
    }
    reading
}

#[cfg(test)]
mod tests {
    use super::others;

    fn texts(path: &str) -> Vec<String> {
        let found = others(path.as_bytes());
        found
            .into_iter()
            .map(|each| String::from_utf8(each).unwrap())
            .collect()
    }

    #[test]
    fn most_paths_are_read_alike() {
        for path in [
            "/",
            "/a/b",
            "/a%20b",
            "/%C3%BC/%25",
            "/a//b",
            "/a%2",
            "/%2E2F",
        ] {
            assert!(others(path.as_bytes()).is_empty(), "{path}");
        }
    }

    #[test]
    fn escaped_slashes_and_parameters_are_read_in_each_way() {
        for (path, expected) in [
            ("/admin%2Fx", vec!["/admin/x"]),
            ("/admin%5Cx", vec!["/admin/x"]),
            ("/%2Fadmin/x", vec!["/admin/x"]),
            ("/admin%2F", vec!["/admin/"]),
            ("/admin;a=b/x", vec!["/admin/x"]),
            ("/;a/admin", vec!["/admin"]),
            ("/.;a/admin", vec!["/admin"]),
            ("/a/.%2Fadmin", vec!["/a/admin"]),
            ("/;", vec!["/"]),
            ("/a%2Fb;c", vec!["/a/b;c", "/a%2Fb", "/a/b"]),
            ("/a;b%2Fc", vec!["/a;b/c", "/a", "/a/c"]),
        ] {
            assert_eq!(texts(path), expected, "{path}");
        }
    }
}
