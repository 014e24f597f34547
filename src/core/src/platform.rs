//! What an image runs on: an operating system, an architecture, perhaps a variant of it; in Go's words, as registries and
//! engines have them.

use std::fmt;

use crate::suggest;

/// The platforms that kiln can make images for, each in its shortest form.
pub const PLATFORMS: [&str; 13] = [
    "linux/amd64",
    "linux/amd64/v2",
    "linux/amd64/v3",
    "linux/arm64",
    "linux/386",
    "linux/arm/v5",
    "linux/arm/v6",
    "linux/arm/v7",
    "linux/loong64",
    "linux/mips64le",
    "linux/ppc64le",
    "linux/riscv64",
    "linux/s390x",
];

/// What other systems call them.
const OTHER_NAMES: [(&str, &str); 12] = [
    ("x86_64", "linux/amd64"),
    ("x86-64", "linux/amd64"),
    ("x64", "linux/amd64"),
    ("aarch64", "linux/arm64"),
    ("i386", "linux/386"),
    ("i686", "linux/386"),
    ("x86", "linux/386"),
    ("armhf", "linux/arm/v7"),
    ("armel", "linux/arm/v5"),
    ("ppc64el", "linux/ppc64le"),
    ("mips64el", "linux/mips64le"),
    ("riscv", "linux/riscv64"),
];

/// What an image runs on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Platform {
    /// Go's name: `linux`.
    pub os: String,
    /// Go's name: `amd64`.
    pub architecture: String,
    /// Go's name: `v7`.
    pub variant: Option<String>,
}

impl Platform {
    /// Linux on this host's processor.
    pub fn host() -> Platform {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", None),
            "aarch64" => ("arm64", Some("v8")),
            "arm" => ("arm", Some("v7")),
            "x86" => ("386", None),
            "powerpc64" if cfg!(target_endian = "little") => ("ppc64le", None),
            "mips64" if cfg!(target_endian = "little") => ("mips64le", None),
            "loongarch64" => ("loong64", None),
            other => (other, None),
        };
        Platform { os: "linux".into(), architecture: architecture.into(), variant: variant.map(Into::into) }
    }

    /// Reads `linux/arm/v7`, whether there is such a platform or not.
    pub fn parse(text: &str) -> Option<Platform> {
        let mut parts = text.split('/');
        let mut next = || parts.next().filter(|part| !part.is_empty()).map(str::to_owned);
        let (os, architecture, variant) = (next()?, next()?, next());
        parts.next().is_none().then_some(Platform { os, architecture, variant })
    }

    /// Reads one of [`PLATFORMS`], also in a longer form (`linux/arm64/v8`) or a shorter one (`linux/arm`), and gives it
    /// in its usual form.
    ///
    /// # Errors
    /// There is none of this name; perhaps one was meant that is near.
    pub fn known(text: &str) -> Result<Platform, Option<&'static str>> {
        let usual = Platform::parse(text).map(|platform| platform.usual());
        if let Some(platform) = usual.filter(|platform| PLATFORMS.contains(&platform.to_string().as_str())) {
            return Ok(platform);
        }
        let lower = text.to_ascii_lowercase();
        let last = lower.strip_prefix("linux/").unwrap_or(&lower);
        let other = OTHER_NAMES.iter().find(|(name, _)| *name == last).map(|(_, platform)| *platform);
        let whole = PLATFORMS.into_iter().find(|known| known.strip_prefix("linux/") == Some(last));
        Err(other.or(whole).or_else(|| suggest::nearest(&lower, PLATFORMS).and_then(listed)))
    }

    /// The form that all ways to write one platform share: `linux/arm64` for `linux/arm64/v8`, `linux/arm/v7` for
    /// `linux/arm`.
    #[must_use]
    pub fn usual(&self) -> Platform {
        let variant = match (self.architecture.as_str(), self.variant.as_deref()) {
            ("arm64", Some("v8" | "8")) | ("amd64", Some("v1")) => None,
            ("arm", None | Some("7")) => Some("v7"),
            ("arm", Some("6")) => Some("v6"),
            ("arm", Some("5")) => Some("v5"),
            (_, variant) => variant,
        };
        Platform { variant: variant.map(str::to_owned), ..self.clone() }
    }

    /// Whether both mean one platform, however they are written.
    pub fn is(&self, other: &Platform) -> bool {
        self.usual() == other.usual()
    }
}

fn listed(name: &str) -> Option<&'static str> {
    PLATFORMS.into_iter().find(|known| *known == name)
}

impl fmt::Display for Platform {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.os, self.architecture)?;
        self.variant.iter().try_for_each(|variant| write!(formatter, "/{variant}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_platform_has_one_usual_form() {
        let usual = |text: &str| Platform::known(text).map(|platform| platform.to_string());
        for (text, expected) in [
            ("linux/amd64", "linux/amd64"),
            ("linux/amd64/v1", "linux/amd64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/arm/v6", "linux/arm/v6"),
        ] {
            assert_eq!(usual(text).as_deref(), Ok(expected), "{text}");
        }
        assert!(Platform::parse("linux/arm64").unwrap().is(&Platform::parse("linux/arm64/v8").unwrap()));
        assert!(!Platform::parse("linux/arm/v6").unwrap().is(&Platform::parse("linux/arm").unwrap()));
    }

    #[test]
    fn a_wrong_one_gets_the_one_that_was_meant() {
        for (text, meant) in [
            ("linux/x86_64", Some("linux/amd64")),
            ("aarch64", Some("linux/arm64")),
            ("arm64", Some("linux/arm64")),
            ("linux/adm64", Some("linux/amd64")),
            ("Linux/ARM64", Some("linux/arm64")),
            ("windows/amd64", None),
            ("", None),
        ] {
            assert_eq!(Platform::known(text).unwrap_err(), meant, "{text}");
        }
    }

    #[test]
    fn this_host_has_a_known_one() {
        assert!(Platform::known(&Platform::host().to_string()).is_ok());
    }
}
