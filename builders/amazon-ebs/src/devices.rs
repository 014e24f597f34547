//! Block devices, from the template's words to EC2's.

use crate::cloud::{BlockDevice, Ebs};
use crate::config::Device;

fn small(number: Option<i64>) -> Option<i32> {
    number.filter(|number| *number > 0).and_then(|number| i32::try_from(number).ok())
}

fn full(text: &Option<String>) -> Option<String> {
    text.clone().filter(|text| !text.is_empty())
}

/// One device.
pub(crate) fn device(device: &Device) -> BlockDevice {
    let name = device.device_name.clone();
    if device.no_device {
        return BlockDevice { device_name: name, no_device: true, ..BlockDevice::default() };
    }
    if let Some(drive) = full(&device.virtual_name) {
        return BlockDevice { device_name: name, virtual_name: Some(drive), ..BlockDevice::default() };
    }
    let ebs = Ebs {
        delete_on_termination: Some(device.delete_on_termination),
        // EC2 refuses to be told of a snapshot that is not encrypted that it is not.
        encrypted: device.encrypted.filter(|encrypted| *encrypted || device.snapshot_id.is_none()),
        kms_key: full(&device.kms_key_id),
        iops: small(device.iops),
        throughput: small(device.throughput),
        size: small(device.volume_size),
        volume_type: full(&device.volume_type),
        snapshot: full(&device.snapshot_id),
    };
    BlockDevice { device_name: name, ebs: Some(ebs), ..BlockDevice::default() }
}

/// All devices of a kind; `no_ephemeral` keeps the drives out that Windows would show.
pub(crate) fn devices(list: &[Device], no_ephemeral: bool) -> Vec<BlockDevice> {
    let mut devices: Vec<BlockDevice> = list.iter().map(device).collect();
    if no_ephemeral {
        devices.extend(('a'..='z').map(|letter| BlockDevice {
            device_name: format!("xvdc{letter}"),
            no_device: true,
            ..BlockDevice::default()
        }));
    }
    devices
}
