//! `rewrite = { from, to }`: other leading segments on the way up.

use super::path::decoded;
use super::policy::Rewrite;

impl Rewrite {
    /// The path that the upstream gets for a path of the route, which stays octet for octet what it
    /// was after the segments that are replaced.
    ///
    /// Segments are compared as routes compare them: decoded, and without the case of ASCII letters
    /// where the upstream takes no account of it (`ignore_case`). Otherwise another spelling of the
    /// same path would go up as it is, to where no route leads. For that reason `None`, a path that
    /// does not begin with `from`, must not be forwarded at all.
    #[must_use]
    pub fn apply(&self, path: &str, ignore_case: bool) -> Option<String> {
        let mut rest = path.strip_prefix('/');
        for expected in self.from.strip_prefix('/')?.split('/') {
            let sent = rest?;
            let (segment, after) = match sent.split_once('/') {
                Some((segment, after)) => (segment, Some(after)),
                None => (sent, None),
            };
            let same = if ignore_case {
                decoded(segment)
                    .map(|byte| byte.to_ascii_lowercase())
                    .eq(decoded(expected).map(|byte| byte.to_ascii_lowercase()))
            } else {
                decoded(segment).eq(decoded(expected))
            };
            if !same {
                return None;
            }
            rest = after;
        }
        let to = self.to.strip_suffix('/').unwrap_or(&self.to);
        Some(match rest {
            Some(rest) => format!("{to}/{rest}"),
            None if to.is_empty() => "/".to_owned(),
            None => to.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leading_segments_are_replaced_and_the_rest_is_kept() {
        let cases = [
            ("/psd2", "/v1", "/psd2/a%20b/", false, Some("/v1/a%20b/")),
            ("/psd2", "/v1", "/psd2", false, Some("/v1")),
            ("/psd2", "/v1", "/psd2/", false, Some("/v1/")),
            ("/psd2", "/", "/psd2", false, Some("/")),
            ("/psd2", "/", "/psd2/a", false, Some("/a")),
            ("/psd2/v3", "/x/y", "/psd2/v3/a", false, Some("/x/y/a")),
            ("/$batch", "/v1", "/%24batch/a", false, Some("/v1/a")),
            ("/caf%C3%A9", "/v1", "/caf%c3%a9/a", false, Some("/v1/a")),
            ("/psd2", "/v1", "/PSD2/a", true, Some("/v1/a")),
            ("/psd2", "/v1", "/PSD2/a", false, None),
            ("/psd2", "/v1", "/psd2x/a", false, None),
            ("/psd2", "/v1", "/x/psd2", false, None),
            ("/psd2/v3", "/v1", "/psd2", false, None),
            ("/psd2/v3", "/v1", "/psd2%2Fv3/a", false, None),
        ];
        for (from, to, path, ignore_case, expected) in cases {
            let rewrite = Rewrite {
                from: from.into(),
                to: to.into(),
            };
            let found = rewrite.apply(path, ignore_case);
            assert_eq!(found.as_deref(), expected, "{from} -> {to}: {path}");
        }
    }
}
