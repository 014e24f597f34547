//! Values of `docker run`'s flags in the Engine API's shapes.

use crate::models::{
    DeviceMapping, Mount, MountBindOptions, MountBindOptionsPropagationEnum, MountTmpfsOptions, MountType,
    ResourcesUlimits,
};

/// `512m`: bytes. Units are powers of 1024, as docker has them.
pub fn bytes(text: &str) -> Result<i64, String> {
    let lower = text.trim().to_ascii_lowercase();
    let number = lower.trim_end_matches(|character: char| character.is_ascii_alphabetic());
    let power = match &lower[number.len()..] {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        unit => return Err(format!("`{unit}` is no unit of size; known: b, k, m, g, t")),
    };
    let number: f64 = number.parse().map_err(|_| format!("`{text}` is no size such as 512m"))?;
    let bytes = number * 1024_f64.powi(power);
    // Beyond 2^63 no engine has memory either.
    if !(0.0..9.2e18).contains(&bytes) {
        return Err(format!("`{text}` is out of range"));
    }
    Ok(bytes as i64)
}

/// `1.5`: CPUs in billionths.
pub fn nano_cpus(text: &str) -> Result<i64, String> {
    let number: f64 = text.trim().parse().map_err(|_| format!("`{text}` is no number of CPUs such as 1.5"))?;
    if !(0.0..1e6).contains(&number) {
        return Err(format!("`{text}` is out of range"));
    }
    Ok((number * 1e9).round() as i64)
}

/// A whole number.
pub fn integer(text: &str) -> Result<i64, String> {
    text.trim().parse().map_err(|_| format!("`{text}` is no whole number"))
}

/// `/dev/x[:/dev/y[:rwm]]`.
pub fn device(text: &str) -> Result<DeviceMapping, String> {
    let is_permissions = |part: &str| !part.is_empty() && part.chars().all(|character| "rwm".contains(character));
    let parts: Vec<&str> = text.split(':').collect();
    let (host, inside, permissions) = match parts.as_slice() {
        [host] => (*host, *host, "rwm"),
        [host, permissions] if is_permissions(permissions) => (*host, *host, *permissions),
        [host, inside] => (*host, *inside, "rwm"),
        [host, inside, permissions] if is_permissions(permissions) => (*host, *inside, *permissions),
        _ => return Err(format!("`{text}` is no device such as /dev/fuse:/dev/fuse:rwm")),
    };
    if !host.starts_with('/') {
        return Err(format!("`{host}` is no path of a device"));
    }
    Ok(DeviceMapping {
        path_on_host: Some(host.to_owned()),
        path_in_container: Some(inside.to_owned()),
        cgroup_permissions: Some(permissions.to_owned()),
    })
}

/// `nofile=1024[:2048]`.
pub fn ulimit(text: &str) -> Result<ResourcesUlimits, String> {
    let (name, limits) =
        text.split_once('=').ok_or_else(|| format!("`{text}` is no limit such as nofile=1024:2048"))?;
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    Ok(ResourcesUlimits { name: Some(name.to_owned()), soft: Some(integer(soft)?), hard: Some(integer(hard)?) })
}

/// `/path[:options]` of a file system in memory.
pub fn tmpfs(text: &str) -> Result<(String, String), String> {
    let (path, options) = text.split_once(':').unwrap_or((text, ""));
    if !path.starts_with('/') {
        return Err(format!("`{path}` is no absolute path"));
    }
    Ok((path.to_owned(), options.to_owned()))
}

/// `type=bind,source=/x,target=/y,readonly`.
pub fn mount(text: &str) -> Result<Mount, String> {
    let mut mount = Mount { typ: Some(MountType::VOLUME), ..Mount::default() };
    for part in text.split(',') {
        let (key, value) = part.split_once('=').unwrap_or((part, "true"));
        let owned = || Some(value.to_owned());
        match key {
            "type" => {
                mount.typ = Some(match value {
                    "bind" => MountType::BIND,
                    "volume" => MountType::VOLUME,
                    "tmpfs" => MountType::TMPFS,
                    other => {
                        return Err(format!("mounts of type `{other}` are not supported; known: bind, volume, tmpfs"));
                    }
                });
            }
            "source" | "src" => mount.source = owned(),
            "target" | "dst" | "destination" => mount.target = owned(),
            "readonly" | "ro" => mount.read_only = Some(switch(value)?),
            "consistency" => mount.consistency = owned(),
            "bind-propagation" => {
                let propagation = value
                    .parse::<MountBindOptionsPropagationEnum>()
                    .map_err(|_| format!("`{value}` is no bind propagation"))?;
                mount.bind_options =
                    Some(MountBindOptions { propagation: Some(propagation), ..MountBindOptions::default() });
            }
            "tmpfs-size" => tmpfs_options(&mut mount).size_bytes = Some(bytes(value)?),
            "tmpfs-mode" => {
                let mode = i64::from_str_radix(value, 8).map_err(|_| format!("`{value}` is no octal mode"))?;
                tmpfs_options(&mut mount).mode = Some(mode);
            }
            other => return Err(format!("`{other}` in a mount is not supported")),
        }
    }
    match &mount.target {
        Some(target) if target.starts_with('/') => Ok(mount),
        _ => Err(format!("the mount `{text}` has no absolute target")),
    }
}

fn tmpfs_options(mount: &mut Mount) -> &mut MountTmpfsOptions {
    mount.tmpfs_options.get_or_insert_default()
}

/// Go's booleans.
pub fn switch(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        other => Err(format!("`{other}` is neither true nor false")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_cpus() {
        assert_eq!(bytes("512m"), Ok(512 * 1024 * 1024));
        assert_eq!(bytes("1.5g"), Ok(1536 * 1024 * 1024));
        assert_eq!(bytes("42"), Ok(42));
        assert!(bytes("12x").unwrap_err().contains("unit"));
        assert!(bytes("-1").is_err());
        assert_eq!(nano_cpus("1.5"), Ok(1_500_000_000));
    }

    #[test]
    fn devices_limits_and_mounts() {
        let seen = device("/dev/a:/dev/b:r").unwrap();
        assert_eq!(
            (seen.path_in_container.as_deref(), seen.cgroup_permissions.as_deref()),
            (Some("/dev/b"), Some("r"))
        );
        assert_eq!(device("/dev/a:rw").unwrap().path_in_container.as_deref(), Some("/dev/a"));
        assert!(device("fuse").is_err());
        assert_eq!(ulimit("nofile=10:20").unwrap().hard, Some(20));
        let seen = mount("type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=1777").unwrap();
        let options = seen.tmpfs_options.unwrap();
        assert_eq!((options.size_bytes, options.mode), (Some(1024 * 1024), Some(0o1777)));
        assert_eq!(mount("type=bind,src=/a,dst=/b,ro").unwrap().read_only, Some(true));
        assert!(mount("type=image,dst=/b").is_err());
        assert!(mount("type=bind,src=/a").is_err());
    }
}
