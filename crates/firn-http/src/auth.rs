//! Logins: from the request, the URL, or `netrc`.

use crate::netrc::Netrc;
use reqwest::Url;

/// User and password for a URL, which loses those that it carries.
pub(crate) fn login(
    url: &mut Url,
    given: Option<&(String, String)>,
    netrc: &Netrc,
) -> Option<(String, String)> {
    let decode = |text: &str| percent_decode(text);
    let user = Some(url.username()).filter(|user| !user.is_empty()).map(decode);
    let password = url.password().map(decode);
    // These fail for URLs without hosts only.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    if let Some(given) = given {
        return Some(given.clone());
    }
    if let (Some(user), Some(password)) = (&user, &password) {
        return Some((user.clone(), password.clone()));
    }
    let found = netrc.find(url.host_str()?, user.as_deref());
    match (found, user) {
        (Some((user, password)), _) => Some((user.to_owned(), password.to_owned())),
        (None, Some(user)) => Some((user, String::new())),
        (None, None) => None,
    }
}

/// Undoes `%41`; what is not UTF-8 then is left as it was.
pub fn percent_decode(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let digit = |at: usize| after.get(at).and_then(|b| char::from(*b).to_digit(16));
        match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                rest = &after[2..];
            }
            _ => {
                out.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8(out).unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(url: &str, expected: Option<(&str, &str)>) {
        let netrc = Netrc::parse("machine h login n password m\nmachine h login o password q");
        let mut url = Url::parse(url).unwrap();
        let got = login(&mut url, None, &netrc);
        assert_eq!(got, expected.map(|(u, p)| (u.to_owned(), p.to_owned())));
        assert!(!url.as_str().contains('@'));
    }

    #[test]
    fn sources() {
        check("http://h/x", Some(("n", "m")));
        check("http://o@h/x", Some(("o", "q")));
        check("http://a%40b:p%3aq@h/x", Some(("a@b", "p:q")));
        check("http://u@other/x", Some(("u", "")));
        check("http://other/x", None);
    }
}
