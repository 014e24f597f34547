//! Which form an output has.

use std::path::Path;

/// What holds several files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Archive {
    /// Nothing: one file alone.
    None,
    /// tar.
    Tar,
    /// zip, which compresses by itself.
    Zip,
}

/// What makes it smaller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    /// Nothing.
    None,
    /// gzip.
    Gzip,
    /// gzip in blocks that can be read from anywhere (as in bioinformatics).
    Bgzf,
    /// LZ4 frames.
    Lz4,
    /// xz.
    Xz,
    /// bzip2.
    Bzip2,
}

/// Both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Format {
    /// Around the files.
    pub(super) archive: Archive,
    /// Around that.
    pub(super) compression: Compression,
}

/// Extensions with what they mean.
const COMPRESSIONS: &[(&str, Compression)] = &[
    ("gz", Compression::Gzip),
    ("bgzf", Compression::Bgzf),
    ("lz4", Compression::Lz4),
    ("xz", Compression::Xz),
    ("bz2", Compression::Bzip2),
    ("bzip2", Compression::Bzip2),
];

impl Format {
    /// What `format` takes.
    pub(super) const NAMES: &[&str] =
        &["tar", "zip", "gz", "bgzf", "lz4", "xz", "bz2", "tar.gz", "tar.bgzf", "tar.lz4", "tar.xz", "tar.bz2"];

    const TAR_GZIP: Format = Format { archive: Archive::Tar, compression: Compression::Gzip };

    /// The form of a name such as `tar.gz`.
    pub(super) fn named(name: &str) -> Option<Format> {
        let name = name.to_ascii_lowercase();
        let name = name.trim_start_matches('.');
        let compression = |name: &str| COMPRESSIONS.iter().find(|(known, _)| *known == name).map(|(_, found)| *found);
        match name {
            "tar" => Some(Format { archive: Archive::Tar, compression: Compression::None }),
            "zip" => Some(Format { archive: Archive::Zip, compression: Compression::None }),
            "tgz" => Some(Format::TAR_GZIP),
            "txz" => Some(Format { archive: Archive::Tar, compression: Compression::Xz }),
            "tbz2" | "tbz" => Some(Format { archive: Archive::Tar, compression: Compression::Bzip2 }),
            _ => match name.strip_prefix("tar.") {
                Some(rest) => compression(rest).map(|compression| Format { archive: Archive::Tar, compression }),
                None => compression(name).map(|compression| Format { archive: Archive::None, compression }),
            },
        }
    }

    /// The form that a file's extensions ask for; tar with gzip where they ask for none that is known, as in Packer.
    pub(super) fn of_file(path: &Path) -> Format {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let mut parts = name.rsplit('.');
        let last = parts.next().unwrap_or_default();
        let before = parts.next();
        if before.is_none() {
            return Format::TAR_GZIP;
        }
        let is_tar = before.is_some_and(|part| part.eq_ignore_ascii_case("tar"));
        let both = if is_tar { Format::named(&format!("tar.{last}")) } else { None };
        both.or_else(|| Format::named(last)).unwrap_or(Format::TAR_GZIP)
    }

    /// For messages.
    pub(super) fn name(self) -> String {
        let compression = match self.compression {
            Compression::None => "",
            Compression::Gzip => "gz",
            Compression::Bgzf => "bgzf",
            Compression::Lz4 => "lz4",
            Compression::Xz => "xz",
            Compression::Bzip2 => "bz2",
        };
        match (self.archive, compression) {
            (Archive::Zip, _) => "zip".to_owned(),
            (Archive::Tar, "") => "tar".to_owned(),
            (Archive::Tar, compression) => format!("tar.{compression}"),
            (Archive::None, compression) => compression.to_owned(),
        }
    }
}

/// An extension that promises a form which will not be there.
pub(super) fn misleading_extension(output: &str) -> Option<&'static str> {
    const UNWRITTEN: [&str; 7] = [".zst", ".zstd", ".7z", ".rar", ".br", ".lzma", ".lzo"];
    UNWRITTEN.into_iter().find(|extension| output.to_ascii_lowercase().ends_with(extension))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extensions_choose_as_in_packer() {
        // All but the `bz2`, `txz` and `tbz2` lines were seen with packer 1.6.6, which did not know these yet.
        for (file, name) in [
            ("x.tar.gz", "tar.gz"),
            ("x.tgz", "tar.gz"),
            ("x.tar", "tar"),
            ("x.zip", "zip"),
            ("x.gz", "gz"),
            ("x.lz4", "lz4"),
            ("x.bgzf", "bgzf"),
            ("x.xz", "xz"),
            ("x.tar.xz", "tar.xz"),
            ("x.tar.lz4", "tar.lz4"),
            ("x", "tar.gz"),
            ("x.unknown", "tar.gz"),
            ("x.tar.zst", "tar.gz"),
            ("packer_f2_file", "tar.gz"),
            ("x.bz2", "bz2"),
            ("x.tar.bzip2", "tar.bz2"),
            ("x.TAR.GZ", "tar.gz"),
            ("x.txz", "tar.xz"),
            ("x.tbz2", "tar.bz2"),
            ("gz", "tar.gz"),
            ("a.gz/x", "tar.gz"),
        ] {
            assert_eq!(Format::of_file(Path::new(file)).name(), name, "{file}");
        }
    }

    #[test]
    fn every_name_is_known_by_itself() {
        for name in Format::NAMES {
            assert_eq!(Format::named(name).unwrap().name(), *name);
        }
        assert_eq!(Format::named("tar.zst"), None);
        assert_eq!(misleading_extension("x.tar.zst"), Some(".zst"));
        assert_eq!(misleading_extension("x.tar.gz"), None);
    }
}
