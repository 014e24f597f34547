//! The `amazon-ebs` source: an EC2 instance, provisioned over SSH, stopped, and made an AMI.
//!
//! Owns: the source's arguments, the steps of launching and sealing, and how each is undone. Must not know: any SDK (the
//! cloud is behind [`cloud::Cloud`]), any provisioner or post-processor.

pub mod cloud;
mod cloud_values;
