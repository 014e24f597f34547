//! What is wrong with block devices.

use super::Check;
use crate::config::Device;

impl Check<'_> {
    pub(super) fn devices(&mut self, name: &str, devices: &[Device]) {
        for (index, device) in devices.iter().enumerate() {
            let path = format!("{name}[{index}]");
            if device.device_name.is_empty() && !self.decoded.is_unknown(&path) {
                self.error(&path, "a block device needs `device_name`");
            }
            self.device(&path, device);
        }
    }

    fn device(&mut self, path: &str, device: &Device) {
        if let Some(name) = device.virtual_name.as_deref().filter(|name| !name.is_empty())
            && !name
                .strip_prefix("ephemeral")
                .is_some_and(|number| number.parse::<u8>().is_ok_and(|number| number < 24))
        {
            let place = format!("{path}.virtual_name");
            self.error(
                &place,
                format!("`{name}` is no drive of the instance store; they are `ephemeral0` to `ephemeral23`"),
            );
        }
        if device.kms_key_id.as_deref().is_some_and(|key| !key.is_empty()) && device.encrypted != Some(true) {
            self.error(&format!("{path}.kms_key_id"), "`kms_key_id` needs `encrypted = true`");
        }
        let kind = device.volume_type.as_deref().unwrap_or_default();
        let size = device.volume_size;
        match (device.iops, kind) {
            (None, "io1" | "io2") => {
                self.error(path, format!("a volume of type `{kind}` needs `iops`"));
            }
            (Some(iops), "io1") => self.iops(path, iops, 100..=64_000, size, 50),
            (Some(iops), "io2") => self.iops(path, iops, 100..=256_000, size, 1000),
            (Some(iops), "gp3") => self.iops(path, iops, 3000..=80_000, size, 500),
            (Some(_), "gp2" | "standard" | "st1" | "sc1") => {
                self.error(&format!("{path}.iops"), format!("volumes of type `{kind}` have no `iops`"));
            }
            _ => {}
        }
        if let Some(throughput) = device.throughput {
            let place = format!("{path}.throughput");
            if kind != "gp3" && !self.decoded.is_unknown(&format!("{path}.volume_type")) {
                self.error(&place, "`throughput` is for volumes of type `gp3`");
            } else if !(125..=2000).contains(&throughput) {
                self.error(&place, format!("`throughput` is {throughput}; it goes from 125 to 2000"));
            }
        }
    }

    fn iops(&mut self, path: &str, iops: i64, range: std::ops::RangeInclusive<i64>, size: Option<i64>, ratio: i64) {
        let place = format!("{path}.iops");
        if !range.contains(&iops) {
            self.error(&place, format!("`iops` is {iops}; it goes from {} to {}", range.start(), range.end()));
        } else if let Some(size) = size.filter(|size| *size > 0 && iops > *range.start() && iops / size > ratio) {
            self.error(&place, format!("`iops` is {iops} for {size} GiB; there are at most {ratio} for each GiB"));
        }
    }
}
