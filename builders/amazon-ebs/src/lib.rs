//! The `amazon-ebs` builder: an instance becomes an AMI.
